"""Exploration: what came of one, with all that a figure, a comparison or a recommendation needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.display import Shown
from codesign_kernel.errors import InfeasibleDesignError
from codesign_kernel.explore.goal import Goal, Judged
from codesign_kernel.explore.tally import Tally
from codesign_kernel.explore.volume import box, growing, hypervolume, reference_of
from codesign_kernel.pareto import knee, pareto_front

if TYPE_CHECKING:
    import pandas as pd

    from codesign_kernel.explore.recommend import Recommendation

Array = NDArray[Any]
#: Points of a convergence curve.
STEPS = 60


@dataclass(frozen=True)
class Provenance:
    """Where an exploration comes from.

    Attributes:
        sampler, seed, budget: as asked; an exact sweep needs neither seed nor budget.
        space: sha256 of the space, see :func:`space_digest`.
        evaluated: designs evaluated in this run; the others were known before.
        wall_s: seconds that this run took.
        versions: of what took part, by package.
    """

    sampler: str
    seed: int | None
    budget: int | None
    space: str
    evaluated: int
    wall_s: float
    versions: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Exploration(Shown):
    """A finished exploration.

    Attributes:
        space: what was explored.
        goal: objectives and limits.
        frame: one row a design, parameters and results, in the order in which the designs came; its index is the number
            of the design. Of an exact sweep, whose designs are too many to keep: the front, and a random sample.
        front: the rows that keep all limits and that no other such row dominates, as :func:`pareto_front` orders them.
        tally: counts over all designs looked at.
        stopped: "complete" (every design), "budget", "stalled", "stopped" or "exhausted".
        provenance: sampler, seed, versions, time.
        evaluate: from columns to columns, as the exploration was given it; None where it is not known any more.
    """

    space: DesignSpace
    goal: Goal
    frame: pd.DataFrame
    front: pd.DataFrame
    tally: Tally
    stopped: str
    provenance: Provenance
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, space: DesignSpace, goal: Goal, frame: pd.DataFrame, tally: Tally | None, stopped: str,
        provenance: Provenance, evaluate: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> Exploration:  # fmt: skip
        """The exploration of ``frame``, whose front it finds; ``tally`` is counted where it is None.

        Raises:
            InfeasibleDesignError: no design keeps all limits; the message says which of them bind.
        """
        results = {name: frame[name].to_numpy() for name in frame.columns}
        numbers = frame.index.to_numpy()
        judged = goal.judge(results, numbers)
        if tally is None:
            tally = Tally.of(goal, results, judged, numbers)
        if not tally.legal:
            raise InfeasibleDesignError(tally.why_none(goal))
        front = pareto_front(frame[judged.legal], goal.objectives)
        return cls(space, goal, frame, front, tally, stopped, provenance, evaluate)

    @property
    def objectives(self) -> dict[str, str]:
        """``{column: "min" | "max"}``."""
        return self.goal.objectives

    @property
    def exact(self) -> bool:
        """Every design of the space was looked at, so that the front is the front."""
        return self.tally.designs == self.space.size

    @cached_property
    def judged(self) -> Judged:
        """Costs and limits of the rows of ``frame``."""
        return self.goal.judge({name: self.frame[name].to_numpy() for name in self.frame}, self.frame.index.to_numpy())

    def costs(self) -> Array:
        """[N, objectives]: costs of the front, minimised."""
        return self.goal.signed(self.front[[*self.objectives]].to_numpy(dtype=float))

    @cached_property
    def reference(self) -> dict[str, float]:
        """The reference point of :attr:`hypervolume`, by column: 10 % of the front's range behind its worst."""
        point = self.goal.signed(reference_of(self.costs())[None])[0]
        return dict(zip(self.objectives, point.tolist(), strict=True))

    @cached_property
    def hypervolume(self) -> float:
        """The share that the front dominates of the box from the best of each objective to the reference: 0 to 1."""
        costs, reference = self.costs(), reference_of(self.costs())
        return hypervolume(costs, reference) / box(costs, reference)

    @cached_property
    def history(self) -> pd.DataFrame:
        """How the hypervolume grew: columns ``evaluations``, ``hypervolume`` (0 to 1) and ``front`` (designs).

        An exact sweep has one row: it knows the front when it has seen every design.
        """
        return self.grown(reference_of(self.costs()), self.costs().min(axis=0))

    def grown(self, reference: Array, ideal: Array, steps: int = STEPS) -> pd.DataFrame:
        """:attr:`history` to another ``reference`` and from another ``ideal`` point, both costs."""
        import pandas as pd

        whole = float(np.prod(reference - ideal))
        if self.provenance.sampler == "exact":
            rows = [(self.tally.designs, hypervolume(self.costs(), reference) / whole, len(self.front))]
        else:
            count = len(self.frame)
            at = np.unique(np.linspace(min(count, max(1, count // steps)), count, steps).astype(int))
            costs = np.where(self.judged.legal[:, None], self.judged.costs, np.nan)
            rows = [(n, hypervolume(front, reference) / whole, len(front)) for n, front in growing(costs, at.tolist())]
        return pd.DataFrame(rows, columns=["evaluations", "hypervolume", "front"])

    @property
    def knee(self) -> pd.Series:
        """The most balanced design of the front; see :func:`codesign_kernel.knee`."""
        return knee(self.front)

    def recommend(
        self, best: str | None = None, within: Mapping[str, Any] | None = None, cheaper: str | None = None
    ) -> Recommendation:
        """Which design, and why; see :func:`codesign_kernel.explore.recommend.recommend`."""
        from codesign_kernel.explore.recommend import recommend

        return recommend(self, best=best, within=within, cheaper=cheaper)

    def __str__(self) -> str:
        told = self.provenance
        how = {"complete": "all of them", "stopped": "until it was stopped", "stalled": "until the front stood still"}
        return (
            f"{self.tally.designs:,} of {self.space.size:,} designs by {told.sampler}"
            f" ({how.get(self.stopped, self.stopped)}), {self.tally.legal:,} legal, {len(self.front):,} on the front"
            f" for {', '.join(self.objectives)}; {told.wall_s:.1f} s, {told.evaluated:,} evaluated"
        )


def versions_of(names: Sequence[str]) -> dict[str, str]:
    """{package: version} of those of ``names`` that are installed."""
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
