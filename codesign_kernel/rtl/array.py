"""The weight-stationary systolic array: rows take the reduction, columns the output channels.

One activation a row enters each cycle, skewed by one cycle a row; partial sums run down the columns and leave together
``rows + cols - 1`` cycles later. Every element holds two weights: the one that it computes with, and the one that is
shifted down its column meanwhile. What a column or a row is told, its neighbour is told a cycle later, so the weights
change right in front of the first activation that they are for, and the next ones may follow them.
"""

from myhdl import ConcatSignal, Signal, always, always_comb, always_seq, intbv

from codesign_kernel.rtl.bits import join, signed, unsigned
from codesign_kernel.rtl.hierarchy import block


@block
def pe(clk, load, swap, a_in, w_in, p_in, load_out, swap_out, a_out, w_out, p_out, place):
    """A processing element: one cycle later the partial sum p_out is p_in + a_in * weight; at the top a_in * weight.

    load: take w_in as the next weight, which w_out shows to the element below, if there is one.
    swap: compute with that weight from the next cycle on.
    load_out, swap_out, a_out: the same for the element to the right, if there is one.
    """
    acc_bits = len(p_out)
    weight, w_next = Signal(w_in.val), Signal(w_in.val)
    total = p_out if w_out is not None else Signal(signed(acc_bits))
    parts = []

    @always(clk.posedge)
    def weights():
        if load:
            w_next.next = w_in
        if swap:
            weight.next = w_next

    if p_in is None:

        @always(clk.posedge)
        def compute():
            total.next = a_in * weight
    else:

        @always(clk.posedge)
        def compute():
            total.next = p_in + a_in * weight

    if a_out is not None:

        @always(clk.posedge)
        def move_right():
            load_out.next = load
            swap_out.next = swap
            a_out.next = a_in

        parts.append(move_right)
    if w_out is not None:

        @always_comb
        def show():
            w_out.next = w_next
    else:

        @always_comb
        def show():
            p_out.next = total[acc_bits:]

    return weights, compute, parts, show


@block
def array_row(clk, load, swap, last, a, w_in, p_in, load_below, swap_below, w_out, p_out, place):
    """A row of processing elements.

    load, swap, a: what the leftmost element is told, and its activation.
    last: no further row of weights follows.
    w_in, p_in: weights and partial sums from the row above; at the top there are no sums.
    load_below, swap_below, w_out: for the row below, if there is one; it holds one row of weights less.
    p_out: the partial sums one cycle later.
    """
    cols = len(p_out)
    loads, swaps, moved = ([Signal(s.val) for _ in range(cols - 1)] for s in (load, swap, a))
    blocks = []
    for j in range(cols):
        inner = j < cols - 1
        blocks.append(
            pe(
                clk,
                *((loads[j - 1], swaps[j - 1], moved[j - 1]) if j else (load, swap, a)),
                w_in[j],
                p_in[j] if p_in is not None else None,
                *((loads[j], swaps[j], moved[j]) if inner else (None, None, None)),
                w_out[j] if w_out is not None else None,
                p_out[j],
                place + ("" if inner else "_right" if place else "right"),
            )
        )
    if w_out is None:
        return blocks

    @always(clk.posedge)
    def move_down():
        load_below.next = load and not last
        swap_below.next = swap

    return blocks, move_down


@block(inline=True)
def register(clk, d, q):
    """One cycle of delay."""

    @always(clk.posedge)
    def move():
        q.next = d

    return move


@block(inline=True)
def as_signed(word, value):
    """The bits of ``word`` as a signed value."""
    n = len(word)

    @always_comb
    def view():
        value.next = word[n:].signed()

    return view


@block(inline=True)
def slice_signed(word, value, low, high):
    """Bits ``low`` to ``high`` of ``word`` as a signed value."""

    @always_comb
    def view():
        value.next = word[high:low].signed()

    return view


@block
def delay_line(clk, d, q, cycles):
    """q is d, CYCLES cycles later."""
    stages = [Signal(d.val) for _ in range(cycles)]
    last = cycles - 1

    @always(clk.posedge)
    def shift():
        stages[0].next = d
        for k in range(1, cycles):
            stages[k].next = stages[k - 1]

    @always_comb
    def tail():
        q.next = stages[last]

    return shift, tail


@block
def valid_line(clk, rst, d, q, cycles):
    """A valid bit, CYCLES cycles later; cleared by reset."""
    line = Signal(intbv(0)[cycles:])

    if cycles == 1:

        @always_seq(clk.posedge, reset=rst)
        def shift():
            line.next[0] = d
    else:

        @always_seq(clk.posedge, reset=rst)
        def shift():
            line.next[0] = d
            line.next[cycles:1] = line[cycles - 1 :]

    @always_comb
    def tail():
        q.next = line[cycles - 1]

    return shift, tail


@block
def skew(clk, word, values, bits):
    """The lanes of word as signed values, the lowest at once, each other one cycle later than the one before it."""
    late = [Signal(unsigned(bits)) for _ in values[1:]]
    blocks = [slice_signed(word, values[0], 0, bits)]
    for k, delayed in enumerate(late):
        blocks.append(delay_line(clk, word((k + 2) * bits, (k + 1) * bits), delayed, k + 1))
        blocks.append(as_signed(delayed, values[k + 1]))
    return blocks


@block
def deskew(clk, skewed, word, bits):
    """The lanes of skewed, the highest at once, each other one cycle later than the one above it."""
    lanes = len(word) // bits
    late = [Signal(unsigned(bits)) for _ in range(lanes - 1)]
    blocks = [delay_line(clk, skewed((k + 1) * bits, k * bits), late[k], lanes - 1 - k) for k in range(lanes - 1)]
    joined = join([*late, skewed(lanes * bits, (lanes - 1) * bits)], ConcatSignal)

    @always_comb
    def whole():
        word.next = joined

    return blocks, whole


@block
def systolic(
    clk, rst, load, load_last, swap, w_word, a_word, live, valid, tap_end, sums, sums_valid, sums_end,
    rows, cols, data_bits, acc_bits,
):  # fmt: skip
    """The array with its skew and deskew registers.

    load, w_word: shift one row of weights in at the top, the bottom one first.
    load_last: the last row of weights follows: high one cycle before it and its load.
    swap: compute with the weights that were shifted in, from the word of the next cycle on.
    a_word, live, valid: one activation for each row; live low makes them zero; valid marks the word.
    tap_end: marks the last word that the weights are for.
    sums, sums_valid, sums_end: one partial sum for each column and its marks, rows + cols - 1 cycles later.
    """
    blocks = []
    word = Signal(unsigned(rows * data_bits))
    a = [Signal(signed(data_bits)) for _ in range(rows)]
    w = [[Signal(signed(data_bits)) for _ in range(cols)] for _ in range(rows)]
    p = [[Signal(signed(acc_bits)) for _ in range(cols)] for _ in range(rows - 1)]
    bottom = [Signal(unsigned(acc_bits)) for _ in range(cols)]
    loads, swaps = ([Signal(bool(0)) for _ in range(rows - 1)] for _ in range(2))
    last = Signal(bool(0))
    blocks.append(skew(clk, word, a, data_bits))
    blocks.append(skew(clk, w_word, w[0], data_bits))
    if rows > 1:
        blocks.append(register(clk, load_last, last))
    for i in range(rows):
        inner = i < rows - 1
        blocks.append(
            array_row(
                clk,
                *((loads[i - 1], swaps[i - 1]) if i else (load, swap)),
                last,
                a[i],
                w[i],
                p[i - 1] if i else None,
                *((loads[i], swaps[i], w[i + 1], p[i]) if inner else (None, None, None, bottom)),
                "only" if rows == 1 else "top" if i == 0 else "" if inner else "bottom",
            )
        )
    sums_skewed = join(bottom, ConcatSignal)
    columns = deskew(clk, sums_skewed, sums, acc_bits)
    marks = valid_line(clk, rst, valid, sums_valid, rows + cols - 1)
    ends = valid_line(clk, rst, tap_end, sums_end, rows + cols - 1)

    @always_comb
    def gate():
        if live:
            word.next = a_word
        else:
            word.next = 0

    return blocks, columns, marks, ends, gate
