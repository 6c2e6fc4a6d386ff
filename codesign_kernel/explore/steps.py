"""One-at-a-time differences: what a single step of a single parameter does to a design."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.result import Exploration

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
#: Designs of a front whose neighbours are looked at for the sensitivity of the front.
DESIGNS = 32


class Step(NamedTuple):
    """A neighbour: ``number`` is the design in which ``parameter`` is ``after`` instead of ``before``; ``up`` is 1 for
    the next larger choice, -1 for the next smaller one, 0 between texts."""

    number: int
    parameter: str
    before: Any
    after: Any
    up: int


def steps_from(space: DesignSpace, number: int) -> Iterator[Step]:
    """Every single step from design ``number``: to the next larger and smaller choice, or to every other text."""
    shape = tuple(len(values) for values in space.choices.values())
    digits = [int(digit) for digit in np.unravel_index(number, shape)]
    stride = 1
    for (parameter, values), digit in reversed([*zip(space.choices.items(), digits, strict=True)]):
        text = isinstance(values[0], str)
        order = sorted(range(len(values)), key=lambda place, values=values: values[place])  # type: ignore[misc]
        rank = order.index(digit)
        for other, place in enumerate(order):
            if other != rank and (text or abs(other - rank) == 1):
                up = 0 if text else other - rank
                yield Step(number + (place - digit) * stride, parameter, values[digit], values[place], up)
        stride *= len(values)


def results_of(exploration: Exploration, numbers: list[int]) -> pd.DataFrame:
    """The rows of ``numbers``: from the frame, or evaluated now where the exploration knows how; unknown ones are
    missing."""
    import pandas as pd

    frame = exploration.frame
    known = frame.loc[[number for number in numbers if number in frame.index]]
    missing = np.array([number for number in numbers if number not in frame.index], dtype=np.int64)
    if exploration.evaluate is None or not len(missing):
        return known
    columns = exploration.space.columns(missing)
    results = exploration.evaluate(columns)
    exploration.goal.judge(results, missing)
    return pd.concat([known, pd.DataFrame({**columns, **results}, index=pd.Index(missing, name="design"))])


def changes_from(exploration: Exploration, numbers: list[int], goal: Goal) -> pd.DataFrame:
    """What each single step from each design of ``numbers`` changes.

    Returns:
        One row a step whose result is known: ``origin`` (the design that it starts from), ``parameter``, ``before``,
        ``after``, ``up``, ``legal`` (it can run and keeps the limits of ``goal``), the objectives, and by objective
        ``gain_<column>``: how much better it gets, as a share of what it was (NaN where it cannot run). The index is
        the number of the neighbour.
    """
    import pandas as pd

    steps = [(number, step) for number in numbers for step in steps_from(exploration.space, number)]
    rows = results_of(exploration, [*dict.fromkeys([*numbers, *(step.number for _, step in steps)])])
    judged = goal.judge({name: rows[name].to_numpy() for name in rows}, rows.index.to_numpy())
    place = {label: at for at, label in enumerate(rows.index.tolist())}
    told: list[dict[str, Any]] = []
    for number, step in steps:
        if step.number not in place:
            continue
        base, at = judged.costs[place[number]], place[step.number]
        gains = (base - judged.costs[at]) / np.where(base == 0, 1.0, np.abs(base))
        row = {"origin": number, **step._asdict(), "legal": bool(judged.legal[at])}
        row |= dict(zip(goal.objectives, goal.signed(judged.costs[at : at + 1])[0].tolist(), strict=True))
        told.append(row | {f"gain_{name}": gain for name, gain in zip(goal.objectives, gains.tolist(), strict=True)})
    columns = ["number", "origin", "parameter", "before", "after", "up", "legal", *goal.objectives]
    table = pd.DataFrame(told, columns=[*columns, *(f"gain_{name}" for name in goal.objectives)])
    return table.set_index("number")


def sensitivity(exploration: Exploration, designs: int = DESIGNS) -> pd.DataFrame:
    """What a step up of each parameter does to the designs of the front, on average.

    Args:
        designs: at most so many, evenly along the front.

    Returns:
        Index: the parameters with ordered choices, the most telling first; by objective the mean change in % for one
        step to the next larger choice, where design and neighbour can run; and ``designs``, over how many.
    """
    front = exploration.front.index.to_numpy()
    some = front[np.unique(np.linspace(0, len(front) - 1, min(designs, len(front))).astype(int))]
    every = changes_from(exploration, some.tolist(), exploration.goal)
    gains = [f"gain_{name}" for name in exploration.objectives]
    up = every[(every["up"] == 1) & every[gains].notna().all(axis=1)]
    grouped = up.groupby("parameter", sort=False)
    table = 100 * grouped[gains].mean()
    for name, way in exploration.objectives.items():
        table[name] = table.pop(f"gain_{name}") * (-1 if way == "min" else 1)
    table["designs"] = grouped.size()
    telling = table[[*exploration.objectives]].abs().max(axis=1).sort_values(ascending=False, kind="stable")
    return table.loc[telling.index]
