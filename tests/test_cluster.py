"""The real thing: processes of this machine, work that makes them more, a worker that is killed; and the factories."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

import codesign_kernel as ck
from codesign_kernel.cluster import MODES, Cluster, Decision, Limits, Snapshot, Threshold, backends, cluster, handle
from codesign_kernel.cluster.adapter import Log, Pilot
from codesign_kernel.cluster.observe import StartUp, look
from codesign_kernel.errors import ClusterError, InvalidInputError

ROOT = Path(__file__).parent.parent
#: What takes minutes by default, in seconds; the memory of a worker does not matter here.
SHORT = Limits(
    cpu_up_s=2, cpu_down_s=2, memory_up=3, memory_down=2, memory_down_s=2, slowdown_up_s=2, surplus_up_s=2, rate_s=2
)
#: The steps of ``aggressive`` with rests of seconds; how it decides is ``test_policies.py``'s.
QUICK = replace(MODES["aggressive"], rest_up_s=1.0, rest_down_s=2.0)


def rest(item: int) -> tuple[int, int]:
    """Take 50 ms, and no core; (the item's square, who did it)."""
    time.sleep(0.05)
    return item * item, os.getpid()


def refuse(item: int) -> int:
    if item == 3:
        raise ValueError("three is refused")
    return item


def die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def listening(processes: list[psutil.Process]) -> set[str]:
    """The addresses at which they listen; servers of other tests are children of this process, too."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker that was taken away
            connections = process.net_connections(kind="inet")
            found |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    return found


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """Two workers that stay two."""
    with cluster("balanced", 2, 2) as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_load_brings_workers_and_rest_takes_them() -> None:
    """2 -> more -> 2, each step with its reason; a worker killed meanwhile costs no result and doubles none."""
    workers: dict[int, psutil.Process] = {}
    policy = Threshold(QUICK, 2, 4, SHORT)
    with ck.cluster(policy, minimum=2, maximum=4, interval_s=0.2) as started:
        found: dict[int, tuple[int, int]] = {}
        for position, result in started.executor().run(rest, range(400)):
            assert position not in found
            found[position] = result
            with contextlib.suppress(psutil.NoSuchProcess):  # the one that was killed
                workers.setdefault(result[1], psutil.Process(result[1]))
            if len(found) == 100:
                os.kill(result[1], signal.SIGKILL)
        assert {position: square for position, (square, _) in found.items()} == {k: k * k for k in range(400)}
        end = time.monotonic() + 200
        decisions = started.decisions
        while (started.workers != 2 or decisions[-1].target != 2) and time.monotonic() < end:
            time.sleep(0.2)
            decisions = started.decisions
        assert listening([psutil.Process(), *workers.values()]) == {"127.0.0.1"}
        assert started.address.startswith("tls://127.0.0.1:")
    assert decisions[0].workers == 2
    assert decisions[0].signal == "queue"
    assert max(decision.target for decision in decisions) > 2
    assert decisions[-1].target == 2
    assert "nothing waits" in decisions[-1].reason
    assert all(2 <= decision.target <= 4 for decision in decisions)
    assert len(workers) > 2
    assert not psutil.wait_procs(workers.values(), timeout=60)[1], "processes are left behind"


@pytest.mark.slow
def test_batches_and_order(two: Cluster) -> None:
    """Short items travel together, and all of them arrive."""
    executor = two.executor()
    found = list(executor.run(abs, range(-3000, 0)))
    assert sorted(found) == [(position, 3000 - position) for position in range(3000)]
    assert list(executor.run(abs, [])) == []


@pytest.mark.slow
def test_what_the_function_raises_comes_back(two: Cluster) -> None:
    with pytest.raises(ValueError, match="three is refused") as caught:
        list(two.executor().run(refuse, range(6)))
    assert any("items" in note for note in caught.value.__notes__)
    assert dict(two.executor().run(refuse, [1, 2])) == {0: 1, 1: 2}, "the cluster goes on"


@pytest.mark.slow
def test_stopping_early_cancels_the_rest(two: Cluster) -> None:
    run = two.executor().run(rest, range(10_000))
    next(run)
    run.close()
    end = time.monotonic() + 60
    left = 1.0
    while left and time.monotonic() < end:
        time.sleep(0.1)
        seen = two.client.run_on_scheduler(look)
        left = seen["queued"] + seen["running"]
    assert left == 0


@pytest.mark.slow
def test_the_scheduler_tells_what_policies_ask(two: Cluster) -> None:
    two.client.wait_for_workers(2, timeout=60)
    seen = two.client.run_on_scheduler(look)
    assert {*seen, "time_s", "planned", "startup_s"} == {*Snapshot._fields}
    assert (seen["arrived"], seen["queued"], seen["running"], seen["slots"]) == (2, 0, 0, 1)


def level() -> int:
    return logging.getLogger("distributed.core").getEffectiveLevel()


@pytest.mark.slow
def test_workers_say_nothing_below_an_error(two: Cluster) -> None:
    """Also when they have closed, and Dask's own ``silence_logs`` with them: their stderr may be a notebook's."""
    assert set(two.client.run(level).values()) == {logging.ERROR}


@pytest.mark.slow
def test_an_address_does_as_well(two: Cluster) -> None:
    """Somebody else's scheduler: its workers work, and stay when we go."""
    with cluster(backend=two.address, security=two.client.security) as joined:
        assert dict(joined.executor().run(abs, [-1, 2])) == {0: 1, 1: 2}
        assert joined.decisions == []
    assert two.workers == 2
    with pytest.raises(ClusterError, match="is closed"):
        joined.executor()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_item_that_kills_is_told() -> None:
    with cluster("balanced", 1, 1) as started, pytest.raises(ClusterError, match=r"items 0 to 0 .*died.*memory_limit"):
        list(started.executor().run(die, [1]))


SERVES = """
import time
import distributed
if __name__ == "__main__":
    served = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    print(served.scheduler_address, flush=True)
    time.sleep(100)
"""


@pytest.mark.slow
def test_a_scheduler_that_dies_is_told(tmp_path: Path) -> None:
    script = tmp_path / "serves.py"
    script.write_text(SERVES)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        found: list[int] = []

        def take_and_kill(joined: Cluster) -> None:
            # a function that workers know who are not ours
            for position, _ in joined.executor().run(time.sleep, [0.05] * 2000):
                found.append(position)
                if len(found) == 20:
                    server.kill()

        try:
            with cluster(backend=address) as joined, pytest.raises(ClusterError, match="the scheduler is gone"):
                take_and_kill(joined)
        finally:
            server.kill()
    assert len(set(found)) == len(found)
    assert 20 <= len(found) < 2000


LEAVES = """
import sys
from codesign_kernel.cluster import cluster
if __name__ == "__main__":
    started = cluster("balanced", 1, 1)
    print(started.address, flush=True)
    if "raise" in sys.argv:
        raise RuntimeError("the user's own mistake")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "raise"])
def test_a_program_that_forgets_to_close_leaves_nothing(how: str, tmp_path: Path) -> None:
    script = tmp_path / "forgets.py"
    script.write_text(LEAVES)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    before = set(psutil.pids())
    done = subprocess.run(
        [sys.executable, str(script), how], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.startswith("tls://127.0.0.1:"), done.stderr
    assert ("RuntimeError" in done.stderr) == (how == "raise"), done.stderr
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["pid", "cmdline"])
        if process.info["pid"] not in before and str(script) in str(process.info["cmdline"])
    ]
    assert not left


@pytest.mark.timeout(60)  # Dask would try for longer
def test_an_unreachable_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "CONNECT_S", 1.0)
    with socket.socket() as mute:  # it keeps its port from others, and does not listen
        mute.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"there is none at {address}"):
            cluster(backend=address)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"backend": "cloud"}, "backend is one of local, slurm, pbs, kubernetes, gateway"),
        ({"mode": "fast"}, "modes of a cluster"),
        ({"minimum": 5, "maximum": 2}, "0 <= minimum <= maximum"),
        ({"backend": "kubernetes"}, r"codesign-playground\[kubernetes\]"),
        ({"backend": "gateway"}, r"codesign-playground\[gateway\]"),
    ],
)
def test_mistakes_start_nothing(arguments: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for absent in ("dask_kubernetes", "dask_gateway"):
        monkeypatch.setitem(sys.modules, absent, None)
        monkeypatch.setitem(sys.modules, f"{absent}.operator", None)
    with pytest.raises((InvalidInputError, ClusterError), match=told):
        ck.cluster(**arguments)


@pytest.mark.parametrize(("name", "submits"), [("slurm", "#SBATCH"), ("pbs", "#PBS")])
def test_jobs_of_a_batch_system(name: str, submits: str, tmp_path: Path) -> None:
    """The script that would be submitted; nothing is, with no worker asked for."""
    with backends.BACKENDS[name].make(
        0,
        {
            "memory": "6GB",
            "queue": "short",
            "shared_temp_directory": str(tmp_path),
            "interface": "lo",
            "walltime": "00:20:00",
        },
    ) as made:
        script = made.job_script()
        assert made.scheduler_address.startswith("tls://127.0.0.1")
        assert not made.plan
    assert submits in script
    assert "short" in script
    assert "00:20:00" in script
    assert "--nthreads 1" in script
    assert "--tls-cert" in script


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, kind: str) -> list[dict[str, Any]]:
    """A module that notes how its class ``kind`` is called; the real one talks to a server as soon as it is made."""
    calls: list[dict[str, Any]] = []

    class Made:
        def __init__(self, **options: Any) -> None:
            calls.append(options)

        def scale(self, workers: int) -> None:
            calls.append({"scale": workers})

    found = ModuleType(module)
    setattr(found, kind, Made)
    monkeypatch.setitem(sys.modules, module.split(".")[0], ModuleType(module.split(".")[0]))
    monkeypatch.setitem(sys.modules, module, found)
    return calls


def test_kubernetes_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch, "dask_kubernetes.operator", "KubeCluster")
    with pytest.raises(InvalidInputError, match="image="):
        backends.kubernetes(3, {})
    backends.kubernetes(3, {"image": "codesign:1", "namespace": "lab"})
    wanted = {"n_workers": 3, "image": "codesign:1", "namespace": "lab", "name": "codesign"}
    assert calls == [{**wanted, "quiet": True, "shutdown_on_close": True}]


def test_gateway_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch, "dask_gateway", "GatewayCluster")
    backends.gateway(3, {"address": "https://gateway", "auth": "jupyterhub", "worker_cores": 2})
    made = {"shutdown_on_close": True, "address": "https://gateway", "auth": "jupyterhub", "worker_cores": 2}
    assert calls == [made, {"scale": 3}]


def test_a_pilot_tells_the_number() -> None:
    """Ten looks at a full queue, then at nothing: the cluster elsewhere is told each change once."""
    told: list[int] = []
    busy = {"arrived": 2, "idle": 0, "cpu": 1.0, "memory": 0.1, "queued": 50, "running": 2, "task_s": 5.0}
    seen = {**busy, "submitted": 52, "finished": 0, "slots": 1}

    class Wants:
        def decide(self, now: Snapshot) -> Decision:
            return Decision(now.time_s, now.planned, 7 if now.queued else 2, "queue", f"{now.queued} wait")

    client = SimpleNamespace(run_on_scheduler=lambda function: seen)
    pilot = Pilot(SimpleNamespace(scale=told.append), client, Log(Wants(), 60.0), 2, 0.01)
    for _ in range(10):
        pilot.step()
    seen["queued"] = 0
    pilot.step()
    assert told == [7, 2]
    assert [(one.workers, one.target, one.reason) for one in pilot.decided.decisions] == [
        (2, 7, "50 wait"),
        (7, 2, "0 wait"),
    ]


def test_start_up_is_measured() -> None:
    startup = StartUp(60.0)
    startup.asked(100.0, 4)
    startup.seen(110.0, 4, 3)
    assert startup.seconds == 60.0
    startup.seen(120.0, 4, 4)
    assert startup.seconds == 40.0
    startup.asked(200.0, 8)
    startup.seen(210.0, 4, 4)  # taken back before they came
    startup.seen(900.0, 8, 8)
    assert startup.seconds == 40.0
