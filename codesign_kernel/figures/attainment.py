"""Attainment: which results the runs of a sampler reach: half of them, the best, the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.convergence import STYLES
from codesign_kernel.figures.words import OBJECTIVES, Scale, objective, percent, scale

if TYPE_CHECKING:
    import pandas as pd


class Surface(NamedTuple):
    """The edge of what a share of the runs reaches: corners (x, y) of a staircase, in the columns' own units."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Attained(NamedTuple):
    """One sampler: what half of its runs reach, at least one, and all.

    share: of the points of the reference front, how many the median surface reaches; None without such a front.
    """

    label: str
    runs: int
    median: Surface
    best: Surface
    worst: Surface
    share: float | None

    @property
    def words(self) -> str:
        """In one line."""
        reached = "" if self.share is None else f", {percent(self.share)} of the exact front"
        return f"{self.label}: {self.runs} runs{reached}"


class AttainmentInfo(NamedTuple):
    """What the figure shows; ``exact`` is the reference front, if there is one."""

    x: str
    y: str
    scales: Mapping[str, Scale]
    samplers: tuple[Attained, ...]
    exact: Surface | None
    finding: str


def surface(fronts: Sequence[np.ndarray[Any, Any]], count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Corners of the edge of what at least ``count`` of ``fronts`` reach: an empirical attainment surface (V. Grunert
    da Fonseca, C. M. Fonseca, A. O. Hall, EMO 2001).

    Args:
        fronts: [n, 2] points each, minimised. A front reaches all that one of its points equals or dominates.

    Returns:
        x ascending and y descending; empty where no place is reached so often.
    """
    at = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    lowest = np.full((len(fronts), len(at)), np.inf)
    for row, front in zip(lowest, fronts, strict=True):
        np.minimum.at(row, np.searchsorted(at, front[:, 0]), front[:, 1])
    lowest = np.minimum.accumulate(lowest, axis=1)
    edge = np.sort(lowest, axis=0)[count - 1]
    corner = np.isfinite(edge) & np.append(True, edge[1:] < edge[:-1])
    return at[corner], edge[corner]


def attainment_info(
    fronts: Mapping[str, Sequence[pd.DataFrame]],
    x: str = "latency_ms",
    y: str = "energy_uj",
    exact: pd.DataFrame | None = None,
) -> AttainmentInfo:
    """What an attainment figure shows.

    Args:
        fronts: by label, the fronts of runs that differ in their seed.
        x, y: objective columns. Fronts for more objectives are seen in these two.
        exact: the front that there is to reach.

    Raises:
        InvalidInputError: nothing to draw, a column is missing or no objective, or more labels than styles.
    """
    if not fronts or not all(fronts.values()):
        raise InvalidInputError("an attainment figure shows one or more fronts, but got none")
    if len(fronts) > len(STYLES):
        raise InvalidInputError(f"a figure tells at most {len(STYLES)} samplers apart, but got {len(fronts)}")
    tables = [table for several in fronts.values() for table in several] + ([] if exact is None else [exact])
    for column in (x, y):
        objective(column)
        if any(column not in table.columns or not len(table) for table in tables):
            raise InvalidInputError(f"every front has rows with a column {column!r}, but one has not")
    signs = np.array([-1.0 if objective(column).better == "higher" else 1.0 for column in (x, y)])

    def points(table: pd.DataFrame) -> np.ndarray[Any, Any]:
        return np.asarray(table[[x, y]].to_numpy(dtype=float) * signs)

    def edge(several: Sequence[np.ndarray[Any, Any]], count: int) -> Surface:
        xs, ys = surface(several, count)
        return Surface(tuple((xs * signs[0]).tolist()), tuple((ys * signs[1]).tolist()))

    goal = None if exact is None else np.column_stack(surface([points(exact)], 1))
    samplers = []
    for label, several in fronts.items():
        runs = [points(table) for table in several]
        half = (len(runs) + 1) // 2
        share = None if goal is None else _reached(goal, np.column_stack(surface(runs, half)))
        samplers.append(Attained(label, len(runs), edge(runs, half), edge(runs, 1), edge(runs, len(runs)), share))
    shown = {column: [value for table in tables for value in table[column]] for column in (x, y)}
    return AttainmentInfo(
        x=x,
        y=y,
        scales={column: scale(column, values) for column, values in shown.items()},
        samplers=tuple(samplers),
        exact=None if exact is None else edge([points(exact)], 1),
        finding=_finding(samplers),
    )


def _reached(goal: np.ndarray[Any, Any], by: np.ndarray[Any, Any]) -> float:
    return sum(bool((by <= point).all(axis=1).any()) for point in goal) / len(goal)


def _finding(samplers: Sequence[Attained]) -> str:
    shares = {sampler.label: sampler.share for sampler in samplers if sampler.share is not None}
    if shares:
        ordered = sorted(shares, key=lambda label: -shares[label])
        first, *others = [f"{percent(shares[label])}" for label in ordered]
        return _list_of(
            [f"{ordered[0]} reaches {first} of the exact front"]
            + [f"{n} {t}" for n, t in zip(ordered[1:], others, strict=True)]
        )
    one = samplers[0]
    if len(samplers) == 1:
        return f"What the {one.runs} runs of {one.label} reach" if one.runs > 1 else f"What {one.label} reaches"
    return f"What half the runs of {', '.join(s.label for s in samplers[:-1])} and {samplers[-1].label} reach"


def _list_of(told: Sequence[str]) -> str:
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def plot_attainment(
    fronts: Mapping[str, Sequence[pd.DataFrame]],
    x: str = "latency_ms",
    y: str = "energy_uj",
    exact: pd.DataFrame | None = None,
) -> go.Figure:
    """What half the runs of each sampler reach as a line, from the best to the worst run as a band, and the exact front
    as points. Arguments and errors: :func:`attainment_info`."""
    return attainment_figure(attainment_info(fronts, x, y, exact))


def attainment_figure(info: AttainmentInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_attainment`."""
    fx, fy = (info.scales[column].factor for column in (info.x, info.y))
    far = _far(info)
    traces: list[Any] = []
    for sampler, style in zip(info.samplers, STYLES, strict=False):
        traces += _traces(sampler, (info.x, info.y), style, far, (fx, fy))
    if info.exact is not None:
        traces.append(
            go.Scatter(
                x=theme.lists([value * fx for value in info.exact.x]),
                y=theme.lists([value * fy for value in info.exact.y]),
                mode="markers",
                name="exact front",
                hoverinfo="skip",
                marker={"color": theme.LIGHT["text"], "size": 6, "symbol": "circle"},
            )
        )
    figure = go.Figure(traces)
    every = [s for sampler in info.samplers for s in (sampler.best, sampler.worst)] + (
        [info.exact] if info.exact else []
    )
    values = {info.x: [v * fx for s in every for v in s.x], info.y: [v * fy for s in every for v in s.y]}
    figure.update_layout(
        xaxis=_axis(info.scales[info.x], values[info.x]),
        yaxis=_axis(info.scales[info.y], values[info.y]),
        showlegend=True,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    )
    names = [OBJECTIVES[column].label for column in (info.x, info.y)]
    runs = max(sampler.runs for sampler in info.samplers)
    band = f" Line: what half of {runs} runs reach; band: from the best to the worst of them." if runs > 1 else ""
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"{names[0]} against {names[1].lower()} of the designs that are found.{band}",
        alt=f"{info.finding}. {'. '.join(sampler.words for sampler in info.samplers)}.",
        height=440,
        top=30,
        narrow={"height": 460, "margin.t": 54},
    )


def _axis(shown: Scale, values: list[float]) -> dict[str, Any]:
    """An axis that need not begin at zero: the corners of the staircases are what is to be told apart."""
    layout = theme.axis(shown, values, values)
    layout.pop("rangemode", None)
    return layout


def _far(info: AttainmentInfo) -> tuple[float, float]:
    """The worst of each axis: where a staircase ends that has no more corners."""
    surfaces = [surface for sampler in info.samplers for surface in (sampler.best, sampler.worst)]
    return (
        _worst(info.x, [value for surface in surfaces for value in surface.x]),
        _worst(info.y, [value for surface in surfaces for value in surface.y]),
    )


def _worst(column: str, values: list[float]) -> float:
    return min(values) if objective(column).better == "higher" else max(values)


def _traces(
    sampler: Attained, columns: tuple[str, str], style: tuple[str, str], far: tuple[float, float],
    factors: tuple[float, float],
) -> list[Any]:  # fmt: skip
    colour, dash = style
    band = []
    if sampler.runs > 1:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        best, worst = _corners(sampler.best, far, factors), _corners(sampler.worst, far, factors)
        band = [
            go.Scatter(
                x=best["x"] + worst["x"][::-1], y=best["y"] + worst["y"][::-1], mode="lines", line={"width": 0},
                fill="toself", fillcolor=f"rgba({red},{green},{blue},0.18)", name=sampler.label, showlegend=False,
                hoverinfo="skip",
            )
        ]  # fmt: skip
    told = [
        f"<b>{theme.plain(sampler.label)}</b><br>{objective(columns[0]).text(x)}, {objective(columns[1]).text(y)}"
        for x, y in zip(sampler.median.x, sampler.median.y, strict=True)
    ]
    line = go.Scatter(
        **_corners(sampler.median, far, factors), mode="lines", name=sampler.label,
        line={"color": colour, "width": 2, "dash": dash}, text=[told[0], *np.repeat(told, 2), told[-1]],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    return [*band, line]


def _corners(edge: Surface, far: tuple[float, float], factors: tuple[float, float]) -> dict[str, list[float]]:
    """Every corner of the staircase of ``edge``, inner ones too, from the upper end of the drawing to its right end."""
    xs, ys = [edge.x[0]], [far[1]]
    for x, y in zip(edge.x, edge.y, strict=True):
        xs += [x, x]
        ys += [ys[-1], y]
    xs.append(far[0])
    ys.append(ys[-1])
    return {"x": theme.lists([x * factors[0] for x in xs]), "y": theme.lists([y * factors[1] for y in ys])}
