"""Cycles a second of the simulators, on the same generated 8x8 accelerator and the same program.

The rate is taken between the ends of the first inferences and the last, so that it is that of simulating alone. Told
apart is how long the first result takes, all that has to be built first included. That begins with an empty cache;
Verilator's library and Icarus' VPI module are kept for the next time.

Beside them stands cocotb, the usual way to drive RTL from Python: the same core in Icarus, its ports driven by the few
lines of cocotb_core.py.

A simulator that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import codesign_kernel as ck
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.cosim.simulators import SIMULATORS, simulator_named
from codesign_kernel.lower import lower
from codesign_kernel.optimize import DigitsCNN
from codesign_kernel.units import quantity

#: Inputs of the run whose rate is taken: seconds of work for each simulator.
INPUTS = {"verilator": 2050, "icarus": 5, "myhdl": 3, "ghdl": 2, "cocotb": 4}
REFERENCE = "myhdl"
ACCELERATOR = ck.Accelerator.systolic(8, 8)


def network() -> ck.IntegerNetwork:
    """The digits CNN with random weights: cycles do not depend on the data."""
    torch.manual_seed(0)
    return ck.quantize(DigitsCNN().eval(), torch.rand(64, 1, 8, 8))


def run(simulator: str, net: ck.IntegerNetwork, inputs: int) -> tuple[ck.CosimReport, list[tuple[int, float]]]:
    """Co-simulate, check every bit and every cycle, and note the seconds after which so many inputs were done."""
    x = np.random.default_rng(0).random((inputs, *net.input_shape), dtype=np.float32)
    ends = []
    start = time.perf_counter()

    def progress(done: int, total: int, message: str) -> None:
        if done:
            ends.append((done, time.perf_counter() - start))

    report = ck.cosimulate(ACCELERATOR, net, x, simulator, progress=progress)
    if not report.passed:
        sys.exit(f"{simulator}: {report}")
    return report, ends


def measure(simulator: str, net: ck.IntegerNetwork) -> tuple[float, float]:
    """(seconds to the first result, cycles a second)."""
    _, [(_, first)] = run(simulator, net, 1)
    report, ends = run(simulator, net, INPUTS[simulator])
    (early, before), (late, after) = ends[0], ends[-1]
    return first, (late - early) * report.cycles_rtl / (after - before)


def cocotb_missing() -> str | None:
    """What to install before cocotb runs here."""
    if importlib.util.find_spec("cocotb_tools") is None:
        return "cocotb is not installed; pip install cocotb"
    return None if shutil.which("iverilog") else "iverilog not found on PATH; install Debian's iverilog"


def cocotb_job(net: ck.IntegerNetwork, inputs: int, accelerator: Accelerator) -> dict[str, object]:
    """What cocotb_core.py runs, and what it should find."""
    x = net.as_quantized(np.random.default_rng(0).random((inputs, *net.input_shape), dtype=np.float32))
    program, golden = lower(net, accelerator), net.predict(x)
    memory = np.zeros(program.memory_bytes, np.uint8)
    memory[: len(program.parameters)] = program.parameters
    place = program.maps[len(net.layers) - 1]
    outputs = program.bytes_at(place, golden.reshape(*golden.shape[:2], *(golden.shape[2:] or (1, 1))))
    return {
        "words": program.words, "entry": program.entry, "memory": memory.tobytes(),
        "beat_bytes": accelerator.bus_bits // 8, "cycles": ck.evaluate(net, accelerator).latency_cycle,
        "boot_cycles": sum(program.cycles_of(instruction) for instruction in program.boot),
        "inputs": [row.tobytes() for row in program.pack(x)], "outputs": [row.tobytes() for row in outputs],
        "input_at": program.bytes_of(program.maps[-1]).start,
        "output_at": program.bytes_of(place).start,
    }  # fmt: skip


def measure_cocotb(net: ck.IntegerNetwork) -> tuple[float, float]:
    """(seconds to the first result, cycles a second)."""
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    job = cocotb_job(net, INPUTS["cocotb"], ACCELERATOR)
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as name:
        folder, runner = Path(name), get_runner("icarus")
        start = time.perf_counter()
        bundle = ck.generate_rtl(ACCELERATOR)
        bundle.write(folder)
        (folder / "job").write_bytes(pickle.dumps(job))
        runner.build(
            sources=sorted(folder.glob("*.v")), hdl_toplevel=bundle.top, build_dir=folder,
            log_file=folder / "build.log", timescale=("1ns", "1ps"),
        )  # fmt: skip
        results = runner.test(
            test_module="cocotb_core", hdl_toplevel=bundle.top, build_dir=folder, test_dir=folder,
            log_file=folder / "log", extra_env={"CORE_JOB": str(folder / "job")}, timescale=("1ns", "1ps"),
            results_xml=str(folder / "results.xml"),
        )  # fmt: skip
        if get_results(results) != (1, 0):
            sys.exit(f"cocotb: {(folder / 'log').read_text()[-2000:]}")
        ends = pickle.loads((folder / "job.ends").read_bytes())
    cycles = int(str(job["cycles"]))
    return ends[0] - start, (len(ends) - 1) * cycles / (ends[-1] - ends[0])


def main() -> None:
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores")
    net = network()
    cycles = ck.evaluate(net, ACCELERATOR).latency_cycle
    start = time.perf_counter()
    ck.generate_rtl(ACCELERATOR)
    print(f"digits CNN on {ACCELERATOR}: {quantity(cycles, 'cycle')} an inference")
    print(f"generating the RTL: {quantity(time.perf_counter() - start, 's')}\n")
    print(f"{'simulator':<10} {'first result':>12} {'cycles/s':>12} {'inference':>10} {'to MyHDL':>9}")
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CODESIGN_CACHE_DIR"] = cache
        for name in sorted([*SIMULATORS, "cocotb"], key=lambda name: name != REFERENCE):
            missing = cocotb_missing() if name == "cocotb" else simulator_named(name).missing()
            if missing is not None:
                print(f"{name:<10} left out: {missing}")
                continue
            first, rates[name] = measure_cocotb(net) if name == "cocotb" else measure(name, net)
            print(
                f"{name:<10} {quantity(first, 's'):>12} {rates[name]:>12,.0f} "
                f"{quantity(cycles / rates[name], 's'):>10} {rates[name] / rates[REFERENCE]:>8,.1f}x",
                flush=True,
            )
    for slow in ("cocotb", REFERENCE):
        if {"verilator", slow} <= set(rates):
            print(f"Verilated RTL is {rates['verilator'] / rates[slow]:,.0f} times as fast as {slow}.")
    print("\nAll outputs and cycle counts are those of the golden model and of the cost model.")


if __name__ == "__main__":
    main()
