"""Ten thousand evaluations of the cost model through Dask: two workers against one, and what the scheduler costs.

Each evaluation is ``ck.evaluate`` of one design, as a search would do it that cannot use the sweep's arrays. The
overhead is the share of the workers' time that was not spent in the function. The ratio means something on a machine
with two idle cores only; the load is printed. The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch

import codesign_kernel as ck
from codesign_kernel.optimize import DigitsCNN

EVALUATIONS, RUNS = 10_000, 3
#: Two workers over one, and the share of the workers' time that is not the function's.
SPEEDUP, OVERHEAD = 1.8, 0.10


def evaluate_one(workload: ck.Workload, space: ck.DesignSpace, index: int) -> float:
    """Energy (pJ) of the design ``index`` of ``space``."""
    return float(ck.evaluate(workload, space.design(index)).energy_pj)


def measure(workers: int, function: partial[float], items: list[int]) -> tuple[float, float, dict[int, float]]:
    """(seconds, overhead, results) of the quickest of ``RUNS`` runs."""
    best = (float("inf"), 0.0, {})
    with ck.cluster("balanced", workers, workers) as cluster:
        list(cluster.executor().run(function, items[:1000]))  # imports, and compiles the search
        for _ in range(RUNS):
            executor = cluster.executor()
            start = time.perf_counter()
            found = dict(executor.run(function, items))
            seconds = time.perf_counter() - start
            if seconds < best[0]:
                best = (seconds, 1 - executor.busy_s / (seconds * workers), found)
    return best


def main() -> int:
    workload = ck.profile(DigitsCNN(), torch.zeros(1, 1, 8, 8), name="digits CNN").workload
    space = ck.DesignSpace.default()
    frame = ck.sweep(workload, space)
    feasible = frame.index[frame.feasible].to_numpy()
    items = [int(index) for index in np.random.default_rng(0).choice(feasible, EVALUATIONS)]
    function = partial(evaluate_one, workload, space)
    print(f"{os.cpu_count()} cores, load of the last minute {os.getloadavg()[0]:.1f}; best of {RUNS} runs")
    print(f"{'workers':>7} {'time/s':>8} {'evaluations/s':>14} {'overhead':>9}")
    found = {}
    for workers in (1, 2):
        found[workers] = measure(workers, function, items)
        seconds, overhead, _ = found[workers]
        print(f"{workers:>7} {seconds:>8.2f} {EVALUATIONS / seconds:>14,.0f} {overhead:>9.1%}", flush=True)
    if found[1][2] != found[2][2]:
        sys.exit("one worker and two differ in their results")
    speedup, overhead = found[1][0] / found[2][0], found[2][1]
    print(
        f"two workers over one: {speedup:.2f} (wanted {SPEEDUP:g}); overhead {overhead:.1%} (wanted < {OVERHEAD:.0%})"
    )
    return 0 if speedup >= SPEEDUP and overhead < OVERHEAD else 1


if __name__ == "__main__":
    sys.exit(main())
