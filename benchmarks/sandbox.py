"""What a cell costs: the start of a program and of a kernel with and without one, and what its launcher uses meanwhile.

Medians; every confinement that works on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from codesign_kernel.errors import SandboxError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import Cell, Confinement, probe, provisioner, run_confined, tree

BARE = [sys.executable, "-I", "-S", "-c", "pass"]
KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
IDLE_S = 10


def median_ms(work: Callable[[], object], times: int) -> float:
    """Milliseconds that ``work`` takes."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def in_a_cell(held: Confinement, root: Path) -> None:
    """Make a cell, run a program that does nothing in it, and remove it."""
    cell = Cell(Scope("bench"), held, root)
    ended = run_confined(cell, BARE, on_line=print)
    cell.remove()
    assert ended.status == 0, ended


class One(KernelSpecManager):
    """Knows one kernel, in a cell or not."""

    confined = False

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel."""
        about = {"kernel_provisioner": {"provisioner_name": provisioner.NAME}} if self.confined else {}
        return KernelSpec(
            argv=list(KERNEL), display_name="Python", language="python", interrupt_mode="message", metadata=about
        )


async def kernel_ms(held: Confinement | None, root: Path) -> float:
    """Milliseconds until a kernel answers."""
    specs = One()
    specs.confined = held is not None
    manager = AsyncKernelManager(kernel_name="python", kernel_spec_manager=specs)
    given = {} if held is None else {"cell": Cell(Scope("bench"), held, root)}
    start = time.perf_counter()
    await manager.start_kernel(stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **given)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=120)
    taken = (time.perf_counter() - start) * 1e3
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
    return taken


def launcher(held: Confinement, root: Path) -> tuple[float, float]:
    """(MiB of its own, per cent of a processor) of the launcher of a cell in which nothing happens."""
    cell = Cell(Scope("bench"), held, root)
    with cell.start(["sleep", "60"]) as process:
        time.sleep(1)
        about = tree.everybody()[process.pid]
        held_bytes, cpu_s = tree.proportional([about]), about.cpu_s
        time.sleep(IDLE_S)
        after = tree.everybody()[process.pid].cpu_s
        process.terminate()
    cell.remove()
    return held_bytes / 2**20, (after - cpu_s) / IDLE_S * 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    times = parser.parse_args().times
    provisioner.register()
    root = Path(tempfile.mkdtemp(prefix="cells-"))
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} processors")
    print(f"no cell: program {median_ms(lambda: subprocess.run(BARE, check=True), times):.0f} ms", end=", ")
    print(f"kernel {statistics.median(asyncio.run(kernel_ms(None, root)) for _ in range(5)):.0f} ms")
    try:
        for kind in ("landlock", "bubblewrap"):
            try:
                start = time.perf_counter()
                held = probe(kind)
            except SandboxError as error:
                print(f"{kind}: {error}")
                continue
            print(f"{kind} ({held.detail}): probe {(time.perf_counter() - start) * 1e3:.0f} ms", end=", ")
            print(f"program {median_ms(lambda held=held: in_a_cell(held, root), times):.0f} ms", end=", ")
            print(f"kernel {statistics.median(asyncio.run(kernel_ms(held, root)) for _ in range(5)):.0f} ms", end=", ")
            mib, percent = launcher(held, root)
            print(f"launcher {mib:.1f} MiB and {percent:.1f} % of a processor while idle")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
