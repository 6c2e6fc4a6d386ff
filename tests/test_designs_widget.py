"""The design explorer: what its kernel believes of a page, and the page in a browser."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks, settle  # noqa: E402 - behind what they need

from codesign_kernel.units import column_text  # noqa: E402

OBJECTIVES = ["latency_ms", "energy_uj", "area_mm2"]
#: All designs of a small space under conditions that the page can change.
CELL = """
import codesign_kernel as ck
from codesign_widgets import CONDITIONS, CONTROLS, DesignExplorer
layer = ck.Layer("conv", "conv2d", K=32, C=16, OY=16, OX=16, FY=3, FX=3, IY=16, IX=16, padding=(1, 1))
work = ck.Workload("small", (layer,))
choices = dict(
    rows=(2, 4, 8, 16, 32), cols=(2, 4, 8, 16, 32), activation_kib=(4, 8, 16, 32, 64), weight_kib=(4, 8, 16, 32, 64),
    accumulator_kib=(1, 2, 4, 8, 16), instruction_kib=(4, 8))
def under(conditions):
    return ck.sweep(work, ck.DesignSpace(**choices, **conditions))
conditions = [control for control in CONTROLS if control.name in CONDITIONS]
designs = under({control.name: control.default for control in conditions})
explorer = DesignExplorer(designs, knee=ck.knee, evaluate=under, controls=conditions)
explorer
"""


@functools.cache
def made() -> dict[str, Any]:
    """What the cell makes."""
    names: dict[str, Any] = {}
    exec(CELL, names)
    return names


def explorer(**changes: Any) -> Any:
    return codesign_widgets.DesignExplorer(
        **{
            "designs": made()["designs"],
            "knee": ck.knee,
            "evaluate": made()["under"],
            "controls": made()["conditions"],
            **changes,
        }
    )


def test_the_first_view_is_a_real_result() -> None:
    shown = explorer()
    frame = made()["designs"]
    assert shown.answer["error"] is None
    assert shown.answer["count"] == shown.answer["runs"] == int(frame.feasible.sum()) < len(frame)
    knee = ck.knee(ck.pareto_front(frame, OBJECTIVES))
    assert frame.index[shown.answer["knee"]] == knee.name
    assert shown.answer["advice"][0].startswith(f"The knee is design {knee.name}, ")
    assert json.loads(json.dumps([shown.setup, shown.answer])), "what goes to the page is plain JSON, but for columns"
    names = [column["name"] for column in shown.setup["columns"]]
    assert names[:2] == ["rows", "cols"]
    assert names[-3:] == ["area_mm2", "power_mw", "utilization"]
    assert "bandwidth_gb_s" not in names, "what is the same in all designs tells nothing"
    shown.close()


def test_columns_travel_as_they_are() -> None:
    shown = explorer()
    frame = made()["designs"]
    energy = np.frombuffer(shown.fixed["energy_uj"]["data"])
    np.testing.assert_array_equal(energy, frame["energy_uj"])
    rows = shown.fixed["rows"]
    assert len(rows["data"]) == len(frame)
    np.testing.assert_array_equal(np.array(rows["values"])[np.frombuffer(rows["data"], np.uint8)], frame["rows"])


def test_what_is_selected_is_worked_out_in_the_kernel() -> None:
    shown = explorer()
    frame = made()["designs"]
    most = float(frame["latency_ms"].median())
    shown.choose(ranges={"latency_ms": [None, most], "rows": (8, 16)})
    kept = frame[frame.feasible & (frame.latency_ms <= most) & frame.rows.between(8, 16)]
    pd.testing.assert_frame_equal(shown.selected, kept)
    assert shown.answer["count"] == len(kept)
    assert shown.answer["finding"] == f"latency at most {most:.4g} ms, rows 8 to 16 PE"
    assert frame.index[shown.answer["knee"]] == ck.knee(kept, OBJECTIVES).name
    shown.choose(ranges={"latency_ms": [None, 0.0]})
    assert shown.answer["error"] is None
    assert (shown.answer["count"], shown.answer["knee"], shown.answer["advice"]) == (0, None, [])


def test_another_condition_works_out_all_designs() -> None:
    shown = explorer()
    before = shown.frame
    shown.query = {"seq": 4, "choice": {**shown.choice, "conditions": {"bandwidth_gb_s": 0.8, "frequency_mhz": 400}}}
    assert (shown.answer["seq"], shown.answer["error"]) == (4, None)
    expected = made()["under"]({"bandwidth_gb_s": 0.8, "frequency_mhz": 400})
    pd.testing.assert_frame_equal(shown.frame, expected, check_dtype=False)
    assert not expected["latency_ms"].equals(before["latency_ms"])
    moved = shown.moving
    assert moved["version"] == 1
    np.testing.assert_array_equal(np.frombuffer(moved["columns"]["latency_ms"]["data"]), expected["latency_ms"])
    assert "rows" not in moved["columns"], "what was chosen stays"
    low, high = moved["spans"]["latency_ms"]
    assert low <= np.nanmin(expected["latency_ms"]) <= np.nanmax(expected["latency_ms"]) <= high
    shown.query = {"seq": 5, "words": False, "choice": {**shown.choice, "pins": [7]}}
    assert (shown.answer["stale"], shown.answer["knee"], shown.answer["pins"]) == (True, None, [])
    shown.choose(conditions={"bandwidth_gb_s": 3.2, "frequency_mhz": 200})
    assert (shown.answer["stale"], len(shown.answer["pins"])) == (False, 1)
    assert set(shown.moving["columns"]) == set(moved["columns"]), "a page that comes later has them all"


def test_pins_are_compared_in_words() -> None:
    shown = explorer()
    first, other = (int(place) for place in np.flatnonzero(made()["designs"].feasible)[[0, -1]])
    shown.choose(pins=[first, other])
    frame = made()["designs"]
    pd.testing.assert_frame_equal(shown.pinned, frame.iloc[[first, other]])
    told = shown.answer["pins"][1]["against"]
    old, new = frame.iloc[first], frame.iloc[other]
    assert f"({column_text('latency_ms', old.latency_ms)} → {column_text('latency_ms', new.latency_ms)})" in told
    assert f"rows {old.rows} → {new.rows}" in told
    assert shown.answer["pins"][0]["against"] == ""


WRONG = [
    ("pins", [-1]),
    ("pins", list(range(7))),
    ("pins", [1, 1]),
    ("pins", [True]),
    ("pins", "12"),
    ("cursor", 10**12),
    ("cursor", 1.5),
    ("x", "<img src=x onerror=alert(1)>"),
    ("x", None),
    ("axes", ["rows"]),
    ("axes", ["rows", ["cols"]]),
    ("sort", {}),
    ("page", -1),
    ("page", math.inf),
    ("ranges", []),
    ("ranges", {"latency_ms": [math.nan, None]}),
    ("ranges", {"latency_ms": [2.0, 1.0]}),
    ("ranges", {"latency_ms": ["1", None]}),
    ("ranges", {"latency_ms": 3}),
    ("ranges", {"feasible": [0, 1]}),
    ("ranges", {3: [0, 1]}),
    ("conditions", {"bandwidth_gb_s": 3.2}),
    ("conditions", {"bandwidth_gb_s": 1e99, "frequency_mhz": 200}),
    ("conditions", None),
    ("zoom", [[1, 2]]),
    ("zoom", [[1, 2], [3, math.nan]]),
    ("zoom", {"x": [1, 2]}),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_what_a_page_makes_up_is_refused_in_words(field: str, value: Any) -> None:
    shown = explorer()
    shown.choose(ranges={"rows": [8, None]}, pins=[3])
    standing, selected = dict(shown.choice), len(shown.selected)
    shown.query = {"seq": 9, "choice": {**standing, field: value}}
    assert shown.answer["error"]["text"]
    assert (shown.answer["seq"], shown.answer["choice"], len(shown.selected)) == (9, standing, selected)
    if field == "ranges" and "latency_ms" in str(value):
        assert shown.answer["error"]["control"] == "latency_ms"


@pytest.mark.parametrize("query", [None, 7, "x", [], {"choice": 3}, {"choice": {"x": "rows"}}])
def test_a_question_that_is_none_is_refused(query: Any) -> None:
    shown = explorer()
    shown.query = query
    shown.query = [query]
    assert "fields" in shown.answer["error"]["text"]


def test_what_the_kernel_knows_of_the_designs_no_page_changes() -> None:
    frame = made()["designs"].assign(kind=np.where(made()["designs"].rows < 8, "small", "large"))
    shown = explorer(
        designs=frame, columns=["rows", "kind"], evaluate=lambda _: frame.copy(), controls=made()["conditions"]
    )
    shown.set_state({"fixed": {"kind": {"values": ["<b>evil</b>"]}}, "moving": {}, "answer": {"advice": 1}})
    shown.set_state({"query": {"seq": 1, "choice": {**shown.choice, "ranges": {"kind": ["<b>evil</b>", None]}}}})
    assert shown.answer["error"]["text"].startswith("A value of kind is one of large, small, but got")
    shown.set_state({"query": {"seq": 2, "words": False, "choice": {**shown.choice, "pins": [1]}}})
    assert (shown.answer["error"], shown.answer["stale"]) == (None, True)
    for seq, moved in enumerate(({}, {"columns": {}}, {"version": "x", "columns": []}), 3):
        shown.set_state({"moving": moved})
        conditions = {"bandwidth_gb_s": 0.8 * seq, "frequency_mhz": 400}
        shown.set_state({"query": {"seq": seq, "choice": {**shown.choice, "conditions": conditions}}})
        assert (shown.answer["seq"], shown.answer["error"], shown.moving["version"]) == (seq, None, seq - 2)
        assert shown.choice["conditions"] == conditions
    shown.close()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("ranges", {"latency_ms": [10**400, None]}, "Latency_ms is limited by a number"),
        ("zoom", [[0, 1], [-(10**400), 1]], "Zoom is None or the ends of both axes"),
    ],
)
def test_a_number_longer_than_a_float_is_refused(field: str, value: Any, told: str) -> None:
    shown = explorer()
    shown.set_state({"query": {"seq": 10**400, "choice": {**shown.choice, field: value}}})
    assert shown.answer["error"]["text"].startswith(told)
    assert shown.answer["seq"] == 0


def test_designs_that_are_none_are_refused() -> None:
    frame = made()["designs"]
    with pytest.raises(InvalidInputError, match="but not speed"):
        explorer(objectives=["latency_ms", "speed"])
    with pytest.raises(InvalidInputError, match="two or three objectives"):
        explorer(objectives=["latency_ms"])
    with pytest.raises(InvalidInputError, match="1 to 1,000,000 designs, but got 0"):
        explorer(designs=frame.iloc[:0])
    with pytest.raises(InvalidInputError, match="give both or none"):
        explorer(evaluate=None)
    with pytest.raises(InvalidInputError, match="occur twice"):
        explorer(designs=pd.concat([frame, frame]))
    half = explorer(evaluate=lambda _: frame.iloc[: len(frame) // 2], controls=(), choices={"network": ["a", "b"]})
    half.choose(conditions={"network": "b"})
    assert "the same 6,250 designs" in half.answer["error"]["text"]


def test_conditions_under_which_nothing_runs_are_refused() -> None:
    def evaluate(conditions: dict[str, Any]) -> Any:
        if conditions["network"] == "large":
            raise InfeasibleDesignError("the network large does not fit")
        return made()["designs"]

    shown = explorer(evaluate=evaluate, controls=(), choices={"network": ["small", "large"]})
    shown.choose(conditions={"network": "large"})
    assert shown.answer["error"] == {"control": "network", "text": "The network large does not fit."}
    assert shown.choice["conditions"] == {"network": "small"}


def test_an_exploration_recommends_within_the_limits() -> None:
    space = ck.DesignSpace(rows=(4, 8, 16), cols=(4, 8, 16), activation_kib=(16, 64), weight_kib=(16, 64))
    found = ck.explore(
        made()["work"], space, objectives=["latency_ms", "area_mm2"], sampler="random", budget=20, seed=1
    )
    shown = codesign_widgets.DesignExplorer(found)
    most = float(found.front["area_mm2"].median())
    shown.choose(ranges={"area_mm2": [None, most]})
    assert shown.answer["advice"] == str(found.recommend(within={"area_mm2": (None, most)})).splitlines()
    shown.choose(ranges={"area_mm2": [None, 0.0]})
    assert "area_mm2 at most 0 mm²" in shown.answer["advice"][0]
    shown.close()
    assert len(shown.frame) == 0


def test_columns_of_texts_are_limited_by_their_words() -> None:
    frame = pd.DataFrame(
        {"dataflow": ["os", "ws", "is", "ws"], "a_ms": [1.0, 2.0, 3.0, math.nan], "b": [4, 3, 2, 1]}, index=list("pqrs")
    )
    shown = codesign_widgets.DesignExplorer(frame, {"a_ms": "min", "b": "max"})
    shown.choose(ranges={"dataflow": ["os", "ws"]})
    assert list(shown.selected.index) == ["p", "q"]
    assert shown.answer["finding"] == "dataflow os to ws"
    shown.choose(ranges={"dataflow": ["zz", None]})
    assert "one of is, os, ws" in shown.answer["error"]["text"]


def told(tab: Any, place: str, words: str) -> None:
    """Wait until the first element at ``place`` holds ``words``."""
    asked = "([place, words]) => document.querySelector(place).innerText.includes(words)"
    tab.wait_for_function(asked, arg=[place, words])


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_brushes_walks_and_pins(pages: Served, tmp_path: Any) -> None:
    frame = made()["designs"]
    front = ck.pareto_front(frame, OBJECTIVES)
    with browse(pages.page("explorer", CELL), ".ckx-explorer[data-drawn]") as tab:
        title = ".ckx-explorer .ck-title"
        assert tab.inner_text(title).startswith(f"{len(front):,} of {frame.feasible.sum():,} designs"), "two roads"
        settle(tab)

        # a box in the scatter; what it leaves stands in the fields too
        box = tab.locator(".ckx-scatter").bounding_box()
        tab.mouse.move(box["x"] + 60, box["y"] + 430)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 200, steps=4)
        tab.mouse.up()
        tab.mouse.move(5, 5)
        told(tab, ".ckx-explorer .ck-subtitle", "Limits leave")
        settle(tab)  # a box on its way is told too
        latency, energy = (tab.get_by_label(f"Most {name}").last for name in ("Latency (ms)", "Energy (µJ)"))
        assert float(latency.input_value()) > 0
        assert float(energy.input_value()) > 0
        picked = frame[
            frame.feasible
            & (frame.latency_ms <= float(latency.input_value()))
            & (frame.energy_uj <= float(energy.input_value()))
        ]
        assert f"{len(ck.pareto_front(picked, OBJECTIVES)):,} of {len(picked):,} selected" in tab.inner_text(title)

        # a typed limit, and one by the keys of a handle; the kernel's words follow
        field = tab.get_by_label("Least Rows (PE)")
        field.fill("8")
        field.press("Enter")
        handle = tab.get_by_role("slider", name="Most rows")
        handle.focus()
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        picked = picked[picked.rows.between(8, 16)]
        told(tab, title, f" of {len(picked):,} selected")
        knee = ck.knee(picked, OBJECTIVES)
        told(tab, ".ckx-advice", f"design {knee.name},")

        # the front by keys: the first is the fastest; pinned with Enter, another with the button
        tab.locator(".ckx-scatter").focus()
        tab.keyboard.press("ArrowRight")
        best = ck.pareto_front(picked, OBJECTIVES).iloc[0]
        told(tab, ".ckx-now", f"Design {best.name},")
        results = [column_text(name, best[name]) for name in OBJECTIVES]
        assert "latency {}, energy {}, area {}.".format(*results) in tab.inner_text(".ckx-now")
        tab.keyboard.press("Enter")
        tab.keyboard.press("End")
        tab.get_by_role("button", name="Pin", exact=True).click()
        tab.wait_for_selector(".ckx-differences li")
        assert "B beside A" in tab.inner_text(".ckx-differences")

        # the table sorts and pages; what is saved is what is selected
        tab.get_by_role("button", name="Area (mm²)").click()
        least = picked.sort_values("area_mm2", kind="stable").index[0]
        told(tab, ".ckx-designs tbody th", str(least))
        with tab.expect_download() as saved:
            tab.get_by_role("button", name="Save CSV").click()
        saved.value.save_as(tmp_path / "designs.csv")
        table = pd.read_csv(tmp_path / "designs.csv", index_col="design")
        pd.testing.assert_frame_equal(table, picked[table.columns], check_dtype=False)
        for name, begins in (("scatter as SVG", b"<svg"), ("parallel-coordinates as PNG", b"\x89PNG")):
            with tab.expect_download() as saved:
                tab.get_by_role("button", name=f"Save {name}").click()
            saved.value.save_as(tmp_path / "picture")
            assert (tmp_path / "picture").read_bytes().startswith(begins)

        # other conditions move all designs
        version = tab.get_attribute(".ckx-explorer", "data-version")
        tab.get_by_role("slider", name="External bandwidth").focus()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_function("(was) => document.querySelector('.ckx-explorer').dataset.version > was", arg=version)
        tab.wait_for_selector(".ckx-advice:not(.ckx-old)")
        tab.get_by_label("Most Latency (ms)").fill("-1")
        tab.keyboard.press("Tab")
        told(tab, title, "0 of 0 selected")
        tab.get_by_role("button", name="Clear all limits").click()
        tab.get_by_label("All three objectives").check()
        tab.wait_for_selector(".ckx-turning input:visible")
        check_looks(tab, "explorer-3d")
        tab.get_by_label("All three objectives").uncheck()
        field.fill("8")
        field.press("Enter")
        told(tab, title, "selected")
        tab.get_by_role("button", name="Zoom to the selected").click()
        tab.wait_for_selector("text=Zoom out")
        check_looks(tab, "explorer")
