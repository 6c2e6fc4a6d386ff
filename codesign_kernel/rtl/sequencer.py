"""The sequencer: fetches one instruction at a time, has its addresses walked, waits until its pipeline is empty."""

from myhdl import Signal, always_comb, always_seq, block, enum

from codesign_kernel.accelerator.isa import BANK_BITS, COORDINATE_BITS, EXTERNAL_BITS, RESERVED
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.walks import (
    CONV,
    HALT,
    LOADA,
    LOADP,
    LOADQ,
    SAVE,
    STORE,
    beat_walk,
    bits,
    map_walk,
    tap_walk,
)

states = enum("IDLE", "FETCH", "DECODE", "WEIGHTS", "SETTLE", "RUN", "DRAIN")


class Control:
    """What the sequencer tells the datapath, cycle by cycle.

    ``loadp`` ... ``store`` are high while that operation walks its addresses; ``weights`` while a CONV reads weights.
    ``addr`` is the read address of the activation or the accumulator memory, ``waddr`` that of the weight memory.
    ``live`` says whether a CONV position lies on the map, ``window_first`` and ``window_last`` bound a pooling window,
    ``beat`` counts the beats of a word on the bus up to ``beat_last``. ``issue`` is high in the cycle in which
    ``write_start`` and ``ext_start`` hold the instruction's addresses, ``restart`` before every pass over the map.
    """

    def __init__(self):
        self.issue, self.restart, self.weights = [Signal(bool(0)) for _ in range(3)]
        self.loadp, self.loada, self.save, self.loadq, self.conv, self.store = [Signal(bool(0)) for _ in range(6)]
        self.addr, self.waddr = Signal(counter(ADDRESS_BITS)), Signal(counter(ADDRESS_BITS))
        self.write_start = Signal(unsigned(ADDRESS_BITS))
        self.ext_start = Signal(unsigned(EXTERNAL_BITS))
        self.bank = Signal(counter(BANK_BITS))
        self.keep, self.relu = Signal(bool(0)), Signal(bool(0))
        self.live = Signal(bool(0))
        self.window_first, self.window_last = Signal(bool(0)), Signal(bool(0))
        self.beat, self.beat_last = Signal(counter(8)), Signal(bool(0))


@block
def check_word(word, illegal, one_bank):
    """Whether ``word`` is no instruction: an unknown operation, or a reserved field that is not zero."""
    size = len(word)
    b_high, b_low = bits("bank")

    if one_bank:

        @always_comb
        def check():
            illegal.next = word[4:] > STORE or word[size:RESERVED] != 0 or word[b_high:b_low] != 0
    else:

        @always_comb
        def check():
            illegal.next = word[4:] > STORE or word[size:RESERVED] != 0

    return check


@block
def decoder(clk, rst, ctl, word, first, op):
    """What an instruction says of itself for as long as it runs."""
    a_high, a_low = bits("addr")
    e_high, e_low = bits("ext")
    accumulate = Signal(bool(0))

    @always_comb
    def starts():
        ctl.write_start.next = word[a_high:a_low]
        ctl.ext_start.next = word[e_high:e_low]

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            op.next = word[4:]
            accumulate.next = word[4]
            ctl.relu.next = word[5]

    @always_comb
    def keep():
        ctl.keep.next = accumulate or not first

    return starts, hold, keep


@block
def sequencer(clk, rst, start, entry, busy, cycles, error, pc, word, ctl, accelerator):
    """Runs the program from ``entry`` when ``start`` is high, until HALT; ``cycles`` counts the cycles of ``busy``.

    ``error`` rises, and the program ends, at a word that is no instruction.
    """
    rows_end = accelerator.rows - 1
    # cycles from the last address of a run to the next issue, less one
    drain_move, drain_load, drain_store, drain_conv = 1, 0, 4, accelerator.rows + accelerator.cols
    w_high, w_low = bits("waddr")
    state = Signal(states.IDLE)
    op = Signal(unsigned(4))
    waited = Signal(counter(10))
    running, settle, finished, illegal, first, last, drained, advance = [Signal(bool(0)) for _ in range(8)]
    origin = Signal(counter(ADDRESS_BITS))
    start_x, start_y = Signal(counter(COORDINATE_BITS)), Signal(counter(COORDINATE_BITS))

    checks = check_word(word, illegal, accelerator.rows == accelerator.cols)
    decodes = decoder(clk, rst, ctl, word, first, op)
    taps = tap_walk(clk, rst, ctl, word, advance, origin, start_x, start_y, first, last, accelerator)
    positions = map_walk(clk, rst, ctl, word, settle, op, running, origin, start_x, start_y, finished)
    beats = beat_walk(clk, rst, ctl, word, running, accelerator)

    @always_comb
    def phases():
        ctl.issue.next = state == states.DECODE
        ctl.weights.next = state == states.WEIGHTS
        settle.next = state == states.SETTLE
        running.next = state == states.RUN

    @always_comb
    def operations():
        ctl.restart.next = ctl.issue or settle
        ctl.loadp.next = running and op == LOADP
        ctl.loada.next = running and op == LOADA
        ctl.save.next = running and op == SAVE
        ctl.loadq.next = running and op == LOADQ
        ctl.conv.next = running and op == CONV
        ctl.store.next = running and op == STORE

    @always_comb
    def drains():
        if op == CONV:
            drained.next = state == states.DRAIN and waited == drain_conv
        elif op == STORE:
            drained.next = state == states.DRAIN and waited == drain_store
        elif op == LOADQ:
            drained.next = state == states.DRAIN and waited == drain_load
        else:
            drained.next = state == states.DRAIN and waited == drain_move

    @always_comb
    def next_tap():
        advance.next = drained and op == CONV

    @always_seq(clk.posedge, reset=rst)
    def weights():
        if ctl.issue:
            ctl.waddr.next = word[w_high:w_low]
        elif ctl.weights or ctl.loadq:
            ctl.waddr.next = ctl.waddr + 1

    @always_seq(clk.posedge, reset=rst)
    def control():
        if busy:
            cycles.next = cycles + 1
        if state == states.IDLE:
            if start:
                busy.next = True
                error.next = False
                cycles.next = 0
                pc.next = entry
                state.next = states.FETCH
        elif state == states.FETCH:
            state.next = states.DECODE
        elif state == states.DECODE:
            pc.next = pc + 1
            waited.next = 0
            if word[4:] == HALT or illegal:
                busy.next = False
                error.next = illegal
                state.next = states.IDLE
            elif word[4:] == CONV:
                state.next = states.WEIGHTS
            else:
                state.next = states.RUN
        elif state == states.WEIGHTS:
            waited.next = waited + 1
            if waited == rows_end:
                waited.next = 0
                state.next = states.SETTLE
        elif state == states.SETTLE:
            state.next = states.RUN
        elif state == states.RUN:
            if finished:
                state.next = states.DRAIN
        else:
            waited.next = waited + 1
            if drained:
                waited.next = 0
                if op == CONV and not last:
                    state.next = states.WEIGHTS
                else:
                    state.next = states.FETCH

    return checks, decodes, taps, positions, beats, phases, operations, drains, next_tap, weights, control
