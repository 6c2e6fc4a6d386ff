"""The address generators: which word, which bank, which beat in each cycle of an instruction."""

from myhdl import Signal, always_comb, always_seq

from codesign_kernel.accelerator.isa import (
    BANK_BITS,
    COORDINATE_BITS,
    LAYOUT,
    STEP_BITS,
    TAP_BITS,
    Op,
)
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.hierarchy import block

HALT, LOADP, LOADA, SAVE, LOADQ, CONV, STORE, TILE, SUM, POOL = (int(op) for op in Op)


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


class Taps:
    """The taps of a CONV or SUM, the positions in a window of a POOL or STORE: their last column and row, and steps."""

    def __init__(self):
        self.x_end, self.y_end = Signal(counter(TAP_BITS)), Signal(counter(TAP_BITS))
        self.dx, self.row = Signal(counter(ADDRESS_BITS)), Signal(counter(ADDRESS_BITS))
        self.dy = Signal(counter(COORDINATE_BITS))


@block
def tap_fields(clk, rst, issue, word, taps):
    """Holds :class:`Taps` of an instruction. Steps are as wide as what they are added to."""
    fx_high, fx_low = bits("nfx")
    fy_high, fy_low = bits("nfy")
    dx_high, dx_low = bits("dx")
    dy_high, dy_low = bits("dy")
    tr_high, tr_low = bits("tap_row")
    k_high, k_low = bits("pool")
    ar_high, ar_low = bits("acc_row")

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if issue:
            taps.dy.next[STEP_BITS:] = word[dy_high:dy_low]
            if word[4:] == STORE:
                taps.x_end.next[STEP_BITS:] = word[k_high:k_low]
                taps.x_end.next[TAP_BITS:STEP_BITS] = 0
                taps.y_end.next[STEP_BITS:] = word[k_high:k_low]
                taps.y_end.next[TAP_BITS:STEP_BITS] = 0
                taps.dx.next[STEP_BITS:] = 1
                taps.row.next[COORDINATE_BITS:] = word[ar_high:ar_low]
                taps.row.next[ADDRESS_BITS:COORDINATE_BITS] = 0
            else:
                taps.x_end.next = word[fx_high:fx_low]
                taps.y_end.next = word[fy_high:fy_low]
                taps.dx.next[STEP_BITS:] = word[dx_high:dx_low]
                taps.row.next = word[tr_high:tr_low]

    return hold


@block
def tap_walk(clk, rst, ctl, word, taps, origin, start_x, start_y, last, accelerator):
    """The taps of a CONV or SUM: filter columns, then filter rows, then input tiles; ``ctl.tap_start`` moves on.

    ``origin``, ``start_x`` and ``start_y`` are where the next tap starts; ``last`` says that no other follows it.
    """
    a_high, a_low = bits("addr")
    x_high, x_low = bits("ix0")
    y_high, y_low = bits("iy0")
    ct_high, ct_low = bits("nct")
    cs_high, cs_low = bits("ct_step")
    fx, fy = Signal(counter(TAP_BITS)), Signal(counter(TAP_BITS))
    ct, ct_end = [Signal(counter(12)) for _ in range(2)]
    ix0, iy0 = Signal(counter(COORDINATE_BITS)), Signal(counter(COORDINATE_BITS))
    line, plane, tile_step, next_plane = [Signal(counter(ADDRESS_BITS)) for _ in range(4)]
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
        tile_end.next = fx == taps.x_end and fy == taps.y_end

    @always_comb
    def finish():
        last.next = tile_end and ct == ct_end

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            ct_end.next = word[ct_high:ct_low]
            ix0.next = word[x_high:x_low]
            iy0.next = word[y_high:y_low]
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
            if fx != taps.x_end:
                fx.next = fx + 1
                origin.next = origin + taps.dx
                start_x.next = start_x + taps.dx[COORDINATE_BITS:]
            elif fy != taps.y_end:
                fx.next = 0
                fy.next = fy + 1
                line.next = line + taps.row
                origin.next = line + taps.row
                start_x.next = ix0
                start_y.next = start_y + taps.dy
            else:
                fx.next = 0
                fy.next = 0
                ct.next = ct + 1
                plane.next = next_plane
                line.next = next_plane
                origin.next = next_plane
                start_x.next = ix0
                start_y.next = iy0

    return banks, ends, finish, hold, walk


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
