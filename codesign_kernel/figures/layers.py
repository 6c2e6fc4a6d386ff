"""Where the cycles and the energy go: per layer, and per part of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, short
from codesign_kernel.units import quantity

#: Rows of the figure; further layers, the quickest, share the last row.
ROWS = 24
#: What a layer's cycles are spent on: attribute of a layer's cost, words, colour.
PHASES = (
    ("load", "load", theme.CATEGORY["memory"]),
    ("compute", "compute", theme.CATEGORY["compute"]),
    ("store", "store", theme.CATEGORY["outputs"]),
    ("other", "other", theme.CATEGORY["idle"]),
)
#: Words and colour of the parts of the machine.
PARTS = {
    "compute": ("array and lanes", "compute"),
    "array": ("array", "compute"),
    "lanes": ("requantiser lanes", "compute"),
    "dram": ("external memory", "memory"),
    "weight": ("weight memory", "weights"),
    "activation": ("activation memory", "inputs"),
    "accumulator": ("accumulators", "outputs"),
    "instruction": ("instruction memory", "idle"),
    "control": ("control", "idle"),
    "leakage": ("leakage", "idle"),
    "input": ("input buffer", "inputs"),
    "output": ("output buffer", "outputs"),
    "shared": ("shared buffer", "inputs"),
    "registers": ("register files", "weights"),
}


class LayerCycles(Protocol):
    """What the figure needs of a layer's cost (cycles; utilisation of 1)."""

    @property
    def name(self) -> str: ...
    @property
    def latency_cycle(self) -> int: ...
    @property
    def load_cycle(self) -> int: ...
    @property
    def compute_cycle(self) -> int: ...
    @property
    def store_cycle(self) -> int: ...
    @property
    def utilization(self) -> float: ...


class Breakdown(Protocol):
    """A cost, as far as it is told apart here."""

    @property
    def layers(self) -> Sequence[LayerCycles]: ...
    @property
    def latency_cycle(self) -> int: ...
    @property
    def energy_parts(self) -> Mapping[str, float]: ...


class LayerBar(NamedTuple):
    """Cycles of one layer, or of ``many`` layers together; the four phases add up to ``total``."""

    name: str
    load: int
    compute: int
    store: int
    other: int
    utilization: float | None
    many: int = 1

    @property
    def total(self) -> int:
        """Cycles."""
        return self.load + self.compute + self.store + self.other


class LayersInfo(NamedTuple):
    """bars: in the order of execution, with ``outside`` they add up to ``total_cycle``.

    outside: cycles that belong to no layer, such as the end of the program. parts: energy by part of the machine,
    largest first (pJ).
    """

    bars: tuple[LayerBar, ...]
    total_cycle: int
    outside: int
    parts: tuple[tuple[str, float], ...]
    finding: str


def layers_info(cost: Breakdown, rows: int = ROWS) -> LayersInfo:
    """Cycles by layer and phase, and energy by part, each adding up to the total of ``cost``.

    Cycles of a layer that no phase claims are its ``other``; cycles that no layer claims are ``outside``.

    Args:
        rows: at most so many bars: the slowest layers, and one for all the rest.

    Raises:
        InvalidInputError: the cost has no layers.
    """
    if not cost.layers:
        raise InvalidInputError("a breakdown needs at least one layer, but this cost has none")
    bars = []
    for layer in cost.layers:
        known = layer.load_cycle + layer.compute_cycle + layer.store_cycle
        other = layer.latency_cycle - known
        bars.append(
            LayerBar(layer.name, layer.load_cycle, layer.compute_cycle, layer.store_cycle, other, layer.utilization)
        )
    if len(bars) > rows:
        slow = set(sorted(range(len(bars)), key=lambda i: -bars[i].total)[: rows - 1])
        rest = [bar for i, bar in enumerate(bars) if i not in slow]
        bars = [bar for i, bar in enumerate(bars) if i in slow]
        sums = {phase: sum(getattr(bar, phase) for bar in rest) for phase, _, _ in PHASES}
        bars.append(LayerBar(f"{len(rest)} quicker layers", **sums, utilization=None, many=len(rest)))
    parts = tuple(
        sorted(((str(k), float(v)) for k, v in cost.energy_parts.items() if v > 0), key=lambda part: -part[1])
    )
    outside = cost.latency_cycle - sum(bar.total for bar in bars)
    return LayersInfo(tuple(bars), cost.latency_cycle, outside, parts, _finding(bars, parts))


def _finding(bars: list[LayerBar], parts: tuple[tuple[str, float], ...]) -> str:
    total = sum(bar.total for bar in bars)
    slowest = max((bar for bar in bars if bar.many == 1), key=lambda bar: bar.total)
    phase, words = max(
        ((sum(getattr(bar, p) for bar in bars), words) for p, words, _ in PHASES), key=lambda pair: pair[0]
    )
    verb = {"load": "Waiting for external memory", "compute": "Computing", "store": "Storing results"}
    text = f"{verb.get(words, 'Waiting')} takes {percent(phase / total)} of the cycles"
    if len(bars) > 1:
        text += f", {slowest.name} alone {percent(slowest.total / total)}"
    if parts:
        text += f"; most energy goes into {part_words(parts[0][0])}"
    return text


def part_words(name: str) -> str:
    """A part of the machine as people call it."""
    return PARTS[name][0] if name in PARTS else theme.plain(name.replace("_", " "))


def _colour(part: str) -> str:
    return theme.CATEGORY[PARTS[part][1] if part in PARTS else "idle"]


def plot_layers(cost: Breakdown, rows: int = ROWS) -> go.Figure:
    """Cycles of each layer, split into load, compute and store, beside the energy of each part of the machine."""
    return layers_figure(layers_info(cost, rows))


def layers_figure(info: LayersInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_layers`."""
    figure = go.Figure()
    _cycles(figure, info)
    _energy(figure, info)
    legend = {"x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"}
    figure.update_layout(barmode="stack", **_axes(info), legend=legend)
    return theme.finish(
        figure,
        title=info.finding,
        caption=_caption(info),
        alt=_alt(info),
        height=26 * max(len(info.bars), len(info.parts)) + 110,
        top=36,
        narrow=_narrow(info),
        subtitle="Cycles by layer (load and store: external memory), with its rate in percent of peak; energy by part.",
    )


def _cycles(figure: go.Figure, info: LayersInfo) -> None:
    """The left panel: a bar for each layer, stacked of its phases, with its utilisation behind it."""
    rows = list(range(len(info.bars)))
    names = [theme.plain(bar.name) for bar in info.bars]
    for phase, words, colour in PHASES:
        values = [getattr(bar, phase) for bar in info.bars]
        if any(values):
            figure.add_bar(
                x=values,
                y=rows,
                orientation="h",
                name=words,
                marker={"color": colour},
                customdata=[
                    [name, percent(v / bar.total) if bar.total else "0 %"]
                    for name, v, bar in zip(names, values, info.bars, strict=True)
                ],
                hovertemplate=f"%{{customdata[0]}}, {words}: %{{x:,}} cycles, %{{customdata[1]}} of it<extra></extra>",
            )
    figure.add_scatter(
        x=[bar.total for bar in info.bars],
        y=rows,
        mode="text",
        textposition="middle right",
        cliponaxis=False,
        text=[f" {percent(bar.utilization)} of peak" if bar.utilization is not None else "" for bar in info.bars],
        textfont={"color": theme.LIGHT["muted"]},
        hoverinfo="skip",
        showlegend=False,
        name="utilisation",
    )


def _axes(info: LayersInfo) -> dict[str, Any]:
    """Cycles on the left, energy on the right, rows of the same height."""
    longest = max(bar.total for bar in info.bars)
    step, unit = _energy_unit(info)
    reach = 1.3 * max((value for _, value in info.parts), default=1.0) / step
    return {
        "xaxis": {
            "domain": [0, 0.52],
            "title": {"text": "Cycles"},
            "range": [0, 1.3 * longest],
            "nticks": 5,
            "tickformat": "~s",
        },
        "yaxis": theme.rows([theme.plain(bar.name) for bar in info.bars]),
        "xaxis2": {
            "domain": [0.76, 1],
            "anchor": "y2",
            "title": {"text": f"Energy ({unit})"},
            "nticks": 4,
            "range": [0, reach],
        },
        "yaxis2": {
            **theme.rows([part_words(name) for name, _ in info.parts]),
            "anchor": "x2",
            "domain": [max(0, 1 - len(info.parts) / len(info.bars)), 1],
        },
    }


def _narrow(info: LayersInfo) -> dict[str, Any]:
    """One panel under the other, with short names."""
    upper, lower, gap = 24 * len(info.bars) + 30, 24 * len(info.parts) + 30, 90
    total = upper + lower + gap
    return {
        "height": total + 170,
        "xaxis.domain": [0, 1],
        "xaxis2.domain": [0, 1],
        "xaxis.range": [0, 1.7 * max(bar.total for bar in info.bars)],
        "yaxis.domain": [1 - upper / total, 1],
        "yaxis2.domain": [0, lower / total],
        "yaxis.ticktext": [theme.plain(short(bar.name) if bar.many == 1 else bar.name) for bar in info.bars],
        "margin.t": 80,
    }


def _energy_unit(info: LayersInfo) -> tuple[float, str]:
    largest = max((value for _, value in info.parts), default=1.0)
    return next(((s, u) for s, u in ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")) if largest >= s), (1.0, "pJ"))


def _energy(figure: go.Figure, info: LayersInfo) -> None:
    step, _ = _energy_unit(info)
    total = sum(value for _, value in info.parts)
    figure.add_bar(
        x=theme.lists([value / step for _, value in info.parts]),
        y=list(range(len(info.parts))),
        orientation="h",
        xaxis="x2",
        yaxis="y2",
        marker={"color": [_colour(name) for name, _ in info.parts]},
        name="energy",
        showlegend=False,
        text=[percent(value / total) for _, value in info.parts],
        textposition="outside",
        cliponaxis=False,
        textfont={"color": theme.LIGHT["muted"]},
        customdata=[
            f"{part_words(name)}: {quantity(value * 1e-12, 'J')}, {percent(value / total)}"
            for name, value in info.parts
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _caption(info: LayersInfo) -> str:
    rest = [bar for bar in info.bars if bar.many > 1]
    parts = [f"The {len(info.bars) - len(rest)} slowest layers have a row each."] if rest else []
    if info.outside:
        parts.append(f"{info.outside:,} cycles belong to no layer.")
    return " ".join(parts)


def _alt(info: LayersInfo) -> str:
    told = sorted(info.bars, key=lambda bar: -bar.total)[:4]
    rows = "; ".join(f"{bar.name} {bar.total:,}" for bar in told)
    parts = ", ".join(f"{part_words(name)} {quantity(value * 1e-12, 'J')}" for name, value in info.parts[:4])
    return f"{info.finding}. Of {info.total_cycle:,} cycles, the slowest: {rows}. Energy: {parts}."
