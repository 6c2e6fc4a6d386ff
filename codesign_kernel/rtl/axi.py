"""The accelerator behind AXI: a master to the external memory, and a slave with registers for control."""

from myhdl import ResetSignal, Signal, always_comb

from codesign_kernel.accelerator.isa import EXTERNAL_BITS
from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.rtl.axi_lite import REGISTER_BITS, WINDOW_BITS, axi_lite_slave, registers
from codesign_kernel.rtl.axi_master import BYTE_ADDRESS_BITS, axi_master
from codesign_kernel.rtl.bits import counter, unsigned
from codesign_kernel.rtl.core_os import core_of
from codesign_kernel.rtl.hierarchy import block


def _bit(value=0):
    return Signal(bool(value))


def _word(width):
    return Signal(unsigned(width))


class AxiPorts:
    """The ports of :func:`axi_accelerator`, with the widths that ``accelerator`` gives them."""

    def __init__(self, accelerator):
        bus = accelerator.bus_bits
        self.aclk, self.aresetn, self.irq = _bit(), _bit(1), _bit()
        for way in ("aw", "ar"):
            setattr(self, f"s_axi_{way}addr", _word(WINDOW_BITS))
            setattr(self, f"s_axi_{way}valid", _bit())
            setattr(self, f"s_axi_{way}ready", _bit())
            setattr(self, f"m_axi_{way}addr", _word(BYTE_ADDRESS_BITS))
            for name, width in {"len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3}.items():
                setattr(self, f"m_axi_{way}{name}", _word(width))
            setattr(self, f"m_axi_{way}valid", _bit())
            setattr(self, f"m_axi_{way}ready", _bit())
        for side, width in (("s", REGISTER_BITS), ("m", bus)):
            for name, bits in {"wdata": width, "wstrb": width // 8, "bresp": 2, "rdata": width, "rresp": 2}.items():
                setattr(self, f"{side}_axi_{name}", _word(bits))
            for channel in ("w", "b", "r"):
                setattr(self, f"{side}_axi_{channel}valid", _bit())
                setattr(self, f"{side}_axi_{channel}ready", _bit())
        self.m_axi_wlast, self.m_axi_rlast = _bit(), _bit()

    def as_dict(self):
        """Port by name."""
        return dict(vars(self))


@block
def axi_accelerator(
    aclk, aresetn, irq,
    s_axi_awaddr, s_axi_awvalid, s_axi_awready, s_axi_wdata, s_axi_wstrb, s_axi_wvalid, s_axi_wready,
    s_axi_bresp, s_axi_bvalid, s_axi_bready,
    s_axi_araddr, s_axi_arvalid, s_axi_arready, s_axi_rdata, s_axi_rresp, s_axi_rvalid, s_axi_rready,
    m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst, m_axi_awcache, m_axi_awprot, m_axi_awvalid, m_axi_awready,
    m_axi_wdata, m_axi_wstrb, m_axi_wlast, m_axi_wvalid, m_axi_wready, m_axi_bresp, m_axi_bvalid, m_axi_bready,
    m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst, m_axi_arcache, m_axi_arprot, m_axi_arvalid, m_axi_arready,
    m_axi_rdata, m_axi_rresp, m_axi_rlast, m_axi_rvalid, m_axi_rready,
    accelerator,
):  # fmt: skip
    """A systolic-array accelerator with an AXI4 master for data and an AXI4-Lite slave for control.

    aclk, aresetn: clock; synchronous reset, active low.
    irq: a run has ended, and the host has asked to be told; high until it clears it.
    s_axi_...: AXI4-Lite slave, 32 bits wide: the registers of docs/axi.md.
    m_axi_...: AXI4 master to the external memory; no identifiers, incrementing bursts of whole words.
    """
    rst = ResetSignal(0, active=1, isasync=False)
    start, busy, error, read_failed, write_failed, prog_we = [_bit() for _ in range(6)]
    entry, cycles, base = _word(ADDRESS_BITS), Signal(counter(32)), _word(BYTE_ADDRESS_BITS)
    prog_addr, prog_data = Signal(counter(ADDRESS_BITS)), _word(INSTRUCTION_BITS)
    ext_addr, ext_beats = _word(EXTERNAL_BITS), _word(EXTERNAL_BITS)
    ext_we, ext_ready, ext_idle, ext_request, ext_write = [_bit() for _ in range(5)]
    ext_wdata, ext_rdata = _word(accelerator.bus_bits), _word(accelerator.bus_bits)
    write, write_lawful, lawful = [_bit() for _ in range(3)]
    value = _word(REGISTER_BITS)

    slave = axi_lite_slave(
        aclk, rst,
        s_axi_awvalid, s_axi_awready, s_axi_wstrb, s_axi_wvalid, s_axi_wready, s_axi_bresp, s_axi_bvalid, s_axi_bready,
        s_axi_arvalid, s_axi_arready, s_axi_rdata, s_axi_rresp, s_axi_rvalid, s_axi_rready,
        write, write_lawful, value, lawful,
    )  # fmt: skip
    control = registers(
        aclk, rst, write, s_axi_awaddr, write_lawful, s_axi_wdata, s_axi_araddr, value, lawful,
        start, entry, base, busy, cycles, error, read_failed, write_failed, prog_we, prog_addr, prog_data, irq,
        accelerator,
    )  # fmt: skip
    heart = core_of(accelerator)(
        aclk, rst, start, entry, busy, cycles, error, prog_we, prog_addr, prog_data,
        ext_addr, ext_we, ext_wdata, ext_rdata, ext_ready, ext_idle, ext_request, ext_write, ext_beats,
        accelerator,
    )  # fmt: skip
    master = axi_master(
        aclk, rst, base, ext_request, ext_write, ext_addr, ext_beats, ext_ready, ext_idle, ext_we, ext_wdata, ext_rdata,
        read_failed, write_failed,
        m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst, m_axi_arcache, m_axi_arprot,
        m_axi_arvalid, m_axi_arready, m_axi_rdata, m_axi_rresp, m_axi_rlast, m_axi_rvalid, m_axi_rready,
        m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst, m_axi_awcache, m_axi_awprot,
        m_axi_awvalid, m_axi_awready, m_axi_wdata, m_axi_wstrb, m_axi_wlast, m_axi_wvalid, m_axi_wready,
        m_axi_bresp, m_axi_bvalid, m_axi_bready,
    )  # fmt: skip

    @always_comb
    def reset():
        rst.next = not aresetn

    return slave, control, heart, master, reset
