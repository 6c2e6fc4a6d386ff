"""One search over network and accelerator, against the model first and the hardware then, on equal numbers of networks.

For each seed a model is trained, and every method evaluates the same number of networks of one space (pruned, tuned,
quantised, measured on the validation part), beginning with the same ones, with the same sampler and seed:

- joint: ``co_optimize``. Its sampler is told the accuracy and what the front of the network's machines dominates.
- model first: the sampler is told the accuracy, the MACs and the bytes of weights. One model is chosen, and all designs
  are swept for it. It is chosen by three rules - the knee, the most accurate, the smallest within a point of that - and
  the best of the three counts, which a user could not know beforehand.
- whole model front: the same search, but all designs are swept for every model that no other beats in accuracy, MACs
  and bytes: a stronger baseline.
- every model: the same search, all designs swept for all its networks. What it lacks to "joint" is what the search lost
  by knowing nothing of the machines.

Each ends in a front chosen by validation accuracy. It is then measured with accuracy on the TEST part: its hypervolume,
to a reference common to all methods of a seed, as a share of that of the union of all. Objectives of the machine count
by decades (log) or as they are (linear).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch

import codesign_kernel as ck
from codesign_kernel.explore import Memory, Serial
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.samplers import make_sampler
from codesign_kernel.explore.volume import hypervolume, reference_of
from codesign_kernel.optimize import Recipe, accuracy, train_digits
from codesign_kernel.pareto import knee, non_dominated
from codesign_kernel.session.candidates import NetworkSpace, Training
from codesign_kernel.session.co_optimize import LEARNING
from codesign_kernel.session.joint_search import JointSearch
from codesign_kernel.session.machines import Machines, small_machines

OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")
#: The least accuracy, on the validation part for all methods.
FLOOR = 0.9
SEEDS, BUDGET, EPOCHS = 5, 32, 0
PRUNING, TUNING = Recipe(3, 4e-3), Recipe(1, 1e-3)
SPACE = small_machines()
SHARES, WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0), (2, 4, 8)
Front = list[tuple[float, np.ndarray[Any, Any]]]


@dataclass
class ModelSearch(JointSearch):
    """The same search, but the sampler learns of the network alone: accuracy, MACs and bits of weights."""

    def told(self, numbers: Sequence[int]) -> tuple[Any, Any]:
        frame = self.frame(numbers)
        lost = frame["accuracy"].isna().to_numpy()
        costs = np.column_stack([-frame["accuracy"], frame["macs"], frame["weight_kib"]])
        costs[lost] = np.nan
        short = np.maximum(0.0, FLOOR - frame["accuracy"].fillna(0.0).to_numpy())
        return costs, np.column_stack([short, np.zeros(len(frame)), lost.astype(float)])


class Task:
    """A trained model, its data and the networks to choose from; networks are made once for all methods."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.model, self.data, self.accuracy = train_digits(seed)
        self.seed, self.memory, self.tests = seed, Memory(), dict[int, float]()
        layers = ("conv1", "conv2", "fc")
        self.networks = NetworkSpace(
            bits=(4, 8), epochs=(epochs,), keep=dict.fromkeys(layers[:2], SHARES),
            weight_bits=dict.fromkeys(layers, WIDTHS),
        )  # fmt: skip

    def joint(self, budget: int, sampler: str) -> ck.CoOptimization:
        return ck.co_optimize(
            self.model, SPACE, self.data, {"accuracy": FLOOR}, networks=self.networks, objectives=OBJECTIVES,
            sampler=sampler, budget=budget, seed=self.seed, prune_recipe=PRUNING, tune_recipe=TUNING, store=self.memory,
        )  # fmt: skip

    def model_first(self, budget: int, sampler: str, population: int) -> ModelSearch:
        training = Training(self.model, self.data, PRUNING, TUNING, self.seed)
        goal = Goal.of({"accuracy": "max", **dict.fromkeys(OBJECTIVES, "min")}, {"accuracy": FLOOR})
        machines = Machines(SPACE, Goal.of(OBJECTIVES))
        keys = {"network": f"model first {self.seed}", "machines": "model first"}
        search = ModelSearch(training, machines, self.networks, goal, FLOOR, self.memory, Serial(), keys)
        first = self.networks.first()
        search.run(make_sampler(sampler, self.networks, 3, 3, self.seed, first, population), budget, None, None)  # type: ignore[arg-type]
        return search

    def test_accuracy(self, number: int, network: Any) -> float:
        if number not in self.tests:
            self.tests[number] = accuracy(network.predict(self.data.test_x), self.data.test_y)
        return self.tests[number]


def joint_front(task: Task, found: ck.CoOptimization) -> Front:
    """(test accuracy, costs of its machines) of each network of a front."""
    return [
        (task.test_accuracy(int(number), found.made[int(number)]), pairs[[*OBJECTIVES]].to_numpy(dtype=float))
        for number, pairs in found.front.groupby("network")
    ]


def models_front(task: Task, search: ModelSearch, chosen: Sequence[int]) -> Front:
    """The same of models all of whose machines were swept: the front of these by the validation part."""
    points = np.concatenate(
        [
            np.column_stack([np.full(len(c), -search.made[n].accuracy), c])
            for n in chosen
            for c in [search.swept[n].costs]
        ]
    )
    owner = np.repeat(chosen, [len(search.swept[n].costs) for n in chosen])
    kept = non_dominated(points)
    return [
        (task.test_accuracy(n, search.made[n].network), points[kept & (owner == n), 1:])
        for n in np.unique(owner[kept]).tolist()
    ]


def chosen_models(frame: pd.DataFrame) -> Mapping[str, list[int]]:
    """{rule: the models that it chooses}, by the validation part."""
    fit = frame[frame["accuracy"] >= FLOOR]
    costs = np.column_stack([-fit["accuracy"], fit["macs"], fit["weight_kib"]])
    front = fit[non_dominated(costs)]
    near = fit[fit["accuracy"] >= fit["accuracy"].max() - 0.01].sort_values(["weight_kib", "macs"])
    best = fit.sort_values(["accuracy", "weight_kib"], ascending=[False, True])
    return {
        "knee": [int(knee(front, {"accuracy": "max", "macs": "min", "weight_kib": "min"}).name)],
        "most accurate": [int(best.index[0])],
        "smallest within a point": [int(near.index[0])],
        "whole model front": front.index.tolist(),
        "every model": fit.index.tolist(),
    }


def volume(front: Front, floor: float, bound: np.ndarray[Any, Any], log: bool) -> float:
    """Hypervolume over the accuracy and the costs, as they are or by their logarithm."""
    rows = [np.column_stack([np.full(len(costs), -score), np.log10(costs) if log else costs]) for score, costs in front]
    return hypervolume(np.concatenate(rows), np.array([-floor, *bound]))


def shares(fronts: Mapping[str, Front], log: bool) -> dict[str, float]:
    """Hypervolume of each front over that of the union, to the reference point of the union."""
    union = [part for front in fronts.values() for part in front]
    costs = np.concatenate([np.log10(c) if log else c for _, c in union])
    points = np.column_stack([np.concatenate([np.full(len(c), -score) for score, c in union]), costs])
    bound = reference_of(points[non_dominated(points)])[1:]
    whole = volume(union, FLOOR, bound, log)
    return {name: volume(front, FLOOR, bound, log) / whole for name, front in fronts.items()}


def one_seed(seed: int, args: argparse.Namespace) -> tuple[dict[str, Front], str]:
    """The fronts of all methods, and what was seen on the way."""
    started = time.perf_counter()
    task = Task(seed, args.epochs)
    fronts: dict[str, Front] = {}
    told = [f"seed {seed}: float {task.accuracy:.1%} on the test part"]
    for sampler in args.samplers:
        found = task.joint(args.budget, sampler)
        name = "joint" if sampler == args.samplers[0] else f"joint, {sampler}"
        fronts[name] = joint_front(task, found)
        told.append(
            f"{name}: {len(found.frame)} networks, {len(fronts[name])} on the front in {len(found.front)} pairs"
        )
    population = max(4, min(6 if args.samplers[0] in LEARNING else 24, args.budget // 6))
    search = task.model_first(args.budget, args.samplers[0], population)
    for rule, numbers in chosen_models(search.frame([*search.made])).items():
        fronts[rule] = models_front(task, search, numbers)
    told.append(f"model first: {len(search.made)} networks, {len(fronts['whole model front'])} on its front")
    return fronts, "; ".join(told) + f"; {time.perf_counter() - started:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budget", type=int, default=BUDGET, help="networks that each method evaluates")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of quantisation-aware training; 0: none")
    parser.add_argument("--samplers", nargs="+", default=("tpe",), help="the first is that of both")
    args = parser.parse_args()
    warnings.simplefilter("error")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, one thread")
    print(f"{args.seeds} seeds, {args.budget} networks for each method, {SPACE.size:,} designs for each network")
    print(f"hypervolume with accuracy on the test part from {FLOOR:.0%}, over that of the union of all methods\n")
    tables: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for seed in range(args.seeds):
        fronts, told = one_seed(seed, args)
        print(told, flush=True)
        for log, rows in tables.items():
            rows.append(shares(fronts, log))
        print(
            f"  in decades: {', '.join(f'{name} {share:.1%}' for name, share in tables[True][-1].items())}", flush=True
        )
    for log, rows in tables.items():
        report(rows, "decades" if log else "linear")
    return 0


def report(rows: Sequence[Mapping[str, float]], kind: str) -> None:
    """A line for each method: every seed, the median, and how often "joint" has more."""
    print(f"\n{kind:<26}{''.join(f'  seed {seed}' for seed in range(len(rows)))}  median   spread  joint wins")
    rules = ("knee", "most accurate", "smallest within a point")
    best = [{**row, "model first, best rule": max(row[rule] for rule in rules)} for row in rows]
    for name in best[0]:
        values = [row[name] for row in best]
        wins = sum(row["joint"] > row[name] for row in best)
        losses = sum(row["joint"] < row[name] for row in best)
        score = "" if name == "joint" else f"{wins} of {len(rows)}" + (f", {losses} lost" if losses else "")
        cells = "".join(f"{100 * value:7.1f}%" for value in values)
        spread = f"{100 * min(values):.0f}..{100 * max(values):.0f}%"
        print(f"{name:<26}{cells} {100 * statistics.median(values):6.1f}% {spread:>8}  {score}")


if __name__ == "__main__":
    raise SystemExit(main())
