"""How long a workflow takes at first and when everything is cached, from the command line.

Wall time and CPU time of the process and of what it starts: on a busy machine only the second says what the work is.
Beside them what the cached run is made of: the interpreter alone, and the imports that reading a store takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "workflow.yaml"
RUNS = 5
IMPORTS = "import codesign_kernel.session.workflow"


class Timed(NamedTuple):
    """A process: seconds of wall time and of CPU time, and what it said."""

    wall_s: float
    cpu_s: float
    told: str


def timed(*arguments: str) -> Timed:
    """A process of this Python with ``arguments``."""
    started, before = time.perf_counter(), _cpu_s()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return Timed(time.perf_counter() - started, _cpu_s() - before, done.stdout)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(name: str, runs: Sequence[Timed]) -> str:
    """A line: medians, and the longest where there are several."""
    wall, cpu = (statistics.median(getattr(run, part) for run in runs) for part in ("wall_s", "cpu_s"))
    longest = f", longest {max(run.wall_s for run in runs):.2f} s" if len(runs) > 1 else ""
    return f"{name:<12} {wall:8.2f} s wall, {cpu:7.2f} s CPU{longest}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=EXAMPLE)
    file = parser.parse_args().file
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {file.name}")
    with tempfile.TemporaryDirectory() as folder:
        # builds of simulators and converted sources are cached apart from the store: this run finds none of them
        os.environ["CODESIGN_CACHE_DIR"] = str(Path(folder) / "cache")
        command = ["-m", "codesign_kernel.cli", "run", str(file), "--store", str(Path(folder) / "s.db"), "--json"]
        first = timed(*command)
        again = [timed(*command) for _ in range(RUNS)]
    told = json.loads(first.told)
    for step in told["steps"]:
        print(f"  {step['name']:<12} {step['seconds']:8.2f} s wall")
    evaluated = sorted({json.loads(run.told)["evaluations"] for run in again})
    print(f"{row('first run', [first])}; {told['evaluations']:,} evaluations")
    print(f"{row('cached run', again)}; {', '.join(map(str, evaluated))} evaluations")
    ratios = [
        getattr(first, part) / statistics.median(getattr(run, part) for run in again) for part in Timed._fields[:2]
    ]
    print(f"first / cached: {ratios[0]:.0f} in wall time, {ratios[1]:.0f} in CPU time")
    for name, code in (("interpreter", "pass"), ("imports", IMPORTS)):
        print(row(f"  {name}", [timed("-c", code) for _ in range(RUNS)]))


if __name__ == "__main__":
    main()
