"""Random networks, and the machines that they run on: shared by the tests of cost, lowering, RTL and co-simulation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.isa import Op
from codesign_kernel.errors import CapacityError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize import IntegerLayer, IntegerNetwork


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
#: Squares and both kinds of oblongs, both dataflows, int4 and int16, one PE, slow and fast buses, tight and roomy
#: memories.
MACHINES = {
    **TINY,
    "1x1": machine(1, 1, 0.25, 1, 0.1),
    "4x4": machine(4, 4, 0.25, 1, 0.25),
    "4x4 int4": machine(4, 4, 0.125, 0.5, 0.25, weight_bits=4),
    "8x8": machine(8, 8, 1, 8, 1),
    "2x8": machine(2, 8, 0.5, 2, 0.5, bandwidth_gb_s=0.8),
    "8x4": machine(8, 4, 0.5, 2, 0.5, bandwidth_gb_s=0.4),
    "3x6": machine(3, 6, 0.5, 2, 0.5),
    "9x3": machine(9, 3, 0.4, 1.5, 0.3, bandwidth_gb_s=12.8),
    "2x2 int16": machine(2, 2, 0.25, 1, 0.1, weight_bits=16, instruction_kib=1),
    "2x4 int16": machine(2, 4, 0.5, 2, 0.5, weight_bits=16, bandwidth_gb_s=0.4),
    **{
        f"{name} os": machine(rows, cols, activation, weight, 1, dataflow="os", **rest)
        for name, rows, cols, activation, weight, rest in [
            ("2x2", 2, 2, 0.125, 0.5, {"instruction_kib": 1}),
            ("4x2", 4, 2, 0.25, 0.5, {"instruction_kib": 1, "bandwidth_gb_s": 0.2}),
            ("2x8", 2, 8, 0.5, 2, {"bandwidth_gb_s": 0.8}),
            ("1x1", 1, 1, 0.25, 1, {}),
            ("9x3", 9, 3, 0.4, 1.5, {"bandwidth_gb_s": 12.8}),
            ("8x8", 8, 8, 1, 8, {}),
            ("4x4 int4", 4, 4, 0.125, 0.5, {"weight_bits": 4}),
            ("2x4 int16", 2, 4, 0.5, 2, {"weight_bits": 16, "bandwidth_gb_s": 0.4}),
        ]
    },
}


@pytest.fixture(scope="session", autouse=True)
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What simulators build goes into one folder for the whole session, and not into the user's cache."""
    if os.environ.get("CODESIGN_CACHE_DIR"):
        yield Path(os.environ["CODESIGN_CACHE_DIR"])
        return
    folder = tmp_path_factory.mktemp("compiled models")  # paths have spaces at times
    os.environ["CODESIGN_CACHE_DIR"] = str(folder)
    yield folder
    del os.environ["CODESIGN_CACHE_DIR"]


def random_layer(
    rng: np.random.Generator, name: str, k: int, c: int, f: tuple[int, int], bits: int, **settings
) -> IntegerLayer:
    """Random integers, scaled so that results fill the range, are clipped now and then, and round both ways."""
    top = 1 << (bits - 1)
    sums = top * np.sqrt(c * f[0] * f[1] / 3)
    shift = np.clip(16 + np.round(np.log2(sums) + rng.normal(0, 1.5, k)).astype(int), 1, 47)
    narrow, wide = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    return IntegerLayer(
        name,
        settings.pop("op", "conv2d"),
        rng.integers(-top, top, (k, c, *f)).astype(narrow),
        rng.normal(0, top * sums / 4, k).astype(wide),
        rng.integers(1, 1 << 16, k).astype(np.int32),
        shift.astype(np.int32),
        **settings,
    )


def random_network(rng: np.random.Generator, bits: int, plain: bool = False) -> IntegerNetwork:
    """One to three convolutions, and at times a fully connected layer; ``plain``: stride 1, no dilation, no groups."""
    c, h, w = (int(v) for v in rng.integers((1, 3, 3), (14, 13, 13)))
    first = (c, h, w)
    layers: list[IntegerLayer] = []
    for i in range(int(rng.integers(1, 4))):
        f = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        stride, dilation, groups, k = (1, 1), (1, 1), 1, int(rng.integers(1, 20))
        if not plain and rng.random() < 0.4:
            stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        if not plain and rng.random() < 0.3:
            dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        if not plain and rng.random() < 0.3:
            groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
            k = groups * int(rng.integers(1, 4))
        reach = tuple((f[j] - 1) * dilation[j] + 1 for j in (0, 1))
        padding = (int(rng.integers(0, reach[0])), int(rng.integers(0, reach[1])))
        oh, ow = ((v + 2 * padding[j] - reach[j]) // stride[j] + 1 for j, v in enumerate((h, w)))
        if min(oh, ow) < 1:
            break
        pool = int(rng.integers(2, 4)) if rng.random() < 0.5 else 1
        pool = pool if pool <= min(oh, ow) else 1
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "pool": pool}
        layer = random_layer(rng, f"conv{i}", k, c // groups, f, bits, relu=bool(rng.random() < 0.5), **settings)
        layers.append(layer)
        c, h, w = k, oh // pool, ow // pool
    if not layers or rng.random() < 0.4:
        k = int(rng.integers(1, 20))
        layers.append(random_layer(rng, "fc", k, c * h * w, (1, 1), bits, op="linear", flatten=True))
    return IntegerNetwork("random", first, 0.1, bits, tuple(layers))


def pair() -> IntegerNetwork:
    """Two layers that fit the smallest machine: padding, ReLU, pooling, several taps and tiles."""
    rng = np.random.default_rng(0)
    first = random_layer(rng, "first", 3, 2, (2, 2), 8, padding=(1, 1), relu=True, pool=2)
    second = random_layer(rng, "second", 3, 12, (1, 1), 8, op="linear", flatten=True)
    return IntegerNetwork("pair", (2, 3, 3), 0.1, 8, (first, second))


def random_inputs(rng: np.random.Generator, network: IntegerNetwork, count: int) -> np.ndarray:
    """Quantised inputs, with both ends of the range among them."""
    low, high = network.range
    return rng.integers(low, high + 1, (count, *network.input_shape)).astype(network.dtype)


def runnable(accelerator: Accelerator, seed: int, count: int, plain: bool = False) -> Iterator[Program]:
    """``count`` programs of random networks that fit ``accelerator``."""
    rng = np.random.default_rng(seed)
    while count:
        try:
            yield lower(random_network(rng, accelerator.weight_bits, plain), accelerator)
        except CapacityError:
            continue
        count -= 1


def features(program: Program) -> set[str]:
    """What ``program`` makes the hardware do."""
    found = {"streamed weights" if not program.boot else "resident weights"}
    found |= {"spilled map"} if len(program.maps) > 2 else set()
    for layer in program.network.layers:
        mine = [i for i, owner in zip(program.main, program.owners, strict=True) if owner == layer.name]
        quants, convs = (sum(i.op in ops for i in mine) for ops in ((Op.LOADQ, Op.TILE), (Op.CONV, Op.SUM)))
        tiles = -(-len(layer.weight) // program.accelerator.cols)
        traits = {
            "chunks": quants > tiles,
            "passes": convs > quants,
            "tiles": tiles > 1,
            "blocks": any(i.op in (Op.CONV, Op.SUM) and i["nct"] > 1 for i in mine),
            "banks": any(i.op in (Op.CONV, Op.STORE, Op.SUM) and i["bank"] > 0 for i in mine),
            "stride": layer.stride != (1, 1),
            "dilation": layer.dilation != (1, 1),
            "groups": layer.groups > 1,
            "padding": layer.padding != (0, 0),
            "pool": layer.pool > 1,
            "relu": layer.relu,
            "linear": layer.op == "linear",
        }
        found |= {name for name, there in traits.items() if there}
    return found


def children() -> set[int]:
    """Processes that this one has started and that are still there."""
    tasks = Path("/proc/self/task")
    return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
