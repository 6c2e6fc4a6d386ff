"""Policies that decide how many workers there should be. They are pure: the clock is handed in, and nothing acts.

A policy is shown a :class:`Snapshot` every second or so and answers with a :class:`Decision`. What acts on it is the
adapter (``adapter.py``) or the simulator (``simulate.py``); both show it the same numbers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from codesign_kernel.errors import InvalidInputError


class Snapshot(NamedTuple):
    """What a policy sees at ``time_s``.

    planned: workers asked for, arrived or not. arrived: those that are there; idle: those of them without a task.
    cpu, memory: mean share in use of the arrived workers, 0 to 1. queued: tasks that wait for a worker; running: tasks
    that a worker has. task_s: mean duration of a task, 0 where none has finished yet. submitted, finished: tasks since
    the start. startup_s: how long a worker takes from being asked for to being there. slots: tasks that one worker runs
    at a time.
    """

    time_s: float
    planned: int
    arrived: int
    idle: int
    cpu: float
    memory: float
    queued: int
    running: int
    task_s: float
    submitted: int
    finished: int
    startup_s: float = 0.0
    slots: int = 1


class Decision(NamedTuple):
    """At ``time_s`` there were ``workers`` planned and there should be ``target``.

    signal: what spoke for it (``cpu``, ``memory``, ``queue``, ``response``, ``throughput``, ``forecast``, ``bounds``,
    ``hold`` where nothing did). value: of that signal. reason: the same in words.
    """

    time_s: float
    workers: int
    target: int
    signal: str
    reason: str
    value: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.target != self.workers


class Policy(Protocol):
    """Decides, from one snapshot after the other; the times never run backwards."""

    def decide(self, now: Snapshot) -> Decision:
        """How many workers there should be."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a signal speaks for more or for fewer workers, and for how long it has to (s).

    Shares are 0 to 1. ``queue_*`` counts tasks that wait. ``slowdown_*`` is the response time of a task over its own
    duration. ``surplus_up`` is tasks coming in over tasks done. ``rate_s`` is the window over which both are measured.
    """

    cpu_up: float = 0.70
    cpu_up_s: float = 300.0
    cpu_down: float = 0.30
    cpu_down_s: float = 600.0
    memory_up: float = 0.80
    memory_up_s: float = 60.0
    memory_down: float = 0.40
    memory_down_s: float = 600.0
    queue_up: float = 10.0
    queue_up_s: float = 0.0
    queue_down: float = 2.0
    slowdown_up: float = 4.0
    slowdown_up_s: float = 60.0
    surplus_up: float = 1.25
    surplus_up_s: float = 60.0
    rate_s: float = 60.0

    def __post_init__(self) -> None:
        pairs = ((self.cpu_down, self.cpu_up), (self.memory_down, self.memory_up), (self.queue_down, self.queue_up))
        for (low, high), name in zip(pairs, ("cpu", "memory", "queue"), strict=True):
            if not 0 <= low < high:
                raise InvalidInputError(
                    f"the limits of {name} need 0 <= down < up, so that a policy does not swing between the two, but "
                    f"got down {low:g} and up {high:g}; lower {name}_down or raise {name}_up"
                )
        windows = {name: value for name, value in vars(self).items() if name.endswith("_s")}
        wrong = [name for name, value in windows.items() if not 0 <= value < math.inf]
        if wrong or self.rate_s == 0:
            name = wrong[0] if wrong else "rate_s"
            raise InvalidInputError(f"a window is a time in s from 0 on, but {name} is {windows[name]:g}; give s")


@dataclass(frozen=True)
class Mode:
    """How a step goes: the share (0 to 1) of the missing workers that it brings, and the rest after it (s)."""

    share: float
    rest_up_s: float
    rest_down_s: float


#: Slow, moderate and rapid. The share is the 20, 50 and 80 % of the modes.
MODES: Mapping[str, Mode] = {
    "conservative": Mode(0.20, 120.0, 600.0),
    "balanced": Mode(0.50, 60.0, 300.0),
    "aggressive": Mode(0.80, 15.0, 60.0),
}


def check_bounds(minimum: int, maximum: int) -> None:
    """Make sure that there is a number of workers between the two.

    Raises:
        InvalidInputError: there is none.
    """
    if not (isinstance(minimum, int) and isinstance(maximum, int) and 0 <= minimum <= maximum and maximum):
        raise InvalidInputError(
            f"the number of workers needs 0 <= minimum <= maximum and a maximum of at least 1, but got {minimum!r} and "
            f"{maximum!r}; give whole numbers in that order"
        )


@dataclass
class Hold:
    """How long something has been so, without a break."""

    since_s: float | None = None

    def longer(self, so: bool, now_s: float, window_s: float) -> bool:
        """Whether it is ``so`` now and has been for ``window_s``."""
        if not so:
            self.since_s = None
            return False
        if self.since_s is None:
            self.since_s = now_s
        return now_s - self.since_s >= window_s


@dataclass
class Rates:
    """Tasks a second that come in and get done, over the last ``window_s``; None before that time is over."""

    window_s: float
    _seen: deque[tuple[float, int, int]] = field(default_factory=deque)

    def add(self, now: Snapshot) -> tuple[float, float] | None:
        """(in, done) in tasks a second."""
        self._seen.append((now.time_s, now.submitted, now.finished))
        while len(self._seen) > 2 and now.time_s - self._seen[1][0] >= self.window_s:
            self._seen.popleft()
        then_s, submitted, finished = self._seen[0]
        passed = now.time_s - then_s
        if passed < self.window_s:
            return None
        return (now.submitted - submitted) / passed, (now.finished - finished) / passed


def wanted_for_work(now: Snapshot, load: float = 0.0) -> float:
    """Workers that make completion time times worker-time least, for the work on hand and ``load`` more.

    With a backlog of B worker-seconds when new workers arrive after d seconds, n workers finish at T = d + B / n and
    cost n T. The product n T² is least at n = B / d: the rest of the work then takes as long as the wait for the
    workers. ``load`` (workers kept busy by what comes in meanwhile) is added; more workers than tasks help nobody.

    Tasks of which none has ended yet are taken to last as long as a worker takes to start. It is the bet of those who
    rent skis not knowing for how long (Karlin et al., "Competitive snoopy caching", Algorithmica 3, 1988): shorter ones
    cost one start-up too much at most, and longer ones are worth their worker.
    """
    wait_s = max(now.startup_s, now.task_s, 1.0)
    task_s = now.task_s or wait_s
    free_s = wait_s * max(0.0, now.arrived * now.slots - load) - now.running * task_s / 2
    backlog_s = max(0.0, now.queued * task_s - max(0.0, free_s))
    tasks = now.queued + now.running + load * wait_s / task_s
    return min(load + backlog_s / wait_s, tasks) / now.slots


class Threshold:
    """The modes ``conservative``, ``balanced`` and ``aggressive``: limits that hold for a window, then a step and a
    rest.

    A step brings ``share`` of the workers that the signal asks for, at least one. For CPU and memory that is
    ``workers x value / setpoint`` (the law of Kubernetes' horizontal pod autoscaler), the setpoint half-way between the
    two limits; for the queue it is :func:`wanted_for_work`. Workers that have a task are never asked to go.
    """

    def __init__(self, mode: Mode, minimum: int, maximum: int, limits: Limits | None = None) -> None:
        check_bounds(minimum, maximum)
        self.mode, self.minimum, self.maximum, self.limits = mode, minimum, maximum, limits or Limits()
        names = ("cpu_up", "cpu_down", "memory_up", "memory_down", "queue", "response", "throughput")
        self._holds = {name: Hold() for name in names}
        self._rates = Rates(self.limits.rate_s)
        self._up_s = self._down_s = -math.inf

    def decide(self, now: Snapshot) -> Decision:
        """How many workers there should be."""
        up, down = self._up(now), self._down(now)
        outside = bounds(now, self.minimum, self.maximum)
        if outside:
            return outside
        if up:
            wanted, signal, value, reason = max(up)
            target = min(self.maximum, now.planned + math.ceil(self.mode.share * max(0.0, wanted - now.planned)))
            if target <= now.planned:
                return hold(now, f"{reason}, but {now.planned} workers are enough or all there may be")
            if now.time_s - self._up_s < self.mode.rest_up_s:
                return hold(now, f"{reason}, but the last step up is less than {self.mode.rest_up_s:g} s ago")
            self._up_s = now.time_s
            return Decision(now.time_s, now.planned, target, signal, reason, value)
        if down:
            return self._step_down(now)
        return hold(now, "no signal has held for its window")

    def _step_down(self, now: Snapshot) -> Decision:
        limits, cpu = self.limits, f"CPU {now.cpu:.0%}"
        wanted = max(self.minimum, math.ceil(now.planned * now.cpu / ((limits.cpu_up + limits.cpu_down) / 2)))
        target = max(now.planned - math.ceil(self.mode.share * max(0, now.planned - wanted)), keep(now, self.minimum))
        if target >= now.planned:
            return hold(now, f"{cpu} is low, but no worker can go")
        rest_s = self.mode.rest_down_s
        if now.time_s - max(self._up_s, self._down_s) < rest_s:
            return hold(now, f"{cpu} is low, but the last step is less than {rest_s:g} s ago")
        self._down_s = now.time_s
        reason = f"{cpu}, below {limits.cpu_down:.0%} for {limits.cpu_down_s:g} s, and nothing waits"
        return Decision(now.time_s, now.planned, target, "cpu", reason, now.cpu)

    def _held(self, name: str, so: bool, now: Snapshot, window_s: float) -> bool:
        return self._holds[name].longer(so, now.time_s, window_s)

    def _up(self, now: Snapshot) -> list[tuple[float, str, float, str]]:
        """(workers wanted, signal, value, reason) of each signal that speaks for more."""
        limits, found = self.limits, []
        rates = self._rates.add(now)
        if self._held("cpu_up", now.cpu > limits.cpu_up, now, limits.cpu_up_s):
            wanted = now.planned * now.cpu / ((limits.cpu_up + limits.cpu_down) / 2)
            reason = f"CPU {now.cpu:.0%}, above {limits.cpu_up:.0%} for {limits.cpu_up_s:g} s"
            found.append((wanted, "cpu", now.cpu, reason))
        if self._held("memory_up", now.memory > limits.memory_up, now, limits.memory_up_s):
            wanted = now.planned * now.memory / ((limits.memory_up + limits.memory_down) / 2)
            reason = f"memory {now.memory:.0%}, above {limits.memory_up:.0%} for {limits.memory_up_s:g} s"
            found.append((wanted, "memory", now.memory, reason))
        if self._held("queue", now.queued > limits.queue_up, now, limits.queue_up_s):
            wanted = wanted_for_work(now)
            reason = f"{now.queued} tasks wait, more than {limits.queue_up:g}"
            found.append((wanted, "queue", float(now.queued), reason))
        found += self._from_rates(now, rates)
        return found

    def _from_rates(self, now: Snapshot, rates: tuple[float, float] | None) -> list[tuple[float, str, float, str]]:
        """What response time (Little's law: tasks in the system over tasks done a second) and throughput say."""
        limits, found = self.limits, []
        coming, done = rates or (0.0, 0.0)
        response_s = (now.queued + now.running) / done if done else 0.0
        slowdown = response_s / now.task_s if now.task_s else 0.0
        surplus = coming / done if done and now.queued else 0.0
        if self._held("response", slowdown > limits.slowdown_up, now, limits.slowdown_up_s):
            wanted = now.planned * slowdown / limits.slowdown_up
            reason = f"a task takes {response_s:.3g} s from call to result, {slowdown:.1f} times as long as it runs"
            found.append((wanted, "response", response_s, reason))
        if self._held("throughput", surplus > limits.surplus_up, now, limits.surplus_up_s):
            reason = f"{coming:.3g} tasks/s come in and {done:.3g} tasks/s get done"
            found.append((now.planned * surplus, "throughput", done, reason))
        return found

    def _down(self, now: Snapshot) -> bool:
        limits = self.limits
        cpu = self._held("cpu_down", now.cpu < limits.cpu_down, now, limits.cpu_down_s)
        memory = self._held("memory_down", now.memory < limits.memory_down, now, limits.memory_down_s)
        return cpu and memory and now.queued < limits.queue_down


def bounds(now: Snapshot, minimum: int, maximum: int) -> Decision | None:
    """The decision to come back between the bounds, where the plan is outside of them."""
    target = min(maximum, max(minimum, now.planned))
    if target == now.planned:
        return None
    reason = f"{now.planned} workers planned, allowed are {minimum} to {maximum}"
    return Decision(now.time_s, now.planned, target, "bounds", reason, float(now.planned))


def keep(now: Snapshot, minimum: int) -> int:
    """The fewest workers that can be left without taking one away that has a task."""
    return max(minimum, now.arrived - now.idle)


def hold(now: Snapshot, reason: str) -> Decision:
    """The decision to leave everything as it is."""
    return Decision(now.time_s, now.planned, now.planned, "hold", reason)
