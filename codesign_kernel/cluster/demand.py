"""As many workers as there are tasks: for a cluster whose callers bound their own tasks, as those of a gateway do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codesign_kernel.cluster.policies import Decision, Snapshot, bounds, check_bounds, hold, keep


@dataclass
class Demand:
    """A worker for each task that waits or runs, at once; none goes before fewer were wanted for ``rest_s`` seconds.

    The other policies weigh a queue against what a worker takes to start. Here the queue says nothing of the work
    behind it: who asks for three workers has three tasks in flight, each of a fraction of a second, for as long as the
    work lasts.
    """

    minimum: int
    maximum: int
    rest_s: float = 60.0

    def __post_init__(self) -> None:
        check_bounds(self.minimum, self.maximum)
        self._enough_since_s = math.inf

    def decide(self, now: Snapshot) -> Decision:
        """How many workers there should be."""
        outside = bounds(now, self.minimum, self.maximum)
        if outside:
            return outside
        tasks = now.queued + now.running
        wanted = min(self.maximum, max(self.minimum, math.ceil(tasks / now.slots)))
        if wanted >= now.planned:
            self._enough_since_s = math.inf
            if wanted == now.planned:
                return hold(now, f"{tasks} tasks have {now.planned} workers")
            return Decision(now.time_s, now.planned, wanted, "queue", f"{tasks} tasks wait or run", float(tasks))
        self._enough_since_s = min(self._enough_since_s, now.time_s)
        rested_s = now.time_s - self._enough_since_s
        target = max(wanted, keep(now, self.minimum))
        if rested_s < self.rest_s or target >= now.planned:
            return hold(now, f"{tasks} tasks have more workers than they want, for {rested_s:.0f} s")
        reason = f"{tasks} tasks for {self.rest_s:g} s"
        return Decision(now.time_s, now.planned, target, "queue", reason, float(tasks))
