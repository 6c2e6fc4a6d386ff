"""Questions about what a systolic array does, with answers out of its trace: nothing is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from codesign_kernel.figures.wavefront import DATAFLOWS

#: What stays in the elements, by dataflow.
_STAYS = {"ws": "weights", "os": "sums", "is": "inputs"}


class Question(NamedTuple):
    """One question with a number as its answer.

    Attributes:
        kind: what is asked for, a short name. text: the question. unit: of the answer. answer: the number.
        tolerance: how far off an answer may be. hint: what helps who was wrong. why: what explains the answer.
        cycle, pe: where to look at it: the cycle, and (row, column) of an element or None.
    """

    kind: str
    text: str
    unit: str
    answer: float
    tolerance: float
    hint: str
    why: str
    cycle: int
    pe: tuple[int, int] | None


def questions(trace: Any, seed: int = 0) -> tuple[Question, ...]:
    """Five questions about a trace (:class:`codesign_kernel.ArrayTrace`); another ``seed`` asks anew."""
    generator = np.random.default_rng([seed, trace.rows, trace.cols, trace.cycles])
    return tuple(make(trace, generator) for make in _MAKERS)


def judged(question: Question, given: float) -> tuple[bool, str]:
    """(right, what to say) of an answer."""
    off = given - question.answer
    if abs(off) <= question.tolerance:
        return True, f"Right. {question.why}"
    return False, f"Not yet: it is {'less' if off > 0 else 'more'} than that. {question.hint}"


def _worked(trace: Any, generator: np.random.Generator, *, later: bool = False) -> tuple[int, int]:
    """An element that multiplies; with ``later`` not the very first, if there is another."""
    used = np.argwhere(trace.active.any(axis=0))
    away = used[used.sum(axis=1) > 0] if later else used
    row, col = generator.choice(away if len(away) else used)
    return int(row), int(col)


def _first_cycle(trace: Any, generator: np.random.Generator) -> Question:
    row, col = _worked(trace, generator, later=True)
    cycle = int(np.flatnonzero(trace.active[:, row, col])[0])
    corner = int(np.flatnonzero(trace.active.any(axis=(1, 2)))[0])
    steps = cycle - corner
    return Question(
        "first",
        f"In which cycle does PE ({row}, {col}) first multiply?",
        "",
        cycle,
        0,
        "Find the cycle in which the first PE multiplies, and follow the front from there: it takes one cycle for each "
        "step to the right and for each step down.",
        f"The first product of all is in cycle {corner}; PE ({row}, {col}) lies {row} down and {col} right of the "
        f"corner, and begins {steps} {_cycles(steps)} later.",
        cycle,
        (row, col),
    )


def _all_cycles(trace: Any, generator: np.random.Generator) -> Question:
    busy = int(np.count_nonzero(trace.busy))
    return Question(
        "cycles",
        "How many cycles does the whole product take, from the first input to the last sum?",
        "cycles",
        trace.cycles,
        0,
        "Cycles are counted from 0, so that the last one has a number that is smaller by one.",
        f"In {busy} of them a PE multiplies; the others fill the array and empty it.",
        trace.cycles - 1,
        None,
    )


def _busy_in(trace: Any, generator: np.random.Generator) -> Question:
    cycle = int(generator.choice(np.flatnonzero(trace.busy)))
    busy = int(trace.busy[cycle])
    total = trace.rows * trace.cols
    return Question(
        "busy",
        f"How many of the {total} PEs multiply in cycle {cycle}?",
        "PEs",
        busy,
        0,
        "Count the PEs with a coloured frame in that cycle, or read the bar below the array.",
        f"{total - busy} of {total} idle: the wave has not reached them, has left them, or never comes there.",
        cycle,
        None,
    )


def _complete_in(trace: Any, generator: np.random.Generator) -> Question:
    row, col = (int(generator.integers(side)) for side in trace.result.shape)
    there = (trace.leaves_i == row) & (trace.leaves_j == col)
    out = np.flatnonzero(there.any(axis=1))
    parts = len(out)
    cycle = int(out[-1])
    more = f" It came in {parts} parts, which are added up outside of the array." if parts > 1 else ""
    return Question(
        "complete",
        f"In which cycle is c[{row}, {col}] complete, because its last part leaves the array?",
        "",
        cycle,
        0,
        "Step until the number appears below the array, or in C beside it; a part is in italics.",
        f"c[{row}, {col}] = {trace.result[row, col]} leaves column {int(np.flatnonzero(there[cycle])[0])}.{more}",
        cycle,
        None,
    )


def _utilization(trace: Any, generator: np.random.Generator) -> Question:
    share = 100 * trace.utilization
    return Question(
        "utilization",
        "How many per cent of all the products that the array could have done did it do?",
        "%",
        share,
        1.0,
        "Divide the products of the matrices, M × K × N, by PEs × cycles.",
        f"{trace.macs} products over {trace.rows * trace.cols} PEs × {trace.cycles} cycles are {share:.1f} %. "
        f"{DATAFLOWS[trace.dataflow]}: the {_STAYS[trace.dataflow]} stay, and filling and emptying costs the rest.",
        int(trace.busy.argmax()),
        None,
    )


def _cycles(count: int) -> str:
    return "cycle" if count == 1 else "cycles"


_MAKERS: tuple[Callable[[Any, np.random.Generator], Question], ...] = (
    _first_cycle,
    _busy_in,
    _complete_in,
    _all_cycles,
    _utilization,
)
