"""Inferences on the core's ports under cocotb, for benchmarks/simulators.py: this runs in the simulator's process.

The file that CORE_JOB names has the program, the external memory, and every input's expected output; the seconds after
which each inference was done are written beside it.
"""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge


async def serve(dut: Any, memory: bytearray, size: int) -> None:
    """An external memory that never waits: it samples at the clock edge, and answers after it."""
    while True:
        await RisingEdge(dut.clk)
        at = int(dut.ext_addr.value) * size
        if dut.ext_we.value:
            memory[at : at + size] = int(dut.ext_wdata.value).to_bytes(size, "little")
        dut.ext_rdata.value = int.from_bytes(memory[at : at + size], "little")


async def run(dut: Any, entry: int) -> int:
    """Cycles of one program."""
    dut.entry.value, dut.start.value = entry, 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    await FallingEdge(dut.busy)
    await RisingEdge(dut.clk)
    assert not dut.error.value
    return int(dut.cycles.value)


@cocotb.test()
async def inferences(dut: Any) -> None:
    """Every input: the bits of the golden model, and the cycles of the cost model."""
    path = Path(os.environ["CORE_JOB"])
    job = pickle.loads(path.read_bytes())
    memory, ends = bytearray(job["memory"]), []
    for name in ("start", "entry", "prog_we", "prog_addr", "prog_data", "ext_rdata"):
        getattr(dut, name).value = 0
    dut.ext_ready.value = dut.ext_idle.value = dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, 2, "ns").start())
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for at, word in enumerate(job["words"]):
        dut.prog_we.value, dut.prog_addr.value, dut.prog_data.value = 1, at, word
        await RisingEdge(dut.clk)
    dut.prog_we.value = 0
    cocotb.start_soon(serve(dut, memory, job["beat_bytes"]))
    if job["boot_cycles"]:
        assert await run(dut, 0) == job["boot_cycles"]
    for data, expected in zip(job["inputs"], job["outputs"], strict=True):
        memory[job["input_at"] : job["input_at"] + len(data)] = data
        assert await run(dut, job["entry"]) == job["cycles"]
        assert memory[job["output_at"] : job["output_at"] + len(expected)] == expected
        ends.append(time.perf_counter())
    path.with_suffix(".ends").write_bytes(pickle.dumps(ends))
