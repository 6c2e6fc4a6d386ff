"""From a torch model to the integers that the hardware computes. Names that need torch load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from codesign_kernel.optimize.dataset import Dataset
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import IntegerLayer

if TYPE_CHECKING:
    from codesign_kernel.optimize.digits import load_digits, train_digits
    from codesign_kernel.optimize.hardware_loss import HardwareLoss
    from codesign_kernel.optimize.keywords import load_keywords, train_keywords
    from codesign_kernel.optimize.mixed import Assignment, MixedPrecision, mixed_precision
    from codesign_kernel.optimize.narrowing import sensitivity, weight_bytes
    from codesign_kernel.optimize.networks import NETWORKS, DigitsCNN, KeywordsCNN
    from codesign_kernel.optimize.pruning import prune
    from codesign_kernel.optimize.qat import quantize_aware
    from codesign_kernel.optimize.quantizer import quantize
    from codesign_kernel.optimize.training import Recipe, accuracy, fit, logits
    from codesign_kernel.optimize.utterances import Conditions

__all__ = [
    "NETWORKS",
    "Assignment",
    "Conditions",
    "Dataset",
    "DigitsCNN",
    "HardwareLoss",
    "IntegerLayer",
    "IntegerNetwork",
    "KeywordsCNN",
    "MixedPrecision",
    "Recipe",
    "accuracy",
    "fit",
    "load_digits",
    "load_keywords",
    "logits",
    "mixed_precision",
    "prune",
    "quantize",
    "quantize_aware",
    "sensitivity",
    "train_digits",
    "train_keywords",
    "weight_bytes",
]

_HOME = {
    "Conditions": "utterances",
    "DigitsCNN": "networks",
    "HardwareLoss": "hardware_loss",
    "KeywordsCNN": "networks",
    "NETWORKS": "networks",
    "Recipe": "training",
    "accuracy": "training",
    "fit": "training",
    "load_digits": "digits",
    "load_keywords": "keywords",
    "logits": "training",
    "prune": "pruning",
    "quantize": "quantizer",  # a module called quantize would hide the function
    "quantize_aware": "qat",
    "sensitivity": "narrowing",
    "Assignment": "mixed",
    "MixedPrecision": "mixed",
    "mixed_precision": "mixed",
    "weight_bytes": "narrowing",
    "train_digits": "digits",
    "train_keywords": "keywords",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
