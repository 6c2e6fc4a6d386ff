"""The weight-stationary systolic array: rows take the reduction, columns the output channels.

One activation a row enters each cycle, skewed by one cycle a row; partial sums run down the columns and leave together
``rows + cols - 1`` cycles later. Weights shift down the columns while ``load`` is high.
"""

from myhdl import ConcatSignal, Signal, always, always_comb, always_seq, block, intbv

from codesign_kernel.rtl.bits import join, signed, unsigned


@block
def pe_first(clk, load, a_in, w_in, a_out, w_out, p_out):
    """A processing element of the first row: there is no partial sum to add to."""

    @always(clk.posedge)
    def compute():
        if load:
            w_out.next = w_in
        a_out.next = a_in
        p_out.next = a_in * w_out

    return compute


@block
def pe(clk, load, a_in, w_in, p_in, a_out, w_out, p_out):
    """A processing element: ``p_out = p_in + a_in * w`` one cycle later; the activation moves on to the right."""

    @always(clk.posedge)
    def compute():
        if load:
            w_out.next = w_in
        a_out.next = a_in
        p_out.next = p_in + a_in * w_out

    return compute


@block
def pe_last(clk, load, a_in, w_in, p_in, w_out, p_out):
    """A processing element of the last column: no neighbour takes the activation."""

    @always(clk.posedge)
    def compute():
        if load:
            w_out.next = w_in
        p_out.next = p_in + a_in * w_out

    return compute


@block
def pe_only(clk, load, a_in, w_in, w_out, p_out):
    """The one processing element of the first row of an array with a single column."""

    @always(clk.posedge)
    def compute():
        if load:
            w_out.next = w_in
        p_out.next = a_in * w_out

    return compute


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
def systolic(clk, rst, load, w_word, a_word, live, valid, sums, sums_valid, rows, cols, data_bits, acc_bits):
    """The array with its skew and deskew registers.

    Args:
        load, w_word: shift one row of ``cols`` weights in at the top.
        a_word, live, valid: one word of ``rows`` activations; ``live`` low makes it zero; ``valid`` marks it.
        sums, sums_valid: one word of ``cols`` partial sums, ``rows + cols - 1`` cycles later.
    """
    blocks = []
    across = []
    for i in range(rows):
        a = Signal(signed(data_bits))
        blocks.append(lane_in(a_word, live, a, i * data_bits, (i + 1) * data_bits))
        if i > 0:
            skewed = Signal(signed(data_bits))
            blocks.append(delay_line(clk, a, skewed, i))
            a = skewed
        across.append(a)
    down_w = []
    for j in range(cols):
        w = Signal(signed(data_bits))
        blocks.append(lane_weight(w_word, w, j * data_bits, (j + 1) * data_bits))
        down_w.append(w)
    down_p = [None] * cols
    for i in range(rows):
        for j in range(cols):
            a_out, w_out, p_out = Signal(signed(data_bits)), Signal(signed(data_bits)), Signal(signed(acc_bits))
            if i == 0 and j == cols - 1:
                blocks.append(pe_only(clk, load, across[i], down_w[j], w_out, p_out))
            elif i == 0:
                blocks.append(pe_first(clk, load, across[i], down_w[j], a_out, w_out, p_out))
            elif j == cols - 1:
                blocks.append(pe_last(clk, load, across[i], down_w[j], down_p[j], w_out, p_out))
            else:
                blocks.append(pe(clk, load, across[i], down_w[j], down_p[j], a_out, w_out, p_out))
            across[i], down_w[j], down_p[j] = a_out, w_out, p_out
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

    @always_comb
    def out():
        sums.next = word

    return blocks, marks, out
