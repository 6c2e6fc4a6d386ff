"""From layers in real numbers and the scales of their maps to the IntegerNetwork that the hardware runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.accelerator.types import ACC_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.float_layer import FloatLayer
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

#: How a layer's weights are rounded: their width (bit), and what one step stands for in each output channel [K].
Step = tuple[int, NDArray[np.float64]]


def widths_of(layers: Sequence[FloatLayer], bits: int, weight_bits: Mapping[str, int] | None) -> list[int]:
    """The width of each layer's weights (bit): its own, or ``bits``.

    Raises:
        InvalidInputError: ``weight_bits`` names what is no layer with weights, or a width that there is not.
    """
    if weight_bits is None:
        return [bits] * len(layers)
    if not isinstance(weight_bits, Mapping):
        raise InvalidInputError(
            f"weight_bits is a mapping of layers' names to widths, but got {type(weight_bits).__name__}"
        )
    names = [layer.name for layer in layers if layer.op not in PLAIN_OPS]
    unknown = [name for name in weight_bits if name not in names]
    if unknown:
        raise InvalidInputError(
            f"weight_bits names layers with weights, but got {unknown[0]!r}; they are {', '.join(map(repr, names))}"
        )
    legal = tuple(width for width in WEIGHT_BITS if width <= bits)
    for name, width in weight_bits.items():
        if isinstance(width, bool) or width not in legal:
            raise InvalidInputError(
                f"the weights of a network of {bits} bits have a width of {', '.join(map(str, legal))}, but layer "
                f"{name!r} is given {width!r}; choose one of these, or quantise the network with more bits"
            )
    return [int(weight_bits.get(layer.name, bits)) for layer in layers]


def assemble(
    name: str,
    input_shape: Shape,
    layers: Sequence[FloatLayer],
    scales: Sequence[float],
    bits: int,
    steps: Sequence[Step],
) -> IntegerNetwork:
    """The integer network of ``layers``.

    Args:
        name, input_shape, bits: of the network.
        layers: in execution order.
        scales: of the input, then of each layer's map.
        steps: of each layer's weights; made larger where bias or requantiser need it.

    Raises:
        InvalidInputError: a requantiser cannot be represented, or the integers break a law of :class:`IntegerNetwork`.
    """
    names = {-1: INPUT, **{i: layer.name for i, layer in enumerate(layers)}}
    made = []
    for i, (layer, (width, step)) in enumerate(zip(layers, steps, strict=True)):
        reads = () if layer.reads == (i - 1,) else tuple(names[source] for source in layer.reads)
        own = 0 if width == bits or layer.op in PLAIN_OPS else width
        integers, bias, channel = _integers(layer, step, scales[layer.reads[0] + 1], scales[i + 1], bits, width)
        made.append(_integer_layer(layer, integers, bias, channel, scales[i + 1], bits, reads, own))
    return IntegerNetwork(name, input_shape, scales[0], bits, tuple(made))


def _integers(
    layer: FloatLayer, step: NDArray[np.float64], scale_in: float, scale_out: float, bits: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights and bias as integers, and of each channel the ratio of its accumulator's step to the result's."""
    weight, bias, acc_bits = layer.weight.numpy(), layer.bias.numpy(), ACC_BITS[bits]
    if layer.op in PLAIN_OPS:
        # the ones stand for no numbers of the model; an average's division is a part of its requantiser
        part = 1 / math.prod(layer.window) if layer.op == "avg_pool2d" else 1.0
        return weight, bias, np.full(len(weight), scale_in * part / scale_out)
    # A bias stays within half of the accumulator, whose other half is left to the products, and the multiplier keeps
    # its 16 bits. Both decide only where weights are almost or exactly 0, as in a pruned channel.
    step = np.maximum(step, np.abs(bias) / (scale_in * (1 << (acc_bits - 2))))
    step = np.maximum(step, scale_out / scale_in * 2.0**-acc_bits)
    top = (1 << (width - 1)) - 1
    integers = np.clip(np.rint(weight / step[:, None, None, None]), -top, top)
    return integers, np.rint(bias / (scale_in * step)), scale_in * step / scale_out


def _integer_layer(
    layer: FloatLayer,
    integers: NDArray[np.float64],
    bias: NDArray[np.float64],
    ratios: NDArray[np.float64],
    scale: float,
    bits: int,
    reads: tuple[str, ...],
    weight_bits: int,
) -> IntegerLayer:
    kinds: tuple[Any, Any] = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    factors = [requantiser(float(ratio), ACC_BITS[bits]) for ratio in ratios]
    return IntegerLayer(
        name=layer.name,
        op=layer.op,
        weight=integers.astype(kinds[0]),
        bias=bias.astype(kinds[1]),
        multiplier=np.array([multiplier for multiplier, _ in factors], np.int32),
        shift=np.array([shift for _, shift in factors], np.int32),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        relu=layer.relu,
        pool=layer.pool,
        flatten=layer.flatten,
        scale=scale,
        reads=reads,
        weight_bits=weight_bits,
    )


def requantiser(ratio: float, acc_bits: int = 32) -> tuple[int, int]:
    """(multiplier, shift) with multiplier / 2^shift close to ``ratio``, the multiplier using its 16 bits where it can.

    Raises:
        InvalidInputError: no multiplier of 16 bits and shift of 1 to ``acc_bits + 15`` comes near the ratio.
    """
    least, most = shift_range(acc_bits)
    mantissa, exponent = math.frexp(ratio)
    multiplier, shift = round(mantissa * 65536), 16 - exponent
    if multiplier > MULTIPLIER_RANGE[1]:
        multiplier, shift = multiplier // 2, shift - 1
    if shift > most:
        multiplier, shift = round(math.ldexp(ratio, most)), most
    if multiplier < MULTIPLIER_RANGE[0] or shift < least:
        raise InvalidInputError(
            f"a requantiser scales by {MULTIPLIER_RANGE[0]}/2^{most} to {MULTIPLIER_RANGE[1]}/2, but "
            f"{ratio:g} is needed; normalise the network, so that inputs and outputs of its layers have similar ranges"
        )
    return multiplier, shift


def single(scale: float) -> float:
    """Rounded to 24 bits, so that the last bits of a sum, which depend on the processor, do not change a digest."""
    rounded = float(np.float32(scale))
    least = np.finfo(np.float32).tiny
    if rounded < least:
        raise InvalidInputError(
            f"a scale is at least {least:.2g}, but the calibration asks for {scale:.2g}; scale the inputs up"
        )
    return rounded
