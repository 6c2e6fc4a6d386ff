"""Places of a running gateway: who waits for one, how one becomes free, and when its kernel ends."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import SLIDER
from gateway import Gate, gateway, write_app
from visits import KERNEL, PATIENCE_S, client, closed, head_of, joined, opened, serves, until_closed, visit

from codesign_kernel.server.presence import KEPT_OUT, SIGNED_OUT
from codesign_kernel.store import Store
from codesign_kernel.store.people import People

__all__ = ["visit"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """One of our own: nobody else holds its four places."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "apps").mkdir()
    write_app(folder / "apps", "slider", SLIDER)
    write_app(folder / "apps", "console", SLIDER, open_to="admin")
    with gateway(folder, warm_kernels=0, max_kernels=4) as running:
        yield running


def test_a_page_that_is_left_before_it_is_there_takes_no_place(gate: Gate, visit: tuple[Any, str]) -> None:
    """Else a few requests, each let go at once, would keep all places taken."""
    before = set((gate.data / "run").iterdir())
    with client(gate, "hasty") as http:
        line = socket.create_connection(("127.0.0.1", gate.told["port"]), timeout=5)
        line.sendall(head_of(gate, http, "/apps/slider").replace("\n", "\r\n").encode() + b"\r\n\r\n")
        deadline = time.monotonic() + 30
        while set((gate.data / "run").iterdir()) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        line.close()
        assert set((gate.data / "run").iterdir()) > before
        while set((gate.data / "run").iterdir()) != before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert set((gate.data / "run").iterdir()) == before
    assert visit[0].get(f"api/kernels/{visit[1]}").status_code == 200


def test_who_comes_when_all_places_are_taken_waits_politely(gate: Gate, visit: tuple[Any, str]) -> None:
    with ExitStack() as held:
        for number in range(3):
            http = held.enter_context(client(gate, f"guest {number}"))
            kernel = opened(http)
            if number < 2:
                held.callback(closed, http, kernel)
        late = held.enter_context(client(gate, "late"))
        page = late.get("apps/slider")
        assert page.status_code == 503
        assert 1 <= int(page.headers["Retry-After"]) <= 15
        assert "number 1 in the queue" in page.text
        assert 'http-equiv="refresh"' in page.text
        told = late.get("apps/slider", headers={"Accept": "application/json"}).json()["error"]
        assert (told["code"], told["place"]) == ("wait", 1)
        metrics = late.get("metrics").text
        assert re.search(r'^codesign_request_seconds_count\{.*status="wait"\} 2.0$', metrics, re.MULTILINE)
        assert 'codesign_errors_total{where="request"} 0.0' in metrics, "a place to wait is no fault"
        closed(http, kernel)
        deadline = time.monotonic() + PATIENCE_S
        while (page := late.get("apps/slider")).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.2)
        found = KERNEL.search(page.text)
        assert found is not None, page.text[-500:]
        closed(late, found[1])


def test_a_kernel_that_dies_closes_its_sockets_and_frees_its_place(gate: Gate) -> None:
    import psutil

    with client(gate, "unlucky") as http:
        before = {child.pid for child in psutil.Process(gate.process.pid).children(recursive=True)}
        kernel = opened(http)
        born = [c for c in psutil.Process(gate.process.pid).children(recursive=True) if c.pid not in before]
        with joined(gate, http, kernel) as ws:
            for process in born:
                if "ipykernel" in " ".join(process.cmdline()) and not process.children():
                    process.kill()
            until_closed(ws)
            assert ws.close_code == 4404
            assert ws.close_reason
        assert http.get(f"api/kernels/{kernel}").status_code == 404


def test_a_socket_ends_with_its_session_and_a_kernel_with_its_owners_role(gate: Gate) -> None:
    with client(gate, "leaver") as http, client(gate, "demoted", "admin") as boss:
        mine, theirs = opened(http), opened(boss, "console")
        with (
            joined(gate, http, mine) as ws,
            joined(gate, boss, theirs) as admins,
            Store(f"sqlite:///{gate.data / 'store.db'}") as store,
        ):
            people = People(store)
            people.end_logins(gate.subject("leaver"))
            people.set_role(gate.subject("demoted"), "user")
            until_closed(ws)
            until_closed(admins)
            assert (ws.close_code, ws.close_reason) == (4404, SIGNED_OUT)
            assert (admins.close_code, admins.close_reason) == (4404, KEPT_OUT)
        assert boss.get(f"api/kernels/{theirs}").status_code == 404
    assert serves(gate)
