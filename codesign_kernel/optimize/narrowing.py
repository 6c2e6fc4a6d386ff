"""How much each layer suffers from narrow weights, measured one layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.calibration import Calibration
from codesign_kernel.optimize.dataset import Dataset, check_parts
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import PLAIN_OPS, WEIGHT_BITS
from codesign_kernel.optimize.qat import check_classes
from codesign_kernel.optimize.stack import LayerStack
from codesign_kernel.optimize.training import accuracy, logits

if TYPE_CHECKING:
    import pandas as pd


class Measured(NamedTuple):
    """What validation says of a network: share of right classes, cross entropy (nat), and its results' distance from
    the model's as a ratio of power, in dB (signal to quantisation noise)."""

    accuracy: float
    cross_entropy: float
    sqnr_db: float


class Judge:
    """Measures integer networks on the validation part of ``data``, against the float model."""

    def __init__(self, calibration: Calibration, data: Dataset) -> None:
        self._x, self._y = data.validation_x, data.validation_y
        self._real = logits(LayerStack(calibration.layers), self._x).astype(np.float64)

    def __call__(self, network: IntegerNetwork) -> Measured:
        """The network, measured."""
        integers = network.predict(self._x)
        got = integers * network.output_scale
        noise = float(np.square(got - self._real).sum())
        power = float(np.square(self._real).sum())
        ratio = np.inf if noise == 0 else 10 * np.log10(max(power, np.finfo(float).tiny) / noise)
        return Measured(accuracy(integers, self._y), cross_entropy(got, self._y), float(ratio))


def cross_entropy(scores: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Mean over rows of ``scores`` [N, K] of the negative logarithm of the softmax at the label (nat)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())


def layers_with_weights(calibration: Calibration) -> list[str]:
    """Names of the layers that have weights, in the order of execution."""
    return [layer.name for layer in calibration.layers if layer.op not in PLAIN_OPS]


def narrow_widths(widths: Sequence[int], most: int) -> list[int]:
    """``widths`` in rising order, checked: each one of 2, 4, 8 and 16 and at most ``most`` bits, none twice."""
    legal = [width for width in WEIGHT_BITS if width <= most]
    given = list(widths) if isinstance(widths, Sequence) else []
    if not given or any(isinstance(w, bool) or w not in legal for w in given) or len({*given}) < len(given):
        raise InvalidInputError(
            f"widths are different ones of {', '.join(map(str, legal))}, at least one, but got {widths!r}"
        )
    return sorted(map(int, given))


def sensitivity(model: nn.Module, data: Dataset, bits: int = 8, widths: Sequence[int] | None = None) -> pd.DataFrame:
    """Quantise with the weights of one layer at a time narrowed, and measure each network on validation data.

    Args:
        model: as for :func:`codesign_kernel.quantize`, ending in a Linear with one result for each class.
        data: calibrates on its calibration part and measures on its validation part; reads no other.
        bits: of maps, and of all weights but the narrowed layer's: 4, 8 or 16.
        widths: of the narrowed layer's weights: different ones of 2, 4 and 8 below ``bits``; without, 2 and 4, or 2
            alone where ``bits`` is 4.

    Returns:
        One row for each layer with weights and each width, in this order: ``layer``, ``op``, ``weights`` (their
        number), ``weight_bits``, ``accuracy`` (share), ``cross_entropy`` (nat), ``sqnr_db``: power of the model's
        results over that of the network's error. The first row, whose ``layer`` is empty, has no layer narrowed.

    Raises:
        InvalidInputError, UnsupportedLayerError: as for :func:`codesign_kernel.quantize`, or a width breaks its law.
    """
    import pandas as pd

    check_parts(data, "calibration", "validation")
    calibration = Calibration(model, data.calibration_x, bits)
    check_classes(calibration, data)
    narrow = narrow_widths([w for w in (2, 4) if w < bits] if widths is None else widths, bits // 2)
    judge = Judge(calibration, data)
    layers = {layer.name: layer for layer in calibration.layers if layer.op not in PLAIN_OPS}
    total = sum(layer.weight.numel() for layer in layers.values())
    rows = [("", "", total, bits, *judge(calibration.network()))]
    for name, layer in layers.items():
        for width in narrow:
            found = judge(calibration.network({name: width}))
            rows.append((name, layer.op, layer.weight.numel(), width, *found))

    return pd.DataFrame(rows, columns=["layer", "op", "weights", "weight_bits", *Measured._fields])


def weight_bytes(network: IntegerNetwork) -> float:
    """Bytes of all weights, packed, each layer's at its own width; biases and requantisers are not counted."""
    weighted = (layer for layer in network.layers if layer.op not in PLAIN_OPS)
    return sum(layer.weight.size * (layer.weight_bits or network.bits) for layer in weighted) / 8
