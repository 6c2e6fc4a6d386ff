"""Which code decides over the result of a step: what other code has made is not taken for its own."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

#: Step -> the rooms whose files decide over it, beside this one. A room without a folder is a file.
ROOMS = {
    "profile": ("profiler", "workload"),
    "train": ("optimize",),
    "optimise": ("optimize",),
    "explore": ("accelerator", "mapping", "cost", "design", "pareto", "explore"),
    "co_optimize": ("optimize", "accelerator", "mapping", "cost", "design", "pareto", "explore", "session"),
    "choose": ("accelerator", "mapping", "cost", "design", "pareto", "explore"),
    "generate": ("accelerator", "rtl", "lower", "cost", "cosim"),
    "cosimulate": ("accelerator", "rtl", "lower", "cost", "cosim"),
    "report": ("figures", "units"),
}
_KERNEL = Path(__file__).parents[2]


def code_of(step: str) -> str:
    """SHA-256 of the code and of the tables that decide over ``step``."""
    return hashlib.sha256("".join(map(_room, (*ROOMS[step], "session/workflow"))).encode()).hexdigest()


@cache
def _room(name: str) -> str:
    folder = _KERNEL / name
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".json"))
    body = hashlib.sha256(name.encode())
    for path in files or [folder.with_suffix(".py")]:
        body.update(path.relative_to(_KERNEL).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return body.hexdigest()
