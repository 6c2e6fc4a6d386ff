"""The way from a job to the workers: numbers of designs go out, and nothing else is taken."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign_kernel.client import VARIABLE
from codesign_kernel.cluster import Demand, Snapshot, cluster
from codesign_kernel.errors import (
    ClusterError,
    EvaluationError,
    InfeasibleDesignError,
    InvalidInputError,
    ScopeFileError,
)
from codesign_kernel.explore.front import Block, pieces_of
from codesign_kernel.explore.search import Evaluation
from codesign_kernel.scopes import Scope
from codesign_kernel.server.apps import App
from codesign_kernel.server.sandbox import Cell, Confinement
from codesign_kernel.server.services import within_cluster
from codesign_kernel.server.work import exploration_of
from codesign_kernel.server.workers import wire
from codesign_kernel.server.workers.asked import Asked
from codesign_kernel.server.workers.crew import Crew
from codesign_kernel.server.workers.relay import Relay
from codesign_kernel.server.workers.remote import RemoteExecutor
from codesign_kernel.session.explore import explore

REQUEST: dict[str, Any] = {"network": "cnn", "space": {"rows": [4, 8, 16], "cols": [4, 8, 16]}, "workers": 2}
TOLD = {"request": REQUEST, "designs": 20}


class Host:
    """Answers as the workers do, in this process; ``spoils`` of its connections break after one answer."""

    def __init__(
        self, folder: Path, spoils: int = 0, told: dict[str, Any] | None = None, introduced: bool = False
    ) -> None:
        self.path = os.fspath(folder / "s")
        self.spoils, self.told, self.introduced = spoils, told or TOLD, introduced
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            with sock, suppress(OSError):  # who asked was told of an error, and left
                self._answer(sock, Asked(self.told))

    def _answer(self, sock: socket.socket, asked: Asked) -> None:
        if self.introduced:
            assert wire.receive(sock, wire.ASKED_BYTES) == (self.told, b"")
        while (message := wire.receive(sock, wire.ASKED_BYTES)) is not None:
            try:
                function, items = asked.work(message[0])
                for position in reversed(range(len(items))):  # they complete in any order
                    wire.send(sock, {"at": position}, pickle.dumps(function(items[position])))
                    if self.spoils:
                        self.spoils -= 1
                        return
            except InvalidInputError as error:
                wire.send(sock, {"error": "InvalidInputError", "message": str(error)})
            wire.send(sock, {"end": True})

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def make(**given: Any) -> Host:
        made.append(Host(tmp_path_factory.mktemp("w"), **given))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesign_kernel.server.workers.remote.PAUSE_S", 0.0)


@pytest.mark.parametrize("spoils", [0, 3])
@pytest.mark.parametrize("how", [{}, {"sampler": "random", "budget": 7, "seed": 1}])
def test_the_front_is_that_of_one_process(host: Callable[..., Host], how: dict[str, Any], spoils: int) -> None:
    """Also over connections that break: what has come is not asked for again, and what has not is."""
    work, space, objectives, limits = exploration_of(REQUEST)
    there = host(spoils=spoils)
    given = {"objectives": objectives, "constraints": limits, **how}
    with closing(RemoteExecutor(2, there.path)) as executor:
        found = explore(work, space, executor=executor, **given)
    alone = explore(work, space, **given)
    assert found.front.equals(alone.front)
    assert found.tally == alone.tally
    assert found.provenance.evaluated == alone.provenance.evaluated
    assert there.spoils == (spoils if not how else 0)  # a sweep of one block is begun, and ended, by the job itself


def test_the_gateway_carries_what_a_job_asks(
    host: Callable[..., Host], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind its own words about the job; a job that finds no workers is told so."""
    work, space, objectives, limits = exploration_of(REQUEST)
    given = {"objectives": objectives, "constraints": limits, "sampler": "random", "budget": 7}
    root = tmp_path_factory.mktemp("c")
    held = Confinement("none", "", frozenset())
    crew, cell = Crew(2, 1 << 30, held, root, root / "log"), Cell(Scope("s"), held, root)
    crew._path = host(spoils=1, introduced=True).path
    with Relay(cell, crew, TOLD):
        with closing(RemoteExecutor(2, os.fspath(cell.socket))) as executor:
            found = explore(work, space, executor=executor, **given)
        assert found.front.equals(explore(work, space, **given).front)
        crew._path = None
        with pytest.raises(ClusterError, match="they are started again"):
            crew.status()
        monkeypatch.setattr("codesign_kernel.server.workers.crew.WAIT_S", 0.1)
        with (
            closing(RemoteExecutor(2, os.fspath(cell.socket))) as executor,
            pytest.raises(ClusterError, match="the gateway's workers are away, and were not back in time"),
        ):
            explore(work, space, executor=executor, **given)
    crew.close()
    cell.remove()


def test_what_the_workers_say_is_raised(host: Callable[..., Host]) -> None:
    work, space, objectives, limits = exploration_of(REQUEST)
    executor = RemoteExecutor(2, host(told={**TOLD, "designs": 3}).path)
    with pytest.raises(InvalidInputError, match=r"3 are left of the scope's limit, but got 7"):
        explore(work, space, objectives=objectives, constraints=limits, executor=executor, sampler="random", budget=7)
    with pytest.raises(ClusterError, match="evaluate designs of an exploration, but got builtin_function_or_method"):
        list(executor.run(abs, [-1]))
    nobody = RemoteExecutor(2, "/nowhere/at/all")
    function = Evaluation(space, len, Asked(TOLD).goal)  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="the gateway's workers cannot be reached"):
        list(nobody.run(function, [np.array([1])]))


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"run": "evaluate"},
        {"run": "evaluate", "items": []},
        {"run": "evaluate", "items": [[]]},
        {"run": "evaluate", "items": [[9]]},
        {"run": "evaluate", "items": [[-1]]},
        {"run": "evaluate", "items": [[True]]},
        {"run": "evaluate", "items": [[1.0]]},
        {"run": "evaluate", "items": [["1"]]},
        {"run": "evaluate", "items": {"0": [1]}},
        {"run": "evaluate", "items": [[1]] * 21},
        {"run": "front", "items": [[1]]},
        {"run": "front", "items": [[0], [0], [0]]},
        {"run": "os.system", "items": [[1]]},
    ],
)
def test_a_message_that_is_none_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Asked(TOLD).work(message)


def test_what_may_be_asked() -> None:
    asked = Asked(TOLD)
    function, items = asked.work({"run": "evaluate", "items": [[0, 8], [3]]})
    assert isinstance(function, Evaluation)
    assert [item.tolist() for item in items] == [[0, 8], [3]]
    assert asked.left == 17
    function, items = asked.work({"run": "front", "items": [[0]]})
    assert isinstance(function, Block)
    assert repr(items) == repr([pieces_of(asked.space, 1 << 17)])
    assert asked.left == 8
    with pytest.raises(InvalidInputError, match="a sweep has at most 5 designs here, but this has 9"):
        Asked({**TOLD, "designs": 5}).work({"run": "front", "items": [[0]]})


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\x00\x00\x00\x05{}", "cut off"),
        (b"\x00\x00\x00\x03[1]", "a JSON object"),
        (b"\x00\x00\x00\x02{]", "is JSON"),
        (b"\x00\x00\x00\x02\xff\xfe", "is JSON"),
        (b"\x00\xff", "at most 100 bytes"),
        (b"\x00\x00\x00\x65" + b" " * 101, "at most 100 bytes"),
        (b"\x00\x00\x00\x60" + b"[" * 96, "is JSON"),
    ],
)
def test_bytes_that_are_no_message(sent: bytes, words: str) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(sent)
        near.shutdown(socket.SHUT_WR)
        with pytest.raises(wire.Garbled, match=words):
            wire.receive(far, 100)


def test_a_kernel_in_a_cell_is_told_where_the_workers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/cell/broker")
    with pytest.raises(ClusterError, match=r"ask the gateway's workers: ck\.Client\.here"):
        cluster(maximum=2)


def test_an_error_of_an_evaluation_keeps_its_name() -> None:
    from codesign_kernel.server.workers.remote import _error

    assert isinstance(_error("EvaluationError", "x"), EvaluationError)
    assert isinstance(_error("InfeasibleDesignError", "x"), InfeasibleDesignError)
    for name in ("ServiceError", "SystemExit", "annotations", "__doc__", ""):
        assert type(_error(name, "x")) is ClusterError


def seen(time_s: float, planned: int, tasks: int, idle: int = 0) -> Snapshot:
    queued = max(0, tasks - planned)
    return Snapshot(time_s, planned, planned, idle, 0.0, 0.0, queued, tasks - queued, 0.5, tasks, 0)


def test_as_many_workers_as_tasks() -> None:
    policy = Demand(1, 4, rest_s=60.0)
    assert policy.decide(seen(0, 1, 0)).target == 1
    assert policy.decide(seen(1, 1, 3)).target == 3
    assert policy.decide(seen(2, 3, 9)).target == 4
    assert policy.decide(seen(3, 4, 4)).target == 4
    assert [policy.decide(seen(t, 4, 1, idle=3)).target for t in (10, 40, 69)] == [4, 4, 4]
    assert policy.decide(seen(69.5, 4, 4)).target == 4  # wanted again: the rest begins anew
    assert [policy.decide(seen(t, 4, 1, idle=3)).target for t in (70, 129, 130)] == [4, 4, 1]
    assert policy.decide(seen(200, 5, 0)).target == 4
    with pytest.raises(InvalidInputError, match="0 <= minimum <= maximum"):
        Demand(3, 2)


def test_a_scope_is_cut_down_to_the_workers_there_are() -> None:
    whole = Scope("s", capabilities=frozenset({"explore", "cluster"}), network="cluster", limits={"workers": 8})
    assert whole.narrowed(["explore", "cluster", "admin"], 8) is whole
    two = whole.narrowed(["explore", "cluster"], 2)
    assert (two.limits["workers"], two.network, two.may("cluster")) == (2, "cluster", True)
    for none in (whole.narrowed(["explore", "cluster"], 0), whole.narrowed(["explore"], 8)):
        assert (none.network, none.capabilities) == ("none", {"explore"})
        assert none.limits == {**whole.limits, "workers": none.limits["workers"]}


def test_an_app_asks_for_no_more_than_there_is(tmp_path: Path) -> None:
    scope = Scope("wide", capabilities=frozenset({"cluster"}), network="cluster", limits={"workers": 3})
    app = App(name="wide", notebook=tmp_path / "wide.ipynb", scope=scope)
    within_cluster(app, 3)
    with pytest.raises(
        ScopeFileError, match=r"wide.toml asks for 3 workers, and this gateway has 2 \(cluster_workers\)"
    ):
        within_cluster(app, 2)
    with pytest.raises(ScopeFileError, match=r"this gateway has none \(cluster_workers is 0\)"):
        within_cluster(app, 0)
