"""Whether each part of a gateway works: tried for real, all at once, each with an end to waiting."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from codesign_kernel.errors import ClusterError, CodesignError
from codesign_kernel.server.services import Services
from codesign_kernel.telemetry.log import scrub

#: A part that has not answered by then does not work.
PATIENCE_S = 3.0
#: What was found out is told to whoever asks within that time.
FRESH_S = 1.0
#: Less than this part of the disk, or these bytes, is too little.
LEAST_FREE, LEAST_FREE_BYTES = 0.05, 256 << 20

Found = dict[str, Any]


class Probes:
    """The parts of a gateway, and what came of trying them.

    A finding is ``{"ok": bool, "detail": sentence or "", ...}``: ``ok`` false says that something should be done.

    Args:
        services: the gateway's parts.
        patience_s: to wait for each.
    """

    #: Without these the gateway cannot do its work.
    NEEDED = ("database", "sandbox", "data", "audit")

    def __init__(self, services: Services, patience_s: float = PATIENCE_S) -> None:
        self._services, self._patience_s = services, patience_s
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="probe")
        self._running: dict[str, asyncio.Future[Found]] = {}
        self._ready: tuple[float, dict[str, Found]] = (-FRESH_S, {})
        self._turn = asyncio.Lock()
        self.tries: Mapping[str, Callable[[], Found]] = {
            "database": self._database,
            "cache": self._cache,
            "cluster": self._cluster,
            "simulators": self._simulators,
            "sandbox": self._sandbox,
            "data": self._data,
            "audit": self._audit,
            "jobs": self._jobs,
            "kernels": self._kernels,
            "rates": self._rates,
        }

    async def detail(self) -> dict[str, Found]:
        """{part: finding} of all of them."""
        names = list(self.tries)
        return dict(zip(names, await asyncio.gather(*map(self._try, names)), strict=True))

    async def ready(self) -> dict[str, Found]:
        """{part: finding} of those that are needed; not tried more often than every ``FRESH_S``."""
        async with self._turn:
            at_s, found = self._ready
            if time.monotonic() - at_s >= FRESH_S:
                needed = await asyncio.gather(*map(self._try, self.NEEDED))
                found = dict(zip(self.NEEDED, needed, strict=True))
                self._ready = (time.monotonic(), found)
            return found

    def close(self) -> None:
        """Try no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _try(self, name: str) -> Found:
        began_s = time.monotonic()
        running = self._running.get(name)
        if running is None or running.done():  # one that hangs is not tried once more beside itself
            running = asyncio.get_running_loop().run_in_executor(self._pool, self._guarded, name)
            self._running[name] = running
        try:
            found = await asyncio.wait_for(asyncio.shield(running), self._patience_s)
        except TimeoutError:
            found = {"ok": False, "detail": f"did not answer within {self._patience_s:g} s"}
        return {**found, "took_ms": round(1000 * (time.monotonic() - began_s), 1)}

    def _guarded(self, name: str) -> Found:
        try:
            return {"detail": "", **self.tries[name]()}
        except (CodesignError, OSError) as error:
            return {"ok": False, "detail": scrub(str(error))}

    def _database(self) -> Found:
        told = self._services.store.health()["database"]
        kind = "postgresql" if "postgres" in str(self._services.settings.database_url) else "sqlite"
        return {
            "ok": told["reachable"],
            "detail": "" if told["reachable"] else "the database cannot be reached",
            "kind": kind,
            "schema": told["schema"],
        }

    def _cache(self) -> Found:
        tiers = self._services.store.cache.probe()
        lost = [tier for tier, about in tiers.items() if not about["answers"]]
        for about in tiers.values():
            about["last_error"] = scrub(about["last_error"])
        detail = f"{', '.join(lost)} does not answer; the other tiers go on" if lost else ""
        return {"ok": not lost, "detail": detail, "tiers": tiers}

    def _cluster(self) -> Found:
        crew = self._services.crew
        if crew is None or not crew.most:
            return {"ok": True, "detail": "none: jobs run in processes of their own", "workers": 0}
        try:
            told = crew.status(self._patience_s)
        except ClusterError as error:
            return {"ok": False, "detail": str(error), "workers": 0, "most": crew.most}
        detail = "" if told["workers"] else "no worker is there; one is being started"
        return {"ok": told["workers"] > 0, "detail": detail, **told}

    def _simulators(self) -> Found:
        from codesign_kernel.cosim.simulators import simulators  # brings MyHDL, for the one who asks

        found = simulators()
        here = [name for name, missing in found.items() if not missing]
        return {"ok": bool(here), "detail": "" if here else "no simulator runs here", "here": here, "missing": found}

    def _sandbox(self) -> Found:
        confinement = self._services.confinement
        if confinement is None:
            return {"ok": False, "detail": "it was not found out how kernels are confined"}
        kind = confinement.kind
        accepted = self._services.settings.accept_no_sandbox
        return {
            "ok": kind != "none" or accepted,
            "detail": confinement.detail,
            "kind": kind,
            "enforces": sorted(confinement.enforces),
        }

    def _data(self) -> Found:
        folder = self._services.settings.data_dir
        usage = shutil.disk_usage(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
        short = usage.free < LEAST_FREE_BYTES
        low = usage.free < LEAST_FREE * usage.total
        detail = "the disk is nearly full" if low or short else ""
        return {"ok": not short, "detail": detail, "free_bytes": usage.free, "total_bytes": usage.total}

    def _audit(self) -> Found:
        head = self._services.audit.head()
        return {"ok": True, "lines": head.n, "chain": head.chain[:16], "files": head.files + 1}

    def _jobs(self) -> Found:
        if self._services.jobs is None:
            return {"ok": True, "detail": "none are taken"}
        counts = job_counts(self._services)
        most = self._services.settings.max_queued_jobs
        full = counts.get("queued", 0) >= most
        return {"ok": not full, "detail": f"the queue of {most:,} is full" if full else "", "states": counts}

    def _kernels(self) -> Found:
        seats = kernel_seats(self._services)
        most = self._services.settings.max_kernels
        warm = sum(seat.owner is None for _, seat in seats)
        return {"ok": True, "running": len(seats) - warm, "warm": warm, "most": most}

    def _rates(self) -> Found:
        told = dict(self._services.rates.health())
        detail = "Redis is away; this process counts alone" if told["degraded"] else ""
        return {"ok": not told["degraded"], "detail": detail, **told}


def job_counts(services: Services) -> dict[str, int]:
    """{state: how many jobs}."""
    return dict(services.jobs.table.counts()) if services.jobs is not None else {}


def kernel_seats(services: Services) -> list[tuple[str, Any]]:
    """(id, seat) of each kernel that lives, the oldest first."""
    if services.kernels is None:
        return []
    return sorted(services.kernels.seats.items(), key=lambda item: item[1].since_s)


def breakers(services: Services) -> dict[str, tuple[str, int]]:
    """{what: (state, how often it opened)} of every circuit breaker."""
    found = {f"cache {tier}": (told["state"], told["trips"]) for tier, told in services.store.cache.health().items()}
    if services.crew is not None and services.crew.most:
        found["cluster"] = services.crew.breaker.state, services.crew.breaker.trips
    if services.settings.redis_url:
        found["rates redis"] = services.rates.breaker.state, services.rates.breaker.trips
    return found
