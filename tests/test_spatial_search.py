"""Whole workloads on spatial arrays: many machines and one, sums and parts, kept maps, more of anything, objectives."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nestwalk import Best, best
from spatialcases import alone, any_array, any_chain

import codesign_kernel as ck
from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.spatial import SPATIAL_FIELDS, SpatialArray
from codesign_kernel.cost.fusion import keep_maps
from codesign_kernel.cost.spatial import REASONS
from codesign_kernel.cost.table import LAWLESS, RESULTS, spatial_columns
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.mapping.units import units_of
from codesign_kernel.workload import Layer, Workload

Array = np.ndarray[Any, Any]


def buffers(rng: random.Random, least: float = 0.02, most: float = 8.0) -> dict[str, float]:
    """Separate ones, or a shared one."""
    if rng.random() < 0.4:
        return {"shared_kib": rng.uniform(3 * least, 3 * most)}
    return {name: rng.uniform(least, most) for name in ("input_kib", "weight_kib", "output_kib")}


def table_of(machines: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Columns of fields; what a shared buffer replaces is 0."""
    columns: dict[str, list[Any]] = {name: [] for name in SPATIAL_FIELDS}
    for fields in machines:
        for name in SPATIAL_FIELDS:
            absent = "shared_kib" in fields and name in ("input_kib", "weight_kib", "output_kib")
            columns[name].append(fields.get(name, 0.0 if absent else getattr(SpatialArray, name)))
    return columns


def machines_of(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Fields of machines of all kinds; one in ten breaks a law, and a few have buffers that hold nothing."""
    found = []
    for number in range(count):
        size = buffers(rng, most=rng.choice([0.1, 1.0, 8.0]))
        drawn = any_array(rng, **dict.fromkeys(("input_kib", "weight_kib", "output_kib"), 1.0))
        fields = {name: getattr(drawn, name) for name in SPATIAL_FIELDS if not name.endswith("_kib")} | size
        # engines that several machines share, so that they are evaluated together
        fields |= {"rows": rng.choice([2, 8]), "cols": 4, "weight_bits": 8, "input_bits": 8, "acc_bits": 32}
        fields |= {"bandwidth_gb_s": 3.0, "burst_bytes": 64, "register_words": 1}
        if number % 10 == 7:
            fields |= rng.choice([{"rows": 0}, {"cols": 2.5}, {"node_nm": 5.0}, {"shared_kib": 1.0, "input_kib": 1.0}])
        found.append(fields)
    return found


@pytest.mark.parametrize(("objective", "count"), [("latency", 60), ("energy", 20)])
def test_many_machines_cost_what_each_costs(objective: str, count: int) -> None:
    rng = random.Random(4)
    chain = any_chain(rng, 5)
    machines = machines_of(rng, count)
    found = spatial_columns(chain, table_of(machines), objective=objective)
    kinds: set[str] = set()
    for place, fields in enumerate(machines):
        reason = found["reason"][place]
        kinds.add(reason)
        assert found["feasible"][place] == (reason == "")
        assert all(np.isnan(found[name][place]) != (reason == "") for name in RESULTS)
        if reason == LAWLESS:
            with pytest.raises(InvalidInputError):
                SpatialArray(**fields)
            continue
        machine = SpatialArray(**fields)
        if reason:
            with pytest.raises(InfeasibleDesignError, match=reason if "together" not in reason else "together"):
                ck.evaluate(chain, machine, objective=objective)
            continue
        cost = ck.evaluate(chain, machine, objective=objective)
        expected = {
            "latency_cycle": cost.latency_cycle,
            "latency_ms": cost.latency_s * 1e3,
            "energy_uj": cost.energy_pj * 1e-6,
            "energy_low_uj": cost.energy_low_pj * 1e-6,
            "energy_high_uj": cost.energy_high_pj * 1e-6,
            "area_mm2": cost.area_um2 * 1e-6,
            "power_mw": cost.power_w * 1e3,
            "utilization": cost.utilization,
        }
        assert {name: found[name][place] for name in RESULTS} == pytest.approx(expected, rel=1e-12)
        assert found["latency_cycle"][place] == cost.latency_cycle
    assert {"", LAWLESS} < kinds <= {*REASONS, LAWLESS}
    # whatever the order
    order = rng.sample(range(count), count)
    again = spatial_columns(chain, table_of([machines[place] for place in order]), objective=objective)
    for name, values in found.items():
        assert np.array_equal(again[name], values[order], equal_nan=name in RESULTS), name


@pytest.mark.parametrize("seed", range(24))
def test_everything_adds_up(seed: int) -> None:
    rng = random.Random(100 + seed)
    chain = any_chain(rng, rng.randint(1, 7))
    objective = rng.choice(["latency", "energy"])
    cost = ck.evaluate(chain, any_array(rng), fusion=rng.random() < 0.7, objective=objective)
    assert sum(layer.latency_cycle for layer in cost.layers) == cost.latency_cycle
    assert min(min(layer.load_cycle, layer.compute_cycle, layer.store_cycle) for layer in cost.layers) >= 0
    assert sum(layer.macs for layer in cost.layers) == cost.macs == chain.macs
    dram, levels = defaultdict(int), defaultdict(float)
    for access in cost.accesses:
        assert access.bits > 0
        dram[access.layer] += access.bits if access.level == "dram" else 0
        levels[access.level] += access.energy_pj
    assert {layer.name: layer.dram_bit for layer in cost.layers if layer.dram_bit} == {
        n: b for n, b in dram.items() if b
    }
    parts = dict(cost.energy_parts)
    assert levels["register"] == pytest.approx(parts["registers"])
    assert levels["dram"] == pytest.approx(parts["dram"])
    on_chip = sum(levels[name] for name in ("weight", "input", "output", "shared"))
    assert on_chip == pytest.approx(parts["weight"] + parts["input"] + parts["output"])
    assert sum(parts.values()) == pytest.approx(cost.energy_pj)
    assert sum(layer.energy_pj for layer in cost.layers) + parts["leakage"] == pytest.approx(cost.energy_pj)
    assert sum(cost.area_parts.values()) == pytest.approx(cost.area_um2)
    assert cost.energy_low_pj <= cost.energy_pj <= cost.energy_high_pj
    assert cost.area_low_um2 <= cost.area_um2 <= cost.area_high_um2
    assert 0 < cost.utilization <= 1
    assert all(0 <= layer.utilization <= 1 for layer in cost.layers)
    assert cost.utilization == pytest.approx(cost.macs / (cost.latency_cycle * cost.accelerator.pes))


SOFTMAX = Layer("probabilities", "softmax", G=10, OY=6, OX=5, IY=6, IX=5)  # 300 values: 5 bursts of 64 bytes


@pytest.mark.parametrize(
    ("changes", "moving"),
    [
        ({}, 5 * 8 + 5 * 8),
        ({"duplex": True}, 5 * 8),
        ({"bandwidth_gb_s": 1.5}, 107 + 107),  # 2560 bits at 24 a cycle
        ({"input_bits": 16}, 10 * 8 + 5 * 8),
    ],
)
def test_what_is_no_product_runs_on_the_vector_unit(changes: dict[str, Any], moving: int) -> None:
    layer = Layer("product", "conv2d", K=10, C=3, OY=6, OX=5, IY=6, IX=5)
    work = Workload("work", (layer, SOFTMAX), (("product", "probabilities"),))
    operations = units_of(work)[0][1].vector_ops
    for lanes in (1, 8, 65536):
        machine = SpatialArray(**{"bandwidth_gb_s": 4.0, "vector_lanes": lanes, **changes})  # 64 bits a cycle
        computing = -(-operations // lanes)
        _, apart = ck.evaluate(work, machine, fusion=False).layers
        assert apart.latency_cycle == max(computing, moving)
        assert apart.dram_bit == math.ceil(300 * machine.input_bits / 512) * 512 + 2560
        assert (apart.macs, apart.utilization, apart.mapping) == (0, 0.0, None)
        _, kept = ck.evaluate(work, machine).layers
        stored = math.ceil(2560 / machine.bits_per_cycle)
        assert kept.latency_cycle == max(computing, stored)
        assert kept.dram_bit == 2560
        turns = replace(machine, double_buffered=False)
        loaded = math.ceil((apart.dram_bit - 2560) / machine.bits_per_cycle)
        assert ck.evaluate(work, turns, fusion=False).layers[1].latency_cycle == loaded + computing + stored


def test_energy_is_bits_times_what_a_bit_costs() -> None:
    machine = SpatialArray(rows=8, cols=4, register_words=2, overlap=True, weight_kib=16.0)
    cost = ck.evaluate(any_chain(random.Random(8), 3), machine, fusion=False)
    figure: dict[tuple[str, str], float] = {}
    for level in machine.memories:
        found = technology.sram(level.capacity_bit, level.word_bit, 28.0)
        figure |= {(level.name, "read"): found.read_pj_per_bit, (level.name, "write"): found.write_pj_per_bit}
    for direction in ("read", "write"):
        figure["dram", direction] = technology.dram_pj_per_bit("LPDDR4")
        figure["register", direction] = technology.register(28.0).pj
    assert {(a.level, a.direction) for a in cost.accesses} >= {("register", "read"), ("weight", "write")}
    for access in cost.accesses:
        assert access.energy_pj == pytest.approx(access.bits * figure[access.level, access.direction])
    pe, lane = technology.pe(8, 32, 28.0), technology.lane(8, 32, 28.0)
    register = technology.register(28.0).area_um2
    assert cost.area_parts["array"] == pytest.approx(32 * (pe.area_um2 + 2 * 8 * register))
    assert cost.area_parts["lanes"] == pytest.approx((4 + 16) * lane.area_um2)
    # the only word of a PE is there already
    single = ck.evaluate(alone(Layer("p", "linear", K=8, C=8)), SpatialArray(overlap=False))
    assert {a.energy_pj for a in single.accesses if (a.level, a.direction) == ("register", "read")} == {0.0}


def latencies(chain: Workload, machines: list[SpatialArray], **how: Any) -> list[float]:
    """In cycles; infinite where a machine cannot run the chain."""
    columns = {name: [getattr(machine, name) for machine in machines] for name in SPATIAL_FIELDS}
    found: Array = spatial_columns(chain, columns, **how)["latency_cycle"]
    return np.where(np.isnan(found), np.inf, found).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_never_slower_with_more(seed: int) -> None:
    rng = random.Random(200 + seed)
    chain, machine = any_chain(rng, 4), any_array(rng, **buffers(rng))
    fields = {name: getattr(machine, name) for name in SPATIAL_FIELDS}
    sized = [name for name in fields if name.endswith("_kib") and fields[name]]
    for name in [*sized, "bandwidth_gb_s", "vector_lanes"]:
        growing = sorted(rng.uniform(0.03, 16.0) for _ in range(8)) if name != "vector_lanes" else [1, 2, 3, 8, 64]
        found = latencies(chain, [SpatialArray(**{**fields, name: value}) for value in growing])
        assert found == sorted(found, reverse=True), name
        apart = latencies(chain, [SpatialArray(**{**fields, name: value}) for value in growing], fusion=False)
        assert all(together <= one for together, one in zip(found, apart, strict=True))
    both = latencies(chain, [SpatialArray(**{**fields, "duplex": duplex}) for duplex in (False, True)])
    assert both[1] <= both[0]


@pytest.mark.parametrize("seed", range(40))
def test_kept_maps_are_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, machines = int(rng.integers(1, 9)), 6
    # few values, so that the first costs are often equal and the second ones decide
    costs = [rng.integers(1, 4, (2, 2, machines, 2)).astype(float) for _ in range(layers)]
    for cost in costs:
        cost[rng.random((2, 2, machines)) < 0.2] = np.inf
    chosen = keep_maps(costs)
    assert chosen.shape == (layers + 1, machines)
    assert not chosen[[0, -1]].any()
    for machine in range(machines):

        def total(kept: tuple[int, ...], machine: int = machine) -> tuple[float, float]:
            ways = [cost[a, b, machine] for cost, (a, b) in zip(costs, itertools.pairwise(kept), strict=True)]
            return sum(way[0] for way in ways), sum(way[1] for way in ways)

        least = min(total((0, *some, 0)) for some in itertools.product((0, 1), repeat=layers - 1))
        found = total(tuple(chosen[:, machine].astype(int)))
        assert found == least or (np.isinf(found[0]) and np.isinf(least[0]))


def test_a_chain_keeps_what_pays() -> None:
    shapes = [(2, 3, 3), (3, 2, 1), (2, 4, 3), (4, 1, 1)]
    layers = [
        Layer(f"l{at}", "conv2d", K=k, C=c, OY=4, OX=3, FY=side, FX=side, IY=4, IX=3, padding=(side // 2, side // 2))
        for at, (c, k, side) in enumerate(shapes)
    ]
    chain = Workload("chain", tuple(layers), (("l0", "l1"), ("l1", "l2"), ("l2", "l3")))
    seen = set()
    for sizes in ((0.03, 0.05), (0.06, 0.05), (0.08, 0.1), (0.2, 0.1)):
        machine = SpatialArray(
            rows=4, cols=2, bandwidth_gb_s=0.2, burst_bytes=1, input_kib=sizes[0], weight_kib=sizes[1], output_kib=0.06
        )
        walked: dict[tuple[int, bool, bool], Best | None] = {
            (at, a, b): best(layer, machine, in_kept=a, out_kept=b, orders=("kcy", "yck", "ykc"))
            for at, layer in enumerate(layers)
            for a, b in itertools.product((False, True), repeat=2)
            if (a, b) == (False, False) or (at, a) != (0, True)
        }
        totals = {}
        for inside in itertools.product((False, True), repeat=3):
            kept = (False, *inside, False)
            ways = [walked[at, kept[at], kept[at + 1]] for at in range(4)]
            if None not in ways:
                totals[kept] = sum(way.latency for way in ways), sum(way.dram_bits for way in ways)  # type: ignore[union-attr]
        cost = ck.evaluate(chain, machine)
        assert (cost.latency_cycle, cost.dram_bit) == min(totals.values())
        mappings = [layer.mapping for layer in cost.layers]
        told = (False, *(mapping.keeps_output for mapping in mappings if mapping))
        assert totals[told] == min(totals.values())
        assert [mapping.keeps_input for mapping in mappings if mapping] == list(told[:-1])
        seen.add(sum(told))
        apart = ck.evaluate(chain, machine, fusion=False)
        assert (apart.latency_cycle, apart.dram_bit) == totals[(False,) * 5]
    assert len(seen) >= 3  # some machines keep more than others
