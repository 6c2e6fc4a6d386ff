"""Dataset: labelled inputs in four parts that never mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import InvalidInputError

#: The parts, and what each is for.
PARTS = {
    "train": "weights are fitted to it",
    "calibration": "ranges of activations are measured on it",
    "validation": "choices are made by it: which epoch, which precision, which network",
    "test": "only what has been chosen is measured on it",
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs [N, C, H, W] (float32) and labels [N] (int64, 0 to K - 1) of a classification task, in four parts.

    ``train``: weights are fitted to it. ``calibration``: ranges of activations are measured on it. ``validation``:
    choices are made by it. ``test``: only what has been chosen is measured on it.

    Attributes:
        name: of the task.
        labels: what each class is called, K texts.

    Raises:
        InvalidInputError: an array has another kind or shape, a label names no class, a part is empty, or an input
            stands in two parts.
    """

    name: str
    labels: tuple[str, ...]
    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    calibration_x: NDArray[np.float32]
    calibration_y: NDArray[np.int64]
    validation_x: NDArray[np.float32]
    validation_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]

    def __post_init__(self) -> None:
        seen: dict[bytes, str] = {}
        for part in PARTS:
            x, _ = self._part(part)
            keys = {row.tobytes() for row in x}
            for key in keys:
                if key in seen:
                    raise InvalidInputError(
                        f"an input stands in one part only, but {part}_x holds one of {seen[key]}_x; take it out of one"
                    )
            seen.update(dict.fromkeys(keys, part))

    def _part(self, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """One part, checked."""
        x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 4 or not x.size:
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
            raise InvalidInputError(f"{part}_x is an array of float32 [N >= 1, C, H, W], but got {got}")
        if x.shape[1:] != self.train_x.shape[1:]:
            raise InvalidInputError(
                f"all inputs have one shape (C, H, W), but train_x has {self.train_x.shape[1:]} and {part}_x "
                f"{x.shape[1:]}"
            )
        if not np.isfinite(x).all():
            raise InvalidInputError(f"inputs are finite numbers, but {part}_x holds NaN or infinity")
        if not isinstance(y, np.ndarray) or y.dtype != np.int64 or y.shape != (len(x),):
            got = f"{y.dtype} {list(y.shape)}" if isinstance(y, np.ndarray) else type(y).__name__
            raise InvalidInputError(f"{part}_y is an array of int64 [{len(x)}], but got {got}")
        if y.min() < 0 or y.max() >= len(self.labels):
            raise InvalidInputError(
                f"labels are 0 to {len(self.labels) - 1}, but {part}_y reaches from {y.min()} to {y.max()}"
            )
        return x, y

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an input."""
        _, c, h, w = self.train_x.shape
        return c, h, w

    @property
    def all_x(self) -> NDArray[np.float32]:
        """Every input: train, calibration, validation, test."""
        return np.concatenate([getattr(self, f"{part}_x") for part in PARTS])

    @property
    def all_y(self) -> NDArray[np.int64]:
        """Labels of :attr:`all_x`."""
        return np.concatenate([getattr(self, f"{part}_y") for part in PARTS])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(getattr(self, f'{part}_y')):,} {part}" for part in PARTS)
        return f"Dataset({self.name!r}, {len(self.labels)} classes, {self.input_shape}, {sizes})"


def check_parts(data: object, *parts: str) -> None:
    """Refuse what has not these parts: keys of :data:`PARTS`."""
    missing = [f"{part}_{axis}" for part in parts for axis in "xy" if not hasattr(data, f"{part}_{axis}")]
    if missing:
        raise InvalidInputError(
            f"data is a Dataset, labelled inputs in four parts, but {type(data).__name__} has no {missing[0]}; see "
            "codesign_kernel.optimize.Dataset"
        )
