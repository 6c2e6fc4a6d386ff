"""How many (design, layer) points a second ``ck.sweep`` evaluates on one core, building the DataFrame included.

A point is one design running one step (a layer that does MACs, with what is fused behind it); every design of the space
counts, also those that break a law of the template or lack memory: they are computed like the others. Each network is
measured twice: over a whole space, where what depends on few parameters is computed for their combinations only, and
over a random list of designs, where every design pays for all of its arithmetic. Both give the same numbers, and the
benchmark compares them with ``ck.evaluate``, one design at a time, bit by bit.

The exit status is 1 where a rate is below ``TARGET``.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch

import codesign_kernel as ck
from codesign_kernel.mapping import steps_of
from codesign_kernel.optimize import DigitsCNN
from codesign_kernel.units import quantity

#: (design, layer) points a second.
TARGET = 1e6
RUNS = 7
LISTED = 50_000
SINGLES = 40
SEED = 0
ROW = "{:<13} {:<12} {:>5} {:>8} {:>8} {:>8} {:>9} {:>10}  {}"

#: 144,000 machines of a size for networks on images of 224 x 224.
LARGE = ck.DesignSpace(
    rows=(8, 16, 32, 64, 128, 256),
    cols=(8, 16, 32, 64, 128),
    activation_kib=(64, 128, 256, 512, 1024, 2048),
    weight_kib=(64, 256, 1024, 4096, 8192),
    accumulator_kib=(16, 32, 64, 128, 256),
    bandwidth_gb_s=(6.4, 12.8, 25.6, 51.2),
    frequency_mhz=(200, 400, 800, 1000),
    instruction_kib=(256, 1024),
)


def workloads() -> dict[str, tuple[ck.Workload, ck.DesignSpace]]:
    """What is swept, over which space."""
    digits = ck.profile(DigitsCNN(), torch.zeros(1, 1, 8, 8), name="digits CNN").workload
    large = {name: (ck.profile(*ck.zoo.build(name)).workload, LARGE) for name in ("resnet18", "mobilenet_v2")}
    return {"digits CNN": (digits, ck.DesignSpace.default()), **large}


def one_core() -> str:
    """Keep this process on one core; says what came of it."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned to a core (no sched_setaffinity here), one thread"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"pinned to core {core}, one thread"


def timed(function: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """(median seconds, what it returned). A run before the first fills the caches and is not counted."""
    result, seconds = function(), []
    for _ in range(runs):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def one_at_a_time(workload: ck.Workload, space: ck.DesignSpace, frame: pd.DataFrame) -> float:
    """Median seconds of ``ck.evaluate``, which must give what ``frame`` has, to the last bit."""
    feasible = frame.index[frame.feasible].to_numpy()
    seconds = []
    for index in np.random.default_rng(SEED).choice(feasible, SINGLES, replace=False):
        design, row = space.design(index), frame.loc[index]
        start = time.perf_counter()
        cost = ck.evaluate(workload, design)
        seconds.append(time.perf_counter() - start)
        alone = (cost.latency_cycle, cost.energy_pj * 1e-6, cost.area_um2 * 1e-6, cost.utilization)
        together = (row.latency_cycle, row.energy_uj, row.area_mm2, row.utilization)
        if alone != together:
            sys.exit(f"design {index} costs {alone} alone and {together} in the sweep")
    return statistics.median(seconds)


def measure(name: str, workload: ck.Workload, space: ck.DesignSpace) -> bool:
    """Print the rows of one network; whether all rates reach the target."""
    steps = len(steps_of(workload)[0])
    indices = np.random.default_rng(SEED).choice(space.size, LISTED, replace=False)
    rows = {
        "whole space": timed(lambda: ck.sweep(workload, space), RUNS),
        "random list": timed(lambda: ck.sweep(workload, space, indices=indices), RUNS),
    }
    whole, listed = (frame for _, frame in rows.values())
    if not whole.loc[indices].equals(listed):
        sys.exit(f"{name}: the whole space and a list of its designs differ")
    single = one_at_a_time(workload, space, whole)
    met = True
    for kind, (seconds, frame) in rows.items():
        rate = len(frame) * steps / seconds
        met &= rate >= TARGET
        faster, verdict = f"{rate * single / steps:,.0f}x", "met" if rate >= TARGET else "NOT MET"
        share, number, taken = f"{frame.feasible.mean():.0%}", f"{len(frame):,}", quantity(seconds, "s")
        print(ROW.format(name, kind, steps, number, share, taken, f"{rate / 1e6:.2f}", faster, verdict))
    alone = f"{steps / single / 1e6:.4f}"
    print(ROW.format(name, "one by one", steps, 1, "100%", quantity(single, "s"), alone, "1x", ""))
    return met


def main() -> int:
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, pandas {pd.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} cores; {one_core()}"
    )
    print(f"median of {RUNS} runs, DataFrame included; ratio: to ck.evaluate, one design at a time")
    print(f"target: {TARGET / 1e6:g} million (design, layer) points a second\n")
    print(ROW.format("network", "designs", "steps", "number", "feasible", "time", "Mpoints/s", "ratio", "target"))
    met = [measure(name, workload, space) for name, (workload, space) in workloads().items()]
    print("\nEvery sampled design costs the same in the sweep and alone, to the last bit.")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
