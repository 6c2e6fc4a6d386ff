"""What happens in a gateway, told once: to the metrics, the audit trail and the log, each as far as it concerns it."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tornado.routing import PathMatches
from tornado.web import RequestHandler

from codesign_kernel import __version__
from codesign_kernel.accelerator.spatial import spatial_only
from codesign_kernel.errors import AuditError
from codesign_kernel.server.rates import Meter
from codesign_kernel.server.settings import Settings
from codesign_kernel.telemetry.audit import Audit
from codesign_kernel.telemetry.log import event as log_event
from codesign_kernel.telemetry.metrics import METHODS, OTHER, Metrics

#: {why somebody was turned away, of ``metrics.REFUSALS``: the event of the audit trail}.
REFUSED = {
    "rate": "rate_limited",
    "scope": "scope_refused",
    "ownership": "ownership_refused",
    "sign_in": "sign_in_failed",
    "origin": "origin_refused",
    "xsrf": "origin_refused",
    "upload": "upload_refused",
}
#: The same refusal of the same person is written into the trail once in this time, with how often it was.
QUIET_S = 60.0
#: The use of a token is written into it once in this time.
HOUR_S = 3600.0
#: Lines of one event that one person may cause in ``HOUR_S``; how many more there were stands in their next one.
PLENTY = 1_000
#: What designs without a template count for, and the most that one job is believed to have evaluated.
FAMILIES, MOST_DESIGNS = ("systolic", "spatial"), 10**9
_GROUP = re.compile(r"\((?:\?P<(\w+)>|\?:|)(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)[*+?]?")


class Signals:
    """What the parts of a gateway call when something happens.

    Args:
        audit, metrics: that are told.
        clock: seconds that never go back.
    """

    def __init__(self, audit: Audit, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.audit, self.metrics = audit, metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self._room: dict[tuple[str, str], tuple[Meter, float, int]] = {}

    def started(self, settings: Settings) -> None:
        """The gateway listens, with these settings. They name files with secrets, and hold none but in URLs.

        Raises:
            AuditError: the audit trail cannot be written: without one nobody is served.
        """
        shown = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
        shown["hub"] = {name: value for name, value in settings.hub.items() if "token" not in name}
        self.note("gateway_started", version=__version__, **{f"setting_{name}": item for name, item in shown.items()})
        log_event("gateway_started", host=settings.host, port=settings.port, identity=settings.identity)

    def stopped(self) -> None:
        """The gateway ends in order."""
        self._tried("gateway_stopped", "")
        log_event("gateway_stopped")

    def note(self, event: str, who: str = "", **data: Any) -> None:
        """Write into the audit trail, before what it is about counts as done.

        Raises:
            AuditError: it cannot be written.
        """
        try:
            self.audit.write(event, who, **data)
        except AuditError:
            self.metrics.error("audit")
            raise

    def often(self, event: str, who: str, **data: Any) -> None:
        """As :meth:`note`, of what anybody can do as often as they like: nobody fills the disk with it.

        Raises:
            AuditError: it cannot be written.
        """
        left_out = self._left_out(event, who) if who else 0
        if left_out is not None:
            self.note(event, who, **data, **({"left_out": left_out} if left_out else {}))

    def refused(self, why: str, who: str = "", **data: Any) -> None:
        """Somebody was turned away. A trail that cannot be written is no reason to let them in."""
        self.metrics.refused(why)
        event = REFUSED.get(why)
        times = self._due(event or why, who)
        if not times:
            return
        log_event("refused", level=logging.WARNING, why=why, who=who, times=times, **data)
        if event is not None:
            self._tried(event, who, **data, **({"times": times} if times > 1 else {}))

    def token_used(self, who: str, token: str) -> None:
        """An API token opened something: told when it is the first time in ``HOUR_S``; ``token`` is its id."""
        if self._due(f"token {token}", who, HOUR_S):
            self._tried("token_used", who, id=token)

    def app_opened(self, app: str, who: str) -> None:
        """A page of an app was opened."""
        self.metrics.app_opened(app)
        self._tried("app_opened", who, app=app)

    def kernel(
        self, what: str, app: str, who: str, seconds: float | None = None, reason: str = "", left_out: int = 0
    ) -> None:
        """A kernel was ``warmed``, ``started``, ``ended``, was ``killed`` by a limit, or ``died``.

        ``left_out``: of its lines, that the log has not.
        """
        self.metrics.kernel(app, what, seconds)
        event = {"started": "kernel_started", "killed": "kernel_killed"}.get(what, "kernel_ended")
        if what != "warmed":
            self._tried(event, who, app=app, **({"reason": reason} if reason else {}))
        more = {"lines_left_out": left_out} if left_out else {}
        log_event("kernel", what=what, app=app, who=who, seconds=seconds, reason=reason, **more)

    def job(self, kind: str, state: str, who: str, job: str, seconds: float = 0.0) -> None:
        """A job was ``queued``, or ended as ``done``, ``failed`` or ``stopped`` after running so long."""
        if state == "queued":
            self._tried("job_submitted", who, kind=kind, job=job)
            return
        self.metrics.job(kind, state, seconds)
        self._tried("job_ended", who, kind=kind, job=job, state=state)
        log_event("job", kind=kind, state=state, job=job, who=who, seconds=round(seconds, 3))

    def worked(self, kind: str, request: Mapping[str, Any], result: Any, seconds: float) -> None:
        """A job has evaluated or generated designs: how many of which template.

        A design without one counts for its family, an exploration for that of its space. ``result`` comes out of a
        sandbox and is not believed.
        """
        designs = request.get("designs", [request["design"]] if kind == "generate" else [])
        counts = Counter(one.get("template", family_of(one)) for one in designs)
        if kind == "explore":
            told = result.get("evaluated") if isinstance(result, dict) else None
            number = told if type(told) is int and 0 <= told <= MOST_DESIGNS else 0
            counts[family_of(request.get("space", "default"))] = number
        for template, count in counts.items():
            self.metrics.design(template, count, seconds * count / max(1, counts.total()))

    def request(self, handler: RequestHandler) -> None:
        """A request was answered: Tornado's ``log_function``. Neither path nor query string is logged."""
        route = route_of(handler)
        seconds, status = handler.request.request_time(), handler.get_status()
        method = method_of(handler)
        waits = bool(getattr(handler, "waits", False))
        self.metrics.request(route, method, status, seconds, waits)
        visitor = getattr(handler, "visitor", None)
        level = logging.ERROR if status >= 500 and not waits else logging.INFO
        log_event(
            "request", level=level, route=route, method=method, status=status,
            ms=round(1000 * seconds, 2), request_id=getattr(handler, "request_id", ""),
            subject="" if visitor is None else visitor.subject,
        )  # fmt: skip

    def _tried(self, event: str, who: str, **data: Any) -> None:
        """As :meth:`note`, of what has happened already: a trail that cannot be written is counted and logged."""
        try:
            self.often(event, who, **data)
        except AuditError as error:
            log_event("audit_failed", level=logging.ERROR, what=event, error=str(error))

    def _left_out(self, event: str, who: str) -> int | None:
        """How many of these were not told since the last that was; ``None``: neither is this one."""
        now, fresh = self._clock(), Meter(PLENTY, HOUR_S, self._clock)
        with self._lock:
            if len(self._room) > 10_000:
                self._room = {key: seen for key, seen in self._room.items() if seen[2] or now - seen[1] < HOUR_S}
            meter, _, before = self._room.get((event, who), (fresh, now, 0))
            told = meter.take()
            self._room[event, who] = (meter, now, 0 if told else before + 1)
        return before if told else None

    def _due(self, event: str, who: str, quiet_s: float = QUIET_S) -> int:
        """0, or how often it was since it was told last, at least ``quiet_s`` ago."""
        now = self._clock()
        with self._lock:
            if len(self._told) > 10_000:
                self._told = {key: seen for key, seen in self._told.items() if now - seen[0] < QUIET_S}
            told_s, times = self._told.get((event, who), (-math.inf, 0))
            if now - told_s < quiet_s:
                self._told[event, who] = (told_s, times + 1)
                return 0
            self._told[event, who] = (now, 0)
            return times + 1


def family_of(told: str | Mapping[str, Any]) -> str:
    """Of :data:`FAMILIES`, that of a design or a space as a request tells it."""
    if isinstance(told, str):
        return "spatial" if told == "spatial" else "systolic"
    return "spatial" if spatial_only(told) else "systolic"


def method_of(handler: RequestHandler) -> str:
    """The method of a request, of ``METHODS``; ``other``: a word of the asker's, who could send 32 KiB of it."""
    return handler.request.method if handler.request.method in METHODS else OTHER


def route_of(handler: RequestHandler) -> str:
    """The pattern that led to a handler, such as ``/api/v1/jobs/{id}``; ``other`` where none did."""
    for rule in handler.application.wildcard_router.rules:
        if rule.target is type(handler) and isinstance(rule.matcher, PathMatches):
            regex = rule.matcher.regex
            if regex.fullmatch(handler.request.path) or regex.match(handler.request.path):
                return pattern_words(regex.pattern)
    return "other"


def pattern_words(pattern: str) -> str:
    """A route's regular expression in words: each group becomes ``{its name}`` or ``{}``."""
    words = _GROUP.sub(lambda found: "{" + (found[1] or "") + "}", pattern.strip("^$"))
    return re.sub(r"\\(.)", r"\1", words).replace("?", "") or "/"
