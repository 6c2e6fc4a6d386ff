"""`codesign synth`: equal blocks become one module and stay the same hardware, counts add up, nothing outlives it."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import MACHINES, builds, pair, random_inputs

from codesign_kernel import cli
from codesign_kernel.cli import parser
from codesign_kernel.cosim import check, find_simulator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InvalidInputError, SynthesisError
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.session import synth
from codesign_kernel.session.netlist import block_by_line, block_of, kind_of, share
from codesign_kernel.session.synth import Synthesis, synthesise
from codesign_kernel.session.watched import run_watched
from codesign_kernel.session.worst_slack import MISSING

__all__ = ["builds"]  # a fixture for the whole session

ROOT = Path(__file__).parent.parent
CELLS = Path(__file__).parent / "cells.lib"
AREAS = {"INV": 1, "NAND": 2, "BUF": 2, "DFF": 8}
A = MACHINES["2x2"]


def test_blocks_by_name():
    assert block_of("systolic0_pe12_compute") == "systolic0__pe12"
    assert block_of("systolic0_delay_line3_register10_move") == "systolic0__delay_line3"
    assert block_of("sequencer_os0_control") == "sequencer_os0"
    assert block_of("write_address") == block_of("ext_addr") == "core"
    assert kind_of("systolic0__delay_line3") == "systolic.delay_line"
    assert kind_of("core") == "core"
    verilog = """
assign lane0_bias = 1;
always @(posedge clk) begin: lane1_requantise10_scale
    if (a) begin
        b <= 1;
    end
end
assign sums = 1;
"""
    kinds = block_by_line(verilog)
    assert kinds == {2: "lane0", **dict.fromkeys(range(3, 8), "lane1__requantise10"), 8: "core"}


def element(names: list[str], start: int, wide: bool = False, kind: str = "$add") -> dict[str, Any]:
    """A module that adds and keeps; bits count from ``start``; ``wide``: a port of which one bit is used."""
    a, y, q, clock = (start + n for n in range(4))
    first, second, out, clk = names
    cells = {
        "sum": {
            "type": kind, "parameters": {"WIDTH": "1"}, "attributes": {"src": f"core.v:{start}.1-{start}.9"},
            "connections": {"A": [a], "B": [q], "Y": [y]},
        },
        "kept": {
            "type": "$dff", "parameters": {}, "attributes": {"src": f"core.v:{start + 1}.1-{start + 1}.9"},
            "connections": {"D": [y], "Q": [q], "CLK": [clock]},
        },
    }  # fmt: skip
    ports = {
        first: {"direction": "input", "bits": [start + 8, a] if wide else [a]},
        out: {"direction": "output", "bits": [q]},
        clk: {"direction": "input", "bits": [clock]},
    }
    if wide:
        ports[second] = {"direction": "input", "bits": [start + 9]}
    return {"attributes": {}, "ports": ports, "cells": dict(reversed(cells.items())) if wide else cells, "netnames": {}}


def instance(kind: str, module: dict[str, Any], start: int) -> dict[str, Any]:
    ports = module["ports"]
    return {
        "type": kind,
        "port_directions": {name: port["direction"] for name, port in ports.items()},
        "connections": {
            name: [start + 10 * index + n for n in range(len(port["bits"]))]
            for index, (name, port) in enumerate(ports.items())
        },
    }


def flat(**modules: dict[str, Any]) -> dict[str, Any]:
    cells = {name: instance(f"top_{name}", module, 100 * n) for n, (name, module) in enumerate(modules.items())}
    top = {"attributes": {}, "ports": {}, "cells": cells, "netnames": {}}
    return {"modules": {**{f"top_{name}": module for name, module in modules.items()}, "top": top}}


def test_equal_blocks_become_one_module():
    netlist = flat(a0__pe1=element(["x", "u", "z", "clk"], 10), a0__pe22=element(["q", "v", "b", "a"], 70, wide=True))
    shared = share(copy.deepcopy(netlist), "top")["modules"]
    assert set(shared) == {"top_a_pe", "top"}
    assert shared["top_a_pe"]["attributes"]["block"] == "a.pe"
    one, other = shared["top"]["cells"]["a0__pe1"], shared["top"]["cells"]["a0__pe22"]
    assert one["type"] == other["type"] == "top_a_pe"
    # its ports are named like the first one's, and the unused bits are gone
    assert one["connections"] == {"x": [0], "z": [10], "clk": [20]}
    assert other["connections"] == {"x": [101], "z": [110], "clk": [120]}
    assert other["port_directions"] == {"x": "input", "z": "output", "clk": "input"}


@pytest.mark.parametrize("change", ["type", "parameter", "connection", "direction"])
def test_blocks_that_differ_stay_apart(change):
    other = element(["x", "u", "z", "clk"], 40)
    if change == "type":
        other["cells"]["sum"]["type"] = "$sub"
    if change == "parameter":
        other["cells"]["sum"]["parameters"]["WIDTH"] = "2"
    if change == "connection":
        other["cells"]["sum"]["connections"]["B"] = other["cells"]["sum"]["connections"]["A"]
    if change == "direction":
        other["ports"]["z"]["direction"] = "inout"
    shared = share(flat(a0__pe1=element(["x", "u", "z", "clk"], 10), a0__pe2=other), "top")["modules"]
    assert set(shared) == {"top_a_pe", "top_a_pe_2", "top"}


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
    elements = [instances[f"systolic.{name}"] for name in ("pe", "pe_first", "pe_last", "pe_only")]
    assert elements == [1, 1, 1, 1]
    assert instances["lane.requantise"] == A.cols
    assert len(result.memories) == 4
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


@pytest.mark.yosys
@pytest.mark.verilator
@pytest.mark.parametrize("name", ["2x2", "8x4"])
def test_one_module_for_equal_blocks_is_the_same_hardware(name: str, tmp_path: Path, builds: Path):
    """The RTL as yosys has it after equal blocks became one, simulated: equal bits, equal cycles."""
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
    assert len(re.findall(r"^module .*requantise", shared, re.MULTILINE)) == 1
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
    assert "systolic.pe_only" in text
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
    command = [sys.executable, "-m", "codesign_kernel.cli", "synth", "--rows", "2", "--cols", "2"]
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
