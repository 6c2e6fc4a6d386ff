"""The latency of fixed mappings as a function of the machine and of the layers' widths: gradients, or many machines.

Finding the best mapping is a search; what a mapping costs is a formula (``docs/mapping.md``), which takes numbers,
numpy arrays and torch tensors alike. So ``evaluate`` once, then ask how its mappings would do elsewhere:

    cost = ck.evaluate(workload, machine)
    relaxed_latency(workload, cost)                                          # cost.latency_cycle
    relaxed_latency(workload, cost, bandwidth_gb_s=np.linspace(1, 50, 50))   # 50 machines

    bandwidth = torch.tensor(12.8, dtype=torch.float64, requires_grad=True)
    cycles = relaxed_latency(workload, cost, bandwidth_gb_s=bandwidth)
    cycles.backward()                                                        # bandwidth.grad: cycles by GB/s
    seconds = cycles / (machine.frequency_mhz * 1e6)

    kept = torch.sigmoid(gates).sum()                                        # a layer whose channels are pruned
    narrow = {"conv1": {"K": kept}, "pool1": {"C": kept, "K": kept}, "conv2": {"C": kept}}
    (loss + weight * relaxed_latency(workload, cost, channels=narrow)).backward()

A gradient is that of the formula at its rounded values, where a rounding passes it on as if it did nothing (straight
through: Bengio et al. 2013, arXiv 1308.3432). Of two things that take equally long, one gets the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator.spatial import DATAFLOWS, SpatialArray
from codesign_kernel.cost.result import Cost
from codesign_kernel.cost.tiles import Channels, Engine, Rows, Shape, Stay, bursts, layer_cycle, tile_cycle
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping.choice import OPERAND_OF, LayerMapping
from codesign_kernel.mapping.nest import LOOPS, Nest, nest_of, row_cuts
from codesign_kernel.mapping.units import Unit, units_of
from codesign_kernel.numerics import ceil, is_tensor, maximum, minimum
from codesign_kernel.workload import Workload

#: Fields of a :class:`SpatialArray` that can be set. (Buffers only decide which mappings there are.)
FIELDS = (
    "rows", "cols", "weight_bits", "input_bits", "output_bits", "acc_bits", "bandwidth_gb_s", "burst_bytes",
    "vector_lanes", "frequency_mhz",
)  # fmt: skip
#: Loops of a layer that can be set: channels of a group, and groups.
WIDTHS = ("C", "K", "G")

#: New values of some of these, for one layer.
Widths = Mapping[str, Any]


def relaxed_latency(workload: Any, cost: Cost, *, channels: Mapping[str, Widths] | None = None, **fields: Any) -> Any:
    """Cycles of one inference under the mappings of ``cost``; see :func:`relaxed_layers`, whose values it adds up."""
    return sum(relaxed_layers(workload, cost, channels=channels, **fields).values())


def relaxed_layers(
    workload: Any, cost: Cost, *, channels: Mapping[str, Widths] | None = None, **fields: Any
) -> dict[str, Any]:
    """Cycles of each unit of ``workload`` under the mapping that it has in ``cost``.

    Tiles keep their sizes (element), their order, what is held and which maps stay on chip. Whether the search would
    cut like that, and whether the buffers still hold it, is not asked.

    Args:
        workload: what was evaluated: a :class:`Workload`, or anything with one in ``.workload``.
        cost: what ``evaluate`` gave for it on a :class:`SpatialArray`.
        channels: by unit, new values of its ``C`` and ``K`` (channels of one group, as in :class:`Layer`) or ``G``. An
            axis that is smaller than its tile becomes the tile. What is fused with a layer follows its ``K`` and ``G``.
            The vector unit works and stores in proportion to ``K`` and ``G``, and loads in proportion to ``C`` and
            ``G``. Nothing else follows: every unit that changes is named.
        fields: new values of some of ``FIELDS``; the others are those of ``cost.accelerator``.

    Values are positive numbers, numpy arrays or torch tensors, which broadcast, and need not be whole. What tensors
    hold is not looked at. All is computed in float64, on the device of the tensors.

    Returns:
        {name of the unit's layer: cycles}, in order of execution, of the broadcast shape, or of one value where nothing
        that was set matters.

    Raises:
        InvalidInputError: a name is unknown, a value is not positive, or ``cost`` is not that of ``workload``.
    """
    ready = prepare(workload, cost, channels or {}, fields, FIELDS)
    cycles: dict[str, Any] = {}
    known: dict[LayerMapping, Any] = {}  # networks repeat themselves
    for step in ready.steps:
        if step.mapping is None:
            cycles[step.unit.layer.name] = _vector_cycle(step, ready)
        else:
            if step.widths:
                array = _array_cycle(step, ready.engine)
            else:
                if step.mapping not in known:
                    known[step.mapping] = _array_cycle(step, ready.engine)
                array = known[step.mapping]
            behind = operation_cycle(step, ready)
            cycles[step.unit.layer.name] = maximum(array, behind) if step.unit.vector_ops else array
    return cycles


@dataclass(frozen=True)
class Step:
    """A unit with its mapping (None on the vector unit), the loops that are set, the operands that DRAM moves, and a
    tensor, if there is one among the arguments."""

    unit: Unit
    mapping: LayerMapping | None
    widths: Widths
    moved: frozenset[str]
    like: Any

    def number(self, value: Any) -> Any:
        """``value``, as a tensor where others are tensors."""
        return _beside(value, self.like)

    def scaled(self, count: Any, *loops: str) -> Any:
        """``count``, which is proportional to ``loops``, with those that are set."""
        for loop in loops:
            if loop in self.widths:
                count = count * self.widths[loop] / self.number(float(getattr(self.unit.layer, loop)))
        return count

    @property
    def vector_ops(self) -> Any:
        """Operations of the vector unit."""
        return self.scaled(self.number(float(self.unit.vector_ops)), "K", "G")

    @property
    def inputs(self) -> Any:
        """Elements loaded."""
        return self.scaled(self.number(float(self.unit.input_elements)), "C", "G")

    @property
    def outputs(self) -> Any:
        """Elements stored."""
        return self.scaled(self.number(float(self.unit.output_elements)), "K", "G")


@dataclass(frozen=True)
class Ready:
    """Arguments that were checked: the steps, and the machine in numbers, arrays and tensors."""

    steps: tuple[Step, ...]
    machine: SpatialArray
    engine: Engine
    values: Mapping[str, Any]


def prepare(
    workload: Any, cost: Cost, channels: Mapping[str, Widths], fields: Mapping[str, Any], known: Iterable[str]
) -> Ready:
    """What both latency and energy start from; see :func:`relaxed_layers`. ``known``: fields that may be set."""
    units = _units(getattr(workload, "workload", workload), cost)
    machine = cost.accelerator
    assert isinstance(machine, SpatialArray)
    _check_names(fields, known, "fields of the machine that can be set here")
    _check_names(channels, [unit.layer.name for unit in units], "layers whose channels can be set (fused ones follow)")
    for widths in channels.values():
        if not isinstance(widths, Mapping):
            raise InvalidInputError(f"a layer's channels are like {{'K': 32}}, but got {widths!r}")
        _check_names(widths, WIDTHS, "loops of a layer that can be set")
    given = (*fields.values(), *(value for widths in channels.values() for value in widths.values()))
    like = next((value for value in given if is_tensor(value)), None)
    values = {name: _value(name, fields.get(name, getattr(machine, name)), like) for name in FIELDS}
    moved: dict[str, set[str]] = {layer.name: set() for layer in cost.layers}
    for access in cost.accesses:
        if access.level == "dram":
            moved[access.layer].add(access.operand)
    steps = []
    for unit, layer in zip(units, cost.layers, strict=True):
        mine = channels.get(layer.name, {})
        widths = {loop: _value(f"{loop} of {layer.name}", value, like) for loop, value in mine.items()}
        steps.append(Step(unit, layer.mapping, widths, frozenset(moved[layer.name]), like))
    return Ready(tuple(steps), machine, _engine(machine, values), values)


def _units(workload: Any, cost: Cost) -> tuple[Unit, ...]:
    """The units of ``workload``, if ``cost`` is theirs."""
    if not isinstance(workload, Workload) or not isinstance(cost, Cost):
        raise InvalidInputError(
            "relaxed_latency takes a Workload and what evaluate gave for it, but got "
            f"{type(workload).__name__} and {type(cost).__name__}"
        )
    if not isinstance(cost.accelerator, SpatialArray):
        raise InvalidInputError(
            f"relaxed_latency takes the cost of a SpatialArray, but got that of {cost.accelerator}; the generated "
            "accelerator has no mapping to fix"
        )
    units, _ = units_of(workload)
    mine = [(unit.layer.name, nest_of(unit.layer) if unit.array else None) for unit in units]
    theirs = [(layer.name, layer.mapping.nest if layer.mapping else None) for layer in cost.layers]
    if mine != theirs:
        at = next(
            (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs))
        )
        names = [pairs[at][0] if at < len(pairs) else "nothing" for pairs in (mine, theirs)]
        raise InvalidInputError(
            f"cost is that of the workload, but step {at} is {names[0]} of {workload.name!r} and {names[1]} of the "
            f"cost of {cost.workload!r}, or of another shape; evaluate this workload"
        )
    return units


def _check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InvalidInputError(f"{what} are {', '.join(known)}, but got {', '.join(unknown)}")


def _beside(value: Any, like: Any) -> Any:
    """``value`` as a tensor where ``like`` is one: a number and a tensor, torch divides by way of the reciprocal, which
    is rounded once more."""
    return value if like is None or is_tensor(value) else like.double().new_tensor(value)


def _value(name: str, value: Any, like: Any) -> Any:
    """``value`` as a float or an array of float64, or as a tensor of float64 beside a tensor ``like``."""
    if is_tensor(value):
        return value.double()
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or not (np.isfinite(array) & (array > 0)).all():
        raise InvalidInputError(f"{name} is a positive number (or an array or a tensor of such), but got {value!r}")
    return _beside(array.astype(np.float64) if array.ndim else float(array), like)


def _engine(machine: SpatialArray, values: Mapping[str, Any]) -> Engine:
    """``machine`` with other ``values``."""
    kept = {name: values[name] for name in Engine._fields if name in values}
    switches = {name: int(getattr(machine, name)) for name in ("overlap", "im2col", "double_buffered", "duplex")}
    return Engine(
        **kept,
        **switches,
        flow=DATAFLOWS.index(machine.dataflow),
        burst_bit=8.0 * values["burst_bytes"],
        bits_per_cycle=values["bandwidth_gb_s"] * 8000.0 / values["frequency_mhz"],
    )


def operation_cycle(step: Step, ready: Ready) -> Any:
    """Cycles of the vector unit."""
    return ceil(step.vector_ops / ready.values["vector_lanes"])


def _vector_cycle(step: Step, ready: Ready) -> Any:
    """Cycles of a unit without MACs."""
    e = ready.engine
    load = ceil(bursts(step.inputs * e.input_bits, e) / e.bits_per_cycle) if "I" in step.moved else 0.0
    store = ceil(bursts(step.outputs * e.output_bits, e) / e.bits_per_cycle) if "O" in step.moved else 0.0
    return tile_cycle(operation_cycle(step, ready), load, store, e)


def _array_cycle(step: Step, e: Engine) -> Any:
    """Cycles of the array and its memory for a unit under its mapping."""
    assert step.mapping is not None
    cycles, _ = layer_cycle(*loops_of(step), e, int(step.mapping.keeps_input), int(step.mapping.keeps_output))
    return cycles


def loops_of(step: Step) -> tuple[Rows, Channels, Channels, Stay, Shape]:
    """How a unit of the array is cut: what the formulas of :mod:`.tiles` take."""
    mapping = step.mapping
    assert mapping is not None
    nest, number = mapping.nest, step.number
    outputs, inputs, groups = (step.scaled(float(getattr(nest, loop)), loop) for loop in "KCG")
    shape = Shape(
        width=number(float(nest.OX)),
        in_width=number(float(nest.IX)),
        taps=number(float(nest.taps)),
        groups=groups,
        channels=number(outputs),
        in_channels=number(inputs),
        inputs=nest.B * nest.IY * nest.IX * inputs,
        outputs=nest.B * nest.OY * nest.OX * outputs,
        grouped=int(mapping.grouped),
    )
    stay = Stay(*(float(loop == mapping.inner or OPERAND_OF[loop] in mapping.held) for loop in LOOPS))
    k = _loop(groups if mapping.grouped else outputs, mapping.k, number)
    return _rows(nest, mapping.y, number), k, _loop(inputs, mapping.c, number), stay, shape


def _rows(nest: Nest, size: int, number: Callable[[Any], Any]) -> Rows:
    """The ``y`` loop with tiles of ``size`` rows. Counts that nobody has set stay numbers: a count of 0 is skipped."""
    cuts = row_cuts(nest)
    found = np.flatnonzero(cuts.size == size)
    if not len(found):
        raise InvalidInputError(f"a tile has {', '.join(f'{s:g}' for s in cuts.size)} output rows, but got {size}")
    count, extent, seen = (values[found[0]].tolist() for values in (cuts.count, cuts.extent, cuts.seen))
    return Rows(float(cuts.tiles[found[0]]), count, [number(rows) for rows in extent], [number(rows) for rows in seen])


def _loop(extent: Any, size: int, number: Callable[[Any], Any]) -> Channels:
    """The ``k`` or ``c`` loop over an axis of ``extent`` with tiles of ``size``: the first, those between, the last."""
    size = minimum(float(size), extent)
    tiles = ceil(extent / size)
    last = number(extent - (tiles - 1) * size)
    return Channels(tiles, (1.0, maximum(tiles - 2, 0), (tiles > 1) * 1.0), (number(size), number(size), last))
