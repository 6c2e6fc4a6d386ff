"""Load to try policies on: when tasks come in, and how long each one runs. Generated, or recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from codesign_kernel.errors import InvalidInputError

HOUR_S = 3600.0
#: Mean duration of a generated task, and its coefficient of variation (log-normal).
TASK_S, VARIATION = 20.0, 0.5


class Trace(NamedTuple):
    """arrives_s: when each task comes in (s from the start, ascending). lasts_s: how long it runs. length_s: how long
    the cluster is there, whether or not there is work to the end."""

    name: str
    arrives_s: np.ndarray[Any, Any]
    lasts_s: np.ndarray[Any, Any]
    length_s: float

    @property
    def work_s(self) -> float:
        """Worker-seconds of work."""
        return float(self.lasts_s.sum())


def recorded(name: str, arrives_s: Any, lasts_s: Any, length_s: float | None = None) -> Trace:
    """A trace of what was seen: task after task, when it came in and how long it ran.

    Raises:
        InvalidInputError: the two differ in length, are empty, or hold a time that is negative or not finite.
    """
    arrives, lasts = np.asarray(arrives_s, dtype=float), np.asarray(lasts_s, dtype=float)
    if arrives.ndim != 1 or arrives.shape != lasts.shape or not len(arrives):
        raise InvalidInputError(
            f"a trace needs one time of arrival and one duration for each task, but got shapes {arrives.shape} and "
            f"{lasts.shape}; give two lists of the same length"
        )
    if not (np.isfinite(arrives).all() and np.isfinite(lasts).all() and (arrives >= 0).all() and (lasts > 0).all()):
        raise InvalidInputError(
            f"tasks of a trace arrive at 0 s or later and run longer than 0 s, but {name!r} holds other times; "
            "leave those tasks out"
        )
    order = np.argsort(arrives, kind="stable")
    return Trace(name, arrives[order], lasts[order], float(arrives.max() if length_s is None else length_s))


def _steady(hour: float) -> float:
    return 8.0


def _step(hour: float) -> float:
    return 4.0 if hour < 1 else 16.0


def _ramp(hour: float) -> float:
    return 2.0 + 22.0 * min(1.0, hour / 2.5)


def _diurnal(hour: float) -> float:
    return 10.0 - 8.0 * math.cos(2 * math.pi * hour)


def _bursts(hour: float) -> float:
    return 24.0 if hour % 0.25 < 0.05 else 1.0


def _flash(hour: float) -> float:
    return 3.0 if hour < 1.5 else 3.0 + 37.0 * math.exp(-(hour - 1.5) / 0.2)


#: Name -> load (workers kept busy) by the hour; two more shapes bring their tasks at once.
LOADS: Mapping[str, Callable[[float], float]] = {
    "steady": _steady,
    "step": _step,
    "ramp": _ramp,
    "diurnal": _diurnal,
    "bursts": _bursts,
    "flash crowd": _flash,
}
SHAPES = (*LOADS, "batch, then idle", "generations")


def shape(name: str, *, hours: float = 3.0, seed: int = 0, task_s: float = TASK_S) -> Trace:
    """A generated trace: arrivals by a Poisson process of the load ``name``, or a batch of tasks at once.

    ``batch, then idle``: 1,800 tasks at ten minutes, nothing after them. ``generations``: what a search by generations
    does, 48 tasks at once every three minutes or so.

    Raises:
        InvalidInputError: there is no shape of that name.
    """
    if name not in SHAPES:
        raise InvalidInputError(f"load shapes are {', '.join(SHAPES)}, but got {name!r}; choose one of them")
    generator = np.random.default_rng(seed)
    length_s = hours * HOUR_S
    if name == "batch, then idle":
        arrives = np.full(1800, 600.0)
    elif name == "generations":
        starts = np.cumsum(generator.normal(180.0, 10.0, int(length_s / 180.0) - 1))
        arrives = np.repeat(starts, 48)
    else:
        arrives = _arrivals(LOADS[name], task_s, length_s, generator)
    return Trace(name, arrives, _durations(task_s, VARIATION, len(arrives), generator), length_s)


def drawn(seed: int, *, hours: float = 3.0) -> Trace:
    """A trace whose load is drawn at random: what no policy was fitted to.

    Four to twelve stretches of random length, each at a level of its own, constant or on its way to the next one, half
    of the traces with a wave on top; up to four batches at once; tasks of 5 to 60 s on average, more or less alike.
    """
    generator = np.random.default_rng([seed, 0x6C6F6164])
    length_s, task_s = hours * HOUR_S, float(np.exp(generator.uniform(math.log(5), math.log(60))))
    knots = np.concatenate([[0.0], np.sort(generator.uniform(0, hours, generator.integers(3, 12))), [hours]])
    levels = np.append(np.exp(generator.uniform(math.log(0.5), math.log(24), len(knots) - 1)), 0.5)
    slopes = generator.uniform(size=len(knots)) < 0.4
    wave, period, phase = generator.choice([0.0, 0.5]), generator.uniform(0.1, 1.0), generator.uniform(0, 2 * math.pi)

    def load(hour: float) -> float:
        place = min(int(np.searchsorted(knots, hour, side="right")) - 1, len(knots) - 2)
        share = (hour - knots[place]) / (knots[place + 1] - knots[place]) if slopes[place] else 0.0
        level = levels[place] + share * (levels[place + 1] - levels[place])
        return float(level * (1 + wave * math.sin(2 * math.pi * hour / period + phase)))

    arrives = _arrivals(load, task_s, length_s, generator)
    for _ in range(generator.integers(0, 5)):
        arrives = np.append(arrives, np.full(generator.integers(10, 300), generator.uniform(0, length_s)))
    arrives.sort()
    lasts = _durations(task_s, float(generator.uniform(0.1, 1.0)), len(arrives), generator)
    return Trace(f"drawn {seed}", arrives, lasts, length_s)


def _arrivals(
    load: Callable[[float], float], task_s: float, length_s: float, generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Times of arrival by a Poisson process that keeps ``load(hour)`` workers busy.

    By thinning (Lewis and Shedler, Naval Research Logistics 26, 1979): draw at the highest rate, keep in proportion.
    """
    highest = max(load(second / HOUR_S) for second in np.arange(0.0, length_s, 10.0)) / task_s
    every = np.sort(generator.uniform(0.0, length_s, generator.poisson(highest * length_s)))
    chance = np.array([load(second / HOUR_S) for second in every]) / task_s / highest
    return every[generator.uniform(size=len(every)) < chance]


def _durations(task_s: float, variation: float, tasks: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Log-normal durations with this mean and coefficient of variation."""
    spread = math.sqrt(math.log(1 + variation**2))
    return generator.lognormal(math.log(task_s) - spread**2 / 2, spread, tasks)
