"""A program: instructions, the memory image beside them, and how feature maps lie in the external memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator.causes import Causes, breakdown, slots
from codesign_kernel.accelerator.isa import Instruction, Op, cycles
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping.packing import unfolded
from codesign_kernel.mapping.steps import Step, steps_of
from codesign_kernel.mapping.tiling import ceil_div
from codesign_kernel.mapping.useful import macs_of
from codesign_kernel.optimize.integer import IntegerNetwork

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FeatureMap:
    """Where the feature maps of one layer lie in external memory: words of ``lanes`` channels.

    Attributes:
        name: of the layer, or ``input``.
        channels, height, width: of one map, as stored: an input that is packed has more channels than the network's.
        beat: of the bus, where they begin.
        images, rows: maps of a batch: so many one after the other, each of them of so many below each other.
        words: of all of them: ``images`` x groups of channels x (``rows`` x ``height``) x ``width``.
    """

    name: str
    channels: int
    height: int
    width: int
    beat: int
    words: int
    images: int = 1
    rows: int = 1


@dataclass(frozen=True)
class Program:
    """What the accelerator runs.

    Attributes:
        network, accelerator: what was lowered, and onto what.
        batch: inferences of one run.
        boot: loads the weights once, where they stay on chip; else empty.
        main: one run.
        owners: the layer of each instruction of ``main``.
        parameters: words of the weight memory as bytes of the external memory, shape (bytes,), from beat 0 on.
        maps: feature maps in external memory by layer index; -1 is the input, the last index the output.
        memory_bytes: size of the external memory that the program uses.
        ways: the first step as the network says, and as it runs: with its input packed, where that is faster.
    """

    network: IntegerNetwork
    accelerator: Accelerator
    boot: tuple[Instruction, ...]
    main: tuple[Instruction, ...]
    owners: tuple[str, ...]
    parameters: Array
    maps: dict[int, FeatureMap]
    memory_bytes: int
    ways: tuple[Step, Step]
    batch: int = 1

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
        return cycles_on(self.accelerator, instruction)

    @property
    def cycles(self) -> int:
        """Cycles of one run: the sum over the instructions of ``main``."""
        return sum(self.cycles_of(instruction) for instruction in self.main)

    @property
    def causes(self) -> Causes:
        """Where the cycles of one run go, layer by layer."""
        steps, _ = steps_of(self.network.workload)
        a = self.accelerator
        told = [(name, slots(i.op, **law_of(a, i))) for i, name in zip(self.main, self.owners, strict=True)]
        macs = {step.layer.name: macs_of(step) for step in steps}
        work = {name: (self.batch * all_of, self.batch * padding) for name, (all_of, padding) in macs.items()}
        return breakdown(a.pes, told, work)

    def assembly(self) -> str:
        """The program as text: address, cycles, instruction, layer."""
        lines = [f"; {self.network.name} on {self.accelerator}"]
        owners = ("boot",) * len(self.boot) + self.owners
        for address, (instruction, owner) in enumerate(zip((*self.boot, *self.main), owners, strict=True)):
            lines.append(f"{address:5}  {self.cycles_of(instruction):8}  {instruction}  ; {owner}")
        return "\n".join(lines) + "\n"

    def pack(self, inputs: Array) -> Array:
        """Quantised inputs [N, C, H, W] as the bytes of external memory, [runs, bytes]: N is ``batch`` times the runs.

        Raises:
            InvalidInputError: the inputs are no whole number of runs.
        """
        if len(inputs) % self.batch:
            raise InvalidInputError(f"a run takes {self.batch} inputs, but got {len(inputs)}; fill the last run up")
        place, (plain, way) = self.maps[-1], self.ways
        if way.packed != (1, 1):
            maps = unfolded(inputs, plain, way)
        else:
            # a network that begins with a fully connected layer reads its input as a vector
            maps = inputs.reshape(len(inputs), place.channels, place.height, place.width)
        return self.bytes_at(place, maps)

    def bytes_at(self, place: FeatureMap, maps: Array) -> Array:
        """Feature maps [N, C, H, W] as bytes of external memory, [runs, bytes], as ``unpack`` reads them."""
        words = _to_words(maps, self.accelerator.lanes, self.network.dtype, place)
        return to_bytes(words, self.accelerator.weight_bits)

    def unpack(self, data: Array, place: FeatureMap) -> Array:
        """Bytes of external memory, [runs, bytes], as feature maps [N, C, H, W] (int64), N = ``batch`` x runs."""
        lanes, bits = self.accelerator.lanes, self.accelerator.weight_bits
        shape = (len(data), place.images, -1, place.rows, place.height, place.width, lanes)
        values = _from_bytes(data, bits).reshape(shape).transpose(0, 1, 3, 2, 6, 4, 5)
        maps = values.reshape(len(data) * place.images * place.rows, -1, place.height, place.width)
        return maps[:, : place.channels].astype(np.int64)

    def bytes_of(self, place: FeatureMap) -> slice:
        """Where ``place`` lies in the external memory (bytes)."""
        start = place.beat * self.accelerator.bus_bits // 8
        return slice(start, start + place.words * self.accelerator.word_bits // 8)


def law_of(a: Accelerator, instruction: Instruction) -> dict[str, int]:
    """What the cycles of one instruction on ``a`` depend on: the arguments of :func:`accelerator.isa.cycles`."""
    f = instruction.fields
    return {
        "rows": a.rows,
        "cols": a.cols,
        "beats": a.weight_beats if instruction.op == Op.LOADP else a.activation_beats,
        "count": f.get("count", 0),
        "positions": f.get("nx", 0) * f.get("ny", 0),
        "taps": f.get("nct", 1) * f.get("nfy", 0) * f.get("nfx", 0),
        "pool": f.get("pool", f.get("window", 1)),
        "latency": a.memory_latency,
    }


def cycles_on(a: Accelerator, instruction: Instruction) -> int:
    """Cycles of one instruction on ``a``."""
    return int(cycles(instruction.op, **law_of(a, instruction)))


def _to_words(maps: Array, lanes: int, dtype: Any, place: FeatureMap) -> Array:
    """[N, C, H, W] -> [runs, words, lanes] as ``place`` says, channels padded with zeros."""
    n, channels, height, width = maps.shape
    groups = ceil_div(channels, lanes)
    padded = np.zeros((n, groups * lanes, height, width), dtype=dtype)
    padded[:, :channels] = maps
    runs = n // (place.images * place.rows)
    apart = padded.reshape(runs, place.images, place.rows, groups, lanes, height, width)
    return apart.transpose(0, 1, 3, 2, 5, 6, 4).reshape(runs, -1, lanes)


def to_bytes(words: Array, bits: int) -> Array:
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
