"""Workers of a cluster over time: how many were asked for, how many were there, and which decisions moved them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.scaling import Step, mark_steps


class Seen(Protocol):
    """A look at a cluster, as far as the figure goes."""

    @property
    def time_s(self) -> float: ...
    @property
    def planned(self) -> int: ...
    @property
    def arrived(self) -> int: ...
    @property
    def queued(self) -> int: ...


class WorkersInfo(NamedTuple):
    """moments: the looks at which a number changed, and those before and after, in order. steps: decisions between the
    first and the last of them. minimum, maximum: workers that there may be."""

    moments: tuple[Seen, ...]
    steps: tuple[Step, ...]
    minimum: int
    maximum: int
    finding: str


def workers_info(moments: Sequence[Seen], decisions: Sequence[Step], minimum: int, maximum: int) -> WorkersInfo:
    """What looks at a cluster tell; those at which nothing changed are left out.

    Raises:
        InvalidInputError: there are none.
    """
    if not moments:
        raise InvalidInputError(
            "a picture of workers needs a look at the cluster, but there is none yet; wait a second"
        )
    numbers = [(seen.planned, seen.arrived) for seen in moments]
    last = len(moments) - 1
    kept = [
        seen
        for place, seen in enumerate(moments)
        if place in (0, last) or numbers[place] != numbers[place - 1] or numbers[place] != numbers[place + 1]
    ]
    start_s, now = kept[0].time_s, kept[-1]
    steps = tuple(step for step in decisions if step.target != step.workers and start_s <= step.time_s <= now.time_s)
    there = "1 worker is" if now.arrived == 1 else f"{now.arrived} workers are"
    coming = f", {now.planned - now.arrived} to come" if now.planned > now.arrived else ""
    waiting = f"{now.queued:,} tasks wait" if now.queued != 1 else "1 task waits"
    return WorkersInfo(
        tuple(kept), steps, minimum, maximum, f"{there} there{coming}; {waiting if now.queued else 'nothing waits'}"
    )


def plot_workers(moments: Sequence[Seen], decisions: Sequence[Step], minimum: int, maximum: int) -> go.Figure:
    """Workers over time; see :func:`workers_info`."""
    return workers_figure(workers_info(moments, decisions, minimum, maximum))


def workers_figure(info: WorkersInfo) -> go.Figure:
    """The figure for ``info``: workers there as an area, those asked for as a line, a triangle at each decision."""
    length_s = info.moments[-1].time_s
    by, unit = (3600.0, "h") if length_s > 2 * 3600 else (60.0, "min") if length_s > 300 else (1.0, "s")
    times = theme.lists([seen.time_s / by for seen in info.moments])
    figure = go.Figure()
    figure.add_scatter(
        x=times,
        y=[seen.arrived for seen in info.moments],
        mode="lines",
        name="there",
        line={"shape": "hv", "color": theme.CATEGORY["compute"], "width": 1},
        fill="tozeroy",
        hovertemplate="%{y} there<extra></extra>",
    )
    figure.add_scatter(
        x=times,
        y=[seen.planned for seen in info.moments],
        mode="lines",
        name="asked for",
        line={"shape": "hv", "color": theme.LIGHT["text"], "width": 2},
        hovertemplate="%{y} asked for<extra></extra>",
    )
    mark_steps(figure, info.steps, by)
    top = max(info.maximum if info.maximum <= 64 else 0, *(max(seen.planned, seen.arrived) for seen in info.moments))
    figure.update_layout(
        xaxis={"title": {"text": f"Time since the start ({unit})"}},
        yaxis={"title": {"text": "Workers"}, "range": [0, 1.08 * top], "dtick": max(1, round(top / 6))},
        showlegend=True,
    )
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"Of {info.minimum} to {info.maximum} workers. A triangle is a decision, its colour the signal.",
        alt=f"{info.finding}. {len(info.steps)} decisions.",
        height=340,
        narrow={"height": 320, "legend.y": -0.28},
    )
