"""What pruning and a training loss that knows the hardware bring: accuracy against MACs, latency and energy.

Every method starts from the same trained networks and gets the same number of epochs more; "scratch" is the narrow
network trained from new weights for as many epochs as training and fine-tuning together. Means over the seeds, which
are those of training, fine-tuning and random choice. Accuracies are those of the int8 network by the integer golden
model; what is chosen is chosen by the validation part.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch
from torch import nn

import codesign_kernel as ck
from codesign_kernel.optimize import Dataset, Recipe, accuracy, fit, logits, train_digits
from codesign_kernel.optimize.networks import NETWORKS

#: Passes over the data after the first training: fine-tuning; with gates, a half is with them and a half without.
EPOCHS = 20
LEARNING_RATE = 5e-3
#: Shares of channels, for how the channels are chosen and for uniform pruning on the array.
SHARES = (0.5, 0.25, 0.125)
UNIFORM = (0.75, 0.5, 0.375, 0.25, 0.125)
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
#: What a choice may lose on the validation part (share of inputs).
LOSS = 0.01
RECIPE = Recipe(EPOCHS, LEARNING_RATE)
HALF = Recipe(EPOCHS // 2, LEARNING_RATE)


def scratch(narrow: nn.Module, data: Dataset, epochs: int, rate: float, seed: int) -> nn.Module:
    """The network ``narrow`` with new weights, trained for ``epochs``; drawn again where its ReLUs have died."""
    while True:
        seed += 1000
        fresh = copy.deepcopy(narrow)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in fresh.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        fit(fresh, data, Recipe(epochs, rate), seed=seed)
        if np.ptp(logits(fresh, data.train_x), axis=0).min() > 0:
            return fresh


def measured(model: nn.Module, data: Dataset, machine: ck.Accelerator) -> dict[str, float]:
    """Accuracy of the int8 network by part of the data, in %, and what it costs."""
    network = ck.quantize(model, data.calibration_x)
    cost = ck.evaluate(network, machine)
    parts = {
        part: 100 * accuracy(network.predict(getattr(data, f"{part}_x")), getattr(data, f"{part}_y"))
        for part in ("validation", "test")
    }
    figures = {"latency_ms": cost.latency_s * 1e3, "energy_uj": cost.energy_pj * 1e-6, "macs": float(cost.macs)}
    return {**parts, **figures}


def rows(name: str, seed: int, machine: ck.Accelerator) -> Iterator[dict[str, Any]]:
    """One measured network a row."""
    model, data, _ = train_digits(seed, network=name)
    task = NETWORKS[name]

    def row(method: str, setting: float, made: nn.Module, table: str) -> dict[str, Any]:
        head = {"network": name, "seed": seed, "table": table, "method": method, "setting": setting}
        return {**head, **measured(made, data, machine)}

    whole = row("whole", 1.0, model, "choice")
    yield whole
    yield {**whole, "table": "hardware"}
    for share in SHARES:
        for importance in ("taylor", "magnitude", "random"):
            made = ck.prune(model, data, share, RECIPE, importance=importance, seed=seed)
            yield row(importance, share, made, "choice")
        yield row("scratch", share, scratch(made, data, task.epochs + EPOCHS, task.learning_rate, seed), "choice")
    for share in UNIFORM:
        made = ck.prune(model, data, share, RECIPE, round_to=machine.cols, seed=seed)
        yield row("uniform", share, made, "hardware")
    for metric in ("latency_ms", "energy_uj"):
        for strength in STRENGTHS:
            loss = ck.hardware_loss(model, data.train_x[:2], machine, metric, strength=strength)
            fit(loss.model, data, HALF, seed=seed, penalty=loss)
            yield row(f"aware of {metric[:-3]}", strength, loss.prune(data, HALF, seed=seed), "hardware")


def mean(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds, and the standard deviation of the accuracy on the test part."""
    by = frame.groupby(["method", "setting"], sort=False)
    table = by[["validation", "test", "macs", "latency_ms", "energy_uj"]].mean()
    table.insert(2, "sd", by["test"].std(ddof=1).fillna(0.0))
    return table.reset_index()


def show(table: pd.DataFrame) -> None:
    print(f"{'method':<17} {'setting':>7} {'valid %':>8} {'test %':>7} {'sd':>5} {'MAC':>8} {'us':>7} {'nJ':>7}")
    for row in table.itertuples():
        accuracies = f"{row.validation:>8.2f} {row.test:>7.2f} {row.sd:>5.2f}"
        costs = f"{row.macs:>8,.0f} {1e3 * row.latency_ms:>7.2f} {1e3 * row.energy_uj:>7.1f}"
        print(f"{row.method:<17} {row.setting:>7g} {accuracies} {costs}")


def chosen(table: pd.DataFrame, least: float, metric: str) -> pd.Series | None:
    """The cheapest row of ``table`` whose accuracy on the validation part is ``least`` or more."""
    good = table[table["validation"] >= least]
    return None if good.empty else good.loc[good[metric].idxmin()]


def told(row: pd.Series | None, metric: str) -> str:
    if row is None:
        return "nothing is as accurate"
    unit = "us" if metric == "latency_ms" else "nJ"
    return f"{1e3 * row[metric]:.2f} {unit}, test {row['test']:.2f} % ({row['method']} {row['setting']:g})"


def conclude(table: pd.DataFrame, machine: ck.Accelerator) -> None:
    """What the validation part chooses, and how that does on the test part."""
    whole = table.iloc[0]
    print(
        f"\ncheapest that lose at most {100 * LOSS:g} points of validation accuracy, on {machine.rows}x{machine.cols}:"
    )
    for metric in ("latency_ms", "energy_uj"):
        uniform = chosen(table[table["method"] == "uniform"], whole["validation"] - 100 * LOSS, metric)
        aware = chosen(table[table["method"] == f"aware of {metric[:-3]}"], whole["validation"] - 100 * LOSS, metric)
        print(f"  {metric}: whole {told(whole, metric)}; uniform {told(uniform, metric)}; aware {told(aware, metric)}")
        if uniform is not None and aware is not None:
            print(f"    aware / uniform = {aware[metric] / uniform[metric]:.2f}")
    better = table[(table["test"] >= whole["test"]) & (table["latency_ms"] < whole["latency_ms"])]
    better = better[better["energy_uj"] < whole["energy_uj"]]
    names = ", ".join(f"{row.method} {row.setting:g}" for row in better.itertuples())
    print(f"  no less accurate on the test part than whole, faster, and with less energy: {names or 'none'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["resnet"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--edge", type=int, default=4, help="rows and columns of the array")
    parser.add_argument("--csv", type=Path, help="where to write every measured network")
    parser.add_argument("--figure", type=Path, help="folder for a figure of each network (HTML)")
    args = parser.parse_args()
    warnings.simplefilter("error")
    machine = ck.Accelerator.systolic(args.edge, args.edge)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, one thread; {machine}")
    print(f"digits; {args.seeds} seeds; {EPOCHS} epochs at {LEARNING_RATE:g} after the first training")
    everything = []
    for name in args.networks:
        started = time.perf_counter()
        made = []
        for seed in range(args.seeds):
            made += rows(name, seed, machine)
            print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        frame = pd.DataFrame(made)
        everything.append(frame)
        print(f"\n{name}: {len(frame)} networks in {time.perf_counter() - started:.0f} s\n")
        print("how channels are chosen, one share for all layers (setting: share kept)")
        show(mean(frame[frame["table"] == "choice"]))
        hardware = mean(frame[frame["table"] == "hardware"])
        print("\nuniform pruning by Taylor in multiples of the columns (share), and the loss that knows (strength)")
        show(hardware)
        conclude(hardware, machine)
        sys.stdout.flush()
        if args.figure is not None:
            args.figure.mkdir(parents=True, exist_ok=True)
            drawn = frame[(frame["table"] == "hardware")]
            figure = ck.figures.plot_pruning(drawn, "latency_ms", name)
            figure.write_html(args.figure / f"pruning_{name}.html", include_plotlyjs="cdn")
        if args.csv is not None:
            pd.concat(everything).to_csv(args.csv, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
