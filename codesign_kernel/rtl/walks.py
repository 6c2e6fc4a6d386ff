"""The address generators: which word, which bank, which beat in each cycle of an instruction."""

from myhdl import Signal, always_comb, always_seq, block

from codesign_kernel.accelerator.isa import (
    BANK_BITS,
    COORDINATE_BITS,
    COUNT_BITS,
    LAYOUT,
    ROW_STEP_BITS,
    STEP_BITS,
    TAP_BITS,
    Op,
)
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.bits import counter, unsigned

HALT, LOADP, LOADA, SAVE, LOADQ, CONV, STORE, TILE, SUM, POOL = (int(op) for op in Op)


def bits(name):
    """(high, low) of an instruction field, for a slice."""
    low, width = LAYOUT[name]
    return low + width, low


@block
def bank_hold(clk, rst, ctl, word):
    """Fewer columns than rows: results go to the bank that the instruction names."""
    b_high, b_low = bits("bank")

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            ctl.bank.next = word[b_high:b_low]

    return hold


@block
def bank_walk(clk, rst, ctl, word, tile_done, turn, count, ahead):
    """More columns than rows: input tiles are read from one bank after the other; ``turn`` marks the last.

    A word is chosen in the cycle after its address, so a tap's bank counts from its second cycle on. ``ahead``: the
    walk is at the next tap already while one is read; else it is a cycle before the address.
    """
    b_high, b_low = bits("bank")
    last = count - 1
    bank, tap_bank = Signal(counter(BANK_BITS)), Signal(counter(BANK_BITS))

    @always_seq(clk.posedge, reset=rst)
    def walk():
        if ctl.issue:
            bank.next = word[b_high:b_low]
        elif tile_done:
            if turn:
                bank.next = 0
            else:
                bank.next = bank + 1

    if ahead:

        @always_seq(clk.posedge, reset=rst)
        def follow():
            if ctl.tap_start:
                tap_bank.next = bank
            ctl.bank.next = tap_bank
    else:

        @always_seq(clk.posedge, reset=rst)
        def follow():
            tap_bank.next = bank
            ctl.bank.next = tap_bank

    @always_comb
    def wrap():
        turn.next = bank == last

    return walk, follow, wrap


@block
def next_tile(plane, step, next_plane):
    """A single bank: the next input tile lies one map further."""

    @always_comb
    def add():
        next_plane.next = plane + step

    return add


@block
def next_tile_banked(ctl, plane, step, turn, tile_end, tile_done, next_plane):
    """Several banks: the next input tile lies one map further after the last bank."""

    @always_comb
    def add():
        tile_done.next = ctl.tap_start and tile_end
        if turn:
            next_plane.next = plane + step
        else:
            next_plane.next = plane

    return add


@block
def tap_walk(clk, rst, ctl, word, origin, start_x, start_y, last, accelerator):
    """The taps of a CONV or SUM: filter columns, then filter rows, then input tiles; ``ctl.tap_start`` moves on.

    ``origin``, ``start_x`` and ``start_y`` are where the next tap starts; ``last`` says that no other follows it.
    """
    a_high, a_low = bits("addr")
    x_high, x_low = bits("ix0")
    y_high, y_low = bits("iy0")
    fx_high, fx_low = bits("nfx")
    fy_high, fy_low = bits("nfy")
    ct_high, ct_low = bits("nct")
    dx_high, dx_low = bits("dx")
    dy_high, dy_low = bits("dy")
    tr_high, tr_low = bits("tap_row")
    cs_high, cs_low = bits("ct_step")
    fx, fy, fx_end, fy_end = [Signal(counter(TAP_BITS)) for _ in range(4)]
    ct, ct_end = [Signal(counter(12)) for _ in range(2)]
    ix0, iy0, dx, dy = [Signal(counter(COORDINATE_BITS)) for _ in range(4)]
    line, plane, tap_row, tile_step, column_step, next_plane = [Signal(counter(ADDRESS_BITS)) for _ in range(6)]
    tile_end = Signal(bool(0))
    if accelerator.cols > accelerator.rows:
        turn, tile_done = Signal(bool(0)), Signal(bool(0))
        ahead = accelerator.dataflow == "ws"
        banks = [
            bank_walk(clk, rst, ctl, word, tile_done, turn, accelerator.cols // accelerator.rows, ahead),
            next_tile_banked(ctl, plane, tile_step, turn, tile_end, tile_done, next_plane),
        ]
    else:
        banks = [next_tile(plane, tile_step, next_plane)]
        if accelerator.cols < accelerator.rows:
            banks.append(bank_hold(clk, rst, ctl, word))

    @always_comb
    def ends():
        tile_end.next = fx == fx_end and fy == fy_end

    @always_comb
    def end():
        last.next = tile_end and ct == ct_end

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            fx_end.next = word[fx_high:fx_low]
            fy_end.next = word[fy_high:fy_low]
            ct_end.next = word[ct_high:ct_low]
            ix0.next = word[x_high:x_low]
            iy0.next = word[y_high:y_low]
            # steps are as wide as what they are added to; only their low bits are ever set
            dx.next[STEP_BITS:] = word[dx_high:dx_low]
            dy.next[STEP_BITS:] = word[dy_high:dy_low]
            column_step.next[STEP_BITS:] = word[dx_high:dx_low]
            tap_row.next = word[tr_high:tr_low]
            tile_step.next = word[cs_high:cs_low]

    @always_seq(clk.posedge, reset=rst)
    def walk():
        if ctl.issue:
            fx.next = 0
            fy.next = 0
            ct.next = 0
            origin.next = word[a_high:a_low]
            line.next = word[a_high:a_low]
            plane.next = word[a_high:a_low]
            start_x.next = word[x_high:x_low]
            start_y.next = word[y_high:y_low]
        elif ctl.tap_start:
            if fx != fx_end:
                fx.next = fx + 1
                origin.next = origin + column_step
                start_x.next = start_x + dx
            elif fy != fy_end:
                fx.next = 0
                fy.next = fy + 1
                line.next = line + tap_row
                origin.next = line + tap_row
                start_x.next = ix0
                start_y.next = start_y + dy
            else:
                fx.next = 0
                fy.next = 0
                ct.next = ct + 1
                plane.next = next_plane
                line.next = next_plane
                origin.next = next_plane
                start_x.next = ix0
                start_y.next = iy0

    return banks, ends, end, hold, walk


@block
def map_walk(clk, rst, ctl, word, op, running, origin, start_x, start_y, finished):
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
    fx_high, fx_low = bits("nfx")
    fy_high, fy_low = bits("nfy")
    dx_high, dx_low = bits("dx")
    dy_high, dy_low = bits("dy")
    tr_high, tr_low = bits("tap_row")
    k_high, k_low = bits("pool")
    ar_high, ar_low = bits("acc_row")
    c_high, c_low = bits("count")
    begins, walks = Signal(bool(0)), Signal(bool(0))
    words = Signal(counter(COUNT_BITS))
    x, y, x_end, y_end, px, py, base_x, base_y, left, window_x, window_y = [
        Signal(counter(COORDINATE_BITS)) for _ in range(11)
    ]
    width, height, sy, dy = [Signal(counter(COORDINATE_BITS)) for _ in range(4)]
    kx, ky, kx_end, ky_end = [Signal(counter(TAP_BITS)) for _ in range(4)]
    base, row, window, line, next_line, next_row = [Signal(counter(ADDRESS_BITS)) for _ in range(6)]
    x_step, row_step, dx, tap_row, side = [Signal(counter(ADDRESS_BITS)) for _ in range(5)]

    @always_comb
    def bounds():
        # a coordinate left of or above the map has wrapped to a large number
        ctl.live.next = px < width and py < height
        ctl.window_first.next = kx == 0 and ky == 0
        ctl.window_last.next = kx == kx_end and ky == ky_end

    @always_comb
    def kinds():
        begins.next = ctl.issue or ctl.tap_start
        walks.next = op == CONV or op == STORE or op == POOL
        side.next[STEP_BITS:] = word[k_high:k_low]
        side.next[ADDRESS_BITS:STEP_BITS] = 0

    @always_comb
    def begin():
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
    def below():
        next_line.next = line + tap_row

    @always_comb
    def next_windows():
        if op == STORE:
            # windows of the accumulators lie side by side: the last position of these ends their last line
            next_row.next = ctl.addr + 1
        else:
            next_row.next = row + row_step

    @always_comb
    def finish():
        if walks:
            finished.next = x == x_end and y == y_end and kx == kx_end and ky == ky_end
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
            dy.next[STEP_BITS:] = word[dy_high:dy_low]
            row_step.next[ROW_STEP_BITS:] = word[rs_high:rs_low]
            if word[4:] == STORE:
                kx_end.next = side[TAP_BITS:]
                ky_end.next = side[TAP_BITS:]
                x_step.next = side + 1
                dx.next = 1
                tap_row.next[COORDINATE_BITS:] = word[ar_high:ar_low]
                tap_row.next[ADDRESS_BITS:COORDINATE_BITS] = 0
            else:
                kx_end.next = word[fx_high:fx_low]
                ky_end.next = word[fy_high:fy_low]
                x_step.next[STEP_BITS:] = word[sx_high:sx_low]
                x_step.next[ADDRESS_BITS:STEP_BITS] = 0
                dx.next[STEP_BITS:] = word[dx_high:dx_low]
                dx.next[ADDRESS_BITS:STEP_BITS] = 0
                tap_row.next = word[tr_high:tr_low]
                if word[4:] == CONV:
                    kx_end.next = 0
                    ky_end.next = 0

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
            elif kx != kx_end:
                kx.next = kx + 1
                ctl.addr.next = ctl.addr + dx
                px.next = px + dx[COORDINATE_BITS:]
            elif ky != ky_end:
                kx.next = 0
                ky.next = ky + 1
                line.next = next_line
                ctl.addr.next = next_line
                px.next = window_x
                py.next = py + dy
            elif x != x_end:
                kx.next = 0
                ky.next = 0
                x.next = x + 1
                window.next = window + x_step
                line.next = window + x_step
                ctl.addr.next = window + x_step
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

    return bounds, kinds, begin, below, next_windows, finish, hold, walk


@block
def beat_walk(clk, rst, ctl, word, running, accelerator):
    """Beats of the word on the external bus."""
    weight_end, activation_end = accelerator.weight_beats - 1, accelerator.activation_beats - 1
    end = Signal(unsigned(8))

    @always_comb
    def compare():
        ctl.beat_last.next = ctl.beat == end

    @always_seq(clk.posedge, reset=rst)
    def count():
        if ctl.issue:
            ctl.beat.next = 0
            if word[4:] == LOADP:
                end.next = weight_end
            elif word[4:] == LOADA or word[4:] == SAVE:
                end.next = activation_end
            else:
                end.next = 0
        elif running:
            if ctl.beat_last:
                ctl.beat.next = 0
            else:
                ctl.beat.next = ctl.beat + 1

    return compare, count
