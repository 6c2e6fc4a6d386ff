"""Who was let in is looked at again: what stays open longer than a request ends with the sign-in that opened it.

A request asks the database each time. A websocket, a kernel with its broker, and a stream of events would go on for
somebody who has signed out meanwhile, was kept out, or has a lower role. What is done here is looked at at once, what
another process does (``codesign user``) at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from codesign_kernel.errors import StoreError
from codesign_kernel.store.people import People
from codesign_kernel.store.persons import Person

if TYPE_CHECKING:
    from codesign_kernel.server.kernels import Seat
    from codesign_kernel.server.services import Services

#: Seconds between two looks.
LOOK_S = 3.0
SIGNED_OUT = "You were signed out."
KEPT_OUT = "This app is not open to you any more."
ERASED = "Everything of yours was erased."
LOG = logging.getLogger("codesign.gateway")


def owner_now(people: People, seat: Seat) -> Person | None:
    """Whose a kernel is, with the role that they have now; ``None``: nobody's, or they may not open its app.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    if seat.person is None:
        return None
    found = people.by_subject(seat.person.subject)
    if found is None or found.disabled or not found.has_role(seat.app.scope.open_to):
        return None
    return replace(seat.person, role=found.role)


class Presence:
    """Looks every few seconds, on the event loop; the database is asked in a thread.

    Args:
        services: of the gateway.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looker: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()

    def start(self) -> None:
        """Begin to look."""
        loop, people = asyncio.get_running_loop(), self._services.people

        def changed() -> None:  # in whichever thread changes it
            with contextlib.suppress(RuntimeError):  # a loop that has closed
                loop.call_soon_threadsafe(self._woken.set)
            self._services.jobs.changed_people()

        people.watchers.append(changed)
        self._looker = asyncio.ensure_future(self._look_on())

    async def close(self) -> None:
        """Look no more."""
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.gather(self._looker, return_exceptions=True)

    async def look(self) -> None:
        """End the kernels of people who may not have them, and with a sign-in the sockets and kernels that it opened.

        A kernel goes on where another browser of its owner's is connected to it.

        Raises:
            StoreError: the database cannot be asked; nothing is ended.
        """
        kernels = self._services.kernels
        taken = {i: seat for i, seat in kernels.seats.items() if seat.person is not None and not seat.ending}
        sockets = [socket for seat in taken.values() for socket in seat.sockets]
        used = {seat.secret: False for seat in taken.values() if seat.secret}
        used |= {socket.secret: False for socket in sockets}
        for socket in sockets:
            used[socket.secret] |= socket.used
            socket.used = False
        owners, holding, erased = await asyncio.to_thread(self._ask, taken, used)
        for kernel_id, owner in owners.items():
            seat = taken[kernel_id]
            if owner is None:
                kernels.end_soon(kernel_id, ERASED if seat.owner in erased else KEPT_OUT)
                continue
            seat.person = owner
            if seat.secret and holding.isdisjoint({seat.secret, *(socket.secret for socket in seat.sockets)}):
                kernels.end_soon(kernel_id, SIGNED_OUT)
        for seat in taken.values():
            for socket in seat.sockets & {*sockets}:
                if socket.secret not in holding:
                    socket.end(ERASED if seat.owner in erased else SIGNED_OUT)

    def _ask(
        self, taken: Mapping[str, Seat], used: Mapping[str, bool]
    ) -> tuple[dict[str, Person | None], frozenset[str], frozenset[str]]:
        """(whose each kernel is now, the secrets that hold, the subjects that were erased). What is done in a page
        counts as use of its sign-in."""
        people, idle_s = self._services.people, self._services.settings.session_idle_s
        owners = {kernel_id: owner_now(people, seat) for kernel_id, seat in taken.items()}
        holding = (secret for secret, lately in used.items() if people.login(secret, idle_s, note=lately) is not None)
        kept_out = {str(taken[kernel_id].owner) for kernel_id, owner in owners.items() if owner is None}
        return owners, frozenset(holding), frozenset(filter(self._erased, kept_out))

    def _erased(self, subject: str) -> bool:
        """Whether somebody is erased, or is being: they are on the list before they are kept out.

        A list that cannot be read is no reason to let anybody go on: they are told that they are kept out.
        """
        if self._services.people.by_subject(subject) is None:
            return True
        try:
            return subject in self._services.privacy.tombstones.all()
        except StoreError as error:
            LOG.warning("who was erased cannot be looked at: %s", error)
            return False

    async def _look_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_S)
            self._woken.clear()
            try:
                await self.look()
            except StoreError as error:
                LOG.warning("who is signed in cannot be looked at and will be again: %s", error)
