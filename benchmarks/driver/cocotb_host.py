"""What stands at the core's ports when cocotb drives it: a host and an external memory; ``simulators.py`` starts it."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

JOB = pickle.loads(Path(os.environ["COCOTB_JOB"]).read_bytes())


class Host:
    """One clock after the other: values are read as they are before the edge, and written behind it."""

    def __init__(self, dut: Any, memory: bytearray) -> None:
        self.dut, self.memory, self.edge = dut, memory, RisingEdge(dut.clk)
        self.beat = len(dut.ext_rdata) // 8

    async def tick(self) -> None:
        """One clock of the external memory."""
        dut, size = self.dut, self.beat
        await self.edge
        at = int(dut.ext_addr.value) * size
        read = self.memory[at : at + size].ljust(size, b"\0")
        if int(dut.ext_we.value):
            self.memory[at : at + size] = int(dut.ext_wdata.value).to_bytes(size, "little")
        dut.ext_rdata.value = int.from_bytes(read, "little")

    async def run(self, entry: int) -> tuple[list[int], int]:
        """One program to its HALT: the cycles in which its instructions issue, and its length."""
        dut, issues = self.dut, []
        dut.start.value, dut.entry.value = 1, entry
        await self.tick()
        dut.start.value = 0
        await self.tick()
        at = int(dut.pc.value)
        while int(dut.busy.value):
            await self.tick()
            if int(dut.pc.value) != at:
                at = int(dut.pc.value)
                issues.append(int(dut.cycles.value))
        assert not int(dut.error.value)
        return issues, int(dut.cycles.value)


@cocotb.test()
async def infer(dut: Any) -> None:
    """Reset, program, boot, every input; the answer is written beside the job."""
    memory = bytearray(JOB["memory"])
    host = Host(dut, memory)
    for name in ("start", "entry", "prog_we", "prog_addr", "prog_data", "ext_rdata"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, 2, "ns").start())
    for _ in range(3):
        await host.edge
    dut.rst.value = 0
    dut.prog_we.value = 1
    for address, word in enumerate(JOB["words"]):
        dut.prog_addr.value, dut.prog_data.value = address, word
        await host.edge
    dut.prog_we.value = 0
    boot = await host.run(0) if JOB["boot"] else ([], 0)
    runs, ends = [], []
    first, last = JOB["input_at"]
    for data in JOB["inputs"]:
        memory[first:last] = data
        issues, cycles = await host.run(JOB["entry"])
        runs.append((issues, cycles, bytes(memory)))
        ends.append(time.perf_counter())
    Path(os.environ["COCOTB_JOB"] + ".answer").write_bytes(pickle.dumps((boot, runs, ends)))
