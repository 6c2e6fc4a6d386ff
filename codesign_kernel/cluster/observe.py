"""What a Dask scheduler knows, as the numbers that policies decide by."""

from __future__ import annotations

from typing import Any

from codesign_kernel.cluster.policies import Snapshot

#: Tasks that are looked at for the expected duration.
SAMPLE = 100


def look(dask_scheduler: Any) -> dict[str, float]:
    """The fields of a :class:`Snapshot` that the scheduler knows; about 10 us a hundred tasks.

    A task waits if no worker has it, or a worker that has as many tasks as threads already. Counted as submitted is
    what is there and what has ended; a task that is run again counts again.
    """
    workers = [*dask_scheduler.workers.values()]
    threads = sum(worker.nthreads for worker in workers)
    processing = sum(len(worker.processing) for worker in workers)
    running = sum(min(len(worker.processing), worker.nthreads) for worker in workers)
    queued = len(dask_scheduler.queued) + len(dask_scheduler.unrunnable) + processing - running
    ended = sum(
        prefix.state_counts["memory"] + prefix.state_counts["erred"] for prefix in dask_scheduler.task_prefixes.values()
    )
    memory = [worker.metrics.get("memory", 0) / worker.memory_limit for worker in workers if worker.memory_limit]
    return {
        "arrived": len(workers),
        "idle": sum(not worker.processing for worker in workers),
        "cpu": min(1.0, sum(worker.metrics.get("cpu", 0.0) for worker in workers) / 100 / threads) if threads else 0.0,
        "memory": sum(memory) / len(memory) if memory else 0.0,
        "queued": queued,
        "running": running,
        "task_s": _task_s(dask_scheduler),
        "submitted": ended + queued + running,
        "finished": ended,
        "slots": round(threads / len(workers)) if workers else 1,
    }


def _task_s(dask_scheduler: Any) -> float:
    """Mean duration expected of the tasks at hand, else of those before them; 0 where none has ended yet."""
    at_hand = [task.prefix for worker in dask_scheduler.workers.values() for task in [*worker.processing][:SAMPLE]]
    known = [prefix.duration_average for prefix in at_hand[:SAMPLE] if prefix.duration_average > 0]
    if not known:
        known = [one.duration_average for one in dask_scheduler.task_prefixes.values() if one.duration_average > 0]
    return sum(known) / len(known) if known else 0.0


class StartUp:
    """How long workers take to start, as seen: from being planned until as many have arrived."""

    def __init__(self, expected_s: float) -> None:
        self.seconds = expected_s
        self._asked: list[tuple[float, int]] = []

    def asked(self, now_s: float, workers: int) -> None:
        """At ``now_s`` the plan grew to ``workers``."""
        self._asked.append((now_s, workers))

    def seen(self, now_s: float, planned: int, arrived: int) -> None:
        """At ``now_s`` ``arrived`` of ``planned`` workers are there."""
        for asked_s, workers in [*self._asked]:
            if arrived >= workers:
                self.seconds += 0.5 * (now_s - asked_s - self.seconds)
            if arrived >= workers or workers > planned:
                self._asked.remove((asked_s, workers))


def snapshot(seen: dict[str, float], now_s: float, planned: int, startup: StartUp) -> Snapshot:
    """What ``look`` has seen, with the plan and the time."""
    arrived = int(seen["arrived"])
    startup.seen(now_s, planned, arrived)
    return Snapshot(
        time_s=now_s,
        planned=planned,
        arrived=arrived,
        idle=int(seen["idle"]),
        cpu=seen["cpu"],
        memory=seen["memory"],
        queued=int(seen["queued"]),
        running=int(seen["running"]),
        task_s=seen["task_s"],
        submitted=int(seen["submitted"]),
        finished=int(seen["finished"]),
        startup_s=startup.seconds,
        slots=max(1, int(seen["slots"])),
    )
