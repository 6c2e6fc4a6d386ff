"""Units of work: what a spatial array with a vector unit runs one after the other, found from a workload.

An operator that does MACs runs on the array, every other on the vector unit. A unary pointwise operator right behind
either is its epilogue: it works on the results as they leave and moves nothing. How many operations the vector unit
does is counted from the definitions of the operators, in ``data/vector_ops.json``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import MAC_OPS, Layer, Workload

_DATA = Path(__file__).parent / "data" / "vector_ops.json"
#: Operators whose weights absorb the scale and the shift of a batch normalisation.
_ABSORBING = MAC_OPS - {"matmul"}


@dataclass(frozen=True)
class Unit:
    """One operator of the array or of the vector unit, and the pointwise operators behind it.

    An operation is one lane of the vector unit busy for one cycle. Elements are those of a single pass.

    Attributes:
        layer: the operator.
        array: it does MACs and runs on the array; else it runs on the vector unit.
        vector_ops: operations on the vector unit: the operator's own, where it runs there; for ``conv_transpose2d`` the
            addition of overlapping products, one for each; and those of the epilogue.
        input_elements: of the vector unit, what it loads: for each edge what its producer made, as far as the operator
            sees of it, and the network's input where there is no edge; a lane sees every element once, whatever
            number of windows it is in. Scalars and constants, which are no part of a workload, are not counted. Of
            the array: the elements of the I operand.
        output_elements: results that are stored.
        fused: names of the operators in the epilogue, in order.
        from_previous: the operator reads one tensor, and this is all that the unit before it made. Never for
            ``matmul``, which reads two.
        to_next: the next unit has ``from_previous``, and no other operator reads the result.
    """

    layer: Layer
    array: bool
    vector_ops: int
    input_elements: int
    output_elements: int
    fused: tuple[str, ...] = ()
    from_previous: bool = False
    to_next: bool = False


@dataclass(frozen=True)
class _Rule:
    """How one operator is counted: a row of the data file, which says what the fields mean."""

    kind: str
    ops: int
    once: int = 0


@cache
def _rules() -> dict[str, _Rule]:
    rows = json.loads(_DATA.read_text(encoding="utf-8"))["operators"]
    return {op: _Rule(row["kind"], row["ops"], row.get("once", 0)) for op, row in rows.items()}


@dataclass
class _Graph:
    """The edges of a workload from both ends; an edge that occurs twice counts twice."""

    layers: dict[str, Layer]
    sources: dict[str, list[str]]
    readers: dict[str, list[str]]


@dataclass
class _Draft:
    """A unit while its epilogue grows: the operator, the epilogue, and the operations so far."""

    layer: Layer
    ops: int
    fused: list[str] = field(default_factory=list)
    absorbing: bool = False

    @property
    def last(self) -> str:
        """The operator whose result is the unit's."""
        return self.fused[-1] if self.fused else self.layer.name


def _graph(workload: Workload) -> _Graph:
    layers = {layer.name: layer for layer in workload.layers}
    graph = _Graph(layers, {name: [] for name in layers}, {name: [] for name in layers})
    for producer, consumer in workload.edges:
        graph.sources[consumer].append(producer)
        graph.readers[producer].append(consumer)
    return graph


def _vector_ops(layer: Layer, rule: _Rule) -> int:
    """Operations of an operator on the vector unit."""
    results = layer.outputs
    if rule.kind == "windows":
        terms = results * layer.FY * layer.FX
    else:
        terms = layer.inputs if rule.kind == "reductions" else results
    return rule.ops * terms + rule.once * results


def _loaded(layer: Layer, rule: _Rule, graph: _Graph) -> int:
    """Elements that an operator of the vector unit loads."""
    if layer.op == "embedding":
        return layer.inputs + layer.outputs  # indices, and a row of the table for each
    if rule.kind == "moving":
        return layer.inputs  # as many as it stores, also those of the network's input that no edge names
    whole = 2 * layer.inputs if layer.op == "glu" else layer.inputs  # glu halves what it reads
    # an operand can be smaller (broadcast) than the loops say, or a part of what its producer made
    return sum(min(graph.layers[name].outputs, whole) for name in graph.sources[layer.name]) or whole


def _drafts(workload: Workload, graph: _Graph, rules: Mapping[str, _Rule]) -> tuple[list[_Draft], Counter[str]]:
    """Units in execution order, each with its epilogue, and the operators without a rule."""
    drafts: list[_Draft] = []
    ends: dict[str, _Draft] = {}
    left: Counter[str] = Counter(workload.uncosted)
    for layer in workload.layers:
        sources = graph.sources[layer.name]
        before = ends.get(sources[0]) if len(sources) == 1 and len(graph.readers[sources[0]]) == 1 else None
        rule = rules.get(layer.op)
        if layer.op in MAC_OPS:
            adds = layer.macs // layer.C if layer.op == "conv_transpose2d" else 0  # one for each product of m x n
            draft = _Draft(layer, adds, absorbing=layer.op in _ABSORBING)
            drafts.append(draft)
        elif rule is None:
            left[layer.op] += 1
            continue
        elif before is not None and rule.kind == "unary" and before.layer.outputs == layer.outputs:
            draft = before
            draft.absorbing = draft.absorbing and layer.op == "batch_norm"
            draft.ops += 0 if draft.absorbing else _vector_ops(layer, rule)
            draft.fused.append(layer.name)
        else:
            draft = _Draft(layer, _vector_ops(layer, rule))
            drafts.append(draft)
        ends[layer.name] = draft
    return drafts, left


def units_of(workload: Workload) -> tuple[tuple[Unit, ...], dict[str, int]]:
    """The units of ``workload`` in execution order, and the operators (with their number) that have no formula.

    An operator is fused into the unit before it if it is unary and pointwise, reads that unit's result and nothing
    else, reads all of it, and is its only reader. Batch normalisation right behind a convolution or a linear layer is
    folded into the weights and costs nothing; elsewhere it is a unary operator like others.

    Raises:
        InvalidInputError: nothing in the workload runs on the array or on the vector unit.
    """
    graph, rules = _graph(workload), _rules()
    drafts, left = _drafts(workload, graph, rules)
    if not drafts:
        raise InvalidInputError(
            f"a workload has at least one operator with a formula, but {workload.name!r} has none"
            + (f"; without one are {', '.join(left)}" if left else "")
        )
    units: list[Unit] = []
    before: _Draft | None = None
    for draft in drafts:
        layer = draft.layer
        array = layer.op in MAC_OPS
        unit = Unit(
            layer=layer,
            array=array,
            vector_ops=draft.ops,
            input_elements=layer.inputs if array else _loaded(layer, rules[layer.op], graph),
            output_elements=layer.outputs,
            fused=tuple(draft.fused),
        )
        alone = before is not None and graph.sources[layer.name] == [before.last] and layer.op != "matmul"
        if before is not None and alone and unit.input_elements == before.layer.outputs:
            unit = replace(unit, from_previous=True)
            units[-1] = replace(units[-1], to_next=len(graph.readers[before.last]) == 1)
        units.append(unit)
        before = draft
    return tuple(units), dict(left)
