"""How a cluster grew and shrank and why, and what policies cost side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, times
from codesign_kernel.units import quantity, three_digits

#: Signal -> words and colour; what is not listed is grey.
SIGNALS: Mapping[str, tuple[str, str]] = {
    "cpu": ("CPU", theme.CATEGORY["compute"]),
    "memory": ("memory", theme.CATEGORY["memory"]),
    "queue": ("queue", theme.CATEGORY["inputs"]),
    "response": ("response time", theme.CATEGORY["weights"]),
    "throughput": ("throughput", theme.CATEGORY["weights"]),
    "forecast": ("forecast", theme.CATEGORY["outputs"]),
}
#: Policy -> colour and marker.
POLICIES: Mapping[str, tuple[str, str]] = {
    "conservative": (theme.CATEGORY["weights"], "square"),
    "balanced": (theme.CATEGORY["inputs"], "diamond"),
    "aggressive": (theme.CATEGORY["compute"], "triangle-up"),
    "predictive": (theme.CATEGORY["outputs"], "circle"),
    "dask": (theme.LIGHT["muted"], "line-ns-open"),
}


class Step(Protocol):
    """A decision, as far as the figure goes."""

    @property
    def time_s(self) -> float: ...
    @property
    def workers(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def signal(self) -> str: ...
    @property
    def reason(self) -> str: ...


class DecisionsInfo(NamedTuple):
    """steps: what changed the plan, in order. start, most: workers at first and at most. ups, downs: their number.

    by_signal: number of steps that each signal brought.
    """

    steps: tuple[Step, ...]
    start: int
    most: int
    end: int
    ups: int
    downs: int
    by_signal: Mapping[str, int]
    finding: str


class Outcomes(Protocol):
    """What a policy made of a load (s, worker-hours)."""

    @property
    def completion_s(self) -> float: ...
    @property
    def response_s(self) -> float: ...
    @property
    def worker_hours(self) -> float: ...


class PoliciesInfo(NamedTuple):
    """ratios: load -> policy -> mean response x worker-hours over that of the baseline. better: loads on which
    ``best`` is below the baseline; best is the policy with the least geometric mean."""

    ratios: Mapping[str, Mapping[str, float]]
    baseline: str
    best: str
    better: int
    finding: str


def decisions_info(decisions: Sequence[Step]) -> DecisionsInfo:
    """What a log of decisions tells.

    Raises:
        InvalidInputError: it holds no decision that changed anything.
    """
    steps = tuple(step for step in decisions if step.target != step.workers)
    if not steps:
        raise InvalidInputError(
            "a picture of decisions needs one that changed the number of workers, but there is none yet; wait for load"
        )
    ups = sum(step.target > step.workers for step in steps)
    by_signal: dict[str, int] = {}
    for step in steps:
        by_signal[step.signal] = by_signal.get(step.signal, 0) + 1
    start, end = steps[0].workers, steps[-1].target
    most = max(start, *(step.target for step in steps))
    why = max(by_signal, key=lambda signal: by_signal[signal])
    count = f"{len(steps)} step" + ("s" if len(steps) > 1 else "")
    what = SIGNALS.get(why, (why, ""))[0]
    way = f"From {start} to {most} workers" + (f" and then {end}" if end != most else "")
    finding = f"{way}: {count}, most often by {what}"
    return DecisionsInfo(steps, start, most, end, ups, len(steps) - ups, by_signal, finding)


def plot_decisions(decisions: Sequence[Step]) -> go.Figure:
    """Workers over time, each step marked by the signal that brought it; see :func:`decisions_info`."""
    return decisions_figure(decisions_info(decisions))


def mark_steps(figure: go.Figure, steps: Sequence[Step], unit_s: float) -> None:
    """Add a triangle up or down to ``figure`` for each step, in the colour of its signal, over time in ``unit_s``."""
    few = len(steps) < 60
    for signal in dict.fromkeys(step.signal for step in steps):
        words, colour = SIGNALS.get(signal, (signal, theme.LIGHT["muted"]))
        own = [step for step in steps if step.signal == signal]
        figure.add_scatter(
            x=theme.lists([step.time_s / unit_s for step in own]),
            y=[step.target for step in own],
            mode="markers",
            name=words,
            marker={
                "symbol": ["triangle-up" if step.target > step.workers else "triangle-down" for step in own],
                "size": 12 if few else 6,
                "color": colour,
                "line": {"color": theme.LIGHT["ground"], "width": 1 if few else 0},
            },
            customdata=[
                f"{quantity(step.time_s, 's')}: {step.workers} → {step.target} workers, {theme.plain(step.reason)}"
                for step in own
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )


def decisions_figure(info: DecisionsInfo) -> go.Figure:
    """The figure for ``info``: a triangle up or down at each step, in the colour of its signal."""
    last_s = info.steps[-1].time_s
    by, unit = (3600.0, "h") if last_s > 2 * 3600 else (60.0, "min") if last_s > 300 else (1.0, "s")
    figure = go.Figure()
    figure.add_scatter(
        x=theme.lists([0.0, *(step.time_s / by for step in info.steps), 1.05 * last_s / by]),
        y=[info.start, *(step.target for step in info.steps), info.end],
        mode="lines",
        line={"shape": "hv", "color": theme.LIGHT["text"], "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )
    mark_steps(figure, info.steps, by)
    figure.update_layout(
        xaxis={"title": {"text": f"Time since the start ({unit})"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "Workers asked for"}, "rangemode": "tozero"},
        showlegend=True,
    )
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="Workers asked for over time. Each triangle is a decision, its colour the signal that brought it.",
        alt=f"{info.finding}. {info.ups} up, {info.downs} down.",
        height=400,
        narrow={"height": 360, "legend.y": -0.28},
    )


def policies_info(outcomes: Mapping[str, Mapping[str, Outcomes]], baseline: str = "dask") -> PoliciesInfo:
    """What policies cost on each load, over ``baseline``: mean response time x worker-hours, lower is better.

    Args:
        outcomes: load -> policy -> outcome, with the same policies for each load.

    Raises:
        InvalidInputError: the baseline or another policy is missing on a load.
    """
    names = [[*by_policy] for by_policy in outcomes.values()]
    if not names or any(set(found) != set(names[0]) for found in names) or baseline not in names[0]:
        raise InvalidInputError(
            f"policies are compared on the same loads, {baseline!r} among them, but got {names}; simulate each on each"
        )
    if len(names[0]) < 2:
        raise InvalidInputError(f"a comparison needs a policy beside {baseline!r}, but got none; add one")
    ratios = {
        load: {
            name: outcome.response_s
            * outcome.worker_hours
            / (found[baseline].response_s * found[baseline].worker_hours)
            for name, outcome in found.items()
        }
        for load, found in outcomes.items()
    }
    others = [name for name in names[0] if name != baseline]
    best = min(others, key=lambda name: math.prod(found[name] for found in ratios.values()))
    better = sum(found[best] < 1 for found in ratios.values())
    mean = math.prod(found[best] for found in ratios.values()) ** (1 / len(ratios))
    rival = "Dask's Adaptive" if baseline == "dask" else baseline
    cost = f"{percent(1 - mean)} less" if mean < 1 else f"{times(mean)} as much"
    finding = f"{best} beats {rival} on {better} of {len(ratios)} loads and costs {cost} on average"
    return PoliciesInfo(ratios, baseline, best, better, finding[0].upper() + finding[1:])


def plot_policies(outcomes: Mapping[str, Mapping[str, Outcomes]], baseline: str = "dask") -> go.Figure:
    """Policies side by side on each load; see :func:`policies_info`."""
    return policies_figure(policies_info(outcomes, baseline))


def policies_figure(info: PoliciesInfo) -> go.Figure:
    """The figure for ``info``: a row a load, a mark a policy, the baseline a line at 1."""
    figure = go.Figure()
    loads = [*info.ratios]
    policies = [name for name in next(iter(info.ratios.values())) if name != info.baseline]
    for name in policies:
        colour, symbol = POLICIES.get(name, (theme.LIGHT["muted"], "x"))
        values = [info.ratios[load][name] for load in loads]
        figure.add_scatter(
            x=theme.lists(values),
            y=loads,
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 13 if name == info.best else 10},
            customdata=[
                f"{name} on {load}: {three_digits(value)} times the cost of {info.baseline}"
                for load, value in zip(loads, values, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.add_vline(x=1, line={"color": theme.LIGHT["text"], "width": 2})
    everything = [value for found in info.ratios.values() for value in found.values()]
    ticks = [
        tick
        for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50)
        if min(everything) / 1.3 < tick < max(everything) * 1.3
    ]
    label = "Dask's Adaptive" if info.baseline == "dask" else info.baseline
    figure.update_layout(
        xaxis={
            "type": "log",
            "title": {"text": "Mean response time × worker-hours, relative to the line (log scale), lower is better"},
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        yaxis={"autorange": "reversed", "showline": False, "ticks": ""},
        annotations=[
            {
                "x": 0,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "text": label,
                "showarrow": False,
                "font": {"size": 13, "color": theme.LIGHT["muted"]},
            }
        ],
        showlegend=True,
    )
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="What each policy costs on each load, simulated; left of the line is better than the line.",
        alt=f"{info.finding}. Loads: {', '.join(loads)}.",
        height=90 + 40 * len(loads),
        top=28,
        narrow={"xaxis.title.text": "Response × worker-hours (log scale)", "legend.y": -0.22},
    )
