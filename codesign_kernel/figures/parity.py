"""Our estimates beside the figures of others: on the diagonal where they are cycles, as ratios for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, times
from codesign_kernel.units import three_digits

#: Estimates at most this far off (share of the other figure) lie within the band that is drawn.
BAND = 0.1
#: Colour and mark of each peer, in the order in which peers come.
_MARKS = tuple(zip(theme.CATEGORY, ("circle", "square", "diamond", "triangle-up", "cross"), strict=False))
#: How far the marks of a strip spread around its line (of the distance between strips).
_SPREAD = 0.16


class Figures(Protocol):
    """One figure of a peer and our estimate of it, in ``unit``."""

    @property
    def name(self) -> str: ...
    @property
    def ours(self) -> float: ...
    @property
    def theirs(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def ratio(self) -> float: ...


class Compared(Protocol):
    """What the figure needs of a comparison; ``cycles`` is (ours, theirs) of each row, or empty if that is no time."""

    @property
    def peer(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def rows(self) -> Sequence[Figures]: ...
    @property
    def cycles(self) -> Sequence[tuple[float, float]]: ...
    @property
    def median(self) -> float: ...


class Case(NamedTuple):
    """One mark. ratio: ours over theirs. cycles: (ours, theirs), or None. words: the case in one line."""

    ratio: float
    cycles: tuple[float, float] | None
    words: str


class Strip(NamedTuple):
    """The cases of one quantity of one peer; peers are numbered in the order in which they come."""

    peer: str
    number: int
    quantity: str
    median: float
    cases: tuple[Case, ...]

    @property
    def equal(self) -> bool:
        """Whether every estimate equals the other figure."""
        return all(case.ratio == 1 for case in self.cases)

    @property
    def label(self) -> str:
        """``ZigZag 3.9.1, cycles (7): 34 %``."""
        told = "all equal" if self.equal else percent(self.median)
        return f"{self.peer}, {self.quantity} ({len(self.cases)}): {told}"


class ParityInfo(NamedTuple):
    """strips: in the order given. within: cases inside the band, of ``cases`` in all.

    without_cycles: peers that are not on the diagonal.
    """

    strips: tuple[Strip, ...]
    within: int
    cases: int
    without_cycles: tuple[str, ...]
    finding: str


def parity_info(comparisons: Sequence[Compared]) -> ParityInfo:
    """What there is to see of ``comparisons``.

    Raises:
        InvalidInputError: there is no case, a figure is not above 0, or there are more peers than marks.
    """
    peers = list(dict.fromkeys(one.peer for one in comparisons))
    if not any(one.rows for one in comparisons):
        raise InvalidInputError("a parity plot needs at least one case, but the comparisons have none")
    if len(peers) > len(_MARKS):
        raise InvalidInputError(f"a parity plot tells {len(_MARKS)} peers apart, but got {len(peers)}; draw fewer")
    strips = tuple(
        Strip(one.peer, peers.index(one.peer), one.quantity, one.median, _cases(one)) for one in comparisons if one.rows
    )
    cases = [case for strip in strips for case in strip.cases]
    within = sum(abs(case.ratio - 1) <= BAND for case in cases)
    timed = {strip.peer for strip in strips if any(case.cycles for case in strip.cases)}
    apart = tuple(peer for peer in peers if peer not in timed)
    return ParityInfo(strips, within, len(cases), apart, _finding(strips, within, len(cases)))


def _cases(one: Compared) -> tuple[Case, ...]:
    cycles: list[tuple[float, float] | None] = [*one.cycles] or [None] * len(one.rows)
    for row in one.rows:
        if not (row.ours > 0 and row.theirs > 0):
            raise InvalidInputError(f"a ratio needs figures above 0, but {row.name!r} has {row.ours} and {row.theirs}")
    return tuple(Case(row.ratio, both, _words(one, row)) for row, both in zip(one.rows, cycles, strict=True))


def _words(one: Compared, row: Figures) -> str:
    if row.unit.startswith("×"):
        told = f"{three_digits(row.ours)} {row.unit}"
    elif row.unit == "cycle":
        told = f"{row.ours:,.0f} cycles here, {row.theirs:,.0f} there"
    else:
        told = f"{three_digits(row.ours)} {row.unit} here, {three_digits(row.theirs)} there"
    off = f"{100 * (row.ratio - 1):+.1f} %" if row.ratio != 1 else "equal"
    return f"{one.peer}, {row.name}: {told} ({off})"


def _finding(strips: Sequence[Strip], within: int, cases: int) -> str:
    far, worst = max(
        ((max(case.ratio, 1 / case.ratio), strip) for strip in strips for case in strip.cases), key=lambda pair: pair[0]
    )
    text = f"{within:,} of {cases:,} estimates lie within {percent(BAND)} of the figure they are held against"
    return text if far <= 1 + BAND else f"{text}; the farthest, {worst.peer}'s {worst.quantity}, is {times(far)} off"


def plot_parity(comparisons: Sequence[Compared]) -> go.Figure:
    """Ours over theirs, one mark a case, one colour a peer; see :func:`parity_info` for the numbers.

    Args:
        comparisons: as ``codesign_kernel.session.validation.compare`` makes them.
    """
    return parity_figure(parity_info(comparisons))


def parity_figure(info: ParityInfo) -> go.Figure:
    """The figure for ``info``."""
    figure = go.Figure()
    timed = [both for strip in info.strips for case in strip.cases if (both := case.cycles)]
    if timed:
        _diagonal(figure, _span([value for both in timed for value in both], 2))
    for place, strip in enumerate(info.strips):
        _marks(figure, strip, len(info.strips) - 1 - place)
    figure.update_layout(showlegend=False, **_axes(info, timed), annotations=_labels(info))
    figure.add_shape(
        type="rect", xref="x2", yref="y2 domain", x0=1 - BAND, x1=1 + BAND, y0=0, y1=1, layer="below",
        fillcolor=theme.LIGHT["line"], opacity=0.7, line={"width": 0},
    )  # fmt: skip
    figure.add_shape(
        type="line", xref="x2", yref="y2 domain", x0=1, x1=1, y0=0, y1=1, layer="below",
        line={"color": theme.LIGHT["muted"], "width": 1},
    )  # fmt: skip
    strips_high = 46 * len(info.strips)
    body = {
        "yaxis.domain": [1 - 300 / (300 + 90 + strips_high), 1],
        "yaxis2.domain": [0, strips_high / (390 + strips_high)],
    }
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=(
            f"Our estimate over the other figure, one mark a case; shaded: within {percent(BAND)}. Beside each strip's "
            "name its number of cases, then the median difference."
        ),
        caption=_caption(info),
        alt=f"{info.finding}. Cases in brackets, then the median difference: "
        + "; ".join(strip.label for strip in info.strips)
        + ".",
        height=max(440, 24 + 50 * len(info.strips)),
        narrow={
            **(body if timed else {}),
            **{f"{axis}.domain": [0, 1] for axis in ("xaxis", "xaxis2")},
            # beside the lower panel nothing needs the margin that the upper one's numbers take
            **{f"annotations[{i}].xshift": -44 for i in range(len(info.strips) if timed else 0)},
            "yaxis.title.text": "",
            **{f"xaxis.{key}": ticks for key, ticks in _decades(2).items()},
            "xaxis.title.text": "Theirs across, ours up (cycles, log scale)",
            "height": 450 + strips_high if timed else 60 + strips_high,
        },
    )


def _diagonal(figure: go.Figure, span: tuple[float, float]) -> None:
    low, high = span
    figure.add_scatter(
        x=[low, high, high, low],
        y=[low * (1 + BAND), high * (1 + BAND), high * (1 - BAND), low * (1 - BAND)],
        fill="toself",
        fillcolor=theme.LIGHT["quiet"],
        opacity=0.7,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", line={"color": theme.LIGHT["muted"], "width": 1}, hoverinfo="skip"
    )


def _marks(figure: go.Figure, strip: Strip, height: int) -> None:
    """A strip's cases on its line, a little apart, and on the diagonal where they are cycles."""
    colour, symbol = _MARKS[strip.number]
    marker = {
        "color": theme.CATEGORY[colour],
        "symbol": symbol,
        "size": 9,
        "opacity": 0.85,
        "line": {"color": theme.LIGHT["ground"], "width": 0.7},
    }
    ordered = sorted(strip.cases, key=lambda case: case.ratio)
    # three rows in turn: neighbours do not hide each other, and the picture is the same every time
    offsets = [((i % 3) - 1) * _SPREAD if len(ordered) > 3 else 0.0 for i in range(len(ordered))]
    common = {"mode": "markers", "marker": marker, "hovertemplate": "%{customdata}<extra></extra>", "name": strip.label}
    figure.add_scatter(
        x=theme.lists([case.ratio for case in ordered]),
        y=[height + offset for offset in offsets],
        customdata=[theme.plain(case.words) for case in ordered],
        xaxis="x2",
        yaxis="y2",
        **common,
    )
    timed = [(case.cycles, case.words) for case in strip.cases if case.cycles]
    if timed:
        figure.add_scatter(
            x=theme.lists([both[1] for both, _ in timed]),
            y=theme.lists([both[0] for both, _ in timed]),
            customdata=[theme.plain(words) for _, words in timed],
            **common,
        )


def _span(values: Sequence[float], room: float) -> tuple[float, float]:
    return min(values) / room, max(values) * room


def _axes(info: ParityInfo, timed: Sequence[tuple[float, float]]) -> dict[str, Any]:
    ratios = [case.ratio for strip in info.strips for case in strip.cases]
    low, high = _span([*ratios, 1 - BAND, 1 + BAND], 1.12)
    steps = [2 ** (i / 2) for i in range(-12, 13)]
    axes: dict[str, Any] = {
        "xaxis2": {
            "type": "log",
            "range": [math.log10(low), math.log10(high)],
            "tickvals": steps,
            "ticktext": [f"{step:.1f} ×" if step % 1 else f"{step:.0f} ×" for step in steps],
            "title": {"text": "Ours / theirs (log scale)"},
            "showgrid": False,
            "domain": [0.54, 1] if timed else [0, 1],
            "anchor": "y2",
        },
        "yaxis2": {
            "range": [-0.4, len(info.strips) - 0.25],
            "visible": False,
            "domain": [0, 1],
            "anchor": "x2",
        },
    }
    if not timed:
        return {**axes, "xaxis": {"visible": False}, "yaxis": {"visible": False}}
    cycles = [value for both in timed for value in both]
    span = [math.log10(value) for value in _span(cycles, 2)]
    decades = {"type": "log", "range": span, **_decades(1)}
    axes["xaxis"] = {**decades, "title": {"text": "Their cycles (log scale)"}, "domain": [0, 0.45]}
    axes["yaxis"] = {**decades, "title": {"text": "Our cycles (log scale)"}}
    return axes


def _decades(step: int) -> dict[str, list[Any]]:
    """Ticks at every power of ten, or every second one, from 1 to 1 T."""
    powers = range(0, 13, step)
    texts = [f"{10 ** (power % 3)} {' kMGT'[power // 3]}".strip() for power in powers]
    return {"tickvals": [10.0**power for power in powers], "ticktext": texts}


def _labels(info: ParityInfo) -> list[dict[str, Any]]:
    """A strip's name stands above its marks, at the left."""
    return [
        {
            "text": theme.plain(strip.label),
            "xref": "x2 domain",
            "yref": "y2",
            "x": 0,
            "y": len(info.strips) - 1 - place + 0.22,
            "xanchor": "left",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 13},
        }
        for place, strip in enumerate(info.strips)
    ]


def _caption(info: ParityInfo) -> str:
    if not info.without_cycles or len(info.without_cycles) == len({strip.peer for strip in info.strips}):
        return ""
    names = " and ".join(info.without_cycles)
    return f"Times and rates are drawn as cycles too, but for {names}, of which only ratios are at hand."
