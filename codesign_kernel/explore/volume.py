"""How much a front covers: hypervolume, the reference it is measured to, and how it grew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import MissingPackageError
from codesign_kernel.explore.front import front_of
from codesign_kernel.pareto import hypervolume as small_hypervolume

Array = NDArray[Any]
#: The reference lies so much of the front's range behind its worst, so that its ends count too.
MARGIN = 0.1


def reference_of(costs: Array) -> Array:
    """The reference point of a front: in each objective its worst and ``MARGIN`` of its range more (H. Ishibuchi et
    al., Evol. Comput. 26(3), 2018); where it does not vary, ``MARGIN`` of the value.

    Args:
        costs: [N, objectives], minimised, at least one row.
    """
    best, worst = costs.min(axis=0), costs.max(axis=0)
    span = np.where(worst > best, worst - best, np.where(worst == 0, 1.0, np.abs(worst)))
    return np.asarray(worst + MARGIN * span)


def hypervolume(costs: Array, reference: Array) -> float:
    """The volume between the points and ``reference``; all are minimised. Points beyond the reference add nothing.

    By moocore (C. M. Fonseca, L. Paquete, M. López-Ibáñez, CEC 2006; A. P. Guerreiro, C. M. Fonseca, 2018) where it is
    installed, else by :func:`codesign_kernel.pareto.hypervolume`, which gives the same for two or three objectives.

    Raises:
        MissingPackageError: it is not installed, and there are other than two or three objectives.
    """
    inside = costs[(costs < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if costs.shape[1] == 1:
        return float(reference[0] - inside.min())
    try:
        from moocore import hypervolume as measure
    except ImportError as error:
        if costs.shape[1] in (2, 3):
            return small_hypervolume(inside, reference.tolist())
        raise MissingPackageError(
            f"the hypervolume of {costs.shape[1]} objectives needs moocore, which is not installed; "
            "pip install 'codesign-playground[search]'"
        ) from error
    return float(measure(inside, ref=reference))


def box(costs: Array, reference: Array) -> float:
    """The volume from the best of each objective to ``reference``: what a front at the ideal point would have."""
    return float(np.prod(reference - costs.min(axis=0)))


def growing(costs: Array, steps: Iterable[int]) -> Iterator[tuple[int, Array]]:
    """(n, the front of the first n rows of ``costs``) for each n of ``steps``, ascending; rows with NaN are none."""
    front, done = costs[:0], 0
    for step in steps:
        more = costs[done:step]
        front = np.concatenate([front, more[~np.isnan(more).any(axis=1)]])
        front = front[front_of(front)]
        done = step
        yield step, front
