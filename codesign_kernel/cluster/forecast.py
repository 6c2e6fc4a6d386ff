"""How much work is coming: four small models of the history, judged by how they did, and how far to trust the best."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

#: Seconds of history that one number stands for.
BIN_S = 10.0
#: Weights of a new bin: in the level and the trend of Holt's method, in the recent and in the long-term error.
LEVEL, TREND, RECENT, LONG = 0.2, 0.05, 0.15, 0.01
#: Bins of history that are kept: four hours.
HISTORY = 1440
#: A period is believed from this autocorrelation on, and looked for every so many bins. It is the first whose
#: autocorrelation is this share of the highest; so many turns of it are averaged.
PERIODIC, LOOK, SAME, PAST = 0.5, 6, 0.8, 3
#: Bins of the median.
MEDIAN = 5
#: The models, those that say more first: of equals the first is taken.
MODELS = ("period", "trend", "level", "median")


class Outlook(NamedTuple):
    """load: mean over the horizon, in workers kept busy. confidence: 0 to 1, one minus the relative error that
    forecasts over this horizon had of late. model: which of ``MODELS`` says so."""

    load: float
    confidence: float
    model: str


#: Before there is any history.
NOTHING = Outlook(0.0, 0.0, "level")


class Forecast:
    """Forecasts of the load, the mean over the next ``horizon_s``.

    ``level`` is exponential smoothing, ``trend`` Holt's linear method (Holt 1957, reprinted in International Journal of
    Forecasting 20, 2004), ``median`` that of the last ``MEDIAN`` bins (one batch of tasks does not move it), ``period``
    the mean of the last periods, found by autocorrelation. Each forecast is kept and compared with what came. Its
    relative error is |forecast - load| over max(forecast, load, 1 worker), less what chance alone explains: tasks of
    ``task_s`` that come in independently at a mean load r make the mean over the horizon vary by
    sqrt(r task_s / horizon). The model with the least long-term error speaks; the confidence is one minus its recent
    error.
    """

    def __init__(self, horizon_s: float) -> None:
        self.bins = max(1, round(horizon_s / BIN_S))
        self.lag = 0
        self._history: deque[float] = deque(maxlen=HISTORY)
        self._level = self._trend = 0.0
        self._made: deque[dict[str, float]] = deque(maxlen=self.bins)
        # Nothing is known at first, so nothing is trusted; a period has to earn it.
        self._recent = dict.fromkeys(MODELS, 1.0)
        self._long = dict.fromkeys(MODELS, 1.0)
        self._count = 0

    def add(self, load: float, task_s: float) -> None:
        """The mean load of the next ``BIN_S`` seconds, in workers kept busy by tasks of ``task_s``."""
        self._history.append(load)
        self._count += 1
        before = self._level
        self._level = LEVEL * load + (1 - LEVEL) * (self._level + self._trend) if self._count > 1 else load
        if self._count > 1:
            self._trend = TREND * (self._level - before) + (1 - TREND) * self._trend
        if len(self._made) == self.bins:
            self._judge(self._made.popleft(), task_s)
        if self._count % LOOK == 0:
            self.lag = period(np.array(self._history))
        self._made.append({name: float(np.mean(self._ahead(name))) for name in MODELS})

    def _judge(self, told: dict[str, float], task_s: float) -> None:
        came = float(np.mean([*self._history][-self.bins :]))
        for name, value in told.items():
            chance = math.sqrt(max(value, came) * task_s / (self.bins * BIN_S))
            error = max(0.0, abs(value - came) - chance) / max(value, came, 1.0)
            self._recent[name] += RECENT * (error - self._recent[name])
            self._long[name] += LONG * (error - self._long[name])

    def _ahead(self, model: str) -> list[float]:
        """The next bins, as ``model`` sees them."""
        if model == "period" and self.lag:
            turns = min(PAST, len(self._history) // self.lag)
            past = np.array([*self._history][-turns * self.lag :]).reshape(turns, self.lag).mean(axis=0)
            return [float(past[step % self.lag]) for step in range(self.bins)]
        if model == "median":
            return [float(np.median([*self._history][-MEDIAN:]))] * self.bins
        slope = self._trend if model == "trend" else 0.0
        return [max(0.0, self._level + slope * (step + 1)) for step in range(self.bins)]

    def outlook(self) -> Outlook:
        """What is coming, and how far to trust it."""
        if not self._history:
            return NOTHING
        model = min(MODELS, key=lambda name: self._long[name])
        return Outlook(self._made[-1][model], max(0.0, 1 - self._recent[model]), model)


def period(loads: np.ndarray) -> int:
    """The period of ``loads`` in bins, 0 where there is none that was seen twice.

    The first of the highest peaks of the unbiased autocorrelation beyond its first zero, if it reaches ``PERIODIC``.
    """
    centred = loads - loads.mean()
    power = float(centred @ centred)
    if len(loads) < 24 or power <= 0:
        return 0
    spectrum = np.fft.rfft(centred, 2 * len(loads))
    half = len(loads) // 2 + 1
    overlap = len(loads) - np.arange(half)
    likeness = np.fft.irfft(np.abs(spectrum) ** 2)[:half] / power * len(loads) / overlap
    below = np.flatnonzero(likeness < 0)
    if not len(below):
        return 0
    peaks = [
        lag
        for lag in range(int(below[0]), half - 1)
        if likeness[lag] >= PERIODIC and likeness[lag - 1] <= likeness[lag] >= likeness[lag + 1]
    ]
    # of a period and its multiples, which are as good but for chance, the period itself
    highest = max((likeness[lag] for lag in peaks), default=0.0)
    return next((lag for lag in peaks if likeness[lag] >= SAME * highest), 0)
