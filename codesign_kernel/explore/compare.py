"""Two explorations side by side: what each covers, what each attains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore.front import front_of
from codesign_kernel.explore.result import Exploration
from codesign_kernel.explore.volume import box, hypervolume, reference_of

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]


class Comparison(NamedTuple):
    """Two explorations, measured to one reference point: that of their common front. Pairs are (first, second).

    Attributes:
        hypervolume: share of the box from the ideal point of the common front to the reference, 0 to 1.
        coverage: share of the other's front that its own weakly dominates, 0 to 1 (C of E. Zitzler, L. Thiele, IEEE
            Trans. Evol. Comput. 3(4), 1999).
        attained: share of the common front's points that it reached itself.
        designs: looked at.
        reference: by objective, in the columns' units.
    """

    hypervolume: tuple[float, float]
    coverage: tuple[float, float]
    attained: tuple[float, float]
    designs: tuple[int, int]
    reference: dict[str, float]

    def __str__(self) -> str:
        (va, vb), (ca, cb), (aa, ab) = self.hypervolume, self.coverage, self.attained
        verdict = "the first covers more" if va > vb else "the second covers more" if vb > va else "both cover the same"
        return (
            f"{verdict}: hypervolume {va:.1%} against {vb:.1%} of the box, with {self.designs[0]:,} and "
            f"{self.designs[1]:,} designs looked at. The first is nowhere worse than {ca:.0%} of the second's front, "
            f"the second than {cb:.0%} of the first's; of the best of both they attain {aa:.0%} and {ab:.0%}."
        )


def compare(first: Exploration, second: Exploration) -> Comparison:
    """``first`` beside ``second``.

    Raises:
        InvalidInputError: they have other objectives.
    """
    _same_objectives([first, second])
    a, b = first.costs(), second.costs()
    common = _union([a, b])
    reference = reference_of(common)
    whole = box(common, reference)
    return Comparison(
        hypervolume=(hypervolume(a, reference) / whole, hypervolume(b, reference) / whole),
        coverage=(attained(b, a), attained(a, b)),
        attained=(attained(common, a), attained(common, b)),
        designs=(first.tally.designs, second.tally.designs),
        reference=dict(zip(first.objectives, first.goal.signed(reference[None])[0].tolist(), strict=True)),
    )


def attained(points: Array, by: Array) -> float:
    """The share of ``points`` that some point of ``by`` equals or dominates; all are minimised."""
    reached = sum(bool((by <= point).all(axis=1).any()) for point in points)
    return reached / len(points)


def histories(
    runs: Mapping[str, Sequence[Exploration]], exact: Exploration | None = None
) -> dict[str, list[pd.DataFrame]]:
    """The histories of several explorations, by label, on one scale: what the exact front covers is 1.

    Args:
        runs: by label, explorations that differ in their seed.
        exact: the exploration whose front is the whole; the common front of all without.

    Raises:
        InvalidInputError: no exploration, or they have other objectives.
    """
    every = [run for several in runs.values() for run in several] + ([] if exact is None else [exact])
    if not every:
        raise InvalidInputError("a convergence needs an exploration, but got none")
    _same_objectives(every)
    common = exact.costs() if exact is not None else _union([run.costs() for run in every])
    reference, ideal = reference_of(common), common.min(axis=0)
    whole = hypervolume(common, reference) / box(common, reference)
    return {
        label: [
            (table := run.grown(reference, ideal)).assign(hypervolume=table["hypervolume"] / whole) for run in several
        ]
        for label, several in runs.items()
    }


def _union(fronts: Sequence[Array]) -> Array:
    points = np.unique(np.concatenate(fronts), axis=0)
    return points[front_of(points)]


def _same_objectives(explorations: Sequence[Exploration]) -> None:
    wanted = explorations[0].objectives
    for other in explorations:
        if list(other.objectives.items()) != list(wanted.items()):
            raise InvalidInputError(
                f"explorations are compared by the same objectives, but got {wanted} and {other.objectives}; "
                "explore both for the same"
            )
