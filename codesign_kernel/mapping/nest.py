"""A layer as the loops of ``docs/mapping.md``, all legal ways to cut them, and one way written as a loop nest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from codesign_kernel.workload import MAC_OPS, Layer

Array = np.ndarray[Any, Any]
#: The loops over tiles; an index into this names the innermost.
LOOPS = "ykc"
#: Sizes of tiles along ``k`` and ``c``: the first tile, those between, the last.
FIRST, BETWEEN, LAST = range(3)


@dataclass(frozen=True)
class Nest:
    """Loop bounds of a layer that does MACs (element); see ``docs/mapping.md`` for how a layer becomes one.

    Attributes:
        G, B: independent products, and images that share weights.
        OY, OX, K, C, FY, FX: output rows and columns, output and input channels, filter rows and columns.
        IY, IX: input rows and columns, as stored.
        stride, padding, dilation: of the rows.
    """

    G: int
    B: int
    OY: int
    OX: int
    K: int
    C: int
    FY: int
    FX: int
    IY: int
    IX: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def taps(self) -> int:
        """Positions of the filter."""
        return self.FY * self.FX

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.G * self.B * self.OY * self.OX * self.K * self.C * self.taps

    @property
    def inputs(self) -> int:
        """Elements of I."""
        return self.G * self.B * self.IY * self.IX * self.C

    @property
    def outputs(self) -> int:
        """Elements of O."""
        return self.G * self.B * self.OY * self.OX * self.K

    @property
    def weights(self) -> int:
        """Elements of W."""
        return self.G * self.K * self.C * self.taps


def nest_of(layer: Layer) -> Nest:
    """``layer``, one of ``MAC_OPS``, as loops."""
    if layer.op not in MAC_OPS:
        raise ValueError(f"{layer.op} does no MACs")
    if layer.op == "conv2d":
        return Nest(
            layer.G, layer.B, layer.OY, layer.OX, layer.K, layer.C, layer.FY, layer.FX, layer.IY, layer.IX,
            layer.stride[0], layer.padding[0], layer.dilation[0],
        )  # fmt: skip
    if layer.op == "conv_transpose2d":
        rows = layer.B * layer.IY * layer.IX
        return Nest(layer.G, 1, rows, 1, layer.K * layer.FY * layer.FX, layer.C, 1, 1, rows, 1)
    rows, products = layer.OY * layer.OX, layer.G
    if layer.op == "matmul":
        products *= layer.B
    else:
        rows *= layer.B
    return Nest(products, 1, rows, 1, layer.K, layer.C, 1, 1, rows, 1)


@lru_cache(maxsize=65536)
def tile_sizes(extent: int, unit: int) -> tuple[int, ...]:
    """Sizes (element) into which an axis is cut as evenly as possible in units of ``unit``, the largest first."""
    units = -(-extent // unit)
    sizes = sorted({-(-units // pieces) for pieces in _pieces(units)}, reverse=True)
    return tuple(min(size * unit, extent) for size in sizes)


def _pieces(units: int) -> Iterator[int]:
    """Numbers of pieces that give every ceil(units / j) at least once: about 2 sqrt(units) of them."""
    root = math.isqrt(units)
    yield from range(1, root + 2)
    for size in range(1, root + 2):  # the smallest j with ceil(units / j) = size
        yield max(1, -(-units // size))


@dataclass(frozen=True)
class Cuts:
    """The candidates for one axis: for candidate p, kinds of tiles with their number and their sizes.

    Attributes:
        size: of a full tile (row, channel or group), [candidates].
        tiles: number of tiles of one run of the loop, [candidates]; of ``y`` for all images together.
        count: tiles of each kind, [candidates, kinds]. The first kind is the first tile, the last kind the last tile
            (none, but with its sizes, where there is one tile only).
        extent: rows (``y``), channels or groups of a tile of that kind, [candidates, kinds].
        seen: of ``y``, the input rows that such a tile loads, [candidates, kinds]; else unused.
    """

    size: Array
    tiles: Array
    count: Array
    extent: Array
    seen: Array


@lru_cache(maxsize=65536)
def channel_cuts(extent: int, unit: int) -> Cuts:
    """The candidates of an axis of channels or groups."""
    size = np.array(tile_sizes(extent, unit), dtype=np.float64)
    tiles = np.ceil(extent / size)
    last = extent - (tiles - 1) * size
    one = np.ones_like(size)
    count = np.stack([one, np.maximum(tiles - 2, 0), (tiles > 1) * one], axis=1)
    kinds = np.stack([size, size, last], axis=1)
    return Cuts(size, tiles, count, kinds, kinds)


@lru_cache(maxsize=65536)
def row_cuts(nest: Nest) -> Cuts:
    """The candidates of the output rows. Kinds: the first tile, the top tiles of the other images, those between (as
    many kinds as their input differs), the last ones of all images."""
    found = [_row_kinds(nest, size) for size in tile_sizes(nest.OY, 1)]
    kinds = max(len(each) for each in found)
    table = np.zeros((len(found), kinds, 3))
    for p, each in enumerate(found):
        table[p, :, 1:] = each[0][1:]  # kinds that this candidate lacks have a size, and are none
        table[p, : len(each) - 1] = each[:-1]
        table[p, -1] = each[-1]
    size = np.array(tile_sizes(nest.OY, 1), dtype=np.float64)
    return Cuts(size, np.ceil(nest.OY / size) * nest.B, table[..., 0], table[..., 1], table[..., 2])


def _row_kinds(nest: Nest, size: int) -> list[tuple[int, int, int]]:
    """(number, output rows, input rows) of the kinds of tiles of ``size`` rows; see :func:`row_cuts`."""
    tiles = -(-nest.OY // size)

    def seen(tile: int) -> tuple[int, int]:
        first, end = tile * size, min((tile + 1) * size, nest.OY)
        top = max(0, first * nest.stride - nest.padding)
        bottom = min(nest.IY, (end - 1) * nest.stride + (nest.FY - 1) * nest.dilation + 1 - nest.padding)
        return end - first, max(0, bottom - top)

    if tiles == 1:
        only = seen(0)
        return [(1, *only), (nest.B - 1, *only), (0, *only)]
    between: dict[tuple[int, int], int] = {}
    # only the tiles within the padding's reach of an edge can differ from the others
    below = (nest.OY - 1) * nest.stride + (nest.FY - 1) * nest.dilation + 1 - nest.padding - nest.IY
    edge = 1 + -(-(max(nest.padding, below) + nest.FY * nest.dilation) // (size * nest.stride))
    near = sorted({t for t in (*range(1, edge + 1), *range(tiles - 1 - edge, tiles - 1)) if 1 <= t < tiles - 1})
    for tile in near:
        between[seen(tile)] = between.get(seen(tile), 0) + nest.B
    if len(near) < tiles - 2:
        inner = seen(edge + 1)
        between[inner] = between.get(inner, 0) + nest.B * (tiles - 2 - len(near))
    middle = [(count, *rows) for rows, count in between.items()]
    return [(1, *seen(0)), (nest.B - 1, *seen(0)), *middle, (nest.B, *seen(tiles - 1))]
