"""Workflows for tests: the smallest network and spaces, and how to run them in a process of their own."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: Two batches of the space of 16 designs, trained once over, up to the choice.
SMALL: dict[str, Any] = {
    "name": "small",
    "network": "digits",
    "train": {"epochs": 1},
    "explore": {
        "space": {
            "rows": [4, 8],
            "cols": [4, 8],
            "activation_kib": [4, 8],
            "weight_kib": 8,
            "frequency_mhz": [50, 100],
        },
        "objectives": ["latency_ms", "area_mm2"],
    },
    "generate": False,
}
#: All steps, on a network small enough for MyHDL's own simulator.
FULL: dict[str, Any] = {
    **SMALL,
    "name": "full",
    "optimise": {"keep": 0.25, "tune_epochs": 1},
    "explore": {**SMALL["explore"], "sampler": "random", "budget": 12, "population": 3},
    "generate": {"vectors": 1},
    "cosimulate": {"simulator": "myhdl", "images": 1},
}
#: Runs a workflow and says what came of it; with a step, a number and a signal it sends itself that signal when the
#: step tells its progress for that many times.
CLIENT = """
import json, os, signal, sys
import codesign_kernel as ck
step, count, name = sys.argv[3:] or ("", "0", "")
told = 0
def progress(done, total, message):
    global told
    told += message.partition(":")[0] == step
    if message.partition(":")[0] == step and told == int(count):
        os.kill(os.getpid(), getattr(signal, name))
found = ck.run_workflow(json.loads(sys.argv[1]), store=sys.argv[2], progress=progress)
print(json.dumps(found.to_dict()))
"""


def changed(workflow: dict[str, Any], **steps: Any) -> dict[str, Any]:
    """``workflow`` with other settings: ``explore={"budget": 3}`` changes that one, any other value replaces a step."""
    made = copy.deepcopy(workflow)
    for name, value in steps.items():
        before = made.get(name)
        made[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return made


def client(workflow: dict[str, Any], store: Path, *stop: object) -> subprocess.Popen[str]:
    """A process that runs ``workflow``; ``stop``: step, count, name of a signal."""
    command = [sys.executable, "-c", CLIENT, json.dumps(workflow), str(store), *map(str, stop)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
