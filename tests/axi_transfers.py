"""Loads and saves of the AXI master alone, asked for as the accelerator asks; tests/test_axi.py starts them."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import cocotb
from axi_model import AxiMemory, watch
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

CASE = pickle.loads(Path(os.environ["AXI_CASE"]).read_bytes())


def expected_bursts(address: int, beats: int, size: int) -> list[tuple[int, int]]:
    """Bursts that end where a multiple of 256 beats, or of 4 KiB, begins."""
    longest = min(256 * size, 4096)
    bursts = []
    while beats:
        count = min(beats, (longest - address % longest) // size)
        bursts.append((address, count))
        address, beats = address + count * size, beats - count
    return bursts


def ask(dut, write: bool, word: int, beats: int) -> None:
    """The first cycle of a load or save is the one that has just begun; the request ends with it."""
    dut.request.value, dut.write.value, dut.word.value, dut.beats.value = 1, write, word, beats


async def load(dut, word: int, beats: int) -> tuple[list[int], int]:
    """(words, cycles from the request on until the last is granted)."""
    ask(dut, False, word, beats)
    words: list[int] = []
    granted, waits, cycles = 0, False, 0
    while len(words) < beats:
        await RisingEdge(dut.aclk)
        dut.request.value = 0
        if waits:
            words.append(int(dut.answer.value))
        waits = granted < beats and bool(dut.ready.value)
        granted += waits
        cycles += granted < beats or waits
    return words, cycles


async def save(dut, word: int, data: list[int]) -> int:
    """Cycles from the request on until a synchronous memory would end, less two, and everything has arrived."""
    ask(dut, True, word, len(data))
    granted, sent, coming, cycles = 0, 0, False, 0
    while True:
        await RisingEdge(dut.aclk)
        dut.request.value = 0
        cycles += 1
        if sent == len(data) and dut.idle.value:
            dut.we.value = 0
            return cycles - 2
        # granted in the last cycle: written in the next
        dut.we.value = coming
        if coming:
            dut.data.value = data[sent]
            sent += 1
        coming = granted < len(data) and bool(dut.ready.value)
        granted += coming


@cocotb.test(timeout_time=200, timeout_unit="us")
async def transfers(dut):
    """Of every length and place, with and without a bus that waits: every word, the fewest bursts; and the cycles."""
    cocotb.start_soon(Clock(dut.aclk, 2, "ns").start())
    seen: dict[str, int] = {}
    cocotb.start_soon(watch(dut, seen, ("m_axi_aw", "m_axi_ar", "m_axi_w")))
    size, base, chance = len(dut.m_axi_wdata) // 8, CASE["base"], random.Random(0)
    memory = AxiMemory(dut, bytearray(chance.randbytes(CASE["words"] * size)), base)
    cocotb.start_soon(memory.run())
    for name in ("request", "write", "word", "beats", "we", "data"):
        getattr(dut, name).value = 0
    dut.base.value = base
    dut.aresetn.value = 0
    await ClockCycles(dut.aclk, 3)
    dut.aresetn.value = 1
    for word, beats, latency, pauses in CASE["transfers"]:
        told = f"{beats} beats at {word}, latency {latency}, pauses {pauses}"
        memory.latency, memory.pauses = latency, pauses
        memory.reads, memory.writes = [], []
        at = slice(word * size, (word + beats) * size)
        bursts = expected_bursts(base + word * size, beats, size)
        words, cycles = await load(dut, word, beats)
        assert b"".join(item.to_bytes(size, "little") for item in words) == memory.data[at], told
        assert memory.reads == bursts, told
        assert (cycles == CASE["read_cycles"] + latency + beats) or pauses, (told, cycles)
        expected = bytearray(memory.data)
        expected[at] = chance.randbytes(beats * size)
        parts = [int.from_bytes(expected[i : i + size], "little") for i in range(at.start, at.stop, size)]
        cycles = await save(dut, word, parts)
        assert memory.data == expected, told
        assert memory.writes == bursts, told
        assert (cycles == CASE["write_cycles"] + latency + beats) or pauses, (told, cycles)
        assert not dut.read_failed.value
        assert not dut.write_failed.value
    assert {"m_axi_aw", "m_axi_ar", "m_axi_w"} <= set(seen), "not every channel had to wait"
