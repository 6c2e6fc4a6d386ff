"""A circuit breaker: what has failed several times is left alone for a while, then tried once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from codesign_kernel.errors import InvalidInputError


class Breaker:
    """Closed: calls go through. Open, after ``failures`` in a row: none does. Half-open, ``pause_s`` later: one
    does, and decides. Threads may share it.

    Args:
        failures: failures in a row that open it, at least 1.
        pause_s: seconds that it stays open.
        clock: seconds that never go back; tests hand in their own.
    """

    def __init__(self, failures: int = 3, pause_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        if failures < 1 or not pause_s > 0:
            raise InvalidInputError(
                f"a breaker opens after 1 failure or more, for more than 0 s, but got {failures!r} and {pause_s!r}; "
                "choose larger numbers"
            )
        self._limit, self._pause_s, self._clock = failures, pause_s, clock
        self._lock = threading.Lock()
        self._failed = 0
        self._opened_s: float | None = None
        self._trial_s: float | None = None
        #: how often it has opened
        self.trips = 0

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        with self._lock:
            if self._opened_s is None:
                return "closed"
            return "half-open" if self._clock() - self._opened_s >= self._pause_s else "open"

    def allows(self) -> bool:
        """Whether a call may be made now; who is allowed says :meth:`succeeded` or :meth:`failed` afterwards.

        A trial that says neither within ``pause_s`` is taken for lost, and another is allowed.
        """
        with self._lock:
            if self._opened_s is None:
                return True
            now = self._clock()
            since = self._opened_s if self._trial_s is None else self._trial_s
            if now - since < self._pause_s:
                return False
            self._trial_s = now
            return True

    def succeeded(self) -> None:
        """A call went well: closed."""
        with self._lock:
            self._failed, self._opened_s, self._trial_s = 0, None, None

    def failed(self) -> None:
        """A call failed: one more, or open again if it was the trial."""
        with self._lock:
            self._failed += 1
            if self._trial_s is not None or (self._opened_s is None and self._failed >= self._limit):
                self._opened_s, self._trial_s = self._clock(), None
                self.trips += 1
