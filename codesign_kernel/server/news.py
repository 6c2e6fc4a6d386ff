"""Who waits for news of what: events of the loops that ask, set by the threads that know."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator


class News:
    """Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: defaultdict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set when something of ``name`` changes, for the loop that asks."""
        pair = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._watchers[name].add(pair)
        try:
            yield pair[1]
        finally:
            with self._lock:
                self._watchers[name].discard(pair)
                if not self._watchers[name]:
                    del self._watchers[name]

    def tell(self, name: str) -> None:
        """Something of it has changed."""
        with self._lock:
            watchers = [*self._watchers.get(name, ())]
        self._set(watchers)

    def tell_all(self) -> None:
        """Something has changed that concerns whoever waits."""
        with self._lock:
            watchers = [pair for pairs in self._watchers.values() for pair in pairs]
        self._set(watchers)

    @staticmethod
    def _set(watchers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        for loop, event in watchers:
            with contextlib.suppress(RuntimeError):  # a loop that has closed
                loop.call_soon_threadsafe(event.set)
