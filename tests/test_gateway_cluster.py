"""A gateway with workers: explorations are spread over them, to the same end whatever is killed on the way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psutil
import pytest

pytest.importorskip("voila")
pytest.importorskip("distributed")
httpx = pytest.importorskip("httpx")

from gateway import Gate, gateway, write_app  # noqa: E402
from test_gateway_kill import PATIENCE_S, left, ran, until  # noqa: E402

from codesign_kernel.client import Client, Job  # noqa: E402
from codesign_kernel.errors import ServiceError  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Fifteen blocks of a sweep, a second or two for one process; and ten times as many.
CHOICES: dict[str, Any] = {
    "rows": [2, 4, 8, 16, 32, 64], "cols": [2, 4, 8, 16, 32, 64], "activation_kib": [1, 2, 4, 8, 16, 32, 64, 128],
    "weight_kib": [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], "accumulator_kib": [0.5, 1, 2, 4, 8, 16, 32],
    "bandwidth_gb_s": [0.8, 1.6, 3.2, 6.4], "frequency_mhz": [100, 200, 400],
    "instruction_kib": [4, 5, 6, 7, 8, 10, 12, 16],
}  # fmt: skip
SWEEP: dict[str, Any] = {"network": "cnn", "space": CHOICES}
LONG: dict[str, Any] = {**SWEEP, "space": {**CHOICES, "bandwidth_gb_s": [0.1 * number for number in range(1, 41)]}}
TRIPS = 'codesign_breaker_trips_total{what="cluster"}'
#: An app that asks for the workers from inside its kernel, through its broker.
APP = """
import codesign_kernel as ck
job = ck.Client.here().explore("cnn", {"rows": [4, 8], "cols": [4, 8]}, sampler="random", budget=4, workers=2)
print("evaluated", job.result()["evaluated"], "of", job.kind)
"""


class Used(NamedTuple):
    """A gateway with workers, and those who use it: Ann may send work to them, Bea may not."""

    gate: Gate
    ann: Client
    bea: Client
    alone: dict[str, Any]
    admin: str


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    """With what one process alone finds."""
    folder = tmp_path_factory.mktemp("w")
    (folder / "apps").mkdir()
    write_app(
        folder / "apps", "wide", APP, capabilities='["explore", "cluster"]',
        more='network = "cluster"\n[limits]\nworkers = 2\n',
    )  # fmt: skip
    with gateway(folder, warm_kernels=0, max_jobs=1, cluster_workers=2) as gate:
        ann = Client(gate.url, gate.token_of("ann", ["explore", "cluster"], "admin"))
        bea = Client(gate.url, gate.token_of("bea", ["explore"]))
        with ann, bea:
            yield Used(gate, ann, bea, explored(bea.explore(**SWEEP)), gate.token_of("ada", ["admin"], "admin"))


def explored(job: Job) -> dict[str, Any]:
    """What came of an exploration, with the digest of its whole front."""
    return {
        **job.result(timeout_s=300),
        "csv": [file["digest"] for file in job.artefacts() if file["name"] == "front.csv"],
    }


def detail(used: Used) -> dict[str, Any]:
    """What administrators are told once every part was tried in time, which a busy machine takes several looks for."""
    headers = {"Authorization": f"Bearer {used.admin}"}

    def told() -> dict[str, Any] | None:
        found: dict[str, Any] = httpx.get(
            f"{used.gate.url}health/detail", headers=headers, timeout=PATIENCE_S, trust_env=False
        ).json()
        late = [part for part in found["parts"].values() if "did not answer within" in part["detail"]]
        return None if late else found

    return until(told, "every part was tried in time")


def counted(gate: Gate, metric: str = "codesign_cluster_workers") -> int:
    """A number of /metrics: how many workers there are, if no other."""
    text = httpx.get(f"{gate.url}metrics", timeout=PATIENCE_S, trust_env=False).text
    found = re.search(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else -1


def dask_workers(gate: Gate) -> list[psutil.Process]:
    return ran(gate, "spawn_main")


def held(used: Used) -> tuple[Job, list[psutil.Process]]:
    """A sweep on two workers, and the workers, that stand still in the middle of it until they are killed."""
    before = used.ann.explore(**LONG, workers=2)  # who wants two now has two for a minute

    def still() -> list[psutil.Process]:
        workers = dask_workers(used.gate)
        if len(workers) == detail(used)["parts"]["cluster"]["workers"]:  # none of them is just starting
            for one in workers:
                one.suspend()
            return workers if len(workers) == 2 else []
        return []

    workers = until(still, "two workers stand still")
    before.stop()
    for one in workers:  # the next result that nobody takes any more has the rest of it dropped
        one.resume()
    assert before.wait(timeout_s=PATIENCE_S).state == "stopped"
    until(lambda: not detail(used)["parts"]["cluster"]["running"], "the workers have dropped it")
    for one in workers:
        one.suspend()
    job = used.ann.explore(**SWEEP, workers=2)
    until(lambda: detail(used)["parts"]["cluster"]["running"], "a worker has a part of it")
    return job, workers


def kill(processes: list[psutil.Process]) -> None:
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def fewer(gate: Gate, than: int, come: Callable[[], list[psutil.Process]]) -> bool:
    """Whether the metrics count fewer workers than that, now or right after what has come again is killed once more:
    else whoever looks late misses the moment without them."""
    if any(counted(gate) < than for _ in range(20)):
        return True
    kill(come())
    return any(counted(gate) < than for _ in range(20))


def test_who_may_not_and_who_asks_for_too_much(used: Used) -> None:
    with pytest.raises(
        ServiceError, match=r"does not allow to send work to the workers.*capability 'cluster'"
    ) as error:
        used.bea.explore(**SWEEP, workers=1)
    assert error.value.status == 403
    with pytest.raises(ServiceError, match=r"limits workers .* to 2 workers, but this asks for 3 workers") as error:
        used.ann.explore(**SWEEP, workers=3)
    assert error.value.status == 403
    with pytest.raises(ServiceError, match=r"capability 'optimize'") as error:
        used.ann.optimize("cnn", space={"rows": (4, 8), "cols": range(4, 6)})
    assert error.value.status == 403
    assert used.ann.me()["scope"]["limits"]["workers"] == 2
    assert "cluster" not in used.bea.me()["scope"]["capabilities"]


def test_stopped_and_gone_on_with(used: Used) -> None:
    """Two workers find what one process finds; a job that is stopped leaves them free; what is known is not asked."""
    assert explored(used.ann.explore(**SWEEP, workers=2, name="mine")) == used.alone
    job = used.ann.explore(**LONG, workers=2)
    until(lambda: job.refresh().told["done"] > 0, "it gets on")
    until(lambda: counted(used.gate) == 2, "two workers for an exploration that asks for two")
    job.stop()
    assert job.wait(timeout_s=PATIENCE_S).state == "stopped"
    until(lambda: not detail(used)["parts"]["cluster"]["running"], "the workers have dropped it")
    steps = [event["done"] for event in job.events() if "done" in event]
    assert steps == sorted(steps)
    assert 0 < steps[-1] < 1
    again = explored(used.ann.explore(**SWEEP, workers=1, name="mine"))
    assert again == {**used.alone, "evaluated": 0}


def test_workers_killed_in_the_middle(used: Used) -> None:
    """The front is that of one process; health and metrics say meanwhile that the workers are away."""
    job, workers = held(used)
    assert counted(used.gate) == len(workers)
    kill(workers)
    until(lambda: fewer(used.gate, 2, lambda: dask_workers(used.gate)), "the metrics count less")
    until(lambda: detail(used)["parts"]["cluster"]["ok"], "the probe turns back")
    assert explored(job) == used.alone


def test_the_whole_cluster_killed_in_the_middle(used: Used) -> None:
    """The breaker opens, the workers are started again, and the exploration goes on with what is missing."""
    job, workers = held(used)
    opened = counted(used.gate, TRIPS)

    def gone() -> dict[str, Any] | None:
        kill(ran(used.gate, "workers.host"))  # also one that has come again since the last look
        now = detail(used)
        return now if "started again" in now["parts"]["cluster"]["detail"] else None

    told = until(gone, "the probe turns")
    assert not told["parts"]["cluster"]["ok"]
    assert told["ready"]
    until(lambda: counted(used.gate, TRIPS) > opened, "the breaker has opened")
    until(lambda: fewer(used.gate, 1, lambda: ran(used.gate, "workers.host")), "the metrics count none")
    until(lambda: not any(map(alive, workers)), "what stood still has ended too")
    assert explored(job) == used.alone
    told = detail(used)
    assert told["parts"]["cluster"]["ok"]
    assert told["breakers"]["cluster"] == "closed"


def test_an_app_asks_from_inside_its_kernel(used: Used) -> None:
    cookies = used.gate.visitor("ann")
    page = httpx.get(f"{used.gate.url}apps/wide", cookies=cookies, timeout=120, trust_env=False, follow_redirects=True)
    assert "evaluated 4 of explore" in page.text


def test_nothing_is_left_of_a_killed_gateway(used: Used) -> None:
    _, workers = held(used)
    workers += ran(used.gate, "workers.host")
    assert len(workers) >= 2
    os.kill(used.gate.process.pid, signal.SIGKILL)
    until(lambda: not any(map(alive, workers)), "the workers have ended")
    until(lambda: not [one for one in left(used.gate.data) if one.pid != os.getpid()], "no process is left")


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # between the two
        return False
