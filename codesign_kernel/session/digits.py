"""The trained digits network in integers, stored: an app shows it at work without loading torch or training first.

``python -m codesign_kernel.session.digits`` makes the files again; a test holds them to what is said here.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.accelerator.types import DATA_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.integer import IntegerNetwork

_HERE = resources.files("codesign_kernel.session")
_IMAGES = "digits_images.npz"
_WEIGHTS = "digits_float.npz"


@cache
def digits_network(bits: int = 8) -> IntegerNetwork:
    """``quantize`` of ``train_digits(seed=0)``: weights and maps of ``bits`` bits.

    Raises:
        InvalidInputError: ``bits`` is none of 4, 8 and 16.
    """
    if bits not in DATA_BITS:
        raise InvalidInputError(f"bits is one of {DATA_BITS}, but got {bits!r}")
    with resources.as_file(_HERE.joinpath("data", f"digits_int{bits}.npz")) as path:
        return IntegerNetwork.load(path)


def digits_model() -> Any:
    """The model that :func:`digits_network` is made of: a torch module with the weights of ``train_digits(seed=0)``."""
    from codesign_kernel.optimize.networks import DigitsCNN
    from codesign_kernel.optimize.weights import load_weights

    with resources.as_file(_HERE.joinpath("data", _WEIGHTS)) as path, np.load(path, allow_pickle=False) as kept:
        return load_weights(DigitsCNN(), dict(kept))


@cache
def digits_images(part: str = "test") -> tuple[NDArray[Any], NDArray[Any]]:
    """Images [N, 1, 8, 8] of 0 to 1 that nobody trained with, and their labels [N]: the ``test`` part (450) or the
    ``validation`` part of ``load_digits``; of scikit-learn's copy of the UCI digits."""
    with resources.as_file(_HERE.joinpath("data", _IMAGES)) as path, np.load(path, allow_pickle=False) as kept:
        sixteenths, labels = kept[f"{part}_sixteenths"], kept[f"{part}_labels"]
    images = (sixteenths / np.float32(16)).astype(np.float32)
    images.setflags(write=False)
    return images, labels


@cache
def digits_accuracy(bits: int = 8, part: str = "test") -> float:
    """Share of the images of a part that the network of ``bits`` bits gets right."""
    images, labels = digits_images(part)
    return float(np.mean(digits_network(bits).predict(images).argmax(axis=1) == labels))


def write() -> list[Path]:
    """Train, quantise and store; returns the files."""
    from codesign_kernel.optimize import quantize, train_digits
    from codesign_kernel.optimize.weights import weights_of

    folder = Path(__file__).parent / "data"
    model, data, _ = train_digits(0)
    made = [quantize(model, data.calibration_x, bits=bits).save(folder / f"digits_int{bits}.npz") for bits in DATA_BITS]
    weights: dict[str, Any] = weights_of(model)
    np.savez_compressed(folder / _WEIGHTS, **weights)
    path = folder / _IMAGES
    images = {"test": (data.test_x, data.test_y), "validation": (data.validation_x, data.validation_y)}
    kept: dict[str, Any] = {f"{part}_sixteenths": np.round(x * 16).astype(np.uint8) for part, (x, _) in images.items()}
    kept |= {f"{part}_labels": y for part, (_, y) in images.items()}
    np.savez_compressed(path, **kept)
    return [*made, folder / _WEIGHTS, path]


if __name__ == "__main__":
    print(*write(), sep="\n")
