"""ExplorationMonitor: a running exploration on a page: its front, how fast it goes, and what it leaves out."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.figures import searched, standing, theme, workers
from codesign_kernel.scopes import current
from codesign_kernel.units import column_word, quantity, three_digits
from codesign_widgets.page import Page, script_of, sentence, style_of
from codesign_widgets.watch import Watched, decision_rows

_LOG = logging.getLogger(__name__)
#: ``run(progress, stop)`` gives the Exploration (or the CoOptimization).
Run = Callable[[Callable[[int, int, str], None], Callable[[], bool]], Any]
ACTIONS = ("start", "cancel", "look")
#: Of the exploration's time, what drawing may take: after a picture it has so many times as long to itself.
REST = 9.0
#: Seconds over which the speed is measured, and how long :meth:`ExplorationMonitor.close` waits for the last batch.
RECENT_S, PATIENCE_S = 10.0, 5.0
#: Reasons listed.
REASONS = 6
#: What a state means, in words.
TOLD = {
    "ready": "Ready. Start begins the exploration.",
    "running": "Exploring.",
    "stopping": "Stopping after the batch that is being evaluated.",
    "stopped": "Stopped. What was found so far stands; Resume goes on.",
    "done": "Done.",
    "failed": "It failed: see the message.",
}
#: Why one is done.
ENDED = {
    "complete": "Done: every design was looked at.",
    "budget": "Done: the budget is spent.",
    "stalled": "Done: the front stood still.",
    "exhausted": "Done: the sampler has hardly any new designs left.",
    "stopped": "Done: it was stopped, and this is what it found.",
}


class ExplorationMonitor(Page):
    """A page that starts an exploration, follows it and can stop it; or shows one that is finished.

        ExplorationMonitor(lambda progress, stop: ck.explore(net, space, store=store, progress=progress, stop=stop))

    The exploration runs in a thread of this kernel, so that other cells run meanwhile (a press of Cancel is heard
    between cells; :meth:`cancel` works at once). Resume calls ``run`` again: what a ``store`` knows is not evaluated
    again, so that with one (``codesign_kernel.explore.Memory()`` is enough) it goes on where it was, and without one it
    begins anew. However fast it goes, the page is told at most every ``interval_s``, and drawing takes at most a tenth
    of the exploration's time.

    A search whose ``progress`` is told of designs has a live front; ``ck.co_optimize`` tells how far it is, and has
    its front when it is done.

    Args:
        source: ``run(progress, stop)``, which hands both on to ``ck.explore``; or what it gave before.
        cluster: where it is evaluated: its workers and its decisions are shown too.
        interval_s: the least time between two pictures (s).
        found: what is known before the first start, of the form of a Standing; it is shown until there is more.
        advise: from a result to words: what to take of it.
        known: what ``found`` is, in a sentence.

    Attributes:
        result: what ``run`` gave last; None before. state: a key of ``TOLD``.
    """

    _esm = script_of("monitor.js")
    _css = style_of("monitor.css", "ckx-monitor")
    # until there is something to stop
    _unwatch: Callable[[], None] | None = None
    _thread: threading.Thread | None = None
    _stop: threading.Event | None = None

    def __init__(
        self,
        source: Run | Any,
        cluster: Watched | None = None,
        interval_s: float = 1.0,
        found: Any = None,
        advise: Callable[[Any], object] | None = None,
        known: str = "",
    ) -> None:
        if not 0 <= interval_s < float("inf"):
            raise InvalidInputError(f"pictures come every 0 s or more, but interval_s is {interval_s!r}; give seconds")
        finished = hasattr(source, "front") and hasattr(source, "objectives")
        if not finished and not callable(source):
            raise InvalidInputError(
                "a monitor follows run(progress, stop), which gives an Exploration, or shows one, but got "
                f"{type(source).__name__}; wrap the call: lambda progress, stop: ck.explore(..., progress=progress, "
                "stop=stop)"
            )
        super().__init__()
        self._run: Run | None = None if finished else source
        self._cluster, self._interval_s = cluster, interval_s
        self.result: Any = source if finished else None
        self.state = "done" if finished else "ready"
        self._advise, self._advice, self._known = advise, "", known
        self._found: Any = self.result or found  # what is drawn: a Standing, later the result
        self._message = ""
        self._progress: tuple[int, int, str] = (0, 0, "")
        self._pace: deque[tuple[float, int]] = deque()
        self._axes = ("", "")
        self._due_s = self._began_s = 0.0
        self._closed = False
        self._stop = threading.Event()
        self._turn = threading.RLock()  # the exploration's thread, the cluster's and the page's questions take turns
        self.setup = {"actions": self._run is not None, "cluster": cluster is not None}
        self._unwatch = None if cluster is None or cluster.closed else cluster.watch(self._news)
        self._show()

    def start(self) -> None:
        """Begin, or go on after a stop.

        Raises:
            InvalidInputError: it runs already, or what is shown is finished.
        """
        with self._turn:
            if self._run is None:
                raise InvalidInputError("what is shown here is finished; give a monitor run(progress, stop) to start")
            if self.state in ("running", "stopping"):
                raise InvalidInputError(f"one exploration runs at a time, and this one is {self.state}; wait for it")
            self._stop = threading.Event()
            self._pace.clear()
            self.state, self._message, self._due_s, self._advice = "running", "", 0.0, ""
            self._progress, self._began_s = (0, 0, ""), time.monotonic()
            self._thread = threading.Thread(
                target=self._explore, args=(self._run, self._stop), name="exploration", daemon=True
            )
            self._thread.start()

    def cancel(self) -> None:
        """Stop after the batch that is being evaluated; what is found so far is the result."""
        with self._turn:
            if self.state == "running" and self._stop is not None:
                self._stop.set()
                self.state = "stopping"

    def wait(self, timeout_s: float | None = None) -> Any:
        """The result, once the exploration has ended; None if it has not after ``timeout_s`` (s), or failed."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return None if self.state in ("running", "stopping") else self.result

    def close(self) -> None:
        """Stop what runs, wait a moment for its last batch, and free what the page holds."""
        self._closed = True
        if self._stop is not None:
            self._stop.set()
        if self._unwatch is not None:
            self._unwatch()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_S)
        super().close()

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        action = asked.get("action")
        if action not in ACTIONS:
            raise InvalidInputError(f"a page asks to {', '.join(ACTIONS)}, but got {str(action)[:40]!r}")
        self._axes = self._checked(asked.get("x", ""), asked.get("y", ""))
        if action == "start":
            self.start()
        elif action == "cancel":
            self.cancel()
        return self._told()

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        return "axes" if "objectives" in message else "actions"

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        with self._turn:
            super().tell(seq, asked)

    def _checked(self, x: Any, y: Any) -> tuple[str, str]:
        """Two objectives; those of the picture before, or the first two, where nothing was chosen."""
        names = [*self._found.objectives] if self._found is not None else []
        if not names:
            return self._axes
        if x == "" and y == "":
            x, y = self._axes if set(self._axes) <= set(names) else self._usual(names)
        if not isinstance(x, str) or not isinstance(y, str) or x not in names or (len(names) > 1 and y not in names):
            raise InvalidInputError(
                f"the objectives here are {', '.join(names)}, but got {str(x)[:40]!r} and {str(y)[:40]!r}"
            )
        if x == y:
            raise InvalidInputError(f"a picture has two different objectives, but got {x} twice")
        return x, y

    def _usual(self, names: list[str]) -> tuple[str, str]:
        """The first two objectives, what is to be large upwards."""
        first, second = (*names, "")[:2]
        ways = self._found.objectives
        swapped = second and ways[first] == "max" and ways[second] == "min"
        return (second, first) if swapped else (first, second)

    def _show(self) -> None:
        """A picture of now, for the page that is there; drawing has to leave time for what is drawn."""
        with self._turn:
            if self._closed:
                return
            began = time.monotonic()
            known = self._found is None or set(self._axes) <= set(self._found.objectives)
            x, y = self._axes if known else ("", "")  # the next search may have other objectives
            self.tell(None, {"action": "look", "x": x, "y": y})
            ended = time.monotonic()
            self._due_s = ended + max(self._interval_s, REST * (ended - began))

    def _news(self) -> None:
        if time.monotonic() >= self._due_s:
            self._show()

    def _explore(self, run: Run, stop: threading.Event) -> None:
        """What the thread does; whatever happens, the page says that it is over."""
        state, message = "failed", "it ended for a reason that the kernel's log has"
        try:
            self.result = self._found = run(_Told(self), stop.is_set)
            stopped = getattr(self.result, "stopped", "") == "stopped"
            if self._advise is not None:
                self._advice = str(self._advise(self.result))
            state, message = ("stopped" if stopped else "done"), ""
        except CodesignError as error:
            message = str(error)
        except Exception as error:  # the outermost edge of a thread
            _LOG.exception("an exploration failed")
            # in an app its words are nobody's business: they may tell of the server
            told = type(error).__name__ if current() is not None else f"{type(error).__name__}: {error}"
            message = f"the exploration failed ({told})"
        finally:
            with self._turn:
                self.state, self._message = state, message
                self._show()

    def _told(self) -> dict[str, Any]:
        """Everything on the page."""
        done, total, _ = self._progress
        found = self._found
        names = [*found.objectives] if found is not None else []
        return {
            "state": self.state,
            "told": self._words(),
            "doing": self._doing(),
            "failure": sentence(self._message) if self._message else "",
            "done": done,
            "total": total,
            "objectives": [[name, column_word(name).capitalize()] for name in names],
            "x": self._axes[0],
            "y": self._axes[1],
            "tiles": self._tiles(),
            **self._pictures(),
            "best": _best(found),
            "advice": self._advice.splitlines(),
            "barred": _barred(found),
            "workers": self._workers(),
            "decisions": [] if self._cluster is None else decision_rows([*self._cluster.decisions]),
        }

    def _doing(self) -> str:
        if self.state not in ("running", "stopping"):
            return ""
        done, total, words = self._progress
        since = _lasting(time.monotonic() - self._began_s)
        if not total:
            return f"The first designs are on their way, for {since}."
        # what it says of its front is of another batch than the picture
        pace = self._speed()
        left = f"; about {_lasting((total - done) / pace)} left" if pace and self.state == "running" else ""
        return f"{done:,} of {total:,} {words.partition(',')[0]}, after {since}{left}."

    def _words(self) -> str:
        ended = ENDED.get(getattr(self.result, "stopped", ""), "") if self.state == "done" else ""
        before = self._known if self.state == "ready" else ""
        return ended or before or TOLD[self.state]

    def _pictures(self) -> dict[str, Any]:
        found, specs = self._found, {"front": None, "growth": None}
        if found is not None and len(found.front) and all(self._axes):
            figure = standing.plot_standing(found, *self._axes)
            specs["front"] = theme.page_spec(figure, "front")
        if found is not None and len(found.front) and "evaluations" in found.history and len(found.history) > 1:
            specs["growth"] = theme.page_spec(standing.plot_growth(found.history), "hypervolume")
        return specs

    def _tiles(self) -> list[dict[str, str]]:
        done, total, _ = self._progress
        found, tally = self._found, getattr(self._found, "tally", None)
        told = getattr(found, "provenance", None)
        if told is not None:  # a result knows itself how long it took
            pace, left = told.evaluated / max(told.wall_s, 1e-9), f"{quantity(told.wall_s, 's')} in all"
            done = done or (tally.designs if tally is not None else len(found.frame))
        else:
            pace = self._speed()
            left = f"{_lasting((total - done) / pace)} left" if pace and self.state == "running" else ""
        if not done and (found is None or (told is None and self.state == "ready")):
            return []  # there is nothing to say yet
        tiles = [
            {"label": "Looked at", "value": f"{done:,}", "note": f"of {total:,} at most" if total else ""},
            {"label": "Speed", "value": f"{three_digits(pace)} /s" if pace else "-", "note": left},
        ]
        if found is not None and len(found.front):
            tiles.append({"label": "On the front", "value": f"{len(found.front):,}", "note": "no other beats them"})
        if tally is not None:
            barred = tally.designs - tally.legal
            tiles.append({"label": "Feasible", "value": f"{tally.legal:,}", "note": f"{barred:,} are not"})
        return tiles

    def _speed(self) -> float:
        """Designs a second, lately."""
        if len(self._pace) < 2 or self._pace[-1][0] <= self._pace[0][0]:
            return 0.0
        (first_s, first), (last_s, last) = self._pace[0], self._pace[-1]
        return (last - first) / (last_s - first_s)

    def _workers(self) -> dict[str, Any] | None:
        moments = [] if self._cluster is None else [*self._cluster.moments]
        if self._cluster is None or not moments:
            return None
        decisions = [*self._cluster.decisions]
        figure = workers.plot_workers(moments, decisions, self._cluster.minimum, self._cluster.maximum)
        return theme.page_spec(figure, "workers")


class _Told:
    """The ``progress`` of the exploration: it notes what it is told and draws when a picture is due."""

    def __init__(self, monitor: ExplorationMonitor) -> None:
        self._monitor = monitor

    def __call__(self, done: int, total: int, message: str) -> None:
        monitor, now = self._monitor, time.monotonic()
        monitor._progress = (done, total, message)
        pace = monitor._pace
        pace.append((now, done))
        while len(pace) > 2 and pace[0][0] < now - RECENT_S:
            pace.popleft()
        monitor._news()

    def stands(self, found: Any) -> None:
        """The exploration as it stands; see ``codesign_kernel.explore.Standing``."""
        self._monitor._found = found


def _lasting(seconds: float) -> str:
    """A time that passes, as one says it: no more digits than it is good for."""
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _best(found: Any) -> list[dict[str, Any]]:
    """The knee and the best of each objective: what it is, the design, and its objectives."""
    if found is None or not len(found.front):
        return []
    names = [*found.objectives]
    return [
        {
            "which": label,
            "design": searched.words_of(row, found.space),
            "values": [searched.value_text(name, row[name]) for name in names],
        }
        for label, row in searched.worth_a_look(found)
    ]


def _barred(found: Any) -> list[list[str]]:
    """[reason, how many designs]: what cannot run, and what limits leave out."""
    tally = getattr(found, "tally", None)
    if tally is None:
        return []
    over = [(f"breaks {words}", count) for words, count in searched.broken_limits(found)]
    reasons = [*tally.reasons.most_common(REASONS), *sorted(over, key=lambda one: -one[1])]
    return [[f"{reason[:1].upper()}{reason[1:200]}", f"{count:,}"] for reason, count in reasons if count]
