"""Pareto fronts: dominance, the front of a table, its knee, and the volume that it dominates.

A point dominates another if it is no worse in every objective and better in at least one; equal points do not dominate
each other, so ties and duplicates all stay. Comparisons are exact, on the values as they are: nothing is rounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

Objectives = Sequence[str] | Mapping[str, str]

DIRECTIONS = ("min", "max")
#: Key of ``frame.attrs`` under which a front remembers its objectives.
OBJECTIVES = "objectives"
#: An objective whose largest value is more than this times its smallest is compared on a log axis by :func:`knee`.
LOG_SPAN = 100.0
#: Points that one step of the general sweep compares with the front (bounds its memory).
_BLOCK = 512


def non_dominated(points: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points no other point dominates; all objectives are minimised.

    Exact. Up to three objectives take O(n log n) (Kung, Luccio and Preparata, J. ACM 22(4), 1975): points in
    lexicographic order, the third objective of those seen so far kept as a staircase over the second. More take a
    comparison of every point with the front so far.

    Args:
        points: [n, m] numbers. A row with a NaN is never on the front and dominates nothing; infinities compare.

    Returns:
        [n] bool.

    Raises:
        InvalidInputError: not a two-dimensional array of numbers with at least one column.
    """
    points = _matrix(points)
    valid = np.flatnonzero(~np.isnan(points).any(axis=1))
    order = valid[np.lexsort(points[valid].T[::-1])]
    ordered = points[order]
    first = np.ones(len(ordered), dtype=bool)  # the first of each run of equal points
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    unique = ordered[first]
    front = _sweep_three(unique) if points.shape[1] <= 3 else _sweep_blocks(unique)
    mask = np.zeros(len(points), dtype=bool)
    mask[order] = front[np.cumsum(first) - 1]
    return mask


def pareto_front(frame: pd.DataFrame, objectives: Objectives) -> pd.DataFrame:
    """The rows of ``frame`` that no other row dominates.

    Args:
        frame: one design a row. Where it has a bool column ``feasible``, only rows that are True take part; a row with
            a missing (NaN) objective never does.
        objectives: columns to minimise, or ``{column: "min" | "max"}``.

    Returns:
        The rows of the front with all columns and their index, the best of the first objective first (ties: by the
        next objectives, then as in ``frame``). ``.attrs["objectives"]`` holds ``{column: direction}``.

    Raises:
        InvalidInputError: an unknown column or direction, a column that is not numeric or holds an infinity, no rows.
        InfeasibleDesignError: there are rows, and none is feasible; the message counts the reasons.
    """
    directions = _directions(objectives)
    costs = _costs(frame, directions)
    rows = np.flatnonzero(_feasible(frame) & ~np.isnan(costs).any(axis=1))
    if len(rows) == 0:
        raise InfeasibleDesignError(_nothing_feasible(frame))
    rows = rows[non_dominated(costs[rows])]
    rows = rows[np.lexsort(costs[rows].T[::-1])]
    front = frame.iloc[rows].copy()
    front.attrs[OBJECTIVES] = directions
    return front


def knee(front: pd.DataFrame, objectives: Objectives | None = None) -> pd.Series:
    """The most balanced row of a front: the one nearest to the ideal point.

    Each objective is scaled to 0 (best on the front) .. 1 (worst on the front), on a log10 axis where its values are
    positive and span more than two decades, else on a linear one; an objective that does not vary counts nothing. The
    ideal point is all zeros; the knee has the least Euclidean distance to it, the first row at a tie. This is
    compromise programming (M. Zeleny, in Multiple Criteria Decision Making, 1973) with the usual scaling by the range
    of the front (R. T. Marler, J. S. Arora, Struct. Multidisc. Optim. 26, 2004). Unlike the distance to a line or plane
    through the extreme points, it is defined for any number of objectives and when extreme points coincide.

    Args:
        front: what :func:`pareto_front` gave; rows that others dominate are ignored.
        objectives: as for :func:`pareto_front`; None takes those that the front remembers.

    Returns:
        The row; its ``name`` is its index label.

    Raises:
        InvalidInputError, InfeasibleDesignError: as :func:`pareto_front`; or ``objectives`` is None and the front
            remembers none.
    """
    if objectives is None:
        if OBJECTIVES not in front.attrs:
            raise InvalidInputError(
                "a knee needs the front's objectives, but this table remembers none; hand them over, or take the table "
                "that pareto_front returned"
            )
        objectives = front.attrs[OBJECTIVES]
    front = pareto_front(front, objectives)
    distance = (losses(front, objectives) ** 2).sum(axis=1)
    return front.iloc[int(np.argmin(distance))]


def losses(front: pd.DataFrame, objectives: Objectives) -> NDArray[np.float64]:
    """[rows, objectives]: how far each row is from the best, scaled as :func:`knee` says: 0 best, 1 worst."""
    directions = _directions(objectives)
    scaled = np.zeros((len(front), len(directions)))
    for place, (column, direction) in enumerate(directions.items()):
        values = front[column].to_numpy(dtype=float)
        if values.min() > 0 and values.max() > LOG_SPAN * values.min():
            values = np.log10(values)
        span = values.max() - values.min()
        if span > 0:
            scaled[:, place] = (values - values.min() if direction == "min" else values.max() - values) / span
    return scaled


def hypervolume(points: NDArray[Any], reference: Sequence[float]) -> float:
    """Area or volume that the points dominate, up to a reference point; all objectives are minimised.

    Exact for two and three objectives in O(n log n): slices along the last objective, each the area under a staircase
    of the first two (C. M. Fonseca, L. Paquete, M. López-Ibáñez, CEC 2006).

    Args:
        points: [n, 2] or [n, 3] numbers. Points that are not better than the reference in every objective, and rows
            with a NaN, add nothing.
        reference: one number an objective.

    Returns:
        The measure, in the product of the objectives' units; 0 for no points.

    Raises:
        InvalidInputError: another shape, or a point at minus infinity, or a reference that is not finite.
    """
    points = np.asarray(_matrix(points), dtype=float)
    bound = np.asarray(reference, dtype=float)
    if points.shape[1] not in (2, 3) or bound.shape != points.shape[1:]:
        raise InvalidInputError(
            "a hypervolume takes [n, 2] or [n, 3] points and one reference value an objective, but got points of shape "
            f"{points.shape} and a reference of shape {bound.shape}; choose two or three objectives"
        )
    if not np.isfinite(bound).all() or np.isneginf(points).any():
        raise InvalidInputError(
            "a hypervolume takes a finite reference and no point at minus infinity, but got the reference "
            f"{bound.tolist()} and {int(np.isneginf(points).any(axis=1).sum())} such points; leave them out"
        )
    points = points[(points < bound).all(axis=1)]
    if points.shape[1] == 2:
        points, bound = np.column_stack([points, np.zeros(len(points))]), np.append(bound, 1.0)
    end_x, end_y, end_z = bound.tolist()
    xs: list[float] = []
    ys: list[float] = []
    volume = area = below = 0.0
    for x, y, z in points[np.argsort(points[:, 2], kind="stable")].tolist():
        volume += area * (z - below)
        below = z
        area += _area_gained(xs, ys, x, y, end_x, end_y)
    return volume + area * (end_z - below)


def _area_gained(xs: list[float], ys: list[float], x: float, y: float, end_x: float, end_y: float) -> float:
    """Put (x, y) into the staircase; the area below (``end_x``, ``end_y``) that this point adds to it."""
    place = _place(xs, ys, x, y)
    if place is None:
        return 0.0
    gained, left = 0.0, x
    height = ys[place.start - 1] if place.start else end_y
    for step in range(place.start, place.stop):
        gained += (xs[step] - left) * (height - y)
        left, height = xs[step], ys[step]
    right = xs[place.stop] if place.stop < len(xs) else end_x
    gained += (right - left) * (height - y)
    xs[place], ys[place] = [x], [y]
    return gained


def _place(xs: list[float], ys: list[float], x: float, y: float) -> slice | None:
    """Where (x, y) belongs in a staircase (``xs`` ascending, ``ys`` descending): the slice of steps that it replaces.

    None where a step already has no larger x and no larger y.
    """
    after = bisect_right(xs, x)
    if after and ys[after - 1] <= y:
        return None
    stop = after
    while stop < len(xs) and ys[stop] >= y:
        stop += 1
    return slice(after, stop)


def _sweep_three(points: NDArray[Any]) -> NDArray[np.bool_]:
    """Non-dominated among distinct, lexicographically ordered points of one to three objectives."""
    padding = [np.zeros(len(points), dtype=points.dtype)] * (3 - points.shape[1])
    _, second, third = np.column_stack([*padding, points]).T
    xs: list[float] = []
    ys: list[float] = []
    front = np.zeros(len(points), dtype=bool)
    for i, (x, y) in enumerate(zip(second.tolist(), third.tolist(), strict=True)):
        place = _place(xs, ys, x, y)
        if place is not None:
            xs[place], ys[place] = [x], [y]
            front[i] = True
    return front


def _sweep_blocks(points: NDArray[Any]) -> NDArray[np.bool_]:
    """Non-dominated among distinct, lexicographically ordered points: only an earlier one can dominate a later one."""
    front = np.zeros(len(points), dtype=bool)
    rest = points[:, 1:]  # earlier points are never worse in the first objective
    for start in range(0, len(points), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(points)))
        known = rest[np.flatnonzero(front)]
        for step in range(0, len(known), _BLOCK):
            beaten = np.any(np.all(known[None, step : step + _BLOCK] <= rest[block, None], axis=2), axis=1)
            block = block[~beaten]
        no_worse = np.all(rest[block][None, :] <= rest[block][:, None], axis=2)
        front[block] = ~np.any(np.tril(no_worse, -1), axis=1)
    return front


def _matrix(points: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"points are a table of numbers [n, m] with m of at least 1, but got shape {array.shape} of {array.dtype}"
        )
    return array


def _directions(objectives: Objectives) -> dict[str, str]:
    """{column: "min" or "max"}, in order."""
    if isinstance(objectives, str):
        raise InvalidInputError(f"objectives are a list of columns, but got {objectives!r}; write [{objectives!r}]")
    pairs = dict(objectives) if isinstance(objectives, Mapping) else dict.fromkeys(objectives, "min")
    if not pairs:
        raise InvalidInputError("a front needs at least one objective, but got none; name a column to minimise")
    for column, direction in pairs.items():
        if direction not in DIRECTIONS:
            raise InvalidInputError(f'the direction of {column!r} is "min" or "max", but got {direction!r}')
    return pairs


def _costs(frame: pd.DataFrame, directions: dict[str, str]) -> NDArray[np.float64]:
    """[n, m] float: the objectives' columns, maximised ones negated."""
    if len(frame) == 0:
        raise InvalidInputError("a front needs rows, but the table has none; sweep a space that holds designs")
    known = list(frame.columns)
    costs = np.empty((len(frame), len(directions)))
    for j, (column, direction) in enumerate(directions.items()):
        if known.count(column) != 1:
            raise InvalidInputError(
                f"an objective is one column of the table, but {column!r} occurs {known.count(column)} times; "
                f"choose from {', '.join(map(str, known))}"
            )
        series = frame[column]
        if series.dtype.kind not in "iuf":
            raise InvalidInputError(
                f"an objective is a column of numbers, but {column!r} holds {series.dtype}; convert or leave it"
            )
        values = series.to_numpy(dtype=float, na_value=np.nan)
        if np.isinf(values).any():
            raise InvalidInputError(
                f"an objective is finite, but {column!r} holds {int(np.isinf(values).sum())} infinities; "
                "mark such rows as infeasible with NaN"
            )
        costs[:, j] = values if direction == "min" else -values
    return costs


def _feasible(frame: pd.DataFrame) -> NDArray[np.bool_]:
    if "feasible" not in frame.columns:
        return np.ones(len(frame), dtype=bool)
    if frame["feasible"].dtype.kind != "b":
        raise InvalidInputError(
            f"the column 'feasible' holds True or False, but it is {frame['feasible'].dtype}; convert it to bool"
        )
    return frame["feasible"].to_numpy(dtype=bool)


def _nothing_feasible(frame: pd.DataFrame) -> str:
    """Why no row can be on a front, with counts."""
    marked = int((~_feasible(frame)).sum())
    message = (
        f"a front needs a feasible row, but of {len(frame)} rows {marked} are infeasible and {len(frame) - marked} "
        "lack an objective (NaN); widen the space"
    )
    if "reason" in frame.columns:
        reasons = Counter(str(reason) for reason in frame["reason"] if isinstance(reason, str) and reason)
        if reasons:
            message += ". Reasons: " + "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return message
