"""``evaluate_batch``: a workload on N machines at once. One machine is a batch of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import Op, cycles
from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.cost.formulas import StepCounts, step_counts, weight_rows
from codesign_kernel.cost.technology import BANDS, Silicon, silicon_of
from codesign_kernel.mapping.steps import Step, steps_of
from codesign_kernel.mapping.tiling import Tiling, tile
from codesign_kernel.workload import Workload

Array = np.ndarray[Any, Any]
DRAM = "LPDDR4"
#: Why a design cannot run a workload; the first that applies is reported.
REASONS = (
    "",
    "activation memory too small",
    "accumulator memory too small",
    "weight memory too small",
    "instruction memory too small",
)


@dataclass(frozen=True)
class BatchCost:
    """Cost of one workload on N machines. Arrays over machines, or, of a grid of them, arrays that broadcast to its
    shape; they mean something where the machine is lawful and ``reason`` is 0.

    Attributes:
        steps, counts, tilings: what ran, step by step.
        silicon: energy and area figures.
        latency_cycle, boot_cycle: of one inference (of the whole batch); of loading resident weights, once.
        resident: the weights stay on chip between inferences.
        instructions: in the instruction memory.
        energy_pj, area_um2: by band.
        energy_parts: pJ by part and band: compute, the memories, dram, leakage.
        reason: index into ``REASONS``.
    """

    steps: tuple[Step, ...]
    uncosted: dict[str, int]
    machines: Machines
    counts: tuple[StepCounts, ...]
    tilings: tuple[Tiling, ...]
    silicon: Silicon
    latency_cycle: Array
    boot_cycle: Array
    resident: Array
    instructions: Array
    energy_pj: dict[str, Array]
    area_um2: dict[str, Array]
    energy_parts: dict[str, dict[str, Array]]
    reason: Array

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the workload."""
        return sum(step.layer.macs for step in self.steps)

    @property
    def utilization(self) -> Array:
        """MACs done over MACs that all PEs could have done in the time."""
        return self.macs / (self.latency_cycle * (self.machines.rows * self.machines.cols))


def part_energies(step: Step, counts: StepCounts, silicon: Silicon) -> dict[str, dict[str, Array]]:
    """Energy of one step by part and band (pJ), without leakage."""
    return _energies(step.layer.macs, counts, silicon)


def _energies(macs: int, counts: StepCounts, silicon: Silicon) -> dict[str, dict[str, Array]]:
    """Energy of ``macs`` and ``counts`` by part and band (pJ).

    A MAC costs its arithmetic; the registers of the array are clocked in every cycle, whether there is work or not, for
    the RTL has no clock gating; those of the weights cost when they take one; every output pays for its lane; every
    access its bits.
    """
    registers = (counts.load_cycle + counts.compute_cycle + counts.store_cycle) * silicon.clock_pj
    registers = registers + counts.fills * silicon.weights_pj
    compute = {b: macs * silicon.mac_pj[b] + registers + counts.outputs * silicon.lane_pj[b] for b in BANDS}
    levels: dict[str, Array] = {}
    for key, bits in counts.accesses.items():
        pj = access_energy(key, bits, silicon)
        levels[key[0]] = levels[key[0]] + pj if key[0] in levels else pj
    return {"compute": compute, **{level: dict.fromkeys(BANDS, pj) for level, pj in levels.items()}}


def access_energy(key: tuple[str, str, str], bits: Array, silicon: Silicon) -> Array:
    """Energy (pJ) of ``bits`` at (level, operand, direction)."""
    level, _, direction = key
    if level == "dram":
        return bits * technology.dram_pj_per_bit(DRAM)
    return bits * (silicon.read_pj_per_bit if direction == "read" else silicon.write_pj_per_bit)[level]


def _reason(m: Machines, tilings: list[Tiling], resident: Array, instructions: Array) -> Array:
    def lacks(memory: str) -> Any:
        needs = [getattr(t, f"{memory}_need") for t in tilings]
        return reduce(np.maximum, needs) > m.depth[memory]

    # every tile's weights are on chip while it runs, resident or not
    reason = np.where(instructions > m.depth["instruction"], 4, 0)
    reason = np.where(~resident & lacks("weight"), 3, reason)
    reason = np.where(lacks("accumulator"), 2, reason)
    return np.where(lacks("activation"), 1, reason)


def _each(steps: tuple[Step, ...], tilings: list[Tiling], m: Machines, resident: Array) -> Iterator[StepCounts]:
    """The counts of every step. A map stays on chip between two steps that both hold their maps whole."""
    for i, (step, t) in enumerate(zip(steps, tilings, strict=True)):
        load = ~(t.whole & tilings[i - 1].whole) if step.from_previous else True
        save = ~(t.whole & tilings[i + 1].whole) if step.to_next else True
        yield step_counts(step, t, m, resident, load, save)


def evaluate_batch(workload: Workload, machines: Machines, *, by_step: bool = True) -> BatchCost:
    """Cost of ``workload`` on each of ``machines``; ``reason`` says which lawful ones cannot run it, and why.

    Weights stay on chip where all of them fit; otherwise each output tile's are loaded when it runs. Without
    ``by_step`` the counts of single steps are not kept: ``counts`` is empty, and a large batch takes less memory.
    """
    m = machines
    steps, uncosted = steps_of(workload)
    tilings = [tile(step, m) for step in steps]
    total_rows = reduce(np.add, (weight_rows(step, t, m) for step, t in zip(steps, tilings, strict=True)))
    resident = (total_rows <= m.depth["weight"]) & (not any(step.streamed for step in steps))
    halts, halt = max(step.layer.B for step in steps), cycles(Op.HALT)
    each = _each(steps, tilings, m, resident)
    counts = tuple(each) if by_step else ()
    total = reduce(StepCounts.plus, counts or each)
    program = 1 + 2 * resident + total.program
    latency = halts * halt + (total.compute_cycle + total.store_cycle) + total.load_cycle
    empty = cycles(Op.LOADP, count=0, latency=m.memory_latency)
    boot = np.where(resident, empty + total_rows * m.weight_beats + halt, 0)
    silicon = silicon_of(m)
    fetch = ("instruction", "-", "read")
    total = replace(total, accesses={**total.accesses, fetch: total.accesses[fetch] + halts * INSTRUCTION_BITS})
    parts = _energies(sum(step.layer.macs for step in steps), total, silicon)
    # mW = 1e9 pJ/s
    parts["leakage"] = dict.fromkeys(BANDS, silicon.leak_mw * 1e9 * (latency / (m.frequency_mhz * 1e6)))
    energy = {b: reduce(np.add, (bands[b] for bands in parts.values())) for b in BANDS}
    area = {b: reduce(np.add, (bands[b] for bands in silicon.area_um2.values())) for b in BANDS}
    reason = _reason(m, tilings, resident, program)
    return BatchCost(
        steps, uncosted, m, counts, tuple(tilings), silicon, latency, boot, resident, program,
        energy, area, parts, reason,
    )  # fmt: skip
