"""Tiling: how a step is cut so that its pieces fit the memories. Arrays over machines; lengths in words and rows.

A step whose input and output maps fit the activation memory together stays there whole. Otherwise its output rows are
cut into chunks: a chunk's input rows are loaded, with the rows that neighbouring chunks share, and its results saved.
Within a chunk, output channels are taken ``cols`` at a time (a tile), and as many output rows at a time as the
accumulators hold (a pass); an array that holds its sums takes the whole chunk, and so do the lanes, which need none.

Of a sum of two maps, the second lies where the result goes: a position is read before it is written, and never again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.mapping.steps import Step

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tiling:
    """One step on N machines.

    Attributes:
        in_groups, out_groups: words of ``lanes`` channels for one position of the input and output map.
        tiles: output tiles of ``cols`` channels.
        per_word: rows of weights in one word of the weight memory.
        weight_words: words of the weight memory that the weights of all tiles take; each tile's begin with a word.
        blocks, blocks_max: input tiles of ``rows`` channels that the output tiles need: their sum, and the most of one;
            none where the array does not work.
        whole: both maps stay in the activation memory.
        chunk_rows, chunks: output rows (after pooling) of a chunk; their number (1 where ``whole``).
        pass_rows, passes: output rows of a pass; passes over all chunks.
        pass_sizes: (output rows, how many passes have as many): full passes, the short one at the end of every chunk
            but the last, and that of the last chunk; 0 of 0 rows where there is none.
        loaded_rows: input rows that all chunks load (of the whole map where ``whole``).
        activation_need, accumulator_need, weight_need: the least depth in words with which the step would run.
    """

    in_groups: Array
    out_groups: Array
    tiles: Array
    per_word: Array
    weight_words: Array
    blocks: Array
    blocks_max: Array
    whole: Array
    chunk_rows: Array
    chunks: Array
    pass_rows: Array
    passes: Array
    pass_sizes: tuple[tuple[Array, Array], ...]
    loaded_rows: Array
    activation_need: Array
    accumulator_need: Array
    weight_need: Array


def ceil_div(a: Any, b: Any) -> Any:
    """a / b, rounded up."""
    return -(-a // b)


def block_range(step: Step, tile: int, rows: int, cols: int) -> tuple[int, int]:
    """The input tiles of ``rows`` channels that output tile ``tile`` reads: first, and last + 1."""
    per_in, per_out = step.channels_in // step.groups, step.channels_out // step.groups
    first = tile * cols // per_out
    last = (min((tile + 1) * cols, step.channels_out) - 1) // per_out
    return first * per_in // rows, ceil_div((last + 1) * per_in, rows)


def _blocks(step: Step, machines: Machines) -> tuple[Array, Array]:
    """(sum, maximum) over the output tiles of the input tiles that they read."""
    if not step.on_array:
        none = np.zeros_like(machines.rows)
        return none, none
    if step.groups == 1:
        each = ceil_div(step.channels_in, machines.rows)
        return each * ceil_div(step.channels_out, machines.cols), each
    # a grouped layer's tiles straddle groups: count them once for each shape of array
    shapes, which = machines.sides
    counts = np.array([_count_blocks(step, rows, cols) for rows, cols in shapes], dtype=np.int64)
    return counts[:, 0][which], counts[:, 1][which]


@lru_cache(maxsize=65536)
def _spans(step: Step, rows: int, cols: int) -> tuple[int, ...]:
    """For each output tile the input tiles that it reads."""
    spans = [block_range(step, tile, rows, cols) for tile in range(ceil_div(step.channels_out, cols))]
    return tuple(high - low for low, high in spans)


def _count_blocks(step: Step, rows: int, cols: int) -> tuple[int, int]:
    counts = _spans(step, rows, cols)
    return sum(counts), max(counts)


def _weight_words(step: Step, machines: Machines, per_word: Array, blocks: Array, tiles: Array) -> Array:
    """Words of the weight memory that the weights of all output tiles take."""
    rows = step.taps * machines.rows
    if (per_word == 1).all():
        return blocks * rows
    if step.groups > 1 and step.on_array:
        shapes, which = machines.sides
        words = blocks * rows
        for many in np.unique(per_word[per_word > 1]).tolist():
            counts = [sum(ceil_div(b * step.taps * r, many) for b in _spans(step, r, c)) for r, c in shapes]
            words = np.where(per_word == many, np.array(counts, dtype=np.int64)[which], words)
        return words
    # every tile has as many
    return np.asarray(tiles * ceil_div(blocks // tiles * rows, per_word))


def input_rows(step: Step, first: int, last: int) -> tuple[int, int]:
    """Input rows (first, last + 1) that the output rows (after pooling) from ``first`` up to ``last`` need."""
    top = first * step.pool * step.stride[0] - step.padding[0]
    bottom = (last * step.pool - 1) * step.stride[0] + step.reach[0] - step.padding[0]
    return max(0, top), min(step.height, bottom)


def _loaded_rows(step: Step, chunk_rows: Array, chunks: Array) -> Array:
    """The sum of :func:`input_rows` over all chunks: what they reach, less what lies above and below the map."""
    stride, reach, padding = step.stride[0], step.reach[0], step.padding[0]
    advance = step.pool * stride
    rows = step.out_height * advance + chunks * (reach - stride)
    for k in range(padding):
        # the k-th chunk from the top starts above the map; the k-th from the bottom ends below it
        rows = rows - np.where(k < chunks, np.maximum(0, padding - k * chunk_rows * advance), 0)
        end = step.out_height if k == 0 else (chunks - k) * chunk_rows
        below = end * advance - stride + reach - padding - step.height
        rows = rows - np.where(k < chunks, np.maximum(0, below), 0)
    return rows


def tile(step: Step, machines: Machines) -> Tiling:
    """Cut ``step`` for each of ``machines``. Where a memory is too small, its ``*_need`` is above its depth."""
    in_groups, out_groups = ceil_div(step.channels_in, machines.lanes), ceil_div(step.channels_out, machines.lanes)
    in_row, out_row = in_groups * step.width, out_groups * step.out_width
    depth = machines.depth["activation"]
    whole = in_row * step.height + out_row * step.out_height <= depth
    halo = step.reach[0] - step.stride[0]
    a_row = in_row * (step.pool * step.stride[0]) + out_row
    fit = (depth - in_row * halo) // a_row
    chunk_rows = np.where(whole, step.out_height, np.clip(fit, 1, step.out_height))
    chunks = ceil_div(step.out_height, chunk_rows)
    a_pass = step.out_width * step.pool * step.pool
    unbounded = machines.holds_sums | (not step.on_array)
    pass_rows = np.where(unbounded, chunk_rows, np.maximum(machines.depth["accumulator"] // a_pass, 1))
    last = step.out_height - (chunks - 1) * chunk_rows
    full, last_full = chunk_rows // pass_rows, last // pass_rows
    rest, last_rest = chunk_rows - full * pass_rows, last - last_full * pass_rows
    sizes = (
        (pass_rows, (chunks - 1) * full + last_full),
        (rest, (chunks - 1) * (rest > 0)),
        (last_rest, (last_rest > 0).astype(np.int64)),
    )
    blocks, blocks_max = _blocks(step, machines)
    tiles = ceil_div(step.channels_out, machines.cols)
    # what streams in place of weights is activations
    per_word = np.ones_like(machines.weight_bits) if step.streamed else machines.rows_per_word(step.layer.weight_bits)
    return Tiling(
        in_groups=in_groups,
        out_groups=out_groups,
        tiles=tiles,
        per_word=per_word,
        weight_words=_weight_words(step, machines, per_word, blocks, tiles),
        blocks=blocks,
        blocks_max=blocks_max,
        whole=whole,
        chunk_rows=chunk_rows,
        chunks=chunks,
        pass_rows=pass_rows,
        passes=sizes[0][1] + sizes[1][1] + sizes[2][1],
        pass_sizes=sizes,
        loaded_rows=np.where(whole, step.height, _loaded_rows(step, chunk_rows, chunks)),
        activation_need=np.minimum(in_row * halo + a_row, in_row * step.height + out_row * step.out_height),
        accumulator_need=np.where(unbounded, 0, a_pass),
        weight_need=ceil_div(blocks_max * step.taps * machines.rows, per_word) + machines.quant_rows,
    )
