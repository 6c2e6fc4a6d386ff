"""Cycles, buffer needs and accesses of a layer on a spatial array under a mapping: the law of ``docs/mapping.md``.

Written for numbers, numpy arrays and torch tensors, over mappings or over machines. :mod:`.compiled` compiles the same
lines with numba, but adds up the tiles of all mappings at once. Sizes are elements, everything else bits and cycles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from codesign_kernel.numerics import ceil, floor, maximum, minimum, nothing, where

WS, OS, IS = range(3)


class Engine(NamedTuple):
    """What of a :class:`SpatialArray` decides cycles; ``flow`` is a place in its ``DATAFLOWS``."""

    rows: Any
    cols: Any
    flow: Any
    overlap: Any
    im2col: Any
    weight_bits: Any
    input_bits: Any
    output_bits: Any
    acc_bits: Any
    double_buffered: Any
    duplex: Any
    burst_bit: Any
    bits_per_cycle: Any


class Shape(NamedTuple):
    """What of a :class:`Nest` decides cycles. ``inputs`` and ``outputs`` are those of one group, all images together.
    ``grouped``: the ``k`` loop counts groups of ``channels`` outputs each."""

    width: Any
    in_width: Any
    taps: Any
    groups: Any
    channels: Any
    in_channels: Any
    inputs: Any
    outputs: Any
    grouped: Any


class Rows(NamedTuple):
    """The ``y`` loop: tiles in all; by kind their number, output rows and input rows (see :class:`Cuts`)."""

    tiles: Any
    count: Any
    extent: Any
    seen: Any


class Channels(NamedTuple):
    """The ``k`` or ``c`` loop: tiles in all; by kind their number and size."""

    tiles: Any
    count: Any
    extent: Any


class Stay(NamedTuple):
    """Which operands' tiles are loaded once (or, of O, leave once): 1 for those that stay, else 0.

    The operand that the innermost loop leaves alone stays, and every operand that is held whole.
    """

    w: Any
    i: Any
    o: Any


class Access(NamedTuple):
    """Bits moved by one layer: reads and writes of DRAM, of the three buffers and of the PEs' registers."""

    dram_w_read: Any
    dram_i_read: Any
    dram_o_read: Any
    dram_o_write: Any
    weight_w_write: Any
    weight_w_read: Any
    input_i_write: Any
    input_i_read: Any
    input_o_write: Any
    output_o_write: Any
    output_o_read: Any
    register_write: Any
    register_read: Any


def fold_count(on_rows: Any, on_cols: Any, groups: Any, taps: Any, e: Engine) -> Any:
    """Folds of ``groups`` groups that take ``on_rows`` x ``on_cols`` PEs each; small ones lie on the diagonal."""
    side_by_side = maximum(minimum(floor(e.rows / on_rows), floor(e.cols / on_cols)), 1)
    # a single group lies beside nothing: without this, its rounding has a slope for tensors
    folds = ceil(groups / where(groups == 1, 1, side_by_side)) * (ceil(on_rows / e.rows) * ceil(on_cols / e.cols))
    return folds * where(e.flow == OS, 1, where(e.im2col, 1, taps))


def array_cycle(folds: Any, stream: Any, e: Engine) -> Any:
    """Cycles of the array for ``folds`` folds."""
    fill = where(e.flow == OS, 0, e.rows) + e.rows + e.cols - 2
    return where(e.overlap, (folds - 1) * maximum(stream, e.rows) + stream + fill, folds * (stream + fill))


def compute_cycle(m: Any, n: Any, channels: Any, groups: Any, shape: Shape, e: Engine) -> Any:
    """Cycles of the array for a tile of ``m`` positions, ``n`` outputs and ``channels`` inputs of ``groups`` groups."""
    k = channels * shape.taps
    reduction = where(e.im2col, k, channels)
    on_rows = where(e.flow == OS, m, reduction)
    on_cols = where(e.flow == IS, m, n)
    stream = where(e.flow == WS, m, where(e.flow == OS, k, n))
    return array_cycle(fold_count(on_rows, on_cols, groups, shape.taps, e), stream, e)


def bursts(bits: Any, e: Engine) -> Any:
    """``bits`` in whole bursts."""
    return ceil(bits / e.burst_bit) * e.burst_bit


def tile_cycle(compute: Any, load: Any, store: Any, e: Engine) -> Any:
    """Cycles of a tile whose neighbours move while it is computed."""
    both = where(e.duplex, maximum(load, store), load + store)
    return where(e.double_buffered, maximum(compute, both), load + compute + store)


def _tile(
    rows: Any, seen: Any, size: Any, channels: Any, after: tuple[Any, Any, Any], last_c: Any, stay: Stay,
    shape: Shape, e: Engine, keep_in: Any, keep_out: Any,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """(compute, load, store, DRAM bits) of one tile; ``after``: it is not the first of its loop, for y, k and c."""
    after_y, after_k, after_c = after
    n = where(shape.grouped, shape.channels, size)
    groups = where(shape.grouped, size, 1)
    m = rows * shape.width
    w = bursts(n * groups * channels * shape.taps * e.weight_bits, e) * (1 - stay.w * after_y)
    stays = stay.i * after_k * (1 - shape.grouped)
    i = bursts(seen * shape.in_width * channels * groups * e.input_bits, e) * (1 - stays) * (1 - keep_in)
    sums = bursts(m * n * groups * e.acc_bits, e) * (1 - stay.o)
    out = bursts(m * n * groups * e.output_bits, e) * (1 - keep_out)
    loaded, stored = w + i + sums * after_c, where(last_c, out, sums)
    load, store = ceil(loaded / e.bits_per_cycle), ceil(stored / e.bits_per_cycle)
    return compute_cycle(m, n, channels, groups, shape, e), load, store, loaded + stored


def layer_cycle(
    y: Rows, k: Channels, c: Channels, stay: Stay, shape: Shape, e: Engine, keep_in: Any, keep_out: Any
) -> tuple[Any, Any]:
    """(cycles, DRAM bits) of a layer: every tile's, the first load and the last store.

    Args:
        y, k, c: how the three loops are cut.
        stay: the operands that stay.
        shape, e: layer and machine.
        keep_in, keep_out: the input and the output map stay on chip (0 or 1).
    """
    total, moved = 0.0, 0.0
    for at_c in range(3):
        for at_k in range(3):
            for at_y in range(len(y.count)):
                count = y.count[at_y] * k.count[at_k] * c.count[at_c]
                if nothing(count):
                    continue
                last_c = (at_c == 2) + (c.tiles == 1) > 0
                after = (at_y > 0, at_k > 0, at_c > 0)
                compute, load, store, bits = _tile(
                    y.extent[at_y], y.seen[at_y], k.extent[at_k], c.extent[at_c], after, last_c, stay,
                    shape, e, keep_in, keep_out,
                )  # fmt: skip
                total = total + count * tile_cycle(compute, load, store, e)
                moved = moved + count * bits
    repeats = where(shape.grouped, 1, shape.groups)
    total = total * repeats
    first, load, first_store, _ = _tile(
        y.extent[0], y.seen[0], k.extent[0], c.extent[0], (False, False, False), c.tiles == 1, stay,
        shape, e, keep_in, keep_out,
    )  # fmt: skip
    last, last_load, store, _ = _tile(
        y.extent[-1], y.seen[-1], k.extent[-1], c.extent[-1], (y.tiles > 1, k.tiles > 1, c.tiles > 1), True, stay,
        shape, e, keep_in, keep_out,
    )  # fmt: skip
    many = total - tile_cycle(first, load, first_store, e) - tile_cycle(last, last_load, store, e)
    many = many + load + tile_cycle(first, 0.0 * load, first_store, e) + tile_cycle(last, last_load, 0.0 * store, e)
    many = many + store
    single = y.tiles * k.tiles * c.tiles * repeats == 1
    return where(e.double_buffered, where(single, load + first + store, many), total), moved * repeats


def tile_bits(y: Rows, k: Channels, c: Channels, shape: Shape, e: Engine) -> tuple[Any, Any, Any]:
    """Bits that one tile of W, I and O takes in its buffer, twice if tiles take turns."""
    n = where(shape.grouped, shape.channels, k.extent[0])
    groups = where(shape.grouped, k.extent[0], 1)
    repeats = where(shape.grouped, 1, shape.groups)
    seen = y.seen[0]
    for at_y in range(1, len(y.count)):
        seen = maximum(seen, y.seen[at_y])
    w = n * groups * c.extent[0] * shape.taps * e.weight_bits
    i = seen * shape.in_width * c.extent[0] * groups * e.input_bits
    o = y.extent[0] * shape.width * n * groups * where((e.flow == OS) * (c.tiles == 1), e.output_bits, e.acc_bits)
    w_tiles, o_tiles = k.tiles * c.tiles * repeats, y.tiles * k.tiles * repeats
    i_tiles = y.tiles * c.tiles * repeats * where(shape.grouped, k.tiles, 1)
    more = where(e.double_buffered, 1, 0)
    return w * (1 + more * (w_tiles > 1)), i * (1 + more * (i_tiles > 1)), o * (1 + more * (o_tiles > 1))


def whole_bits(shape: Shape, e: Engine) -> tuple[Any, Any, Any]:
    """Bits that W, I and O take where one of them is held whole: all of a group, twice if groups take turns."""
    turns = 1 + where(e.double_buffered, 1, 0) * (where(shape.grouped, 1, shape.groups) > 1)
    groups = turns * where(shape.grouped, shape.groups, 1)
    w = shape.channels * shape.in_channels * shape.taps * e.weight_bits
    return w * groups, shape.inputs * e.input_bits * groups, shape.outputs * e.acc_bits * groups


def dram_bits(
    y: Rows, k: Channels, c: Channels, stay: Stay, shape: Shape, e: Engine, keep_in: Any, keep_out: Any
) -> tuple[Any, Any, Any, Any]:
    """Whole bursts of W read, I read, O read and O written, all tiles together (bit)."""
    w, i, sums, out = 0.0, 0.0, 0.0, 0.0
    for at_k in range(3):
        n = where(shape.grouped, shape.channels, k.extent[at_k])
        groups = where(shape.grouped, k.extent[at_k], 1)
        for at_c in range(3):
            bits = n * groups * c.extent[at_c] * shape.taps * e.weight_bits
            w = w + k.count[at_k] * c.count[at_c] * bursts(bits, e)
        for at_y in range(len(y.count)):
            count, elements = y.count[at_y] * k.count[at_k], y.extent[at_y] * shape.width * n * groups
            sums = sums + count * bursts(elements * e.acc_bits, e)
            out = out + count * bursts(elements * e.output_bits, e)
    # an input tile of some groups belongs to its own k tile, one of all channels to every k tile
    for at_y in range(len(y.count)):
        for at_c in range(3):
            a_channel = y.seen[at_y] * shape.in_width * c.extent[at_c] * e.input_bits
            for at_k in range(3):
                bits = a_channel * where(shape.grouped, k.extent[at_k], 1)
                count = y.count[at_y] * c.count[at_c] * k.count[at_k]
                first = where(shape.grouped, 1, where(at_k == 0, 1, 1 - stay.i))
                i = i + count * first * bursts(bits, e)
    repeats = where(shape.grouped, 1, shape.groups)
    w = w * (1 + (y.tiles - 1) * (1 - stay.w)) * repeats
    spilled = sums * (c.tiles - 1) * (1 - stay.o) * repeats
    return w, i * repeats * (1 - keep_in), spilled, spilled + out * repeats * (1 - keep_out)


def accesses(
    y: Rows, k: Channels, c: Channels, stay: Stay, shape: Shape, e: Engine, keep_in: Any, keep_out: Any,
    register_words: Any,
) -> Access:  # fmt: skip
    """All bits that a layer moves, by level, operand and direction."""
    positions, seen, row_folds, col_folds = 0.0, 0.0, 0.0, 0.0
    for at_y in range(len(y.count)):
        m = y.extent[at_y] * shape.width
        positions = positions + y.count[at_y] * m
        seen = seen + y.count[at_y] * y.seen[at_y]
        row_folds = row_folds + y.count[at_y] * ceil(m / e.rows)
        col_folds = col_folds + y.count[at_y] * ceil(ceil(m / e.cols) / register_words)
    outputs, out_folds, channels, sum_folds = 0.0, 0.0, 0.0, 0.0
    for at in range(3):
        n = where(shape.grouped, shape.channels, k.extent[at])
        outputs = outputs + where(shape.grouped, 0, k.count[at] * k.extent[at])
        out_folds = out_folds + where(shape.grouped, at == 0, k.count[at]) * ceil(ceil(n / e.cols) / register_words)
        channels = channels + c.count[at] * c.extent[at]
        packed = ceil(c.extent[at] * shape.taps / e.rows)
        sum_folds = sum_folds + c.count[at] * where(e.im2col, packed, shape.taps * ceil(c.extent[at] / e.rows))
    outputs = where(shape.grouped, shape.channels, outputs)
    k_tiles = where(shape.grouped, 1, k.tiles)
    groups = shape.groups
    reduction = channels * shape.taps
    weights, sums = outputs * reduction * e.weight_bits * groups, positions * outputs * e.acc_bits * groups
    inputs = positions * reduction * e.input_bits * groups
    w_read = weights * where(e.flow == WS, y.tiles, where(e.flow == OS, row_folds, col_folds))
    i_read = inputs * where(e.flow == IS, k_tiles, out_folds)
    o_write = sums * where(e.flow == OS, c.tiles, sum_folds)
    stationary = where(e.flow == WS, w_read, where(e.flow == OS, o_write, i_read))
    bits = where(e.flow == WS, e.weight_bits, where(e.flow == OS, e.acc_bits, e.input_bits))
    leaves = 1 + (c.tiles - 1) * (1 - stay.o)
    w, i, back, out = dram_bits(y, k, c, stay, shape, e, keep_in, keep_out)
    return Access(
        dram_w_read=w,
        dram_i_read=i,
        dram_o_read=back,
        dram_o_write=out,
        weight_w_write=weights * (1 + (y.tiles - 1) * (1 - stay.w)),
        weight_w_read=w_read,
        input_i_write=seen * shape.in_width * channels * e.input_bits * groups
        * (1 + (k_tiles - 1) * (1 - stay.i)) * (1 - keep_in),
        input_i_read=i_read,
        input_o_write=positions * outputs * e.output_bits * groups * keep_out,
        output_o_write=o_write + sums * (leaves - 1),
        output_o_read=(o_write - sums) + sums * leaves,
        register_write=stationary,
        register_read=positions * outputs * reduction * groups * bits,
    )  # fmt: skip
