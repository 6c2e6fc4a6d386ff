"""What a gateway keeps about people, kept in order: it stops what runs before an erasure, and looks for the end of
everything's time once a day."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from codesign_kernel.errors import CodesignError, ServiceError, StoreError, StoreUnavailableError
from codesign_kernel.server.presence import ERASED
from codesign_kernel.server.settings import Settings
from codesign_kernel.store import Store
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.privacy import Privacy
from codesign_kernel.store.rotation import drop_old, needed
from codesign_kernel.telemetry.audit import Audit

if TYPE_CHECKING:
    from codesign_kernel.server.kernels import Seat
    from codesign_kernel.server.services import Services

#: Seconds after the start, between two looks, after one that failed, and between two glances at the list of the erased.
FIRST_S, DAY_S, AGAIN_S, GLANCE_S = 60.0, 86_400.0, 3_600.0, 5.0
#: Seconds that what runs for somebody has to end before they are erased.
END_S = 30.0
LOG = logging.getLogger("codesign.gateway")


def opened(settings: Settings, store: Store, audit: Audit | None) -> tuple[Vault, Privacy]:
    """The keys of a gateway, made at its first start, and the rights of its people.

    Raises:
        StoreError: the keys file cannot be read, or others may read it; or it is not there, and something was sealed.
        InvalidInputError: the settings keep something for no days, or something that there is not.
    """
    # a new key would open nothing of it, and be taken for the file that somebody has to put back
    if not settings.keys.exists() and (lost := needed(store)):
        raise StoreError(
            f"{sum(lost.values()):,} values were sealed with the keys {', '.join(sorted(lost))}, but their file "
            f"{settings.keys} is not there; put your copy of it back, or begin with an empty database"
        )
    vault = Vault(settings.keys)
    return vault, Privacy(
        store, vault, audit, retention_days=settings.retention_days, tombstones=settings.file("erased.jsonl")
    )


class Keeping:
    """Connects :class:`Privacy` with what runs, and calls :meth:`Privacy.retain` once a day, in a thread of its own.

    It also notices whom the command line erases meanwhile, and erases them here: what runs for them, what memory holds.

    Args:
        services: of the gateway.
        loop: in which its kernels live.
    """

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self._services, self._loop = services, loop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="codesign-retention", daemon=True)
        privacy = services.privacy
        self._erased, self._mark = set(privacy.tombstones.all()), self._list_mark()
        privacy.before_erase.append(self._erased.add)
        privacy.before_erase.append(self.end_kernels)
        privacy.before_erase.append(self.end_jobs)
        privacy.folders_of.append(lambda subject: [seat.cell.work for seat in self._seats(subject) if seat.cell])

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def look(self) -> float:
        """Erase what has reached its end, and drop keys that open nothing; seconds until the next look."""
        try:
            self._services.privacy.retain()
            drop_old(self._services.store, self._services.vault)
        except CodesignError as error:
            LOG.warning("retention is not done and will be tried again: %s", error)
            return AGAIN_S
        return DAY_S

    def glance(self) -> None:
        """Erase here, too, whoever was put on the list of the erased by another process."""
        mark, privacy = self._list_mark(), self._services.privacy
        if mark == self._mark:
            return
        try:
            for subject in [one for one in privacy.tombstones.all() if one not in self._erased]:
                privacy.erase(subject)
        except CodesignError as error:
            LOG.warning("an erasure is not done and will be tried again: %s", error)
            return
        self._mark = self._list_mark()

    def _list_mark(self) -> tuple[int, int]:
        try:
            about = self._services.privacy.tombstones.path.stat()
        except OSError:
            return 0, 0
        return about.st_mtime_ns, about.st_size

    def end_kernels(self, subject: str) -> None:
        """End the kernels of a person, and wait until they have ended.

        Raises:
            ServiceError: called in the gateway's own thread, which would wait for itself.
            StoreUnavailableError: they do not end.
        """
        kernels = self._services.kernels
        if kernels is None or not self._loop.is_running():
            return
        if _running_loop() is self._loop:
            raise ServiceError("a person is erased in a thread of its own, and not in the gateway's; use to_thread")

        async def end() -> None:
            await asyncio.gather(*(kernels.end(one, ERASED) for one in kernels.of(subject)))
            while self._seats(subject):  # one that is ended already, by another watch
                await asyncio.sleep(0.05)

        ending = asyncio.run_coroutine_threadsafe(end(), self._loop)
        try:
            ending.result(END_S)
        except TimeoutError as error:
            ending.cancel()
            raise StoreUnavailableError(f"kernels of {subject} do not end within {END_S:g} s; repeat it") from error

    def end_jobs(self, subject: str) -> None:
        """Stop the jobs of a person, and wait until none runs.

        Raises:
            StoreUnavailableError: one does not end.
        """
        jobs = self._services.jobs
        if jobs is None:
            return
        until_s = time.monotonic() + END_S
        while jobs.stop_all(subject):
            if time.monotonic() > until_s:
                raise StoreUnavailableError(f"jobs of {subject} do not end within {END_S:g} s; repeat it")
            time.sleep(0.05)

    def _seats(self, subject: str) -> list[Seat]:
        kernels = self._services.kernels
        return [] if kernels is None else [seat for seat in list(kernels.seats.values()) if seat.owner == subject]

    def _work(self) -> None:
        next_s = time.monotonic() + FIRST_S
        while not self._stop.wait(min(GLANCE_S, max(0.0, next_s - time.monotonic()))):
            self.glance()
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + self.look()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
