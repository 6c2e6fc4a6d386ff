"""The closed form of docs/mapping.md against the slow road that walks it: every count, and the best mapping of all.

A failure is repeated by its seed: ``pytest "tests/test_spatial.py::test_closed_form_is_the_walk[17]"``.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from arraywalk import BUFFER
from nestwalk import Tiling, Walked, best, holdings, legal_tilings, product_of, walk
from spatialcases import all_mappings, alone, any_array, any_conv, any_layer

import codesign_kernel as ck
from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.cost import systolic_cycles
from codesign_kernel.cost.compiled import STAYS, best_by_capacity, every_mapping
from codesign_kernel.cost.search import Table
from codesign_kernel.cost.tiles import Access
from codesign_kernel.errors import InfeasibleDesignError
from codesign_kernel.workload import Layer

#: Every innermost loop once; the order of the other two changes nothing.
ORDERS = ("kcy", "yck", "ykc")
STATIONARY = {"ws": "W", "os": "O", "is": "I"}
Key = tuple[int, int, int, bool, str, str]


def key_of(layer: Layer, tiling: Tiling, order: str, held: str) -> Key:
    """By what a mapping of the slow road is known on the fast one: tile, innermost loop that runs, what stays."""
    p = product_of(layer)
    several = {"y": tiling["y"] < p.OY or p.B > 1, "c": tiling["c"] < p.C}
    several["k"] = tiling["k"] < (p.G if tiling["grouped"] else p.K)
    inner = next((loop for loop in reversed(order) if several[loop]), "y")
    stays = sorted({*held, {"y": "W", "k": "I", "c": "O"}[inner]})
    return tiling["y"], tiling["k"], tiling["c"], tiling["grouped"], inner, "".join(stays)


def keys_in(table: Table) -> dict[Key, int]:
    """Where each mapping is in the table."""
    found: dict[Key, int] = {}
    for place, (which, size) in enumerate(zip(table.which, table.sizes.astype(int).tolist(), strict=True)):
        stays = "".join(sorted(name for name, stay in zip("WIO", STAYS[which[4]], strict=True) if stay))
        grouped = bool(table.families[which[5]].shape.grouped)
        found[(*size, grouped, "ykc"[which[3]], stays)] = place
    assert len(found) == len(table)
    return found


def accesses_of(table: Table, place: int, machine: SpatialArray) -> dict[tuple[str, str, str], float]:
    """Bits by (level, operand, direction), as the walk counts them."""
    found = {}
    for name, bits in zip(Access._fields, table.accesses(np.array([place]), machine.register_words)[:, 0], strict=True):
        words = name.split("_")
        operand = STATIONARY[machine.dataflow] if words[0] == "register" else words[1].upper()
        found[words[0], operand, words[-1]] = bits
    return {key: bits for key, bits in found.items() if bits}


def needs_of(walked: Walked, machine: SpatialArray) -> tuple[float, float, float]:
    """In the order of the table."""
    weight, inputs, output = (walked.needs[BUFFER[operand]] for operand in "WIO")
    return (weight + inputs + output, 0, 0) if machine.shared_kib else (weight, inputs, output)


def drawn(seed: int, largest: int = 9) -> tuple[random.Random, Layer, SpatialArray, dict[str, bool]]:
    rng = random.Random(seed)
    layer, machine = any_layer(rng, largest), any_array(rng)
    kept = rng.choice([{}, {}, {"in_kept": True}, {"out_kept": True}, {"in_kept": True, "out_kept": True}])
    return rng, layer, machine, kept


@pytest.mark.parametrize("seed", range(320))
def test_closed_form_is_the_walk(seed: int) -> None:
    rng, layer, machine, kept = drawn(seed)
    table = all_mappings(layer, machine, **kept)
    places = keys_in(table)
    legal = [each for each in legal_tilings(layer, machine) if each[1] in ORDERS]
    for tiling, order in rng.sample(legal, min(4, len(legal))):
        again = walk(layer, machine, tiling, order, **kept).again
        held = rng.choice(holdings(again))
        walked = walk(layer, machine, tiling, order, **kept, held=held)
        case = f"{layer}\n{machine!r}\n{kept} {tiling} {order} held={held!r}"
        place = places[key_of(layer, tiling, order, held)]
        assert table.cycle[place, 1] == walked.latency, case
        assert table.costs[place].tolist() == [walked.latency, walked.dram_bits], case
        assert tuple(table.needs[place]) == needs_of(walked, machine), case
        assert accesses_of(table, place, machine) == {key: bits for key, bits in walked.accesses.items() if bits}, case


def test_the_random_cases_are_of_every_kind() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(320):
        _, layer, machine, kept = drawn(seed)
        kinds.update([layer.op, machine.dataflow, *kept, f"shared {bool(machine.shared_kib)}"])
        switches = ("overlap", "im2col", "double_buffered", "duplex")
        kinds.update(f"{name} {getattr(machine, name)}" for name in switches)
        kinds["several words"] += machine.register_words > 1
        if layer.op == "conv2d":
            kinds["grouped"] += layer.G > 1 and layer.C > 1
            kinds["depthwise"] += layer.G > 1 and layer.C == 1
            kinds["strided"] += layer.stride[0] > 1
            kinds["padded"] += layer.padding[0] > 0
            kinds["dilated"] += layer.dilation[0] > 1 and layer.FY > 1
    assert len(kinds) == 4 + 3 + 2 + 2 + 8 + 1 + 5
    assert min(kinds.values()) >= 20, kinds


@pytest.mark.parametrize("seed", range(40))
def test_exactly_the_legal_mappings_are_evaluated(seed: int) -> None:
    _, layer, machine, kept = drawn(seed, largest=4)
    found = set(keys_in(all_mappings(layer, machine, **kept)))
    legal: set[Key] = set()
    for tiling, order in legal_tilings(layer, machine):
        if order in ORDERS:
            again = walk(layer, machine, tiling, order, **kept).again
            legal.update(key_of(layer, tiling, order, held) for held in holdings(again))
    assert found == legal


def tightened(rng: random.Random, layer: Layer, machine: SpatialArray) -> SpatialArray:
    """The machine with buffers that some mapping fills to the last bit, and one that is smaller than another needs."""
    legal = [each for each in legal_tilings(layer, machine) if each[1] in ORDERS]
    needs = walk(layer, machine, *rng.choice(legal)).needs
    if machine.shared_kib:
        return with_bits(machine, shared=sum(needs.values()) + rng.choice([-1, 0, 0, 100]))
    lacks = rng.choice([None, None, "weight", "input", "output"])
    return with_bits(machine, **{name: bits - (name == lacks) for name, bits in needs.items()})


def with_bits(machine: SpatialArray, **bits: int) -> SpatialArray:
    """Buffers of so many bits, and of a word at least."""
    words = {level.name: level.word_bit for level in machine.memories}
    return replace(machine, **{f"{name}_kib": max(size, words[name]) / 8192 for name, size in bits.items()})


@pytest.mark.parametrize("seed", range(60))
def test_the_best_mapping_is_the_best_of_all(seed: int) -> None:
    rng = random.Random(1000 + seed)
    layer = any_layer(rng, largest=5)
    machine = tightened(rng, layer, any_array(rng, vector_lanes=65536))
    expected = best(layer, machine, orders=ORDERS)
    if expected is None:
        with pytest.raises(InfeasibleDesignError, match="layer"):
            ck.evaluate(alone(layer), machine)
        return
    cost = ck.evaluate(alone(layer), machine)
    assert (cost.latency_cycle, cost.dram_bit) == expected[:2]
    chosen = cost.layers[0].mapping
    assert chosen is not None
    told: Tiling = {"y": chosen.y, "k": chosen.k, "c": chosen.c, "grouped": chosen.grouped}
    walked = walk(layer, machine, told, chosen.order, held=chosen.held)
    assert (walked.latency, walked.dram_bits) == expected[:2]


def test_some_of_those_cases_have_no_mapping() -> None:
    none, shared, held = 0, 0, 0
    for seed in range(60):
        rng = random.Random(1000 + seed)
        layer = any_layer(rng, largest=5)
        machine = tightened(rng, layer, any_array(rng, vector_lanes=65536))
        try:
            mapping = ck.evaluate(alone(layer), machine).layers[0].mapping
        except InfeasibleDesignError:
            none += 1
            continue
        shared += machine.shared_kib > 0
        held += bool(mapping and mapping.held)
    assert min(none, shared, held) >= 3, (none, shared, held)


@pytest.mark.parametrize("seed", range(30))
def test_numpy_and_compiled_agree_on_every_mapping(seed: int) -> None:
    rng = random.Random(2000 + seed)
    layer = any_layer(rng, largest=40)
    table = all_mappings(
        layer, any_array(rng), *rng.choice([(False, False), (True, False), (False, True), (True, True)])
    )
    everything = np.arange(len(table))
    assert np.array_equal(table.cycles_by_numpy(everything), table.cycle[:, 1])
    assert np.array_equal(table.accesses(everything, 1)[:4].sum(axis=0), table.costs[:, 1])


@pytest.mark.parametrize("seed", range(30))
def test_one_tile_computes_as_scale_sim_counts(seed: int) -> None:
    rng = random.Random(3000 + seed)
    m, n, k = (rng.randint(1, 60) for _ in range(3))
    machine = any_array(rng, overlap=False, im2col=True, bandwidth_gb_s=1e6)
    whole: Any = {"mapping": f"y={m} k={n} c={k}"}
    cost = ck.evaluate(alone(Layer("product", "linear", B=m, K=n, C=k)), machine, **whole)
    (layer,) = cost.layers
    assert layer.compute_cycle == systolic_cycles(m, n, k, machine.rows, machine.cols, machine.dataflow)
    # the one load and the one store hide behind nothing
    assert (layer.load_cycle, layer.store_cycle) == (1, 1)
    assert cost.latency_cycle == layer.compute_cycle + 2


def test_it_is_compiled_once() -> None:
    """Whether maps are kept, and in what type their bits are counted: another type would be compiled anew."""
    layer, machine = Layer("conv", "conv2d", B=2, K=4, C=3, OY=5, OX=5), any_array(random.Random(1))
    ck.evaluate(alone(layer), machine)
    tables = [all_mappings(layer, machine, in_kept=in_kept, out_kept=True) for in_kept in (False, True)]
    assert [table.kept.in_bit > 0 for table in tables] == [False, True]
    assert {type(table.kept.out_bit) for table in tables} == {int}
    assert len(every_mapping.signatures) == 1
    assert len(best_by_capacity.signatures) == 1


def test_a_convolution_is_its_im2col_product() -> None:
    rng = random.Random(5)
    for _ in range(20):
        layer = replace(any_conv(rng), G=1)
        machine = any_array(rng, overlap=False, im2col=True, bandwidth_gb_s=1e6)
        cost = ck.evaluate(alone(replace(layer, B=1)), machine, mapping=f"y={layer.OY} k={layer.K} c={layer.C}")
        m, k = layer.OY * layer.OX, layer.C * layer.FY * layer.FX
        expected = systolic_cycles(m, layer.K, k, machine.rows, machine.cols, machine.dataflow)
        assert cost.layers[0].compute_cycle == expected
