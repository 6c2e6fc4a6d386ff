"""An app's page: its notebook run on a kernel and rendered by Voila's template."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import nbformat
from nbformat import NotebookNode
from tornado import web
from traitlets.config import Config
from voila.notebook_renderer import NotebookRenderer
from voila.utils import get_page_config

from codesign_kernel.server.apps import App
from codesign_kernel.server.handler import GateHandler, Refused
from codesign_kernel.server.headers import APP_POLICY, sockets_of
from codesign_kernel.server.identity import GateIdentity
from codesign_kernel.server.kernels import KERNEL, ScopedKernelManager
from codesign_kernel.server.pages import waiting_page
from codesign_kernel.server.places import Places, Wait
from codesign_kernel.server.rates import address_key
from codesign_kernel.store.persons import Person

if TYPE_CHECKING:
    from codesign_kernel.server.app import Gateway

#: Seconds that one cell of an app may take before its page is given up.
CELL_S = 120
#: Seconds without output after which the page is told that there is more to come.
_HEARTBEAT_S = 10
_HEARTBEAT = "<script>window.voila_heartbeat()</script>\n"
_FAILED = "This part of the app failed (number {number}); whoever runs this gateway finds the details under it."


class AppRenderer(NotebookRenderer):
    """Voila's renderer for a file that the gateway names; no path comes from a request."""

    async def load_notebook(self, path: str) -> NotebookNode:
        """The notebook, for our kernel whatever it says."""
        notebook = await asyncio.to_thread(nbformat.read, path, as_version=4)
        notebook.metadata["kernelspec"] = NotebookNode(name=KERNEL, display_name="Python", language="python")
        notebook.metadata.pop("voila", None)
        return notebook


class Renderer:
    """Renders apps for one gateway."""

    def __init__(self, gateway: Gateway, kernels: ScopedKernelManager) -> None:
        self._gateway, self._kernels = gateway, kernels

    async def stream(self, app: App, kernel_id: str) -> AsyncIterator[str]:
        """The page piece by piece, while the notebook runs."""
        number = secrets.token_hex(4)
        config = Config(VoilaExecutor={"timeout": CELL_S, "cell_error_instruction": _FAILED.format(number=number)})
        settings = self._gateway.app.settings
        made = AppRenderer(
            voila_configuration=self._gateway.voila_configuration,
            traitlet_config=config,
            notebook_path=str(app.notebook),
            template_paths=self._gateway.template_paths,
            contents_manager=_NoFiles(),
            base_url=self._gateway.base_url,
            page_config=self.page_config | {"title": app.title},
            mathjax_config=settings.get("mathjax_config"),
            mathjax_url=settings.get("mathjax_url"),
        )
        made.log = self._gateway.log.getChild(f"{app.name}.{number}")
        await made.initialize()
        made.notebook.metadata["title"] = app.title
        kernel = self._kernels.get_kernel(kernel_id)
        async for piece, _ in made.generate_content_generator(kernel_id, _ready(kernel)):
            yield piece

    async def whole(self, app: App, kernel_id: str) -> str:
        """The page in one, for a warm kernel."""
        return "".join([piece async for piece in self.stream(app, kernel_id)])

    @cached_property
    def page_config(self) -> dict[str, Any]:
        """What every page tells Voila's script: the extensions it may load, where they are."""
        gateway = self._gateway
        found: dict[str, Any] = get_page_config(
            base_url=gateway.base_url,
            settings=gateway.app.settings,
            log=gateway.log,
            voila_configuration=gateway.voila_configuration,
        )
        found.pop("appVersion", None)
        # MathJax would come from elsewhere (see ``files.NoMathJax``); the gateway's own flag is for the template
        nowhere = f"{gateway.base_url}voila/static/mathjax.js"
        scripts = f"{gateway.base_url}voila/static/{gateway.build}"
        return found | {
            "fullStaticUrl": scripts, "fullMathjaxUrl": nowhere, "mathjaxConfig": "none", "gateway": True
        }  # fmt: skip


class _NoFiles:
    """What the renderer of Markdown asks for pictures beside the notebook: there are none but those inside of it."""

    def file_exists(self, path: str) -> bool:
        return False


async def _ready(kernel: Any) -> Any:
    return kernel


class AppPage(GateHandler):
    """``/apps/NAME``."""

    #: Whether this shows the waiting room.
    waits = False

    def initialize(self, places: Places, renderer: Renderer) -> None:
        """Of Tornado: what the handler is given."""
        self._places, self._renderer = places, renderer
        self._kernel_id, self._gone = "", False

    async def get(self, name: str) -> None:
        """Open the app, or wait for a place."""
        services, person = self.services, self.person
        app = services.apps.get(name)
        if app is None:
            raise web.HTTPError(404)
        if not person.has_role(app.scope.open_to):
            law = f"this app is open to the role {app.scope.open_to} and above"
            raise Refused(403, "role_needed", law, app=name)
        # a picture, a frame or a page fetched ahead starts no kernel
        if (
            self.request.headers.get("Sec-Fetch-Dest", "document") != "document"
            or "Sec-Purpose" in self.request.headers
        ):
            raise web.HTTPError(403)
        given = await self._asked(app, person)
        if isinstance(given, Wait):
            self._wait(app, given)
            return
        self._kernel_id, page = given
        if self._gone:
            self.on_connection_close()
            return
        policy = APP_POLICY.format(sockets=sockets_of(services.settings, self.request.host))
        self.set_header("Content-Security-Policy", policy)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        _ = self.xsrf_token  # sets the cookie that the page shows when it is closed
        try:
            if page is not None:
                self.finish(page)
            else:
                await self._run(app)
        finally:
            services.kernels.sent(self._kernel_id)

    async def _asked(self, app: App, person: Person) -> tuple[str, str | None] | Wait:
        """What :meth:`Places.ask` says. Asking again from the waiting room opens no app, and is not counted as that.

        Raises:
            Refused: 429, too many.
        """
        rates, who = self.services.rates, person.subject
        if (wait_s := rates.take("page", who)) is not None:
            raise Refused(429, "too_many", f"too many requests; try again in {wait_s:.0f} s", wait_s, what="page")
        if (wait_s := rates.wait("render", who)) is not None:
            raise Refused(429, "too_many", "too many apps were opened; wait a moment", wait_s, what="render")
        secret = cast(GateIdentity, self.identity_provider).secret_of(self)
        address = address_key(self.request.remote_ip) if person.provider == "guest" else ""
        given = None
        try:
            given = await self._places.ask(app, person, secret, address)
        finally:
            if not isinstance(given, Wait):  # also one that did not start
                rates.take("render", who)
        return given

    async def _run(self, app: App) -> None:
        """Run the notebook and send what there is of the page."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        async def fill() -> None:
            try:
                async for piece in self._renderer.stream(app, self._kernel_id):
                    pieces.put_nowait(piece)
            finally:
                pieces.put_nowait(None)

        task = asyncio.ensure_future(fill())
        try:
            while True:
                try:
                    piece = await asyncio.wait_for(pieces.get(), _HEARTBEAT_S)
                except TimeoutError:
                    piece = _HEARTBEAT
                if piece is None:
                    break
                self.write(piece)
                await self.flush()
            await task
        except BaseException:  # the visitor has no page, so nobody would ever close it
            self.services.kernels.end_soon(self._kernel_id, "Its page could not be made.")
            raise
        finally:
            task.cancel()

    def on_connection_close(self) -> None:
        """The browser has gone before the page was there; also while its kernel began."""
        self._gone = True
        if self._kernel_id:
            self.services.kernels.end_soon(self._kernel_id, "Its page was closed.")

    def _wait(self, app: App, wait: Wait) -> None:
        law = {"limit": "kernels_per_address"} if wait.crowded else {}
        self.services.signals.refused("busy", self.person.subject, app=app.name, **law)
        self.set_header("Retry-After", str(wait.retry_s))
        self.set_status(503 if wait.place else 429)
        self.waits = bool(wait.place)
        if not self.wants_json:
            page, policy = waiting_page(app.title, self.base_url, wait.place, wait.retry_s, wait.crowded)
            self.set_header("Content-Security-Policy", policy)
            self.finish(page)
            return
        message = "no place is free" if wait.place else "too many apps are open"
        if wait.crowded:
            most = self.services.settings.address_share
            message = f"guests from one address have {most} of the places at most, and do; wait, or sign in with a name"
        self.finish({"error": {"code": "wait", "message": message, "place": wait.place, "retry_s": wait.retry_s}})
