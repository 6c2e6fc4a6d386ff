"""Scopes: their files, and that every public way of doing work keeps what they say."""

from __future__ import annotations

import runpy
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import MACHINES, pair

import codesign_kernel as ck
from codesign_kernel import scopes, session
from codesign_kernel.errors import InvalidInputError, ScopeError, ScopeFileError
from codesign_kernel.scopes import CAPABILITIES, LIMITS, Scope, read_scope, scope_of, toml_of
from codesign_kernel.session import asked, scoped
from codesign_kernel.session.scoped import RULES

ROOT = Path(__file__).parent.parent
#: Public names that do no work of their own: types, tables, what is looked up or chosen among finished results.
HARMLESS = {
    "Accelerator", "ArrayTrace", "Client", "CoOptimization", "CosimReport", "Cost", "Design", "DesignSpace",
    "Exploration",
    "FusionReport", "IntegerNetwork", "Layer", "MemoryLevel", "NetworkSpace", "Profile", "Recording", "RtlBundle",
    "SpatialArray", "SpatialSpace", "Store", "VerifyReport", "Waveform", "WorkflowResult", "Workload", "__version__",
    "accelerator", "compare", "figures", "knee", "operations", "pareto_front", "simulators", "zoo",
}  # fmt: skip
#: Checked where a class is made.
CLASSES = {"Cluster", "cluster"}
WORK = ck.Workload("one", (ck.Layer("a", "linear", K=4, C=8),))
SPACE = ck.DesignSpace(rows=(2, 4), cols=(2, 4))
SMALL = MACHINES["4x4"]
ONE = np.zeros((1, *pair().input_shape))
EYE = np.eye(4, dtype=int)

Scoped = Callable[..., Scope]


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scoped]:
    """Give this process a scope: all capabilities but the cluster's, and what is said."""

    def confine(**told: Any) -> Scope:
        told.setdefault("capabilities", sorted(set(CAPABILITIES) - {"cluster"}))
        path = tmp_path / "studio.toml"
        path.write_text(toml_of(scope_of("studio", told)), encoding="utf-8")
        monkeypatch.setenv(scopes.VARIABLE, str(path))
        scopes.current.cache_clear()
        found = scopes.current()
        assert found is not None
        return found

    yield confine
    scopes.current.cache_clear()


class Pool:
    """An executor of three workers, which are not asked for anything."""

    most = 3

    def run(self, function: Any, items: Any) -> Any:
        raise AssertionError("the limit is checked before the work")


def a_vcd(folder: Path) -> Path:
    path = folder / "run.vcd"
    path.write_text("$timescale 1ns $end " + "x" * 5000, encoding="utf-8")
    return path


#: {limit that the session keeps: [(its value, what is asked for, the call)]}.
REACHED: dict[str, list[tuple[int, str, Callable[[Path], object]]]] = {
    "macs": [
        (31, "32", lambda _: ck.evaluate(WORK, SMALL)),
        (31, "32", lambda _: ck.explore(WORK, SPACE)),
        (31, "32", lambda _: ck.sweep(WORK, SPACE)),
        (416_519, "416,520", lambda _: ck.profile("lenet5")),
        (419, "420", lambda _: ck.cosimulate(SMALL, pair(), ONE)),
    ],
    "designs": [
        (3, "4", lambda _: ck.sweep(WORK, SPACE)),
        (3, "4", lambda _: ck.explore(WORK, SPACE)),
        (1, "2", lambda _: ck.explore(WORK, SPACE, budget=2)),
        (2, "3", lambda _: ck.sweep(WORK, SPACE, indices=[0, 1, 3])),
    ],
    "workers": [
        (2, "3", lambda _: ck.explore(WORK, SPACE, executor=Pool())),
        (0, "3", lambda _: ck.explore(WORK, SPACE, executor=Pool())),
    ],
    "simulated_cycles": [
        (15, "16", lambda _: ck.array_trace(EYE, EYE)),
        (496, "497", lambda _: ck.cosimulate(SMALL, pair(), ONE.repeat(3, 0))),
        (194, "195", lambda _: ck.record_waves(SMALL, pair(), ONE)),
    ],
    "artefact_bytes": [
        (5000, "5,020", lambda folder: ck.read_waves(a_vcd(folder))),
        (1000, "", lambda _: ck.array_trace(EYE, EYE)),
    ],
}  # fmt: skip
EACH = [(name, *case) for name, cases in REACHED.items() for case in cases]


@pytest.mark.parametrize(("limit", "most", "told", "call"), EACH, ids=[f"{one[0]}-{at}" for at, one in enumerate(EACH)])
def test_a_limit_is_reached_and_says_so(
    within: Scoped, tmp_path: Path, limit: str, most: int, told: str, call: Callable[[Path], object]
) -> None:
    within(limits={limit: most})
    with pytest.raises(ScopeError, match=limit) as refused:
        call(tmp_path)
    unit = LIMITS[limit].unit
    assert f"limits {limit} ({LIMITS[limit].what}) to {most:,} {unit}" in str(refused.value)
    assert f"asks for {told}" in str(refused.value)


#: {limit that the operating system or the gateway keeps: (its value, what reaches it in a process of a cell)}.
MIB = 1 << 20
BURN = "while True: pass"
PAIR = f"""
import os, time
children = [os.fork() for _ in range(2)]
if 0 in children: held = bytearray(os.urandom(1)) * {48 * MIB}; time.sleep(60)
time.sleep(60)
"""
ENDED = {
    "cpu_s": (1, BURN),
    "disk_bytes": (MIB, "import time\nfor n in range(99): open(str(n), 'wb').write(bytes(99999))\nwhile True: pass"),
    "memory_bytes": (64 * MIB, PAIR),
    "processes": (
        8,
        "import threading, time\nfor _ in range(20): threading.Thread(target=time.sleep, args=[60]).start()",
    ),
    "wall_s": (1, "import time; time.sleep(60)"),
}


@pytest.fixture(scope="module")
def confinement() -> Any:
    sandbox = pytest.importorskip("codesign_kernel.server.sandbox")
    found = sandbox.probe("auto", accept_none=True)
    if found.kind == "none":
        pytest.skip("nothing here confines a process")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("limit", ENDED)
def test_a_limit_of_the_system_ends_the_process_and_says_so(confinement: Any, limit: str) -> None:
    from codesign_kernel.server.sandbox import Cell, run_confined

    most, code = ENDED[limit]
    scope = scope_of("studio", {"limits": {limit: most}})
    with tempfile.TemporaryDirectory(prefix="cells") as root:  # short: sockets lie there
        cell = Cell(scope, confinement, Path(root))
        ended = run_confined(cell, [sys.executable, "-S", "-c", code], on_line=lambda line: None)
        cell.remove()
    assert ended.status
    assert f"{limit}: the scope's limit of {most:,} {LIMITS[limit].unit} was reached" in ended.reason


def test_an_upload_above_its_limit_is_refused(within: Scoped) -> None:
    from codesign_kernel.session.catalogue import read_network

    within(limits={"upload_bytes": 9})
    with pytest.raises(ScopeError, match=r"limits upload_bytes \(one uploaded file\) to 9 byte, .* asks for 10 byte"):
        read_network("x.onnx", bytes(10))


def test_no_limit_is_without_a_test() -> None:
    """And each stands with those who keep it."""
    kept = {name: {n for n, limit in LIMITS.items() if limit.by == name} for name in ("session", "system", "gateway")}
    assert set(REACHED) == kept["session"]
    assert {*ENDED, "upload_bytes"} == kept["system"] | kept["gateway"]


def test_what_is_within_its_limits_runs(within: Scoped) -> None:
    within(limits={"macs": 32, "designs": 4, "simulated_cycles": 16})
    assert ck.evaluate(WORK, SMALL).macs == 32
    assert len(ck.sweep(WORK, SPACE)) == 4
    assert ck.array_trace(EYE, EYE).cycles == 16


@pytest.mark.parametrize(
    ("name", "capability"), [(name, one) for name, rule in RULES.items() for one in rule.capabilities]
)
def test_without_its_capability_a_function_does_nothing(within: Scoped, name: str, capability: str) -> None:
    within(capabilities=sorted(set(CAPABILITIES) - {capability, "cluster"}))
    function = getattr(ck, name) if name in ck.__all__ else getattr(session, name)
    with pytest.raises(ScopeError, match=rf"'studio' does not allow to .*capability '{capability}'"):
        function()  # before its arguments are looked at


def test_a_cluster_needs_its_capability_and_keeps_to_its_workers(within: Scoped) -> None:
    within()
    with pytest.raises(ScopeError, match="capability 'cluster'"):
        ck.cluster("balanced", 1, 2)
    within(capabilities=["cluster"], network="cluster", limits={"workers": 1})
    with pytest.raises(ScopeError, match=r"limits workers .* to 1 workers, but this asks for 2 workers"):
        ck.cluster("balanced", 1, 2)


def test_every_public_name_is_checked_or_known_to_be_harmless() -> None:
    kinds = [set(RULES), HARMLESS, CLASSES]
    assert set(ck.__all__) - set.union(*kinds) == set(), "a new public name goes into RULES, or is harmless"
    assert not HARMLESS & set(RULES)
    beyond = set(RULES) - set(ck.__all__)
    assert beyond == {"run_demo", "synthesise"}
    assert all(hasattr(session, name) for name in beyond)
    assert set(scoped.HOMES) <= set(RULES)
    for name in RULES:
        function = getattr(ck, name) if name in ck.__all__ else getattr(session, name)
        assert hasattr(function, "__wrapped__"), f"{name} is in the table and not checked"
        assert function.__doc__ == function.__wrapped__.__doc__


@pytest.mark.parametrize(
    ("models", "model", "said"),
    [
        (["lenet5"], "resnet18", "limits models to lenet5, but this asks for 'resnet18'"),
        (["lenet5"], "built", "limits models to lenet5, but this asks for 'alexnet'"),
        (["lenet5"], "task", "limits models to lenet5, but this asks for 'digits cnn'"),
        (["*"], "own", "capability 'upload'"),
        (["*"], "file.onnx", "capability 'upload'"),
    ],
)
def test_a_model_is_one_of_the_scope_or_needs_upload(within: Scoped, models: list[str], model: str, said: str) -> None:
    import torch

    from codesign_kernel.optimize import DigitsCNN

    within(models=models, capabilities=["profile"])
    made: dict[str, tuple[Any, ...]] = {
        "built": ck.zoo.build("alexnet"),
        "task": (DigitsCNN(), torch.zeros(1, 1, 8, 8)),
        "own": (torch.nn.Linear(2, 2), torch.zeros(1, 2)),
    }
    with pytest.raises(ScopeError, match=said):
        ck.profile(*made.get(model, (model,)))
    assert ck.profile("lenet5").macs == ck.profile(*ck.zoo.build("lenet5")).macs == 416_520


@pytest.mark.parametrize(
    ("templates", "machine", "allowed"),
    [
        (["generator"], "systolic", True),
        (["generator:ws"], "systolic", True),
        (["generator:os"], "systolic", False),
        (["spatial"], "systolic", False),
        (["generator_8x8"], "generator_8x8", True),
        (["generator_8x8"], "generator_4x8", False),
        (["generator_8x8"], "named like it", False),
        (["tpu_v1"], "tpu_v1", True),
        (["spatial:ws"], "tpu_v1", True),
        ([], "tpu_v1", False),
    ],
)
def test_a_template_is_a_family_a_dataflow_or_a_published_machine(
    within: Scoped, templates: list[str], machine: str, allowed: bool
) -> None:
    within(templates=templates)
    catalog = ck.accelerator.catalog
    made = {"systolic": SMALL, "named like it": ck.Accelerator(rows=4, cols=4, name="generator_8x8")}
    design = made.get(machine) or catalog(machine)
    if allowed:
        assert ck.evaluate(WORK, design).macs == 32
    else:
        with pytest.raises(ScopeError, match="limits templates to"):
            ck.evaluate(WORK, design)


def test_the_dataflows_of_a_space_are_templates_too(within: Scoped) -> None:
    within(templates=["generator:ws"])
    assert len(ck.sweep(WORK, SPACE)) == 4
    with pytest.raises(ScopeError, match="asks for 'generator:os'"):
        ck.sweep(WORK, ck.DesignSpace(rows=4, cols=4, dataflow=("ws", "os")))
    with pytest.raises(ScopeError, match="asks for 'spatial:ws'"):
        ck.explore(WORK, ck.SpatialSpace(rows=4, cols=4))


def test_a_workflow_needs_what_its_steps_do(within: Scoped) -> None:
    flow = {"network": {"zoo": "lenet5"}, "profile": {}}  # and what follows from it
    within(capabilities=["explore"])
    with pytest.raises(ScopeError, match="capability 'profile'"):
        ck.run_workflow(flow)
    within(models=["resnet18"])
    with pytest.raises(ScopeError, match="asks for 'lenet5'"):
        ck.run_workflow(flow)
    within(capabilities=["profile", "explore", "generate"])
    with pytest.raises(ScopeError, match="capability 'optimize'"):
        ck.run_workflow({"network": "digits", "profile": {}, "train": {}})


def test_pairs_of_a_joint_search_are_designs(within: Scoped) -> None:
    scope = within(limits={"designs": 10})
    with pytest.raises(ScopeError, match="asks for 12 designs"):
        asked.pairs(scope, {"space": SPACE, "budget": 3, "networks": None})


def test_rtl_and_waveforms_that_are_too_large_are_not_given_out(within: Scoped, tmp_path: Path) -> None:
    scope = within(limits={"artefact_bytes": 9})
    bundle = ck.RtlBundle(SMALL, "core", {"core.v": "module é"})
    with pytest.raises(ScopeError, match="artefact_bytes"):
        asked.rtl_bytes(scope_of("x", {"limits": {"artefact_bytes": 8}}), {}, bundle)
    asked.rtl_bytes(scope, {}, bundle)
    waves = a_vcd(tmp_path)
    with pytest.raises(ScopeError, match="artefact_bytes"):
        asked.waves_bytes(scope, {"vcd": waves}, None)
    assert not waves.exists()


def test_without_a_scope_nothing_is_asked() -> None:
    assert scopes.current() is None
    assert ck.evaluate(WORK, SMALL).macs == 32
    with pytest.raises(InvalidInputError):
        ck.evaluate(3, SMALL)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"colour": "red"}, "a scope has the keys .*'colour'"),
        ({"capabilities": ["fly"]}, "'studio' has fly"),
        ({"capabilities": "profile"}, "capabilities is a list"),
        ({"models": "lenet5"}, "models is a list"),
        ({"templates": [3]}, "templates are text"),
        ({"title": 3}, "title, summary"),
        ({"open_to": "everybody"}, "open_to is one of guest, user, admin"),
        ({"network": "internet"}, "network is one of none, cluster"),
        ({"network": "cluster"}, "go together"),
        ({"capabilities": ["cluster"]}, "go together"),
        ({"limits": 3}, "limits is a table"),
        ({"limits": {"money": 3}}, "a limit is one of .*'money'"),
        ({"limits": {"macs": -1}}, "macs is a whole number of 0 to"),
        ({"limits": {"macs": True}}, "macs is a whole number"),
        ({"limits": {"macs": 1.5}}, "macs is a whole number"),
        ({"limits": {"processes": 10**6}}, "processes is a whole number of 0 to 4,096"),
    ],
)
def test_what_is_no_scope_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ScopeFileError, match=said):
        scope_of("studio", given)


def test_a_scope_survives_its_file_and_a_broken_file_is_none(tmp_path: Path) -> None:
    given = {"title": 'Studio "RTL"\n', "open_to": "guest", "capabilities": ["generate"], "limits": {"cpu_s": 7}}
    scope = scope_of("studio", given)
    path = tmp_path / "studio.toml"
    path.write_text(toml_of(scope), encoding="utf-8")
    assert read_scope(path) == scope
    assert tomllib.loads(toml_of(scope))["limits"]["macs"] == LIMITS["macs"].default
    for text, said in (("limits = [", "is no TOML"), ('x = "\xff"', "has the keys")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ScopeFileError, match=said):
            read_scope(path)
    with pytest.raises(ScopeFileError, match="cannot be read"):
        read_scope(tmp_path / "none.toml")


def test_a_process_whose_scope_is_lost_does_no_work(within: Scoped, tmp_path: Path) -> None:
    within()
    (tmp_path / "studio.toml").unlink()
    scopes.current.cache_clear()
    with pytest.raises(ScopeFileError, match="cannot be read"):
        ck.evaluate(WORK, SMALL)


def test_the_apps_name_models_and_templates_that_there_are() -> None:
    found = [read_scope(path) for path in sorted((ROOT / "voila_apps").glob("*.toml"))]
    from codesign_kernel.accelerator.catalog import names
    from codesign_kernel.optimize.networks import NETWORKS

    tasks = {name if name == task.data else f"{task.data} {name}" for name, task in NETWORKS.items()}
    for scope in found:
        assert set(scope.models) <= {"*", *ck.zoo.names(), *tasks}, scope.name
        assert set(scope.templates) <= {"*", *asked.families(), *names()}, scope.name
        assert scope.title, scope.name
        assert scope.summary, scope.name


def test_the_documentation_is_up_to_date() -> None:
    page = (ROOT / "docs" / "scopes.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "docs" / "scopes.py"))["renewed"](page) == page, "run python docs/scopes.py"
