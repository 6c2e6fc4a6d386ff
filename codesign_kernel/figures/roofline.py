"""The roofline: what each layer reaches, under what the array and the external memory allow.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
CACM 52(4), 2009, with MAC in place of FLOP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, short
from codesign_kernel.units import quantity, three_digits

if TYPE_CHECKING:
    from codesign_kernel.accelerator.spatial import SpatialArray
    from codesign_kernel.accelerator.types import Accelerator

#: Labels of more layers than this would lie over each other; then only the slowest few are named.
_LABELS = 6


class LayerRun(Protocol):
    """What the figures need of a layer's cost: cycles, MACs, external traffic (bit), utilisation (of 1)."""

    @property
    def name(self) -> str: ...
    @property
    def macs(self) -> int: ...
    @property
    def latency_cycle(self) -> int: ...
    @property
    def compute_cycle(self) -> int: ...
    @property
    def dram_bit(self) -> float: ...


class Runs(Protocol):
    """A cost, as far as its layers go. Where it has an ``accelerator`` too, that is the machine."""

    @property
    def layers(self) -> Sequence[LayerRun]: ...


class RoofPoint(NamedTuple):
    """One layer. ``intensity`` is None where it moves nothing over the external memory.

    intensity: MAC/byte. rate: MAC/s. share: of the latency of all layers shown. bound: the part of the roof above it,
    ``compute`` (flat) or ``memory`` (sloped).
    """

    name: str
    intensity: float | None
    rate: float
    share: float
    bound: str


class RooflineInfo(NamedTuple):
    """peak: MAC/s. bandwidth: byte/s, what the external bus carries. ridge: MAC/byte where the two roofs meet.

    offered: byte/s that the external memory could deliver. without_macs: layers that are left out. waiting: share of
    the cycles of the layers shown that is no computing, as ``plot_layers`` draws it. behind: whether the external
    memory works while the array does.
    """

    peak: float
    bandwidth: float
    ridge: float
    offered: float
    points: tuple[RoofPoint, ...]
    without_macs: int
    waiting: float
    behind: bool
    finding: str

    def roof(self, intensity: float) -> float:
        """The attainable rate at ``intensity`` (MAC/s)."""
        return min(self.peak, intensity * self.bandwidth)


def roofline_info(cost: Runs, accelerator: Accelerator | SpatialArray | None = None) -> RooflineInfo:
    """Where the layers of ``cost`` lie under the roof of its machine.

    A layer's intensity counts the traffic that the cost model counts (loads and stores of the external memory). The
    bandwidth is that of the bus, whose width is a power of two and may carry less than the memory could. Which part of
    the roof a layer lies under says what it could reach at best, not what it waits for: loading weights into the array
    and PEs without work are computing too.

    Args:
        cost: as ``evaluate`` gives it.
        accelerator: the machine of ``cost``, where that does not say.

    Raises:
        InvalidInputError: no layer does MACs, or ``accelerator`` is missing or another one than the cost's.
    """
    machine = _machine(cost, accelerator)
    frequency_hz = machine.frequency_mhz * 1e6
    bus_bits = getattr(machine, "bus_bits", machine.bits_per_cycle)  # what it can use of what the memory has
    peak, bandwidth = machine.peak_macs_per_s, bus_bits / 8 * frequency_hz
    ridge = peak / bandwidth
    layers = [layer for layer in cost.layers if layer.macs]
    if not layers:
        raise InvalidInputError("a roofline needs a layer that does MACs, but this cost has none")
    total = sum(layer.latency_cycle for layer in layers)
    points = []
    for layer in layers:
        intensity = layer.macs / (layer.dram_bit / 8) if layer.dram_bit else None
        bound = "compute" if intensity is None or intensity >= ridge else "memory"
        rate = layer.macs * frequency_hz / layer.latency_cycle
        points.append(RoofPoint(layer.name, intensity, rate, layer.latency_cycle / total, bound))
    return RooflineInfo(
        peak,
        bandwidth,
        ridge,
        machine.bandwidth_gb_s * 1e9,
        tuple(points),
        len(cost.layers) - len(layers),
        1 - sum(layer.compute_cycle for layer in layers) / total,
        getattr(machine, "double_buffered", False),
        _finding(points, peak),
    )


def _machine(cost: Runs, given: Accelerator | SpatialArray | None) -> Accelerator | SpatialArray:
    """The machine that ``cost`` is of; ``given`` has to be the same."""
    own: Accelerator | SpatialArray | None = getattr(cost, "accelerator", None)
    machine = given if own is None else own
    if machine is None:
        raise InvalidInputError("a roofline needs a machine, but the cost names none; give the accelerator")
    if given is not None and given != machine:
        raise InvalidInputError(
            f"a roofline is of the machine that was costed, {machine}, but got another one, {given}; leave it out or "
            "evaluate the workload on it"
        )
    return machine


def _finding(points: list[RoofPoint], peak: float) -> str:
    flat = sum(point.bound == "compute" for point in points)
    slow = sum(point.share for point in points if point.bound == "memory")
    best = max(points, key=lambda point: point.rate)
    layers = "layer" if len(points) == 1 else "layers"
    if slow > 0.5:
        lie = "lies" if len(points) == 1 else "lie"
        sloped = f"{len(points) - flat} of {len(points)} {layers} {lie} under the slope of the roof"
        return f"{sloped}, where bandwidth sets the limit"
    reached = percent(best.rate / peak)
    return f"{flat} of {len(points)} {layers} under the flat roof, {best.name} at {reached} of it"


def plot_roofline(cost: Runs, accelerator: Accelerator | SpatialArray | None = None) -> go.Figure:
    """The layers of ``cost`` under the roof of its machine; see :func:`roofline_info` for the numbers."""
    return roofline_figure(roofline_info(cost, accelerator))


def roofline_figure(info: RooflineInfo) -> go.Figure:
    """The figure for ``info``. Layers without external traffic stand at the right edge: intensity has no bound."""
    known = [point.intensity for point in info.points if point.intensity is not None]
    left = min([*known, info.ridge]) / 4
    right = max([*known, info.ridge]) * 4
    edge = right * 2.5
    low = min([*(point.rate for point in info.points), info.roof(left)]) / 2
    figure = go.Figure()
    grid = [left, info.ridge, edge * 1.6]
    figure.add_scatter(
        x=theme.lists(grid),
        y=theme.lists([info.roof(value) / 1e9 for value in grid]),
        mode="lines",
        name="roof",
        line={"color": theme.LIGHT["text"], "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )
    named = _named(info, edge, left, low)
    for bound, words in (("compute", "under the flat roof"), ("memory", "under the slope")):
        points = [point for point in info.points if point.bound == bound]
        if points:
            figure.add_trace(_trace(info, points, words, edge, named))
    figure.update_layout(
        xaxis=_log("Intensity (MAC per byte of external traffic, log scale)", left, edge * 1.6),
        yaxis=_log("Rate (GMAC/s, log scale), higher is better", low / 1e9, info.peak / 1e9 * 2.2),
        annotations=_roof_words(info, left, right),
        legend={"y": -0.2},
        showlegend=len({point.bound for point in info.points}) > 1,
    )
    if any(point.intensity is None for point in info.points):
        _mark_edge(figure, edge, right)
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="What each layer reaches, under the roof of peak rate and bandwidth; size: its share of the time.",
        caption=_caption(info),
        alt=_alt(info),
        height=440,
        top=16,
        narrow={
            "height": 420,
            "legend.y": -0.24,
            "xaxis.title.text": "MAC per external byte (log scale)",
            "yaxis.title.text": "GMAC/s (log scale)",
        },
    )


def _named(info: RooflineInfo, edge: float, left: float, low: float) -> set[str]:
    """The layers that are named: the slowest ones, as long as their names do not lie over one another."""
    placed: dict[str, tuple[float, float]] = {}
    wide, high = math.log(edge * 1.6 / left), math.log(info.peak * 2.2 / low)
    for point in sorted(info.points, key=lambda point: -point.share):
        x = math.log((edge if point.intensity is None else point.intensity) / left) / wide
        y = math.log(point.rate / low) / high
        if all(abs(x - a) > 0.36 or abs(y - b) > 0.1 for a, b in placed.values()):
            placed[point.name] = (x, y)
        if len(placed) == _LABELS:
            break
    return set(placed)


def _trace(info: RooflineInfo, points: list[RoofPoint], words: str, edge: float, named: set[str]) -> go.Scatter:
    hover = []
    for point in points:
        at = f"{three_digits(point.intensity)} MAC/byte" if point.intensity is not None else "no external traffic"
        limit = info.peak if point.intensity is None else info.roof(point.intensity)
        hover.append(
            f"{theme.plain(point.name)}: {quantity(point.rate, 'MAC/s')}, {percent(point.rate / limit)} of its roof, "
            f"{at}, {percent(point.share)} of the time"
        )
    memory = points[0].bound == "memory"
    return go.Scatter(
        x=theme.lists([edge if point.intensity is None else point.intensity for point in points]),
        y=theme.lists([point.rate / 1e9 for point in points]),
        text=[theme.plain(short(point.name)) if point.name in named else "" for point in points],
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        mode="markers+text",
        name=words,
        cliponaxis=False,
        textposition="bottom center",
        textfont={"size": 13},
        marker={
            "color": theme.CATEGORY["memory" if memory else "compute"],
            "symbol": "square" if memory else "circle",
            "size": [8 + 22 * math.sqrt(point.share) for point in points],
            "opacity": 0.9,
            "line": {"color": theme.LIGHT["ground"], "width": 1},
        },
    )


def _log(title: str, low: float, high: float) -> dict[str, Any]:
    ticks = [10.0**decade for decade in range(-9, 10)]
    return {
        "type": "log",
        "title": {"text": title},
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:,.10g}" for tick in ticks],
    }


def _roof_words(info: RooflineInfo, left: float, right: float) -> list[dict[str, Any]]:
    """Direct labels: the peak over the flat roof, the bandwidth along the slope."""
    middle = math.sqrt(left * info.ridge)
    common = {"showarrow": False, "font": {"size": 13, "color": theme.LIGHT["muted"]}}
    return [
        {
            **common,
            "x": math.log10(info.ridge),
            "y": math.log10(info.peak / 1e9),
            "xanchor": "left",
            "yanchor": "bottom",
            "text": f"peak {quantity(info.peak, 'MAC/s')}",
        },
        {
            **common,
            "x": math.log10(middle),
            "y": math.log10(info.roof(middle) / 1e9),
            "xanchor": "left",
            "yanchor": "top",
            "text": quantity(info.bandwidth, "B/s"),
            "xshift": 8,
        },
    ]


def _mark_edge(figure: go.Figure, edge: float, right: float) -> None:
    figure.add_vline(x=math.sqrt(edge * right), line={"color": theme.LIGHT["line"], "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=math.log10(edge * 1.6),
        y=0,
        yref="paper",
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
        align="right",
        text="no external<br>traffic",
        font={"size": 13, "color": theme.LIGHT["muted"]},
    )


def left_out(without_macs: int) -> str:
    """What a roofline says of the operators that it does not draw."""
    what = "1 operator without MACs is" if without_macs == 1 else f"{without_macs} operators without MACs are"
    return f"{what} not drawn."


def _caption(info: RooflineInfo) -> str:
    wait = f"{percent(info.waiting)} of these layers' cycles wait for the external memory"
    if info.behind:
        parts = [
            "Memory works behind the array: below the roof, a layer fills and drains the array, leaves PEs without "
            f"work or waits for transfers that nothing hides. {wait}; moving weights into the array is computing."
        ]
    else:
        parts = [f"Loading, computing and storing follow one another, so what moves data stays below the roof. {wait}."]
    if info.bandwidth < 0.999 * info.offered:
        parts.append(
            f"The memory offers {quantity(info.offered, 'B/s')}; the bus carries {quantity(info.bandwidth, 'B/s')}."
        )
    inside = sum(point.intensity is None for point in info.points)
    if inside:
        what = "1 layer moves" if inside == 1 else f"{inside} layers move"
        parts.append(f"{what} nothing over the external memory: drawn at the right edge, its intensity has no bound.")
    if info.without_macs:
        parts.append(left_out(info.without_macs))
    if len(info.points) > _LABELS:
        parts.append("Only slow layers are named.")
    return " ".join(parts)


def _alt(info: RooflineInfo) -> str:
    slowest = max(info.points, key=lambda point: point.share)
    return (
        f"{info.finding}. Peak {quantity(info.peak, 'MAC/s')}, external bandwidth {quantity(info.bandwidth, 'B/s')}, "
        f"ridge at {three_digits(info.ridge)} MAC per byte. The slowest layer, {slowest.name}, takes "
        f"{percent(slowest.share)} of the time and reaches {quantity(slowest.rate, 'MAC/s')}."
    )
