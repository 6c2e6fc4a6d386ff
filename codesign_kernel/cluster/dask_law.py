"""Dask's own Adaptive as a policy, for comparison: the same formulas, on plain numbers.

Source: distributed 2026.8, ``Scheduler.adaptive_target`` (scheduler.py) for the target and
``AdaptiveCore.recommendations`` (deploy/adaptive_core.py) for what is done about it, with the defaults of
``distributed.yaml``: a look every second, a target duration of 5 s, three looks before a worker goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from codesign_kernel.cluster.policies import Decision, Snapshot, bounds, check_bounds, hold, keep

TARGET_DURATION_S = 5.0
WAIT_COUNT = 3
#: What a task is taken to last before one has finished (distributed.scheduler.unknown-task-duration).
UNKNOWN_TASK_S = 0.5


def adaptive_target(
    *,
    queued: int,
    task_s: float,
    occupancy_s: float,
    processing: Sequence[int],
    threads: Sequence[int],
    memory_limit: float = 0.0,
    memory_used: float = 0.0,
    closable: int = 0,
    target_duration_s: float = TARGET_DURATION_S,
) -> int:
    """Workers that Dask would have.

    Args:
        queued: tasks that no worker has been given (queued and unrunnable).
        task_s: what Dask expects of each of them.
        occupancy_s: expected seconds of work that the workers have.
        processing, threads: tasks and threads of each worker.
        memory_limit, memory_used: byte, of all workers.
        closable: workers that ``Scheduler.workers_to_close`` would let go.
    """
    workers = len(processing)
    wanted = math.ceil((occupancy_s + queued * task_s) / target_duration_s)
    ready = queued
    for tasks in processing:
        if ready > wanted:
            break
        ready += tasks
    else:
        wanted = min(ready, wanted)
    if workers:
        wanted = math.ceil(wanted / sum(threads) * workers)
    elif queued:
        wanted = max(1, wanted)
    for_memory = 2 * workers if memory_limit > 0 and memory_used > 0.6 * memory_limit else 0
    target = max(for_memory, wanted)
    return target if target >= workers else workers - closable


class DaskAdaptive:
    """``cluster.adapt(minimum, maximum)`` as a policy."""

    def __init__(self, minimum: int, maximum: int) -> None:
        check_bounds(minimum, maximum)
        self.minimum, self.maximum = minimum, maximum
        self._asked_down = 0

    def decide(self, now: Snapshot) -> Decision:
        """How many workers Dask would have."""
        outside = bounds(now, self.minimum, self.maximum)
        if outside:
            return outside
        task_s = now.task_s or UNKNOWN_TASK_S
        busy = now.arrived - now.idle
        each, more = divmod(now.running, busy) if busy else (0, 0)
        processing = [each + (worker < more) for worker in range(busy)] + [0] * now.idle
        found = adaptive_target(
            queued=now.queued,
            task_s=task_s,
            occupancy_s=now.running * task_s,
            processing=processing,
            threads=[now.slots] * now.arrived,
            closable=now.idle,
        )
        target = min(self.maximum, max(self.minimum, found))
        if target < now.planned:
            self._asked_down += 1
            left = max(target, keep(now, self.minimum))
            if self._asked_down < WAIT_COUNT or left >= now.planned:
                return hold(now, "fewer workers are asked for, but not often enough yet")
            target = left
        else:
            self._asked_down = 0
        return Decision(now.time_s, now.planned, target, "occupancy", f"{now.queued + now.running} tasks", task_s)
