"""The playground in its kernel, with stand-ins for what it calls."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from typing import Any

import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError

codesign_widgets = pytest.importorskip("codesign_widgets")

OBJECTIVES = ["latency_ms", "energy_uj", "area_mm2"]
SMALL = ck.Workload(
    "small", (ck.Layer("conv", "conv2d", K=8, C=4, OY=8, OX=8, FY=3, FX=3, IY=8, IX=8, padding=(1, 1)),)
)
LARGE = ck.Workload("large", (ck.Layer("conv", "conv2d", K=64, C=512, OY=32, OX=32, IY=32, IX=32),))

#: A page of LeNet-5 and 81 designs, for the tests of all widgets.
CELL = """
import codesign_kernel as ck
from codesign_widgets import Playground

lenet = ck.profile(*ck.zoo.build("lenet5"), name="LeNet-5").workload
some = {"rows": (4, 8, 16), "cols": (4, 8, 16), "activation_kib": (16, 64, 256), "weight_kib": (32, 128, 512)}
Playground(
    {"LeNet-5": lenet},
    evaluate=lambda workload, parameters: ck.evaluate(workload, ck.Design.of(parameters)),
    sweep=lambda workload, conditions: ck.sweep(workload, ck.DesignSpace(**some, **conditions)),
    front=lambda frame: ck.pareto_front(frame, ["latency_ms", "energy_uj", "area_mm2"]),
)
"""


def cost_of(workload: ck.Workload, parameters: dict[str, float]) -> ck.Cost:
    return ck.evaluate(workload, ck.Design.of(parameters))


CHOICES = {
    "rows": (4, 8),
    "cols": (4, 8),
    "activation_kib": (4, 1024),
    "weight_kib": (16, 512),
    "instruction_kib": 64,
}


def sweep_of(workload: ck.Workload, conditions: dict[str, float]) -> Any:
    return ck.sweep(workload, ck.DesignSpace(**CHOICES, **conditions))


def front_drawn(shown: Any) -> list[list[float]]:
    return [
        trace["x"]
        for trace in shown.front_figure["spec"]["data"]
        if (trace["name"], trace["mode"]) == ("front", "markers")
    ]


def playground(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "networks": {"Small": SMALL, "Large": lambda: LARGE},
        "evaluate": cost_of,
        "sweep": sweep_of,
        "front": functools.partial(ck.pareto_front, objectives=OBJECTIVES),
        "knee": ck.knee,
    }
    return codesign_widgets.Playground(**{**arguments, **changes})


def test_the_first_view_is_a_real_result() -> None:
    shown = playground()
    assert shown.network == "Small"
    assert shown.answer["error"] is None
    expected = cost_of(SMALL, shown.parameters)
    assert shown.cost == expected
    assert shown.answer["tiles"][0]["note"] == f"{expected.latency_cycle:,} cycles"
    assert shown.front_figure["spec"]["data"]
    assert json.loads(json.dumps(shown.setup)), "what goes to the page is plain JSON"
    assert json.loads(json.dumps(shown.answer))


def test_a_question_is_answered_with_its_number() -> None:
    shown = playground()
    before = shown.answer["tiles"]
    shown.query = {"seq": 7, "network": "Small", "parameters": {**shown.parameters, "rows": 8}}
    assert (shown.answer["seq"], shown.parameters["rows"]) == (7, 8)
    assert shown.answer["tiles"] != before
    assert shown.answer["marks"]["data"]["chosen"]["x"] == pytest.approx([shown.cost.latency_s * 1e6], rel=1e-5)


def test_every_point_drawn_can_be_picked() -> None:
    shown = playground()
    for trace, columns in shown.front_figure["picks"].items():
        drawn = [t for t in shown.front_figure["spec"]["data"] if t["name"] == trace and t["mode"] == "markers"]
        assert {len(t["x"]) for t in drawn} == {len(values) for values in columns.values()}
        first = {name: values[0] for name, values in columns.items()}
        shown.choose(**first)
        assert drawn[0]["x"][0] == pytest.approx(shown.cost.latency_s * 1e6, rel=1e-5)


def counted(calls: list[tuple[str, float, float]]) -> Any:
    def sweep(workload: ck.Workload, conditions: dict[str, float]) -> Any:
        calls.append((workload.name, *conditions.values()))
        return sweep_of(workload, conditions)

    return sweep


def test_only_network_and_conditions_sweep_and_each_once() -> None:
    calls: list[tuple[str, float, float]] = []
    shown = playground(sweep=counted(calls))
    # the first view, and the four ends of the conditions, for axes that stand
    ends = [("small", bandwidth, clock) for bandwidth in (0.8, 25.6) for clock in (50, 800)]
    assert calls == [("small", 3.2, 200), *ends]
    calls.clear()
    for rows in (2, 4, 8):
        shown.choose(rows=rows)
    assert not calls, "a design's own parameters leave the front as it is"
    for bandwidth in (1.6, 3.2, 1.6):
        shown.choose(bandwidth_gb_s=bandwidth)
    shown.choose(frequency_mhz=400)
    assert calls == [("small", 1.6, 200), ("small", 1.6, 400)]


def test_few_fronts_are_kept() -> None:
    shown = playground()
    for i in range(40):
        shown.choose(bandwidth_gb_s=1 + i / 10)
    assert shown.answer["error"] is None
    assert len(shown._fronts) == 32


def test_the_front_moves_with_the_conditions_and_only_with_them() -> None:
    shown = playground()
    before = front_drawn(shown)
    shown.choose(rows=8, cols=8)
    assert front_drawn(shown) == before
    shown.choose(frequency_mhz=400)
    faster = front_drawn(shown)
    assert min(faster[0]) < min(before[0])
    assert shown.front_figure["conditions"] == {"bandwidth_gb_s": 3.2, "frequency_mhz": 400}
    assert shown.front_figure["spec"]["subtitle"].startswith("At external bandwidth 3.2 GB/s and clock 400 MHz: ")
    assert "clock 400 MHz" in shown.front_figure["spec"]["alt"]
    shown.choose(frequency_mhz=200)
    assert front_drawn(shown) == before

    # the same numbers as a sweep made by hand
    expected = ck.pareto_front(sweep_of(SMALL, {"bandwidth_gb_s": 0.8, "frequency_mhz": 200}), OBJECTIVES)
    shown.choose(bandwidth_gb_s=0.8)
    assert sorted(front_drawn(shown)[0]) == pytest.approx(sorted(expected["latency_ms"] * 1e3), rel=1e-5)


def test_the_axes_stand_while_the_front_moves() -> None:
    shown = playground()
    seen = []
    for bandwidth, clock in ((3.2, 200), (0.8, 50), (25.6, 800)):
        shown.choose(bandwidth_gb_s=bandwidth, frequency_mhz=clock)
        layout = shown.front_figure["spec"]["layout"]
        seen.append([layout[axis] for axis in ("xaxis", "yaxis", "xaxis2", "yaxis2")])
        low, high = layout["xaxis"]["range"]
        position = math.log10 if layout["xaxis"].get("type") == "log" else float
        assert all(low <= position(x) <= high for xs in front_drawn(shown) for x in xs)
        bar = layout["coloraxis"]
        assert all(
            bar["cmin"] <= point <= bar["cmax"] for point in shown.front_figure["spec"]["data"][2]["marker"]["color"]
        )
    assert seen[0] == seen[1] == seen[2]


def test_an_axis_grows_for_a_design_beyond_it() -> None:
    shown = playground()
    usual = shown.front_figure["spec"]["layout"]["yaxis2"]
    assert shown.answer["marks"]["layout"]["yaxis2"]["range"] == usual["range"]
    shown.choose(rows=128, cols=128, weight_kib=4096, accumulator_kib=256)
    grown = shown.answer["marks"]["layout"]["yaxis2"]
    assert shown.answer["error"] is None
    assert grown["range"][1] > usual["range"][1]


def test_without_conditions_the_front_stays() -> None:
    space = ck.DesignSpace(**CHOICES)
    shown = playground(sweep=lambda workload, conditions: ck.sweep(workload, space), conditions=())
    before = shown.front_figure
    shown.choose(bandwidth_gb_s=0.8)
    assert shown.answer["error"] is None
    assert shown.front_figure == before
    assert shown.front_figure["spec"]["subtitle"].startswith("Latency against")


def test_conditions_under_which_no_design_runs_are_refused_beside_their_control() -> None:
    def sweep(workload: ck.Workload, conditions: dict[str, float]) -> Any:
        frame = sweep_of(workload, conditions)
        frame["feasible"] &= conditions["bandwidth_gb_s"] >= 1.6
        return frame

    shown = playground(sweep=sweep)
    before = shown.front_figure
    shown.choose(bandwidth_gb_s=0.8)
    assert shown.answer["error"]["control"] == "bandwidth_gb_s"
    assert "No design here runs Small at external bandwidth 0.8 GB/s" in shown.answer["error"]["text"]
    assert shown.front_figure == before
    assert shown.parameters["bandwidth_gb_s"] == 3.2


def test_layers_are_drawn_where_they_are_looked_at() -> None:
    shown = playground()
    query = {"seq": 1, "network": "Small", "parameters": {**shown.parameters, "rows": 8}}
    shown.query = query
    assert shown.answer["layers"] is None
    shown.query = {**query, "seq": 2, "details": True}
    assert shown.answer["layers"]["data"]


def test_a_design_that_cannot_run_a_new_network_gives_way_to_its_knee() -> None:
    shown = playground()
    shown.choose(instruction_kib=1, activation_kib=4)
    shown.choose(network="Large")
    assert shown.answer["error"] is None
    assert "knee" in shown.answer["note"]
    knee = shown.front_figure["knee"]
    assert {name: shown.parameters[name] for name in knee} == knee


@pytest.mark.parametrize(
    ("changes", "control", "told"),
    [
        ({"rows": 10**400}, "rows", "between 2 and 128"),
        ({"rows": math.nan}, "rows", "between 2 and 128"),
        ({"rows": True}, "rows", "between 2 and 128"),
        ({"cols": "<script>"}, "cols", "between 2 and 128"),
        ({"cols": None}, "cols", "between 2 and 128"),
        ({"rows": 2.5}, "rows", "whole number"),
        ({"rows": 12, "cols": 16}, "rows", "multiple of the shorter"),
        ({"activation_kib": [1]}, "activation_kib", "between 1 and 1024"),
        ({"extra": 1}, "", "nothing else"),
    ],
)
def test_what_a_page_sends_is_checked(changes: dict[str, Any], control: str, told: str) -> None:
    shown = playground()
    before = dict(shown.parameters)
    shown.query = {"seq": 3, "network": "Small", "parameters": {**before, **changes}}
    error = shown.answer["error"]
    assert error is not None
    assert told in error["text"]
    assert error["control"] == control or not control
    assert shown.answer["seq"] == 3
    assert shown.answer["tiles"], "the last good result stays"


@pytest.mark.parametrize(
    "query", [[], "x", {"seq": "1"}, {"seq": 1, "network": ["Small"]}, {"seq": 1, "network": "?"}, 7]
)
def test_nonsense_gets_a_message(query: Any) -> None:
    shown = playground()
    shown.query = query
    assert "networks here are" in shown.answer["error"]["text"]


def test_a_design_that_does_not_fit_blames_its_control() -> None:
    shown = playground()
    shown.choose(accumulator_kib=0.5, rows=2, cols=128)
    error = shown.answer["error"]
    assert error["control"] in ("accumulator_kib", "cols", "rows", "activation_kib", "weight_kib")
    assert shown.cost is None
    shown.choose(
        **{name: control.default for name, control in zip(shown.parameters, codesign_widgets.CONTROLS, strict=True)}
    )
    assert shown.answer["error"] is None


def test_a_fault_in_the_model_is_a_message_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    shown = playground()
    shown._evaluate = lambda workload, parameters: {}["secret path"]
    shown.choose(rows=8)
    assert "KeyError" in shown.answer["error"]["text"]
    assert "secret" not in json.dumps(shown.answer["error"])
    assert "secret path" in caplog.text


@pytest.mark.parametrize("fault", [FileNotFoundError("weights.pt"), ImportError("torch"), KeyboardInterrupt()])
def test_whatever_fails_the_page_is_answered(fault: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that never comes leaves a page waiting for ever."""

    def load() -> ck.Workload:
        raise fault

    shown = playground(networks={"small": SMALL, "gone": load})
    asked = {"seq": 4, "network": "gone", "parameters": shown.parameters}
    stopped = isinstance(fault, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) if stopped else contextlib.nullcontext():
        shown.set_state({"query": asked})
    assert (shown.answer["seq"], shown.network) == (4, "small")
    assert ("interrupted" if stopped else type(fault).__name__) in shown.answer["error"]["text"]
    assert ("a question to Playground failed" in caplog.text) is not stopped


def test_what_is_the_kernels_own_no_page_sets() -> None:
    shown = playground()
    shown.set_state({"query": {"seq": 3, "network": "small", "parameters": shown.parameters, "details": True}})
    names = ("answer", "setup", "bundle", "front_figure", "layout", "_esm")
    before = {name: getattr(shown, name) for name in names}
    shown.set_state(dict.fromkeys(names) | {"answer": {"seq": "x"}, "setup": {}, "front_figure": {}, "_esm": "evil()"})
    assert all(getattr(shown, name) is value for name, value in before.items())
    shown.choose(rows=4)
    assert (shown.answer["seq"], shown.answer["error"], shown.parameters["rows"]) == (3, None, 4)
    for seq in (10**400, -1, "5", None, math.nan, [3]):
        shown.set_state({"query": {"seq": seq, "network": "small"}})
        assert shown.answer["seq"] == 0


def test_plotly_is_shared_between_playgrounds() -> None:
    assert playground().bundle is playground().bundle
    assert len(playground().bundle.packed) < 2_000_000
    assert len(playground()._esm) < 40_000


def test_a_playground_shows_something() -> None:
    with pytest.raises(InvalidInputError, match="at least one network"):
        playground(networks={})
    with pytest.raises(InvalidInputError, match=r"among the controls, but got node_nm"):
        playground(conditions=["node_nm"])
