"""Runs of the accelerator over its AXI ports, driven by cocotb; tests/test_axi.py starts them.

The file that AXI_CASE names has what a run needs, as Python's pickle of a dictionary.
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
from pathlib import Path

import cocotb
from axi_model import DECERR, OKAY, SLVERR, AxiMemory, watch
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from codesign_kernel.rtl.axi_lite import REGISTERS, VERSION

CASE = pickle.loads(Path(os.environ["AXI_CASE"]).read_bytes())
START, ENABLE, CLEAR = 1, 2, 4
BUSY, DONE, ILLEGAL, READ_ERROR, WRITE_ERROR = 1, 2, 4, 8, 16


class Host:
    """A processor at the AXI4-Lite port."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.port = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False)
        self.seen: dict[str, int] = {}
        cocotb.start_soon(Clock(dut.aclk, 2, "ns").start())
        cocotb.start_soon(watch(dut, self.seen))

    async def reset(self, cycles: int = 3) -> None:
        """Hold the reset for ``cycles``."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, cycles)
        self.dut.aresetn.value = 1
        await RisingEdge(self.dut.aclk)

    async def write(self, name: str, value: int) -> int:
        """The response to writing a register."""
        return int((await self.port.write(REGISTERS[name], value.to_bytes(4, "little"))).resp)

    async def read(self, name: str) -> int:
        """What a register holds."""
        answer = await self.port.read(REGISTERS[name], 4)
        assert answer.resp == OKAY
        return int.from_bytes(answer.data, "little")

    async def program(self, words: list[int], at: int = 0) -> None:
        """Write the instruction memory."""
        assert await self.write("PROG_ADDR", at) == OKAY
        for word in words:
            for i in range(7):
                assert await self.write("PROG_DATA", word >> (32 * i) & 0xFFFFFFFF) == OKAY
        assert await self.read("PROG_ADDR") == at + len(words)

    async def place(self, base: int) -> None:
        """Tell where the external memory lies."""
        assert await self.write("BASE_LOW", base & 0xFFFFFFFF) == OKAY
        assert await self.write("BASE_HIGH", base >> 32) == OKAY

    async def run(self, entry: int, limit: int = 100_000) -> tuple[int, int]:
        """(STATUS, CYCLES) after a run from ``entry``, told by the interrupt, which is cleared."""
        assert await self.write("ENTRY", entry) == OKAY
        assert await self.write("CONTROL", START | ENABLE) == OKAY
        assert await self.read("STATUS") & DONE == 0
        for _ in range(limit):
            await RisingEdge(self.dut.aclk)
            if self.dut.irq.value:
                break
        else:
            raise AssertionError(f"still busy after {limit} cycles")
        status, cycles = await self.read("STATUS"), await self.read("CYCLES")
        assert await self.write("CONTROL", ENABLE | CLEAR) == OKAY
        await ReadOnly()
        assert not self.dut.irq.value
        await RisingEdge(self.dut.aclk)
        return status, cycles


def chance(share: float):
    """Whether to wait, cycle by cycle."""
    draw = random.Random(1)
    return (draw.random() < share for _ in itertools.count())


async def prepare(host: Host, case: dict) -> None:
    """Write the program; and zeros to the activations, of which nobody knows in simulation what they are at first."""
    await host.reset()
    await host.place(case["base"])
    await host.program(case["words"])
    assert (await host.run(case["wipe"]))[0] == DONE


async def infer(host: Host, data, case: dict, cycles: bool) -> None:
    """Boot, and every input: the bits of the golden model, and its cycles."""
    runs = [(0, None, case["boot_cycles"])] if case["boot_cycles"] else []
    runs += [(case["entry"], i, case["cycles"]) for i in range(len(case["inputs"]))]
    for entry, i, expected in runs:
        if i is not None:
            data.write(case["base"] + case["input_at"], case["inputs"][i])
        status, took = await host.run(entry)
        assert status == DONE, status
        if cycles:
            assert took == expected, (took, expected)
        else:
            assert took > expected
        if i is not None:
            wanted = case["outputs"][i]
            assert bytes(data.read(case["base"] + case["output_at"], len(wanted))) == wanted


class Bytes:
    """``AxiMemory.data`` by address, as cocotbext's memory is."""

    def __init__(self, memory: AxiMemory) -> None:
        self.memory = memory

    def read(self, address: int, size: int) -> bytes:
        at = address - self.memory.base
        return bytes(self.memory.data[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        at = address - self.memory.base
        self.memory.data[at : at + len(data)] = data


class Folded:
    """A memory of cocotbext's at addresses beyond its size."""

    def __init__(self, ram: AxiRam) -> None:
        self.ram = ram

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.ram.read(address % self.ram.size, size))

    def write(self, address: int, data: bytes) -> None:
        self.ram.write(address % self.ram.size, data)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def network_at_its_pace(dut):
    """A memory that never waits: bits, and cycles to the one."""
    host = Host(dut)
    memory = AxiMemory(dut, bytearray(CASE["memory"]), CASE["base"])
    cocotb.start_soon(memory.run())
    await prepare(host, CASE)
    for latency, (boot_cycles, cycles) in CASE["laws"].items():
        memory.latency = latency
        await infer(host, Bytes(memory), {**CASE, "boot_cycles": boot_cycles, "cycles": cycles}, True)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def network_under_pressure(dut):
    """Another's memory, whose channels wait now and then: the same bits, later."""
    host = Host(dut)
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, dut.aresetn, reset_active_level=False, size=1 << 20)
    data = Folded(ram)
    data.write(CASE["base"], CASE["memory"])
    for i, channel in enumerate(
        (
            *(ram.write_if.aw_channel, ram.write_if.w_channel, ram.write_if.b_channel),
            *(ram.read_if.ar_channel, ram.read_if.r_channel),
            *(host.port.write_if.aw_channel, host.port.write_if.w_channel, host.port.write_if.b_channel),
            *(host.port.read_if.ar_channel, host.port.read_if.r_channel),
        )
    ):
        channel.set_pause_generator(chance(0.1 + 0.05 * i))
    await prepare(host, CASE)
    await infer(host, data, CASE, False)
    assert {"s_axi_b", "s_axi_r"} <= set(host.seen)


@cocotb.test(timeout_time=200, timeout_unit="us")
async def network_under_heavy_pressure(dut):
    """Four cycles of five lost on every channel: the FIFO fills, and addresses come after their data."""
    host = Host(dut)
    memory = AxiMemory(dut, bytearray(CASE["memory"]), CASE["base"], 2, 0.8)
    cocotb.start_soon(memory.run())
    await prepare(host, CASE)
    await infer(host, Bytes(memory), {**CASE, "inputs": CASE["inputs"][:1]}, False)
    assert host.seen["m_axi_w"] > 0


@cocotb.test(timeout_time=200, timeout_unit="us")
async def copies(dut):
    """Loads and saves around the limits of bursts: every byte, and cycles to the one."""
    host = Host(dut)
    memory = AxiMemory(dut, bytearray(CASE["memory"]), CASE["base"])
    cocotb.start_soon(memory.run())
    await host.reset()
    await host.place(CASE["base"])
    await host.program(CASE["words"])
    size, held = memory.bytes, bytes(memory.data)
    for copy in CASE["copies"]:
        memory.latency = copy["latency"]
        status, took = await host.run(copy["entry"])
        assert (status, took) == (DONE, copy["cycles"]), copy
        source, target, length = copy["source"] * size, copy["target"] * size, copy["beats"] * size
        held = held[:target] + held[source : source + length] + held[target + length :]
        assert bytes(memory.data) == held, copy


@cocotb.test(timeout_time=200, timeout_unit="us")
async def errors_are_reported(dut):
    """What the memory refuses is told, each kind in its bit, until the next start."""
    host = Host(dut)
    memory = AxiMemory(dut, bytearray(CASE["memory"]), CASE["base"])
    cocotb.start_soon(memory.run())
    await host.reset()
    await host.place(CASE["base"])
    await host.program(CASE["words"])
    copy = CASE["copies"][0]
    source, target = (CASE["base"] + copy[name] * memory.bytes for name in ("source", "target"))
    end = memory.bytes * (copy["beats"] - 1)
    for response in (1, SLVERR, DECERR):
        for place, told in ((source, READ_ERROR), (source + end, READ_ERROR), (target, WRITE_ERROR)):
            memory.answer = lambda address, place=place, response=response: response if address == place else OKAY
            assert await host.run(copy["entry"]) == (DONE | told, copy["cycles"])
        memory.answer = lambda address: OKAY
        assert await host.run(copy["entry"]) == (DONE, copy["cycles"])
    memory.early_end = True
    assert (await host.run(copy["entry"]))[0] == DONE | READ_ERROR
    memory.early_end = False
    assert (await host.run(CASE["illegal"]))[0] == DONE | ILLEGAL
    assert await host.run(copy["entry"]) == (DONE, copy["cycles"])


@cocotb.test(timeout_time=200, timeout_unit="us")
async def reset_ends_a_run(dut):
    """In the middle of a load, of a save, of anything: nothing is asked from then on, and the next run is whole."""
    host = Host(dut)
    memory = AxiMemory(dut, bytearray(CASE["memory"]), CASE["base"], 3)
    cocotb.start_soon(memory.run())
    copy = CASE["copies"][-1]
    await host.reset()
    await host.program(CASE["words"])
    for wait in (8, 20, copy["beats"], copy["beats"] + 25, 2 * copy["beats"]):
        await host.place(CASE["base"])
        await host.write("ENTRY", copy["entry"])
        await host.write("CONTROL", START | ENABLE)
        await ClockCycles(dut.aclk, wait)
        dut.aresetn.value = 0
        await ClockCycles(dut.aclk, 2)
        for name in ("m_axi_arvalid", "m_axi_awvalid", "m_axi_wvalid", "s_axi_bvalid", "s_axi_rvalid", "irq"):
            assert dut[name].value == 0, name
        dut.aresetn.value = 1
        await RisingEdge(dut.aclk)
        asked = len(memory.reads), len(memory.writes)
        assert await host.read("STATUS") == 0
        assert [await host.read(name) for name in ("ENTRY", "BASE_LOW", "BASE_HIGH", "CONTROL")] == [0, 0, 0, 0]
        await ClockCycles(dut.aclk, 50)
        assert (len(memory.reads), len(memory.writes)) == asked
    await host.place(CASE["base"])
    assert (await host.run(copy["entry"]))[0] == DONE
    source, target, length = (memory.bytes * copy[name] for name in ("source", "target", "beats"))
    assert memory.data[target : target + length] == memory.data[source : source + length]


@cocotb.test(timeout_time=200, timeout_unit="us")
async def registers_keep_their_laws(dut):
    """What each holds, what cannot be read or written, and what not while the accelerator runs."""
    host = Host(dut)
    memory = AxiMemory(dut, bytearray(CASE["memory"]), CASE["base"], 40)
    cocotb.start_soon(memory.run())
    await host.reset()
    assert await host.read("VERSION") == VERSION
    assert await host.read("SHAPE") == CASE["shape"]
    assert await host.read("FORMAT") == CASE["format"]
    written = {"ENTRY": 0x2A5A5, "BASE_LOW": 0x89ABCD00, "BASE_HIGH": 0x01234567, "PROG_ADDR": 0x15A5A}
    for name, value in written.items():
        assert await host.write(name, value) == OKAY
    assert {name: await host.read(name) for name in written} == written
    assert await host.write("BASE_LOW", 0x89ABCD01) == SLVERR
    for name in ("STATUS", "CYCLES", "VERSION", "SHAPE", "FORMAT"):
        before = await host.read(name)
        assert await host.write(name, ~before & 0xFFFFFFFF) == SLVERR
        assert await host.read(name) == before
    for address in (REGISTERS["PROG_DATA"], 0x2C, 0x40, 0xFC):
        assert (await host.port.read(address, 4)).resp == SLVERR
    assert (await host.port.write(0x2C, bytes(4))).resp == SLVERR
    assert (await host.port.write(REGISTERS["ENTRY"], b"\x01")).resp == SLVERR  # a byte of it
    assert {name: await host.read(name) for name in written} == written
    # while it runs
    await host.place(CASE["base"])
    await host.program(CASE["words"])
    copy = CASE["copies"][0]
    assert await host.write("ENTRY", copy["entry"]) == OKAY
    assert await host.write("CONTROL", START) == OKAY
    assert await host.read("STATUS") == BUSY
    for name in ("ENTRY", "BASE_LOW", "BASE_HIGH", "PROG_ADDR", "PROG_DATA"):
        assert await host.write(name, 0) == SLVERR
    assert await host.write("CONTROL", START | ENABLE) == SLVERR
    assert await host.read("CONTROL") == 0
    while await host.read("STATUS") & BUSY:
        pass
    assert await host.read("STATUS") == DONE
    assert not dut.irq.value
    assert await host.write("CONTROL", ENABLE) == OKAY
    assert await host.read("CONTROL") == ENABLE
    await RisingEdge(dut.aclk)
    assert dut.irq.value
    assert await host.write("CONTROL", CLEAR) == OKAY
    assert await host.read("STATUS") == 0
    assert not dut.irq.value
    assert await host.read("CYCLES") == CASE["registers_cycles"]
