"""The columns of a sweep: what a person compares designs by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Grid, Machines
from codesign_kernel.accelerator.spatial import SpatialArrays
from codesign_kernel.cost.batch import REASONS, evaluate_batch
from codesign_kernel.cost.spatial import REASONS as SPATIAL_REASONS
from codesign_kernel.cost.spatial import evaluate_spatial
from codesign_kernel.cost.technology import BANDS
from codesign_kernel.workload import Workload

Array = np.ndarray[Any, Any]
LAWLESS = "breaks a law of the template"
RESULTS = (
    "latency_cycle", "latency_ms", "energy_uj", "energy_low_uj", "energy_high_uj", "area_mm2", "power_mw",
    "utilization",
)  # fmt: skip


def result_columns(workload: Workload, columns: Mapping[str, Array]) -> dict[str, Array]:
    """Results by name for the designs whose parameters are ``columns`` (arrays by field of :class:`Accelerator`).

    ``latency_cycle`` (cycle), ``latency_ms`` (ms), ``energy_uj`` with ``energy_low_uj`` and ``energy_high_uj`` (µJ),
    ``area_mm2`` (mm²), ``power_mw`` (mW), ``utilization`` (0 to 1): NaN where a design cannot run the workload;
    ``feasible`` (bool) and ``reason`` (text, empty where feasible).

    The designs of a :class:`Grid` are evaluated over its axes, which is many times faster and gives the same numbers.
    """
    machines = Machines.from_columns(columns.axes if isinstance(columns, Grid) else columns)
    batch = evaluate_batch(workload, machines, by_step=False)
    reason = np.broadcast_to(np.where(machines.lawful, batch.reason, -1), machines.shape)
    feasible = reason == 0
    seconds = batch.latency_cycle / (machines.frequency_mhz * 1e6)
    results = {
        "latency_cycle": batch.latency_cycle,
        "latency_ms": seconds * 1e3,
        "energy_uj": batch.energy_pj["nominal"] * 1e-6,
        "energy_low_uj": batch.energy_pj["low"] * 1e-6,
        "energy_high_uj": batch.energy_pj["high"] * 1e-6,
        "area_mm2": batch.area_um2["nominal"] * 1e-6,
        "power_mw": batch.energy_pj["nominal"] * 1e-9 / seconds,
        "utilization": batch.utilization,
    }
    texts = np.array([*REASONS, LAWLESS], dtype=object)
    return {
        **{name: np.where(feasible, results[name], np.nan).reshape(-1) for name in RESULTS},
        "feasible": feasible.reshape(-1),
        "reason": texts[reason.reshape(-1)],
    }


def spatial_columns(
    workload: Workload,
    columns: Mapping[str, Any],
    *,
    fusion: bool = True,
    objective: str = "latency",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Array]:
    """:func:`result_columns` for designs that are fields of :class:`SpatialArray`, each layer with its best mapping."""
    machines = SpatialArrays.from_columns(columns)
    lawful = np.flatnonzero(machines.lawful)
    table: dict[str, Array] = {name: np.full(len(machines), np.nan) for name in RESULTS}
    reason = np.full(len(machines), -1)
    if len(lawful):
        some = machines if len(lawful) == len(machines) else machines.of_some(lawful)
        cost = evaluate_spatial(workload, some, fusion=fusion, objective=objective, progress=progress)
        seconds = cost.latency_cycle / (some.frequency_mhz * 1e6)
        energy = {b: reduce(np.add, (bands[b] for bands in cost.energy_parts.values())) for b in BANDS}
        area = reduce(np.add, (bands["nominal"] for bands in cost.silicon.area_um2.values()))
        found = {
            "latency_cycle": cost.latency_cycle,
            "latency_ms": seconds * 1e3,
            "energy_uj": energy["nominal"] * 1e-6,
            "energy_low_uj": energy["low"] * 1e-6,
            "energy_high_uj": energy["high"] * 1e-6,
            "area_mm2": area * 1e-6,
            "power_mw": energy["nominal"] * 1e-9 / np.where(seconds > 0, seconds, 1.0),
            "utilization": cost.plan.macs / np.maximum(cost.latency_cycle * some.rows * some.cols, 1),
        }
        reason[lawful] = cost.reason
        for name in RESULTS:
            table[name][lawful] = np.where(cost.reason == 0, found[name], np.nan)
    texts = np.array([*SPATIAL_REASONS, LAWLESS], dtype=object)
    return {**table, "feasible": reason == 0, "reason": texts[reason]}
