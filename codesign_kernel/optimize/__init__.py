"""From a torch model to the integers that the hardware computes. Names that need torch load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from codesign_kernel.optimize.dataset import Dataset
from codesign_kernel.optimize.fusion import FusionReport, fusion_report
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import IntegerLayer

if TYPE_CHECKING:
    from codesign_kernel.optimize.digits import load_digits, train_digits
    from codesign_kernel.optimize.mixed import Assignment, MixedPrecision, mixed_precision
    from codesign_kernel.optimize.narrowing import sensitivity, weight_bytes
    from codesign_kernel.optimize.networks import DigitsCNN
    from codesign_kernel.optimize.qat import quantize_aware
    from codesign_kernel.optimize.quantizer import quantize
    from codesign_kernel.optimize.training import Recipe, accuracy, fit, logits

__all__ = [
    "Assignment",
    "Dataset",
    "DigitsCNN",
    "FusionReport",
    "IntegerLayer",
    "IntegerNetwork",
    "MixedPrecision",
    "Recipe",
    "accuracy",
    "fit",
    "fusion_report",
    "load_digits",
    "logits",
    "mixed_precision",
    "quantize",
    "quantize_aware",
    "sensitivity",
    "train_digits",
    "weight_bytes",
]

_HOME = {
    "DigitsCNN": "networks",
    "Recipe": "training",
    "accuracy": "training",
    "fit": "training",
    "load_digits": "digits",
    "logits": "training",
    "quantize": "quantizer",  # a module called quantize would hide the function
    "quantize_aware": "qat",
    "sensitivity": "narrowing",
    "Assignment": "mixed",
    "MixedPrecision": "mixed",
    "mixed_precision": "mixed",
    "weight_bytes": "narrowing",
    "train_digits": "digits",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
