"""The columns of a sweep: what a person compares designs by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Grid, Machines
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
