"""What was compiled outside of the cells is found by a kernel in one, at whatever path its code stands."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import Cell, probe, run_confined
from codesign_kernel.server.sandbox.compiled import FOLDER, compile_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cells are Linux's")

EVALUATE = """
import codesign_kernel as ck
from codesign_kernel.cost.compiled import every_mapping
from codesign_kernel.session import catalogue
work = catalogue.network("lenet5").workload
for machine in ("edge_tpu", "gemmini_default"):
    ck.evaluate(work, ck.accelerator.catalog(machine))
print(sum(every_mapping.stats.cache_hits.values()), sum(every_mapping.stats.cache_misses.values()))
"""
#: Compiles nothing: what is not found is missed.
RUNTIME = """
from codesign_kernel.cosim import verilated
verilated._build_runtime = lambda *_: print("missed")
print(sorted(path.name for path in verilated.runtime().iterdir()))
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for cells with a short name: sockets lie in it."""
    folder = Path(os.path.realpath("/tmp"), f"cells-{secrets.token_hex(4)}")
    folder.mkdir(mode=0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def told_in_a_cell(root: Path, code: str, *capabilities: str) -> list[str | bytes]:
    """What ``code`` prints in a new cell with these capabilities."""
    limits = {"wall_s": 240, "cpu_s": 120, "disk_bytes": 1 << 25, "memory_bytes": 1 << 30}
    cell = Cell(
        Scope("trial", capabilities=frozenset(capabilities), models=("*",), limits=limits), probe(), root
    )  # fmt: skip
    try:
        lines: list[str | bytes] = []
        argv = [sys.executable, "-c", code]
        ended = run_confined(cell, argv, stdin=b"", on_line=lines.append, stop=threading.Event())
        assert ended.status == 0, ended
    finally:
        cell.remove()
    return lines


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_cell_finds_what_was_compiled_before(root: Path) -> None:
    size = asyncio.run(compile_for(root))
    assert 10_000 < size < 4 << 20
    assert told_in_a_cell(root, EVALUATE, "profile", "explore") == ["1 0"]
    assert (root / FOLDER).stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.verilator
def test_a_cell_that_simulates_finds_what_verilator_adds_to_every_model(root: Path) -> None:
    assert 100_000 < asyncio.run(compile_for(root, {"cosimulate"})) < 4 << 20
    found = "['rt_verilated.o', 'rt_verilated_threads.o']"
    assert told_in_a_cell(root, RUNTIME, "cosimulate", "generate") == [found]
    assert told_in_a_cell(root, RUNTIME, "generate") == ["missed", "[]"], "a cell that may not has none"
