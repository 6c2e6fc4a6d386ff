"""The accelerator: sequencer, memories, array, lanes and the mover, wired together."""

from myhdl import ConcatSignal, ResetSignal, Signal, always, always_comb, always_seq

from codesign_kernel.accelerator.isa import EXTERNAL_BITS
from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.rtl.array import systolic, valid_line
from codesign_kernel.rtl.bits import counter, join, unsigned
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.lanes import accumulate, lane
from codesign_kernel.rtl.memory import ram
from codesign_kernel.rtl.mover import mover, request
from codesign_kernel.rtl.sequencer import Control, sequencer
from codesign_kernel.rtl.unpack import WordRows, unpacker


class Ports:
    """The ports of :func:`core`, with the widths that ``accelerator`` gives them."""

    OUTPUTS = (
        "busy", "cycles", "error", "ext_addr", "ext_we", "ext_wdata", "ext_request", "ext_write", "ext_beats",
    )  # fmt: skip

    def __init__(self, accelerator):
        self.clk = Signal(bool(0))
        self.rst = ResetSignal(0, active=1, isasync=False)
        self.start = Signal(bool(0))
        self.entry = Signal(unsigned(ADDRESS_BITS))
        self.busy = Signal(bool(0))
        self.cycles = Signal(counter(32))
        self.error = Signal(bool(0))
        self.prog_we = Signal(bool(0))
        self.prog_addr = Signal(unsigned(ADDRESS_BITS))
        self.prog_data = Signal(unsigned(INSTRUCTION_BITS))
        self.ext_addr = Signal(unsigned(EXTERNAL_BITS))
        self.ext_we = Signal(bool(0))
        self.ext_wdata = Signal(unsigned(accelerator.bus_bits))
        self.ext_rdata = Signal(unsigned(accelerator.bus_bits))
        self.ext_ready = Signal(bool(0))
        self.ext_idle = Signal(bool(0))
        self.ext_request = Signal(bool(0))
        self.ext_write = Signal(bool(0))
        self.ext_beats = Signal(unsigned(EXTERNAL_BITS))

    def as_dict(self):
        """Port by name, in the order of :func:`core`."""
        return dict(vars(self))


@block(inline=True)
def bits_of(word, part, low, high):
    """``part`` is bits ``low`` to ``high`` of ``word``."""

    @always_comb
    def take():
        part.next = word[high:low]

    return take


@block(inline=True)
def pick_bank(outputs, bank, index, others, word):
    """``word`` is ``outputs`` when ``bank`` is ``index``, else ``others``."""

    @always_comb
    def choose():
        if bank == index:
            word.next = outputs
        else:
            word.next = others

    return choose


@block(inline=True)
def bank_write(store, every, bank, we, index):
    """Write enable of bank ``index``: a load writes every bank, a result only the bank that it names."""

    @always_comb
    def enable():
        we.next = every or (store and bank == index)

    return enable


@block(inline=True)
def either(a, b, y):
    """``y = a or b``."""

    @always_comb
    def gate():
        y.next = a or b

    return gate


@block(inline=True)
def choose_word(loading, loaded, result, word, low):
    """What a bank of the activation memory takes: its bits of the loaded word, or the lanes' results."""
    high = low + len(word)
    r_high = len(result)

    @always_comb
    def mux():
        if loading:
            word.next = loaded[high:low]
        else:
            word.next = result[r_high:0]

    return mux


@block
def activation_memory(clk, ctl, read, loading, loaded, storing, result, waddr, full_word, bank_word, accelerator):
    """The activation memory in banks of the array's shorter side; ``bank_word`` is what bank ``ctl.bank`` reads.

    With fewer columns than rows, a tile of results fills one bank of a word that the rows then read whole; with more
    columns than rows, results fill whole words and the rows read one bank.
    """
    narrow = min(accelerator.rows, accelerator.cols) * accelerator.weight_bits
    count = accelerator.word_bits // narrow
    depth = accelerator.memory("activation").depth
    by_bank = accelerator.cols < accelerator.rows
    blocks = []
    outputs = []
    for b in range(count):
        we, data, kept = Signal(bool(0)), Signal(unsigned(narrow)), Signal(unsigned(narrow))
        if by_bank:
            blocks.append(bank_write(storing, loading, ctl.bank, we, b))
            blocks.append(choose_word(loading, loaded, result, data, b * narrow))
        else:
            part = Signal(unsigned(narrow))
            blocks.append(either(loading, storing, we))
            blocks.append(bits_of(result, part, b * narrow, (b + 1) * narrow))
            blocks.append(choose_word(loading, loaded, part, data, b * narrow))
        blocks.append(ram(clk, we, waddr, data, read, kept, depth))
        outputs.append(kept)
    word = join(outputs, ConcatSignal)

    @always_comb
    def whole():
        full_word.next = word

    picked = outputs[0]
    for b in range(1, count):
        word_b = Signal(unsigned(narrow))
        blocks.append(pick_bank(outputs[b], ctl.bank, b, picked, word_b))
        picked = word_b

    @always_comb
    def one():
        bank_word.next = picked

    return blocks, whole, one


@block
def memories(
    clk, rst, ctl, prog_we, prog_addr, prog_data, pc, instruction, ext_addr, ext_we, ext_wdata, ext_rdata,
    row_word, lane_word, w_word, results, r_write, accelerator, word_rows=None,
):  # fmt: skip
    """The memories for instructions, activations and weights, and what moves words between the last two and the bus.

    Args:
        instruction, row_word, lane_word, w_word: what ``pc``, ``ctl.addr`` (the activations of ``rows`` and of ``cols``
            channels) and ``ctl.waddr`` read.
        results, r_write: one value of every lane, and that they are to be written.
    """
    row_bits = len(w_word)
    blocks = []
    waddr = Signal(counter(ADDRESS_BITS))
    loaded = Signal(unsigned(accelerator.word_bits))
    full_word, bank_word = lane_word, row_word
    if accelerator.cols < accelerator.rows:
        full_word, bank_word = row_word, lane_word
    p_row = Signal(unsigned(row_bits))
    p_write, a_write = Signal(bool(0)), Signal(bool(0))
    result = join(results, ConcatSignal)
    imem = ram(clk, prog_we, prog_addr, prog_data, pc, instruction, accelerator.memory("instruction").depth)
    amem = activation_memory(
        clk, ctl, ctl.addr, a_write, loaded, r_write, result, waddr, full_word, bank_word, accelerator
    )
    # a row of weights arrives in the last beats, so it starts that many beats below the top
    p_low = accelerator.word_bits - accelerator.weight_beats * accelerator.bus_bits
    blocks.append(bits_of(loaded, p_row, p_low, p_low + row_bits))
    # a word that holds several rows of weights is read for the first of them
    w_depth = accelerator.memory("weight").depth
    if word_rows is None:
        wmem = ram(clk, p_write, waddr, p_row, ctl.waddr, w_word, w_depth)
    else:
        wmem = ram(clk, p_write, waddr, p_row, ctl.waddr, w_word, w_depth, word_rows.fresh)
    moves = mover(
        clk, rst, ctl, full_word, ext_addr, ext_we, ext_wdata, ext_rdata, loaded, p_write, a_write, accelerator
    )

    @always_seq(clk.posedge, reset=rst)
    def write_address():
        if ctl.aim:
            waddr.next = ctl.write_start
        elif p_write or a_write or r_write:
            waddr.next = waddr + 1

    return imem, amem, wmem, moves, blocks, write_address


@block
def core(
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
    """A systolic-array accelerator for integer neural networks.

    clk, rst: clock; synchronous reset, active high.
    start, entry: run the program from instruction entry; start is high for one cycle.
    busy, cycles: running; cycles since start.
    error: stopped at a word that is no instruction; cleared by the next start.
    prog_we, prog_addr, prog_data: write the instruction memory while not busy.
    ext_addr, ext_we, ext_wdata, ext_rdata: external memory, addressed in words of the bus. It samples address, write
    enable and write data at the clock edge, and shows read data in the next cycle.
    ext_request: high in the first cycle of a LOADP, LOADA or SAVE, in which ext_addr is its first address.
    ext_write, ext_beats: it is a SAVE; how many words of the bus it moves. They stay until the next request.
    ext_ready: from the request on, every cycle in which it is high moves one word: a load's is on ext_rdata in the next
    cycle, a SAVE's on ext_wdata, with ext_we, two cycles later. While it is low, the accelerator waits.
    ext_idle: everything written has arrived. A SAVE ends only then. A memory that never waits ties both high.
    """
    rows, cols, data_bits, acc_bits = accelerator.rows, accelerator.cols, accelerator.weight_bits, accelerator.acc_bits
    sum_bits = cols * acc_bits
    blocks = []
    ctl = Control()

    # narrow weights, where the accelerator packs them
    word_rows = WordRows.of(accelerator)
    more = () if word_rows is None else (word_rows,)

    # sequencer and memories
    pc, instruction = Signal(counter(ADDRESS_BITS)), Signal(unsigned(INSTRUCTION_BITS))
    control = sequencer(
        clk, rst, start, entry, busy, cycles, error, pc, instruction, ctl, ext_ready, ext_idle, accelerator, *more
    )
    requests = request(clk, rst, ctl, instruction, ext_request, ext_write, ext_beats, accelerator)
    row_word = Signal(unsigned(rows * data_bits))
    lane_word, w_word = Signal(unsigned(cols * data_bits)), Signal(unsigned(cols * data_bits))
    results = [Signal(unsigned(data_bits)) for _ in range(cols)]
    r_write = Signal(bool(0))
    stores = memories(
        clk, rst, ctl, prog_we, prog_addr, prog_data, pc, instruction, ext_addr, ext_we, ext_wdata, ext_rdata,
        row_word, lane_word, w_word, results, r_write, accelerator, *more,
    )  # fmt: skip
    w_row = w_word
    if word_rows is not None:
        w_row = Signal(unsigned(cols * data_bits))
        blocks.append(unpacker(clk, word_rows, w_word, w_row, cols))

    # array and accumulators
    load, swap, valid, live, tap_end = [Signal(bool(0)) for _ in range(5)]
    sums, sums_held = Signal(unsigned(sum_bits)), Signal(unsigned(sum_bits))
    sums_valid, sums_end, c_write, keep, later_tap = [Signal(bool(0)) for _ in range(5)]
    array = systolic(
        clk, rst, load, ctl.weights_last, swap, w_row, row_word, live, valid, tap_end, sums, sums_valid, sums_end,
        rows, cols, data_bits, acc_bits,
    )  # fmt: skip
    c_read, c_at, c_waddr = [Signal(counter(ADDRESS_BITS)) for _ in range(3)]
    stored, totals_word = Signal(unsigned(sum_bits)), Signal(unsigned(sum_bits))
    totals = [Signal(counter(acc_bits)) for _ in range(cols)]
    for j in range(cols):
        high, low = (j + 1) * acc_bits, j * acc_bits
        blocks.append(accumulate(stored(high, low), sums_held(high, low), keep, totals[j], 0, acc_bits))
    totals_joined = join(totals, ConcatSignal)
    cmem = ram(clk, c_write, c_waddr, totals_word, c_read, stored, accelerator.memory("accumulator").depth)

    # lanes
    take, pools, first, window_last = [Signal(bool(0)) for _ in range(4)]
    # maximum or sum, bias, multiply, clamp
    blocks.append(valid_line(clk, rst, window_last, r_write, 4))
    for j in range(cols):
        total, word = stored((j + 1) * acc_bits, j * acc_bits), lane_word((j + 1) * data_bits, j * data_bits)
        held = w_word((j + 1) * data_bits, j * data_bits)
        blocks.append(lane(
            clk, total, word, live, first, pools, ctl.pooling, ctl.accumulate, take, held, ctl.relu, results[j],
            0, data_bits, acc_bits,
        ))  # fmt: skip

    @always_seq(clk.posedge, reset=rst)
    def array_inputs():
        load.next = ctl.weights
        swap.next = ctl.tap_start
        take.next = ctl.loadq
        valid.next = ctl.conv
        live.next = ctl.live
        tap_end.next = ctl.tap_end

    @always_seq(clk.posedge, reset=rst)
    def accumulator_pipeline():
        c_write.next = sums_valid
        c_waddr.next = c_at
        keep.next = ctl.accumulate or later_tap
        if ctl.issue:
            c_at.next = 0
            later_tap.next = False
        elif sums_end:
            c_at.next = 0
            later_tap.next = True
        elif sums_valid:
            c_at.next = c_at + 1

    @always(clk.posedge)
    def sums_pipeline():
        sums_held.next = sums

    @always_comb
    def accumulator_ports():
        totals_word.next = totals_joined
        if ctl.store:
            c_read.next = ctl.addr
        else:
            c_read.next = c_at

    @always_seq(clk.posedge, reset=rst)
    def lane_pipeline():
        first.next = ctl.window_first
        pools.next = ctl.store or ctl.pool
        window_last.next = (ctl.store or ctl.pool) and ctl.window_last

    return (
        control, requests, stores, array, cmem, blocks,
        array_inputs, accumulator_pipeline, sums_pipeline, accumulator_ports, lane_pipeline,
    )  # fmt: skip
