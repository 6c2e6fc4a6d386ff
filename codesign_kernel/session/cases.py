"""Random networks, and random machines to run them on: what ``verify`` and the tests compare RTL and models with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from codesign_kernel.accelerator.isa import Op
from codesign_kernel.accelerator.types import ACC_BITS, Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import CapacityError, InfeasibleDesignError, InvalidInputError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import (
    INPUT,
    MULTIPLIER_RANGE,
    PLAIN_OPS,
    WEIGHT_BITS,
    IntegerLayer,
    Shape,
    shift_range,
)
from codesign_kernel.units import BIT_PER_KIB

Array = np.ndarray[Any, Any]
#: The longer side of an array over the shorter.
_OBLONG = (1, 2, 2, 4)
#: What one step of every map stands for: maps that are added have one scale.
SCALE = 0.1


def _most(bits: int) -> int:
    """What no accumulator reaches: one layer's sums and its bias keep to a half of it each."""
    return 1 << (ACC_BITS[bits] - 1)


def _signed(bits: int) -> type[np.signedinteger[Any]]:
    """The numpy type that holds a signed number of ``bits``."""
    return np.int8 if bits <= 8 else np.int16


def _bias(bits: int) -> type[np.signedinteger[Any]]:
    """The numpy type of a bias."""
    return np.int32 if bits <= 8 else np.int64


def _widest(taps: int, bits: int, weight_bits: int) -> int:
    """Weights from minus this up to it, without it, fit ``weight_bits`` (0: ``bits``), and ``taps`` of them a sum."""
    most = _most(bits) // (2 * taps << (bits - 1))
    return max(1, min(1 << ((weight_bits or bits) - 1), most))


def random_layer(
    rng: np.random.Generator, name: str, k: int, c: int, f: tuple[int, int], bits: int, **settings: Any
) -> IntegerLayer:
    """A layer of ``k`` filters over ``c`` channels: random integers, scaled so that results fill the range, are clipped
    now and then, and round both ways. Sums stay within the accumulator."""
    top, taps = 1 << (bits - 1), c * f[0] * f[1]
    widest = _widest(taps, bits, settings.get("weight_bits", 0))
    sums = widest * np.sqrt(taps / 3)
    shift = np.clip(16 + np.round(np.log2(sums) + rng.normal(0, 1.5, k)).astype(int), *shift_range(ACC_BITS[bits]))
    weight = rng.integers(-widest, widest, (k, c, *f)).astype(_signed(bits))
    return IntegerLayer(
        name,
        settings.pop("op", "conv2d"),
        weight,
        np.clip(rng.normal(0, top * sums / 4, k), -_most(bits) // 4, _most(bits) // 4).astype(_bias(bits)),
        rng.integers(1, 1 << 16, k).astype(np.int32),
        shift.astype(np.int32),
        **settings,
    )


def random_plain(
    rng: np.random.Generator, name: str, op: str, k: int, window: tuple[int, int], bits: int, **settings: Any
) -> IntegerLayer:
    """A pooling of ``k`` channels, or a sum of two maps, with a random requantiser."""
    values = {"avg_pool2d": math.prod(window), "max_pool2d": 1, "add": 2}[op]
    shift = np.clip(np.round(15 + np.log2(values) + rng.normal(0, 1, k)).astype(int), *shift_range(ACC_BITS[bits]))
    return IntegerLayer(
        name, op, np.ones((k, 1, *window), _signed(bits)), np.zeros(k, _bias(bits)),
        rng.integers(1, 1 << 16, k).astype(np.int32), shift.astype(np.int32), groups=k, **settings,
    )  # fmt: skip


@dataclass
class _Drawing:
    """A network that grows layer by layer; ``shape`` is that of the last map, and ``maps`` has all of them by name."""

    rng: np.random.Generator
    bits: int
    plain: bool
    largest: int
    shape: Shape
    layers: list[IntegerLayer] = field(default_factory=list)
    maps: dict[str, Shape] = field(default_factory=dict)

    def chance(self, share: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < share)

    @property
    def last(self) -> str:
        """The name of the last map."""
        return self.layers[-1].name if self.layers else INPUT

    def name(self, kind: str) -> str:
        """A name for the next layer."""
        return f"{kind}{len(self.layers)}"

    def width(self) -> int:
        """Of a layer's weights: at times its own, and the network's otherwise."""
        legal = [bits for bits in WEIGHT_BITS if bits <= self.bits]
        return int(self.rng.choice([0, *legal]))

    def append(self, layer: IntegerLayer, *reads: str) -> None:
        """``layer`` behind the others, reading the last map or those named."""
        self.shape = layer.output_shape(self.maps[reads[0]] if reads else self.shape)
        self.layers.append(replace(layer, scale=SCALE, reads=reads, relu=self.chance(0.5)))
        self.maps[layer.name] = self.shape

    def convolution(self) -> None:
        """A convolution of any setting that has a result; else none."""
        rng, (c, h, w) = self.rng, self.shape
        f = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        stride, dilation, groups, k = (1, 1), (1, 1), 1, int(rng.integers(1, 3 * self.largest // 2 + 1))
        if not self.plain and self.chance(0.4):
            stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        if not self.plain and self.chance(0.3):
            dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        if not self.plain and self.chance(0.3):
            groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
            k = groups * int(rng.integers(1, 4))
        reach = tuple((f[j] - 1) * dilation[j] + 1 for j in (0, 1))
        padding = (int(rng.integers(0, reach[0])), int(rng.integers(0, reach[1])))
        oh, ow = ((v + 2 * padding[j] - reach[j]) // stride[j] + 1 for j, v in enumerate((h, w)))
        if min(oh, ow) < 1:
            return
        pool = int(rng.integers(2, 4)) if self.chance(0.5) else 1
        pool = pool if pool <= min(oh, ow) else 1
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "pool": pool}
        settings["weight_bits"] = self.width()
        self.append(random_layer(rng, self.name("conv"), k, c // groups, f, self.bits, **settings))

    def pooling(self) -> None:
        """Average or max pooling over any windows, but for those that a convolution takes along."""
        rng, (c, h, w) = self.rng, self.shape
        window = (int(rng.integers(1, min(4, h) + 1)), int(rng.integers(1, min(4, w) + 1)))
        stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        padding = (int(rng.integers(0, window[0])), int(rng.integers(0, window[1])))
        fused = window == stride and window[0] == window[1] and padding == (0, 0)
        op = "max_pool2d" if self.chance(0.5) and not fused else "avg_pool2d"
        settings = {"stride": stride, "padding": padding}
        self.append(random_plain(rng, self.name("pool"), op, c, window, self.bits, **settings))

    def residual(self) -> None:
        """A sum of the last map and one or two convolutions of it that keep its shape."""
        rng, start, shape = self.rng, self.last, self.shape
        ends = []
        for _ in range(int(rng.integers(1, 3))):
            f = (int(rng.choice([1, 3])), int(rng.choice([1, 3])))
            groups = int(rng.choice([g for g in range(1, shape[0] + 1) if shape[0] % g == 0]))
            settings = {"padding": (f[0] // 2, f[1] // 2), "groups": groups, "weight_bits": self.width()}
            layer = random_layer(rng, self.name("conv"), shape[0], shape[0] // groups, f, self.bits, **settings)
            self.append(layer, start)
            ends.append(layer.name)
        self.sum(*(ends if len(ends) == 2 else (start, *ends)))

    def sum(self, *reads: str) -> None:
        """The sum of two maps, in any order."""
        names = tuple(str(name) for name in self.rng.permutation(reads))
        layer = random_plain(self.rng, self.name("add"), "add", self.shape[0], (1, 1), self.bits, reads=names)
        self.append(layer, *names)

    def linear(self) -> None:
        """One or two fully connected layers, and at times their sum."""
        for _ in range(1 + self.chance(0.4)):
            k = int(self.rng.integers(1, 3 * self.largest // 2 + 1))
            if self.layers and self.layers[-1].op == "linear" and self.chance(0.5):
                k = self.shape[0]
            layer = random_layer(
                self.rng, self.name("fc"), k, math.prod(self.shape), (1, 1), self.bits, op="linear", flatten=True,
                weight_bits=self.width(),
            )  # fmt: skip
            self.append(layer)
        ends = [layer for layer in self.layers if layer.op == "linear" and len(layer.weight) == self.shape[0]]
        if not self.plain and len(ends) == 2:
            self.sum(*(layer.name for layer in ends))


def random_network(rng: np.random.Generator, bits: int, plain: bool = False, largest: int = 13) -> IntegerNetwork:
    """One to three convolutions, poolings or residual sums, and at times fully connected layers.

    Args:
        rng: where chance comes from.
        bits: of weights and activations.
        plain: convolutions of stride 1, without dilation and groups, and fully connected layers; one after the other.
        largest: the most channels of the input, and its longest side.
    """
    c, h, w = (int(v) for v in rng.integers((1, 3, 3), (largest + 1, largest, largest)))
    if not plain and rng.random() < 0.3:
        c = int(rng.integers(1, 4))  # as images have, so that there is something to pack
    drawn = _Drawing(rng, bits, plain, largest, (c, h, w), maps={INPUT: (c, h, w)})
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if plain or kind < 0.6:
            drawn.convolution()
        elif kind < 0.8:
            drawn.pooling()
        else:
            drawn.residual()
    if not any(layer.op == "conv2d" for layer in drawn.layers) or rng.random() < 0.4:
        drawn.linear()
    return IntegerNetwork("random", (c, h, w), SCALE, bits, tuple(drawn.layers))


def at_its_ends(rng: np.random.Generator, layer: IntegerLayer, bits: int) -> IntegerLayer:
    """``layer`` with every number at an end of its range: weights, biases (where it has some), multipliers, and any
    shift."""
    k, taps = len(layer.weight), math.prod(layer.weight.shape[1:])
    top, most, widest = 1 << (bits - 1), _most(bits), _widest(taps, bits, layer.weight_bits)
    room = most - 1 - taps * widest * top
    least, largest = shift_range(ACC_BITS[bits])
    layer = replace(
        layer,
        multiplier=rng.choice(MULTIPLIER_RANGE, k).astype(np.int32),
        shift=rng.integers(least, largest + 1, k).astype(np.int32),
    )
    if layer.op in PLAIN_OPS:
        return layer
    return replace(
        layer,
        weight=rng.choice([-widest, widest - 1], layer.weight.shape).astype(_signed(bits)),
        bias=rng.choice([-room, 0, room], k).astype(_bias(bits)),
    )


def random_inputs(rng: np.random.Generator, network: IntegerNetwork, count: int) -> Array:
    """Quantised inputs [count, C, H, W] of all values that there are."""
    low, high = network.range
    return rng.integers(low, high + 1, (count, *network.input_shape)).astype(_signed(network.bits))


def end_inputs(rng: np.random.Generator, network: IntegerNetwork) -> Array:
    """Two quantised inputs: one of both ends of the range, one of the low end only."""
    mixed = rng.choice(network.range, network.input_shape)
    return np.stack([mixed, np.full_like(mixed, network.range[0])]).astype(_signed(network.bits))


def _drawn_accelerator(rng: np.random.Generator, dataflow: str, bits: int, small: bool, narrowest: int) -> Accelerator:
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
        min_weight_bits=narrowest,
        bandwidth_gb_s=(8 << int(rng.integers(0, 4))) * plain.frequency_mhz / 8000,
    )


def random_accelerator(
    rng: np.random.Generator, dataflow: str, bits: int, small: bool = False, min_weight_bits: int = 0
) -> Accelerator:
    """A lawful accelerator on which one random network of four runs at least; ``small`` ones suit slow simulators."""
    while True:
        try:
            accelerator = _drawn_accelerator(rng, dataflow, bits, small, min_weight_bits)
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


def draw(
    make: Callable[[], IntegerNetwork], accelerator: Accelerator, most_cycles: int | None = None, batch: int = 1
) -> Program:
    """The program of the first network of ``make`` that fits ``accelerator`` and runs within ``most_cycles``.

    Those with fully connected layers run for ``batch`` inputs at once.
    """
    while True:
        network = make()
        shares = any(layer.op == "linear" for layer in network.layers)
        try:
            program = lower(network, accelerator, batch=batch if shares else 1)
        except CapacityError:
            continue
        if most_cycles is None or program.cycles <= most_cycles:
            return program


def features(program: Program) -> set[str]:
    """What ``program`` makes the hardware do, in words."""
    found = {"streamed weights" if not program.boot else "resident weights"}
    found |= {"spilled map"} if len(program.maps) > 2 else set()
    found |= {"packing"} if program.ways[1].packed != (1, 1) else set()
    found |= {"batch"} if program.batch > 1 else set()
    for layer in program.network.layers:
        mine = [i for i, owner in zip(program.main, program.owners, strict=True) if owner == layer.name]
        quants, convs = (sum(i.op in ops for i in mine) for ops in ((Op.LOADQ, Op.TILE), (Op.CONV, Op.SUM)))
        tiles = -(-len(layer.weight) // program.accelerator.cols)
        traits = {
            "chunks": quants > tiles,
            "passes": convs > quants,
            "tiles": tiles > 1,
            "blocks": any(i.op in (Op.CONV, Op.SUM) and i["nct"] > 1 for i in mine),
            "banks": any(i.op in (Op.CONV, Op.STORE, Op.SUM, Op.POOL) and i["bank"] > 0 for i in mine),
            "stride": layer.stride != (1, 1),
            "dilation": layer.dilation != (1, 1),
            "groups": layer.op == "conv2d" and layer.groups > 1,
            "narrow weights": any("per_word" in i.fields for i in mine),
            "padding": layer.padding != (0, 0),
            "pool": layer.pool > 1,
            "relu": layer.relu,
            "linear": layer.op == "linear",
            "add": layer.op == "add",
            "average pool": layer.op == "avg_pool2d",
            "max pool": layer.op == "max_pool2d",
        }
        found |= {name for name, there in traits.items() if there}
    return found
