"""Packing: the host puts filter positions of the network's input beside each other, as channels.

A first layer of few channels leaves most rows of the array idle. Where a filter row of all its channels fits the rows,
or even the whole filter, the input is stored as one word for each place of it, zeros of the padding included, and the
layer runs with as many fewer taps. What such places share is stored once for each. Whether that pays depends on the
machine: the way that takes the fewest cycles is taken, of equals the one that packs more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import MAX_SIDE
from codesign_kernel.mapping.steps import Step
from codesign_kernel.mapping.tiling import Tiling

Array = np.ndarray[Any, Any]
#: No array has more rows.
MOST_ROWS = 256


def packings(first: Step) -> tuple[Step, ...]:
    """The ways to run the first step of a network: as it is, then with filter rows and with whole filters packed."""
    if not first.from_host or first.layer.op != "conv2d" or first.groups > 1:
        return (first,)
    columns = replace(
        first,
        channels_in=first.channels_in * first.filter_width,
        width=first.out_width * first.pool,
        filter_width=1,
        stride=(first.stride[0], 1),
        padding=(first.padding[0], 0),
        dilation=(first.dilation[0], 1),
        packed=(1, first.filter_width),
    )
    both = replace(
        columns,
        channels_in=first.channels_in * first.taps,
        height=first.out_height * first.pool,
        filter_height=1,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        packed=(first.filter_height, first.filter_width),
    )
    ways = [first]
    for way in (columns, both):
        more = way.taps < ways[-1].taps
        if more and way.channels_in <= MOST_ROWS and max(way.height, way.width) < MAX_SIDE:
            ways.append(way)
    return tuple(ways)


def runs(way: Step, tiling: Tiling, machines: Machines) -> Array:
    """On which of ``machines`` one of :func:`packings` can be chosen: it fits the rows and the activation memory."""
    fits = tiling.activation_need <= machines.depth["activation"]
    return fits if way.packed == (1, 1) else fits & (way.channels_in <= machines.rows)


def unfolded(maps: Array, plain: Step, way: Step) -> Array:
    """Maps [N, C, H, W] of ``plain``'s input as ``way`` reads them: [N, channels, rows, columns].

    Channel c of filter position (y, x) becomes channel (c x packed rows + y) x packed columns + x.
    """
    if way.packed == (1, 1):
        return maps
    (py, px), (sx, dx) = plain.padding, (plain.stride[1], plain.dilation[1])
    tall = way.packed[0] > 1
    padded = np.pad(maps, ((0, 0), (0, 0), (py, py) if tall else (0, 0), (px, px)))
    sy, dy = (plain.stride[0], plain.dilation[0]) if tall else (1, 1)
    found = np.zeros((*maps.shape[:2], *way.packed, way.height, way.width), dtype=maps.dtype)
    for y, x in np.ndindex(*way.packed):
        rows = slice(y * dy, y * dy + (way.height - 1) * sy + 1, sy)
        columns = slice(x * dx, x * dx + (way.width - 1) * sx + 1, sx)
        found[:, :, y, x] = padded[:, :, rows, columns]
    return found.reshape(len(maps), way.channels_in, way.height, way.width)


def filters(weight: Array, way: Step) -> Array:
    """Filters [K, C, FY, FX] of a step that is run as ``way``: [K, channels, rows, columns]."""
    order = weight if way.packed[0] > 1 else weight.transpose(0, 1, 3, 2)
    return (weight if way.packed == (1, 1) else order).reshape(len(weight), -1, way.filter_height, way.filter_width)
