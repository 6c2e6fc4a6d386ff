"""What a Pareto figure shows: the front, what it beats, and where the knee and the chosen design lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.words import PARAMETERS, Scale, design_words, objective, percent, scale, times

if TYPE_CHECKING:
    import pandas as pd

#: A row of a sweep: a Series, a dict, anything that is read by column.
Row = Mapping[Any, Any]


class Point(NamedTuple):
    """One design: objectives in the units of the sweep's columns, design and results in words, index in the sweep."""

    x: float
    y: float
    third: float | None
    design: str
    results: str
    key: Any = None

    @property
    def words(self) -> str:
        """Design and results in one line."""
        return f"{self.design}: {self.results}"

    @property
    def values(self) -> tuple[float, ...]:
        """The objectives, two or three."""
        return (self.x, self.y) if self.third is None else (self.x, self.y, self.third)


class Reach(NamedTuple):
    """What one objective spans over several sweeps, so that their pictures can share axes.

    low, high: of all feasible designs. front_low, front_high: of the fronts.
    """

    low: float
    high: float
    front_low: float
    front_high: float


class ParetoInfo(NamedTuple):
    """What a Pareto figure shows. Points are in the columns' own units; scales turn them into the axes'.

    told: the parameters that differ between designs, which describe them. dominated, infeasible: how many there are.
    reach: by objective, what the axes span whatever is drawn. given: in words, what holds for all designs here.
    """

    x: str
    y: str
    third: str | None
    scales: Mapping[str, Scale]
    front: tuple[Point, ...]
    cloud: tuple[Point, ...]
    dominated: int
    infeasible: int
    knee: Point | None
    chosen: Point | None
    finding: str
    told: tuple[str, ...] = ()
    reach: Mapping[str, Reach] = MappingProxyType({})
    given: str = ""

    @property
    def caption(self) -> str:
        """What was left out of the drawing."""
        parts = []
        if len(self.cloud) < self.dominated:
            parts.append(f"{len(self.cloud):,} of {self.dominated:,} other designs are drawn (a fixed random sample).")
        if self.infeasible:
            who, verb = ("1 design", "is") if self.infeasible == 1 else (f"{self.infeasible:,} designs", "are")
            parts.append(f"{who} that cannot run the network {verb} left out.")
        return " ".join(parts)


def _check(frame: pd.DataFrame, front: pd.DataFrame, columns: list[str]) -> None:
    for column in columns:
        objective(column)
        missing = [name for name, table in (("frame", frame), ("front", front)) if column not in table.columns]
        if missing:
            raise InvalidInputError(
                f"the {missing[0]} holds a column for each objective, but {column!r} is not among them"
            )
    if front.empty:
        raise InvalidInputError("a front holds at least one design, but this one is empty; widen the design space")


def _feasible(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["feasible"].astype(bool)] if "feasible" in frame.columns else frame


def _points(table: pd.DataFrame, x: str, y: str, third: str | None, told: tuple[str, ...]) -> tuple[Point, ...]:
    rows = zip(table.index.tolist(), table.to_dict("records"), strict=True)
    return tuple(_point(row, x, y, third, told, key) for key, row in rows)


def _point(row: Row, x: str, y: str, third: str | None, told: tuple[str, ...], key: Any = None) -> Point:
    results = ", ".join(objective(name).text(row[name]) for name in (x, y, third) if name)
    depth = float(row[third]) if third else None
    return Point(float(row[x]), float(row[y]), depth, design_words(row, told), results, key)


def _ratios(front: tuple[Point, ...], knee: Point, columns: tuple[str, ...]) -> str:
    """How far the knee is from the best of each objective: ``1.4 × the least latency and the least area``."""
    parts = []
    for i, column in enumerate(columns):
        least = min(point.values[i] for point in front)
        much = f"{times(knee.values[i] / least)} " if knee.values[i] >= 1.05 * least > 0 else ""
        parts.append(f"{much}the least {objective(column).label.lower()}")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _finding(front: tuple[Point, ...], knee: Point | None, x: str, y: str, third: str | None, others: int) -> str:
    if len(front) == 1:
        beaten = {0: "One design, and nothing to compare it with", 1: "One design beats the only other"}
        return beaten.get(others, f"One design beats all {others:,} others")
    choice = f"{len(front):,} of {len(front) + others:,} designs are worth choosing from"
    if knee is None or any(objective(name).better == "higher" for name in (x, y, third) if name):
        return choice
    if third:
        return f"The knee takes {_ratios(front, knee, (x, y, third))}"
    leanest = min(front, key=lambda p: (p.y, p.x))
    less, more = objective(x).label.lower(), objective(y).label.lower()
    speed, cost = leanest.x / knee.x, knee.y / leanest.y - 1
    if speed < 1.05:
        return f"The knee takes {_ratios(front, knee, (x, y))}"
    price = f"for {percent(cost)} more {more}" if cost >= 0.005 else f"at the same {more}"
    return f"The knee has {times(speed)} less {less} than the design of least {more}, {price}"


def pareto_info(
    frame: pd.DataFrame,
    front: pd.DataFrame,
    x: str = "latency_ms",
    y: str = "energy_uj",
    third: str | None = None,
    chosen: Row | None = None,
    knee: Row | None = None,
    cloud: int = 4000,
    reach: Mapping[str, Reach] | None = None,
    given: str = "",
) -> ParetoInfo:
    """What a Pareto figure of a sweep shows.

    Args:
        frame: the sweep; infeasible rows are left out and counted.
        front: its non-dominated rows, with the frame's index.
        x, y, third: objective columns.
        chosen, knee: rows (Series or mapping) to label.
        cloud: at most so many dominated designs are kept, a random sample with a fixed seed: the same designs in all
            sweeps of one space, as far as they are dominated there.
        reach: of each objective over all the sweeps whose pictures share their axes, see :func:`reach_of`.
        given: what holds for all designs here, such as ``external bandwidth 3.2 GB/s``.

    Raises:
        InvalidInputError: a column is missing or unknown, or the front is empty.
    """
    columns = [name for name in (x, y, third) if name]
    _check(frame, front, columns)
    feasible = _feasible(frame)
    rest = feasible.drop(index=front.index, errors="ignore")
    kept = rest
    if len(rest) > cloud:
        order = np.random.default_rng(0).permutation(len(frame))
        among = order[frame.index.get_indexer(rest.index)]
        kept = rest.iloc[np.sort(np.argsort(among)[:cloud])]
    told = tuple(name for name in PARAMETERS if name in frame.columns and frame[name].nunique() > 1)
    points = _points(front.sort_values([x, y]), x, y, third, told)
    labelled = None if knee is None else _point(knee, x, y, third, told)
    picked = None if chosen is None else _point(chosen, x, y, third, told)
    mine = {} if chosen is None else {name: [float(chosen[name])] for name in columns}
    return ParetoInfo(
        x=x,
        y=y,
        third=third,
        scales={
            name: scale(name, reach[name][:2] if reach else [*front[name], *kept[name], *mine.get(name, ())])
            for name in columns
        },
        front=points,
        cloud=_points(kept, x, y, third, told),
        dominated=len(rest),
        infeasible=len(frame) - len(feasible),
        knee=labelled,
        chosen=picked,
        finding=_finding(points, labelled, x, y, third, len(rest)),
        told=told,
        reach=reach or {},
        given=given,
    )


def reach_of(sweeps: Iterable[tuple[pd.DataFrame, pd.DataFrame]], columns: Iterable[str]) -> dict[str, Reach]:
    """What ``columns`` span over ``sweeps``, pairs of a frame and its front; nothing without sweeps."""
    pairs = [(_feasible(frame), front) for frame, front in sweeps]
    if not pairs:
        return {}
    return {
        name: Reach(
            min(float(frame[name].min()) for frame, _ in pairs),
            max(float(frame[name].max()) for frame, _ in pairs),
            min(float(front[name].min()) for _, front in pairs),
            max(float(front[name].max()) for _, front in pairs),
        )
        for name in columns
    }


def with_chosen(info: ParetoInfo, chosen: Row | None) -> ParetoInfo:
    """``info`` with another design chosen: any mapping with its parameters and objectives, from the sweep or not."""
    return info._replace(chosen=None if chosen is None else _point(chosen, info.x, info.y, info.third, info.told))
