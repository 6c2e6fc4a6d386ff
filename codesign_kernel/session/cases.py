"""Random networks, and random machines to run them on: what ``verify`` and the tests compare RTL and models with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from codesign_kernel.accelerator.isa import Op
from codesign_kernel.accelerator.types import ACC_BITS, Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import CapacityError, InfeasibleDesignError, InvalidInputError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import MULTIPLIER_RANGE, IntegerLayer, shift_range
from codesign_kernel.units import BIT_PER_KIB

Array = np.ndarray[Any, Any]
#: The longer side of an array over the shorter.
_OBLONG = (1, 2, 2, 4)


def _most(bits: int) -> int:
    """What no accumulator reaches: one layer's sums and its bias keep to a half of it each."""
    return 1 << (ACC_BITS[bits] - 1)


def _signed(bits: int) -> type[np.signedinteger[Any]]:
    """The numpy type that holds a signed number of ``bits``."""
    return np.int8 if bits <= 8 else np.int16


def _bias(bits: int) -> type[np.signedinteger[Any]]:
    """The numpy type of a bias."""
    return np.int32 if bits <= 8 else np.int64


def random_layer(
    rng: np.random.Generator, name: str, k: int, c: int, f: tuple[int, int], bits: int, **settings: Any
) -> IntegerLayer:
    """A layer of ``k`` filters over ``c`` channels: random integers, scaled so that results fill the range, are clipped
    now and then, and round both ways. Sums stay within the accumulator."""
    top, taps, most = 1 << (bits - 1), c * f[0] * f[1], _most(bits)
    widest = max(1, min(top, most // (2 * taps * top)))
    sums = widest * np.sqrt(taps / 3)
    shift = np.clip(16 + np.round(np.log2(sums) + rng.normal(0, 1.5, k)).astype(int), *shift_range(ACC_BITS[bits]))
    weight = rng.integers(-widest, widest, (k, c, *f)).astype(_signed(bits))
    return IntegerLayer(
        name,
        settings.pop("op", "conv2d"),
        weight,
        np.clip(rng.normal(0, top * sums / 4, k), -most // 4, most // 4).astype(_bias(bits)),
        rng.integers(1, 1 << 16, k).astype(np.int32),
        shift.astype(np.int32),
        **settings,
    )


def random_network(rng: np.random.Generator, bits: int, plain: bool = False, largest: int = 13) -> IntegerNetwork:
    """One to three convolutions, and at times a fully connected layer.

    Args:
        rng: where chance comes from.
        bits: of weights and activations.
        plain: stride 1, no dilation, no groups.
        largest: the most channels of the input, and its longest side.
    """
    c, h, w = (int(v) for v in rng.integers((1, 3, 3), (largest + 1, largest, largest)))
    first = (c, h, w)
    layers: list[IntegerLayer] = []
    for i in range(int(rng.integers(1, 4))):
        f = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        stride, dilation, groups, k = (1, 1), (1, 1), 1, int(rng.integers(1, 3 * largest // 2 + 1))
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
        k = int(rng.integers(1, 3 * largest // 2 + 1))
        layers.append(random_layer(rng, "fc", k, c * h * w, (1, 1), bits, op="linear", flatten=True))
    return IntegerNetwork("random", first, 0.1, bits, tuple(layers))


def at_its_ends(rng: np.random.Generator, layer: IntegerLayer, bits: int) -> IntegerLayer:
    """``layer`` with every number at an end of its range: weights, biases, multipliers, and any shift."""
    k, taps = len(layer.weight), math.prod(layer.weight.shape[1:])
    top, most = 1 << (bits - 1), _most(bits)
    widest = max(1, min(top, most // (2 * taps * top)))
    room = most - 1 - taps * widest * top
    least, largest = shift_range(ACC_BITS[bits])
    return replace(
        layer,
        weight=rng.choice([-widest, widest - 1], layer.weight.shape).astype(_signed(bits)),
        bias=rng.choice([-room, 0, room], k).astype(_bias(bits)),
        multiplier=rng.choice(MULTIPLIER_RANGE, k).astype(np.int32),
        shift=rng.integers(least, largest + 1, k).astype(np.int32),
    )


def random_inputs(rng: np.random.Generator, network: IntegerNetwork, count: int) -> Array:
    """Quantised inputs [count, C, H, W] of all values that there are."""
    low, high = network.range
    return rng.integers(low, high + 1, (count, *network.input_shape)).astype(_signed(network.bits))


def end_inputs(rng: np.random.Generator, network: IntegerNetwork) -> Array:
    """Two quantised inputs: one of both ends of the range, one of the low end only."""
    mixed = rng.choice(network.range, network.input_shape)
    return np.stack([mixed, np.full_like(mixed, network.range[0])]).astype(_signed(network.bits))


def _drawn_accelerator(rng: np.random.Generator, dataflow: str, bits: int, small: bool) -> Accelerator:
    side = int(rng.integers(1, 3 if small else 5))
    sides = [side, side * int(rng.choice(_OBLONG[: 3 if small else 4]))]
    rows, cols = (int(v) for v in rng.permutation(sides))
    plain = Accelerator.systolic(rows, cols, "ws", bits)
    # sizes of every magnitude: the tight ones cut a layer, the roomy ones keep it whole
    large = (7, 8, 5) if small else (9, 11, 8)
    powers = dict(zip(("activation", "weight", "accumulator"), zip((5, 5, 3), large, strict=True), strict=True))
    kib = {
        name: int(2 ** rng.uniform(*power)) * plain.memory(name).word_bit / BIT_PER_KIB
        for name, power in powers.items()
    }
    return replace(
        plain,
        dataflow=dataflow,
        activation_kib=kib["activation"],
        weight_kib=kib["weight"],
        accumulator_kib=kib["accumulator"],
        memory_latency=int(rng.integers(0, 21)),
        bandwidth_gb_s=(8 << int(rng.integers(0, 4))) * plain.frequency_mhz / 8000,
    )


def random_accelerator(rng: np.random.Generator, dataflow: str, bits: int, small: bool = False) -> Accelerator:
    """A lawful accelerator on which one random network of four runs at least; ``small`` ones suit slow simulators."""
    while True:
        try:
            accelerator = _drawn_accelerator(rng, dataflow, bits, small)
        except InvalidInputError:  # such as half a byte a word
            continue
        if sum(_fits(random_network(rng, bits, largest=6 if small else 13), accelerator) for _ in range(12)) >= 3:
            return accelerator


def _fits(network: IntegerNetwork, accelerator: Accelerator) -> bool:
    try:
        evaluate(network.workload, accelerator)
        lower(network, accelerator)
    except (InfeasibleDesignError, CapacityError):
        return False
    return True


def draw(make: Callable[[], IntegerNetwork], accelerator: Accelerator, most_cycles: int | None = None) -> Program:
    """The program of the first network of ``make`` that fits ``accelerator`` and runs within ``most_cycles``."""
    while True:
        try:
            program = lower(make(), accelerator)
        except CapacityError:
            continue
        if most_cycles is None or program.cycles <= most_cycles:
            return program


def features(program: Program) -> set[str]:
    """What ``program`` makes the hardware do, in words."""
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
