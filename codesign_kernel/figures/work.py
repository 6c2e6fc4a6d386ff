"""Where the work of a profiled model is: multiply-accumulates by operator, before any hardware is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, short
from codesign_kernel.units import quantity, three_digits

if TYPE_CHECKING:
    from codesign_kernel.profiler.result import Profile

#: Bars; what is left is one more.
ROWS = 16
#: The share of all MACs that the finding is about.
MOST = 0.8


class WorkBar(NamedTuple):
    """name, op: of the operator. macs; bytes: parameters, inputs and outputs; intensity: MAC/byte. operators: how
    many the bar stands for."""

    name: str
    op: str
    macs: int
    bytes: int
    intensity: float
    operators: int = 1


class WorkInfo(NamedTuple):
    """bars: the operators with the most MACs in the order in which they run, and the rest as the last; they add up to
    ``macs``. most: how many operators, the largest first, do ``MOST`` of them."""

    bars: tuple[WorkBar, ...]
    macs: int
    most: int
    finding: str


def work_info(profile: Profile, rows: int = ROWS) -> WorkInfo:
    """What there is to see; operators without MACs are left out.

    Args:
        rows: at most so many bars.

    Raises:
        InvalidInputError: the model does no MACs.
    """
    bars = [
        WorkBar(o.layer.name, o.layer.op, o.layer.macs, o.input_bytes + o.output_bytes + o.fixed_bytes, o.intensity)
        for o in profile.operators
        if o.layer.macs
    ]
    if not bars:
        raise InvalidInputError(f"a picture of work needs an operator that does MACs, but {profile.name} has none")
    total, done, most = profile.macs, 0, 0
    for bar in sorted(bars, key=lambda bar: -bar.macs):
        if done >= MOST * total:
            break
        done, most = done + bar.macs, most + 1
    share = percent(done / total)
    finding = (
        f"{short(bars[0].name)} does all of the {quantity(total, 'MAC')}"
        if len(bars) == 1
        else f"{most} of {len(bars)} operators do {share} of the {quantity(total, 'MAC')}"
    )
    if len(bars) > rows:
        large = set(sorted(range(len(bars)), key=lambda at: -bars[at].macs)[: rows - 1])
        rest = [bar for at, bar in enumerate(bars) if at not in large]
        macs, moved = sum(bar.macs for bar in rest), sum(bar.bytes for bar in rest)
        bars = [bar for at, bar in enumerate(bars) if at in large]
        bars.append(WorkBar(f"{len(rest)} smaller ones", "", macs, moved, macs / moved if moved else 0.0, len(rest)))
    return WorkInfo(tuple(bars), total, most, finding)


def plot_work(profile: Profile, rows: int = ROWS) -> go.Figure:
    """MACs by operator; see :func:`work_info`."""
    return work_figure(work_info(profile, rows))


def work_figure(info: WorkInfo) -> go.Figure:
    """The figure for ``info``: a bar an operator, the first on top, with its share beside it."""
    at = list(range(len(info.bars)))
    figure = go.Figure()
    figure.add_bar(
        x=[bar.macs for bar in info.bars],
        y=at,
        orientation="h",
        name="MAC",
        marker={"color": theme.CATEGORY["compute"]},
        text=[f" {percent(bar.macs / info.macs)}" for bar in info.bars],
        textposition="outside",
        cliponaxis=False,
        textfont={"color": theme.LIGHT["muted"]},
        customdata=[
            f"{theme.plain(bar.name)}{f' ({theme.plain(bar.op)})' if bar.op else ''}: {quantity(bar.macs, 'MAC')}, "
            f"{quantity(bar.bytes, 'B')} moved, {three_digits(bar.intensity)} MAC/byte"
            for bar in info.bars
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    largest = max(bar.macs for bar in info.bars)
    figure.update_layout(
        xaxis={"title": {"text": "Multiply-accumulates (MAC)"}, "range": [0, 1.12 * largest], "exponentformat": "SI"},
        yaxis={
            "tickvals": at,
            "ticktext": [theme.plain(short(bar.name)) for bar in info.bars],
            "range": [len(at) - 0.5, -0.5],
            "showgrid": False,
        },
        showlegend=False,
    )
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="Multiply-accumulates by operator, in the order in which they run.",
        alt=f"{info.finding}. "
        + ". ".join(f"{bar.name}: {percent(bar.macs / info.macs)}" for bar in info.bars[:ROWS])
        + ".",
        height=60 + 26 * len(at),
        narrow={"height": 60 + 24 * len(at)},
    )
