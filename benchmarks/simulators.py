"""Cycles a second of the simulators, on the same generated 8x8 accelerator and the same program.

The rate is taken between the ends of the first inferences and the last, so that it is that of simulating alone. Told
apart is how long the first result takes, all that has to be built first included. That begins with an empty cache;
Verilator's library and Icarus' VPI module are kept for the next time.

A simulator that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time

import numpy as np
import torch

import codesign_kernel as ck
from codesign_kernel.cosim.simulators import SIMULATORS, simulator_named
from codesign_kernel.optimize import DigitsCNN
from codesign_kernel.units import quantity

#: Inputs of the run whose rate is taken: seconds of work for each simulator.
INPUTS = {"verilator": 2050, "icarus": 5, "myhdl": 3, "ghdl": 2}
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
