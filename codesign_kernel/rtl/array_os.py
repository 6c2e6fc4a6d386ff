"""The output-stationary systolic array: rows take positions of the output map, columns the output channels.

Every element holds one sum. An activation enters its row and moves right, a weight enters its column and moves down,
each skewed by one cycle a row or column, so that both meet in every element. A word of activations holds the channels
of one position: one word a cycle is enough, for the row whose turn it is gives its channels one after the other while
the rows below take theirs. A mark moves with the first product of a sum; where it passes, the sum before is handed out,
so one row's sums leave each cycle and no sum waits.
"""

from myhdl import ConcatSignal, Signal, always, always_comb

from codesign_kernel.rtl.array import deskew, register, skew
from codesign_kernel.rtl.bits import join, signed, unsigned, wrapping
from codesign_kernel.rtl.hierarchy import block


@block
def element(clk, first, a, w, first_out, a_out, w_out, handed, place):
    """A processing element: it adds a * w to its sum, and hands the sum out in the cycle that starts the next one.

    first: start a sum, with the product of this cycle.
    first_out, a_out, w_out: the same for the elements to the right and below, where there is one.
    handed: zero in every other cycle. What idles in the element may wrap around.
    """
    n = len(handed)
    total = Signal(wrapping(n))
    parts = []

    @always(clk.posedge)
    def add():
        if first:
            total.next = a * w
        else:
            total.next = total + a * w

    @always_comb
    def hand_out():
        if first:
            handed.next = total[n:]
        else:
            handed.next = 0

    if a_out is not None:

        @always(clk.posedge)
        def move_right():
            first_out.next = first
            a_out.next = a

        parts.append(move_right)
    if w_out is not None:

        @always(clk.posedge)
        def move_down():
            w_out.next = w

        parts.append(move_down)
    return add, hand_out, parts


@block(inline=True)
def both(a, b, y):
    """``y = a | b``: one of the two is zero."""

    @always_comb
    def gate():
        y.next = a | b

    return gate


@block(inline=True)
def same(a, y):
    """``y = a``."""

    @always_comb
    def give():
        y.next = a

    return give


@block
def row_in(clk, take, word, live, a, data_bits):
    """Takes the channels of one position, and gives them one a cycle from the next cycle on; zeros off the map."""
    n = len(word)
    held = Signal(unsigned(n))
    if n == data_bits:

        @always(clk.posedge)
        def shift():
            if live:
                held.next = word
            else:
                held.next = 0
    else:

        @always(clk.posedge)
        def shift():
            if take:
                if live:
                    held.next = word
                else:
                    held.next = 0
            else:
                held.next = held >> data_bits

    @always_comb
    def lowest():
        a.next = held[data_bits:].signed()

    return shift, lowest


@block
def stationary_row(clk, take, first, word, live, w, take_below, first_below, w_below, handed, data_bits, place):
    """A row of processing elements.

    take, word, live: the channels of the row's position; live low makes them zero.
    first: comes with the leftmost element's weight where that starts a sum.
    w: weights from the row above.
    take_below, first_below, w_below: for the row below, if there is one, one cycle later.
    handed: the sums that the elements hand out.
    """
    cols = len(handed)
    a = Signal(signed(data_bits))
    moved = [Signal(signed(data_bits)) for _ in range(cols - 1)]
    firsts = [Signal(bool(0)) for _ in range(cols - 1)]
    blocks = [row_in(clk, take, word, live, a, data_bits)]
    for j in range(cols):
        inner = j < cols - 1
        blocks.append(
            element(
                clk,
                *((firsts[j - 1], moved[j - 1]) if j else (first, a)),
                w[j],
                *((firsts[j], moved[j]) if inner else (None, None)),
                w_below[j] if w_below is not None else None,
                handed[j],
                place + ("" if inner else "_right" if place else "right"),
            )
        )
    if w_below is not None:
        blocks.append(register(clk, take, take_below))
        blocks.append(register(clk, first, first_below))
    return blocks


@block
def stationary(clk, take, first, w_word, a_word, live, sums, rows, cols, data_bits, acc_bits):
    """The array with its skew and deskew registers.

    a_word, live: the channels of one position; live low makes them zero.
    take: the word is the top row's; each row below takes the word of a later cycle.
    first, w_word: the weights for the first channel of that word come one cycle after it; first comes with the
    weights that start new sums.
    sums: a sum for each column of the top row, as many cycles after first, and one row's more in each later cycle.
    """
    w = [[Signal(signed(data_bits)) for _ in range(cols)] for _ in range(rows)]
    handed = [[Signal(unsigned(acc_bits)) for _ in range(cols)] for _ in range(rows)]
    takes, firsts = ([Signal(bool(0)) for _ in range(rows - 1)] for _ in range(2))
    blocks = [skew(clk, w_word, w[0], data_bits)]
    for i in range(rows):
        inner = i < rows - 1
        blocks.append(
            stationary_row(
                clk,
                *((takes[i - 1], firsts[i - 1]) if i else (take, first)),
                a_word,
                live,
                w[i],
                *((takes[i], firsts[i], w[i + 1]) if inner else (None, None, None)),
                handed[i],
                data_bits,
                "" if inner else "bottom",
            )
        )
    # one row's sums at a time: pairs of words, pairs of these, and so on
    words = [join(row, ConcatSignal) for row in handed]
    joined = [words]
    while len(joined[-1]) > 1:
        count = len(joined[-1])
        joined.append([Signal(unsigned(len(sums))) for _ in range((count + 1) // 2)])
        blocks += [both(*joined[-2][2 * k : 2 * k + 2], joined[-1][k]) for k in range(count // 2)]
        if count % 2:
            blocks.append(same(joined[-2][-1], joined[-1][-1]))
    aligned = Signal(unsigned(len(sums)))
    columns = deskew(clk, joined[-1][0], aligned, acc_bits)
    blocks.append(register(clk, aligned, sums))
    return blocks, columns
