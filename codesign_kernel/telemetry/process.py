"""How much processor time and memory a process and what it started use, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Processor time (s) and memory (byte; PSS: shared pages count by their share) of some processes."""

    cpu_s: float
    memory_bytes: int
    processes: int


def usage_of(pid: int, *, tree: bool = False) -> Usage:
    """What a process uses, with ``tree`` also what it started; nothing where it is gone or is not ours to look at."""
    total = Usage(0.0, 0, 0)
    for one in _tree(pid) if tree else [pid]:
        try:
            stat = Path(f"/proc/{one}/stat").read_text("ascii", "replace")
            memory_bytes = _memory_bytes(one)
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        total = Usage(
            total.cpu_s + ticks / os.sysconf("SC_CLK_TCK"), total.memory_bytes + memory_bytes, total.processes + 1
        )
    return total


def _memory_bytes(pid: int) -> int:
    """PSS, or where the system does not tell it the resident size."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        return 1024 * int(rollup.split("\nPss:")[1].split()[0])
    except (OSError, IndexError):
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _tree(pid: int) -> list[int]:
    """The process and all that it started, as far as they are still its descendants."""
    found, fresh = [pid], [pid]
    while fresh:
        children: list[int] = []
        for one in fresh:
            for task in Path(f"/proc/{one}/task").glob("*/children"):
                try:
                    children += map(int, task.read_text("ascii").split())
                except OSError:
                    continue
        fresh = [child for child in children if child not in found]
        found += fresh
    return found
