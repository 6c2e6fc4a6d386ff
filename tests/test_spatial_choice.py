"""What a person can ask of a mapping: an objective, a tile, a loop; and what is said where a machine has no mapping."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from nestwalk import holdings, legal_tilings, lengths, walk
from spatialcases import alone, any_array, any_chain, any_layer

import codesign_kernel as ck
from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.workload import Layer, Workload

ORDERS = ("kcy", "yck", "ykc")
CONV = Layer("conv", "conv2d", K=24, C=10, OY=6, OX=5, FY=3, FX=3, IY=6, IX=5, padding=(1, 1))
GROUPS = Layer("groups", "conv2d", G=4, K=8, C=8, OY=5, IY=5)
NARROW = SpatialArray(rows=4, cols=8, bandwidth_gb_s=0.5)


@pytest.mark.parametrize("seed", range(30))
def test_each_objective_is_best_at_its_own(seed: int) -> None:
    rng = random.Random(300 + seed)
    chain, machine = any_chain(rng, rng.randint(1, 5)), any_array(rng)
    fast, frugal = (ck.evaluate(chain, machine, objective=objective) for objective in ("latency", "energy"))
    assert frugal.energy_pj <= fast.energy_pj * (1 + 1e-12)
    assert fast.latency_cycle <= frugal.latency_cycle


@pytest.mark.parametrize("objective", ["latency", "energy"])
@pytest.mark.parametrize("seed", range(8))
def test_no_mapping_that_is_asked_for_is_better(seed: int, objective: str) -> None:
    rng = random.Random(400 + seed)
    layer = any_layer(rng, largest=12)
    work, machine = alone(layer), any_array(rng, vector_lanes=rng.choice([1, 65536]))
    free = ck.evaluate(work, machine, objective=objective)
    legal = [(t, order) for t, order in legal_tilings(layer, machine) if order in ORDERS]
    for tiling, order in rng.sample(legal, min(12, len(legal))):
        k = tiling["k"] * (layer.K if tiling["grouped"] else 1)
        cost = ck.evaluate(work, machine, objective=objective, mapping=f"y={tiling['y']} k={k} inner={order[-1]}")
        if objective == "latency":
            assert free.latency_cycle <= cost.latency_cycle
        else:
            assert free.energy_pj <= cost.energy_pj * (1 + 1e-12)


def test_leakage_lasts_as_long_as_the_slower_unit() -> None:
    # a dozen operators behind the array have one lane: a faster mapping would save nothing
    layer = Layer("conv", "conv2d", K=26, C=53, OY=8, OX=6, FY=3, FX=3, IY=8, IX=6, padding=(1, 1))
    acts = [Layer(f"act{at}", "gelu", G=26, OY=8, OX=6, IY=8, IX=6) for at in range(12)]
    chain = Workload("chain", (layer, *acts), tuple(pairwise(["conv", *(act.name for act in acts)])))
    slow = SpatialArray(bandwidth_gb_s=0.5, input_kib=2048.0, weight_kib=16.0, output_kib=400.0, vector_lanes=1)
    energies = [
        ck.evaluate(chain, slow, objective="energy", mapping=f"y={y} k={k} c={c} inner={inner}").energy_pj
        for y, k, c, inner in itertools.product(lengths(8, 1), lengths(26, 16), lengths(53, 1), "ykc")
        if k * c * 9 * 8 * (1 if (k, c) == (26, 53) else 2) <= 16 * 8192
    ]
    free = ck.evaluate(chain, slow, objective="energy")
    assert free.energy_pj == pytest.approx(min(energies), rel=1e-12)
    assert free.latency_cycle > ck.evaluate(alone(layer), slow, objective="energy").latency_cycle
    with pytest.raises(InvalidInputError, match="objective is one of 'latency', 'energy', but got 'area'"):
        ck.evaluate(chain, slow, objective="area")


@pytest.mark.parametrize("seed", range(25))
def test_a_mapping_is_as_it_is_asked_for(seed: int) -> None:
    rng = random.Random(500 + seed)
    layer = replace(any_layer(rng, largest=12), G=1)
    machine = any_array(rng, vector_lanes=65536)
    p = ck.evaluate(alone(layer), machine).layers[0].mapping.nest  # type: ignore[union-attr]
    units = {
        "y": 1,
        "k": 1 if machine.dataflow == "is" else machine.cols,
        "c": 1 if machine.dataflow == "os" or machine.im2col else machine.rows,
    }
    extents = {"y": p.OY, "k": p.K, "c": p.C}
    asked = {loop: rng.randint(1, extents[loop] + 1) for loop in rng.sample("ykc", rng.randint(1, 3))}
    inner = rng.choice([None, "y", "k", "c"])
    words = [f"{loop}={most}" for loop, most in asked.items()] + ([f"inner={inner}"] if inner else [])
    (told,) = ck.evaluate(alone(layer), machine, mapping=rng.choice([" ", ", "]).join(words)).layers
    mapping = told.mapping
    assert mapping is not None
    assert inner in (None, mapping.inner) or mapping.tiles[inner] == 1
    largest = {}
    for loop, most in asked.items():
        legal = lengths(extents[loop], units[loop])
        largest[loop] = max((size for size in legal if size <= most), default=min(legal))
        assert getattr(mapping, loop) == largest[loop]
    latencies = []
    for tiling, order in legal_tilings(layer, machine):
        runs = {loop: tiling[loop] < extents[loop] or (loop == "y" and p.B > 1) for loop in "ykc"}
        last = next((loop for loop in reversed(order) if runs[loop]), None)
        obeys = order in ORDERS and all(tiling[loop] == size for loop, size in largest.items())
        if obeys and (inner is None or last == inner or not runs[inner]):
            again = walk(layer, machine, tiling, order).again
            latencies += [walk(layer, machine, tiling, order, held=held).latency for held in holdings(again)]
    assert told.latency_cycle == min(latencies)


def test_groups_are_counted_in_their_channels() -> None:
    def tile(text: str) -> tuple[bool, int, int]:
        mapping = ck.evaluate(alone(GROUPS), NARROW, mapping=text).layers[0].mapping
        assert mapping is not None
        return mapping.grouped, mapping.k, mapping.c

    assert tile("k=16") == (True, 2, 8)
    assert tile("k=31") == (True, 2, 8)
    assert tile("c=4") == (False, 8, 4)
    assert tile("k=16 c=4") == (False, 8, 4)  # a tile of two groups has all of their channels
    assert tile("k=8 c=3")[1:] == (8, 3)


def test_a_mapping_of_some_layers() -> None:
    other = replace(CONV, name="other")
    pair = Workload("pair", (CONV, other), (("conv", "other"),))
    free = ck.evaluate(pair, NARROW, fusion=False).layers
    bound = ck.evaluate(pair, NARROW, fusion=False, mapping={"other": "y=1 k=8"}).layers
    assert bound[0] == free[0]
    assert (bound[1].mapping.y, bound[1].mapping.k) == (1, 8)  # type: ignore[union-attr]
    assert bound[1].latency_cycle > free[1].latency_cycle


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("y=0", "got 'y=0'"),
        ("y=14 y=7", "each once, but got 'y=7'"),
        ("inner=y inner=k", "each once"),
        ("inner=g", "got 'inner=g'"),
        ("b=2", "got 'b=2'"),
        ("y=1.5", "got 'y=1.5'"),
        ("y = 4", "got 'y'"),
        ("k=-1", "got 'k=-1'"),
        ("", "at least one thing"),
        ({"conv": "nothing"}, "got 'nothing'"),
        ({"cnov": "y=1"}, r"names layers of the array \(conv\), but got cnov"),
        (4, "a text like 'k=64 inner=y'"),
        ({"conv": 4}, "a text like 'k=64 inner=y'"),
    ],
)
def test_what_is_not_understood_is_refused(mapping: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        ck.evaluate(alone(CONV), NARROW, mapping=mapping)


def test_a_mapping_is_shown_as_loops() -> None:
    cost = ck.evaluate(alone(CONV), NARROW, mapping="y=2 k=8 c=5 inner=k")
    assert str(cost.layers[0].mapping).splitlines()[:3] == [
        "for y in 3 tiles of 2 output rows (of 6)",
        "  for c in 2 tiles of 5 input channels (of 10)",
        "    for k in 3 tiles of 8 output channels (of 24)   # I stays",
    ]


COMPLAINT = re.compile(r"it needs ([\d.]+) KiB and (\w+)_kib = ([\d.e-]+) is ([\d.]+) KiB too small")


@pytest.mark.parametrize("seed", range(25))
def test_what_is_too_small_is_enough_when_enlarged_as_said(seed: int) -> None:
    rng = random.Random(600 + seed)
    chain, machine = any_chain(rng, 4, largest=60), any_array(rng)
    least = {level.name: level.word_bit / 8192 for level in machine.memories}
    machine = replace(machine, **{f"{name}_kib": size for name, size in least.items()})
    complaints: set[tuple[str, str]] = set()
    while (refusal := refusal_of(chain, machine)) is not None:
        found = COMPLAINT.findall(refusal)
        (layer,) = re.findall(r"layer '(\w+)'", refusal)
        if not found:
            assert "hold one tile" in refusal
            machine = replace(machine, input_kib=1e4, weight_kib=1e4, output_kib=1e4)
        for needs, name, has, lacks in found:
            size = getattr(machine, f"{name}_kib")
            assert float(has) == pytest.approx(size, rel=1e-5)
            assert (layer, name) not in complaints
            complaints.add((layer, name))
            less = replace(machine, **{f"{name}_kib": max(float(needs) - 0.011, least[name])})
            assert f"and {name}_kib" in str(refusal_of(chain, less))
            machine = replace(machine, **{f"{name}_kib": rng.choice([float(needs), size + float(lacks)])})
    assert ck.evaluate(chain, machine).latency_cycle > 0


def refusal_of(work: Workload, machine: SpatialArray) -> str | None:
    """What is said, if anything."""
    try:
        ck.evaluate(work, machine)
    except InfeasibleDesignError as refusal:
        return str(refusal)
    return None


def test_a_mapping_that_does_not_fit_is_refused() -> None:
    small = replace(NARROW, weight_kib=0.25)
    assert ck.evaluate(alone(CONV), small).latency_cycle > 0
    with pytest.raises(InfeasibleDesignError, match=r"needs 2\.11 KiB and weight_kib = 0\.25 is 1\.86 KiB too small"):
        ck.evaluate(alone(CONV), small, mapping="k=24 c=10")


def test_a_layer_that_fits_only_beside_a_kept_map_is_refused_where_none_is_kept() -> None:
    # "two" has no room for two tiles of its input (6 rows), nor for all of its output; its whole input (5 rows) would
    # do, but that "one" cannot keep beside its own tiles
    one, two = Layer("one", "conv2d", OY=5, IY=5), Layer("two", "conv2d", OY=3, IY=5, FY=3)
    chain = Workload("chain", (one, two), (("one", "two"),))
    machine = SpatialArray(rows=1, cols=1, input_kib=40 / 8192, weight_kib=1.0, output_kib=64 / 8192)
    with pytest.raises(InfeasibleDesignError, match="hold one tile of layer 'two' together"):
        ck.evaluate(chain, machine)
    kept = ck.evaluate(chain, replace(machine, input_kib=56 / 8192))  # 5 rows, and two tiles of one row
    assert [layer.mapping.keeps_input for layer in kept.layers if layer.mapping] == [False, True]
