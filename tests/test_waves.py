"""Waveforms: the window asked for, of the right inference, and in the same time on every simulator."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from cases import TINY, children, pair, random_inputs

from codesign_kernel.cosim.timing import issue_cycles
from codesign_kernel.cosim.waves import Trace, cut, window_of
from codesign_kernel.errors import InvalidInputError, OutputError
from codesign_kernel.lower import lower
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session import cosimulate, steps

A = TINY["2x2"]
BY_SIMULATOR = [
    pytest.param("verilator", marks=[pytest.mark.verilator, pytest.mark.slow]),
    pytest.param("icarus", marks=pytest.mark.icarus),
    "myhdl",
    pytest.param("ghdl", marks=pytest.mark.ghdl),
]


def read(text: str, names: tuple[str, ...]) -> tuple[list[int], dict[str, dict[int, int]]]:
    """The times of a VCD, and what each of the top level's ``names`` is at each of them."""
    head, body = text.split("$enddefinitions", 1)
    assert head.startswith("$timescale 1 ns $end\n")
    codes = {}
    for name in names:
        found = re.search(rf"\$var \w+ \d+ (\S+) {name}(?: ?\[\d+:\d+\])? \$end", head)
        codes[found[1]] = name
    times, values, now = [], {name: {} for name in names}, {}
    for line in body.splitlines():
        if line.startswith("#"):
            for name, value in now.items():
                values[name][times[-1]] = value
            times.append(int(line[1:]))
        match = re.fullmatch(r"b([01]+) (\S+)|([01])(\S+)", line)
        if match and (match[2] or match[4]) in codes:
            now[codes[match[2] or match[4]]] = int(match[1] or match[3], 2)
    return times, values


def inputs(count: int) -> np.ndarray:
    return random_inputs(np.random.default_rng(1), pair(), count)


@pytest.mark.parametrize("name", BY_SIMULATOR)
class TestSimulators:
    @pytest.mark.parametrize("window", [(20, 30), (0, 3)])
    def test_the_window_has_the_cycles_asked_for(self, name, window, tmp_path, capfd):
        path, before = tmp_path / "new folder" / "waves.vcd", children()
        report = cosimulate(A, pair(), inputs(2), name, vcd=path, window=window)
        assert report.passed
        times, values = read(path.read_text(), ("clk", "cycles", "pc", "busy"))
        first, last = window
        assert times[0] == 2 * first
        assert times[-1] == 2 * (last + 1)
        assert set(range(2 * first, 2 * last + 3)) == set(times)
        assert all(values["clk"][time] == (time % 2 == 0) for time in times[:-1])
        assert all(values["cycles"][time] == time // 2 for time in times[:-1])
        assert all(values["busy"][time] for time in times[:-1])
        issues = issue_cycles(lower(pair(), A), lower(pair(), A).main)
        entry = lower(pair(), A).entry
        assert all(values["pc"][time] == entry + sum(at <= time // 2 for at in issues) for time in times[:-1])
        assert path.stat().st_size < 60_000
        assert list(path.parent.iterdir()) == [path]
        assert children() <= before
        assert capfd.readouterr().out == ""

    def test_without_a_window_it_is_the_whole_inference(self, name, tmp_path):
        report = cosimulate(A, pair(), inputs(1), name, vcd=str(tmp_path / "waves.vcd"))
        times, values = read((tmp_path / "waves.vcd").read_text(), ("busy", "cycles"))
        assert (times[0], times[-1]) == (0, 2 * (report.cycles_rtl + 1))
        end = 2 * report.cycles_rtl
        assert [values["busy"][time] for time in (0, end - 1, end)] == [1, 1, 0]
        assert values["cycles"][end] == report.cycles_rtl


@pytest.mark.icarus
def test_it_is_that_of_the_first_input_that_differs(tmp_path, monkeypatch):
    """ReLU is left out in the RTL, and the first input is one which that does nothing to."""
    verilog, count = re.subn(r"\(relu && ", "(1'b0 && ", generate_rtl(A).verilog)
    assert count == 1
    mutant = generate_rtl(A).with_verilog(verilog)
    monkeypatch.setattr(steps, "generate_rtl", lambda design: mutant)
    bare = replace(pair(), layers=(replace(pair().layers[0], relu=False), pair().layers[1]))
    x = inputs(20)
    same = (pair().predict(x) == bare.predict(x)).all(axis=1)
    order = [*np.flatnonzero(same)[:1], *np.flatnonzero(~same)[:1]]
    assert len(order) == 2
    told: list[str] = []
    report = cosimulate(
        A, pair(), x[order], "icarus", vcd=tmp_path / "w.vcd", progress=lambda done, total, what: told.append(what)
    )
    assert (report.mismatches, report.first_mismatch.vector) == (1, 1)
    assert "writing the waveform of input 1" in told


class TestWindow:
    RAW = (
        "$date today $end\n$version\n 1\n$end\n$timescale 1 fs $end\n$var reg 1 ! a $end\n$var reg 4 # b $end\n"
        "$enddefinitions $end\n#0\n$dumpvars\n0!\nbxxxx #\n$end\n#100\n1!\n#105\n0!\nb0001 #\n#110\n1!\n#130\nb1 #\n"
    )

    @pytest.mark.parametrize(
        ("first", "last", "body"),
        [
            (0, 0, "#0\n$dumpvars\n1!\nbxxxx #\n$end\n#1\n0!\nb0001 #\n#2\n"),
            (1, 1, "#2\n$dumpvars\n1!\nb0001 #\n$end\n#4\n"),
            (2, 3, "#4\n$dumpvars\n1!\nb0001 #\n$end\n#6\nb1 #\n#8\n"),
            (9, 9, "#18\n$dumpvars\n1!\nb1 #\n$end\n#20\n"),
        ],
    )
    def test_values_at_its_beginning_are_those_of_before(self, first, last, body, tmp_path):
        lines = self.RAW.splitlines(keepends=True)
        got = "".join(cut(lines, 100, 10, Trace(tmp_path, first, last)))
        head, got = got.split("$enddefinitions $end\n")
        assert head == "$timescale 1 ns $end\n$var reg 1 ! a $end\n$var reg 4 # b $end\n"
        assert got == body

    def test_bounds(self):
        assert window_of(None, 9) == (0, 9)
        assert window_of([3, 20], 9) == (3, 9)
        for window in ((3, 2), (-1, 2), (10, 12), (1,), (1.0, 2), 5, (True, 2)):
            with pytest.raises(InvalidInputError, match="the first between 0 and 9 for this network, but got"):
                window_of(window, 9)

    def test_refusals_come_before_the_work(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"but got \(1, 2\) without vcd="):
            cosimulate(A, pair(), inputs(1), "myhdl", window=(1, 2))
        with pytest.raises(InvalidInputError, match=r"window is .first cycle, last cycle"):
            cosimulate(A, pair(), inputs(1), "myhdl", vcd=tmp_path / "w.vcd", window=(10**6, 10**6))
        with pytest.raises(OutputError, match="is a folder; add a file name"):
            cosimulate(A, pair(), inputs(1), "myhdl", vcd=tmp_path)
        assert list(tmp_path.iterdir()) == []
