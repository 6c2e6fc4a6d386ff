"""Pruning: accuracy against what a network costs on a machine, a line for each way to make it smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.convergence import STYLES
from codesign_kernel.figures.words import objective, scale

if TYPE_CHECKING:
    import pandas as pd

#: What a smaller network may lose to be called as good as the whole one (accuracy, %).
LOSS = 1.0
COLUMNS = ("method", "setting", "seed", "validation", "test")


class Setting(NamedTuple):
    """One setting of a method, the mean over its seeds: the cost (in the column's unit), and accuracies (%)."""

    setting: float
    cost: float
    validation: float
    test: float
    least: float
    most: float


class Method(NamedTuple):
    """A way to make the network smaller: its settings, the cheapest first.

    Attributes:
        chosen: the cheapest setting that loses no more than ``LOSS`` on the validation part; None if there is none.
    """

    label: str
    settings: tuple[Setting, ...]
    chosen: Setting | None


class PruningInfo(NamedTuple):
    """What the figure shows: the whole network, the methods, and in words which is cheapest at equal accuracy."""

    metric: str
    network: str
    whole: Setting
    methods: tuple[Method, ...]
    seeds: int
    finding: str


def pruning_info(frame: pd.DataFrame, metric: str = "latency_ms", network: str = "the network") -> PruningInfo:
    """What a figure of pruned networks shows.

    Args:
        frame: one network a row: ``method`` (``whole`` for the one that nothing was taken from), ``setting`` (a share,
            a strength), ``seed``, accuracy in % on the parts ``validation`` and ``test``, and the column ``metric``.
        metric: an objective that is a cost: ``latency_ms`` or ``energy_uj``.
        network: what it is called.

    Raises:
        InvalidInputError: a column or the whole network is missing, nothing was pruned, or there are more methods than
            styles.
    """
    objective(metric)
    missing = [name for name in (*COLUMNS, metric) if name not in frame.columns]
    if missing:
        raise InvalidInputError(f"pruned networks have {', '.join((*COLUMNS, metric))}, but {missing} are missing")
    labels = list(dict.fromkeys(frame["method"]))
    if "whole" not in labels or len(labels) < 2:
        raise InvalidInputError(f"the figure compares the method 'whole' with others, but got {labels}")
    if len(labels) - 1 > len(STYLES):
        raise InvalidInputError(f"a figure tells at most {len(STYLES)} methods apart, but got {len(labels) - 1}")
    (whole,) = _settings(frame[frame["method"] == "whole"], metric)
    methods = []
    for label in labels:
        if label != "whole":
            settings = _settings(frame[frame["method"] == label], metric)
            good = [each for each in settings if each.validation >= whole.validation - LOSS]
            methods.append(Method(label, settings, min(good, key=lambda each: each.cost, default=None)))
    seeds = int(frame["seed"].nunique())
    return PruningInfo(metric, network, whole, tuple(methods), seeds, _finding(tuple(methods), whole, metric))


def _settings(frame: pd.DataFrame, metric: str) -> tuple[Setting, ...]:
    found = []
    for setting, rows in frame.groupby("setting", sort=False):
        test = rows["test"]
        cost, validation, mean = (float(rows[name].mean()) for name in (metric, "validation", "test"))
        found.append(Setting(float(str(setting)), cost, validation, mean, float(test.min()), float(test.max())))
    return tuple(sorted(found, key=lambda each: each.cost))


def _finding(methods: tuple[Method, ...], whole: Setting, metric: str) -> str:
    reached = {method.label: method.chosen for method in methods if method.chosen is not None}
    if not reached:
        return f"Nothing smaller comes within {LOSS:g} point of the whole network"
    what = objective(metric)
    first = min(reached, key=lambda label: reached[label].cost)
    others = ", ".join(f"{label} {what.text(each.cost)}" for label, each in reached.items() if label != first)
    best = f"Within {LOSS:g} point of the whole network ({what.text(whole.cost)}), {first} takes "
    return best + what.text(reached[first].cost) + (f", {others}" if others else "")


def plot_pruning(frame: pd.DataFrame, metric: str = "latency_ms", network: str = "the network") -> go.Figure:
    """Accuracy on the test part against the cost of each pruned network. Arguments: :func:`pruning_info`."""
    return pruning_figure(pruning_info(frame, metric, network))


def pruning_figure(info: PruningInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_pruning`."""
    what = objective(info.metric)
    every = [info.whole, *(each for method in info.methods for each in method.settings)]
    axis = scale(info.metric, [each.cost for each in every])
    traces: list[Any] = []
    for method, (colour, dash) in zip(info.methods, STYLES, strict=False):
        told = [
            f"<b>{theme.plain(method.label)} {each.setting:g}</b><br>{what.text(each.cost)}<br>{each.test:.2f} % right"
            for each in method.settings
        ]
        spread = {
            "type": "data",
            "symmetric": False,
            "array": theme.lists([each.most - each.test for each in method.settings]),
            "arrayminus": theme.lists([each.test - each.least for each in method.settings]),
            "thickness": 1,
            "width": 3,
        }
        traces.append(
            go.Scatter(
                x=theme.lists([each.cost * axis.factor for each in method.settings]),
                y=theme.lists([each.test for each in method.settings]),
                name=method.label, mode="lines+markers", line={"color": colour, "width": 2, "dash": dash},
                marker={"color": colour, "size": 8}, error_y=spread if info.seeds > 1 else None,
                text=told, hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    whole = f"<b>whole</b><br>{what.text(info.whole.cost)}<br>{info.whole.test:.2f} % right"
    traces.append(
        go.Scatter(
            x=[info.whole.cost * axis.factor], y=[info.whole.test], name="whole", mode="markers",
            marker={"color": theme.LIGHT["text"], "size": 11, "symbol": "diamond"},
            text=[whole], hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure = go.Figure(traces)
    figure.update_layout(
        xaxis={"title": {"text": axis.title}, "type": "log" if axis.log else "linear"},
        yaxis={"title": {"text": "Accuracy on the test part (%), higher is better"}},
        legend={"y": -0.22},
    )
    several = f"; mean, least and most of {info.seeds} seeds" if info.seeds > 1 else ""
    words = "; ".join(f"{m.label}: {len(m.settings)} networks" for m in info.methods)
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"Int8 networks made of {info.network}{several}.",
        caption=f"Chosen on the validation part, where the whole one has {info.whole.validation:.2f} %.",
        alt=f"{info.finding}. {words}.",
        height=420,
    )
