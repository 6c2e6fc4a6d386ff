"""The cards of searches: how far one came, and which of what it found is worth a look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.card import Card, cut
from codesign_kernel.figures.page import Tile
from codesign_kernel.figures.pairs import ACCURACIES
from codesign_kernel.figures.pareto import plot_pareto
from codesign_kernel.figures.words import OBJECTIVES, design_words, percent
from codesign_kernel.units import column_text, column_word, quantity

#: Dominated designs in the figure of a front.
CLOUD = 300


def value_text(name: str, value: Any) -> str:
    """A value of an objective or a limit, as it is read."""
    if name in ACCURACIES:
        return percent(float(value))
    return OBJECTIVES[name].text(float(value)) if name in OBJECTIVES else column_text(name, float(value))


def worth_a_look(found: Any) -> list[tuple[str, Any]]:
    """The rows of a front worth a look: its knee, and the best of each objective."""
    rows = [("Knee", found.knee)]
    for name, way in found.objectives.items():
        column = found.front[name]
        at = column.idxmin() if way == "min" else column.idxmax()
        rows.append((f"{'Least' if way == 'min' else 'Most'} {column_word(name)}", found.front.loc[at]))
    return rows


def broken_limits(found: Any) -> list[tuple[str, int]]:
    """(limit in words, how many designs that can run break it), for a search that counts them."""
    goal, tally = found.goal, found.tally
    words = {limit: column_word(limit) + goal.words(limit).removeprefix(limit) for limit in goal.limits}
    return [(words[limit], tally.runs - tally.alone[limit]) for limit in goal.limits]


def words_of(row: Any, space: Any) -> str:
    """A design in words: what differs within ``space``."""
    free = [name for name in space.parameters if len(space.choices[name]) > 1]
    return design_words(row, free) or ", ".join(f"{name} {row[name]}" for name in free)


def _front_rows(found: Any, words: Callable[[Any], str]) -> list[tuple[str, ...]]:
    names = [*found.objectives]
    return [(label, words(row), *(value_text(name, row[name]) for name in names)) for label, row in worth_a_look(found)]


def exploration(found: Any) -> Card:
    """The card of an Exploration."""
    tally, told = found.tally, found.provenance
    ends = {"complete": "every one", "stopped": "until it was stopped", "stalled": "until the front stood still"}
    barred = tally.designs - tally.legal
    reasons = "; ".join(f"{cut(reason, 90)} ({count:,})" for reason, count in tally.reasons.most_common(2))
    broken = "; ".join(f"{count:,} break {words}" for words, count in broken_limits(found) if count)
    return Card(
        f"Exploration for {', '.join(column_word(name) for name in found.objectives)}",
        [
            Tile("Looked at", f"{tally.designs:,}",
                 f"of {found.space.size:,} by {told.sampler}, {ends.get(found.stopped, found.stopped)}"),
            Tile("Legal", f"{tally.legal:,}", f"{barred:,} cannot run or break a limit" if barred else "all of them"),
            Tile("On the front", f"{len(found.front):,}", "no other beats them"),
            Tile("Took", quantity(told.wall_s, "s"), f"{told.evaluated:,} evaluated"),
        ],
        "Designs worth a look",
        ("Which", "Design", *(column_word(name).capitalize() for name in found.objectives)),
        _front_rows(found, lambda row: words_of(row, found.space)),
        numeric=2,
        note=". ".join(part for part in (f"Cannot run: {reasons}" if reasons else "", broken) if part),
    )  # fmt: skip


def front_figure(found: Any) -> go.Figure:
    """The front of two or three objectives that figures know; others have no picture (InvalidInputError)."""
    names = [*found.objectives]
    if not 2 <= len(names) <= 3:
        raise InvalidInputError(f"a front is drawn for two or three objectives, but this one has {', '.join(names)}")
    third = names[2] if len(names) == 3 else None
    return plot_pareto(found.frame, found.front, names[0], names[1], third, knee=found.knee, cloud=CLOUD)


def pairs(found: Any) -> Card:
    """The card of a CoOptimization."""
    told = found.provenance
    return Card(
        f"Networks and machines for {', '.join(column_word(name) for name in found.objectives)}",
        [
            Tile("Networks", f"{len(found.frame):,}", f"of {found.networks.size:,} by {told.sampler}, {found.stopped}"),
            Tile("Machines", f"{found.space.size:,}", "each network on every one"),
            Tile("Pairs on the front", f"{len(found.front):,}", f"of {found.front['network'].nunique():,} networks"),
            Tile("Took", quantity(told.wall_s, "s"), f"{told.evaluated:,} networks trained"),
        ],
        "Pairs worth a look",
        ("Which", "Machine", *(column_word(name).capitalize() for name in found.objectives)),
        [(f"{label} (pair {row.name})", *rest) for (label, row), (_, *rest)
         in zip(worth_a_look(found), _front_rows(found, design_words), strict=True)],
        numeric=2,
    )  # fmt: skip
