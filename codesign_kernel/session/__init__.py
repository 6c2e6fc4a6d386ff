"""Session: the rooms put together, one function a capability. They load when they are first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign_kernel.session.demo import DemoResult, run_demo
    from codesign_kernel.session.steps import cosimulate, sweep

_HOME = {"DemoResult": "demo", "cosimulate": "steps", "run_demo": "demo", "sweep": "steps"}

__all__ = ["DemoResult", "cosimulate", "run_demo", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
