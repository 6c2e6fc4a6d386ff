"""How far maps travel: layer by layer, with every operator for itself and with what was folded and fused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, short
from codesign_kernel.units import quantity

if TYPE_CHECKING:
    from codesign_kernel.optimize.fusion import FusionReport

#: Rows of the figure; further layers, those that move least, share the last row.
ROWS = 24
#: What a bar is made of: words, colour, pattern.
PARTS = (
    ("still travels", theme.CATEGORY["memory"], ""),
    ("no longer travels", theme.CATEGORY["idle"], "/"),
)


class FusionBar(NamedTuple):
    """Traffic of one layer's maps, or of ``many`` together, for one image (byte): ``before`` fusing and ``after``."""

    name: str
    before: float
    after: float
    many: int = 1

    @property
    def parts(self) -> tuple[float, float]:
        """In the order of ``PARTS``; they add up to ``before``."""
        return self.after, self.before - self.after

    @property
    def saved(self) -> float:
        """The share of 1 that no longer travels."""
        return (self.before - self.after) / self.before


class FusionInfo(NamedTuple):
    """bars: in the order of execution; they add up to ``before`` and ``after`` (byte). told: the report in words."""

    bars: tuple[FusionBar, ...]
    before: float
    after: float
    finding: str
    told: str


def fusion_info(report: FusionReport, rows: int = ROWS) -> FusionInfo:
    """What there is to see.

    Args:
        rows: at most so many bars: the layers with the most traffic, and one for all the rest.
    """
    bars = [FusionBar(one.name, report.bytes(one.before), report.bytes(one.after)) for one in report.layers]
    if len(bars) > rows:
        large = set(sorted(range(len(bars)), key=lambda i: -bars[i].before)[: rows - 1])
        rest = [bar for i, bar in enumerate(bars) if i not in large]
        bars = [bar for i, bar in enumerate(bars) if i in large]
        sums = sum(bar.before for bar in rest), sum(bar.after for bar in rest)
        bars.append(FusionBar(f"{len(rest)} smaller layers", *sums, len(rest)))
    before, after = report.bytes(report.traffic_before), report.bytes(report.traffic_after)
    saved = before - after
    finding = f"Fusing saves {percent(saved / before)} of the traffic of maps, {quantity(saved, 'B')} an image"
    told = (
        f"{len(report.operators)} operators become {report.layers_after} layers: {quantity(after, 'B')} instead of "
        f"{quantity(before, 'B')}, maps of {report.bits} bits. Weights travel as before."
    )
    return FusionInfo(tuple(bars), before, after, finding, told)


def plot_fusion(report: FusionReport, rows: int = ROWS) -> go.Figure:
    """Bytes of maps that each layer reads and writes, and those that its operators would beside them."""
    return fusion_figure(fusion_info(report, rows))


def fusion_figure(info: FusionInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_fusion`."""
    figure = go.Figure()
    at = list(range(len(info.bars)))
    for part, (words, colour, pattern) in enumerate(PARTS):
        figure.add_bar(
            x=theme.lists([bar.parts[part] for bar in info.bars]),
            y=at,
            orientation="h",
            name=words,
            marker={"color": colour, "pattern": {"shape": pattern, "size": 6}},
            customdata=[[theme.plain(bar.name), quantity(bar.parts[part], "B")] for bar in info.bars],
            hovertemplate=f"%{{customdata[0]}}, {words}: %{{customdata[1]}}<extra></extra>",
        )
    figure.add_scatter(
        x=theme.lists([bar.before for bar in info.bars]),
        y=at,
        mode="text",
        textposition="middle right",
        cliponaxis=False,
        text=[f" {percent(bar.saved)} less" if bar.saved else " as before" for bar in info.bars],
        textfont={"color": theme.LIGHT["muted"]},
        hoverinfo="skip",
        showlegend=False,
        name="saved",
    )
    figure.update_layout(
        barmode="stack", legend={"x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"}, **_axes(info)
    )
    height = 26 * len(info.bars) + 110
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="Bytes of maps that each layer writes and reads, and those between the operators that it is made of.",
        caption=info.told,
        alt=_alt(info),
        height=height,
        top=36,
        narrow={
            "height": height + 40,
            "margin.t": 60,
            "yaxis.ticktext": [theme.plain(short(bar.name) if bar.many == 1 else bar.name) for bar in info.bars],
            "xaxis.range": [0, 1.5 * max(bar.before for bar in info.bars)],
            "xaxis.nticks": 4,
        },
    )


def _axes(info: FusionInfo) -> dict[str, Any]:
    return {
        "xaxis": {
            "title": {"text": "Traffic of maps (byte an image)"},
            "range": [0, 1.18 * max(bar.before for bar in info.bars)],
            "nticks": 6,
            "tickformat": "~s",
        },
        "yaxis": theme.rows([theme.plain(bar.name) for bar in info.bars]),
    }


def _alt(info: FusionInfo) -> str:
    rows = "; ".join(
        f"{bar.name} {quantity(bar.after, 'B')} instead of {quantity(bar.before, 'B')}" for bar in info.bars[:4]
    )
    return f"{info.finding}. {info.told} By layer: {rows}."
