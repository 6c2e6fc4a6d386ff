"""Which design, and why: the knee or the best under limits, its nearest cheaper alternative, what to change next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.display import Shown
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore.goal import HIGHER_IS_BETTER, Goal
from codesign_kernel.explore.result import Exploration
from codesign_kernel.explore.steps import changes_from, sensitivity
from codesign_kernel.explore.tally import Tally
from codesign_kernel.pareto import knee, losses, pareto_front
from codesign_kernel.units import column_text, column_word, three_digits

if TYPE_CHECKING:
    import pandas as pd

#: What is called cheap where the user does not say, if the designs have it.
CHEAP = "area_mm2"
#: A gain or a loss below this share is none.
LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class Recommendation(Shown):
    """An answer in rows and in words; ``str`` of it is all of the words.

    Attributes:
        chosen: the row of the design; its name is the number.
        why: what it is, and what it has beside the best of each objective.
        cheaper, cheaper_why: the nearest design of the front that costs less; None where there is none.
        change, change_why: the single step worth taking next, a row of ``changes``; None where there is none.
        changes: every single step from the chosen design, see :func:`changes_from`.
        sensitivity: what a step of each parameter does along the front, see :func:`sensitivity`.
    """

    chosen: pd.Series
    why: str
    cheaper: pd.Series | None
    cheaper_why: str
    change: pd.Series | None
    change_why: str
    changes: pd.DataFrame
    sensitivity: pd.DataFrame

    def __str__(self) -> str:
        return "\n".join((self.why, self.cheaper_why, self.change_why))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: rows as dicts, the words, and the two tables as lists of rows."""

        def row(series: pd.Series | None) -> dict[str, Any] | None:
            return None if series is None else {"design": int(series.name), **series.to_dict()}

        return {
            "chosen": row(self.chosen),
            "cheaper": row(self.cheaper),
            "change": row(self.change),
            "why": [self.why, self.cheaper_why, self.change_why],
            "changes": self.changes.reset_index().to_dict("records"),
            "sensitivity": self.sensitivity.reset_index().to_dict("records"),
        }


def recommend(
    exploration: Exploration,
    *,
    best: str | None = None,
    within: Mapping[str, Any] | None = None,
    cheaper: str | None = None,
) -> Recommendation:
    """Which design of ``exploration`` to take.

    Args:
        best: the objective to have the best of; the knee without.
        within: more limits, as the constraints of an exploration.
        cheaper: the column that says what cheap is: area where designs have it, else the last objective.

    Raises:
        InvalidInputError: a name that is no objective or column; or an exact sweep, which kept its front only, is asked
            for limits on what is no objective.
        InfeasibleDesignError: no design keeps all limits; the message says which of them bind.
    """
    goal = _goal(exploration, within)
    candidates = _candidates(exploration, goal)
    loss = losses(candidates, goal.objectives)
    distinct = len(candidates.drop_duplicates([*goal.objectives]))  # equal ones once
    if best is None:
        place = candidates.index.get_loc(knee(candidates, goal.objectives).name)
        title = f"the knee of {distinct:,} compromises"
    elif best in goal.objectives:
        at = [*goal.objectives].index(best)
        costs = goal.signed(candidates[[*goal.objectives]].to_numpy(dtype=float))
        place = int(np.lexsort([(loss**2).sum(axis=1), costs[:, at]])[0])
        which = "least" if goal.objectives[best] == "min" else "most"
        title = f"the one of {which} {column_word(best)} among {distinct:,} compromises"
    else:
        raise InvalidInputError(f"best is one of the objectives {', '.join(goal.objectives)}, but got {best!r}")
    chosen = candidates.iloc[place]
    if within or goal.limits:
        title += f" with {', '.join(goal.words(name) for name in goal.limits)}"
    cheap = _cheap_column(exploration, cheaper)
    other = _nearest_cheaper(candidates, loss, place, goal, cheap)
    changes = changes_from(exploration, [int(chosen.name)], goal)
    change, change_why = _next_change(changes, loss[place], chosen, goal)
    table = sensitivity(exploration)
    return Recommendation(
        chosen=chosen,
        why=_why(exploration, candidates, chosen, goal, title),
        cheaper=other,
        cheaper_why=_cheaper_why(exploration, chosen, other, goal, cheap),
        change=change,
        change_why=change_why + _most_telling(table, goal),
        changes=changes,
        sensitivity=table,
    )


def _goal(exploration: Exploration, within: Mapping[str, Any] | None) -> Goal:
    more = Goal.of(exploration.objectives, within).limits
    for name in more:
        if name not in exploration.frame.columns:
            known = ", ".join(map(str, exploration.frame.columns))
            raise InvalidInputError(f"a limit is on a column of the designs ({known}), but got {name!r}")
        if exploration.provenance.sampler == "exact" and name not in exploration.objectives:
            raise InvalidInputError(
                f"an exact sweep keeps its front only, which a limit on {name!r} may not respect; "
                "give the limit to the exploration as constraints="
            )
    limits = dict(exploration.goal.limits)
    for name, (least, most) in more.items():
        low, high = limits.get(name, (None, None))
        least = low if least is None else least if low is None else max(least, low)
        most = high if most is None else most if high is None else min(most, high)
        limits[name] = (least, most)
    # once more through the check that a least above its most is nothing
    return Goal.of(exploration.objectives, limits)


def _candidates(exploration: Exploration, goal: Goal) -> pd.DataFrame:
    exact = exploration.provenance.sampler == "exact"
    frame = exploration.front if exact else exploration.frame
    results = {name: frame[name].to_numpy() for name in frame.columns}
    numbers = frame.index.to_numpy()
    judged = goal.judge(results, numbers)
    if not judged.legal.any():
        raise InfeasibleDesignError(Tally.of(goal, results, judged, numbers).why_none(goal))
    return pareto_front(frame[judged.legal], goal.objectives)


def _cheap_column(exploration: Exploration, cheaper: str | None) -> str:
    if cheaper is None:
        return CHEAP if CHEAP in exploration.frame.columns else [*exploration.objectives][-1]
    if cheaper not in exploration.frame.columns or exploration.frame[cheaper].dtype.kind not in "iuf":
        raise InvalidInputError(f"what is cheap is told by a column of numbers, but got {cheaper!r}")
    return cheaper


def _nearest_cheaper(candidates: pd.DataFrame, loss: Any, place: int, goal: Goal, cheap: str) -> pd.Series | None:
    """The candidate of a lower ``cheap`` that is nearest in the other objectives, scaled as for the knee."""
    lower = -1.0 if goal.objectives.get(cheap, "max" if cheap in HIGHER_IS_BETTER else "min") == "max" else 1.0
    price = lower * candidates[cheap].to_numpy(dtype=float)
    saves = np.flatnonzero(price < price[place] - LEAST * abs(price[place]))
    if not len(saves):
        return None
    others = [at for at, name in enumerate(goal.objectives) if name != cheap]
    distance = ((loss[saves][:, others] - loss[place, others]) ** 2).sum(axis=1)
    return candidates.iloc[int(saves[np.lexsort([price[saves], distance])[0]])]


def _next_change(changes: pd.DataFrame, loss: Any, chosen: pd.Series, goal: Goal) -> tuple[pd.Series | None, str]:
    """The legal step that gains most in the design's weakest objective for what it loses in the others."""
    if changes.empty:
        return None, "What a change of a single parameter does is not known: no neighbour was evaluated."
    legal = changes[changes["legal"]]
    gains = legal[[f"gain_{name}" for name in goal.objectives]].to_numpy(dtype=float)
    for at in np.argsort(-loss, kind="stable"):
        better = np.flatnonzero(gains[:, at] > LEAST)
        if not len(better):
            continue
        lost = np.maximum(0.0, -np.delete(gains[better], at, axis=1)).sum(axis=1)
        worth = gains[better, at] / np.maximum(lost, LEAST)
        pick = better[np.lexsort([-gains[better, at], -worth])[0]]
        weakest = [*goal.objectives][at]
        row = legal.iloc[int(pick)]
        told = _differences(chosen, row, goal)
        return row, (
            f"To change next: {row['parameter']} {_value(row['before'])} → {_value(row['after'])} "
            f"(design {row.name}), because {column_word(weakest)} is what it is weakest in: {told}."
        )
    return None, "No single step to a neighbouring choice improves any objective within the limits."


def _differences(before: Mapping[Any, Any], after: Mapping[Any, Any], goal: Goal) -> str:
    """``latency 21.0 % less (1.24 ms → 980 µs), area 12.0 % more (...)``; what does not change is left out."""
    parts = []
    for name in goal.objectives:
        old, new = float(before[name]), float(after[name])
        share = (new - old) / (abs(old) or 1.0)
        if abs(share) > LEAST:
            word = "more" if share > 0 else "less"
            texts = f"{column_text(name, old)} → {column_text(name, new)}"
            parts.append(f"{column_word(name)} {_percent(share)} {word} ({texts})")
    return ", ".join(parts) or "nothing changes"


def _why(exploration: Exploration, candidates: pd.DataFrame, chosen: pd.Series, goal: Goal, title: str) -> str:
    parts = []
    for name, way in goal.objectives.items():
        value = float(chosen[name])
        top = float(candidates[name].min() if way == "min" else candidates[name].max())
        share = (value - top) / (abs(top) or 1.0)
        word = "more" if share > 0 else "less"
        beside = "the best" if abs(share) <= LEAST else f"{_percent(share)} {word} than the best"
        parts.append(f"{column_word(name)} {column_text(name, value)} ({beside})")
    kind = "" if exploration.exact else f", of {exploration.tally.designs:,} looked at"
    return f"Take design {chosen.name}, {_design(exploration, chosen)}: {title}{kind}. It has {', '.join(parts)}."


def _cheaper_why(exploration: Exploration, chosen: pd.Series, other: pd.Series | None, goal: Goal, cheap: str) -> str:
    if other is None:
        return f"No design of the front has less {column_word(cheap)}."
    told = _differences(chosen, other, goal)
    if cheap not in goal.objectives:
        old, new = float(chosen[cheap]), float(other[cheap])
        told = f"{column_word(cheap)} {column_text(cheap, old)} → {column_text(cheap, new)}, {told}"
    return f"Nearest cheaper: design {other.name}, {_design(exploration, other)}: {told}."


def _most_telling(table: pd.DataFrame, goal: Goal) -> str:
    if table.empty:
        return ""
    first = table.iloc[0]
    name = max(goal.objectives, key=lambda column: abs(first[column]))
    return (
        f" Along the front {first.name} tells most: a step up changes {column_word(name)} by {first[name]:+.3g} % "
        f"(mean of {int(first['designs'])} designs)."
    )


def _design(exploration: Exploration, row: Mapping[Any, Any]) -> str:
    chosen = [name for name, values in exploration.space.choices.items() if len(values) > 1]
    return ", ".join(f"{name} {_value(row[name])}" for name in chosen)


def _percent(share: float) -> str:
    return f"{three_digits(100 * abs(share))} %"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):g}"
