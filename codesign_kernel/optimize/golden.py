"""The golden model: bit for bit what the hardware computes, vectorised over a batch of maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.optimize.layer import PLAIN_OPS, IntegerLayer


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


def _windows(layer: IntegerLayer, maps: NDArray[np.int64], out: tuple[int, int]) -> NDArray[np.int64]:
    """The sums or maxima [N, K, OY, OX] over the windows of maps [N, K, IY, IX]: one step for each of its positions."""
    (py, px), (sy, sx), (oy, ox) = layer.padding, layer.stride, out
    highest = layer.op == "max_pool2d"
    never = np.iinfo(np.int64).min  # below every value: padding does not win
    padded = np.pad(maps, ((0, 0), (0, 0), (py, py), (px, px)), constant_values=never if highest else 0)
    total = np.full((*maps.shape[:2], oy, ox), never if highest else 0)
    for y in range(layer.weight.shape[2]):
        for x in range(layer.weight.shape[3]):
            part = padded[:, :, y : y + (oy - 1) * sy + 1 : sy, x : x + (ox - 1) * sx + 1 : sx]
            total = np.maximum(total, part) if highest else total + part
    return total


def run_layer(layer: IntegerLayer, read: Sequence[NDArray[np.int64]], bits: int) -> NDArray[np.int64]:
    """What the hardware writes to memory, [N, K, H, W], for the integer maps [N, C, H, W] that the layer reads.

    An addition reads two of them, every other layer one.
    """
    maps = read[0]
    if layer.flatten:
        maps = maps.reshape(len(maps), -1, 1, 1)
    _, oy, ox = layer.map_shape(maps.shape[1:])
    if layer.op == "add":
        total = maps + read[1]
    elif layer.op in PLAIN_OPS:
        total = _windows(layer, maps, (oy, ox))
    else:
        total = _accumulate(layer, maps, (oy, ox)) + layer.bias.astype(np.int64)[:, None, None]
    q = requantise(total, layer.multiplier[:, None, None], layer.shift[:, None, None], bits)
    if layer.relu:
        q = np.maximum(q, 0)
    if layer.pool > 1:
        edge, py, px = layer.pool, oy // layer.pool, ox // layer.pool
        q = q[:, :, : py * edge, : px * edge].reshape(*q.shape[:2], py, edge, px, edge).max(axis=(3, 5))
    return q
