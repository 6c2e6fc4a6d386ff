"""The networks that a request may name, with their work, so that a limit can be checked before anything is started.

``python -m codesign_kernel.server.api.known`` writes ``server/data/networks.json`` anew; a test compares the two.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent.parent / "data" / "networks.json"


@cache
def networks() -> dict[str, dict[str, Any]]:
    """{name: {"macs": MAC of one inference, "parameters": count, "inputs": shapes, "trained": whether it is one of the
    small tasks of this library, which can be trained and co-simulated too, "profile": packed, of those that are not
    in the zoo}}."""
    found: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def counted() -> dict[str, dict[str, Any]]:
    """What the file says, counted anew."""
    from codesign_kernel.optimize.networks import NETWORKS
    from codesign_kernel.profiler import profile, zoo
    from codesign_kernel.profiler.packing import pack

    found: dict[str, dict[str, Any]] = {}
    for name in (*zoo.names(), *(name for name in NETWORKS if name not in zoo.names())):
        one = profile(*(zoo.build(name) if name in zoo.names() else NETWORKS[name].untrained()), name=name)
        shapes = [list(shape) for shape, _ in one.inputs]
        found[name] = {
            "macs": one.macs, "parameters": one.parameters, "inputs": shapes, "trained": name in NETWORKS
        }  # fmt: skip
        if name not in zoo.names():  # theirs are stored by the profiler
            found[name]["profile"] = pack(one)
    return found


if __name__ == "__main__":
    _FILE.write_text(json.dumps(counted(), indent=1) + "\n", encoding="utf-8")
