"""Narrow weights: which row of a word of the weight memory is read, and what becomes of its weights.

A word holds one, two, four or eight rows of weights. It is read from the memory once, and stays at its output while
its rows are taken one after the other. The bits of a row's number choose halves, the lowest one that of the word: so
they are the selects of the multiplexers, whatever number of rows there is.
"""

from myhdl import ConcatSignal, Signal, always, always_comb, always_seq

from codesign_kernel.rtl.bits import counter, join, unsigned
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.walks import bits


class WordRows:
    """``row`` is the number of the row within its word, ``last`` that of the word's last one, while they are read.

    ``fresh``: it is the word's first.
    """

    def __init__(self, accelerator):
        halvings = (accelerator.most_per_word - 1).bit_length()
        self.row, self.last = Signal(counter(halvings)), Signal(unsigned(halvings))
        self.fresh = Signal(bool(0))

    @classmethod
    def of(cls, accelerator):
        """Those of ``accelerator``; None where a word holds one row always."""
        return cls(accelerator) if accelerator.most_per_word > 1 else None


@block
def row_walk(clk, rst, restart, read, word, rows, passed):
    """Counts the rows of a word from ``restart`` on, one a ``read``; ``passed`` with the last one."""
    low = bits("per_word")[1]
    high = low + len(rows.last)

    @always_comb
    def look():
        rows.fresh.next = rows.row == 0
        passed.next = read and rows.row == rows.last

    @always_seq(clk.posedge, reset=rst)
    def count():
        if restart:
            rows.row.next = 0
            rows.last.next = word[high:low]
        elif passed:
            rows.row.next = 0
        elif read:
            rows.row.next = rows.row + 1

    return look, count


@block(inline=True)
def check_rows(word, otherwise, illegal, taps_op, reserved, most):
    """Whether ``word`` names rows that there are not, lets any other operation than ``taps_op`` name them, or is no
    instruction ``otherwise``. Bits from ``reserved`` up to the field are zero."""
    low = bits("per_word")[1]
    two, four = low + 1, low + 2
    high = low + (most - 1).bit_length()
    wrong, blocks = otherwise, []
    if most == 4:
        wrong = Signal(bool(0))

        @always_comb
        def check_four():
            wrong.next = otherwise or (word[two] and not word[low])

        blocks.append(check_four)
    elif most == 8:
        wrong = Signal(bool(0))

        @always_comb
        def check_eight():
            wrong.next = otherwise or (word[two] and not word[low]) or (word[four] and not word[two])

        blocks.append(check_eight)
    if reserved < low:

        @always_comb
        def check():
            illegal.next = wrong or word[low:reserved] != 0 or (word[4:] != taps_op and word[high:low] != 0)
    else:

        @always_comb
        def check():
            illegal.next = wrong or (word[4:] != taps_op and word[high:low] != 0)

    return blocks, check


@block(inline=True)
def half(whole, row, part, place):
    """``part`` is the half of ``whole`` that bit ``place`` of ``row`` chooses."""
    n = len(part)
    m = 2 * n

    @always_comb
    def choose():
        if row[place]:
            part.next = whole[m:n]
        else:
            part.next = whole[n:]

    return choose


@block(inline=True)
def widened(part, whole, last, value, place):
    """``value`` is ``part`` with its sign extended; or, where bit ``place`` of ``last`` is not set, below the upper
    half of ``whole``."""
    n = len(part)
    m, sign = 2 * n, n - 1
    ones = (1 << n) - 1

    @always_comb
    def extend():
        value.next[n:] = part
        if not last[place]:
            value.next[m:n] = whole[m:n]
        elif part[sign]:
            value.next[m:n] = ones
        else:
            value.next[m:n] = 0

    return extend


@block
def unpack(share, row, last, weight):
    """One column's weight of row ``row`` out of its share of a word."""
    halvings = len(row)
    # no list: its signals have several widths
    parts = (share, *(Signal(unsigned(len(share) >> (k + 1))) for k in range(halvings)))
    blocks = [half(parts[k], row, parts[k + 1], k) for k in range(halvings)]
    value = parts[halvings]
    for k in reversed(range(halvings)):
        wider = weight if k == 0 else Signal(unsigned(len(parts[k])))
        blocks.append(widened(value, parts[k], last, wider, k))
        value = wider
    return blocks


@block
def unpacker(clk, rows, w_word, w_row, cols):
    """``w_row`` is the row of ``w_word`` that ``rows`` was at in the cycle before, in which the word was read."""
    width = len(w_word) // cols
    row = Signal(unsigned(len(rows.row)))
    weights = [Signal(unsigned(width)) for _ in range(cols)]
    blocks = [unpack(w_word((j + 1) * width, j * width), row, rows.last, weights[j]) for j in range(cols)]
    joined = join(weights, ConcatSignal)

    @always(clk.posedge)
    def follow():
        row.next = rows.row

    @always_comb
    def whole():
        w_row.next = joined

    return blocks, follow, whole
