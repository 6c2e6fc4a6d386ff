"""Hardware-software co-design for small neural accelerators: profile, choose, generate, prove.

    import codesign_kernel as ck

This is the front door. Its names load when first used, so that ``import codesign_kernel`` itself is instant; the rooms
behind it import one another directly and never through here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # what _HOME says, in the words that type checkers and editors read
    from codesign_kernel import accelerator, figures
    from codesign_kernel.accelerator import Accelerator, MemoryLevel, SpatialArray
    from codesign_kernel.client import Client
    from codesign_kernel.cluster import Cluster, cluster
    from codesign_kernel.cosim import CosimReport, Recording, Waveform, read_waves
    from codesign_kernel.cosim.simulators import simulators
    from codesign_kernel.cosim.wavefront import ArrayTrace, array_trace
    from codesign_kernel.cost import Cost
    from codesign_kernel.cost.evaluate import evaluate
    from codesign_kernel.design import Design, DesignSpace, SpatialSpace
    from codesign_kernel.explore import Exploration, compare
    from codesign_kernel.optimize import (
        FusionReport,
        IntegerNetwork,
        fusion_report,
        prune,
        quantize,
        quantize_aware,
        sensitivity,
    )
    from codesign_kernel.pareto import knee, pareto_front
    from codesign_kernel.profiler import Profile, profile, zoo
    from codesign_kernel.rtl import RtlBundle, check_block
    from codesign_kernel.session import (
        VerifyReport,
        cosimulate,
        generate_rtl,
        hardware_loss,
        record_waves,
        sweep,
        verify,
    )
    from codesign_kernel.session.candidates import NetworkSpace
    from codesign_kernel.session.co_optimize import co_optimize
    from codesign_kernel.session.explore import explore
    from codesign_kernel.session.operations import operations
    from codesign_kernel.session.pairs import CoOptimization
    from codesign_kernel.session.workflow import WorkflowResult, run_workflow
    from codesign_kernel.store import Store
    from codesign_kernel.workload import Layer, Workload

#: Functions of rooms that know nothing of scopes come through ``session.scoped``, which checks this process's scope.
_HOME = {
    "Accelerator": "accelerator",
    "ArrayTrace": "cosim.wavefront",
    "Client": "client",
    "Cluster": "cluster",
    "Cost": "cost",
    "CoOptimization": "session.pairs",
    "CosimReport": "cosim",
    "Design": "design",
    "DesignSpace": "design",
    "Exploration": "explore",
    "FusionReport": "optimize",
    "IntegerNetwork": "optimize",
    "Layer": "workload",
    "MemoryLevel": "accelerator",
    "NetworkSpace": "session.candidates",
    "Profile": "profiler",
    "Recording": "cosim",
    "RtlBundle": "rtl",
    "SpatialArray": "accelerator",
    "SpatialSpace": "design",
    "Store": "store",
    "VerifyReport": "session",
    "Waveform": "cosim",
    "WorkflowResult": "session.workflow",
    "Workload": "workload",
    "accelerator": "accelerator",
    "array_trace": "session.scoped",
    "check_block": "session.scoped",
    "compare": "explore",
    "cluster": "cluster",
    "co_optimize": "session.co_optimize",
    "cosimulate": "session",
    "evaluate": "session.scoped",
    "explore": "session.explore",
    "figures": "figures",
    "fusion_report": "session.scoped",
    "generate_rtl": "session",
    "hardware_loss": "session",
    "knee": "pareto",
    "pareto_front": "pareto",
    "operations": "session.operations",
    "profile": "session.scoped",
    "prune": "session.scoped",
    "quantize": "session.scoped",
    "read_waves": "session.scoped",
    "record_waves": "session",
    "run_workflow": "session.workflow",
    "quantize_aware": "session.scoped",
    "sensitivity": "session.scoped",
    "simulators": "cosim.simulators",
    "sweep": "session",
    "verify": "session",
    "zoo": "profiler.zoo",
}
#: Names that are modules themselves (``cluster`` is one that can be called).
_MODULES = frozenset({"accelerator", "cluster", "figures", "zoo"})

__all__ = [
    "Accelerator",
    "ArrayTrace",
    "Client",
    "Cluster",
    "CoOptimization",
    "CosimReport",
    "Cost",
    "Design",
    "DesignSpace",
    "Exploration",
    "FusionReport",
    "IntegerNetwork",
    "Layer",
    "MemoryLevel",
    "NetworkSpace",
    "Profile",
    "Recording",
    "RtlBundle",
    "SpatialArray",
    "SpatialSpace",
    "Store",
    "VerifyReport",
    "Waveform",
    "WorkflowResult",
    "Workload",
    "__version__",
    "accelerator",
    "array_trace",
    "check_block",
    "cluster",
    "co_optimize",
    "compare",
    "cosimulate",
    "evaluate",
    "explore",
    "figures",
    "fusion_report",
    "generate_rtl",
    "hardware_loss",
    "knee",
    "operations",
    "pareto_front",
    "profile",
    "prune",
    "quantize",
    "quantize_aware",
    "read_waves",
    "record_waves",
    "run_workflow",
    "sensitivity",
    "simulators",
    "sweep",
    "verify",
    "zoo",
]


def __getattr__(name: str) -> object:
    """Load the public name ``name`` from its room (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; its public names are {', '.join(__all__)}"
        )
    module = import_module(f"{__name__}.{_HOME[name]}")
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: object) -> None:
    """``%load_ext codesign_kernel``: the magics ``%%codesign_profile`` and ``%codesign_doctor``."""
    from codesign_kernel.magics import register

    register(shell)


class _Door(ModuleType):
    """Importing a room writes its name here; a function of the same name (``explore``) is not to be hidden by it."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOME or name in _MODULES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[object, ...]:
        """By name, so that a function of a notebook that says ``ck.evaluate`` can be sent to a worker."""
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Door
