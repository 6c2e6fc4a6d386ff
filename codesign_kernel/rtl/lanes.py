"""What happens to one output channel (a lane): accumulate, pool, requantise.

``q = clamp(((max(acc) + bias) * multiplier + (1 << shift - 1)) >> shift)``, then ReLU: the arithmetic of
:class:`codesign_kernel.IntegerNetwork`, bit for bit. The hardware holds ``shift - 1`` and computes the same value as
``((product >> shift - 1) + 1) >> 1``, which needs one shifter instead of two.
"""

from myhdl import Signal, always, always_comb

from codesign_kernel.accelerator.types import MULTIPLIER_BITS, SHIFT_BITS
from codesign_kernel.rtl.bits import signed, unsigned, wrapping
from codesign_kernel.rtl.hierarchy import block


@block
def accumulate(stored, sums, keep, total, low, high):
    """``total = (keep ? stored : 0) + sums`` on bits ``low`` to ``high`` of both words, modulo 2^acc_bits."""

    @always_comb
    def add():
        if keep:
            total.next = stored[high:low] + sums[high:low]
        else:
            total.next = sums[high:low]

    return add


@block
def running_max(clk, stored, first, best, low, high):
    """The largest value since ``first``: max pooling before the requantiser, which is monotonic."""

    @always(clk.posedge)
    def compare():
        if first or stored[high:low].signed() > best:
            best.next = stored[high:low].signed()

    return compare


@block
def running_max_of_valid(clk, stored, first, valid, best, low, high):
    """:func:`running_max` of what ``valid`` marks."""

    @always(clk.posedge)
    def compare():
        if valid and (first or stored[high:low].signed() > best):
            best.next = stored[high:low].signed()

    return compare


@block
def parameters(clk, load, word, bias, multiplier, shift, low, data_bits):
    """Bias, multiplier and shift - 1 of this lane, shifted in ``data_bits`` at a time, lowest first.

    Where they are no whole number of ``data_bits``, the lowest bits of the first are shifted out again.
    """
    acc_bits = len(bias)
    width = acc_bits + MULTIPLIER_BITS + SHIFT_BITS
    held = Signal(unsigned(width))
    high, kept = low + data_bits, width - data_bits
    m_low, s_low = acc_bits, acc_bits + MULTIPLIER_BITS

    @always(clk.posedge)
    def shift_in():
        if load:
            held.next[kept:] = held[:data_bits]
            held.next[width:kept] = word[high:low]

    @always_comb
    def split():
        bias.next = held[m_low:].signed()
        multiplier.next = held[s_low:m_low]
        shift.next = held[:s_low]

    return shift_in, split


@block
def requantise(clk, x, bias, multiplier, shift, q):
    """Three stages: add the bias, multiply, round half up and clamp."""
    acc_bits, data_bits = len(x), len(q)
    product_bits = acc_bits + MULTIPLIER_BITS + 1
    # the sum is in range for a checked network; what idles in the accumulators may wrap around
    biased = Signal(wrapping(acc_bits))
    product = Signal(signed(product_bits))
    rounded = Signal(signed(product_bits))
    biggest = (1 << (data_bits - 1)) - 1
    smallest = -(1 << (data_bits - 1))

    @always(clk.posedge)
    def scale():
        biased.next = x + bias
        product.next = biased * multiplier

    @always_comb
    def round_half_up():
        rounded.next = ((product >> shift) + 1) >> 1

    @always(clk.posedge)
    def clamp():
        if rounded > biggest:
            q.next = biggest
        elif rounded < smallest:
            q.next = smallest
        else:
            q.next = rounded[data_bits:].signed()

    return scale, round_half_up, clamp


@block(inline=True)
def rectify(q, relu, u):
    """ReLU, and the lane's result as bits."""
    n = len(u)

    @always_comb
    def clip():
        if relu and q < 0:
            u.next = 0
        else:
            u.next = q[n:]

    return clip


@block
def lane(clk, stored, first, valid, load, w_word, relu, result, index, data_bits, acc_bits):
    """Everything behind the accumulators for output channel ``index`` of a tile.

    ``valid`` marks the sums among what comes as ``stored``; None where ``first`` starts a window without gaps.
    """
    best, bias = Signal(signed(acc_bits)), Signal(signed(acc_bits))
    multiplier, shift = Signal(unsigned(MULTIPLIER_BITS)), Signal(unsigned(SHIFT_BITS))
    q = Signal(signed(data_bits))
    low, high = index * acc_bits, (index + 1) * acc_bits
    if valid is None:
        pool = running_max(clk, stored, first, best, low, high)
    else:
        pool = running_max_of_valid(clk, stored, first, valid, best, low, high)
    hold = parameters(clk, load, w_word, bias, multiplier, shift, index * data_bits, data_bits)
    scale = requantise(clk, best, bias, multiplier, shift, q)
    pack = rectify(q, relu, result)
    return pool, hold, scale, pack
