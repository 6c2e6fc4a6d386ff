"""Weights narrower than the activations: what they take, how they lie in memory, and what unpacks them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from cases import MACHINES, machine, random_inputs, random_layer
from emulator import Emulator
from myhdl import Signal, Simulation, StopSimulation, delay, instance

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.control import control
from codesign_kernel.accelerator.isa import Instruction, Op
from codesign_kernel.cosim import check, find_simulator
from codesign_kernel.cosim.job import Job
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError, SimulatorError
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.rtl.bits import unsigned
from codesign_kernel.rtl.unpack import unpack
from codesign_kernel.workload import Layer, Workload

#: 4 filters of 3x3 over 4 channels: on 4x4 elements 36 rows of weights, and 7 of the requantiser.
ROWS, PARAMETERS = 36, 7


def one_layer(weight_bits: int, bits: int = 8) -> IntegerNetwork:
    layer = random_layer(np.random.default_rng(3), "c", 4, 4, (3, 3), bits, weight_bits=weight_bits)
    return IntegerNetwork("one", (4, 5, 5), 1.0, bits, (layer,))


def on(minimum: int, weight_kib: float = 1.0, dataflow: str = "ws") -> Accelerator:
    return machine(4, 4, 1, weight_kib, 1, dataflow=dataflow, min_weight_bits=minimum)


class TestMachine:
    @pytest.mark.parametrize(
        ("bits", "minimum", "told"),
        [
            (8, 3, r"min_weight_bits is one of \(0, 2, 4, 8\) for weight_bits = 8, but got 3"),
            (4, 8, r"min_weight_bits is one of \(0, 2, 4\) for weight_bits = 4, but got 8"),
            (8, 1, "min_weight_bits is one of .*, but got 1; 0 stores all weights with weight_bits"),
            (8, 4.0, r"min_weight_bits is an integer, but got 4\.0"),
        ],
    )
    def test_laws(self, bits, minimum, told):
        with pytest.raises(InvalidInputError, match=told):
            Accelerator.systolic(4, 4, weight_bits=bits, min_weight_bits=minimum)

    def test_the_machine_s_own_width_is_no_unpacker(self):
        plain, same, other = (Accelerator.systolic(4, 4, min_weight_bits=bits) for bits in (0, 8, 4))
        assert plain == same
        assert plain.digest == same.digest != other.digest
        # as it was before there were narrow weights
        assert plain.digest == "df75388dbd32ed9462cd56c04db9b38e172defd7dac8bed66fee90a9360616aa"
        assert str(other).startswith("4x4 ws int8 (weights from int4), 16 KiB activations")

    def test_a_width_is_stored_in_the_next_one_that_the_machine_has(self):
        a = Accelerator.systolic(4, 4, weight_bits=16, min_weight_bits=4)
        assert [a.stored_bits(bits) for bits in (1, 2, 3, 4, 5, 8, 9, 16, 32)] == [4, 4, 4, 4, 8, 8, 16, 16, 16]
        plain = replace(a, min_weight_bits=0)
        assert {plain.stored_bits(bits) for bits in (1, 4, 16, 32)} == {16}
        assert (a.most_per_word, plain.most_per_word) == (4, 1)

    def test_the_unpacker_s_cells_by_hand(self):
        """Of 8 columns, from 8 bits to 2: 12 multiplexers each, and three times 2 flip-flops."""
        without, with_it = control(4, 8, 8, 45.0), control(4, 8, 8, 45.0, 2)
        assert with_it.area_um2 - without.area_um2 == pytest.approx(8 * 12 * 1.862 + 6 * 4.522)
        assert with_it.flip_flops - without.flip_flops == 6
        assert with_it.clock_pj > without.clock_pj
        assert with_it.leak_uw > without.leak_uw


class TestCost:
    @pytest.mark.parametrize("dataflow", ["ws", "os"])
    @pytest.mark.parametrize(
        ("minimum", "own", "words"), [(0, 2, 36), (4, 0, 36), (4, 4, 18), (4, 2, 18), (2, 4, 18), (2, 2, 9)]
    )
    def test_words_by_hand(self, dataflow, minimum, own, words):
        """Resident: the boot loads so many words, and an inference takes the cycles that it took."""
        network, a = one_layer(own), on(minimum, dataflow=dataflow)
        cost = evaluate(network, a)
        assert cost.boot_cycle == 2 + (words + PARAMETERS) * a.weight_beats + 2 + 2
        assert cost.latency_cycle == evaluate(network, on(0, dataflow=dataflow)).latency_cycle
        read = next(x.bits for x in cost.accesses if (x.level, x.operand, x.direction) == ("weight", "W", "read"))
        # 9 positions: one pass of a tile, or three groups of at most four
        assert read == (words * (1 if dataflow == "ws" else 3) + PARAMETERS) * 32

    def test_what_did_not_fit_fits(self):
        """Room for 25 words: the weights do not fit; one tile of 4 bits does, and stays."""
        network, kib = one_layer(4), 25 * 4 / 1024
        with pytest.raises(InfeasibleDesignError, match="weight memory holds one tile of layer 'c'"):
            evaluate(network, on(0, kib))
        assert evaluate(network, on(4, kib)).resident
        with pytest.raises(InfeasibleDesignError, match="weight memory"):
            evaluate(network, on(4, kib - 4 / 1024))

    def test_streamed_weights_take_less_traffic(self):
        layers = tuple(
            random_layer(np.random.default_rng(i), f"c{i}", 4, 4, (3, 3), 8, weight_bits=4) for i in range(3)
        )
        network = IntegerNetwork("three", (4, 9, 9), 1.0, 8, layers)
        kib = 45 * 4 / 1024
        costs = [evaluate(network, on(minimum, kib)) for minimum in (0, 4)]
        assert [cost.resident for cost in costs] == [False, False]
        traffic = [sum(x.bits for x in cost.accesses if (x.level, x.operand) == ("dram", "W")) // 32 for cost in costs]
        assert traffic == [3 * (ROWS + PARAMETERS), 3 * (ROWS // 2 + PARAMETERS)]
        assert costs[0].latency_cycle - costs[1].latency_cycle == 3 * (ROWS // 2) * on(4, kib).weight_beats
        assert costs[1].energy_pj < costs[0].energy_pj

    def test_activations_in_place_of_weights_are_not_packed(self):
        work = Workload("w", (Layer("m", "matmul", K=8, C=8, OY=8, IY=8, weight_bits=2),))
        plain, narrow = (evaluate(work, machine(4, 4, 1, 2, 1, min_weight_bits=m)) for m in (0, 2))
        assert plain.latency_cycle == narrow.latency_cycle
        assert [x.bits for x in plain.accesses] == [x.bits for x in narrow.accesses]

    def test_a_float_profile_has_the_machine_s_width(self):
        work = Workload("w", (Layer("l", "linear", K=8, C=8, OY=8, IY=8, weight_bits=32),))
        plain, narrow = (evaluate(work, machine(4, 4, 1, 2, 1, min_weight_bits=m)) for m in (0, 2))
        assert plain.boot_cycle == narrow.boot_cycle
        assert plain.energy_pj < narrow.energy_pj  # the clock and the leakage of the unpacker


class TestProgram:
    def test_the_first_rows_lie_half_by_half(self):
        """Four rows of 2 bits in a byte: rows 0 and 2 in the lower half, 0 and 1 in the lower half of that."""
        network, a = one_layer(2), on(2, dataflow="os")
        program = lower(network, a)
        weight = network.layers[0].weight  # [4 outputs, 4 inputs, 3, 3]; a row is one input of the first tap
        for column in range(4):
            rows = [int(weight[column, row, 0, 0]) & 3 for row in range(4)]
            assert program.parameters[column] == rows[0] | rows[2] << 2 | rows[1] << 4 | rows[3] << 6
        assert [i["per_word"] for i in program.main if i.op == Op.SUM] == [4]
        assert "per_word=4" in program.assembly()
        assert "per_word" not in lower(network, on(0)).assembly()

    @pytest.mark.parametrize("dataflow", ["ws", "os"])
    def test_the_result_does_not_depend_on_the_packing(self, dataflow):
        network = one_layer(2)
        x = random_inputs(np.random.default_rng(0), network, 1)
        for minimum in (0, 2, 4):
            program = lower(network, on(minimum, dataflow=dataflow))
            emulator = Emulator.of(program)
            emulator.run(0)
            assert np.array_equal(emulator.infer(program, x[0]), network.predict(x)[0])


class TestUnpacker:
    @pytest.mark.parametrize("narrowest", [2, 4])
    def test_every_word_row_and_width(self, narrowest):
        """All bytes: the rows of a word, sign extended, as the instruction set says where they lie."""
        halvings = (8 // narrowest).bit_length() - 1
        share, weight = Signal(unsigned(8)), Signal(unsigned(8))
        row, last = Signal(unsigned(halvings)), Signal(unsigned(halvings))
        seen = 0

        @instance
        def drive():
            nonlocal seen
            for depth in range(halvings + 1):
                for number, value in product(range(1 << depth), range(256)):
                    share.next, row.next, last.next = value, number, (1 << depth) - 1
                    yield delay(1)
                    low, high = 0, 8
                    for k in range(depth):
                        middle = (low + high) // 2
                        low, high = (middle, high) if number >> k & 1 else (low, middle)
                    bits = value >> low & ((1 << high - low) - 1)
                    signed = bits - (1 << high - low) if bits >> (high - low - 1) else bits
                    assert int(weight) == signed % 256
                    seen += 1
            raise StopSimulation

        Simulation(unpack(share, row, last, weight), drive).run(quiet=1)
        assert seen == 256 * ((2 << halvings) - 1)

    @pytest.mark.slow
    @pytest.mark.icarus
    @pytest.mark.parametrize(
        ("name", "good", "wrong"),
        [
            ("4x2 from int2", 1 << 218 | 5, [2 << 218 | 5, 4 << 218 | 5, 1 << 218 | 4, 1 << 217 | 5, 1 << 221 | 5]),
            ("3x3 int16 from int2 os", 3 << 218 | 8, [2 << 218 | 8, 4 << 218 | 8, 5 << 218 | 8, 1 << 218 | 7]),
            ("4x2", 5, [1 << 218 | 5]),
        ],
    )
    def test_words_that_are_no_instruction(self, name, good, wrong):
        """Rows that a word cannot hold, any operation that has none, and the bits around."""
        a = MACHINES[name]
        bundle = generate_rtl(a)

        def run(word):
            memory, inputs = np.zeros(64, np.uint8), np.zeros((1, 4), np.uint8)
            job = Job([word, 0], False, 0, memory, inputs, slice(0, 4), (slice(0, 4),), 9999)
            return find_simulator("icarus").run(bundle, job)

        assert Instruction.decode(good).op in (Op.CONV, Op.SUM)
        assert run(good).cycles[0] > 2
        for word in wrong:
            with pytest.raises(SimulatorError, match="a word that is no instruction"):
                run(word)

    def test_there_is_none_without_narrow_weights(self):
        plain, narrow = (generate_rtl(MACHINES[name]) for name in ("4x2", "4x2 from int2"))
        kinds = {"codesign_unpack.v", "codesign_unpacker.v", "codesign_row_walk.v"}
        assert not kinds & set(plain.files)
        assert kinds <= set(narrow.files)

    @pytest.mark.slow
    @pytest.mark.verilator
    @pytest.mark.parametrize(
        "name", ["3x6 from int4", "4x2 from int2", "3x3 int16 from int2 os", "4x4 int4 from int2 os"]
    )
    def test_the_hardware_agrees_at_the_ends_of_the_range(self, name):
        """Every layer in every width that there is: bits, and cycles of every instruction."""
        a = replace(MACHINES[name], activation_kib=4, weight_kib=8, instruction_kib=16)
        rng = np.random.default_rng(5)
        widths = [0, *(bits for bits in (2, 4, 8, 16) if bits <= a.weight_bits)]
        layers, channels = [], 5
        for i, width in enumerate(widths):
            layers.append(
                random_layer(rng, f"c{i}", 7, channels, (2, 3), a.weight_bits, padding=(1, 1), weight_bits=width)
            )
            top = 1 << (width or a.weight_bits) - 1
            ends = rng.choice([-top, top - 1], layers[-1].weight.shape).astype(layers[-1].weight.dtype)
            if width and width < 16:
                layers[-1] = replace(layers[-1], weight=ends)
            channels = 7
        network = IntegerNetwork("widths", (5, 4, 5), 1.0, a.weight_bits, tuple(layers))
        cost = evaluate(network, a)
        report = check(
            generate_rtl(a), network, random_inputs(rng, network, 2), find_simulator("verilator"),
            cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle,
        )  # fmt: skip
        assert report.passed, str(report)
