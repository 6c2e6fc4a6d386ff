"""Control groups, where this process may make them: memory and processes of a cell counted and capped by the kernel.

Version 1 (one tree for each controller) as in many containers, or version 2 where the gateway's own group hands its
controllers on (systemd: ``Delegate=yes`` and a subgroup). Where neither does, limits of each process and the launcher's
watch remain. docs.kernel.org: admin-guide/cgroup-v1, admin-guide/cgroup-v2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def _own(controller: str) -> Path | None:
    """The folder of this process's group for a controller; ``""`` names version 2's."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                return _ROOT.joinpath(*([controller] if controller else []), path.lstrip("/"))
    return None


def _make(folder: Path, limits: Mapping[str, int]) -> bool:
    """Make a group with limits {file: value}; whether it took them."""
    try:
        folder.mkdir()
        for name, value in limits.items():
            if not (folder / name).exists():
                raise FileNotFoundError(name)
            (folder / name).write_text(str(value), encoding="ascii")
    except OSError:
        with suppress(OSError):
            folder.rmdir()
        return False
    return True


def make(name: str, memory_bytes: int, processes: int) -> list[str]:
    """Make the groups of a cell, as many as this machine lets it; the folders."""
    unified = _own("")
    if unified is not None and _make(unified / name, {"memory.max": memory_bytes, "pids.max": processes}):
        return [os.fspath(unified / name)]
    made = []
    for controller, limits in (
        ("memory", {"memory.limit_in_bytes": memory_bytes}),
        ("pids", {"pids.max": processes}),
    ):
        own = _own(controller)
        if own is not None and _make(own / name, limits):
            made.append(os.fspath(own / name))
    return made


def out_of_memory(group: str) -> bool:
    """Whether the kernel ended a process of the group because its memory was used up."""
    for name in ("memory.events", "memory.oom_control"):
        with suppress(OSError), open(f"{group}/{name}", encoding="ascii") as lines:
            if any(line.startswith("oom_kill ") and int(line.split()[1]) for line in lines):
                return True
    return False


def remove(groups: list[str]) -> None:
    """Remove groups that nobody is in any more."""
    for group in groups:
        with suppress(OSError):
            os.rmdir(group)
