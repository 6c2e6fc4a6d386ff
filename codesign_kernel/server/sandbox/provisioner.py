"""Kernels of Jupyter that start in a cell.

A kernelspec asks for it with ``metadata["kernel_provisioner"] = {"provisioner_name": NAME}``, and whoever starts the
kernel gives the cell: ``manager.start_kernel(cell=cell)``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from codesign_kernel.errors import SandboxError
from codesign_kernel.server.sandbox.cell import Cell

NAME = "codesign-cell"
#: Of what Jupyter and Voila would put into a kernel's environment; nothing that names a request or may hold a token.
_PASSED = ("JPY_SESSION_NAME", "VOILA_KERNEL_ID", "VOILA_BASE_URL")
#: How long everything in a cell may take to end before its launcher is killed too.
_END_S = 12.0


def register() -> None:
    """Make the provisioner known to Jupyter where no installed package does; safe to call again."""
    entry = EntryPoint(NAME, f"{__name__}:ScopedProvisioner", KernelProvisionerFactory.GROUP_NAME)
    KernelProvisionerFactory.provisioners.setdefault(NAME, entry)


class ScopedProvisioner(LocalProvisioner):
    """Starts a kernel in the cell that ``start_kernel(cell=...)`` was given, and removes the cell when it has ended."""

    cell: Cell | None = None

    @property
    def reason(self) -> str:
        """The limit that ended the kernel and its value; empty while it runs, and where it ended by itself."""
        ending = self.cell.ending() if self.cell is not None else None
        return ending[1] if ending is not None else ""

    async def pre_launch(self, **given: Any) -> dict[str, Any]:
        """The command and environment of a kernel; its connection file lies in the cell, its sockets too.

        Raises:
            SandboxError: no cell was given.
        """
        self.cell = cell = given.pop("cell", None) or self.cell
        manager = self.parent
        if cell is None or manager is None:
            raise SandboxError("a kernel is started in a cell, but got none; give start_kernel(cell=Cell(...))")
        passed = {name: text for name, text in given.get("env", {}).items() if name in _PASSED}
        manager.transport = "ipc"
        manager.ip = os.fspath(cell.connections / "kernel")
        manager.connection_file = os.fspath(cell.connections / "kernel.json")
        given = await super().pre_launch(**given)
        cell.give(cell.connections / "kernel.json")
        return given | {
            "cmd": cell.command(given["cmd"]),
            "env": cell.environment(given.get("extra_environment", {}) | passed),
            "cwd": os.fspath(cell.folder),
        }

    async def send_signal(self, signum: int) -> None:
        """Tell the launcher: SIGINT goes to the kernel, whatever else ends a process ends the whole cell."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM if signum == signal.SIGKILL else signum)

    async def kill(self, restart: bool = False) -> None:
        """End everything in the cell, and the launcher even where it does not answer."""
        process = self.process
        if process is None:
            return
        await self.send_signal(signal.SIGTERM)
        for _ in range(int(_END_S / 0.02)):
            if process.poll() is not None:
                return
            await asyncio.sleep(0.02)
        process.kill()

    async def cleanup(self, restart: bool = False) -> None:
        """Remove the cell, unless the kernel starts again in it."""
        await super().cleanup(restart=restart)
        if self.cell is not None and not restart:
            self.cell.remove()
