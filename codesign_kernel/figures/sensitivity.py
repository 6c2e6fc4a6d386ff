"""Which layers suffer from narrow weights: one dot for each layer and width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent, short
from codesign_kernel.units import three_digits

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("layer", "weights", "weight_bits", "accuracy", "sqnr_db")
#: What is across; on a phone it stands alone, for there is no room for more.
NOISE = "Signal over noise of the results (dB)"
#: Layers that have a row each; of more, those that suffer most.
ROWS = 24
#: Width (bit) -> colour and marker.
LOOKS: dict[int, tuple[str, str]] = {
    2: (theme.CATEGORY["compute"], "diamond"),
    4: (theme.CATEGORY["weights"], "circle"),
    8: (theme.CATEGORY["outputs"], "square"),
}


class Dot(NamedTuple):
    """One layer narrowed to ``width`` bits: signal over noise of the results (dB), and accuracy (share)."""

    layer: str
    width: int
    sqnr_db: float
    accuracy: float


class SensitivityInfo(NamedTuple):
    """layers: rows, in the order of execution. weights: of each. dots: of all rows. left_out: layers without a row.

    bits, sqnr_db, accuracy: of the network in which no layer is narrowed.
    """

    layers: tuple[str, ...]
    weights: tuple[int, ...]
    dots: tuple[Dot, ...]
    left_out: int
    bits: int
    sqnr_db: float
    accuracy: float
    finding: str


def sensitivity_info(frame: pd.DataFrame, rows: int = ROWS) -> SensitivityInfo:
    """What there is to see in what :func:`codesign_kernel.sensitivity` returned.

    Args:
        rows: at most so many layers, those with the least signal over noise.

    Raises:
        InvalidInputError: a column is missing, or there is no row without and one with a narrowed layer.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InvalidInputError(
            f"a sensitivity has the columns {', '.join(COLUMNS)}, but {missing[0]!r} is missing; pass what "
            "codesign_kernel.sensitivity returned"
        )
    whole, narrowed = frame[frame["layer"] == ""], frame[frame["layer"] != ""]
    if len(whole) != 1 or narrowed.empty:
        raise InvalidInputError(
            f"a sensitivity has one row without a narrowed layer and some with one, but got {len(whole)} and "
            f"{len(narrowed)}; pass what codesign_kernel.sensitivity returned"
        )
    worst = narrowed.groupby("layer", sort=False)["sqnr_db"].min()
    kept = set(worst.nsmallest(rows).index)
    layers = [name for name in worst.index if name in kept]
    dots = [
        Dot(str(row.layer), int(row.weight_bits), float(row.sqnr_db), float(row.accuracy))
        for row in narrowed.itertuples()
        if row.layer in kept
    ]
    weights = narrowed.groupby("layer", sort=False)["weights"].first()
    first = whole.iloc[0]
    return SensitivityInfo(
        tuple(map(str, layers)),
        tuple(int(weights[name]) for name in layers),
        tuple(dots),
        len(worst) - len(layers),
        int(first["weight_bits"]),
        float(first["sqnr_db"]),
        float(first["accuracy"]),
        _finding(dots, float(first["accuracy"])),
    )


def _finding(dots: Sequence[Dot], accuracy: float) -> str:
    width = min(dot.width for dot in dots)
    narrowest = [dot for dot in dots if dot.width == width]
    worst = min(narrowest, key=lambda dot: (dot.sqnr_db, dot.layer))
    best = max(narrowest, key=lambda dot: (dot.sqnr_db, dot.layer))
    lost = 100 * (accuracy - worst.accuracy)
    cost = f"{three_digits(lost)} points of accuracy" if lost > 0 else "no accuracy"
    text = f"Weights of {width} bit cost most in {worst.layer}: {cost}"
    return text if len(narrowest) == 1 else f"{text}; least in {best.layer}"


def plot_sensitivity(frame: pd.DataFrame, rows: int = ROWS) -> go.Figure:
    """Signal over noise of the results when one layer's weights are narrowed; see :func:`sensitivity_info`."""
    return sensitivity_figure(sensitivity_info(frame, rows))


def sensitivity_figure(info: SensitivityInfo) -> go.Figure:
    """The figure for ``info``: a row for each layer, and a line where no layer is narrowed."""
    figure = go.Figure()
    place = {name: at for at, name in enumerate(info.layers)}
    for width in sorted({dot.width for dot in info.dots}):
        colour, marker = LOOKS.get(width, (theme.LIGHT["muted"], "x"))
        dots = [dot for dot in info.dots if dot.width == width]
        figure.add_scatter(
            x=theme.lists([dot.sqnr_db for dot in dots]),
            y=[place[dot.layer] for dot in dots],
            mode="markers",
            name=f"{width} bit",
            marker={"color": colour, "symbol": marker, "size": 11},
            customdata=[[theme.plain(dot.layer), percent(dot.accuracy)] for dot in dots],
            hovertemplate=f"%{{customdata[0]}} at {width} bit: %{{x:.1f}} dB, %{{customdata[1]}} right<extra></extra>",
        )
    if math.isfinite(info.sqnr_db):
        figure.add_vline(x=info.sqnr_db, line={"color": theme.LIGHT["muted"], "dash": "dot", "width": 1})
        figure.add_annotation(
            x=info.sqnr_db, y=1, yref="paper", yanchor="bottom", text=f"all at {info.bits} bit", showarrow=False,
            xanchor="right", font={"color": theme.LIGHT["muted"]},
        )  # fmt: skip
    figure.update_layout(legend={"x": 0, "y": 1, "yanchor": "bottom", "orientation": "h"}, **_axes(info))
    height = 26 * len(info.layers) + 110
    return theme.finish(
        figure,
        title=info.finding,
        subtitle="Power of the float model's results over that of the error when the weights of one layer alone are "
        "narrowed.",
        caption=_caption(info),
        alt=_alt(info),
        height=height,
        top=36,
        narrow={
            "height": height + 60,
            "xaxis.title.text": NOISE,
            "yaxis.ticktext": [theme.plain(short(name)) for name in info.layers],
        },
    )


def _axes(info: SensitivityInfo) -> dict[str, Any]:
    names = [f"{name} ({count:,})" for name, count in zip(info.layers, info.weights, strict=True)]
    return {
        "xaxis": {"title": {"text": f"{NOISE}, higher is better"}},
        "yaxis": {
            "tickvals": list(range(len(info.layers))),
            "ticktext": [theme.plain(name) for name in names],
            "range": [len(info.layers) - 0.4, -0.6],
            "ticks": "",
            "showline": False,
            "ticklabelstandoff": 6,
        },
    }


def _caption(info: SensitivityInfo) -> str:
    right = percent(info.accuracy)
    told = [f"In brackets: a layer's weights. With all at {info.bits} bit {right} of the validation inputs are right."]
    told += [f"Layers without a row, as they suffer less: {info.left_out}."] if info.left_out else []
    return " ".join(told)


def _alt(info: SensitivityInfo) -> str:
    rows = "; ".join(
        f"{dot.layer} at {dot.width} bit {dot.sqnr_db:.1f} dB, {percent(dot.accuracy)} right" for dot in info.dots[:6]
    )
    return f"{info.finding}. Signal over noise and accuracy by layer: {rows}."
