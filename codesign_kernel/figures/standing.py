"""An exploration while it goes on: its front for two objectives, and how much of the space of compromises it covers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.searched import value_text, words_of
from codesign_kernel.figures.words import OBJECTIVES, Scale, percent, scale
from codesign_kernel.pareto import non_dominated
from codesign_kernel.units import column_word, three_digits

if TYPE_CHECKING:
    import pandas as pd

#: Designs of a front that are drawn: beyond them a point hides the next.
DRAWN = 1200
#: Objectives that are shares of 1.
_SHARES = ("accuracy", "test_accuracy")


class Found(Protocol):
    """What is drawn: a Standing, an Exploration or a CoOptimization."""

    @property
    def objectives(self) -> Mapping[str, str]: ...
    @property
    def front(self) -> pd.DataFrame: ...
    @property
    def knee(self) -> pd.Series: ...
    @property
    def space(self) -> Any: ...


class Spot(NamedTuple):
    """A design of the front: its two objectives (columns' own units), and in words."""

    x: float
    y: float
    words: str


class StandingInfo(NamedTuple):
    """What the figure of a front shows.

    x, y: columns. scales: of their axes. spots: designs of the front. edge: places in ``spots`` of those that no other
    beats in these two, by x. knee: the place of the knee. front: how many designs it has, drawn or not.
    """

    x: str
    y: str
    scales: tuple[Scale, Scale]
    spots: tuple[Spot, ...]
    edge: tuple[int, ...]
    knee: int
    front: int
    finding: str


class GrowthInfo(NamedTuple):
    """evaluations, hypervolume: the curve, hypervolume as a share (0 to 1) of the box from the best of each objective
    to the reference. gained: of the last quarter of the designs."""

    evaluations: tuple[int, ...]
    hypervolume: tuple[float, ...]
    gained: float
    finding: str


def _scale(column: str, values: Any, way: str) -> Scale:
    """The axis of ``column``, also where it is an objective of the user's own."""
    better = "higher" if way == "max" else "lower"
    if column in OBJECTIVES:
        return scale(column, values)._replace(better=better)
    if column in _SHARES:
        return Scale(column_word(column).capitalize(), 100.0, "%", False, better)
    positive = [value for value in values if value > 0]
    log = len(positive) == len(values) and max(positive) > 100 * min(positive)
    return Scale(column_word(column).capitalize(), 1.0, "", log, better)


def standing_info(found: Found, x: str, y: str) -> StandingInfo:
    """What the front of ``found`` shows of the objectives ``x`` and ``y``.

    Raises:
        InvalidInputError: they are not two of its objectives, or the front is empty.
    """
    ways = found.objectives
    if x == y or x not in ways or y not in ways:
        raise InvalidInputError(f"a front is drawn for two of {', '.join(ways)}, but got {x!r} and {y!r}")
    front = found.front
    if not len(front):
        raise InvalidInputError("a front is drawn once it has a design, but no design is legal so far")
    whole = front[[x, y]].to_numpy(dtype=float)
    signs = np.array([1.0 if ways[name] == "min" else -1.0 for name in (x, y)])
    knee_at = int(front.index.get_loc(found.knee.name))
    edge = non_dominated(whole * signs)
    some = np.linspace(0, len(front) - 1, min(len(front), DRAWN)).astype(int)
    kept = np.unique(np.concatenate([some, [knee_at], np.flatnonzero(edge)]))
    rows = front.iloc[kept].to_dict("records")
    spots = tuple(Spot(float(row[x]), float(row[y]), _words(row, found)) for row in rows)
    order = sorted((place for place, at in enumerate(kept.tolist()) if edge[at]), key=lambda p: spots[p][:2])
    knee_place = int(np.searchsorted(kept, knee_at))
    best = [min, max][ways[x] == "max"](spot.x for spot in spots), [min, max][ways[y] == "max"](s.y for s in spots)
    kind = "pair" if "network" in front else "design"
    one = f"1 {kind} is" if len(front) == 1 else f"{len(front):,} {kind}s are"
    return StandingInfo(
        x, y, (_scale(x, whole[:, 0], ways[x]), _scale(y, whole[:, 1], ways[y])), spots, tuple(order), knee_place,
        len(front), f"{one} on the front: {_best(x, ways[x])} {value_text(x, best[0])}, {_best(y, ways[y])} "
        f"{value_text(y, best[1])}",
    )  # fmt: skip


def _best(column: str, way: str) -> str:
    return f"{'least' if way == 'min' else 'most'} {column_word(column)}"


def _words(row: Mapping[Any, Any], found: Found) -> str:
    return f"{words_of(row, found.space)}: {', '.join(value_text(name, row[name]) for name in found.objectives)}"


def plot_standing(found: Found, x: str, y: str) -> go.Figure:
    """The front for two objectives, its knee labelled; see :func:`standing_info`."""
    return standing_figure(standing_info(found, x, y))


def standing_figure(info: StandingInfo) -> go.Figure:
    """The figure for ``info``: what no other beats in these two as a line, the rest of the front quiet."""
    across, up = info.scales
    edge = [info.spots[place] for place in info.edge]
    others = [spot for place, spot in enumerate(info.spots) if place not in {*info.edge}]
    figure = go.Figure()
    if others:
        figure.add_scatter(
            **_at(others, across, up), mode="markers", name="others", hovertemplate="%{text}<extra></extra>",
            marker={"color": theme.LIGHT["quiet"], "size": 5},
        )  # fmt: skip
    figure.add_scatter(
        **_at(edge, across, up), mode="lines+markers", name="front of these two",
        hovertemplate="%{text}<extra></extra>",
        line={"color": theme.LIGHT["muted"], "width": 1.5},
        marker={"size": 8, "color": theme.LIGHT["text"], "line": {"color": theme.LIGHT["ground"], "width": 1}},
    )  # fmt: skip
    knee = info.spots[info.knee]
    figure.add_scatter(
        **_at([knee], across, up), mode="markers", name="knee", hovertemplate="%{text}<extra></extra>",
        marker={
            "symbol": "diamond-open", "size": 15, "color": theme.LIGHT["text"],
            "line": {"color": theme.LIGHT["text"], "width": 3},
        },
    )  # fmt: skip
    label = {
        "text": "<b>knee</b>", "x": _place(knee.x, across), "y": _place(knee.y, up), "showarrow": False, "xshift": 12,
        "yshift": 12, "xanchor": "left", "font": {"color": theme.LIGHT["text"]},
    }  # fmt: skip
    figure.update_layout(
        xaxis=_axis(info.x, across, [spot.x * across.factor for spot in info.spots]),
        yaxis=_axis(info.y, up, [spot.y * up.factor for spot in info.spots]),
        annotations=[label],
        showlegend=False,
    )
    caption = "" if len(info.spots) == info.front else f"{len(info.spots):,} of {info.front:,} designs are drawn."
    quiet = " Quiet: designs that pay with another objective." if others else ""
    ends = f"It runs from {edge[0].words} to {edge[-1].words}." if len(edge) > 1 else ""
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"{up.label} against {across.label.lower()}; the line joins those that no other beats in both.{quiet}",
        caption=caption,
        alt=f"{info.finding}. {ends} Knee: {knee.words}.",
        height=380,
        narrow={"height": 340},
    )


def _axis(column: str, shown: Scale, values: list[float]) -> dict[str, Any]:
    """From nought for what is paid; accuracies lie close to one another, and have the axis to themselves."""
    found = theme.axis(shown, values)
    if column in _SHARES:
        low, high = min(values), max(values)
        margin = max(0.5, 0.15 * (high - low))
        found |= {"range": [low - margin, min(100.5, high + margin)]}
    return found


def _place(value: float, scale_: Scale) -> float:
    """Where an annotation stands: Plotly takes the logarithm on a log axis."""
    shown = value * scale_.factor
    return float(np.log10(shown)) if scale_.log and shown > 0 else shown


def _at(spots: list[Spot], across: Scale, up: Scale) -> dict[str, Any]:
    return {
        "x": theme.lists([spot.x * across.factor for spot in spots]),
        "y": theme.lists([spot.y * up.factor for spot in spots]),
        "text": [theme.plain(spot.words) for spot in spots],
    }


def growth_info(history: pd.DataFrame) -> GrowthInfo:
    """What a history (columns ``evaluations`` and ``hypervolume``) shows.

    Raises:
        InvalidInputError: it has fewer than two rows, and no line.
    """
    if len(history) < 2:
        raise InvalidInputError(f"growth needs two looks, but this history has {len(history)}")
    counts = tuple(int(count) for count in history["evaluations"])
    values = tuple(float(value) for value in history["hypervolume"])
    then = float(np.interp(0.75 * counts[-1], counts, values))
    gained = max(0.0, values[-1] - then)
    went = f"the last quarter of the designs added {three_digits(100 * gained)} points" if gained >= 5e-4 else ""
    finding = f"The front covers {percent(values[-1])}; {went or 'it hardly grew in the last quarter of the designs'}"
    return GrowthInfo(counts, values, gained, finding)


def plot_growth(history: pd.DataFrame) -> go.Figure:
    """The hypervolume over the designs looked at; see :func:`growth_info`."""
    return growth_figure(growth_info(history))


def growth_figure(info: GrowthInfo) -> go.Figure:
    """The figure for ``info``: a line of steps, since a front grows by designs."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(info.evaluations),
        y=theme.lists([100 * value for value in info.hypervolume]),
        mode="lines",
        name="hypervolume",
        line={"color": theme.LIGHT["text"], "width": 2, "shape": "hv"},
        hovertemplate="%{y:.3g} % after %{x:,} designs<extra></extra>",
    )
    low, high = 100 * min(info.hypervolume), 100 * max(info.hypervolume)
    margin = max(0.5, 0.08 * (high - low))
    figure.update_layout(
        xaxis={"title": {"text": "Designs looked at"}, "range": [0, 1.02 * info.evaluations[-1]]},
        yaxis={
            "title": {"text": "Hypervolume (%)"},
            "range": [max(0.0, low - margin), min(101.0, high + margin)],
        },
        showlegend=False,
    )
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="Share of the box from the best of each objective to 10\u00a0% behind the worst; higher is better.",
        alt=f"{info.finding}, after {info.evaluations[-1]:,} designs.",
        height=220,
        narrow={"height": 220},
    )
