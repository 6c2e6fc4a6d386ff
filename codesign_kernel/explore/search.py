"""A sampled search: batches asked, evaluated as arrays, told, kept; no design is evaluated twice."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.explore.front import ITEM_S, Evaluate, front_of
from codesign_kernel.explore.goal import Goal, Judged
from codesign_kernel.explore.samplers import Sampler
from codesign_kernel.explore.standing import Following
from codesign_kernel.explore.sweep import Progress
from codesign_kernel.explore.tally import Tally
from codesign_kernel.explore.volume import hypervolume, reference_of
from codesign_kernel.explore.work import Executor, Recorder, Serial

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
#: A sampler has nothing more to propose when of its last so many batches less than this share were new designs.
BARREN, NEW = 20, 0.05
#: A hypervolume that grows by less than this share has stalled.
STALL = 1e-3


class Searched(NamedTuple):
    """What a search found.

    Attributes:
        frame: the distinct designs that it looked at, in this order; index: their numbers.
        evaluated: how many of them were evaluated now, and not known before.
        stopped: "budget", "stalled", "stopped", or "exhausted" where the sampler hardly had new designs.
    """

    frame: pd.DataFrame
    evaluated: int
    stopped: str


@dataclass(frozen=True)
class Evaluation:
    """Evaluates designs by number; can be pickled if ``evaluate`` can."""

    space: DesignSpace
    evaluate: Evaluate
    goal: Goal

    def __call__(self, numbers: Array) -> pd.DataFrame:
        """Parameters and results, one row a design.

        Raises:
            EvaluationError: see :meth:`Goal.judge`.
        """
        import pandas as pd

        columns = self.space.columns(numbers)
        results = self.evaluate(columns)
        self.goal.judge(results, numbers)
        return pd.DataFrame({**columns, **results}, index=pd.Index(numbers, name="design"))


class Known:
    """Designs whose results are known: those of a recorder at first, and every one evaluated since."""

    def __init__(self, evaluation: Evaluation, recorder: Recorder | None, executor: Executor | None) -> None:
        self._evaluation, self._recorder, self._executor = evaluation, recorder, executor
        self._goal = evaluation.goal
        self.evaluated = 0
        self._seconds = math.inf  # a design
        self._frames: list[pd.DataFrame] = []
        self._judged: list[Judged] = []
        self._place: dict[int, tuple[int, int]] = {}
        if recorder is not None:
            done = recorder.done()
            if set(self._goal.columns) <= set(done.columns) and len(done):
                self._add(self._read(done))

    def _read(self, done: pd.DataFrame) -> pd.DataFrame:
        """Results as they were kept, with the parameters of their designs as the space has them, whatever was kept."""
        import pandas as pd

        done = done[~done.index.duplicated()]
        parameters = self._evaluation.space.columns(done.index.to_numpy())
        kept = {name: done[name].to_numpy() for name in done.columns if name not in parameters}
        if "feasible" in kept:
            kept["feasible"] = kept["feasible"].astype(bool)  # a database may know 0 and 1 only
        return pd.DataFrame({**parameters, **kept}, index=pd.Index(done.index.to_numpy(), name="design"))

    def frame(self, numbers: Array) -> pd.DataFrame:
        """The rows of ``numbers``, all known, in this order."""
        import pandas as pd

        whole = pd.concat(self._frames) if self._frames else pd.DataFrame()
        return whole.loc[numbers]

    def judged(self, numbers: Array) -> Judged:
        """Costs and limits of ``numbers``; what is not known is evaluated, in one array without an executor."""
        new = np.array([n for n in dict.fromkeys(numbers.tolist()) if n not in self._place], dtype=np.int64)
        if len(new):
            self._evaluate(new)
        rows = [self._place[number] for number in numbers.tolist()]
        costs = np.array([self._judged[frame].costs[row] for frame, row in rows])
        return Judged(costs, np.array([self._judged[frame].broken[row] for frame, row in rows]))

    def results(self, numbers: Array) -> dict[str, Array]:
        """Of ``numbers``, all known: what limits are about, and ``reason``."""
        rows = [self._place[number] for number in numbers.tolist()]
        names = {*self._goal.limits, "reason"} & set(self._frames[0].columns)
        columns = {name: [frame[name].to_numpy() for frame in self._frames] for name in names}
        return {name: np.array([column[at][row] for at, row in rows]) for name, column in columns.items()}

    def _add(self, frame: pd.DataFrame) -> None:
        numbers = frame.index.to_numpy()
        judged = self._goal.judge({name: frame[name].to_numpy() for name in frame.columns}, numbers)
        self._judged.append(judged)
        self._frames.append(frame)
        place = len(self._frames) - 1
        self._place.update({number: (place, row) for row, number in enumerate(numbers.tolist())})

    def _evaluate(self, numbers: Array) -> None:
        piece = len(numbers)
        if self._executor is not None:  # items that last a while, and at first one for each design
            piece = 1 if math.isinf(self._seconds) else max(1, math.ceil(ITEM_S / max(self._seconds, 1e-9)))
        items = [numbers[i : i + piece] for i in range(0, len(numbers), piece)]
        started = time.perf_counter()
        for _, frame in (self._executor or Serial()).run(self._evaluation, items):
            if self._recorder is not None:
                self._recorder.add(frame)
            self._add(frame)
            self.evaluated += len(frame)
        self._seconds = (time.perf_counter() - started) / len(numbers)


def search(
    space: DesignSpace,
    evaluate: Evaluate,
    goal: Goal,
    sampler: Sampler,
    *,
    budget: int,
    executor: Executor | None = None,
    recorder: Recorder | None = None,
    name: str = "search",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    patience: int | None = None,
) -> Searched:
    """Ask, evaluate, tell, until ``budget`` distinct designs were looked at.

    Results that the recorder holds already count towards the budget and are not evaluated again: a search that was cut
    off and is begun again with the same arguments ends with the same designs as one that was not.

    Args:
        evaluate: from columns to columns, like that of :func:`codesign_kernel.explore.sweep`.
        recorder, name: keeps results, batch by batch, and under ``name`` the sampler's journal.
        progress: called as ``progress(done, budget, message)`` after each batch; see :class:`Standing` too.
        stop: asked after each batch; what is true ends the search.
        patience: end it when the hypervolume grew by less than 0.1 % over so many designs.

    Raises:
        EvaluationError: see :meth:`Goal.judge`; batches before are kept.
    """
    known = Known(Evaluation(space, evaluate, goal), recorder, executor)
    budget = min(budget, space.size)
    following = Following.of(progress, space, goal, budget)
    seen: dict[int, None] = {}
    track = _Track(patience)
    stopped, batch = "budget", 0
    fresh: deque[float] = deque(maxlen=BARREN)  # the share of new designs, by batch
    while len(seen) < budget:
        count = min(sampler.batch, budget - len(seen))
        state = f"{name}/{batch}"
        kept = None if recorder is None else recorder.state(state)
        if kept is not None:
            head, _, journal = kept.partition(b"\n")
            asked = np.array(json.loads(head), dtype=np.int64)
            sampler.replay(journal)
        else:
            asked = sampler.ask(count)
        if not len(asked):
            stopped = "exhausted"
            break
        judged = known.judged(asked)
        if kept is None:
            sampler.tell(asked, judged.costs, judged.broken)
            journal = sampler.journal()
            if recorder is not None and journal:
                recorder.keep(state, json.dumps(asked.tolist()).encode() + b"\n" + journal)
        batch += 1
        before = len(seen)
        if following is not None:
            _follow(following, known, goal, np.array([n for n in dict.fromkeys(asked.tolist()) if n not in seen], int))
        seen.update(dict.fromkeys(asked.tolist()))
        fresh.append((len(seen) - before) / len(asked))
        track.add(len(seen), judged.costs[judged.legal])
        if progress is not None:
            progress(len(seen), budget, f"designs evaluated, {len(track.front):,} on the front")
        reason = _reason(stop, track, len(fresh) == BARREN and sum(fresh) < NEW * BARREN)
        if reason and len(seen) < budget:
            stopped = reason
            break
    return Searched(known.frame(np.array([*seen], dtype=np.int64)), known.evaluated, stopped)


def _follow(following: Following, known: Known, goal: Goal, new: Array) -> None:
    judged = known.judged(new) if len(new) else None
    if judged is not None:
        tally = Tally.of(goal, known.results(new), judged, new)
        following.add(new[judged.legal], judged.costs[judged.legal], tally)


def _reason(stop: Callable[[], bool] | None, track: _Track, barren: bool) -> str:
    if stop is not None and stop():
        return "stopped"
    if barren:
        return "exhausted"
    return "stalled" if track.stalled() else ""


class _Track:
    """The front as it grows, and whether it still does."""

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.front: Array = np.empty((0, 0))
        self._past: list[tuple[int, Array]] = []

    def add(self, count: int, costs: Array) -> None:
        if len(costs):
            whole = np.concatenate([self.front, costs]) if len(self.front) else costs
            whole = np.unique(whole, axis=0)
            self.front = whole[front_of(whole)]
        self._past.append((count, self.front))

    def stalled(self) -> bool:
        now = self._past[-1][0]
        if self._patience is None or now < self._patience or not len(self.front):
            return False
        # of the past only the latest front that is old enough is ever needed again
        while len(self._past) > 1 and self._past[1][0] <= now - self._patience:
            self._past.pop(0)
        count, then = self._past[0]
        if count > now - self._patience or not len(then):
            return False
        reference = reference_of(self.front)
        volume = hypervolume(self.front, reference)
        return volume - hypervolume(then, reference) <= STALL * volume


def search_name(sampler: str, space: DesignSpace, goal: Goal, settings: Mapping[str, Any]) -> str:
    """A name for the state of a search: the same for the same search, another for any other."""
    told = json.dumps(
        [sampler, space_digest(space), list(goal.objectives.items()), goal.limits, sorted(settings.items())]
    )
    return f"{sampler}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def space_digest(space: DesignSpace) -> str:
    """sha256 of the kind of a space and its choices, in order: what the numbers of its designs mean."""
    told = json.dumps([type(space).__name__, [[name, list(values)] for name, values in space.choices.items()]])
    return hashlib.sha256(told.encode()).hexdigest()
