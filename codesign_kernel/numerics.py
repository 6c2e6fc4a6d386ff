"""The few operations that formulas need besides arithmetic, for numbers, numpy arrays and torch tensors alike.

A formula that is written with these runs on any of the three; :mod:`codesign_kernel.cost.compiled` gives numba the
scalar versions. Tensors are known by their methods, so that torch need not be there. Counts are whole numbers in
float64, exact up to 2^53.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor."""
    return hasattr(value, "requires_grad")


def maximum(a: Any, b: Any) -> Any:
    """The larger one, element by element."""
    if is_tensor(a):
        return a.clamp(min=b)
    if is_tensor(b):
        return b.clamp(min=a)
    return np.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller one, element by element."""
    return -maximum(-a, -b)


def ceil(a: Any) -> Any:
    """Rounded up. A tensor's gradient passes straight through (Bengio et al. 2013, arXiv 1308.3432)."""
    return a + (a.detach().ceil() - a.detach()) if is_tensor(a) else np.ceil(a)


def floor(a: Any) -> Any:
    """Rounded down; gradients as for :func:`ceil`."""
    return -ceil(-a)


def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, else ``b``. The condition of tensors is a tensor or one truth."""
    if isinstance(condition, bool | int | np.bool_):
        return a if condition else b
    if is_tensor(condition):
        return condition * a + (~condition) * b
    return np.where(condition, a, b)


def nothing(count: Any) -> bool:
    """Whether a term can be left out: a plain number that is 0."""
    return isinstance(count, int | float) and count == 0
