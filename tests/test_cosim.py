"""Simulators: one contract for all of them; and RTL that agrees with the golden model and both predictions."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, TINY, children, pair, random_inputs, random_layer

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.isa import RESERVED, RESERVED_OS, Instruction, Op
from codesign_kernel.cosim import SIMULATORS, find_simulator
from codesign_kernel.cosim.job import Job
from codesign_kernel.cosim.timing import issue_cycles
from codesign_kernel.errors import SimulatorError
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session import cosimulate

A = TINY["2x2"]
BY_SIMULATOR = [
    pytest.param("verilator", marks=[pytest.mark.verilator, pytest.mark.slow]),
    pytest.param("icarus", marks=pytest.mark.icarus),
    "myhdl",
    pytest.param("ghdl", marks=pytest.mark.ghdl),
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
    assert children() <= before
    assert len(os.listdir("/proc/self/fd")) <= pipes


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
        assert answer.issues == [issue_cycles(program, program.main)] * 2
        assert answer.boot_issues == issue_cycles(program, program.boot)
        got = program.unpack(answer.outputs[0], place).reshape(2, -1)
        assert np.array_equal(got, program.network.predict(x))
        assert np.array_equal(job.memory, before)

    def test_a_late_memory_takes_its_cycles(self, name):
        """Loads begin and saves end later, by the same number; the RTL is the same."""
        late = replace(A, memory_latency=6)
        program = lower(pair(), late)
        x = random_inputs(np.random.default_rng(1), program.network, 2)
        answer = find_simulator(name).run(replace(generate_rtl(A), accelerator=late), job_of(program, x))
        moves = [sum(i.op in (Op.LOADP, Op.LOADA, Op.SAVE) for i in part) for part in (program.boot, program.main)]
        assert moves == [1, 2]
        assert answer.cycles == [lower(pair(), A).cycles + 6 * moves[1]] * 2 == [program.cycles] * 2
        assert answer.boot_cycles == sum(lower(pair(), A).cycles_of(i) for i in program.boot) + 6
        assert answer.issues == [issue_cycles(program, program.main)] * 2
        got = program.unpack(answer.outputs[0], program.maps[1]).reshape(2, -1)
        assert np.array_equal(got, program.network.predict(x))

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

    @pytest.mark.parametrize("word", [4, 5, 6, 10, 8 | 1 << 4, 8 | 1 << RESERVED_OS, 8 | 1 << 6])
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


@pytest.mark.ghdl
class TestGhdlProcess:
    def test_its_death_is_told(self, tmp_path, monkeypatch):
        """Killed after the first of many results: what it had written already is read, and then nothing comes."""
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 50)
        before = children()

        def kill(done, *_):
            if done == 1:
                (process,) = children() - before
                os.kill(process, signal.SIGKILL)

        with nothing_left(tmp_path, monkeypatch), pytest.raises(SimulatorError, match="ghdl died with signal 9"):
            find_simulator("ghdl").run(generate_rtl(A), job_of(program, x), kill)

    def test_vhdl_that_is_none_is_told(self, tmp_path, monkeypatch):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        bundle = generate_rtl(A)
        broken = replace(bundle, files={**bundle.files, f"{bundle.top}.vhd": bundle.vhdl.replace("entity", "entry", 1)})
        with (
            nothing_left(tmp_path, monkeypatch),
            pytest.raises(SimulatorError, match=r"GHDL failed with exit status 1: codesign_core\.vhd:\d+"),
        ):
            find_simulator("ghdl").run(broken, job_of(program, x))

    def test_vhdl_that_stops_by_itself_is_told(self, tmp_path, monkeypatch):
        program = lower(pair(), A)
        x = random_inputs(np.random.default_rng(1), program.network, 1)
        bundle = generate_rtl(A)
        stop = 'begin\n\nassert pc /= 2 report "enough" severity failure;\n'
        before, head, after = bundle.vhdl.partition(f"architecture MyHDL of {bundle.top} is")
        text = before + head + after.replace("\nbegin\n", f"\n{stop}", 1)
        broken = replace(bundle, files={**bundle.files, f"{bundle.top}.vhd": text})
        with (
            nothing_left(tmp_path, monkeypatch),
            pytest.raises(SimulatorError, match=r"ghdl died with exit status 1: .*enough"),
        ):
            find_simulator("ghdl").run(broken, job_of(program, x))

    def test_bits_that_are_no_bits_are_told(self, tmp_path, monkeypatch):
        """A program that saves a word which nothing was written to."""
        words = [Instruction(Op.SAVE, {"addr": 0, "ext": 1, "count": 1}).encode(), Instruction(Op.HALT).encode()]
        inputs = np.zeros((1, 2), dtype=np.uint8)
        job = Job(words, False, 0, np.zeros(8, np.uint8), inputs, slice(0, 2), (slice(2, 4),), 100)
        with nothing_left(tmp_path, monkeypatch), pytest.raises(SimulatorError, match="neither 0 nor 1"):
            find_simulator("ghdl").run(generate_rtl(A), job)


def agree(a: Accelerator, program, simulator: str, vectors: int = 2) -> None:
    """``program``'s network runs on the RTL bit for bit and cycle for cycle."""
    x = random_inputs(np.random.default_rng(len(program.words)), program.network, vectors)
    report = cosimulate(a, program.network, x, simulator)
    assert report.mismatches == 0, report
    assert report.first_mismatch is None
    assert report.cycles_rtl == report.cycles_model == report.cycles_program == program.cycles, report
    assert report.boot_cycles_rtl == report.boot_cycles_model
    assert (report.boot_cycles_rtl > 0) == bool(program.boot)
    assert (report.instructions, report.instruction_mismatches) == (len(program.main), 0)
    assert report.passed
    assert np.array_equal(report.outputs, program.network.predict(x))


class TestAgreement:
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
