"""The roofs of every memory: what the external memory, the buffers and the array allow each layer, and what limits it.

The hierarchical roofline of Yang, Kurth, Williams, "Hierarchical Roofline analysis for GPUs", CCPE 32(20), 2020: a
layer has one intensity for each memory, which counts the bytes that pass there, and each memory has one slope.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from codesign_kernel.accelerator.spatial import OPERANDS, SIDES, SpatialArray, buffer_words
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.roofline import Runs, roofline_info
from codesign_kernel.figures.words import percent

if TYPE_CHECKING:
    from codesign_kernel.accelerator.types import Accelerator

#: What limits a layer that no memory does.
COMPUTE = "compute"
EXTERNAL = "dram"
#: A memory whose roof is lower than this share of the peak is a limit; nearer, its words are all but used by the array.
NEAR = 0.95
#: Memory -> words for it in a sentence.
LABELS = {
    EXTERNAL: "external memory",
    "input": "input buffer",
    "weight": "weight buffer",
    "output": "output buffer",
    "shared": "shared buffer",
    "activation": "activation memory",
    "accumulator": "accumulator memory",
}


class Traffic(Protocol):
    """What the roofs need of an access: layer, level and direction (``read`` or ``write``), and the bits moved."""

    @property
    def layer(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def bits(self) -> int: ...


class Counted(Runs, Protocol):
    """A cost with its accesses."""

    @property
    def accesses(self) -> Sequence[Traffic]: ...


class Roof(NamedTuple):
    """One memory: ``level``, its name in words, and byte/s that pass it in one direction."""

    level: str
    label: str
    bandwidth: float


class RoofsPoint(NamedTuple):
    """One layer. rate: MAC/s that the cost model gives. attained: at most that, and no more than the roofs allow.

    intensities: MAC/byte at each memory, None where nothing passes. limit: ``compute``, or the memory whose roof over
    the layer is the lowest. share: of the latency of all layers shown.
    """

    name: str
    macs: int
    rate: float
    attained: float
    share: float
    intensities: Mapping[str, float | None]
    limit: str


class RoofsInfo(NamedTuple):
    """peak: MAC/s. roofs: of the external memory, then of those on the chip. without_macs: layers left out."""

    peak: float
    roofs: tuple[Roof, ...]
    points: tuple[RoofsPoint, ...]
    without_macs: int
    finding: str


def roof_terms(machine: Accelerator | SpatialArray) -> dict[str, Any]:
    """Plain numbers from which a page computes the roofs of ``machine`` and of those that differ in size and speed.

    Returns:
        bus_word_bits: width (bit) of a word by lane, where a bus of a power of two carries external data; 0 where the
        memory's whole bandwidth does. levels: for each memory on the chip its ports, (side of the array, bit by PE of
        that side); ``lanes`` is the longer side.
    """
    if isinstance(machine, SpatialArray):
        bits = {"input": machine.input_bits, "weight": machine.weight_bits, "output": machine.acc_bits}
        ports = {name: (SIDES[machine.dataflow][name], bits[name]) for name in OPERANDS}
        levels = {"shared": list(ports.values())} if machine.shared_kib else {name: [p] for name, p in ports.items()}
        return {"bus_word_bits": 0, "levels": _labelled(levels)}
    width = machine.weight_bits
    known = {
        "activation": [("lanes", width)],
        "weight": [("cols", width)],
        "accumulator": [("cols", machine.acc_bits)],
    }
    return {"bus_word_bits": width, "levels": _labelled({name: known[name] for name in _memories(machine)})}


def _memories(machine: Accelerator | SpatialArray) -> tuple[str, ...]:
    """Those on the chip that hold data."""
    return tuple(level.name for level in machine.memories if level.operands)


def _labelled(levels: Mapping[str, Sequence[tuple[str, int]]]) -> list[dict[str, Any]]:
    return [
        {"level": name, "label": LABELS[name], "ports": [{"side": side, "bits": bits} for side, bits in ports]}
        for name, ports in levels.items()
    ]


def roofs_of(machine: Accelerator | SpatialArray, onchip_words: float = 1.0) -> tuple[Roof, ...]:
    """The memories of ``machine``, the external one first.

    A memory on the chip delivers and takes ``onchip_words`` words a cycle: with 1, what the array can take and give. A
    word of a shared buffer is one of each operand.
    """
    hz = machine.frequency_mhz * 1e6
    bus = getattr(machine, "bus_bits", machine.bits_per_cycle)
    if isinstance(machine, SpatialArray):
        words = buffer_words(machine)
        words["shared"] = sum(words[name] for name in OPERANDS)
    else:
        words = {level.name: level.word_bit for level in machine.memories}
    inside = [Roof(name, LABELS[name], onchip_words * float(words[name]) / 8 * hz) for name in _memories(machine)]
    return (Roof(EXTERNAL, LABELS[EXTERNAL], bus / 8 * hz), *inside)


def roofs_info(
    cost: Counted, accelerator: Accelerator | SpatialArray | None = None, onchip_words: float = 1.0
) -> RoofsInfo:
    """Where the layers of ``cost`` lie under the roofs of its machine.

    The traffic of a memory on the chip is that of its busier direction, since it reads and writes in the same cycle;
    the external memory counts both. The cost model gives each of those memories a word a cycle: with other
    ``onchip_words`` a layer's rate is at most what the roof leaves, and never more than the model's.

    Raises:
        InvalidInputError: as :func:`roofline_info`; or ``onchip_words`` is not above 0.
    """
    if not 0 < onchip_words < math.inf:
        raise InvalidInputError(f"a memory moves more than 0 words a cycle, but onchip_words is {onchip_words!r}")
    outside = roofline_info(cost, accelerator)
    machine = getattr(cost, "accelerator", None) or accelerator
    assert machine is not None  # else the line before has raised
    roofs = roofs_of(machine, onchip_words)
    moved = _moved(cost)
    macs = {layer.name: layer.macs for layer in cost.layers}
    points = []
    for point in outside.points:
        inside = {roof.level: max(moved.get((point.name, roof.level, way), 0) for way in _WAYS) for roof in roofs[1:]}
        intensities = {
            EXTERNAL: point.intensity,
            **{name: 8 * macs[point.name] / bits if bits else None for name, bits in inside.items()},
        }
        limit, lowest = limit_of(outside.peak, roofs, intensities)
        attained = min(point.rate, lowest)
        points.append(
            RoofsPoint(point.name, macs[point.name], point.rate, attained, point.share, intensities, limit)
        )  # fmt: skip
    return RoofsInfo(outside.peak, roofs, tuple(points), outside.without_macs, _finding(points))


_WAYS = ("read", "write")


def _moved(cost: Counted) -> dict[tuple[str, str, str], int]:
    """Bits by layer, level and direction."""
    found: dict[tuple[str, str, str], int] = {}
    for access in cost.accesses:
        key = (access.layer, access.level, access.direction)
        found[key] = found.get(key, 0) + access.bits
    return found


def limit_of(peak: float, roofs: Sequence[Roof], intensities: Mapping[str, float | None]) -> tuple[str, float]:
    """(what limits a layer of these intensities, the lowest roof over it in MAC/s)."""
    over = [(roof.bandwidth * value, roof.level) for roof in roofs if (value := intensities[roof.level]) is not None]
    lowest, level = min(over, default=(math.inf, COMPUTE), key=lambda each: each[0])
    return (level if lowest < NEAR * peak else COMPUTE), min(peak, lowest)


def _finding(points: Sequence[RoofsPoint]) -> str:
    """What limits the layers for most of the time."""
    time: dict[str, float] = {}
    for point in points:
        time[point.limit] = time.get(point.limit, 0.0) + point.share
    most = max(time, key=lambda limit: time[limit])
    count, all_of = sum(point.limit == most for point in points), len(points)
    layers = f"{count} of {all_of} layer" + ("s" if all_of > 1 else "")
    lie = "lies" if count == 1 else "lie"
    if most == COMPUTE:
        return f"Compute bound for {percent(time[most])} of the time: {layers} {lie} under the flat roof"
    what = LABELS[most]
    told = f"{what[0].upper()}{what[1:]} sets the limit for {percent(time[most])} of the time"
    return f"{told}: {layers} {lie} under its slope"
