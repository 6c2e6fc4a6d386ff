"""The output-stationary systolic array: rows take positions of the output map, columns the output channels.

Every element holds one sum. An activation enters its row and moves right, a weight enters its column and moves down,
each skewed by one cycle a row or column, so that both meet in every element. A word of activations holds the channels
of one position: one word a cycle is enough, for the row whose turn it is gives its channels one after the other while
the rows below take theirs. A mark moves with the first product of a sum; where it passes, the sum before is handed out,
so one row's sums leave each cycle and no sum waits.
"""

from myhdl import ConcatSignal, Signal, always, always_comb, block

from codesign_kernel.rtl.array import delay_line, lane_weight, register
from codesign_kernel.rtl.bits import join, signed, unsigned, wrapping


@block
def element(clk, first, a, w, handed):
    """A processing element: it adds ``a * w`` to its sum, and hands the sum out in the cycle that starts the next one.

    ``handed`` is zero in every other cycle. What idles in the element may wrap around.
    """
    n = len(handed)
    total = Signal(wrapping(n))

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

    return add, hand_out


@block
def both(a, b, y):
    """``y = a | b``: one of the two is zero."""

    @always_comb
    def gate():
        y.next = a | b

    return gate


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
def column_out(clk, handed, word, delay):
    """What one element of the column hands out, in the bits of the result, ``delay`` cycles later."""
    blocks = []
    level = list(handed)
    while len(level) > 1:
        joined = []
        for k in range(0, len(level) - 1, 2):
            y = Signal(unsigned(len(word)))
            blocks.append(both(level[k], level[k + 1], y))
            joined.append(y)
        level = [*joined, *level[len(level) & ~1 :]]
    blocks.append(delay_line(clk, level[0], word, delay))
    return blocks


@block
def stationary(clk, take, first, w_word, a_word, live, sums, rows, cols, data_bits, acc_bits):
    """The array with its skew and deskew registers.

    Args:
        a_word, live: the channels of one position; ``live`` low makes them zero.
        take: the word is the top row's; each row below takes the word of a later cycle.
        first, w_word: the weights for the first channel of that word come one cycle after it; ``first`` comes with the
            weights that start new sums.
        sums: ``cols`` sums of the top row, ``cols`` cycles after ``first``, and one row's more in each later cycle.
    """
    blocks = []
    across = []
    for i in range(rows):
        a = Signal(signed(data_bits))
        blocks.append(row_in(clk, take, a_word, live, a, data_bits))
        across.append((first, a))
        if i < rows - 1:
            later = Signal(bool(0)), Signal(bool(0))
            blocks.append(register(clk, take, later[0]))
            blocks.append(register(clk, first, later[1]))
            take, first = later
    columns = []
    for j in range(cols):
        w = Signal(signed(data_bits))
        blocks.append(lane_weight(w_word, w, j * data_bits, (j + 1) * data_bits))
        if j > 0:
            skewed = Signal(signed(data_bits))
            blocks.append(delay_line(clk, w, skewed, j))
            w = skewed
        handed = []
        for i in range(rows):
            mark, a = across[i]
            handed.append(Signal(unsigned(acc_bits)))
            blocks.append(element(clk, mark, a, w, handed[i]))
            if j < cols - 1:
                moved = Signal(bool(0)), Signal(signed(data_bits))
                blocks.append(register(clk, mark, moved[0]))
                blocks.append(register(clk, a, moved[1]))
                across[i] = moved
            if i < rows - 1:
                below = Signal(signed(data_bits))
                blocks.append(register(clk, w, below))
                w = below
        word = Signal(unsigned(acc_bits))
        blocks.append(column_out(clk, handed, word, cols - j))
        columns.append(word)
    word = join(columns, ConcatSignal)

    @always_comb
    def out():
        sums.next = word

    return blocks, out
