"""Which code decides over the result of a step: what other code has made is not taken for its own."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

#: What a network is made of, what machines cost, and how a network runs on one in integers.
_NETWORKS = ("workload", "accelerator", "optimize")
_COSTS = ("workload", "accelerator", "mapping", "numerics", "cost", "design")
_EXPLORING = (*_COSTS, "pareto", "explore", "session/explore")
_SILICON = (*_COSTS, "optimize", "lower", "rtl", "cosim", "session/generation")
_JOINT = tuple(f"session/{name}" for name in ("co_optimize", "joint_search", "candidates", "machines", "pairs"))
#: Step -> the rooms whose files decide over it, beside this one: with every room, all that it imports. A room without a
#: folder is a file.
ROOMS = {
    "profile": (*_NETWORKS, "profiler"),
    "train": _NETWORKS,
    "optimise": _NETWORKS,
    "explore": _EXPLORING,
    "co_optimize": (*_EXPLORING, "optimize", *_JOINT),
    "choose": _EXPLORING,
    "generate": _SILICON,
    "cosimulate": _SILICON,
    "report": (*_SILICON, "profiler", "pareto", "explore", "figures", "units"),
}
#: They say how a result is told or where it lies, not which it is.
TELLING = ("cache", "errors", "files", "units")
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
