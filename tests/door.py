"""A small server of the gateway's own parts in this process: requests come from whichever address a test says."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from argon2 import PasswordHasher
from jupyter_server.auth.authorizer import AllowAllAuthorizer
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from codesign_kernel.scopes import Scope
from codesign_kernel.server import account, api
from codesign_kernel.server.app import Application
from codesign_kernel.server.apps import App
from codesign_kernel.server.handler import GateHandler
from codesign_kernel.server.identity import GateIdentity
from codesign_kernel.server.passwords import Passwords
from codesign_kernel.server.rates import Rates
from codesign_kernel.server.settings import Settings
from codesign_kernel.store import Store
from codesign_kernel.store.people import People
from codesign_kernel.telemetry.trace import Tracer

PASSWORD = "correct horse battery staple"
#: Weak on purpose, so that tests are quick; the server's own parameters are tested by themselves.
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
XSS = '<img src=x onerror="document.title=1">"><script>document.title=2</script>'


class Api(GateHandler):
    """A route of the REST API, as it is seen by what guards it."""

    def get(self) -> None:
        """Needs a capability."""
        self.require_capability("explore")
        self.answer({"name": self.person.name, "via": self.person.via})

    def post(self) -> None:
        """Changes something."""
        self.answer({"changed": True})


class Admin(GateHandler):
    """A route for administrators."""

    def get(self) -> None:
        """Needs a role."""
        self.require_role("admin")
        self.answer({})


class Signals:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def note(self, event: str, who: str = "", **data: Any) -> None:
        self.told.append((event, who))

    often = note

    def refused(self, why: str, who: str = "", **data: Any) -> None:
        self.told.append((why, who))

    def token_used(self, who: str, token: str) -> None:
        self.told.append(("token_used", who))


class Door:
    """A server of sign-in, account and gallery, with ``settings``; it listens on loopback in a thread."""

    def __init__(self, folder: Path, *, jobs: Any = None, tracer: Tracer | None = None, **given: Any) -> None:
        self.settings = Settings(**{"data_dir": folder, "trusted_proxies": ("127.0.0.1",), **given})
        self.store = Store(folder / "store.db")
        self.time = datetime(2026, 5, 4, 12, tzinfo=UTC)
        self.people = People(self.store, lambda: self.time)
        self.signals = Signals()
        self.apps = {
            "open": App("open", Scope("open", XSS, XSS, "guest", frozenset({"profile"})), folder / "open.ipynb"),
            "console": App("console", Scope("console", "Console", "Look", "admin"), folder / "console.ipynb"),
        }
        self.services = SimpleNamespace(
            settings=self.settings, store=self.store, people=self.people, rates=Rates(self.settings), apps=self.apps,
            privacy=None, signals=self.signals, tracer=tracer or Tracer(), jobs=jobs,
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(90)

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def open_() -> None:
            self.identity = GateIdentity()
            self.identity._passwords = Passwords(self.people, WEAK)
            at = self.settings.base_url
            routes = [(f"{at}{pattern}", *rest) for pattern, *rest in account.handlers(self.services)]
            routes += [(f"{at}api/v1/probe", Api), (f"{at}admin", Admin)]
            if self.services.jobs is not None:
                routes += [(f"{at}{pattern.lstrip('/')}", *rest) for pattern, *rest in api.handlers(self.services)]
            app = Application(
                routes,  # type: ignore[arg-type]
                gateway=self.services,
                base_url=at,
                login_url=f"{at}login",
                identity_provider=self.identity,
                authorizer=AllowAllAuthorizer(identity_provider=self.identity),
                cookie_secret="a secret of the tests",
                allow_remote_access=True,
                xsrf_cookie_kwargs={"samesite": "Strict"},
            )
            (bound,) = bind_sockets(0, "127.0.0.1")
            self.server = HTTPServer(app)
            self.server.add_sockets([bound])
            self.url = f"http://127.0.0.1:{bound.getsockname()[1]}{at}"
            started.set()

        self._loop.run_until_complete(open_())
        self._loop.run_forever()
        self._loop.run_until_complete(self.server.close_all_connections())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def close(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self.server.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self.store.close()

    def add(self, name: str = "ada", role: str = "user", password: str = PASSWORD) -> Any:
        """A person with a password."""
        return self.people.add(name, role, password_hash=WEAK.hash(password))

    def browser(self, address: str = "192.0.2.1") -> Browser:
        """Somebody at that address, nobody yet."""
        return Browser(self, address)


class Browser(httpx.Client):
    """Keeps cookies, sends a form's XSRF token as browsers do."""

    def __init__(self, door: Door, address: str = "192.0.2.1") -> None:
        headers = {"X-Forwarded-For": address, "Accept": "text/html"}
        super().__init__(base_url=door.url, headers=headers, timeout=90)
        self.door = door

    def form(self, path: str, data: dict[str, Any] | None = None, page: str = "login", **given: Any) -> httpx.Response:
        """Send a form of ours."""
        if "_xsrf" not in self.cookies:
            self.get(page)
        return self.post(path, data={"_xsrf": self.cookies.get("_xsrf", ""), **(data or {})}, **given)

    def sign_in(self, name: str = "ada", password: str = PASSWORD, **more: str) -> httpx.Response:
        """With name and password."""
        return self.form("login", {"name": name, "password": password, **more})

    @property
    def secret(self) -> str:
        """The value of the session's cookie."""
        return next((cookie.value or "" for cookie in self.cookies.jar if "codesign" in cookie.name), "")


def token_of(door: Door, person: Any, *capabilities: str) -> dict[str, str]:
    """The header of a new token."""
    return {"Authorization": f"Bearer {door.people.create_token(person, 'x', capabilities, 1)[1]}"}
