"""Where the cycles go: every MAC slot of an instruction has one cause, and the slots of all causes add up.

In one cycle an array has ``rows * cols`` MAC slots, one a processing element (PE). Slots are counted instead of cycles,
for one PE may still wait for its first operands while another one computes: all counts are whole numbers, and their sum
is ``cycles * rows * cols``.

==========  =======================================================================================================
useful      multiplications of a layer with activations of its map
padding     multiplications of a layer with the zeros around its map: part of its MACs, but not of its work
edge        what streams, but is no MAC of the layer: rows and columns that its channels do not fill, the zero blocks
            of a grouped convolution, positions that a last group of an output-stationary array does not have
weights     CONV: waiting for the first weights, and for those of a tap that takes longer to load than to stream
fill        from the first address until a PE has its first operands
drain       from a PE's last operands until the last sum has left the array
requantise  LOADQ, TILE, STORE, POOL: parameters, pooling, bias, scale and rounding; the last stages of a SUM
memory      LOADP, LOADA, SAVE: transfers between external memory and the buffers
issue       fetch and decode
==========  =======================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codesign_kernel.accelerator.isa import ISSUE, Op, cycles, group_cycles, tap_cycles
from codesign_kernel.errors import InvalidInputError

#: In the order in which they are told.
CAUSES = ("useful", "padding", "edge", "weights", "fill", "drain", "requantise", "memory", "issue")
#: Operations that do nothing else, once issued.
ONE_CAUSE: Mapping[Op, str] = {
    Op.HALT: "issue",
    Op.LOADP: "memory",
    Op.LOADA: "memory",
    Op.SAVE: "memory",
    Op.LOADQ: "requantise",
    Op.TILE: "requantise",
    Op.STORE: "requantise",
    Op.POOL: "requantise",
}
#: Stages of a SUM behind the array: maximum, bias, multiply, shift and clamp.
LANE_STAGES = 4


def slots(op: Op, *, rows: Any = 1, cols: Any = 1, **fields: Any) -> dict[str, Any]:
    """MAC slots of one instruction by cause, from its fields alone. Scalars, or arrays that broadcast.

    What streams through the array is told as ``streamed``: how much of it is useful depends on the layer.

    Args:
        op, rows, cols, fields: as for :func:`codesign_kernel.accelerator.isa.cycles`.

    Returns:
        Slots by cause; they add up to ``cycles(op, ...) * rows * cols``.

    Raises:
        InvalidInputError: the operation has no causes yet.
    """
    pes = rows * cols
    found = {"issue": ISSUE * pes}
    if op in ONE_CAUSE:
        cause = ONE_CAUSE[op]
        rest = (cycles(op, rows=rows, cols=cols, **fields) - ISSUE) * pes
        return {**found, cause: found.get(cause, 0) + rest}
    positions, taps = fields.get("positions", 1), fields.get("taps", 1)
    # a PE in row i, column j starts i + j cycles after the first one, and ends as much later: half of the skew each
    skew = pes * (rows + cols - 2) // 2
    # element (or last row) 1, column (or accumulate) 1
    drain = skew + 2 * pes
    if op == Op.CONV:
        waits = rows + 1 + (taps - 1) * (tap_cycles(rows, positions) - positions)
        return {
            **found,
            "streamed": taps * positions * pes,
            "weights": waits * pes,
            "fill": skew + pes,  # memory 1
            "drain": drain,
        }
    if op == Op.SUM:
        return {
            **found,
            "streamed": taps * group_cycles(rows, positions * fields.get("pool", 1) ** 2) * pes,
            "fill": skew + 3 * pes,  # address 1, memory 1, row 1
            "drain": drain,
            "requantise": LANE_STAGES * pes,
        }
    raise InvalidInputError(f"every operation has its causes, but {op.name} has none; add it to ONE_CAUSE or slots")


@dataclass(frozen=True)
class LayerCauses:
    """Where the cycles of one layer go.

    Attributes:
        name: of the layer; ``end`` for the end of the program.
        cycles: of its instructions in one inference.
        slots: MAC slots by cause, every cause of ``CAUSES``; they add up to ``cycles`` times the number of PEs.
    """

    name: str
    cycles: int
    slots: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiplications of the layer, those with padding among them."""
        return self.slots["useful"] + self.slots["padding"]

    @property
    def streamed(self) -> int:
        """MAC slots in which operands stream through the array."""
        return self.macs + self.slots["edge"]

    @property
    def utilization(self) -> float:
        """MACs over all slots, 0 to 1: of the layer from its first load to its last store."""
        total = sum(self.slots.values())
        return self.macs / total if total else 0.0

    @property
    def array_utilization(self) -> float:
        """MACs over the slots of the array at work, 0 to 1: streaming, and its waits for weights, fill and drain."""
        busy = self.streamed + sum(self.slots[cause] for cause in ("weights", "fill", "drain"))
        return self.macs / busy if busy else 0.0


@dataclass(frozen=True)
class Causes:
    """Where the cycles of one inference go.

    Attributes:
        pes: processing elements, the MAC slots of one cycle.
        layers: in the order of execution.
    """

    pes: int
    layers: tuple[LayerCauses, ...]

    @property
    def total(self) -> LayerCauses:
        """All layers together."""
        slots = {cause: sum(layer.slots[cause] for layer in self.layers) for cause in CAUSES}
        return LayerCauses("total", sum(layer.cycles for layer in self.layers), slots)

    def cycles_of(self, cause: str) -> float:
        """Cycles that ``cause`` takes: its slots over the PEs; those of all causes add up to the inference's cycles."""
        return self.total.slots[cause] / self.pes

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        layers = [{"name": one.name, "cycles": one.cycles, "slots": dict(one.slots)} for one in self.layers]
        return {"pes": self.pes, "layers": layers}

    def __str__(self) -> str:
        total = self.total
        count = sum(total.slots.values())
        return ", ".join(f"{cause} {total.slots[cause] / count:.1%}" for cause in CAUSES if total.slots[cause])


def breakdown(pes: int, told: Iterable[tuple[str, Mapping[str, int]]], work: Mapping[str, tuple[int, int]]) -> Causes:
    """The causes of a program.

    Args:
        pes: processing elements.
        told: layer and :func:`slots` of each instruction, in order.
        work: MACs that the array does for each layer, and how many of them are with padding.

    Raises:
        InvalidInputError: a layer has more MACs than its instructions have slots for them.
    """
    layers: dict[str, dict[str, int]] = {}
    for name, found in told:
        mine = layers.setdefault(name, dict.fromkeys(("streamed", *CAUSES), 0))
        for cause, count in found.items():
            mine[cause] += int(count)
    rows = []
    for name, mine in layers.items():
        streamed = mine.pop("streamed")
        macs, padding = work.get(name, (0, 0)) if streamed else (0, 0)
        if macs > streamed:
            raise InvalidInputError(
                f"a layer's MACs fit the slots that its instructions stream, but {name!r} has {macs} MACs and "
                f"{streamed} slots; the instructions are those of another network"
            )
        mine.update(useful=macs - padding, padding=padding, edge=streamed - macs)
        rows.append(LayerCauses(name, sum(mine.values()) // pes, mine))
    return Causes(pes, tuple(rows))
