"""The laws of single values in a workflow: each takes where the value stands and the value, and gives it back plain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from codesign_kernel.errors import InvalidInputError

#: (where it stands, the value) -> the value in its one form.
Law = Callable[[str, Any], Any]
SEEDS = 2**31


def refuse(where: str, law: str, value: Any, remedy: str = "") -> NoReturn:
    """Raise the error for ``value`` at ``where``, which breaks ``law``."""
    told = repr(value) if len(repr(value)) <= 80 else f"{value!r:.77}..."
    raise InvalidInputError(f"{where}: {law}, but got {told}{f'; {remedy}' if remedy else ''}")


def whole(low: int, high: int = SEEDS) -> Law:
    """An integer of ``low`` to ``high``."""

    def check(where: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(where, f"is a whole number of {low:,} to {high:,}", value)
        return value

    return check


def one_of(*names: Any) -> Law:
    """One of these."""

    def check(where: str, value: Any) -> Any:
        for name in names:
            if type(name) is type(value) and name == value:
                return name
        return refuse(where, f"is one of {', '.join(map(str, names))}", value)

    return check


def optional(law: Law) -> Law:
    """None, or what keeps ``law``."""
    return lambda where, value: None if value is None else law(where, value)


def text(where: str, value: Any) -> str:
    """A name: 1 to 100 printable characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 100 or not value.isprintable():
        refuse(where, "is a text of 1 to 100 printable characters", value, "put it in quotes")
    return value


def number(where: str, value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        refuse(where, "is a finite number", value)
    return float(value)


def mapping(where: str, value: Any) -> dict[str, Any]:
    """A mapping with texts as keys."""
    if not isinstance(value, Mapping):
        refuse(where, "is a mapping of names to values", value, "write `name: value` below it")
    for key in value:
        if not isinstance(key, str):
            refuse(where, "has names that are texts", key, "put it in quotes")
    return dict(value)


def section(where: str, value: Any, fields: Mapping[str, tuple[Law, Any]]) -> dict[str, Any]:
    """A mapping with some of ``fields`` ({name: (law, default)}); those that are not given have their defaults.

    Raises:
        InvalidInputError: a name is unknown, or a value breaks its law.
    """
    given = {} if value is None or value is True else mapping(where, value)
    for name in given:
        if name not in fields:
            known = f"it knows {', '.join(fields)}" if fields else "it has no settings: write {}"
            raise InvalidInputError(f"{_under(where, name)}: there is no such setting; {known}")
    return {
        name: law(_under(where, name), given[name]) if name in given else default
        for name, (law, default) in fields.items()
    }


def _under(where: str, name: str) -> str:
    return f"{where}.{name}" if not where.endswith(": ") else f"{where}{name}"


def several(where: str, value: Any) -> list[Any]:
    """A list that is not empty; a single value is a list of one."""
    found = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not found:
        refuse(where, "has one or more values to choose from", value, "add one")
    return found
