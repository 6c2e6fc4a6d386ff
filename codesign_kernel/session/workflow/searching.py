"""The steps that explore and choose, and an exploration as it is kept."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import Any

from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.cost.table import result_columns, spatial_columns
from codesign_kernel.design import Design, SpatialSpace
from codesign_kernel.explore import Exploration
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.result import Provenance
from codesign_kernel.explore.tally import Tally
from codesign_kernel.session.explore import explore as explore_workload
from codesign_kernel.session.workflow import kept
from codesign_kernel.session.workflow.exploring import space_of
from codesign_kernel.session.workflow.product import Job, Kept, Product
from codesign_kernel.units import column_text


def _limits(told: dict[str, list[float | None]]) -> dict[str, tuple[float | None, float | None]]:
    return {name: (least, most) for name, (least, most) in told.items()}


def explore(job: Job) -> Product:
    """The best compromises among the designs of the space; each evaluation is kept as it is finished."""
    settings = job.settings
    space = space_of(settings, job.workload)
    assert space is not None
    found = explore_workload(
        job.workload, space, sampler=settings["sampler"], objectives=dict(map(tuple, settings["objectives"])),
        constraints=_limits(settings["constraints"]), budget=settings["budget"], seed=settings["seed"],
        population=settings["population"], patience=settings["patience"], executor=job.executor, store=job.store,
        name=job.name, progress=job.progress,
    )  # fmt: skip
    study = job.store.open_study(job.name)
    for record in job.records.values():
        study.attach(record.kind, record.digest)
    told = found.provenance
    distinct = len(found.front.drop_duplicates([*found.objectives]))
    body = {
        "told": f"{found.tally.designs:,} of {found.space.size:,} designs by {told.sampler}, "
        f"{found.tally.legal:,} legal, {distinct:,} different ones on the front",
        "spatial": isinstance(space, SpatialSpace),
        "space": [[name, [*values]] for name, values in space.choices.items()],
        "objectives": [[*pair] for pair in found.objectives.items()],
        "limits": found.goal.limits,
        "tally": json.loads(found.tally.to_json()),
        "stopped": found.stopped,
        "sampler": told.sampler,
        "seed": told.seed,
        "budget": told.budget,
        "space_digest": told.space,
        "hypervolume": found.hypervolume,
    }
    files = {"frame.npz": kept.frame_bytes(found.frame), "front.csv": found.front.to_csv().encode()}
    return Product("run", kept.plain(body), files, told.evaluated)


def exploration_of(made: Kept) -> Exploration:
    """The exploration that a step has kept, able to look at neighbours where the workload is among the records."""
    told: dict[str, Any] = made.records["explore"].data
    space = space_of({"space": told["space"], "spatial": told["spatial"], "weight_bits": None})
    assert space is not None
    goal = Goal.of(dict(map(tuple, told["objectives"])), _limits(told["limits"]))
    origin = Provenance(
        told["sampler"], told["seed"], told["budget"], told["space_digest"], evaluated=0, wall_s=0.0,
        versions=made.records["explore"].provenance.versions,
    )  # fmt: skip
    columns = partial(spatial_columns if told["spatial"] else result_columns, made.workload)
    frame = kept.frame_of(made.file("explore", "frame.npz"))
    tally = Tally.from_json(json.dumps(told["tally"]))
    return Exploration.of(space, goal, frame, tally, told["stopped"], origin, columns)


def choose(job: Job) -> Product:
    """The design to take, and why."""
    found = exploration_of(job)
    advice = found.recommend(best=job.settings["best"], within=_limits(job.settings["within"]))
    design = Design.of(advice.chosen)
    shown = ", ".join(column_text(name, float(advice.chosen[name])) for name in found.objectives)
    body = {
        "told": f"{design}: {shown}",
        "why": [advice.why, advice.cheaper_why, advice.change_why],
        "design": int(advice.chosen.name),
        "digest": design.digest,
        "spatial": isinstance(design.accelerator, SpatialArray),
        "machine": asdict(design.accelerator),
        "results": {name: float(advice.chosen[name]) for name in found.objectives},
    }
    return Product("design", kept.plain(body))
