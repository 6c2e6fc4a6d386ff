"""What a gateway stands on is killed while it is used: what was saved is there, readiness follows, nothing hangs.

Dask workers are killed in ``test_gateway_cluster.py``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

pytest.importorskip("voila")
httpx = pytest.importorskip("httpx")

from browser import free_port  # noqa: E402
from conftest import SLIDER  # noqa: E402
from gateway import Gate, gateway, write_app  # noqa: E402
from servers import Postgres, Redis  # noqa: E402
from test_gateway_rules import binary  # noqa: E402
from visits import joined, opened, until_closed  # noqa: E402
from websockets.sync.client import ClientConnection  # noqa: E402

from codesign_kernel.store import Store  # noqa: E402
from codesign_kernel.store.people import People  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Seconds within which each request is answered, whatever is away: the gateway's own patience (8 s) and a busy machine.
#: And for what has to end or come back.
ANSWER_S, PATIENCE_S = 90, 180
#: An exploration that goes on for minutes, and a job that takes no time.
LONG = {
    "network": "cnn", "sampler": "random", "budget": 10_000_000,
    "space": {"rows": [4, 8, 16, 32], "cols": [4, 8, 16, 32], "activation_kib": [*range(64, 128, 4)],
              "weight_kib": [*range(256, 512, 16)], "bandwidth_gb_s": [0.1 * number for number in range(1, 61)],
              "frequency_mhz": [*range(100, 160)]},
}  # fmt: skip
SHORT = {"model": "cnn"}


class Running(NamedTuple):
    """A gateway in use: a browser that is signed in, and a program with a token."""

    gate: Gate
    http: Any
    api: Any


def until(holds: Callable[[], Any], what: str) -> Any:
    """What ``holds`` returns once that is true."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if found := holds():
            return found
        time.sleep(0.2)
    raise AssertionError(f"still not: {what}")


@contextlib.contextmanager
def running(folder: Path, store_url: str = "", **settings: Any) -> Iterator[Running]:
    """A gateway with one app, and clients of its owner's, each of whose requests has an answer in ``ANSWER_S``."""
    (folder / "apps").mkdir(exist_ok=True)
    write_app(folder / "apps", "slider", SLIDER)
    with (
        gateway(folder, warm_kernels=0, max_jobs=1, **settings) as gate,
        httpx.Client(base_url=gate.url, timeout=ANSWER_S, trust_env=False, headers={"Accept": "text/html"}) as http,
    ):
        assert http.get(gate.sign_in, follow_redirects=True).status_code == 200
        with Store(store_url or f"sqlite:///{gate.data / 'store.db'}") as store:
            people = People(store)
            owner = people.by_name("owner")
            assert owner is not None
            token = people.create_token(owner, "kill", ["profile", "explore"], 1)[1]
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=0"}
        with httpx.Client(base_url=f"{gate.url}api/v1/", headers=headers, timeout=ANSWER_S, trust_env=False) as api:
            yield Running(gate, http, api)


def submit(api: Any, kind: str, request: dict[str, Any]) -> str:
    answer = api.post(kind, json=request)
    assert answer.status_code in (200, 202), answer.text
    return str(answer.json()["id"])


def state(api: Any, job: str) -> str:
    answer = api.get(f"jobs/{job}")
    return str(answer.json()["state"]) if answer.status_code in (200, 202) else f"status {answer.status_code}"


def ready(gate: Gate) -> int:
    return int(httpx.get(f"{gate.url}health/ready", timeout=ANSWER_S, trust_env=False).status_code)


def ran(gate: Gate, part: str, without: str = "no such words") -> list[psutil.Process]:
    """The processes below the gateway with that, and not ``without``, in their command line."""
    found = []
    for one in psutil.Process(gate.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if part in (line := " ".join(one.cmdline())) and without not in line:
                found.append(one)
    return found


def killed(processes: list[psutil.Process]) -> None:
    """Kill them; one that has ended meanwhile, as what watches another does, has ended."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def left(folder: Path) -> list[psutil.Process]:
    """Processes whose command line, environment or working directory names the folder."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in " ".join([*one.cmdline(), *one.environ().values(), one.cwd()]):
                found.append(one)
    return found


def slider_of(ws: ClientConnection) -> str:
    """The widget's comm, as a page asks for it."""
    ws.send(binary("comm_open", {"target_name": "jupyter.widget.control", "comm_id": "k", "data": {}}))
    ws.send(binary("comm_msg", {"comm_id": "k", "data": {"method": "request_states"}}))
    seen = b""
    while b"update_states" not in seen:
        seen = bytes(ws.recv(timeout=ANSWER_S))
    found = re.search(rb'"([0-9a-f]{32})": ?\{"model_name": ?"IntSliderModel"', seen)
    assert found is not None
    return found[1].decode()


def turned(ws: ClientConnection, slider: str, to: int) -> None:
    """Move the slider; back when the app has answered."""
    data = {"method": "update", "state": {"value": to}, "buffer_paths": []}
    ws.send(binary("comm_msg", {"comm_id": slider, "data": data}))
    while f"size {to}<".encode() not in bytes(ws.recv(timeout=ANSWER_S)):
        pass


def refused(http: Any, api: Any, done: str) -> None:
    """Without a database nobody is let in, and is told when to come back; what is known of the process is told."""
    asked = [(api, "me"), (api, f"jobs/{done}"), (api, "jobs"), (http, ""), (http, "apps/slider"), (http, "account")]
    for client, path in asked:
        answer = client.get(path)
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
    assert api.post("profiles", json=SHORT).status_code == 503
    assert http.get("health").status_code == 200


@contextlib.contextmanager
def silent(server: Postgres) -> Iterator[None]:
    """It is there and says nothing, as one behind a network that is gone."""
    assert server._process is not None
    first = psutil.Process(server._process.pid)
    everything = [first, *first.children(recursive=True)]
    for one in everything:
        one.suspend()
    try:
        yield
    finally:
        for one in everything:
            one.resume()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path is short, because sockets lie in it."""
    return tmp_path_factory.mktemp("k")


@pytest.mark.postgres
@pytest.mark.redis
def test_database_and_redis_killed_while_in_use(short: Path) -> None:
    with Postgres() as database, Redis() as redis:
        url = database.new_store()
        with running(short, url, database_url=url, redis_url=redis.url) as (gate, http, api):
            done = submit(api, "profiles", SHORT)
            until(lambda: state(api, done) == "done", "the first job is done")
            result = api.get(f"jobs/{done}/result").content
            long = submit(api, "explorations", LONG)
            until(lambda: state(api, long) == "running", "the long job runs")
            queued = submit(api, "profiles", {**SHORT, "name": "waits"})
            with joined(gate, http, opened(http)) as ws:
                slider = slider_of(ws)
                turned(ws, slider, 1)
                redis.kill()
                assert state(api, long) == "running"  # rates are counted here meanwhile
                assert ready(gate) == 200
                with silent(database), ThreadPoolExecutor(2) as others:
                    # each of the two is as patient as the gateway, so they ask at once
                    asked = [others.submit(client.get, path) for client, path in ((api, "me"), (http, "apps/slider"))]
                    until(lambda: ready(gate) == 503, "readiness is false")
                    turned(ws, slider, 2)  # who has an app open goes on
                    assert httpx.get(f"{gate.url}health", timeout=ANSWER_S, trust_env=False).status_code == 200
                    assert [one.result().status_code for one in asked] == [503, 503]
                until(lambda: ready(gate) == 200, "readiness is true again")
                until(lambda: state(api, long) in ("running", "done"), "the long job goes on")
                database.kill()
                until(lambda: ready(gate) == 503, "readiness is false")
                turned(ws, slider, 3)
                refused(http, api, done)
                assert http.get("metrics").status_code == 200
                database.start()
                redis.start()
                until(lambda: ready(gate) == 200, "readiness is true again")
                turned(ws, slider, 4)
            until(lambda: api.get(f"jobs/{done}/result").content == result, "the first result is there")
            assert api.delete(f"jobs/{long}").status_code in (200, 202, 204)
            until(lambda: state(api, queued) == "done", f"the job that waited is done, but {state(api, queued)}")
            assert gate.process.poll() is None
    until(lambda: not left(short), "no process is left")


def test_kernel_and_runner_killed(short: Path) -> None:
    with running(short) as (gate, http, api):
        kernel = opened(http)
        with joined(gate, http, kernel) as ws:
            slider_of(ws)
            killed(ran(gate, "ipykernel_launcher", without="sandbox.launch"))
            until_closed(ws)
        # both of its processes at once: what is inside, and what watches it
        long = submit(api, "explorations", LONG)
        until(lambda: state(api, long) == "running", "the job runs")
        after = submit(api, "profiles", SHORT)
        killed(until(lambda: ran(gate, "codesign_kernel.server.worker"), "the job has processes"))
        until(lambda: state(api, long) == "failed", "the job failed")
        assert "Killed" in api.get(f"jobs/{long}").text
        until(lambda: state(api, after) == "done", "the next job is done")
        until(lambda: not list((gate.data / "run").glob("*")), "their folders are gone")
        assert ready(gate) == 200
        # the kernel's watcher
        kernel = opened(http)
        killed(ran(gate, "sandbox.launch"))
        until(lambda: http.get(f"api/kernels/{kernel}").status_code == 404, "the kernel is gone")
        until(lambda: not ran(gate, "ipykernel_launcher"), "its processes are gone")
        opened(http)
    until(lambda: not left(short), "no process is left")


def test_server_killed_and_started_again(short: Path) -> None:
    port = free_port()  # the same again: it is in the names of cookies
    with running(short, port=port) as (gate, http, api):
        done = submit(api, "profiles", SHORT)
        until(lambda: state(api, done) == "done", "the first job is done")
        result = api.get(f"jobs/{done}/result").content
        long = submit(api, "explorations", LONG)
        until(lambda: state(api, long) == "running", "the long job runs")
        waits = submit(api, "profiles", {**SHORT, "name": "waits"})
        kernel = opened(http)
        cookies, headers = dict(http.cookies), dict(api.headers)
        os.kill(gate.process.pid, signal.SIGKILL)
        gate.process.wait(PATIENCE_S)
        until(lambda: not left(short), "everything that it started has ended")
    with running(short, port=port) as (again, http, api):
        assert not list((again.data / "run").glob("*")) or state(api, long) == "running"
        api.headers.update(headers)
        http.cookies.clear()
        http.cookies.update(cookies)
        assert http.get("account").status_code == 200  # still signed in
        assert http.get(f"api/kernels/{kernel}").status_code == 404
        assert state(api, done) == "done"
        assert api.get(f"jobs/{done}/result").content == result
        until(lambda: state(api, long) == "running", "the job that ran runs again")
        assert api.delete(f"jobs/{long}").status_code in (200, 202, 204)
        until(lambda: state(api, waits) == "done", "the job that waited is done")
        assert ready(again) == 200
    until(lambda: not left(short), "no process is left")
