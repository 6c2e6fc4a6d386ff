"""What a search for pairs seeks: the goal of pairs, and of their machines alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign_kernel.design import DesignSpace, SpatialSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore.goal import Goal
from codesign_kernel.session.machines import COLUMNS, Machines
from codesign_kernel.session.pairs import ACCURACY

#: What is minimised where nothing is said; accuracy is sought beside it.
OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")


def goal_of(space: Any, objectives: Sequence[str], constraints: Mapping[str, Any] | None) -> tuple[Goal, Machines]:
    """The goal of pairs, and the machines with theirs.

    Raises:
        InvalidInputError: one of the three is none, or they contradict one another.
    """
    if not isinstance(space, DesignSpace) or isinstance(space, SpatialSpace):
        raise InvalidInputError(
            "co_optimize takes a DesignSpace, whose accelerators can be generated and co-simulated, but got "
            f"{type(space).__name__}"
        )
    cheap = tuple(column for column in COLUMNS if column != "utilization")
    wrong = [objectives] if isinstance(objectives, str) else [o for o in objectives if o not in cheap]
    if wrong or not len(objectives):
        raise InvalidInputError(f"objectives are of {', '.join(cheap)}, all minimised, but got {objectives!r}")
    goal = Goal.of({ACCURACY: "max", **dict.fromkeys(objectives, "min")}, constraints)
    for column, (least, most) in goal.limits.items():
        if column not in (ACCURACY, *COLUMNS):
            raise InvalidInputError(f"a limit is on {', '.join((ACCURACY, *COLUMNS))}, but got {column!r}")
        if column == ACCURACY and (most is not None or not 0 <= (least or 0) <= 1):
            raise InvalidInputError(f"a limit on accuracy is its least, 0 to 1, but got {(least, most)}")
    limits = {column: limit for column, limit in goal.limits.items() if column != ACCURACY}
    return goal, Machines(space, Goal(dict.fromkeys(objectives, "min"), limits))
