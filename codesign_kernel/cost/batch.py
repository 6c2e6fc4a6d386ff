"""``evaluate_batch``: a workload on N machines at once. One machine is a batch of one."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Cost of one workload on N machines. Arrays over machines; they mean something where ``reason`` is 0.

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


def part_energies(step: Step, counts: StepCounts, machines: Machines, silicon: Silicon) -> dict[str, dict[str, Array]]:
    """Energy of one step by part and band (pJ), without leakage.

    A MAC costs its arithmetic; every PE clocks its registers whenever a position enters the array, whether it has work
    or not; every output pays for its lane; every access its bits.
    """
    pes = machines.rows * machines.cols
    registers = counts.array_cycle * pes * silicon.register_pj
    parts: dict[str, dict[str, Array]] = {
        "compute": {
            b: step.layer.macs * silicon.mac_pj[b] + registers + counts.outputs * silicon.lane_pj[b] for b in BANDS
        }
    }
    for key, bits in counts.accesses.items():
        pj = access_energy(key, bits, silicon)
        level = key[0]
        if level in parts:
            pj = parts[level]["nominal"] + pj
        parts[level] = dict.fromkeys(BANDS, pj)
    return parts


def access_energy(key: tuple[str, str, str], bits: Array, silicon: Silicon) -> Array:
    """Energy (pJ) of ``bits`` at (level, operand, direction)."""
    level, _, direction = key
    if level == "dram":
        return bits * technology.dram_pj_per_bit(DRAM)
    return bits * (silicon.read_pj_per_bit if direction == "read" else silicon.write_pj_per_bit)[level]


def _reason(m: Machines, tilings: list[Tiling], resident: Array, instructions: Array) -> Array:
    reason = np.where(instructions > m.depth["instruction"], 4, 0)
    for t in tilings:
        # every tile's weights are on chip while it runs, resident or not
        reason = np.where(~resident & (t.weight_need > m.depth["weight"]), 3, reason)
    for t in tilings:
        reason = np.where(t.accumulator_need > m.depth["accumulator"], 2, reason)
    for t in tilings:
        reason = np.where(t.activation_need > m.depth["activation"], 1, reason)
    return reason


def evaluate_batch(workload: Workload, machines: Machines) -> BatchCost:
    """Cost of ``workload`` on each of ``machines``, all of them lawful; ``reason`` says which cannot run it, and why.

    Weights stay on chip where all of them fit; otherwise each output tile's are loaded when it runs. A map stays on
    chip between two steps that both hold their maps whole.
    """
    m = machines
    steps, uncosted = steps_of(workload)
    tilings = [tile(step, m) for step in steps]
    rows = [weight_rows(step, t, m) for step, t in zip(steps, tilings, strict=True)]
    total_rows = sum(rows[1:], rows[0])
    resident = (total_rows <= m.depth["weight"]) & (not any(step.streamed for step in steps))
    counts = []
    halts = max(step.layer.B for step in steps)
    halt = cycles(Op.HALT)
    latency: Any = halts * halt
    instructions: Any = 1
    for i, (step, t) in enumerate(zip(steps, tilings, strict=True)):
        load = ~(t.whole & tilings[i - 1].whole) if step.from_previous else np.ones(len(m), bool)
        save = ~(t.whole & tilings[i + 1].whole) if step.to_next else np.ones(len(m), bool)
        c = step_counts(step, t, m, resident, load, save)
        counts.append(c)
        latency = latency + (c.load_cycle + c.compute_cycle + c.store_cycle)
        instructions = instructions + c.instructions // step.layer.B
    instructions = instructions + 2 * resident
    boot = np.where(resident, cycles(Op.LOADP, count=0) + total_rows * m.weight_beats + halt, 0)
    silicon = silicon_of(m)
    seconds = latency / (m.frequency_mhz * 1e6)
    parts: dict[str, dict[str, Array]] = {}
    for step, c in zip(steps, counts, strict=True):
        for name, bands in part_energies(step, c, m, silicon).items():
            parts[name] = {b: parts[name][b] + pj for b, pj in bands.items()} if name in parts else bands
    fetch = access_energy(("instruction", "-", "read"), np.array([halts * INSTRUCTION_BITS]), silicon)
    parts["instruction"] = {b: pj + fetch for b, pj in parts["instruction"].items()}
    # mW = 1e9 pJ/s
    parts["leakage"] = dict.fromkeys(BANDS, silicon.leak_mw * 1e9 * seconds)
    energy = {b: _sum([bands[b] for bands in parts.values()]) for b in BANDS}
    area = {b: _sum([bands[b] for bands in silicon.area_um2.values()]) for b in BANDS}
    reason = _reason(m, tilings, resident, instructions)
    return BatchCost(
        steps, uncosted, m, tuple(counts), tuple(tilings), silicon, latency, boot, resident, instructions,
        energy, area, parts, reason,
    )  # fmt: skip


def _sum(terms: list[Array]) -> Array:
    """The sum in order: the same rounding for one machine as for a million."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
