"""How much of the exact front each sampler finds, at equal numbers of evaluations.

On three spaces of the cost model that an exhaustive sweep can still enumerate, every sampler looks at the same number
of designs, with the same seeds. The figure is its hypervolume over that of the exact front, both to the reference point
of the exact front, for latency, energy and area: the median and the worst of the seeds. Random is the baseline.

A sampler whose own work outlasts that of the cost model by far is measured at the smaller budgets only; the Gaussian
process, at a second or more for each design, is left out unless it is asked for: ``--samplers random gp --budgets 50``.
"""

from __future__ import annotations

import argparse
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

SAMPLERS = ("random", "pymoo", "nsga2", "nsga3", "tpe")
BUDGETS = (250, 1000)
#: The most designs of samplers whose time grows faster than their number of designs.
MOST = {"tpe": 250, "gp": 100}
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    warnings.simplefilter("error")
    print(
        f"Python {platform.python_version()}, optuna {optuna.__version__}, pymoo {pymoo.__version__}, "
        f"moocore {moocore.__version__}, {platform.machine()}, one thread"
    )
    print(f"hypervolume over the exact front's, {args.seeds} seeds; ratio: designs a second to those of random\n")
    print(ROW.format("space", "designs", "sampler", "looked", "median", "worst", "designs/s", "ratio"))
    for name, (workload, space) in cases().items():
        exact = ck.explore(workload, space, sampler="exact")
        print(f"{name}: exact front of {len(exact.front)} designs in {exact.provenance.wall_s:.1f} s")
        for budget in args.budgets:
            base = 0.0
            for sampler in (name for name in args.samplers if budget <= MOST.get(name, budget)):
                started = time.perf_counter()
                runs = [ck.explore(workload, space, sampler=sampler, budget=budget, seed=s) for s in range(args.seeds)]
                rate = sum(len(run.frame) for run in runs) / (time.perf_counter() - started)
                base = base or rate
                shares = [found(run, exact) for run in runs]
                looked = min(len(run.frame) for run in runs)
                cells = (f"{statistics.median(shares):.4f}", f"{min(shares):.4f}", f"{rate:,.0f}")
                relative = three_digits(rate / base)
                print(ROW.format(name, f"{space.size:,}", sampler, looked, *cells, relative), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
