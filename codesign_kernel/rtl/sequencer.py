"""The sequencer: fetches one instruction at a time, has its addresses walked, waits until its pipeline is empty."""

from myhdl import Signal, always_comb, always_seq, enum

from codesign_kernel.accelerator.isa import BANK_BITS, COORDINATE_BITS, EXTERNAL_BITS, RESERVED
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.unpack import check_rows, row_walk
from codesign_kernel.rtl.walks import (
    CONV,
    HALT,
    LOADA,
    LOADP,
    LOADQ,
    POOL,
    SAVE,
    STORE,
    SUM,
    TILE,
    Taps,
    beat_walk,
    bits,
    tap_fields,
    tap_walk,
)
from codesign_kernel.rtl.walks_ws import map_walk

#: The lowest bit of the field that says how many rows of weights a word holds.
PER_WORD = bits("per_word")[1]
states = enum("IDLE", "FETCH", "DECODE", "WEIGHTS", "RUN", "DRAIN")


class Control:
    """What the sequencer tells the datapath, cycle by cycle.

    ``loadp`` ... ``pool`` are high while that operation walks its addresses, ``pooling`` from a POOL's issue to that of
    the next instruction; ``weights`` while a CONV reads weights, ``weights_last`` at the last row of a tap's.
    ``tap_start`` is high before a tap's first position, ``tap_end`` at its last one; sums are added to what the
    accumulators hold where ``accumulate`` says so, and from the second tap on. A POOL with ``accumulate`` sums up.
    ``addr`` is the read address of the activation or the accumulator memory, ``waddr`` that of the weight memory.
    ``live`` says whether the position lies on the map, ``window_first`` and ``window_last`` bound a pooling window,
    ``beat`` counts the beats of a word on the bus up to ``beat_last``. ``issue`` is high in the cycle in which
    ``write_start`` and ``ext_start`` hold the instruction's addresses, ``aim`` where results or loaded words go to
    ``write_start`` from now on.
    """

    def __init__(self):
        self.issue, self.aim = Signal(bool(0)), Signal(bool(0))
        self.weights, self.weights_last = Signal(bool(0)), Signal(bool(0))
        self.tap_start, self.tap_end, self.accumulate = [Signal(bool(0)) for _ in range(3)]
        self.loadp, self.loada, self.save, self.loadq, self.conv, self.store = [Signal(bool(0)) for _ in range(6)]
        self.pool, self.pooling = Signal(bool(0)), Signal(bool(0))
        self.addr, self.waddr = Signal(counter(ADDRESS_BITS)), Signal(counter(ADDRESS_BITS))
        self.write_start = Signal(unsigned(ADDRESS_BITS))
        self.ext_start = Signal(unsigned(EXTERNAL_BITS))
        self.bank = Signal(counter(BANK_BITS))
        self.relu = Signal(bool(0))
        self.live = Signal(bool(0))
        self.window_first, self.window_last = Signal(bool(0)), Signal(bool(0))
        self.beat, self.beat_last = Signal(counter(8)), Signal(bool(0))


@block(inline=True)
def check_word(word, illegal, foreign, reserved, one_bank):
    """Whether ``word`` is no instruction: an unknown operation, or a reserved field that is not zero.

    Operations from the first to the last of ``foreign`` are those of the other dataflow; bits from ``reserved`` on are
    zero, and so is the bank where there is one only.
    """
    size = len(word)
    b_high, b_low = bits("bank")
    first, last = foreign
    wrong = Signal(bool(0))

    @always_comb
    def check():
        wrong.next = (
            (word[4:] >= first and word[4:] <= last)
            or word[4:] > POOL
            or (word[4] and word[4:] != CONV and word[4:] != POOL)
            or word[size:reserved] != 0
        )

    if one_bank:

        @always_comb
        def check_bank():
            illegal.next = wrong or word[b_high:b_low] != 0
    else:

        @always_comb
        def check_bank():
            illegal.next = wrong

    return check, check_bank


@block
def decoder(clk, rst, ctl, word, op):
    """What an instruction says of itself for as long as it runs."""
    a_high, a_low = bits("addr")
    t_high, t_low = bits("to")
    e_high, e_low = bits("ext")

    @always_comb
    def starts():
        ctl.ext_start.next = word[e_high:e_low]
        # the results of a SUM go to where its TILE said
        ctl.aim.next = ctl.issue and word[4:] != SUM
        if word[4:] == POOL:
            ctl.write_start.next = word[t_high:t_low]
        else:
            ctl.write_start.next = word[a_high:a_low]

    @always_seq(clk.posedge, reset=rst)
    def hold():
        if ctl.issue:
            op.next = word[4:]
            ctl.accumulate.next = word[4]
            ctl.relu.next = word[5]
            ctl.pooling.next = word[4:] == POOL

    return starts, hold


@block(inline=True)
def weight_reads(ctl, fetching, last, rows):
    """When a CONV reads a row of weights: the next tap's follow as soon as those in the array move on to be used.

    With one row a cycle later, for a sum that was written is read two cycles after the one before it at the earliest.
    """
    if rows > 1:

        @always_comb
        def read():
            ctl.weights.next = fetching or (ctl.tap_start and not last)
    else:

        @always_comb
        def read():
            ctl.weights.next = fetching

    return read


@block
def weight_walk(clk, rst, ctl, word, last, loaded, rows, word_rows=None):
    """Reads the weights of a CONV, ``rows`` rows a tap; ``loaded`` from then on until the tap starts.

    It reads the requantiser's parameters for LOADQ, too.
    """
    # where there are ``word_rows``, a word can hold several rows of weights
    rows_end = rows - 1
    w_high, w_low = bits("waddr")
    row = Signal(counter(8))
    fetching = Signal(bool(0))
    reads = weight_reads(ctl, fetching, last, rows)

    @always_comb
    def ends():
        ctl.weights_last.next = ctl.weights and row == rows_end

    if word_rows is None:

        @always_seq(clk.posedge, reset=rst)
        def walk():
            if ctl.issue:
                ctl.waddr.next = word[w_high:w_low]
                fetching.next = word[4:] == CONV
            else:
                if ctl.weights or ctl.loadq:
                    ctl.waddr.next = ctl.waddr + 1
                if ctl.tap_start:
                    loaded.next = False
                    fetching.next = not last
                if ctl.weights_last:
                    row.next = 0
                    loaded.next = True
                    fetching.next = False
                elif ctl.weights:
                    row.next = row + 1
    else:
        passed = Signal(bool(0))
        reads = reads, row_walk(clk, rst, ctl.issue, ctl.weights, word, word_rows, passed)

        @always_seq(clk.posedge, reset=rst)
        def walk():
            if ctl.issue:
                ctl.waddr.next = word[w_high:w_low]
                fetching.next = word[4:] == CONV
            else:
                if passed or ctl.loadq:
                    ctl.waddr.next = ctl.waddr + 1
                if ctl.tap_start:
                    loaded.next = False
                    fetching.next = not last
                if ctl.weights_last:
                    row.next = 0
                    loaded.next = True
                    fetching.next = False
                elif ctl.weights:
                    row.next = row + 1

    return reads, ends, walk


@block
def sequencer(
    clk, rst, start, entry, busy, cycles, error, pc, word, ctl, ext_ready, ext_idle, accelerator, word_rows=None
):  # fmt: skip
    """Runs the program from ``entry`` when ``start`` is high, until HALT; ``cycles`` counts the cycles of ``busy``.

    ``error`` rises, and the program ends, at a word that is no instruction.
    """
    # cycles from the last address of a run to the next issue, less one
    drain_move, drain_load, drain_store, drain_pool = 1, 0, 4, 5
    drain_conv = accelerator.rows + accelerator.cols
    state = Signal(states.IDLE)
    op = Signal(unsigned(4))
    waited = Signal(counter(10))
    running, finished, illegal, last, last_tap, loaded, drained = [Signal(bool(0)) for _ in range(7)]
    origin = Signal(counter(ADDRESS_BITS))
    start_x, start_y = Signal(counter(COORDINATE_BITS)), Signal(counter(COORDINATE_BITS))

    if word_rows is None:
        checks = check_word(word, illegal, (TILE, SUM), RESERVED, accelerator.rows == accelerator.cols)
        weights = weight_walk(clk, rst, ctl, word, last, loaded, accelerator.rows)
    else:
        most, other = accelerator.most_per_word, Signal(bool(0))
        unused = PER_WORD + (most - 1).bit_length()
        checks = (
            check_word(word, other, (TILE, SUM), unused, accelerator.rows == accelerator.cols),
            check_rows(word, other, illegal, CONV, RESERVED, most),
        )
        weights = weight_walk(clk, rst, ctl, word, last, loaded, accelerator.rows, word_rows)
    decodes = decoder(clk, rst, ctl, word, op)
    taps = Taps()
    holds = tap_fields(clk, rst, ctl.issue, word, taps)
    starts = tap_walk(clk, rst, ctl, word, taps, origin, start_x, start_y, last, accelerator)
    positions = map_walk(clk, rst, ctl, word, taps, op, running, origin, start_x, start_y, finished)
    beats = beat_walk(clk, rst, ctl, word, running, accelerator)

    @always_comb
    def phases():
        ctl.issue.next = state == states.DECODE
        # a load or save waits for the external memory
        running.next = state == states.RUN and (ext_ready or op > SAVE)

    @always_comb
    def operations():
        ctl.loadp.next = running and op == LOADP
        ctl.loada.next = running and op == LOADA
        ctl.save.next = running and op == SAVE
        ctl.loadq.next = running and op == LOADQ
        ctl.conv.next = running and op == CONV
        ctl.store.next = running and op == STORE
        ctl.pool.next = running and op == POOL

    @always_comb
    def drains():
        if op == CONV:
            drained.next = state == states.DRAIN and waited == drain_conv
        elif op == STORE:
            drained.next = state == states.DRAIN and waited == drain_store
        elif op == POOL:
            drained.next = state == states.DRAIN and waited == drain_pool
        elif op == LOADQ:
            drained.next = state == states.DRAIN and waited == drain_load
        else:
            drained.next = state == states.DRAIN and waited == drain_move and (ext_idle or op != SAVE)

    @always_comb
    def end_tap():
        ctl.tap_end.next = ctl.conv and finished

    @always_comb
    def start_tap():
        ctl.tap_start.next = loaded and (state == states.WEIGHTS or ctl.tap_end)

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
            if ctl.tap_start:
                last_tap.next = last
                state.next = states.RUN
        elif state == states.RUN:
            if ctl.tap_start:
                last_tap.next = last
            elif ctl.tap_end and not last_tap:
                state.next = states.WEIGHTS
            elif running and finished:
                state.next = states.DRAIN
        else:
            if drained:
                state.next = states.FETCH
            elif op != SAVE or waited != drain_move:
                waited.next = waited + 1

    return (
        checks, decodes, weights, holds, starts, positions, beats,
        phases, operations, drains, end_tap, start_tap, control,
    )  # fmt: skip
