"""Cost of a network on an accelerator: cycles, accesses, energy and area, for one design or a million."""

from codesign_kernel.cost.batch import BatchCost, evaluate_batch
from codesign_kernel.cost.evaluate import evaluate
from codesign_kernel.cost.gemmini import gemmini_cycles
from codesign_kernel.cost.nvdla import frames_per_second
from codesign_kernel.cost.relaxed import relaxed_latency, relaxed_layers
from codesign_kernel.cost.relaxed_energy import relaxed_energy
from codesign_kernel.cost.result import Access, Cost, LayerCost
from codesign_kernel.cost.systolic import systolic_cycles

__all__ = [
    "Access",
    "BatchCost",
    "Cost",
    "LayerCost",
    "evaluate",
    "evaluate_batch",
    "frames_per_second",
    "gemmini_cycles",
    "relaxed_energy",
    "relaxed_latency",
    "relaxed_layers",
    "systolic_cycles",
]
