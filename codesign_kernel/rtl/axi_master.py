"""AXI4 master: turns the requests of an accelerator into read and write bursts.

A request is a start address and a number of beats. Bursts are incrementing, as wide as the data bus, at most 256 beats
long and within 4 KiB: each ends where the next multiple of the longest burst begins, or with the request. All of a
request's bursts may be outstanding at a time; there are no identifiers, so that answers come in order.

With a slave that takes an address in the cycle in which it comes, gives the first data ``n`` cycles later and one beat
in each cycle from then on, a load's first word moves ``READ_CYCLES + n`` cycles later than with a synchronous memory.
With one that takes addresses and data at once and answers ``n`` cycles after a burst's last beat, a save ends
``WRITE_CYCLES + n`` cycles later.
"""

from myhdl import Signal, always, always_comb, always_seq, intbv

from codesign_kernel.accelerator.isa import EXTERNAL_BITS
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.hierarchy import block

#: Address split into bursts, 1; address on the bus, 1; data in a register before the accelerator, 1.
READ_CYCLES = 3
#: Ready a cycle after the request, 1; data in the FIFO, 1; the last answer noted, 1.
WRITE_CYCLES = 3
#: Width of a byte address on the bus.
BYTE_ADDRESS_BITS = 64
LONGEST_BURST = 256
#: No burst crosses a multiple of it (bytes).
PAGE = 4096
#: Words that wait for the bus. Three are on their way when the accelerator is told to wait.
FIFO_DEPTH, ON_THE_WAY = 8, 3


def burst_bits(word_bytes):
    """(first bit, bit behind) of a byte address that number the beats in the longest burst."""
    low = word_bytes.bit_length() - 1
    return low, low + (min(LONGEST_BURST, PAGE // word_bytes).bit_length() - 1)


@block
def bursts(clk, rst, asked, address, beats, ready, valid, burst_address, length, more, word_bytes):
    """The address channel of a request of ``beats`` words from byte ``address`` on, taken at ``asked``.

    valid, ready, burst_address, length: the channel; length is one less than the beats of the burst.
    more: an address is still to be taken; None where nobody asks.
    """
    low, high = burst_bits(word_bytes)
    longest, final = 1 << (high - low), (1 << (high - low)) - 1
    size = len(address)
    at = Signal(counter(size))
    left, room, behind = [Signal(counter(EXTERNAL_BITS)) for _ in range(3)]

    @always_comb
    def look():
        behind.next[EXTERNAL_BITS : high - low] = 0
        behind.next[high - low :] = at[high:low]

    @always_comb
    def bound():
        room.next = longest - behind

    @always_seq(clk.posedge, reset=rst)
    def walk():
        if asked:
            at.next = address
            left.next = beats
        elif left != 0 and (ready or not valid):
            valid.next = True
            burst_address.next = at
            if left < room:
                length.next = left[8:] - 1
                left.next = 0
            else:
                length.next = final - behind[8:]
                left.next = left - room
            # a burst that is not the last one ends where the longest one would
            at.next[high:] = 0
            at.next[size:high] = at[size:high] + 1
        elif ready:
            valid.next = False

    if more is None:
        return look, bound, walk

    @always_comb
    def remain():
        more.next = valid or left != 0

    return look, bound, walk, remain


@block
def burst_ends(clk, rst, asked, address, beats, moves, last, word_bytes):
    """Whether the beat of a request that ``moves`` next is the ``last`` of its burst."""
    low, high = burst_bits(word_bytes)
    final = (1 << (high - low)) - 1
    at = Signal(counter(high - low))
    left = Signal(counter(EXTERNAL_BITS))

    @always_comb
    def ends():
        last.next = at == final or left == 1

    @always_seq(clk.posedge, reset=rst)
    def count():
        if asked:
            at.next = address[high:low]
            left.next = beats
        elif moves:
            at.next = at + 1
            left.next = left - 1

    return ends, count


@block
def fifo(clk, rst, put, data, get, word, level, depth):
    """First in, first out: ``word`` is the oldest of ``level``. Not to ``put`` into a full one is the user's part."""
    mem = [Signal(intbv(0)[len(data) :]) for _ in range(depth)]
    head, tail = [Signal(counter((depth - 1).bit_length())) for _ in range(2)]

    @always(clk.posedge)
    def write():
        if put:
            mem[tail].next = data

    @always_comb
    def read():
        word.next = mem[head]

    @always_seq(clk.posedge, reset=rst)
    def count():
        if put:
            tail.next = tail + 1
        if get:
            head.next = head + 1
        if put and not get:
            level.next = level + 1
        elif get and not put:
            level.next = level - 1

    return write, read, count


@block
def axi_reader(
    clk, rst, asked, address, beats, arrived, word, failed,
    araddr, arlen, arvalid, arready, rdata, rresp, rlast, rvalid, rready,
    word_bytes,
):  # fmt: skip
    """The read channels. In the cycle after ``arrived``, ``word`` is what came; it is taken at once.

    failed: an answer is no success, or a burst does not end where it should.
    """
    moves, last = [Signal(bool(0)) for _ in range(2)]
    held = Signal(unsigned(len(rdata)))
    addresses = bursts(clk, rst, asked, address, beats, arready, arvalid, araddr, arlen, None, word_bytes)
    counts = burst_ends(clk, rst, asked, address, beats, moves, last, word_bytes)

    @always_comb
    def take():
        moves.next = rvalid and rready

    @always_seq(clk.posedge, reset=rst)
    def arrive():
        rready.next = True
        arrived.next = moves
        failed.next = moves and (rresp != 0 or rlast != last)

    @always(clk.posedge)
    def hold():
        held.next = rdata
        word.next = held

    return addresses, counts, take, arrive, hold


@block
def axi_writer(
    clk, rst, asked, address, beats, room, put, data, idle, failed,
    awaddr, awlen, awvalid, awready, wdata, wlast, wvalid, wready, bresp, bvalid, bready,
    word_bytes,
):  # fmt: skip
    """The write channels.

    room: of the request's words one more may come; ``put`` brings ``data`` up to ``ON_THE_WAY`` cycles later.
    idle: every burst has been answered.
    failed: an answer is no success.
    """
    fullest = FIFO_DEPTH - ON_THE_WAY
    more, moves, busy = [Signal(bool(0)) for _ in range(3)]
    level = Signal(unsigned(FIFO_DEPTH.bit_length()))
    unanswered = Signal(counter(EXTERNAL_BITS))
    addresses = bursts(clk, rst, asked, address, beats, awready, awvalid, awaddr, awlen, more, word_bytes)
    counts = burst_ends(clk, rst, asked, address, beats, moves, wlast, word_bytes)
    words = fifo(clk, rst, put, data, moves, wdata, level, FIFO_DEPTH)

    @always_comb
    def offer():
        wvalid.next = level != 0

    @always_comb
    def take():
        moves.next = wready and level != 0

    @always_comb
    def state():
        room.next = busy and level <= fullest
        idle.next = not busy

    @always_seq(clk.posedge, reset=rst)
    def answers():
        bready.next = True
        failed.next = bvalid and bready and bresp != 0
        if asked:
            busy.next = True
        elif bvalid and bready and unanswered == 1 and not more:
            busy.next = False
        if awvalid and awready and not (bvalid and bready):
            unanswered.next = unanswered + 1
        elif bvalid and bready and not (awvalid and awready):
            unanswered.next = unanswered - 1

    return addresses, counts, words, offer, take, state, answers


@block
def byte_address(base, word, address, word_bytes):
    """``address`` of ``word``, in bytes, where the first word lies at ``base``."""
    low = word_bytes.bit_length() - 1
    size, high = len(address), len(word) + low
    offset = Signal(counter(size))

    if low:

        @always_comb
        def shift():
            offset.next[size:high] = 0
            offset.next[high:low] = word
            offset.next[low:] = 0
    else:

        @always_comb
        def shift():
            offset.next[size:high] = 0
            offset.next[high:] = word

    @always_comb
    def add():
        address.next = base + offset

    return shift, add


@block
def constants(clk, rst, size, burst, cache, prot, word_bytes):
    """What every address says: whole words, incrementing, modifiable and bufferable, secure data."""
    beat_size = word_bytes.bit_length() - 1

    @always_seq(clk.posedge, reset=rst)
    def hold():
        size.next = beat_size
        burst.next = 1
        cache.next = 3
        prot.next = 0

    return hold


@block
def axi_master(
    clk, rst, base, request, write, word, beats, ready, idle, we, data, answer, read_failed, write_failed,
    araddr, arlen, arsize, arburst, arcache, arprot, arvalid, arready, rdata, rresp, rlast, rvalid, rready,
    awaddr, awlen, awsize, awburst, awcache, awprot, awvalid, awready,
    wdata, wstrb, wlast, wvalid, wready, bresp, bvalid, bready,
):  # fmt: skip
    """An external memory behind AXI4, for the ``ext_`` ports of :func:`codesign_kernel.rtl.core.core`.

    base: byte address of the first word, a multiple of a word's bytes.
    request, write, word, beats, ready, idle, we, data, answer: the accelerator's ext_request, ext_write, ext_addr,
    ext_beats, ext_ready, ext_idle, ext_we, ext_wdata and ext_rdata.
    read_failed, write_failed: an answer was no success; high for one cycle.
    """
    word_bytes = len(data) // 8
    every = (1 << word_bytes) - 1
    read_asked, write_asked, arrived, room = [Signal(bool(0)) for _ in range(4)]
    address = Signal(counter(len(araddr)))
    blocks = [
        byte_address(base, word, address, word_bytes),
        constants(clk, rst, arsize, arburst, arcache, arprot, word_bytes),
        constants(clk, rst, awsize, awburst, awcache, awprot, word_bytes),
        axi_reader(
            clk, rst, read_asked, address, beats, arrived, answer, read_failed,
            araddr, arlen, arvalid, arready, rdata, rresp, rlast, rvalid, rready, word_bytes,
        ),
        axi_writer(
            clk, rst, write_asked, address, beats, room, we, data, idle, write_failed,
            awaddr, awlen, awvalid, awready, wdata, wlast, wvalid, wready, bresp, bvalid, bready, word_bytes,
        ),
    ]  # fmt: skip

    @always_comb
    def asked():
        read_asked.next = request and not write
        write_asked.next = request and write

    @always_comb
    def go():
        ready.next = arrived or room

    @always_seq(clk.posedge, reset=rst)
    def lanes():
        wstrb.next = every

    return blocks, asked, go, lanes
