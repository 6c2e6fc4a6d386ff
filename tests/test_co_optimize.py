"""One search over network and machine: against every pair there is, and cut off and gone on with."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from explorecases import Backwards, Interrupt, interrupt_after
from paircases import QUICK, SPACE, Counting, Task, task

import codesign_kernel as ck
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore import Memory
from codesign_kernel.optimize import Recipe, accuracy
from codesign_kernel.session.pairs import joint_volume
from codesign_kernel.units import column_text

__all__ = ["task"]  # a fixture


@pytest.fixture(scope="module")
def known() -> Memory:
    """The networks of ``found``, for tests that are about something else than making them."""
    return Memory()


@pytest.fixture(scope="module")
def found(task: Task, known: Memory) -> ck.CoOptimization:
    """A small search, and what the others are compared with."""
    return task.search(store=known)


def same(one: ck.CoOptimization, other: ck.CoOptimization) -> None:
    """Both looked at the same networks in the same order and found the same front."""
    assert one.frame.drop(columns="wall_s").equals(other.frame.drop(columns="wall_s"))
    assert one.front.equals(other.front)
    assert one.history.equals(other.history)


def test_every_pair_is_measured(task: Task, found: ck.CoOptimization) -> None:
    """Accuracy is what the golden model gets right, and the costs are those of the cost model."""
    assert found.front["network"].nunique() > 1
    for number in range(0, len(found.front), 5):
        pair = found.pair(number)
        data = task.data
        assert pair.accuracy == accuracy(pair.network.predict(data.validation_x), data.validation_y)
        assert pair.test_accuracy == accuracy(pair.network.predict(data.test_x), data.test_y)
        cost = ck.evaluate(pair.network, pair.design)
        assert pair.row["latency_cycle"] == cost.latency_cycle
        assert pair.row["energy_uj"] == pytest.approx(cost.energy_pj * 1e-6, rel=1e-12)
        assert pair.row["area_mm2"] == pytest.approx(cost.area_um2 * 1e-6, rel=1e-12)
        assert pair.row["power_w"] == pytest.approx(cost.energy_pj * 1e-12 / cost.latency_s, rel=1e-12)
        assert pair.design.accelerator.weight_bits == pair.network.bits == pair.candidate.bits


def test_a_candidate_becomes_what_it_says(found: ck.CoOptimization) -> None:
    for number, network in found.made.items():
        chosen = found.networks.candidate(number)
        kept, widths = dict(chosen.keep), dict(chosen.weight_bits)
        layers = {layer.name: layer for layer in network.layers}
        assert len(layers["conv1"].weight) == round(16 * kept.get("conv1", 1.0))
        assert len(layers["conv2"].weight) == round(32 * kept.get("conv2", 1.0))
        assert (layers["fc"].weight_bits or network.bits) == widths.get("fc", chosen.bits)
        assert found.frame.loc[number, "macs"] == network.workload.macs


def test_the_front_is_that_of_every_pair(found: ck.CoOptimization) -> None:
    """Found by sweeping each network's machines in one table, and comparing all with all."""
    rows = []
    for number, network in found.made.items():
        frame = ck.sweep(network, SPACE)
        frame = frame[frame["feasible"] & (frame["weight_bits"] == network.bits)]
        score = found.frame.loc[number, "accuracy"]
        rows += [(-score, *point) for point in frame[["latency_ms", "energy_uj", "area_mm2"]].itertuples(index=False)]
    points = {tuple(map(float, row)) for row in rows}
    best = {p for p in points if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)}
    ours = [(-row.accuracy, row.latency_ms, row.energy_uj, row.area_mm2) for row in found.front.itertuples()]
    assert len(ours) == len(set(ours)), "pairs of equal objectives stand there once"
    assert set(ours) == best


def test_limits_are_kept(task: Task, found: ck.CoOptimization, known: Memory) -> None:
    middle = found.front.median(numeric_only=True)
    limits = {"area_mm2": middle["area_mm2"], "power_w": middle["power_w"], "accuracy": middle["accuracy"]}
    kept = task.search(limits, store=known)
    assert len(kept.front) > 0
    assert (kept.front["area_mm2"] <= limits["area_mm2"]).all()
    assert (kept.front["power_w"] <= limits["power_w"]).all()
    assert (kept.front["accuracy"] >= limits["accuracy"]).all()
    assert kept.reference["area_mm2"] == limits["area_mm2"]


def test_the_hypervolume_only_grows(found: ck.CoOptimization) -> None:
    assert found.history["networks"].tolist() == [*range(1, len(found.frame) + 1)]
    assert (np.diff(found.history["hypervolume"]) >= 0).all()
    parts = [
        (float(group["accuracy"].iloc[0]), group[["latency_ms", "energy_uj", "area_mm2"]].to_numpy())
        for _, group in found.front.groupby("network")
    ]
    assert found.hypervolume == pytest.approx(joint_volume(parts, [*found.reference.values()]))


def test_the_joint_volume_is_a_volume() -> None:
    """Against points of a fine grid, which are dominated or not."""
    parts = [(0.9, np.array([[10.0, 1.0], [1.0, 10.0]])), (0.6, np.array([[1.0, 1.0]])), (0.2, np.array([[0.1, 0.1]]))]
    reference = [0.5, 100.0, 100.0]
    edges = [(np.arange(200) + 0.5) / 200 * width + start for width, start in ((0.5, 0.5), (2.0, 0.0), (2.0, 0.0))]
    a, x, y = np.meshgrid(*edges, indexing="ij")
    inside = np.zeros(a.shape, dtype=bool)
    for score, costs in parts:
        for cx, cy in np.log10(costs):
            inside |= (a <= score) & (x >= cx) & (y >= cy)
    assert joint_volume(parts, reference) == pytest.approx(inside.mean() * 0.5 * 4, rel=0.01)


def test_a_space_within_the_budget_is_searched_whole(task: Task, found: ck.CoOptimization) -> None:
    tiny = ck.NetworkSpace(bits=(8,), epochs=(0,), keep={"conv1": (0.5, 1.0)})
    whole = task.search(networks=tiny, budget=9)
    assert whole.stopped == "complete"
    assert sorted(whole.frame.index) == [0, 1]
    assert found.stopped == "budget"
    assert len(found.frame) == 8


@pytest.mark.slow
def test_cut_off_and_gone_on_with(task: Task, found: ck.CoOptimization) -> None:
    """Stopped, interrupted, finished: nothing is trained twice, and the end is that of an undisturbed search."""
    store, calls = Memory(), Counting()
    asked = itertools.count(1)
    part = task.search(store=store, executor=calls, stop=lambda: next(asked) == 3)
    assert (part.stopped, len(part.frame), part.provenance.evaluated) == ("stopped", 3, 3)
    with pytest.raises(Interrupt):
        task.search(store=store, executor=calls, progress=interrupt_after(5))
    whole = task.search(store=store, executor=calls)
    same(whole, found)
    assert whole.provenance.evaluated == 2
    trained = [item for item in calls.items if hasattr(item, "keep")]
    assert len(trained) == len(set(trained)) == 8
    assert sorted(store.done().index) == sorted(found.frame.index)
    before = len(calls.items)
    again = task.search(store=store, executor=calls)
    same(again, found)
    assert (again.provenance.evaluated, len(calls.items)) == (0, before)


def test_machines_are_swept_again_for_other_limits_and_networks_not_trained(
    task: Task, found: ck.CoOptimization, known: Memory
) -> None:
    other = task.search({"area_mm2": 1.0}, store=known, budget=4, population=4)
    assert other.provenance.evaluated == 0
    assert other.frame["volume"].tolist() != found.frame["volume"].tolist()[:4]


@pytest.mark.slow
def test_the_store_keeps_it(task: Task, found: ck.CoOptimization, tmp_path: Path) -> None:
    with ck.Store(tmp_path / "store.db") as store:
        # and the order in which networks are finished does not matter
        same(task.search(store=store, name="pairs", executor=Backwards()), found)
    with ck.Store(tmp_path / "store.db") as store:
        again = task.search(store=store, name="pairs")
        same(again, found)
        assert again.provenance.evaluated == 0
        frame = store.open_study("pairs").frame()
        assert frame["accuracy"].to_dict() == found.frame["accuracy"].to_dict()
        with pytest.raises(InvalidInputError, match="is of another"):
            task.search(store=store, name="pairs", seed=1)


@pytest.mark.slow
def test_the_test_part_decides_nothing(task: Task, found: ck.CoOptimization) -> None:
    wrong = replace(task.data, test_y=(task.data.test_y + 1) % 10)
    other = task.search(data=wrong)
    assert other.frame.drop(columns="wall_s").equals(found.frame.drop(columns="wall_s"))
    apart = "test_accuracy"
    assert other.front.drop(columns=apart).equals(found.front.drop(columns=apart))
    assert (other.front[apart] < 0.2).all()
    assert (found.front[apart] > 0.2).any()


def test_the_data_decides(task: Task, found: ck.CoOptimization, known: Memory) -> None:
    """Other labels to train on are another task: what was kept is not taken."""
    assert task.search(store=known, budget=1).provenance.evaluated == 0
    other = replace(task.data, train_y=(task.data.train_y + 1) % 10)
    assert task.search(store=known, budget=1, data=other).provenance.evaluated == 1


def test_what_is_trained_otherwise_is_another_network(task: Task, found: ck.CoOptimization, known: Memory) -> None:
    """Frozen layers are tuned otherwise, though the weights are the same and the integers of the whole model too."""
    model = copy.deepcopy(task.model)
    model.conv1.requires_grad_(False)
    assert task._replace(model=model).search(store=known, budget=1).provenance.evaluated == 1


def test_of_equal_pairs_the_first_network_has_it(task: Task) -> None:
    """Whoever finishes first. 0.99 of 16 channels are all of them, and a training at no rate changes nothing."""
    networks = ck.NetworkSpace(epochs=(0,), keep={"conv1": (0.99, 1.0)})
    still = {"networks": networks, "prune_recipe": Recipe(1, 1e-20, batch=512)}
    serial = task.search(**still)
    assert serial.frame["accuracy"].nunique() == 1
    same(task.search(**still, executor=Backwards()), serial)


def test_a_network_that_fails_is_counted(task: Task) -> None:
    """A learning rate at which the loss is no number: the whole networks, which are not pruned, remain."""
    told = task.search(prune_recipe=Recipe(1, 1e30), networks=ck.NetworkSpace(epochs=(0,), keep={"conv1": (0.5, 1.0)}))
    assert told.frame["reason"].str.contains("loss").tolist() == [True, False]
    assert np.isnan(told.frame["accuracy"].iloc[0])
    assert told.front["network"].unique().tolist() == [1]


def test_what_binds_is_said(task: Task, found: ck.CoOptimization, known: Memory) -> None:
    with pytest.raises(InfeasibleDesignError, match=r"latency_ms at most 1\.00 ns is met by none alone.*µs alone"):
        task.search({"latency_ms": 1e-6, "accuracy": 0.2}, store=known)
    with pytest.raises(InfeasibleDesignError, match=r"accuracy at least 0\.999 is met by none alone.*% alone"):
        task.search({"accuracy": 0.999, "area_mm2": 1.0}, store=known)
    each = found.front.min()
    limits = {name: each[name] * 1.0001 for name in ("latency_ms", "area_mm2")}
    with pytest.raises(InfeasibleDesignError, match=r"latency_ms .* is not met where the others are") as raised:
        task.search(limits, store=known)
    # what can be had of the one where the other is kept is said, and is true
    fast = task.search({"latency_ms": limits["latency_ms"]}, store=known).front["area_mm2"].min()
    assert f"area_mm2 {column_text('area_mm2', each['area_mm2'])} alone" in str(raised.value)
    assert f"{column_text('area_mm2', fast)} with the others kept" in str(raised.value)


def test_no_machine_can_run_it(task: Task) -> None:
    with pytest.raises(InfeasibleDesignError, match="there is none among"):
        task.search(space=ck.DesignSpace(rows=4, cols=4, weight_bits=(4, 8), instruction_kib=0.06), budget=2)


def test_advice_in_words(found: ck.CoOptimization) -> None:
    advice = found.recommend()
    assert advice.number == found.knee.name
    assert f"Take pair {advice.number}: a network of {advice.pair.candidate}, on {advice.pair.design}." in str(advice)
    assert f"{100 * advice.pair.test_accuracy:.1f} % of the test inputs" in advice.why
    cheapest = found.recommend("area_mm2")
    assert cheapest.pair.row["area_mm2"] == found.front["area_mm2"].min()
    assert cheapest.cheaper_why == "No pair of the front has less area."
    best = found.recommend("accuracy")
    assert best.pair.accuracy == found.front["accuracy"].max()
    assert best.accurate_why == "No pair of the front is more accurate."
    with pytest.raises(InvalidInputError, match="best is one of"):
        found.recommend("beauty")
    with pytest.raises(InvalidInputError, match="pairs are numbered"):
        found.pair(len(found.front))
    assert "8 of 24 networks by tpe (budget), each on every of 64 designs" in str(found)


@pytest.mark.slow
def test_a_candidate_is_pruned_then_trained_as_it_will_be_rounded(task: Task) -> None:
    space = ck.NetworkSpace(bits=(8,), epochs=(1,), keep={"conv1": (0.5,)}, weight_bits={"fc": (2,)})
    tuning = Recipe(7, 1e-3, batch=128)  # of its epochs the candidate's own choice counts
    few = replace(task.data, train_x=task.data.train_x[:128], train_y=task.data.train_y[:128])
    found = task.search(data=few, networks=space, seed=3, tune_recipe=tuning)
    small = ck.prune(task.model, few, keep={"conv1": 0.5}, recipe=QUICK, seed=3)
    recipe = replace(tuning, epochs=1)
    alike = ck.quantize_aware(small, few, bits=8, weight_bits={"fc": 2}, recipe=recipe, seed=3)
    assert found.made[0].digest == alike.digest


@pytest.mark.slow
@pytest.mark.verilator
def test_a_pair_goes_straight_into_the_rtl(task: Task, found: ck.CoOptimization) -> None:
    """Equal bits, equal cycles: of the knee, and of a network whose weights have widths of their own."""
    narrow = [number for number in range(len(found.front)) if found.pair(number).candidate.weight_bits]
    for number in {int(found.knee.name), narrow[0]}:
        pair = found.pair(number)
        report = ck.cosimulate(pair.design, pair.network, task.data.test_x[:8], simulator="verilator")
        assert report.passed
        assert report.cycles_rtl == pair.row["latency_cycle"]
        scores = np.asarray(report.outputs).reshape(8, -1)
        assert (scores == pair.network.predict(task.data.test_x[:8])).all()
