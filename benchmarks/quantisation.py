"""What narrow weights cost, what training wins back, and what a width for each layer is worth, on networks that learn.

    python benchmarks/quantisation.py [--networks cnn resnet mobilenet keywords] [--seeds 3] [--hardware]

Choices are made on validation data; every share printed is of the test part, mean over seeds and (least to largest).
The mixed networks are compared with uniform ones trained by the same recipe. Takes some minutes a network and seed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from torch import nn

from codesign_kernel.optimize import (
    Assignment,
    Dataset,
    IntegerNetwork,
    Recipe,
    accuracy,
    logits,
    mixed_precision,
    quantize,
    quantize_aware,
    train_digits,
    weight_bytes,
)

#: (bits of maps, bits of weights), all layers alike.
UNIFORM = ((8, 8), (8, 4), (8, 2), (4, 4), (4, 2))
RECIPE = Recipe(epochs=5, learning_rate=2e-3)
BUDGET = 60


def trained(name: str, seed: int) -> tuple[nn.Module, Dataset]:
    """The float network of this name and its data."""
    if name == "keywords":
        from codesign_kernel.optimize import train_keywords

        model, data, _ = train_keywords(seed)
    else:
        model, data, _ = train_digits(seed, network=name)
    return model, data


def uniform(model: nn.Module, data: Dataset, bits: int, width: int) -> dict[str, int]:
    """``width`` for each layer that has weights."""
    layers = quantize(model, data.calibration_x, bits).layers
    return {layer.name: width for layer in layers if layer.op in ("conv2d", "linear")}


def share(network: IntegerNetwork, data: Dataset) -> float:
    """Of the test inputs, those that the network gets right (%)."""
    return 100 * accuracy(network.predict(data.test_x), data.test_y)


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):6.2f} ({min(values):.2f} to {max(values):.2f})"


def dominating(mixed: Sequence[tuple[float, float]], point: tuple[float, float]) -> list[tuple[float, float]]:
    """The (cost, share) of ``mixed`` that are no worse than ``point`` in both and better in one."""
    cost, right = point
    return [(c, r) for c, r in mixed if c <= cost and r >= right and (c, r) != point]


def network_table(name: str, seeds: int) -> None:
    """Uniform widths, rounded and trained, and mixed ones."""
    rows: dict[tuple[int, int], dict[str, list[float]]] = {u: {"rounded": [], "trained": []} for u in UNIFORM}
    floats: list[float] = []
    mixtures: list[list[tuple[float, float]]] = []
    shown: list[Assignment] = []
    points: dict[tuple[int, int], list[tuple[float, float]]] = {u: [] for u in UNIFORM}
    for seed in range(seeds):
        model, data = trained(name, seed)
        floats.append(100 * accuracy(logits(model, data.test_x), data.test_y))
        for bits, width in UNIFORM:
            widths = uniform(model, data, bits, width)
            rows[bits, width]["rounded"].append(share(quantize(model, data.calibration_x, bits, widths), data))
            network = quantize_aware(model, data, bits, widths, RECIPE, seed)
            rows[bits, width]["trained"].append(share(network, data))
            points[bits, width].append((weight_bytes(network), rows[bits, width]["trained"][-1]))
        found = mixed_precision(model, data, weight_bytes, 8, (2, 4, 8), BUDGET, RECIPE, trained=8, seed=seed)
        mixtures.append([(one.cost, share(one.network, data)) for one in found.front])
        shown = list(found.front)
    print(f"\n{name}: float {spread(floats)} % of {len(data.test_x)} test inputs, {seeds} seeds")
    print("maps  weights  bytes    rounded only              trained (QAT)")
    for (bits, width), got in rows.items():
        size = points[bits, width][0][0]
        print(f"{bits:4d}  {width:7d}  {size:7.0f}  {spread(got['rounded']):24s}  {spread(got['trained'])}")
    print("mixed (maps of 8 bits; the front on validation data, of each seed: bytes, % on test data)")
    for seed, mixture in enumerate(mixtures):
        print(f"  seed {seed}: " + ", ".join(f"{cost:.0f} B {right:.2f}" for cost, right in mixture))
        for rival in ((8, 8), (8, 4), (4, 4), (8, 2)):
            better = dominating(mixture, points[rival][seed])
            if better:
                cost, right = points[rival][seed]
                told = ", ".join(f"{c:.0f} B {r:.2f}" for c, r in better)
                print(f"    dominate W{rival[1]}A{rival[0]} ({cost:.0f} B {right:.2f}): {told}")
    print("  widths of the last seed's: " + "; ".join("".join(map(str, one.weight_bits.values())) for one in shown))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["cnn", "resnet", "mobilenet", "keywords"])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.networks:
        start = time.perf_counter()
        network_table(name, arguments.seeds)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
