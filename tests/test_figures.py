"""Figures: what they say is checked on hand-made data."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from loops import OBJECTIVES, checked, loop, sweep

from codesign_kernel import figures
from codesign_kernel.accelerator import SpatialArray
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import front as fronts
from codesign_kernel.figures import pareto, theme, words
from codesign_kernel.workload import Layer, Workload


def layer(name: str, macs: int, cycles: tuple[int, int, int], dram_bit: int) -> SimpleNamespace:
    load, compute, store = cycles
    return SimpleNamespace(
        name=name,
        macs=macs,
        load_cycle=load,
        compute_cycle=compute,
        store_cycle=store,
        latency_cycle=sum(cycles),
        dram_bit=dram_bit,
        utilization=macs / (16 * sum(cycles)),
    )


#: 4 x 8 PEs at 100 MHz: peak 3.2 GMAC/s; 0.8 GB/s on a bus of 64 bits: ridge at 4 MAC/byte.
MACHINE = Accelerator.systolic(4, 8, bandwidth_gb_s=0.8, frequency_mhz=100.0)


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_design_in_words() -> None:
    row = {"rows": 16, "cols": 8.0, "weight_kib": 64.0, "frequency_mhz": 200, "energy_uj": 1.0}
    assert words.design_words(row) == "16 × 8 PEs, 64 KiB weights, 200 MHz"
    assert words.design_words(row, keep=["frequency_mhz"]) == "16 × 8 PEs, 200 MHz"


@pytest.mark.parametrize(
    ("column", "values", "unit", "factor", "log"),
    [
        ("latency_ms", [0.001, 0.05], "µs", 1e3, False),
        ("latency_ms", [0.001, 0.2], "µs", 1e3, True),
        ("energy_uj", [2000.0, 4000.0], "mJ", 1e-3, False),
        ("area_mm2", [0.2, 3.0], "mm²", 1.0, False),
        ("area_mm2", [0.0002, 0.003], "µm²", 1e6, False),
        ("utilization", [0.2, 0.9], "%", 100.0, False),
    ],
)
def test_an_axis_takes_the_unit_that_people_read(
    column: str, values: list[float], unit: str, factor: float, log: bool
) -> None:
    scale = words.scale(column, values)
    assert (scale.unit, scale.log) == (unit, log)
    assert scale.factor == pytest.approx(factor)
    assert ("log scale" in scale.title) == log
    assert scale.title.endswith("higher is better" if column == "utilization" else "lower is better")


def test_shares_and_ratios_do_not_round_to_a_lie() -> None:
    plain = [words.percent(share).replace("\u00a0", " ") for share in (0.0, 0.004, 0.5, 0.996, 1.0)]
    assert plain == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]
    assert words.times(4.06).replace("\u00a0", " ") == "4.1 ×"
    assert words.band(144e-9, 182e-9, "J") == "144 to 182 nJ"
    assert words.band(900e-9, 1.2e-6, "J") == "900 nJ to 1.20 µJ"


# --- the front -------------------------------------------------------------------------------------------------------


def test_what_a_front_shows() -> None:
    frame = sweep()
    info = figures.pareto_info(frame, frame.iloc[[2, 1, 0]], knee=frame.iloc[1], chosen=frame.iloc[3])
    assert [(p.x, p.y) for p in info.front] == [(1.0, 4.0), (4.0, 1.5), (8.0, 1.0)]
    assert [(p.x, p.y) for p in info.cloud] == [(5.0, 2.0), (9.0, 5.0)]
    assert (info.dominated, info.infeasible) == (2, 1)
    assert info.chosen is not None
    assert info.chosen.words == "8 × 4 PEs: 5.00 ms, 2.00 µJ"
    # the design of least energy takes 8 ms and 1 µJ, the knee 4 ms and 1.5 µJ
    finding = info.finding.replace("\u00a0", " ")
    assert finding == "The knee has 2.0 × less latency than the design of least energy, for 50 % more energy"
    assert info.caption == "1 design that cannot run the network is left out."


def test_three_objectives_are_told_as_ratios_to_the_best() -> None:
    frame = sweep()
    info = figures.pareto_info(frame, frame.iloc[:3], *OBJECTIVES, knee=frame.iloc[1])
    finding = info.finding.replace("\u00a0", " ")
    assert finding == "The knee takes 4.0 × the least latency, 1.5 × the least energy and 2.0 × the least area"
    assert [p.third for p in info.front] == [0.6, 0.2, 0.1]


def test_the_cloud_is_a_fixed_sample_and_says_so() -> None:
    frame = pd.concat([sweep()] + [sweep().iloc[3:5]] * 50, ignore_index=True)
    info = figures.pareto_info(frame, frame.iloc[:3], cloud=40)
    assert len(info.cloud) == 40
    assert info.cloud == figures.pareto_info(frame, frame.iloc[:3], cloud=40).cloud
    assert "40 of 102 other designs are drawn" in info.caption


def test_one_design_may_be_the_whole_front() -> None:
    frame = sweep().iloc[[0, 4]]
    info = figures.pareto_info(frame, frame.iloc[:1], knee=frame.iloc[0])
    assert info.finding == "One design beats the only other"
    assert isinstance(figures.pareto_figure(info), go.Figure)


def test_a_front_needs_its_columns_and_a_design() -> None:
    frame = sweep()
    with pytest.raises(InvalidInputError, match="objective is one of"):
        figures.plot_pareto(frame, frame, x="speed")
    with pytest.raises(InvalidInputError, match="'power_mw' is not among them"):
        figures.plot_pareto(frame, frame, y="power_mw")
    with pytest.raises(InvalidInputError, match="empty"):
        figures.plot_pareto(frame, frame.iloc[:0])


def test_the_figure_of_a_front_labels_knee_and_chosen_design() -> None:
    frame = sweep()
    figure = figures.plot_pareto(
        frame, frame.iloc[:3], *OBJECTIVES, knee=frame.iloc[1].to_dict(), chosen=frame.iloc[3].to_dict()
    )
    labels = {trace.meta: list(trace.text) for trace in figure.data if trace.meta}
    assert labels == {
        "knee": ["<b>Knee</b>"],
        "chosen": ["<b>Chosen</b>"],
        "knee2": ["<b>Knee</b>"],
        "chosen2": ["<b>Chosen</b>"],
    }
    same = figures.plot_pareto(frame, frame.iloc[:3], knee=frame.iloc[1], chosen=frame.iloc[1])
    assert [list(trace.text) for trace in same.data if trace.meta == "chosen"] == [["<b>Chosen, the knee</b>"]]


def test_only_the_marks_move_with_the_chosen_design() -> None:
    frame = sweep()
    info = figures.pareto_info(frame, frame.iloc[:3], *OBJECTIVES)
    moved = pareto.moving_parts(fronts.with_chosen(info, {**frame.iloc[0], "latency_ms": 20.0}))
    assert sorted(moved["data"]) == ["chosen", "chosen2", "knee", "knee2"]
    assert moved["data"]["chosen"]["x"] == [20.0]
    # the axis ends after what has to be seen
    assert moved["layout"]["xaxis"].get("range", [0, 99])[1] >= 20.0


# --- roofline --------------------------------------------------------------------------------------------------------


def test_where_layers_lie_under_the_roof() -> None:
    # 3.2 GMAC/s and 0.8 GB/s (64 bit a cycle): the ridge is at 4 MAC/byte
    cost = SimpleNamespace(
        layers=[
            layer("a", 6400, (10, 390, 0), 8 * 640),  # 10 MAC/byte
            layer("b", 320, (80, 10, 10), 8 * 320),  # 1 MAC/byte
            layer("c", 1600, (0, 500, 0), 0),
            layer("pool", 0, (0, 10, 0), 0),
        ]
    )
    info = figures.roofline_info(cost, MACHINE)
    assert (info.peak, info.bandwidth, info.ridge) == (3.2e9, 0.8e9, 4.0)
    assert [(p.name, p.intensity, p.bound) for p in info.points] == [
        ("a", 10.0, "compute"),
        ("b", 1.0, "memory"),
        ("c", None, "compute"),
    ]
    assert info.points[0].rate == pytest.approx(6400 / 4e-6)  # 400 cycles at 100 MHz
    assert [p.share for p in info.points] == [0.4, 0.1, 0.5]
    assert info.without_macs == 1
    assert (info.roof(1.0), info.roof(100.0)) == (0.8e9, 3.2e9)
    assert info.finding.startswith("2 of 3 layers under the flat roof, a at 50")
    figure = figures.roofline_figure(info)
    assert "its intensity has no bound" in figure.layout.meta["caption"]
    edge = next(trace for trace in figure.data if "c" in (trace.text or ()))
    assert max(edge.x) == edge.x[list(edge.text).index("c")]


def test_layers_under_the_slope_and_what_they_wait_for() -> None:
    # 1 MAC/byte is left of the ridge; what the 100 cycles go to is told apart from it
    for cycles, told in (((90, 10, 0), "90"), ((5, 86, 9), "14")):
        info = figures.roofline_info(SimpleNamespace(layers=[layer("a", 100, cycles, 8 * 100)]), MACHINE)
        assert info.finding == "1 of 1 layer lies under the slope of the roof, where bandwidth sets the limit"
        assert f"{told}\u00a0% of these layers' cycles wait" in figures.roofline_figure(info).layout.meta["caption"]
    with pytest.raises(InvalidInputError, match="does MACs"):
        figures.plot_roofline(SimpleNamespace(layers=[layer("pool", 0, (0, 1, 0), 0)]), MACHINE)


def test_a_roofline_says_how_its_own_machine_moves_data() -> None:
    work = Workload("one", (Layer("fc", "linear", OY=8, K=32, C=32),))
    for machine, told in (
        (MACHINE, "follow one another"),
        (SpatialArray(8, 8), "works behind the array"),
        (SpatialArray(8, 8, double_buffered=False), "follow one another"),
    ):
        cost = evaluate(work, machine)
        caption = figures.plot_roofline(cost).layout.meta["caption"]
        assert told in caption
        assert figures.plot_roofline(cost, machine).layout.meta["caption"] == caption
        with pytest.raises(InvalidInputError, match=r"is of the machine that was costed.*evaluate the workload on it"):
            figures.plot_roofline(cost, SpatialArray(4, 4))
    with pytest.raises(InvalidInputError, match="the cost names none"):
        figures.plot_roofline(SimpleNamespace(layers=cost.layers))


# --- layers ----------------------------------------------------------------------------------------------------------


def breakdown(count: int, total: int | None = None) -> SimpleNamespace:
    rows = [layer(f"layer{i}", 16 * (i + 1), (1, i + 1, 0), 8) for i in range(count)]
    cycles = sum(row.latency_cycle for row in rows)
    parts = {"dram": 30.0, "weight": 50.0, "lanes": 0.0}
    return SimpleNamespace(layers=rows, latency_cycle=total or cycles, energy_parts=parts)


def test_cycles_by_layer_add_up() -> None:
    info = figures.layers_info(breakdown(5, total=25))
    assert [bar.total for bar in info.bars] == [2, 3, 4, 5, 6]
    assert info.outside == 5
    assert sum(bar.total for bar in info.bars) + info.outside == info.total_cycle == 25
    assert info.parts == (("weight", 50.0), ("dram", 30.0))
    finding = info.finding.replace("\u00a0", " ")
    assert finding == "Computing takes 75 % of the cycles, layer4 alone 30 %; most energy goes into weight memory"


def test_many_layers_share_a_row() -> None:
    info = figures.layers_info(breakdown(40), rows=10)
    assert len(info.bars) == 10
    assert (info.bars[-1].name, info.bars[-1].many) == ("31 quicker layers", 31)
    assert [bar.name for bar in info.bars[:-1]] == [f"layer{i}" for i in range(31, 40)]
    assert sum(bar.total for bar in info.bars) == info.total_cycle
    assert "9 slowest layers" in figures.layers_figure(info).layout.meta["caption"]
    with pytest.raises(InvalidInputError, match="at least one layer"):
        figures.layers_info(breakdown(0))


# --- the closed loop -------------------------------------------------------------------------------------------------


def test_the_closed_loop_in_words() -> None:
    info = figures.cosim_info(checked())
    assert info.finding == "RTL, cost model and program take 1,234 cycles, and all 10 images agree bit for bit"
    assert info.proven


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mismatches": 3, "first_mismatch": "input 4"}, "3 of 10 images differ"),
        ({"cycles_model": 1200}, "cycle counts disagree"),
        ({"cycle_mismatches": 2}, "cycle counts disagree"),
        (
            {"instruction_mismatches": 1, "first_instruction": "CONV"},
            "1,234 cycles, but not instruction by instruction",
        ),
    ],
)
def test_a_loop_that_does_not_close_says_so(changes: dict[str, Any], told: str) -> None:
    info = figures.cosim_info(checked(passed=False, **changes))
    assert told in info.finding
    assert not info.proven
    figure = figures.plot_cosim(checked(passed=False, **changes))
    assert "first_mismatch" not in changes or "input 4" in figure.layout.meta["caption"]
    with pytest.raises(InvalidInputError, match="at least one image"):
        figures.cosim_info(checked(vectors=0))


def test_an_instruction_that_took_another_time_is_named() -> None:
    """Two that cancel out leave the totals as predicted; the report says which was the first, and in how many runs."""
    one = checked(passed=False, instruction_mismatches=1, first_instruction="input 0, CONV takes 9, but took 8")
    note = figures.plot_cosim(one).layout.meta["caption"]
    assert note == (
        "In one run an instruction took another time than predicted. The first: input 0, CONV takes 9, but took 8."
    )
    more = checked(
        passed=False, mismatches=1, first_mismatch="input 4", instruction_mismatches=7, first_instruction="B"
    )
    assert figures.cosim_info(more).note == (
        "The first difference: input 4. In 7 runs an instruction took another time than predicted. The first: B."
    )
    boot = figures.cosim_info(checked(passed=False))
    assert boot.note == "Loading the weights took another number of cycles than predicted."


# --- the theme -------------------------------------------------------------------------------------------------------


def every_figure() -> list[go.Figure]:
    result = loop()
    return [
        figures.plot_pareto(result.frame, result.front, *OBJECTIVES, knee=result.knee),
        figures.plot_roofline(result.cost, result.design.accelerator),
        figures.plot_layers(result.cost),
        figures.plot_causes(result.cosim.causes),
        figures.plot_cosim(result.cosim),
    ]


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_can_be_read_in_both_themes(colours: dict[str, str]) -> None:
    for text in ("text", "muted", "accent", "good", "bad"):
        for ground in ("ground", "panel"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["warning"], colours["ground"]) >= 4.5


def test_every_figure_wears_the_theme_and_has_its_words() -> None:
    for figure in every_figure():
        assert figure.layout.template.layout.font.family == theme.FONT
        meta = figure.layout.meta
        assert meta["title"]
        assert meta["subtitle"]
        assert meta["title"].split()[0] in meta["alt"]
        spec = theme.page_spec(figure, "name")
        assert json.loads(json.dumps(spec)) == spec
        assert "title" not in spec["layout"]
        assert "template" not in spec["layout"]


def test_dark_is_the_same_figure_in_other_colours() -> None:
    for figure in every_figure():
        light, dark = figure.to_json(), figures.dark(figure).to_json()
        assert not re.search("|".join(theme.LIGHT[name] for name in ("text", "muted", "ground")), dark)
        assert theme.DARK["text"] in dark
        assert len(json.loads(light)["data"]) == len(json.loads(dark)["data"])


def test_titles_wrap_at_phone_width() -> None:
    for figure in every_figure():
        narrow = figures.narrowed(figure)
        lines = [re.sub("<[^>]*>", "", line) for line in narrow.layout.title.text.split("<br>")]
        assert max(map(len, lines)) <= 48
        assert narrow.layout.height > 0


def test_names_from_outside_are_no_markup_in_a_figure() -> None:
    result = loop("<b>x</b>")
    for figure in (figures.plot_layers(result.cost), figures.plot_roofline(result.cost, result.design.accelerator)):
        drawn = json.loads(figure.to_json())
        drawn["layout"].pop("meta")
        assert "<b>x" not in json.dumps(drawn)
