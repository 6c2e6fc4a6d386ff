"""Simulators: one contract for all of them; and RTL that agrees with the golden model and both predictions."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, TINY, builds, children, features, pair, random_inputs, random_layer, runnable

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.isa import RESERVED, RESERVED_OS, Instruction, Op
from codesign_kernel.cosim import SIMULATORS, find_simulator
from codesign_kernel.cosim.job import Job
from codesign_kernel.errors import SimulatorError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session import cosimulate

__all__ = ["builds"]  # a fixture for the whole session

A = TINY["2x2"]
#: The compiled models are built once a session, which takes some seconds each.
VERILATED = (
    *("2x2", "1x1", "4x4 int4", "8x8", "2x8", "8x4", "3x6", "9x3", "2x2 int16", "2x4 int16"),
    *(name for name in MACHINES if name.endswith(" os")),
)
BY_SIMULATOR = [
    pytest.param("verilator", marks=[pytest.mark.verilator, pytest.mark.slow]),
    pytest.param("icarus", marks=pytest.mark.icarus),
    "myhdl",
]


def job_of(program, x, **changes) -> Job:
    """``x`` through ``program``, as the contract says a job looks like."""
    memory = np.zeros(program.memory_bytes, dtype=np.uint8)
    memory[: len(program.parameters)] = program.parameters
    place = program.maps[len(program.network.layers) - 1]
    job = Job(
        words=program.words, boot=bool(program.boot), entry=program.entry, memory=memory, inputs=program.pack(x),
        input_at=program.bytes_of(program.maps[-1]), outputs_at=(program.bytes_of(place),), limit=10_000,
    )  # fmt: skip
    return replace(job, **changes)


@contextmanager
def nothing_left(folder: Path, monkeypatch):
    """Temporary files go to a folder with a space in its name; in the end it is empty, and no process is left."""
    temporary = folder / "temporary files"
    temporary.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before, pipes = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert list(temporary.iterdir()) == []
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == pipes


@pytest.mark.parametrize("name", BY_SIMULATOR)
class TestContract:
    def test_every_run_has_its_output_and_cycles(self, name):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 2)
        job = job_of(program, x)
        before = job.memory.copy()
        answer = find_simulator(name).run(generate_rtl(A), job)
        place = program.maps[1]
        assert answer.cycles == [program.cycles] * 2
        assert answer.boot_cycles == sum(program.cycles_of(i) for i in program.boot) > 0
        got = program.unpack(answer.outputs[0], place).reshape(2, -1)
        assert np.array_equal(got, program.network.predict(x))
        assert np.array_equal(job.memory, before)

    def test_memory_is_kept_between_runs(self, name):
        """A program that copies its input to where it never reads: the second run's input leaves the first's there."""
        words = [
            Instruction(Op.LOADA, {"addr": 0, "ext": 0, "count": 1}).encode(),
            Instruction(Op.SAVE, {"addr": 0, "ext": 2, "count": 1}).encode(),
            Instruction(Op.LOADA, {"addr": 0, "ext": 1, "count": 1}).encode(),
            Instruction(Op.SAVE, {"addr": 0, "ext": 3, "count": 1}).encode(),
            Instruction(Op.LOADA, {"addr": 0, "ext": 2, "count": 1}).encode(),
            Instruction(Op.SAVE, {"addr": 0, "ext": 1, "count": 1}).encode(),
            Instruction(Op.HALT).encode(),
        ]
        assert A.bus_bits == 16
        inputs = np.array([[1, 2], [3, 4], [5, 255]], dtype=np.uint8)
        job = Job(words, False, 0, np.zeros(8, np.uint8), inputs, slice(0, 2), (slice(2, 4), slice(6, 8)), 100)
        answer = find_simulator(name).run(generate_rtl(A), job)
        assert answer.outputs[0].tolist() == inputs.tolist()
        assert answer.outputs[1].tolist() == [[0, 0], [1, 2], [3, 4]]
        assert answer.cycles == [6 * (2 + 1 + 2) + 2] * 3
        assert answer.boot_cycles == 0

    def test_a_run_without_end_is_given_up(self, name, tmp_path, monkeypatch):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        with (
            nothing_left(tmp_path, monkeypatch),
            pytest.raises(SimulatorError, match=r"(?i)100 cycles|busy.*is the program damaged"),
        ):
            find_simulator(name).run(generate_rtl(A), job_of(program, x, limit=100))

    @pytest.mark.parametrize("word", [7, 1 << RESERVED, 5 | 1 << 6], ids=["operation", "reserved", "bank"])
    def test_a_word_that_is_no_instruction_is_told(self, name, word, tmp_path, monkeypatch):
        """Unknown operations, reserved bits, and a bank where there is one only."""
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        words = program.words
        words[program.entry + 2] = word
        with nothing_left(tmp_path, monkeypatch), pytest.raises(SimulatorError, match="a word that is no instruction"):
            find_simulator(name).run(generate_rtl(A), job_of(program, x, words=words))

    @pytest.mark.parametrize("word", [4, 5, 6, 9, 8 | 1 << 4, 8 | 1 << RESERVED_OS, 8 | 1 << 6])
    def test_an_array_that_holds_sums_has_instructions_of_its_own(self, name, word, tmp_path, monkeypatch):
        """Those of the other array, unknown ones, reserved bits, and a bank where there is one only."""
        a = MACHINES["2x2 os"]
        program = lower(pair(), a)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        words = program.words
        words[program.entry + 2] = word
        with nothing_left(tmp_path, monkeypatch), pytest.raises(SimulatorError, match="a word that is no instruction"):
            find_simulator(name).run(generate_rtl(a), job_of(program, x, words=words))

    def test_writing_beyond_the_memory_is_told(self, name, tmp_path, monkeypatch):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        beyond = Instruction(Op.SAVE, {"addr": 0, "ext": program.memory_bytes // 2, "count": 1}).encode()
        with (
            nothing_left(tmp_path, monkeypatch),
            pytest.raises(SimulatorError, match="external memory that the program"),
        ):
            find_simulator(name).run(generate_rtl(A), job_of(program, x, words=[beyond], boot=False, entry=0))

    def test_progress_is_told(self, name):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 2)
        told: list[tuple[int, int, str]] = []
        find_simulator(name).run(generate_rtl(A), job_of(program, x), lambda *now: told.append(now))
        done = [now[0] for now in told]
        assert done == sorted(done)
        assert done[-1] == 2
        assert {now[1] for now in told} == {2}
        assert all(name.lower() in now[2].lower() for now in told)

    def test_an_interrupt_leaves_nothing_behind(self, name, tmp_path, monkeypatch):
        """From any word of progress; the next simulation is as good as any."""
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        bundle, simulator = generate_rtl(A), find_simulator(name)
        told: list[int] = []
        simulator.run(bundle, job_of(program, x), lambda done, *_: told.append(done))

        def stop(*_):
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt

        for at in range(1, len(told) + 1):
            calls: list[int] = []
            with (
                monkeypatch.context() as patch,
                nothing_left(tmp_path / str(at), patch),
                pytest.raises(KeyboardInterrupt),
            ):
                simulator.run(bundle, job_of(program, x), stop)
        again = simulator.run(bundle, job_of(program, x))
        assert again.cycles == [program.cycles]

    def test_is_listed(self, name):
        assert name in SIMULATORS
        assert find_simulator(name).name == name


@pytest.mark.icarus
class TestIcarusProcess:
    def test_its_death_is_told(self, tmp_path, monkeypatch):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 3)
        before = children()

        def kill(*_):
            (vvp,) = children() - before
            os.kill(vvp, signal.SIGKILL)
            time.sleep(0.1)

        with nothing_left(tmp_path, monkeypatch), pytest.raises(SimulatorError, match="vvp died"):
            find_simulator("icarus").run(generate_rtl(A), job_of(program, x), kill)

    def test_an_interrupt_of_both_does_not_wait_for_commands(self, tmp_path, monkeypatch):
        """Control-C reaches vvp too, which must not stop and read commands from a terminal that says nothing."""
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 3)
        before = children()

        def interrupt(*_):
            (vvp,) = children() - before
            os.kill(vvp, signal.SIGINT)
            time.sleep(0.1)
            raise KeyboardInterrupt

        silent, talk = os.pipe()
        kept = os.dup(0)
        os.dup2(silent, 0)
        # should it wait after all, words on its standard input let it go, and the time shows it
        release = threading.Timer(20, os.write, (talk, b"finish\n"))
        release.start()
        start = time.monotonic()
        try:
            with nothing_left(tmp_path, monkeypatch), pytest.raises(KeyboardInterrupt):
                find_simulator("icarus").run(generate_rtl(A), job_of(program, x), interrupt)
        finally:
            release.cancel()
            os.dup2(kept, 0)
            for pipe in (silent, talk, kept):
                os.close(pipe)
        assert time.monotonic() - start < 15


def agree(a: Accelerator, program, simulator: str, vectors: int = 2) -> None:
    """``program``'s network runs on the RTL bit for bit and cycle for cycle."""
    x = random_inputs(np.random.default_rng(len(program.words)), program.network, vectors)
    report = cosimulate(a, program.network, x, simulator)
    assert report.mismatches == 0, report
    assert report.first_mismatch is None
    assert report.cycles_rtl == report.cycles_model == report.cycles_program == program.cycles, report
    assert report.boot_cycles_rtl == report.boot_cycles_model
    assert (report.boot_cycles_rtl > 0) == bool(program.boot)
    assert report.passed
    assert np.array_equal(report.outputs, program.network.predict(x))


def whole(found: list[Program], count: int) -> list[Program]:
    """``found``, which has as many as were asked for: a loop over too few would prove too little."""
    assert len(found) == count
    return found


@cache
def plain(name: str) -> list[Program]:
    """Random networks of stride 1 with padding, pooling and ReLU."""
    return whole([*runnable(MACHINES[name], 500 + [*MACHINES].index(name), 13, plain=True)], 13)


@cache
def every(name: str) -> list[Program]:
    """Random networks with strides, dilations and groups too."""
    return whole([*runnable(MACHINES[name], 600 + [*MACHINES].index(name), 8)], 8)


@cache
def short(name: str, count: int, cycles: int) -> list[Program]:
    """Random networks for the slow simulators."""
    return whole([*islice((p for p in runnable(MACHINES[name], 700, 200) if p.cycles < cycles), count)], count)


class TestAgreement:
    @pytest.mark.slow
    @pytest.mark.verilator
    @pytest.mark.parametrize("name", VERILATED)
    def test_verilator(self, name):
        for program in (*plain(name), *every(name)):
            agree(MACHINES[name], program, "verilator")

    @pytest.mark.icarus
    @pytest.mark.parametrize(
        "name", ["2x2", "2x2 os", *(pytest.param(n, marks=pytest.mark.slow) for n in ("4x2", "2x2 int16", "4x2 os"))]
    )
    def test_icarus(self, name):
        for program in short(name, 5, 1500):
            agree(MACHINES[name], program, "icarus", vectors=1)

    @pytest.mark.icarus
    @pytest.mark.parametrize("name", ["2x2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("1x1", "4x2", "2x8"))])
    def test_taps_follow_as_soon_as_they_may(self, name):
        """From five positions a tap down to one: more than the array has rows, as many, and fewer. Several input tiles,
        whose banks turn while the tap before still reads, and sums that the next tap needs at once."""
        rng = np.random.default_rng(0)
        layers = tuple(random_layer(rng, f"conv{i}", 9, 9, (1, 2), 8) for i in range(5))
        a = replace(MACHINES[name], instruction_kib=16)
        program = lower(IntegerNetwork("taps", (9, 1, 6), 0.1, 8, layers), a)
        convs = [i for i in program.main if i.op == Op.CONV]
        assert [i["nx"] for i in convs] == [n for n in (5, 4, 3, 2, 1) for _ in range(0, 9, a.cols)]
        assert all(i["nct"] > 2 for i in convs)
        agree(a, program, "icarus", vectors=2)

    @pytest.mark.icarus
    @pytest.mark.parametrize(
        "name", ["2x2 os", *(pytest.param(n, marks=pytest.mark.slow) for n in ("1x1 os", "4x2 os", "2x8 os"))]
    )
    def test_groups_of_positions_follow_without_a_gap(self, name):
        """One tap and several, groups that are full and that are not, windows that lie across groups, and input tiles
        whose banks turn."""
        rng = np.random.default_rng(0)
        layers = (
            random_layer(rng, "one tap", 5, 2, (1, 1), 8, padding=(0, 0)),
            random_layer(rng, "pooled", 9, 5, (2, 2), 8, stride=(1, 2), padding=(1, 1), pool=3),
            random_layer(rng, "tiles", 3, 9, (1, 2), 8, dilation=(1, 2), padding=(0, 1)),
        )
        a = replace(MACHINES[name], activation_kib=4, weight_kib=4)
        program = lower(IntegerNetwork("groups", (2, 5, 13), 0.1, 8, layers), a)
        sums = [i for i in program.main if i.op == Op.SUM]
        assert {i["nct"] * i["nfx"] * i["nfy"] == 1 for i in sums} == ({True, False} if a.rows > 1 else {False})
        assert {i["window"] for i in sums} == {1, 3}
        agree(a, program, "icarus", vectors=2)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "count"), [("2x2", 3), ("4x2", 2), ("2x2 int16", 2), ("2x2 os", 2), ("4x2 os", 2)]
    )
    def test_myhdl(self, name, count):
        for program in short(name, count, 350):
            agree(MACHINES[name], program, "myhdl", vectors=1)

    @pytest.mark.slow
    def test_the_samples_meet_every_way_to_cut(self):
        stride1 = Counter(feature for name in VERILATED for program in plain(name) for feature in features(program))
        assert sum(len(plain(name)) for name in VERILATED) >= 100
        assert all(stride1[feature] >= 20 for feature in ("padding", "pool", "relu", "chunks", "passes", "linear")), (
            stride1
        )
        assert not stride1.keys() & {"stride", "dilation", "groups"}
        wild = Counter(feature for name in VERILATED for program in every(name) for feature in features(program))
        rare = {"stride", "dilation", "groups", "spilled map", "streamed weights", "passes", "chunks", "banks", "tiles"}
        assert all(wild[feature] >= 5 for feature in rare), wild
        tiny = Counter(feature for name in TINY for program in short(name, 5, 1500) for feature in features(program))
        assert all(tiny[feature] >= 1 for feature in ("padding", "pool", "relu", "banks", "tiles", "blocks")), tiny

    @pytest.mark.slow
    @pytest.mark.verilator
    @pytest.mark.parametrize(("name", "acc"), [("8x8", 32), ("2x4 int16", 48)])
    def test_extremes_of_the_requantiser(self, name, acc):
        """Every shift, multipliers and biases at their ends, weights and inputs at theirs."""
        a = replace(MACHINES[name], activation_kib=2, weight_kib=32)
        top, shifts = 1 << (a.weight_bits - 1), acc + 15
        rng = np.random.default_rng(0)
        base = random_layer(rng, "ends", shifts, 9, (3, 3), a.weight_bits, padding=(2, 0), relu=False)
        worst, most = 81 * top * top, (1 << (acc - 1)) - 1
        layer = replace(
            base,
            weight=rng.choice([-top, top - 1], base.weight.shape).astype(base.weight.dtype),
            bias=rng.choice([-most + worst, 0, most - worst], shifts).astype(base.bias.dtype),
            multiplier=rng.choice([1, 65535], shifts).astype(np.int32),
            shift=np.arange(1, shifts + 1, dtype=np.int32),
        )
        ends = IntegerNetwork("ends", (9, 7, 6), 1.0, a.weight_bits, (layer,))
        x = rng.choice([-top, top - 1], (4, 9, 7, 6)).astype(ends.dtype)
        report = cosimulate(a, ends, x, "verilator")
        assert report.passed, report
        assert {-top, top - 1} <= set(report.outputs.flat)
