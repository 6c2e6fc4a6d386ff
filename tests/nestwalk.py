"""The slow road to what a layer costs on a spatial array: walk groups, tiles and rows one by one, and count.

Nothing here comes from the rooms of the cost model. The rules are those of docs/mapping.md, written out as loops that
remember which tile lies in which buffer; a tile is known by the indices that it covers. ``arraywalk`` does its folds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

from arraywalk import BUFFER, Access, ArrayWalk, cut

from codesign_kernel.workload import Layer

Tiling = dict[str, Any]
ORDERS = tuple("".join(order) for order in permutations("ykc"))


class Tile(NamedTuple):
    """What is computed at once: groups, an image, rows of the output, channels out and in of each group."""

    groups: range
    image: int
    rows: range
    outs: range
    ins: range

    def indices(self, operand: str) -> tuple[object, ...]:
        """By what the tile of an operand is known: the indices of the loops that the operand depends on."""
        return {
            "W": (self.groups, self.outs, self.ins),
            "I": (self.groups, self.image, self.rows, self.ins),
            "O": (self.groups, self.image, self.rows, self.outs),
        }[operand]


class Step(NamedTuple):
    """Cycles of one tile."""

    load: int
    compute: int
    store: int


@dataclass(frozen=True)
class Walked:
    """What a layer took: cycles, the bits that each buffer must hold, bits moved by (level, operand, direction).

    ``again``: the operands that came from DRAM more than once, or, for O, came back from there at all.
    """

    latency: float
    needs: dict[str, int]
    dram_bits: int
    accesses: Counter[Access]
    again: str = ""


class Best(NamedTuple):
    """The mapping of least latency, and what it takes."""

    latency: float
    dram_bits: int
    tiling: Tiling
    order: str
    held: str


def product_of(layer: Layer) -> Layer:
    """The layer as the product that the array computes: G groups, images, rows of an image."""
    straight: dict[str, Any] = {"B": 1, "OX": 1, "IX": 1, "FY": 1, "FX": 1}
    straight |= {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    if layer.op == "linear":
        rows = layer.B * layer.OY * layer.OX
        return replace(layer, **straight, OY=rows, IY=rows)
    if layer.op == "matmul":
        rows = layer.OY * layer.OX
        return replace(layer, **straight, G=layer.B * layer.G, OY=rows, IY=rows)
    if layer.op == "conv_transpose2d":
        rows = layer.B * layer.IY * layer.IX
        return replace(layer, **straight, OY=rows, IY=rows, K=layer.K * layer.FY * layer.FX)
    return layer


def rows_seen(layer: Layer, rows: range) -> int:
    """Stored rows from the top of the first output row's window to the bottom of the last one's."""
    top = rows[0] * layer.stride[0] - layer.padding[0]
    bottom = rows[-1] * layer.stride[0] - layer.padding[0] + (layer.FY - 1) * layer.dilation[0]
    return sum(1 for row in range(top, bottom + 1) if 0 <= row < layer.IY)


class Nest:
    """A layer on a machine; how many rows a tile sees is remembered, for many tiles are alike."""

    def __init__(self, layer: Layer, machine: Any) -> None:
        self.layer, self.product, self.machine = layer, product_of(layer), machine
        self.taps = self.product.FY * self.product.FX
        self.array = ArrayWalk(machine, self.taps)
        self.known: dict[tuple[int, int], int] = {}

    def tiles(self, tiling: Tiling, order: str) -> Iterator[Tile]:
        """Every tile in the order of the loops, ``order`` from the outermost to the innermost."""
        p = self.product
        turns: list[dict[str, list[Any]]]
        places = [(image, rows) for image in range(p.B) for rows in cut(range(p.OY), tiling["y"])]
        if tiling["grouped"]:
            together = [(groups, range(p.K)) for groups in cut(range(p.G), tiling["k"])]
            turns = [{"y": places, "k": together, "c": [range(p.C)]}]
        else:
            turns = [
                {
                    "y": places,
                    "k": [(group, outs) for outs in cut(range(p.K), tiling["k"])],
                    "c": cut(range(p.C), tiling["c"]),
                }
                for group in cut(range(p.G), 1)
            ]
        for loops in turns:
            for at in product(*(loops[name] for name in order)):
                now: dict[str, Any] = dict(zip(order, at, strict=True))
                (image, rows), (groups, outs) = now["y"], now["k"]
                yield Tile(groups, image, rows, outs, now["c"])

    def elements(self, tile: Tile, operand: str) -> int:
        """How much of an operand the tile has."""
        p = self.product
        one = {
            "W": len(tile.outs) * len(tile.ins) * self.taps,
            "I": self.depth(tile.rows) * p.IX * len(tile.ins),
            "O": len(tile.rows) * p.OX * len(tile.outs),
        }[operand]
        return len(tile.groups) * one

    def depth(self, rows: range) -> int:
        key = (rows.start, rows.stop)
        if key not in self.known:
            self.known[key] = rows_seen(self.product, rows)
        return self.known[key]

    def walk(self, tiling: Tiling, order: str, in_kept: bool, out_kept: bool, held: str) -> Walked:
        """Tile by tile."""
        a, p = self.machine, self.product
        width = {"W": a.weight_bits, "I": a.input_bits, "O": a.acc_bits}
        bits: Counter[Access] = Counter()
        steps: list[Step] = []
        summed: Counter[tuple[object, ...]] = Counter()  # channels that are in the sums of an output tile
        sizes: dict[str, dict[tuple[object, ...], int]] = {"W": {}, "I": {}, "O": {}}
        resident: dict[str, set[tuple[object, ...]]] = {operand: set() for operand in sizes}
        loads: Counter[tuple[str, object]] = Counter()
        tiles = list(self.tiles(tiling, order))
        for tile, after in zip(tiles, [*tiles[1:], None], strict=True):
            load = store = 0
            o = tile.indices("O")
            new = summed[o] == 0
            for operand, sized in sizes.items():
                at, count = tile.indices(operand), self.elements(tile, operand)
                sized[at] = count
                here = at in resident[operand]
                resident[operand] = self.beside(resident[operand], operand in held, tile, tiling) | {at}
                if not (here or (operand == "I" and in_kept) or (operand == "O" and new)):
                    load += self.move(bits, operand, "read", count * width[operand])
                    bits[BUFFER[operand], operand, "write"] += count * width[operand]
                    loads[operand, at] += 1
            m, n, ch, groups = len(tile.rows) * p.OX, len(tile.outs), len(tile.ins), len(tile.groups)
            for access, words in self.array.words(m, n, ch, new).items():
                bits[access] += groups * words * width[access[1]]
            summed[o] += ch
            done = summed[o] == p.C
            if done if "O" in held else (after is None or after.indices("O") != o):
                bits["output", "O", "read"] += groups * m * n * a.acc_bits
                if done and out_kept:
                    bits["input", "O", "write"] += groups * m * n * a.output_bits
                else:
                    store = self.move(bits, "O", "write", groups * m * n * (a.output_bits if done else a.acc_bits))
            cycles = (math.ceil(moved / a.bits_per_cycle) for moved in (load, store))
            steps.append(Step(next(cycles), self.array.timed(m, n, ch, groups), next(cycles)))
        needs = self.needs(sizes, len(tiles[0].ins) == p.C)
        for operand in held:
            needs[BUFFER[operand]] = self.whole(operand, tiling) * width[operand]
        if in_kept:
            needs["input"] = self.layer.inputs * a.input_bits
        if out_kept:
            needs["input"] += self.layer.outputs * a.output_bits
        moved = sum(count for (level, _, _), count in bits.items() if level == "dram")
        again = {operand for (operand, _), times in loads.items() if operand == "O" or times > 1}
        return Walked(float(latency(steps, a)), needs, moved, bits, "".join(o for o in "WIO" if o in again))

    def beside(
        self, resident: set[tuple[object, ...]], held: bool, tile: Tile, tiling: Tiling
    ) -> set[tuple[object, ...]]:
        """The tiles of an operand that stay when this one comes: none, but where all are held those of its group."""
        if not held:
            return set()
        return {other for other in resident if tiling["grouped"] or other[0] == tile.groups}

    def whole(self, operand: str, tiling: Tiling) -> int:
        """All of a held operand: of a group, and of the next one too where that arrives meanwhile; or of all groups."""
        p = self.product
        one = {
            "W": p.K * p.C * self.taps,
            "I": p.B * p.IY * p.IX * p.C,
            "O": p.B * p.OY * p.OX * p.K,
        }[operand]
        if tiling["grouped"]:
            return p.G * one
        return (2 if self.machine.double_buffered and p.G > 1 else 1) * one

    def move(self, bits: Counter[Access], operand: str, direction: str, count: int) -> int:
        """Whole bursts between DRAM and a buffer; returns their bits."""
        burst = 8 * self.machine.burst_bytes
        moved = burst * len(range(0, count, burst))
        bits["dram", operand, direction] += moved
        return moved

    def needs(self, sizes: dict[str, dict[tuple[object, ...], int]], c_whole: bool) -> dict[str, int]:
        """The largest tile of each operand, two of them where the next one arrives meanwhile."""
        a = self.machine
        in_pes = a.dataflow == "os" and c_whole
        width = {"W": a.weight_bits, "I": a.input_bits, "O": a.output_bits if in_pes else a.acc_bits}
        found = {}
        for operand, sized in sizes.items():
            copies = 2 if a.double_buffered and len(sized) > 1 else 1
            found[BUFFER[operand]] = copies * max(sized.values()) * width[operand]
        return found


def latency(steps: list[Step], machine: Any) -> int:
    """Tiles one after the other; with double buffers, memory works while the array does."""
    if not machine.double_buffered:
        return sum(step.load + step.compute + step.store for step in steps)
    total = steps[0].load + steps[-1].store
    for place, (load, compute, store) in enumerate(steps):
        load = 0 if place == 0 else load
        store = 0 if place == len(steps) - 1 else store
        total += max(compute, load, store) if machine.duplex else max(compute, load + store)
    return total


def walk(
    layer: Layer,
    machine: Any,
    tiling: Tiling,
    order: str,
    in_kept: bool = False,
    out_kept: bool = False,
    held: str = "",
) -> Walked:
    """One layer with one tiling and order of loops.

    Args:
        layer: one that multiplies.
        machine: anything with the fields of a ``SpatialArray``.
        tiling: ``y`` rows, ``k`` output channels (``grouped``: groups) and ``c`` input channels of a tile.
        order: of ``ykc``, from the outermost loop to the innermost.
        in_kept, out_kept: the map that is read, or written, stays on chip.
        held: of ``WIO``, the operands whose tiles stay in their buffer once they are there; no I that is kept, and
            none where a tile holds whole groups.
    """
    if "I" in held and (in_kept or tiling["grouped"]):
        raise ValueError("every tile of I moves once, or never: it is not held")
    return Nest(layer, machine).walk(tiling, order, in_kept, out_kept, held)


def lengths(elements: int, unit: int) -> list[int]:
    """Every length of a tile along an axis, in elements, the largest first."""
    units = len(range(0, elements, unit))
    found = dict.fromkeys(len(range(0, units, pieces)) for pieces in range(1, units + 1))
    return [min(elements, unit * length) for length in found]


def legal_tilings(layer: Layer, machine: Any) -> Iterator[tuple[Tiling, str]]:
    """Every tiling in every order of its loops, whether it fits the buffers or not."""
    p = product_of(layer)
    k_unit = machine.cols if machine.dataflow in ("ws", "os") else 1
    c_unit = machine.rows if machine.dataflow in ("ws", "is") and not machine.im2col else 1
    for y in lengths(p.OY, 1):
        for k, c in product(lengths(p.K, k_unit), lengths(p.C, c_unit)):
            yield from (({"y": y, "k": k, "c": c, "grouped": False}, order) for order in ORDERS)
        for groups in lengths(p.G, 1) if p.G > 1 else ():
            yield from (({"y": y, "k": groups, "c": p.C, "grouped": True}, order) for order in ORDERS)


def fits(needs: dict[str, int], machine: Any) -> bool:
    """Whether the buffers, or the shared one, hold what is needed."""
    if machine.shared_kib:
        return sum(needs.values()) <= int(machine.shared_kib * 8192)
    return all(bits <= int(getattr(machine, f"{name}_kib") * 8192) for name, bits in needs.items())


def holdings(operands: str) -> list[str]:
    """Every choice among ``operands``, none of them first."""
    return ["".join(some) for count in range(len(operands) + 1) for some in combinations(operands, count)]


def best(
    layer: Layer,
    machine: Any,
    in_kept: bool = False,
    out_kept: bool = False,
    orders: Collection[str] = ORDERS,
) -> Best | None:
    """The mapping of least latency that fits, and among those of the least DRAM traffic; None if none fits.

    Whatever moves more than once may be held, or not. ``orders`` of loops are tried.
    """
    nest = Nest(layer, machine)
    found: Best | None = None
    for tiling, order in legal_tilings(layer, machine):
        if order not in orders:
            continue
        freely = nest.walk(tiling, order, in_kept, out_kept, "")
        for held in holdings(freely.again):
            walked = nest.walk(tiling, order, in_kept, out_kept, held) if held else freely
            if not fits(walked.needs, machine):
                continue
            if found is None or (walked.latency, walked.dram_bits) < found[:2]:
                found = Best(walked.latency, walked.dram_bits, tiling, order, held)
    return found
