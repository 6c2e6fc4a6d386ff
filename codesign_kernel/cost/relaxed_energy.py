"""The energy of mappings that are fixed, as a function of the layers' widths: :mod:`.relaxed` for energy.

What an access costs comes from the technology tables and is a constant here; how many there are is a formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codesign_kernel.accelerator.spatial import SpatialArrays
from codesign_kernel.cost.relaxed import Ready, Step, Widths, loops_of, prepare, relaxed_layers
from codesign_kernel.cost.result import Cost
from codesign_kernel.cost.spatial_silicon import SpatialSilicon, dynamic_energy, spatial_silicon
from codesign_kernel.cost.tiles import Access, Channels, Engine, Rows, Shape, accesses, bursts, compute_cycle
from codesign_kernel.numerics import nothing, where

#: Fields of a :class:`SpatialArray` that can be set: those that no energy of an access depends on.
FIELDS = ("bandwidth_gb_s", "burst_bytes", "frequency_mhz")


def relaxed_energy(workload: Any, cost: Cost, *, channels: Mapping[str, Widths] | None = None, **fields: Any) -> Any:
    """pJ of one inference under the mappings of ``cost``: nominal, with leakage.

    Arguments and errors are those of :func:`relaxed_layers`, but that only ``FIELDS`` can be set: the others change
    what an access costs. Where nothing is set, this is ``cost.energy_pj``.
    """
    ready = prepare(workload, cost, channels or {}, fields, FIELDS)
    rows: list[Any] = [0.0] * (len(Access._fields) + 2)
    macs, lane_values = 0.0, 0.0
    for step in ready.steps:
        moved, busy = _moved(step, ready)
        for number, bits in enumerate((*moved, busy)):
            rows[number] = rows[number] + bits
        macs = macs + _macs(step)
        lane_values = lane_values + step.vector_ops + (step.outputs if step.unit.array else 0.0)
    rows[-1] = sum(relaxed_layers(workload, cost, channels=channels, **fields).values())
    silicon = _numbers(ready)
    parts: Any = dynamic_energy(rows, macs, lane_values, silicon, leakage=True)  # type: ignore[arg-type]
    return sum(bands["nominal"] for bands in parts.values())


def _numbers(ready: Ready) -> SpatialSilicon:
    """The figures of the machine, numbers in place of arrays of one."""
    arrays = spatial_silicon(SpatialArrays.of([ready.machine]))

    def number(value: Any) -> Any:
        return {key: number(v) for key, v in value.items()} if isinstance(value, dict) else value[0].item()

    found = {name: number(value) for name, value in vars(arrays).items()}
    return SpatialSilicon(**{**found, "frequency_mhz": ready.values["frequency_mhz"]})


def _macs(step: Step) -> Any:
    """Multiply-accumulates of a unit."""
    return 0.0 if step.mapping is None else step.scaled(float(step.mapping.nest.macs), "K", "C", "G")


def _moved(step: Step, ready: Ready) -> tuple[Access, Any]:
    """(bits moved, cycles of the array) of a unit."""
    e = ready.engine
    if step.mapping is not None:
        y, k, c, stay, shape = loops_of(step)
        kept = int(step.mapping.keeps_input), int(step.mapping.keeps_output)
        moved = accesses(y, k, c, stay, shape, e, *kept, step.number(float(ready.machine.register_words)))
        return moved, _busy(y, k, c, shape, e)
    inputs, outputs = step.inputs * e.input_bits, step.outputs * e.output_bits
    loads, stores = "I" in step.moved, "O" in step.moved
    found: dict[str, Any] = dict.fromkeys(Access._fields, 0.0)
    found.update(
        dram_i_read=bursts(inputs, e) if loads else 0.0,
        dram_o_write=bursts(outputs, e) if stores else 0.0,
        input_i_read=0.0 if loads else inputs,
        input_o_write=0.0 if stores else outputs,
    )
    return Access(**found), 0.0


def _busy(y: Rows, k: Channels, c: Channels, shape: Shape, e: Engine) -> Any:
    """Cycles of the array alone."""
    total = 0.0
    for at_y in range(len(y.count)):
        for at_k in range(3):
            for at_c in range(3):
                count = y.count[at_y] * k.count[at_k] * c.count[at_c]
                if nothing(count):
                    continue
                n = where(shape.grouped, shape.channels, k.extent[at_k])
                groups = where(shape.grouped, k.extent[at_k], 1)
                m = y.extent[at_y] * shape.width
                total = total + count * compute_cycle(m, n, c.extent[at_c], groups, shape, e)
    return total * where(shape.grouped, 1, shape.groups)
