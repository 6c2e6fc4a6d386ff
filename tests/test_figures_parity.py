"""The parity plot: what it says is checked on hand-made comparisons."""

from __future__ import annotations

import pytest

from codesign_kernel import figures
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.session.validation import Comparison, Row


def comparison(peer: str, quantity: str, unit: str, *pairs: tuple[float, float]) -> Comparison:
    rows = tuple(Row(f"case {i}", ours, theirs, unit) for i, (ours, theirs) in enumerate(pairs))
    return Comparison(peer, quantity, "simulator", "by hand", rows, clock_mhz=100.0)


SIMULATOR = comparison("Sim", "cycles", "cycle", (1000, 1000), (210, 200), (300, 200))
CHIP = comparison("Chip", "latency", "ms", (1.0, 2.0))
RATES = comparison("Chip", "frames/s", "frame/s", (50.0, 40.0))
RATIOS = comparison("RTL", "cycles", "× RTL", (1.05, 1.0), (0.8, 1.0))


def test_what_a_parity_plot_shows() -> None:
    info = figures.parity_info([SIMULATOR, CHIP, RATES, RATIOS])
    assert [(strip.peer, strip.number, len(strip.cases)) for strip in info.strips] == [
        ("Sim", 0, 3), ("Chip", 1, 1), ("Chip", 1, 1), ("RTL", 2, 2),
    ]  # fmt: skip
    # 100 MHz: 1 ms is 100,000 cycles, 50 frames a second are 2,000,000 cycles each
    assert [case.cycles for strip in info.strips for case in strip.cases] == [
        (1000, 1000), (210, 200), (300, 200), (1e5, 2e5), (2e6, 2.5e6), None, None,
    ]  # fmt: skip
    assert (info.within, info.cases, info.without_cycles) == (3, 7, ("RTL",))
    finding = info.finding.replace("\u00a0", " ")
    assert finding == (
        "3 of 7 estimates lie within 10 % of the figure they are held against; "
        "the farthest, Chip's latency, is 2.0 × off"
    )
    assert [strip.label.replace("\u00a0", " ") for strip in info.strips][:2] == [
        "Sim, cycles (3): 5 %",
        "Chip, latency (1): 50 %",
    ]


def test_a_mark_says_which_case_it_is() -> None:
    info = figures.parity_info([SIMULATOR, CHIP, RATIOS])
    words = [case.words for strip in info.strips for case in strip.cases]
    assert words[0] == "Sim, case 0: 1,000 cycles here, 1,000 there (equal)"
    assert words[1] == "Sim, case 1: 210 cycles here, 200 there (+5.0 %)"
    assert words[3] == "Chip, case 0: 1.00 ms here, 2.00 there (-50.0 %)"
    assert words[4] == "RTL, case 0: 1.05 × RTL (+5.0 %)"


def test_every_case_is_drawn_and_a_peer_keeps_its_mark() -> None:
    figure = figures.plot_parity([SIMULATOR, CHIP, RATES, RATIOS])
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    strips = [trace for trace in marks if trace.xaxis == "x2"]
    assert sorted(x for trace in strips for x in trace.x) == pytest.approx([0.5, 0.8, 1.0, 1.05, 1.05, 1.25, 1.5])
    on_diagonal = [pair for trace in marks if trace.xaxis != "x2" for pair in zip(trace.x, trace.y, strict=True)]
    assert sorted(on_diagonal) == [(200, 210), (200, 300), (1000, 1000), (2e5, 1e5), (2.5e6, 2e6)]
    looks = {trace.name.split(",")[0]: (trace.marker.color, trace.marker.symbol) for trace in marks}
    assert len(set(looks.values())) == 3
    assert all((t.marker.color, t.marker.symbol) == looks[t.name.split(",")[0]] for t in marks)
    (band,) = [trace for trace in figure.data if trace.fill == "toself"]
    assert [y / x for x, y in zip(band.x, band.y, strict=True)] == pytest.approx([1.1, 1.1, 0.9, 0.9])
    assert "only ratios are at hand" in figure.layout.meta["caption"]


def test_all_equal_is_said() -> None:
    info = figures.parity_info([comparison("Sim", "cycles", "cycle", (5, 5), (6, 6))])
    assert info.strips[0].label == "Sim, cycles (2): all equal"
    assert "farthest" not in info.finding


def test_ratios_alone_need_no_diagonal() -> None:
    figure = figures.plot_parity([RATIOS])
    assert figure.layout.yaxis.visible is False
    assert not [trace for trace in figure.data if trace.fill == "toself"]
    assert figure.layout.meta["caption"] == ""


def test_a_phone_gets_the_panels_below_each_other() -> None:
    narrow = theme.narrowed(figures.plot_parity([SIMULATOR, CHIP])).layout
    assert narrow.xaxis.domain == narrow.xaxis2.domain == (0, 1)
    assert narrow.yaxis.domain[0] > narrow.yaxis2.domain[1]
    assert narrow.xaxis.title.text == "Theirs across, ours up (cycles, log scale)"


@pytest.mark.parametrize(
    ("comparisons", "told"),
    [
        ([], "at least one case"),
        ([comparison("Sim", "cycles", "cycle", (0, 5))], "above 0, but 'case 0' has 0 and 5"),
        ([comparison(f"peer {i}", "cycles", "cycle", (1, 1)) for i in range(6)], "tells 5 peers apart, but got 6"),
    ],
)
def test_what_cannot_be_drawn_is_refused(comparisons: list[Comparison], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        figures.plot_parity(comparisons)
