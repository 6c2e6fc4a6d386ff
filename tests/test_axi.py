"""The accelerator over its AXI ports: bits and cycles of the model, the laws of the bus, and what a host sees.

cocotb runs in the simulator's process; what it does there is in axi_runs.py.
"""

from __future__ import annotations

import inspect
import pickle
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cases import MACHINES, TINY, pair, random_inputs
from myhdl import ResetSignal, Signal
from test_rtl import ghdl

from codesign_kernel.accelerator.isa import Instruction, Op, cycles
from codesign_kernel.cosim.verilated import lint
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.lower import lower
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.rtl.axi_lite import REGISTERS, format_of, shape_of
from codesign_kernel.rtl.axi_master import READ_CYCLES, WRITE_CYCLES, axi_master
from codesign_kernel.rtl.bits import unsigned

#: Room for the words of a load of several bursts.
NARROW = replace(TINY["2x2"], activation_kib=2)
#: Where the external memory lies: at no page, and beyond 4 GiB.
BASE = 0x1_2345_6080
#: The second has several beats a word, and banks of results.
WRAPPED = {"2x2": NARROW, "4x2": TINY["4x2"], "2x2 os": MACHINES["2x2 os"]}
BY_NAME = ["2x2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("4x2", "2x2 os"))]
MASTER_PORTS = tuple(inspect.signature(axi_master.func).parameters)
#: Widths of an address channel of AXI4, but for the address.
ADDRESS = {"len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3}
DECLARATION = re.compile(
    r"^ *(input|output) (?:reg |wire )?(\[\d+:0\] )?(\w+(?:,\s+(?!(?:input|output)\b)\w+)*)[;,]?$", re.M
)


def bench(verilog: str, top: str) -> str:
    """The accelerator with identifiers on the bus, which cocotb's memory has and the accelerator has not; or the
    master alone, with the names and the reset of the accelerator's ports."""
    alone = top == "axi_master"
    ours = {"clk": "aclk", "rst": "aresetn"}
    declared, joined = [], []
    ports = [
        (way, width, name) for way, width, names in DECLARATION.findall(verilog) for name in re.findall(r"\w+", names)
    ]
    for way, width, name in ports:
        outer = ours.get(
            name, f"m_axi_{name}" if re.match(r"(a[wr]|[wrb](data|strb|last|resp|valid|ready)$)", name) else name
        )
        outer = outer if alone else name
        declared.append(f"  {way} {width}{outer}")
        joined.append(f".{name}({'~' if name == 'rst' else ''}{outer})")
    if not alone:
        declared += [f"  output m_axi_{name}" for name in ("awid", "arid")]
        declared += [f"  input m_axi_{name}" for name in ("bid", "rid")]
    identifiers = "" if alone else "  assign m_axi_awid = 0;\n  assign m_axi_arid = 0;\n"
    return (
        "`timescale 1ns/1ps\nmodule bench(\n" + ",\n".join(declared) + ");\n" + identifiers
        + f"  {top} dut({', '.join(joined)});\nendmodule\n"
    )  # fmt: skip


def accelerator_sources(accelerator, folder: Path) -> str:
    """The Verilog of ``accelerator`` goes to ``folder``; returns the bench."""
    bundle = generate_rtl(accelerator, top="axi")
    bundle.write(folder)
    return bench(bundle.files[f"{bundle.top}.v"], bundle.top)


def master_sources(bits: int, folder: Path) -> str:
    """That of the master of a bus of ``bits``."""
    widths = {
        "base": 64, "word": 32, "beats": 32, "data": bits, "answer": bits, "rdata": bits, "wdata": bits,
        "wstrb": bits // 8, "rresp": 2, "bresp": 2,
        **{f"{way}{name}": width for way in ("aw", "ar") for name, width in {"addr": 64, **ADDRESS}.items()},
    }  # fmt: skip
    ports = {name: Signal(unsigned(widths[name]) if name in widths else bool(0)) for name in MASTER_PORTS}
    ports["rst"] = ResetSignal(0, active=1, isasync=False)
    axi_master(**ports).convert(hdl="Verilog", path=str(folder), name="axi_master", testbench=False)
    return bench((folder / "axi_master.v").read_text(), "axi_master")


@pytest.fixture(scope="module")
def simulate(tmp_path_factory):
    """``simulate(sources, what, run, case)``: the cocotb test ``run`` on ``sources(what, folder)`` in Icarus."""
    if find_spec("cocotb") is None or find_spec("cocotbext") is None:
        pytest.skip("could not import cocotbext.axi: pip install cocotb cocotbext-axi")
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    built = {}

    def run(sources, what, test: str, case: dict) -> None:
        if (sources, what) not in built:
            runner, folder = get_runner("icarus"), tmp_path_factory.mktemp("axi")
            (folder / "bench.v").write_text(sources(what, folder))
            runner.build(sources=sorted(folder.glob("*.v")), hdl_toplevel="bench", build_dir=folder, always=True)
            built[sources, what] = runner, folder
        runner, folder = built[sources, what]
        (folder / "case").write_bytes(pickle.dumps(case))
        module, _, function = test.partition(".")
        log = folder / f"{function}.log"
        try:
            results = runner.test(
                test_module=module, hdl_toplevel="bench", testcase=function, build_dir=folder, test_dir=folder,
                results_xml=str(folder / f"{function}.xml"), log_file=log, timescale=("1ns", "1ps"),
                extra_env={"AXI_CASE": str(folder / "case"), "COCOTB_ANSI_OUTPUT": "0"},
            )  # fmt: skip
        except SystemExit:
            pytest.fail(log.read_text()[-4000:])
        assert get_results(results) == (1, 0)

    return run


def network_case(accelerator) -> dict:
    """Two inferences of a small network, and what they should give and take."""
    program = lower(pair(), accelerator)
    x = random_inputs(np.random.default_rng(3), program.network, 2)
    place = program.maps[len(program.network.layers) - 1]
    golden = program.network.predict(x)
    memory = np.zeros(program.memory_bytes, np.uint8)
    memory[: len(program.parameters)] = program.parameters
    depth = accelerator.memory("activation").depth
    wipe = Instruction(Op.LOADA, {"addr": 0, "ext": len(memory) * 8 // accelerator.bus_bits, "count": depth})
    memory = np.concatenate([memory, np.zeros(depth * accelerator.word_bits // 8, np.uint8)])
    laws = {}
    for latency in (2, 40):
        slow = lower(pair(), replace(accelerator, memory_latency=READ_CYCLES + latency))
        laws[latency] = sum(slow.cycles_of(i) for i in slow.boot), slow.cycles
    return {
        "base": BASE, "words": [*program.words, wipe.encode(), Instruction(Op.HALT).encode()],
        "wipe": len(program.words), "entry": program.entry, "memory": memory.tobytes(),
        "boot_cycles": sum(program.cycles_of(i) for i in program.boot), "cycles": program.cycles, "laws": laws,
        "inputs": [row.tobytes() for row in program.pack(x)], "input_at": program.bytes_of(program.maps[-1]).start,
        "outputs": [row.tobytes() for row in program.bytes_at(place, golden.reshape(*golden.shape[:2], 1, 1))],
        "output_at": program.bytes_of(place).start,
    }  # fmt: skip


def copy_case(accelerator) -> dict:
    """Programs that load words and save them elsewhere: around the ends of bursts, in one word and in many."""
    size, longest = accelerator.bus_bits // 8, 256
    assert accelerator.activation_beats == 1
    room = 3 * longest + 700
    memory = np.random.default_rng(0).integers(0, 256, 2 * room * size, dtype=np.uint8)
    words, copies = [], []
    for source, target, beats, latency in (
        (0, 0, 2, 1), (0, 0, 1, 2), (longest - 1, longest - 1, 1, 1), (longest - 1, 1, 2, 3), (0, 0, longest, 1),
        (1, longest - 2, longest + 1, 1), (5, 0, 2 * longest, 7), (longest - 3, longest // 2, 2 * longest + 50, 20),
    ):  # fmt: skip
        # offsets are from where a burst can begin
        first = -(BASE // size) % longest
        places = {"source": first + source, "target": room + (first - room) % longest + target}
        copies.append({**places, "beats": beats, "latency": latency, "entry": len(words)})
        for op, place in ((Op.LOADA, "source"), (Op.SAVE, "target")):
            words.append(Instruction(op, {"addr": 0, "ext": places[place], "count": beats}).encode())
        words.append(Instruction(Op.HALT).encode())
        move = cycles(Op.LOADA, count=beats, latency=READ_CYCLES + latency)
        copies[-1]["cycles"] = move + cycles(Op.SAVE, count=beats, latency=WRITE_CYCLES + latency) + cycles(Op.HALT)
    return {
        "base": BASE, "words": [*words, 15], "illegal": len(words), "memory": memory.tobytes(), "copies": copies,
        "shape": shape_of(accelerator), "format": format_of(accelerator),
        "registers_cycles": copies[0]["cycles"] + 2 * (40 - copies[0]["latency"]),
    }  # fmt: skip


def transfer_case(bits: int) -> dict:
    """Lengths and places around the ends of bursts and pages, and any; a bus that waits, and one that does not."""
    size, rng = bits // 8, np.random.default_rng(bits)
    longest = min(256, 4096 // size)
    first = -(BASE // size) % longest  # a burst can begin here
    ends = [(first, 1), (first, longest), (first + longest - 1, 1), (first + longest - 1, 2), (first + 1, longest)]
    ends += [(first, longest + 1), (first, 2 * longest), (first + 5, 2 * longest + 20)]
    drawn = [(int(rng.integers(longest)), int(rng.integers(1, longest))) for _ in range(4)]
    paces = [(int(n), 0.0) for n in rng.permutation([1, 1, 1, 1, 2, 3, 7, 30])]
    return {
        "base": BASE, "words": 5 * longest + 20, "read_cycles": READ_CYCLES, "write_cycles": WRITE_CYCLES,
        "transfers": [(*place, *pace) for place, pace in zip(ends, paces, strict=True)]
        + [(*place, latency, pauses) for place in drawn for latency, pauses in ((1, 0.3), (4, 0.8))],
    }  # fmt: skip


@pytest.mark.icarus
class TestNetwork:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", BY_NAME)
    @pytest.mark.parametrize("run", ["network_at_its_pace", "network_under_pressure", "network_under_heavy_pressure"])
    def test_bits_and_cycles(self, simulate, name, run):
        assert READ_CYCLES == WRITE_CYCLES  # one latency of the model stands for both
        simulate(accelerator_sources, WRAPPED[name], f"axi_runs.{run}", network_case(WRAPPED[name]))


@pytest.mark.icarus
class TestBus:
    @pytest.mark.slow
    @pytest.mark.parametrize("bits", [8, 64, 256, 1024])
    def test_every_burst_at_every_limit(self, simulate, bits):
        simulate(master_sources, bits, "axi_transfers.transfers", transfer_case(bits))

    @pytest.mark.parametrize("run", ["copies", "errors_are_reported", "reset_ends_a_run", "registers_keep_their_laws"])
    def test_what_a_host_sees(self, simulate, run):
        simulate(accelerator_sources, NARROW, f"axi_runs.{run}", copy_case(NARROW))


class TestTools:
    @pytest.mark.verilator
    @pytest.mark.parametrize("name", BY_NAME)
    def test_verilator_has_no_complaint(self, name, tmp_path):
        bundle = generate_rtl(WRAPPED[name], top="axi")
        assert lint(bundle.files, bundle.top, tmp_path) == ""

    @pytest.mark.ghdl
    @pytest.mark.parametrize("name", BY_NAME)
    def test_ghdl_analyses_and_elaborates(self, name, tmp_path):
        bundle = generate_rtl(WRAPPED[name], top="axi")
        bundle.write(tmp_path)
        (package,) = tmp_path.glob("pck_*.vhd")
        ghdl("-a", "--std=08", package.name, f"{bundle.top}.vhd", folder=tmp_path)
        ghdl("-r", "--std=08", bundle.top, "--no-run", folder=tmp_path)

    def test_an_unknown_top_is_refused(self):
        with pytest.raises(InvalidInputError, match="top is one of 'core', 'axi', but got 'ahb'"):
            generate_rtl(NARROW, top="ahb")
        assert generate_rtl(NARROW, top="axi").top == "codesign_axi"


def test_the_document_names_every_register():
    """docs/axi.md has each register at its address."""
    text = (Path(__file__).parents[1] / "docs" / "axi.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| 0x([0-9A-F]{2}) \| `(\w+)` \|", text, re.MULTILINE))
    assert {name: int(at, 16) for at, name in rows.items()} == REGISTERS
    assert f"{READ_CYCLES} + n" in text
