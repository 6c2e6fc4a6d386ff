"""What calibration inputs show of a model: its layers, the ranges of their maps, and networks that follow from it."""

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
from torch.export import ExportedProgram

from codesign_kernel.accelerator.types import DATA_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.assembly import Step, assemble, single, widths_of
from codesign_kernel.optimize.clipping import CUT_BITS, best_clip, rounded_weight, weight_steps
from codesign_kernel.optimize.float_layer import FloatLayer, run_layers, tied_maps
from codesign_kernel.optimize.graph import read
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import PLAIN_OPS

#: Calibration inputs that run through the model at once.
BATCH = 32
#: Values of one layer on which the clipping points are compared.
SAMPLE = 1 << 17


class Calibration:
    """A model read and observed once, from which networks of any widths are rounded.

    Args:
        model, inputs, bits: as for :func:`codesign_kernel.quantize`.

    Attributes:
        name, input_shape: of the network.
        bits: of activations.
        layers: in real numbers, batch normalisation folded in.
        seen: of the input, then of each layer's map.
        scales: of the same maps.

    Raises:
        InvalidInputError, UnsupportedLayerError: as for :func:`codesign_kernel.quantize`.
    """

    def __init__(self, model: nn.Module | ExportedProgram, inputs: Tensor | NDArray[Any], bits: int) -> None:
        if not isinstance(bits, int) or bits not in DATA_BITS:
            raise InvalidInputError(f"bits is one of {DATA_BITS}, but got {bits!r}")
        x = checked_inputs(inputs)
        reading = read(model, x[[0, -1]])
        self.name, self.bits = reading.name, bits
        self.input_shape = reading.shape
        self.layers = reading.layers
        self.seen = observe(self.layers, x)
        self.scales = map_scales(self.layers, self.seen, bits)

    def rounded(self, weight_bits: Mapping[str, int] | None) -> tuple[list[FloatLayer], list[Step]]:
        """The layers with the biases that rounded weights ask for, and how their weights are rounded.

        Raises:
            InvalidInputError: ``weight_bits`` names what is no layer with weights, or a width that there is not.
        """
        widths = widths_of(self.layers, self.bits, weight_bits)
        steps = [(w, weight_steps(layer.weight.numpy(), w)) for layer, w in zip(self.layers, widths, strict=True)]
        layers = [centred(layer, *step, self.seen) for layer, step in zip(self.layers, steps, strict=True)]
        return layers, steps

    def network(self, weight_bits: Mapping[str, int] | None = None) -> IntegerNetwork:
        """The integer network whose layers' weights have these widths, by name; without one, ``bits``."""
        layers, steps = self.rounded(weight_bits)
        return assemble(self.name, self.input_shape, layers, self.scales, self.bits, steps)


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
    group = tied_maps(layers)
    scales = [0.0] * len(seen)
    for first in sorted({*group}):
        members = [m for m, g in enumerate(group) if g == first]
        clip = max(seen[m].peak for m in members)
        if members not in ([0], [len(layers)]):
            clip = best_clip([seen[m].sample for m in members], clip, bits)
        ceilings = [layers[m - 1].ceiling for m in members if m]
        clip = min([clip, *(c for c in ceilings if c is not None)])
        for m in members:
            scales[m] = single(clip / top)
    return scales
