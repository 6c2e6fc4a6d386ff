"""Where the array's time goes: useful work, and every lost cycle by its cause, layer by layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.accelerator.causes import CAUSES, Causes, LayerCauses
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import page, theme
from codesign_kernel.figures.words import percent, short

#: Rows of the figure; further layers, the quickest, share the last row.
ROWS = 24
#: Words, colour and pattern of each cause; what is alike has one colour.
LOOKS: dict[str, tuple[str, str, str]] = {
    "useful": ("useful", theme.CATEGORY["compute"], ""),
    "padding": ("padding", theme.CATEGORY["compute"], "/"),
    "edge": ("edges", theme.CATEGORY["idle"], ""),
    "weights": ("weights", theme.CATEGORY["weights"], ""),
    "fill": ("filling", theme.CATEGORY["inputs"], ""),
    "drain": ("draining", theme.CATEGORY["inputs"], "/"),
    "requantise": ("requantising", theme.CATEGORY["outputs"], ""),
    "memory": ("memory", theme.CATEGORY["memory"], ""),
    "issue": ("issue", theme.LIGHT["muted"], ""),
}


class CauseBar(NamedTuple):
    """Cycles of one layer, or of ``many`` together, by cause in the order of ``CAUSES``; utilisation of 1."""

    name: str
    parts: tuple[float, ...]
    utilization: float
    many: int = 1

    @property
    def total(self) -> float:
        """Cycles."""
        return sum(self.parts)


class CausesInfo(NamedTuple):
    """bars: in the order of execution; with ``outside``, the cycles of no layer, they add up to ``cycles``.

    shares: of all MAC slots, by cause. utilization, array_utilization: as for :class:`Causes`.
    """

    bars: tuple[CauseBar, ...]
    cycles: int
    outside: float
    shares: dict[str, float]
    utilization: float
    array_utilization: float
    finding: str


def causes_info(causes: Causes, rows: int = ROWS) -> CausesInfo:
    """What there is to see: a cause's slots over the PEs are its cycles.

    Args:
        rows: at most so many bars: the slowest layers, and one for all the rest.

    Raises:
        InvalidInputError: there are no layers.
    """
    layers = [one for one in causes.layers if one.cycles * causes.pes != one.slots["issue"]]
    if not layers:
        raise InvalidInputError("causes need at least one layer, but this program has none")
    total = causes.total
    bars = [_bar(one, causes.pes) for one in layers]
    if len(bars) > rows:
        slow = set(sorted(range(len(bars)), key=lambda i: -bars[i].total)[: rows - 1])
        rest = [one for i, one in enumerate(layers) if i not in slow]
        bars = [bar for i, bar in enumerate(bars) if i in slow]
        joined = Causes(causes.pes, tuple(rest)).total
        bars.append(_bar(joined, causes.pes)._replace(name=f"{len(rest)} quicker layers", many=len(rest)))
    outside = (total.cycles * causes.pes - sum(sum(one.slots.values()) for one in layers)) / causes.pes
    shares = {cause: total.slots[cause] / (total.cycles * causes.pes) for cause in CAUSES}
    return CausesInfo(
        tuple(bars), total.cycles, outside, shares, total.utilization, total.array_utilization, _finding(total, shares)
    )


def _bar(layer: LayerCauses, pes: int) -> CauseBar:
    return CauseBar(layer.name, tuple(layer.slots[cause] / pes for cause in CAUSES), layer.utilization)


def _finding(total: LayerCauses, shares: dict[str, float]) -> str:
    worst = max((cause for cause in CAUSES if cause not in ("useful", "padding")), key=lambda cause: shares[cause])
    text = f"The PEs multiply for {percent(total.utilization)} of the time"
    return text if not shares[worst] else f"{text}; the most is lost to {LOOKS[worst][0]}, {percent(shares[worst])}"


def plot_causes(causes: Causes, rows: int = ROWS) -> go.Figure:
    """Cycles of each layer, stacked by cause, with its utilisation behind the bar."""
    return causes_figure(causes_info(causes, rows))


def causes_figure(info: CausesInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_causes`."""
    figure = go.Figure()
    for at, cause in enumerate(CAUSES):
        if any(bar.parts[at] for bar in info.bars):
            _stack(figure, info, at, *LOOKS[cause])
    figure.add_scatter(
        x=[bar.total for bar in info.bars],
        y=list(range(len(info.bars))),
        mode="text",
        textposition="middle right",
        cliponaxis=False,
        text=[f" {percent(bar.utilization)}" for bar in info.bars],
        textfont={"color": theme.LIGHT["muted"]},
        hoverinfo="skip",
        showlegend=False,
        name="utilisation",
    )
    figure.update_layout(
        barmode="stack",
        legend={"x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        **_axes(info),
    )
    height = 26 * len(info.bars) + 110
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="Cycles by layer and cause, and the share in which the PEs multiply. A cause that holds a part of the "
        "PEs counts as that part of a cycle.",
        caption=_caption(info),
        alt=_alt(info),
        height=height,
        top=36,
        narrow={
            "height": height + 110,
            "margin.t": 124,
            "yaxis.ticktext": [theme.plain(short(bar.name) if bar.many == 1 else bar.name) for bar in info.bars],
            "xaxis.range": [0, 1.3 * max(bar.total for bar in info.bars)],
        },
    )


def _stack(figure: go.Figure, info: CausesInfo, at: int, words: str, colour: str, pattern: str) -> None:
    """One cause of all layers."""
    values = [bar.parts[at] for bar in info.bars]
    figure.add_bar(
        x=theme.lists(values),
        y=list(range(len(info.bars))),
        orientation="h",
        name=words,
        marker={"color": colour, "pattern": {"shape": pattern, "size": 6}},
        customdata=[
            [theme.plain(bar.name), percent(value / bar.total)] for bar, value in zip(info.bars, values, strict=True)
        ],
        hovertemplate=f"%{{customdata[0]}}, {words}: %{{x:,.1f}} cycles, %{{customdata[1]}} of it<extra></extra>",
    )


def _axes(info: CausesInfo) -> dict[str, Any]:
    return {
        "xaxis": {
            "title": {"text": "Cycles"},
            "range": [0, 1.12 * max(bar.total for bar in info.bars)],
            "nticks": 6,
            "tickformat": "~s",
        },
        "yaxis": theme.rows([theme.plain(bar.name) for bar in info.bars]),
    }


def _caption(info: CausesInfo) -> str:
    told = [f"The array at work multiplies for {percent(info.array_utilization)} of the time."]
    rest = [bar for bar in info.bars if bar.many > 1]
    told += [f"The {len(info.bars) - len(rest)} slowest layers have a row each."] if rest else []
    told += [f"{info.outside:,.0f} cycles belong to no layer."] if info.outside else []
    return " ".join(told)


def _alt(info: CausesInfo) -> str:
    parts = ", ".join(f"{LOOKS[cause][0]} {percent(share)}" for cause, share in info.shares.items() if share)
    rows = "; ".join(f"{bar.name} {percent(bar.utilization)}" for bar in info.bars[:4])
    return f"{info.finding}. Of {info.cycles:,} cycles: {parts}. By layer: {rows}."


def causes_table(causes: Causes) -> str:
    """The same as a table of a page: cycles by layer and cause."""
    rows = [
        (one.name, f"{one.cycles:,}", *(f"{one.slots[cause] / causes.pes:,.1f}" for cause in CAUSES))
        for one in (*causes.layers, causes.total)
    ]
    head = ("Layer", "Cycles", *(LOOKS[cause][0].capitalize() for cause in CAUSES))
    return page.table("Cycles by layer and cause", head, rows)
