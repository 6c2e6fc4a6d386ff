"""Time and peak memory of the exact front of a large space, streamed: every design is evaluated, none is kept.

``--designs 1e8`` (the default) sweeps 100 million designs; the three sizes are the same machines with more choices.
The network is the digits CNN, the objectives are latency, energy and area. ``--workers N`` hands the blocks to N
processes of a Dask cluster. The exit status is 1 where time or memory of 10^8 designs is above its target.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import torch

import codesign_kernel as ck
from codesign_kernel.optimize import DigitsCNN
from codesign_kernel.units import quantity

#: 30 minutes and 4 GiB for 10^8 designs.
TARGET_S, TARGET_BYTES = 1800.0, 4 * 2**30
#: Choices that make 0.97, 10.1 and 100.8 million designs out of the same machines.
SIZES = {
    "1e6": {"bandwidth_gb_s": 4, "frequency_mhz": 12, "dataflow": 1},
    "1e7": {"bandwidth_gb_s": 10, "frequency_mhz": 25, "dataflow": 2},
    "1e8": {"bandwidth_gb_s": 50, "frequency_mhz": 50, "dataflow": 2},
}


def space_of(size: str) -> ck.DesignSpace:
    """The space of about ``size`` designs."""
    few = SIZES[size]
    return ck.DesignSpace(
        rows=(2, 4, 8, 16, 32, 64),
        cols=(2, 4, 8, 16, 32, 64),
        dataflow=("ws", "os")[: few["dataflow"]],
        activation_kib=(1, 2, 4, 8, 16, 32, 64, 128),
        weight_kib=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        accumulator_kib=(0.5, 1, 2, 4, 8, 16, 32),
        bandwidth_gb_s=[0.4 + 0.4 * step for step in range(few["bandwidth_gb_s"])],
        frequency_mhz=[20 * (step + 1) for step in range(few["frequency_mhz"])],
        instruction_kib=4,
    )


def peak_bytes() -> int:
    """The most memory that this process has held; with its finished children where one of them held more."""
    scale = 1 if sys.platform == "darwin" else 1024
    return scale * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", choices=[*SIZES], default="1e8")
    parser.add_argument("--workers", type=int, default=0, help="processes of a Dask cluster (default: this one)")
    args = parser.parse_args()
    workload = ck.profile(DigitsCNN(), torch.zeros(1, 1, 8, 8), name="digits CNN").workload
    space = space_of(args.designs)
    before, last = peak_bytes(), [time.perf_counter()]

    def progress(done: int, total: int, message: str) -> None:
        if time.perf_counter() - last[0] > 30:
            last[0] = time.perf_counter()
            print(f"{done / total:.0%}, {message}, {peak_bytes() / 2**30:.2f} GiB", file=sys.stderr, flush=True)

    started = time.perf_counter()
    if args.workers:
        with ck.cluster(minimum=args.workers, maximum=args.workers) as cluster:
            found = ck.explore(workload, space, sampler="exact", executor=cluster.executor(), progress=progress)
    else:
        found = ck.explore(workload, space, sampler="exact", progress=progress)
    wall_s = time.perf_counter() - started
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {args.workers or 1} used")
    print(f"designs   {found.tally.designs:,}, {found.tally.legal:,} can run, {len(found.front):,} on the front")
    print(f"time      {wall_s:.1f} s, {space.size / wall_s / 1e6:.2f} million designs a second")
    print(f"memory    {quantity(peak_bytes(), 'B')} at most, {quantity(before, 'B')} before the sweep")
    met = wall_s <= TARGET_S and peak_bytes() <= TARGET_BYTES
    print(f"target    {TARGET_S / 60:.0f} min and {quantity(TARGET_BYTES, 'B')}: {'met' if met else 'NOT MET'}")
    return 0 if met or args.designs != "1e8" else 1


if __name__ == "__main__":
    sys.exit(main())
