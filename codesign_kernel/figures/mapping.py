"""A layer on the memory hierarchy: its loop nest, what each level holds, what moves between levels, and the energy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from codesign_kernel.accelerator.spatial import OPERANDS, SpatialArray
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.words import percent, times
from codesign_kernel.units import quantity

if TYPE_CHECKING:
    from codesign_kernel.cost.result import Access, Cost, LayerCost
    from codesign_kernel.mapping.choice import NestLine

#: Level -> what it is called, from the outermost to the innermost.
LEVELS = {
    "dram": "DRAM",
    "input": "Input buffer",
    "weight": "Weight buffer",
    "output": "Output buffer",
    "shared": "Shared buffer",
    "activation": "Activation memory",
    "accumulator": "Accumulators",
    "instruction": "Instruction memory",
    "register": "PE registers",
    "compute": "Array and lanes",
}
#: What an operand is called; its colour is the theme's of the same name.
OPERAND_WORDS = {"W": "weights", "I": "inputs", "O": "outputs", "-": "instructions"}
#: Levels that lie around the buffers: DRAM above, the array below.
ABOVE, BELOW = "dram", "compute"


class Held(NamedTuple):
    """What one operand takes of a level at once (bit)."""

    operand: str
    bits: int


class Box(NamedTuple):
    """One level of the hierarchy.

    capacity_bit: 0 where it has none to speak of (DRAM, the array). held: what lies there at once; empty where the cost
    does not say. read_bit, write_bit, energy_pj: of the layer's accesses there; of ``compute`` the energy of MACs,
    clock and lanes.
    """

    level: str
    label: str
    capacity_bit: int
    held: tuple[Held, ...]
    read_bit: int
    write_bit: int
    energy_pj: float


class Flow(NamedTuple):
    """Bits of one operand from one level to the next, as the accesses count them."""

    operand: str
    source: str
    target: str
    bits: int


class MappingInfo(NamedTuple):
    """lines: the loop nest; empty for operators of the vector unit. boxes: from DRAM to the array; their energies add
    up to ``energy_pj``. accesses: as the cost has them."""

    layer: str
    op: str
    machine: str
    dataflow: str
    macs: int
    latency_cycle: int
    energy_pj: float
    dram_bit: int
    utilization: float
    lines: tuple[NestLine, ...]
    boxes: tuple[Box, ...]
    flows: tuple[Flow, ...]
    accesses: tuple[Access, ...]

    @property
    def finding(self) -> str:
        """Where the energy goes, and how well the array is used."""
        most = max(self.boxes, key=lambda box: box.energy_pj)
        where = most.label if most.level in ("dram", "register") else most.label.lower()
        return (
            f"{percent(most.energy_pj / self.energy_pj)} of the energy of {self.layer} is spent in the {where}; "
            f"{percent(self.utilization)} of the array is used"
        )


def mapping_info(cost: Cost, layer: str) -> MappingInfo:
    """How ``layer`` of ``cost`` runs on its machine.

    Raises:
        InvalidInputError: ``cost`` has no such layer.
    """
    found = next((each for each in cost.layers if each.name == layer), None)
    if found is None:
        names = ", ".join(each.name for each in cost.layers[:8])
        raise InvalidInputError(f"a mapping is of a layer of the cost ({names}, ...), but got {layer[:60]!r}")
    accesses = tuple(access for access in cost.accesses if access.layer == layer)
    machine = cost.accelerator
    flows = _spatial_flows(found, accesses, machine) if isinstance(machine, SpatialArray) else _fixed_flows(accesses)
    mapping = found.mapping or found.fixed
    return MappingInfo(
        layer,
        found.op,
        str(machine),
        machine.dataflow,
        found.macs,
        found.latency_cycle,
        found.energy_pj,
        found.dram_bit,
        found.utilization,
        () if mapping is None else mapping.lines,
        _boxes(found, accesses, machine),
        tuple(flow for flow in flows if flow.bits),
        accesses,
    )


def _bits(accesses: Iterable[Access], level: str, direction: str, operand: str | None = None) -> int:
    return sum(
        access.bits
        for access in accesses
        if (access.level, access.direction) == (level, direction) and operand in (None, access.operand)
    )


def _boxes(layer: LayerCost, accesses: Sequence[Access], machine: Any) -> tuple[Box, ...]:
    capacity = {memory.name: memory.capacity_bit for memory in machine.memories}
    held = _held(layer, machine)
    names = ["dram", *capacity, *(["register"] if isinstance(machine, SpatialArray) else [])]
    boxes = [
        Box(
            name,
            LEVELS[name],
            capacity.get(name, 0),
            tuple(each for each in held.get(name, ()) if each.bits),
            _bits(accesses, name, "read"),
            _bits(accesses, name, "write"),
            sum(access.energy_pj for access in accesses if access.level == name),
        )
        for name in names
    ]
    rest = layer.energy_pj - sum(box.energy_pj for box in boxes)
    return (*boxes, Box(BELOW, LEVELS[BELOW], 0, (), 0, 0, rest))


def _held(layer: LayerCost, machine: Any) -> dict[str, tuple[Held, ...]]:
    """What lies in each buffer at once."""
    if layer.fixed is not None:
        needs = layer.fixed.needs_bit
        return {name: tuple(Held(operand, bits) for operand, bits in each.items()) for name, each in needs.items()}
    if layer.mapping is None:
        return {}
    each = dict(zip("WIO", layer.mapping.needs_bit, strict=True))
    if machine.shared_kib:
        return {"shared": tuple(Held(operand, bits) for operand, bits in each.items())}
    return {name: (Held(operand, each[operand]),) for name, operand in OPERANDS.items()}


def _spatial_flows(layer: LayerCost, accesses: Sequence[Access], machine: SpatialArray) -> list[Flow]:
    """What moves between DRAM, the buffers and the array.

    A buffer's reads go to the array but for outputs that leave for DRAM (or for a map that stays on chip), each time
    the whole tile at the width of sums; its writes come from DRAM or the array likewise.
    """
    shared = bool(machine.shared_kib)
    buffer = {"I": "shared" if shared else "input", "W": "shared" if shared else "weight"}
    sums = "shared" if shared else "output"
    down = {operand: _bits(accesses, ABOVE, "read", operand) for operand in "WIO"}
    up = _bits(accesses, ABOVE, "write", "O")
    flows = [Flow(operand, ABOVE, buffer[operand], down[operand]) for operand in "WI"]
    flows += [
        Flow(operand, buffer[operand], BELOW, _bits(accesses, buffer[operand], "read", operand)) for operand in "WI"
    ]
    if layer.mapping is None:  # of the vector unit: results pass it and go straight up
        kept = _bits(accesses, buffer["I"], "write", "O")
        return [*flows, Flow("O", BELOW, ABOVE, up), Flow("O", BELOW, buffer["I"], kept)]
    mapping = layer.mapping
    a_time = mapping.nest.outputs * machine.acc_bits
    returns = a_time * (mapping.tiles["c"] - 1) if down["O"] else 0
    kept = mapping.nest.outputs * machine.output_bits if mapping.keeps_output else 0
    read = _bits(accesses, sums, "read", "O") - a_time - returns
    written = _bits(accesses, sums, "write", "O") - returns - (kept if shared else 0)
    flows += [Flow("O", ABOVE, sums, down["O"]), Flow("O", sums, ABOVE, up)]
    flows += [Flow("O", sums, BELOW, read), Flow("O", BELOW, sums, written)]
    return [*flows, Flow("O", sums, buffer["I"], kept)]


def _fixed_flows(accesses: Sequence[Access]) -> list[Flow]:
    """Of a generated machine: everything passes the activation memory or the weight memory, sums stay below."""
    ways = {
        ("activation", "I", "write"): (ABOVE, "activation"),
        ("activation", "I", "read"): ("activation", BELOW),
        ("activation", "O", "write"): (BELOW, "activation"),
        ("activation", "O", "read"): ("activation", ABOVE),
        ("weight", "W", "write"): (ABOVE, "weight"),
        ("weight", "W", "read"): ("weight", BELOW),
        ("accumulator", "O", "write"): (BELOW, "accumulator"),
        ("accumulator", "O", "read"): ("accumulator", BELOW),
        ("instruction", "-", "read"): ("instruction", BELOW),
    }
    return [
        Flow(access.operand, *ways[key], access.bits)
        for access in accesses
        if (key := (access.level, access.operand, access.direction)) in ways
    ]


def comparison(one: MappingInfo, other: MappingInfo) -> str:
    """What tells two mappings of a layer apart, in one sentence: ``B against A: 2.4 × fewer cycles, ...``."""
    told = [
        _ratio(one.latency_cycle, other.latency_cycle, "fewer", "cycles"),
        _ratio(one.energy_pj, other.energy_pj, "less", "energy"),
        _ratio(one.dram_bit, other.dram_bit, "less", "DRAM traffic"),
    ]
    return f"B against A: {', '.join(told)}"


def _ratio(one: float, other: float, less: str, what: str) -> str:
    """``other`` beside ``one``: as a multiple from 2 on, else as a share."""
    if one == other:
        return f"the same {what}"
    if not one or not other:
        return f"no {what}" if one else f"{what} where A has none"
    way, ratio = (less, one / other) if other < one else ("more", other / one)
    if ratio >= 2:
        return f"{times(ratio)} {way} {what}"
    return f"{percent(abs(one - other) / one)} {way} {what}"


def line_words(line: NestLine) -> str:
    """What another turn of a loop moves, in one sentence."""
    if line.place == "note":
        return "Above this line a turn of a loop brings other tiles from DRAM; below it the buffers feed the array."
    if line.place == "array":
        return "What lies on the array at once: every processing element has its own row and column."
    moved = " and ".join(OPERAND_WORDS[operand] for operand in line.moves)
    stays = [OPERAND_WORDS[operand] for operand in "WIO" if operand not in line.moves]
    rest = f"; the {' and '.join(stays)} are the same" if stays else ""
    what = "other tiles" if line.place == "dram" else "other words"
    between = "between DRAM and the buffers" if line.place == "dram" else "between the buffers and the array"
    return f"Another turn needs {what} of the {moved}, which move {between}{rest}."


def box_words(box: Box, energy_pj: float) -> str:
    """A level in one sentence."""
    told = [f"{quantity(box.energy_pj * 1e-12, 'J')}, {percent(box.energy_pj / energy_pj)} of the energy"]
    if box.held:
        full = sum(each.bits for each in box.held)
        parts = ", ".join(f"{quantity(each.bits / 8, 'B')} of {OPERAND_WORDS[each.operand]}" for each in box.held)
        size = (
            f"{percent(full / box.capacity_bit)} of {quantity(box.capacity_bit / 8, 'B')}" if box.capacity_bit else ""
        )
        told.append(f"holds {parts} ({size})")
    if box.read_bit or box.write_bit:
        told.append(f"reads {quantity(box.read_bit / 8, 'B')}, writes {quantity(box.write_bit / 8, 'B')}")
    return f"{box.label}: {'; '.join(told)}."


def chooses(machine: Any) -> bool:
    """Whether a layer has several mappings on ``machine``: a described one; a generated one has one fixed mapping."""
    return isinstance(machine, SpatialArray)
