"""Convergence: how much of the best front is still missing, against the designs looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent

if TYPE_CHECKING:
    import pandas as pd

#: The least share that is drawn: what is nearer to the whole than this lies on the lower edge.
LEAST = 1e-4
#: A front that lacks no more than this is called found.
FOUND = 0.01
#: Colour and dash of each sampler, in the order in which they come.
STYLES = tuple(
    zip(
        [*[colour for name, colour in theme.CATEGORY.items() if name != "idle"], theme.LIGHT["muted"]],
        ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot"),
        strict=True,
    )
)
#: Distance of two labels, as a share of the height of the axes.
_APART = 0.065


class Curve(NamedTuple):
    """One sampler: the share that is missing (0 to 1) after so many designs; median, least and most of its runs."""

    label: str
    runs: int
    evaluations: tuple[float, ...]
    median: tuple[float, ...]
    least: tuple[float, ...]
    most: tuple[float, ...]

    @property
    def found(self) -> float | None:
        """Designs after which the median lacks no more than ``FOUND``; None if it never does."""
        return next((n for n, gap in zip(self.evaluations, self.median, strict=True) if gap <= FOUND), None)

    @property
    def words(self) -> str:
        """The curve in one line."""
        end = f"{percent(self.median[-1])} missing after {self.evaluations[-1]:,.0f} designs"
        return f"{self.label}: {end}"


class ConvergenceInfo(NamedTuple):
    """What the figure shows. whole: in words, what is 100 %."""

    curves: tuple[Curve, ...]
    whole: str
    finding: str
    clipped: bool


def convergence_info(histories: Mapping[str, Sequence[pd.DataFrame]], whole: str = "the best front") -> ConvergenceInfo:
    """What a convergence figure shows.

    Args:
        histories: by label, the histories of runs that differ in their seed, as
            :func:`codesign_kernel.explore.histories` gives them: columns ``evaluations`` and ``hypervolume``, 1 being
            the whole.
        whole: in words, what the whole is.

    Raises:
        InvalidInputError: there is nothing to draw, a table lacks a column, or there are more labels than styles.
    """
    if not histories or not all(histories.values()):
        raise InvalidInputError("a convergence figure shows one or more histories, but got none")
    if len(histories) > len(STYLES):
        raise InvalidInputError(f"a figure tells at most {len(STYLES)} samplers apart, but got {len(histories)}")
    for label, tables in histories.items():
        for table in tables:
            missing = [name for name in ("evaluations", "hypervolume") if name not in table.columns]
            if missing or not len(table):
                raise InvalidInputError(
                    f"a history has rows with evaluations and hypervolume, but that of {label!r} lacks "
                    f"{' and '.join(missing) or 'rows'}"
                )
    curves = tuple(_curve(label, tables) for label, tables in histories.items())
    clipped = any(value < LEAST for curve in curves for value in curve.least)
    return ConvergenceInfo(curves, whole, _finding(curves, whole), clipped)


def _curve(label: str, tables: Sequence[pd.DataFrame]) -> Curve:
    at = np.unique(np.concatenate([table["evaluations"].to_numpy(dtype=float) for table in tables]))
    # where every run has begun and none has ended
    at = at[(at >= max(t["evaluations"].min() for t in tables)) & (at <= min(t["evaluations"].max() for t in tables))]
    gaps = []
    for table in tables:
        steps, values = (table[name].to_numpy(dtype=float) for name in ("evaluations", "hypervolume"))
        gaps.append(1.0 - values[np.searchsorted(steps, at, side="right") - 1])
    several = np.maximum(0.0, np.array(gaps))
    median, least, most = np.median(several, axis=0), several.min(axis=0), several.max(axis=0)
    return Curve(label, len(tables), *(tuple(values.tolist()) for values in (at, median, least, most)))


def _finding(curves: tuple[Curve, ...], whole: str) -> str:
    reached = {curve.label: curve.found for curve in curves if curve.found is not None}
    if not reached:
        best = min(curves, key=lambda curve: curve.median[-1])
        return f"After {best.evaluations[-1]:,.0f} designs {best.label} lacks {percent(best.median[-1])} of {whole}"
    first = min(reached, key=lambda label: reached[label] or 0.0)
    after = f"{first} has {percent(1 - FOUND)} of {whole} after {reached[first]:,.0f} designs"
    others = [curve for curve in curves if curve.label != first]
    if not others:
        return after
    never = [curve.label for curve in others if curve.label not in reached]
    if never:
        return f"{after}; not yet there: {', '.join(never)}"
    slowest = max(reached, key=lambda label: reached[label] or 0.0)
    return f"{after}, {slowest} after {reached[slowest]:,.0f}" if slowest != first else f"{after}, and so have all"


def plot_convergence(histories: Mapping[str, Sequence[pd.DataFrame]], whole: str = "the best front") -> go.Figure:
    """The share of the hypervolume that is missing against the designs looked at: the median of the runs as a line,
    all of them as a band. Arguments and errors: :func:`convergence_info`."""
    return convergence_figure(convergence_info(histories, whole))


def convergence_figure(info: ConvergenceInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_convergence`."""
    traces: list[Any] = []
    for curve, (colour, dash) in zip(info.curves, STYLES, strict=False):
        traces += _traces(curve, colour, dash)
    tops = [value for curve in info.curves for value in curve.most]
    ends = [n for curve in info.curves for n in curve.evaluations]
    low, high = math.log10(100 * LEAST), math.log10(100 * min(1.0, max(*tops, 10 * LEAST)) * 1.2)
    decades = range(math.floor(low), math.ceil(high) + 1)
    figure = go.Figure(traces)
    wide = max(ends) > 100 * min(ends)
    figure.update_layout(
        xaxis={
            "title": {"text": f"Designs looked at{' (log scale)' if wide else ''}"},
            "type": "log" if wide else "linear",
        },
        yaxis={
            "title": {"text": "Hypervolume missing (%, log scale), lower is better"},
            "type": "log",
            "range": [low - 0.08, high],
            "tickvals": [10.0**decade for decade in decades],
            "ticktext": [f"{10.0**decade:g}" for decade in decades],
        },
        annotations=_labels(info, low - 0.08, high, wide),
        showlegend=False,
        hovermode="closest",
    )
    runs = max(curve.runs for curve in info.curves)
    several = f"; line: median of {runs} runs, band: all of them" if runs > 1 else ""
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"Share of the hypervolume of {info.whole} that is still missing{several}.",
        caption=f"What lacks less than {100 * LEAST:g} % is drawn at {100 * LEAST:g} %." if info.clipped else "",
        alt=f"{info.finding}. {'. '.join(curve.words for curve in info.curves)}.",
        height=420,
    )


def _shown(values: Sequence[float]) -> list[float]:
    return theme.lists([100 * max(LEAST, value) for value in values])


def _traces(curve: Curve, colour: str, dash: str) -> list[Any]:
    x = theme.lists(curve.evaluations)
    common = {"x": x, "name": curve.label, "hoverinfo": "skip", "line_shape": "hv"}
    band = []
    if curve.runs > 1:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        band = [
            go.Scatter(**common, y=_shown(curve.least), mode="lines", line={"width": 0}),
            go.Scatter(
                **common, y=_shown(curve.most), mode="lines", line={"width": 0}, fill="tonexty",
                fillcolor=f"rgba({red},{green},{blue},0.15)",
            ),
        ]  # fmt: skip
    told = [
        f"<b>{theme.plain(curve.label)}</b><br>{percent(gap)} missing after {n:,.0f} designs"
        for n, gap in zip(curve.evaluations, curve.median, strict=True)
    ]
    alone = len(x) == 1
    line = go.Scatter(
        x=x, y=_shown(curve.median), name=curve.label, mode="markers" if alone else "lines", line_shape="hv",
        line={"color": colour, "width": 2, "dash": dash}, marker={"color": colour, "size": 9, "symbol": "diamond"},
        text=told, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    return [*band, line]


def _labels(info: ConvergenceInfo, low: float, high: float, log: bool) -> list[dict[str, Any]]:
    """A name at the end of each line, moved apart where they would cover one another."""
    ends = sorted(
        ((math.log10(100 * max(LEAST, curve.median[-1])) - low) / (high - low), curve.evaluations[-1], curve.label)
        for curve in info.curves
    )
    labels, at = [], -1.0
    for height, end, label in ends:
        at = max(height, at + _APART)
        labels.append(
            {
                "text": f"<b>{theme.plain(label)}</b>",
                "x": math.log10(end) if log else end,
                "xref": "x",
                "xanchor": "left",
                "xshift": 6,
                "y": at,
                "yref": "paper",
                "yanchor": "middle",
                "showarrow": False,
                "font": {"color": theme.LIGHT["text"], "size": 13},
            }
        )
    return labels
