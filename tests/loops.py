"""Results of a loop for the tests of figures and report: small, mostly made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from codesign_kernel import figures
from codesign_kernel.accelerator.causes import breakdown
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.design import Design
from codesign_kernel.workload import Layer, Workload

OBJECTIVES = ["latency_ms", "energy_uj", "area_mm2"]


def sweep() -> pd.DataFrame:
    """Six designs: three on the front of latency and energy, two beaten, one that cannot run the network."""
    rows = [
        (2, 2, 8.0, 1.0, 0.1, True),
        (4, 4, 4.0, 1.5, 0.2, True),
        (8, 8, 1.0, 4.0, 0.6, True),
        (8, 4, 5.0, 2.0, 0.3, True),
        (4, 8, 9.0, 5.0, 0.3, True),
        (16, 16, np.nan, np.nan, np.nan, False),
    ]
    return pd.DataFrame(rows, columns=["rows", "cols", *OBJECTIVES, "feasible"]).assign(frequency_mhz=200.0)


#: Two layers of 1,232 cycles on 4 PEs, and the end.
CAUSED = breakdown(
    4,
    [
        ("conv", {"issue": 8, "streamed": 3200, "weights": 12, "fill": 20, "drain": 40, "memory": 120}),
        ("fc", {"issue": 8, "streamed": 1000, "weights": 200, "fill": 20, "drain": 40, "requantise": 260}),
        ("end", {"issue": 8}),
    ],
    {"conv": (3000, 400), "fc": (700, 0)},
)


def checked(**changes: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "vectors": 10,
        "mismatches": 0,
        "first_mismatch": None,
        "cycles_rtl": 1234,
        "cycles_model": 1234,
        "cycles_program": 1234,
        "cycle_mismatches": 0,
        "instruction_mismatches": 0,
        "first_instruction": None,
        "causes": CAUSED,
        "simulator": "icarus",
        "passed": True,
    }
    return SimpleNamespace(**{**fields, **changes})


def loop(name: str = "tiny net") -> figures.LoopResult:
    """A result with a real cost of a small network, and stand-ins for the rest; every name in it is ``name``."""
    conv = Layer(name, "conv2d", K=8, C=4, OY=6, OX=6, FY=3, FX=3, IY=6, IX=6, padding=(1, 1))
    workload = Workload(name, (conv,))
    design = Design(Accelerator.systolic(8, 8))
    table = pd.DataFrame(
        [{"name": name, "op": "conv2d", "macs": conv.macs, "parameters": 288, "parameter_bytes": 1152}]
    ).assign(input_bytes=576, output_bytes=1152, intensity=3.5)
    profile = SimpleNamespace(
        name=name, workload=workload, macs=conv.macs, parameters=288, parameter_bytes=1152, table=lambda: table
    )
    frame = sweep()
    front = frame.iloc[:3].sort_values("latency_ms")
    front.attrs["objectives"] = dict.fromkeys(OBJECTIVES, "min")
    cost = evaluate(workload, design)
    bundle = SimpleNamespace(top=name, digest="ab" * 32, files={f"{name}.v": f"module {name};\n", "x.vhd": "entity\n"})
    return figures.LoopResult(
        profile,  # type: ignore[arg-type]
        frame,
        front,
        front.iloc[1].to_dict(),
        design,
        cost,
        0.98,
        0.97,
        bundle,  # type: ignore[arg-type]
        checked(simulator=name),  # type: ignore[arg-type]
        {"seed": 0, "versions": {name: name}},
    )
