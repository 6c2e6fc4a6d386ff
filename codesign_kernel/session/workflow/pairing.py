"""The step that searches networks and machines together, and the choice among its pairs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from codesign_kernel.pareto import knee
from codesign_kernel.session.candidates import NetworkSpace
from codesign_kernel.session.co_optimize import co_optimize
from codesign_kernel.session.workflow import kept
from codesign_kernel.session.workflow.joint import joint_space
from codesign_kernel.session.workflow.product import Job, Product
from codesign_kernel.units import column_text


def search(job: Job) -> Product:
    """The front of pairs; every network is kept as it is finished."""
    settings: dict[str, Any] = dict(job.settings)
    chosen = settings["networks"]
    space = joint_space(settings)
    networks = None
    if chosen is not None:
        bits = space.choices.get("weight_bits", (8,))
        networks = NetworkSpace(
            keep=chosen["keep"], weight_bits=chosen["weight_bits"], epochs=chosen["epochs"], bits=bits
        )
    limits = {name: (least, most) for name, (least, most) in settings["constraints"].items()}
    found = co_optimize(
        job.trained, space, job.dataset, limits,
        networks=networks, objectives=[name for name, _ in settings["objectives"]], sampler=settings["sampler"],
        budget=settings["budget"], population=settings["population"], seed=settings["seed"], executor=job.executor,
        store=job.store, progress=job.progress,
    )  # fmt: skip
    used = sorted({int(number) for number in found.front["network"]})
    body = {
        "told": f"{len(found.frame):,} of {found.networks.size:,} networks by {found.provenance.sampler}, "
        f"{len(found.front):,} pairs of {len(used)} networks on the front",
        "objectives": [[*pair] for pair in found.objectives.items()],
        "limits": found.goal.limits,
        "space": [[name, [*values]] for name, values in space.choices.items()],
        "networks": {name: [*values] for name, values in found.networks.choices.items()},
        "stopped": found.stopped,
        "hypervolume": found.hypervolume,
        "words": {str(place): str(found.pair(place)) for place in range(len(found.front))},
    }
    files = {f"network-{number}.npz": kept.network_bytes(found.made[number]) for number in used}
    files |= {"front.npz": kept.frame_bytes(found.front), "front.csv": found.front.to_csv().encode()}
    return Product("run", kept.plain(body), files, found.provenance.evaluated)


def choose_pair(job: Job) -> Product:
    """The pair to take: the knee, or the best of an objective, and of equal ones the nearest to the knee."""
    told = job.records["co_optimize"].data
    front = kept.frame_of(job.file("co_optimize", "front.npz"))
    ways = dict(map(tuple, told["objectives"]))
    best = job.settings["best"]
    if best is not None:
        top = front[best].min() if ways[best] == "min" else front[best].max()
        front = front[front[best] == top]
    row = knee(front, ways)
    design = joint_space({"space": told["space"]}).design(int(row["design"]))
    network = job.file("co_optimize", f"network-{int(row['network'])}.npz")
    shown = ", ".join(column_text(name, float(row[name])) for name in ways if name != "accuracy")
    body = {
        "told": f"{design}: {shown}; {float(row['test_accuracy']):.2%} of the held-out inputs",
        "why": [told["words"][str(row.name)]],
        "design": int(row["design"]),
        "digest": design.digest,
        "spatial": False,
        "machine": asdict(design.accelerator),
        "network": kept.network_of(network).digest,
        "validation": float(row["accuracy"]),
        "test": float(row["test_accuracy"]),
        "results": {name: float(row[name]) for name in ways},
    }
    return Product("design", kept.plain(body), {"network.npz": network})
