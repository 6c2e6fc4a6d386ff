"""A cluster in virtual time: any policy on any trace, hours of load in a second."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from codesign_kernel.cluster.dask_law import DaskAdaptive
from codesign_kernel.cluster.policies import MODES, Decision, Limits, Policy, Snapshot, Threshold, check_bounds
from codesign_kernel.cluster.predictive import Predictive
from codesign_kernel.cluster.traces import Trace
from codesign_kernel.errors import InvalidInputError

#: Seconds between two looks of a policy, as Dask's Adaptive has it.
TICK_S = 1.0
#: Weight of a finished task in the expected duration of the next one.
NEWEST = 0.1
#: Tasks that wait from which on a cluster counts as overloaded (the reaction time starts there).
OVERLOAD = 10
#: The modes of a cluster, and Dask's own Adaptive.
MODE_NAMES = (*MODES, "predictive")
BASELINE = "dask"


def policy(mode: str, minimum: int, maximum: int, limits: Limits | None = None) -> Policy:
    """The policy of ``mode``: conservative, balanced, aggressive, predictive, or ``dask`` for Dask's own law.

    Raises:
        InvalidInputError: there is no such mode, or no number of workers between the bounds.
    """
    check_bounds(minimum, maximum)
    makers: Mapping[str, Callable[[], Policy]] = {
        **{name: lambda how=how: Threshold(how, minimum, maximum, limits) for name, how in MODES.items()},  # type: ignore[misc]
        "predictive": lambda: Predictive(minimum, maximum, limits),
        BASELINE: lambda: DaskAdaptive(minimum, maximum),
    }
    if mode not in makers:
        raise InvalidInputError(f"modes of a cluster are {', '.join(makers)}, but got {mode!r}; choose one of them")
    return makers[mode]()


class Moment(NamedTuple):
    """The cluster at ``time_s``: workers planned and arrived, tasks waiting and running."""

    time_s: float
    planned: int
    arrived: int
    queued: int
    running: int


class Outcome(NamedTuple):
    """What a policy made of a trace.

    completion_s: from the first task's arrival to the last one's end. response_s: mean over the tasks, from arrival to
    end. worker_hours: of all workers from being asked for until they are gone, over the whole trace. busy_hours: those
    in which they ran tasks. reaction_s: mean time from more than ``OVERLOAD`` tasks waiting to the next worker that
    arrives or to the end of the overload; NaN where it never came to that. moments: one a tick.
    """

    trace: str
    tasks: int
    completion_s: float
    response_s: float
    worker_hours: float
    busy_hours: float
    reaction_s: float
    most: int
    decisions: tuple[Decision, ...]
    moments: tuple[Moment, ...]


class _Run:
    """The state of one simulated cluster."""

    def __init__(self, trace: Trace, minimum: int, startup_s: float) -> None:
        self.trace, self.startup_s = trace, startup_s
        self.planned = self.arrived = minimum
        self.coming: deque[float] = deque()
        self.waiting: deque[int] = deque()
        self.running: list[tuple[float, int]] = []
        self.submitted = self.finished = 0
        self.task_s = self.response_sum_s = self.worker_s = self.last_s = 0.0
        self.overloaded = False
        self.overload_s: float | None = None  # while nothing has come of it
        self.reactions: list[float] = []

    def advance(self, until_s: float) -> None:
        """Everything that happens up to ``until_s``, in the order in which it does."""
        arrives = self.trace.arrives_s
        while True:
            task_in = arrives[self.submitted] if self.submitted < len(arrives) else math.inf
            done = self.running[0][0] if self.running else math.inf
            there = self.coming[0] if self.coming else math.inf
            next_s = min(task_in, done, there)
            if next_s > until_s:
                return
            if next_s == done:
                self._finish()
            elif next_s == there:
                self.coming.popleft()
                self.arrived += 1
                self._relieved(next_s)
            else:
                self.waiting.append(self.submitted)
                self.submitted += 1
            self._start(float(next_s))

    def _finish(self) -> None:
        end_s, task = heapq.heappop(self.running)
        self.finished += 1
        self.last_s = end_s
        self.response_sum_s += end_s - self.trace.arrives_s[task]
        lasted = float(self.trace.lasts_s[task])
        self.task_s = lasted if self.finished == 1 else self.task_s + NEWEST * (lasted - self.task_s)

    def _start(self, now_s: float) -> None:
        while self.waiting and len(self.running) < self.arrived:
            task = self.waiting.popleft()
            heapq.heappush(self.running, (now_s + float(self.trace.lasts_s[task]), task))
        if len(self.waiting) <= OVERLOAD:
            self._relieved(now_s)
            self.overloaded = False
        elif not self.overloaded:
            self.overloaded, self.overload_s = True, now_s

    def _relieved(self, now_s: float) -> None:
        if self.overload_s is not None:
            self.reactions.append(now_s - self.overload_s)
            self.overload_s = None

    def snapshot(self, now_s: float) -> Snapshot:
        busy = len(self.running)
        share = busy / self.arrived if self.arrived else 0.0
        return Snapshot(
            now_s,
            self.planned,
            self.arrived,
            self.arrived - busy,
            share,
            0.3 * share,
            len(self.waiting),
            busy,
            self.task_s,
            self.submitted,
            self.finished,
            self.startup_s,
        )

    def scale(self, target: int, now_s: float) -> None:
        """Ask for more, or let go: those that are not there yet first, then idle ones, never busy ones."""
        for _ in range(target - self.planned):
            self.coming.append(now_s + self.startup_s)
        gone = max(0, self.planned - target)
        cancelled = min(gone, len(self.coming))
        for _ in range(cancelled):
            self.coming.pop()
        idle = min(gone - cancelled, self.arrived - len(self.running))
        self.arrived -= idle
        self.planned = self.arrived + len(self.coming)


def simulate(
    trace: Trace,
    mode: str | Policy,
    *,
    minimum: int = 2,
    maximum: int = 32,
    startup_s: float = 30.0,
    limits: Limits | None = None,
) -> Outcome:
    """Run ``trace`` on a cluster of ``minimum`` to ``maximum`` workers that ``mode`` scales.

    Tasks start in the order in which they come in; a worker runs one at a time and is never taken away from one. A
    worker is paid for from the moment it is asked for, and works ``startup_s`` later. ``minimum`` workers are there at
    the start.

    Raises:
        InvalidInputError: there is no such mode, no number of workers between the bounds, no start-up time, or the
            policy leaves tasks undone for good.
    """
    check_bounds(minimum, maximum)
    if not 0 <= startup_s < math.inf:
        raise InvalidInputError(f"a worker takes 0 s or longer to start, but got {startup_s!r}; give seconds")
    decider = policy(mode, minimum, maximum, limits) if isinstance(mode, str) else mode
    run = _Run(trace, minimum, startup_s)
    decisions: list[Decision] = []
    moments: list[Moment] = []
    now_s = 0.0
    # a policy that leaves work undone for a day after the trace will never do it
    end_s = trace.length_s + trace.work_s + 86_400
    while True:
        run.advance(now_s)
        if now_s >= trace.length_s and run.finished == len(trace.arrives_s):
            return _outcome(run, decisions, moments)
        if now_s > end_s:
            raise InvalidInputError(
                f"a policy has to get all tasks done, but {len(trace.arrives_s) - run.finished} of {trace.name!r} are "
                "left a day after the last one could have ended; raise minimum"
            )
        decision = decider.decide(run.snapshot(now_s))
        if decision.changes:
            decisions.append(decision)
            run.scale(decision.target, now_s)
        run._start(now_s)
        moments.append(Moment(now_s, run.planned, run.arrived, len(run.waiting), len(run.running)))
        run.worker_s += run.planned * TICK_S
        now_s += TICK_S


def _outcome(run: _Run, decisions: list[Decision], moments: list[Moment]) -> Outcome:
    trace, reactions = run.trace, run.reactions
    return Outcome(
        trace.name,
        run.finished,
        run.last_s - float(trace.arrives_s[0]),
        run.response_sum_s / run.finished,
        run.worker_s / 3600,
        trace.work_s / 3600,
        sum(reactions) / len(reactions) if reactions else math.nan,
        max(moment.planned for moment in moments),
        tuple(decisions),
        tuple(moments),
    )
