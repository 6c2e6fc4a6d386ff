"""The mode ``predictive``: what is coming decides, as far as it can be told; ``balanced`` does where it cannot."""

from __future__ import annotations

import math

from codesign_kernel.cluster.forecast import BIN_S, NOTHING, Forecast
from codesign_kernel.cluster.policies import (
    MODES,
    Decision,
    Limits,
    Snapshot,
    Threshold,
    bounds,
    hold,
    keep,
    wanted_for_work,
)

#: A forecast is acted upon from this confidence on.
CONFIDENT = 0.6


class Predictive:
    """Workers for the load that is forecast for when they would arrive, and for the work on hand.

    For a load of r workers kept busy, r + s sqrt(r) are wanted (square-root staffing: Halfin and Whitt, "Heavy-traffic
    limits for queues with many exponential servers", Operations Research 29(3), 1981), where s is the share of the
    start in start and task together: workers that come faster than tasks end need not be there before. For a backlog it
    is as many as :func:`wanted_for_work` says. Where the forecast has been wrong of late (confidence below
    ``confident``) the mode ``balanced`` decides.

    Workers go as soon as neither the work on hand nor the forecast wants them: it looks ahead as far as a worker takes
    to start, so whoever is wanted again will be there in time, and the square root leaves room for chance.
    """

    def __init__(
        self, minimum: int, maximum: int, limits: Limits | None = None, *, confident: float = CONFIDENT
    ) -> None:
        self._balanced = Threshold(MODES["balanced"], minimum, maximum, limits)
        self.minimum, self.maximum, self.confident = minimum, maximum, confident
        self.forecast: Forecast | None = None
        self._bin: tuple[float, int] | None = None

    def decide(self, now: Snapshot) -> Decision:
        """How many workers there should be."""
        self._learn(now)
        otherwise = self._balanced.decide(now)
        outside = bounds(now, self.minimum, self.maximum)
        if outside:
            return outside
        outlook = self.forecast.outlook() if self.forecast else NOTHING
        if outlook.confidence < self.confident:
            told = f"{otherwise.reason} (forecast not trusted: confidence {outlook.confidence:.0%})"
            return otherwise._replace(reason=told)
        slow = now.startup_s / (now.startup_s + now.task_s) if now.startup_s else 0.0
        staffed = outlook.load + slow * math.sqrt(outlook.load)
        wanted = math.ceil(max(wanted_for_work(now, outlook.load), staffed / now.slots))
        if otherwise.signal == "memory":
            return otherwise  # no forecast of arrivals speaks of memory that fills
        target = min(self.maximum, max(self.minimum, wanted))
        reason = (
            f"{outlook.load:.1f} busy workers expected ({outlook.model}, confidence {outlook.confidence:.0%}), "
            f"{now.queued} tasks wait"
        )
        if target < now.planned:
            target = min(now.planned, max(target, keep(now, self.minimum)))
        if target == now.planned:
            return hold(now, reason)
        return Decision(now.time_s, now.planned, target, "forecast", reason, outlook.load)

    def _learn(self, now: Snapshot) -> None:
        """Hand each full bin of arrivals to the forecast, as workers that it keeps busy."""
        if self._bin is None:
            self._bin = (now.time_s, now.submitted)
            return
        start_s, submitted = self._bin
        passed = now.time_s - start_s
        if passed < BIN_S:
            return
        if now.submitted and not now.task_s:
            return  # how much work the first tasks are is known when one has ended
        if self.forecast is None:
            self.forecast = Forecast(max(now.startup_s, now.task_s, BIN_S))
        if self.forecast is not None:
            load = (now.submitted - submitted) * now.task_s / passed
            # what comes in above what the cluster can do at its largest is work on hand, no rate to staff for
            self.forecast.add(min(load, float(self.maximum * now.slots)), now.task_s)
        self._bin = (now.time_s, now.submitted)
