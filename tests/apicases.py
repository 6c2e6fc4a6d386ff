"""The job service and the API in this process, for tests: real store, vault, sandbox and routes; people by name."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from codesign_kernel.scopes import Scope
from codesign_kernel.server.api import operations
from codesign_kernel.server.api.call import scope_for
from codesign_kernel.server.api.paths import paths
from codesign_kernel.server.api.reading import Refusal
from codesign_kernel.server.api.serving import ApiMixin
from codesign_kernel.server.jobs import Jobs
from codesign_kernel.server.runner import Ran, Runner
from codesign_kernel.server.sandbox import probe
from codesign_kernel.server.settings import Settings
from codesign_kernel.store import Store
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.people import People
from codesign_kernel.store.persons import Person

#: Requests that a job of each kind can be asked for with.
PROFILE: dict[str, Any] = {"model": "cnn"}
EVALUATION: dict[str, Any] = {"network": "lenet5", "designs": [{"rows": 8, "cols": 8}]}


@dataclass
class Here:
    """A runner without a process: what ``answer`` says comes of each job. ``hold`` lets them wait."""

    answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda job: {"result": {"asked": job["request"]}, "files": []}
    hold: threading.Event = field(default_factory=threading.Event)
    batches: list[tuple[str, list[str]]] = field(default_factory=list)

    def run(self, owner: str, scope: Scope, jobs: Any, halt: threading.Event, ran: Ran, find: Any) -> str:
        """As :meth:`Runner.run`."""
        self.batches.append((owner, [job["id"] for job in jobs]))
        while not self.hold.wait(0.01):
            if halt.is_set():
                return "stopped"
        for job in jobs:
            ran.progress(job["id"], 0.5, "half way", True)
            told = self.answer(job)
            if "dies" in told:
                return str(told["dies"])
            ran.ended(job["id"], told)
        return ""


def service(folder: Path, runner: Any = None, *, consent: bool = False, **settings: Any) -> tuple[Jobs, People, Store]:
    """A job service with its store; without a runner of one's own, the real one in the sandbox."""
    parts = {name: settings.pop(name) for name in ("told", "tracer", "others") if name in settings}
    made = Settings(data_dir=folder, **settings)
    store = Store(folder / "store.db")
    confined = runner or Runner(probe(), folder / "r")
    jobs = Jobs(made, store, Vault(folder / "keys"), confined, consent=lambda owner: consent, **parts)
    return jobs, People(store), store


class Door(ApiMixin):
    """The API for whom the header says; ``guards`` that are named are left off."""

    def initialize(self, routes: Any, base: str, jobs: Jobs, people: dict[str, Person]) -> None:  # type: ignore[override]
        super().initialize(routes, base)
        self.jobs, self._people = jobs, people  # type: ignore[misc]

    def prepare(self) -> None:
        token = self.request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self._people:
            self.refuse(Refusal(401, "not_signed_in", "who are you?"))
            return
        self.person = self._people[token]  # type: ignore[misc]
        try:
            self.admit(self.person)
        except Refusal as error:
            self.refuse(error)

    @property
    def scope(self) -> Scope:
        return scope_for(self.person, self.jobs.settings.cluster_workers)

    def write_error(self, status_code: int, **given: Any) -> None:
        self.refuse(Refusal(status_code, "fault" if status_code >= 500 else "not_found", "no"))


StreamedDoor = web.stream_request_body(Door)


@contextlib.contextmanager
def served(jobs: Jobs, people: dict[str, Person]) -> Iterator[str]:
    """The API on a loopback port, in a thread; its URL without a slash."""
    ready, url, loops = threading.Event(), [], []

    async def run() -> None:
        found = [
            (f"/api/v1{path}", StreamedDoor, {"routes": one, "base": "/api/v1", "jobs": jobs, "people": people})
            for path, one in paths()
        ]
        server = HTTPServer(web.Application(found, log_function=lambda handler: None), max_body_size=256 << 20)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        url.append(f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(60)
        yield url[0]
    finally:
        for loop, stop in loops:
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)


class Served(NamedTuple):
    """A running API."""

    url: str
    jobs: Jobs
    runner: Here
    people: dict[str, Person]

    def asker(self, who: str = "ann") -> httpx.Client:
        """A plain HTTP client."""
        headers = {"Authorization": f"Bearer {who}"}
        return httpx.Client(base_url=f"{self.url}/api/v1/", headers=headers, timeout=60)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The API for some people, on a runner that needs no process."""
    runner = Here()
    jobs, people, store = service(tmp_path_factory.mktemp("api"), runner, belongings_bytes=1 << 20, jobs_per_user=1)
    known = {name: people.add(name, role) for name, role in (("ann", "user"), ("bob", "user"), ("gil", "guest"))}
    eve = known["bob"]
    known["cut"] = Person(eve.subject, "bob", "user", capabilities=frozenset({"profile"}), via="token")
    runner.hold.set()
    jobs.start()
    try:
        # a small evaluation is waited for, which ends with it: on a busy machine for longer than people would
        with served(jobs, known) as url, pytest.MonkeyPatch.context() as patch:
            patch.setattr(operations, "SMALL_S", operations.LONGEST_S)
            yield Served(url, jobs, runner, known)
    finally:
        runner.hold.set()
        jobs.close()
        store.close()


@pytest.fixture
def held(api: Served) -> Iterator[Served]:
    """The same while nothing is worked on, and what was asked for before has ended."""
    end_s = time.monotonic() + 60
    while any(api.jobs.counts().values()):
        assert time.monotonic() < end_s, api.jobs.counts()
        time.sleep(0.005)
    api.runner.hold.clear()
    try:
        yield api
    finally:
        api.runner.hold.set()
        for person in api.people.values():
            api.jobs.stop_all(person.subject)


def fresh() -> dict[str, Any]:
    """A request that nobody has made before."""
    fresh.number += 1  # type: ignore[attr-defined]
    return {"network": "cnn", "space": {"rows": 4, "cols": 4}, "seed": fresh.number}  # type: ignore[attr-defined]


fresh.number = 0  # type: ignore[attr-defined]
