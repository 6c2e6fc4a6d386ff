"""Exploring with a real cluster and a real store together: what they change (nothing), and what goes wrong on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from explorecases import CASES, SPACE, Logged, Poison, counted_once, explored, recorder_of, results, same

import codesign_kernel as ck
from codesign_kernel.cluster import Cluster, cluster, shape
from codesign_kernel.errors import ClusterError, EvaluationError

for needed in ("distributed", "optuna", "pymoo", "sqlalchemy"):
    pytest.importorskip(needed)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parent.parent
WORKLOAD = ck.Workload(
    "small", (ck.Layer("conv", "conv2d", K=8, C=4, OY=8, OX=8, FY=3, FX=3, IY=8, IX=8, padding=(1, 1)),)
)
REAL = ck.DesignSpace(
    rows=(2, 4, 8, 16), cols=(2, 4, 8), activation_kib=(2, 4, 8), weight_kib=(4, 16, 32), bandwidth_gb_s=(0.8, 3.2),
    dataflow=("ws", "os"), frequency_mhz=(50, 100, 200), instruction_kib=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """Two workers that stay two."""
    with cluster("balanced", 2, 2) as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ck.Store]:
    with ck.Store(tmp_path / "s.db") as opened:
        yield opened


@pytest.mark.parametrize("sampler", CASES)
def test_workers_and_a_store_change_nothing(two: Cluster, store: ck.Store, sampler: str) -> None:
    """By the front door, with the cost model; and again: nothing is evaluated a second time."""
    settings = {"sampler": sampler, "seed": 3} | ({} if sampler == "exact" else {"budget": 60})
    alone = ck.explore(WORKLOAD, REAL, **settings)
    found = ck.explore(WORKLOAD, REAL, executor=two.executor(), store=store, **settings)
    same(found, alone)
    assert found.provenance.evaluated == alone.provenance.evaluated == found.tally.designs
    again = ck.explore(WORKLOAD, REAL, executor=two.executor(), store=store, **settings)
    same(again, alone)
    assert again.provenance.evaluated == 0
    study = store.open_study(store.studies()["name"][0])
    assert study.frame().index.is_unique
    assert set(study.frame().index) == set((alone.front if sampler == "exact" else alone.frame).index)


def kill_one(two: Cluster, at: int) -> Callable[[int, int, str], None]:
    """A progress callback that kills a worker as soon as ``at`` designs are done."""
    left = [*two.client.run(os.getpid).values()][:1]

    def progress(done: int, total: int, message: str) -> None:
        if done >= at and left:
            os.kill(left.pop(), signal.SIGKILL)

    return progress


@pytest.mark.parametrize("sampler", ["exact", "nsga2", "pymoo"])
def test_a_worker_is_killed_in_the_middle(two: Cluster, store: ck.Store, tmp_path: Path, sampler: str) -> None:
    """What it had is evaluated again elsewhere, and nothing is counted twice."""
    evaluate = Logged(str(tmp_path / "log"), 0.01)
    told = {"executor": two.executor(), "recorder": recorder_of(store, sampler), "progress": kill_one(two, 40)}
    found = explored(sampler, evaluate, **told)
    same(found, explored(sampler))
    counted_once(store, found)
    done = evaluate.evaluated()
    assert found.provenance.evaluated == found.tally.designs
    again = len(done) - len(set(done)) - (len(found.frame) if sampler == "exact" else 0)
    assert again <= 2 * 36, "what one worker held, at most"


def test_a_design_that_kills_is_told_and_costs_no_other(two: Cluster, store: ck.Store, tmp_path: Path) -> None:
    numbers = explored("random").frame.index.tolist()
    recorder = recorder_of(store, "random")
    evaluate = Poison(str(tmp_path / "log"), numbers[20])  # of the second generation
    with pytest.raises(ClusterError, match=r"workers one after the other that died"):
        explored("random", evaluate, executor=two.executor(), recorder=recorder)
    kept = recorder.done().index
    assert set(numbers[:16]) <= set(kept)
    assert numbers[20] not in kept
    same(explored("random", recorder=recorder), explored("random"))
    counted_once(store, explored("random", recorder=recorder))


def no_number(columns: Any) -> dict[str, Any]:
    """NaN for a design that is said to run."""
    found = results(columns)
    found["latency_ms"][(columns["rows"] == 4) & found["feasible"]] = float("nan")
    return found


@pytest.mark.parametrize("sampler", ["exact", "nsga2"])
def test_what_is_no_result_comes_back_from_a_worker(two: Cluster, store: ck.Store, sampler: str) -> None:
    recorder = recorder_of(store, sampler)
    with pytest.raises(EvaluationError, match="'latency_ms' is nan"):
        explored(sampler, no_number, executor=two.executor(), recorder=recorder, progress=lambda *told: None)
    found = explored(sampler, recorder=recorder)  # the evaluator is mended
    same(found, explored(sampler))
    counted_once(store, found)
    if sampler == "exact":
        assert found.provenance.evaluated < SPACE.size, "the blocks before are not evaluated again"


def three_fails(item: tuple[int, str]) -> int:
    number, folder = item
    if number == 3:
        time.sleep(5)  # so that the other worker has done some
    (Path(folder) / str(number)).touch()
    if number == 3:
        raise ValueError("three is refused")
    return number


def test_one_that_fails_takes_no_finished_one_with_it(two: Cluster, tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []
    executor = two.executor()
    executor.batch_s = 0.0  # an item is a batch
    with pytest.raises(ValueError, match="three is refused"):
        found.extend(executor.run(three_fails, [(number, str(tmp_path)) for number in range(200)]))
    assert len(dict(found)) == len(found)
    ended = {int(path.name): path.stat().st_mtime for path in tmp_path.iterdir()}
    finished = {number for number, time_s in ended.items() if time_s < ended[3] - 4.0}  # with four seconds to arrive in
    assert finished
    assert finished <= {position for position, _ in found}


#: A worker of one process that cannot import what is named.
LACKS = """
import sys
sys.modules[sys.argv.pop(1)] = None
from distributed.cli.dask_worker import main
main()
"""


def test_workers_that_lack_the_package_are_told(tmp_path: Path) -> None:
    """A scheduler that has it and a worker that has not; then a worker that lacks the function's own module."""
    import distributed

    with distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address=None, scheduler_kwargs={"dashboard": False}
    ) as there:
        address = there.scheduler_address
        for lacks, told in (
            ("codesign_kernel", r"cannot load it .*codesign_kernel.*; install it there"),
            ("explorecases", r"import the function and its items, but .*explorecases.*install their module there"),
        ):
            command = [sys.executable, "-c", LACKS, lacks, address, "--no-nanny", "--nthreads", "1"]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
            with subprocess.Popen(
                [*command, "--no-dashboard", "--local-directory", str(tmp_path)], env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ) as worker:  # fmt: skip
                try:
                    with cluster(backend=address) as joined:
                        joined.client.wait_for_workers(1, timeout=60)
                        with pytest.raises(ClusterError, match=told):
                            list(joined.executor().run(results, [SPACE.columns()]))
                finally:
                    worker.kill()


def test_a_function_of_a_notebook_can_be_sent(two: Cluster) -> None:
    """One that no module holds, and that knows this package by ``ck``, as the lessons have it."""
    cells: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "import codesign_kernel as ck\ndef rows(number): return ck.DesignSpace(rows=(2, 4), cols=2).design(number)",
        cells,
    )
    exec("def front(number): return ck.cluster.shape, number", cells)
    designs = dict(two.executor().run(cells["rows"], [0, 1]))
    assert [designs[n].accelerator.rows for n in (0, 1)] == [2, 4]
    assert dict(two.executor().run(cells["front"], [5])) == {0: (shape, 5)}


def test_workers_of_another_release_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from codesign_kernel.cluster import executor

    one = executor.dumps([-1])
    assert executor.evaluate_batch(ck.__version__, "0", executor.dumps(abs), one)[0] == [1]
    with pytest.raises(ClusterError, match=r"caller's release of codesign-playground, 9[.]9[.]9, but a worker has"):
        executor.evaluate_batch("9.9.9", "0", executor.dumps(abs), one)
    gone = ModuleType("gone_module")
    exec("def function(item): return item", gone.__dict__)
    monkeypatch.setitem(sys.modules, "gone_module", gone)
    pickled = executor.dumps(gone.function)
    assert executor.evaluate_batch(ck.__version__, "1", pickled, one)[0] == [-1]
    monkeypatch.delitem(sys.modules, "gone_module")
    with pytest.raises(ClusterError, match="No module named 'gone_module'; install their module there"):
        executor.evaluate_batch(ck.__version__, "2", pickled, one)


def test_frames_of_a_generation_arrive_as_arrays(two: Cluster) -> None:
    """What a worker sends back is a frame whose types are those of one evaluated here."""
    found, here = explored("random", executor=two.executor()).frame, explored("random").frame
    pd.testing.assert_series_equal(found.dtypes, here.dtypes)
