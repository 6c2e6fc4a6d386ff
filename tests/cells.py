"""What tests of cells share: the confinements that work here, a folder for cells, and programs run in one."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from codesign_kernel.errors import SandboxError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import Cell, Confinement, Ended, probe, run_confined


@pytest.fixture(scope="module", params=["landlock", "bubblewrap"])
def held(request: pytest.FixtureRequest) -> Confinement:
    """Each confinement that works here."""
    try:
        return probe(request.param)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def best() -> Confinement:
    return probe("auto")


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for cells with a short name: sockets lie in it."""
    folder = Path(os.path.realpath("/tmp"), f"cells-{secrets.token_hex(4)}")
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def scope(**limits: int) -> Scope:
    return Scope("trial", limits={"wall_s": 110, "disk_bytes": 1 << 24, "memory_bytes": 1 << 29, **limits})


def run(cell: Cell, code: str, *arguments: str, **given: Any) -> tuple[Ended, list[str]]:
    """Run a program's text with the bare interpreter: how it ended, and its lines."""
    lines: list[str] = []
    argv = [sys.executable, "-I", "-S", "-c", code, *arguments]
    return run_confined(cell, argv, on_line=lines.append, **given), lines


def marked(mark: str) -> list[int]:
    """Processes that have ``mark`` in their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes() and int(name) != os.getpid():
                found.append(int(name))
    return found


def until(what: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()
