"""Which rooms decide over the result of a step."""

from __future__ import annotations

from codesign_kernel.session.code import digest_of_code

#: What a network is made of, what machines cost, and how a network runs on one in integers.
_NETWORKS = ("workload", "accelerator", "optimize")
_COSTS = ("workload", "accelerator", "mapping", "numerics", "cost", "design")
_EXPLORING = (*_COSTS, "pareto", "explore", "session/explore")
_SILICON = (*_COSTS, "optimize", "lower", "rtl", "cosim", "session/generation")
_JOINT = tuple(
    f"session/{name}" for name in ("co_optimize", "goals", "joint_search", "candidates", "machines", "pairs")
)
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
#: They say how a result is told, where it lies or what it is called, not which it is; or whether it may be made.
TELLING = ("cache", "display", "errors", "files", "scopes", "session/asked", "session/code", "session/scoped", "units")


def code_of(step: str) -> str:
    """SHA-256 of the code and of the tables that decide over ``step``."""
    return digest_of_code((*ROOMS[step], "session/workflow"))
