"""Random networks, and the machines that they run on: shared by the tests of cost, lowering, RTL and co-simulation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.errors import CapacityError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.session.cases import features, random_inputs, random_layer, random_network

__all__ = ["features", "random_inputs", "random_layer", "random_network"]


def machine(rows: int, cols: int, activation: float, weight: float, accumulator: float, **rest) -> Accelerator:
    """An accelerator; the memories in KiB."""
    return Accelerator.systolic(
        rows, cols, activation_kib=activation, weight_kib=weight, accumulator_kib=accumulator,
        **{"instruction_kib": 16, **rest},
    )  # fmt: skip


#: Small enough for MyHDL: banks of results (more rows than columns) and banks of inputs (more columns than rows).
TINY = {
    "2x2": machine(2, 2, 0.125, 0.5, 0.0625, instruction_kib=1),
    "4x2": machine(4, 2, 0.25, 0.5, 0.125, instruction_kib=1, bandwidth_gb_s=0.2),
}
#: Squares and both kinds of oblongs, both dataflows, int4 and int16, weights packed and not, one PE, slow and fast
#: buses, tight and roomy memories.
MACHINES = {
    **TINY,
    "1x1": machine(1, 1, 0.25, 1, 0.1),
    "4x4": machine(4, 4, 0.25, 1, 0.25),
    "4x4 int4": machine(4, 4, 0.125, 0.5, 0.25, weight_bits=4),
    "8x8": machine(8, 8, 1, 8, 1),
    "2x8": machine(2, 8, 0.5, 2, 0.5, bandwidth_gb_s=0.8, memory_latency=12),
    "8x4": machine(8, 4, 0.5, 2, 0.5, bandwidth_gb_s=0.4),
    "3x6": machine(3, 6, 0.5, 2, 0.5),
    "9x3": machine(9, 3, 0.4, 1.5, 0.3, bandwidth_gb_s=12.8),
    "3x6 from int4": machine(3, 6, 0.5, 1.2, 0.5, min_weight_bits=4),
    "4x2 from int2": machine(4, 2, 0.25, 0.4, 0.125, instruction_kib=1, bandwidth_gb_s=0.4, min_weight_bits=2),
    "2x2 int16": machine(2, 2, 0.25, 1, 0.1, weight_bits=16, instruction_kib=1),
    "2x4 int16": machine(2, 4, 0.5, 2, 0.5, weight_bits=16, bandwidth_gb_s=0.4),
    **{
        f"{name} os": machine(rows, cols, activation, weight, 1, dataflow="os", **rest)
        for name, rows, cols, activation, weight, rest in [
            ("2x2", 2, 2, 0.125, 0.5, {"instruction_kib": 1}),
            ("4x2", 4, 2, 0.25, 0.5, {"instruction_kib": 1, "bandwidth_gb_s": 0.2}),
            ("2x8", 2, 8, 0.5, 2, {"bandwidth_gb_s": 0.8}),
            ("1x1", 1, 1, 0.25, 1, {}),
            ("9x3", 9, 3, 0.4, 1.5, {"bandwidth_gb_s": 12.8, "memory_latency": 5}),
            ("8x8", 8, 8, 1, 8, {}),
            ("4x4 int4", 4, 4, 0.125, 0.5, {"weight_bits": 4}),
            ("3x3 int16 from int2", 3, 3, 0.25, 0.8, {"weight_bits": 16, "min_weight_bits": 2}),
            ("4x4 int4 from int2", 4, 4, 0.125, 0.5, {"weight_bits": 4, "min_weight_bits": 2}),
            ("2x4 int16", 2, 4, 0.5, 2, {"weight_bits": 16, "bandwidth_gb_s": 0.4}),
        ]
    },
}


def pair() -> IntegerNetwork:
    """Two layers that fit the smallest machine: padding, ReLU, pooling, several taps and tiles."""
    rng = np.random.default_rng(0)
    first = random_layer(rng, "first", 3, 2, (2, 2), 8, padding=(1, 1), relu=True, pool=2)
    second = random_layer(rng, "second", 3, 12, (1, 1), 8, op="linear", flatten=True)
    return IntegerNetwork("pair", (2, 3, 3), 0.1, 8, (first, second))


def runnable(accelerator: Accelerator, seed: int, count: int, plain: bool = False) -> Iterator[Program]:
    """``count`` programs of random networks that fit ``accelerator``."""
    rng = np.random.default_rng(seed)
    while count:
        try:
            yield lower(random_network(rng, accelerator.weight_bits, plain), accelerator)
        except CapacityError:
            continue
        count -= 1


def children() -> set[int]:
    """Processes that this one has started and that are still there."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found
