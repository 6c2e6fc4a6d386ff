"""On-chip memories: one write port, one synchronous read port, written so that synthesis infers block RAM."""

from myhdl import Signal, always, intbv

from codesign_kernel.rtl.hierarchy import block


@block
def ram(clk, we, waddr, wdata, raddr, rdata, depth, read=None):
    """``depth`` words. A word written in this cycle is read from the next one on (read first).

    Addresses beyond ``depth`` are idle values of the address generators: they read nothing new and write nothing.
    """
    # where there is a ``read``, ``rdata`` stays what it is while that is low
    mem = [Signal(intbv(0)[len(wdata) :]) for _ in range(depth)]
    address_bits = (depth - 1).bit_length()

    if read is None and depth == 1 << len(waddr):

        @always(clk.posedge)
        def serve():
            if we:
                mem[waddr].next = wdata
            rdata.next = mem[raddr]
    elif read is None:

        @always(clk.posedge)
        def serve():
            if we and waddr < depth:
                mem[waddr[address_bits:]].next = wdata
            if raddr < depth:
                rdata.next = mem[raddr[address_bits:]]
    elif depth == 1 << len(waddr):

        @always(clk.posedge)
        def serve():
            if we:
                mem[waddr].next = wdata
            if read:
                rdata.next = mem[raddr]
    else:

        @always(clk.posedge)
        def serve():
            if we and waddr < depth:
                mem[waddr[address_bits:]].next = wdata
            if read and raddr < depth:
                rdata.next = mem[raddr[address_bits:]]

    return serve
