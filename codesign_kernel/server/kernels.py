"""Kernels of visitors: whose each is, how many there may be, and when each ends."""

from __future__ import annotations

import asyncio
import math
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from traitlets import default

from codesign_kernel.server.apps import App
from codesign_kernel.server.rates import Lines
from codesign_kernel.server.sandbox import Cell, Confinement, provisioner
from codesign_kernel.server.settings import Settings
from codesign_kernel.store.persons import Person
from codesign_kernel.telemetry.trace import Tracer

#: The one kind of kernel there is: this environment's Python. The user's Jupyter folders are not asked for others.
KERNEL = "codesign"
#: Quiet: it would tell the operator's terminal how to connect to it, and that it hears no subprocess without a network.
_LAUNCH = [
    *(sys.executable, "-W", "ignore:Couldn't bind IOPub Pipe:UserWarning", "-m", "ipykernel_launcher"),
    *("-f", "{connection_file}", "--HistoryManager.enabled=False", "--quiet"),
]
#: Seconds that a page has to connect to its kernel once it was sent (it takes long where many open one at once), and to
#: connect again.
FIRST_S, ORPHAN_S = 300.0, 120.0
STOPPED = "It stopped unexpectedly: it may have used more than the app's limits allow."


class OneKernel(KernelSpecManager):
    """Knows our kernel, and no other."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name != KERNEL:
            raise NoSuchKernel(kernel_name)
        return KernelSpec(
            argv=list(_LAUNCH),
            display_name="Python",
            language="python",
            interrupt_mode="message",
            metadata={"kernel_provisioner": {"provisioner_name": provisioner.NAME}},
        )

    def find_kernel_specs(self) -> dict[str, str]:
        return {KERNEL: ""}


class Watch(AsyncIOLoopKernelRestarter):
    """Looks every second whether a kernel lives. One that died stays dead: its page says so."""

    @default("time_to_dead")
    def _every_second(self) -> float:
        return 1.0

    @default("restart_limit")
    def _never_again(self) -> int:
        return 0


class GateKernel(ServerKernelManager):
    """One kernel, watched and not started again."""

    restarter_class = Watch


class Socket(Protocol):
    """What a page's connection is to its kernel's seat.

    Attributes:
        secret: of the sign-in that opened it.
        used: whether something came through it since that was asked last.
    """

    secret: str
    used: bool

    def end(self, reason: str) -> None: ...


class Broker(Protocol):
    """What listens at the socket of a cell."""

    def close(self) -> None: ...


@dataclass
class Seat:
    """One place of ``settings.max_kernels``, taken.

    Attributes:
        app: that the kernel runs.
        person: whose it is; ``None`` while it is warm and waits for somebody.
        since_s: when it was given to the owner, or began; seconds of a clock that never goes back.
        page: of a warm kernel, rendered; ``None`` while it is being prepared, and after it was shown.
        sockets: open connections.
        met: whether there was one.
        seen_s: when the last of them closed; before there was one, when the page was sent, and ``inf`` until then.
        ending: why it ends, for its page; empty while it does not.
        cause: of its end: ``ended``, ``killed`` by a limit, or ``died``.
        cell: where it runs.
        broker: answers it from outside of the cell.
        lines: of the log that what happens in it may fill.
        secret: of the sign-in that opened it; empty: of none.
        address: that a guest came from; empty: who has it is no guest.
    """

    app: App
    person: Person | None
    since_s: float = field(default_factory=time.monotonic)
    page: str | None = None
    sockets: set[Socket] = field(default_factory=set)
    met: bool = False
    seen_s: float = math.inf
    ending: str = ""
    cause: str = "ended"
    cell: Cell | None = None
    broker: Broker | None = None
    lines: Lines = field(default_factory=Lines, repr=False)
    secret: str = field(default="", repr=False)
    address: str = field(default="", repr=False)

    @property
    def owner(self) -> str | None:
        """The subject of whose it is."""
        return None if self.person is None else self.person.subject


class ScopedKernelManager(AsyncMappingKernelManager):
    """Starts, gives away and ends kernels. ``seats`` is who has what; nothing else starts a kernel.

    Args:
        settings: of the gateway.
        confinement: of its cells.
        run_root: the folder of the cells.
        on_change: called with ``warmed``, ``started``, ``given``, ``ended``, ``killed`` or ``died``, the seat, and the
            seconds that a start took.
        make_broker: opens what listens for a cell; ``None``: nothing does.
        tracer: of the starts.
        given: of jupyter_server's manager.
    """

    def __init__(
        self,
        settings: Settings,
        confinement: Confinement,
        run_root: Path,
        on_change: Callable[[str, Seat, float | None], None],
        make_broker: Callable[[Seat], Broker] | None = None,
        tracer: Tracer | None = None,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        provisioner.register()
        self.settings, self.confinement, self.run_root = settings, confinement, run_root
        self.on_change, self.make_broker, self.tracer = on_change, make_broker, tracer or Tracer()
        self.seats: dict[str, Seat] = {}
        self._endings: set[asyncio.Task[None]] = set()

    @default("kernel_manager_class")
    def _kernel_class(self) -> str:
        return f"{__name__}.GateKernel"

    @default("kernel_spec_manager")
    def _specs(self) -> KernelSpecManager:
        return OneKernel(parent=self)

    async def begin(self, app: App, person: Person | None, secret: str = "", address: str = "") -> str:
        """Start a kernel for an app; who asks has made sure that there is a place. Its id.

        Raises:
            RuntimeError, OSError: it does not start; the place is free again.
        """
        kernel_id = str(uuid.uuid4())
        seat = self.seats[kernel_id] = Seat(app, person, secret=secret, address=address)
        try:
            seat.cell = await asyncio.to_thread(Cell, app.scope, self.confinement, self.run_root)
            if self.make_broker is not None:
                seat.broker = self.make_broker(seat)
            with self.tracer.span("kernel start", app=app.name):
                await self._async_start_kernel(kernel_id=kernel_id, kernel_name=KERNEL, cell=seat.cell, env={})
        except BaseException:
            self.seats.pop(kernel_id, None)
            self._clear(seat)
            raise
        if seat.ending:  # while it started
            raise RuntimeError(seat.ending)
        self.on_change("warmed" if person is None else "started", seat, time.monotonic() - seat.since_s)
        return kernel_id

    @staticmethod
    def _clear(seat: Seat) -> None:
        if seat.broker is not None:
            seat.broker.close()
        if seat.cell is not None:
            seat.cell.remove()

    def give(self, kernel_id: str, person: Person, secret: str = "", address: str = "") -> str:
        """Make a warm kernel somebody's: its page, if it is there."""
        seat = self.seats[kernel_id]
        page, seat.page = seat.page or "", None
        seat.person, seat.secret, seat.address = person, secret, address
        seat.since_s = time.monotonic()
        self._kernels[kernel_id].last_activity = datetime.now(UTC)
        self.on_change("given", seat, None)
        return page

    def sent(self, kernel_id: str) -> None:
        """The page of a kernel is on its way: from now on it has to connect."""
        if (seat := self.seats.get(kernel_id)) is not None and not seat.met:
            seat.seen_s = time.monotonic()

    def owned(self, kernel_id: str, subject: str) -> bool:
        """Whether a running kernel is that person's."""
        seat = self.seats.get(kernel_id)
        return seat is not None and seat.owner == subject and not seat.ending

    def of(self, subject: str) -> list[str]:
        """The ids of somebody's kernels that are not ending, the oldest first."""
        seats = ((i, seat) for i, seat in self.seats.items() if not seat.ending)
        mine = [(seat.since_s, kernel_id) for kernel_id, seat in seats if seat.owner == subject]
        return [kernel_id for _, kernel_id in sorted(mine)]

    def pid_of(self, kernel_id: str) -> int | None:
        """The process that holds a kernel's cell; ``None``: it does not run."""
        kernel = self._kernels.get(kernel_id)
        return getattr(getattr(kernel, "provisioner", None), "pid", None)

    def idle_s(self, kernel_id: str) -> float | None:
        """Seconds since a kernel was used last; ``None``: it does not run."""
        used = getattr(self._kernels.get(kernel_id), "last_activity", None)
        return None if used is None else (datetime.now(UTC) - used).total_seconds()

    async def end(self, kernel_id: str, reason: str, cause: str = "ended") -> None:
        """End a kernel and tell its pages why. Ending one that has ended does nothing."""
        seat = self.seats.get(kernel_id)
        if seat is None or seat.ending:
            return
        seat.ending, seat.cause = reason, cause
        for socket in list(seat.sockets):
            socket.end(reason)
        try:
            if kernel_id in self:
                await self._async_shutdown_kernel(kernel_id, now=True)
        finally:
            self.seats.pop(kernel_id, None)
            self._clear(seat)
            self.on_change(cause, seat, None)

    def end_soon(self, kernel_id: str, reason: str, cause: str = "ended") -> None:
        """As :meth:`end`, without waiting for it."""
        task = asyncio.ensure_future(self.end(kernel_id, reason, cause))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def end_all(self, reason: str) -> None:
        """End every kernel, and wait for those that are ending already."""
        await asyncio.gather(*(self.end(kernel_id, reason) for kernel_id in list(self.seats)), *self._endings)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        self.log.warning("kernel %s died", kernel_id)
        limit = getattr(self._kernels[kernel_id].provisioner, "reason", "") if kernel_id in self else ""
        self.end_soon(kernel_id, limit or STOPPED, "killed" if limit else "died")

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End what nobody has used for ``kernel_idle_s``, or whose page has gone. Warm kernels wait on."""
        seat = self.seats.get(kernel_id)
        if seat is None or seat.owner is None or seat.ending:
            return
        if (self.idle_s(kernel_id) or 0) > self.settings.kernel_idle_s:
            await self.end(kernel_id, f"Nobody used it for {round(self.settings.kernel_idle_s / 60)} minutes.")
        elif not seat.sockets and time.monotonic() - seat.seen_s > (ORPHAN_S if seat.met else FIRST_S):
            await self.end(kernel_id, "Its page was closed.")
