"""Two models beside one another: what each spends on which operator."""

from __future__ import annotations

from typing import NamedTuple

import plotly.graph_objects as go

from codesign_kernel.figures import theme
from codesign_kernel.figures.models import MEASURES, ModelInfo, Profiled, Sums, model_info, together
from codesign_kernel.figures.words import percent, times
from codesign_kernel.units import quantity

#: Operators with a row of their own; further ones, which cost least, share the last.
ROWS = 10
NOTHING = Sums(0, 0, 0, None)


class OpRow(NamedTuple):
    """Layers of one operator, and their sums, of the first and of the second model."""

    op: str
    layers: tuple[int, int]
    sums: tuple[Sums, Sums]


class OperatorsInfo(NamedTuple):
    """rows: those that cost most first; they add up to the layers' totals."""

    names: tuple[str, str]
    measure: str
    rows: tuple[OpRow, ...]
    finding: str


def operators_info(first: ModelInfo, second: ModelInfo, measure: str = "macs") -> OperatorsInfo:
    """What two models spend on each operator, ordered by one of MEASURES; operators that have none are left out."""
    ops = dict.fromkeys(row.op for info in (first, second) for row in info.layers)
    rows = []
    for op in ops:
        found = [[row.sums for row in info.layers if row.op == op] for info in (first, second)]
        rows.append(
            OpRow(
                op, (len(found[0]), len(found[1])), (together(found[0] or [NOTHING]), together(found[1] or [NOTHING]))
            )
        )
    rows = [row for row in rows if any(one.value(measure) for one in row.sums)]
    rows.sort(key=lambda row: -max(one.value(measure) or 0 for one in row.sums))
    if len(rows) > ROWS:
        rest = rows[ROWS - 1 :]
        counts = (sum(row.layers[0] for row in rest), sum(row.layers[1] for row in rest))
        sums = (together([row.sums[0] for row in rest]), together([row.sums[1] for row in rest]))
        rows = [*rows[: ROWS - 1], OpRow(f"{len(rest)} other operators", counts, sums)]
    names = (first.name, second.name) if first.name != second.name else (f"{first.name} (1)", f"{second.name} (2)")
    return OperatorsInfo(names, measure, tuple(rows), comparison(first, second, measure))


def comparison(first: ModelInfo, second: ModelInfo, measure: str) -> str:
    """How the second model compares with the first, in a sentence without its full stop."""
    label = MEASURES[measure].label
    noun = label if label == "MACs" else label.lower()
    a, b = (info.total.value(measure) or 0 for info in (first, second))
    texts = f"{second.total.text(measure)} after {first.total.text(measure)}"
    if a == b:
        return f"{second.name} has the {noun} of {first.name}: {first.total.text(measure)}"
    if not a or not b:
        return f"{second.name}: {noun} {texts}"
    if b > a:
        return f"{second.name} has {times(b / a)} the {noun} of {first.name}: {texts}"
    return f"{second.name} has {percent(b / a)} of the {noun} of {first.name}: {texts}"


def plot_operators(first: Profiled, second: Profiled, measure: str = "macs") -> go.Figure:
    """What two models spend on each operator."""
    return operators_figure(operators_info(model_info(first), model_info(second), measure))


def operators_figure(info: OperatorsInfo) -> go.Figure:
    """The figure for ``info``: two bars for each operator."""
    figure = go.Figure()
    places = list(range(len(info.rows)))
    values = [[row.sums[which].value(info.measure) or 0 for row in info.rows] for which in (0, 1)]
    for which, colour in enumerate((theme.LIGHT["quiet"], theme.CATEGORY["compute"])):
        figure.add_bar(
            x=theme.lists(values[which]),
            y=places,
            orientation="h",
            name=theme.plain(info.names[which]),
            marker={"color": colour},
            text=[row.sums[which].text(info.measure) for row in info.rows],
            textposition="outside",
            cliponaxis=False,
            customdata=[
                f"{theme.plain(info.names[which])}, {theme.plain(row.op)}: {row.layers[which]} layers, "
                f"{quantity(row.sums[which].macs, 'MAC')}, {quantity(row.sums[which].bytes, 'B')}"
                for row in info.rows
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    most = max((max(pair) for pair in zip(*values, strict=True)), default=0) or 1
    measure = MEASURES[info.measure]
    figure.update_layout(
        xaxis={"title": {"text": measure.label}, "range": [0, 1.22 * most], "tickformat": "~s", "nticks": 5},
        yaxis={
            "tickvals": places,
            "ticktext": [theme.plain(row.op) for row in info.rows],
            "range": [len(places) - 0.4, -0.6],
            "showgrid": False,
            "ticks": "",
        },
        bargap=0.3,
        legend={"x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
    )
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"{measure.label} by operator.",
        alt=f"{info.finding}. "
        + "; ".join(
            f"{row.op}: {row.sums[0].text(info.measure)} and {row.sums[1].text(info.measure)}" for row in info.rows[:5]
        )
        + ".",
        height=44 * len(places) + 90,
        top=36,
        narrow={"xaxis.range": [0, 1.6 * most]},
    )
