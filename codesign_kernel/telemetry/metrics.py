"""What Prometheus reads: counts, times and levels of a gateway, in a registry of their own.

    metrics = Metrics(apps={"profiler"}, templates={"generic"})
    metrics.request("/api/v1/jobs/{id}", "GET", 200, 0.012)   # a request was answered; the route as a pattern
    metrics.kernel("profiler", "started", 0.8)                # of KERNEL_EVENTS; seconds to the first reply
    metrics.app_opened("profiler")
    metrics.job("explore", "done", 3.1)                       # a job ended in this state
    metrics.design("generic", 4_000, 1.7)                     # so many designs were evaluated in that time
    metrics.refused("rate")                                   # of REFUSALS
    metrics.websocket("in", "comm_msg")                       # a message passed, or with refused=True did not
    metrics.error("job")                                      # of ERRORS: something broke
    metrics.source("jobs", lambda: {"queued": 3})             # asked at every scrape; see SOURCES
    metrics.text()                                            # what /metrics answers

A label is a word of ours: a route pattern, the name of one of our apps or templates, a state. Whatever else is given
becomes ``other``, so that neither a person nor a text of theirs stands in a label, and their number has an end.
"""

from __future__ import annotations

import logging
import platform
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from codesign_kernel.errors import CodesignError, InvalidInputError

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LOG = logging.getLogger(__name__)

#: Why somebody was turned away.
REFUSALS = ("rate", "scope", "ownership", "sign_in", "origin", "xsrf", "upload", "busy", "message")
#: Where something broke.
ERRORS = ("request", "kernel", "job", "database", "websocket", "audit")
KERNEL_EVENTS = ("started", "ended", "killed", "warmed", "died")
JOB_STATES = ("queued", "running", "done", "failed", "stopped", "expired")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"
#: No more route patterns than this: the rest is ``other``.
ROUTES = 200

_STATES = {"closed": 0, "half-open": 1, "open": 2}
_ROUTE = re.compile(r"/[A-Za-z0-9_.{}/:*-]*")

#: {source: what the callable gives}; those that are not given are not shown.
SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "cache": "{tier: Cache.health()'s dict}",
        "breakers": "{what: closed, half-open or open}",
        "trips": "{what: how often its breaker opened}",
        "kernels": "[{app, state (running or warm), cpu_s, memory_bytes}]",
        "process": "{cpu_s, memory_bytes} of the server itself",
        "jobs": "{state: how many}",
        "people": "{active, sessions}: people of the last minutes, sign-ins that have not ended",
        "workers": "how many the cluster has",
        "audit": "the number of the audit trail's last line",
        "disk": "{free_bytes, total_bytes} where the data is",
    }
)


class Metrics:
    """A gateway's metrics. Threads may share it.

    Args:
        apps, templates: the names that may stand in labels.
        kinds: of jobs.
        version: of this release.
    """

    def __init__(
        self,
        apps: Iterable[str] = (),
        templates: Iterable[str] = (),
        kinds: Iterable[str] = (),
        version: str = "",
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._known = {"app": set(apps), "template": set(templates), "kind": set(kinds)}
        self._routes: set[str] = set()
        self._lock = threading.Lock()
        self._requests(self.registry)
        self._work(self.registry)
        build = Gauge("codesign_build_info", "This release; always 1", ["version", "python"], registry=self.registry)
        build.labels(version, platform.python_version()).set(1)
        self._sources = _Sources()
        self.registry.register(self._sources)

    def _requests(self, registry: CollectorRegistry) -> None:
        def counter(name: str, about: str, labels: list[str]) -> Counter:
            return Counter(f"codesign_{name}", about, labels, registry=registry)

        self._request_s = Histogram(
            "codesign_request_seconds", "Time to answer a request", ["route", "method", "status"], registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )  # fmt: skip
        self._open = Gauge("codesign_open_websockets", "Websockets that are open", registry=registry)
        self._messages = counter("websocket_messages", "Messages of websockets", ["direction", "type", "passed"])
        self._refused = counter("refusals", "What was refused, by why", ["why"])
        self._errors = counter("errors", "What broke, by where", ["where"])
        for why in REFUSALS:
            self._refused.labels(why)
        for where in ERRORS:
            self._errors.labels(where)

    def _work(self, registry: CollectorRegistry) -> None:
        self._kernel_events = Counter(
            "codesign_kernel_events", "Kernels that started, ended, were killed by a limit", ["app", "event"],
            registry=registry,
        )  # fmt: skip
        self._kernel_s = Histogram(
            "codesign_kernel_start_seconds", "From asking for a kernel to its first reply", ["app"], registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 40),
        )  # fmt: skip
        self._opened = Counter("codesign_app_opened", "Pages of apps that were opened", ["app"], registry=registry)
        self._jobs = Counter("codesign_jobs_ended", "Jobs that ended, by state", ["kind", "state"], registry=registry)
        self._job_s = Histogram(
            "codesign_job_seconds", "Time that a job ran", ["kind"], registry=registry,
            buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
        )  # fmt: skip
        self._designs = Counter("codesign_designs", "Designs that were evaluated", ["template"], registry=registry)
        self._design_s = Counter(
            "codesign_design_seconds", "Time in which they were evaluated", ["template"], registry=registry
        )

    def know(self, label: str, names: Iterable[str]) -> None:
        """More names that may stand in the label ``app``, ``template`` or ``kind``."""
        self._known[label] |= set(names)

    def request(self, route: str, method: str, status: int, seconds: float, waits: bool = False) -> None:
        """A request was answered. ``route`` is a pattern such as ``/api/v1/jobs/{id}``, not the path that was asked.

        ``waits``: its 503 shows the waiting room, which is no fault: its label is ``wait``.
        """
        told = "wait" if waits else f"{status // 100}xx"
        self._request_s.labels(self._route(route), _one_of(method, METHODS), told).observe(seconds)
        if status >= 500 and not waits:
            self._errors.labels("request").inc()

    def refused(self, why: str) -> None:
        """Somebody was turned away."""
        self._refused.labels(_one_of(why, REFUSALS)).inc()

    def error(self, where: str) -> None:
        """Something broke."""
        self._errors.labels(_one_of(where, ERRORS)).inc()

    def kernel(self, app: str, event: str, seconds: float | None = None) -> None:
        """A kernel of an app started (after so many seconds), ended, was killed by a limit, died or was warmed."""
        app = self._name("app", app)
        self._kernel_events.labels(app, _one_of(event, KERNEL_EVENTS)).inc()
        if seconds is not None:
            self._kernel_s.labels(app).observe(seconds)
        if event == "died":
            self._errors.labels("kernel").inc()

    def app_opened(self, app: str) -> None:
        """A page of an app was opened."""
        self._opened.labels(self._name("app", app)).inc()

    def job(self, kind: str, state: str, seconds: float = 0.0) -> None:
        """A job ended in this state, having run so long."""
        kind = self._name("kind", kind)
        self._jobs.labels(kind, _one_of(state, JOB_STATES)).inc()
        self._job_s.labels(kind).observe(max(0.0, seconds))
        if state == "failed":
            self._errors.labels("job").inc()

    def design(self, template: str, count: int, seconds: float) -> None:
        """So many designs of a template were evaluated in that time."""
        template = self._name("template", template)
        self._designs.labels(template).inc(max(0, count))
        self._design_s.labels(template).inc(max(0.0, seconds))

    def websocket(self, direction: str, kind: str, *, refused: bool = False) -> None:
        """A message went ``in`` or ``out``, or was refused; ``kind`` is its ``msg_type``."""
        kind = _one_of(kind, MESSAGES)
        self._messages.labels(_one_of(direction, ("in", "out")), kind, "no" if refused else "yes").inc()
        if refused:
            self._refused.labels("message").inc()

    def websockets(self, change: int) -> None:
        """So many websockets opened, or with a negative number closed."""
        self._open.inc(change)

    def source(self, name: str, ask: Callable[[], Any]) -> None:
        """Ask this at every scrape. It should answer at once, and raise no more than a CodesignError or OSError.

        Raises:
            InvalidInputError: there is no such source.
        """
        if name not in SOURCES:
            raise InvalidInputError(f"a source is one of {', '.join(SOURCES)}, but got {name!r:.40}")
        self._sources.asked[name] = ask
        self._sources.names = lambda app: self._name("app", app)

    def text(self) -> bytes:
        """What a scrape is answered, of the type ``CONTENT_TYPE``."""
        return generate_latest(self.registry)

    def snapshot(self) -> dict[str, float]:
        """{sample with its labels, as in :meth:`text`: value}, without the buckets of histograms."""
        found = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if not sample.name.endswith(("_bucket", "_created")):
                    labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                    found[f"{sample.name}{{{labels}}}" if labels else sample.name] = float(sample.value)
        return found

    def _name(self, label: str, given: str) -> str:
        return given if given in self._known[label] else OTHER

    def _route(self, route: str) -> str:
        with self._lock:
            if route in self._routes:
                return route
            if not _ROUTE.fullmatch(route) or len(route) > 100 or len(self._routes) >= ROUTES:
                return OTHER
            self._routes.add(route)
            return route


#: Message types that stand in a label.
MESSAGES = (
    "comm_open", "comm_msg", "comm_close", "comm_info_request", "comm_info_reply", "kernel_info_request",
    "kernel_info_reply", "status", "stream", "display_data", "execute_request", "execute_reply", "execute_result",
    "input_request", "input_reply", "interrupt_request", "shutdown_request", "complete_request", "inspect_request",
    "history_request", "debug_request", "is_complete_request", "create_subshell_request",
)  # fmt: skip


def _one_of(given: str, known: Iterable[str]) -> str:
    return given if given in known else OTHER


class _Sources(Collector):
    """What is asked at a scrape. A source that fails is ``codesign_source_up 0``, and its values are absent."""

    def __init__(self) -> None:
        self.asked: dict[str, Callable[[], Any]] = {}
        self.names: Callable[[str], str] = str

    def describe(self) -> list[Metric]:
        return []  # nothing is asked when it is registered

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("codesign_source_up", "Whether this could be asked", labels=["source"])
        for name, ask in list(self.asked.items()):
            try:
                yield from getattr(self, f"_{name}")(ask())
                up.add_metric([name], 1)
            except (CodesignError, OSError) as error:
                _LOG.warning("the metrics of %s could not be asked: %s", name, error)
                up.add_metric([name], 0)
        yield up

    def _cache(self, health: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
        asked = CounterMetricFamily("codesign_cache_requests", "Questions to the cache", labels=["tier", "result"])
        for tier, about in health.items():
            for result in ("hits", "misses", "errors", "skipped"):
                asked.add_metric([tier, result], about[result])
        return [asked]

    def _breakers(self, states: Mapping[str, str]) -> list[Metric]:
        state = GaugeMetricFamily(
            "codesign_breaker_state", "0 closed, 1 half-open: being tried, 2 open: left alone", labels=["what"]
        )
        for what, word in states.items():
            state.add_metric([what], _STATES[word])
        return [state]

    def _trips(self, counts: Mapping[str, int]) -> list[Metric]:
        trips = CounterMetricFamily("codesign_breaker_trips", "How often a breaker opened", labels=["what"])
        for what, count in counts.items():
            trips.add_metric([what], count)
        return [trips]

    def _kernels(self, found: Iterable[Mapping[str, Any]]) -> list[Metric]:
        counts: dict[tuple[str, str], int] = {}
        cpu_s, memory_bytes = 0.0, 0
        for kernel in found:
            key = (self.names(str(kernel["app"])), "warm" if kernel["state"] == "warm" else "running")
            counts[key] = counts.get(key, 0) + 1
            cpu_s += kernel.get("cpu_s") or 0.0
            memory_bytes += kernel.get("memory_bytes") or 0
        kernels = GaugeMetricFamily("codesign_kernels", "Kernels that live", labels=["app", "state"])
        for labels, count in counts.items():
            kernels.add_metric(labels, count)
        return [
            kernels,
            GaugeMetricFamily("codesign_kernels_cpu_seconds", "Processor time of living kernels", cpu_s),
            GaugeMetricFamily("codesign_kernels_memory_bytes", "Memory of living kernels (PSS)", memory_bytes),
        ]

    def _process(self, about: Mapping[str, float]) -> list[Metric]:
        return [
            CounterMetricFamily("codesign_server_cpu_seconds", "Processor time of the server", about["cpu_s"]),
            GaugeMetricFamily("codesign_server_memory_bytes", "Memory of the server (PSS)", about["memory_bytes"]),
        ]

    def _jobs(self, counts: Mapping[str, int]) -> list[Metric]:
        jobs = GaugeMetricFamily("codesign_jobs", "Jobs that have not ended", labels=["state"])
        for state in ("queued", "running"):
            jobs.add_metric([state], counts.get(state, 0))
        return [jobs]

    def _people(self, counts: Mapping[str, int]) -> list[Metric]:
        return [
            GaugeMetricFamily("codesign_people_active", "People of the last five minutes", counts["active"]),
            GaugeMetricFamily("codesign_sessions", "Sign-ins that have not ended", counts["sessions"]),
        ]

    def _workers(self, count: int) -> list[Metric]:
        return [GaugeMetricFamily("codesign_cluster_workers", "Workers of the cluster", count)]

    def _audit(self, number: int) -> list[Metric]:
        return [CounterMetricFamily("codesign_audit_lines", "Number of the audit trail's last line", number)]

    def _disk(self, about: Mapping[str, int]) -> list[Metric]:
        return [
            GaugeMetricFamily("codesign_disk_free_bytes", "Free where the data is", about["free_bytes"]),
            GaugeMetricFamily("codesign_disk_total_bytes", "Size of the disk where the data is", about["total_bytes"]),
        ]
