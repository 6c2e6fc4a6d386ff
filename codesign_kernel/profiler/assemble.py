"""From a trace to a workload: which operator feeds which, what each layer is called, and who owns each parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from codesign_kernel.profiler.events import Event, TensorRef, Trace
from codesign_kernel.profiler.formulas import Operands, Step
from codesign_kernel.profiler.lifetime import Activation, activations
from codesign_kernel.profiler.result import Operator
from codesign_kernel.profiler.table import FACTORIES, FORMULAS, FREE, GEMM
from codesign_kernel.workload import Layer, Workload


@dataclass(frozen=True)
class _Contents:
    """What a storage holds: the layers that produced it (below zero, network inputs: -1 for the first), the parameters
    it was made from, whether the input flows into it, the shape it was made with, and whether its channels are in the
    second axis."""

    producers: frozenset[int] = frozenset()
    parameters: frozenset[int] = frozenset()
    live: bool = False
    shape: tuple[int, ...] = ()
    planar: bool = False


@dataclass(frozen=True)
class _Row:
    event: Event
    step: Step
    sources: frozenset[int]
    parameters: frozenset[int]
    input_bytes: int
    output_bytes: int
    fixed_bytes: int


@dataclass(frozen=True)
class Assembled:
    """What a trace amounts to.

    Attributes:
        workload: its layers and edges. operators: in the same order, what each layer stores and moves.
        activations: the tensors between them, and when each is alive (``lifetime.activations``).
        events: for each layer the position of its operator in the trace.
    """

    workload: Workload
    operators: tuple[Operator, ...]
    activations: tuple[Activation, ...]
    events: tuple[int, ...]


def assemble(trace: Trace, name: str) -> Assembled:
    """The workload of a trace, and what each of its layers stores and moves.

    An operator on values that do not depend on the network's input can be computed ahead of time: it is no layer (but
    GEMMs always are), and the parameters in it belong to the layer that uses its result. A parameter that several
    layers use is counted with the first.
    """
    book = _Book(trace)
    for event in trace.events:
        book.enter(event)
    names = _names([row.event for row in book.rows], [row.step.op for row in book.rows])
    layers = tuple(Layer(name=n, op=row.step.op, **row.step.loops) for n, row in zip(names, book.rows, strict=True))
    edges = tuple((names[a], n) for n, row in zip(names, book.rows, strict=True) for a in sorted(row.sources) if a >= 0)
    claimed: set[int] = set()
    operators = []
    for layer, row in zip(layers, book.rows, strict=True):
        own = [trace.parameters[i] for i in sorted(row.parameters - claimed)]
        claimed |= row.parameters
        operators.append(
            Operator(
                layer=layer,
                parameters=sum(p.size for p in own),
                parameter_bytes=sum(p.bytes for p in own),
                input_bytes=row.input_bytes,
                output_bytes=row.output_bytes,
                fixed_bytes=row.fixed_bytes,
            )
        )
    kept = frozenset().union(*(book.holds(ref) for ref in trace.outputs))
    sizes = [ref.bytes for ref in trace.inputs]
    alive = activations(sizes, [o.output_bytes for o in operators], [row.sources for row in book.rows], kept)
    place = {id(event): i for i, event in enumerate(trace.events)}
    events = tuple(place[id(row.event)] for row in book.rows)
    return Assembled(Workload(name, layers, edges, dict(book.uncosted)), tuple(operators), alive, events)


class _Book:
    """Follows the contents of every storage through the events."""

    def __init__(self, trace: Trace) -> None:
        self.rows: list[_Row] = []
        self.uncosted: Counter[str] = Counter()
        self.contents: dict[int, _Contents] = {}
        for number, parameter in enumerate(trace.parameters):
            known = self.contents.get(parameter.storage, _Contents()).parameters
            self.contents[parameter.storage] = _Contents(parameters=known | {number})
        for number, ref in enumerate(trace.inputs):
            self.contents[ref.storage] = _Contents(frozenset({-1 - number}), live=True, shape=ref.shape)

    def holds(self, ref: TensorRef) -> frozenset[int]:
        """The layers and network inputs that a tensor came from."""
        return self._of(ref).producers

    def enter(self, event: Event) -> None:
        """Book one operator: as layers, as free, or as uncosted."""
        reads = event.reads
        operands = {ref.storage for ref in reads}
        if not event.written and all(out.storage in operands for out in event.outputs):
            return  # a view: the storage keeps its producer
        if event.op in FACTORIES:
            self._store(event, _Contents())
            return
        live = any(self._of(ref).live for ref in reads)
        empty = any(ref.size == 0 for ref in (*event.outputs, *event.written))
        if event.op in FORMULAS and not empty and (live or event.op in GEMM):
            ends = frozenset(self._layers(event))
            planar = any(self.rows[end].step.planar for end in ends)
            self._store(event, _Contents(ends, live=True, planar=planar))
            return
        if live and not empty and event.op not in FORMULAS and event.op not in FREE:
            self.uncosted[event.op] += 1
        if event.op == "copy" and all(ref.whole for ref in event.written):
            reads = reads[1:]  # the old contents are overwritten
        self._store(event, self._union(reads))

    def _layers(self, event: Event) -> Iterable[int]:
        """Append the layers of an event; returns the numbers of those that hold its result."""
        call = Operands(
            event,
            fixed=lambda ref: not self._of(ref).live,
            origin=lambda ref: self._of(ref).shape,
            planar=lambda ref: self._of(ref).planar and self._of(ref).shape == ref.shape,
        )
        steps = FORMULAS[event.op](call)
        first = len(self.rows)
        inner: set[int] = set()
        for step in steps:
            reads = event.reads if step.reads is None else step.reads
            tensors = [ref for ref in reads if isinstance(ref, TensorRef)]
            earlier = {first + index for index in reads if isinstance(index, int)}
            inner |= earlier
            union = self._union(tensors)
            moved = sum(ref.bytes for ref in tensors if self._of(ref).live)
            moved += sum(self.rows[index].output_bytes for index in earlier)
            made = sum(ref.bytes for ref in (event.outputs or event.written))
            self.rows.append(
                _Row(
                    event=event,
                    step=step,
                    sources=union.producers | earlier,
                    parameters=union.parameters,
                    input_bytes=moved if step.input_bytes is None else step.input_bytes,
                    output_bytes=made if step.output_bytes is None else step.output_bytes,
                    fixed_bytes=sum(ref.bytes for ref in tensors if not self._of(ref).live),
                )
            )
        return set(range(first, len(self.rows))) - inner

    def _of(self, ref: TensorRef) -> _Contents:
        return self.contents.get(ref.storage, _Contents())

    def _union(self, refs: Iterable[TensorRef]) -> _Contents:
        found = [self._of(ref) for ref in refs]
        return _Contents(
            producers=frozenset().union(*(c.producers for c in found)),
            parameters=frozenset().union(*(c.parameters for c in found if not c.live)),
            live=any(c.live for c in found),
        )

    def _store(self, event: Event, new: _Contents) -> None:
        """Put what an event made into its outputs, and into what it changed in place.

        A part of a storage that changes adds its producer to those of the rest.
        """
        for ref in event.written:
            old = self._of(ref)
            if ref.whole:
                self.contents[ref.storage] = replace(new, shape=old.shape or ref.shape)
            else:
                self.contents[ref.storage] = replace(
                    old,
                    producers=old.producers | new.producers,
                    parameters=old.parameters | new.parameters,
                    live=old.live or new.live,
                )
        known = {ref.storage for ref in (*event.reads, *event.written)}
        for ref in event.outputs:
            if ref.storage not in known:
                self.contents[ref.storage] = replace(new, shape=ref.shape)


def _names(events: list[Event], ops: list[str]) -> list[str]:
    """A unique name for each layer: the module's path if it is a leaf whose call did just this, else path.op."""
    alone = Counter(event.call for event in events)
    used: Counter[str] = Counter()
    taken: set[str] = set()
    names = []
    for event, op in zip(events, ops, strict=True):
        if event.path and event.leaf and alone[event.call] == 1:
            base = event.path
        else:
            base = f"{event.path}.{op}" if event.path else op
        name = base
        while name in taken or not used[base]:
            used[base] += 1
            name = base if used[base] == 1 else f"{base}#{used[base]}"
        taken.add(name)
        names.append(name)
    return names
