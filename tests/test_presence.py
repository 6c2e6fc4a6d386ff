"""What outlasts a request ends with the sign-in that opened it; and no route is open but those that have to be."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamBufferFullError
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketHandler

from codesign_kernel.scopes import scope_of
from codesign_kernel.server import presence
from codesign_kernel.server.api.gateway import ApiHandler
from codesign_kernel.server.app import _KERNEL_ID, PINGS, Gateway
from codesign_kernel.server.apps import App
from codesign_kernel.server.console import BrokerAdminHandler
from codesign_kernel.server.identity import GateIdentity
from codesign_kernel.server.kernels import FIRST_S, ORPHAN_S, ScopedKernelManager, Seat
from codesign_kernel.server.presence import ERASED, KEPT_OUT, SIGNED_OUT, Presence, owner_now
from codesign_kernel.server.rates import Rates
from codesign_kernel.server.render import AppPage
from codesign_kernel.server.services import Services
from codesign_kernel.server.settings import Settings
from codesign_kernel.server.websocket import GateSocket
from codesign_kernel.store import Store
from codesign_kernel.store.people import People
from codesign_kernel.store.tombstones import Tombstones

BOSS = App("boss", scope_of("boss", {"title": "B", "summary": "S.", "open_to": "admin"}), Path("boss.ipynb"))
OPEN = App("open", scope_of("open", {"title": "O", "summary": "S.", "open_to": "guest"}), Path("open.ipynb"))


class Page:
    """One open socket."""

    def __init__(self, secret: str) -> None:
        self.secret, self.used, self.ended = secret, False, ""

    def end(self, reason: str) -> None:
        self.ended = reason


class Kernels:
    """Seats, and why they end."""

    def __init__(self) -> None:
        self.seats: dict[str, Seat] = {}
        self.ended: dict[str, str] = {}

    def end_soon(self, kernel_id: str, reason: str, cause: str = "ended") -> None:
        self.ended[kernel_id] = reason


class Scene:
    """An administrator with two apps open."""

    def __init__(self, people: People, erased: Path, idle_s: float = 3600) -> None:
        self.people, self.kernels, self.erased = people, Kernels(), Tombstones(erased)
        self.who = people.add("Root", "admin")
        self.secret = people.start_login(self.who.subject, 3600)
        self.page = Page(self.secret)
        self.kernels.seats = {"b": Seat(BOSS, self.who), "o": Seat(OPEN, self.who, sockets={self.page})}
        settings = SimpleNamespace(session_idle_s=idle_s)
        self._services: Any = SimpleNamespace(
            people=people, kernels=self.kernels, settings=settings, privacy=SimpleNamespace(tombstones=self.erased)
        )

    def look(self) -> dict[str, str]:
        asyncio.run(Presence(self._services).look())
        return self.kernels.ended


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        yield Scene(People(store), tmp_path / "erased.jsonl")


def test_nothing_ends_while_somebody_is_signed_in(scene: Scene) -> None:
    assert scene.look() == {}
    assert scene.page.ended == ""


def test_a_socket_ends_with_the_sign_in_that_opened_it(scene: Scene) -> None:
    other = Page(scene.people.start_login(scene.who.subject, 3600))
    scene.kernels.seats["o"].sockets.add(other)
    scene.people.end_login(scene.secret)
    assert scene.look() == {}, "the other browser's kernels go on"
    assert (scene.page.ended, other.ended) == (SIGNED_OUT, "")


def test_a_kernel_ends_with_the_sign_in_that_opened_it(scene: Scene) -> None:
    """Also one whose page was closed; not where another browser of its owner's is connected to it."""
    mine, other = scene.secret, scene.people.start_login(scene.who.subject, 3600)
    guest, shared = Page(other), Page(other)
    scene.kernels.seats = {
        "closed": Seat(OPEN, scene.who, secret=mine), "open": Seat(OPEN, scene.who, sockets={scene.page}, secret=mine),
        "other": Seat(OPEN, scene.who, sockets={guest}, secret=other),
        "shared": Seat(OPEN, scene.who, sockets={shared}, secret=mine),
    }  # fmt: skip
    assert scene.look() == {}
    scene.people.end_login(mine)
    assert scene.look() == {"closed": SIGNED_OUT, "open": SIGNED_OUT}


@pytest.mark.parametrize(
    ("met", "ago_s", "ended"),
    [
        (False, None, False), (False, FIRST_S - 9, False), (False, FIRST_S + 9, True),
        (True, ORPHAN_S - 9, False), (True, ORPHAN_S + 9, True),
    ],
)  # fmt: skip
def test_a_page_has_time_to_connect_from_when_it_was_sent(
    scene: Scene, met: bool, ago_s: float | None, ended: bool
) -> None:
    """Where many open pages at once, rendering and loading one can take minutes."""
    seat = scene.kernels.seats["o"] = Seat(OPEN, scene.who, met=met)
    reasons: list[str] = []

    async def end(kernel_id: str, reason: str) -> None:
        reasons.append(reason)

    kernels: Any = SimpleNamespace(
        seats=scene.kernels.seats, idle_s=lambda kernel_id: 0.0, settings=Settings(kernel_idle_s=900), end=end
    )
    ScopedKernelManager.sent(kernels, "o")
    assert (seat.seen_s < float("inf")) is not met
    seat.seen_s = float("inf") if ago_s is None else time.monotonic() - ago_s
    asyncio.run(ScopedKernelManager.cull_kernel_if_idle(kernels, "o"))
    assert bool(reasons) is ended


@pytest.mark.parametrize("change", ["end_login", "end_logins", "set_password_hash", "disable", "revoke", "set_role"])
def test_what_changes_here_is_looked_at_at_once(scene: Scene, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LOOK_S", 600.0)
    token = scene.people.create_token(scene.who, "t", ["profile"], 1)[0]
    told: list[str] = []
    scene._services.jobs = SimpleNamespace(changed_people=lambda: told.append(change))
    work: dict[str, Callable[[], Any]] = {
        "end_login": lambda: scene.people.end_login(scene.secret),
        "set_password_hash": lambda: scene.people.set_password_hash(scene.who.subject, "new"),
        "revoke": lambda: scene.people.revoke_token(token.id),
        "set_role": lambda: scene.people.set_role(subject, "user"),
    }  # fmt: skip
    subject = scene.who.subject
    scene.kernels.seats["o"].secret = scene.secret
    looked = asyncio.Event()

    async def ended() -> None:
        looker = Presence(scene._services)
        looker.start()
        look = looker.look

        async def look_and_tell() -> None:
            await look()
            looked.set()

        monkeypatch.setattr(looker, "look", look_and_tell)
        await asyncio.to_thread(work.get(change, lambda: getattr(scene.people, change)(subject)))
        await asyncio.wait_for(looked.wait(), 90)
        await looker.close()

    asyncio.run(ended())
    ends = {"revoke": {}, "set_role": {"b": KEPT_OUT}, "disable": {"b": KEPT_OUT, "o": KEPT_OUT}}
    assert scene.kernels.ended == ends.get(change, {"o": SIGNED_OUT})
    assert told == [change]
    assert scene.people.changes == 1


def test_a_sign_in_that_nobody_uses_ends_and_one_that_is_used_does_not(scene: Scene) -> None:
    begin = scene.people.now()
    scene._services.settings.session_idle_s = 30 * 60
    for minutes, used, ended in ((25, True, ""), (50, False, ""), (60, False, SIGNED_OUT)):
        scene.people.now = lambda: begin + timedelta(minutes=minutes)  # noqa: B023  # type: ignore[method-assign]
        scene.page.used = used
        scene.look()
        assert scene.page.ended == ended, minutes


def test_who_is_kept_out_loses_every_kernel(scene: Scene) -> None:
    scene.people.disable(scene.who.subject)
    assert scene.look() == {"b": KEPT_OUT, "o": KEPT_OUT}
    assert scene.page.ended == SIGNED_OUT
    assert owner_now(scene.people, scene.kernels.seats["o"]) is None


@pytest.mark.parametrize("by_now", ["begun", "done"])
def test_who_was_erased_is_told_so(scene: Scene, by_now: str) -> None:
    """Also where another process erases them and this watch sees it before any other part of the gateway does."""
    scene.erased.begin(scene.who.subject)
    scene.people.disable(scene.who.subject)
    if by_now == "done":
        scene.people.remove(scene.who.subject)
    assert scene.look() == {"b": ERASED, "o": ERASED}
    assert scene.page.ended == ERASED


def test_a_list_of_the_erased_that_cannot_be_read_keeps_nobody_in(scene: Scene) -> None:
    scene.erased.path.write_text("nonsense}\n", encoding="ascii")
    scene.people.disable(scene.who.subject)
    assert scene.look() == {"b": KEPT_OUT, "o": KEPT_OUT}


def test_a_lower_role_holds_in_kernels_that_run(scene: Scene) -> None:
    boss, plain = scene.kernels.seats["b"], scene.kernels.seats["o"]
    scene.people.set_role(scene.who.subject, "user")
    assert owner_now(scene.people, boss) is None, "its broker answers to nobody at once"
    assert scene.look() == {"b": KEPT_OUT}
    assert plain.person is not None
    assert plain.person.role == "user"
    assert not plain.person.may("admin")


def test_the_administrators_broker_asks_for_the_role_they_have_now(scene: Scene) -> None:
    from tornado.web import HTTPError

    app = App(
        "c", scope_of("c", {"title": "C", "summary": "S.", "open_to": "admin", "capabilities": ["admin"]}), Path()
    )
    handler = BrokerAdminHandler.__new__(BrokerAdminHandler)
    handler.initialize({}, scene._services, Seat(app, scene.who))
    assert asyncio.run(handler.who())[1] == scene.who.subject
    scene.people.set_role(scene.who.subject, "user")
    with pytest.raises(HTTPError, match="403"):
        asyncio.run(handler.who())


def test_a_page_that_does_not_read_loses_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **more: Any) -> None:
        raise StreamBufferFullError("Reached maximum write buffer size")

    closed: list[bool] = []
    socket = GateSocket.__new__(GateSocket)
    socket.ws_connection = SimpleNamespace(stream=SimpleNamespace(close=lambda: closed.append(True)))  # type: ignore[assignment]
    monkeypatch.setattr(WebSocketHandler, "write_message", full)

    async def write() -> None:
        await socket.write_message("x")

    asyncio.run(write())
    assert closed == [True]


def test_a_page_that_answers_keeps_its_socket_and_one_that_is_gone_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked, closed = [0.0], [0], [False]
    socket = GateSocket.__new__(GateSocket)
    socket.ws_connection = SimpleNamespace(client_terminated=False)  # type: ignore[assignment]
    socket.ping = lambda data: asked.__setitem__(0, asked[0] + 1)  # type: ignore[method-assign,assignment]
    socket.close = lambda *why: closed.__setitem__(0, True)  # type: ignore[method-assign]
    monkeypatch.setattr("codesign_kernel.server.websocket.time", SimpleNamespace(monotonic=lambda: clock[0]))

    def tick(late_s: float = 0.001) -> None:  # a timer is never early
        clock[0] += PINGS["ws_ping_interval"] / 1e3 + late_s
        socket.send_ping()

    for late_s in (0.001, 2.0) * 10:
        tick(late_s)
        socket.on_pong(b"")
    tick(3600.0)  # the machine slept
    socket.on_pong(b"")
    assert (asked, closed) == ([21], [False])
    began = clock[0]
    while not closed[0]:
        tick()
    assert 30 < clock[0] - began < 45
    # else Tornado, which takes both numbers for its own, complains in the log for each socket
    assert PINGS["ws_ping_timeout"] <= PINGS["ws_ping_interval"]


def test_a_long_answer_knows_when_its_session_or_token_has_ended(scene: Scene) -> None:
    number, token = scene.people.create_token(scene.who, "t", ["profile"], 1)
    used: list[tuple[str, str]] = []
    services = SimpleNamespace(
        people=scene.people,
        rates=Rates(Settings()),
        settings=Settings(session_idle_s=3600, public_url=""),
        signals=SimpleNamespace(token_used=lambda *told: used.append(told)),
    )
    identity = GateIdentity()

    def handler(**headers: str) -> ApiHandler:
        made = ApiHandler.__new__(ApiHandler)
        request = httputil.HTTPServerRequest(
            start_line=httputil.RequestStartLine("GET", "/x", "HTTP/1.1"),
            headers=httputil.HTTPHeaders({"Host": "h:1", **headers}),
            connection=SimpleNamespace(context=None),  # type: ignore[arg-type]
        )
        request.remote_ip = "192.0.2.7"
        made.request = request
        made.application = SimpleNamespace(settings={"gateway": services, "identity_provider": identity})  # type: ignore[assignment]
        return made

    by_cookie, by_token = handler(Cookie=f"codesign-1={scene.secret}"), handler(Authorization=f"Bearer {token}")
    assert asyncio.run(by_cookie.still())
    assert asyncio.run(by_token.still())
    scene.people.disable(scene.who.subject)
    assert not asyncio.run(by_cookie.still())
    assert not asyncio.run(by_token.still())
    assert number.owner == scene.who.subject
    assert used == [(scene.who.subject, number.id)]


#: Open to all: the probe of whoever watches, the ways in, what they look like, and what is kept about people.
OPEN_PATHS = {"health", "health/ready", "login", "gate/gate.css", "gate/gate.js", "gate/app.svg", "privacy", "metrics"}


def _path(pattern: str) -> str:
    """A path that a route's pattern matches."""
    found = re.sub(r"\(\?:([0-9a-f]{16})\)", r"\1", pattern)
    found = found.removesuffix("$").removesuffix("/?").replace(_KERNEL_ID, "01234567-0123-0123-0123-0123456789ab")
    made = {
        r"(?:codesign|lab|base)": "lab", r"(gate\.css|gate\.js|app\.svg)": "gate.css", "(.+)": "index.js", "(.*)": "x",
        r"([a-z][a-z0-9_]*\.png)": "a.png", "([a-z][a-z0-9_]*)": "slider", "([0-9a-f]{16})": "0" * 16,
        "([0-9a-f]{32})": "0" * 32, "([0-9a-f]{16}|others)": "others",
        "(?P<id>[0-9a-f-]{8,40})": "0" * 16, "(?P<id>[0-9a-z]{8,40})": "0" * 16,
    }  # fmt: skip
    for group, text in made.items():
        found = found.replace(group, text)
    found = re.sub(r"\(\?P<\w+>[^()]*\)", "0" * 32, found).replace("\\", "")
    assert re.fullmatch(pattern, found), f"{pattern}: no path of it is known, {found} is none"
    return found


def _served(data: Path, ask: Callable[[Gateway, httpx.AsyncClient], Any]) -> None:
    async def run() -> None:
        services = Services.open(Settings(data_dir=data, apps_dir=data, identity="password", guests=True))
        gateway = Gateway(services)
        gateway.initialize([])
        server = HTTPServer(gateway.app)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{sockets[0].getsockname()[1]}", timeout=90
            ) as http:
                await ask(gateway, http)
        finally:
            server.stop()
            await server.close_all_connections()
            services.health.close()
            services.close()

    asyncio.run(run())


@pytest.mark.slow
def test_no_route_is_open_but_the_ways_in(tmp_path: Path) -> None:
    found: dict[str, int] = {}

    async def ask(gateway: Gateway, http: httpx.AsyncClient) -> None:
        for pattern, *_ in gateway.init_handlers():
            path = _path(pattern)
            for method in ("GET", "POST", "DELETE"):
                # a proxy's header: who reads /metrics from this machine itself is its operator
                answer = await http.request(method, path, headers={"X-Forwarded-For": "192.0.2.1"})
                if answer.status_code not in (302, 401, 403, 405):
                    found[f"{method} {path.lstrip('/')}"] = answer.status_code

    _served(tmp_path, ask)
    assert set(found.values()) == {200}, found
    assert set(found) <= {f"GET {path}" for path in OPEN_PATHS}, found


def test_the_tests_of_each_attack_that_the_documentation_names_are_there() -> None:
    here = Path(__file__).parent
    section = (
        (here.parent / "docs" / "serve.md").read_text().partition("## What was attacked\n")[2].partition("\n## ")[0]
    )
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", section)
    assert len(named) > 40
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (here / file).read_text()]
    assert missing == []
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| attack")]
    assert [row for row in rows if "::test_" not in row] == []


def test_a_page_that_could_not_be_made_gives_its_kernel_back() -> None:
    """Nobody has it, so nobody would ever close it: its place would be taken until it is idle."""

    async def stream(*_: object) -> Any:
        raise LookupError("no template")
        yield ""

    kernels = Kernels()
    page = AppPage.__new__(AppPage)
    page._kernel_id, page._renderer = "k", SimpleNamespace(stream=stream)  # type: ignore[assignment]
    page.application = SimpleNamespace(settings={"gateway": SimpleNamespace(kernels=kernels)})  # type: ignore[assignment]
    with pytest.raises(LookupError):
        asyncio.run(page._run(OPEN))
    assert kernels.ended == {"k": "Its page could not be made."}
