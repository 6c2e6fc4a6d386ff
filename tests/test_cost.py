"""Cost: closed forms against a walk over every tap, parts against totals, one design against a thousand."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from cases import MACHINES, features, machine, random_layer, random_network, runnable
from loopnest import walk as walked

from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.control import control
from codesign_kernel.accelerator.isa import Op
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import CapacityError, InfeasibleDesignError, InvalidInputError
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.workload import Layer, Workload

ROOMY = machine(2, 2, 1, 4, 0.25)
CONV = Layer("conv", "conv2d", K=3, C=2, OY=4, OX=4, FY=3, FX=3, IY=4, IX=4, padding=(1, 1))


def accesses(cost, layer: str) -> dict[tuple[str, str, str], int]:
    """Bits of one layer by (level, operand, direction), where there are any."""
    return {(a.level, a.operand, a.direction): a.bits for a in cost.accesses if a.layer == layer and a.bits}


def sample(count: int, seed: int):
    """(machine, program): ``count`` of every machine."""
    for i, a in enumerate(MACHINES.values()):
        for program in runnable(a, seed + i, count):
            yield a, program


class TestClosedForm:
    @pytest.mark.parametrize("name", MACHINES)
    def test_equals_the_walk_and_the_program(self, name):
        """Cycles by phase, instructions, and bits by level, operand and direction, layer by layer."""
        a = MACHINES[name]
        for program in runnable(a, [*MACHINES].index(name), 16):
            cost, walk = evaluate(program.network, a), walked(program.network, a)
            assert cost.latency_cycle == walk.latency == program.cycles
            assert cost.boot_cycle == walk.boot == sum(program.cycles_of(i) for i in program.boot)
            assert cost.resident == walk.resident == bool(program.boot)
            assert cost.instructions == walk.instructions == len(program.words)
            by_owner: Counter[tuple[str, str]] = Counter()
            for instruction, owner in zip(program.main, program.owners, strict=True):
                phase = {Op.LOADP: "load", Op.LOADA: "load", Op.SAVE: "store"}.get(instruction.op, "compute")
                by_owner[owner, phase] += program.cycles_of(instruction)
            for layer, counts in zip(cost.layers, walk.layers, strict=True):
                phases = {"load": layer.load_cycle, "compute": layer.compute_cycle, "store": layer.store_cycle}
                assert phases == {"load": counts.load, "compute": counts.compute, "store": counts.store}
                assert phases == {phase: by_owner[layer.name, phase] for phase in phases}
                assert accesses(cost, layer.name) == {key: bits for key, bits in counts.bits.items() if bits}

    def test_the_sample_meets_every_way_to_cut(self):
        met = Counter(feature for _, program in sample(16, 0) for feature in features(program))
        rare = {
            "chunks",
            "passes",
            "streamed weights",
            "spilled map",
            "stride",
            "dilation",
            "groups",
            "banks",
            "packing",
        }
        assert all(met[feature] >= 20 for feature in rare | {"add", "average pool", "max pool"}), met

    def test_a_convolution_by_hand(self):
        """2 x 2 PEs, words of 16 bits over a bus of 16: 16 words in, 32 out, two output tiles of one input tile."""
        cost = evaluate(Workload("one", (CONV,)), ROOMY)
        (layer,) = cost.layers
        loada, saved = 2 + 16 + 2, 2 + 32 + 2
        conv = 2 + (2 + 1) + 9 * 16 + (2 + 2 + 1)
        assert (layer.load_cycle, layer.store_cycle) == (loada, saved)
        assert layer.compute_cycle == 2 * ((2 + 7 + 1) + conv + (2 + 16 + 5))
        assert cost.latency_cycle == 432
        # 2 tiles of 9 taps x 2 rows, and 7 rows of parameters: 50 rows, one beat each
        assert cost.boot_cycle == (2 + 50 + 2) + 2
        assert cost.instructions == 2 + (1 + 2 * 3 + 1) + 1
        assert cost.macs == 3 * 2 * 16 * 9
        assert cost.utilization == 864 / (432 * 4)
        assert cost.dram_bit == (16 + 32) * 16
        assert accesses(cost, "conv")["accumulator", "O", "read"] == 2 * (9 * 16 + 16) * 64

    def test_the_same_convolution_where_sums_stay(self):
        """Sixteen positions are eight groups of two, and each streams nine taps of two channels."""
        cost = evaluate(Workload("one", (CONV,)), replace(ROOMY, dataflow="os"))
        (layer,) = cost.layers
        assert (layer.load_cycle, layer.store_cycle) == (2 + 16 + 2, 2 + 32 + 2)
        assert layer.compute_cycle == 2 * ((2 + 7 + 1) + (2 + 8 * 9 * 2 + (2 + 2 + 7)))
        assert cost.instructions == 2 + (1 + 2 * 2 + 1) + 1
        assert cost.boot_cycle == (2 + 50 + 2) + 2
        bits = accesses(cost, "conv")
        assert bits["weight", "W", "read"] == 2 * (8 * 9 * 2 + 7) * 16
        assert bits["activation", "I", "read"] == 2 * 9 * 16 * 16
        assert bits["activation", "O", "write"] == 2 * 16 * 16
        assert not any(level == "accumulator" for level, _, _ in bits)
        # no memory of sums. Words of 16 bits for two rows; a weight and a sum are skewed; three marks between elements
        # and one between rows; two positions of 45 bits, and three bits that wait seven cycles, one of them four more
        registers = 2 * 16 + 8 + 32 + 3 + 1 + 2 * 45 + 3 * 7 + 4
        bit, pe = technology.register(28.0), technology.pe(8, 32, 28.0)
        assert cost.area_parts["accumulator"] == cost.energy_parts["accumulator"] == 0
        assert cost.area_parts["array"] == pytest.approx(4 * pe.area_um2 + registers * bit.area_um2, rel=1e-12)
        clock = 4 * pe.register_pj + (registers + 4 * 8) * bit.pj + control(2, 2, 8, 28.0).clock_pj
        compute = 864 * pe.mac_pj + (cost.latency_cycle - 2) * clock + 64 * technology.lane(8, 32, 28.0).energy_pj
        assert cost.energy_parts["compute"] == pytest.approx(compute, rel=1e-12)

    @pytest.mark.parametrize(("height", "pool", "groups"), [(3, 1, 1), (4, 1, 1), (5, 1, 2), (9, 1, 3), (6, 2, 6)])
    def test_positions_of_a_sum_are_taken_in_groups_as_large_as_the_array(self, height, pool, groups):
        """Nine taps on four rows and one column, the output one position wide; pooled, two wide and in windows."""
        wide = 1 if pool == 1 else 2 * pool
        layer = replace(CONV, K=1, C=4, OY=height, OX=wide, IY=height + 2, IX=wide + 2, padding=(0, 0))
        chain = [layer]
        if pool > 1:
            half = {"OY": height // pool, "OX": 2, "IY": height, "IX": wide}
            chain.append(Layer("pool", "max_pool2d", K=1, C=1, FY=pool, FX=pool, stride=(pool, pool), **half))
        edges = (("conv", "pool"),) if pool > 1 else ()
        cost = evaluate(Workload("thin", tuple(chain), edges), machine(4, 1, 4, 1, 1, dataflow="os"))
        assert cost.layers[0].compute_cycle == (2 + 7 + 1) + 2 + groups * 9 * 4 + (4 + 1 + 7)

    @pytest.mark.parametrize(("rows", "height", "conv"), [
        (1, 1, 2 + 2 + 8 * 2 + 1 + 3),  # a sum is needed again two cycles later
        (1, 2, 2 + 2 + 8 * 2 + 2 + 3),
        (4, 2, 2 + 5 + 8 * 4 + 2 + 6),  # the next tap's weights take longer than the positions
        (4, 5, 2 + 5 + 8 * 5 + 5 + 6),  # and here they do not
        (4, 11, 2 * (2 + 5 + 8 * 5 + 5 + 6) + (2 + 5 + 8 * 4 + 1 + 6)),  # the last pass has one position
    ])  # fmt: skip
    def test_the_longer_of_streaming_and_loading_counts(self, rows, height, conv):
        """Nine taps of a map one wide, on one column, with room for five sums."""
        layer = replace(CONV, K=1, C=rows, OY=height, OX=1, IY=height + 2, IX=3, padding=(0, 0))
        cost = evaluate(Workload("thin", (layer,)), machine(rows, 1, 1, 1, 5 / 256))
        passes = -(-height // 5)
        assert cost.layers[0].compute_cycle == (2 + 7 + 1) + conv + passes * (2 + 5) + height

    def test_heads_of_attention_by_hand(self):
        """Two heads of 5 x 2 times 2 x 3: the second operand comes from outside every time."""
        cost = evaluate(Workload("qk", (Layer("qk", "matmul", G=2, K=3, C=2, OY=5, IY=5),)), ROOMY)
        tile_cycles = (2 + 9 + 2) + (2 + 7 + 1) + (2 + 3 + 5 + 5) + (2 + 5 + 5)
        assert cost.latency_cycle == 2 * ((2 + 5 + 2) + 2 * tile_cycles + (2 + 10 + 2)) + 2
        assert (cost.resident, cost.boot_cycle) == (False, 0)
        assert cost.instructions == 2 * (1 + 2 * 4 + 1) + 1
        assert accesses(cost, "qk")["dram", "W", "read"] == 2 * 2 * 9 * 16

    def test_a_batch_runs_the_program_once_for_each_image(self):
        single = evaluate(Workload("one", (CONV,)), ROOMY)
        batch = evaluate(Workload("three", (replace(CONV, B=3),)), ROOMY)
        assert batch.latency_cycle == 3 * single.latency_cycle
        assert batch.energy_pj == pytest.approx(3 * single.energy_pj, rel=1e-12)
        assert (batch.boot_cycle, batch.instructions) == (single.boot_cycle, single.instructions)
        assert batch.utilization == pytest.approx(single.utilization, rel=1e-12)

    def test_rows_of_a_matrix_product_are_a_map_one_wide(self):
        linear = Layer("l", "linear", K=10, C=12, OY=60, IY=60)
        conv = Layer("l", "conv2d", K=10, C=12, OY=60, IY=60)
        for a in (machine(4, 4, 0.25, 1, 0.25), machine(2, 8, 0.5, 1, 0.25), ROOMY):
            one, other = (evaluate(Workload("w", (layer,)), a) for layer in (linear, conv))
            assert [replace(layer, op="") for layer in one.layers] == [replace(layer, op="") for layer in other.layers]
            assert one.accesses == other.accesses


class TestBreakdowns:
    def test_parts_add_up_to_totals(self):
        for a, program in sample(8, 100):
            cost = evaluate(program.network, a)
            layers = sum(layer.latency_cycle for layer in cost.layers)
            assert layers + cost.overhead_cycle == cost.latency_cycle
            assert cost.overhead_cycle == 2
            parts = cost.energy_parts
            moved = sum(access.energy_pj for access in cost.accesses)
            assert moved + parts["compute"] + parts["leakage"] == pytest.approx(cost.energy_pj, rel=1e-12)
            assert sum(parts.values()) == pytest.approx(cost.energy_pj, rel=1e-12)
            for level in parts.keys() - {"compute", "leakage"}:
                of_level = sum(access.energy_pj for access in cost.accesses if access.level == level)
                assert of_level == pytest.approx(parts[level], rel=1e-12)
            end = sum(access.energy_pj for access in cost.accesses if access.layer == "end")
            own = sum(layer.energy_pj for layer in cost.layers)
            assert own + end + parts["leakage"] == pytest.approx(cost.energy_pj, rel=1e-12)
            assert sum(cost.area_parts.values()) == pytest.approx(cost.area_um2, rel=1e-12)
            assert cost.dram_bit == sum(access.bits for access in cost.accesses if access.level == "dram")
            assert cost.macs == sum(layer.macs for layer in cost.layers) == program.network.workload.macs
            for layer, own in zip(cost.layers, program.network.layers, strict=True):
                assert layer.utilization == layer.macs / (layer.latency_cycle * a.pes)
                # what pooling drops at the edge of a map counts as MACs, and is not computed
                assert layer.utilization < 1 or own.pool > 1
                assert (layer.utilization > 0) == (layer.op in ("conv2d", "linear"))

    def test_bands_hold_the_nominal_value(self):
        for a, program in sample(4, 200):
            cost = evaluate(program.network, a)
            assert 0 < cost.energy_low_pj <= cost.energy_pj <= cost.energy_high_pj
            assert 0 < cost.area_low_um2 <= cost.area_um2 <= cost.area_high_um2
            assert cost.energy_low_pj < cost.energy_high_pj

    def test_an_access_costs_its_bits_in_its_memory_and_banks_are_memories(self):
        a = machine(8, 4, 0.5, 2, 0.5, bandwidth_gb_s=0.4, node_nm=22)
        cost = evaluate(next(runnable(a, 3, 1)).network, a)
        for access in cost.accesses:
            if access.level == "dram":
                price = technology.dram_pj_per_bit("LPDDR4")
            else:
                # the activation memory is two banks of the four columns
                level, banks = a.memory(access.level), 2 if access.level == "activation" else 1
                memory = technology.sram(level.capacity_bit // banks, level.word_bit // banks, 22.0)
                price = memory.read_pj_per_bit if access.direction == "read" else memory.write_pj_per_bit
            assert access.energy_pj == access.bits * price
        pe, lane, bank = technology.pe(8, 32, 22.0), technology.lane(8, 32, 22.0), technology.sram(2048, 32, 22.0)
        whole = [technology.sram(m.capacity_bit, m.word_bit, 22.0) for m in a.memories if m.name != "activation"]
        rest = control(8, 4, 8, 22.0)
        logic_uw = 32 * pe.leak_uw + 4 * lane.leak_uw + rest.leak_uw
        leak_mw = 2 * bank.leak_mw + sum(m.leak_mw for m in whole) + logic_uw / 1000
        assert cost.energy_parts["leakage"] == pytest.approx(leak_mw * 1e9 * cost.latency_s, rel=1e-12)
        # activations; weights and sums; a second weight an element; two marks from each element to the next
        skew = (8 * 7 // 2 * 8 + 4 * 3 // 2 * (8 + 32) + 32 * 8 + 31 * 2) * technology.register(22.0).area_um2
        area = 2 * bank.area_um2 + sum(m.area_um2 for m in whole) + 32 * pe.area_um2 + 4 * lane.area_um2 + skew
        assert cost.area_um2 == pytest.approx(area + rest.area_um2, rel=1e-12)

    def test_arithmetic_and_leakage_by_hand(self):
        cost = evaluate(Workload("one", (CONV,)), ROOMY)
        pe, lane = technology.pe(8, 32, 28.0), technology.lane(8, 32, 28.0)
        # 4 PEs, two skew and one deskew register and 2 x 3 marks, in every cycle but HALT's two; in each of 2 columns
        # 2 + 1 weights shift and 2 are put to use, for each of 9 taps of 2 tiles; 2 tiles x 16 results x 2 lanes
        bit = technology.register(28.0)
        rest = control(2, 2, 8, 28.0)
        clocks = 430 * (4 * pe.register_pj + (8 + 8 + 32 + 6) * bit.pj + rest.clock_pj)
        fills = 2 * 9 * 2 * (2 + 1 + 2) * 8 * bit.pj
        compute = 864 * pe.mac_pj + clocks + fills + 64 * lane.energy_pj
        assert cost.energy_parts["compute"] == pytest.approx(compute, rel=1e-12)
        leak_mw = sum(technology.sram(m.capacity_bit, m.word_bit, 28.0).leak_mw for m in ROOMY.memories)
        leak_mw += (4 * pe.leak_uw + 2 * lane.leak_uw + rest.leak_uw) / 1000
        assert cost.energy_parts["leakage"] == pytest.approx(leak_mw * 1e-3 * (432 / 200e6) * 1e12, rel=1e-12)
        assert cost.area_parts["array"] == pytest.approx(4 * pe.area_um2 + (54 + 4 * 8) * bit.area_um2, rel=1e-12)
        assert cost.latency_s == 432 / 200e6
        assert cost.power_w == pytest.approx(cost.energy_pj * 1e-12 / cost.latency_s)


ADVICE = re.compile(
    r"the (?P<memory>\w+) memory holds (the program|one tile of layer '(?P<layer>\w+)'), but that takes "
    r"(?P<takes>[\d.]+) KiB and (?P=memory)_kib = (?P<has>[\d.]+) is (?P<short>[\d.]+) KiB too small; "
    r"make it at least (?P<least>[\d.]+)"
)


def advice(network: IntegerNetwork, a: Accelerator) -> dict[str, str] | None:
    """What the refusal of ``network`` says; None where it runs."""
    try:
        evaluate(network, a)
    except InfeasibleDesignError as error:
        return ADVICE.fullmatch(str(error)).groupdict()
    return None


class TestRefusals:
    def test_what_is_suggested_suffices(self):
        """Follow the advice until the network runs: no memory is named twice."""
        rng = np.random.default_rng(5)
        named: Counter[str] = Counter()
        for _ in range(80):
            rows, cols = int(rng.choice([1, 2, 4])), int(rng.choice([4, 8, 12]))
            a = machine(rows, cols, 0.05, 0.15, 0.1, instruction_kib=0.1)
            network = random_network(rng, 8)
            asked = []
            while told := advice(network, a):
                assert told["layer"] in [None, *(layer.name for layer in network.layers)]
                assert told["takes"] == told["least"]
                assert float(told["takes"]) - float(told["has"]) == pytest.approx(float(told["short"]), abs=0.03)
                asked.append(told["memory"])
                with pytest.raises(CapacityError):
                    lower(network, a)
                a = replace(a, **{f"{told['memory']}_kib": float(told["least"])})
            assert len(asked) == len(set(asked))
            named.update(asked)
            lower(network, a)
        assert all(named[memory] > 10 for memory in ("activation", "weight", "accumulator", "instruction")), named

    def test_a_little_less_than_suggested_does_not_suffice(self):
        network = IntegerNetwork(
            "n", (9, 6, 6), 1.0, 8, (random_layer(np.random.default_rng(0), "c", 30, 9, (3, 3), 8),)
        )
        with pytest.raises(InfeasibleDesignError, match=r"weight memory.*layer 'c'") as caught:
            evaluate(network, machine(4, 4, 4, 0.3, 1))
        # 3 blocks x 9 taps x 4 rows and 7 of parameters, 4 bytes each: 0.449 KiB
        assert str(caught.value).endswith("make it at least 0.45")
        assert not evaluate(network, machine(4, 4, 4, 115 * 4 / 1024, 1)).resident
        with pytest.raises(InfeasibleDesignError, match="weight memory"):
            evaluate(network, machine(4, 4, 4, 114 * 4 / 1024, 1))

    @pytest.mark.parametrize("what", [None, 3, "resnet", ("a",)])
    def test_other_things_are_no_workload(self, what):
        with pytest.raises(InvalidInputError, match=f"a Profile or an IntegerNetwork, but got {type(what).__name__}"):
            evaluate(what, ROOMY)
        with pytest.raises(InvalidInputError, match=f"a SpatialArray or a Design, but got {type(what).__name__}"):
            evaluate(Workload("w", (CONV,)), what)

    def test_a_workload_without_macs_is_refused(self):
        with pytest.raises(InvalidInputError, match="at least one operator that does MACs"):
            evaluate(Workload("w", (Layer("r", "relu", K=4, C=4),)), ROOMY)


class TestAccelerator:
    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"rows": 0}, "rows is an integer of 1 to 256, but got 0"),
            ({"cols": 257}, "cols is an integer of 1 to 256, but got 257"),
            ({"rows": 2.0}, r"rows is an integer, but got 2\.0"),
            ({"cols": True}, "cols is an integer, but got True"),
            ({"rows": 4, "cols": 6}, "a multiple of the shorter, but got rows = 4, cols = 6"),
            ({"bandwidth_gb_s": -1}, "bandwidth_gb_s is a number above 0 .*, but got -1"),
            ({"weight_kib": float("nan")}, "weight_kib is a number above 0 .*, but got nan"),
            ({"activation_kib": float("inf")}, "activation_kib is a number above 0 .*, but got inf"),
            ({"accumulator_kib": "8"}, "accumulator_kib is a number above 0 .*, but got '8'"),
            ({"dataflow": "is"}, "dataflow is one of 'ws', 'os', but got 'is'"),
            ({"weight_bits": 6}, r"weight_bits is one of \(4, 8, 16\), but got 6"),
            ({"memory_latency": -1}, "memory_latency is an integer of 0 to 1000 cycles, but got -1"),
            ({"memory_latency": 1001}, "memory_latency is an integer of 0 to 1000 cycles, but got 1001"),
            ({"memory_latency": 2.5}, r"memory_latency is an integer, but got 2\.5"),
            ({"acc_bits": 24}, "acc_bits is 32 for weight_bits = 8, but got 24; leave it out"),
            ({"dataflow": ["os"]}, r"dataflow is one of 'ws', 'os', but got \['os'\]"),
            ({"acc_bits": 32, "weight_bits": 16}, "acc_bits is 48 for weight_bits = 16, but got 32"),
            ({"node_nm": 65}, "node_nm lies between 7 and 45, but got 65"),
            ({"frequency_mhz": 0.5}, r"frequency_mhz lies between 1 and 5000, but got 0\.5"),
            ({"rows": 3, "cols": 3, "weight_bits": 4}, "use an even number of lanes or more weight_bits"),
            ({"activation_kib": 5000}, "activation memory holds at most 262144 words.*make it at most 1024 KiB"),
        ],
    )
    def test_every_law_is_told(self, fields, told):
        with pytest.raises(InvalidInputError, match=told):
            Accelerator.systolic(**{"rows": 4, "cols": 4, **fields})

    def test_a_bus_below_a_byte_is_refused_and_the_advice_suffices(self):
        for mhz in (200.0, 333.3333333, 1001.0, 1003.0, *np.random.default_rng(0).uniform(1, 5000, 500).tolist()):
            with pytest.raises(InvalidInputError, match=r"at least 8 bits a cycle.*raise bandwidth_gb_s to") as caught:
                Accelerator.systolic(4, 4, frequency_mhz=mhz, bandwidth_gb_s=mhz * 0.9e-3)
            advice = float(re.search(r"raise bandwidth_gb_s to ([\d.]+) or", str(caught.value))[1])
            assert advice <= mhz / 1000 + 0.0021
            assert Accelerator.systolic(4, 4, frequency_mhz=mhz, bandwidth_gb_s=advice).bus_bits == 8

    @pytest.mark.parametrize("rows", [1, 2, 5, 7, 11, 13, 16, 100])
    def test_the_least_memory_that_is_told_suffices(self, rows):
        for name in ("activation_kib", "weight_kib", "accumulator_kib", "instruction_kib"):
            with pytest.raises(InvalidInputError, match=r"holds at least two words") as caught:
                Accelerator.systolic(rows, rows, **{name: 0.0009})
            least = float(re.search(r"make it at least ([\d.]+) KiB", str(caught.value))[1])
            Accelerator.systolic(rows, rows, **{name: least})

    @pytest.mark.parametrize("gb_s", [1e3, 1e8, 1e9])
    def test_a_bus_is_as_wide_as_a_word_at_most(self, gb_s):
        assert Accelerator.systolic(4, 4, bandwidth_gb_s=gb_s).bus_bits == 32
        assert Accelerator.systolic(256, 2, bandwidth_gb_s=gb_s, accumulator_kib=8).bus_bits == 1024

    def test_sums_that_stay_need_no_accumulators(self):
        """Whatever memory is asked for, it is the same machine; and one that needs it says so."""
        one, other = (Accelerator.systolic(4, 4, "os", accumulator_kib=kib) for kib in (8, 0))
        assert one == other
        assert one.digest == other.digest
        assert [level.name for level in one.memories] == ["activation", "weight", "instruction"]
        assert str(one).startswith("4x4 os int8, 16 KiB activations, 64 KiB weights, 3.2 GB/s")
        with pytest.raises(InvalidInputError, match=r"accumulator_kib is a number above 0 .*, but got 0\.0"):
            replace(one, dataflow="ws")

    def test_equal_machines_have_equal_digests(self):
        whole, real = Accelerator.systolic(4, 4, activation_kib=16), Accelerator.systolic(4, 4, activation_kib=16.0)
        assert whole == real
        assert whole.digest == real.digest
        assert replace(whole, name="mine").digest == whole.digest
        others = [replace(whole, **{f: v}) for f, v in {"rows": 8, "node_nm": 22.0, "weight_bits": 4}.items()]
        assert len({whole.digest, *(a.digest for a in others)}) == 4
