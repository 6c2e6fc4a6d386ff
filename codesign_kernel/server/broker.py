"""The way out of a sandbox: the same API on a kernel's private Unix socket, as the kernel's owner, in its app's scope.

Whoever can connect to the socket is the cell: nothing is asked for, and nothing else can be reached through it. Before
the kernel has an owner, everything is 409.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tornado import web
from tornado.httpserver import HTTPServer

from codesign_kernel.errors import StoreError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.api.paths import paths
from codesign_kernel.server.api.reading import JSON_BYTES, Refusal
from codesign_kernel.server.api.serving import ApiMixin, in_thread, refusal_of
from codesign_kernel.store.persons import Person

if TYPE_CHECKING:
    from codesign_kernel.server.jobs import Jobs
    from codesign_kernel.server.sandbox import Cell

BASE = "/api/v1"


@web.stream_request_body
class BrokerHandler(ApiMixin):
    """One path of the API, for the kernel of one cell."""

    def initialize(self, routes: Any, base: str, broker: Broker) -> None:  # type: ignore[override]
        """Of Tornado."""
        super().initialize(routes, base)
        self._broker = broker
        self._person: Person | None = None

    @property
    def person(self) -> Person:
        """The kernel's owner."""
        if self._person is None:
            raise Refusal(409, "no_owner", "this kernel waits for a visitor; ask again when somebody has it")
        return self._person

    @property
    def jobs(self) -> Jobs:
        """The job service."""
        return self._broker.jobs

    @property
    def scope(self) -> Scope:
        """The app's, cut down to what the owner may."""
        return self._broker.scope_of(self.person)

    def turned_away(self, why: str, **told: Any) -> None:
        """Tell operators that the kernel's owner was."""
        self._broker.refused(why, self._person.subject if self._person else "", **told)

    async def prepare(self) -> None:
        """Who owns the kernel asks."""
        try:
            self._person = await in_thread(self._broker.owner)
            self.admit(self.person)
        except (Refusal, StoreError) as error:
            self.refuse(refusal_of(error) or Refusal(409, "no_owner", "nobody has this kernel"))

    def write_error(self, status_code: int, **given: Any) -> None:
        """Errors have one form here too."""
        words = "the gateway failed; its log has the details" if status_code >= 500 else self._reason.lower()
        self.refuse(Refusal(status_code, "fault" if status_code >= 500 else "not_found", words))


class _Nothing(BrokerHandler):
    """Every other path."""

    def room(self) -> int:
        """No body is read."""
        return 0

    async def serve(self, **names: str) -> None:
        """404."""
        self.refuse(Refusal(404, "not_found", f"there is nothing at this path; see {BASE}"))

    get = post = delete = put = patch = head = options = serve


class Broker:
    """The broker of one cell; made and closed on the event loop.

    Args:
        cell: whose socket it listens on.
        jobs: the job service.
        owner: who has the kernel now; ``None``: nobody yet, or any more.
        more: routes beside those of the API, as Tornado takes them.
        refused: called as ``refused(why, who, **told)`` when the owner was turned away.
    """

    def __init__(
        self,
        cell: Cell,
        jobs: Jobs,
        owner: Callable[[], Person | None],
        more: Sequence[Any] = (),
        refused: Callable[..., None] = lambda why, who, **told: None,
    ) -> None:
        self.jobs, self.owner, self.refused, self._scope = jobs, owner, refused, cell.scope
        about: dict[str, Any] = {"base": BASE, "broker": self}
        found: list[Any] = [*more]  # first: the last of the API's paths is everything else
        found.extend((f"{BASE}{path}", BrokerHandler, {"routes": one, **about}) for path, one in paths())
        found.append((r".*", _Nothing, {"routes": {}, **about}))
        most = max(JSON_BYTES, cell.scope.limits["upload_bytes"]) + (1 << 16)
        self._server = HTTPServer(
            web.Application(found, log_function=_silent), max_body_size=most, max_header_size=32 << 10,
            body_timeout=60, idle_connection_timeout=120,
        )  # fmt: skip
        self._socket = cell.listen()
        self._socket.setblocking(False)
        self._server.add_socket(self._socket)

    def scope_of(self, person: Person) -> Scope:
        """What ``person`` may do through this broker."""
        return self._scope.narrowed(filter(person.may, self._scope.capabilities), self.jobs.settings.cluster_workers)

    def close(self) -> None:
        """Stop listening, and let go of who is connected."""
        self._server.stop()
        self._socket.close()


def _silent(handler: web.RequestHandler) -> None:
    """Requests of kernels are counted by the gateway's metrics, not in a log."""
