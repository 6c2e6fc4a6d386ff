"""Samplers: legal, repeatable, never twice, constraints kept, resumed as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from explorecases import OBJECTIVES, SPACE, Backwards, Counting, Interrupt, interrupt_after, results

import codesign_kernel as ck
from codesign_kernel.errors import EvaluationError, InvalidInputError, MissingPackageError
from codesign_kernel.explore import Exploration, Memory, compare, explore, histories
from codesign_kernel.explore.samplers import SAMPLERS, Genome, make_sampler
from codesign_kernel.explore.search import Evaluation, search, space_digest

pytest.importorskip("optuna")
pytest.importorskip("pymoo")

#: How many designs each sampler is quick enough for.
BUDGETS = {"random": 120, "pymoo": 120, "nsga2": 120, "nsga3": 120, "tpe": 60, "gp": 10}
#: The Gaussian process takes a second for a design that it proposes itself, which are those after the eighth.
KINDS = [pytest.param(name, marks=pytest.mark.slow) if name == "gp" else name for name in SAMPLERS]
SIZES = {"random": 16, "pymoo": 16, "nsga2": 16, "nsga3": 16, "tpe": 12, "gp": 4}


def run(sampler: str, **changes: Any) -> Exploration:
    arguments: dict[str, Any] = {
        "objectives": OBJECTIVES,
        "budget": BUDGETS[sampler],
        "population": SIZES[sampler],
        "sampler": sampler,
        **changes,
    }
    return explore(SPACE, arguments.pop("evaluate", results), **arguments)


@cache
def undisturbed(sampler: str) -> Exploration:
    """A run with seed 3, for all tests that compare another one with it."""
    return run(sampler, seed=3)


def test_every_sampler_has_a_budget_here() -> None:
    assert set(BUDGETS) == set(SAMPLERS)


def test_genes_are_ranks_and_numbers_come_back() -> None:
    genome = Genome(SPACE)
    numbers = np.arange(SPACE.size)
    genes = genome.genes(numbers)
    assert genome.numbers(genes).tolist() == numbers.tolist()
    assert genome.lengths == [5, 4, 6, 3, 2]
    assert genome.ordered == [True, True, True, True, False]
    columns = SPACE.columns()
    assert (np.sort(SPACE.choices["weight_kib"])[genes[:, 2]] == columns["weight_kib"]).all()
    assert (np.array(SPACE.choices["dataflow"])[genes[:, 4]] == columns["dataflow"]).all()
    single = Genome(ck.DesignSpace(rows=4, cols=(2, 4, 8)))
    assert (single.names, single.numbers(np.array([[2]])).tolist()) == (["cols"], [2])


@pytest.mark.parametrize("sampler", KINDS)
def test_a_sampler_is_legal_and_never_looks_twice(sampler: str) -> None:
    evaluate = Counting()
    found = run(sampler, evaluate=evaluate)
    assert len(found.frame) == BUDGETS[sampler] == len(evaluate.seen) == found.provenance.evaluated
    assert found.frame.index.is_unique
    assert found.frame.index.min() >= 0
    assert found.frame.index.max() < SPACE.size
    columns = SPACE.columns(found.frame.index.to_numpy())
    expected = pd.DataFrame({**columns, **results(columns)}, index=found.frame.index)
    pd.testing.assert_frame_equal(found.frame, expected)
    assert found.stopped == "budget"
    assert max(evaluate.batches) <= SIZES[sampler]
    assert evaluate.batches[0] > 1, "a generation is one array"


@pytest.mark.parametrize("sampler", KINDS)
def test_a_seed_repeats_and_another_does_not(sampler: str) -> None:
    first, again, other = undisturbed(sampler), run(sampler, seed=3), run(sampler, seed=8)
    pd.testing.assert_frame_equal(first.frame, again.frame)
    assert first.frame.index.tolist() != other.frame.index.tolist()


@pytest.mark.parametrize("sampler", KINDS)
def test_cut_off_anywhere_it_ends_as_undisturbed(sampler: str) -> None:
    recorder, evaluate = Memory(), Counting()
    for calls in (0, 1):
        with pytest.raises(Interrupt):
            run(sampler, seed=3, evaluate=evaluate, recorder=recorder, progress=interrupt_after(calls))
    before = len(evaluate.seen)
    assert 0 < before < BUDGETS[sampler]
    resumed = run(sampler, seed=3, evaluate=evaluate, recorder=recorder)
    pd.testing.assert_frame_equal(resumed.frame, undisturbed(sampler).frame)
    pd.testing.assert_frame_equal(resumed.front, undisturbed(sampler).front)
    assert resumed.provenance.evaluated == BUDGETS[sampler] - before
    assert run(sampler, seed=3, evaluate=evaluate, recorder=recorder).provenance.evaluated == 0


class Loses(Memory):
    """A recorder that is killed between keeping the results of a batch and keeping the sampler's journal."""

    def keep(self, name: str, value: bytes) -> None:
        if name.endswith("/1") and self.state(f"{name}/lost") is None:
            super().keep(f"{name}/lost", b"")
            raise Interrupt
        super().keep(name, value)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_results_kept_without_their_journal_are_not_evaluated_again(sampler: str) -> None:
    recorder, evaluate = Loses(), Counting()
    with pytest.raises(Interrupt):
        run(sampler, evaluate=evaluate, recorder=recorder)
    pd.testing.assert_frame_equal(run(sampler, evaluate=evaluate, recorder=recorder).frame, run(sampler).frame)


def test_two_searches_of_one_study_share_results_and_no_state() -> None:
    recorder, evaluate = Memory(), Counting()
    first = run("nsga2", seed=1, evaluate=evaluate, recorder=recorder)
    second = run("nsga2", seed=2, evaluate=evaluate, recorder=recorder)
    pd.testing.assert_frame_equal(second.frame, run("nsga2", seed=2).frame)
    shared = set(first.frame.index) & set(second.frame.index)
    assert second.provenance.evaluated == BUDGETS["nsga2"] - len(shared) == len(evaluate.seen) - BUDGETS["nsga2"]


def test_what_a_database_made_of_results_is_read() -> None:
    """0 and 1 for truth, no parameters, other columns beside, a design twice: as tables of databases come back."""
    first = run("random", seed=1)
    stored = first.frame[["area_mm2", "latency_ms", "feasible"]].astype({"feasible": int}).assign(accuracy=0.5)
    recorder, evaluate = Memory(), Counting()
    recorder.done = lambda: pd.concat([stored, stored.iloc[:3]])  # type: ignore[method-assign]
    again = run("random", seed=1, evaluate=evaluate, recorder=recorder)
    assert (again.provenance.evaluated, evaluate.batches) == (0, [])
    pd.testing.assert_frame_equal(again.frame[first.front.columns[:7]], first.frame[first.front.columns[:7]])
    elsewhere = Memory()
    elsewhere.add(stored.set_index(stored.index + 700))
    with pytest.raises(InvalidInputError, match="designs are numbered 0 to 719"):
        run("random", recorder=elsewhere)


def test_what_a_study_knows_of_other_columns_is_evaluated() -> None:
    recorder = Memory()
    recorder.add(pd.DataFrame({"accuracy": [0.5]}, index=pd.Index([3], name="design")))
    assert run("random", recorder=recorder).provenance.evaluated == BUDGETS["random"]


@pytest.mark.parametrize("sampler", KINDS)
def test_constraints_are_honoured(sampler: str) -> None:
    limits = {"power_mw": (2, 16), "area_mm2": 1.2}
    found = run(sampler, constraints=limits)
    assert (found.front["power_mw"].between(2, 16) & (found.front["area_mm2"] <= 1.2)).all()
    keeps = found.frame["power_mw"].between(2, 16) & (found.frame["area_mm2"] <= 1.2)
    assert found.tally.legal == keeps.sum() > 0


@pytest.mark.parametrize("sampler", ["pymoo", "nsga2", "nsga3", "tpe"])
def test_constraints_draw_the_search(sampler: str) -> None:
    """Few designs are legal: one that is told so looks at more of them than chance does."""
    limits = {"power_mw": (30, 70), "area_mm2": 3.0}
    legal = [run(sampler, constraints=limits, seed=seed).tally.legal for seed in range(3)]
    chance = [run("random", constraints=limits, seed=seed, budget=BUDGETS[sampler]).tally.legal for seed in range(3)]
    assert sum(legal) > 1.3 * sum(chance)


@pytest.mark.parametrize("sampler", ["pymoo", "nsga2", "nsga3", "tpe"])
def test_a_sampler_beats_chance(sampler: str) -> None:
    exact = explore(SPACE, results, objectives=OBJECTIVES)
    runs = {name: [run(name, seed=s, budget=BUDGETS[sampler]) for s in range(4)] for name in (sampler, "random")}
    ends = {
        name: np.mean([table["hypervolume"].iloc[-1] for table in tables])
        for name, tables in histories(runs, exact).items()
    }
    assert ends["random"] < ends[sampler] <= 1.0


@pytest.mark.parametrize("sampler", KINDS)
def test_known_designs_come_first(sampler: str) -> None:
    first = [5, 700, 5, 333]
    found = run(sampler, warm_start=first)
    assert found.frame.index[:3].tolist() == [5, 700, 333]
    known = run(sampler, warm_start=found)
    assert known.frame.index[: len(found.front)].tolist() == found.front.index.tolist()
    empty = run(sampler, seed=3, warm_start=pd.DataFrame(index=pd.Index([], dtype=int)))
    pd.testing.assert_frame_equal(empty.frame, undisturbed(sampler).frame)


@pytest.mark.parametrize("sampler", ["random", "nsga2", "pymoo"])
def test_workers_change_nothing(sampler: str) -> None:
    work = Backwards()
    found = run(sampler, executor=work, evaluate=Counting())
    pd.testing.assert_frame_equal(found.frame, run(sampler).frame)
    assert work.items[0] > 1, "a first batch of unknown cost is cut into designs"
    assert work.items[-1] == 1, "what is quick stays one item"


def test_a_batch_that_fails_keeps_what_was_finished() -> None:
    evaluate = Counting()

    def fails(columns: Any) -> dict[str, Any]:
        found = evaluate(columns)
        if len(evaluate.batches) == 3:
            found["latency_ms"] = np.full(len(found["latency_ms"]), np.nan)
        return found

    recorder = Memory()
    with pytest.raises(EvaluationError, match="'latency_ms' is nan"):
        run("random", evaluate=fails, recorder=recorder)
    assert len(recorder.done()) == 2 * SIZES["random"]


def test_a_generation_is_a_part_of_the_budget() -> None:
    for budget, size in ((60, 20), (160, 20)):
        evaluate = Counting()
        explore(SPACE, evaluate, objectives=OBJECTIVES, sampler="nsga2", budget=budget)
        assert evaluate.batches[0] >= 0.9 * size  # a few are drawn twice
        assert max(evaluate.batches) <= size


def test_it_stops_when_the_front_stands_still() -> None:
    found = run("nsga2", budget=720, patience=100)
    assert found.stopped in ("stalled", "exhausted")
    assert 100 <= len(found.frame) < 720
    same = run("pymoo", budget=400, patience=100, objectives=["area_mm2"])
    assert (same.stopped, len(same.frame) < 400) == ("stalled", True)


def test_a_sampler_that_repeats_itself_is_ended() -> None:
    found = explore(SPACE, Counting(), objectives=OBJECTIVES, sampler="pymoo", budget=720, population=4)
    assert found.stopped in ("exhausted", "complete")


def test_it_stops_when_it_is_told() -> None:
    calls: list[int] = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) == 2

    found = run("random", stop=stop)
    assert (found.stopped, len(found.frame)) == ("stopped", 32)


def test_progress_counts_to_the_budget() -> None:
    told: list[tuple[int, int]] = []
    run("random", progress=lambda done, total, message: told.append((done, total)))
    assert told[0] == (16, 120)
    assert told[-1] == (120, 120)


def test_a_whole_space_can_be_sampled_and_is_then_exact() -> None:
    found = run("random", budget=5000)
    assert (len(found.frame), found.stopped, found.exact) == (720, "complete", True)
    exact = explore(SPACE, results, objectives=OBJECTIVES)
    assert sorted(found.front.index) == sorted(exact.front.index)
    tiny = ck.DesignSpace(rows=(1, 2), cols=(1, 2), weight_kib=64, bandwidth_gb_s=1, dataflow="ws")
    for sampler in ("pymoo", "nsga2"):
        all_four = explore(tiny, results, objectives=OBJECTIVES, sampler=sampler, budget=4, population=4)
        assert all_four.stopped in ("complete", "exhausted")


class Stubborn:
    """A sampler that proposes one design for ever."""

    batch = 4

    def ask(self, count: int) -> Any:
        return np.array([11])

    def tell(self, numbers: Any, costs: Any, broken: Any) -> None:
        assert numbers.tolist() == [11]

    def journal(self) -> bytes:
        return b""

    def replay(self, journal: bytes) -> None:
        raise AssertionError


def test_a_sampler_without_ideas_ends_the_search() -> None:
    from codesign_kernel.explore.goal import Goal

    found = search(SPACE, Counting(), Goal.of(OBJECTIVES), Stubborn(), budget=10)
    assert (found.stopped, found.frame.index.tolist(), found.evaluated) == ("exhausted", [11], 1)


def test_an_evaluation_is_one_frame() -> None:
    from codesign_kernel.explore.goal import Goal

    frame = Evaluation(SPACE, results, Goal.of(OBJECTIVES))(np.array([4, 2]))
    assert frame.index.tolist() == [4, 2]
    assert [*frame.columns[:5]] == [*SPACE.choices]


def test_histories_share_one_scale() -> None:
    exact = explore(SPACE, results, objectives=OBJECTIVES)
    found = run("random")
    ((table,),) = histories({"random": [found]}, exact).values()
    assert table["evaluations"].iloc[-1] == 120
    assert table["hypervolume"].is_monotonic_increasing
    assert 0 < table["hypervolume"].iloc[-1] <= 1
    ((whole,),) = histories({"exact": [exact]}, exact).values()
    assert whole[["evaluations", "hypervolume"]].to_numpy().tolist() == [[720, pytest.approx(1.0)]]
    assert found.history["hypervolume"].iloc[-1] == pytest.approx(found.hypervolume)
    with pytest.raises(InvalidInputError, match="needs an exploration"):
        histories({})


def test_a_comparison_counts_by_hand() -> None:
    exact = explore(SPACE, results, objectives=OBJECTIVES)
    found = run("random", budget=40)
    told = compare(exact, found)
    mine, theirs = exact.costs(), found.costs()
    reached = [bool((theirs <= p).all(axis=1).any()) for p in mine]
    assert told.coverage == (1.0, pytest.approx(np.mean(reached)))
    assert told.attained[0] == 1.0
    assert told.hypervolume[0] == pytest.approx(exact.hypervolume)
    assert told.hypervolume[1] < told.hypervolume[0]
    assert told.designs == (720, 40)
    assert "the first covers more" in str(told)
    assert compare(found, found).coverage == (1.0, 1.0)
    other = explore(SPACE, results, objectives={"latency_ms": "min", "power_mw": "max"})
    assert other.reference["power_mw"] < other.front["power_mw"].min()
    with pytest.raises(InvalidInputError, match="compared by the same objectives"):
        compare(exact, other)


def test_provenance_says_what_took_part() -> None:
    told = run("random", seed=5).provenance
    assert (told.sampler, told.seed, told.budget, told.space) == ("random", 5, 120, space_digest(SPACE))
    assert told.wall_s > 0
    assert {"numpy", "optuna", "pymoo", "moocore"} <= set(told.versions)


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["optuna", "pymoo", "moocore"]))
sys.path.insert(0, {tests!r})
from explorecases import SPACE, results
from codesign_kernel.errors import MissingPackageError
from codesign_kernel.explore import explore
for name in ("nsga2", "pymoo"):
    try:
        explore(SPACE, results, objectives=["latency_ms", "area_mm2"], sampler=name)
    except MissingPackageError as error:
        print(name, error)
found = explore(SPACE, results, objectives=["latency_ms", "area_mm2"], sampler="random", budget=100, patience=50)
print(round(found.hypervolume, 9))
"""


def test_without_the_packages_the_rest_works() -> None:
    from pathlib import Path

    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", WITHOUT.format(tests=tests)]
    done = subprocess.run(command, cwd=Path(tests).parent, capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert "pip install 'codesign-playground[search]'" in lines[0]
    assert lines[1].startswith("pymoo the sampler pymoo")
    found = explore(SPACE, results, objectives=OBJECTIVES, sampler="random", budget=100, patience=50)
    assert float(lines[2]) == pytest.approx(found.hypervolume, abs=1e-8)


def test_a_sampler_can_be_used_alone() -> None:
    sampler = make_sampler("pymoo", SPACE, objectives=2, limits=1, seed=0, population=10)
    asked = sampler.ask(10)
    sampler.tell(asked, np.random.default_rng(0).random((len(asked), 2)), np.zeros((len(asked), 1)))
    assert len(sampler.ask(3)) == 3
    assert issubclass(MissingPackageError, ImportError)
