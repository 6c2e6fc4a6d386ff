"""The output-stationary accelerator: sequencer, memories, array and lanes, wired together."""

from myhdl import Signal, always_comb, always_seq

from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.rtl.array import delay_line, valid_line
from codesign_kernel.rtl.array_os import stationary
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.core import core, memories
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.lanes import lane
from codesign_kernel.rtl.mover import request
from codesign_kernel.rtl.sequencer_os import StationaryControl, read_address, sequencer_os
from codesign_kernel.rtl.unpack import WordRows, unpacker


@block
def mark_line(clk, rst, pooling, mark, q, behind):
    """``q`` is the mark of a position in the cycle of its word (POOL), or ``behind`` it in that of its sum."""
    word, later, with_sum = [Signal(bool(0)) for _ in range(3)]
    reads = valid_line(clk, rst, mark, word, 2)
    sums = valid_line(clk, rst, later, with_sum, behind - 2)

    @always_comb
    def choose():
        later.next = word and not pooling
        if pooling:
            q.next = word
        else:
            q.next = with_sum

    return reads, sums, choose


@block
def core_os(
    clk,
    rst,
    start,
    entry,
    busy,
    cycles,
    error,
    prog_we,
    prog_addr,
    prog_data,
    ext_addr,
    ext_we,
    ext_wdata,
    ext_rdata,
    ext_ready,
    ext_idle,
    ext_request,
    ext_write,
    ext_beats,
    accelerator,
):
    """The output-stationary accelerator: as :func:`core`, but the sums go from the array to the lanes at once."""
    rows, cols, data_bits, acc_bits = accelerator.rows, accelerator.cols, accelerator.weight_bits, accelerator.acc_bits
    blocks = []
    ctl = StationaryControl()

    # narrow weights, where the accelerator packs them
    word_rows = WordRows.of(accelerator)
    more = () if word_rows is None else (word_rows,)

    # sequencer and memories
    pc, at, instruction = (
        Signal(counter(ADDRESS_BITS)),
        Signal(counter(ADDRESS_BITS)),
        Signal(unsigned(INSTRUCTION_BITS)),
    )
    fetching = Signal(bool(0))
    control = sequencer_os(
        clk, rst, start, entry, busy, cycles, error, pc, fetching, instruction, ctl, ext_ready, ext_idle, accelerator,
        *more,
    )  # fmt: skip
    requests = request(clk, rst, ctl, instruction, ext_request, ext_write, ext_beats, accelerator)
    blocks.append(read_address(clk, rst, fetching, pc, at))
    row_word = Signal(unsigned(rows * data_bits))
    lane_word, w_word = Signal(unsigned(cols * data_bits)), Signal(unsigned(cols * data_bits))
    results = [Signal(unsigned(data_bits)) for _ in range(cols)]
    r_write = Signal(bool(0))
    stores = memories(
        clk, rst, ctl, prog_we, prog_addr, prog_data, at, instruction, ext_addr, ext_we, ext_wdata, ext_rdata,
        row_word, lane_word, w_word, results, r_write, accelerator, *more,
    )  # fmt: skip
    w_row = w_word
    if word_rows is not None:
        w_row = Signal(unsigned(cols * data_bits))
        blocks.append(unpacker(clk, word_rows, w_word, w_row, cols))

    # array: a word comes two cycles after the walk, and its row gives the first channel in the third
    live, first, take, load = [Signal(bool(0)) for _ in range(4)]
    sums = Signal(unsigned(cols * acc_bits))
    array = stationary(clk, take, first, w_row, row_word, live, sums, rows, cols, data_bits, acc_bits)
    blocks.append(delay_line(clk, ctl.group_start, first, 3))
    if rows > 1:
        blocks.append(delay_line(clk, ctl.tap_start, take, 2))

    # lanes: a position's last tap takes as many cycles as there are rows, and its sum one more for each column
    first_value, value_valid, window_last = [Signal(bool(0)) for _ in range(3)]
    behind = rows + cols + 3
    blocks.append(mark_line(clk, rst, ctl.pooling, ctl.valid, value_valid, behind))
    blocks.append(mark_line(clk, rst, ctl.pooling, ctl.window_first, first_value, behind))
    blocks.append(mark_line(clk, rst, ctl.pooling, ctl.window_last, window_last, behind))
    # maximum or sum, bias, multiply, clamp
    blocks.append(valid_line(clk, rst, window_last, r_write, 4))
    for j in range(cols):
        total, word = sums((j + 1) * acc_bits, j * acc_bits), lane_word((j + 1) * data_bits, j * data_bits)
        held = w_word((j + 1) * data_bits, j * data_bits)
        blocks.append(lane(
            clk, total, word, live, first_value, value_valid, ctl.pooling, ctl.accumulate, load, held, ctl.relu,
            results[j], 0, data_bits, acc_bits,
        ))  # fmt: skip

    @always_seq(clk.posedge, reset=rst)
    def inputs():
        live.next = ctl.live
        load.next = ctl.loadq

    return control, requests, stores, array, blocks, inputs


def core_of(accelerator):
    """The block of ``accelerator``; its ports are those of :class:`Ports`."""
    return core_os if accelerator.dataflow == "os" else core
