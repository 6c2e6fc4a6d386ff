"""The tasks that networks are trained for here: sizes, training time, and accuracy by seed, as floats and as integers.

Choices (how noisy the words are, how long the training is, which network) were made on the validation part; the
figures of float and integers are of the test part.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np

import codesign_kernel as ck
from codesign_kernel.optimize import NETWORKS, Dataset, accuracy, load_digits, load_keywords, logits

BITS = (16, 8, 4)


def load(network: str) -> Dataset:
    """The data that ``network`` learns."""
    task = NETWORKS[network]
    return load_keywords() if task.data == "keywords" else load_digits(task.shape[1])


def measured(network: str, data: Dataset, seed: int) -> tuple[float, list[float]]:
    """Seconds of processor time that the training took; accuracy on validation, on test, and on test as integers."""
    started = time.process_time()
    model, right = NETWORKS[network].train(data, seed, None, None)
    took = time.process_time() - started
    integers = [ck.quantize(model, data.calibration_x, bits) for bits in BITS]
    chosen = accuracy(logits(model, data.validation_x), data.validation_y)
    return took, [chosen, right, *(accuracy(one.predict(data.test_x), data.test_y) for one in integers)]


def main(arguments: list[str] | None = None) -> None:
    """Print a table of the data and one of the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1 (default 5)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["cnn", "keywords"], metavar="NAME")
    asked = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for network in asked.networks:
        data = load(network)
        model, x = NETWORKS[network].untrained()
        found = ck.profile(model, x)
        print(f"{network}: {data!r}, {found.macs:,} MAC, {found.parameters:,} parameters")
        heads = ("seed", "train s", "validation", "test", *(f"int{bits}" for bits in BITS))
        print(" ".join(f"{head:>10}" for head in heads))
        rows = []
        for seed in range(asked.seeds):
            took, shares = measured(network, data, seed)
            rows.append(shares)
            print(f"{seed:>10} {took:>10.1f} " + " ".join(f"{share:>10.2%}" for share in shares), flush=True)
        print(f"{'mean':>10} {'':>10} " + " ".join(f"{share:>10.2%}" for share in np.mean(rows, 0)) + "\n", flush=True)


if __name__ == "__main__":
    main()
