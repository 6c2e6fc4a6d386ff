"""Session: the rooms put together, one function a capability. They load when they are first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign_kernel.session.demo import DemoResult, run_demo
    from codesign_kernel.session.generation import generate_rtl
    from codesign_kernel.session.hardware import hardware_loss
    from codesign_kernel.session.steps import cosimulate, record_waves, sweep
    from codesign_kernel.session.synth import Synthesis, synthesise
    from codesign_kernel.session.verification import VerifyReport, verify

_HOME = {
    "DemoResult": "demo",
    "VerifyReport": "verification",
    "cosimulate": "steps",
    "generate_rtl": "generation",
    "hardware_loss": "hardware",
    "record_waves": "steps",
    "run_demo": "demo",
    "Synthesis": "synth",
    "sweep": "steps",
    "synthesise": "synth",
    "verify": "verification",
}

__all__ = [
    "DemoResult",
    "Synthesis",
    "VerifyReport",
    "cosimulate",
    "generate_rtl",
    "hardware_loss",
    "record_waves",
    "run_demo",
    "sweep",
    "synthesise",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
