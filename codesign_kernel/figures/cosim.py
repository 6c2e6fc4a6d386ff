"""The closed loop: RTL, cost model and program count the same cycles, and every bit agrees."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import plotly.graph_objects as go

from codesign_kernel.accelerator.causes import Causes
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.figures.words import percent


class Checked(Protocol):
    """What the figure needs of a co-simulation: images compared, images that differ (and where the first begins to),
    three counts of the cycles of one image, images that took another number, runs in which an instruction took other
    cycles than predicted (and the first of these), where the cycles go, and the verdict over all of it.
    """

    @property
    def vectors(self) -> int: ...
    @property
    def mismatches(self) -> int: ...
    @property
    def cycles_rtl(self) -> int: ...
    @property
    def cycles_model(self) -> int: ...
    @property
    def cycles_program(self) -> int: ...
    @property
    def cycle_mismatches(self) -> int: ...
    @property
    def instruction_mismatches(self) -> int: ...
    @property
    def first_instruction(self) -> object: ...
    @property
    def first_mismatch(self) -> object: ...
    @property
    def causes(self) -> Causes: ...
    @property
    def simulator(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    def to_dict(self) -> dict[str, Any]: ...


class CosimInfo(NamedTuple):
    """cycles: (what counted them, how many) for RTL, cost model and program. agree, differ: images. proven: all agrees.

    note: where the first image that differs begins to do so, images that took another time, and the first instruction
    that did; empty if all agrees.
    """

    cycles: tuple[tuple[str, int], ...]
    agree: int
    differ: int
    simulator: str
    proven: bool
    finding: str
    note: str = ""


def cosim_info(report: Checked) -> CosimInfo:
    """What the closed loop shows.

    Raises:
        InvalidInputError: nothing was compared.
    """
    if report.vectors < 1:
        raise InvalidInputError("a co-simulation compares at least one image, but this report has none; give it inputs")
    cycles = (
        (f"RTL ({report.simulator})", report.cycles_rtl),
        ("cost model", report.cycles_model),
        ("program", report.cycles_program),
    )
    agree = report.vectors - report.mismatches
    same = len({count for _, count in cycles}) == 1 and not report.cycle_mismatches
    if not same:
        time = "The cycle counts disagree"
    elif report.instruction_mismatches:
        time = f"All take {report.cycles_rtl:,} cycles, but not instruction by instruction"
    else:
        time = f"RTL, cost model and program take {report.cycles_rtl:,} cycles"
    if report.mismatches:
        bits = f"{report.mismatches:,} of {report.vectors:,} images differ"
    else:
        bits = (
            "the only image agrees bit for bit"
            if report.vectors == 1
            else f"all {report.vectors:,} images agree bit for bit"
        )
    notes = []
    if report.mismatches:
        notes.append(f"The first difference: {report.first_mismatch}.")
    if report.cycle_mismatches:
        notes.append(f"{report.cycle_mismatches:,} images took another number of cycles than predicted.")
    if report.instruction_mismatches:
        runs = (
            "In one run an instruction"
            if report.instruction_mismatches == 1
            else (f"In {report.instruction_mismatches:,} runs an instruction")
        )
        notes.append(f"{runs} took another time than predicted. The first: {report.first_instruction}.")
    if not report.passed and not notes and same:
        notes.append("Loading the weights took another number of cycles than predicted.")
    finding = f"{time}, and {bits}"
    return CosimInfo(cycles, agree, report.mismatches, report.simulator, report.passed, finding, " ".join(notes))


def plot_cosim(report: Checked) -> go.Figure:
    """Cycles of an inference counted three ways, and the images whose outputs agree with the golden model."""
    return cosim_figure(cosim_info(report))


def cosim_figure(info: CosimInfo) -> go.Figure:
    """The figure for ``info``; see :func:`plot_cosim`."""
    figure = go.Figure()
    _cycles(figure, info)
    _images(figure, info)
    figure.update_layout(barmode="stack", showlegend=False, **_axes(info))
    words = ", ".join(f"{name} {count:,}" for name, count in info.cycles)
    return theme.finish(
        figure,
        title=info.finding,
        height=330,
        caption=info.note,
        subtitle="One inference as the RTL ran it, as the cost model predicted it, and as the program adds up.",
        alt=f"{info.finding}. Cycles: {words}. Images that agree: {info.agree:,} of {info.agree + info.differ:,}.",
    )


def _cycles(figure: go.Figure, info: CosimInfo) -> None:
    """The upper panel: a bar for each count, marked where it is not the first one."""
    signs = ["" if count == info.cycles[0][1] else "≠ " for _, count in info.cycles]
    figure.add_bar(
        y=[theme.plain(name) for name, _ in info.cycles],
        x=[count for _, count in info.cycles],
        orientation="h",
        width=0.6,
        name="cycles",
        text=[f"{sign}{count:,} cycles" for sign, (_, count) in zip(signs, info.cycles, strict=True)],
        textposition="inside",
        insidetextanchor="start",
        textfont={"color": theme.LIGHT["ground"], "size": 15},
        hovertemplate="%{y}: %{x:,} cycles<extra></extra>",
        marker={"color": [theme.LIGHT["bad"] if sign else theme.LIGHT["text"] for sign in signs]},
    )


def _images(figure: go.Figure, info: CosimInfo) -> None:
    """The lower panel: one bar of the images that agree and those that differ."""
    total = info.agree + info.differ
    for name, sign, count, colour in (("agree", "✓", info.agree, "good"), ("differ", "✗", info.differ, "bad")):
        if count:
            figure.add_bar(
                y=["images"],
                x=[count],
                orientation="h",
                width=0.6,
                name=name,
                xaxis="x2",
                yaxis="y2",
                marker={"color": theme.LIGHT[colour]},
                text=[f"{sign} {count:,} {name}"],
                textposition="inside",
                insidetextanchor="start",
                textfont={"color": theme.LIGHT["ground"], "size": 15},
                textangle=0,
                hovertemplate=f"{count:,} of {total:,} images {name} ({percent(count / total)})<extra></extra>",
            )


def _axes(info: CosimInfo) -> dict[str, Any]:
    row = {"showgrid": False, "ticks": "", "showline": False, "ticklabelstandoff": 6}
    count = {"nticks": 6, "tickformat": ","}
    longest = max(cycles for _, cycles in info.cycles)
    return {
        "xaxis": {
            "title": {"text": "Cycles of one inference"},
            "range": [0, 1.02 * longest],
            **count,
            "anchor": "y",
        },
        "yaxis": {**row, "autorange": "reversed", "domain": [0.45, 1]},
        "xaxis2": {
            "title": {"text": "Images, every output bit compared"},
            "range": [0, info.agree + info.differ],
            **count,
            "anchor": "y2",
        },
        "yaxis2": {**row, "domain": [0, 0.19]},
    }
