"""Lowering: an integer network becomes the instructions and the memory image of one accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import FIELDS, MAX_SIDE, Instruction, Op, cycles
from codesign_kernel.accelerator.types import MULTIPLIER_BITS, SHIFT_BITS, Accelerator
from codesign_kernel.errors import CapacityError, InvalidInputError
from codesign_kernel.mapping.steps import Step, steps_of
from codesign_kernel.mapping.tiling import Tiling, block_range, ceil_div, input_rows, tile
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import IntegerLayer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FeatureMap:
    """Where a feature map lies in external memory: ``groups`` x ``height`` x ``width`` words of ``lanes`` channels."""

    name: str
    channels: int
    height: int
    width: int
    beat: int
    words: int


@dataclass(frozen=True)
class Program:
    """What the accelerator runs.

    Attributes:
        network, accelerator: what was lowered, and onto what.
        boot: loads the weights once, where they stay on chip; else empty.
        main: one inference.
        owners: the layer of each instruction of ``main``.
        parameters: rows of the weight memory as bytes of the external memory, shape (bytes,), from beat 0 on.
        maps: feature maps in external memory by layer index; -1 is the input, the last index the output.
        memory_bytes: size of the external memory that the program uses.
    """

    network: IntegerNetwork
    accelerator: Accelerator
    boot: tuple[Instruction, ...]
    main: tuple[Instruction, ...]
    owners: tuple[str, ...]
    parameters: Array
    maps: dict[int, FeatureMap]
    memory_bytes: int

    @property
    def words(self) -> list[int]:
        """The instruction memory: ``boot`` first, then ``main``."""
        return [instruction.encode() for instruction in (*self.boot, *self.main)]

    @property
    def entry(self) -> int:
        """Address of the first instruction of ``main``."""
        return len(self.boot)

    def cycles_of(self, instruction: Instruction) -> int:
        """Cycles of one instruction on this accelerator."""
        a, f = self.accelerator, instruction.fields
        return int(
            cycles(
                instruction.op,
                rows=a.rows,
                cols=a.cols,
                beats=a.weight_beats if instruction.op == Op.LOADP else a.activation_beats,
                count=f.get("count", 0),
                positions=f.get("nx", 0) * f.get("ny", 0),
                taps=f.get("nct", 0) * f.get("nfy", 0) * f.get("nfx", 0),
                pool=f.get("pool", f.get("window", 1)),
                latency=a.memory_latency,
            )
        )

    @property
    def cycles(self) -> int:
        """Cycles of one inference: the sum over the instructions of ``main``."""
        return sum(self.cycles_of(instruction) for instruction in self.main)

    def assembly(self) -> str:
        """The program as text: address, cycles, instruction, layer."""
        lines = [f"; {self.network.name} on {self.accelerator}"]
        owners = ("boot",) * len(self.boot) + self.owners
        for address, (instruction, owner) in enumerate(zip((*self.boot, *self.main), owners, strict=True)):
            lines.append(f"{address:5}  {self.cycles_of(instruction):8}  {instruction}  ; {owner}")
        return "\n".join(lines) + "\n"

    def pack(self, maps: Array) -> Array:
        """Feature maps [N, C, H, W] (integer) as the bytes of external memory, [N, bytes]."""
        return _to_bytes(_to_words(maps, self.accelerator.lanes, self.network.dtype), self.accelerator.weight_bits)

    def unpack(self, data: Array, place: FeatureMap) -> Array:
        """Bytes of external memory, [N, bytes], as feature maps [N, C, H, W] (int64)."""
        lanes, bits = self.accelerator.lanes, self.accelerator.weight_bits
        values = _from_bytes(data, bits).reshape(len(data), -1, place.height, place.width, lanes)
        maps = values.transpose(0, 1, 4, 2, 3).reshape(len(data), -1, place.height, place.width)
        return maps[:, : place.channels].astype(np.int64)

    def bytes_of(self, place: FeatureMap) -> slice:
        """Where ``place`` lies in the external memory (bytes)."""
        start = place.beat * self.accelerator.bus_bits // 8
        return slice(start, start + place.words * self.accelerator.word_bits // 8)


def _to_words(maps: Array, lanes: int, dtype: Any) -> Array:
    """[N, C, H, W] -> [N, words, lanes], channels padded with zeros."""
    n, channels, height, width = maps.shape
    groups = ceil_div(channels, lanes)
    padded = np.zeros((n, groups * lanes, height, width), dtype=dtype)
    padded[:, :channels] = maps
    return padded.reshape(n, groups, lanes, height, width).transpose(0, 1, 3, 4, 2).reshape(n, -1, lanes)


def _to_bytes(words: Array, bits: int) -> Array:
    """[N, words, lanes] of ``bits``-wide values -> [N, bytes], the first lane in the lowest bits."""
    # the lowest byte first, whatever the byte order of this computer
    flat = np.ascontiguousarray(words, dtype="<i2" if bits == 16 else np.int8).reshape(len(words), -1).view(np.uint8)
    return flat if bits >= 8 else (flat[:, 0::2] & 15) | (flat[:, 1::2] << 4)


def _from_bytes(data: Array, bits: int) -> Array:
    """[N, bytes] -> [N, values], signed."""
    if bits >= 8:
        return np.ascontiguousarray(data).view("<i2" if bits == 16 else np.int8)
    low, high = (data << 4).view(np.int8) >> 4, data.view(np.int8) >> 4
    return np.stack([low, high], axis=-1).reshape(len(data), -1)


@dataclass
class _Emitter:
    """The program so far."""

    network: IntegerNetwork
    accelerator: Accelerator
    machines: Machines
    steps: tuple[Step, ...]
    tilings: tuple[Tiling, ...]
    resident: bool
    main: list[Instruction] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    owner: str = ""

    def emit(self, op: Op, **fields: int) -> None:
        """Append one instruction."""
        # in the order in which they are told
        self.main.append(Instruction(op, dict(sorted(fields.items(), key=lambda item: FIELDS[op].index(item[0])))))
        self.owners.append(self.owner)


def _tile_rows(step: Step, layer: IntegerLayer, a: Accelerator, output_tile: int) -> Array:
    """Rows of the weight memory for one output tile, [rows, cols]: its weights tap by tap, then its parameters."""
    low, high = block_range(step, output_tile, a.rows, a.cols)
    first, last = output_tile * a.cols, min((output_tile + 1) * a.cols, step.channels_out)
    per_in, per_out = step.channels_in // step.groups, step.channels_out // step.groups
    weights = layer.weight.reshape(step.channels_out, per_in, step.filter_height, step.filter_width)
    dense = np.zeros((a.cols, (high - low) * a.rows, step.filter_height, step.filter_width), layer.weight.dtype)
    for out in range(first, last):
        at = out // per_out * per_in - low * a.rows
        dense[out - first, at : at + per_in] = weights[out]
    # [cols, block, row, fy, fx] -> [block, fy, fx, row, cols]; weights that stay shift in with the bottom row's first
    blocks = dense.reshape(a.cols, high - low, a.rows, step.filter_height, step.filter_width)
    taps = blocks.transpose(1, 3, 4, 2, 0)[:, :, :, :: -1 if a.dataflow == "ws" else 1].reshape(-1, a.cols)
    packed = np.zeros(a.cols, dtype=object)
    for lane, out in enumerate(range(first, last)):
        bias = int(layer.bias[out]) % (1 << a.acc_bits)
        scale = int(layer.multiplier[out]) << a.acc_bits
        packed[lane] = bias | scale | (int(layer.shift[out]) - 1) << (a.acc_bits + MULTIPLIER_BITS)
    mask = (1 << a.weight_bits) - 1
    # they end with the last row; what the first one has too many bits are not kept by the lanes
    spare = a.quant_rows * a.weight_bits - (a.acc_bits + MULTIPLIER_BITS + SHIFT_BITS)
    fields = [[(int(value) << spare >> (k * a.weight_bits)) & mask for value in packed] for k in range(a.quant_rows)]
    unsigned = np.array(fields, dtype=np.uint16 if a.weight_bits == 16 else np.uint8)
    return np.concatenate([taps, unsigned.view(taps.dtype)])


def _row_bytes(rows: Array, a: Accelerator) -> Array:
    """Rows of the weight memory as bytes of the external memory, each padded to whole beats."""
    lanes_a_row = a.weight_beats * a.bus_bits // a.weight_bits
    padded = np.zeros((len(rows), lanes_a_row), rows.dtype)
    padded[:, : a.cols] = rows
    return _to_bytes(padded[None], a.weight_bits)[0]


def _maps(network: IntegerNetwork, e: _Emitter, first_beat: int, every: bool) -> tuple[dict[int, FeatureMap], int]:
    """Feature maps that are in external memory at some time, and the first beat behind them."""
    a = e.accelerator
    places = {}
    beat = first_beat
    last = len(e.steps) - 1
    for i in range(-1, last + 1):
        step = e.steps[max(i, 0)]
        if i < 0:
            name, channels, height, width = "input", step.channels_in, step.height, step.width
        else:
            name, channels, height, width = step.layer.name, step.channels_out, step.out_height, step.out_width
        if every or i in (-1, last) or not _kept(e, i):
            words = ceil_div(channels, a.lanes) * height * width
            places[i] = FeatureMap(name, channels, height, width, beat, words)
            beat += words * a.activation_beats
    return places, beat


def _kept(e: _Emitter, i: int) -> bool:
    """Whether the result of step ``i`` stays on chip for the next step."""
    return bool(e.tilings[i].whole[0] and e.tilings[i + 1].whole[0] and e.steps[i + 1].from_previous)


def _passes(first: int, last: int, rows: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, rows):
        yield start, min(start + rows, last)


def _emit_tile(e: _Emitter, i: int, o: int, waddr: int, chunk: tuple[int, int], in_at: int, out_at: int) -> None:
    """One output tile ``o`` of a chunk of output rows: LOADQ, and CONV and STORE for every pass; or TILE and SUM."""
    a, step, t = e.accelerator, e.steps[i], e.tilings[i]
    wide, tall = max(a.cols // a.rows, 1), max(a.rows // a.cols, 1)
    low, high = input_rows(step, *chunk) if not t.whole[0] else (0, step.height)
    plane = (high - low) * step.width
    first, last = block_range(step, o, a.rows, a.cols)
    parameters = waddr + (last - first) * step.taps * a.rows
    if a.dataflow == "ws":
        e.emit(Op.LOADQ, waddr=parameters, count=a.quant_rows)
    for start, stop in _passes(*chunk, int(t.pass_rows[0])):
        top = start * step.pool * step.stride[0] - step.padding[0] - low
        taps = {
            "addr": in_at + first // wide * plane + top * step.width - step.padding[1],
            "waddr": waddr, "ix0": -step.padding[1], "iy0": top, "width": step.width, "height": high - low,
            "sx": step.stride[1], "sy": step.stride[0], "row_step": step.stride[0] * step.width,
            "nfx": step.filter_width, "nfy": step.filter_height, "nct": last - first,
            "dx": step.dilation[1], "dy": step.dilation[0], "tap_row": step.dilation[0] * step.width, "ct_step": plane,
        }  # fmt: skip
        nx, ny = step.out_width, stop - start
        relu = int(e.network.layers[i].relu)
        results = out_at + (o // tall * (chunk[1] - chunk[0]) + start - chunk[0]) * nx
        if a.dataflow == "ws":
            e.emit(Op.CONV, acc=0, bank=first % wide, nx=nx * step.pool, ny=ny * step.pool, **taps)
            e.emit(
                Op.STORE, relu=relu, bank=o % tall, addr=results, nx=nx, ny=ny, pool=step.pool, acc_row=nx * step.pool
            )
        else:
            e.emit(Op.TILE, addr=results, waddr=parameters, count=a.quant_rows)
            # the array's input is banked, or its output, or neither
            bank = first % wide if wide > 1 else o % tall
            e.emit(Op.SUM, relu=relu, bank=bank, nx=nx, ny=ny, window=step.pool, **taps)


def _emit_step(e: _Emitter, i: int, rows_at: list[int], maps: dict[int, FeatureMap], in_at: int, every: bool) -> int:
    """One step; ``in_at`` is where its input lies on chip. Returns where its output lies."""
    a, step, t = e.accelerator, e.steps[i], e.tilings[i]
    e.owner = step.layer.name
    depth, beats = a.memory("activation").depth, a.activation_beats
    whole = bool(t.whole[0])
    in_groups, out_groups = int(t.in_groups[0]), int(t.out_groups[0])
    load, save = i == 0 or not _kept(e, i - 1), i == len(e.steps) - 1 or not _kept(e, i)
    out_at = 0
    for chunk in _passes(0, step.out_height, int(t.chunk_rows[0])):
        low, high = (0, step.height) if whole else input_rows(step, *chunk)
        loaded, stored = (high - low) * step.width, (chunk[1] - chunk[0]) * step.out_width
        out_at = depth - out_groups * stored if in_at == 0 else 0
        if load and whole:
            e.emit(Op.LOADA, addr=in_at, ext=maps[i - 1].beat, count=in_groups * loaded)
        elif load:
            for g in range(in_groups):
                ext = maps[i - 1].beat + (g * step.height + low) * step.width * beats
                e.emit(Op.LOADA, addr=in_at + g * loaded, ext=ext, count=loaded)
        for o in range(int(t.tiles[0])):
            waddr = rows_at[o]
            if not e.resident:
                e.emit(Op.LOADP, addr=0, ext=rows_at[o] * a.weight_beats, count=rows_at[o + 1] - rows_at[o])
                waddr = 0
            _emit_tile(e, i, o, waddr, chunk, in_at, out_at)
        if (save or every) and whole:
            e.emit(Op.SAVE, addr=out_at, ext=maps[i].beat, count=out_groups * stored)
        elif save or every:
            for g in range(out_groups):
                ext = maps[i].beat + (g * step.out_height + chunk[0]) * step.out_width * beats
                e.emit(Op.SAVE, addr=out_at + g * stored, ext=ext, count=stored)
    return out_at


def lower(network: IntegerNetwork, design: Any, *, every: bool = False) -> Program:
    """The program of ``network`` on ``design``.

    Args:
        network: what to run.
        design: an :class:`Accelerator`, or anything with one in ``.accelerator``.
        every: save every layer's result to external memory too, to find where a difference begins.

    Raises:
        InvalidInputError: the network's precision is not the accelerator's.
        CapacityError: a memory or an instruction field is too small.
    """
    a: Accelerator = getattr(design, "accelerator", design)
    if network.bits != a.weight_bits:
        raise InvalidInputError(
            f"network and accelerator have one precision, but got int{network.bits} and int{a.weight_bits}; "
            f"quantise with bits={a.weight_bits} or choose weight_bits={network.bits}"
        )
    machines = Machines.of([a])
    steps, uncosted = steps_of(network.workload)
    assert len(steps) == len(network.layers), "every layer of an integer network is a step"
    assert not uncosted, "an integer network has nothing but steps"
    tilings = tuple(tile(step, machines) for step in steps)
    _check_sizes(steps, tilings, a)
    blocks = [
        [_tile_rows(step, layer, a, o) for o in range(int(t.tiles[0]))]
        for step, layer, t in zip(steps, network.layers, tilings, strict=True)
    ]
    rows_at: list[list[int]] = []
    total = 0
    for tiles in blocks:
        rows_at.append([total])
        for rows in tiles:
            total += len(rows)
            rows_at[-1].append(total)
    resident = total <= a.memory("weight").depth
    if not resident and any(int(t.weight_need[0]) > a.memory("weight").depth for t in tilings):
        raise CapacityError(
            f"the weight memory holds one output tile, but weight_kib = {a.weight_kib:g} is too small for one"
        )
    e = _Emitter(network, a, machines, steps, tilings, resident)
    maps, beats = _maps(network, e, total * a.weight_beats, every)
    at = 0
    for i in range(len(steps)):
        kept = i > 0 and _kept(e, i - 1)
        at = _emit_step(e, i, rows_at[i], maps, at if kept else 0, every)
    e.owner = "end"
    e.emit(Op.HALT)
    boot = (Instruction(Op.LOADP, {"addr": 0, "ext": 0, "count": total}), Instruction(Op.HALT)) if resident else ()
    depth = a.memory("instruction").depth
    if len(boot) + len(e.main) > depth:
        raise CapacityError(
            f"the instruction memory holds the program, but {len(boot) + len(e.main)} instructions do not fit {depth}; "
            "raise instruction_kib"
        )
    parameters = np.concatenate([_row_bytes(rows, a) for tiles in blocks for rows in tiles])
    program = Program(network, a, boot, tuple(e.main), tuple(e.owners), parameters, maps, beats * a.bus_bits // 8)
    _ = program.words  # every field fits, or the refusal comes now
    return program


def _check_sizes(steps: tuple[Step, ...], tilings: tuple[Tiling, ...], a: Accelerator) -> None:
    for step, t in zip(steps, tilings, strict=True):
        if max(step.height, step.width) >= MAX_SIDE:
            raise CapacityError(
                f"a map's sides are below {MAX_SIDE}, but {step.layer.name!r} reads {step.height}x{step.width}; "
                "use a smaller input"
            )
        for level in a.memories:
            memory, depth = level.name, level.depth
            if memory not in ("activation", "accumulator"):
                continue
            need = int(getattr(t, f"{memory}_need")[0])
            if need > depth:
                raise CapacityError(
                    f"the {memory} memory holds one tile, but {step.layer.name!r} needs {need} words and there are "
                    f"{depth}; "
                    f"raise {memory}_kib"
                )
