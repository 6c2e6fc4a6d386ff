"""How a gateway is, for load balancers, Prometheus and administrators: /health, its ready and detail, and /metrics.

The first two are open and say nothing but whether; the third is an administrator's. /metrics answers a process of this
machine that came without a proxy, whoever shows the token of ``settings.metrics_token_file``, and administrators.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado import web

from codesign_kernel import __version__
from codesign_kernel.server.handler import GateHandler
from codesign_kernel.server.probes import Probes, breakers, job_counts, kernel_seats
from codesign_kernel.server.services import Services
from codesign_kernel.telemetry.metrics import CONTENT_TYPE
from codesign_kernel.telemetry.process import usage_of

#: When to ask again whether the gateway is ready.
RETRY_S = 5
#: Headers that a proxy adds: with one of them a request from loopback is somebody else's.
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Scheme", "Forwarded", "Via")
#: People who were seen within that time are active.
ACTIVE_S = 300.0


class _Unasked(GateHandler):
    """A page that does not ask who asks: it answers also while the database, where people are kept, is away."""

    json_only = True

    async def prepare(self, **given: Any) -> None:
        """Nobody is looked up."""


class LiveHandler(_Unasked):
    """/health: the process answers."""

    @allow_unauthenticated
    async def get(self) -> None:
        """200, as long as anything is answered."""
        self.answer({"status": "ok"})


class ReadyHandler(_Unasked):
    """/health/ready: whether to send people here."""

    @allow_unauthenticated
    async def get(self) -> None:
        """200, or 503 with the parts that are lacking and when to ask again."""
        lacking = [name for name, found in (await self.services.health.ready()).items() if not found["ok"]]
        if lacking:
            self.set_header("Retry-After", str(RETRY_S))
        self.answer({"ready": not lacking, "lacking": lacking}, 503 if lacking else 200)


class DetailHandler(GateHandler):
    """/health/detail: every part, tried for real."""

    json_only = True
    accepts_tokens = True

    @web.authenticated
    async def get(self) -> None:
        """{"ready", "ok", "version", "up_s", "parts": {part: finding}, "breakers": {what: state}}."""
        self.require_role("admin")
        self.require_capability("admin")
        self.answer(await overview(self.services))


class MetricsHandler(GateHandler):
    """/metrics, in Prometheus' text format."""

    json_only = True
    accepts_tokens = True

    async def prepare(self, **given: Any) -> None:
        """Who asks is looked up only where that decides."""
        if not (self._from_here() or self._with_token()):
            await super().prepare(**given)

    @allow_unauthenticated
    async def get(self) -> None:
        """The metrics, to those who may read them; 403 to others."""
        if not (self._from_here() or self._with_token() or self._as_admin()):
            raise web.HTTPError(403)
        text = await asyncio.get_running_loop().run_in_executor(None, self.services.metrics.text)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(text)

    def _from_here(self) -> bool:
        """Whether a process of this machine asks, and no proxy in front of us."""
        if any(name in self.request.headers for name in FORWARDED):
            return False
        context = getattr(self.request.connection, "context", None)
        address: Any = getattr(context, "address", None)  # of the other end, whatever a header says
        try:
            return bool(address) and ipaddress.ip_address(address[0]).is_loopback
        except ValueError:
            return False

    def _with_token(self) -> bool:
        """Whether the request shows the token of ``metrics_token_file``."""
        file = self.services.settings.metrics_token_file
        scheme, _, shown = self.request.headers.get("Authorization", "").partition(" ")
        if file is None or scheme.lower() != "bearer" or not shown:
            return False
        token = read_token(file)
        return bool(token) and hmac.compare_digest(shown.strip().encode(), token.encode())

    def _as_admin(self) -> bool:
        person = self.visitor
        return person is not None and person.has_role("admin") and person.may("admin")


def read_token(file: Path) -> str:
    """The token in a file; "" where there is none, so that nobody has it."""
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


async def overview(services: Services) -> dict[str, Any]:
    """What /health/detail answers."""
    parts = await services.health.detail()
    return {
        "ready": all(parts[name]["ok"] for name in Probes.NEEDED),
        "ok": all(found["ok"] for found in parts.values()),
        "version": __version__,
        "up_s": round(time.monotonic() - _BEGAN_S),
        "parts": parts,
        "breakers": {what: state for what, (state, _) in breakers(services).items()},
    }


_BEGAN_S = time.monotonic()


def connect(services: Services) -> None:
    """Let the metrics ask the parts of a gateway at every scrape; ``services.health`` becomes its probes."""
    services.health = Probes(services)
    metrics = services.metrics
    metrics.know("app", services.apps)
    metrics.source("cache", services.store.cache.health)
    metrics.source("breakers", lambda: {what: state for what, (state, _) in breakers(services).items()})
    metrics.source("trips", lambda: {what: trips for what, (_, trips) in breakers(services).items()})
    metrics.source("kernels", lambda: kernels_of(services))
    metrics.source("process", lambda: usage_of(os.getpid())._asdict())
    metrics.source("jobs", lambda: job_counts(services))
    metrics.source("audit", lambda: services.audit.head().n)
    metrics.source("disk", lambda: _disk(services))
    metrics.source("workers", lambda: services.health.tries["cluster"]()["workers"])
    if services.people is not None:
        metrics.source("people", lambda: services.people.counts(ACTIVE_S))


def _disk(services: Services) -> dict[str, int]:
    usage = shutil.disk_usage(services.settings.data_dir)
    return {"free_bytes": usage.free, "total_bytes": usage.total}


def kernels_of(services: Services) -> list[dict[str, Any]]:
    """Every kernel: {id, app, owner, state, ready, age_s, idle_s, cpu_s, memory_bytes, sockets}, the oldest first."""
    now = time.monotonic()
    shown = []
    for kernel_id, seat in kernel_seats(services):
        pid = services.kernels.pid_of(kernel_id)
        usage = usage_of(pid, tree=True) if pid else None
        idle_s = None
        if kernel_id in services.kernels:
            kernel: Any = services.kernels.get_kernel(kernel_id)
            idle_s = (datetime.now(UTC) - kernel.last_activity).total_seconds()
        shown.append(
            {
                "id": kernel_id,
                "app": seat.app.name,
                "owner": seat.owner or "",
                "state": "warm" if seat.owner is None else "ending" if seat.ending else "running",
                "ready": seat.owner is not None or bool(seat.page),
                "age_s": round(now - seat.since_s, 1),
                "idle_s": None if idle_s is None else round(idle_s, 1),
                "cpu_s": None if usage is None else round(usage.cpu_s, 2),
                "memory_bytes": None if usage is None else usage.memory_bytes,
                "sockets": len(seat.sockets),
            }
        )
    return shown


def handlers(services: Services) -> list[tuple[str, type[web.RequestHandler], dict[str, Any]]]:
    """The routes of this module, relative to ``base_url``."""
    return [
        (r"/health/?", LiveHandler, {}),
        (r"/health/ready/?", ReadyHandler, {}),
        (r"/health/detail/?", DetailHandler, {}),
        (r"/metrics", MetricsHandler, {}),
    ]
