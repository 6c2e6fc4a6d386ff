"""What narrow weights cost, what training wins back, and what a width for each layer is worth, on networks that learn.

    python benchmarks/quantisation.py [--networks cnn resnet mobilenet keywords] [--seeds 3]

Choices are made on validation data; every share printed is of the test part, mean over seeds and (least to largest).
The mixed networks are compared with uniform ones trained by the same recipe. Takes some minutes a network and seed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress

from torch import nn

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InfeasibleDesignError
from codesign_kernel.optimize import (
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
UNIFORM = ((8, 8), (8, 4), (8, 2), (4, 4))
RECIPE = Recipe(epochs=5, learning_rate=2e-3)
#: Networks that the search measures, and those of its front that are trained.
BUDGET, TRAINED = 40, 5
#: Weight memories to choose from (KiB): each network gets the smallest that all of its weights stay in.
WEIGHT_KIB = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
MACHINE = {"rows": 8, "cols": 8, "activation_kib": 16, "accumulator_kib": 8, "bandwidth_gb_s": 0.4}


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


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether all of ``one`` is at most ``other``, and some of it less."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def on_hardware(network: IntegerNetwork) -> tuple[float, float, float] | None:
    """(us, uJ, mm2) of an inference on an 8x8 array with the smallest weight memory that holds the network for good.

    A machine for networks whose weights are all as wide as their maps has no unpacker.
    """
    narrow = any(layer.weight_bits for layer in network.layers)
    for kib in WEIGHT_KIB:
        machine = Accelerator.systolic(
            **MACHINE, weight_bits=network.bits, weight_kib=kib, min_weight_bits=2 if narrow else 0
        )
        with suppress(InfeasibleDesignError):
            cost = evaluate(network, machine)
            if cost.resident:
                return cost.latency_s * 1e6, cost.energy_pj * 1e-6, cost.area_um2 * 1e-6
    return None


def told(network: IntegerNetwork, right: float) -> str:
    """Bytes, share and cost in one line."""
    cost = on_hardware(network)
    silicon = "fits no machine" if cost is None else "{:.1f} us {:.3f} uJ {:.4f} mm2".format(*cost)
    return f"{weight_bytes(network):6.0f} B  {right:.2f} %  {silicon}"


def objectives(network: IntegerNetwork, right: float) -> dict[str, tuple[float, ...]]:
    """What is to be small: in the plane of error and bytes, and of error, latency, energy and area."""
    cost = on_hardware(network)
    planes = {"bytes": (-right, weight_bytes(network))}
    return planes if cost is None else {**planes, "hardware": (-right, *cost)}


def one_seed(name: str, seed: int) -> dict[str, float]:
    """Train, round, search; print the mixed networks and what they dominate, and give the shares of uniform ones."""
    model, data = trained(name, seed)
    shares = {"float": 100 * accuracy(logits(model, data.test_x), data.test_y)}
    rivals = {}
    for bits, width in UNIFORM:
        widths = uniform(model, data, bits, width)
        rounded = quantize(model, data.calibration_x, bits, widths)
        rivals[f"W{width}A{bits}"] = network = quantize_aware(model, data, bits, widths, RECIPE, seed)
        shares[f"W{width}A{bits} rounded"], shares[f"W{width}A{bits} trained"] = (
            share(rounded, data),
            share(network, data),
        )
    print(f"\n{name}, seed {seed}: % of {len(data.test_x)} test inputs; latency, energy and area on 8x8 PEs")
    for rival, network in rivals.items():
        print(f"  {rival} trained  {told(network, shares[rival + ' trained'])}")
    found = mixed_precision(model, data, weight_bytes, 8, (2, 4, 8), BUDGET, RECIPE, TRAINED, seed)
    for one in found.front:
        right = share(one.network, data)
        print(f"  mixed {''.join(map(str, one.weight_bits.values()))}  {told(one.network, right)}")
        mine = objectives(one.network, right)
        for rival, network in rivals.items():
            theirs = objectives(network, shares[rival + " trained"])
            for plane in mine:
                if plane in theirs and dominates(mine[plane], theirs[plane]):
                    print(f"    dominates {rival} trained in accuracy and {plane}")
    return shares


def network_table(name: str, seeds: int) -> None:
    """Uniform widths, rounded and trained, over the seeds."""
    found = [one_seed(name, seed) for seed in range(seeds)]
    print(f"\n{name}, {seeds} seeds, % of the test inputs")
    for row in found[0]:
        print(f"  {row:14s}  {spread([shares[row] for shares in found])}")


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
