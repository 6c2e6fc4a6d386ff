"""The address generators of an output-stationary array."""

from myhdl import ConcatSignal, Signal, always, always_comb, always_seq

from codesign_kernel.accelerator.isa import COORDINATE_BITS, COUNT_BITS, ROW_STEP_BITS, STEP_BITS, TAP_BITS
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.array import delay_line
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.unpack import row_walk
from codesign_kernel.rtl.walks import SAVE, SUM, bits


@block
def window_walk(clk, rst, ctl, word, taps, step, place, ended):
    """The positions of a map window by window; ``place`` is one of them, ``step`` moves on.

    Windows of SUM lie side by side in the map before pooling; those of POOL have steps of their own.

    ``place`` holds, from the highest bits: whether it ends a pooling window, whether it starts one, whether it is a
    position at all (low when the last one was passed: ``ended``), its row and column relative to the first one's, and
    its address likewise.
    """
    nx_high, nx_low = bits("nx")
    ny_high, ny_low = bits("ny")
    sx_high, sx_low = bits("sx")
    sy_high, sy_low = bits("sy")
    rs_high, rs_low = bits("row_step")
    k_high, k_low = bits("window")
    x, y, x_end, y_end, px, py, left, top, sx, sy = [Signal(counter(COORDINATE_BITS)) for _ in range(10)]
    kx, ky, kx_end, ky_end, side = [Signal(counter(TAP_BITS)) for _ in range(5)]
    line, top_line, row_step, address, column = [Signal(counter(ADDRESS_BITS)) for _ in range(5)]
    dx, dy, from_x, from_y = [Signal(counter(COORDINATE_BITS)) for _ in range(4)]
    tap_row, from_line = Signal(counter(ADDRESS_BITS)), Signal(counter(ADDRESS_BITS))
    there, opens, closes, passed, tiled = [Signal(bool(0)) for _ in range(5)]
    joined = ConcatSignal(closes, opens, there, py, px, address)

    @always_comb
    def look():
        column.next[COORDINATE_BITS:] = px
        column.next[ADDRESS_BITS:COORDINATE_BITS] = 0

    @always_comb
    def locate():
        address.next = line + column
        there.next = not passed
        opens.next = kx == 0 and ky == 0
        closes.next = kx == kx_end and ky == ky_end

    @always_comb
    def show():
        place.next = joined

    @always_comb
    def finish():
        ended.next = passed or (step and closes and x == x_end and y == y_end)

    @always_comb
    def steps():
        if tiled:
            kx_end.next = side
            ky_end.next = side
            dx.next = sx
            dy.next = sy
            tap_row.next = row_step
            # side by side, the next window begins a step from where this one ends
            from_x.next = px
            from_y.next = py
            from_line.next = line
        else:
            kx_end.next = taps.x_end
            ky_end.next = taps.y_end
            dx.next = taps.dx[COORDINATE_BITS:]
            dy.next = taps.dy
            tap_row.next = taps.row
            from_x.next = left
            from_y.next = top
            from_line.next = top_line

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            tiled.next = word[4:] == SUM
            x_end.next = word[nx_high:nx_low]
            y_end.next = word[ny_high:ny_low]
            side.next[STEP_BITS:] = word[k_high:k_low]
            # steps are as wide as what they are added to; only their low bits are ever set
            sx.next[STEP_BITS:] = word[sx_high:sx_low]
            sy.next[STEP_BITS:] = word[sy_high:sy_low]
            row_step.next[ROW_STEP_BITS:] = word[rs_high:rs_low]

    @always_seq(clk.posedge, reset=rst)
    def walk():
        if ctl.issue:
            x.next = 0
            y.next = 0
            kx.next = 0
            ky.next = 0
            px.next = 0
            left.next = 0
            py.next = 0
            top.next = 0
            line.next = 0
            top_line.next = 0
            passed.next = False
        elif step:
            passed.next = ended
            if kx != kx_end:
                kx.next = kx + 1
                px.next = px + dx
            elif ky != ky_end:
                kx.next = 0
                ky.next = ky + 1
                px.next = left
                py.next = py + dy
                line.next = line + tap_row
            elif x != x_end:
                kx.next = 0
                ky.next = 0
                x.next = x + 1
                px.next = from_x + sx
                left.next = from_x + sx
                py.next = top
                line.next = top_line
            else:
                kx.next = 0
                ky.next = 0
                x.next = 0
                y.next = y + 1
                px.next = 0
                left.next = 0
                py.next = from_y + sy
                top.next = from_y + sy
                line.next = from_line + row_step
                top_line.next = from_line + row_step

    return look, locate, show, finish, steps, hold, walk


@block(inline=True)
def repeat(clk, fresh, given, place, rows):
    """``place`` is ``given`` while a sum's first tap is read, and for each later tap the same places once more."""
    again = Signal(unsigned(len(place)))
    ring = delay_line(clk, place, again, rows)

    @always_comb
    def choose():
        if fresh:
            place.next = given
        else:
            place.next = again

    return ring, choose


@block
def read_walk(clk, rst, ctl, word, place, origin, start_x, start_y, running, words_end):
    """The read address of the activation memory: a position as the tap sees it, or words one by one.

    ``ctl.live`` says, together with the address, whether the position is one and lies on the map.
    """
    a_high, a_low = bits("addr")
    w_high, w_low = bits("width")
    h_high, h_low = bits("height")
    c_high, c_low = bits("count")
    x_low, y_low, there = ADDRESS_BITS, ADDRESS_BITS + COORDINATE_BITS, ADDRESS_BITS + 2 * COORDINATE_BITS
    px, py, width, height = [Signal(counter(COORDINATE_BITS)) for _ in range(4)]
    count = Signal(counter(COUNT_BITS))

    @always_comb
    def shift():
        # a coordinate left of or above the map wraps to a large number
        px.next = place[y_low:x_low] + start_x
        py.next = place[there:y_low] + start_y

    @always_comb
    def finish():
        words_end.next = count == 0 and ctl.beat_last

    @always_seq(clk.posedge, reset=rst)
    def walk():
        ctl.live.next = (ctl.sum or ctl.pool) and place[there] and px < width and py < height
        if ctl.issue:
            width.next = word[w_high:w_low]
            height.next = word[h_high:h_low]
            count.next = word[c_high:c_low]
            if word[4:] == SAVE:
                ctl.addr.next = word[a_high:a_low]
        elif ctl.sum or ctl.pool:
            ctl.addr.next = place[x_low:] + origin
        elif running and ctl.beat_last:
            count.next = count - 1
            ctl.addr.next = ctl.addr + 1

    return shift, finish, walk


@block
def weight_walk(clk, rst, ctl, word, group_end, word_rows=None):
    """The read address of the weight memory: every group of positions reads the weights of all taps, a row a cycle.

    It runs two cycles behind the positions, whose words are chosen and taken meanwhile. TILE reads its rows at once.
    """
    # where there are ``word_rows``, a word can hold several rows of weights
    w_high, w_low = bits("waddr")
    soon, now, end_soon, end_now = [Signal(bool(0)) for _ in range(4)]

    @always_seq(clk.posedge, reset=rst)
    def follow():
        soon.next = ctl.sum
        now.next = soon
        end_soon.next = group_end
        end_now.next = end_soon

    if word_rows is None:

        @always(clk.posedge)
        def walk():
            if ctl.issue or end_now:
                ctl.waddr.next = word[w_high:w_low]
            elif now or ctl.loadq:
                ctl.waddr.next = ctl.waddr + 1

        return follow, walk
    restart, passed = Signal(bool(0)), Signal(bool(0))
    counts = row_walk(clk, rst, restart, now, word, word_rows, passed)

    @always_comb
    def start():
        restart.next = ctl.issue or end_now

    @always(clk.posedge)
    def walk_words():
        if restart:
            ctl.waddr.next = word[w_high:w_low]
        elif passed or ctl.loadq:
            ctl.waddr.next = ctl.waddr + 1

    return follow, counts, start, walk_words
