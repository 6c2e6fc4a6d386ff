"""Fit the constants of the Gemmini model to measured RTL cycle counts, and judge it on layers it was not fitted on.

The counts are not part of the project: ``$CODESIGN_REFERENCE_DIR/gemmini_rtl.json`` (by default
``../shared/reference``) holds them. The exit status is 1 where, with one layer left out at a time, the median error
exceeds 12 % or Spearman's rank correlation is below 0.98. What the mechanisms are was decided with all layers in sight;
what is held out are the constants. ``--out FILE`` keeps the held-out predictions, as ratios to the RTL's counts, for
``codesign_kernel/session/data/gemmini.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from codesign_kernel.cost.gemmini import CACHE_LINES, CONSTANTS, GemminiConstants, Work, cycles, prepare

Case = dict[str, Any]
START = (8.0, 5.0, 20.0, 2.0, 0.2)
SMOOTH = 0.05  # log error below which the loss turns from absolute to quadratic
LAYER = tuple(f"prob.{name}" for name in ("R", "S", "P", "Q", "C", "K", "N", "Wstride", "Hstride"))


def predict(works: Sequence[Work], constants: GemminiConstants) -> np.ndarray:
    return np.array([cycles(work, constants) for work in works])


def fit(works: Sequence[Work], truth: np.ndarray) -> tuple[GemminiConstants, float]:
    """Constants of least mean smoothed absolute log error, and that error; the logarithms of the constants are free."""

    def loss(logs: np.ndarray) -> float:
        error = np.log(predict(works, GemminiConstants(*np.exp(logs))) / truth)
        return float(np.mean(np.sqrt(error**2 + SMOOTH**2)))

    options = {"maxiter": 1500, "maxfev": 1500, "xatol": 1e-3, "fatol": 1e-6}
    best = minimize(loss, np.log(START), method="Nelder-Mead", options=options)
    return GemminiConstants(*(float(value) for value in np.exp(best.x))), float(best.fun)


def held_out(works: Sequence[Work], truth: np.ndarray, groups: Sequence[object]) -> np.ndarray:
    """Predictions of every case by constants fitted without its group."""
    out = np.zeros(len(truth))
    for group in sorted(set(groups), key=str):
        train = [i for i, other in enumerate(groups) if other != group]
        constants, _ = fit([works[i] for i in train], truth[train])
        for i in range(len(truth)):
            if groups[i] == group:
                out[i] = cycles(works[i], constants)
    return out


def report(name: str, guess: np.ndarray, truth: np.ndarray) -> bool:
    error = np.abs(guess / truth - 1)
    rank = float(spearmanr(guess, truth).statistic)
    print(
        f"{name:34s} median {np.median(error):6.1%}  MAPE {error.mean():6.1%}  p90 {np.quantile(error, 0.9):6.1%}  "
        f"max {error.max():6.1%}  within 12 % {np.mean(error <= 0.12):4.0%}  Spearman {rank:.4f}  "
        f"bias {np.median(guess / truth) - 1:+.1%}"
    )
    return bool(np.median(error) <= 0.12 and rank >= 0.98)


def family(case: Case) -> int:
    """Network that a case seems to come from, guessed from its shape and memory sizes: layers of one go together."""
    if case["prob.Q"] == 1 and case["prob.P"] > 1:
        return 0
    return {512: 1, 3136: 1, 3584: 1, 784: 2, 1792: 2}.get(int(case["arch.mem1_entries"]), 3)


def kind(case: Case) -> str:
    """What a case computes, by its filter; the products of one image column have no second axis."""
    side, stride = int(case["prob.R"]), int(case["prob.Wstride"])
    if side == 1 and case["prob.Q"] == 1:
        return "matrix product"
    return f"{side} x {side} convolution" + (f", stride {stride}" if stride > 1 else "")


def write(path: Path, source: str, cases: Sequence[Case], out: np.ndarray, truth: np.ndarray) -> None:
    """Ratios of the held-out predictions to the RTL's counts, sorted within each kind of layer, one kind a line."""
    kinds = [kind(case) for case in cases]
    layers = {
        name: {tuple(c[f] for f in LAYER) for c, k in zip(cases, kinds, strict=True) if k == name} for name in kinds
    }
    ratios = {
        name: sorted(float(f"{r:.4f}") for r, k in zip(out / truth, kinds, strict=True) if k == name) for name in layers
    }
    lines = [
        f'"source": {json.dumps(source)}',
        '"command": "python benchmarks/gemmini.py --out FILE"',
        '"what": "Held-out predictions over the cycle counts of the RTL: the constants were fitted without the layer."',
        f'"spearman": {spearmanr(out, truth).statistic:.4f}',
        f'"layers": {json.dumps({name: len(layers[name]) for name in sorted(layers)})}',
        '"ratios": {\n'
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(ratios[name])}" for name in sorted(ratios))
        + "\n}",
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the held-out predictions as ratios, as JSON")
    options = parser.parse_args()
    folder = os.environ.get("CODESIGN_REFERENCE_DIR", Path(__file__).parents[2] / "shared" / "reference")
    file = Path(folder) / "gemmini_rtl.json"
    if not file.is_file():
        print("no measured cycle counts of Gemmini here; set CODESIGN_REFERENCE_DIR to the folder of gemmini_rtl.json")
        return 0
    data = json.loads(file.read_text(encoding="utf-8"))
    cases = data["cases"]
    truth = np.array([case["target.gemmini_cycle"] for case in cases])
    blind = [{key: value for key, value in case.items() if not key.startswith("target.")} for case in cases]
    works = [prepare(case) for case in blind]
    layers = [tuple(case[field] for field in LAYER) for case in cases]
    families = [family(case) for case in cases]

    report("baseline: Timeloop (target.cycle)", np.array([case["target.cycle"] for case in cases]), truth)
    constants, loss = fit(works, truth)
    print("fitted on all:", {f.name: round(v, 3) for f, v in zip(fields(constants), astuple(constants), strict=True)})
    print(f"loss {loss:.5f}")
    report("fitted on all (in sample)", predict(works, constants), truth)
    report("constants of gemmini.py (in sample)", predict(works, CONSTANTS), truth)
    out = held_out(works, truth, layers)
    good = report(f"leave one of {len(set(layers))} layers out", out, truth)
    if options.out:
        write(options.out, data["source"].split(" (BSD")[0] + " (BSD-2-Clause)", cases, out, truth)
    rng = np.random.default_rng(0)
    fold = {layer: i % 5 for i, layer in enumerate(rng.permutation(len(set(layers))))}
    index = {layer: i for i, layer in enumerate(sorted(set(layers)))}
    report("5 folds of layers", held_out(works, truth, [fold[index[layer]] for layer in layers]), truth)
    report("leave one of 4 families out", held_out(works, truth, families), truth)
    worst(cases, out, truth)
    sensitivity(blind, truth)
    return 0 if good else 1


def worst(cases: Sequence[Case], out: np.ndarray, truth: np.ndarray, number: int = 10) -> None:
    for i in np.argsort(-np.abs(np.log(out / truth)))[:number]:
        case = cases[i]
        layer = " ".join(f"{name[5:]}{int(case[name])}" for name in LAYER)
        print(f"  {out[i] / truth[i] - 1:+6.0%}  RTL {truth[i]:>9.0f}  {layer}  {case['mapping.mapping']}")


def sensitivity(cases: Sequence[Case], truth: np.ndarray) -> None:
    """How the loss depends on the one structural number that is assumed: the size of the last-level cache."""
    for factor in (0.125, 0.5, 0.75, 1, 1.25, 2, 8):
        _, loss = fit([prepare(case, CACHE_LINES * factor) for case in cases], truth)
        print(f"  cache {CACHE_LINES * factor * 64 / 2**20:5.1f} MiB: loss {loss:.4f}")


if __name__ == "__main__":
    sys.exit(main())
