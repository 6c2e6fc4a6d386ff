"""What a workflow says of searching network and machine together, checked."""

from __future__ import annotations

from typing import Any

from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.session.workflow.exploring import COLUMNS, SOUGHT, limits, objectives, space_named, space_of
from codesign_kernel.session.workflow.laws import (
    SEEDS,
    Law,
    mapping,
    number,
    one_of,
    optional,
    refuse,
    section,
    several,
    whole,
)

#: Columns of pairs that can be limited.
PAIRS = {**COLUMNS, "accuracy": "max", "power_w": "min"}
SAMPLERS = ("auto", "random", "nsga2", "nsga3", "tpe", "gp")


def _limits(where: str, value: Any) -> dict[str, list[float | None]]:
    return limits(where, value, PAIRS)


def _lists(law: Law) -> Law:
    """{layer: [choices]}."""

    def check(where: str, value: Any) -> dict[str, list[Any]]:
        given = mapping(where, value)
        return {name: [law(f"{where}.{name}", one) for one in several(where, found)] for name, found in given.items()}

    return check


def _epochs(where: str, value: Any) -> list[int]:
    return [whole(0, 10_000)(where, one) for one in several(where, value)]


def _networks(where: str, value: Any) -> dict[str, Any] | None:
    """What may be chosen of the network; None for what :func:`codesign_kernel.co_optimize` chooses from."""
    return None if value is None else section(where, value, NETWORKS)


NETWORKS: dict[str, tuple[Law, Any]] = {
    "keep": (_lists(number), {}),
    "weight_bits": (_lists(one_of(2, 4, 8, 16)), {}),
    "epochs": (_epochs, [4]),
}
JOINT: dict[str, tuple[Law, Any]] = {
    "space": (space_named, "default"),
    "networks": (_networks, None),
    "objectives": (objectives, SOUGHT),
    "constraints": (_limits, {}),
    "sampler": (one_of(*SAMPLERS), "auto"),
    "budget": (whole(1), 64),
    "population": (optional(whole(2, 100_000)), None),
    "seed": (whole(0, SEEDS), None),
}


def check_joint(where: str, settings: dict[str, Any]) -> None:
    """Check what single laws cannot see.

    Raises:
        InvalidInputError: the space is none, or an objective is not minimised.
    """
    if settings["space"] == "suited":
        refuse(f"{where}.space", "is default, large or choices, for networks of one search differ in size", "suited")
    try:
        joint_space(settings)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}.space: {error}") from error
    for name, way in settings["objectives"]:
        if way != "min" or name == "utilization":
            refuse(f"{where}.objectives", "are columns that are minimised; accuracy is sought anyway", name)


def joint_space(settings: dict[str, Any]) -> DesignSpace:
    """The machines."""
    space = space_of({"space": settings["space"], "spatial": False, "weight_bits": None})
    assert space is not None
    return space
