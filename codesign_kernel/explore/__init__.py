"""Exploring a design space. This room is handed an evaluation, an executor and a recorder; it knows no cost model."""

from codesign_kernel.explore.compare import Comparison, compare, histories
from codesign_kernel.explore.explore import explore
from codesign_kernel.explore.recommend import Recommendation, recommend
from codesign_kernel.explore.result import Exploration, Provenance
from codesign_kernel.explore.standing import Standing
from codesign_kernel.explore.sweep import sweep
from codesign_kernel.explore.work import Executor, Memory, Recorder, Serial

__all__ = [
    "Comparison",
    "Executor",
    "Exploration",
    "Memory",
    "Provenance",
    "Recommendation",
    "Recorder",
    "Serial",
    "Standing",
    "compare",
    "explore",
    "histories",
    "recommend",
    "sweep",
]
