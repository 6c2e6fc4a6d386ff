"""What an exploration is after: objectives, constraints, and what an evaluator's answer is worth under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import EvaluationError, InvalidInputError
from codesign_kernel.pareto import DIRECTIONS, Objectives
from codesign_kernel.units import column_text

Array = NDArray[Any]
#: A bound alone limits these from below, and every other column from above.
HIGHER_IS_BETTER = frozenset({"accuracy", "utilization"})
#: (least, most) that a column may be; None where that side is free.
Limit = tuple[float | None, float | None]


class Judged(NamedTuple):
    """N designs under a goal.

    Attributes:
        costs: [N, objectives], minimised; NaN where a design cannot run.
        broken: [N, limits + 1], above 0 where a limit is broken: by what share of it. The last column is 1 where the
            design cannot run at all, 0 elsewhere.
    """

    costs: Array
    broken: Array

    @property
    def legal(self) -> Array:
        """[N] bool: the design runs and keeps every limit."""
        return np.asarray((self.broken <= 0).all(axis=1))


@dataclass(frozen=True)
class Goal:
    """Objectives with their directions, and limits by column."""

    objectives: dict[str, str]
    limits: dict[str, Limit]

    @classmethod
    def of(cls, objectives: Objectives, constraints: Mapping[str, Any] | None = None) -> Goal:
        """``objectives`` as for :func:`codesign_kernel.pareto_front`; ``constraints`` by column: the most it may be
        (the least for accuracy, utilisation and objectives that are maximised), or a pair (least, most).

        Raises:
            InvalidInputError: no objective, a direction that is none, a bound that is no number, or a least above its
                most, which nothing can meet.
        """
        if isinstance(objectives, str):
            raise InvalidInputError(f"objectives are a list of columns, but got {objectives!r}; write [{objectives!r}]")
        directions = dict(objectives) if isinstance(objectives, Mapping) else dict.fromkeys(objectives, "min")
        if not directions or set(directions.values()) - set(DIRECTIONS):
            raise InvalidInputError(
                f'an exploration has one or more objectives, each "min" or "max", but got {objectives!r}'
            )
        limits = {name: _limit(name, bound, directions.get(name)) for name, bound in (constraints or {}).items()}
        return cls(directions, limits)

    @property
    def columns(self) -> list[str]:
        """The columns that an evaluator has to give."""
        return [*dict.fromkeys([*self.objectives, *self.limits])]

    def words(self, name: str) -> str:
        """A limit as it reads: ``area_mm2 at most 2.50 mm²``."""
        least, most = self.limits[name]
        bounds = [("at least", least), ("at most", most)]
        return f"{name} " + " and ".join(f"{word} {column_text(name, v)}" for word, v in bounds if v is not None)

    def signed(self, costs: Array) -> Array:
        """Costs as values of the columns, or values as costs: what is maximised is negated."""
        return costs * np.array([1.0 if way == "min" else -1.0 for way in self.objectives.values()])

    def judge(self, results: Mapping[str, Any], numbers: Array) -> Judged:
        """What ``results``, an evaluator's columns for the designs ``numbers``, are worth.

        Without a column ``feasible`` every design can run.

        Raises:
            EvaluationError: a column is missing, of another length or not numeric; or a design that can run has a NaN
                or an infinity.
        """
        count = len(numbers)
        runs = self._runs(results, count)
        values = {name: self._values(results, name, numbers, runs) for name in self.columns}
        costs = np.column_stack([values[name] for name in self.objectives]) if count else np.empty((0, 0))
        broken = np.zeros((count, len(self.limits) + 1))
        for place, (name, (least, most)) in enumerate(self.limits.items()):
            over = np.full(count, -np.inf) if most is None else _beyond(values[name], most)
            under = np.full(count, -np.inf) if least is None else _beyond(-values[name], -least)
            broken[:, place] = np.where(runs, np.maximum(over, under), 1.0)
        broken[:, -1] = ~runs
        return Judged(self.signed(costs.reshape(count, len(self.objectives))), broken)

    def _runs(self, results: Mapping[str, Any], count: int) -> Array:
        if "feasible" not in results:
            return np.ones(count, dtype=bool)
        runs = np.asarray(results["feasible"])
        if runs.shape != (count,) or runs.dtype.kind != "b":
            raise EvaluationError(
                f"an evaluator says True or False of each of {count} designs under 'feasible', but gave "
                f"{runs.shape} of {runs.dtype}"
            )
        return runs

    def _values(self, results: Mapping[str, Any], name: str, numbers: Array, runs: Array) -> Array:
        if name not in results:
            raise EvaluationError(
                f"an evaluator gives a column for each objective and constraint, but {name!r} is missing; "
                f"it gave {', '.join(map(str, results))}"
            )
        values = np.asarray(results[name])
        if values.shape != (len(numbers),) or values.dtype.kind not in "iuf":
            raise EvaluationError(
                f"an evaluator gives one number a design, but for {len(numbers)} designs {name!r} holds "
                f"{values.shape} of {values.dtype}"
            )
        wrong = np.flatnonzero(runs & ~np.isfinite(values))
        if len(wrong):
            raise EvaluationError(
                f"a design that can run has finite results, but {name!r} is {values[wrong[0]]} for "
                f"{len(wrong)} of {len(numbers)} designs, the first of them number {numbers[wrong[0]]}; "
                "mend the evaluator, or let it say feasible=False of such designs"
            )
        return np.where(runs, values.astype(float), np.nan)


def _limit(name: str, bound: Any, direction: str | None) -> Limit:
    pair = isinstance(bound, tuple | list) and len(bound) == 2
    if not pair and _number(bound):
        lower = direction == "max" or (direction is None and name in HIGHER_IS_BETTER)
        return (float(bound), None) if lower else (None, float(bound))
    if not pair or not all(value is None or _number(value) for value in bound) or bound[0] is bound[1] is None:
        raise InvalidInputError(
            f"a constraint is a number or a pair (least, most) of numbers or None, but {name!r} has {bound!r}"
        )
    least, most = (None if value is None else float(value) for value in bound)
    if least is not None and most is not None and least > most:
        raise InvalidInputError(
            f"constraints can be met, but {name!r} shall be at least {least:g} and at most {most:g}; exchange them"
        )
    return least, most


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def _beyond(values: Array, bound: float) -> Array:
    """How far values are above ``bound``, as a share of it; exactly 0 or less where they are not."""
    return (values - bound) / (abs(bound) or 1.0)
