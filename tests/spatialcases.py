"""Layers, chains and spatial arrays to try things on: a few to work out on paper, and as many random ones as wanted."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
from nestwalk import Tiling

from codesign_kernel.accelerator.spatial import SpatialArray, SpatialArrays
from codesign_kernel.cost.search import Kept, Table, engines_of, mappings
from codesign_kernel.mapping.nest import nest_of
from codesign_kernel.workload import Layer, Workload

#: 5 x 3 by 3 x 4: W 12, I 15, O 20 elements, 60 MACs.
GEMM = Layer("gemm", "linear", B=5, K=4, C=3)
#: 7 x 5 map, 3x3 filter, stride 2, padding 1: 4 x 3 positions, k = 9.
HALO = Layer("halo", "conv2d", K=2, OY=4, OX=3, FY=3, FX=3, IY=7, IX=5, stride=(2, 2), padding=(1, 1))
#: Five groups of one channel, 2x2 filter on a 3 x 3 map: m = 4, k = 4, n = 1 each.
DEPTHWISE = Layer("depthwise", "conv2d", G=5, OY=2, OX=2, FY=2, FX=2, IY=3, IX=3)


def array(**changes: Any) -> SpatialArray:
    settings = {"rows": 2, "cols": 3, "burst_bytes": 1, "bandwidth_gb_s": 1.0, "frequency_mhz": 1000.0}
    return SpatialArray(**{**settings, **changes})


def cuts(y: int, k: int, c: int, grouped: bool = False) -> Tiling:
    return {"y": y, "k": k, "c": c, "grouped": grouped}


def any_array(rng: random.Random, **fixed: Any) -> SpatialArray:
    """A small machine with buffers for everything."""
    drawn: dict[str, Any] = {
        "rows": rng.choice([1, 2, 3, 4, 8]),
        "cols": rng.choice([1, 2, 4, 5, 8]),
        "dataflow": rng.choice(["ws", "os", "is"]),
        "overlap": rng.random() < 0.5,
        "im2col": rng.random() < 0.5,
        "weight_bits": rng.choice([4, 8]),
        "input_bits": rng.choice([8, 16]),
        "output_bits": rng.choice([8, 6]),
        "acc_bits": rng.choice([32, 20]),
        "double_buffered": rng.random() < 0.7,
        "register_words": rng.choice([1, 1, 2, 3]),
        "bandwidth_gb_s": rng.choice([0.5, 3.0, 20.0]),
        "burst_bytes": rng.choice([1, 48, 64]),
        "duplex": rng.random() < 0.5,
        "vector_lanes": rng.choice([1, 4, 64]),
    }
    buffers = (
        {"shared_kib": 3e4} if rng.random() < 0.3 else dict.fromkeys(("input_kib", "weight_kib", "output_kib"), 1e4)
    )
    return SpatialArray(**{**drawn, **(buffers if not any("kib" in name for name in fixed) else {}), **fixed})


def any_conv(rng: random.Random, name: str = "layer", largest: int = 9) -> Layer:
    """A convolution: dense, grouped or depthwise, with stride, padding and dilation."""
    fy, fx = rng.randint(1, 3), rng.randint(1, 3)
    stride, padding, dilation = rng.choice([1, 1, 2, 3]), rng.choice([0, 1, 1, 2, 4]), rng.randint(1, 2)
    reach = (fy - 1) * dilation + 1
    iy = rng.randint(max(1, reach - 2 * padding), max(1, reach - 2 * padding) + 5)
    oy = (iy + 2 * padding - reach) // stride + 1
    if rng.random() < 0.2:
        oy = max(1, oy + rng.choice([-1, 1, 6]))  # more padding below than above, or rows that are left out
    groups = rng.choice([1, 1, 1, 3, 4])
    depthwise = groups > 1 and rng.random() < 0.5
    k, c = (1, 1) if depthwise else (rng.randint(1, largest), rng.randint(1, largest))
    return Layer(
        name, "conv2d", B=rng.choice([1, 1, 2]), G=groups, K=k, C=c, OY=oy, OX=rng.randint(1, 3), FY=fy, FX=fx,
        IY=iy, IX=rng.randint(1, 4), stride=(stride, stride), padding=(padding, padding), dilation=(dilation, dilation),
    )  # fmt: skip


def any_layer(rng: random.Random, largest: int = 9) -> Layer:
    """A layer that does MACs, of any kind."""
    op = rng.choice(["conv2d", "conv2d", "conv2d", "linear", "matmul", "conv_transpose2d"])
    if op == "conv2d":
        return any_conv(rng, largest=largest)
    k, c = rng.randint(1, largest), rng.randint(1, largest)
    if op == "conv_transpose2d":
        y, x = rng.randint(1, 3), rng.randint(1, 2)
        return Layer(
            "layer", op, B=rng.choice([1, 2]), G=rng.choice([1, 2]), K=rng.randint(1, 3), C=c, OY=2 * y + 1,
            OX=2 * x + 1, FY=3, FX=2, IY=y, IX=x, stride=(2, 2), padding=(1, 1),
        )  # fmt: skip
    rows = rng.randint(1, 6)
    batch, groups = rng.choice([1, 2]), rng.choice([1, 3]) if op == "matmul" else 1
    # the rows of a matmul are counted in OX, those of a linear layer on a map in OY and OX
    if op == "linear" and rng.random() < 0.5:
        return Layer("layer", op, B=batch, K=k, C=c, OY=rows, OX=2, IY=rows, IX=2)
    return Layer("layer", op, B=batch, G=groups, K=k, C=c, OX=rows, IX=rows)


def all_mappings(layer: Layer, machine: SpatialArray, in_kept: bool = False, out_kept: bool = False) -> Table:
    """Every mapping of ``layer`` that fits the buffers, as the fast road has them."""
    machines = SpatialArrays.of([machine])
    ((engine, _),) = engines_of(machines)
    kept = Kept(in_kept * layer.inputs * machine.input_bits, out_kept * layer.outputs * machine.output_bits)
    return mappings(nest_of(layer), engine, capacity_of(machine), bool(machine.shared_kib), kept, every=True)


def capacity_of(machine: SpatialArray) -> np.ndarray[Any, Any]:
    """[1, 3]: the weight, input and output buffers; or the shared one, 0, 0 (bit)."""
    bits = {level.name: level.capacity_bit for level in machine.memories}
    names = ("shared",) if machine.shared_kib else ("weight", "input", "output")
    return np.array([[*(float(bits[name]) for name in names), 0.0, 0.0][:3]])


def any_chain(rng: random.Random, length: int, largest: int = 24) -> Workload:
    """Layers one behind the other, each reading what the one before made: convolutions, what is fused with them, and
    what has a turn of its own on the vector unit."""
    size, channels, images = rng.choice([4, 7, 8]), rng.randint(1, 8), rng.choice([1, 2])
    layers: list[Layer] = []
    for number in range(length):
        name, op = f"layer{number}", rng.choice(["conv2d", "conv2d", "conv2d", "relu", "max_pool2d", "softmax"])
        if op == "conv2d" or not layers:
            k, side = rng.randint(1, largest), rng.choice([1, 3])
            layer = Layer(
                name, "conv2d", B=images, K=k, C=channels, OY=size, OX=size, FY=side, FX=side, IY=size, IX=size,
                padding=(side // 2, side // 2),
            )  # fmt: skip
            channels = k
        elif op == "max_pool2d" and size > 1:
            half = size // 2
            layer = Layer(
                name, op, B=images, G=channels, OY=half, OX=half, FY=2, FX=2, IY=size, IX=size, stride=(2, 2)
            )  # fmt: skip
            size = half
        else:
            layer = Layer(
                name, "relu" if op == "max_pool2d" else op, B=images, G=channels, OY=size, OX=size, IY=size, IX=size
            )
        layers.append(layer)
    return Workload("chain", tuple(layers), tuple(pairwise(layer.name for layer in layers)))


def alone(layer: Layer) -> Workload:
    """A workload of one layer."""
    return Workload("alone", (layer,))
