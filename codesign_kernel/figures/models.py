"""A profiled model as people look at it: its layers and modules, its graph, and what memory it needs when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.layered import Placed, place
from codesign_kernel.figures.words import percent
from codesign_kernel.profiler.lifetime import Activation, live_bytes
from codesign_kernel.units import quantity, three_digits

_CONVOLUTIONS = ("conv2d", "conv_transpose2d")


class Measure(NamedTuple):
    """What can be looked at: a field of :class:`Sums`, what people call it, also in the head of a narrow column, its
    unit, and a sentence about it."""

    label: str
    head: str
    unit: str
    help: str


MEASURES: Mapping[str, Measure] = {
    "macs": Measure("MACs", "MACs", "MAC", "Multiply-accumulates of one forward pass."),
    "bytes": Measure(
        "Bytes moved", "Bytes", "B", "What is read and written, each operand once: activations and parameters."
    ),
    "intensity": Measure(
        "Intensity", "MAC/B", "MAC/B", "MACs per byte moved; the roofline says how many a machine needs."
    ),
    "parameters": Measure(
        "Parameters", "Params", "", "Weights and biases; those that layers share stand with the first."
    ),
    "memory": Measure(
        "Memory", "Memory", "B", "Activations alive while it runs: its own, and those that later layers read."
    ),
}


class Profiled(Protocol):
    """A profile, as far as it is looked at: :class:`codesign_kernel.Profile`."""

    name: str
    workload: Any
    operators: Sequence[Any]
    parameters: int
    parameter_bytes: int
    peak_activation_bytes: int
    activations: Sequence[Activation]


class Sums(NamedTuple):
    """MACs; bytes read and written, each operand of each layer once; parameters; and the most memory (byte) that
    activations need while one of the layers runs, None where the profile does not say."""

    macs: int
    bytes: int
    parameters: int
    memory: int | None

    @property
    def intensity(self) -> float:
        """MAC per byte."""
        return self.macs / self.bytes if self.bytes else 0.0

    def value(self, measure: str) -> float | None:
        """One of MEASURES."""
        value: float | None = getattr(self, measure)
        return value

    def text(self, measure: str) -> str:
        """One of MEASURES, as an engineer writes it."""
        value = self.value(measure)
        if value is None:
            return ""
        if measure == "intensity":
            return f"{three_digits(value)} MAC/B"  # 0.77, and no thousandth parts of a MAC
        return quantity(value, MEASURES[measure].unit).strip()


class LayerRow(NamedTuple):
    """A layer: its name, operator, loops in words, the module it is in (a position in ``modules``) and its sums."""

    name: str
    op: str
    shape: str
    module: int
    sums: Sums


class ModuleRow(NamedTuple):
    """A module: its path ("" of the model), the module it is in (-1 for the model), all layers inside, their sums."""

    path: str
    parent: int
    layers: tuple[int, ...]
    sums: Sums


class Node(NamedTuple):
    """A node of a graph: a layer, or layers of one module that follow one another."""

    name: str
    op: str
    layers: tuple[int, ...]
    sums: Sums


class Level(NamedTuple):
    """The graph, with modules below a depth drawn as one node. edges: positions of (producer, consumer)."""

    label: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    placed: Placed


class ModelInfo(NamedTuple):
    """layers: in the order of execution. modules: the model first, each before those inside. levels: graphs, that of
    all layers first. activations, memory: tensors and bytes alive during each layer; empty where the profile does not
    say. peak: the layer with the most, or None. unused: parameters that no operator used, in the model's sum only."""

    name: str
    layers: tuple[LayerRow, ...]
    modules: tuple[ModuleRow, ...]
    levels: tuple[Level, ...]
    activations: tuple[Activation, ...]
    memory: tuple[int, ...]
    peak: int | None
    parameter_bytes: int
    unused: int
    uncosted: Mapping[str, int]

    @property
    def total(self) -> Sums:
        """The sums of the model."""
        return self.modules[0].sums

    def alive(self, layer: int) -> list[Activation]:
        """Tensors alive during a layer, the largest first."""
        here = [one for one in self.activations if one.first <= layer <= one.last]
        return sorted(here, key=lambda one: -one.bytes)

    def tensor_name(self, producer: int) -> str:
        """``output of conv1``, ``network input 2``."""
        return f"output of {self.layers[producer].name}" if producer >= 0 else f"network input {-producer}"


def model_info(profile: Profiled) -> ModelInfo:
    """What there is to see of a profile; sums of modules add up to the model's.

    Raises:
        InvalidInputError: it is no profile, or has no layer.
    """
    missing = [name for name in ("workload", "operators", "parameters") if not hasattr(profile, name)]
    if missing:
        raise InvalidInputError(
            f"what is shown is a profile, as ck.profile makes it, but {type(profile).__name__} has no {missing[0]}"
        )
    if not profile.operators:
        raise InvalidInputError(f"a model is shown by its layers, but {profile.name!r} has none")
    alive = tuple(getattr(profile, "activations", ()))
    memory = live_bytes(alive, len(profile.operators)) if alive else ()
    own = [
        Sums(o.layer.macs, o.input_bytes + o.output_bytes + o.fixed_bytes, o.parameters, memory[i] if memory else None)
        for i, o in enumerate(profile.operators)
    ]
    names = [o.layer.name for o in profile.operators]
    modules, inside = _modules(names, own, profile.parameters)
    layers = tuple(
        LayerRow(o.layer.name, o.layer.op, shape_words(o.layer), inside[i], own[i])
        for i, o in enumerate(profile.operators)
    )
    place_of = {name: i for i, name in enumerate(names)}
    edges = [(place_of[a], place_of[b]) for a, b in profile.workload.edges]
    return ModelInfo(
        name=profile.name,
        layers=layers,
        modules=modules,
        levels=_levels(layers, edges),
        activations=alive,
        memory=memory,
        peak=memory.index(max(memory)) if memory else None,
        parameter_bytes=profile.parameter_bytes,
        unused=profile.parameters - sum(one.parameters for one in own),
        uncosted=dict(profile.workload.uncosted),
    )


def finding(info: ModelInfo) -> str:
    """Where the work is, in a sentence without its full stop."""
    total = info.total
    if total.macs:
        name, macs = _heaviest(info)
        most = f"{name} does {percent(macs / total.macs)} of the MACs"
    else:
        most = f"{info.name} does no MACs"
    if info.peak is None:
        return most
    return f"Memory peaks at {quantity(info.memory[info.peak], 'B')} during {info.layers[info.peak].name}; {most}"


def _heaviest(info: ModelInfo) -> tuple[str, int]:
    """The part with the most MACs, and these; a module that has nearly all of its parent's says nothing: inside it."""
    module = 0
    while True:
        parts = [(row.sums.macs, row.path, n) for n, row in enumerate(info.modules) if row.parent == module]
        parts += [(row.sums.macs, row.name, -1) for row in info.layers if row.module == module]
        macs, name, inner = max(parts, key=lambda part: part[0])
        if inner < 0 or macs < 0.95 * info.modules[module].sums.macs:
            return name, macs
        module = inner


def shape_words(layer: Any) -> str:
    """The loops of a layer as people write them: ``64 → 128, 3 × 3 / 2, 28 × 28``."""
    batch = f"{layer.B} × " if layer.B > 1 else ""
    if layer.op in _CONVOLUTIONS:
        stride = "" if layer.stride == (1, 1) else f" / {'×'.join(map(str, dict.fromkeys(layer.stride)))}"
        groups = f" in {layer.G} groups" if layer.G > 1 else ""
        channels = f"{layer.G * layer.C} → {layer.G * layer.K}{groups}"
        return f"{channels}, {layer.FY} × {layer.FX}{stride}, {batch}{layer.OY} × {layer.OX}"
    rows = layer.OY * layer.OX
    if layer.op == "linear":
        return f"{layer.C} → {layer.K}" + (f", {layer.B * rows:,} rows" if layer.B * rows > 1 else "")
    if layer.op == "matmul":
        times = f", {layer.B * layer.G} times" if layer.B * layer.G > 1 else ""
        return f"{rows} × {layer.C} by {layer.C} × {layer.K}{times}"
    window = f", {layer.FY} × {layer.FX} window" if layer.FY * layer.FX > 1 else ""
    return f"{batch}{layer.G * layer.K} × {layer.OY} × {layer.OX}{window}"


def together(parts: Sequence[Sums]) -> Sums:
    """The sums of several layers: one at least, and the most memory of any."""
    memory = [one.memory for one in parts if one.memory is not None]
    macs, moved, parameters = (sum(column) for column in zip(*(one[:3] for one in parts), strict=True))
    return Sums(macs, moved, parameters, max(memory, default=None))


def _modules(
    names: Sequence[str], own: Sequence[Sums], parameters: int
) -> tuple[tuple[ModuleRow, ...], tuple[int, ...]]:
    """Every module above a layer, in the order in which they run, and the module of each layer."""
    paths: dict[str, list[int]] = {"": []}
    inside = []
    for i, name in enumerate(names):
        pieces = name.split(".")[:-1]
        above = ["", *(".".join(pieces[: n + 1]) for n in range(len(pieces)))]
        for path in above:
            paths.setdefault(path, []).append(i)
        inside.append(above[-1])
    position = {path: n for n, path in enumerate(paths)}
    rows = []
    for path, layers in paths.items():
        parent = position[path.rpartition(".")[0]] if path else -1
        rows.append(ModuleRow(path, parent, tuple(layers), together([own[i] for i in layers])))
    rows[0] = rows[0]._replace(sums=rows[0].sums._replace(parameters=parameters))
    return tuple(rows), tuple(position[path] for path in inside)


def _levels(layers: Sequence[LayerRow], edges: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """All layers, and from the deepest modules to those of the first depth, each with clearly fewer nodes than
    the last."""
    own = [row.sums for row in layers]
    every = tuple(Node(row.name, row.op, (i,), row.sums) for i, row in enumerate(layers))
    levels = [Level(f"all {len(every):,} layers", every, tuple(edges), place(len(every), edges))]
    depth = max(row.name.count(".") for row in layers)
    for kept in range(depth, 0, -1):
        keys = [".".join(row.name.split(".")[:kept]) if row.name.count(".") >= kept else None for row in layers]
        starts = [i for i, key in enumerate(keys) if i == 0 or key is None or key != keys[i - 1]]
        if len(starts) > 0.8 * len(levels[-1].nodes):
            continue
        runs = [tuple(range(a, b)) for a, b in pairwise([*starts, len(layers)])]
        nodes = tuple(
            every[run[0]]
            if len(run) == 1
            else Node(str(keys[run[0]]), f"{len(run)} layers", run, together([own[i] for i in run]))
            for run in runs
        )
        at = {layer: n for n, run in enumerate(runs) for layer in run}
        joined = tuple(dict.fromkeys((at[a], at[b]) for a, b in edges if at[a] != at[b]))
        sample = max(nodes, key=lambda node: len(node.layers)).name
        levels.append(Level(f"{len(nodes):,} parts ({sample})", nodes, joined, place(len(nodes), joined)))
    return tuple(levels)
