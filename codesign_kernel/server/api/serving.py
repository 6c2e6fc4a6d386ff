"""How a call travels over HTTP, for the gateway and for the brokers of kernels. The event loop is never blocked."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from tornado import iostream, web

from codesign_kernel.errors import (
    ConsentError,
    InvalidInputError,
    ScopeError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from codesign_kernel.scopes import Scope
from codesign_kernel.server.api.call import JSON, Answer, Call
from codesign_kernel.server.api.operations import job_waited
from codesign_kernel.server.api.reading import Refusal
from codesign_kernel.server.api.routes import ID, Route, read_query
from codesign_kernel.server.asking import QueueFullError, ReusedKeyError
from codesign_kernel.store.jobs import ENDED
from codesign_kernel.store.persons import Person

if TYPE_CHECKING:
    from codesign_kernel.server.jobs import Jobs

#: Threads for the database and the vault; open streams of one person; seconds between two signs of life, and the
#: longest that one stream lasts.
THREADS, STREAMS, BEAT_S, STREAM_S = 8, 16, 15.0, 3600.0
#: Seconds that an answer may take beside the event loop, waiting for a thread included: then 503, whatever the thread
#: still waits for.
PATIENCE_S = 20.0
_POOL = ThreadPoolExecutor(THREADS, thread_name_prefix="codesign-api")
_STREAMS: Counter[str] = Counter()

Found = TypeVar("Found")


async def in_thread(work: Callable[..., Found], *given: Any) -> Found:
    """What ``work`` returns, run beside the event loop.

    Raises:
        StoreUnavailableError: not within ``PATIENCE_S``.
    """
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(_POOL, work, *given), PATIENCE_S)
    except TimeoutError as error:
        raise StoreUnavailableError(f"no answer within {PATIENCE_S:g} s; try again in a few seconds") from error


def refusal_of(error: Exception) -> Refusal | None:
    """An error of the library as an answer; ``None``: it is a fault."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ConsentError):
        return Refusal(403, "consent", str(error))
    if isinstance(error, ScopeError):
        return Refusal(403, "scope", str(error))
    if isinstance(error, QueueFullError):
        return Refusal(503, "queue_full", str(error), error.after_s)
    if isinstance(error, ReusedKeyError):
        return Refusal(422, "key_reused", str(error))
    if isinstance(error, InvalidInputError):
        return Refusal(422, "invalid", str(error))
    if isinstance(error, StoreFullError):
        return Refusal(503, "store_full", "the server's disk is full, and nothing was written", 60)
    if isinstance(error, StoreError):
        return Refusal(503, "store_unavailable", "the database is away; try again in a few seconds", 5)
    return None


class ApiMixin(web.RequestHandler):
    """Serves the routes of one path. The class beside it says who asks: ``person``, ``scope``, ``jobs``, ``apps``."""

    routes: Mapping[str, Route]
    base: str
    if TYPE_CHECKING:  # a property in one of the classes beside it, an attribute in the other

        @property
        def person(self) -> Person:
            """Who asks."""

        @property
        def jobs(self) -> Jobs:
            """The job service."""

    def initialize(self, routes: Mapping[str, Route], base: str) -> None:
        """Of Tornado. ``routes``: by method."""
        self.routes, self.base = routes, base
        self._pieces: list[bytes] = []
        self._size, self._gone = 0, asyncio.Event()

    @property
    def scope(self) -> Scope:
        """What the request may do."""
        raise NotImplementedError

    @property
    def apps(self) -> Mapping[str, Scope]:
        """The scopes of the apps."""
        return {}

    def trace(self) -> Mapping[str, str]:
        """The trace that a job of this request goes on in: ``{"traceparent": ...}``, or nothing."""
        return {}

    def count(self, route: Route) -> None:
        """Count the request where there are rates.

        Raises:
            Refusal: 429.
        """

    async def still(self) -> bool:
        """Whether who asked may go on listening."""
        return True

    def changes(self) -> int:
        """A number that changes when :meth:`still` has to be asked at once."""
        return 0

    # the body ------------------------------------------------------------------------------------------------------
    def room(self) -> int:
        """The largest body that is read (bytes)."""
        route = self.routes.get(self.request.method or "")
        if route is None or not route.upload:
            return 0 if route is None else route.body_bytes
        # a form has some lines around its file
        return self.scope.limits["upload_bytes"] + 4096 if self.scope.may("upload") else 0

    def set_default_headers(self) -> None:
        """Of Tornado: who is refused before the body was read loses the connection, and is told so."""
        super().set_default_headers()
        if not getattr(self, "_admitted", False):
            self.set_header("Connection", "close")

    def admit(self, person: Person) -> None:
        """Read the body of ``person``'s request, unless it says itself that it is too long.

        Raises:
            Refusal: 413.
        """
        self._most = self.room()
        if int(self.request.headers.get("Content-Length") or 0) > max(self._most, 4096):
            raise self._too_large()
        self._admitted = True
        self.clear_header("Connection")

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the body of this request has at most {self._most:,} bytes")

    def data_received(self, chunk: bytes) -> None:
        """Of Tornado: a piece of the body; what is too much is dropped."""
        self._size += len(chunk)
        if self._size <= max(getattr(self, "_most", 0), 4096):
            self._pieces.append(chunk)

    def on_connection_close(self) -> None:
        """Of Tornado: whoever asked has gone."""
        super().on_connection_close()
        self._gone.set()

    # the answer ----------------------------------------------------------------------------------------------------
    async def serve(self, **names: str) -> None:
        """Answer the request; every error in one form."""
        route = self.routes.get(self.request.method or "")
        try:
            if not self.routes or not all(re.fullmatch(ID, name) for name in names.values()):
                raise Refusal(404, "not_found", f"there is nothing at this path; see {self.base}")
            if route is None:
                raise Refusal(405, "wrong_method", f"this path takes {', '.join(sorted(self.routes))}")
            if self._size > max(self._most, 4096):
                raise self._too_large()
            self.count(route)
            call = Call(
                self.jobs, self.apps, self.person, self.scope, self.base, names,
                read_query(route, self.request.query_arguments),
                {name.lower(): value for name, value in self.request.headers.items()}, b"".join(self._pieces),
                self.trace(),
            )  # fmt: skip
            self._pieces = []
            answer = await in_thread(route.run, call)
            if answer.wait is not None:
                answer = await self._waited(call, *answer.wait)
            if answer.stream is not None:
                await self._stream(call, *answer.stream)
                return
        except Exception as error:
            known = refusal_of(error)
            if known is None:
                raise  # the outermost edge is Tornado's: a 500 and a line in the log
            self.refuse(known)
            return
        self._write(answer)

    get = post = delete = put = patch = head = options = serve

    def write_error(self, status_code: int, **given: Any) -> None:
        """Of Tornado, which refuses methods that it does not know by itself."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(sorted(self.routes)))
        super().write_error(status_code, **given)

    def turned_away(self, why: str, **told: Any) -> None:
        """Tell operators that somebody was; the class beside this knows them."""

    def refuse(self, known: Refusal) -> None:
        """Answer with an error; one that turns somebody away is told to operators."""
        route = self.routes.get(self.request.method or "")
        if known.code == "scope":
            self.turned_away("scope", scope=self.scope.name)
        elif known.status == 429:
            self.turned_away("rate", code=known.code)
        elif route is not None and route.upload and known.status in (413, 415, 422):
            self.turned_away("upload", code=known.code)
        self.set_status(known.status)
        if known.status in (429, 503):
            self.set_header("Retry-After", str(known.after_s or 5))
        if known.status == 405:
            self.set_header("Allow", ", ".join(sorted(self.routes)))
        self.set_header("Content-Type", JSON)
        self.finish(json.dumps({"error": {"code": known.code, "message": known.message[:4_000]}}))

    def _write(self, answer: Answer) -> None:
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        if answer.body is None:
            self.clear_header("Content-Type")
            self.finish()
            return
        self.set_header("Content-Type", answer.media_type)
        self.finish(answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body, allow_nan=False))

    def compute_etag(self) -> str | None:
        """Of Tornado: the ETags are ours."""
        return None

    async def _waited(self, call: Call, job: str, seconds: float) -> Answer:
        """The job, when it has ended or the time is over."""
        until = time.monotonic() + seconds
        with self.jobs.watching(job) as news:
            while True:
                news.clear()
                answer = await in_thread(job_waited, call, job)
                left = until - time.monotonic()
                if answer.status != 202 or left <= 0 or self._gone.is_set():
                    return answer
                await _either(news, self._gone, left)

    async def _stream(self, call: Call, job: str, after: int) -> None:
        """Events as they come, to the job's end."""
        if _STREAMS[call.owner] >= STREAMS:
            raise Refusal(429, "too_many_streams", f"a person follows at most {STREAMS} jobs at once", 10)
        _STREAMS[call.owner] += 1
        try:
            self.set_header("Content-Type", "text/event-stream")
            self.set_header("Cache-Control", "no-store")
            self.set_header("X-Accel-Buffering", "no")  # nginx passes it on at once
            await self._events(call, job, after)
        except iostream.StreamClosedError:
            return  # whoever listened has gone
        finally:
            _STREAMS[call.owner] -= 1
            if not _STREAMS[call.owner]:
                del _STREAMS[call.owner]

    async def _events(self, call: Call, job: str, after: int) -> None:
        until = time.monotonic() + STREAM_S
        looked, changes = time.monotonic(), self.changes()
        with self.jobs.watching(job) as news:
            while time.monotonic() < until:
                news.clear()
                if time.monotonic() - looked >= BEAT_S or changes != self.changes():
                    looked, changes = time.monotonic(), self.changes()
                    if not await self.still():
                        return
                row = await in_thread(self.jobs.table.get, call.owner, job)
                events = await in_thread(self.jobs.table.events, job, after)
                for number, at, data in events:
                    told = json.dumps({**data, "at": at.isoformat()})
                    self.write(f"id: {number}\nevent: {data.get('state', 'running')}\ndata: {told}\n\n")
                    after = number
                if row is None or (row.state in ENDED and not events):
                    self.write("event: end\ndata: {}\n\n")
                    await self.flush()
                    return
                if events:
                    await self.flush()
                    continue
                if not await _either(news, self._gone, BEAT_S):
                    self.write(": still here\n\n")
                    await self.flush()
                if self._gone.is_set():
                    return


async def _either(first: asyncio.Event, second: asyncio.Event, seconds: float) -> bool:
    """Wait until one of the two is set; ``False``: the time was over before."""
    tasks = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    done, left = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return bool(done)
