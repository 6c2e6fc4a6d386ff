"""The exact front of a whole space, streamed: block by block, in memory that does not grow with the space."""

from __future__ import annotations

import copy
import io
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.accelerator.columns import Grid
from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.sweep import GRID, Progress, grid_choices
from codesign_kernel.explore.tally import Tally
from codesign_kernel.explore.work import Executor, Recorder, Serial
from codesign_kernel.pareto import non_dominated

Array = NDArray[Any]
Evaluate = Callable[[Mapping[str, Any]], Mapping[str, Any]]
#: Seconds of work in an item of an executor: well above what handing it over costs.
ITEM_S = 0.25
#: The state is written once the work since was so many times as long as the last writing: a kill costs next to nothing
#: that was evaluated, and the writing a few per cent of the time.
KEEP_RATIO = 30.0
#: Points whose front thins out the others before the exact comparison, and how many of that front do it.
_SAMPLE, _JUDGES = 2048, 48
#: What a block is: the number of its first design, and its choices by parameter.
Piece = tuple[int, dict[str, Any]]


@dataclass
class Streamed:
    """A front as far as it is known.

    Attributes:
        numbers, costs: its designs in order of their numbers, and their costs as :class:`Goal` counts them.
        tally: over all designs so far.
        stopped: "complete", or "stopped" where it was told to.
        evaluated: designs evaluated now; the others were done before.
    """

    numbers: Array
    costs: Array
    tally: Tally = field(default_factory=Tally)
    stopped: str = "complete"
    evaluated: int = 0


@dataclass(frozen=True)
class Block:
    """Evaluates some pieces of a space and keeps their front; can be pickled if ``evaluate`` can."""

    evaluate: Evaluate
    goal: Goal

    def __call__(self, pieces: Sequence[Piece]) -> tuple[Array, Array, Tally]:
        """(numbers, costs) of the front of the designs in ``pieces``, and their counts."""
        tally, parts = Tally(), []
        for start, choices in pieces:
            grid = Grid(choices)
            numbers = np.arange(start, start + math.prod(grid.shape))
            results = self.evaluate(grid)
            judged = self.goal.judge(results, numbers)
            tally.merge(Tally.of(self.goal, results, judged, numbers))
            legal = np.flatnonzero(judged.legal)
            costs = judged.costs[legal]
            kept = front_of(costs)
            parts.append((numbers[legal[kept]], costs[kept]))
        if len(parts) == 1:
            return (*parts[0], tally)
        found, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        kept = front_of(values)
        return found[kept], values[kept], tally


def front_of(costs: Array) -> Array:
    """Positions of the points that no other dominates, ascending; equal ones all stay.

    A few points of a sample's front first sort out what they dominate, array by array: what is left for the exact
    comparison is a small part of a large block.
    """
    left = np.arange(len(costs))
    if len(costs) > 2 * _SAMPLE:
        sample = costs[:: len(costs) // _SAMPLE]
        judges = sample[non_dominated(sample)]
        low, high = judges.min(axis=0), judges.max(axis=0)
        balance = ((judges - low) / np.where(high > low, high - low, 1)).max(axis=1)
        order = np.argsort(balance, kind="stable")
        for judge in judges[order[:: max(1, len(order) // _JUDGES)]]:
            seen = costs[left]
            left = left[~((judge <= seen).all(axis=1) & (judge < seen).any(axis=1))]
    return left[non_dominated(costs[left])]


def exact_front(
    space: DesignSpace,
    evaluate: Evaluate,
    goal: Goal,
    *,
    executor: Executor | None = None,
    recorder: Recorder | None = None,
    name: str = "front",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    chunk: int = GRID,
) -> Streamed:
    """The legal designs of ``space`` that no other legal one dominates: every design is evaluated, once.

    Args:
        evaluate: as for :func:`codesign_kernel.explore.sweep`; gets a :class:`Grid` of at most ``chunk`` designs.
        executor: where the blocks are worked on; here without.
        recorder, name: where the state is kept (after every block that outweighs the writing, see ``KEEP_RATIO``, and
            when the sweep is left in any way); if it holds one of the same ``name``, the sweep goes on from there.
        progress: called as ``progress(done, total, message)`` after each block; see :class:`Standing` too.
        stop: asked after each block; what is true ends the sweep with the front so far.

    Raises:
        InvalidInputError: the state under ``name`` is of another space.
        EvaluationError: see :meth:`Goal.judge`.
    """
    pieces = pieces_of(space, chunk)
    state = _State(len(pieces), goal)
    if recorder is not None:
        state.resume(recorder.state(name))
    todo = np.flatnonzero(~state.now[0])
    before = state.now[1].tally.designs
    following = _following(progress, space, goal)
    due, stopped = 0.0, "complete"
    try:
        for positions, answer in _answers(Block(evaluate, goal), pieces, todo, executor):
            state.add(positions, answer)
            done, found = state.now
            if recorder is not None and (started := time.monotonic()) >= due:
                recorder.keep(name, state.dump())
                due = time.monotonic() + KEEP_RATIO * (time.monotonic() - started)
            if following is not None:
                following.tell(found.numbers, found.costs, found.tally)
            if progress is not None:
                progress(found.tally.designs, space.size, f"designs evaluated, {len(found.numbers):,} on the front")
            if stop is not None and stop() and not done.all():
                stopped = "stopped"
                break
    finally:
        if recorder is not None:
            recorder.keep(name, state.dump())
    found = state.now[1]
    return replace(found, stopped=stopped, evaluated=found.tally.designs - before)


def _following(progress: Progress | None, space: DesignSpace, goal: Goal) -> Any:
    """Who is told of the front as it grows; loaded here, since that module takes fronts apart with ours."""
    from codesign_kernel.explore.standing import Following

    return Following.of(progress, space, goal, space.size)


def pieces_of(space: DesignSpace, chunk: int) -> list[Piece]:
    """All blocks in order of their designs."""
    pieces, start = [], 0
    for choices in itertools.product(*grid_choices(space, chunk)):
        pieces.append((start, dict(zip(space.parameters, choices, strict=True))))
        start += math.prod(len(values) for values in choices)
    return pieces


def _answers(
    block: Block, pieces: list[Piece], todo: Array, executor: Executor | None
) -> Iterator[tuple[Array, tuple[Array, Array, Tally]]]:
    """(positions of pieces, what ``block`` makes of them), as they complete."""
    together = 1
    if executor is not None and len(todo):  # the first tells how many make an item
        started = time.perf_counter()
        yield todo[:1], block([pieces[todo[0]]])
        together = max(1, math.ceil(ITEM_S / max(1e-6, time.perf_counter() - started)))
        todo = todo[1:]
    items = [todo[i : i + together] for i in range(0, len(todo), together)]
    work = executor or Serial()
    for position, answer in work.run(block, [[pieces[i] for i in item] for item in items]):
        yield items[position], answer


class _State:
    """Which pieces are done, and the front of these: always replaced as one, so that an interrupt finds them agreed."""

    def __init__(self, pieces: int, goal: Goal) -> None:
        self.now = (np.zeros(pieces, dtype=bool), Streamed(np.empty(0, np.int64), np.empty((0, len(goal.objectives)))))

    def add(self, positions: Array, answer: tuple[Array, Array, Tally]) -> None:
        done, found = self.now
        numbers, costs = (np.concatenate(both) for both in zip((found.numbers, found.costs), answer[:2], strict=True))
        kept = np.flatnonzero(non_dominated(costs))
        kept = kept[np.argsort(numbers[kept], kind="stable")]
        tally = copy.deepcopy(found.tally)
        tally.merge(answer[2])
        done = done.copy()
        done[positions] = True
        self.now = (done, Streamed(numbers[kept], costs[kept], tally))

    def dump(self) -> bytes:
        written = io.BytesIO()
        done, found = self.now
        tally = np.frombuffer(found.tally.to_json().encode(), dtype=np.uint8)
        np.savez(written, done=done, numbers=found.numbers, costs=found.costs, tally=tally)
        return written.getvalue()

    def resume(self, kept: bytes | None) -> None:
        if kept is None:
            return
        with np.load(io.BytesIO(kept), allow_pickle=False) as state:
            if state["done"].shape != self.now[0].shape:
                raise InvalidInputError(
                    f"a sweep goes on in the space that it began in, but the state kept has {state['done'].size:,} "
                    f"blocks and this space {self.now[0].size:,}; give the study another name"
                )
            tally = Tally.from_json(state["tally"].tobytes().decode())
            self.now = (state["done"], Streamed(state["numbers"], state["costs"], tally))
