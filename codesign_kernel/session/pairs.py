"""CoOptimization: pairs of a network and a machine, what each is worth, and which to take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import Design, DesignSpace
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore import Provenance
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.volume import hypervolume
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.pareto import knee, losses
from codesign_kernel.session.machines import Reach
from codesign_kernel.units import column_text, column_word, three_digits

if TYPE_CHECKING:
    import pandas as pd

    from codesign_kernel.session.candidates import Candidate, NetworkSpace

Array = NDArray[Any]
#: The objective and limit that a network has, not a machine.
ACCURACY = "accuracy"
#: What is called cheap, if it is an objective.
CHEAP = "area_mm2"
#: A difference below this share is none.
LEAST = 1e-3


class Pair(NamedTuple):
    """A network and the machine that it runs on; :func:`codesign_kernel.cosimulate` takes both as they are.

    Attributes:
        network, design: the two.
        accuracy, test_accuracy: shares of the validation and of the test inputs that the network gets right.
        candidate: what was chosen of the network.
        row: the row of the front.
    """

    network: IntegerNetwork
    design: Design
    accuracy: float
    test_accuracy: float
    candidate: Candidate
    row: pd.Series

    def __str__(self) -> str:
        return f"{self.candidate}, on {self.design}: accuracy {percent(self.accuracy)}, test {self.test_accuracy:.1%}"


class Advice(NamedTuple):
    """Which pair to take; ``str`` of it is the words.

    Attributes:
        number: of the pair, for :meth:`CoOptimization.pair`.
        pair: itself.
        why: what it is, and what it has beside the best of each objective.
        cheaper_why: the nearest pair that costs less.
        accurate_why: what the most accurate pair costs.
    """

    number: int
    pair: Pair
    why: str
    cheaper_why: str
    accurate_why: str

    def __str__(self) -> str:
        return "\n".join((self.why, self.cheaper_why, self.accurate_why))


@dataclass(frozen=True, eq=False)
class PairsSoFar:
    """A joint search as far as it has come; ``progress.stands(...)`` is handed it after each generation, where the
    ``progress`` of :func:`codesign_kernel.co_optimize` has such a method.

    Attributes:
        space, goal: as for :class:`CoOptimization`.
        front: one row a pair that no other beats, as there, but for the accuracy on the test part, which is looked at
            once, in the end.
    """

    space: DesignSpace
    goal: Goal
    front: pd.DataFrame

    @property
    def objectives(self) -> dict[str, str]:
        """``{column: "min" | "max"}``."""
        return self.goal.objectives

    @property
    def knee(self) -> pd.Series:
        """The most balanced pair so far."""
        return knee(self.front, self.objectives)

    @property
    def history(self) -> pd.DataFrame:
        """Empty: volumes are measured when the search is done."""
        import pandas as pd

        return pd.DataFrame()


@dataclass(frozen=True, eq=False)
class CoOptimization(Shown):
    """A finished joint search.

    Attributes:
        space, networks: the machines and the networks to choose from.
        goal: objectives, ``accuracy`` first, and limits.
        frame: one row a network, in the order in which they came; its index is the number of the network. Its choices,
            ``accuracy`` (validation), ``macs``, ``weight_kib``, ``volume`` (of its machines alone, see
            :func:`joint_volume`), ``pairs`` (machines on its own front), ``reason`` (of no network), ``wall_s``.
        front: one row a pair that keeps all limits and that no other such pair dominates, the most accurate first:
            ``accuracy``, ``test_accuracy``, results and parameters of the machine, choices of the network, and the
            numbers ``network`` and ``design``. Pairs of equal objectives stand there once.
        history: ``networks`` evaluated and ``hypervolume`` of the front of these, see :func:`joint_volume`.
        reference: the point that hypervolumes are measured to, by objective.
        stopped: "complete" (every network), "budget", "exhausted" or "stopped".
        provenance: sampler, seed, versions, time; ``evaluated`` counts the networks trained in this run.
        digests: sha256 of what the networks were made from, by name.
    """

    space: DesignSpace
    networks: NetworkSpace
    goal: Goal
    frame: pd.DataFrame
    front: pd.DataFrame
    history: pd.DataFrame
    reference: Mapping[str, float]
    stopped: str
    provenance: Provenance
    digests: Mapping[str, str]
    made: Mapping[int, IntegerNetwork]

    @property
    def objectives(self) -> dict[str, str]:
        """``{column: "min" | "max"}``."""
        return self.goal.objectives

    @property
    def hypervolume(self) -> float:
        """Of the front, see :func:`joint_volume`."""
        return float(self.history["hypervolume"].iloc[-1])

    def pair(self, number: int) -> Pair:
        """Pair ``number`` of the front.

        Raises:
            InvalidInputError: there is none.
        """
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < len(self.front):
            raise InvalidInputError(f"pairs are numbered 0 to {len(self.front) - 1}, but got {number!r}")
        row = self.front.iloc[int(number)]
        network = int(row["network"])
        return Pair(
            self.made[network], self.space.design(int(row["design"])), float(row[ACCURACY]),
            float(row["test_accuracy"]), self.networks.candidate(network), row,
        )  # fmt: skip

    @property
    def knee(self) -> pd.Series:
        """The most balanced pair; see :func:`codesign_kernel.knee`. Its name is the number of the pair."""
        return knee(self.front, self.objectives)

    def recommend(self, best: str | None = None) -> Advice:
        """Which pair to take, and why.

        Args:
            best: the objective to have the best of; the knee without.

        Raises:
            InvalidInputError: ``best`` is no objective.
        """
        front, goal = self.front, self.goal
        loss = losses(front, goal.objectives)
        if best is None:
            place, title = int(self.knee.name), f"the knee of {len(front):,} compromises"
        elif best in goal.objectives:
            at = [*goal.objectives].index(best)
            place = int(np.lexsort([(loss**2).sum(axis=1), loss[:, at]])[0])
            which = "least" if goal.objectives[best] == "min" else "most"
            title = f"the one of {which} {column_word(best)} among {len(front):,} compromises"
        else:
            raise InvalidInputError(f"best is one of the objectives {', '.join(goal.objectives)}, but got {best!r}")
        limits = ", ".join(goal.words(name) for name in goal.limits)
        title += f" with {limits}" if limits else ""
        pair = self.pair(place)
        words = (
            f"Take pair {place}: a network of {pair.candidate}, on {pair.design}. It is {title}, {self._worth(place)}"
        )
        return Advice(place, pair, words, self._cheaper(place, loss), self._accurate(place))

    def _worth(self, place: int) -> str:
        parts = []
        for name, way in self.objectives.items():
            value = float(self.front[name].iloc[place])
            top = float(self.front[name].min() if way == "min" else self.front[name].max())
            text = _text(name, value)
            if name == ACCURACY:
                apart = 100 * (top - value)
                beside = "the best" if apart <= 0 else f"{three_digits(apart)} points below the best"
                text += f" of the validation and {percent(self.front['test_accuracy'].iloc[place])} of the test inputs"
            else:
                share = (value - top) / top
                beside = "the best" if share <= LEAST else f"{three_digits(100 * share)} % more than the best"
            parts.append(f"{column_word(name)} {text} ({beside})")
        return f"with {', '.join(parts)}."

    def _cheaper(self, place: int, loss: Array) -> str:
        cheap = CHEAP if CHEAP in self.objectives else [*self.objectives][-1]
        price = self.front[cheap].to_numpy(dtype=float)
        saves = np.flatnonzero(price < price[place] * (1 - LEAST))
        if not len(saves):
            return f"No pair of the front has less {column_word(cheap)}."
        others = [at for at, name in enumerate(self.objectives) if name != cheap]
        distance = ((loss[saves][:, others] - loss[place, others]) ** 2).sum(axis=1)
        other = int(saves[np.lexsort([price[saves], distance])[0]])
        return f"Nearest cheaper: pair {other}: {self._differences(place, other)}."

    def _accurate(self, place: int) -> str:
        top = float(self.front[ACCURACY].max())
        if self.front[ACCURACY].iloc[place] >= top:
            return "No pair of the front is more accurate."
        best = self.front[self.front[ACCURACY] == top]
        loss = losses(best, {n: w for n, w in self.objectives.items() if n != ACCURACY})
        other = int(best.index[int(np.argmin((loss**2).sum(axis=1)))])
        return f"Most accurate: pair {other}: {self._differences(place, other)}."

    def _differences(self, before: int, after: int) -> str:
        """``accuracy 94.4 % → 96.9 %, latency 21.0 % more (980 µs → 1.19 ms)``; what does not change is left out."""
        parts = []
        for name in self.objectives:
            old, new = (float(self.front[name].iloc[at]) for at in (before, after))
            share = (new - old) / (abs(old) or 1.0)
            if name == ACCURACY:
                parts += [f"accuracy {percent(old)} → {percent(new)}"] if old != new else []
            elif abs(share) > LEAST:
                word = "more" if share > 0 else "less"
                texts = f"{_text(name, old)} → {_text(name, new)}"
                parts.append(f"{column_word(name)} {three_digits(100 * abs(share))} % {word} ({texts})")
        return ", ".join(parts) or "nothing changes"

    def __str__(self) -> str:
        told = self.provenance
        used = self.front["network"].nunique()
        return (
            f"{len(self.frame):,} of {self.networks.size:,} networks by {told.sampler} ({self.stopped}), each on every "
            f"of {self.space.size:,} designs: {len(self.front):,} pairs of {used} networks on the front for "
            f"{', '.join(self.objectives)}; {told.wall_s:.1f} s, {told.evaluated:,} networks trained"
        )


def joint_volume(parts: Iterable[tuple[float, Array]], reference: Sequence[float]) -> float:
    """The volume that pairs dominate, in (share of inputs) x (decade of each objective of the machine).

    Slices along the accuracy, each the volume of all machines whose network has at least that accuracy (C. M. Fonseca,
    L. Paquete, M. López-Ibáñez, CEC 2006). Objectives of machines count by their decimal logarithm: a saving of a half
    counts alike wherever it is made.

    Args:
        parts: of each network (accuracy, [N, objectives] costs of its machines, above 0, minimised).
        reference: the accuracy from which on it counts, and the cost up to which each objective does.
    """
    floor, bound = reference[0], np.log10(np.asarray(reference[1:], dtype=float))
    slices = sorted(((a, costs) for a, costs in parts if a > floor and len(costs)), key=lambda part: -part[0])
    volume, union = 0.0, np.empty((0, len(bound)))
    for at, (score, costs) in enumerate(slices):
        union = np.concatenate([union, np.log10(costs)])
        below = slices[at + 1][0] if at + 1 < len(slices) else floor
        if score > below:
            volume += (score - below) * hypervolume(union, bound)
    return volume


def why_none(goal: Goal, networks: Sequence[tuple[float, int, Reach]], designs: int) -> str:
    """Why no pair keeps all limits: which of them bind, and the best that can be had of each.

    Args:
        goal: with all limits.
        networks: of each network its accuracy, its legal machines whatever its accuracy, and how near they come.
        designs: that each network was tried on.
    """
    floor = goal.limits.get(ACCURACY, (None, None))[0]
    machines = Goal(goal.objectives, {name: limit for name, limit in goal.limits.items() if name != ACCURACY})
    alone, beside = Reach(), Reach()
    for score, _, reach in networks:
        alone.merge(machines, reach)
        if floor is None or score >= floor:
            beside.merge(machines, reach)
    best, others = dict(alone.alone), dict(beside.beside)
    if floor is not None:
        best[ACCURACY] = max(score for score, _, _ in networks)
        fitting = [score for score, legal, _ in networks if legal]
        others |= {ACCURACY: max(fitting)} if fitting else {}
    told: list[str] = []
    binding: list[str] = []
    for name in goal.limits:
        least, most = goal.limits[name]
        kept = (least is None or best[name] >= least) and (most is None or best[name] <= most)
        if not kept:
            binding.insert(0, f"{goal.words(name)} is met by none alone")
        elif name in others:
            binding.append(f"{goal.words(name)} is not met where the others are")
        besides = f", {_text(name, others[name])} with the others kept" if name in others else ""
        told.append(f"{name} {_text(name, best[name])} alone{besides}")
    binds = "; ".join(binding) or "each can be kept alone, but no two or more of them together leave any pair"
    limits = ", ".join(goal.words(name) for name in goal.limits)
    return (
        f"a pair keeps all limits ({limits}), but none of {len(networks):,} networks on {designs:,} designs does. "
        f"What binds: {binds}. The best of each: {'; '.join(told)}. Loosen what binds, or widen the spaces"
    )


def percent(share: float) -> str:
    """``0.9625`` as ``96.2 %``."""
    return f"{100 * share:.1f} %"


def _text(name: str, value: float) -> str:
    return percent(value) if name == ACCURACY else column_text(name, value)
