"""The gateway: a standalone Voila of which only the renderer is left, behind handlers of our own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from jupyter_server import DEFAULT_TEMPLATE_PATH_LIST
from jupyter_server.auth.authorizer import AllowAllAuthorizer
from tornado import httputil, web
from tornado.httpserver import HTTPServer
from traitlets.config import Config
from voila.app import Voila
from voila.configuration import VoilaConfiguration
from voila.utils import get_voila_labextensions_path

from codesign_kernel.errors import ServiceError
from codesign_kernel.server import account, api, console, health
from codesign_kernel.server.broker import Broker
from codesign_kernel.server.files import Files, NoMathJax, Nothing, build_of
from codesign_kernel.server.frames import MOST_BYTES
from codesign_kernel.server.headers import Hardened, address_of, behind_tls, host_allowed, path_allowed
from codesign_kernel.server.identity import GateIdentity, sign_in_path
from codesign_kernel.server.keeping import Keeping
from codesign_kernel.server.kernel_api import KernelEnd, KernelModel
from codesign_kernel.server.kernels import ScopedKernelManager, Seat
from codesign_kernel.server.places import Places
from codesign_kernel.server.presence import Presence, owner_now
from codesign_kernel.server.render import AppPage, Renderer
from codesign_kernel.server.sandbox.compiled import compile_for
from codesign_kernel.server.services import Services
from codesign_kernel.server.settings import Settings
from codesign_kernel.server.websocket import GateConnection, GateSocket

#: JupyterLab's extensions that a page may load; others look for parts that Voila's page does not have.
EXTENSIONS = ("@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget")
TEMPLATE = "codesign"
#: Bytes of a request's head, of its body, and of the body of an upload.
HEAD_BYTES, BODY_BYTES, UPLOAD_BYTES = 32 << 10, 1 << 20, 64 << 20
#: Seconds for the head of a request, or between two on one connection; for its body; to close.
HEAD_S, BODY_S, CLOSE_S = 20, 60, 10
#: Milliseconds between two pings of a websocket; ``websocket.GONE_S`` says when it counts as gone. Tornado takes both
#: numbers for its own pings, too, and complains of a second that is larger than the first.
PINGS = {"ws_ping_interval": 10_000, "ws_ping_timeout": 10_000}
#: Connections of one address at once. A browser opens six and some websockets.
CONNECTIONS = 128
_KERNEL_ID = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_UPLOADS = re.compile(r".*/api/v1/uploads")


class Application(web.Application):
    """Requests before they are anybody's: whose they are, which host they mean, and what path."""

    def find_handler(self, request: httputil.HTTPServerRequest, **given: Any) -> Any:
        """Of Tornado: the handler of a request whose head is there."""
        settings: Settings = self.settings["gateway"].settings
        if request.remote_ip not in settings.trusted_proxies:
            request.headers.pop("X-Request-ID", None)  # anybody could put another's number into the log
        request.remote_ip, request.protocol = address_of(request, settings.trusted_proxies)
        connection: Any = request.connection
        connection.set_max_body_size(UPLOAD_BYTES if _UPLOADS.fullmatch(request.path) else BODY_BYTES)
        if not host_allowed(request.host, settings) or not path_allowed(request.path):
            return self.get_handler_delegate(request, Nothing)
        return super().find_handler(request, **given)


class Listener(HTTPServer):
    """Tornado's server with an end to the connections of one address, so that nobody takes all of them."""

    def initialize(self, *args: Any, trusted: tuple[str, ...] = (), **given: Any) -> None:
        """Of Tornado. ``trusted``: proxies, which bring many people's."""
        super().initialize(*args, **given)
        self._trusted = frozenset(trusted)

    def handle_stream(self, stream: Any, address: Any) -> None:
        """Of Tornado: a connection has come."""
        peer = address[0] if isinstance(address, tuple) else ""
        if peer not in self._trusted:
            others: Any = self._connections
            if sum(other.context.address[0] == peer for other in others) >= CONNECTIONS:
                stream.close()
                return
        super().handle_stream(stream, address)


class Gateway(Voila):
    """The application. No configuration file is read and no argument parsed: the operator's word is ``Settings``."""

    name = "codesign-gateway"

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services, self.build = services, ""

    def initialize(self, argv: Any = None) -> None:
        """Make what Voila's renderer needs, from our configuration only."""
        self.update_config(
            Config(
                VoilaConfiguration={
                    "template": TEMPLATE,
                    "allow_template_override": "NO",
                    "allow_theme_override": "NO",
                    "extension_allowlist": list(EXTENSIONS),
                    "file_allowlist": [],
                }
            )
        )
        settings = self.services.settings
        self.base_url = self.server_url = settings.base_url
        self.log = logging.getLogger("codesign.gateway")
        self.voila_configuration = VoilaConfiguration(parent=self)
        self.setup_template_dirs()
        self.build = build_of(self.static_paths)
        self.kernel_manager = self._kernels(settings)
        self.services.kernels = self.kernel_manager
        health.connect(self.services)
        self.renderer = Renderer(self, self.kernel_manager)
        apps = self.services.apps.values()
        may = {"explore", "cosimulate"} & {one for app in apps for one in app.scope.capabilities}
        compiles = (lambda: compile_for(self.services.run_root, may)) if may else None
        self.places = Places(self.kernel_manager, apps, self.renderer.whole, compiles)
        given = self.init_settings()
        self.app = Application(self.init_handlers(), transforms=[self._hardened(settings)], **given)

    def _kernels(self, settings: Settings) -> ScopedKernelManager:
        signals = self.services.signals

        def changed(what: str, seat: Seat, seconds: float | None) -> None:
            owner = seat.owner or ""
            if what == "given":
                signals.app_opened(seat.app.name, owner)
                return
            signals.kernel(what, seat.app.name, owner, seconds, seat.ending, seat.lines.left_out)
            if what == "started":
                signals.app_opened(seat.app.name, owner)
            elif what != "warmed":
                self.places.freed()

        def broker(seat: Seat) -> Broker:
            assert seat.cell is not None
            more = console.broker_handlers(self.services, seat)
            return Broker(
                seat.cell, self.services.jobs, lambda: owner_now(self.services.people, seat), more, signals.refused
            )

        return ScopedKernelManager(
            parent=self,
            settings=settings,
            confinement=self.services.confinement,
            run_root=self.services.run_root,
            on_change=changed,
            tracer=self.services.tracer,
            make_broker=broker,
            connection_dir=str(self.services.run_root),
            root_dir=str(settings.apps_dir),
            buffer_offline_messages=False,
            cull_idle_timeout=max(1, settings.kernel_idle_s),
            cull_interval=max(1, min(15, settings.kernel_idle_s // 4)),
            cull_connected=True,
        )

    @staticmethod
    def _hardened(settings: Settings) -> type[Hardened]:
        return type("Hardened", (Hardened,), {"strict_transport": behind_tls(settings)})

    def init_settings(self) -> dict[str, Any]:
        """Tornado's settings."""
        settings = self.services.settings
        self.identity_provider = GateIdentity(parent=self)
        loader = jinja2.FileSystemLoader(DEFAULT_TEMPLATE_PATH_LIST)
        pages = jinja2.Environment(loader=loader, autoescape=True, extensions=["jinja2.ext.i18n"])
        pages.globals.update(gettext=lambda text: text)
        secure = {"secure": True} if behind_tls(settings) else {}
        return {
            "gateway": self.services,
            "base_url": self.base_url,
            "server_url": self.base_url,
            "login_url": f"{self.base_url}login",
            "kernel_manager": self.kernel_manager,
            "kernel_websocket_connection_class": GateConnection,
            "identity_provider": self.identity_provider,
            "authorizer": AllowAllAuthorizer(parent=self, identity_provider=self.identity_provider),
            "cookie_secret": secret(settings.file("cookie_secret")).encode(),
            "xsrf_cookie_kwargs": {"samesite": "Strict", **secure},
            "jinja2_env": pages,
            "mathjax_url": "",
            "mathjax_config": "",
            "allow_remote_access": True,  # find_handler has looked at the host, more strictly
            "websocket_max_message_size": MOST_BYTES,
            **PINGS,
            "default_handler_class": Nothing,
            "log_function": self.services.signals.request,
        }

    def init_handlers(self) -> list[Any]:
        """Everything that has an address. What is not here is not there."""
        at = self.base_url
        shares = [Path(path) for path in get_voila_labextensions_path()]
        found: list[Any] = [
            (rf"{at}apps/([a-z][a-z0-9_]*)", AppPage, {"places": self.places, "renderer": self.renderer}),
            (rf"{at}api/kernels/{_KERNEL_ID}", KernelModel),
            (rf"{at}api/kernels/{_KERNEL_ID}/channels", GateSocket),
            (rf"{at}voila/api/shutdown/{_KERNEL_ID}", KernelEnd),
            (rf"{at}voila/static/mathjax\.js", NoMathJax),
            (rf"{at}voila/static/(?:{self.build})/(.+)", Files, {"folders": self.static_paths, "build": True}),
            (rf"{at}voila/static/(.+)", Files, {"folders": self.static_paths}),
            (rf"{at}voila/templates/(?:{TEMPLATE}|lab|base)/static/(.+)", Files, {"folders": self.static_paths}),
            (
                rf"{at}pictures/([a-z][a-z0-9_]*\.png)",
                Files,
                {"folders": [str(self.services.settings.apps_dir / "public")]},
            ),
        ]
        for name in EXTENSIONS:
            folders = [str(path / name) for path in shares if (path / name).is_dir()]
            if folders:
                found.append((rf"{at}voila/labextensions/{re.escape(name)}/(.+)", Files, {"folders": folders}))
        for module in (account, console, health, api):  # the API last: it answers for every other path below it
            found.extend((f"{at}{pattern.lstrip('/')}", *rest) for pattern, *rest in module.handlers(self.services))
        return found

    async def run(
        self,
        listening: socket.socket,
        announce: Callable[[Mapping[str, Any]], None],
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve who comes through ``listening`` until SIGTERM or SIGINT, call ``ending``, and end what runs."""
        settings = self.services.settings
        server = Listener(
            self.app,
            trusted=settings.trusted_proxies,
            max_header_size=HEAD_BYTES,
            max_body_size=UPLOAD_BYTES,
            body_timeout=BODY_S,
            idle_connection_timeout=HEAD_S,
        )
        listening.setblocking(False)
        server.add_socket(listening)
        self.port = listening.getsockname()[1]
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self.places.open()
        self.services.history.start()
        self.services.crew.start()
        self.services.jobs.start()
        kept = Keeping(self.services, loop)
        kept.start()
        presence = Presence(self.services)
        presence.start()
        self.services.signals.started(settings)
        try:
            announce(self.told())
            await stop.wait()
            ending()
        finally:
            server.stop()
            await presence.close()
            await asyncio.to_thread(kept.close)
            await self.places.close()
            await self.kernel_manager.end_all("The gateway is closing.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), CLOSE_S)
            self.services.health.close()
            self.services.signals.stopped()

    def told(self) -> dict[str, Any]:
        """What the operator is told at start."""
        settings, services = self.services.settings, self.services
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = settings.public_url or f"http://{host}:{self.port}{self.base_url}"
        login = f"{url.rstrip('/')}/{sign_in_path(settings).removeprefix(self.base_url)}"
        return {
            "url": url,
            "login": login,
            "port": self.port,
            "pid": os.getpid(),
            "identity": settings.identity,
            "sandbox": f"{services.confinement.kind}: {services.confinement.detail}",
            "apps": sorted(services.apps),
            "unserved": services.unserved,
            "data": str(settings.data_dir),
        }


def bound(settings: Settings) -> socket.socket:
    """A socket that listens at the address of the settings; who comes before the gateway is ready waits.

    Raises:
        ServiceError: the port is taken or not ours to take, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise ServiceError(
            f"the gateway cannot listen on {settings.host}, port {settings.port}: {why}; end what listens there, or "
            "choose an address of this machine with --host and a free port with --port (0: any)"
        ) from error


def secret(path: Path) -> str:
    """The secret of a file that only its owner can read; made where there is none."""
    import secrets

    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    with (
        contextlib.suppress(FileExistsError),
        open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out,
    ):
        out.write(secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="ascii").strip()


def serve(
    settings: Settings, announce: Callable[[Mapping[str, Any]], None], ending: Callable[[], None] = lambda: None
) -> None:
    """Run a gateway until it is told to stop; ``announce`` is called once it listens, ``ending`` when it is told.

    Raises:
        ScopeFileError, SandboxError, StoreError, ServiceError: it cannot start.
    """

    async def run() -> None:
        with bound(settings) as listening:
            services = Services.open(settings)
            try:
                gateway = Gateway(services)
                gateway.initialize([])
                await gateway.run(listening, announce, ending)
            finally:
                services.close()

    asyncio.run(run())
