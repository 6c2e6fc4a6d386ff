"""Workflows: each step once for its settings and inputs, and results that are read from the store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from command import codesign, run
from sqlalchemy import text
from workflows import FULL, JOINT, ROOT, SMALL, changed

import codesign_kernel as ck
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError, SchemaError, SimulatorError
from codesign_kernel.session.workflow import kept, plan_workflow
from codesign_kernel.session.workflow import run as engine
from codesign_kernel.store.schema import VERSION_TABLE

STEPS = ("profile", "train", "optimise", "explore", "choose")
SPACE = SMALL["explore"]["space"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which ``SMALL`` has run."""
    path = tmp_path_factory.mktemp("workflow") / "store.db"
    assert ck.run_workflow(SMALL, store=path).ran == STEPS
    return path


def test_a_finished_run_does_nothing_again(place: Path) -> None:
    told: list[str] = []
    again = ck.run_workflow(SMALL, store=place, progress=lambda done, total, message: told.append(message))
    assert again.ran == ()
    assert again.evaluations == 0
    assert told == []
    assert [step.cached for step in again.steps] == [True] * 5
    assert all(step.took_s > 0 for step in again.steps)


def test_what_a_run_gives(place: Path) -> None:
    found = ck.run_workflow(SMALL, store=place)
    assert found.profile.macs == 84_224
    assert found.profile.name == "digits cnn"
    assert found.network.bits == 8
    optimised = found.steps[2].record
    assert optimised is not None
    assert found.network.digest == optimised.data["digest"]
    exact = ck.explore(found.network, ck.DesignSpace(**SPACE), objectives=["latency_ms", "area_mm2"])
    pd.testing.assert_frame_equal(found.front, exact.front)
    pd.testing.assert_frame_equal(found.exploration.frame, exact.frame)
    assert found.exploration.hypervolume == exact.hypervolume
    assert found.exploration.tally == exact.tally
    assert found.design == ck.Design.of(exact.knee)
    assert found.passed, "nothing was simulated"
    with pytest.raises(
        InvalidInputError, match=r"\(profile, train, optimise, explore, choose\), but 'generate' did not"
    ):
        found.bundle  # noqa: B018 - the access is what is tested


def test_the_accuracy_is_that_of_the_network(place: Path) -> None:
    from codesign_kernel.optimize import accuracy, load_digits

    found = ck.run_workflow(SMALL, store=place)
    record, data = found.steps[2].record, load_digits()
    assert record is not None
    assert record.data["test"] == accuracy(found.network.predict(data.test_x), data.test_y)
    assert record.data["validation"] == accuracy(found.network.predict(data.validation_x), data.validation_y)


def test_the_table(place: Path) -> None:
    lines = str(ck.run_workflow(SMALL, store=place)).splitlines()
    assert lines[0] == "small: 0 evaluations now"
    assert lines[1].split() == ["step", "state", "time", "gave"]
    assert [line.split()[:2] for line in lines[2:]] == [[step, "cached"] for step in STEPS]
    assert "16 of 16 designs by exact" in lines[5]


def test_what_was_made_from_what(place: Path) -> None:
    """Records link to those that they were made from, up to the whole run, and the study is about its network."""
    found = ck.run_workflow(SMALL, store=place)
    made = {step.name: step.record for step in found.steps}
    with ck.Store(place) as store:
        for name, needs in {"optimise": ["train"], "explore": ["optimise"], "choose": ["optimise", "explore"]}.items():
            record, origins = made[name], [made[need] for need in needs]
            assert record is not None
            assert set(record.links) == {(origin.kind, origin.digest) for origin in origins if origin is not None}
        train = made["train"]
        assert train is not None
        assert train.provenance.seed == 0
        (whole,) = [store.record("run", d) for d in store.records("run").query("name == 'small'")["digest"]]
        assert {key for _, key in whole.links} == {step.key for step in found.steps}
        (study,) = store.studies().itertuples()
        assert study.name == f"workflow explore {found.steps[3].key}"


@pytest.mark.parametrize(
    ("change", "ran"),
    [
        ({"name": "other"}, ()),
        ({"choose": {"best": "area_mm2"}}, ("choose",)),
        ({"explore": {"constraints": {"area_mm2": 1}}}, ("explore", "choose")),
        # an exact sweep has no seed: what comes of another one is the same, and nothing behind it is done again
        ({"explore": {"seed": 9}}, ("explore",)),
        ({"optimise": {"weight_bits": {"conv2": 4}}}, ("optimise", "explore", "choose")),
        ({"train": {"seed": 1}}, ("train", "optimise", "explore", "choose")),
        ({"network": {"digits": "cnn"}}, ()),
    ],
)
def test_a_changed_setting_is_that_step_and_those_behind_it(
    change: dict[str, Any], ran: tuple[str, ...], place: Path
) -> None:
    flow = changed(SMALL, **change)
    planned = {step.name: step.state for step in plan_workflow(flow, store=place).steps}
    found = ck.run_workflow(flow, store=place)
    assert found.ran == ran
    assert [name for name, state in planned.items() if state == "runs"] == list(ran[:1])
    assert set(ran[1:]) <= {name for name, state in planned.items() if state == "follows"}
    assert ck.run_workflow(flow, store=place).ran == ()
    assert ck.run_workflow(SMALL, store=place).ran == ()


def test_other_code_makes_it_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = engine.code_of
    monkeypatch.setattr(engine, "code_of", lambda step: "0" * 64 if step == "choose" else known(step))
    assert [step.state for step in plan_workflow(SMALL, store=place).steps] == ["cached"] * 4 + ["runs"]


@pytest.mark.parametrize(
    ("flow", "told"),
    [
        ({"network": "digts"}, "network: is digits, keywords, .* or one of the zoo .*, but got 'digts'"),
        ({**SMALL, "optimise": {"keep": {"conv9": 0.5}}}, r"optimise.keep: names layers of .*fc\), but got 'conv9'"),
    ],
)
def test_a_plan_is_none_where_the_run_would_be_refused(flow: dict[str, Any], told: str, tmp_path: Path) -> None:
    for either in (plan_workflow, ck.run_workflow):
        with pytest.raises(InvalidInputError, match=told):
            either(flow, store=tmp_path / "store.db")


def test_a_plan_of_nothing(tmp_path: Path) -> None:
    plan = plan_workflow(SMALL, store=tmp_path / "store.db")
    assert [step.state for step in plan.steps] == ["runs", "runs", "follows", "follows", "follows"]
    with ck.Store(tmp_path / "store.db") as store:
        assert len(store.records()) == 0


def test_a_network_without_weights(tmp_path: Path) -> None:
    flow = {
        "network": "mlperf_tiny_ad",
        "explore": {"space": {**SPACE, "rows": 16, "cols": 16, "weight_kib": 64}},
        "generate": False,
    }
    with ck.Store(tmp_path / "store.db") as store:
        found = ck.run_workflow(flow, store=store)
        assert found.ran == ("profile", "explore", "choose")
        assert found.evaluations == 4
        assert found.front["latency_ms"].min() > 0
        assert ck.run_workflow(flow, store=store).ran == ()


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (
            {"network": "resnet19", "train": None},
            InvalidInputError,
            "network: is digits, keywords, a file",
        ),
        (
            {"generate": {}, "cosimulate": {"images": 451}},
            InvalidInputError,
            "cosimulate.images: there are 450 test inputs",
        ),
        ({"optimise": {"weight_bits": {"conv9": 4}}}, InvalidInputError, r"optimise.weight_bits: names .* got 'conv9'"),
        ({"optimise": {"keep": {"conv0": 0.5}}}, InvalidInputError, r"optimise.keep: names .*\(conv1, conv2, fc\)"),
    ],
)
def test_what_would_stop_it_later_is_told_first(
    change: dict[str, Any], error: type[Exception], told: str, tmp_path: Path
) -> None:
    flow = changed({**SMALL, "generate": None}, **change)
    with ck.Store(tmp_path / "store.db") as store:
        with pytest.raises(error, match=f"workflow: {told}"):
            ck.run_workflow(flow, store=store)
        assert len(store.records()) == 0


def test_a_simulator_that_is_missing_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    flow = changed({**SMALL, "generate": {}}, cosimulate={"simulator": "ghdl"})
    with ck.Store(tmp_path / "store.db") as store:
        with pytest.raises(SimulatorError, match=r"workflow: cosimulate\.simulator: the simulator 'ghdl' does not run"):
            ck.run_workflow(flow, store=store)
        assert len(store.records()) == 0


def test_limits_that_contradict_say_which_binds(place: Path) -> None:
    flow = changed(SMALL, explore={"constraints": {"area_mm2": 0.07, "latency_ms": 0.05}})
    with pytest.raises(InfeasibleDesignError, match=r"workflow: explore: .* what binds: without") as caught:
        ck.run_workflow(flow, store=place)
    assert str(caught.value).endswith("(what the steps before it gave is kept)")
    assert [step.state for step in plan_workflow(flow, store=place).steps][:3] == ["cached"] * 3
    impossible = changed(SMALL, explore={"constraints": {"area_mm2": 1e-6}})
    with pytest.raises(InfeasibleDesignError, match=r"area_mm2 at most .* is met by none alone"):
        ck.run_workflow(impossible, store=place)


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with ck.Store(path) as store, store._database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0099'"))
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="install the release that wrote it"):
        ck.run_workflow(SMALL, store=path)
    assert path.read_bytes() == before


def test_results_come_back_as_they_were() -> None:
    values = {"a": [1.5, np.nan, np.inf], "feasible": [True, False, True], "reason": ["", "too small: x", ""]}
    frame = pd.DataFrame({**values, "rows": [1, 2, 2**40]}, index=pd.Index([3, 1, 7], name="design"))
    pd.testing.assert_frame_equal(kept.frame_of(kept.frame_bytes(frame)), frame)
    assert kept.frame_bytes(frame) == kept.frame_bytes(frame.copy())
    profile = ck.profile(*ck.zoo.build("bert_base"), name="bert_base")
    again = kept.profile_of(kept.profile_bytes(profile))
    assert again == profile
    assert again.digest == profile.digest
    assert kept.workload_of(kept.plain(kept.workload_plain(profile.workload))).digest == profile.workload.digest


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("workflow") / "flow.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    return path


def test_the_command(place: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "run", str(file), "--store", str(place), "--out", str(tmp_path / "out"))
    assert status == 0
    assert "explore" in out
    assert "evaluations  0 now" in out
    assert "written      3 files into" in out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["front.csv", "network.npz", "workflow.json"]
    found = ck.run_workflow(file, store=place)
    network = ck.IntegerNetwork.load(tmp_path / "out" / "network.npz")
    assert network.digest == found.network.digest
    front = pd.read_csv(tmp_path / "out" / "front.csv", index_col="design")
    assert list(front.index) == list(found.front.index)
    told = json.loads((tmp_path / "out" / "workflow.json").read_text(encoding="utf-8"))
    assert told["evaluations"] == 0
    assert [step["state"] for step in told["steps"]] == ["cached"] * 5


def test_the_command_for_programs_and_its_plan(place: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "run", str(file), "--store", str(place), "--json")
    assert status == 0
    assert json.loads(out)["passed"]
    status, out, _ = run(capsys, "run", str(file), "--store", str(place.with_name("empty.db")), "--plan")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["profile", "runs"], ["train", "runs"]]


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("network: digits\nexplore:\n  budget: none\n", encoding="utf-8")
    status, out, err = run(capsys, "run", str(path), "--store", str(tmp_path / "s.db"))
    assert (status, out) == (2, "")
    assert err == ("codesign run: flow.yaml: explore.budget: is a whole number of 1 to 2,147,483,648, but got 'none'\n")
    assert not (tmp_path / "s.db").exists()


#: Runs the command and says what it has loaded.
LOADED = """
import sys
from codesign_kernel.cli import main
status = main(sys.argv[1:])
print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(status)
"""


def test_a_cached_run_loads_nothing_heavy(place: Path, file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOADED, "run", str(file), "--store", str(place), "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(done.stdout)["evaluations"] == 0
    heavy = {"torch", "optuna", "dask", "distributed", "pandas", "plotly", "myhdl", "numba", "sklearn", "pymoo"}
    assert heavy & set(done.stderr.split("'")) == set()
    assert "sqlalchemy" in done.stderr.split("'"), "the check sees what is loaded"


def test_without_its_packages_the_command_says_which(file: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sqlalchemy'] = None\n", encoding="utf-8")
    path = f"{tmp_path}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "codesign_kernel.cli", "run", str(file)],
        capture_output=True, text=True, timeout=100, env={"PYTHONPATH": path, "HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "needs sqlalchemy; pip install 'codesign-playground[store]'" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.verilator
def test_the_file_of_the_docs(tmp_path: Path) -> None:
    """docs/workflow.yaml, all of it, and then once more."""
    file, store, out = str(ROOT / "docs" / "workflow.yaml"), str(tmp_path / "store.db"), tmp_path / "out"
    first = codesign("run", file, "--store", store, "--out", str(out), "--json", timeout=280)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["passed"]
    assert told["evaluations"] > 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "matches its generated RTL bit for bit" in page
    assert (out / "rtl" / "testbench" / "README.md").is_file()
    again = json.loads(codesign("run", file, "--store", store, "--json").stdout)
    assert again["evaluations"] == 0
    assert [step["state"] for step in again["steps"]] == ["cached"] * 8
    assert [step["key"] for step in again["steps"]] == [step["key"] for step in told["steps"]]


@pytest.mark.slow
def test_a_full_run_in_one_process(tmp_path: Path) -> None:
    found = ck.run_workflow(FULL, store=tmp_path / "store.db")
    assert found.passed
    assert found.evaluations == 12
    assert len(found.exploration.frame) == 12
    assert found.report.passed
    assert found.report.vectors == 1
    assert found.report.rtl_digest == found.bundle.digest == ck.generate_rtl(found.design).digest
    assert found.report.to_dict() == json.loads(found.files()["cosim.json"])
    assert (found.report.outputs == found.network.predict(_image())).all()
    assert sorted(found.bundle.testbench) == sorted(
        name.removeprefix("rtl/testbench/") for name in found.files() if name.startswith("rtl/testbench/")
    )
    assert found.page.startswith("<!DOCTYPE html>") or found.page.startswith("<!doctype html>")
    paths = found.write(tmp_path / "out")
    assert {path.name for path in paths} >= {"report.html", "cosim.json", "front.csv", "network.npz", "workflow.json"}


@pytest.mark.slow
def test_network_and_machine_together(tmp_path: Path) -> None:
    """The pair goes into RTL and simulation; a changed choice searches nothing."""
    path = tmp_path / "store.db"
    found = ck.run_workflow(JOINT, store=path)
    assert found.ran == ("profile", "train", "co_optimize", "choose", "generate", "cosimulate")
    assert found.evaluations == 3
    assert found.passed
    chosen = found.steps[3].record
    assert chosen is not None
    assert found.network.digest == chosen.data["network"]
    assert chosen.data["validation"] == found.front["accuracy"].max()
    assert found.design.digest == chosen.data["digest"]
    assert {"front.csv", "network.npz", "cosim.json"} <= set(found.files())
    again = ck.run_workflow(changed(JOINT, cosimulate=False, choose={"best": "area_mm2"}), store=path)
    assert again.evaluations == 0
    assert "co_optimize" not in again.ran
    assert again.steps[3].record is not None
    assert again.steps[3].record.data["results"]["area_mm2"] == again.front["area_mm2"].min()
    assert ck.run_workflow(JOINT, store=path).ran == ()


def _image() -> Any:
    from codesign_kernel.optimize import load_digits

    return load_digits().test_x[:1]
