"""Cost: what a workload costs on one accelerator, with the parts that add up to every total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.display import Shown
from codesign_kernel.mapping.choice import LayerMapping
from codesign_kernel.mapping.fixed import FixedMapping
from codesign_kernel.units import quantity


@dataclass(frozen=True)
class LayerCost:
    """One step: a layer with the operators that run together with it.

    Attributes:
        name, op, macs: of the layer.
        load_cycle, compute_cycle, store_cycle: waiting for external memory; array, lanes and vector unit at work;
            writing external memory while nothing else happens. Where memory works behind the array, only what it does
            not hide counts (of tiles in the middle as ``load_cycle``).
        latency_cycle: their sum.
        energy_pj, energy_low_pj, energy_high_pj: nominal and band, without leakage.
        dram_bit: moved to and from external memory.
        utilization: MACs over what all PEs could have done in ``latency_cycle``.
        mapping: how a :class:`SpatialArray` runs it; ``print`` shows the loop nest. None on the generated template, and
            for the vector unit.
        fixed: how a generated :class:`Accelerator` runs it, likewise.
    """

    name: str
    op: str
    macs: int
    load_cycle: int
    compute_cycle: int
    store_cycle: int
    energy_pj: float
    energy_low_pj: float
    energy_high_pj: float
    dram_bit: int
    utilization: float
    mapping: LayerMapping | None = None
    fixed: FixedMapping | None = None

    @property
    def latency_cycle(self) -> int:
        """Cycles of the step."""
        return self.load_cycle + self.compute_cycle + self.store_cycle


@dataclass(frozen=True)
class Access:
    """Traffic of one operand of one layer at one level.

    Attributes:
        layer: its name; ``end`` for the HALT of every inference.
        level: ``dram``; of the generated template ``activation``, ``weight``, ``accumulator`` or ``instruction``; of a
            :class:`SpatialArray` ``input``, ``weight``, ``output`` or ``shared``, and ``register``.
        operand: ``W``, ``I`` or ``O``; ``-`` for instructions.
        direction: ``read`` or ``write``, as the memory sees it.
        bits, energy_pj: moved, and what that costs.
    """

    layer: str
    level: str
    operand: str
    direction: str
    bits: int
    energy_pj: float


@dataclass(frozen=True)
class Cost(Shown):
    """A workload on one accelerator.

    Attributes:
        workload, accelerator: what was costed.
        latency_cycle: of one inference (of the workload's whole batch), from start to the end of HALT. The
            RTL generated from an :class:`Accelerator` takes exactly as long.
        boot_cycle: of loading the weights once, where they stay on chip (``resident``); 0 on a :class:`SpatialArray`.
        instructions: in the instruction memory; 0 on a :class:`SpatialArray`.
        energy_pj, energy_low_pj, energy_high_pj: nominal and band. The band is that of the arithmetic, for which two
            published sets differ; memories rest on one source.
        area_um2, area_low_um2, area_high_um2: likewise.
        utilization: MACs over what all PEs could have done in the time.
        layers, accesses: breakdowns. Layers' cycles and ``overhead_cycle`` (HALT) add up to ``latency_cycle``.
        energy_parts, area_parts: nominal, by part; they add up to the totals.
        uncosted: operators that this datapath has no place for, and how often they occur.
    """

    workload: str
    accelerator: Accelerator | SpatialArray
    macs: int
    latency_cycle: int
    overhead_cycle: int
    boot_cycle: int
    resident: bool
    instructions: int
    energy_pj: float
    energy_low_pj: float
    energy_high_pj: float
    area_um2: float
    area_low_um2: float
    area_high_um2: float
    utilization: float
    layers: tuple[LayerCost, ...]
    accesses: tuple[Access, ...]
    energy_parts: Mapping[str, float]
    area_parts: Mapping[str, float]
    uncosted: Mapping[str, int]

    @property
    def latency_s(self) -> float:
        """Seconds at the accelerator's clock."""
        return self.latency_cycle / (self.accelerator.frequency_mhz * 1e6)

    @property
    def power_w(self) -> float:
        """Mean power while inferring (W)."""
        return self.energy_pj * 1e-12 / self.latency_s

    @property
    def dram_bit(self) -> int:
        """Bits moved to and from external memory."""
        return sum(layer.dram_bit for layer in self.layers)

    def __str__(self) -> str:
        return (
            f"{self.workload} on {self.accelerator}: {quantity(self.latency_s, 's')} "
            f"({quantity(self.latency_cycle, 'cycle')}), "
            f"{quantity(self.energy_pj * 1e-12, 'J')} ({quantity(self.energy_low_pj * 1e-12, 'J')} to "
            f"{quantity(self.energy_high_pj * 1e-12, 'J')}), {quantity(self.area_um2 * 1e-12, 'm²')}, "
            f"{self.utilization:.1%} utilised"
        )
