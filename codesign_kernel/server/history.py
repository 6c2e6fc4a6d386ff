"""The last minutes of a gateway: its metrics every few seconds, as rates that a console draws."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from codesign_kernel.telemetry.metrics import Metrics

EVERY_S = 5.0
KEPT_S = 15 * 60.0

#: {series: (the start of the counters' names, a part of their labels)}: how fast their sum grows, for each second.
RATES: Mapping[str, tuple[str, str]] = {
    "requests": ("codesign_request_seconds_count", ""),
    "errors": ("codesign_request_seconds_count", 'status="5xx"'),
    "refusals": ("codesign_refusals_total", ""),
    "designs": ("codesign_designs_total", ""),
    "jobs": ("codesign_jobs_ended_total", ""),
    "messages": ("codesign_websocket_messages_total", ""),
    "busy_s": ("codesign_request_seconds_sum", ""),
    "server_cpu": ("codesign_server_cpu_seconds_total", ""),
}
#: {series: (gauge, a part of its labels)}: its sum.
LEVELS: Mapping[str, tuple[str, str]] = {
    "kernels": ("codesign_kernels", ""),
    "queued": ("codesign_jobs", 'state="queued"'),
    "running": ("codesign_jobs", 'state="running"'),
    "active": ("codesign_people_active", ""),
    "memory_bytes": ("codesign_server_memory_bytes", ""),
    "kernels_memory_bytes": ("codesign_kernels_memory_bytes", ""),
}


class _Look(NamedTuple):
    at_s: float
    at: float
    sums: Mapping[str, float]


class History:
    """Looks at the metrics every ``EVERY_S`` and keeps what it saw for ``KEPT_S``.

    Args:
        metrics: that are looked at.
        clock: seconds that never go back. wall: seconds since 1970.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._metrics, self._clock, self._wall = metrics, clock, wall
        self._looks: deque[_Look] = deque(maxlen=math.ceil(KEPT_S / EVERY_S) + 1)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on, as long as the event loop runs."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    def close(self) -> None:
        """Look no more."""
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        self._task = None

    async def _go_on(self) -> None:
        while True:
            # beside the event loop: the metrics ask the database, which may be away
            await asyncio.to_thread(self.look)
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Note how the metrics stand now."""
        samples = self._metrics.snapshot()
        sums = {
            name: sum(value for sample, value in samples.items() if _is(sample, metric, label))
            for name, (metric, label) in {**RATES, **LEVELS}.items()
        }
        self._looks.append(_Look(self._clock(), self._wall(), sums))

    def series(self) -> dict[str, Any]:
        """{"at": seconds since 1970 of each point, series: a number or ``None`` for each}; empty before two looks.

        ``latency_s`` is the mean time to answer between two looks, ``None`` where nothing was asked.
        """
        looks = list(self._looks)
        steps = [(a, b) for a, b in pairwise(looks) if b.at_s > a.at_s]
        shown: dict[str, Any] = {"at": [round(b.at, 1) for _, b in steps]}
        for name in RATES:
            # a counter that went back belongs to a process that has gone
            shown[name] = [max(0.0, b.sums[name] - a.sums[name]) / (b.at_s - a.at_s) for a, b in steps]
        for name in LEVELS:
            shown[name] = [b.sums[name] for _, b in steps]
        busy, asked = shown.pop("busy_s"), shown["requests"]
        shown["latency_s"] = [s / n if n else None for s, n in zip(busy, asked, strict=True)]
        return shown


def _is(sample: str, metric: str, label: str) -> bool:
    name, _, labels = sample.partition("{")
    return name == metric and label in labels
