"""``explore``: the exact front where it is asked for or affordable, else a sampled search; the result as one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore.front import Evaluate, exact_front
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.result import Exploration, Provenance, versions_of
from codesign_kernel.explore.samplers import make_sampler
from codesign_kernel.explore.search import Evaluation, Searched, search, search_name, space_digest
from codesign_kernel.explore.sweep import GRID, Progress
from codesign_kernel.explore.work import Executor, Recorder
from codesign_kernel.pareto import Objectives

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
#: Designs that a sampled search looks at where the user does not say.
BUDGET = 10_000
#: Samplers that breed, and the generations that a budget is divided into: a population of 20 to 100 designs. On the
#: spaces of benchmarks/samplers.py small populations find more of the front with few designs.
BREEDING, GENERATIONS = frozenset({"pymoo", "nsga2", "nsga3"}), 40
#: Designs of a space that "auto" still sweeps: some minutes of the cheap cost model.
SWEPT = 200_000_000
#: Other designs that an exact sweep keeps beside its front, for pictures and for sensitivities.
CLOUD = 4000
#: What takes part in an exploration.
PACKAGES = ("codesign-playground", "numpy", "pandas", "moocore", "optuna", "pymoo")


def explore(
    space: DesignSpace,
    evaluate: Evaluate,
    *,
    objectives: Objectives,
    constraints: Mapping[str, Any] | None = None,
    sampler: str = "auto",
    budget: int | None = None,
    seed: int = 0,
    population: int | None = None,
    executor: Executor | None = None,
    recorder: Recorder | None = None,
    warm_start: Any = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    patience: int | None = None,
    swept: int = SWEPT,
    chunk: int = GRID,
    costly: bool = False,
) -> Exploration:
    """The best compromises of ``space``.

    Args:
        space: the designs.
        evaluate: from arrays by parameter to arrays by result, all of one length; see :func:`sweep`.
        objectives: columns to minimise, or ``{column: "min" | "max"}``.
        constraints: by column the most it may be (the least for accuracy, utilisation and objectives that are
            maximised), or a pair (least, most).
        sampler: "exact" (every design), "random", "pymoo" (its NSGA-II, array by array), or Optuna's "nsga2", "nsga3",
            "tpe", "gp"; "auto": exact where no smaller budget is given and the space has at most ``swept`` designs,
            else pymoo, else nsga2, else random, whichever is installed.
        budget: distinct designs that a sampled search looks at; 10,000 without.
        seed: of everything random: the same arguments give the same designs.
        population: designs of a generation; without, a 40th of the budget, 20 to 100, for samplers that breed, and the
            sampler's own number for the others.
        executor: where designs are evaluated; here without.
        recorder: keeps results and state; given again, the exploration goes on where it was, and results that it knows
            are not evaluated again.
        warm_start: designs to look at first: numbers, a frame with such an index, or an Exploration (its front).
        progress: called as ``progress(done, total, message)``; one with a method ``stands`` is also handed the
            :class:`Standing` of the exploration, with the front so far.
        stop: asked between batches; what is true ends the exploration with what it has.
        patience: end a sampled search when the hypervolume grew by less than 0.1 % over so many designs.
        swept: the largest space that "auto" sweeps.
        chunk: designs that an exact sweep evaluates at once.
        costly: an evaluation is dear: recommendations make do with the designs that are known.

    Raises:
        InvalidInputError: an argument is none of these.
        EvaluationError: the evaluator gave what is no result; what was finished before is kept.
        InfeasibleDesignError: no design keeps all limits; the message says which of them bind.
        MissingPackageError: the sampler's package is not installed.
    """
    goal = Goal.of(objectives, constraints)
    budget = _budget(budget)
    chosen = _sampler(sampler, space, budget, swept)
    again = None if costly else evaluate
    started = time.perf_counter()

    def told(evaluated: int) -> Provenance:
        exact = chosen == "exact"
        return Provenance(
            sampler=chosen,
            seed=None if exact else seed,
            budget=None if exact else budget or BUDGET,
            space=space_digest(space),
            evaluated=evaluated,
            wall_s=time.perf_counter() - started,
            versions=versions_of(PACKAGES),
        )

    if chosen == "exact":
        name = search_name("exact", space, goal, {"chunk": chunk})
        found = exact_front(
            space, evaluate, goal, executor=executor, recorder=recorder, name=name, progress=progress, stop=stop,
            chunk=chunk,
        )  # fmt: skip
        if not len(found.numbers):
            raise InfeasibleDesignError(found.tally.why_none(goal))
        frame = _kept(space, evaluate, goal, found.numbers)
        if recorder is not None:
            recorder.add(frame.loc[found.numbers])
        return Exploration.of(space, goal, frame, found.tally, found.stopped, told(found.evaluated), again)
    first = _first(space, warm_start)
    if population is None and chosen in BREEDING:
        population = min(100, max(20, (budget or BUDGET) // GENERATIONS))
    name = search_name(chosen, space, goal, {"seed": seed, "population": population, "first": first.tolist()})
    proposer = make_sampler(chosen, space, len(goal.objectives), len(goal.limits) + 1, seed, first, population)
    searched: Searched = search(
        space, evaluate, goal, proposer, budget=budget or BUDGET, executor=executor, recorder=recorder, name=name,
        progress=progress, stop=stop, patience=patience,
    )  # fmt: skip
    complete = len(searched.frame) == space.size
    stopped = "complete" if complete else searched.stopped
    return Exploration.of(space, goal, searched.frame, None, stopped, told(searched.evaluated), again)


def _budget(budget: Any) -> int | None:
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1):
        raise InvalidInputError(f"a budget is a whole number of designs, at least 1, but got {budget!r}")
    return None if budget is None else int(budget)


def _sampler(sampler: str, space: DesignSpace, budget: int | None, swept: int) -> str:
    if sampler == "exact" and budget is not None and budget < space.size:
        raise InvalidInputError(
            f"an exact sweep looks at all {space.size:,} designs, but the budget is {budget:,}; leave it out, or "
            "choose a sampler"
        )
    if sampler != "auto":
        return sampler
    if space.size <= swept and (budget is None or budget >= space.size):
        return "exact"
    found = [name for name, package in (("pymoo", "pymoo"), ("nsga2", "optuna")) if find_spec(package) is not None]
    return [*found, "random"][0]


def _first(space: DesignSpace, warm_start: Any) -> Array:
    """The numbers of the designs to begin with, each once."""
    if warm_start is None:
        return np.empty(0, dtype=np.int64)
    given = warm_start.front if isinstance(warm_start, Exploration) else warm_start
    numbers = np.asarray(given.index if hasattr(given, "columns") else list(given))
    if numbers.ndim != 1 or (len(numbers) and not np.issubdtype(numbers.dtype, np.integer)):
        raise InvalidInputError(
            f"warm_start is numbers of designs, a frame with them as its index, or an Exploration, "
            f"but got {warm_start!r}"
        )
    space.columns(numbers)  # refuses what lies outside
    return np.array([*dict.fromkeys(numbers.tolist())], dtype=np.int64)


def _kept(space: DesignSpace, evaluate: Evaluate, goal: Goal, front: Array) -> pd.DataFrame:
    """The rows of ``front`` and of a fixed random sample of all designs."""
    sample = np.random.default_rng(0).integers(space.size, size=min(CLOUD, space.size))
    return Evaluation(space, evaluate, goal)(np.union1d(front, sample))
