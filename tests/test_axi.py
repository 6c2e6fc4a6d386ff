"""The accelerator over its AXI ports: bits and cycles of the model, the laws of the bus, and what a host sees.

cocotb runs in the simulator's process; what it does there is in axi_runs.py.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from cases import MACHINES, TINY, machine, pair, random_inputs

from codesign_kernel.accelerator.isa import Instruction, Op, cycles
from codesign_kernel.lower import lower
from codesign_kernel.rtl import RtlBundle, generate_rtl
from codesign_kernel.rtl.axi_lite import format_of, shape_of
from codesign_kernel.rtl.axi_master import READ_CYCLES, WRITE_CYCLES

#: A word of the external memory: 2 bytes, so that 256 beats are an eighth of 4 KiB; and 32 bytes, of which 128 are.
NARROW = replace(TINY["2x2"], activation_kib=2)
WIDE = machine(1, 32, 32, 4, 1, bandwidth_gb_s=6.4, dataflow="os")
BASE = 0x1_2345_6040
DECLARATION = re.compile(r"^(input|output) (\[\d+:0\] )?(\w+);", re.MULTILINE)


def bench(bundle: RtlBundle) -> str:
    """The accelerator with identifiers on the bus, which cocotb's memory has and the accelerator has not."""
    ports = [(way, width, name) for way, width, name in DECLARATION.findall(bundle.verilog)]
    declared = [f"  {way} {width}{name}" for way, width, name in ports]
    declared += [f"  output m_axi_{name}" for name in ("awid", "arid")]
    declared += [f"  input m_axi_{name}" for name in ("bid", "rid")]
    body = ", ".join(f".{name}({name})" for _, _, name in ports)
    return (
        "`timescale 1ns/1ps\nmodule bench(\n" + ",\n".join(declared) + ");\n"
        f"  assign m_axi_awid = 0;\n  assign m_axi_arid = 0;\n  {bundle.top} dut({body});\nendmodule\n"
    )


@pytest.fixture(scope="module")
def simulate(tmp_path_factory):
    """``simulate(accelerator, run, case)``: a function of axi_runs.py in Icarus."""
    if find_spec("cocotb") is None or find_spec("cocotbext") is None:
        pytest.skip("could not import cocotbext.axi: pip install cocotb cocotbext-axi")
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    built = {}

    def run(accelerator, testcase: str, case: dict) -> None:
        if accelerator.digest not in built:
            runner = get_runner("icarus")
            folder = tmp_path_factory.mktemp("axi")
            bundle = generate_rtl(accelerator, top="axi")
            bundle.write(folder)
            (folder / "bench.v").write_text(bench(bundle))
            sources = [folder / "bench.v", *sorted(folder.glob("codesign*.v"))]
            runner.build(
                sources=sources, hdl_toplevel="bench", build_dir=folder, log_file=folder / "build.log", always=True
            )
            built[accelerator.digest] = folder, runner
        folder, runner = built[accelerator.digest]
        (folder / "case").write_bytes(pickle.dumps(case))
        log = folder / f"{testcase}.log"
        results = runner.test(
            test_module="axi_runs", hdl_toplevel="bench", testcase=testcase, build_dir=folder, test_dir=folder,
            results_xml=str(folder / f"{testcase}.xml"), log_file=log, timescale=("1ns", "1ps"),
            extra_env={"AXI_CASE": str(folder / "case"), "COCOTB_ANSI_OUTPUT": "0"},
        )  # fmt: skip
        assert get_results(results) == (1, 0), log.read_text()[-4000:]

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
    for latency in (1, 2, 40):
        slow = lower(pair(), replace(accelerator, memory_latency=READ_CYCLES + latency))
        laws[latency] = sum(slow.cycles_of(i) for i in slow.boot), slow.cycles
    return {
        "base": BASE, "words": [*program.words, wipe.encode(), Instruction(Op.HALT).encode()],
        "wipe": len(program.words), "entry": program.entry, "memory": memory.tobytes(),
        "boot_cycles": sum(program.cycles_of(i) for i in program.boot), "cycles": program.cycles, "laws": laws,
        "inputs": [row.tobytes() for row in program.pack(x)], "input_at": program.bytes_of(program.maps[-1]).start,
        "outputs": [row.tobytes() for row in program.pack(golden.reshape(*golden.shape[:2], 1, 1))],
        "output_at": program.bytes_of(place).start,
    }  # fmt: skip


def copy_case(accelerator) -> dict:
    """Programs that load words and save them elsewhere: around the ends of bursts, in one word and in many."""
    size = accelerator.bus_bits // 8
    longest = min(256, 4096 // size)
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


@pytest.mark.icarus
class TestNetwork:
    @pytest.mark.parametrize("name", ["2x2", "4x2", "2x2 os"])
    @pytest.mark.parametrize("run", ["network_at_its_pace", "network_under_pressure", "network_under_heavy_pressure"])
    def test_bits_and_cycles(self, simulate, name, run):
        assert READ_CYCLES == WRITE_CYCLES  # one latency of the model stands for both
        simulate(MACHINES[name], run, network_case(MACHINES[name]))


@pytest.mark.icarus
class TestBus:
    @pytest.mark.parametrize("name", ["narrow", "wide"])
    def test_every_burst_at_every_limit(self, simulate, name):
        accelerator = {"narrow": NARROW, "wide": WIDE}[name]
        simulate(accelerator, "copies", copy_case(accelerator))

    @pytest.mark.parametrize("run", ["errors_are_reported", "reset_ends_a_run", "registers_keep_their_laws"])
    def test_what_a_host_sees(self, simulate, run):
        simulate(NARROW, run, copy_case(NARROW))
