"""The sequencer of an output-stationary array: fetches, has the addresses walked, waits until the sums are stored."""

from myhdl import Signal, always_comb, always_seq, enum

from codesign_kernel.accelerator.isa import BANK_BITS, COORDINATE_BITS, EXTERNAL_BITS, PLACE_BITS, RESERVED_OS
from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.sequencer import PER_WORD, check_word, decoder
from codesign_kernel.rtl.unpack import check_rows
from codesign_kernel.rtl.walks import (
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
    tap_fields,
    tap_walk,
)
from codesign_kernel.rtl.walks_os import read_walk, repeat, weight_walk, window_walk

os_states = enum("IDLE", "FETCH", "DECODE", "RUN", "DRAIN")


class StationaryControl:
    """What the sequencer tells the datapath, cycle by cycle.

    ``loadp`` ... ``pool`` are high while that operation runs; ``loadq`` is that of TILE. ``pooling`` is high from a
    POOL's issue to that of the next instruction; with ``accumulate`` it sums up. A SUM goes from one group of
    ``rows`` positions to the next and for each of them through all taps, ``rows`` cycles a tap: ``tap_start`` is high
    in the first cycle of each tap, ``group_start`` in the first one of each group and in the one behind the last group.
    ``addr`` is the read address of the activation memory, a cycle behind the walk, and ``live`` with it says whether it
    lies on the map; ``waddr`` is that of the weight memory, another cycle behind. In a group's last tap, and in a POOL,
    ``valid`` marks what is a position, ``window_first`` and ``window_last`` bound a pooling window. ``beat`` counts the
    beats of a word on the bus up to ``beat_last``. ``issue`` is high in the cycle in which ``write_start`` and
    ``ext_start`` hold the instruction's addresses, ``aim`` where results or loaded words go to ``write_start`` from now
    on.
    """

    def __init__(self):
        self.issue, self.aim = Signal(bool(0)), Signal(bool(0))
        self.loadp, self.loada, self.save, self.loadq, self.sum, self.pool = [Signal(bool(0)) for _ in range(6)]
        self.pooling, self.accumulate = Signal(bool(0)), Signal(bool(0))
        self.tap_start, self.group_start = Signal(bool(0)), Signal(bool(0))
        self.addr, self.waddr = Signal(counter(ADDRESS_BITS)), Signal(counter(ADDRESS_BITS))
        self.write_start = Signal(unsigned(ADDRESS_BITS))
        self.ext_start = Signal(unsigned(EXTERNAL_BITS))
        self.bank = Signal(counter(BANK_BITS))
        self.relu = Signal(bool(0))
        self.live, self.valid = Signal(bool(0)), Signal(bool(0))
        self.window_first, self.window_last = Signal(bool(0)), Signal(bool(0))
        self.beat, self.beat_last = Signal(counter(8)), Signal(bool(0))


class TapControl:
    """What :func:`tap_walk` listens to: it starts over at ``issue`` and moves on at ``tap_start``."""

    def __init__(self, issue, tap_start, bank):
        self.issue, self.tap_start, self.bank = issue, tap_start, bank


@block
def slots(clk, rst, ctl, tap_end, last, group_end, fresh, rows):
    """The cycles of a tap, one for each row, and the taps of a group; ``fresh`` in a group's first tap."""
    rows_end = rows - 1
    slot = Signal(counter(8))

    @always_comb
    def tap():
        tap_end.next = ctl.sum and slot == rows_end

    @always_comb
    def sums():
        group_end.next = tap_end and last

    @always_seq(clk.posedge, reset=rst)
    def count():
        ctl.group_start.next = group_end
        if ctl.issue:
            slot.next = 0
            fresh.next = True
            ctl.group_start.next = True
        elif tap_end:
            slot.next = 0
            fresh.next = last
        elif ctl.sum:
            slot.next = slot + 1

    if rows > 1:

        @always_comb
        def start():
            ctl.tap_start.next = slot == 0

        return tap, sums, count, start
    return tap, sums, count


@block(inline=True)
def read_address(clk, rst, fetching, pc, at):
    """Where the instruction memory is read: at the instruction that is fetched, until the next one is."""
    current = Signal(counter(ADDRESS_BITS))

    @always_comb
    def choose():
        if fetching:
            at.next = pc
        else:
            at.next = current

    @always_seq(clk.posedge, reset=rst)
    def take():
        if fetching:
            current.next = pc

    return choose, take


@block
def sequencer_os(
    clk, rst, start, entry, busy, cycles, error, pc, fetching, word, ctl, ext_ready, ext_idle, accelerator,
    word_rows=None,
):  # fmt: skip
    """Runs the program from ``entry`` when ``start`` is high, until HALT; ``cycles`` counts the cycles of ``busy``.

    ``fetching`` is high while the instruction at ``pc`` is read: ``pc`` moves on when it issues, but ``word`` stays
    what it is while it runs. ``error`` rises, and the program ends, at a word that is no instruction.
    """
    # cycles from the last address of a run to the next issue, less one
    drain_move, drain_tile, drain_pool, drain_sum = 1, 0, 5, accelerator.rows + accelerator.cols + 6
    flags = ADDRESS_BITS + 2 * COORDINATE_BITS
    opens, closes = flags + 1, flags + 2
    state = Signal(os_states.IDLE)
    op = Signal(unsigned(4))
    waited = Signal(counter(10))
    running, finished, illegal, drained = [Signal(bool(0)) for _ in range(4)]
    tap_end, group_end, fresh, last, restart, step, ended, words_end = [Signal(bool(0)) for _ in range(8)]
    origin = Signal(counter(ADDRESS_BITS))
    start_x, start_y = Signal(counter(COORDINATE_BITS)), Signal(counter(COORDINATE_BITS))
    given, place = Signal(unsigned(PLACE_BITS)), Signal(unsigned(PLACE_BITS))

    if word_rows is None:
        checks = check_word(word, illegal, (LOADQ, STORE), RESERVED_OS, accelerator.rows == accelerator.cols)
        weights = weight_walk(clk, rst, ctl, word, group_end)
    else:
        most, other = accelerator.most_per_word, Signal(bool(0))
        unused = PER_WORD + (most - 1).bit_length()
        checks = (
            check_word(word, other, (LOADQ, STORE), unused, accelerator.rows == accelerator.cols),
            check_rows(word, other, illegal, SUM, RESERVED_OS, most),
        )
        weights = weight_walk(clk, rst, ctl, word, group_end, word_rows)
    decodes = decoder(clk, rst, ctl, word, op)
    counts = slots(clk, rst, ctl, tap_end, last, group_end, fresh, accelerator.rows)
    tap_control = TapControl(restart, tap_end, ctl.bank)
    taps = Taps()
    holds = tap_fields(clk, rst, ctl.issue, word, taps)
    starts = tap_walk(clk, rst, tap_control, word, taps, origin, start_x, start_y, last, accelerator)
    windows = window_walk(clk, rst, ctl, word, taps, step, given, ended)
    places = repeat(clk, fresh, given, place, accelerator.rows)
    reads = read_walk(clk, rst, ctl, word, place, origin, start_x, start_y, running, words_end)
    beats = beat_walk(clk, rst, ctl, word, running, accelerator)

    @always_comb
    def phases():
        ctl.issue.next = state == os_states.DECODE
        # a load or save waits for the external memory
        running.next = state == os_states.RUN and (ext_ready or op > SAVE)
        fetching.next = state == os_states.FETCH

    @always_comb
    def operations():
        ctl.loadp.next = running and op == LOADP
        ctl.loada.next = running and op == LOADA
        ctl.save.next = running and op == SAVE
        ctl.loadq.next = running and op == TILE
        ctl.sum.next = running and op == SUM
        ctl.pool.next = running and op == POOL

    @always_comb
    def repeats():
        restart.next = ctl.issue or group_end
        step.next = (ctl.sum and fresh) or ctl.pool

    @always_comb
    def results():
        ctl.valid.next = ctl.pool or (ctl.sum and last and place[flags])
        ctl.window_first.next = place[opens]
        ctl.window_last.next = (ctl.pool or (ctl.sum and last and place[flags])) and place[closes]

    @always_comb
    def finish():
        if op == SUM:
            finished.next = group_end and ended
        elif op == POOL:
            finished.next = ended
        else:
            finished.next = words_end

    @always_comb
    def drains():
        if op == SUM:
            drained.next = state == os_states.DRAIN and waited == drain_sum
        elif op == POOL:
            drained.next = state == os_states.DRAIN and waited == drain_pool
        elif op == TILE:
            drained.next = state == os_states.DRAIN and waited == drain_tile
        else:
            drained.next = state == os_states.DRAIN and waited == drain_move and (ext_idle or op != SAVE)

    @always_seq(clk.posedge, reset=rst)
    def control():
        if busy:
            cycles.next = cycles + 1
        if state == os_states.IDLE:
            if start:
                busy.next = True
                error.next = False
                cycles.next = 0
                pc.next = entry
                state.next = os_states.FETCH
        elif state == os_states.FETCH:
            state.next = os_states.DECODE
        elif state == os_states.DECODE:
            pc.next = pc + 1
            waited.next = 0
            if word[4:] == HALT or illegal:
                busy.next = False
                error.next = illegal
                state.next = os_states.IDLE
            else:
                state.next = os_states.RUN
        elif state == os_states.RUN:
            if running and finished:
                state.next = os_states.DRAIN
        else:
            if drained:
                state.next = os_states.FETCH
            elif op != SAVE or waited != drain_move:
                waited.next = waited + 1

    return (
        checks, decodes, counts, holds, starts, windows, places, reads, weights, beats,
        phases, operations, repeats, results, finish, drains, control,
    )  # fmt: skip
