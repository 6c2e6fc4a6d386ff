"""A page's connection to its kernel: only the owner's, only from our own pages, only what widgets say."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import Any, cast

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from tornado import web
from tornado.iostream import IOStream, StreamBufferFullError
from tornado.websocket import WebSocketClosedError

from codesign_kernel.server.frames import CLOSES, RefusedFrameError, Rules
from codesign_kernel.server.handler import GateHandler, Refused
from codesign_kernel.server.headers import origin_allowed
from codesign_kernel.server.identity import GateIdentity
from codesign_kernel.server.kernels import ScopedKernelManager
from codesign_kernel.server.rates import Meter

#: Connections to one kernel at once: a page, and the same page while it connects again.
MOST_SOCKETS = 4
#: Seconds without an answer to a ping, of which there are several meanwhile, after which a page counts as gone.
GONE_S = 30.0
#: Bytes that wait for a page which does not read, in this process; a page has less than 10 MB to load.
MOST_WAITING_BYTES = 32 << 20
#: What a kernel says that a page has no use for: its code, and texts that can hold paths of the server.
_KEPT_BACK = frozenset({"execute_input", "debug_event", "input_request"})
_SHOWN = "Something went wrong in this app (number {id}); whoever runs this gateway finds the details under it."
_SHOWN_ONLY = "Something went wrong in this app, as several times before."


class GateConnection(ZMQChannelsWebsocketConnection):
    """From the kernel to the page: no code, no tracebacks, no text of the server's."""

    def handle_outgoing_message(self, stream: str, outgoing_msg: list[Any]) -> None:
        """Pass a message on unless it is kept back."""
        _, parts = self.session.feed_identities(outgoing_msg)
        kind = self.session.unpack(parts[1]).get("msg_type")
        if kind in _KEPT_BACK:
            return
        if kind == "stream" and (content := self.session.unpack(parts[4])).get("name") == "stderr":
            if (before := self._line()) is not None:
                self.log.info("%skernel %s wrote to stderr: %.2000s", before, self.kernel_id, content.get("text", ""))
            return
        super().handle_outgoing_message(stream, outgoing_msg)

    def _on_error(self, channel: str, msg: dict[str, Any], msg_list: list[Any]) -> None:
        """Reduce an error to a sentence with a number; the log has the rest under it."""
        kind = self.get_part("header", msg["header"], msg_list)["msg_type"]
        if kind != "error" and not kind.endswith("_reply"):
            return  # the state of a widget can be large, and is not read here
        content = self.get_part("content", msg["content"], msg_list)
        if kind != "error" and content.get("status") != "error":
            return
        number, shown = secrets.token_hex(4), _SHOWN_ONLY
        if (before := self._line()) is not None:
            trace, shown = "\n".join(map(str, content.get("traceback", ()))), _SHOWN.format(id=number)
            name = content.get("ename")
            self.log.error("%skernel %s, number %s: %.200s\n%.8000s", before, self.kernel_id, number, name, trace)
        told = {"ename": "Error", "evalue": shown, "traceback": []}
        msg["content"] = {name: content[name] for name in ("status", "execution_count") if name in content} | told
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            msg_list[3] = self.session.pack(msg["content"])

    def _line(self) -> str | None:
        """Of :class:`~codesign_kernel.server.rates.Lines`: one for all pages of the kernel."""
        seat = cast(ScopedKernelManager, self.multi_kernel_manager).seats.get(self.kernel_id)
        return None if seat is None else seat.lines.take()


class GateSocket(GateHandler, KernelWebsocketHandler):
    """The websocket of a kernel."""

    json_only = True
    rules = Rules()
    _meter: Meter | None = None
    _opened = False
    secret = ""
    used = True
    asked_s = answered_s = 0.0

    @property
    def _kernels(self) -> ScopedKernelManager:
        return self.services.kernels

    async def prepare(self, **given: Any) -> None:
        """Find out who asks; who is nobody gets 403, as a websocket leads to no page."""
        await JupyterHandler.prepare(self, _redirect_to_login=False)

    async def get(self, kernel_id: str) -> None:
        """Open it for the kernel's owner, from a page of ours."""
        person = self.person
        origin = self.request.headers.get("Origin")
        if origin is None or not origin_allowed(origin, self.request, self.services.settings):
            self._count("origin")
            raise web.HTTPError(403, "websocket from another origin")
        if not self._kernels.owned(kernel_id, person.subject):
            self._count("owner")
            raise web.HTTPError(404)
        wait_s = self.services.rates.take("socket", person.subject)
        if wait_s is not None or len(self._kernels.seats[kernel_id].sockets) >= MOST_SOCKETS:
            raise Refused(429, "too_many", "too many connections; wait a moment", wait_s, what="socket")
        amount, window_s = self.services.rates.window("message")
        self._meter = Meter(amount, window_s)
        await super().get(kernel_id=kernel_id)

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
        """Checked in :meth:`get`, also where no Origin came."""
        return True

    async def open(self, kernel_id: str) -> None:
        """Connected."""
        seat = self._kernels.seats.get(kernel_id)
        if seat is None or seat.ending:
            self.end("")
            return
        self.secret = cast(GateIdentity, self.identity_provider).secret_of(self)
        if (stream := self._stream()) is not None:
            stream.max_write_buffer_size = MOST_WAITING_BYTES
        self.asked_s = self.answered_s = time.monotonic()
        seat.sockets.add(self)
        seat.met = True
        self._opened = True
        self.services.metrics.websockets(1)
        await super().open(kernel_id)

    def send_ping(self) -> None:
        """Ask whether the page is there, and close where it has long not answered.

        In place of Jupyter's, which counts from the opening: where the time to answer is that between two pings, it
        closes each socket when the first ping is due.
        """
        if self.ws_connection is None:
            cast(Any, self.ping_callback).stop()
            return
        now = time.monotonic()
        # asked lately: the machine has not slept since
        asked, self.asked_s = now - self.asked_s < GONE_S, now
        if asked and now - self.answered_s > GONE_S:
            self.close()
            return
        with suppress(WebSocketClosedError):
            self.ping(b"")

    def on_pong(self, data: bytes) -> None:
        """The page is there."""
        self.answered_s = time.monotonic()

    def on_message(self, message: str | bytes) -> None:
        """Pass on what the rules let through; close the socket on anything else, and pass on nothing after that."""
        if self.connection is None or self.ws_connection is None:
            return
        try:
            if self._meter is not None and not self._meter.take():
                raise RefusedFrameError("rate")
            kind = self.rules.examine(message, self.selected_subprotocol)
        except RefusedFrameError as refused:
            self.services.metrics.websocket("in", "other", refused=True)
            self._count(refused.why)
            self.close(*CLOSES[refused.why])
            return
        self.services.metrics.websocket("in", kind)
        self.used = True
        super().on_message(message)

    def write_message(self, message: Any, binary: bool = False) -> Any:
        """Send, unless the page has gone, or does not read what its kernel says."""
        try:
            sent = super().write_message(message, binary)
        except (WebSocketClosedError, StreamBufferFullError) as error:
            if isinstance(error, StreamBufferFullError) and (stream := self._stream()) is not None:
                stream.close()  # a frame that says why would wait behind all the others
            sent = asyncio.get_running_loop().create_future()
            sent.set_result(None)
        # nobody waits for it; a page that has gone meanwhile is no error
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())
        return sent

    def _stream(self) -> IOStream | None:
        return getattr(self.ws_connection, "stream", None)

    def end(self, reason: str) -> None:
        """The kernel has ended: say so and close. A reason has at most 123 bytes in a websocket."""
        code, words = CLOSES["ended"]
        text = (reason or words).encode()[:120].decode(errors="ignore")
        self.close(code, text)

    def on_close(self) -> None:
        """Closed, by whichever side."""
        if self.close_code == CLOSES["oversize"][0]:
            self._count("oversize")
        if self._opened:
            self.services.metrics.websockets(-1)
        if self._opened and (seat := self._kernels.seats.get(self.kernel_id)) is not None:
            seat.sockets.discard(self)
            seat.seen_s = time.monotonic()
        if getattr(self, "connection", None) is not None:
            super().on_close()

    def _count(self, why: str) -> None:
        person, signals = self.visitor, self.services.signals
        told = {"origin": "origin", "owner": "ownership", "rate": "rate"}.get(why, "message")
        signals.refused(told, person.subject if person else "", socket=why)
