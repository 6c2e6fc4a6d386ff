"""``evaluate``: one workload on one accelerator, or a clear word on why it cannot run there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import Op, cycles
from codesign_kernel.accelerator.spatial import SpatialArray, ceil_kib
from codesign_kernel.accelerator.types import INSTRUCTION_BITS, Accelerator
from codesign_kernel.cost.batch import REASONS, BatchCost, access_energy, evaluate_batch, part_energies
from codesign_kernel.cost.formulas import parameter_words
from codesign_kernel.cost.result import Access, Cost, LayerCost
from codesign_kernel.cost.spatial_cost import evaluate_one
from codesign_kernel.cost.technology import BANDS
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.mapping.fixed import fixed_mapping
from codesign_kernel.mapping.steps import runs_of
from codesign_kernel.workload import Workload

#: Published machines with a model of their own.
ELSEWHERE = {
    "Nvdla": "; cost.frames_per_second(profile, machine) has its model",
    "Eyeriss": "; cost.row_stationary.layer_estimates(profile, machine) has its model",
}


def evaluate(
    workload: Any,
    design: Any,
    *,
    mapping: str | Mapping[str, str] | None = None,
    fusion: bool = True,
    objective: str = "latency",
) -> Cost:
    """Latency, energy and area of ``workload`` on ``design``, from shapes alone.

    On an :class:`Accelerator` the latency is exact for what :func:`codesign_kernel.lower.lower` accepts: the RTL of the
    same design, running the same network, takes that many cycles; its mapping is fixed. A batch with fully connected
    layers is one run for all of its items, as ``lower(..., batch=)`` makes it; without such layers, the run of one
    item as often. On a :class:`SpatialArray` every layer gets its best mapping (``docs/mapping.md`` has the law). The
    precision is the machine's, whatever the workload was profiled in; but where the machine has a ``min_weight_bits``,
    a layer's weights are stored as narrow as its ``weight_bits`` and the machine allow.

    Args:
        workload: a :class:`Workload`, or anything with one in ``.workload`` (a Profile, an IntegerNetwork).
        design: an :class:`Accelerator`, a :class:`SpatialArray`, or anything with one in ``.accelerator`` (a Design).
        mapping: of a SpatialArray: what every layer's mapping must be, like ``"y=14 k=64 c=32 inner=y"`` or a part of
            it, or such a text by layer; see :meth:`Constraint.parse`.
        fusion: of a SpatialArray: maps may stay on chip between layers.
        objective: of a SpatialArray: ``"latency"`` (then the least DRAM traffic) or ``"energy"`` (then latency).

    Raises:
        InvalidInputError: an argument is of another kind, or nothing in the workload does MACs.
        InfeasibleDesignError: a buffer is too small; the message says which, for which layer, and by how much.
    """
    work = getattr(workload, "workload", workload)
    accelerator = getattr(design, "accelerator", design)
    if not isinstance(work, Workload):
        raise InvalidInputError(
            f"evaluate takes a Workload, a Profile or an IntegerNetwork, but got {type(workload).__name__}"
        )
    if not isinstance(fusion, bool):
        raise InvalidInputError(f"fusion is True or False, but got {fusion!r}")
    if isinstance(accelerator, SpatialArray):
        return evaluate_one(work, accelerator, mapping, fusion, objective)
    if mapping is not None or objective != "latency":
        raise InvalidInputError(
            "the generated accelerator has one mapping, but mapping= or objective= asks for another; describe the "
            "machine as a SpatialArray to choose"
        )
    _check_accelerator(accelerator, workload, design)
    batch = evaluate_batch(work, Machines.of([accelerator]))
    if batch.reason[0]:
        _explain(batch, accelerator)
    layers, accesses = _breakdown(batch, accelerator)
    return Cost(
        workload=work.name,
        accelerator=accelerator,
        macs=batch.macs,
        latency_cycle=int(batch.latency_cycle[0]),
        overhead_cycle=runs_of(batch.steps) * cycles(Op.HALT),
        boot_cycle=int(batch.boot_cycle[0]),
        resident=bool(batch.resident[0]),
        instructions=int(batch.instructions[0]),
        energy_pj=float(batch.energy_pj["nominal"][0]),
        energy_low_pj=float(batch.energy_pj["low"][0]),
        energy_high_pj=float(batch.energy_pj["high"][0]),
        area_um2=float(batch.area_um2["nominal"][0]),
        area_low_um2=float(batch.area_um2["low"][0]),
        area_high_um2=float(batch.area_um2["high"][0]),
        utilization=float(batch.utilization[0]),
        layers=layers,
        accesses=accesses,
        energy_parts={name: float(bands["nominal"][0]) for name, bands in batch.energy_parts.items()},
        area_parts={name: float(bands["nominal"][0]) for name, bands in batch.silicon.area_um2.items()},
        uncosted=batch.uncosted,
    )


def _check_accelerator(accelerator: Any, workload: Any, design: Any) -> None:
    """It is the generated template, in the precision of the network."""
    bits = getattr(workload, "bits", None)  # an IntegerNetwork has a precision of its own
    if isinstance(accelerator, Accelerator) and bits not in (None, accelerator.weight_bits):
        raise InvalidInputError(
            f"network and accelerator have one precision, but got int{bits} and int{accelerator.weight_bits}; quantise "
            f"with bits={accelerator.weight_bits} or choose weight_bits={bits}"
        )
    if not isinstance(accelerator, Accelerator):
        raise InvalidInputError(
            f"evaluate takes an Accelerator, a SpatialArray or a Design, but got {type(design).__name__}"
            + ELSEWHERE.get(type(accelerator).__name__, "")
        )


def _breakdown(batch: BatchCost, machine: Accelerator) -> tuple[tuple[LayerCost, ...], tuple[Access, ...]]:
    """Cycles and energy by step, and traffic by step, level, operand and direction."""
    layers: list[LayerCost] = []
    accesses: list[Access] = []
    parameters, resident = (
        sum(int(parameter_words(t, batch.machines)[0]) for t in batch.tilings),
        bool(batch.resident[0]),
    )
    for step, tiling, counts in zip(batch.steps, batch.tilings, batch.counts, strict=True):
        parts = part_energies(step, counts, batch.silicon)
        name, macs = step.layer.name, step.layer.macs
        latency = int(counts.load_cycle[0] + counts.compute_cycle[0] + counts.store_cycle[0])
        energy = {band: float(sum(bands[band][0] for bands in parts.values())) for band in BANDS}
        layers.append(
            LayerCost(
                name=name,
                op=step.layer.op,
                macs=macs,
                load_cycle=int(counts.load_cycle[0]),
                compute_cycle=int(counts.compute_cycle[0]),
                store_cycle=int(counts.store_cycle[0]),
                energy_pj=energy["nominal"],
                energy_low_pj=energy["low"],
                energy_high_pj=energy["high"],
                dram_bit=sum(int(bits[0]) for key, bits in counts.accesses.items() if key[0] == "dram"),
                utilization=macs / (latency * machine.pes),
                fixed=fixed_mapping(step, tiling, machine, resident, parameters),
            )
        )
        for key, bits in counts.accesses.items():
            accesses.append(Access(name, *key, int(bits[0]), float(access_energy(key, bits, batch.silicon)[0])))
    fetch = ("instruction", "-", "read")
    bits = np.array([runs_of(batch.steps) * INSTRUCTION_BITS])
    accesses.append(Access("end", *fetch, int(bits[0]), float(access_energy(fetch, bits, batch.silicon)[0])))
    return tuple(layers), tuple(accesses)


def _explain(batch: BatchCost, accelerator: Accelerator) -> NoReturn:
    """Raise what the hungriest step needs of the memory that is too small."""
    memory = REASONS[batch.reason[0]].split()[0]
    level = accelerator.memory(memory)
    if memory == "instruction":
        need, where = int(batch.instructions[0]), "the program"
    else:
        needs = [int(getattr(t, f"{memory}_need")[0]) for t in batch.tilings]
        need = max(needs)
        where = f"one tile of layer {batch.steps[needs.index(need)].layer.name!r}"
    bits = need * level.word_bit
    raise InfeasibleDesignError(
        f"the {memory} memory holds {where}, but that takes {ceil_kib(bits)} KiB and {memory}_kib = "
        f"{getattr(accelerator, f'{memory}_kib'):g} is {ceil_kib(bits - level.capacity_bit)} KiB too small; "
        f"make it at least {ceil_kib(bits)}"
    )
