"""The MACs that a step asks of the array, and how many of them multiply zeros around the map."""

from __future__ import annotations

import numpy as np

from codesign_kernel.mapping.steps import Step


def _on_map(results: int, stride: int, padding: int, taps: int, dilation: int, size: int) -> int:
    """Along one side: pairs of a result and a filter position that meet the map."""
    at = np.arange(results)[:, None] * stride + np.arange(taps) * dilation - padding
    return int(((at >= 0) & (at < size)).sum())


def macs_of(step: Step) -> tuple[int, int]:
    """(MACs, those of them with padding) that ``step`` does, once.

    These are the MACs of its layer, but for positions that no pooling window reads: they are not computed.
    """
    height, width = step.out_height * step.pool, step.out_width * step.pool
    pairs = step.channels_out * (step.channels_in // step.groups)
    rows = _on_map(height, step.stride[0], step.padding[0], step.filter_height, step.dilation[0], step.height)
    columns = _on_map(width, step.stride[1], step.padding[1], step.filter_width, step.dilation[1], step.width)
    macs = pairs * height * width * step.taps
    return macs, macs - pairs * rows * columns
