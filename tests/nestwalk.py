"""The slow road to what a layer costs on a spatial array: walk groups, tiles, folds and rows one by one, and count.

Nothing here comes from the rooms of the cost model. The rules are those of docs/mapping.md, written out as loops that
remember which tile lies in which buffer; a tile is known by the indices that it covers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any, NamedTuple

from codesign_kernel.workload import Layer

Access = tuple[str, str, str]
Tiling = dict[str, Any]
ORDERS = tuple("".join(order) for order in permutations("ykc"))
#: Operand -> its buffer.
BUFFER = {"W": "weight", "I": "input", "O": "output"}


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
    """What a layer took: cycles, the bits that each buffer must hold, bits moved by (level, operand, direction)."""

    latency: float
    needs: dict[str, int]
    dram_bits: int
    accesses: Counter[Access]


def cut(whole: range, size: int) -> list[range]:
    """``whole`` in pieces of ``size``; the last one may be shorter."""
    return [whole[at : at + size] for at in range(0, len(whole), size)]


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
    """A layer on a machine; what one tile does on the array is remembered, for many tiles are alike."""

    def __init__(self, layer: Layer, machine: Any) -> None:
        self.layer, self.product, self.machine = layer, product_of(layer), machine
        self.taps = self.product.FY * self.product.FX
        self.packed = machine.im2col or machine.dataflow == "os"  # the taps lie together with the channels
        self.known: dict[tuple[int, ...], Any] = {}

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
        depth: int = self.known[key]
        return depth

    def folds(self, m: int, n: int, ch: int, groups: int) -> int:
        """How often the array is filled, counted by putting one piece after the other on it."""
        rows, cols = self.machine.rows, self.machine.cols
        k = ch * self.taps if self.packed else ch
        down, across = {"ws": (k, n), "os": (m, n), "is": (k, m)}[self.machine.dataflow]
        count = 0
        if down <= rows and across <= cols:
            row, col = rows, cols  # no room beside what lies there yet: nothing does
            for _ in range(groups):
                if row + down > rows or col + across > cols:
                    count, row, col = count + 1, 0, 0
                row, col = row + down, col + across
        else:
            for _ in range(groups):
                count += sum(1 for _ in cut(range(down), rows) for _ in cut(range(across), cols))
        return count * (1 if self.packed else self.taps)

    def cycles(self, m: int, n: int, ch: int, groups: int) -> int:
        """Fold after fold: what is stationary moves in, the stream passes, and the last sum leaves the far corner."""
        a = self.machine
        stream = {"ws": m, "os": ch * self.taps, "is": n}[a.dataflow]
        load = 0 if a.dataflow == "os" else a.rows
        corner = (a.rows - 1) + (a.cols - 1)
        time = 0
        folds = self.folds(m, n, ch, groups)
        for fold in range(folds):
            if a.overlap:
                time += stream if fold == folds - 1 else max(stream, a.rows)
            else:
                time += load + stream + corner
        return time + (load + corner if a.overlap else 0)

    def array(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        """Words that one group's folds take from the buffers, give to them, and keep in the registers."""
        key = (m, n, ch, new)
        if key not in self.known:
            walk = {"ws": self.weights_stay, "os": self.outputs_stay, "is": self.inputs_stay}[self.machine.dataflow]
            self.known[key] = walk(m, n, ch, new)
        words: Counter[Access] = self.known[key]
        return words

    def reductions(self, ch: int) -> list[range]:
        """What of the reduction lies on the rows, fold by fold."""
        if self.packed:
            return cut(range(ch * self.taps), self.machine.rows)
        return [piece for _ in range(self.taps) for piece in cut(range(ch), self.machine.rows)]

    def columns(self, across: int) -> list[list[range]]:
        """Folds along the columns; those of one list share their stream, as a PE holds a word of each."""
        pieces = cut(range(across), self.machine.cols)
        share = self.machine.register_words
        return [pieces[at : at + share] for at in range(0, len(pieces), share)]

    def weights_stay(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        words: Counter[Access] = Counter()
        for place, k in enumerate(self.reductions(ch)):
            for held in self.columns(n):
                words["input", "I", "read"] += m * len(k)
                for out in held:
                    self.stay(words, "W", "read", len(k) * len(out), m)
                    self.sums(words, m * len(out), new and place == 0)
        return words

    def inputs_stay(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        words: Counter[Access] = Counter()
        for place, k in enumerate(self.reductions(ch)):
            for held in self.columns(m):
                words["weight", "W", "read"] += n * len(k)
                for position in held:
                    self.stay(words, "I", "read", len(k) * len(position), n)
                    self.sums(words, n * len(position), new and place == 0)
        return words

    def outputs_stay(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        words: Counter[Access] = Counter()
        k = ch * self.taps
        for position in cut(range(m), self.machine.rows):
            for held in self.columns(n):
                words["input", "I", "read"] += len(position) * k
                for out in held:
                    words["weight", "W", "read"] += k * len(out)
                    self.stay(words, "O", "write", len(position) * len(out), k)
                    words["output", "O", "read"] += 0 if new else len(position) * len(out)
        return words

    def stay(self, words: Counter[Access], operand: str, direction: str, count: int, macs: int) -> None:
        """``count`` words of the stationary operand, each used for ``macs`` products."""
        words[BUFFER[operand], operand, direction] += count
        words["register", operand, "write"] += count
        words["register", operand, "read"] += count * macs

    def sums(self, words: Counter[Access], count: int, new: bool) -> None:
        """Sums leave the array and are written; what they are added to is read."""
        words["output", "O", "write"] += count
        words["output", "O", "read"] += 0 if new else count

    def walk(self, tiling: Tiling, order: str, in_kept: bool, out_kept: bool) -> Walked:
        """Tile by tile."""
        a, p = self.machine, self.product
        width = {"W": a.weight_bits, "I": a.input_bits, "O": a.acc_bits}
        bits: Counter[Access] = Counter()
        steps: list[Step] = []
        summed: Counter[tuple[object, ...]] = Counter()  # channels that are in the sums of an output tile
        sizes: dict[str, dict[tuple[object, ...], int]] = {"W": {}, "I": {}, "O": {}}
        tiles = list(self.tiles(tiling, order))
        for tile, before, after in zip(tiles, [None, *tiles], [*tiles[1:], None], strict=False):
            load = store = 0
            o = tile.indices("O")
            new = summed[o] == 0
            for operand, sized in sizes.items():
                count = self.elements(tile, operand)
                sized[tile.indices(operand)] = count
                stays = before is not None and before.indices(operand) == tile.indices(operand)
                if not (stays or (operand == "I" and in_kept) or (operand == "O" and new)):
                    load += self.move(bits, operand, "read", count * width[operand])
                    bits[BUFFER[operand], operand, "write"] += count * width[operand]
            m, n, ch, groups = len(tile.rows) * p.OX, len(tile.outs), len(tile.ins), len(tile.groups)
            for access, words in self.array(m, n, ch, new).items():
                bits[access] += groups * words * width[access[1]]
            summed[o] += ch
            if after is None or after.indices("O") != o:
                done = summed[o] == p.C
                bits["output", "O", "read"] += groups * m * n * a.acc_bits
                if done and out_kept:
                    bits["input", "O", "write"] += groups * m * n * a.output_bits
                else:
                    store = self.move(bits, "O", "write", groups * m * n * (a.output_bits if done else a.acc_bits))
            cycles = (math.ceil(moved / a.bits_per_cycle) for moved in (load, store))
            steps.append(Step(next(cycles), self.timed(m, n, ch, groups), next(cycles)))
        needs = self.needs(sizes, len(tiles[0].ins) == p.C, in_kept, out_kept)
        moved = sum(count for (level, _, _), count in bits.items() if level == "dram")
        return Walked(float(latency(steps, a)), needs, moved, bits)

    def timed(self, m: int, n: int, ch: int, groups: int) -> int:
        key = (m, n, ch, groups, 0)
        if key not in self.known:
            self.known[key] = self.cycles(m, n, ch, groups)
        time: int = self.known[key]
        return time

    def move(self, bits: Counter[Access], operand: str, direction: str, count: int) -> int:
        """Whole bursts between DRAM and a buffer; returns their bits."""
        burst = 8 * self.machine.burst_bytes
        moved = burst * len(range(0, count, burst))
        bits["dram", operand, direction] += moved
        return moved

    def needs(
        self, sizes: dict[str, dict[tuple[object, ...], int]], c_whole: bool, in_kept: bool, out_kept: bool
    ) -> dict[str, int]:
        """The largest tile of each operand, two of them where the next one arrives meanwhile; and the kept maps."""
        a = self.machine
        in_pes = a.dataflow == "os" and c_whole
        width = {"W": a.weight_bits, "I": a.input_bits, "O": a.output_bits if in_pes else a.acc_bits}
        found = {}
        for operand, sized in sizes.items():
            copies = 2 if a.double_buffered and len(sized) > 1 else 1
            found[BUFFER[operand]] = copies * max(sized.values()) * width[operand]
        if in_kept:
            found["input"] = self.layer.inputs * a.input_bits
        if out_kept:
            found["input"] += self.layer.outputs * a.output_bits
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
    layer: Layer, machine: Any, tiling: Tiling, order: str, in_kept: bool = False, out_kept: bool = False
) -> Walked:
    """One layer with one tiling and order of loops.

    Args:
        layer: one that multiplies.
        machine: anything with the fields of a ``SpatialArray``.
        tiling: ``y`` rows, ``k`` output channels (``grouped``: groups) and ``c`` input channels of a tile.
        order: of ``ykc``, from the outermost loop to the innermost.
        in_kept, out_kept: the map that is read, or written, stays on chip.
    """
    return Nest(layer, machine).walk(tiling, order, in_kept, out_kept)


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


def best(layer: Layer, machine: Any, **kept: bool) -> tuple[float, Tiling, str] | None:
    """The tiling and order of least latency that fits, and among those of the least DRAM traffic; None if none fits."""
    nest = Nest(layer, machine)
    found: tuple[float, Tiling, str] | None = None
    least = (math.inf, math.inf)
    too_large: Tiling | None = None
    for tiling, order in legal_tilings(layer, machine):
        if tiling == too_large:
            continue  # what the buffers must hold does not depend on the order
        walked = nest.walk(tiling, order, kept.get("in_kept", False), kept.get("out_kept", False))
        if not fits(walked.needs, machine):
            too_large = tiling
        elif (walked.latency, walked.dram_bits) < least:
            least = walked.latency, walked.dram_bits
            found = walked.latency, tiling, order
    return found
