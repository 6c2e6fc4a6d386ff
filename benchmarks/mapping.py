"""How fast mappings are searched: one network on machines drawn at random, and on a whole space of them.

    python benchmarks/mapping.py [--network resnet50] [--designs 100]

Machines of the space that differ only in their buffers share a table of mappings. So points that were decided are
counted (design x layer x mapping that fits it), beside mappings whose cost was computed.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

import numpy as np

import codesign_kernel as ck
from codesign_kernel.accelerator.spatial import SpatialArrays
from codesign_kernel.cost.search import engines_of, mappings
from codesign_kernel.cost.spatial import Plan, evaluate_spatial
from codesign_kernel.mapping.nest import nest_of


def memory_gib() -> float:
    """Peak of this process (GiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fitting(plan: Plan, machines: SpatialArrays) -> float:
    """(design, layer, mapping) points of ``machines``, all of one engine: the mappings that fit each, counted."""
    (engine, members), *others = engines_of(machines)
    assert not others
    capacity = np.stack([machines.capacity_bit[name][members] for name in ("weight", "input", "output")], axis=1)
    points = 0.0
    counted: dict[object, float] = {}
    for unit in plan.units:
        if unit.array:
            nest = nest_of(unit.layer)
            if nest not in counted:
                table = mappings(nest, engine, capacity.astype(float), False, every=True)
                counted[nest] = sum(float((table.needs <= row).all(axis=1).sum()) for row in capacity)
            points += counted[nest]
    return points


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", help="a network of the zoo")
    parser.add_argument("--designs", type=int, default=100, help="machines drawn at random")
    chosen = parser.parse_args()
    profile = ck.profile(chosen.network)
    space = ck.SpatialSpace.default()
    print(f"{chosen.network}, {os.cpu_count()} cores, {space!r}")

    started = time.perf_counter()
    evaluate_spatial(profile.workload, SpatialArrays.of([ck.SpatialArray()]))
    print(f"first machine, with what numba compiles or finds compiled: {time.perf_counter() - started:.1f} s")

    rng = np.random.default_rng(0)
    some = SpatialArrays.from_columns(space.columns(rng.choice(space.size, chosen.designs, replace=False)))
    started = time.perf_counter()
    cost = evaluate_spatial(profile.workload, some)
    wall = time.perf_counter() - started
    print(
        f"{chosen.designs} machines at random: {wall:.1f} s, {chosen.designs / wall:.0f} designs/s, "
        f"{cost.evaluated / wall / 1e6:.1f} M mappings computed/s"
    )

    started = time.perf_counter()
    frame = ck.sweep(profile, space)
    wall = time.perf_counter() - started
    print(
        f"{len(frame):,} machines, best mapping of every layer: {wall:.0f} s, {len(frame) / wall:,.0f} designs/s, "
        f"peak {memory_gib():.2f} GiB, {frame.feasible.mean():.0%} feasible"
    )
    # one machine of each size of buffers, on one array: how many mappings fit each
    one = {name: values[:1] for name, values in space.choices.items()}
    buffers = {name: space.choices[name] for name in ("input_kib", "weight_kib", "output_kib")}
    plan = Plan.of(profile.workload, False)
    sample = ck.SpatialSpace(**{**one, "rows": (16,), "cols": (16,), **buffers})
    indices = rng.choice(sample.size, 40, replace=False)
    points = fitting(plan, SpatialArrays.from_columns(sample.columns(indices))) / len(indices)
    rate = points * len(frame) / wall
    print(f"about {points:,.0f} mappings fit a machine (40 of one array counted): {rate / 1e6:,.0f} M points/s decided")
    ok = wall < 180 and memory_gib() < 2 and rate > 20e6
    print("targets (3 minutes, 2 GiB, 20 M points/s):", "met" if ok else "MISSED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
