"""What stands at the AXI ports in simulation: an external memory, and what a bus may and may not do. Run by cocotb."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable

from cocotb.triggers import RisingEdge

OKAY, SLVERR, DECERR = 0, 2, 3
PAGE, LONGEST = 4096, 256
#: What stays while a channel waits, by the side that gives it.
PAYLOAD = {
    "m_axi_aw": ("addr", "len", "size", "burst", "cache", "prot"),
    "m_axi_ar": ("addr", "len", "size", "burst", "cache", "prot"),
    "m_axi_w": ("data", "strb", "last"),
    "s_axi_b": ("resp",),
    "s_axi_r": ("data", "resp"),
}


class AxiMemory:
    """``data`` behind AXI4, at byte address ``base``.

    It takes every address and word in the cycle in which they come, and has a burst's first word ``latency`` cycles
    after its address, one more in each cycle from then on, and the answer to a burst ``latency`` cycles after its last
    word. With ``pauses`` (0 to 1) every channel waits in that share of the cycles. ``answer`` gives the response of an
    address; ``early_end`` ends every burst of reads a word too early.
    """

    def __init__(self, dut, data: bytearray, base: int = 0, latency: int = 1, pauses: float = 0.0) -> None:
        self.dut, self.data, self.base, self.latency = dut, data, base, latency
        self.pauses, self.chance = pauses, random.Random(0)
        self.answer: Callable[[int], int] = lambda address: OKAY
        self.early_end = False
        self.bytes = len(dut.m_axi_wdata) // 8
        #: (address, beats) of every burst
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        self.clear()

    def clear(self) -> None:
        """Nothing is asked, nothing answered."""
        self.to_read: deque[tuple[int, int, bool]] = deque()
        self.to_write: deque[tuple[int, int]] = deque()
        self.words: deque[tuple[int, bool]] = deque()
        self.answers: deque[tuple[int, int]] = deque()
        self.beat = 0
        d = self.dut
        for name in ("arready", "awready", "wready", "rvalid", "bvalid"):
            getattr(d, f"m_axi_{name}").value = 0
        for name in ("rdata", "rresp", "rlast", "bresp"):
            getattr(d, f"m_axi_{name}").value = 0

    def goes(self) -> bool:
        """Whether a channel does not wait in this cycle."""
        return self.chance.random() >= self.pauses

    def at(self, address: int) -> slice:
        """Where the word at ``address`` lies in ``data``."""
        place = address - self.base
        assert 0 <= place <= len(self.data) - self.bytes, f"address {address:#x} lies outside of the memory"
        return slice(place, place + self.bytes)

    def burst(self, channel: str) -> tuple[int, int]:
        """(address, beats) on an address channel, which keeps the laws of bursts."""
        d = self.dut
        address, beats = (int(getattr(d, f"{channel}{name}").value) for name in ("addr", "len"))
        beats += 1
        assert int(getattr(d, f"{channel}burst").value) == 1, "bursts are incrementing"
        assert 1 << int(getattr(d, f"{channel}size").value) == self.bytes
        assert address % self.bytes == 0
        assert beats <= LONGEST
        assert address // PAGE == (address + beats * self.bytes - 1) // PAGE, f"{address:#x}: {beats} cross 4 KiB"
        return address, beats

    async def run(self) -> None:
        """One cycle after the other."""
        d, now = self.dut, 0
        while True:
            await RisingEdge(d.aclk)
            now += 1
            if not d.aresetn.value:
                self.clear()
                continue
            self.step_reads(now)
            self.step_writes(now)

    def step_reads(self, now: int) -> None:
        """The read channels at the end of cycle ``now``."""
        d = self.dut
        if d.m_axi_arvalid.value and d.m_axi_arready.value:
            address, beats = self.burst("m_axi_ar")
            self.reads.append((address, beats))
            for i in range(beats):
                last = i == beats - 1 if not self.early_end else i == max(beats - 2, 0)
                self.to_read.append((now + self.latency, address + i * self.bytes, last))
        gone = d.m_axi_rvalid.value and d.m_axi_rready.value
        if gone or not d.m_axi_rvalid.value:
            ready = bool(self.to_read) and self.to_read[0][0] <= now + 1 and self.goes()
            d.m_axi_rvalid.value = ready
            if ready:
                _, address, last = self.to_read.popleft()
                d.m_axi_rresp.value = self.answer(address)
                d.m_axi_rlast.value = last
                d.m_axi_rdata.value = int.from_bytes(self.data[self.at(address)], "little")
        d.m_axi_arready.value = self.goes()

    def step_writes(self, now: int) -> None:
        """The write channels at the end of cycle ``now``."""
        d = self.dut
        if d.m_axi_awvalid.value and d.m_axi_awready.value:
            self.to_write.append(self.burst("m_axi_aw"))
            self.writes.append(self.to_write[-1])
        if d.m_axi_wvalid.value and d.m_axi_wready.value:
            assert int(d.m_axi_wstrb.value) == (1 << self.bytes) - 1
            self.words.append((int(d.m_axi_wdata.value), bool(d.m_axi_wlast.value)))
        while self.words and self.to_write:
            word, last = self.words.popleft()
            address, beats = self.to_write[0]
            self.data[self.at(address + self.beat * self.bytes)] = word.to_bytes(self.bytes, "little")
            assert last == (self.beat == beats - 1), f"beat {self.beat} of {beats} has wlast = {last}"
            self.beat = 0 if last else self.beat + 1
            if last:
                self.to_write.popleft()
                self.answers.append((now + self.latency, self.answer(address)))
        gone = d.m_axi_bvalid.value and d.m_axi_bready.value
        if gone or not d.m_axi_bvalid.value:
            ready = bool(self.answers) and self.answers[0][0] <= now + 1 and self.goes()
            d.m_axi_bvalid.value = ready
            if ready:
                d.m_axi_bresp.value = self.answers.popleft()[1]
        d.m_axi_awready.value = self.goes()
        d.m_axi_wready.value = self.goes()


async def watch(dut, seen: dict[str, int], channels: Iterable[str] = PAYLOAD) -> None:
    """Holds what the accelerator drives to the laws of AXI: nothing is valid in reset; what is valid stays, and stays
    what it is, until it is taken. Counts in ``seen`` how often a channel had to wait."""
    waiting: dict[str, tuple[int, ...]] = {}
    while True:
        await RisingEdge(dut.aclk)
        if not dut.aresetn.value:
            waiting.clear()
            continue
        for channel in channels:
            names = PAYLOAD[channel]
            valid = getattr(dut, f"{channel}valid").value
            assert valid.is_resolvable, f"{channel}valid is unknown"
            if channel in waiting:
                assert valid, f"{channel}valid fell before it was taken"
            if not valid:
                continue
            now = tuple(int(getattr(dut, f"{channel}{name}").value) for name in names)
            assert waiting.pop(channel, now) == now, f"{channel} changed before it was taken"
            if not getattr(dut, f"{channel}ready").value:
                waiting[channel] = now
                seen[channel] = seen.get(channel, 0) + 1
