"""The figure of lost cycles: every cycle is drawn once, under the cause that it has."""

from __future__ import annotations

import pytest
from loops import CAUSED

from codesign_kernel import figures
from codesign_kernel.accelerator.causes import CAUSES, Causes, breakdown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.causes import LOOKS, causes_table


def layers(count: int) -> Causes:
    """``count`` layers of 20, 30, 40 ... cycles on 2 PEs, a quarter of each useful."""
    told = [(f"l{i}", {"streamed": (i + 2) * 10, "memory": (i + 2) * 10}) for i in range(count)]
    return breakdown(2, told, {f"l{i}": ((i + 2) * 5, 0) for i in range(count)})


def test_bars_add_up() -> None:
    info = figures.causes_info(CAUSED)
    assert [bar.name for bar in info.bars] == ["conv", "fc"]
    assert sum(bar.total for bar in info.bars) + info.outside == info.cycles == 1234
    assert info.outside == 2
    assert info.bars[0].parts == (650, 100, 50, 3, 5, 10, 0, 30, 2)
    assert info.bars[0].utilization == 3000 / 3400
    assert sum(info.shares.values()) == pytest.approx(1)
    assert info.shares["useful"] == 3300 / 4936
    assert info.finding == "The PEs multiply for 75\u00a0% of the time; the most is lost to edges, 10\u00a0%"


def test_each_cause_is_drawn_where_it_is() -> None:
    figure = figures.plot_causes(CAUSED)
    drawn = {trace.name: trace.x for trace in figure.data if trace.type == "bar"}
    assert list(drawn) == [LOOKS[cause][0] for cause in CAUSES]
    assert drawn["useful"] == (650, 175)
    assert drawn["memory"] == (30, 0)
    assert [sum(column) for column in zip(*drawn.values(), strict=True)] == [850, 382]
    caption = figure.layout.meta["caption"]
    # at work: 4,200 slots streamed, 212 waiting for weights, 120 filling and draining
    assert caption == "The array at work multiplies for 82\u00a0% of the time. 2 cycles belong to no layer."
    no_padding = figures.plot_causes(layers(2))
    assert [trace.name for trace in no_padding.data if trace.type == "bar"] == ["useful", "edges", "memory"]


def test_looks_tell_all_causes_apart() -> None:
    assert tuple(LOOKS) == CAUSES
    assert len({words for words, _, _ in LOOKS.values()}) == len(CAUSES)
    assert len({(colour, pattern) for _, colour, pattern in LOOKS.values()}) == len(CAUSES)


def test_many_layers_share_a_row() -> None:
    info = figures.causes_info(layers(30), rows=5)
    assert [bar.name for bar in info.bars] == ["l26", "l27", "l28", "l29", "26 quicker layers"]
    assert sum(bar.total for bar in info.bars) == info.cycles == layers(30).total.cycles
    assert info.bars[-1].utilization == 0.25
    assert "4 slowest layers" in figures.causes_figure(info).layout.meta["caption"]


def test_a_program_without_layers_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one layer"):
        figures.causes_info(breakdown(4, [("end", {"issue": 8})], {}))


def test_the_table_says_the_same() -> None:
    text = causes_table(CAUSED)
    for cell in (">850<", ">650.0<", ">1,234<", ">825.0<", ">Requantising<"):
        assert cell in text, cell
