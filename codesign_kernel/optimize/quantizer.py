"""Post-training quantisation: a trained torch model and some of its inputs become an IntegerNetwork."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codesign_kernel.accelerator.types import DATA_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.assembly import assemble, width_of
from codesign_kernel.optimize.clipping import CUT_BITS, best_clip, rounded_weight, weight_steps
from codesign_kernel.optimize.float_layer import FloatLayer, run_layers
from codesign_kernel.optimize.graph import read_graph
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import PLAIN_OPS

#: Calibration inputs that run through the model at once.
BATCH = 32
#: Values of one layer on which the clipping points are compared.
SAMPLE = 1 << 17


def quantize(
    model: nn.Module,
    calibration_inputs: Tensor | NDArray[Any],
    bits: int = 8,
    weight_bits: Mapping[str, int] | None = None,
) -> IntegerNetwork:
    """Quantise a trained model to integers of ``bits`` bits; the model itself is not touched.

    Weights are symmetric with one scale for each output channel, activations symmetric with one scale for each map.
    Weights of 2 and 4 bits are clipped where a channel's squared error is smallest, and its bias takes up the mean of
    what they err by on the calibration inputs (Nagel et al. 2019, arXiv 1906.04721, section 4.2); wider ones keep their
    largest magnitude.

    The input's scale and the result's come from the largest magnitude in the calibration; between layers, the scale is
    that of the clipping point with the smallest mean squared error on the calibration's activations. The two maps of an
    addition have one scale, and a max pooling keeps that of its map: for all maps that are tied together so, the
    clipping point is the one with the smallest sum of their mean squared errors, and at most 6 if one is a ReLU6's.

    Args:
        model: Conv2d, BatchNorm2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, Linear, Dropout and
            Identity, in branches that end in additions.
        calibration_inputs: [N, C, H, W], floating point; some hundred inputs like those that the network will see.
        bits: of activations, and of the weights of layers that ``weight_bits`` does not name: 4, 8 or 16.
        weight_bits: widths of single layers' weights by the layer's name, its path in the model: 2, 4, 8 or 16, at
            most ``bits``.

    Raises:
        InvalidInputError: ``bits``, ``weight_bits`` or the inputs break a law, or the model cannot run on them.
        UnsupportedLayerError: the model holds a layer that the datapath cannot run; the message names it.
    """
    check_request(model, bits)
    inputs = checked_inputs(calibration_inputs)
    layers = read_graph(model, inputs[[0, -1]])
    widths = width_of(layers, bits, weight_bits)
    seen = observe(layers, inputs)
    steps = [weight_steps(layer.weight.numpy(), width) for layer, width in zip(layers, widths, strict=True)]
    scales = map_scales(layers, seen, bits)
    rounded = list(zip(widths, steps, strict=True))
    layers = [centred(layer, *each, seen) for layer, each in zip(layers, rounded, strict=True)]
    shape = (inputs.shape[1], inputs.shape[2], inputs.shape[3])
    return assemble(type(model).__name__, shape, layers, scales, bits, rounded)


def check_request(model: object, bits: object) -> None:
    """Refuse what is no model or no width of a datapath."""
    if not isinstance(bits, int) or bits not in DATA_BITS:
        raise InvalidInputError(f"bits is one of {DATA_BITS}, but got {bits!r}")
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"model is a torch.nn.Module, but got {type(model).__name__}")


def checked_inputs(given: Any) -> Tensor:
    """The calibration inputs as float32 [N, C, H, W], checked."""
    if isinstance(given, np.ndarray):
        if given.dtype.kind != "f":
            raise InvalidInputError(
                f"calibration inputs are floating point, but got {given.dtype}; scale them as for the model"
            )
        given = torch.from_numpy(given.astype(np.float32))
    if not isinstance(given, Tensor):
        raise InvalidInputError(f"calibration inputs are a tensor or a numpy array, but got {type(given).__name__}")
    if not given.is_floating_point():
        raise InvalidInputError(
            f"calibration inputs are floating point, but got {given.dtype}; scale them as for the model"
        )
    if given.ndim != 4 or not given.numel():
        raise InvalidInputError(
            f"calibration inputs are (N, C, H, W) with at least one value, but got {tuple(given.shape)}"
        )
    if given.device.type == "meta":
        raise InvalidInputError("calibration inputs hold values, but got a tensor on the device 'meta'")
    inputs = given.detach().cpu().float()
    if not bool(torch.isfinite(inputs).all()):
        raise InvalidInputError("calibration inputs are finite numbers, but some are NaN or infinite")
    if not bool(inputs.any()):
        raise InvalidInputError("calibration inputs span the input's range, but all of them are 0")
    return inputs


@dataclass(frozen=True)
class Seen:
    """What the calibration shows of one map.

    Attributes:
        peak: the largest magnitude.
        sample: some of the values, regularly taken.
        mean: of each element, [C, H, W].
    """

    peak: float
    sample: NDArray[np.float64]
    mean: Tensor


def observe(layers: Sequence[FloatLayer], inputs: Tensor) -> list[Seen]:
    """The input's map and each layer's on ``inputs`` [N, C, H, W].

    Raises:
        InvalidInputError: a map holds NaN or infinity, or nothing but zeros.
    """
    names = ["input", *(layer.name for layer in layers)]
    peaks, means = [0.0] * len(names), [torch.zeros(())] * len(names)
    samples: list[list[NDArray[np.float32]]] = [[] for _ in names]
    with torch.no_grad():
        for batch in inputs.split(BATCH):
            for i, x in enumerate(chain([batch], run_layers(layers, batch))):
                peak = float(x.abs().max())
                if not math.isfinite(peak):
                    raise InvalidInputError(
                        f"results are finite numbers, but layer {names[i]!r} gives NaN or infinity on the "
                        "calibration inputs; check its weights"
                    )
                peaks[i] = max(peaks[i], peak)
                means[i] = means[i] + x.double().sum(0) / len(inputs)
                total = x.numel() // len(batch) * len(inputs)
                step = -(-total // SAMPLE) | 1  # odd, so that it does not stay in one column of an even map
                samples[i].append(x.flatten()[::step].numpy())
    for name, peak in zip(names, peaks, strict=True):
        if not peak > 0:
            raise InvalidInputError(
                f"layer {name!r} gives only zeros on the calibration inputs, so its range is unknown; calibrate "
                "with inputs like those that the network will see, or check its weights"
            )
    values = [np.concatenate(parts).astype(np.float64) for parts in samples]
    return [Seen(*each) for each in zip(peaks, values, means, strict=True)]


def centred(layer: FloatLayer, width: int, step: NDArray[np.float64], seen: Sequence[Seen]) -> FloatLayer:
    """The layer with a bias that takes up what its weights, rounded to ``step`` [K], shift the mean of its sums by.

    A layer is linear, so the mean of its errors over inputs is what the errors of its weights make of the mean input.
    """
    if width > CUT_BITS or layer.op in PLAIN_OPS:
        return layer
    error = layer.weight - torch.from_numpy(rounded_weight(layer.weight.numpy(), width, step))
    shift = replace(layer, weight=error, bias=torch.zeros_like(layer.bias)).sums(seen[layer.reads[0] + 1].mean[None])
    return replace(layer, bias=layer.bias + shift.mean((0, 2, 3)))


def map_scales(layers: Sequence[FloatLayer], seen: Sequence[Seen], bits: int) -> list[float]:
    """The scales of the input and of each layer's map; ``seen`` is of the same maps."""
    top = (1 << (bits - 1)) - 1
    group = list(range(len(seen)))  # of each map, the input being map 0: the first map that it is tied to
    for i, layer in enumerate(layers):
        tied = {"add": [source + 1 for source in layer.reads], "max_pool2d": [layer.reads[0] + 1, i + 1]}
        both = {group[m] for m in tied.get(layer.op, [])}
        group = [min(both) if g in both else g for g in group]
    scales = [0.0] * len(seen)
    for first in sorted({*group}):
        members = [m for m, g in enumerate(group) if g == first]
        clip = max(seen[m].peak for m in members)
        if members not in ([0], [len(layers)]):
            clip = best_clip([seen[m].sample for m in members], clip, bits)
        ceilings = [layers[m - 1].ceiling for m in members if m]
        clip = min([clip, *(c for c in ceilings if c is not None)])
        for m in members:
            scales[m] = _float(clip / top)
    return scales


def _float(scale: float) -> float:
    """Rounded to 24 bits, so that the last bits of a sum, which depend on the processor, do not change a digest."""
    rounded = float(np.float32(scale))
    least = np.finfo(np.float32).tiny
    if rounded < least:
        raise InvalidInputError(
            f"a scale is at least {least:.2g}, but the calibration asks for {scale:.2g}; scale the inputs up"
        )
    return rounded
