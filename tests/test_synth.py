"""`codesign synth`: every module counts as often as it is there, yosys reads it as it runs, nothing outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, pair, random_inputs

from codesign_kernel import cli
from codesign_kernel.cli import parser
from codesign_kernel.cosim import check, find_simulator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InvalidInputError, SynthesisError
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session import synth
from codesign_kernel.session.synth import Synthesis, synthesise
from codesign_kernel.session.watched import run_watched
from codesign_kernel.session.worst_slack import MISSING

ROOT = Path(__file__).parent.parent
CELLS = Path(__file__).parent / "cells.lib"
AREAS = {"INV": 1, "NAND": 2, "BUF": 2, "DFF": 8}
A = MACHINES["2x2"]


@pytest.fixture(scope="module")
def result() -> Synthesis:
    if importlib.util.find_spec("pyosys") is None:
        pytest.skip("pyosys is not installed")
    return synthesise(A, liberty=[CELLS])


@pytest.mark.yosys
def test_counts_add_up(result: Synthesis):
    assert result.liberty == ("cells.lib",)
    assert set(result.cells) <= set(AREAS)
    for block in result.blocks:
        assert block.area_um2 == pytest.approx(sum(AREAS[cell] * n for cell, n in block.cells.items()))
        assert block.parts["flip-flops"] == block.cells.get("DFF", 0)
    # yosys' own sums over the tree of modules
    own = json.loads(result.files["stat.json"])["design"]
    assert result.area_um2 == pytest.approx(own["area"])
    assert result.cells == {cell: own["num_cells_by_type"].get(cell) for cell in result.cells}
    assert result.parts == {"flip-flops": result.cells["DFF"]}


@pytest.mark.yosys
def test_blocks_and_memories_are_those_of_the_design(result: Synthesis):
    instances = {block.name: block.instances for block in result.blocks}
    elements = [instances[f"pe_{name}"] for name in ("top", "top_right", "bottom", "bottom_right")]
    assert elements == [1, 1, 1, 1]
    assert instances["requantise"] == A.cols
    assert instances["ram"] == len(result.memories)
    assert {memory.name for memory in result.memories} == {
        "memories0.ram0", "memories0.activation_memory0.ram0", "memories0.ram1", "ram0",
    }  # fmt: skip
    assert sorted(memory.words * memory.word_bit for memory in result.memories) == sorted(
        memory.depth * memory.word_bit for memory in A.memories
    )
    assert result.area_um2 == sum(block.area_um2 or 0 for block in result.blocks)
    assert result.blocks[0].area_um2 == max(block.area_um2 or 0 for block in result.blocks)


@pytest.mark.yosys
@pytest.mark.slow
def test_every_run_is_alike(result: Synthesis):
    assert synthesise(A, liberty=[CELLS]).files["netlist.v"] == result.files["netlist.v"]


@pytest.mark.yosys
@pytest.mark.sta
def test_fmax(result: Synthesis):
    # every cell takes 0.1 ns, and so does the setup: the deepest logic between registers is some dozens of cells
    assert result.fmax_mhz is not None
    levels = 1e4 / result.fmax_mhz - 2
    assert levels == pytest.approx(round(levels), abs=0.01)
    assert 10 < levels < 150


@pytest.mark.yosys
def test_without_opensta_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synth, "fmax", lambda *arguments: (None, MISSING))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    from codesign_kernel.session.worst_slack import fmax

    assert fmax(Path(), "top", ["cells.lib"]) == (None, MISSING)


@pytest.mark.slow
@pytest.mark.yosys
@pytest.mark.verilator
@pytest.mark.parametrize("name", ["2x2", "8x4"])
def test_what_yosys_reads_is_the_same_hardware(name: str, tmp_path: Path, builds: Path):
    """The RTL as yosys has it before gates are chosen, simulated: equal bits, equal cycles."""
    accelerator = MACHINES[name]
    bundle = generate_rtl(accelerator)
    (tmp_path / "core.v").write_text(bundle.verilog)
    job = {"top": bundle.top, "target": "generic", "liberty": [], "period_ps": 0}
    script = (
        "import json, sys\nfrom codesign_kernel.session.yosys import Worker\n"
        f"worker = Worker({job!r}, lambda step: None)\nworker.blocks()\n"
        "worker.run('write_verilog -noattr shared.v')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    # what yosys writes is not written for linters
    shared = (
        "/* verilator lint_off WIDTH */ /* verilator lint_off CASEOVERLAP */\n" + (tmp_path / "shared.v").read_text()
    )
    assert len(re.findall(r"^module codesign_requantise\b", shared, re.MULTILINE)) == 1
    assert "$paramod" not in shared
    again = bundle.with_verilog(shared)
    network = pair()
    cost = evaluate(network, accelerator)
    report = check(
        again, network, random_inputs(np.random.default_rng(0), network, 2), find_simulator("verilator"),
        cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle,
    )  # fmt: skip
    assert report.passed
    assert report.vectors == 2


@pytest.mark.yosys
@pytest.mark.slow
@pytest.mark.parametrize(("target", "ram"), [("ice40", "SB_RAM40"), ("ecp5", "DP16KD"), ("xilinx", "RAMB")])
def test_fpga(target: str, ram: str):
    found = synthesise(A, target=target)
    assert found.area_um2 is None
    assert found.fmax_mhz is None
    assert found.parts["LUT"] > 500
    assert found.parts["flip-flops"] > 500
    assert any(cell.startswith(ram) for cell in found.cells)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InvalidInputError, match="generic, ice40, ecp5, xilinx, but got 'asic'"):
        synthesise(A, target="asic")
    with pytest.raises(InvalidInputError, match="for the target generic, but the target is ice40"):
        synthesise(A, target="ice40", liberty=[CELLS])
    with pytest.raises(InvalidInputError, match=r"none\.lib cannot be read: No such file"):
        synthesise(A, liberty=[tmp_path / "none.lib"])
    with pytest.raises(InvalidInputError, match=r"library\(name\), but .* does not"):
        synthesise(A, liberty=[Path(__file__)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SynthesisError, match=r"pyosys is not installed; pip install .*\[synth\]"):
        synthesise(A)


@pytest.mark.yosys
def test_what_yosys_complains_of_is_told(tmp_path: Path):
    broken = tmp_path / "broken.lib"
    broken.write_text("library(broken) { cell(INV) { area : ")
    with pytest.raises(SynthesisError, match=r"yosys could not synthesise the design: .+"):
        synthesise(A, liberty=[broken])


@pytest.mark.yosys
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    design = tmp_path / "design.json"
    fields = ("rows", "cols", "activation_kib", "weight_kib", "accumulator_kib", "instruction_kib")
    design.write_text(json.dumps({field: getattr(A, field) for field in fields}))
    out = tmp_path / "deep" / "out"
    assert cli.main(["synth", "--design", str(design), "--out", str(out)]) == 0
    text, progress = capsys.readouterr()
    assert "pe_bottom_right" in text
    assert "nothing is optimised across blocks" in text
    assert "µm²" not in text
    assert "yosys: " in progress
    assert {path.name for path in out.iterdir()} == {"netlist.v", "stat.json", "yosys.log", "synthesis.json"}
    report = json.loads((out / "synthesis.json").read_text())
    assert report["area_um2"] is None
    assert report["cells"] == sum(block["total_cells"] for block in report["blocks"])


def started_in(folder: Path) -> list[int]:
    """Processes whose command line or working folder is below ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (path / "cmdline").read_text() or str(folder) in os.readlink(path / "cwd"):
                found.append(int(path.name))
        except OSError:
            continue
    return found


@pytest.mark.yosys
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_outlives_an_interrupt_or_a_kill(sent: signal.Signals, status: int, tmp_path: Path):
    command = [sys.executable, "-m", "codesign_kernel.cli", "synth", "--rows", "16", "--cols", "16"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    assert any("yosys: " in line for line in process.stderr)
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == status
    deadline = time.monotonic() + 30
    while started_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not started_in(tmp_path)
    if sent is signal.SIGINT:
        assert not list(tmp_path.iterdir())


def test_a_program_that_says_nothing_is_heard_of(tmp_path: Path):
    heard: list[str | None] = []
    command = [sys.executable, "-c", "import sys, time; time.sleep(1.5); print('a'); print('b', file=sys.stderr)"]
    assert run_watched(command, tmp_path, heard.append) == (0, "b\n")
    assert heard[-1] == "a"
    assert None in heard


def test_what_a_program_has_started_ends_with_it(tmp_path: Path):
    child = f"import time, os; os.chdir({str(tmp_path)!r}); time.sleep(60)"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.DEVNULL)"
    status, _ = run_watched([sys.executable, "-c", script], tmp_path, lambda line: None)
    assert status == 0
    deadline = time.monotonic() + 10
    while started_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not started_in(tmp_path)


def test_the_parser_offers_every_target():
    assert parser.TARGETS == synth.TARGETS
