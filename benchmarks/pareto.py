"""How long the exact Pareto front of a million designs takes, in three objectives."""

from __future__ import annotations

import os
import platform
import statistics
import time

import numpy as np
import pandas as pd

import codesign_kernel as ck
from codesign_kernel.units import quantity

POINTS = 1_000_000
RUNS = 3
OBJECTIVES = ("latency_cycle", "energy_uj", "area_mm2")


def clouds() -> dict[str, np.ndarray]:
    """Points by kind: independent objectives have a small front; a thin shell, where gains cost, a large one."""
    rng = np.random.default_rng(0)
    directions = np.abs(rng.normal(size=(POINTS, 3)))
    shell = 1 - directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return {"independent": rng.random((POINTS, 3)), "thin shell": shell + 0.1 * rng.random((POINTS, 1))}


def main() -> None:
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, pandas {pd.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} cores; {POINTS:,} points, {len(OBJECTIVES)} objectives, median of {RUNS} runs\n"
    )
    print(f"{'points':<12} {'front':>8} {'time':>8} {'points/s':>10}")
    for kind, points in clouds().items():
        frame, seconds = pd.DataFrame(points, columns=list(OBJECTIVES)), []
        for _ in range(RUNS):
            start = time.perf_counter()
            front = ck.pareto_front(frame, OBJECTIVES)
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        print(f"{kind:<12} {len(front):>8,} {quantity(median, 's'):>8} {POINTS / median:>10,.0f}")


if __name__ == "__main__":
    main()
