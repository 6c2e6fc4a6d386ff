"""Visitors of a running gateway, as the tests play them: by HTTP, and by the websocket of a kernel."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway import Gate
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from codesign_kernel.server.frames import BINARY

#: Seconds for what is there within one on a machine that is not busy.
PATIENCE_S = 90
KERNEL = re.compile(r'"kernelId": ?"([0-9a-f-]{36})"')


def client(gate: Gate, name: str = "", role: str = "user", **headers: str) -> Any:
    """A browser's worth of HTTP, signed in if it has a name."""
    cookies = gate.visitor(name, role) if name else {}
    return httpx.Client(base_url=gate.url, cookies=cookies, headers={"Accept": "text/html", **headers}, timeout=120)


def opened(http: Any, app: str = "slider") -> str:
    """The kernel of an app that this visitor has opened."""
    page = http.get(f"apps/{app}")
    assert page.status_code == 200, page.text
    found = KERNEL.search(page.text)
    assert found is not None, page.text[-2000:]
    return found[1]


def closed(http: Any, kernel: str) -> None:
    """As a page does that is closed."""
    answer = http.post(f"voila/api/shutdown/{kernel}", data={"_xsrf": http.cookies.get("_xsrf")})
    assert answer.status_code == 204, answer.text


def joined(gate: Gate, http: Any, kernel: str, **given: Any) -> ClientConnection:
    """The websocket of a kernel, as the page opens it.

    Everything that comes is taken in at once, and no answer to a ping is waited for: one that stops reading, or a
    gateway that is busy, would have the client close the socket by itself.
    """
    url = f"{gate.url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?session_id={time.monotonic_ns()}"
    cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    given = {"origin": gate.url.rstrip("/"), "subprotocols": [BINARY], "open_timeout": PATIENCE_S} | given
    given = {"max_queue": None, "ping_interval": None} | given
    return connect(url, additional_headers={"Cookie": cookie}, max_size=None, proxy=None, **given)


def code_after(gate: Gate, http: Any, kernel: str, frame: str | bytes, **given: Any) -> int | None:
    """The code with which the gateway closes a socket after a frame; ``None`` if it stays open."""
    with joined(gate, http, kernel, **given) as ws:
        deadline = time.monotonic() + PATIENCE_S
        try:
            ws.send(frame)
            while time.monotonic() < deadline:
                ws.recv(timeout=PATIENCE_S)
        except TimeoutError:
            return None
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd is not None else 1006
    return None


def until_closed(ws: ClientConnection) -> None:
    """Read until the gateway has closed the socket."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            ws.recv(timeout=PATIENCE_S)


def head_of(gate: Gate, http: Any, path: str, method: str = "GET", host: str = "", **headers: str) -> str:
    cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    more = "".join(f"\n{name.replace('_', '-')}: {value}" for name, value in headers.items())
    host = host or f"127.0.0.1:{gate.told['port']}"
    return f"{method} {path} HTTP/1.1\nHost: {host}\nConnection: close\nCookie: {cookie}{more}"


@pytest.fixture(scope="module")
def visit(gate: Gate) -> Iterator[tuple[Any, str]]:
    """Somebody who has the app open, and its kernel."""
    # a socket all the while: a kernel whose page has gone is ended after some minutes, which a busy machine may take
    with client(gate, "victim") as http, joined(gate, http, kernel := opened(http)):
        yield http, kernel
        closed(http, kernel)


def serves(gate: Gate) -> bool:
    """Whether the gateway answers to somebody else, and has not ended."""
    return gate.process.poll() is None and httpx.get(f"{gate.url}health", timeout=PATIENCE_S).status_code == 200
