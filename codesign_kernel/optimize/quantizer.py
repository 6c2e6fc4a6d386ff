"""Post-training quantisation: a trained torch model and some of its inputs become an IntegerNetwork."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from codesign_kernel.optimize.calibration import Calibration
from codesign_kernel.optimize.integer import IntegerNetwork


def quantize(
    model: nn.Module | ExportedProgram,
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
            Identity, in branches that end in additions; or such a model as ``torch.export`` gives it.
        calibration_inputs: [N, C, H, W], floating point; some hundred inputs like those that the network will see.
        bits: of activations, and of the weights of layers that ``weight_bits`` does not name: 4, 8 or 16.
        weight_bits: widths of single layers' weights by the layer's name, its path in the model: 2, 4, 8 or 16, at
            most ``bits``.

    Raises:
        InvalidInputError: ``bits``, ``weight_bits`` or the inputs break a law, or the model cannot run on them.
        UnsupportedLayerError: the model holds a layer that the datapath cannot run; the message names it.
    """
    return Calibration(model, calibration_inputs, bits).network(weight_bits)
