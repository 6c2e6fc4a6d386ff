"""Pairs of a network and a machine: measured accuracy against latency and energy, coloured by area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import PARAMETERS, Scale, design_words, objective, scale, times

if TYPE_CHECKING:
    import pandas as pd

#: Where a front keeps the accuracies that may be shown, and what they are called.
ACCURACIES = {"test_accuracy": "test", "accuracy": "validation"}
_HOVER = 44


class PairPoint(NamedTuple):
    """One pair: accuracy (share), costs by column, and network, machine and results in words."""

    accuracy: float
    costs: Mapping[str, float]
    network: str
    machine: str
    results: str


class Steps(NamedTuple):
    """The edge of what pairs reach in one cost: the most accuracy (share) for at most ``cost``, both ascending."""

    cost: tuple[float, ...]
    accuracy: tuple[float, ...]


class PairsInfo(NamedTuple):
    """What the figure shows. baseline: the pairs of another search, with ``label``; nothing without one."""

    columns: tuple[str, ...]
    shade: str
    accuracy: str
    scales: Mapping[str, Scale]
    pairs: tuple[PairPoint, ...]
    networks: int
    steps: Mapping[str, Steps]
    baseline: tuple[PairPoint, ...]
    baseline_steps: Mapping[str, Steps]
    label: str
    knee: PairPoint | None
    finding: str


def pairs_info(
    front: pd.DataFrame,
    baseline: pd.DataFrame | None = None,
    *,
    label: str = "model first, then the hardware",
    columns: Sequence[str] = ("latency_ms", "energy_uj"),
    shade: str = "area_mm2",
    accuracy: str = "test_accuracy",
    knee: Mapping[Any, Any] | None = None,
) -> PairsInfo:
    """What a figure of pairs shows.

    Args:
        front: of :class:`codesign_kernel.CoOptimization`: one row a pair.
        baseline: the same columns of another search, with ``label`` in words; none without.
        columns: the costs, a panel each: one or two objective columns.
        shade: the objective column that colours the pairs.
        accuracy: "test_accuracy", or "accuracy" of the validation part.
        knee: a row to label.

    Raises:
        InvalidInputError: nothing to draw, or a column is missing or no objective.
    """
    if not 1 <= len(columns) <= 2:
        raise InvalidInputError(f"a figure of pairs has one or two costs, but got {list(columns)}")
    if accuracy not in ACCURACIES:
        raise InvalidInputError(f"accuracy is one of {', '.join(ACCURACIES)}, but got {accuracy!r}")
    shown = (*columns, shade)
    tables = [front] if baseline is None else [front, baseline]
    for column in shown:
        objective(column)
    for table in tables:
        missing = [name for name in (*shown, accuracy) if name not in table.columns]
        if missing or not len(table):
            raise InvalidInputError(f"a front has rows with {', '.join(shown)}, but one lacks {missing or 'rows'}")
    told = tuple(name for name in PARAMETERS if name in front.columns and front[name].nunique() > 1)
    pairs, others = (
        tuple(_point(row, shown, accuracy, told) for row in table.to_dict("records"))
        for table in (tables if len(tables) == 2 else [front, front.head(0)])
    )
    networks = int(front["network"].nunique()) if "network" in front else 0
    steps = {name: _steps(pairs, name) for name in columns}
    beside = {name: _steps(others, name) for name in columns} if others else {}
    return PairsInfo(
        columns=tuple(columns), shade=shade, accuracy=accuracy,
        scales={name: scale(name, [value for table in tables for value in table[name]]) for name in shown},
        pairs=pairs, networks=networks, steps=steps, baseline=others, baseline_steps=beside, label=label,
        knee=None if knee is None else _point(knee, shown, accuracy, told),
        finding=_finding(tuple(columns), steps, beside, label),
    )  # fmt: skip


def _point(row: Mapping[Any, Any], shown: Sequence[str], accuracy: str, told: tuple[str, ...]) -> PairPoint:
    score = float(row[accuracy])
    costs = {name: float(row[name]) for name in shown}
    results = ", ".join([f"{100 * score:.1f} % right", *(objective(name).text(row[name]) for name in shown)])
    return PairPoint(score, costs, _network(row), design_words(row, told), results)


def _network(row: Mapping[Any, Any]) -> str:
    """The choices of a network in one line: ``8 bits; channels conv1 0.5; weights fc 4 bits``."""
    kept = [(str(n)[5:], v) for n, v in row.items() if str(n).startswith("keep.") and v < 1]
    bits = row.get("bits")
    narrow = [(str(n)[12:], v) for n, v in row.items() if str(n).startswith("weight_bits.") and v < (bits or 0)]
    parts = [f"{int(bits)} bits"] if bits else []
    parts += ["channels " + ", ".join(f"{name} {share:g}" for name, share in kept)] if kept else []
    parts += ["weights " + ", ".join(f"{name} {int(width)}" for name, width in narrow) + " bits"] if narrow else []
    return "; ".join(parts)


def _steps(points: Sequence[PairPoint], column: str) -> Steps:
    cost: list[float] = []
    score: list[float] = []
    for point in sorted(points, key=lambda p: (p.costs[column], -p.accuracy)):
        if not score or point.accuracy > score[-1]:
            cost.append(point.costs[column])
            score.append(point.accuracy)
    return Steps(tuple(cost), tuple(score))


def _reached(steps: Steps, score: float) -> float | None:
    """The least cost at which ``score`` is reached; None where it is not."""
    return next((cost for cost, value in zip(steps.cost, steps.accuracy, strict=True) if value >= score), None)


def _finding(columns: tuple[str, ...], steps: Mapping[str, Steps], beside: Mapping[str, Steps], label: str) -> str:
    first = steps[columns[0]]
    ends = [
        f"{100 * score:.1f} % for {objective(columns[0]).text(cost)}"
        for cost, score in ((first.cost[-1], first.accuracy[-1]), (first.cost[0], first.accuracy[0]))
    ]
    if not beside:
        return f"From {ends[0]} to {ends[1]}" if len(first.cost) > 1 else ends[0]
    top = beside[columns[0]].accuracy[-1]
    told = []
    for name in columns:
        ours, theirs = _reached(steps[name], top), _reached(beside[name], top)
        if ours is None or theirs is None:
            return f"{100 * first.accuracy[-1]:.1f} % at most, where {label} has {100 * top:.1f} %"
        word = objective(name).label.lower()
        ratio = theirs / ours
        told.append(f"{times(ratio)} less {word}" if ratio > 1.005 else f"{times(1 / ratio)} the {word}")
    return f"For the {100 * top:.1f} % of {label}: {' and '.join(told)}"


def plot_pairs(front: pd.DataFrame, baseline: pd.DataFrame | None = None, **arguments: Any) -> go.Figure:
    """Accuracy against latency and against energy: pairs coloured by area, a line along the most accurate for each
    cost, and a dashed one along those of ``baseline``. Arguments and errors: :func:`pairs_info`."""
    return pairs_figure(pairs_info(front, baseline, **arguments))


def pairs_figure(info: PairsInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_pairs`."""
    two = len(info.columns) == 2
    layout: dict[str, Any] = {"showlegend": False, "coloraxis": _coloraxis(info)}
    traces: list[Any] = []
    for at, column in enumerate(info.columns):
        n = "2" if at else ""
        values = [p.costs[column] * info.scales[column].factor for p in (*info.pairs, *info.baseline)]
        layout[f"xaxis{n}"] = theme.axis(info.scales[column], values, values)
        layout[f"yaxis{n}"] = {
            "title": {"text": f"{ACCURACIES[info.accuracy].capitalize()} accuracy (%), higher is better"}
        }
        traces += _traces(info, column, n)
    narrow: dict[str, Any] = {"height": 440, "coloraxis.colorbar.len": 1}
    narrow["coloraxis.colorbar.y"] = 1.05 if two else 1.14
    if two:
        layout["xaxis"]["domain"] = [0, 0.46]
        layout["xaxis2"] |= {"domain": [0.56, 1], "anchor": "y2"}
        layout["yaxis2"] |= {"anchor": "x2", "matches": "y"}
        narrow |= {
            "height": 820, "xaxis.domain": [0, 1], "xaxis2.domain": [0, 1], "yaxis.domain": [0.58, 1],
            "yaxis2.domain": [0, 0.4],
        }  # fmt: skip
    names = " and ".join(objective(name).label.lower() for name in info.columns)
    drawn = f"Accuracy on the {ACCURACIES[info.accuracy]} part against {names} of {len(info.pairs):,} pairs"
    drawn += f" of {info.networks} networks" if info.networks else ""
    dashed = f"; dashed: {info.label}, {len(info.baseline):,} pairs" if info.baseline else ""
    figure = go.Figure({"data": traces, "layout": layout})
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"{drawn}; line: the most accurate for a cost{dashed}.",
        alt=_alt(info),
        height=440,
        narrow=narrow,
        top=60,
    )


def _alt(info: PairsInfo) -> str:
    best = max(info.pairs, key=lambda p: p.accuracy)
    least = min(info.pairs, key=lambda p: p.costs[info.columns[0]])
    text = f"{info.finding}. The most accurate of {len(info.pairs)} pairs: {best.network}, on {best.machine}: "
    text += f"{best.results}. That of least {objective(info.columns[0]).label.lower()}: {least.results}."
    return text + (f" Knee: {info.knee.results}." if info.knee else "")


def _xy(info: PairsInfo, column: str, axes: str, points: Sequence[PairPoint]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": theme.lists([p.costs[column] * info.scales[column].factor for p in points]),
        "y": theme.lists([100 * p.accuracy for p in points]),
        "xaxis": f"x{axes}",
        "yaxis": f"y{axes}",
        "text": [_hover(p) for p in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(point: PairPoint) -> str:
    lines = [*theme.wrap(point.network, _HOVER), *theme.wrap(point.machine, _HOVER)]
    return "<br>".join([*lines, f"<b>{theme.plain(point.results)}</b>"])


def _line(info: PairsInfo, column: str, axes: str, steps: Steps, name: str, dash: str) -> dict[str, Any]:
    factor = info.scales[column].factor
    every = [p.costs[column] for p in (*info.pairs, *info.baseline)]
    return {
        "type": "scatter",
        # to the dearest pair: a dearer machine may have the most accurate network too
        "x": theme.lists([cost * factor for cost in (*steps.cost, max(every))]),
        "y": theme.lists([100 * score for score in (*steps.accuracy, steps.accuracy[-1])]),
        "xaxis": f"x{axes}",
        "yaxis": f"y{axes}",
        "mode": "lines",
        "name": name,
        "hoverinfo": "skip",
        "line": {"color": theme.LIGHT["muted"], "width": 1.5, "dash": dash, "shape": "hv"},
    }


def _traces(info: PairsInfo, column: str, axes: str) -> list[dict[str, Any]]:
    factor = info.scales[info.shade].factor
    marker = {
        "size": 8,
        "color": theme.lists([p.costs[info.shade] * factor for p in info.pairs]),
        "coloraxis": "coloraxis",
        "line": {"color": theme.LIGHT["muted"], "width": 1},
    }
    traces: list[dict[str, Any]] = []
    if info.baseline:
        open_marker = {"size": 7, "symbol": "square-open", "color": theme.LIGHT["muted"]}
        traces = [
            {**_xy(info, column, axes, info.baseline), "mode": "markers", "name": info.label, "marker": open_marker},
            _line(info, column, axes, info.baseline_steps[column], info.label, "dash"),
        ]
    traces += [
        _line(info, column, axes, info.steps[column], "pairs", "solid"),
        {**_xy(info, column, axes, info.pairs), "mode": "markers", "name": "pairs", "marker": marker},
    ]
    if info.knee:
        label = {
            **_xy(info, column, axes, (info.knee,)), "mode": "markers+text", "name": "knee", "text": ["<b>Knee</b>"],
            "customdata": [_hover(info.knee)], "hovertemplate": "%{customdata}<extra></extra>",
            "textposition": "bottom right", "textfont": {"color": theme.LIGHT["text"], "size": 13},
            "marker": {"symbol": "diamond-open", "size": 15, "color": theme.LIGHT["text"], "line": {"width": 3}},
        }  # fmt: skip
        traces.append(label)
    return traces


def _coloraxis(info: PairsInfo) -> dict[str, Any]:
    shade = info.scales[info.shade]
    values = np.array([p.costs[info.shade] * shade.factor for p in info.pairs])
    return {
        "colorscale": theme.VIRIDIS,
        "cmin": float(f"{values.min():.6g}"),
        "cmax": float(f"{values.max():.6g}"),
        "colorbar": {
            "orientation": "h",
            "thickness": 8,
            "len": 0.44,
            "x": 0,
            "xanchor": "left",
            "y": 1.14,
            "yanchor": "middle",
            "title": {
                "text": f"{shade.label} ({shade.unit})", "side": "top",
                "font": {"size": 13, "color": theme.LIGHT["muted"]},
            },
            "outlinewidth": 0,
            "tickfont": {"color": theme.LIGHT["muted"]},
            "nticks": 5,
            "xpad": 0,
        },
    }  # fmt: skip
