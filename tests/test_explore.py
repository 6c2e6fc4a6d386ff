"""The exact front, streamed, against brute force; cut off and resumed; the errors of a goal."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from explorecases import OBJECTIVES, SPACE, Backwards, Counting, Interrupt, interrupt_after, results

import codesign_kernel as ck
from codesign_kernel.errors import EvaluationError, InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore import Memory, explore
from codesign_kernel.explore.front import Block, exact_front, front_of
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.tally import Tally
from codesign_kernel.explore.volume import box, growing, hypervolume, reference_of
from codesign_kernel.pareto import hypervolume as own_hypervolume
from codesign_kernel.pareto import non_dominated, pareto_front

GOAL = Goal.of(OBJECTIVES)
WORKLOAD = ck.Workload(
    "small", (ck.Layer("conv", "conv2d", K=8, C=4, OY=8, OX=8, FY=3, FX=3, IY=8, IX=8, padding=(1, 1)),)
)
REAL = ck.DesignSpace(
    rows=(4, 8, 16), cols=(4, 8), activation_kib=(2, 4, 8), weight_kib=(4, 16), bandwidth_gb_s=(0.8, 3.2),
    dataflow=("ws", "os"), instruction_kib=4,
)  # fmt: skip


def whole(space: ck.DesignSpace = SPACE) -> pd.DataFrame:
    columns = space.columns()
    return pd.DataFrame({**columns, **results(columns)})


def brute(frame: pd.DataFrame, objectives: Any = OBJECTIVES) -> list[int]:
    """The front by its definition, pair by pair."""
    rows = frame[frame["feasible"]]
    points = rows[[*objectives]].to_numpy()
    beaten = [bool(((points <= p).all(axis=1) & (points < p).any(axis=1)).any()) for p in points]
    return rows.index[~np.array(beaten)].tolist()


@pytest.mark.parametrize("chunk", [1, 7, 36, 144, 719, 720, 10_000])
def test_the_streamed_front_is_the_front_whatever_the_blocks(chunk: int) -> None:
    evaluate = Counting()
    found = exact_front(SPACE, evaluate, GOAL, chunk=chunk)
    assert found.numbers.tolist() == brute(whole())
    assert found.tally.designs == len(evaluate.seen) == 720
    assert max(evaluate.batches) <= chunk
    assert found.tally.legal == int(whole()["feasible"].sum())
    assert found.tally.reasons == {"weights do not fit": 720 - found.tally.legal}
    expected = whole().loc[found.numbers, [*OBJECTIVES]].to_numpy()
    assert (found.costs == expected).all()


def test_blocks_may_complete_in_any_order() -> None:
    work = Backwards()
    found = exact_front(SPACE, results, GOAL, chunk=36, executor=work)
    assert found.numbers.tolist() == brute(whole())
    assert found.tally.designs == 720
    assert len(work.items) == 1


def test_blocks_and_their_answers_can_be_pickled() -> None:
    item = [(0, {name: np.array(values) for name, values in SPACE.choices.items()})]
    numbers, costs, tally = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(Block(results, GOAL)))(item)))
    assert numbers.tolist() == brute(whole())
    assert (len(costs), tally.designs) == (len(numbers), 720)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["smooth", "grid", "curved"])
def test_thinning_out_changes_nothing(m: int, kind: str) -> None:
    random = np.random.default_rng(m)
    points = random.random((9000, m))
    if kind == "grid":
        points = np.round(points * 12)
    if kind == "curved":
        points = points[:5000] / np.linalg.norm(points[:5000], axis=1, keepdims=True)
    assert front_of(points).tolist() == np.flatnonzero(non_dominated(points)).tolist()


def test_the_real_cost_model_gives_the_front_of_its_sweep() -> None:
    frame = ck.sweep(WORKLOAD, REAL)
    front = pareto_front(frame, ["latency_ms", "energy_uj", "area_mm2"])
    exploration = ck.explore(WORKLOAD, REAL)
    assert exploration.exact
    assert exploration.stopped == "complete"
    pd.testing.assert_frame_equal(exploration.front[frame.columns], front, check_dtype=False)
    assert exploration.tally.legal == frame["feasible"].sum()
    limited = ck.explore(
        WORKLOAD, REAL, constraints={"power_mw": 20.0}, objectives={"utilization": "max", "area_mm2": "min"}
    )
    kept = frame[frame["power_mw"] <= 20.0]
    assert 0 < len(kept) < frame["feasible"].sum()
    assert limited.front.index.tolist() == pareto_front(kept, {"utilization": "max", "area_mm2": "min"}).index.tolist()


def test_a_sweep_that_was_cut_off_goes_on() -> None:
    undisturbed = exact_front(SPACE, results, GOAL, chunk=36)
    recorder, evaluate = Memory(), Counting()
    for calls in (3, 0, 5):
        with pytest.raises(Interrupt):
            exact_front(SPACE, evaluate, GOAL, chunk=36, recorder=recorder, progress=interrupt_after(calls))
    before = len(evaluate.seen)
    assert 0 < before < 720
    found = exact_front(SPACE, evaluate, GOAL, chunk=36, recorder=recorder)
    assert found.numbers.tolist() == undisturbed.numbers.tolist()
    assert found.tally == undisturbed.tally
    assert (found.evaluated, len(evaluate.seen)) == (720 - before, 720)
    again = exact_front(SPACE, evaluate, GOAL, chunk=36, recorder=recorder)
    assert (again.evaluated, again.numbers.tolist()) == (0, undisturbed.numbers.tolist())


def test_a_sweep_can_be_stopped_and_says_so() -> None:
    told: list[tuple[int, int]] = []
    recorder = Memory()
    found = exact_front(
        SPACE, results, GOAL, chunk=36, recorder=recorder, stop=lambda: len(told) == 4,
        progress=lambda done, total, message: told.append((done, total)),
    )  # fmt: skip
    assert found.stopped == "stopped"
    assert told == [(36, 720), (72, 720), (108, 720), (144, 720)]
    assert found.numbers.tolist() == brute(whole().iloc[:144])
    assert exact_front(SPACE, results, GOAL, chunk=36, recorder=recorder).numbers.tolist() == brute(whole())


def test_a_state_of_other_blocks_is_refused() -> None:
    recorder = Memory()
    exact_front(SPACE, results, GOAL, chunk=36, recorder=recorder)
    with pytest.raises(InvalidInputError, match="the state kept has 20 blocks and this space 5"):
        exact_front(SPACE, results, GOAL, chunk=144, recorder=recorder)


def test_counts_of_parts_add_up_and_survive_as_text() -> None:
    goal = Goal.of(OBJECTIVES, {"power_mw": 8, "latency_ms": (5, 20)})
    frame = whole()

    def tally(part: pd.DataFrame) -> Tally:
        columns = {name: part[name].to_numpy() for name in part}
        numbers = part.index.to_numpy()
        return Tally.of(goal, columns, goal.judge(columns, numbers), numbers)

    merged = Tally()
    for start in range(0, 720, 100):
        merged.merge(tally(frame.iloc[start : start + 100]))
    assert merged == tally(frame)
    assert Tally.from_json(merged.to_json()) == merged
    runs = frame[frame["feasible"]]
    assert merged.alone["power_mw"] == (runs["power_mw"] <= 8).sum() == merged.without["latency_ms"]
    assert merged.legal == ((runs["power_mw"] <= 8) & runs["latency_ms"].between(5, 20)).sum()
    assert merged.span["power_mw"] == (runs["power_mw"].min(), runs["power_mw"].max())


def test_it_says_which_limit_is_met_by_none() -> None:
    with pytest.raises(InfeasibleDesignError) as told:
        explore(SPACE, results, objectives=OBJECTIVES, constraints={"area_mm2": 0.1, "latency_ms": 1000})
    least = whole()["area_mm2"].min()
    assert "area_mm2 at most 0.100 mm² is met by none alone: it is " in str(told.value)
    assert f"{least:.3f}" in str(told.value)
    assert "latency_ms at most 1.00 s is met by none" not in str(told.value)


@pytest.mark.parametrize("sampler", ["exact", "random"])
def test_it_says_which_limits_bind_together(sampler: str) -> None:
    limits = {"area_mm2": 0.5, "latency_ms": 10, "power_mw": 1000}
    runs = whole()[whole()["feasible"]]
    small, fast = runs[runs["area_mm2"] <= 0.5], runs[runs["latency_ms"] <= 10]
    assert len(small)
    assert len(fast)
    with pytest.raises(InfeasibleDesignError) as told:
        explore(SPACE, results, objectives=OBJECTIVES, constraints=limits, sampler=sampler)
    binds = f"what binds: without area_mm2 {len(fast):,} are left, without latency_ms {len(small):,} are left;"
    assert binds in str(told.value)
    assert "comes nearest" in str(told.value)


def test_limits_that_nothing_keeps_cost_no_result() -> None:
    """What was evaluated under them is known when they are loosened."""
    recorder, evaluate = Memory(), Counting()
    settings = {"objectives": OBJECTIVES, "sampler": "random", "budget": 100, "recorder": recorder}
    with pytest.raises(InfeasibleDesignError, match="area_mm2 at most"):
        explore(SPACE, evaluate, constraints={"area_mm2": 0.1}, **settings)
    found = explore(SPACE, evaluate, constraints={"area_mm2": 5}, **settings)
    assert (found.provenance.evaluated, len(evaluate.seen), len(found.frame)) == (0, 100, 100)


def never(columns: Any) -> dict[str, Any]:
    found = results(columns)
    return {
        **found,
        "feasible": np.zeros(len(found["feasible"]), dtype=bool),
        "reason": np.array(["too hot"] * len(found["feasible"]), dtype=object),
    }


@pytest.mark.parametrize("sampler", ["exact", "random"])
def test_where_nothing_can_run_the_reasons_are_counted(sampler: str) -> None:
    with pytest.raises(InfeasibleDesignError, match=r"none of 720 can\. Reasons: too hot \(720\)"):
        explore(SPACE, never, objectives=OBJECTIVES, sampler=sampler)


def broken(kind: str, columns: Any) -> dict[str, Any]:
    found = results(columns)
    if kind in ("nan", "infinity"):
        found["area_mm2"][np.flatnonzero(found["feasible"])[0]] = np.nan if kind == "nan" else np.inf
    if kind == "missing":
        del found["area_mm2"]
    if kind == "short":
        found["area_mm2"] = found["area_mm2"][1:]
    if kind == "text":
        found["area_mm2"] = found["area_mm2"].astype(str)
    if kind == "feasible":
        found["feasible"] = found["feasible"].astype(int)
    return found


@pytest.mark.parametrize("sampler", ["exact", "random"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nan", "'area_mm2' is nan for 1 of"),
        ("infinity", "'area_mm2' is inf for 1 of"),
        ("missing", "'area_mm2' is missing"),
        ("short", "'area_mm2' holds"),
        ("text", "'area_mm2' holds"),
        ("feasible", "True or False"),
    ],
)
def test_what_is_no_result_is_refused(kind: str, told: str, sampler: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        explore(SPACE, partial(broken, kind), objectives=OBJECTIVES, sampler=sampler, budget=None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objectives": ()}, "one or more objectives"),
        ({"objectives": "latency_ms"}, "write"),
        ({"objectives": {"latency_ms": "low"}}, 'each "min" or "max"'),
        ({"constraints": {"area_mm2": "small"}}, "is a number or a pair"),
        ({"constraints": {"area_mm2": float("nan")}}, "is a number or a pair"),
        ({"constraints": {"area_mm2": (None, None)}}, "is a number or a pair"),
        ({"constraints": {"area_mm2": (2, 1)}}, "at least 2 and at most 1; exchange them"),
        ({"sampler": "best"}, "a sampler is one of exact, random, pymoo, nsga2, nsga3, tpe, gp, but got 'best'"),
        ({"sampler": "exact", "budget": 10}, "an exact sweep looks at all 720 designs, but the budget is 10"),
        ({"budget": 0}, "a budget is a whole number"),
        ({"sampler": "random", "seed": -1}, "a seed is"),
        ({"sampler": "random", "population": 1}, "a population is"),
        ({"sampler": "random", "warm_start": [720]}, "designs are numbered 0 to 719"),
        ({"sampler": "random", "warm_start": [0.5]}, "warm_start is numbers"),
    ],
)
def test_an_argument_that_is_none_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        explore(SPACE, results, **{"objectives": OBJECTIVES, **changes})


def test_the_front_door_refuses_what_it_cannot_explore() -> None:
    with pytest.raises(InvalidInputError, match="explore takes a Workload"):
        ck.explore("resnet", REAL)
    with pytest.raises(InvalidInputError, match="explore takes a DesignSpace"):
        ck.explore(WORKLOAD, {"rows": 4})
    with pytest.raises(InvalidInputError, match="explore a SpatialSpace"):
        ck.explore(WORKLOAD, REAL, objective="energy")
    with pytest.raises(InvalidInputError, match="store is a Store"):
        ck.explore(WORKLOAD, REAL, store={})


def test_a_study_is_about_one_thing(tmp_path: Path) -> None:
    """Results of another network, release or setting are not taken for those of this one, whatever the name says."""
    other = ck.Workload("other", (ck.Layer("conv", "conv2d", K=4, C=4, OY=8, OX=8, FY=1, FX=1, IY=8, IX=8),))
    with ck.Store(tmp_path / "s.db") as store:
        first = ck.explore(WORKLOAD, REAL, sampler="random", budget=20, store=store, name="mine")
        with pytest.raises(InvalidInputError, match="the results of a study are of one workload, but 'mine' began"):
            ck.explore(other, REAL, sampler="random", budget=20, store=store, name="mine")
        study = store.open_study("mine")
        with pytest.raises(InvalidInputError, match="are of one fusion"):
            ck.explore(WORKLOAD, REAL, sampler="random", budget=20, store=study, fusion=False)
        again = ck.explore(WORKLOAD, REAL, sampler="random", budget=20, store=study)
        assert again.provenance.evaluated == 0
        pd.testing.assert_frame_equal(again.front, first.front)
        for objectives in (["latency_ms"], ["area_mm2", "latency_ms"], {"utilization": "max"}):
            ck.explore(WORKLOAD, REAL, objectives=objectives, sampler="random", budget=20, store=store)
        assert len(store.studies()) == 4, "without a name each has a study of its own"


def test_a_room_does_not_hide_the_function_of_its_name() -> None:
    import codesign_kernel.explore.sweep  # noqa: F401 - writes the room's name into the front door

    assert callable(ck.explore)


def test_auto_sweeps_what_it_can_and_samples_the_rest() -> None:
    every = explore(SPACE, results, objectives=OBJECTIVES)
    assert (every.provenance.sampler, every.provenance.seed, every.exact) == ("exact", None, True)
    some = explore(SPACE, results, objectives=OBJECTIVES, budget=100)
    assert some.provenance.sampler in ("pymoo", "nsga2", "random")
    assert (len(some.frame), some.exact, some.provenance.budget) == (100, False, 100)
    large = explore(SPACE, results, objectives=OBJECTIVES, swept=719)
    assert large.provenance.sampler == some.provenance.sampler


@pytest.mark.parametrize("m", [2, 3])
def test_both_roads_to_the_hypervolume_meet(m: int) -> None:
    pytest.importorskip("moocore")
    random = np.random.default_rng(m)
    for count in (1, 5, 200):
        points = random.random((count, m)) * random.integers(1, 1000, m)
        reference = points.max(axis=0) * random.uniform(0.7, 1.2, m)
        assert hypervolume(points, reference) == pytest.approx(own_hypervolume(points, reference.tolist()), rel=1e-12)


def test_the_reference_lies_behind_the_front() -> None:
    assert reference_of(np.array([[1.0, 30.0], [2.0, 20.0]])).tolist() == pytest.approx([2.1, 31.0])
    assert reference_of(np.array([[2.0, 0.0]])).tolist() == pytest.approx([2.2, 0.1])
    assert hypervolume(np.array([[1.0]]), np.array([3.0])) == 2.0
    assert hypervolume(np.array([[4.0, 1.0]]), np.array([3.0, 3.0])) == 0.0
    assert box(np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([3.0, 4.0])) == 6.0


def test_a_growing_front_is_the_front_of_each_beginning() -> None:
    points = np.random.default_rng(0).random((300, 2))
    points[::7] = np.nan
    for count, front in growing(points, [1, 10, 150, 300]):
        begun = points[:count]
        assert sorted(map(tuple, front.tolist())) == sorted(map(tuple, begun[non_dominated(begun)].tolist()))
