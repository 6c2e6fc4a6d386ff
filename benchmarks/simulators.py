"""Cycles a second of the simulators, on the same generated 8x8 accelerator and the same program.

The rate is taken between the ends of the first inferences and the last, so that it is that of simulating alone. Told
apart is how long the first result takes, all that has to be built first included. That begins with an empty cache;
Verilator's library and Icarus' VPI module are kept for the next time.

cocotb drives Icarus by a host of its own, which only this benchmark has: ``driver/cocotb_host.py``.

A simulator that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import os
import pickle
import platform
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

import codesign_kernel as ck
from codesign_kernel.cosim.job import Answer, Job, Progress, Simulator
from codesign_kernel.cosim.simulators import SIMULATORS, simulator_named
from codesign_kernel.optimize import DigitsCNN
from codesign_kernel.units import quantity

#: Inputs of the run whose rate is taken: seconds of work for each simulator.
INPUTS = {"verilator": 2050, "icarus": 5, "myhdl": 3, "ghdl": 2, "cocotb": 3}
REFERENCE = "myhdl"
ACCELERATOR = ck.Accelerator.systolic(8, 8)


class Cocotb(Simulator):
    """cocotb on Icarus Verilog; ``ends`` are the times at which the last run's inputs were done."""

    name = "cocotb"
    ends: ClassVar[list[float]] = []

    def missing(self) -> str | None:
        if find_spec("cocotb") is None:
            return "pip install cocotb"
        return None if shutil.which("iverilog") else "Icarus Verilog is not installed"

    def run(self, bundle: ck.RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        from cocotb_tools.check_results import get_results
        from cocotb_tools.runner import get_runner

        with tempfile.TemporaryDirectory() as folder:
            bundle.write(folder)
            task = Path(folder) / "job"
            told = {"words": job.words, "boot": job.boot, "entry": job.entry, "memory": job.memory.tobytes()}
            inputs = [data.tobytes() for data in job.inputs]
            task.write_bytes(
                pickle.dumps({**told, "inputs": inputs, "input_at": (job.input_at.start, job.input_at.stop)})
            )
            runner = get_runner("icarus")
            runner.build(
                sources=[Path(folder) / f"{bundle.top}.v"], hdl_toplevel=bundle.top, build_dir=folder,
                timescale=("1ns", "1ps"), log_file=Path(folder) / "build.log",
            )  # fmt: skip
            results = runner.test(
                test_module="cocotb_host", hdl_toplevel=bundle.top, test_dir=Path(__file__).parent / "driver",
                results_xml=str(Path(folder) / "results.xml"), log_file=Path(folder) / "test.log",
                extra_env={"COCOTB_JOB": str(task)},
            )  # fmt: skip
            if get_results(results)[1]:
                sys.exit((Path(folder) / "test.log").read_text())
            (boot_issues, boot_cycles), runs, Cocotb.ends[:] = pickle.loads(Path(f"{task}.answer").read_bytes())
        answer = Answer.blank(job)
        answer.boot_cycles, answer.boot_issues = boot_cycles, tuple(boot_issues)
        for index, (issues, cycles, memory) in enumerate(runs):
            answer.take(job, index, np.frombuffer(memory, np.uint8), issues, cycles)
        return answer


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
    if simulator == Cocotb.name:
        ends = [(done, end - start) for done, end in enumerate(Cocotb.ends, 1)]
    return report, ends


def measure(simulator: str, net: ck.IntegerNetwork) -> tuple[float, float]:
    """(seconds to the first result, cycles a second)."""
    _, [(_, first)] = run(simulator, net, 1)
    report, ends = run(simulator, net, INPUTS[simulator])
    (early, before), (late, after) = ends[0], ends[-1]
    return first, (late - early) * report.cycles_rtl / (after - before)


def main() -> None:
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores")
    net = network()
    cycles = ck.evaluate(net, ACCELERATOR).latency_cycle
    start = time.perf_counter()
    ck.generate_rtl(ACCELERATOR)
    print(f"digits CNN on {ACCELERATOR}: {quantity(cycles, 'cycle')} an inference")
    print(f"generating the RTL: {quantity(time.perf_counter() - start, 's')}\n")
    SIMULATORS[Cocotb.name] = (__name__, "Cocotb")
    print(f"{'simulator':<10} {'first result':>12} {'cycles/s':>12} {'inference':>10} {'to MyHDL':>9}")
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CODESIGN_CACHE_DIR"] = cache
        for name in sorted(SIMULATORS, key=lambda name: name != REFERENCE):
            missing = simulator_named(name).missing()
            if missing is not None:
                print(f"{name:<10} left out: {missing}")
                continue
            first, rates[name] = measure(name, net)
            print(
                f"{name:<10} {quantity(first, 's'):>12} {rates[name]:>12,.0f} "
                f"{quantity(cycles / rates[name], 's'):>10} {rates[name] / rates[REFERENCE]:>8,.1f}x",
                flush=True,
            )
    print("\nAll outputs and cycle counts are those of the golden model and of the cost model.")


if __name__ == "__main__":
    main()
