"""AXI4-Lite slave, and the registers by which a host controls an accelerator; docs/axi.md describes them."""

from myhdl import Signal, always, always_comb, always_seq

from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.rtl.bits import counter
from codesign_kernel.rtl.hierarchy import block

#: Of the register file; bits 31 to 16 count changes that break a driver.
VERSION = 0x0001_0000
REGISTER_BITS = 32
#: Width of a byte address of the register file.
WINDOW_BITS = 8
#: Byte address by register.
REGISTERS = {
    "CONTROL": 0x00,
    "STATUS": 0x04,
    "CYCLES": 0x08,
    "ENTRY": 0x0C,
    "BASE_LOW": 0x10,
    "BASE_HIGH": 0x14,
    "PROG_ADDR": 0x18,
    "PROG_DATA": 0x1C,
    "VERSION": 0x20,
    "SHAPE": 0x24,
    "FORMAT": 0x28,
}
#: Writes of PROG_DATA that make one instruction.
PROGRAM_WORDS = INSTRUCTION_BITS // REGISTER_BITS
assert PROGRAM_WORDS * REGISTER_BITS == INSTRUCTION_BITS, "an instruction is whole writes of PROG_DATA"


def shape_of(accelerator):
    """What SHAPE reads: rows, and cols from bit 16 on."""
    return accelerator.rows | accelerator.cols << 16


def format_of(accelerator):
    """What FORMAT reads: weight_bits; from bit 8 on acc_bits; from 16 on bytes of the bus; in 24 output stationary."""
    bus_bytes, stationary = accelerator.bus_bits // 8, accelerator.dataflow == "os"
    return accelerator.weight_bits | accelerator.acc_bits << 8 | bus_bytes << 16 | stationary << 24


@block
def axi_lite_slave(
    clk, rst,
    awvalid, awready, wstrb, wvalid, wready, bresp, bvalid, bready, arvalid, arready, rdata, rresp, rvalid, rready,
    write, write_lawful, value, lawful,
):  # fmt: skip
    """The five channels of AXI4-Lite; a write or read takes three cycles.

    write: in this cycle the bus' ``wdata`` goes to its ``awaddr``, if ``write_lawful``; else SLVERR is answered.
    value, lawful: what is at the bus' ``araddr``, and whether it can be read; SLVERR is answered where not.
    Only whole words can be written: other strobes are answered with SLVERR.
    """
    every = (1 << len(wstrb)) - 1

    @always_comb
    def strobe():
        write.next = awready and write_lawful and wstrb == every

    @always_seq(clk.posedge, reset=rst)
    def writes():
        # address and data are taken together, when the last answer is gone
        awready.next = awvalid and wvalid and not awready and not bvalid
        wready.next = awvalid and wvalid and not awready and not bvalid
        if awready:
            bvalid.next = True
            bresp.next = 0
            if not write_lawful or wstrb != every:
                bresp.next = 2
        elif bready:
            bvalid.next = False

    @always_seq(clk.posedge, reset=rst)
    def reads():
        arready.next = arvalid and not arready and not rvalid
        if arready:
            rvalid.next = True
            rdata.next = value
            rresp.next = 0
            if not lawful:
                rresp.next = 2
        elif rready:
            rvalid.next = False

    return strobe, writes, reads


@block
def program_port(clk, rst, we, at, data, prog_we, prog_addr, prog_data):
    """Instructions come in ``PROGRAM_WORDS`` words each, the lowest bits first.

    we: in this cycle ``data`` is one of them.
    at: in this cycle ``data`` is the address of the next instruction, which begins with the next word; the addresses
    of those behind it follow.
    """
    size, part = len(prog_data), len(data)
    end = PROGRAM_WORDS - 1
    taken = Signal(counter(4))

    @always(clk.posedge)
    def shift():
        if we:
            prog_data.next[size - part :] = prog_data[size:part]
            prog_data.next[size : size - part] = data

    @always_seq(clk.posedge, reset=rst)
    def count():
        prog_we.next = we and taken == end
        if at:
            prog_addr.next = data[ADDRESS_BITS:]
            taken.next = 0
        elif prog_we:
            prog_addr.next = prog_addr + 1
        if we:
            if taken == end:
                taken.next = 0
            else:
                taken.next = taken + 1

    return shift, count


@block
def registers(
    clk, rst, write, write_at, write_lawful, data, read_at, value, lawful,
    start, entry, base, busy, cycles, error, read_failed, write_failed, prog_we, prog_addr, prog_data, irq,
    accelerator,
):  # fmt: skip
    """The register file. While the accelerator runs, only CONTROL can be written, and it cannot be started.

    write, write_at, data: ``data`` goes to ``write_at`` in this cycle; ``write_lawful`` says whether it may.
    read_at, value, lawful: what is there, and whether there is a register.
    """
    (
        AT_CONTROL,
        AT_STATUS,
        AT_CYCLES,
        AT_ENTRY,
        AT_LOW,
        AT_HIGH,
        AT_PROGRAM,
        AT_DATA,
        AT_VERSION,
        AT_SHAPE,
        AT_FORMAT,
    ) = REGISTERS.values()
    version, shape, numbers = VERSION, shape_of(accelerator), format_of(accelerator)
    misaligned = accelerator.bus_bits // 8 - 1
    running, was_running, done, enabled, read_error, write_error = [Signal(bool(0)) for _ in range(6)]
    take_address, take_data = Signal(bool(0)), Signal(bool(0))
    loads = program_port(clk, rst, take_data, take_address, data, prog_we, prog_addr, prog_data)

    @always_comb
    def run():
        running.next = start or busy

    @always_comb
    def law():
        if write_at == AT_CONTROL:
            write_lawful.next = not (running and data[0])
        elif write_at == AT_LOW:
            write_lawful.next = not running and (data & misaligned) == 0
        else:
            write_lawful.next = not running and (
                write_at == AT_ENTRY or write_at == AT_HIGH or write_at == AT_PROGRAM or write_at == AT_DATA
            )

    @always_comb
    def upload():
        take_address.next = write and write_at == AT_PROGRAM
        take_data.next = write and write_at == AT_DATA

    @always_seq(clk.posedge, reset=rst)
    def hold():
        start.next = write and write_at == AT_CONTROL and data[0]
        if write:
            if write_at == AT_CONTROL:
                enabled.next = data[1]
            elif write_at == AT_ENTRY:
                entry.next = data[ADDRESS_BITS:]
            elif write_at == AT_LOW:
                base.next[32:] = data
            elif write_at == AT_HIGH:
                base.next[64:32] = data

    @always_seq(clk.posedge, reset=rst)
    def note():
        was_running.next = running
        if write and write_at == AT_CONTROL and data[0]:
            done.next = False
        elif was_running and not running:
            done.next = True
        elif write and write_at == AT_CONTROL and data[2]:
            done.next = False
        if start:
            read_error.next = False
            write_error.next = False
        else:
            read_error.next = read_error or read_failed
            write_error.next = write_error or write_failed

    @always_comb
    def interrupts():
        irq.next = done and enabled

    @always_comb
    def read():
        lawful.next = True
        value.next = 0
        if read_at == AT_CONTROL:
            value.next[1] = enabled
        elif read_at == AT_STATUS:
            value.next[0] = running
            value.next[1] = done
            value.next[2] = error
            value.next[3] = read_error
            value.next[4] = write_error
        elif read_at == AT_CYCLES:
            value.next = cycles
        elif read_at == AT_ENTRY:
            value.next[ADDRESS_BITS:] = entry
        elif read_at == AT_LOW:
            value.next = base[32:]
        elif read_at == AT_HIGH:
            value.next = base[64:32]
        elif read_at == AT_PROGRAM:
            value.next[ADDRESS_BITS:] = prog_addr
        elif read_at == AT_VERSION:
            value.next = version
        elif read_at == AT_SHAPE:
            value.next = shape
        elif read_at == AT_FORMAT:
            value.next = numbers
        else:
            lawful.next = False

    return loads, run, law, upload, hold, note, interrupts, read
