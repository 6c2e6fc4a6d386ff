"""Which sampler finds most with few networks: every network of a small space is made once, then samplers are run on it.

The digits' network, 560 ways to prune it and to narrow its weights at two widths of activations, each tuned, quantised,
measured on the validation part and swept over 55,296 machines. Each sampler then looks at the same number of networks,
beginning with the same ones, and the joint hypervolume of what it saw is printed as a share of that of all networks:
median, mean and least over seeds. It is told the accuracy, and

- volume: what the front of the network's machines dominates, as ``co_optimize`` tells it;
- least: the least latency, the least energy and the least area of its machines;
- model: MACs and bits of weights, and nothing of machines.
"""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import optuna

from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.samplers import make_sampler
from codesign_kernel.explore.volume import hypervolume, reference_of
from codesign_kernel.optimize import Recipe, train_digits
from codesign_kernel.session.candidates import NetworkSpace, Trained, Training, weights_bit
from codesign_kernel.session.machines import Machines, small_machines
from codesign_kernel.session.pairs import joint_volume

OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")
#: Accuracy from which on it counts, and is a limit for the samplers.
FLOOR = 0.85
LAYERS = ("conv1", "conv2", "fc")
NETWORKS = NetworkSpace(
    bits=(4, 8),
    epochs=(0,),
    keep=dict.fromkeys(LAYERS[:2], (0.25, 0.5, 0.75, 1.0)),
    weight_bits=dict.fromkeys(LAYERS, (2, 4, 8)),
)
#: Sampler, what it is told, networks of a generation.
CASES = (
    ("random", "volume", 8),
    ("nsga2", "volume", 6),
    ("nsga2", "volume", 8),
    ("nsga2", "volume", 12),
    ("nsga2", "least", 8),
    ("nsga2", "model", 8),
    ("nsga3", "volume", 8),
    ("tpe", "volume", 4),
    ("tpe", "volume", 6),
    ("tpe", "least", 6),
    ("tpe", "model", 6),
)


class Known(NamedTuple):
    """What is known of a network: accuracy, MACs, bits of weights, and costs of the front of its machines."""

    accuracy: float
    macs: int
    weights: int
    costs: np.ndarray[Any, Any]


def table() -> dict[int, Known]:
    """Every network."""
    model, data, _ = train_digits(0)
    training = Training(model, data, Recipe(3, 4e-3), Recipe(1, 1e-3), 0)
    machines, known = Machines(small_machines(), Goal.of(OBJECTIVES)), {}
    for number in sorted({NETWORKS.canonical(n) for n in range(NETWORKS.size)}):
        made = Trained.from_bytes(training(NETWORKS.candidate(number)))
        network = made.network
        if network is not None:
            costs = machines.sweep(network.workload, network.bits).costs
            known[number] = Known(made.accuracy, network.workload.macs, weights_bit(network), costs)
    return known


class Race:
    """Runs samplers over the table."""

    def __init__(self, known: dict[int, Known]) -> None:
        self.known = known
        first = np.log10(np.concatenate([known[n].costs for n in NETWORKS.first()]))
        bound = reference_of(first)
        self.reference = [FLOOR, *(10.0**bound).tolist()]
        self.volume = {n: hypervolume(np.log10(k.costs), bound) for n, k in known.items()}
        self.whole = self.covered(known)

    def covered(self, numbers: Any) -> float:
        return joint_volume([(self.known[n].accuracy, self.known[n].costs) for n in numbers], self.reference)

    def costs(self, number: int, told: str) -> tuple[float, ...]:
        known = self.known[number]
        if told == "volume":
            return -known.accuracy, -self.volume[number]
        if told == "least":
            return -known.accuracy, *np.log10(known.costs).min(axis=0).tolist()
        return -known.accuracy, known.macs, known.weights

    def share(self, sampler: str, told: str, population: int, budget: int, seed: int) -> float:
        """Of the hypervolume of all networks, what ``budget`` networks have."""
        objectives = len(self.costs(NETWORKS.first()[0], told))
        proposer = make_sampler(sampler, NETWORKS, objectives, 3, seed, NETWORKS.first(), population)  # type: ignore[arg-type]
        seen: dict[int, None] = {}
        while len(seen) < budget:
            asked = proposer.ask(proposer.batch)
            numbers = [NETWORKS.canonical(int(number)) for number in asked]
            for number in numbers:
                if len(seen) < budget:
                    seen[number] = None
            broken = np.zeros((len(numbers), 3))
            broken[:, 0] = [max(0.0, FLOOR - self.known[n].accuracy) for n in numbers]
            proposer.tell(asked, np.array([self.costs(n, told) for n in numbers]), broken)
        return self.covered(seen) / self.whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", nargs="+", type=int, default=(24, 48))
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--table", type=Path, help="keep the networks in this file, or take them from there")
    args = parser.parse_args()
    started = time.perf_counter()
    if args.table is not None and args.table.exists():
        known = {number: Known(*row) for number, row in pickle.loads(args.table.read_bytes()).items()}
    else:
        known = table()
        if args.table is not None:
            args.table.write_bytes(pickle.dumps({number: tuple(row) for number, row in known.items()}))
    race = Race(known)
    print(f"Python {platform.python_version()}, optuna {optuna.__version__}, {platform.machine()}, one thread")
    print(f"{len(known)} networks in {time.perf_counter() - started:.0f} s; {args.seeds} seeds\n")
    print(f"{'networks':>8}  {'sampler':<8} {'told':<8} {'generation':>10}  {'median':>7} {'mean':>7} {'least':>7}")
    for budget in args.budgets:
        for sampler, told, population in CASES:
            got = [race.share(sampler, told, population, budget, seed) for seed in range(args.seeds)]
            cells = f"{statistics.median(got):7.1%} {statistics.mean(got):7.1%} {min(got):7.1%}"
            print(f"{budget:>8}  {sampler:<8} {told:<8} {population:>10}  {cells}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
