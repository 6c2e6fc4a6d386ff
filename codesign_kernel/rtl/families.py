"""One module with parameters for kinds of a block that differ in numbers.

Kinds of a block whose text is the same but for numbers that follow the block's integers become one module: an integer
argument, the width of a port or an integer that the block calculates is its parameter. A number follows one of them
where it is that integer, or at most two more or less, in every kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codesign_kernel.rtl.parts import Module
from codesign_kernel.rtl.repeats import numbers, shape

#: A number may be this much more or less than a parameter.
_FARTHEST = 2


@dataclass(frozen=True)
class Fit:
    """How the numbers of a text follow parameters: for each number its parameter's key and what is added, or None."""

    follows: tuple[tuple[str, int] | None, ...]
    #: the parameter's name by its key, in the order in which they are declared
    names: dict[str, str]


def families(members: list[tuple[Module, str]]) -> list[tuple[list[Module], Fit]]:
    """``members`` in groups of one text, and how the numbers of that text follow parameters."""
    groups: dict[Any, list[tuple[Module, str]]] = {}
    for module, text in members:
        groups.setdefault((module.variant, shape(text)), []).append((module, text))
    made: list[tuple[list[Module], Fit]] = []
    for group in groups.values():
        while group:
            rows = [numbers(text) for _, text in group]
            follows = tuple(_follow([module for module, _ in group], column) for column in zip(*rows, strict=True))
            odd = [index for index, found in enumerate(follows) if found == ("", 0)]
            if odd:
                # what follows nothing has to be equal: first those that are as the first one is there
                alike = [all(row[index] == rows[0][index] for index in odd) for row in rows]
            else:
                alike = [True] * len(group)
                made.append(([module for module, _ in group], _named(follows)))
            if odd:
                made += families([member for member, same in zip(group, alike, strict=True) if same])
            group = [member for member, same in zip(group, alike, strict=True) if not same]
    return made


def _follow(group: list[Module], values: Sequence[int]) -> tuple[str, int] | None:
    """The integer that ``values`` follow and what is added to it; None where they are equal, an empty name if none."""
    if len(set(values)) == 1:
        return None
    found = []
    for key in group[0].numbers:
        if all(key in module.numbers for module in group):
            more = {value - module.numbers[key] for module, value in zip(group, values, strict=True)}
            if len(more) == 1 and abs(min(more)) <= _FARTHEST:
                found.append((key, more.pop()))
    # arguments come before what is calculated from them
    return min(found, key=lambda pair: max(1, abs(pair[1])), default=("", 0))


def _named(follows: Sequence[tuple[str, int] | None]) -> Fit:
    keys = list(dict.fromkeys(found[0] for found in follows if found))
    widths = [key for key in keys if key.endswith("_width")]
    return Fit(tuple(follows), {key: "WIDTH" if widths == [key] else key.upper() for key in keys})
