"""The output-stationary accelerator: sequencer, memories, array and lanes, wired together."""

from myhdl import Signal, always_seq, block

from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.rtl.array import delay_line, valid_line
from codesign_kernel.rtl.array_os import stationary
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.core import core, memories
from codesign_kernel.rtl.lanes import lane
from codesign_kernel.rtl.mover import request
from codesign_kernel.rtl.sequencer_os import StationaryControl, sequencer_os


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

    # sequencer and memories
    pc, at, instruction = (
        Signal(counter(ADDRESS_BITS)),
        Signal(counter(ADDRESS_BITS)),
        Signal(unsigned(INSTRUCTION_BITS)),
    )
    control = sequencer_os(
        clk, rst, start, entry, busy, cycles, error, pc, at, instruction, ctl, ext_ready, ext_idle, accelerator
    )
    requests = request(clk, rst, ctl, instruction, ext_request, ext_write, ext_beats, accelerator)
    row_word, w_word = Signal(unsigned(rows * data_bits)), Signal(unsigned(cols * data_bits))
    results = [Signal(unsigned(data_bits)) for _ in range(cols)]
    r_write = Signal(bool(0))
    stores = memories(
        clk, rst, ctl, prog_we, prog_addr, prog_data, at, instruction, ext_addr, ext_we, ext_wdata, ext_rdata,
        row_word, w_word, results, r_write, accelerator,
    )  # fmt: skip

    # array: a word comes two cycles after the walk, and its row gives the first channel in the third
    live, first, take, load = [Signal(bool(0)) for _ in range(4)]
    sums = Signal(unsigned(cols * acc_bits))
    array = stationary(clk, take, first, w_word, row_word, live, sums, rows, cols, data_bits, acc_bits)
    blocks.append(delay_line(clk, ctl.group_start, first, 3))
    if rows > 1:
        blocks.append(delay_line(clk, ctl.tap_start, take, 2))

    # lanes: a position's last tap takes as many cycles as there are rows, and its sum one more for each column
    opens, sum_valid, window_last = [Signal(bool(0)) for _ in range(3)]
    behind = rows + cols + 3
    blocks.append(valid_line(clk, rst, ctl.valid, sum_valid, behind))
    blocks.append(valid_line(clk, rst, ctl.window_first, opens, behind))
    blocks.append(valid_line(clk, rst, ctl.window_last, window_last, behind))
    blocks.append(valid_line(clk, rst, window_last, r_write, 4))
    for j in range(cols):
        blocks.append(lane(clk, sums, opens, sum_valid, load, w_word, ctl.relu, results[j], j, data_bits, acc_bits))

    @always_seq(clk.posedge, reset=rst)
    def inputs():
        live.next = ctl.live
        load.next = ctl.loadq

    return control, requests, stores, array, blocks, inputs


def core_of(accelerator):
    """The block of ``accelerator``; its ports are those of :class:`Ports`."""
    return core_os if accelerator.dataflow == "os" else core
