"""A model in the order of execution: what each layer costs, and what memory activations need while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.models import MEASURES, ModelInfo, Profiled, finding, model_info
from codesign_kernel.units import quantity

#: Measures that a layer has for itself; memory has a panel of its own.
SHOWN = tuple(name for name in MEASURES if name != "memory")
_COLOURS = {"macs": "compute", "bytes": "memory", "intensity": "compute", "parameters": "weights"}
#: What memory is used for during a layer: words, colour.
USES = (("what it makes", "outputs"), ("what it reads", "inputs"), ("what waits for a later layer", "idle"))


def memory_uses(info: ModelInfo) -> tuple[tuple[int, ...], ...]:
    """For each of USES the bytes during each layer; together they are ``info.memory``."""
    uses = [[0] * len(info.layers) for _ in USES]
    for tensor in info.activations:
        readers = set(tensor.readers)
        for layer in range(tensor.first, tensor.last + 1):
            use = 0 if layer == tensor.producer else 1 if layer in readers else 2
            uses[use][layer] += tensor.bytes
    return tuple(map(tuple, uses))


def plot_timeline(profile: Profiled, measure: str = "macs") -> go.Figure:
    """Each layer's MACs (or another of SHOWN) in the order of execution, above the memory that activations need."""
    return timeline_figure(model_info(profile), measure)


def timeline_figure(info: ModelInfo, measure: str = "macs", other: ModelInfo | None = None) -> go.Figure:
    """The figure for ``info``; see :func:`plot_timeline`. The memory of an ``other`` model is drawn as a line.

    Raises:
        InvalidInputError: no such measure.
    """
    if measure not in SHOWN:
        raise InvalidInputError(f"what is shown by layer is one of {', '.join(SHOWN)}, but got {measure!r}")
    figure = go.Figure()
    places = list(range(len(info.layers)))
    values = [float(row.sums.value(measure) or 0) for row in info.layers]
    step, unit = _unit(max(values), MEASURES[measure].unit)
    figure.add_bar(
        x=places,
        y=theme.lists([value / step for value in values]),
        name=MEASURES[measure].label,
        marker={"color": theme.CATEGORY[_COLOURS[measure]], "line": {"width": 0}},
        customdata=[
            f"{theme.plain(row.name)} ({theme.plain(row.op)}): {row.sums.text(measure)}" for row in info.layers
        ],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    axes: dict[str, Any] = {
        "xaxis": {"title": {"text": "Layer, in the order of execution"}, "range": [-0.6, len(places) - 0.4]},
        "yaxis": {"title": {"text": f"{MEASURES[measure].label}{f' ({unit})' if unit else ''}"}, "rangemode": "tozero"},
    }
    if info.memory:
        axes["xaxis"] |= {"anchor": "y2"}
        axes["yaxis"] |= {"domain": [0.6, 1]}
        axes["yaxis2"] = _memory(figure, info, other)
    # a column is hit also where its bar is low, or not there
    figure.update_layout(hovermode="x", barmode="stack", bargap=0.1 if len(places) < 400 else 0, **axes)
    return theme.finish(
        figure,
        title=finding(info),
        subtitle=f"{info.name}: {MEASURES[measure].label} of each layer"
        + (", and the activations alive while it runs." if info.memory else "."),
        caption=_caption(info),
        alt=_alt(info, measure),
        height=430 if info.memory else 260,
        narrow={"legend.y": -0.16},
    )


def _memory(figure: go.Figure, info: ModelInfo, other: ModelInfo | None) -> dict[str, Any]:
    """The lower panel; gives its axis."""
    assert info.peak is not None
    most = info.memory[info.peak]
    step, unit = _unit(most, "B")
    for (words, colour), values in zip(USES, memory_uses(info), strict=True):
        figure.add_bar(
            x=list(range(len(values))),
            y=theme.lists([value / step for value in values]),
            yaxis="y2",
            name=words,
            marker={"color": theme.CATEGORY[colour], "line": {"width": 0}},
            customdata=[
                f"{theme.plain(row.name)}: {words} {quantity(value, 'B')} of {quantity(whole, 'B')}"
                for row, value, whole in zip(info.layers, values, info.memory, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    if other is not None and other.memory:
        figure.add_scatter(
            x=list(range(len(other.memory))),
            y=theme.lists([value / step for value in other.memory]),
            yaxis="y2",
            mode="lines",
            name=f"{theme.plain(other.name)}, by its own layers",
            line={"shape": "hvh", "color": theme.LIGHT["text"], "width": 1.5},
            customdata=[
                f"{theme.plain(other.name)}, {theme.plain(row.name)}: {quantity(value, 'B')}"
                for row, value in zip(other.layers, other.memory, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    highest = max(most, *(other.memory if other is not None and other.memory else (0,)))
    left = info.peak < len(info.layers) / 2
    figure.add_annotation(
        x=info.peak,
        y=most / step,
        yref="y2",
        text=f"{theme.plain(info.layers[info.peak].name)}: {quantity(most, 'B')}",
        xanchor="left" if left else "right",
        yanchor="bottom",
        showarrow=False,
        font={"color": theme.LIGHT["text"]},
    )
    return {
        "title": {"text": f"Memory ({unit})"},
        "domain": [0, 0.44],
        "range": [0, 1.18 * highest / step],
        "nticks": 5,
    }


def _unit(largest: float, unit: str) -> tuple[float, str]:
    """What values are divided by, and the unit they are in then."""
    if unit == "B":
        return next(((2.0**n, f"{p}B") for n, p in ((30, "Gi"), (20, "Mi"), (10, "Ki")) if largest >= 2**n), (1.0, "B"))
    steps = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    if unit == "MAC/B":
        return 1.0, unit
    return next(((step, f"{prefix}{unit}") for step, prefix in steps if largest >= step), (1.0, unit))


def _caption(info: ModelInfo) -> str:
    parts = []
    if info.unused:
        parts.append(f"{info.unused:,} parameters belong to no operator.")
    if info.uncosted:
        counts = ", ".join(f"{op} × {count}" for op, count in sorted(info.uncosted.items()))
        parts.append(f"Not costed: {counts}.")
    return " ".join(parts)


def _alt(info: ModelInfo, measure: str) -> str:
    top: Sequence[Any] = sorted(info.layers, key=lambda row: -(row.sums.value(measure) or 0))[:4]
    told = "; ".join(f"{row.name} {row.sums.text(measure)}" for row in top)
    alive = ""
    if info.peak is not None:
        parts = ", ".join(f"{info.tensor_name(t.producer)} {quantity(t.bytes, 'B')}" for t in info.alive(info.peak)[:4])
        alive = f" At the peak are alive: {parts}."
    return f"{finding(info)}. Most {MEASURES[measure].label}: {told}.{alive}"
