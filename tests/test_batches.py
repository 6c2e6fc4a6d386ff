"""Batches: fully connected layers run once for several inputs; programs, costs and the walk over them agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from cases import MACHINES, machine, random_inputs, random_layer, random_network
from emulator import Emulator
from loopnest import walk as walked

from codesign_kernel.accelerator.isa import Op
from codesign_kernel.cosim import check, find_simulator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import CapacityError, InvalidInputError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session.cases import random_plain


def linear(name: str, k: int, c: int, **settings):
    return random_layer(np.random.default_rng(k), name, k, c, (1, 1), 8, op="linear", **settings)


def conv(name: str, k: int, c: int, **settings):
    return random_layer(np.random.default_rng(k), name, k, c, (3, 3), 8, padding=(1, 1), **settings)


def drawn(seed: int, count: int):
    """(program, batch): ``count`` programs of every machine, all of networks with fully connected layers."""
    for i, a in enumerate(MACHINES.values()):
        rng, found = np.random.default_rng((seed, i)), 0
        while found < count:
            network, batch = random_network(rng, a.weight_bits, largest=8), int(rng.integers(2, 5))
            if any(layer.op == "linear" for layer in network.layers):
                try:
                    yield lower(network, a, batch=batch)
                except CapacityError:
                    continue
                found += 1


def booted(program: Program) -> Emulator:
    emulator = Emulator.of(program)
    if program.boot:
        emulator.run(0)
    return emulator


class TestPrograms:
    def test_one_run_gives_what_each_input_gives_alone(self):
        met: Counter[str] = Counter()
        rng = np.random.default_rng(0)
        for program in drawn(0, 4):
            emulator = booted(program)
            x = random_inputs(rng, program.network, program.batch)
            want = program.network.predict(x)
            assert np.array_equal(emulator.infer_all(program, x).reshape(want.shape), want)
            layers = program.network.layers
            met.update(layer.op for layer in layers[1:])
            met["starts fully connected"] += layers[0].op == "linear"
            met["sums of rows"] += layers[-1].op == "add" and layers[-2].op == "linear"
            met["streamed"] += not program.boot
        assert all(met[what] > 3 for what in ("linear", "conv2d", "add", "streamed", "sums of rows")), met

    def test_cost_walk_and_program_agree(self):
        """Cycles layer by layer, instructions, and bits by level, operand and direction."""
        for program in drawn(1, 2):
            a, network, batch = program.accelerator, program.network, program.batch
            cost, walk = evaluate(network.workload.with_batch(batch), a), walked(network, a, batch)
            assert cost.latency_cycle == walk.latency == program.cycles
            assert cost.boot_cycle == walk.boot == sum(program.cycles_of(i) for i in program.boot)
            assert cost.instructions == walk.instructions == len(program.words)
            assert cost.overhead_cycle == 2
            mine: Counter[str] = Counter()
            for instruction, owner in zip(program.main, program.owners, strict=True):
                mine[owner] += program.cycles_of(instruction)
            for layer, counts in zip(cost.layers, walk.layers, strict=True):
                assert layer.latency_cycle == counts.load + counts.compute + counts.store == mine[layer.name]
                bits = {(x.level, x.operand, x.direction): x.bits for x in cost.accesses if x.layer == layer.name}
                assert {key: value for key, value in bits.items() if value} == +counts.bits

    def test_every_layer_of_every_input_is_shown(self):
        layers = (conv("a", 5, 2, pool=2), conv("b", 5, 5), linear("f", 7, 45, flatten=True), linear("g", 7, 7))
        total = random_plain(np.random.default_rng(0), "s", "add", 7, (1, 1), 8, reads=("f", "g"))
        network = IntegerNetwork("n", (2, 6, 6), 1.0, 8, (*layers, total))
        x = random_inputs(np.random.default_rng(0), network, 3)
        for name in ("2x8", "9x3", "2x8 os", "9x3 os"):
            program = lower(network, replace(MACHINES[name], instruction_kib=64), batch=3, every=True)
            emulator = booted(program)
            emulator.infer_all(program, x)
            for i, want in enumerate(network.layer_outputs(x)):
                place = program.maps[i]
                got = program.unpack(emulator.external[program.bytes_of(place)][None], place)
                assert np.array_equal(got.reshape(want.shape), want)

    def test_weights_are_loaded_once_for_all(self):
        """On a machine whose weights do not stay: one LOADP for each tile of ten results, and one pass over 5 rows."""
        network = IntegerNetwork("n", (3, 4, 4), 1.0, 8, (conv("a", 4, 3), linear("f", 10, 64, flatten=True)))
        a = machine(4, 4, 4, 0.5, 4)
        mine = {
            batch: Counter(i.op for i, o in zip(p.main, p.owners, strict=True) if o == "f")
            for batch, p in ((b, lower(network, a, batch=b)) for b in (1, 5))
        }
        assert mine[1][Op.LOADP] == mine[5][Op.LOADP] == mine[5][Op.CONV] == 3
        program = lower(network, a, batch=5)
        (first, *_) = [i for i, o in zip(program.main, program.owners, strict=True) if o == "f" and i.op == Op.CONV]
        assert (first["nx"], first["ny"], first["sy"], first["row_step"]) == (1, 5, 0, 16)
        assert program.cycles < 5 * lower(network, a).cycles

    @pytest.mark.parametrize("dataflow", ["ws", "os"])
    def test_a_large_layer_takes_less_time_for_each_input(self, dataflow):
        """400 to 120 on 8 x 8: 15 tiles of 50 taps, whose weights take longer than one position."""
        network = IntegerNetwork("n", (400, 1, 1), 1.0, 8, (linear("f", 120, 400),))
        a = machine(8, 8, 16, 64, 8, dataflow=dataflow)
        alone, eight = (evaluate(network.workload.with_batch(batch), a).latency_cycle for batch in (1, 8))
        assert eight < 1.5 * alone

    def test_inputs_fill_runs(self):
        network = IntegerNetwork("n", (9, 1, 1), 1.0, 8, (linear("f", 3, 9),))
        program = lower(network, MACHINES["4x4"], batch=4)
        x = random_inputs(np.random.default_rng(0), network, 8)
        packed = program.pack(x)
        assert packed.shape == (2, 3 * 4 * 4)  # three words of four channels for each of four rows
        assert np.array_equal(program.unpack(packed, program.maps[-1]), x)
        with pytest.raises(InvalidInputError, match="a run takes 4 inputs, but got 7; fill the last run up"):
            program.pack(x[:7])


class TestRefusals:
    def test_without_a_fully_connected_layer_there_is_nothing_to_share(self):
        network = IntegerNetwork("n", (3, 4, 4), 1.0, 8, (conv("a", 4, 3),))
        with pytest.raises(InvalidInputError, match="share the weights of fully connected layers, but the network has"):
            lower(network, MACHINES["8x8"], batch=2)
        alone = evaluate(network, MACHINES["8x8"])
        assert evaluate(network.workload.with_batch(2), MACHINES["8x8"]).latency_cycle == 2 * alone.latency_cycle

    def test_convolutions_do_not_follow(self):
        back = random_layer(np.random.default_rng(0), "c", 4, 5, (1, 1), 8)
        network = IntegerNetwork("n", (9, 1, 1), 1.0, 8, (linear("f", 5, 9), back))
        lower(network, MACHINES["8x8"])
        with pytest.raises(InvalidInputError, match=r"'c' \(conv2d\) reads 'f'; lower it with batch=1"):
            lower(network, MACHINES["8x8"], batch=2)

    @pytest.mark.parametrize("batch", [0, -1, 1.5, True])
    def test_a_batch_is_a_number(self, batch):
        network = IntegerNetwork("n", (9, 1, 1), 1.0, 8, (linear("f", 5, 9),))
        with pytest.raises(InvalidInputError, match=f"batch is an integer of at least 1, but got {batch}"):
            lower(network, MACHINES["8x8"], batch=batch)

    def test_the_program_for_all_must_fit_the_instruction_memory(self):
        network = IntegerNetwork("n", (3, 4, 4), 1.0, 8, (conv("a", 4, 3), linear("f", 5, 64, flatten=True)))
        a = machine(4, 4, 1, 4, 1, instruction_kib=1)
        lower(network, a, batch=2)
        with pytest.raises(CapacityError, match="the instruction memory holds the program"):
            lower(network, a, batch=40)


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_rtl_runs_batches_and_fills_the_last_one_up(dataflow):
    layers = (conv("a", 3, 2, pool=2, relu=True), linear("f", 3, 3, flatten=True), linear("g", 3, 3))
    total = random_plain(np.random.default_rng(0), "s", "add", 3, (1, 1), 8, reads=("f", "g"))
    network = IntegerNetwork("n", (2, 3, 3), 1.0, 8, (*layers, total))
    a = machine(2, 2, 0.125, 0.5, 0.0625, instruction_kib=2, dataflow=dataflow)
    cost = evaluate(network.workload.with_batch(2), a)
    x = random_inputs(np.random.default_rng(0), network, 3)
    report = check(
        generate_rtl(a), network, x, find_simulator("myhdl"),
        cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle, batch=2,
    )  # fmt: skip
    assert report.passed, str(report)
    assert (report.vectors, report.batch, report.runs, len(report.outputs)) == (3, 2, 2, 3)
    assert report.cycles_rtl == cost.latency_cycle
