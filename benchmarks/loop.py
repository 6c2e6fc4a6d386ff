"""Seconds of the loop from ``ck.generate_rtl`` to Verilog that is verified, on the digits CNN and an 8x8 accelerator.

Verified means that Verilator ran the generated Verilog, and that every bit and every instruction's cycles are those of
the models. Each figure is taken in a process of its own: cold with an empty cache, for which the RTL is converted and
Verilator's library and the model are built, and from the cache that this left. Loading packages and reading the network
are not in it, and stand beside it. All 1,797 digits run once the model is compiled.

The CPU seconds are those of the process and of all that it started: on a busy machine the wall clock says more than it
should.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 8
STEPS = ("import", "generate", "one image", "all images")


def cpu_s() -> float:
    """CPU seconds of this process and of those that it waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def steps(folder: Path, dataflow: str) -> None:
    """The loop, in this process: prints the wall and CPU seconds of each step as JSON."""
    found: dict[str, tuple[float, float]] = {}
    wall, cpu = time.perf_counter(), cpu_s()

    def lap(name: str) -> None:
        nonlocal wall, cpu
        now, used = time.perf_counter(), cpu_s()
        found[name] = (now - wall, used - cpu)
        wall, cpu = now, used

    import codesign_kernel as ck

    network = ck.IntegerNetwork.load(folder / "network.npz")
    images = np.load(folder / "images.npy")
    accelerator = ck.Accelerator.systolic(SIDE, SIDE, dataflow=dataflow)
    cosimulate, generate_rtl = ck.cosimulate, ck.generate_rtl  # they load when they are named
    lap("import")
    generate_rtl(accelerator)
    lap("generate")
    for name, some in (("one image", images[:1]), ("all images", images)):
        report = cosimulate(accelerator, network, some, "verilator")
        if not report.passed:
            sys.exit(str(report))
        lap(name)
    print(json.dumps(found))


def prepare(folder: Path) -> int:
    """Train and quantise the digits CNN; the number of images."""
    import codesign_kernel as ck
    from codesign_kernel.optimize import load_digits, train_digits

    model, data, _ = train_digits(seed=0)
    ck.quantize(model, data.calibration_x).save(folder / "network.npz")
    every = load_digits().all_x
    np.save(folder / "images.npy", every)
    return len(every)


def main() -> None:
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = prepare(folder)
        print(f"digits CNN on {SIDE}x{SIDE}; seconds of the wall clock (and of the CPU)\n")
        head = ("loading", "generate", "verify one", "to verified", f"all {count:,}")
        print(" " * 17 + " ".join(f"{words:>14}" for words in head))
        for dataflow in ("ws", "os"):
            for state in ("cold", "from the cache"):
                command = [sys.executable, __file__, "steps", name, dataflow]
                environment = {**os.environ, "CODESIGN_CACHE_DIR": f"{name}/cache {dataflow}"}
                done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
                if done.returncode:
                    sys.exit(done.stderr or done.stdout)
                took = [json.loads(done.stdout)[step] for step in STEPS]
                took.insert(3, (took[1][0] + took[2][0], took[1][1] + took[2][1]))
                cells = " ".join(f"{wall:>6.2f} ({cpu:>5.2f})" for wall, cpu in took)
                print(f"{dataflow} {state:<14} {cells}", flush=True)
    print("\nEvery image agrees bit for bit, and every instruction took the predicted cycles.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["steps"]:
        steps(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
