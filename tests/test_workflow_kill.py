"""Workflows that are cut off in the middle of every step, run twice at once, or have no room: nothing is lost."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from workflows import FULL, JOINT, ROOT, SMALL, Runner, changed

import codesign_kernel as ck
from codesign_kernel.session.workflow import plan_workflow, steps
from codesign_kernel.session.workflow.product import Job, Product

pytestmark = pytest.mark.timeout(300)  # what they share is made by whichever is first

#: Step -> which of the times that it tells its progress is its middle. Those that tell nothing between tell when they
#: begin and when they are to be kept; a search is in its third batch of four.
MIDDLE = {
    "profile": 2,
    "train": 2,
    "optimise": 2,
    "explore": 4,
    "choose": 2,
    "generate": 2,
    "cosimulate": 2,
    "report": 2,
}


def outcome(told: dict[str, Any]) -> dict[str, Any]:
    """What a run gave, without what depends on the time of day: the page tells seconds."""
    return {
        step["name"]: (step["key"], step["product"], step["gave"]) for step in told["steps"] if step["name"] != "report"
    }


def sound(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def evaluated(path: Path) -> pd.DataFrame:
    """All that was evaluated, of the one study of the store."""
    with ck.Store(path) as store:
        (name,) = store.studies()["name"]
        return store.open_study(name).frame()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as made:
        yield made


@pytest.fixture(scope="module")
def begun(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which ``FULL`` has run up to its search, where no search was; to be copied."""
    path = tmp_path_factory.mktemp("begun") / "store.db"
    runner.ended(changed(FULL, explore=False, generate=False, cosimulate=False), path)
    return path.parent


def of(begun: Path, folder: Path) -> Path:
    """A copy of that store."""
    return Path(shutil.copytree(begun, folder)) / "store.db"


@pytest.fixture(scope="module")
def undisturbed(runner: Runner, begun: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store in which ``FULL`` has run and was cut off nowhere, and what it said."""
    path = of(begun, tmp_path_factory.mktemp("undisturbed") / "whole")
    return path, *runner.ended(FULL, path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_cut_off_in_the_middle_of_every_step(
    runner: Runner, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    for place, (step, count) in enumerate(MIDDLE.items()):
        # of a search that is cut off in its third batch two are known when it begins again
        for name, status in (("SIGINT", 130), ("SIGKILL", -signal.SIGKILL)):
            assert runner.stopped(FULL, path, step, count, name) == status
            sound(path)
            states = [found.state for found in plan_workflow(FULL, store=path).steps]
            assert states[: place + 1] == ["cached"] * place + ["runs"], (step, name)
            if step == "explore":
                assert len(evaluated(path)) == 9, "what was evaluated is kept"
    (told,) = runner.ended(FULL, path)
    assert [found["state"] for found in told["steps"]] == ["cached"] * 7 + ["ran"]
    whole, first = undisturbed
    assert outcome(told) == outcome(first)
    pd.testing.assert_frame_equal(evaluated(path), evaluated(whole), check_exact=True)
    one, other = (ck.run_workflow(FULL, store=store) for store in (path, whole))
    assert one.ran == other.ran == ()
    assert one.bundle.texts == other.bundle.texts
    pd.testing.assert_frame_equal(one.front, other.front, check_exact=True)
    assert one.network.digest == other.network.digest
    assert one.report == other.report


@pytest.mark.slow
def test_a_search_that_was_cut_off_evaluates_the_rest_only(runner: Runner, begun: Path, tmp_path: Path) -> None:
    flow = changed(FULL, generate=False, cosimulate=False)
    path = of(begun, tmp_path / "cut")
    assert runner.stopped(flow, path, "explore", 3, "SIGKILL") == -signal.SIGKILL
    kept = evaluated(path)
    assert len(kept) == 6
    (told,) = runner.ended(flow, path)
    assert told["evaluations"] == 6
    assert [step["state"] for step in told["steps"]] == ["cached"] * 3 + ["ran"] * 2
    pd.testing.assert_frame_equal(evaluated(path).loc[kept.index], kept, check_exact=True)
    assert len(evaluated(path)) == 12


@pytest.mark.slow
def test_a_joint_search_that_was_cut_off_goes_on(runner: Runner, begun: Path, tmp_path: Path) -> None:
    flow, path, undisturbed = (
        changed(JOINT, generate=False, cosimulate=False), of(begun, tmp_path / "cut"), of(begun, tmp_path / "whole")
    )  # fmt: skip
    # at first it tells that it begins, then of each network
    assert runner.stopped(flow, path, "co_optimize", 2, "SIGINT") == 130
    assert runner.stopped(flow, path, "co_optimize", 3, "SIGKILL") == -signal.SIGKILL
    sound(path)
    (told,) = runner.ended(flow, path)
    assert told["evaluations"] == 1, "two of three networks were trained already"
    (whole,) = runner.ended(flow, undisturbed)
    assert outcome(told) == outcome(whole)
    assert len(evaluated(path)) == len(evaluated(undisturbed)) == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_on_one_store(runner: Runner, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    one, other = runner.ended(FULL, path, 2)
    sound(path)
    assert outcome(one) == outcome(other) == outcome(undisturbed[1])
    assert one["steps"][-1]["product"] == other["steps"][-1]["product"], "one page, of whoever was first"
    pd.testing.assert_frame_equal(evaluated(path), evaluated(undisturbed[0]), check_exact=True)
    with ck.Store(path) as store:
        assert len(store.records("run")) == 8 + 1 + 1, "a record a step, what explore gave, and the whole"
    assert ck.run_workflow(FULL, store=path).ran == ()


def test_whoever_is_first_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run finishes a step meanwhile, with another result: everybody goes on with that."""
    flow = changed(SMALL, explore=False, optimise=False)
    path, known = tmp_path / "store.db", steps.FUNCTIONS["profile"]
    monkeypatch.setitem(steps.FUNCTIONS, "train", steps.FUNCTIONS["profile"])

    def late(job: Job) -> Product:
        monkeypatch.setitem(steps.FUNCTIONS, "profile", known)
        first.append(ck.run_workflow(flow, store=path))
        made = known(job)
        return Product(made.kind, {**made.data, "told": "late"}, made.files)

    first: list[ck.WorkflowResult] = []
    monkeypatch.setitem(steps.FUNCTIONS, "profile", late)
    found = ck.run_workflow(flow, store=path)
    assert found.steps[0].state == "ran"
    assert found.steps[1].cached
    assert found.steps[0].told == first[0].steps[0].told != "late"


#: Runs a workflow while no file may grow beyond 48 KiB, which is where a disk is full; then with room.
FULL_DISK = """
import json, resource, sys
import codesign_kernel as ck
from codesign_kernel.errors import StoreFullError
from codesign_kernel.session.workflow import plan_workflow, steps
from codesign_kernel.session.workflow.product import Job, Product
flow, path = json.loads(sys.argv[1]), sys.argv[2]
first = ck.run_workflow({"network": "digits", "train": False, "explore": False}, store=path)
assert first.ran == ("profile",)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (48 << 10, limits[1]))
try:
    ck.run_workflow(flow, store=path)
    sys.exit("a full disk went unnoticed")
except StoreFullError as error:
    told = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
left = [step.state for step in plan_workflow(flow, store=path).steps]
print(json.dumps([told, left, ck.run_workflow(flow, store=path).ran]))
"""


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", FULL_DISK, json.dumps(SMALL), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    told, left, ran = json.loads(done.stdout)
    assert told.startswith("workflow: ")
    assert "make room, then repeat" in told
    step = told.removeprefix("workflow: ").partition(":")[0]
    assert step in ran, "the step that had no room is made again"
    assert left[0] == "cached", "and what was kept is there"
    assert len(ran) == left.count("runs") + left.count("follows")
    sound(path)
