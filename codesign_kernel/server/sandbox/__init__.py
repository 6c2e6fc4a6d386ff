"""Cells: processes that run what people who are not trusted wrote, confined by the operating system.

The helper that starts every cell imports its modules through here, so that names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesign_kernel.server.sandbox.cell import Cell
    from codesign_kernel.server.sandbox.confinement import Confinement, check_scope, probe
    from codesign_kernel.server.sandbox.provisioner import ScopedProvisioner
    from codesign_kernel.server.sandbox.run import Ended, run_confined

_HOME = {
    "Cell": "cell",
    "Confinement": "confinement",
    "Ended": "run",
    "ScopedProvisioner": "provisioner",
    "check_scope": "confinement",
    "probe": "confinement",
    "run_confined": "run",
}

__all__ = ["Cell", "Confinement", "Ended", "ScopedProvisioner", "check_scope", "probe", "run_confined"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
