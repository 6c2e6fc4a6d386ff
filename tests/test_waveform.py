"""Waveforms read back: what a VCD holds, and any window of a run on every simulator."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from cases import TINY, pair, random_inputs

import codesign_kernel as ck
from codesign_kernel.cosim import waveform
from codesign_kernel.cosim.waveform import START, parse_waves
from codesign_kernel.errors import InvalidInputError

A = TINY["2x2"]
HEAD = "$timescale 1 ns $end\n$scope module top $end\n$var wire 1 ! a $end\n$scope module part $end\n"
HEAD += (
    "$var wire 12 # wide [11:0] $end\n$var wire 1 ! alias $end\n$var real 64 % r $end\n$upscope $end\n$upscope $end\n"
)
HEAD += "$enddefinitions $end\n"
BODY = "#8\n$dumpvars\n0!\nbx #\nr0.5 %\n$end\n#9\n1!\nb1z01 #\n#10\n0!\n1!\nb1 #\n#12\nb0001 #\nbuuuuuuuuuuuu #\n#14\n"


def inputs(count: int) -> np.ndarray:
    return random_inputs(np.random.default_rng(1), pair(), count)


def numbers(waves: ck.Waveform, name: str) -> dict[int, int]:
    """What the first signal called ``name`` is from each of its times on."""
    found = waves.changes(next(i for i, signal in enumerate(waves.signals) if signal.name == name))
    assert not found.unknown.any()
    values = (int.from_bytes(row.tobytes(), "little") for row in found.value)
    return dict(zip(found.times.tolist(), values, strict=True))


def test_names_states_and_times() -> None:
    waves = parse_waves((HEAD + BODY).splitlines(keepends=True))
    assert (waves.first, waves.last, waves.cycle_ns) == (4, 6, None)
    assert [(s.scope, s.name, s.width) for s in waves.signals] == [
        ("top", "a", 1), ("top.part", "wide", 12), ("top.part", "alias", 1),
    ]  # fmt: skip
    a = waves.changes(0)
    assert (a.times.tolist(), a.value.tolist(), a.unknown.tolist()) == ([8, 9], [[0], [1]], [[0], [0]])
    assert waves.changes(2).times.tolist() == a.times.tolist()
    wide = waves.changes(1)
    # all x; 0...01z01; 1; the last word of time 12, which is all x again
    assert wide.times.tolist() == [8, 9, 10, 12]
    assert wide.value.tolist() == [[0, 0], [0b1101, 0], [1, 0], [0, 0]]
    assert wide.unknown.tolist() == [[255, 15], [0b0100, 0], [0, 0], [255, 15]]
    with pytest.raises(InvalidInputError, match="from 0 to 2, but got 3"):
        waves.changes(3)


def test_a_small_window_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a signal, only changes of the window are expanded: what holds when it begins, and those inside."""
    count = 10_000
    body = "".join(f"#{2 * cycle}\n{cycle % 2}!\nb{cycle % 4096:b} #\n" for cycle in range(count))
    waves = parse_waves((HEAD + body + f"#{2 * count}\n").splitlines(keepends=True))
    every = waves.changes(1)
    assert len(every.times) == count
    padded: list[str] = []
    told = waveform._padded
    monkeypatch.setattr(waveform, "_padded", lambda text, width: padded.append(text) or told(text, width))
    for first, last in ((5000, 5009), (0, 3), (count - 3, count), (7, 7)):
        padded.clear()
        part = waves.changes(1, first, last)
        here = (every.times >= 2 * first) & (every.times < 2 * (last + 1))
        for all_of_it, some in zip(every, part, strict=True):
            assert np.array_equal(some, all_of_it[here])
        assert len(padded) == len(part.times) <= last - first + 1
    # between two changes, the one that holds is that before
    held = parse_waves((HEAD + BODY).splitlines(keepends=True)).changes(0, 5, 5)
    assert (held.times.tolist(), held.value.tolist()) == ([9], [[1]])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "enddefinitions is missing"),
        (HEAD, "has none"),
        (HEAD + "#1\n1?\n", "line 12 of a VCD is a change of one of its signals, but got '1[?]'"),
        (HEAD + "#1\n7!\n", "but got '7!'"),
        (HEAD + "1!\n", "but got '1!'"),
        (HEAD + "#5\n#4\n", "rise and stay below 2.31, but line 12 has '4'"),
        (HEAD + "#99999999999\n", "rise"),
        (HEAD.replace("1 ns", "1 ps"), "1 ns in the VCDs"),
        (HEAD.replace("wire 12", "wire wide"), "line 5 of a VCD declares a signal"),
        (HEAD.replace("wire 12", "wire 99999999"), "declares a signal"),
    ],
)
def test_what_is_no_vcd_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        parse_waves(text.splitlines(keepends=True))


def test_a_file_that_cannot_be_read_is_refused(tmp_path) -> None:
    (tmp_path / "raw").write_bytes(b"\xff\xfe\xfd")
    for path in (tmp_path, tmp_path / "none.vcd", tmp_path / "raw"):
        with pytest.raises(InvalidInputError, match="is a VCD that can be read"):
            ck.read_waves(path)


def test_times_are_known_only_where_they_are_said(tmp_path) -> None:
    path = tmp_path / "w.vcd"
    path.write_text(HEAD + BODY)
    assert ck.read_waves(path).cycle_ns is None
    assert ck.read_waves(path, cycle_ns=12.5).cycle_ns == 12.5
    for wrong in (0, -1.0, float("nan"), float("inf"), 10**400, True, "5", [5]):
        with pytest.raises(InvalidInputError, match="more than 0 and at most 1e9 ns, but cycle_ns is"):
            ck.read_waves(path, cycle_ns=wrong)


@pytest.mark.parametrize(
    "simulator",
    [
        pytest.param("verilator", marks=[pytest.mark.verilator, pytest.mark.slow]),
        pytest.param("icarus", marks=pytest.mark.icarus),
        "myhdl",
        pytest.param("ghdl", marks=pytest.mark.ghdl),
    ],
)
def test_any_window_of_a_run(simulator: str) -> None:
    """The program counter of the waveform moves on when the schedule says that an instruction issues."""
    seen = ck.record_waves(A, pair(), inputs(1), simulator)
    cycles = ck.evaluate(pair(), A).latency_cycle
    assert (seen.first, seen.last) == (0, cycles)
    assert seen.cycle_ns == 5.0
    begins = [one.begin for one in seen.instructions]
    assert begins == np.cumsum([0, *(one.got for one in seen.instructions)])[:-1].tolist()
    assert sum(one.got for one in seen.instructions) == cycles
    assert all(one.got == one.expected for one in seen.instructions)
    # in the beginning, which is there from the first, and behind it
    for at in (2, next(at for at, begin in enumerate(begins) if begin > START)):
        first, last = begins[at] - 1, begins[at + 1] + 5
        waves = seen.window(first, last)
        assert (waves.first, waves.last) == ((0, START) if at == 2 else (first, last))
        assert waves.cycle_ns == 5.0
        pc = {moved: value for moved, value in numbers(waves, "pc").items() if 2 * first < moved <= 2 * last}
        assert list(pc.values()) == [one.address + 1 for one in seen.instructions[at : at + 2]]
        assert np.diff(list(pc)).tolist() == [2 * seen.instructions[at].got]
    assert seen.window(cycles, cycles + 99).last == cycles
    with pytest.raises(InvalidInputError, match="window is"):
        seen.window(5, 4)


@pytest.mark.icarus
def test_the_file_of_a_cosimulation_with_its_schedule(tmp_path) -> None:
    report = ck.cosimulate(A, pair(), inputs(2), "icarus", vcd=tmp_path / "w.vcd", window=(5, 9))
    waves = ck.read_waves(tmp_path / "w.vcd", report.schedule)
    assert (waves.first, waves.last, waves.window(0, 99)) == (5, 9, waves)
    assert sum(one.got for one in waves.instructions) == report.cycles_rtl == report.cycles_program


@pytest.mark.icarus
def test_sources_that_were_edited() -> None:
    bundle = ck.generate_rtl(A)
    verilog, count = re.subn(r"\(relu && ", "(1'b0 && ", bundle.verilog)
    assert count == 1
    mutant = bundle.with_verilog(verilog)
    report = ck.cosimulate(A, pair(), inputs(6), "icarus", bundle=mutant)
    assert report.mismatches
    assert report.rtl_digest == mutant.digest
    other = replace(A, frequency_mhz=100.0)
    for wrong in (ck.generate_rtl(other), verilog):
        with pytest.raises(InvalidInputError, match="bundle is an RtlBundle of the design"):
            ck.cosimulate(A, pair(), inputs(1), "icarus", bundle=wrong)
        with pytest.raises(InvalidInputError, match="bundle is an RtlBundle of the design"):
            ck.record_waves(A, pair(), inputs(1), "icarus", bundle=wrong)


def test_refusals_of_a_recording() -> None:
    with pytest.raises(InvalidInputError, match="of one input, but got 2"):
        ck.record_waves(A, pair(), inputs(2))
    with pytest.raises(InvalidInputError, match="takes an IntegerNetwork, but got str"):
        ck.record_waves(A, "lenet5", inputs(1))
    with pytest.raises(InvalidInputError, match="simulator is one of"):
        ck.record_waves(A, pair(), inputs(1), "modelsim")
