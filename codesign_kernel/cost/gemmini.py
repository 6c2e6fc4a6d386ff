"""Clock cycles of a 16 x 16 int8 weight-stationary Gemmini for a layer with a given mapping.

The model walks the tiles that Gemmini's software makes of a mapping, and adds up what the hardware does for each:

- compute: a 16 x 16 block of weights stays in the array while the tile's output pixels pass, at most 16 to a compute
  instruction. An instruction holds the array for its rows (at least 4; 16 where it also shifts the next weights in),
  and every pair of preload and compute instructions needs `issue_cycle` to be issued.
- load: one request for each row of at most 64 bytes of weights or inputs, `request_cycle` each. A tile's weights and
  inputs are read anew for every tile, whatever the loop order; outputs stay in the accumulator until complete.
- store: one request of 16 bytes for each accumulator row, `store_cycle` each.
- DRAM: a 64-byte line that is not in the last-level cache costs `miss_cycle` more. Which lines miss follows from the
  order of the DRAM loops: a loop that does not touch an operand finds it again if its body fits the cache.

Loads and stores are double-buffered against compute, tile by tile, with some interference:

    cycles = first load + last store + sum over tiles of [max(c, m) + contention * min(c, m)],  m = load + store

and load + compute + store where there is only one tile. The rules were read (not copied) in the public sources: tiles,
padding and the order of loops in ucb-bar/gemmini-rocc-tests (gemmini-data-collection/layers/extract_data_csv.py and
include/gemmini.h: tiled_conv, sp_tiled_conv, tiled_matmul_outer), rows per instruction in ucb-bar/gemmini
(ExecuteController.scala). See `CONSTANTS` for the fit. Meant for layers and mappings like those of the fit: stride 1
and 2, no depthwise layers, mappings whose tiles fit the memories.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

from codesign_kernel.errors import InvalidInputError

DIM = 16  # rows and columns of the array; bytes of a scratchpad row
REQUEST_BYTES = 64  # longest DMA request, and the length of a cache line
MIN_ROWS = 4  # fewest cycles of a compute instruction: spacing of two writes to one accumulator row
CACHE_LINES = 65536  # 4 MiB: FireSim's usual DDR3 model with last-level cache; assumed, the fit agrees
SHARPNESS = 2.0  # how sharply reuse ends as a loop body outgrows the cache: kept = 1 / (1 + (body / cache)^sharpness)
DIMS = "CRSKPQN"  # inner to outer: where DOSA places the loops that a mapping does not name
OPERANDS = "WIO"
REDUCTION = "RSC"  # loops over these leave the outputs where they are

LEVEL = re.compile(r"L([0-3])\[[WIO]+\]((?: [RSPQCKN][1-9][0-9]*[XY]?)+)")
FACTOR = re.compile(r"([RSPQCKN])([0-9]+)")


@dataclass(frozen=True)
class GemminiConstants:
    """What the mechanism leaves open; all in cycles of Gemmini's clock, `contention` a fraction."""

    issue_cycle: float  # per pair of preload and compute instructions, where the rows do not take longer
    request_cycle: float  # per row of at most 64 bytes read through the last-level cache
    miss_cycle: float  # more per 64-byte line that comes from, or goes to, DRAM
    store_cycle: float  # per 16-byte row written
    contention: float  # share of the shorter of compute and transfer that double buffering does not hide


# Fitted with benchmarks/gemmini.py (mean absolute error of the logarithm, smoothed) on 105 RTL cycle counts of 35
# layers: FireSim,
# data/firesim_test_data/dataset.csv of ucb-bar/dosa at a7a3239 (BSD-2-Clause).
CONSTANTS = GemminiConstants(issue_cycle=7.3, request_cycle=5.57, miss_cycle=19.1, store_cycle=1.91, contention=0.155)


@dataclass(frozen=True)
class Tile:
    """One shape of tile: how often it occurs and what the hardware does for it."""

    count: int
    blocks: int  # 16 x 16 blocks of weights held in turn
    rows: int  # cycles the array needs for the output pixels of one block
    instructions: int  # compute instructions per block
    weight_requests: int
    input_requests: int
    store_requests: int


@dataclass(frozen=True)
class Work:
    """A case reduced to its tiles and the DRAM lines of each operand (mean over the layer, 64 bytes each)."""

    tiles: tuple[Tile, ...]
    miss_lines: Mapping[str, float]


@dataclass(frozen=True)
class Axis:
    """One image axis: output length, kernel length, stride, padded by kernel // 2 on both sides as DOSA does."""

    size: int
    kernel: int
    stride: int

    @property
    def inputs(self) -> int:
        """Length of the input image; DOSA's driver takes size * stride."""
        return self.size * self.stride

    @property
    def outputs(self) -> int:
        """Outputs really computed: one more than asked for where the kernel is even."""
        return (self.inputs - self.kernel + self.kernel // 2 * 2) // self.stride + 1

    def pieces(self, tile: int, taps: int) -> Counter[tuple[int, int, int, bool]]:
        """Count the tiles along the axis by (outputs, kernel taps, inputs read inside the image, last taps)."""
        found: Counter[tuple[int, int, int, bool]] = Counter()
        for first in range(0, self.outputs, tile):
            outputs = min(tile, self.outputs - first)
            for tap in range(0, self.kernel, taps):
                used = min(taps, self.kernel - tap)
                start = first * self.stride + tap - self.kernel // 2
                stop = start + outputs * self.stride + used - 1
                inside = max(1, min(stop, self.inputs) - max(start, 0))
                found[outputs, used, inside, tap + taps >= self.kernel] += 1
        return found


def parse_mapping(mapping: str) -> tuple[dict[str, int], str]:
    """Read "L3[WIO] K8 P2 - L2[WI] N1 K16X - L1[O] C4 - L0[W] P16" (outer to inner; X, Y: spatial factors).

    Returns the tile of each dimension, which is the product of its factors below DRAM (L3), and the order of the
    DRAM loops from inner to outer, completed by the dimensions that L3 does not name.
    """
    tile = dict.fromkeys(DIMS, 1)
    order = ""
    parts = mapping.split(" - ")
    if len(parts) != 4:
        raise InvalidInputError(f"the mapping has {len(parts)} levels; it needs L3 - L2 - L1 - L0: {mapping!r}")
    for expected, part in zip("3210", parts, strict=True):
        level = LEVEL.fullmatch(part.strip())
        if level is None or level[1] != expected:
            raise InvalidInputError(f"mapping level L{expected} is {part!r}; write it like 'L{expected}[WIO] K8 P2'")
        for name, factor in FACTOR.findall(level[2]):
            if expected == "3":
                order = name + order if name not in order else order
            else:
                tile[name] *= int(factor)
    return tile, order + "".join(name for name in DIMS if name not in order)


def _whole(case: Mapping[str, object], field: str) -> int:
    """A positive whole number of the case."""
    value = case.get(field)
    number = float(value) if isinstance(value, Real) else math.nan
    if not number >= 1 or not number.is_integer():
        raise InvalidInputError(f"{field} is {value!r}; it must be a whole number of at least 1")
    return int(number)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _splits(size: int, tile: int) -> Counter[int]:
    """Lengths of the tiles of a dimension: whole ones and a rest."""
    whole, rest = divmod(size, tile)
    return Counter({tile: whole} if not rest else {tile: whole, rest: 1})


def _rows(images: int, rows: int, columns: int) -> tuple[int, int]:
    """Array cycles and compute instructions of one weight block on `images` tiles of rows x columns pixels."""
    whole, rest = divmod(columns, DIM)
    row = whole * DIM + (max(MIN_ROWS, rest) if rest else 0)
    shift_in = DIM - (DIM if whole else max(MIN_ROWS, rest))  # one instruction also brings the next weights
    return images * rows * row + shift_in, images * rows * (whole + (rest > 0))


def _tiles(size: Mapping[str, int], tile: Mapping[str, int], rows: Axis, columns: Axis) -> Iterator[Tile]:
    """Every shape of tile of the layer, with edges."""
    last_c = size["C"] - (_ceil(size["C"], tile["C"]) - 1) * tile["C"]
    channels = [(tile["C"], _ceil(size["C"], tile["C"]) - 1, False), (last_c, 1, True)]
    for (q, s, in_rows, end_s), n_q in rows.pieces(tile["Q"], tile["S"]).items():
        for (p, r, in_columns, end_r), n_p in columns.pieces(tile["P"], tile["R"]).items():
            for k, n_k in _splits(size["K"], tile["K"]).items():
                for images, n_n in _splits(size["N"], tile["N"]).items():
                    cycles, instructions = _rows(images, q, p)
                    for c, n_c, end_c in channels:
                        packed = _ceil(r, max(1, DIM // c))  # few channels: several kernel columns share the rows
                        yield Tile(
                            count=n_q * n_p * n_k * n_n * n_c,
                            blocks=_ceil(k, DIM) * _ceil(c, DIM) * s * packed,
                            rows=cycles,
                            instructions=instructions,
                            weight_requests=r * s * c * _ceil(k, REQUEST_BYTES),
                            input_requests=images * in_rows * in_columns * _ceil(c, REQUEST_BYTES),
                            store_requests=images * q * p * _ceil(k, DIM) if end_s and end_r and end_c else 0,
                        )


def _row_lines(used: int, stride: int) -> tuple[float, float]:
    """Cache lines of `used` bytes in rows `stride` apart, and how many times their share of the cache's sets they need.

    Rows a multiple of a power of two lines apart meet in few sets, so that they fill the cache sooner.
    """
    if used >= stride:
        return stride / REQUEST_BYTES, 1.0
    lines = _ceil(used, REQUEST_BYTES)
    apart, odd = divmod(stride, REQUEST_BYTES)
    return lines, 1.0 if odd else max(1.0, (apart & -apart) / lines)


def _footprint(extent: Mapping[str, int], size: Mapping[str, int], rows: Axis, columns: Axis) -> dict[str, float]:
    """Lines of each operand that a range of the loops touches; "cache": the room that they need together."""
    in_rows = min(rows.inputs, (extent["Q"] - 1) * rows.stride + extent["S"])
    in_columns = min(columns.inputs, (extent["P"] - 1) * columns.stride + extent["R"])
    k_lines, k_crowd = _row_lines(extent["K"], size["K"])
    c_lines, c_crowd = _row_lines(extent["C"], size["C"])
    lines = {
        "W": extent["R"] * extent["S"] * extent["C"] * k_lines,
        "I": extent["N"] * in_rows * in_columns * c_lines,
        "O": extent["N"] * extent["Q"] * extent["P"] * k_lines,
    }
    lines["cache"] = lines["W"] * k_crowd + lines["I"] * c_crowd + lines["O"] * k_crowd
    return lines


def _miss_lines(chain: list[dict[str, float]], trips: list[tuple[str, int]], cache_lines: float) -> dict[str, float]:
    """Lines of each operand that DRAM must deliver (O: receive), the cache being warm from an earlier run.

    `chain` holds the footprint of a tile, then of each larger loop; `trips` the loops between them, inner to outer.
    A loop of n trips multiplies the misses by the growth of the footprint where its body stays in the cache, and by
    n where it does not.
    """
    misses = {name: chain[0][name] for name in OPERANDS}
    for (body, whole), (dim, count) in zip(pairwise(chain), trips, strict=True):
        kept = 1 / (1 + (body["cache"] / cache_lines) ** SHARPNESS)
        for name in OPERANDS:
            if name == "O" and dim in REDUCTION:
                continue  # partial sums stay in the accumulator
            growth = min(max(1.0, whole[name] / body[name]), count)
            misses[name] *= growth**kept * count ** (1 - kept)
    kept = 1 / (1 + (chain[-1]["cache"] / cache_lines) ** SHARPNESS)
    return {name: lines * (1 - kept) for name, lines in misses.items()}


def prepare(case: Mapping[str, object], cache_lines: float = CACHE_LINES) -> Work:
    """Everything of a case that does not depend on the fitted constants; raises InvalidInputError."""
    mapping = case.get("mapping.mapping")
    if not isinstance(mapping, str):
        raise InvalidInputError(f"mapping.mapping is {mapping!r}; it must be a string")
    tile, order = parse_mapping(mapping)
    size = {name: _whole(case, f"prob.{name}") for name in DIMS}
    rows = Axis(size["Q"], size["S"], _whole(case, "prob.Hstride"))
    columns = Axis(size["P"], size["R"], _whole(case, "prob.Wstride"))
    if size["Q"] == size["R"] == size["S"] == 1:
        tile["P"] = _ceil(tile["P"], DIM) * DIM  # run as a matrix product, whose tiles are whole blocks
    size |= {"Q": rows.outputs, "P": columns.outputs}
    tile = {name: min(tile[name], size[name]) for name in DIMS}
    tiles = tuple(found for found in _tiles(size, tile, rows, columns) if found.count)

    extent = dict(tile)
    chain = [_footprint(extent, size, rows, columns)]
    trips = [(name, _ceil(size[name], tile[name])) for name in order if size[name] > tile[name]]
    for name, _ in trips:
        extent[name] = size[name]
        chain.append(_footprint(extent, size, rows, columns))
    return Work(tiles, _miss_lines(chain, trips, cache_lines))


def cycles(work: Work, constants: GemminiConstants = CONSTANTS) -> float:
    """Cycles of prepared work; the formula is in the module's description."""
    requests = {
        "W": sum(tile.count * tile.weight_requests for tile in work.tiles),
        "I": sum(tile.count * tile.input_requests for tile in work.tiles),
        "O": sum(tile.count * tile.store_requests for tile in work.tiles),
    }
    each = {"W": constants.request_cycle, "I": constants.request_cycle, "O": constants.store_cycle}
    for name, count in requests.items():
        each[name] += constants.miss_cycle * min(1.0, work.miss_lines[name] / max(1, count))
    transfer = sum(count * each[name] for name, count in requests.items())
    number = sum(tile.count for tile in work.tiles)
    total = transfer / number  # the first tile's load and the last one's store have nothing to hide behind
    for tile in work.tiles:
        compute = tile.blocks * max(tile.rows, constants.issue_cycle * tile.instructions)
        move = tile.weight_requests * each["W"] + tile.input_requests * each["I"] + tile.store_requests * each["O"]
        hidden = constants.contention * min(compute, move) if number > 1 else 0.0
        total += tile.count * ((max(compute, move) if number > 1 else compute) + hidden)
    return math.ceil(total)


def gemmini_cycles(case: Mapping[str, object]) -> float:
    """Cycles of one layer with one mapping.

    `case` holds `mapping.mapping` (see `parse_mapping`), the layer `prob.R S P Q C K N Wstride Hstride` (R, P: kernel
    and output columns; S, Q: rows) and may hold `arch.*`: the sizes of the memories act through the tiles, which the
    mapping already fitted to them. Raises InvalidInputError for a case that it cannot read.
    """
    return float(cycles(prepare(case)))
