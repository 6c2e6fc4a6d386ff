"""``codesign evaluate``: one network on one published machine or template, layer by layer, with the mapping of each."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import quantity

if TYPE_CHECKING:
    from codesign_kernel.cost import Cost
    from codesign_kernel.profiler import Profile


def evaluate_answer(profile: Profile, args: argparse.Namespace) -> Answer:
    """The answer of ``codesign evaluate`` for ``profile``.

    Raises:
        InvalidInputError: there is no such machine, or it has a model of its own that gives no such table.
    """
    from codesign_kernel.accelerator import Accelerator, SpatialArray, catalog
    from codesign_kernel.session.scoped import evaluate

    machine = catalog(args.machine)
    if isinstance(machine, Accelerator):
        cost = evaluate(profile, machine, mapping=args.mapping, objective=args.objective)
    elif isinstance(machine, SpatialArray):
        cost = evaluate(profile, machine, mapping=args.mapping, fusion=not args.no_fusion, objective=args.objective)
    else:
        raise InvalidInputError(
            f"evaluate takes systolic and spatial arrays, but {args.machine} has a model of its own; in Python, "
            "cost.frames_per_second (NVDLA) and cost.row_stationary.layer_estimates (Eyeriss) have it"
        )
    return Answer(_text(cost, args.mappings), _body(cost))


def _text(cost: Cost, mappings: bool) -> str:
    header = ("layer", "op", "MAC", "cycles", "loading", "computing", "storing", "DRAM", "energy", "utilised")
    rows = [
        (
            layer.name, layer.op, f"{layer.macs:,}", f"{layer.latency_cycle:,}", f"{layer.load_cycle:,}",
            f"{layer.compute_cycle:,}", f"{layer.store_cycle:,}", quantity(layer.dram_bit / 8, "B"),
            quantity(layer.energy_pj * 1e-12, "J"), f"{layer.utilization:.1%}",
        )
        for layer in cost.layers
    ]  # fmt: skip
    totals: list[tuple[object, object]] = [
        ("machine", cost.accelerator),
        ("latency", f"{quantity(cost.latency_s, 's')} ({quantity(cost.latency_cycle, 'cycle')})"),
        (
            "energy",
            f"{quantity(cost.energy_pj * 1e-12, 'J')} ({quantity(cost.energy_low_pj * 1e-12, 'J')} to "
            f"{quantity(cost.energy_high_pj * 1e-12, 'J')})",
        ),
        ("area", quantity(cost.area_um2 * 1e-12, "m²")),
        ("utilisation", f"{cost.utilization:.1%}"),
        *((f"not costed: {op}", f"{count:,} times") for op, count in sorted(cost.uncosted.items())),
    ]
    nests = [f"{layer.name}\n{layer.mapping}" for layer in cost.layers if mappings and layer.mapping is not None]
    return "\n\n".join([table_text(header, rows, left=2), *nests, rows_text(totals)])


def _body(cost: Cost) -> dict[str, object]:
    return {
        "network": cost.workload,
        "machine": asdict(cost.accelerator),
        "macs": cost.macs,
        "latency_cycle": cost.latency_cycle,
        "latency_s": cost.latency_s,
        "energy_pj": cost.energy_pj,
        "energy_low_pj": cost.energy_low_pj,
        "energy_high_pj": cost.energy_high_pj,
        "area_um2": cost.area_um2,
        "utilization": cost.utilization,
        "energy_parts": cost.energy_parts,
        "area_parts": cost.area_parts,
        "uncosted": cost.uncosted,
        "layers": [
            {
                **asdict(layer),
                "latency_cycle": layer.latency_cycle,
                "mapping": None if layer.mapping is None else str(layer.mapping),
            }
            for layer in cost.layers
        ],
    }
