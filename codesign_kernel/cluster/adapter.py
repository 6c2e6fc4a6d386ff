"""What acts on decisions: for clusters whose scheduler runs in this process, and for those that only take a number."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from distributed.deploy import Adaptive

from codesign_kernel.cluster.observe import StartUp, look, snapshot
from codesign_kernel.cluster.policies import Decision, Policy
from codesign_kernel.cluster.simulate import Moment

logger = logging.getLogger(__name__)
#: Decisions and looks that are kept; older ones go.
KEPT = 10_000
#: What a watcher that fails may raise; it is dropped then, and the cluster goes on.
_FAULTS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class Log:
    """Decides, and keeps what changes the plan, and each look. Times are seconds since the cluster was started."""

    def __init__(self, policy: Policy, startup_s: float) -> None:
        self.policy, self.startup = policy, StartUp(startup_s)
        self.decisions: list[Decision] = []
        self.moments: deque[Moment] = deque(maxlen=KEPT)
        self._watchers: list[Callable[[], None]] = []
        self._start_s = time.monotonic()

    def decide(self, seen: dict[str, float], planned: int) -> Decision:
        """What the policy makes of ``seen``."""
        now_s = time.monotonic() - self._start_s
        now = snapshot(seen, now_s, planned, self.startup)
        decision = self.policy.decide(now)
        if decision.changes:
            self.decisions.append(decision)
            del self.decisions[:-KEPT]
            logger.info("%d -> %d workers: %s", decision.workers, decision.target, decision.reason)
            if decision.target > decision.workers:
                self.startup.asked(now_s, decision.target)
        self.moments.append(Moment(now_s, decision.target, now.arrived, now.queued, now.running))
        self.tell()
        return decision

    def watch(self, told: Callable[[], None]) -> Callable[[], None]:
        """Have ``told`` called after each look, in the thread that looks; call what comes back to end that."""
        self._watchers.append(told)
        return lambda: self._drop(told)

    def _drop(self, told: Callable[[], None]) -> None:
        with contextlib.suppress(ValueError):  # it has gone already
            self._watchers.remove(told)

    def tell(self) -> None:
        """Call those that watch."""
        for told in [*self._watchers]:
            try:
                told()
            except _FAULTS:
                logger.exception("a watcher of the cluster failed, and is called no more")
                self._drop(told)

    def end(self) -> None:
        """The cluster is closed: call those that watch once more, and never again."""
        self.tell()
        self._watchers.clear()


class Adapter(Adaptive):
    """Dask's Adaptive with our policy in place of its own law.

    ``wait_count`` is 1 because the policies have rests of their own; with Dask's default of 3 looks a target that holds
    for one look only would never be followed. The plan counts, not the workers that have arrived, or those that are
    still starting would be asked for again at every look.
    """

    def __init__(self, cluster: Any, *, log: Log, minimum: int, maximum: int, interval: float) -> None:
        self.decided = log
        super().__init__(cluster, interval=interval, minimum=minimum, maximum=maximum, wait_count=1)

    async def target(self) -> int:
        """How many workers there should be."""
        return self.decided.decide(look(self.cluster.scheduler), len(self.plan)).target  # type: ignore[attr-defined]

    async def workers_to_close(self, target: int) -> list[Any]:
        """Names of idle workers, as many as there are too many; one that has a task is left alone."""
        scheduler = self.cluster.scheduler  # type: ignore[attr-defined]
        idle = [worker for worker in scheduler.workers.values() if not worker.processing]
        idle.sort(key=lambda worker: worker.nbytes)  # results that it holds would have to move
        return [worker.name for worker in idle[: max(0, len(self.plan) - target)]]


class Pilot(threading.Thread):
    """The same for a cluster elsewhere (Kubernetes, Gateway), which is told a number and picks the workers itself."""

    def __init__(self, cluster: Any, client: Any, log: Log, minimum: int, interval: float) -> None:
        super().__init__(name="codesign-cluster", daemon=True)
        self.cluster, self.client, self.decided, self.interval = cluster, client, log, interval
        self.planned = minimum
        self._stop_now = threading.Event()

    def step(self) -> None:
        """One look and what follows from it."""
        decision = self.decided.decide(self.client.run_on_scheduler(look), self.planned)
        if decision.changes:
            self.cluster.scale(decision.target)
            self.planned = decision.target

    def run(self) -> None:
        """Look every ``interval`` seconds until stopped; a scheduler that does not answer is asked again."""
        while not self._stop_now.wait(self.interval):
            try:
                self.step()
            except OSError as error:
                logger.warning("the scheduler does not answer, scaling waits: %s", error)

    def stop(self) -> None:
        """End the thread."""
        self._stop_now.set()
        self.join(timeout=30)
