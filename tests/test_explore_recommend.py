"""The recommender on a table small enough to work out by hand, and its words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from explorecases import OBJECTIVES, SPACE, results

import codesign_kernel as ck
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore import Exploration, explore
from codesign_kernel.explore.steps import changes_from, sensitivity, steps_from
from codesign_kernel.units import column_text, column_word

#: Six designs: rows 1, 2, 4 (slow to change) and cols 8, 2 (not in order).
TINY = ck.DesignSpace(rows=(1, 2, 4), cols=(8, 2), weight_kib=64)
#: number: (rows, cols) latency_ms area_mm2 power_mw. 4 (rows 4, cols 8) cannot run.
#: 0: (1, 8)  4.0  3.0  10     1: (1, 2) 10.0  1.0  5
#: 2: (2, 8)  2.0  5.0  20     3: (2, 2)  5.0  2.0  9
#: 4: (4, 8)    -    -   -     5: (4, 2)  4.0  2.9  12
LATENCY = [4.0, 10.0, 2.0, 5.0, np.nan, 4.0]
AREA = [3.0, 1.0, 5.0, 2.0, np.nan, 2.9]
POWER = [10.0, 5.0, 20.0, 9.0, np.nan, 12.0]


def table(columns: Mapping[str, Any]) -> dict[str, Any]:
    numbers = 2 * np.log2(columns["rows"]).astype(int) + (np.asarray(columns["cols"]) == 2)
    found = {"latency_ms": LATENCY, "area_mm2": AREA, "power_mw": POWER}
    picked = {name: np.array(values)[numbers] for name, values in found.items()}
    return {**picked, "feasible": ~np.isnan(picked["latency_ms"])}


def tiny(**changes: Any) -> Exploration:
    return explore(TINY, table, **{"objectives": ["latency_ms", "area_mm2"], **changes})


def test_the_front_and_the_knee_by_hand() -> None:
    found = tiny()
    assert found.front.index.tolist() == [2, 5, 3, 1]  # 0 is beaten by 5
    # scaled losses: 2 (0, 1), 5 (0.25, 0.475), 3 (0.375, 0.25), 1 (1, 0): 3 is nearest to the ideal point
    assert found.knee.name == 3
    # box 2..10.8 times 1..5.4; slices from 2, 4, 5 and 10 ms on
    covered = (4 - 2) * (5.4 - 5.0) + (5 - 4) * (5.4 - 2.9) + (10 - 5) * (5.4 - 2.0) + (10.8 - 10) * (5.4 - 1.0)
    assert found.hypervolume == pytest.approx(covered / (8.8 * 4.4))
    assert found.reference == pytest.approx({"latency_ms": 10.8, "area_mm2": 5.4})


def test_the_steps_of_a_design() -> None:
    steps = {(step.parameter, step.before, step.after, step.up): step.number for step in steps_from(TINY, 3)}
    assert steps == {("rows", 2, 1, -1): 1, ("rows", 2, 4, 1): 5, ("cols", 2, 8, 1): 2}
    for number in range(0, SPACE.size, 37):
        row = {name: values[0] for name, values in SPACE.columns([number]).items()}
        for step in steps_from(SPACE, number):
            other = {name: values[0] for name, values in SPACE.columns([step.number]).items()}
            assert {name for name in row if row[name] != other[name]} == {step.parameter}
            assert (row[step.parameter], other[step.parameter]) == (step.before, step.after)
            assert step.up == (0 if step.parameter == "dataflow" else np.sign(step.after - step.before))


def test_the_recommendation_by_hand() -> None:
    told = tiny().recommend()
    assert told.chosen.name == 3
    assert told.why == (
        "Take design 3, rows 2, cols 2: the knee of 4 compromises. It has latency 5.00 ms (150 % more than the best), "
        "area 2.00 mm² (100 % more than the best)."
    )
    assert told.cheaper is not None
    assert told.cheaper.name == 1
    assert told.cheaper_why == (
        "Nearest cheaper: design 1, rows 1, cols 2: latency 100 % more (5.00 ms → 10.0 ms), "
        "area 50.0 % less (2.00 mm² → 1.00 mm²)."
    )
    # weakest in latency (0.375 against 0.25): rows 2 -> 4 gains 20 % for 45 %, cols 2 -> 8 gains 60 % for 150 %
    assert told.change is not None
    assert told.change.name == 5
    assert told.change_why.startswith(
        "To change next: rows 2 → 4 (design 5), because latency is what it is weakest in: "
        "latency 20.0 % less (5.00 ms → 4.00 ms), area 45.0 % more (2.00 mm² → 2.90 mm²)."
    )
    changes = told.changes
    assert changes.loc[2, ["parameter", "before", "after", "legal"]].tolist() == ["cols", 2, 8, True]
    assert changes.loc[2, ["gain_latency_ms", "gain_area_mm2"]].tolist() == pytest.approx([0.6, -1.5])
    assert str(told).count("\n") == 2


def test_the_sensitivity_by_hand() -> None:
    told = sensitivity(tiny())
    # rows up: 1 -> 3 (-50 %, +100 %), 3 -> 5 (-20 %, +45 %); 2 -> 4 cannot run; 5 has no larger. cols up: 1 -> 0
    # (-60 %, +200 %), 3 -> 2 (-60 %, +150 %); 5 -> 4 cannot run
    assert told.index.tolist() == ["cols", "rows"]
    assert told.loc["rows"].tolist() == pytest.approx([-35.0, 72.5, 2])
    assert told.loc["cols"].tolist() == pytest.approx([-60.0, 175.0, 2])
    words = tiny().recommend().change_why
    assert words.endswith("Along the front cols tells most: a step up changes area by +175 % (mean of 2 designs).")


def test_the_best_of_one_objective() -> None:
    told = tiny().recommend(best="latency_ms", cheaper="power_mw")
    assert told.chosen.name == 2
    assert "the one of least latency among 4 compromises" in told.why
    assert "latency 2.00 ms (the best)" in told.why
    assert told.cheaper is not None
    assert told.cheaper.name == 5  # the nearest in latency and area of those with less power
    assert "power 20.0 mW → 12.0 mW, latency 100 % more" in told.cheaper_why
    assert told.change is not None
    # weakest in area (1.0): rows 2 -> 1 saves 40 % for 100 %, cols 8 -> 2 saves 60 % for 150 %: equal in worth but
    # for the last bit, so the larger gain has it
    assert told.change.name in (0, 3)
    cheapest = tiny().recommend(best="area_mm2")
    assert (cheapest.chosen.name, cheapest.cheaper) == (1, None)
    assert cheapest.cheaper_why == "No design of the front has less area."


def test_the_best_within_limits() -> None:
    told = tiny().recommend(best="latency_ms", within={"area_mm2": 2.95})
    assert told.chosen.name == 5
    assert "with area_mm2 at most 2.95 mm²" in told.why
    assert not told.changes["legal"].loc[4]
    both = tiny(constraints={"latency_ms": 9}).recommend(best="area_mm2", within={"latency_ms": (None, 4.5)})
    assert both.chosen.name == 5
    # a sampled exploration keeps its designs, so that any column can be limited
    sampled = tiny(sampler="random", budget=6).recommend(best="latency_ms", within={"power_mw": 10})
    assert sampled.chosen.name == 0


def test_a_step_that_costs_nothing_comes_first() -> None:
    space = ck.DesignSpace(rows=(1, 2), cols=(1, 2), weight_kib=64)
    found = explore(
        space,
        lambda c: {"latency_ms": 8.0 / (c["rows"] * c["cols"]), "area_mm2": 1.0 + (c["cols"] - 1)},
        objectives=["latency_ms", "area_mm2"],
        sampler="random",
        budget=3,
        warm_start=[0, 1, 3],
    )
    assert found.recommend(best="area_mm2").change_why.startswith("To change next: rows 1 → 2 (design 2)")


def test_what_is_not_known_is_not_made_up() -> None:
    dear = tiny(sampler="random", budget=2, warm_start=[3, 1], costly=True)
    told = dear.recommend()
    assert set(told.changes.index) <= {1, 3}
    alone = tiny(sampler="random", budget=1, warm_start=[3], costly=True).recommend()
    assert alone.change is None
    assert alone.change_why == "What a change of a single parameter does is not known: no neighbour was evaluated."
    assert alone.sensitivity.empty
    assert changes_from(dear, [3], dear.goal).index.tolist() == [1]


def test_errors_of_a_recommendation() -> None:
    found = tiny()
    with pytest.raises(
        InvalidInputError, match="best is one of the objectives latency_ms, area_mm2, but got 'power_mw'"
    ):
        found.recommend(best="power_mw")
    with pytest.raises(InvalidInputError, match="a limit is on a column of the designs"):
        found.recommend(within={"accuracy": 0.9})
    with pytest.raises(InvalidInputError, match="an exact sweep keeps its front only"):
        found.recommend(within={"power_mw": 10})
    with pytest.raises(InvalidInputError, match="what is cheap is told by a column of numbers"):
        found.recommend(cheaper="price")
    with pytest.raises(InfeasibleDesignError, match="what binds: without latency_ms 1 are left, without area_mm2 1"):
        found.recommend(within={"latency_ms": 3, "area_mm2": 1.5})
    with pytest.raises(InvalidInputError, match="at least 5 and at most 3"):
        tiny(constraints={"latency_ms": (5, None)}).recommend(within={"latency_ms": 3})


def test_a_recommendation_is_plain_data() -> None:
    told = explore(SPACE, results, objectives=OBJECTIVES).recommend()
    body = json.loads(json.dumps(told.to_dict(), default=lambda value: value.item()))
    assert body["chosen"]["design"] == told.chosen.name
    assert body["why"] == str(told).split("\n")
    assert {row["parameter"] for row in body["sensitivity"]} <= set(SPACE.choices)


def test_columns_read_as_people_write_them() -> None:
    assert column_text("latency_ms", 0.98) == "980 µs"
    assert column_text("area_mm2", 2.5) == "2.50 mm²"
    assert column_text("energy_uj", 1500) == "1.50 mJ"
    assert column_text("accuracy", 0.912) == "0.912"
    assert column_text("bandwidth_gb_s", 12.8) == "12.8"
    assert column_text("latency_cycle", 12345) == "12,345 cycles"
    assert [column_word(name) for name in ("latency_ms", "energy_low_uj", "accuracy", "s")] == [
        "latency", "energy low", "accuracy", "s",
    ]  # fmt: skip
