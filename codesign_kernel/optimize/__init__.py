"""From a torch model to the integers that the hardware computes. Names that need torch load when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import IntegerLayer

if TYPE_CHECKING:
    from codesign_kernel.optimize.digits import DigitsData, load_digits, train_digits
    from codesign_kernel.optimize.networks import DigitsCNN
    from codesign_kernel.optimize.quantizer import quantize

__all__ = ["DigitsCNN", "DigitsData", "IntegerLayer", "IntegerNetwork", "load_digits", "quantize", "train_digits"]

_HOME = {
    "DigitsCNN": "networks",
    "DigitsData": "digits",
    "load_digits": "digits",
    "quantize": "quantizer",  # a module called quantize would hide the function
    "train_digits": "digits",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
