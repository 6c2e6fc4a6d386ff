"""The address generators: which word, which bank, which beat in each cycle of an instruction."""

from myhdl import Signal, always_comb, always_seq

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
from codesign_kernel.rtl.hierarchy import block

HALT, LOADP, LOADA, SAVE, LOADQ, CONV, STORE, TILE, SUM = (int(op) for op in Op)


def bits(name):
    """(high, low) of an instruction field, for a slice."""
    low, width = LAYOUT[name]
    return low + width, low


@block(inline=True)
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


@block(inline=True)
def next_tile(plane, step, next_plane):
    """A single bank: the next input tile lies one map further."""

    @always_comb
    def add():
        next_plane.next = plane + step

    return add


@block(inline=True)
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
            tap_row.next[ROW_STEP_BITS:] = word[tr_high:tr_low]
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
    """The positions of one pass over the map (CONV), the windows of the accumulators (STORE), or words one by one."""
    a_high, a_low = bits("addr")
    nx_high, nx_low = bits("nx")
    ny_high, ny_low = bits("ny")
    w_high, w_low = bits("width")
    h_high, h_low = bits("height")
    sx_high, sx_low = bits("sx")
    sy_high, sy_low = bits("sy")
    rs_high, rs_low = bits("row_step")
    k_high, k_low = bits("pool")
    ar_high, ar_low = bits("acc_row")
    c_high, c_low = bits("count")
    left = Signal(counter(COUNT_BITS))
    x, y, x_end, y_end, px, py, width, height, sx, sy, left_x = [Signal(counter(COORDINATE_BITS)) for _ in range(11)]
    kx, ky, k_end = [Signal(counter(STEP_BITS)) for _ in range(3)]
    line, window, acc_row, row_step, x_step, window_step = [Signal(counter(ADDRESS_BITS)) for _ in range(6)]

    @always_comb
    def bounds():
        # a coordinate left of or above the map has wrapped to a large number
        ctl.live.next = px < width and py < height
        ctl.window_first.next = kx == 0 and ky == 0
        ctl.window_last.next = kx == k_end and ky == k_end

    @always_comb
    def finish():
        if op == CONV:
            finished.next = x == x_end and y == y_end
        elif op == STORE:
            finished.next = x == x_end and y == y_end and kx == k_end and ky == k_end
        else:
            finished.next = left == 0 and ctl.beat_last

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            x_end.next = word[nx_high:nx_low]
            y_end.next = word[ny_high:ny_low]
            width.next = word[w_high:w_low]
            height.next = word[h_high:h_low]
            k_end.next = word[k_high:k_low]
            # steps are as wide as what they are added to; only their low bits are ever set
            sx.next[STEP_BITS:] = word[sx_high:sx_low]
            sy.next[STEP_BITS:] = word[sy_high:sy_low]
            x_step.next[STEP_BITS:] = word[sx_high:sx_low]
            row_step.next[ROW_STEP_BITS:] = word[rs_high:rs_low]
            acc_row.next[COORDINATE_BITS:] = word[ar_high:ar_low]
            window_step.next[STEP_BITS:] = word[k_high:k_low]

    @always_seq(clk.posedge, reset=rst)
    def walk():
        if ctl.issue:
            left.next = word[c_high:c_low]
            x.next = 0
            y.next = 0
            kx.next = 0
            ky.next = 0
            line.next = 0
            window.next = 0
            if word[4:] == SAVE:
                ctl.addr.next = word[a_high:a_low]
            else:
                ctl.addr.next = 0
        elif ctl.tap_start:
            x.next = 0
            y.next = 0
            px.next = start_x
            left_x.next = start_x
            py.next = start_y
            line.next = origin
            ctl.addr.next = origin
        elif running:
            if op == CONV:
                if x == x_end:
                    x.next = 0
                    y.next = y + 1
                    px.next = left_x
                    py.next = py + sy
                    line.next = line + row_step
                    ctl.addr.next = line + row_step
                else:
                    x.next = x + 1
                    px.next = px + sx
                    ctl.addr.next = ctl.addr + x_step
            elif op == STORE:
                if kx != k_end:
                    kx.next = kx + 1
                    ctl.addr.next = ctl.addr + 1
                elif ky != k_end:
                    kx.next = 0
                    ky.next = ky + 1
                    line.next = line + acc_row
                    ctl.addr.next = line + acc_row
                else:
                    kx.next = 0
                    ky.next = 0
                    if x == x_end:
                        # the last position of a row of windows ends their last line: the next row follows it
                        x.next = 0
                        y.next = y + 1
                        window.next = ctl.addr + 1
                        line.next = ctl.addr + 1
                        ctl.addr.next = ctl.addr + 1
                    else:
                        x.next = x + 1
                        window.next = window + window_step + 1
                        line.next = window + window_step + 1
                        ctl.addr.next = window + window_step + 1
            elif ctl.beat_last:
                left.next = left - 1
                ctl.addr.next = ctl.addr + 1

    return bounds, finish, hold, walk


@block
def beat_walk(clk, rst, ctl, word, running, accelerator):
    """Beats of the word on the external bus."""
    weight_end, activation_end = accelerator.weight_beats - 1, accelerator.activation_beats - 1
    end_beat = Signal(unsigned(8))

    @always_comb
    def compare():
        ctl.beat_last.next = ctl.beat == end_beat

    @always_seq(clk.posedge, reset=rst)
    def count():
        if ctl.issue:
            ctl.beat.next = 0
            if word[4:] == LOADP:
                end_beat.next = weight_end
            elif word[4:] == LOADA or word[4:] == SAVE:
                end_beat.next = activation_end
            else:
                end_beat.next = 0
        elif running:
            if ctl.beat_last:
                ctl.beat.next = 0
            else:
                ctl.beat.next = ctl.beat + 1

    return compare, count
