"""What administrators see and do: /api/v1/admin/*, for the role and the capability ``admin`` alone.

Whatever is stopped here, and each look into the audit trail, stands in the audit trail.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tornado import web

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.server.handler import GateHandler
from codesign_kernel.server.health import ACTIVE_S, kernels_of, overview
from codesign_kernel.server.presence import owner_now
from codesign_kernel.server.probes import job_counts
from codesign_kernel.server.services import Services
from codesign_kernel.telemetry.audit import EVENTS
from codesign_kernel.telemetry.verify import entries, verify

if TYPE_CHECKING:
    from codesign_kernel.server.kernels import Seat

#: Entries of the audit trail in one answer, and jobs.
MOST = 200
STOPPED = "An administrator stopped it."


class Admin:
    """What an administrator can ask; every answer is plain data. ``me`` is the administrator's subject.

    The methods raise InvalidInputError for an argument that makes no sense, and ``Missing`` for what is not there.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def overview(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """All that the console's first view needs: {"at", "health", "kernels", "jobs", "people", "series", "audit"}."""
        services = self._services
        health, kernels, jobs, people, audit = await asyncio.gather(
            overview(services),
            _off_loop(kernels_of, services),
            _off_loop(jobs_of, services),
            _off_loop(people_of, services),
            _off_loop(audit_of, services, "", "", None, 20),
        )
        at = datetime.now(UTC).isoformat(timespec="seconds")
        series = services.history.series()
        return {
            "at": at, "health": health, "kernels": kernels, "jobs": jobs, "people": people, "series": series,
            "audit": audit,
        }  # fmt: skip

    async def kernels(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """{"kernels": as :func:`codesign_kernel.server.health.kernels_of` tells them}."""
        return {"kernels": await _off_loop(kernels_of, self._services)}

    async def stop_kernel(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """End a kernel."""
        seat = self._services.kernels.seats.get(one)
        if seat is None:
            raise Missing("there is no such kernel; it may have ended already")
        about = {"app": seat.app.name, "of": seat.owner or "", "kernel": one}
        self._services.signals.note("admin_action", me, action="stop kernel", **about)
        await self._services.kernels.end(one, STOPPED)
        return {"stopped": one}

    async def jobs(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """{"states": {state: count}, "jobs": those that have not ended, and the latest that have}."""
        return await _off_loop(jobs_of, self._services)

    async def stop_job(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """Stop a job."""
        found = next((job for job in await _off_loop(_all_jobs, self._services) if job["id"] == one), None)
        if found is None or found["state"] not in ("queued", "running"):
            raise Missing("there is no such job that has not ended")
        self._services.signals.note("admin_action", me, action="stop job", job=one, of=found["owner"])
        await _off_loop(self._services.jobs.stop, found["owner"], one)
        return {"stopped": one}

    async def audit(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """{"entries": the latest first, "lines": how many there are, "events": {name: what it says}}.

        Arguments: ``event`` (also the start of one), ``who``, ``since`` (such as 15m, 12h or 7d), ``limit``.
        """
        limit = query.get("limit", "50")
        if not limit.isdecimal() or not 1 <= int(limit[:6]) <= MOST:
            raise InvalidInputError(f"limit is a whole number of 1 to {MOST}, but got {limit!r:.20}")
        since = since_of(query.get("since", ""))
        event, who = query.get("event", ""), query.get("who", "")
        return await _off_loop(audit_of, self._services, event, who, since, int(limit))

    async def verify(self, me: str, query: Query, one: str) -> dict[str, Any]:
        """What ``codesign audit verify`` finds."""
        audit = self._services.audit
        report = await _off_loop(verify, audit.path, audit.key_file)
        self._services.signals.note("admin_action", me, action="verify audit trail", intact=report.intact)
        return report.plain()


class Missing(InvalidInputError):
    """What was asked for is not there."""


Query = Mapping[str, str]
#: {path below /api/v1/admin: {method: the name of a method of :class:`Admin`}}.
ROUTES: Mapping[str, Mapping[str, str]] = {
    r"/overview": {"GET": "overview"},
    r"/kernels": {"GET": "kernels"},
    r"/kernels/(?P<id>[0-9a-f-]{8,40})": {"DELETE": "stop_kernel"},
    r"/jobs": {"GET": "jobs"},
    r"/jobs/(?P<id>[0-9a-z]{8,40})": {"DELETE": "stop_job"},
    r"/audit": {"GET": "audit"},
    r"/audit/verify": {"POST": "verify"},
}


class _Serving(web.RequestHandler):
    """Serves one path. The class beside it says whose gateway it is and who asks."""

    def initialize(self, methods: Mapping[str, str]) -> None:
        """Of Tornado."""
        self._methods = methods

    async def who(self) -> tuple[Services, str]:
        """The gateway, and the administrator's subject; everybody else is refused."""
        raise NotImplementedError

    async def serve(self, id: str = "") -> None:
        """Answer, every error in one form."""
        name = self._methods.get(self.request.method or "")
        if name is None:
            self.set_header("Allow", ", ".join(self._methods))
            self._error(405, "wrong_method", f"this path takes {', '.join(self._methods)}")
            return
        services, me = await self.who()
        query = {key: self.get_query_argument(key)[:64] for key in self.request.query_arguments}
        try:
            body = await getattr(Admin(services), name)(me, query, id)
        except Missing as error:
            self._error(404, "not_found", str(error))
        except InvalidInputError as error:
            self._error(400, "invalid", str(error))
        else:
            self.set_header("Content-Type", "application/json; charset=UTF-8")
            self.finish(json.dumps(body, ensure_ascii=False, default=str))

    get = post = delete = serve

    def _error(self, status: int, code: str, message: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(json.dumps({"error": {"code": code, "message": message}}))


class AdminHandler(_Serving, GateHandler):
    """One path of /api/v1/admin."""

    json_only = True

    async def who(self) -> tuple[Services, str]:
        """Of the session or token."""
        self.require_role("admin")
        return self.services, self.require_capability("admin").subject


class BrokerAdminHandler(_Serving):
    """The same on a kernel's own socket: for a kernel of an administrator, in an app whose scope has ``admin``."""

    def initialize(self, methods: Mapping[str, str], services: Services, seat: Seat) -> None:  # type: ignore[override]
        """Of Tornado."""
        super().initialize(methods)
        self._services, self._seat = services, seat

    async def who(self) -> tuple[Services, str]:
        """The kernel's owner."""
        person = await _off_loop(owner_now, self._services.people, self._seat)
        if person is None or not (
            person.has_role("admin") and person.may("admin") and self._seat.app.scope.may("admin")
        ):
            raise web.HTTPError(403)
        return self._services, person.subject

    def write_error(self, status_code: int, **given: Any) -> None:
        """Errors have one form here too."""
        self._error(status_code, "not_allowed" if status_code == 403 else "fault", self._reason.lower())


async def _off_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` gives, worked out in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def since_of(text: str) -> datetime | None:
    """The time so long ago as ``15m``, ``12h`` or ``7d`` says; ``None`` for "".

    Raises:
        InvalidInputError: it says none.
    """
    if not text:
        return None
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1], 0)
    if not unit or not text[:-1].isdecimal() or len(text) > 6:
        raise InvalidInputError(f"since is such as 15m, 12h or 7d, but got {text!r:.20}")
    return datetime.now(UTC) - timedelta(seconds=unit * int(text[:-1]))


def audit_of(services: Services, event: str, who: str, since: datetime | None, limit: int) -> dict[str, Any]:
    """What :meth:`Admin.audit` answers."""
    found = entries(services.audit.path, event=event[:64], who=who[:64], since=since)
    shown = [{key: one[key] for key in ("n", "time", "event", "who", "data")} for one in itertools.islice(found, limit)]
    return {"entries": shown, "lines": services.audit.head().n, "events": dict(EVENTS)}


def people_of(services: Services) -> dict[str, int]:
    """{"people", "active", "sessions"}: how many may sign in, were seen lately, are signed in."""
    if services.people is None:
        return {"people": 0, "active": 0, "sessions": 0}
    return dict(services.people.counts(ACTIVE_S))


def jobs_of(services: Services) -> dict[str, Any]:
    """What :meth:`Admin.jobs` answers."""
    return {"states": job_counts(services), "jobs": _all_jobs(services)}


def _all_jobs(services: Services) -> list[dict[str, Any]]:
    if services.jobs is None:
        return []
    return [
        {
            "id": job.id, "kind": job.kind, "owner": job.owner, "state": job.state, "done": job.done,
            "message": job.message, "created_at": job.created_at.isoformat(),
        }
        for job in services.jobs.table.everybodys(MOST)
    ]  # fmt: skip


def handlers(services: Services) -> list[tuple[str, type[web.RequestHandler], dict[str, Any]]]:
    """The routes of this module, relative to ``base_url``."""
    return [(f"/api/v1/admin{path}", AdminHandler, {"methods": methods}) for path, methods in ROUTES.items()]


def broker_handlers(services: Services, seat: Seat) -> list[tuple[str, type[web.RequestHandler], dict[str, Any]]]:
    """The same for the broker of a kernel; none where its app's scope has not ``admin``."""
    if not seat.app.scope.may("admin"):
        return []
    about = {"services": services, "seat": seat}
    return [
        (f"/api/v1/admin{path}", BrokerAdminHandler, {"methods": methods, **about}) for path, methods in ROUTES.items()
    ]
