"""Where to cut off values that are quantised, so that what is cut and what is rounded err least together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Clipping points of activations, as fractions of the largest magnitude seen.
CLIPS = np.linspace(1.0, 0.2, 41)
#: Clipping points of a channel's weights. The narrower they are the deeper the best cut, so these reach further down.
WEIGHT_CLIPS = np.linspace(1.0, 0.1, 46)
#: Weights up to this width (bit) are cut; wider ones have steps enough to keep their largest.
CUT_BITS = 4


def best_clip(maps: list[NDArray[np.float64]], peak: float, bits: int) -> float:
    """The magnitude at which to clip the values of ``maps`` so that quantising errs least: the sum of the mean squares.

    A lower clip makes every step finer and cuts off the few values above it. The largest magnitude itself, ``peak``, is
    among the candidates.
    """
    top = (1 << (bits - 1)) - 1
    errors = []
    for clip in CLIPS * peak:
        error = 0.0
        for values in maps:
            steps = np.clip(np.rint(values * (top / clip)), -top - 1, top)
            error += float(np.square(steps * (clip / top) - values).mean())
        errors.append(error)
    return float(CLIPS[int(np.argmin(errors))]) * peak


def weight_steps(weight: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """What one step of the weights stands for in each output channel [K], quantised symmetrically to ``width`` bits.

    Weights of at most 4 bits are cut where a channel's squared error is least; the largest magnitude is among the
    candidates. Wider ones are not cut.

    Args:
        weight: [K, C/groups, FY, FX].
        width: 2, 4, 8 or 16 bit; integers reach from -(2^(width-1) - 1) to 2^(width-1) - 1.
    """
    top = (1 << (width - 1)) - 1
    peaks = np.abs(weight).max(axis=(1, 2, 3))
    if width > CUT_BITS:
        return peaks / top
    best, least = peaks / top, np.full(len(weight), np.inf)
    for clip in WEIGHT_CLIPS:
        step = peaks * (clip / top)
        error = np.square(rounded_weight(weight, width, step) - weight).sum(axis=(1, 2, 3))
        best, least = np.where(error < least, step, best), np.minimum(error, least)
    return best


def rounded_weight(weight: NDArray[np.float64], width: int, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights [K, C/groups, FY, FX] that integers of ``width`` bits stand for; 0 where ``step`` is."""
    top = (1 << (width - 1)) - 1
    steps = step[:, None, None, None]
    return np.clip(np.rint(weight / np.where(steps > 0, steps, 1.0)), -top, top) * steps
