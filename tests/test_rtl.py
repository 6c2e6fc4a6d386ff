"""Generated RTL: accepted without a word by the tools that read it, the same bytes every time; and its arithmetic."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, TINY
from myhdl import ResetSignal, Signal, Simulation, StopSimulation, delay, instance

from codesign_kernel.cosim.verilated import lint
from codesign_kernel.design import Design
from codesign_kernel.errors import ConversionError, InvalidInputError, OutputError
from codesign_kernel.optimize.golden import requantise as golden_requantise
from codesign_kernel.rtl import RtlBundle, generate_rtl
from codesign_kernel.rtl.array import valid_line
from codesign_kernel.rtl.bits import signed, unsigned
from codesign_kernel.rtl.lanes import rectify, requantise

#: Each kind of array; converting one takes some seconds.
SHAPES = [
    "2x2",
    "2x2 os",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            *("4x2", "1x1", "2x8", "4x4 int4", "9x3", "3x6", "8x4", "2x4 int16"),
            *("4x2 os", "1x1 os", "2x8 os", "2x4 int16 os", "9x3 os"),
            *("3x6 from int4", "4x2 from int2", "3x3 int16 from int2 os", "4x4 int4 from int2 os"),
        )
    ),
]
ROOT = Path(__file__).parent.parent
GENERATE = sys.modules[RtlBundle.__module__]


def ghdl(*arguments: str, folder: Path) -> None:
    done = subprocess.run(["ghdl", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""


class TestTools:
    @pytest.mark.verilator
    @pytest.mark.parametrize("name", SHAPES)
    def test_verilator_has_no_complaint(self, name, tmp_path):
        bundle = generate_rtl(MACHINES[name])
        assert lint(bundle.files, bundle.top, tmp_path) == ""
        waivers = re.findall(
            r"lint_o\w+|verilator|translate_o\w+|pragma|synopsys", bundle.verilog + bundle.vhdl, re.IGNORECASE
        )
        assert not waivers

    @pytest.mark.verilator
    def test_the_lint_sees_what_is_wrong(self, tmp_path):
        bundle = generate_rtl(TINY["2x2"])
        text = bundle.files["codesign_memories.v"]
        assert "reg [17:0] waddr;" in text
        narrow = text.replace("reg [17:0] waddr;", "reg [16:0] waddr;")
        assert "%Warning-WIDTH" in lint({**bundle.files, "codesign_memories.v": narrow}, bundle.top, tmp_path)
        broken = text.replace("endmodule", "")
        assert "%Error" in lint({**bundle.files, "codesign_memories.v": broken}, bundle.top, tmp_path)

    @pytest.mark.ghdl
    @pytest.mark.parametrize("name", SHAPES)
    def test_ghdl_analyses_and_elaborates(self, name, tmp_path):
        bundle = generate_rtl(MACHINES[name])
        bundle.write(tmp_path)
        (package,) = tmp_path.glob("pck_*.vhd")
        ghdl("-a", "--std=08", package.name, f"{bundle.top}.vhd", folder=tmp_path)
        ghdl("-e", "--std=08", bundle.top, folder=tmp_path)
        # elaboration of the hierarchy itself, up to the start of a simulation
        ghdl("-r", "--std=08", bundle.top, "--no-run", folder=tmp_path)


class TestText:
    @pytest.mark.slow
    def test_is_the_same_on_every_run(self, tmp_path):
        """In this process once more, and in others with other hash seeds and folders: the same bytes."""
        a = TINY["2x2"]
        digest = generate_rtl(a).digest
        assert GENERATE._convert.__wrapped__(a).digest == digest
        program = (
            "import json, sys; from codesign_kernel.accelerator import Accelerator; "
            "from codesign_kernel.rtl import generate_rtl; "
            "print(generate_rtl(Accelerator(**json.load(sys.stdin))).digest)"
        )
        for seed in ("1", "20260"):
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
            environment["CODESIGN_CACHE_DIR"] = str(tmp_path / seed)
            done = subprocess.run(
                [sys.executable, "-c", program], input=json.dumps(asdict(a)), cwd=tmp_path, env=environment,
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert done.stdout.strip() == digest

    @pytest.mark.slow
    def test_clock_node_and_name_do_not_show(self):
        """Half the clock at half the bandwidth: as many bits a cycle."""
        a = TINY["2x2"]
        other = replace(a, frequency_mhz=a.frequency_mhz / 2, bandwidth_gb_s=a.bandwidth_gb_s / 2, node_nm=16, name="x")
        other = replace(other, memory_latency=9)
        assert other.digest != a.digest
        first, second = generate_rtl(a), generate_rtl(other)
        assert first is not second
        assert first.files == second.files
        assert first.digest == second.digest

    def test_says_what_it_is(self):
        """Ports have the widths of the accelerator, every file ends in a newline, nothing tells when it was made."""
        a = TINY["2x2"]
        bundle = generate_rtl(Design(a))
        assert bundle is generate_rtl(a)
        assert bundle.top == "codesign_core"
        others = [name for name in bundle.files if not name.endswith(".v")]
        assert sorted(others) == ["codesign_core.vhd", "pck_myhdl_011.vhd"]
        assert a.bus_bits == 16
        for port in (r"output \[15:0\] ext_wdata\b", r"input \[15:0\] ext_rdata\b", r"input \[223:0\] prog_data\b"):
            assert len(re.findall(port, bundle.files["codesign_core.v"])) == 1
        for text in bundle.files.values():
            assert not re.search(r"20\d\d-\d\d-\d\d|/home|/tmp|\bDate\b", text)
        assert bundle.lines == {name: len(text.splitlines()) for name, text in bundle.files.items()}
        assert bundle.digest[:12] in repr(bundle)
        assert replace(bundle, files={**bundle.files, "x": ""}).digest != bundle.digest

    def test_a_bundle_cannot_be_changed(self):
        bundle = RtlBundle(TINY["2x2"], "top", {"top.v": "module"})
        with pytest.raises(TypeError):
            bundle.files["top.v"] = "other"


class TestWrite:
    BUNDLE = RtlBundle(TINY["2x2"], "top", {"top.v": "module top;\n", "top.vhd": "entity top\n"})

    def test_files_are_whole_and_alone(self, tmp_path):
        folder = tmp_path / "a" / "b"
        for _ in range(2):
            written = self.BUNDLE.write(folder)
            assert {path.name: path.read_text() for path in written} == dict(self.BUNDLE.files)
            assert sorted(folder.iterdir()) == sorted(written)

    @pytest.mark.parametrize("below", ["", "deeper"])
    def test_a_folder_that_is_a_file_is_refused(self, below, tmp_path):
        file = tmp_path / "file"
        file.write_text("mine")
        with pytest.raises(OutputError, match=r"results go into a folder, but .*file.* is not one; choose another"):
            self.BUNDLE.write(file / below)
        assert file.read_text() == "mine"


class TestCache:
    """Conversions are counted; their result is a stand-in."""

    @pytest.fixture
    def converted(self, monkeypatch, tmp_path):
        """The accelerators that were converted."""
        found = []

        def convert(accelerator, top):
            found.append(accelerator)
            return RtlBundle(accelerator, "top", {"top.v": "module é;\n", "a.vhd": "entity\n"})

        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.setattr(GENERATE, "_convert", convert)
        GENERATE._kept.cache_clear()
        yield found
        GENERATE._kept.cache_clear()

    def again(self, accelerator):
        """As another process would get it."""
        GENERATE._kept.cache_clear()
        return generate_rtl(accelerator)

    def test_an_accelerator_is_converted_once(self, converted, monkeypatch):
        a, b = TINY["2x2"], TINY["4x2"]
        first, second = self.again(a), self.again(a)
        assert converted == [a]
        assert (first, first.digest) == (second, second.digest)
        assert (second.top, dict(second.files)) == ("top", {"top.v": "module é;\n", "a.vhd": "entity\n"})
        assert self.again(b).accelerator == b
        assert converted == [a, b]
        monkeypatch.setattr(GENERATE, "_converter", lambda: "other sources")
        assert self.again(a).accelerator == a
        assert converted == [a, b, a]

    def test_sources_and_versions_decide(self):
        words = GENERATE._converter()
        for told in ("def systolic(", "def cycles(", "def generate_rtl(", sys.version.splitlines()[0]):
            assert json.dumps(told)[1:-1] in words

    def test_without_a_place_to_keep_it_it_is_converted(self, converted, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("CODESIGN_CACHE_DIR", str(tmp_path / "file" / "below"))
        assert self.again(TINY["2x2"]).top == "top"
        assert self.again(TINY["2x2"]).top == "top"
        assert len(converted) == 2


class TestRefusals:
    @pytest.mark.parametrize("what", [None, "4x4", {"rows": 4}])
    def test_other_things_are_no_accelerator(self, what):
        with pytest.raises(
            InvalidInputError, match=f"an Accelerator or a Design of one, but got {type(what).__name__}"
        ):
            generate_rtl(what)

    def test_a_failing_conversion_is_told(self, monkeypatch):
        monkeypatch.setattr(GENERATE.sys, "executable", "/bin/false")
        with pytest.raises(ConversionError, match=r"could not convert 2x2 ws int8.*: exit status 1"):
            GENERATE._convert.__wrapped__(TINY["2x2"])

    def test_a_conversion_without_end_is_told(self, monkeypatch):
        monkeypatch.setattr(GENERATE, "TIMEOUT_S", 0.01)
        with pytest.raises(ConversionError, match=r"at most 0\.01 s, but 2x2 ws int8.* took longer"):
            GENERATE._convert.__wrapped__(TINY["2x2"])


def ticks(clk, *steps):
    """Run ``steps`` (functions), each before a clock edge."""

    @instance
    def drive():
        for step in steps:
            step()
            yield delay(1)
            clk.next = 1
            yield delay(1)
            clk.next = 0
            yield delay(1)
        raise StopSimulation

    return drive


class TestArithmetic:
    @pytest.mark.parametrize("bits", [4, 8, 16])
    def test_requantising_is_the_golden_model_s(self, bits):
        """Every shift, both ends of every operand, halves that round up, and random values between."""
        rng = np.random.default_rng(bits)
        cases = []
        acc = 48 if bits == 16 else 32
        for shift in range(1, acc + 16):
            for multiplier in (1, 2, 65535, int(rng.integers(1, 65536))):
                near = (1 << (shift - 1)) // multiplier
                ends = [
                    -(1 << acc - 1) + 1,
                    (1 << acc - 1) - 1,
                    int(rng.normal(0, 1e6)),
                    int(rng.normal(0, 40 * near + 1)),
                ]
                for total in (0, -1, 1, near, -near, near + 1, 1 - near, *ends):
                    bias = int(rng.integers(-(1 << 20), 1 << 20))
                    if max(abs(total), abs(total - bias)) < 1 << acc - 1:
                        cases.append((total - bias, bias, multiplier, shift))
        clk, x, bias, q = Signal(bool(0)), Signal(signed(acc)), Signal(signed(acc)), Signal(signed(bits))
        multiplier, shift, u, relu = Signal(unsigned(16)), Signal(unsigned(8)), Signal(unsigned(bits)), Signal(bool(0))
        got = []

        def put(case):
            def step():
                x.next, bias.next, multiplier.next, shift.next = case[0], case[1], case[2], case[3] - 1

            return step

        def take():
            got.append((int(q.val), int(u.val)))

        # the shift is constant while a tile is stored: hold every case for the three stages
        steps = [step for case in cases for step in (put(case), lambda: None, lambda: None, take)]
        blocks = requantise(clk, x, bias, multiplier, shift, q), rectify(q, relu, u)
        Simulation(*blocks, ticks(clk, *steps)).run(quiet=1)
        columns = np.array(cases, dtype=np.int64).T
        want = golden_requantise(columns[0] + columns[1], columns[2], columns[3], bits)
        assert [q for q, _ in got] == want.tolist()
        assert [u for _, u in got] == [int(v) % (1 << bits) for v in want]
        assert len(cases) > 1500
        assert len(set(want.tolist())) > min(1 << bits, 512) / 4

    @pytest.mark.parametrize("cycles", [1, 2, 5])
    def test_a_valid_line_delays(self, cycles):
        clk, d, q = (Signal(bool(0)) for _ in range(3))
        rst = ResetSignal(0, active=1, isasync=False)
        given = [1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1]
        got = []

        def step(value):
            def put():
                got.append(int(q.val))
                d.next = value

            return put

        Simulation(valid_line(clk, rst, d, q, cycles), ticks(clk, *map(step, given))).run(quiet=1)
        assert got[cycles:] == given[: len(given) - cycles]
        assert got[:cycles] == [0] * cycles
