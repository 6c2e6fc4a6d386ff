"""Scaling policies side by side, in virtual time: completion time x worker-hours on each load shape.

Completion is told twice: until the last task ends, and the mean over all tasks from arrival to end (the response
time). With tasks that come in over hours the first is about the length of the trace whatever a policy does, and the
product is that of the worker-hours; the second says how long users wait. ``dask`` is Dask's own Adaptive by its own
formula. Workers are 2 to 32, tasks run 20 s on average. The summary repeats the comparison for workers that start
quickly and slowly, on other random seeds, and on loads that are drawn at random: those nothing was fitted to.

The exit status is 1 where predictive does not beat Dask's Adaptive on most shapes at the start-up time of the table.
"""

from __future__ import annotations

import sys
import time

from codesign_kernel.cluster import BASELINE, MODE_NAMES, SHAPES, Outcome, Trace, drawn, shape, simulate

STARTUP_S = 30.0
#: Start-up times of the summary: a process of this machine, a container, a job of a batch system.
STARTS_S = (10.0, 30.0, 120.0)
SEEDS = (1, 2)
DRAWN = range(1000, 1012)
ROW = "{:<17} {:<13} {:>9} {:>9} {:>8} {:>9} {:>5} {:>10} {:>11}"


def products(outcome: Outcome) -> tuple[float, float]:
    """(hours to the last task's end, mean response in hours), each times worker-hours."""
    return tuple(seconds / 3600 * outcome.worker_hours for seconds in (outcome.completion_s, outcome.response_s))


def table() -> tuple[int, int]:
    """Print a row a shape and policy; on how many shapes predictive beats Dask by either product."""
    print(ROW.format("load", "policy", "last/s", "mean/s", "worker-h", "react/s", "most", "last x wh", "mean x wh"))
    won = [0, 0]
    for name in SHAPES:
        trace = shape(name)
        found = {mode: simulate(trace, mode, startup_s=STARTUP_S) for mode in (*MODE_NAMES, BASELINE)}
        for mode, outcome in found.items():
            last, mean = products(outcome)
            numbers = (f"{outcome.completion_s:,.0f}", f"{outcome.response_s:.1f}", f"{outcome.worker_hours:.1f}")
            rest = (f"{outcome.reaction_s:.0f}", outcome.most, f"{last:.1f}", f"{mean:.3f}")
            print(ROW.format(name, mode, *numbers, *rest))
        ours, theirs = products(found["predictive"]), products(found[BASELINE])
        won = [count + (mine < other) for count, mine, other in zip(won, ours, theirs, strict=True)]
        print()
    return won[0], won[1]


def summary(traces: list[Trace]) -> None:
    """Predictive over Dask (geometric mean of the ratios, below 1 is better) by start-up time, over all ``traces``."""
    print("start-up   wins (last x wh)   ratio   wins (mean x wh)   ratio")
    for startup_s in STARTS_S:
        wins, ratios = [0, 0], [1.0, 1.0]
        for trace in traces:
            pair = [products(simulate(trace, mode, startup_s=startup_s)) for mode in ("predictive", BASELINE)]
            for kind in range(2):
                wins[kind] += pair[0][kind] < pair[1][kind]
                ratios[kind] *= (pair[0][kind] / pair[1][kind]) ** (1 / len(traces))
        counts = [f"{count} of {len(traces)}" for count in wins]
        print(f"{startup_s:>6.0f} s {counts[0]:>18} {ratios[0]:>7.2f} {counts[1]:>18} {ratios[1]:>7.2f}")


def main() -> int:
    start = time.perf_counter()
    last, mean = table()
    print(f"predictive beats Dask's Adaptive on {last} of {len(SHAPES)} shapes (last x wh), {mean} (mean x wh)\n")
    print("predictive against Dask's Adaptive, all shapes, seeds", *SEEDS)
    summary([shape(name, seed=seed) for name in SHAPES for seed in SEEDS])
    print(f"\nthe same on {len(DRAWN)} loads drawn at random")
    summary([drawn(seed) for seed in DRAWN])
    print(f"\nall in {time.perf_counter() - start:.0f} s")
    return 0 if min(last, mean) > len(SHAPES) / 2 else 1


if __name__ == "__main__":
    sys.exit(main())
