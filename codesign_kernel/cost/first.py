"""The first step of a network on N machines: its input is packed by the host as each of them runs it fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import Op, cycles
from codesign_kernel.cost.formulas import StepCounts, input_moves, parameter_moves, parameter_words, step_counts
from codesign_kernel.mapping.packing import packings, runs
from codesign_kernel.mapping.steps import Step, together
from codesign_kernel.mapping.tiling import Tiling, tile

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FirstStep:
    """How the first step runs. Arrays over machines.

    Attributes:
        tiling, counts: how it is cut, and what it does.
        packed: filter positions that lie beside each other as channels.
        rows: of the weight memory that the parameters of all steps take.
        resident: they stay on chip.
    """

    tiling: Tiling
    counts: StepCounts
    packed: Array
    rows: Array
    resident: Array


def is_kept(steps: Sequence[Step], tilings: Sequence[Tiling], i: int) -> Array | bool:
    """Where the result of step ``i`` is on chip for the next one: both hold their maps whole."""
    if not 0 <= i < len(steps) - 1 or not steps[i + 1].from_previous:
        return False
    return np.asarray(tilings[i].whole & tilings[i + 1].whole)


def absent(kept: Array | bool) -> Array | bool:
    """Where a map is not kept."""
    return True if kept is False else ~np.asarray(kept)


def _picked(chosen: Array, values: Sequence[Any]) -> Any:
    """Of one value for each way, that of the way that is taken: arrays, or dataclasses, tuples and dicts of them."""
    first = values[0]
    if isinstance(first, tuple):
        return tuple(_picked(chosen, each) for each in zip(*values, strict=True))
    if isinstance(first, dict):
        return {key: _picked(chosen, [value[key] for value in values]) for key in first}
    if hasattr(first, "__dataclass_fields__"):
        parts = {f.name: _picked(chosen, [getattr(value, f.name) for value in values]) for f in fields(first)}
        return type(first)(**parts)
    if chosen.size == 1:
        return values[int(chosen.item())]
    return reduce(lambda found, way: np.where(chosen == way, values[way], found), range(1, len(values)), first)


def _flat(values: Array) -> Array:
    """``values`` with one element along each axis of a grid along which they are all equal."""
    for axis in range(values.ndim):
        one = values.take([0], axis)
        if (values == one).all():
            values = one
    return values


def first_step(steps: tuple[Step, ...], rest: Sequence[Tiling], machines: Machines) -> FirstStep:
    """The first of ``steps`` on each of ``machines``; ``rest`` is how the others are cut.

    Of the ways that fit, the one with the fewest cycles of the whole network is taken, and of equals the one that packs
    more: as :func:`codesign_kernel.lower.lower` does. Where none fits, the input stays as it is.
    """
    m, ways, once = machines, packings(steps[0]), together(steps)
    streamed = any(step.streamed for step in steps)
    others = sum((parameter_words(t, m) for t in rest), np.zeros_like(m.rows))
    found: list[tuple[Tiling, StepCounts, Array, Array, Array]] = []
    for way in ways:
        tiling = tile(way, m)
        rows = others + parameter_words(tiling, m)
        resident = (rows <= m.depth["weight"]) & (not streamed)
        save = absent(is_kept(steps, [tiling, *rest[:1]], 0)) if way.to_next else True
        counts = step_counts(way, tiling, m, resident, True, save, once)
        found.append((tiling, counts, np.asarray(way.packed[0] * way.packed[1]), rows, resident))
    if len(ways) == 1:
        return FirstStep(*found[0])
    chosen, fits, least = np.zeros_like(m.rows), np.asarray(False), np.asarray(0)
    stream = _streaming(steps[1:], rest, m)
    for number, (way, (tiling, counts, _, _, resident)) in enumerate(zip(ways, found, strict=True)):
        taken = counts.load_cycle + counts.compute_cycle + counts.store_cycle + np.where(resident, 0, stream)
        taken = taken + _next_load(steps, [tiling, *rest[:1]], m)
        can = runs(way, tiling, m)
        better = can & (~fits | (taken <= least))
        chosen, least, fits = np.where(better, number, chosen), np.where(better, taken, least), fits | can
    chosen = _flat(chosen)
    return FirstStep(*(_picked(chosen, values) for values in zip(*found, strict=True)))


def _streaming(steps: Sequence[Step], tilings: Sequence[Tiling], m: Machines) -> Any:
    """Cycles in which the parameters of ``steps`` are loaded where they do not stay on chip."""
    total: Any = 0
    for step, t in zip(steps, tilings, strict=True):
        moves, beats = parameter_moves(t, m)
        total = total + step.repeat * (moves * cycles(Op.LOADP, count=0, latency=m.memory_latency) + beats)
    return total


def _next_load(steps: Sequence[Step], tilings: Sequence[Tiling], m: Machines) -> Any:
    """Cycles in which the second step loads what the first one made."""
    if len(steps) == 1 or not steps[1].from_previous:
        return 0
    moves, words = input_moves(steps[1], tilings[1], absent(is_kept(steps, tilings, 0)))
    return steps[1].repeat * (moves * cycles(Op.LOADA, count=0, latency=m.memory_latency) + words * m.activation_beats)
