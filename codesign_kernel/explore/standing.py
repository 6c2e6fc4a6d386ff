"""Standing: what an exploration knows while it goes on, for somebody who follows it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.explore.front import front_of
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.tally import Tally
from codesign_kernel.explore.volume import hypervolume, reference_of
from codesign_kernel.pareto import knee

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
#: Fronts of the past that are kept at least; there are never more than twice as many.
PAST = 40


@dataclass(frozen=True, eq=False)
class Standing:
    """An exploration as far as it has come. It is handed to ``progress.stands(standing)`` after each batch, where the
    ``progress`` of :func:`explore` has such a method, and costs little until something is read from it.

    Attributes:
        space, goal: as for :class:`Exploration`.
        total: designs that it will look at, at most.
        numbers, costs: of the front so far: [N], and [N, objectives], minimised. Empty while no design is legal.
        tally: counts over the designs so far.
        past: (designs looked at, costs of the front then), ascending; the last is now.
    """

    space: DesignSpace
    goal: Goal
    total: int
    numbers: Array
    costs: Array
    tally: Tally
    past: tuple[tuple[int, Array], ...]

    @property
    def objectives(self) -> dict[str, str]:
        """``{column: "min" | "max"}``."""
        return self.goal.objectives

    @cached_property
    def front(self) -> pd.DataFrame:
        """One row a design of the front: its parameters and objectives; the index is its number."""
        import pandas as pd

        results = dict(zip(self.objectives, self.goal.signed(self.costs).T, strict=True))
        frame = pd.DataFrame({**self.space.columns(self.numbers), **results}, index=self.numbers)
        frame.attrs["objectives"] = dict(self.objectives)
        return frame

    @property
    def knee(self) -> pd.Series:
        """The most balanced design of the front so far."""
        return knee(self.front, self.objectives)

    @cached_property
    def history(self) -> pd.DataFrame:
        """How the hypervolume grew, in the box of the front as it is now: see :attr:`Exploration.history`."""
        import pandas as pd

        reference, ideal = reference_of(self.costs), self.costs.min(axis=0)
        whole = float(np.prod(reference - ideal))
        rows = [(count, hypervolume(costs, reference) / whole, len(costs)) for count, costs in self.past if len(costs)]
        return pd.DataFrame(rows, columns=["evaluations", "hypervolume", "front"])


@dataclass
class Following:
    """Gathers what a :class:`Standing` holds, and hands it over."""

    told: Callable[[Standing], None]
    space: DesignSpace
    goal: Goal
    total: int
    numbers: Array = field(default_factory=lambda: np.empty(0, np.int64))
    tally: Tally = field(default_factory=Tally)
    past: list[tuple[int, Array]] = field(default_factory=list)

    @classmethod
    def of(cls, progress: Any, space: DesignSpace, goal: Goal, total: int) -> Following | None:
        """For a ``progress`` that has ``stands``; others are not followed."""
        told = getattr(progress, "stands", None)
        return None if told is None else cls(told, space, goal, total)

    def add(self, numbers: Array, costs: Array, tally: Tally) -> None:
        """More designs: the legal ones with their costs, and the counts of all."""
        whole = copy.deepcopy(self.tally)  # a reader in another thread may have the one before
        whole.merge(tally)
        if self.past:
            numbers = np.concatenate([self.numbers, numbers])
            costs = np.concatenate([self.past[-1][1], costs])
        kept = front_of(costs)
        self.tell(numbers[kept], costs[kept], whole)

    def tell(self, numbers: Array, costs: Array, tally: Tally) -> None:
        """The front is these designs now."""
        self.numbers, self.tally = numbers, tally
        self.past.append((tally.designs, costs))
        if len(self.past) > 2 * PAST:
            del self.past[1:-1:2]
        self.told(Standing(self.space, self.goal, self.total, numbers, costs, tally, tuple(self.past)))
