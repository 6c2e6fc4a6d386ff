"""A Profile as JSON and back: what crosses from the process that reads a file. Nothing is pickled on the way."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from codesign_kernel.profiler.lifetime import Activation
from codesign_kernel.profiler.result import Operator, Profile
from codesign_kernel.workload import Layer, Workload


def pack(profile: Profile) -> str:
    """JSON of a profile."""
    workload = profile.workload
    body = {field.name: getattr(profile, field.name) for field in fields(profile)} | {
        "workload": [workload.name, workload.edges, dict(workload.uncosted)],
        "operators": [asdict(operator) for operator in profile.operators],
    }
    return json.dumps(body)


def unpack(text: str) -> Profile:
    """The profile that ``pack`` wrote."""
    body: dict[str, Any] = json.loads(text)
    operators = tuple(Operator(**row | {"layer": _layer(row["layer"])}) for row in body.pop("operators"))
    name, edges, uncosted = body.pop("workload")
    workload = Workload(name, tuple(o.layer for o in operators), tuple((a, b) for a, b in edges), uncosted)
    inputs = tuple((tuple(shape), dtype) for shape, dtype in body.pop("inputs"))
    wall_us, alive = tuple(body.pop("wall_us")), activations_of(body.pop("activations"))
    return Profile(workload=workload, operators=operators, inputs=inputs, wall_us=wall_us, activations=alive, **body)


def activations_of(rows: list[Any]) -> tuple[Activation, ...]:
    """Activations from the lists that JSON makes of them."""
    return tuple(Activation(producer, extent, tuple(readers), last) for producer, extent, readers, last in rows)


def _layer(row: dict[str, Any]) -> Layer:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Layer(**fields)
