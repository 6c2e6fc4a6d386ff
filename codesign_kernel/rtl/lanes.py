"""What happens to one output channel (a lane): accumulate, pool, requantise.

``q = clamp(((max(acc) + bias) * multiplier + (1 << shift - 1)) >> shift)``, then ReLU: the arithmetic of
:class:`codesign_kernel.IntegerNetwork`, bit for bit. For POOL ``acc`` are activations, and their sum may stand in place
of their maximum. The hardware holds ``shift - 1`` and computes the same value as ``((product >> shift - 1) + 1) >> 1``,
which needs one shifter instead of two.
"""

from myhdl import Signal, always, always_comb, intbv

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
def pooling_value(sums, word, live, pooling, adding, value, low, high, first, last):
    """What the lane pools: its sum (bits ``low`` to ``high``), or its channel of a word (bits ``first`` to ``last``).

    A channel outside of the map adds nothing to a sum, and is no larger than any in a maximum.
    """
    channel = Signal(signed(last - first))
    smallest = -(1 << (last - first - 1))

    @always_comb
    def mask():
        if live:
            channel.next = word[last:first].signed()
        elif adding:
            channel.next = 0
        else:
            channel.next = smallest

    @always_comb
    def choose():
        if pooling:
            # a product grows to the width of its target without a warning of the linter, and a copy does not
            value.next = channel * 1
        else:
            value.next = sums[high:low].signed()

    return mask, choose


@block
def pool(clk, value, first, valid, adding, best):
    """The largest of the valid values since ``first``, which the requantiser keeps in order; or what they add up to."""

    @always(clk.posedge)
    def gather():
        if valid:
            if first:
                best.next = value
            elif adding:
                best.next = best + value
            elif value > best:
                best.next = value

    return gather


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
    largest = ((1 << MULTIPLIER_BITS) - 1) << (acc_bits - 1)
    # the sum is in range for a checked network; what idles in the accumulators may wrap around
    biased = Signal(wrapping(acc_bits))
    # the range leaves room for the 1 of the rounding, which one bit pattern of a full range would not
    product = Signal(intbv(0, min=-largest, max=largest + 1))
    rounded = Signal(intbv(0, min=-largest, max=largest + 1))
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
def lane(
    clk, sums, word, live, first, valid, pooling, adding, load, w_word, relu, result, index, data_bits, acc_bits
):  # fmt: skip
    """Everything behind the accumulators for output channel ``index`` of a tile.

    Args:
        sums, word: what comes from accumulators or array, and from the activation memory; ``pooling`` takes the latter.
        live: ``word`` lies on the map.
        first, valid: a window's first value, and any value.
        adding: pool by sum, not by maximum.
        load, w_word: shift in bias, multiplier and shift.
    """
    # no sum overflows for a checked network
    best, bias = Signal(wrapping(acc_bits)), Signal(signed(acc_bits))
    value = Signal(signed(acc_bits))
    multiplier, shift = Signal(unsigned(MULTIPLIER_BITS)), Signal(unsigned(SHIFT_BITS))
    q = Signal(signed(data_bits))
    low, w_low = index * acc_bits, index * data_bits
    source = pooling_value(
        sums, word, live, pooling, adding, value, low, low + acc_bits, w_low, w_low + data_bits
    )  # fmt: skip
    reduce = pool(clk, value, first, valid, adding, best)
    hold = parameters(clk, load, w_word, bias, multiplier, shift, w_low, data_bits)
    scale = requantise(clk, best, bias, multiplier, shift, q)
    pack = rectify(q, relu, result)
    return source, reduce, hold, scale, pack
