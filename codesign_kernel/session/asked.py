"""What a call asks of a scope: models, templates and sizes, read from its arguments or from its result.

Each check takes the scope and the arguments by name. What is no such argument at all is left alone: the function itself
refuses it, in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.design import DesignSpace, SpatialSpace
from codesign_kernel.errors import ScopeError
from codesign_kernel.scopes import Scope
from codesign_kernel.workload import Workload

Given = Mapping[str, Any]
Check = TypeVar("Check", bound=Callable[..., None])
#: {check: what it looks at}: limits, ``models`` and ``templates``.
LOOKS_AT: dict[Any, tuple[str, ...]] = {}
#: Step of a workflow -> the capability that it needs.
STEPS = {
    "profile": "profile", "train": "optimize", "optimise": "optimize", "explore": "explore", "co_optimize": "optimize",
    "choose": "explore", "generate": "generate", "cosimulate": "cosimulate",
}  # fmt: skip


def _looks_at(*names: str) -> Callable[[Check], Check]:
    def decorate(check: Check) -> Check:
        LOOKS_AT[check] = names
        return check

    return decorate


def families() -> tuple[str, ...]:
    """The words by which a scope names templates that are no machine of the catalogue: ``generator`` (an Accelerator,
    which ``generate_rtl`` builds) and ``spatial`` (a SpatialArray), each with all dataflows or with one."""
    from codesign_kernel.accelerator import spatial, types

    told = {"generator": types.DATAFLOWS, "spatial": spatial.DATAFLOWS}
    return tuple(word for family, flows in told.items() for word in (family, *(f"{family}:{flow}" for flow in flows)))


def words_of(machine: Any) -> tuple[str, ...]:
    """The templates that a machine is of, the most general last: its name where it is that machine of the catalogue
    (a name alone is anybody's to give), its family with its dataflow, its family."""
    from codesign_kernel.accelerator import catalog
    from codesign_kernel.accelerator.catalog import names

    if not isinstance(machine, Accelerator | SpatialArray):
        return ()
    family = "generator" if isinstance(machine, Accelerator) else "spatial"
    known = machine.name in names() and catalog(machine.name) == machine
    return (*([machine.name] if known else []), f"{family}:{machine.dataflow}", family)


def name_of(model: Any) -> str | None:
    """What the project itself calls a model: a name of the zoo, or ``digits cnn`` for a network of a task; None for
    one of somebody's own."""
    from codesign_kernel.optimize.networks import NETWORKS
    from codesign_kernel.profiler import zoo

    if isinstance(model, str) and not Path(model).suffix and "/" not in model:
        return model
    for name, task in NETWORKS.items():
        if type(model) is task.model:
            return name if name == task.data else f"{task.data} {name}"
    return zoo.name_of(model)


@_looks_at("models")
def model(scope: Scope, given: Given) -> None:
    """A model of the scope; one's own needs the capability to bring it."""
    _model(scope, name_of(given["model"]))


def _model(scope: Scope, name: str | None) -> None:
    if name is None:
        scope.require("upload")
    else:
        scope.allows_model(name)


def _templates(scope: Scope, words: tuple[str, ...]) -> None:
    if words and not set(words) & set(scope.templates):
        scope.allows_template(words[0])


@_looks_at("templates")
def template(scope: Scope, given: Given) -> None:
    """The template of one machine."""
    _templates(scope, words_of(getattr(given["design"], "accelerator", given["design"])))


@_looks_at("templates")
def space(scope: Scope, given: Given) -> None:
    """The templates of a space: its family, with each of its dataflows."""
    found = given["space"]
    if isinstance(found, DesignSpace):
        spatial = isinstance(found, SpatialSpace)
        family, kind = ("spatial", SpatialArray) if spatial else ("generator", Accelerator)
        for flow in found.choices.get("dataflow", (kind.dataflow,)):
            _templates(scope, (f"{family}:{flow}", family))


def _workload(given: Any) -> Iterator[Workload]:
    found = getattr(given, "workload", given)
    if isinstance(found, Workload):
        yield found


@_looks_at("macs")
def macs(scope: Scope, given: Given) -> None:
    """Of the workload."""
    for work in _workload(given["workload"]):
        scope.within("macs", work.macs)


@_looks_at("macs")
def macs_of_network(scope: Scope, given: Given) -> None:
    """Of a quantised network, where there is one."""
    for work in _workload(given["network"]):
        scope.within("macs", work.macs)


@_looks_at("macs")
def macs_of_profile(scope: Scope, given: Given, profile: Any) -> None:
    """Of what was counted, which is known behind it only: counting computes nothing on the meta device."""
    scope.within("macs", profile.macs)


@_looks_at("macs")
def macs_of_model(scope: Scope, given: Given) -> None:
    """Of a model that is going to be trained or quantised: one forward pass is little beside that."""
    from codesign_kernel.optimize.channels import example_of
    from codesign_kernel.optimize.dataset import Dataset
    from codesign_kernel.profiler import profile

    names = ("example", "example_inputs", "calibration", "calibration_inputs", "data")
    found = next((given[name] for name in names if name in given), None)
    inputs: Any = found.calibration_x if isinstance(found, Dataset) else found
    if hasattr(given["model"], "named_modules") and np.ndim(inputs) == 4:
        scope.within("macs", profile(given["model"], example_of(inputs)[:1]).macs)


@_looks_at("designs")
def designs(scope: Scope, given: Given) -> None:
    """Those that will be evaluated: all of the space, or as many as are asked for."""
    if not isinstance(given["space"], DesignSpace):
        return
    size = given["space"].size
    if given.get("indices") is not None:
        size = len(given["indices"]) if hasattr(given["indices"], "__len__") else 1
    if _whole(given.get("budget")):
        size = min(size, given["budget"])
    elif given.get("sampler", "exact") not in ("exact", "auto"):
        from codesign_kernel.explore.explore import BUDGET

        size = min(size, BUDGET)
    scope.within("designs", size)


@_looks_at("designs")
def pairs(scope: Scope, given: Given) -> None:
    """Every machine of the space is evaluated for every network of the budget."""
    if isinstance(given["space"], DesignSpace) and _whole(given["budget"]):
        networks = given["networks"]
        count = min(given["budget"], networks.size) if hasattr(networks, "size") else given["budget"]
        scope.within("designs", given["space"].size * count)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@_looks_at("workers")
def workers(scope: Scope, given: Given) -> None:
    """Of an executor: as many as it may come to have; none where the work is done here."""
    from codesign_kernel.explore.work import Serial

    executor = given["executor"]
    if executor is not None and not isinstance(executor, Serial):
        scope.within("workers", getattr(executor, "most", 1))


@_looks_at("simulated_cycles")
def simulated_cycles(scope: Scope, given: Given) -> None:
    """Those of all runs, as the cost model predicts them; the RTL takes exactly so many."""
    from codesign_kernel.optimize.integer import IntegerNetwork

    network = given["network"]
    if isinstance(network, IntegerNetwork):
        count = len(network.as_quantized(given["inputs"]))
        scope.within("simulated_cycles", predicted_cycles(network, given["design"], count, given.get("batch", 1)))


def predicted_cycles(network: Any, design: Any, inputs: int, batch: int = 1) -> int:
    """Cycles of a co-simulation: of as many runs as the inputs take, and of the boot before the first."""
    from codesign_kernel.cost import evaluate

    cost = evaluate(network.workload.with_batch(batch) if batch != 1 else network, design)
    return cost.latency_cycle * -(-inputs // batch) + cost.boot_cycle


@_looks_at("simulated_cycles")
def traced_cycles(scope: Scope, given: Given) -> None:
    """Of a product on the array alone."""
    from codesign_kernel.cosim.array_bench import tiles_of

    shapes = [np.shape(given[name]) for name in ("a", "b")]
    sides = [given["rows"], given["cols"]]
    if all(len(shape) == 2 and min(shape) for shape in shapes) and all(map(_whole, sides)):
        (m, k), (_, n) = shapes
        words, width = (n, m) if given["dataflow"] == "is" else (m, n)
        dataflow = "os" if given["dataflow"] == "os" else "ws"
        scope.within("simulated_cycles", tiles_of(dataflow, words, k, width, *sides).cycles)


@_looks_at("artefact_bytes")
def rtl_bytes(scope: Scope, given: Given, bundle: Any) -> None:
    """All sources, and the test bench."""
    scope.within("artefact_bytes", bytes_of(bundle.texts))


@_looks_at("artefact_bytes")
def synthesis_bytes(scope: Scope, given: Given, made: Any) -> None:
    """The netlist, the counts and the log."""
    scope.within("artefact_bytes", bytes_of(made.files))


def bytes_of(texts: Mapping[str, str]) -> int:
    """Bytes of texts, as files would have them."""
    return sum(len(text.encode()) for text in texts.values())


@_looks_at("artefact_bytes")
def recording_bytes(scope: Scope, given: Given, recording: Any) -> None:
    """The window that a recording holds."""
    scope.within("artefact_bytes", recording.window(0, 0).size_bytes)


@_looks_at("artefact_bytes")
def trace_bytes(scope: Scope, given: Given, trace: Any) -> None:
    """All arrays of a trace."""
    scope.within("artefact_bytes", sum(getattr(value, "nbytes", 0) for value in vars(trace).values()))


@_looks_at("artefact_bytes")
def waves_bytes(scope: Scope, given: Given, report: Any) -> None:
    """The waveform of a co-simulation; a file that is too large goes."""
    if given["vcd"] is not None:
        path = Path(given["vcd"])
        try:
            scope.within("artefact_bytes", path.stat().st_size)
        except ScopeError:
            path.unlink()
            raise


@_looks_at("artefact_bytes")
def file_bytes(scope: Scope, given: Given) -> None:
    """A file that is read whole."""
    if isinstance(given["path"], str | Path) and Path(given["path"]).is_file():
        scope.within("artefact_bytes", Path(given["path"]).stat().st_size)


@_looks_at("models")
def workflow(scope: Scope, given: Given) -> None:
    """The capability of each step, and the network; the steps keep the limits themselves."""
    from codesign_kernel.session.workflow.settings import read_workflow

    checked = read_workflow(given["workflow"])
    for step in checked.steps:
        if step in STEPS:
            scope.require(STEPS[step])
    ((kind, name), *_) = checked.network.items()
    task = name if kind == name else f"{kind} {name}"
    _model(scope, {"zoo": name, "file": None}.get(kind, task))
