"""How much of the exact front each sampler finds, at equal numbers of evaluations.

On three spaces of the cost model that an exhaustive sweep can still enumerate, every sampler looks at the same number
of designs, with the same seeds. The figure is its hypervolume over that of the exact front, both to the reference point
of the exact front, for latency, energy and area: the median and the worst of the seeds. Random is the baseline.

A sampler whose own work outlasts that of the cost model by far is measured at the smaller budgets only: TPE up to 250
designs, the Gaussian process, at a second or more a design, at 30 (a third of them at random), beside random at 30.

The seeds run in processes of their own, as many at a time as there are cores; designs a second are those of one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import time
import warnings

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import moocore
import optuna
import pymoo
import torch

import codesign_kernel as ck
from codesign_kernel.explore import Exploration, histories
from codesign_kernel.optimize import DigitsCNN
from codesign_kernel.units import three_digits

SAMPLERS = ("random", "pymoo", "nsga2", "nsga3", "tpe", "gp")
BUDGETS = (30, 250, 1000)
#: The most designs of samplers whose time grows faster than their number of designs.
MOST = {"tpe": 250, "gp": 30}
#: Below so many designs those that breed generations have not begun: only random and the Gaussian process are told.
FEW = 100
SEEDS = 5
ROW = "{:<14} {:>9} {:<8} {:>6}  {:>7} {:>7}  {:>9} {:>10}"
DIGITS_SPACE = ck.DesignSpace.default()
#: 967,680 designs: the default space with both dataflows and another node.
BOTH = ck.DesignSpace(**{**DIGITS_SPACE.choices, "dataflow": ("ws", "os"), "node_nm": (28, 45)})


def cases() -> dict[str, tuple[ck.Workload, ck.DesignSpace]]:
    """What is explored, in which space."""
    digits = ck.profile(DigitsCNN(), torch.zeros(1, 1, 8, 8), name="digits CNN").workload
    resnet = ck.profile(*ck.zoo.build("resnet18")).workload
    return {
        "digits": (digits, DIGITS_SPACE),
        "digits, ws+os": (digits, BOTH),
        "resnet18": (resnet, ck.DesignSpace.large()),
    }


def found(run: Exploration, exact: Exploration) -> float:
    """Hypervolume of ``run`` over that of the exact front."""
    ((table,),) = histories({"run": [run]}, exact).values()
    return float(table["hypervolume"].iloc[-1])


def one(
    workload: ck.Workload, space: ck.DesignSpace, sampler: str, budget: int, seed: int
) -> tuple[Exploration, float]:
    """(a run, seconds that it took), in a process of its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    ck.explore(workload, space, sampler="random", budget=2)  # imports and compiles
    started = time.perf_counter()
    run = ck.explore(workload, space, sampler=sampler, budget=budget, seed=seed)
    return run, time.perf_counter() - started


def wanted(samplers: list[str], budget: int) -> list[str]:
    """Those of ``samplers`` that are measured at ``budget``."""
    return [
        name for name in samplers if budget <= MOST.get(name, budget) and (budget >= FEW or name in ("random", "gp"))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    begun = time.perf_counter()
    warnings.simplefilter("error")
    print(
        f"Python {platform.python_version()}, optuna {optuna.__version__}, pymoo {pymoo.__version__}, "
        f"moocore {moocore.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"hypervolume over the exact front's, {args.seeds} seeds; ratio: designs a second to those of random\n")
    print(ROW.format("space", "designs", "sampler", "looked", "median", "worst", "designs/s", "ratio"))
    pool = multiprocessing.get_context("spawn").Pool(os.cpu_count())
    for name, (workload, space) in cases().items():
        exact = ck.explore(workload, space, sampler="exact")
        print(f"{name}: exact front of {len(exact.front)} designs in {exact.provenance.wall_s:.1f} s")
        for budget in args.budgets:
            base = 0.0
            for sampler in wanted(args.samplers, budget):
                ended = pool.starmap(
                    one, [(workload, space, sampler, budget, s) for s in range(args.seeds)], chunksize=1
                )
                runs = [run for run, _ in ended]
                rate = sum(len(run.frame) for run in runs) / sum(seconds for _, seconds in ended)
                base = base or rate
                shares = [found(run, exact) for run in runs]
                looked = min(len(run.frame) for run in runs)
                cells = (f"{statistics.median(shares):.4f}", f"{min(shares):.4f}", f"{rate:,.0f}")
                relative = three_digits(rate / base)
                print(ROW.format(name, f"{space.size:,}", sampler, looked, *cells, relative), flush=True)
    pool.close()
    pool.join()
    print(f"\nall in {time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
