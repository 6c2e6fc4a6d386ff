"""The columns of a sweep: what a person compares designs by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.cost.batch import REASONS, evaluate_batch
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
    """
    machines = Machines.from_columns(columns)
    n = len(machines)
    results = {name: np.full(n, np.nan) for name in RESULTS}
    reason = np.full(n, LAWLESS, dtype=object)
    lawful = np.flatnonzero(machines.lawful)
    if len(lawful):
        if len(lawful) < n:
            machines = Machines.from_columns(
                {name: np.broadcast_to(values, n)[lawful] for name, values in columns.items()}
            )
        batch = evaluate_batch(workload, machines)
        fits = batch.reason == 0
        seconds = batch.latency_cycle / (machines.frequency_mhz * 1e6)
        values = {
            "latency_cycle": batch.latency_cycle,
            "latency_ms": seconds * 1e3,
            "energy_uj": batch.energy_pj["nominal"] * 1e-6,
            "energy_low_uj": batch.energy_pj["low"] * 1e-6,
            "energy_high_uj": batch.energy_pj["high"] * 1e-6,
            "area_mm2": batch.area_um2["nominal"] * 1e-6,
            "power_mw": batch.energy_pj["nominal"] * 1e-9 / seconds,
            "utilization": batch.utilization,
        }
        for name, value in values.items():
            results[name][lawful] = np.where(fits, value, np.nan)
        reason[lawful] = np.array(REASONS, dtype=object)[batch.reason]
    return {**results, "feasible": reason == "", "reason": reason}
