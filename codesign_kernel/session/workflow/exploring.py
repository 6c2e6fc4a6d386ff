"""What a workflow says of exploring and choosing, checked: the space, what is sought, under which limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codesign_kernel.design import DesignSpace, SpatialSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.samplers import SAMPLERS
from codesign_kernel.session.workflow.laws import (
    SEEDS,
    Law,
    mapping,
    one_of,
    optional,
    refuse,
    several,
    whole,
)

#: Columns of an exploration that can be sought or limited, and which way is better.
COLUMNS = {
    "latency_ms": "min",
    "latency_cycle": "min",
    "energy_uj": "min",
    "energy_low_uj": "min",
    "energy_high_uj": "min",
    "area_mm2": "min",
    "power_mw": "min",
    "utilization": "max",
}
SOUGHT = [["latency_ms", "min"], ["energy_uj", "min"], ["area_mm2", "min"]]
#: Spaces that have a name; "suited" is "default" or "large", as the network needs.
SPACES = ("suited", "default", "large")


def space_named(where: str, value: Any) -> str | list[list[Any]]:
    """A space by its name, or [[field, [choices]], ...] in the order given, which numbers the designs."""
    if isinstance(value, str):
        return str(one_of(*SPACES)(where, value))
    choices = mapping(where, value)
    if not choices:
        refuse(where, "has choices for rows and cols at least", choices)
    return [[name, several(f"{where}.{name}", values)] for name, values in choices.items()]


def objectives(where: str, value: Any) -> list[list[str]]:
    """[[column, direction], ...] of a list of columns or of {column: direction}."""
    if isinstance(value, Mapping):
        given = mapping(where, value)
    else:
        names = several(where, value)
        if len({str(name) for name in names}) != len(names):
            refuse(where, "names every column once", value)
        given = {str(name): COLUMNS.get(str(name), "min") for name in names}
    if not given:
        refuse(where, "names one column or more", value)
    for name, way in given.items():
        one_of(*COLUMNS)(where, name)
        one_of("min", "max")(f"{where}.{name}", way)
    return [[name, way] for name, way in given.items()]


def limits(where: str, value: Any, columns: Mapping[str, str] = COLUMNS) -> dict[str, list[float | None]]:
    """{column: [least, most]}."""
    given = mapping(where, value)
    found = {}
    for name, bound in given.items():
        one_of(*columns)(where, name)
        try:
            goal = Goal.of({name: columns[name]}, {name: tuple(bound) if isinstance(bound, list) else bound})
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}.{name}: {error}") from error
        found[name] = list(goal.limits[name])
    return found


EXPLORE: dict[str, tuple[Law, Any]] = {
    "space": (space_named, "suited"),
    "spatial": (one_of(False, True), False),
    "objectives": (objectives, SOUGHT),
    "constraints": (limits, {}),
    "sampler": (one_of("auto", "exact", *SAMPLERS), "auto"),
    "budget": (optional(whole(1)), None),
    "population": (optional(whole(2, 100_000)), None),
    "patience": (optional(whole(1)), None),
    "seed": (whole(0, SEEDS), None),
}
CHOOSE: dict[str, tuple[Law, Any]] = {"best": (one_of("accuracy", *COLUMNS), None), "within": (limits, {})}


def space_of(settings: Mapping[str, Any], workload: object = None) -> DesignSpace | None:
    """The space of checked settings of ``explore``; None where it is the one suited to a workload that is not there.

    Raises:
        InvalidInputError: see :class:`DesignSpace`.
    """
    kind: type[DesignSpace] = SpatialSpace if settings["spatial"] else DesignSpace
    named = settings["space"]
    if not isinstance(named, str):
        return kind(**dict(named))
    if named == "suited" and workload is None:
        return None
    space = kind.suited_to(workload) if named == "suited" else kind.large() if named == "large" else kind.default()
    bits = settings["weight_bits"]
    return kind(**{**space.choices, "weight_bits": bits}) if bits else space


def check_exploring(at: str, explore: dict[str, Any], choose: dict[str, Any] | None, bits: int | None) -> None:
    """Check what single laws cannot see, and write down the precision of the space: ``weight_bits``, None where the
    space has its own.

    Raises:
        InvalidInputError: the space is none, or settings contradict one another.
    """
    if explore["spatial"] and explore["space"] == "large":
        refuse(f"{at}explore.space", "is suited, default or choices for spatial arrays", "large")
    _check_bits(at, explore, bits)
    try:
        space = space_of(explore)
    except InvalidInputError as error:
        raise InvalidInputError(f"{at}explore.space: {error}") from error
    if explore["sampler"] == "exact" and explore["budget"] is not None:
        known = "all designs" if space is None else f"all {space.size:,} designs"
        refuse(f"{at}explore.budget", f"is left out with sampler: exact, which looks at {known}", explore["budget"])
    if choose is None:
        return
    sought = dict(map(tuple, explore["objectives"]))
    if choose["best"] is not None and choose["best"] not in sought:
        refuse(f"{at}choose.best", f"is one of explore.objectives ({', '.join(sought)})", choose["best"])
    for name, (least, most) in choose["within"].items():
        if name not in sought:
            remedy = "put it under explore.constraints, where every design is asked"
            refuse(f"{at}choose.within", f"limits explore.objectives ({', '.join(sought)})", name, remedy)
        low, high = explore["constraints"].get(name, (None, None))
        if (None not in (low, most) and low > most) or (None not in (least, high) and least > high):
            law = f"leaves room within explore.constraints.{name} {[low, high]}"
            refuse(f"{at}choose.within.{name}", law, [least, most], "one of the two binds nothing: loosen it")


def _check_bits(at: str, explore: dict[str, Any], bits: int | None) -> None:
    named = explore["space"]
    given = None if isinstance(named, str) else dict(named).get("weight_bits")
    if bits is not None and given not in (None, [bits]):
        remedy = "change one of the two, or leave it out of the space"
        refuse(f"{at}explore.space.weight_bits", f"is optimise.bits, {bits}, for the network runs on it", given, remedy)
    explore["weight_bits"] = None
    if bits not in (None, 8) and given is None:
        if isinstance(named, str):
            explore["weight_bits"] = bits
        else:
            explore["space"] = [*named, ["weight_bits", [bits]]]
