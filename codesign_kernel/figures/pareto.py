"""The Pareto front: which designs are worth choosing from, and where the chosen one lies."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from codesign_kernel.figures import theme
from codesign_kernel.figures.front import ParetoInfo, Point, Row, pareto_info
from codesign_kernel.figures.words import OBJECTIVES, Scale, objective

if TYPE_CHECKING:
    import pandas as pd


def moving_parts(info: ParetoInfo) -> dict[str, Any]:
    """What of :func:`pareto_figure` follows the chosen design: ``data``, traces by ``meta``; ``layout``, the axes."""
    panels = [("y", "", info.y), *([("third", "2", info.third)] if info.third else [])]
    layout: dict[str, Any] = {}
    for _, n, column in panels:
        layout |= {f"xaxis{n}": _axis(info, info.x), f"yaxis{n}": _axis(info, column)}
    return {
        "data": {t.meta: t.to_plotly_json() for pick, n, _ in panels for t in marks(info, pick, n)},
        "layout": layout,
    }


#: Characters in a line of a hover label.
_HOVER = 44


class _Panel(NamedTuple):
    """One pair of objectives: index of the vertical one in a Point, and the axes it is drawn on."""

    x: str
    y: str
    pick: str
    shade: str | None
    axes: str


def plot_pareto(
    frame: pd.DataFrame,
    front: pd.DataFrame,
    x: str = "latency_ms",
    y: str = "energy_uj",
    third: str | None = None,
    chosen: Row | None = None,
    knee: Row | None = None,
    cloud: int = 4000,
) -> go.Figure:
    """The front as a line with marked points, the dominated designs quiet behind it, knee and chosen design labelled.

    With a ``third`` objective there are two panels, ``x`` against ``y`` and ``x`` against ``third``; each colours the
    front by the objective that it does not show. Arguments and errors: :func:`pareto_info`.
    """
    return pareto_figure(pareto_info(frame, front, x, y, third, chosen, knee, cloud))


def pareto_figure(info: ParetoInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_pareto`."""
    panels = [_Panel(info.x, info.y, "y", info.third, "")]
    if info.third:
        panels.append(_Panel(info.x, info.third, "third", info.y, "2"))
    layout: dict[str, Any] = {}
    for panel in panels:
        layout |= _layout(info, panel)
    narrow: dict[str, Any] = {"height": 420}
    if info.third:
        layout["xaxis"]["domain"] = [0, 0.46]
        layout["xaxis2"] |= {"domain": [0.56, 1], "anchor": "y2"}
        layout["yaxis2"]["anchor"] = "x2"
        narrow = {
            "height": 860,
            "xaxis.domain": [0, 1],
            "xaxis2.domain": [0, 1],
            "yaxis.domain": [0.6, 1],
            "yaxis2.domain": [0, 0.4],
        }
        for axis, top in (("coloraxis", 1.05), ("coloraxis2", 0.46)):
            narrow |= {f"{axis}.colorbar.x": 0, f"{axis}.colorbar.len": 1, f"{axis}.colorbar.y": top}
    names = [OBJECTIVES[name].label.lower() for name in (info.y, info.third) if name]
    drawn = f"{OBJECTIVES[info.x].label} against {' and '.join(names)} of {info.dominated + len(info.front):,} designs"
    if info.given:
        drawn = f"At {info.given}: {drawn[:1].lower()}{drawn[1:]}"
    line = (
        "the line joins those that no other beats"
        if not info.third
        else "coloured: those that no other beats in all three"
    )
    # one dict, so that Plotly checks every property once: a page draws this anew while a slider moves
    figure = go.Figure({"data": [trace for panel in panels for trace in _traces(info, panel)], "layout": layout})
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"{drawn}; {line}.",
        caption=info.caption,
        alt=_alt(info),
        height=460,
        narrow=narrow,
        top=60 if info.third else 16,
    )


def _alt(info: ParetoInfo) -> str:
    ends = (info.front[0], info.front[-1])
    at = f", at {info.given}," if info.given else ""
    text = f"{info.finding}. The front of {len(info.front)} designs{at} runs from {ends[0].words} to {ends[1].words}."
    for name, point in (("Knee", info.knee), ("Chosen", info.chosen)):
        if point:
            text += f" {name}: {point.words}."
    return text


def _xy(info: ParetoInfo, panel: _Panel, points: tuple[Point, ...]) -> dict[str, Any]:
    fx, fy = info.scales[panel.x].factor, info.scales[panel.y].factor
    return {
        "type": "scatter",
        "x": theme.lists([p.x * fx for p in points]),
        "y": theme.lists([getattr(p, panel.pick) * fy for p in points]),
        "xaxis": f"x{panel.axes}",
        "yaxis": f"y{panel.axes}",
        "showlegend": False,
    }


def _told(points: tuple[Point, ...]) -> dict[str, Any]:
    return {"text": [_hover(p) for p in points], "hovertemplate": "%{text}<extra></extra>"}


def _hover(point: Point) -> str:
    """The design in words and its results, in lines that fit a phone."""
    return f"{_lines(point.design)}<br><b>{point.results}</b>"


@lru_cache(maxsize=8192)
def _lines(design: str) -> str:
    # the same designs are told again and again where a picture moves
    return "<br>".join(theme.wrap(design, _HOVER))


def _best_of_two(info: ParetoInfo, panel: _Panel) -> tuple[Point, ...]:
    """The points of the front that no other beats in these two objectives alone, along the horizontal axis."""
    right, up = (-1 if objective(column).better == "higher" else 1 for column in (panel.x, panel.y))
    costs = sorted(((right * p.x, up * getattr(p, panel.pick), i) for i, p in enumerate(info.front)))
    kept: list[Point] = []
    least = float("inf")
    for _, cost, i in costs:
        if cost < least:
            kept.append(info.front[i])
            least = cost
    return tuple(kept)


def _traces(info: ParetoInfo, panel: _Panel) -> list[Any]:
    n = panel.axes
    marker: dict[str, Any] = {
        "size": 8,
        "color": theme.LIGHT["text"],
        "line": {"color": theme.LIGHT["ground"], "width": 1},
    }
    if panel.shade:
        which = "third" if panel.shade == info.third else "y"
        values = theme.lists([getattr(p, which) * info.scales[panel.shade].factor for p in info.front])
        marker |= {"color": values, "coloraxis": f"coloraxis{n}", "line": {"color": theme.LIGHT["muted"], "width": 1}}
    return [
        {
            **_xy(info, panel, info.cloud),
            **_told(info.cloud),
            "mode": "markers",
            "name": "others",
            "marker": {"color": theme.LIGHT["quiet"], "size": 4, "opacity": 0.7},
        },
        {
            **_xy(info, panel, _best_of_two(info, panel)),
            "mode": "lines",
            "name": "front",
            "line": {"color": theme.LIGHT["muted"], "width": 1.5},
            "hoverinfo": "skip",
        },
        {**_xy(info, panel, info.front), **_told(info.front), "mode": "markers", "name": "front", "marker": marker},
        *marks(info, panel.pick, n),
    ]


def _layout(info: ParetoInfo, panel: _Panel) -> dict[str, Any]:
    n = panel.axes
    layout = {f"xaxis{n}": _axis(info, panel.x), f"yaxis{n}": _axis(info, panel.y)}
    if panel.shade:
        layout[f"coloraxis{n}"] = _coloraxis(info, panel.shade, bool(n))
    return layout


def _axis(info: ParetoInfo, column: str) -> dict[str, Any]:
    pick = {info.x: "x", info.y: "y", info.third: "third"}[column]
    shown = info.scales[column]
    marked = [getattr(point, pick) * shown.factor for point in (info.knee, info.chosen) if point]
    if column in info.reach:
        return _steady(shown, [*marked, *(value * shown.factor for value in info.reach[column][:2])])
    matter = [*(getattr(point, pick) * shown.factor for point in info.front), *marked]
    return theme.axis(shown, [*matter, *(getattr(point, pick) * shown.factor for point in info.cloud)], matter)


def _steady(shown: Scale, values: list[float]) -> dict[str, Any]:
    """An axis that spans ``values`` whatever else is drawn on it."""
    layout = theme.axis(shown, values, values)
    layout.pop("rangemode", None)
    if not shown.log:
        return layout | {"range": [0, 1.05 * max(values)]}
    low, high = (math.log10(value) for value in (min(v for v in values if v > 0), max(values)))
    edge = 0.04 * (high - low)
    # few ticks: beside another panel there is no room for more, and Plotly would turn their labels
    ticks = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in (1, 3)]
    return layout | {
        "range": [low - edge, high + edge],
        "tickvals": ticks,
        "ticktext": [f"{tick:,.10g}" for tick in ticks],
    }


def _coloraxis(info: ParetoInfo, column: str, second: bool) -> dict[str, Any]:
    shade = info.scales[column]
    ends = theme.lists([value * shade.factor for value in info.reach[column][2:]]) if column in info.reach else []
    title = {
        "text": f"{shade.label} ({shade.unit})",
        "side": "top",
        "font": {"size": 13, "color": theme.LIGHT["muted"]},
    }
    return {
        "colorscale": theme.VIRIDIS,
        **dict(zip(("cmin", "cmax"), ends, strict=False)),
        "colorbar": {
            "orientation": "h",
            "thickness": 8,
            "len": 0.44,
            "x": 0.56 if second else 0,
            "xanchor": "left",
            "y": 1.12,
            "yanchor": "middle",
            "title": title,
            "outlinewidth": 0,
            "tickfont": {"color": theme.LIGHT["muted"]},
            "nticks": 5,
            "xpad": 0,
        },
    }


def marks(info: ParetoInfo, pick: str = "y", axes: str = "") -> list[go.Scatter]:
    """The traces that label knee and chosen design in one panel; their ``meta`` lets a page move them alone."""
    panel = _Panel(info.x, info.y if pick == "y" else str(info.third), pick, None, axes)
    same = info.knee is not None and info.chosen is not None and info.knee.values == info.chosen.values
    styles = (
        ("knee", "" if same else "Knee", info.knee, theme.LIGHT["text"], "diamond-open", 15),
        ("chosen", "Chosen, the knee" if same else "Chosen", info.chosen, theme.LIGHT["accent"], "circle-open", 17),
    )
    traces = []
    for name, label, point, colour, symbol, size in styles:
        data = _xy(info, panel, (point,) if point else ())
        traces.append(
            go.Scatter(
                **{name: value for name, value in data.items() if name != "type"},
                text=[f"<b>{label}</b>"] if point else [],
                customdata=[_hover(point)] if point else [],
                hovertemplate="%{customdata}<extra></extra>",
                mode="markers+text",
                name=name,
                meta=f"{name}{axes}",
                cliponaxis=False,
                textposition=_beside(info, panel, point, name == "knee"),
                textfont={"color": colour, "size": 13},
                marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 3, "color": colour}},
            )
        )
    return traces


def _beside(info: ParetoInfo, panel: _Panel, point: Point | None, below: bool) -> str:
    """Where a label stands: the knee's below its point, where a front has nothing, the chosen design's above."""
    if point is None:
        return "top right"
    shown = info.scales[panel.x]
    # the horizontal axis is the same in all panels
    values = [*(info.reach[panel.x][:2] if panel.x in info.reach else (p.x for p in info.front + info.cloud)), point.x]
    low, high, at = min(values), max(values), point.x
    if shown.log:
        low, high, at = (float(np.log10(value)) for value in (low, high, at))
    share = (at - low) / (high - low) if high > low else 0.0
    if below:
        return "bottom left" if share > 0.25 else "bottom right"
    return "top left" if share > 0.75 else "top right"
