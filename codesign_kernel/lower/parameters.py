"""Parameters: a layer's weights and its requantiser as words of the weight memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import MULTIPLIER_BITS, SHIFT_BITS, Accelerator
from codesign_kernel.lower.program import to_bytes
from codesign_kernel.mapping.packing import filters
from codesign_kernel.mapping.steps import Step
from codesign_kernel.mapping.tiling import block_range, ceil_div
from codesign_kernel.optimize.layer import IntegerLayer

Array = np.ndarray[Any, Any]


def blocks_of(step: Step, tile: int, a: Accelerator) -> tuple[int, int]:
    """The input tiles that output tile ``tile`` multiplies: first, and last + 1; none off the array."""
    return block_range(step, tile, a.rows, a.cols) if step.on_array else (0, 0)


def rows_per_word(step: Step, a: Accelerator) -> int:
    """Rows of the step's weights in one word of the weight memory."""
    return a.weight_bits // a.stored_bits(step.layer.weight_bits)


def weight_words(step: Step, tile: int, a: Accelerator) -> int:
    """Words of the weight memory for the weights of output tile ``tile``."""
    first, last = blocks_of(step, tile, a)
    return ceil_div((last - first) * step.taps * a.rows, rows_per_word(step, a))


def tile_words(step: Step, layer: IntegerLayer, a: Accelerator, tile: int) -> Array:
    """Words of the weight memory for output tile ``tile``, [words, cols]: weights tap by tap, then the requantiser."""
    requantiser = _requantiser(step, layer, a, tile)
    if not step.on_array:
        return requantiser
    return np.concatenate([_packed(_weights(step, layer, a, tile), rows_per_word(step, a), a.weight_bits), requantiser])


def _packed(rows: Array, many: int, bits: int) -> Array:
    """Rows of weights [rows, cols], ``many`` in a word of ``bits``: [words, cols].

    The bits of a row's number in its word choose halves: the lowest one that of the word, the next that of the half.
    """
    if many == 1:
        return rows
    width, halvings = bits // many, many.bit_length() - 1
    filled = np.zeros((ceil_div(len(rows), many), many, rows.shape[1]), dtype=np.int64)
    filled.reshape(-1, rows.shape[1])[: len(rows)] = rows
    lowest = [sum((row >> k & 1) * (bits >> (k + 1)) for k in range(halvings)) for row in range(many)]
    words = ((filled & ((1 << width) - 1)) << np.array(lowest)[None, :, None]).sum(axis=1)
    return words.astype(rows.dtype)


def _weights(step: Step, layer: IntegerLayer, a: Accelerator, tile: int) -> Array:
    low, high = blocks_of(step, tile, a)
    first, last = tile * a.cols, min((tile + 1) * a.cols, step.channels_out)
    per_in, per_out = step.channels_in // step.groups, step.channels_out // step.groups
    if step.layer.op == "linear":  # of a flattened map: a filter as large as the map
        weights = layer.weight.reshape(step.channels_out, per_in, step.filter_height, step.filter_width)
    else:
        weights = filters(layer.weight, step)
    dense = np.zeros((a.cols, (high - low) * a.rows, step.filter_height, step.filter_width), layer.weight.dtype)
    for out in range(first, last):
        at = out // per_out * per_in - low * a.rows
        dense[out - first, at : at + per_in] = weights[out]
    # [cols, block, row, fy, fx] -> [block, fy, fx, row, cols]; weights that stay shift in with the bottom row's first
    blocks = dense.reshape(a.cols, high - low, a.rows, step.filter_height, step.filter_width)
    return blocks.transpose(1, 3, 4, 2, 0)[:, :, :, :: -1 if a.dataflow == "ws" else 1].reshape(-1, a.cols)


def _requantiser(step: Step, layer: IntegerLayer, a: Accelerator, tile: int) -> Array:
    first, last = tile * a.cols, min((tile + 1) * a.cols, step.channels_out)
    packed = np.zeros(a.cols, dtype=object)
    for lane, out in enumerate(range(first, last)):
        bias = int(layer.bias[out]) % (1 << a.acc_bits)
        scale = int(layer.multiplier[out]) << a.acc_bits
        packed[lane] = bias | scale | (int(layer.shift[out]) - 1) << (a.acc_bits + MULTIPLIER_BITS)
    mask = (1 << a.weight_bits) - 1
    # they end with the last row; what the first one has too many bits are not kept by the lanes
    spare = a.quant_rows * a.weight_bits - (a.acc_bits + MULTIPLIER_BITS + SHIFT_BITS)
    fields = [[(int(value) << spare >> (k * a.weight_bits)) & mask for value in packed] for k in range(a.quant_rows)]
    unsigned = np.array(fields, dtype=np.uint16 if a.weight_bits == 16 else np.uint8)
    return unsigned.view(layer.weight.dtype)


def word_bytes(words: Array, a: Accelerator) -> Array:
    """Words of the weight memory as bytes of the external memory, each padded to whole beats."""
    lanes_a_row = a.weight_beats * a.bus_bits // a.weight_bits
    padded = np.zeros((len(words), lanes_a_row), words.dtype)
    padded[:, : a.cols] = words
    return to_bytes(padded[None], a.weight_bits)[0]
