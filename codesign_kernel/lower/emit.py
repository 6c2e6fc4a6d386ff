"""The instructions of one step after the other: what is loaded, what runs, what is saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from codesign_kernel.accelerator.isa import FIELDS, Instruction, Op
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.lower.parameters import blocks_of, rows_per_word, weight_words
from codesign_kernel.lower.program import FeatureMap
from codesign_kernel.mapping.steps import AVERAGES, OUTSIDE, Step
from codesign_kernel.mapping.tiling import Tiling, ceil_div, input_rows
from codesign_kernel.optimize.integer import IntegerNetwork


def cut(first: int, last: int, rows: int) -> Iterator[tuple[int, int]]:
    """Pieces of ``rows`` from ``first`` up to ``last``; the last one may be shorter."""
    for start in range(first, last, rows):
        yield start, min(start + rows, last)


@dataclass(frozen=True)
class _Piece:
    """A chunk of a step's output rows, and where it is on chip: words of the activation memory.

    Attributes:
        chunk: output rows, first and last + 1.
        low, high: its input rows.
        in_at, second_at, out_at: the input, the second input of a sum, and the result.
    """

    chunk: tuple[int, int]
    low: int
    high: int
    in_at: int
    second_at: int
    out_at: int


@dataclass
class Emitter:
    """The program of ``steps`` on one accelerator.

    Attributes:
        every: every result is saved.
        rows_at: by step, the words of the weight memory at which its output tiles begin, and the end of the last.
        maps, beats: feature maps in external memory, and its size in beats of the bus.
        main, owners: instructions and the layers that they belong to.
    """

    network: IntegerNetwork
    a: Accelerator
    steps: tuple[Step, ...]
    tilings: tuple[Tiling, ...]
    batch: int
    every: bool
    rows_at: list[list[int]] = field(default_factory=list)
    maps: dict[int, FeatureMap] = field(default_factory=dict)
    beats: int = 0
    main: list[Instruction] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        total = 0
        for step, t in zip(self.steps, self.tilings, strict=True):
            at = [total]
            for tile in range(int(t.tiles[0])):
                at.append(at[-1] + weight_words(step, tile, self.a) + self.a.quant_rows)
            self.rows_at.append(at)
            total = at[-1]
        self.resident = total <= self.a.memory("weight").depth
        self.beats = total * self.a.weight_beats
        for i in range(OUTSIDE, len(self.steps)):
            if i == OUTSIDE or self.saves(i):
                self.maps[i] = place = self._place(i)
                self.beats += place.words * self.a.activation_beats
        self._run()

    @property
    def total_rows(self) -> int:
        """Words of the weight memory that all parameters take."""
        return self.rows_at[-1][-1]

    def _place(self, i: int) -> FeatureMap:
        """The maps of step ``i`` behind those that have a place."""
        if i == OUTSIDE:
            name, step = "input", next(step for step in self.steps if OUTSIDE in step.reads)
            channels, width, height = step.channels_in, step.width, step.height
            alike = step.repeat * step.images
        else:
            step = self.steps[i]
            name, channels, width, height = step.layer.name, step.channels_out, step.out_width, step.out_height
            alike = step.repeat
        images, rows = (self.batch, 1) if alike == self.batch else (1, self.batch)
        words = ceil_div(channels, self.a.lanes) * step.repeat * height * width
        height //= rows if i != OUTSIDE else rows * step.images
        return FeatureMap(name, channels, height, width, self.beats, words, images, rows)

    def kept(self, i: int) -> bool:
        """Whether the result of step ``i`` is on chip for the next one."""
        if i < 0 or i + 1 == len(self.steps):
            return False
        return bool(self.tilings[i].whole[0] and self.tilings[i + 1].whole[0] and self.steps[i + 1].from_previous)

    def saves(self, i: int) -> bool:
        """Whether the result of step ``i`` goes to external memory."""
        return self.every or not (self.kept(i) and self.steps[i].to_next)

    def emit(self, owner: str, op: Op, **fields: int) -> None:
        """Append one instruction."""
        # in the order in which they are told
        self.main.append(Instruction(op, {name: fields[name] for name in FIELDS[op] if name in fields}))
        self.owners.append(owner)

    def _run(self) -> None:
        """Steps that run for each item of a batch do so image after image; all others run once."""
        i = at = 0
        while i < len(self.steps):
            end, repeat = i + 1, self.steps[i].repeat
            while end < len(self.steps) and self.steps[end].repeat == repeat:
                end += 1
            for image in range(repeat):
                for number in range(i, end):
                    at = self._step(number, image, at if self.kept(number - 1) else 0)
            i = end
        self.emit("end", Op.HALT)

    def _step(self, i: int, image: int, in_at: int) -> int:
        """Step ``i``, whose input lies at ``in_at``, for one image. Returns where its result lies."""
        step, t = self.steps[i], self.tilings[i]
        whole, out_at = bool(t.whole[0]), 0
        loads = list(step.reads)
        if self.kept(i - 1):
            loads.remove(i - 1)
        for chunk in cut(0, step.out_height, int(t.chunk_rows[0])):
            low, high = (0, step.height) if whole else input_rows(step, *chunk)
            stored = int(t.out_groups[0]) * (chunk[1] - chunk[0]) * step.out_width
            out_at = self.a.memory("activation").depth - stored if in_at == 0 else 0
            piece = _Piece(chunk, low, high, in_at, out_at, out_at)
            for source, to in zip(reversed(loads), (out_at, in_at) if step.inputs == 2 else (in_at,), strict=False):
                self._load(i, source, image, piece, to)
            for tile in range(int(t.tiles[0])):
                self._tile(i, tile, piece)
            if self.saves(i):
                self._save(i, image, piece)
        return out_at

    def _load(self, i: int, source: int, image: int, piece: _Piece, to: int) -> None:
        """The rows of ``piece`` of one of its inputs; groups of channels lie apart unless all rows are loaded."""
        step, t, beats = self.steps[i], self.tilings[i], self.a.activation_beats
        groups, name = int(t.in_groups[0]), step.layer.name
        row, rows = step.width, piece.high - piece.low
        place = self.maps[source]
        at = place.beat + image * (place.words // place.images) * beats
        if t.whole[0] or step.images > 1:
            ext = at + groups * piece.low * row * beats
            self.emit(name, Op.LOADA, addr=to, ext=ext, count=groups * rows * row)
            return
        for g in range(groups):
            ext = at + (g * step.height + piece.low) * row * beats
            self.emit(name, Op.LOADA, addr=to + g * rows * row, ext=ext, count=rows * row)

    def _save(self, i: int, image: int, piece: _Piece) -> None:
        step, t, beats = self.steps[i], self.tilings[i], self.a.activation_beats
        groups, name, (first, last) = int(t.out_groups[0]), step.layer.name, piece.chunk
        row, place = step.out_width, self.maps[i]
        at, stored = place.beat + image * (place.words // place.images) * beats, (last - first) * row
        if t.whole[0]:
            self.emit(name, Op.SAVE, addr=piece.out_at, ext=at, count=groups * stored)
            return
        for g in range(groups):
            ext = at + (g * step.out_height + first) * row * beats
            self.emit(name, Op.SAVE, addr=piece.out_at + g * stored, ext=ext, count=stored)

    def _tile(self, i: int, tile: int, piece: _Piece) -> None:
        """One output tile of a chunk: its parameters where they are not on chip, then what runs."""
        a, step, rows_at = self.a, self.steps[i], self.rows_at[i]
        name, waddr = step.layer.name, rows_at[tile]
        if not self.resident:
            self.emit(name, Op.LOADP, addr=0, ext=waddr * a.weight_beats, count=rows_at[tile + 1] - waddr)
            waddr = 0
        parameters = waddr + weight_words(step, tile, a)
        tall = max(a.rows // a.cols, 1)
        start, stop = piece.chunk
        results = piece.out_at + tile // tall * (stop - start) * step.out_width
        if a.dataflow == "ws":
            self.emit(name, Op.LOADQ, waddr=parameters, count=a.quant_rows)
        if not step.on_array:
            if a.dataflow == "os":
                self.emit(name, Op.TILE, addr=results, waddr=parameters, count=a.quant_rows)
            self._pool(i, tile, piece, results)
            return
        for pass_ in cut(start, stop, int(self.tilings[i].pass_rows[0])):
            at = results + (pass_[0] - start) * step.out_width
            if a.dataflow == "os":
                self.emit(name, Op.TILE, addr=at, waddr=parameters, count=a.quant_rows)
            self._pass(i, tile, piece, pass_, waddr, at)

    def _pass(self, i: int, tile: int, piece: _Piece, rows: tuple[int, int], waddr: int, results: int) -> None:
        """One pass over output rows ``rows`` of a tile: CONV and STORE, or SUM."""
        a, step = self.a, self.steps[i]
        wide, tall = max(a.cols // a.rows, 1), max(a.rows // a.cols, 1)
        first, last = blocks_of(step, tile, a)
        name, nx, ny, relu = step.layer.name, step.out_width, rows[1] - rows[0], int(self.network.layers[i].relu)
        top = rows[0] * step.pool * step.stride[0] - step.padding[0] - piece.low
        height, sy, row_step = piece.high - piece.low, step.stride[0], step.stride[0] * step.width
        plane, offset = height * step.width, top * step.width
        if step.layer.op == "linear":
            sy, row_step = 1, step.width
            if step.images > 1:  # from one image's map to the next, each read from its own first row on
                height, plane = step.filter_height, step.filter_height * step.width
                sy, row_step = 0, int(self.tilings[i].in_groups[0]) * plane
                top, offset = 0, (rows[0] - piece.chunk[0]) * row_step
        taps = {
            "addr": piece.in_at + first // wide * plane + offset - step.padding[1],
            "waddr": waddr, "ix0": -step.padding[1], "iy0": top, "width": step.width, "height": height,
            "sx": step.stride[1], "sy": sy, "row_step": row_step,
            "nfx": step.filter_width, "nfy": step.filter_height, "nct": last - first,
            "dx": step.dilation[1], "dy": step.dilation[0], "tap_row": step.dilation[0] * step.width, "ct_step": plane,
        }  # fmt: skip
        if rows_per_word(step, a) > 1:
            taps["per_word"] = rows_per_word(step, a)
        if a.dataflow == "ws":
            side = step.pool
            self.emit(name, Op.CONV, acc=0, bank=first % wide, nx=nx * side, ny=ny * side, **taps)
            self.emit(
                name, Op.STORE, relu=relu, bank=tile % tall, addr=results, nx=nx, ny=ny, pool=side, acc_row=nx * side
            )
        else:
            # the array's input is banked, or its output, or neither
            bank = first % wide if wide > 1 else tile % tall
            self.emit(name, Op.SUM, relu=relu, bank=bank, nx=nx, ny=ny, window=step.pool, **taps)

    def _pool(self, i: int, tile: int, piece: _Piece, results: int) -> None:
        """One tile of a pooling, or of a sum of two maps: a window that reaches from the one to the other."""
        step = self.steps[i]
        tall = max(self.a.rows // self.a.cols, 1)
        rows, (start, stop) = piece.high - piece.low, piece.chunk
        top = start * step.stride[0] - step.padding[0] - piece.low
        both = step.inputs == 2
        self.emit(
            step.layer.name, Op.POOL, relu=int(self.network.layers[i].relu), sum=int(both or step.layer.op in AVERAGES),
            bank=tile % tall, addr=piece.in_at + (tile // tall * rows + top) * step.width - step.padding[1], to=results,
            nx=step.out_width, ny=stop - start, ix0=-step.padding[1], iy0=top, width=step.width, height=rows,
            sx=step.stride[1], sy=step.stride[0], row_step=step.stride[0] * step.width, nfx=step.filter_width,
            nfy=2 if both else step.filter_height, dx=1, dy=0 if both else 1,
            tap_row=piece.second_at - piece.in_at if both else step.width,
        )  # fmt: skip
