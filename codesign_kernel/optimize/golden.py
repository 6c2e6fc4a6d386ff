"""The golden model: bit for bit what the hardware computes, vectorised over a batch of maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from codesign_kernel.optimize.layer import IntegerLayer


def requantise(
    total: NDArray[np.int64], multiplier: NDArray[np.int32], shift: NDArray[np.int32], bits: int
) -> NDArray[np.int64]:
    """``clamp((total * multiplier + 2^(shift-1)) >> shift)``: accumulators scaled to ``bits`` signed, rounding half up.

    ``>>`` floors, for negative numbers too, so -0.5 becomes 0 and -1.5 becomes -1. |total| < 2^47 keeps 64 bits exact;
    the half is added behind the larger part of the shift, where it cannot leave them.
    """
    scaled = ((total * multiplier.astype(np.int64) >> (shift.astype(np.int64) - 1)) + 1) >> 1
    return np.clip(scaled, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _accumulate(layer: IntegerLayer, maps: NDArray[np.int64], out: tuple[int, int]) -> NDArray[np.int64]:
    """The integer convolution [N, K, OY, OX] of maps [N, C, IY, IX]: one matrix product for each filter tap.

    float64 holds every partial sum exactly, as the network bounds them below 2^47, and numpy multiplies it fastest.
    """
    n, channels = maps.shape[:2]
    groups, (k, c, fy, fx), (oy, ox) = layer.groups, layer.weight.shape, out
    (sy, sx), (dy, dx), (py, px) = layer.stride, layer.dilation, layer.padding
    padded = np.pad(maps.astype(np.float64), ((0, 0), (0, 0), (py, py), (px, px)))
    padded = padded.swapaxes(0, 1).reshape(groups, channels // groups, n, *padded.shape[2:])
    taps = layer.weight.astype(np.float64).reshape(groups, k // groups, c, fy, fx).transpose(3, 4, 0, 1, 2)
    acc = np.zeros((groups, k // groups, n * oy * ox))
    for y in range(fy):
        for x in range(fx):
            rows, cols = (
                slice(at, at + (edge - 1) * step + 1, step) for at, edge, step in ((y * dy, oy, sy), (x * dx, ox, sx))
            )
            window = padded[..., rows, cols].reshape(groups, c, n * oy * ox)
            acc += np.ascontiguousarray(taps[y, x]) @ window
    return acc.astype(np.int64).reshape(k, n, oy, ox).swapaxes(0, 1)


def run_layer(layer: IntegerLayer, maps: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """What the hardware writes to memory for integer input maps [N, C, H, W]: [N, K, H, W]."""
    if layer.flatten:
        maps = maps.reshape(len(maps), -1, 1, 1)
    _, oy, ox = layer.map_shape(maps.shape[1:])
    total = _accumulate(layer, maps, (oy, ox)) + layer.bias.astype(np.int64)[:, None, None]
    q = requantise(total, layer.multiplier[:, None, None], layer.shift[:, None, None], bits)
    if layer.relu:
        q = np.maximum(q, 0)
    if layer.pool > 1:
        edge, py, px = layer.pool, oy // layer.pool, ox // layer.pool
        q = q[:, :, : py * edge, : px * edge].reshape(*q.shape[:2], py, edge, px, edge).max(axis=(3, 5))
    return q
