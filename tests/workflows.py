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
#: The smallest joint search: four networks, of which three are looked at.
JOINT: dict[str, Any] = {
    "name": "joint",
    "network": "digits",
    "train": {"epochs": 1},
    "co_optimize": {
        "space": {"rows": [4, 8], "cols": [4, 8], "activation_kib": [4, 8], "weight_kib": 8},
        "networks": {"keep": {"conv1": [0.25, 0.5]}, "weight_bits": {"conv2": [4, 8]}, "epochs": 0},
        "budget": 3,
        "objectives": ["latency_ms", "area_mm2"],
    },
    "choose": {"best": "accuracy"},
    "cosimulate": {"simulator": "myhdl", "images": 1},
}
#: Loads everything once, torch's exporter too, then forks a process for every run that it is asked for, all runs of a
#: line at once: loading takes longer than the runs. A run with a step, a number and a signal sends itself that signal
#: when the step tells its progress for that many times. The answer: [exit status as of a shell, what the run gave].
RUNNER = """
import json, os, signal, sys, tempfile
import codesign_kernel as ck
import codesign_kernel.cosim.bench, codesign_kernel.figures.report, codesign_kernel.optimize.digits
import codesign_kernel.optimize.pruning, codesign_kernel.optimize.quantizer, codesign_kernel.session.demo
import codesign_kernel.cosim.testbench, codesign_kernel.optimize.weights, codesign_kernel.profiler.trace
import codesign_kernel.explore.optuna_samplers, codesign_kernel.optimize.keywords
import codesign_kernel.session.workflow.pairing, codesign_kernel.session.workflow.searching
import moocore, plotly.graph_objects, plotly.offline, pyarrow.pandas_compat, sklearn.datasets, torch_pruning, torch
import torch.export._trace

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests beside itself has it ignored

def run(workflow, store, step, count, name, out):
    told = 0
    def progress(done, total, message):
        nonlocal told
        told += message.partition(":")[0] == step
        if message.partition(":")[0] == step and told == count:
            os.kill(os.getpid(), getattr(signal, name))
    try:
        json.dump(ck.run_workflow(workflow, store=store, progress=progress).to_dict(), out)
        out.flush()
    except KeyboardInterrupt:
        os._exit(130)

for line in sys.stdin:
    workflow, runs = json.loads(line)
    started = []
    for given in runs:
        out = tempfile.TemporaryFile("w+")
        child = os.fork()
        if not child:
            run(workflow, *given, out)
            os._exit(0)
        started.append((child, out))
    answers = []
    for child, out in started:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        answers.append([status, out.read()])
    print(json.dumps(answers), flush=True)
"""


class Runner:
    """Runs workflows in processes that can be killed. A context manager."""

    def __enter__(self) -> Runner:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RUNNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, workflow: dict[str, Any], runs: list[list[Any]]) -> list[list[Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([workflow, runs]) + "\n")
        self._process.stdin.flush()
        answers: list[list[Any]] = json.loads(self._process.stdout.readline())
        return answers

    def stopped(self, workflow: dict[str, Any], store: Path, step: str, count: int, name: str) -> int:
        """How a run ended that was stopped."""
        ((status, _),) = self._ask(workflow, [[str(store), step, count, name]])
        return int(status)

    def ended(self, workflow: dict[str, Any], store: Path, count: int = 1) -> list[dict[str, Any]]:
        """What runs gave that were begun at once and ended well."""
        answers = self._ask(workflow, [[str(store), "", 0, ""]] * count)
        assert [status for status, _ in answers] == [0] * count
        return [json.loads(told) for _, told in answers]


def changed(workflow: dict[str, Any], **steps: Any) -> dict[str, Any]:
    """``workflow`` with other settings: ``explore={"budget": 3}`` changes that one, any other value replaces a step."""
    made = copy.deepcopy(workflow)
    for name, value in steps.items():
        before = made.get(name)
        made[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return made
