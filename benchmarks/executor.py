"""Ten thousand evaluations of the cost model through Dask: two workers against one, and what the scheduler costs.

Each evaluation is ``ck.evaluate`` of one design, as a search would do it that cannot use the sweep's arrays. Timed is
``cluster.executor().run(...)`` from the first item to the last result; the start of the cluster and the first thousand
evaluations (imports, compilation) come before. The best of the runs counts. Told are

- idle: the share of the workers' time in which they were not in the function: waiting for work, or handing it over;
- Dask's CPU: of all CPU time spent by client, scheduler and workers, the share that was not spent in the function:
  what Dask takes from the workers where they share the cores with it;
- the ceiling: two plain processes with half of the items each, without Dask, over one plain process with all of them.
  What is missing to 2 there is the machine's: cores that share their caches, or are two halves of one.

The overhead that is held against its target is the larger of the first two. Times mean something on a machine with two
idle cores only; the load is printed. The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from functools import partial
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch

import codesign_kernel as ck
from codesign_kernel.optimize import DigitsCNN

EVALUATIONS, WARM, RUNS = 10_000, 500, 2
#: Two workers over one, and the share that is not the function's.
SPEEDUP, OVERHEAD = 1.8, 0.10
ROW = "{:<22} {:>8} {:>14} {:>6} {:>10}"


class Run(NamedTuple):
    """seconds: of wall time. idle, dask_cpu: shares, see above. results: by position."""

    seconds: float
    idle: float
    dask_cpu: float
    results: dict[int, tuple[float, float]]


def evaluate_one(workload: ck.Workload, space: ck.DesignSpace, index: int) -> tuple[float, float]:
    """(energy (pJ) of the design ``index`` of ``space``, CPU seconds that this took)."""
    start = time.process_time()
    energy = float(ck.evaluate(workload, space.design(index)).energy_pj)
    return energy, time.process_time() - start


def measure(workers: int, function: partial[Any], items: list[int]) -> Run:
    """The quickest of ``RUNS`` runs."""
    runs = []
    with ck.cluster("balanced", workers, workers) as cluster:
        list(cluster.executor().run(function, items[:WARM]))
        for _ in range(RUNS):
            executor = cluster.executor()
            spent = [time.process_time(), *cluster.client.run(time.process_time).values()]
            start = time.perf_counter()
            found = dict(executor.run(function, items))
            seconds = time.perf_counter() - start
            now = [time.process_time(), *cluster.client.run(time.process_time).values()]
            cpu = sum(now) - sum(spent)
            inside = sum(each for _, each in found.values())
            runs.append(Run(seconds, 1 - executor.busy_s / (seconds * workers), 1 - inside / cpu, found))
    return min(runs, key=lambda run: run.seconds)


def plain(function: partial[Any], items: list[int], ready: Any) -> None:
    """The items one after the other in a process of its own; it waits for the others before it begins."""
    for item in items[:WARM]:
        function(item)
    ready.wait()
    for item in items:
        function(item)
    ready.wait()


def ceiling(processes: int, function: partial[Any], items: list[int]) -> float:
    """Seconds that so many plain processes take for ``items`` together."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    parts = [items[first::processes] for first in range(processes)]
    started = [context.Process(target=plain, args=(function, part, ready)) for part in parts]
    for process in started:
        process.start()
    ready.wait()
    start = time.perf_counter()
    ready.wait()
    seconds = time.perf_counter() - start
    for process in started:
        process.join()
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    count = parser.parse_args().evaluations
    workload = ck.profile(DigitsCNN(), torch.zeros(1, 1, 8, 8), name="digits CNN").workload
    space = ck.DesignSpace.default()
    frame = ck.sweep(workload, space)
    feasible = frame.index[frame.feasible].to_numpy()
    items = [int(index) for index in np.random.default_rng(0).choice(feasible, count)]
    function = partial(evaluate_one, workload, space)
    print(f"{os.cpu_count()} cores, load of the last minute {os.getloadavg()[0]:.1f}; best of {RUNS} runs")
    print(ROW.format("", "time/s", "evaluations/s", "idle", "Dask's CPU"))
    without = []
    for processes, name in ((1, "one plain process"), (2, "two plain processes")):
        without.append(ceiling(processes, function, items))
        print(ROW.format(name, f"{without[-1]:.2f}", f"{count / without[-1]:,.0f}", "", ""), flush=True)
    found = {}
    for workers, name in ((1, "one worker"), (2, "two workers")):
        run = found[workers] = measure(workers, function, items)
        cells = (f"{run.seconds:.2f}", f"{count / run.seconds:,.0f}", f"{run.idle:.1%}", f"{run.dask_cpu:.1%}")
        print(ROW.format(name, *cells), flush=True)
    one, two = ({position: energy for position, (energy, _) in found[n].results.items()} for n in (1, 2))
    if one != two or len(one) != count:
        sys.exit("one worker and two differ in their results")
    speedup, overhead = found[1].seconds / found[2].seconds, max(found[2].idle, found[2].dask_cpu)
    print(
        f"two workers over one: {speedup:.2f} (wanted {SPEEDUP:g}; two plain processes over one: "
        f"{without[0] / without[1]:.2f}); overhead {overhead:.1%} (wanted < {OVERHEAD:.0%})"
    )
    return 0 if speedup >= SPEEDUP and overhead < OVERHEAD else 1


if __name__ == "__main__":
    sys.exit(main())
