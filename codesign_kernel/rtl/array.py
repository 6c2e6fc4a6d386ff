"""The weight-stationary systolic array: rows take the reduction, columns the output channels.

One activation a row enters each cycle, skewed by one cycle a row; partial sums run down the columns and leave together
``rows + cols - 1`` cycles later. Every element holds two weights: the one that it computes with, and the one that is
shifted down its column meanwhile. What a column or a row is told, its neighbour is told a cycle later, so the weights
change right in front of the first activation that they are for, and the next ones may follow them.
"""

from myhdl import ConcatSignal, Signal, always, always_comb, always_seq, block, intbv

from codesign_kernel.rtl.bits import join, signed, unsigned


@block
def pe_first(clk, load, swap, a_in, w_in, load_out, swap_out, a_out, w_next, p_out):
    """A processing element of the first row: there is no partial sum to add to."""
    weight = Signal(w_next.val)

    @always(clk.posedge)
    def compute():
        if load:
            w_next.next = w_in
        if swap:
            weight.next = w_next
        load_out.next = load
        swap_out.next = swap
        a_out.next = a_in
        p_out.next = a_in * weight

    return compute


@block
def pe(clk, load, swap, a_in, w_in, p_in, load_out, swap_out, a_out, w_next, p_out):
    """A processing element: ``p_out = p_in + a_in * weight`` one cycle later.

    ``load`` takes a weight from above into ``w_next``, ``swap`` puts that one to use from the next cycle on; both move
    on to the right with the activation.
    """
    weight = Signal(w_next.val)

    @always(clk.posedge)
    def compute():
        if load:
            w_next.next = w_in
        if swap:
            weight.next = w_next
        load_out.next = load
        swap_out.next = swap
        a_out.next = a_in
        p_out.next = p_in + a_in * weight

    return compute


@block
def pe_last(clk, load, swap, a_in, w_in, p_in, w_next, p_out):
    """A processing element of the last column: no neighbour takes the activation."""
    weight = Signal(w_next.val)

    @always(clk.posedge)
    def compute():
        if load:
            w_next.next = w_in
        if swap:
            weight.next = w_next
        p_out.next = p_in + a_in * weight

    return compute


@block
def pe_only(clk, load, swap, a_in, w_in, w_next, p_out):
    """The processing element of the first row that is in the last column too."""
    weight = Signal(w_next.val)

    @always(clk.posedge)
    def compute():
        if load:
            w_next.next = w_in
        if swap:
            weight.next = w_next
        p_out.next = a_in * weight

    return compute


@block
def load_below(clk, above, last, load):
    """A row takes weights from one cycle after the row above it, and ends with it: it holds one row less."""

    @always(clk.posedge)
    def move():
        load.next = above and not last

    return move


@block
def lane_in(word, live, a, low, high):
    """The signed activation in bits ``low`` to ``high`` of ``word``; zero outside of the feature map."""

    @always_comb
    def take():
        if live:
            a.next = word[high:low].signed()
        else:
            a.next = 0

    return take


@block
def lane_weight(word, w, low, high):
    """The signed weight in bits ``low`` to ``high`` of ``word``."""

    @always_comb
    def take():
        w.next = word[high:low].signed()

    return take


@block
def register(clk, d, q):
    """One cycle of delay."""

    @always(clk.posedge)
    def move():
        q.next = d

    return move


@block
def as_bits(q, u):
    """A signed value as bits (a concatenation of signed signals is not valid VHDL)."""
    n = len(u)

    @always_comb
    def view():
        u.next = q[n:]

    return view


@block
def delay_line(clk, d, q, cycles):
    """``q`` is ``d`` after ``cycles`` >= 1 registers."""
    stages = [d, *[Signal(d.val) for _ in range(cycles - 1)], q]
    return [register(clk, stages[k], stages[k + 1]) for k in range(cycles)]


@block
def valid_line(clk, rst, d, q, cycles):
    """A valid bit delayed by ``cycles`` >= 1, cleared by reset."""
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
    def out():
        q.next = line[cycles - 1]

    return shift, out


@block
def systolic(
    clk, rst, load, load_last, swap, w_word, a_word, live, valid, tap_end, sums, sums_valid, sums_end,
    rows, cols, data_bits, acc_bits,
):  # fmt: skip
    """The array with its skew and deskew registers.

    Args:
        load, w_word: shift one row of ``cols`` weights in at the top, the bottom one first.
        load_last: the last of ``rows`` rows follows: high one cycle before it and its ``load``.
        swap: compute with the weights that were shifted in, from the word of the next cycle on.
        a_word, live, valid: one word of ``rows`` activations; ``live`` low makes it zero; ``valid`` marks it.
        tap_end: marks the last word that the weights are for.
        sums, sums_valid, sums_end: one word of ``cols`` partial sums and its marks, ``rows + cols - 1`` cycles later.
    """
    blocks = []
    across = []
    loads, swaps = [load], [swap]
    if rows > 1:
        last = Signal(bool(0))
        blocks.append(register(clk, load_last, last))
    for i in range(rows):
        a = Signal(signed(data_bits))
        blocks.append(lane_in(a_word, live, a, i * data_bits, (i + 1) * data_bits))
        if i > 0:
            skewed = Signal(signed(data_bits))
            blocks.append(delay_line(clk, a, skewed, i))
            a = skewed
            loads.append(Signal(bool(0)))
            swaps.append(Signal(bool(0)))
            blocks.append(load_below(clk, loads[i - 1], last, loads[i]))
            blocks.append(register(clk, swaps[i - 1], swaps[i]))
        across.append((loads[i], swaps[i], a))
    down_w = []
    for j in range(cols):
        w = Signal(signed(data_bits))
        blocks.append(lane_weight(w_word, w, j * data_bits, (j + 1) * data_bits))
        if j > 0:
            skewed = Signal(signed(data_bits))
            blocks.append(delay_line(clk, w, skewed, j))
            w = skewed
        down_w.append(w)
    down_p = [None] * cols
    for i in range(rows):
        for j in range(cols):
            moved = Signal(bool(0)), Signal(bool(0)), Signal(signed(data_bits))
            w_next, p_out = Signal(signed(data_bits)), Signal(signed(acc_bits))
            if i == 0 and j == cols - 1:
                blocks.append(pe_only(clk, *across[i], down_w[j], w_next, p_out))
            elif i == 0:
                blocks.append(pe_first(clk, *across[i], down_w[j], *moved, w_next, p_out))
            elif j == cols - 1:
                blocks.append(pe_last(clk, *across[i], down_w[j], down_p[j], w_next, p_out))
            else:
                blocks.append(pe(clk, *across[i], down_w[j], down_p[j], *moved, w_next, p_out))
            across[i], down_w[j], down_p[j] = moved, w_next, p_out
    columns = []
    for j in range(cols):
        p = down_p[j]
        if j < cols - 1:
            p = Signal(signed(acc_bits))
            blocks.append(delay_line(clk, down_p[j], p, cols - 1 - j))
        u = Signal(unsigned(acc_bits))
        blocks.append(as_bits(p, u))
        columns.append(u)
    word = join(columns, ConcatSignal)
    marks = valid_line(clk, rst, valid, sums_valid, rows + cols - 1)
    ends = valid_line(clk, rst, tap_end, sums_end, rows + cols - 1)

    @always_comb
    def out():
        sums.next = word

    return blocks, marks, ends, out
