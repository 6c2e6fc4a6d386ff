"""Who gets a kernel now, and who waits: a queue in order of arrival; warm kernels are ready before anybody asks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codesign_kernel.errors import SandboxError
from codesign_kernel.server.apps import App
from codesign_kernel.server.kernels import ScopedKernelManager, Seat
from codesign_kernel.store.persons import Person

#: Seconds after which who waits and does not ask again has gone.
PATIENCE_S = 30.0
#: Part of an app's wall time that a warm kernel may wait before it is replaced by a new one.
_STALE = 0.25
#: Seconds after somebody asked in which nothing is warmed, and after which it is looked again whether to warm.
CALM_S, LOOK_S = 4.0, 10.0
OVER = "It made room for another visitor."


@dataclass(frozen=True)
class Wait:
    """No place now.

    Attributes:
        place: in the queue, from 1; 0 when the person has as many kernels as one may have.
        retry_s: when to ask again.
        crowded: whether guests from the same address have, or wait before for, all that such guests may have.
    """

    place: int
    retry_s: int
    crowded: bool = False


class Places:
    """Gives the places of ``settings.max_kernels``.

    Args:
        kernels: that it starts and ends.
        apps: that may be warmed, the ones most likely to be asked for first.
        prepare: renders the page of an app on a kernel that has just begun.
        first: done once before anything is warmed, also where nothing is; warming goes on where it fails.
    """

    def __init__(
        self,
        kernels: ScopedKernelManager,
        apps: Iterable[App],
        prepare: Callable[[App, str], Coroutine[Any, Any, str]],
        first: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> None:
        self._kernels, self._prepare, self._first = kernels, prepare, first
        self._settings = kernels.settings
        self._recent = {app.name: app for app in apps}
        self._queue: dict[tuple[str, str], tuple[float, str]] = {}  # {(subject, app): (when seen, a guest's address)}
        self._preparing: dict[str, asyncio.Future[str]] = {}
        self._asked_s = -CALM_S
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Do what comes first, and begin to keep kernels warm."""
        if self._keeper is None and (self._first is not None or self._settings.warm_kernels):
            self._keeper = asyncio.ensure_future(self._keep())

    async def close(self) -> None:
        """Warm no more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    def queued(self) -> int:
        """How many people wait."""
        self._forget()
        return len(self._queue)

    async def ask(self, app: App, person: Person, secret: str = "", address: str = "") -> tuple[str, str | None] | Wait:
        """A kernel for somebody: its id, and its page if it was warm; or the place in the queue.

        ``secret`` is of the sign-in that asks, with which the kernel ends; ``address`` is where a guest comes from
        (``rates.address_key``), empty for who is none: one may be many guests, but has few addresses.

        Raises:
            RuntimeError, OSError, SandboxError: a kernel does not start.
        """
        self._forget()
        self._asked_s = time.monotonic()
        self._recent = {app.name: app, **{name: one for name, one in self._recent.items() if name != app.name}}
        me = (person.subject, app.name)
        if len(self._kernels.of(person.subject)) >= self._settings.kernels_per_user:
            self._queue.pop(me, None)
            return Wait(0, 10)
        ahead, crowded = self._before(me, address)
        free, waiting = self._free(), self._waiting()
        if crowded or ahead >= free + len(waiting):
            self._queue[me] = (time.monotonic(), address)
            return Wait(ahead + 1, 10 if crowded else min(15, 2 + ahead), crowded)
        self._queue.pop(me, None)
        # from here to the seat nothing is waited for: nobody else can take the place meanwhile
        for kernel_id in (i for i, seat in waiting.items() if seat.app.name == app.name and seat.page):
            return kernel_id, self._kernels.give(kernel_id, person, secret, address)
        for kernel_id in (i for i, seat in waiting.items() if seat.app.name == app.name and i in self._preparing):
            self._kernels.give(kernel_id, person, secret, address)
            return kernel_id, await asyncio.shield(self._preparing[kernel_id])
        if not free:
            self._kernels.end_soon(self._least_wanted(waiting), OVER)
        return await self._kernels.begin(app, person, secret, address), None

    def freed(self) -> None:
        """A place is free: something may be warmed."""
        self._changed.set()

    def _forget(self) -> None:
        gone = time.monotonic() - PATIENCE_S
        self._queue = {who: entry for who, entry in self._queue.items() if entry[0] > gone}

    def _before(self, me: tuple[str, str] | None = None, address: str = "") -> tuple[int, bool]:
        """How many are served before somebody, and whether guests from the same address have their share then.

        Without ``me``: somebody who comes now. Who waits for a guest of their own address to leave is in nobody's way.
        """
        most = self._settings.address_share
        taken = Counter(seat.address for seat in self._kernels.seats.values() if not seat.ending)
        ahead = 0
        for who, (_, theirs) in self._queue.items():
            if who == me:
                break
            if not theirs or taken[theirs] < most:
                taken[theirs] += 1
                ahead += 1
        return ahead, bool(address) and taken[address] >= most

    def _waiting(self) -> dict[str, Seat]:
        """The kernels that are somebody's when they ask: warm ones, and those that are being prepared."""
        return {i: seat for i, seat in self._kernels.seats.items() if seat.owner is None and not seat.ending}

    def _free(self) -> int:
        """How many places nobody has. A kernel that is ending has none any more."""
        return self._settings.max_kernels - sum(not seat.ending for seat in self._kernels.seats.values())

    def _least_wanted(self, waiting: Mapping[str, Seat]) -> str:
        """The warm kernel whose app was opened longest ago."""
        order = list(self._recent)
        return max(waiting.items(), key=lambda item: order.index(item[1].app.name))[0]

    def _next_to_warm(self) -> App | None:
        """The app opened last that lacks a warm kernel, where half of the places or more are left to visitors."""
        waiting = self._waiting()
        if self._before()[0] or self._free() < 1 or len(waiting) >= max(1, self._settings.max_kernels // 2):
            return None
        for app in self._recent.values():
            if sum(seat.app.name == app.name for seat in waiting.values()) < self._settings.warm_kernels:
                return app
        return None

    async def _keep(self) -> None:
        """Warm one after another, and not while a page is being opened: the machine is the visitors' first."""
        if self._first is not None:
            try:
                await self._first()
            except (OSError, TimeoutError, SandboxError) as error:
                self._kernels.log.warning("%s", error)
        while self._settings.warm_kernels:
            await self._retire()
            calm_s = self._asked_s + CALM_S - time.monotonic()
            app = self._next_to_warm() if calm_s <= 0 else None
            if app is None or not await self._warm_one(app):
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), calm_s if calm_s > 0 else LOOK_S)
                except TimeoutError:
                    continue

    async def _retire(self) -> None:
        """End warm kernels that have used too much of their time."""
        for kernel_id, seat in self._waiting().items():
            if seat.page and time.monotonic() - seat.since_s > _STALE * seat.app.scope.limits["wall_s"]:
                await self._kernels.end(kernel_id, OVER)

    async def _warm_one(self, app: App) -> bool:
        """Start a kernel and render its page; whether that went well."""
        try:
            kernel_id = await self._kernels.begin(app, None)
        except (RuntimeError, OSError, SandboxError) as error:
            self._kernels.log.warning("no warm kernel for %s: %s", app.name, error)
            return False
        page = self._preparing[kernel_id] = asyncio.ensure_future(self._prepare(app, kernel_id))
        try:
            await asyncio.shield(page)
        except (RuntimeError, OSError, TimeoutError) as error:
            self._kernels.log.warning("no warm kernel for %s: %s", app.name, error)
            await self._kernels.end(kernel_id, OVER)
            return False
        except asyncio.CancelledError:
            page.cancel()
            raise
        finally:
            self._preparing.pop(kernel_id, None)
        seat = self._kernels.seats.get(kernel_id)
        if seat is not None and seat.owner is None:
            seat.page = page.result()
        return seat is not None
