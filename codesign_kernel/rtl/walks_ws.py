"""The address generator of a weight-stationary array for its activations and accumulators."""

from myhdl import Signal, always_comb, always_seq

from codesign_kernel.accelerator.isa import COORDINATE_BITS, COUNT_BITS, ROW_STEP_BITS, STEP_BITS, TAP_BITS
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.bits import counter
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.walks import CONV, POOL, STORE, bits


@block
def map_walk(clk, rst, ctl, word, taps, op, running, origin, start_x, start_y, finished):
    """The windows of a map (POOL), of the accumulators (STORE), or of one position each (CONV); or words one by one."""
    a_high, a_low = bits("addr")
    nx_high, nx_low = bits("nx")
    ny_high, ny_low = bits("ny")
    ix_high, ix_low = bits("ix0")
    iy_high, iy_low = bits("iy0")
    w_high, w_low = bits("width")
    h_high, h_low = bits("height")
    sx_high, sx_low = bits("sx")
    sy_high, sy_low = bits("sy")
    rs_high, rs_low = bits("row_step")
    k_high, k_low = bits("pool")
    c_high, c_low = bits("count")
    begins, walks, kx_last, ky_last = [Signal(bool(0)) for _ in range(4)]
    words = Signal(counter(COUNT_BITS))
    x, y, x_end, y_end, px, py, base_x, base_y, left, window_x, window_y = [
        Signal(counter(COORDINATE_BITS)) for _ in range(11)
    ]
    width, height, sy = [Signal(counter(COORDINATE_BITS)) for _ in range(3)]
    kx, ky = Signal(counter(TAP_BITS)), Signal(counter(TAP_BITS))
    base, row, window, line, next_line, next_window, next_row = [Signal(counter(ADDRESS_BITS)) for _ in range(7)]
    x_step, row_step, side = [Signal(counter(ADDRESS_BITS)) for _ in range(3)]

    @always_comb
    def bounds():
        # a coordinate left of or above the map has wrapped to a large number
        ctl.live.next = px < width and py < height
        ctl.window_first.next = kx == 0 and ky == 0
        ctl.window_last.next = kx_last and ky_last

    @always_comb
    def kinds():
        begins.next = ctl.issue or ctl.tap_start
        walks.next = op == CONV or op == STORE or op == POOL
        # the positions of a CONV are no windows: the taps take turns outside
        kx_last.next = op == CONV or kx == taps.x_end
        ky_last.next = op == CONV or ky == taps.y_end
        side.next[STEP_BITS:] = word[k_high:k_low]
        side.next[ADDRESS_BITS:STEP_BITS] = 0

    @always_comb
    def bases():
        if ctl.tap_start:
            base.next = origin
            base_x.next = start_x
            base_y.next = start_y
        else:
            base.next = word[a_high:a_low]
            base_x.next = word[ix_high:ix_low]
            base_y.next = word[iy_high:iy_low]
            if word[4:] == STORE:
                base.next = 0

    @always_comb
    def turns():
        next_line.next = line + taps.row
        next_window.next = window + x_step
        if op == STORE:
            # windows of the accumulators lie side by side: the last position of these ends their last line
            next_row.next = ctl.addr + 1
        else:
            next_row.next = row + row_step

    @always_comb
    def finish():
        if walks:
            finished.next = x == x_end and y == y_end and kx_last and ky_last
        else:
            finished.next = words == 0 and ctl.beat_last

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            x_end.next = word[nx_high:nx_low]
            y_end.next = word[ny_high:ny_low]
            width.next = word[w_high:w_low]
            height.next = word[h_high:h_low]
            # steps are as wide as what they are added to
            sy.next[STEP_BITS:] = word[sy_high:sy_low]
            row_step.next[ROW_STEP_BITS:] = word[rs_high:rs_low]
            if word[4:] == STORE:
                x_step.next = side + 1
            else:
                x_step.next[STEP_BITS:] = word[sx_high:sx_low]
                x_step.next[ADDRESS_BITS:STEP_BITS] = 0

    @always_seq(clk.posedge, reset=rst)
    def walk():
        if ctl.issue:
            words.next = word[c_high:c_low]
        if begins:
            x.next = 0
            y.next = 0
            kx.next = 0
            ky.next = 0
            row.next = base
            window.next = base
            line.next = base
            ctl.addr.next = base
            left.next = base_x
            window_x.next = base_x
            px.next = base_x
            window_y.next = base_y
            py.next = base_y
        elif running:
            if not walks:
                if ctl.beat_last:
                    words.next = words - 1
                    ctl.addr.next = ctl.addr + 1
            elif not kx_last:
                kx.next = kx + 1
                ctl.addr.next = ctl.addr + taps.dx
                px.next = px + taps.dx[COORDINATE_BITS:]
            elif not ky_last:
                kx.next = 0
                ky.next = ky + 1
                line.next = next_line
                ctl.addr.next = next_line
                px.next = window_x
                py.next = py + taps.dy
            elif x != x_end:
                kx.next = 0
                ky.next = 0
                x.next = x + 1
                window.next = next_window
                line.next = next_window
                ctl.addr.next = next_window
                window_x.next = window_x + x_step[COORDINATE_BITS:]
                px.next = window_x + x_step[COORDINATE_BITS:]
                py.next = window_y
            else:
                kx.next = 0
                ky.next = 0
                x.next = 0
                y.next = y + 1
                row.next = next_row
                window.next = next_row
                line.next = next_row
                ctl.addr.next = next_row
                window_x.next = left
                px.next = left
                window_y.next = window_y + sy
                py.next = window_y + sy

    return bounds, kinds, bases, turns, finish, hold, walk
