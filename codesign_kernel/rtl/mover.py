"""Load and save: words of either memory as beats on the external bus.

The external memory is synchronous: it samples ``ext_addr`` (in beats), ``ext_we`` and ``ext_wdata`` at the clock edge
and shows ``ext_rdata`` in the next cycle. It keeps up with one beat a cycle, which is the bandwidth of the model,
unless it says (``ext_ready``) that it does not.
"""

from myhdl import Signal, always, always_comb, always_seq

from codesign_kernel.accelerator.isa import COUNT_BITS, EXTERNAL_BITS
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.walks import HALT, LOADP, SAVE, bits


@block
def gather(clk, take, beat, held, beats):
    """The last ``beats`` beats, the newest in the highest bits."""
    bus, width = len(beat), len(held)
    kept = width - bus
    if beats == 1:

        @always(clk.posedge)
        def shift():
            if take:
                held.next = beat
    else:

        @always(clk.posedge)
        def shift():
            if take:
                held.next[kept:] = held[:bus]
                held.next[width:kept] = beat

    return shift


@block(inline=True)
def spread_one(clk, word, beat):
    """A word that is one beat."""

    @always(clk.posedge)
    def move():
        beat.next = word

    return move


@block
def spread(clk, ctl, leaving, word, beat):
    """``word`` beat by beat, lowest bits first, each in the second cycle after the walk was at it (``leaving`` + 1)."""
    bus = len(beat)
    held = Signal(unsigned(len(word)))
    first = Signal(bool(0))

    @always(clk.posedge)
    def shift():
        first.next = ctl.beat == 0
        if leaving:
            if first:
                held.next = word
            else:
                held.next = held >> bus

    @always_comb
    def lowest():
        beat.next = held[bus:]

    return shift, lowest


@block
def mover(clk, rst, ctl, saved, ext_addr, ext_we, ext_wdata, ext_rdata, loaded, p_write, a_write, accelerator):
    """Turns the walk of LOADP, LOADA and SAVE into bus cycles and memory writes.

    Args:
        saved: the word read from the activation memory.
        loaded: what came from the bus, newest beat in the highest bits.
        p_write, a_write: write ``loaded`` to the weight or the activation memory.
    """
    position = Signal(counter(EXTERNAL_BITS))
    arriving = Signal(bool(0))
    p_last, a_last = Signal(bool(0)), Signal(bool(0))
    leaving = Signal(bool(0))
    beats = accelerator.activation_beats
    gathering = gather(clk, arriving, ext_rdata, loaded, beats)
    spreading = spread_one(clk, saved, ext_wdata) if beats == 1 else spread(clk, ctl, leaving, saved, ext_wdata)

    @always_seq(clk.posedge, reset=rst)
    def pipeline():
        arriving.next = ctl.loadp or ctl.loada
        p_last.next = ctl.loadp and ctl.beat_last
        a_last.next = ctl.loada and ctl.beat_last
        p_write.next = p_last
        a_write.next = a_last
        leaving.next = ctl.save
        ext_we.next = leaving
        if ctl.issue:
            position.next = ctl.ext_start
        elif ctl.loadp or ctl.loada or ext_we:
            position.next = position + 1

    @always_comb
    def address():
        ext_addr.next = position

    return gathering, spreading, pipeline, address


@block
def request(clk, rst, ctl, word, ext_request, ext_write, ext_beats, accelerator):
    """Tells the external memory, in the first cycle of a LOADP, LOADA or SAVE, how many beats it is going to move."""
    weight_beats, activation_beats = accelerator.weight_beats, accelerator.activation_beats
    c_high, c_low = bits("count")
    words = Signal(counter(EXTERNAL_BITS))
    rows = Signal(bool(0))

    @always_seq(clk.posedge, reset=rst)
    def hold():
        ext_request.next = ctl.issue and word[4:] != HALT and word[4:] <= SAVE
        if ctl.issue:
            ext_write.next = word[4:] == SAVE
            rows.next = word[4:] == LOADP
            # the instruction holds one less
            words.next[COUNT_BITS:] = word[c_high:c_low]

    @always_comb
    def beats():
        if rows:
            ext_beats.next = (words + 1) * weight_beats
        else:
            ext_beats.next = (words + 1) * activation_beats

    return hold, beats
