"""ClusterWatch: the decisions of a cluster as they are made, and its workers over time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme, workers
from codesign_kernel.figures.scaling import SIGNALS, Step
from codesign_kernel.units import quantity
from codesign_widgets.page import Page, script_of, style_of

#: Label -> how far back the picture goes (s).
SPANS: dict[str, float] = {"All of it": float("inf"), "The last 5 minutes": 300.0, "The last hour": 3600.0}
#: Decisions in the table, the latest of all.
ROWS = 50


class Watched(Protocol):
    """What is watched, a cluster: see :class:`codesign_kernel.Cluster`."""

    minimum: int
    maximum: int

    @property
    def decisions(self) -> Sequence[Step]: ...
    @property
    def moments(self) -> Sequence[Any]: ...
    @property
    def closed(self) -> bool: ...
    def watch(self, told: Callable[[], None]) -> Callable[[], None]:
        """Call ``told`` after each look; what comes back ends that."""
        ...


class ClusterWatch(Page):
    """A page that follows a cluster: when it grew and shrank, which signal said so, and why.

    The cluster calls at each of its looks, from a thread of its own; none is started here. The page is told at most
    every ``interval_s``, also while a cell runs. After the cluster has closed, or :meth:`close`, nothing is called
    any more.

    Args:
        cluster: what is watched.
        interval_s: the least time between two pictures (s).
    """

    _esm = script_of("watch.js")
    _css = style_of("watch.css", "ckx-watch")
    _unwatch: Callable[[], None] | None = None  # until there is something to watch

    def __init__(self, cluster: Watched, interval_s: float = 1.0) -> None:
        if not 0 <= interval_s < float("inf"):
            raise InvalidInputError(f"pictures come every 0 s or more, but interval_s is {interval_s!r}; give seconds")
        super().__init__()
        self._cluster, self._interval_s = cluster, interval_s
        self._span = next(iter(SPANS))
        self._shown_s = -float("inf")
        self._turn = threading.Lock()  # the cluster's thread and the page's questions take turns
        self.setup = {"spans": list(SPANS)}
        self.tell(0, {"span": self._span})
        self._unwatch = cluster.watch(self._news)

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        span = asked.get("span")
        if not isinstance(span, str) or span not in SPANS:
            raise InvalidInputError(f"the times to look back are {', '.join(SPANS)}, but got {str(span)[:40]!r}")
        moments, decisions = [*self._cluster.moments], [*self._cluster.decisions]
        closed = self._cluster.closed
        self._span = span
        shown: dict[str, Any] = {
            "span": span,
            "closed": closed,
            "figure": None,
            "tiles": [],
            "rows": decision_rows(decisions),
        }
        if moments:
            recent = [seen for seen in moments if seen.time_s >= moments[-1].time_s - SPANS[span]]
            figure = workers.plot_workers(recent, decisions, self._cluster.minimum, self._cluster.maximum)
            shown["figure"] = theme.page_spec(figure, "workers")
            shown["tiles"] = _tiles(moments[-1], decisions)
        return shown

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        return "span"

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        with self._turn:
            super().tell(seq, asked)
            self._shown_s = time.monotonic()

    def close(self) -> None:
        """Watch no longer, and free what the page holds."""
        if self._unwatch is not None:
            self._unwatch()
        super().close()

    def _news(self) -> None:
        """A look was taken: show it, unless the last picture is young. The last one, of a cluster that closes, is."""
        if self._cluster.closed or time.monotonic() - self._shown_s >= self._interval_s:
            self.tell(None, {"span": self._span})


def _tiles(now: Any, decisions: Sequence[Step]) -> list[dict[str, str]]:
    """The key figures of the last look."""
    last = decisions[-1] if decisions else None
    changes = f"{len(decisions):,} change" + ("s" if len(decisions) != 1 else "")
    changed = f"at {quantity(last.time_s, 's')}" if last else "so far"
    return [
        {"label": "Workers", "value": f"{now.arrived}", "note": f"{now.planned} asked for"},
        {"label": "Tasks that wait", "value": f"{now.queued:,}", "note": f"{now.running:,} run"},
        {"label": "Last change", "value": f"{last.workers} → {last.target}" if last else "none", "note": changed},
        {"label": "Watched for", "value": quantity(now.time_s, "s"), "note": changes},
    ]


def decision_rows(decisions: Sequence[Step]) -> list[dict[str, str]]:
    """The log, the latest first."""
    return [
        {
            "when": quantity(step.time_s, "s"),
            "change": f"{step.workers} → {step.target}",
            "signal": SIGNALS.get(step.signal, (step.signal, ""))[0],
            "why": f"{step.reason[:1].upper()}{step.reason[1:]}",
        }
        for step in reversed(decisions[-ROWS:])
    ]
