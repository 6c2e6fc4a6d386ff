"""The slow road to the figures of the cost model: walk chunks, tiles, passes, blocks and taps one by one, and count.

Of the ways to pack the input of a network, all are walked and the fastest is taken.

Nothing here comes from the mapping or the cost rooms: the rules are those of the documented machine, written out as
loops over rows, channels and filter positions, with sets of what is touched in place of formulas.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.optimize import IntegerNetwork


@dataclass(frozen=True)
class Nest:
    """One layer: channels in and out of all groups, the map that it reads and the one that it stores.

    ``reads`` are numbers of layers, -1 the input. It runs ``times`` times; ``row`` maps are read one after the other.
    Its weights have ``bits``, or those of the machine where that is 0.
    """

    name: str
    op: str
    reads: tuple[int, ...]
    c: int
    k: int
    groups: int
    h: int
    w: int
    fy: int
    fx: int
    stride: int
    padding: int
    dilation: int
    pool: int
    oh: int
    ow: int
    times: int = 1
    row: int = 1
    bits: int = 0


@dataclass
class Counts:
    """What one layer did: cycles by phase, instructions, bits by (level, operand, direction)."""

    load: int = 0
    compute: int = 0
    store: int = 0
    instructions: int = 0
    bits: Counter[tuple[str, str, str]] = field(default_factory=Counter)


def nests(network: IntegerNetwork, batch: int = 1) -> list[Nest]:
    """The layers of ``network``; a flattened map is read by a filter as large as the map.

    Fully connected layers, and sums of their results, have the items of a batch as rows; all others run for each.
    """
    found: list[Nest] = []
    as_map = any(
        -1 in reads and not layer.flatten for reads, layer in zip(network.sources, network.layers, strict=True)
    )
    for i, (layer, reads) in enumerate(zip(network.layers, network.sources, strict=True)):
        (c, h, w), (k, oh, ow) = network.shapes[reads[0] + 1], network.shapes[i + 1]
        (fy, fx), stride, times, row = layer.weight.shape[2:], layer.stride[0], batch, 1
        rows_in = reads[0] >= 0 and found[reads[0]].op == "linear"
        if layer.op == "linear":
            times = 1
            if rows_in or (reads[0] < 0 and not as_map):  # a row of a matrix for each item
                c, h, w, oh = c * h * w, batch, 1, batch
            else:
                fy, fx, stride, row, h, oh = h, w, h, batch, batch * h, batch
        elif layer.op == "add" and rows_in:
            times, h, oh = 1, batch, batch
        found.append(
            Nest(layer.name, layer.op, reads, c, k, layer.groups, h, w, fy, fx, stride, layer.padding[0],
                 layer.dilation[0], layer.pool, oh, ow, times, row, layer.weight_bits)
        )  # fmt: skip
    return found


def packed(network: IntegerNetwork, first: Nest) -> list[Nest]:
    """The ways to run the first layer with its input packed by the host."""
    readers = [i for i, reads in enumerate(network.sources) if -1 in reads]
    if readers != [0] or first.op != "conv2d" or first.groups > 1:
        return []
    line = replace(first, c=first.c * first.fx, w=first.ow * first.pool, fx=1)
    whole = replace(line, c=line.c * first.fy, h=first.oh * first.pool, fy=1, stride=1, padding=0, dilation=1)
    return ([line] if first.fx > 1 else []) + ([whole] if first.fy > 1 else [])


def walk(network: IntegerNetwork, a: Accelerator, batch: int = 1) -> Walk:
    """The network on the machine, its input packed as is fastest; of equals, the more."""
    plain = nests(network, batch)
    found = Walk(plain, a)
    fits = found.runs()
    for first in packed(network, plain[0]):
        other = Walk([first, *plain[1:]], a)
        if first.c <= a.rows and other.runs() and (not fits or other.latency <= found.latency):
            found, fits = other, True
    return found


def input_rows(n: Nest, chunk: range) -> int:
    """Rows of the input map from the first to the last that lie under a window of the output rows ``chunk``."""
    under = set()
    for row in chunk:
        for y in range(row * n.pool, (row + 1) * n.pool):
            top = y * n.stride - n.padding
            under |= {i for i in range(top, top + (n.fy - 1) * n.dilation + 1) if 0 <= i < n.h}
    return max(under) - min(under) + 1


def cut(total: int, size: int) -> list[range]:
    """``range(total)`` in pieces of ``size``; the last one may be shorter."""
    return [range(at, min(at + size, total)) for at in range(0, total, size)]


def blocks_of(n: Nest, outs: range, rows: int) -> range:
    """Tiles of ``rows`` input channels that the output channels ``outs`` read, from the first to the last."""
    read = {g * (n.c // n.groups) + i for g in {o * n.groups // n.k for o in outs} for i in range(n.c // n.groups)}
    tiles = {c // rows for c in read}
    return range(min(tiles), max(tiles) + 1)


class Walk:
    """Layers on a machine."""

    def __init__(self, layers: list[Nest], a: Accelerator) -> None:
        self.a, self.nests = a, layers
        self.lanes = max(a.rows, a.cols)
        self.word = self.lanes * a.weight_bits
        self.row = a.cols * a.weight_bits
        acc = 48 if a.weight_bits == 16 else 32
        self.sums = a.cols * acc
        self.act_depth = int(a.activation_kib * 8192) // self.word
        self.weight_depth = int(a.weight_kib * 8192) // self.row
        self.acc_depth = int(a.accumulator_kib * 8192) // self.sums
        self.bus = 8
        deliverable = a.bandwidth_gb_s * 8e9 / (a.frequency_mhz * 1e6)
        while self.bus * 2 <= min(1024, deliverable) and self.word % (self.bus * 2) == 0:
            self.bus *= 2
        self.act_beats = self.word // self.bus
        self.row_beats = len(cut(self.row, self.bus))
        self.quant_rows = len(cut(acc + 16 + 8, a.weight_bits))
        self.whole = [
            self.map_words(n.c, n.h, n.w) + self.map_words(n.k, n.oh, n.ow) <= self.act_depth for n in self.nests
        ]
        self.rows_needed = sum(self.tile_rows(n, o) for n in self.nests for o in cut(n.k, a.cols))
        self.resident = self.rows_needed <= self.weight_depth
        self.layers = [self.layer(i) for i in range(len(self.nests))]
        self.latency = sum(c.load + c.compute + c.store for c in self.layers) + 2
        self.boot = (2 + self.a.memory_latency + self.rows_needed * self.row_beats + 2) + 2 if self.resident else 0
        # HALT of the program; LOADP and HALT of the boot
        self.instructions = sum(c.instructions for c in self.layers) + 1 + (2 if self.resident else 0)

    def runs(self) -> bool:
        """Whether the first layer's maps, or the pieces of one row of results, fit the activation memory."""
        n = self.nests[0]
        deep = (n.pool - 1) * n.stride + (n.fy - 1) * n.dilation + 1
        return self.whole[0] or self.map_words(n.c, deep, n.w) + self.map_words(n.k, 1, n.ow) <= self.act_depth

    def map_words(self, channels: int, height: int, width: int) -> int:
        return len(cut(channels, self.lanes)) * height * width

    def tile_rows(self, n: Nest, outs: range) -> int:
        if n.op not in ("conv2d", "linear"):
            return self.quant_rows
        return self.words(n, len(blocks_of(n, outs, self.a.rows)) * n.fy * n.fx * self.a.rows) + self.quant_rows

    def words(self, n: Nest, rows: int) -> int:
        """Words of the weight memory for so many rows of weights, filled one value after the other."""
        width = max(n.bits or self.a.weight_bits, self.a.min_weight_bits or self.a.weight_bits)
        words, free = 0, 0
        for _ in range(rows):
            if free < width:
                words, free = words + 1, self.a.weight_bits
            free -= width
        return words

    def chunk_rows(self, n: Nest) -> int:
        """The most output rows whose input, as deep as an inner chunk's, and output fit the activation memory."""
        for rows in range(n.oh, 1, -1):
            deep = (rows * n.pool - 1) * n.stride + (n.fy - 1) * n.dilation + 1
            if self.map_words(n.c, deep, n.w) + self.map_words(n.k, rows, n.ow) <= self.act_depth:
                return rows
        return 1

    def pass_rows(self, n: Nest) -> int:
        """The most output rows whose positions, before pooling, fit the accumulators; all where there are none."""
        if self.a.dataflow == "os":
            return n.oh
        rows = 1
        while (rows + 1) * n.pool * n.ow * n.pool <= self.acc_depth:
            rows += 1
        return rows

    def layer(self, i: int) -> Counts:
        n, whole, c = self.nests[i], self.whole[i], Counts()
        loads = len(n.reads) - self.kept(i)
        readers = [j for j, other in enumerate(self.nests) for read in other.reads if read == i]
        saves = readers != [i + 1] or not self.kept(i + 1)
        for chunk in cut(n.oh, n.oh if whole else self.chunk_rows(n)):
            deep = n.h if whole else input_rows(n, chunk)
            for _ in range(loads):
                apart = 1 if whole or n.row > 1 else len(cut(n.c, self.lanes))
                self.move(c, "I", self.map_words(n.c, deep, n.w), apart)
            for outs in cut(n.k, self.a.cols):
                self.tile(c, n, outs, chunk)
            if saves:
                self.move(c, "O", self.map_words(n.k, len(chunk), n.ow), 1 if whole else len(cut(n.k, self.lanes)))
        c.bits["instruction", "-", "read"] = c.instructions * 224
        again = Counter({key: n.times * bits for key, bits in c.bits.items()})
        return Counts(n.times * c.load, n.times * c.compute, n.times * c.store, n.times * c.instructions, again)

    def kept(self, i: int) -> bool:
        """Whether layer ``i`` finds what the one before it made on chip."""
        if i == 0 or i - 1 not in self.nests[i].reads or self.nests[i - 1].times != self.nests[i].times:
            return False
        return self.whole[i - 1] and self.whole[i]

    def move(self, c: Counts, operand: str, words: int, moves: int) -> None:
        """LOADA or SAVE, once for all groups of channels or once for each."""
        c.instructions += moves
        bits = words * self.word
        if operand == "I":
            c.load += moves * (2 + self.a.memory_latency + 2) + words * self.act_beats
            c.bits["dram", "I", "read"] += bits
            c.bits["activation", "I", "write"] += bits
        else:
            c.store += moves * (2 + self.a.memory_latency + 2) + words * self.act_beats
            c.bits["activation", "O", "read"] += bits
            c.bits["dram", "O", "write"] += bits

    def tile(self, c: Counts, n: Nest, outs: range, chunk: range) -> None:
        """LOADP where weights are streamed, LOADQ, and CONV and STORE for every pass."""
        if not self.resident:
            rows = self.tile_rows(n, outs)
            c.instructions += 1
            c.load += 2 + self.a.memory_latency + rows * self.row_beats + 2
            c.bits["dram", "W", "read"] += rows * self.row_beats * self.bus
            c.bits["weight", "W", "write"] += rows * self.row
        c.instructions += 1
        c.compute += 2 + self.quant_rows + 1
        c.bits["weight", "W", "read"] += self.quant_rows * self.row
        if n.op not in ("conv2d", "linear"):
            results = len(chunk) * n.ow
            words = results * n.fy * n.fx * len(n.reads)
            c.instructions += 1
            c.compute += 2 + 1 + words + 5  # the address, and what STORE has
            c.bits["activation", "I", "read"] += words * self.row
            c.bits["activation", "O", "write"] += results * self.row
            return
        for lines in cut(len(chunk), self.pass_rows(n)):
            if self.a.dataflow == "os":
                c.instructions += 1
                c.compute += 2 + self.sums_stay(c, n, outs, len(lines))
                c.bits["activation", "O", "write"] += len(lines) * n.ow * self.row
                continue
            c.instructions += 2
            positions = len(lines) * n.pool * n.ow * n.pool
            taps = len(blocks_of(n, outs, self.a.rows)) * n.fy * n.fx
            c.compute += 2 + self.taps(c, taps, positions)
            c.bits["weight", "W", "read"] += self.words(n, taps * self.a.rows) * self.row
            c.compute += 2 + positions + 5
            c.bits["accumulator", "O", "read"] += positions * self.sums
            c.bits["activation", "O", "write"] += len(lines) * n.ow * self.row

    def sums_stay(self, c: Counts, n: Nest, outs: range, lines: int) -> int:
        """Cycles of a SUM: each row of the array gets a word in turn, group by group and tap by tap."""
        clock = 0
        for group in cut(lines * n.pool * n.ow * n.pool, self.a.rows):
            rows = len(blocks_of(n, outs, self.a.rows)) * n.fy * n.fx * self.a.rows
            c.bits["weight", "W", "read"] += self.words(n, rows) * self.row
            for _ in range(len(blocks_of(n, outs, self.a.rows)) * n.fy * n.fx):
                for row in range(self.a.rows):
                    clock += 1
                    if row < len(group):
                        c.bits["activation", "I", "read"] += self.a.rows * self.a.weight_bits
        # the last word's address, itself, and its row; across rows and columns, out of element and column; the lanes
        return clock + 3 + (self.a.rows - 1) + (self.a.cols - 1) + 2 + 4

    def taps(self, c: Counts, taps: int, positions: int) -> int:
        """Cycles of all taps of a pass: a clock that visits every row of weights and every position.

        A tap's weights go in row by row, bottom row first, as soon as the tap before it has begun to use its own; its
        positions follow when the last row has arrived and the positions before are through.
        """
        clock = free = 0  # the port of the weight memory is free, and the array takes positions, from these cycles on
        added: dict[int, int] = {}  # when each accumulator was last read
        for _ in range(taps):
            for _ in range(self.a.rows):
                free += 1
            clock = max(clock, free + 1)
            if 0 in added:  # a sum is read, added to and written in two cycles
                clock = max(clock, added[0] + 2)
            free = max(free, clock - 1)
            for position in range(positions):
                assert added.get(position, -2) + 2 <= clock
                added[position] = clock
                clock += 1
            c.bits["activation", "I", "read"] += positions * self.a.rows * self.a.weight_bits
            c.bits["accumulator", "O", "read"] += positions * self.sums
            c.bits["accumulator", "O", "write"] += positions * self.sums
        return clock + 1 + (self.a.rows + self.a.cols - 1) + 1
