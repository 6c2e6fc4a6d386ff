"""The machines of a joint search: every design of a space under one network, and the front of them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.cost.table import RESULTS, result_columns
from codesign_kernel.design import DesignSpace
from codesign_kernel.explore.front import exact_front
from codesign_kernel.explore.goal import Goal
from codesign_kernel.workload import Workload

Array = NDArray[Any]
#: Results of a design beside the columns of a sweep.
POWER = "power_w"
#: What a design can be limited in.
COLUMNS = (*RESULTS, POWER)


def small_machines() -> DesignSpace:
    """Machines for networks of some kilobytes: 55,296, of two precisions, with and without packed weights, at 28 nm."""
    return DesignSpace(
        rows=(2, 4, 8, 16),
        cols=(2, 4, 8, 16),
        weight_bits=(4, 8),
        min_weight_bits=(0, 2, 4),
        activation_kib=(0.5, 1, 2, 4),
        weight_kib=(1, 2, 4, 8, 16, 32),
        accumulator_kib=(0.25, 0.5, 1, 2),
        frequency_mhz=(100, 200),
        bandwidth_gb_s=(0.4, 0.8, 1.6),
    )


def machine_columns(workload: Workload, columns: Mapping[str, Any]) -> dict[str, Array]:
    """The columns of a sweep and ``power_w``: the energy of an inference over its latency (W), which is the average
    while inferences follow one another without a pause."""
    results = result_columns(workload, columns)
    return {**results, POWER: results["power_mw"] * 1e-3}


@dataclass
class Reach:
    """How near designs come to each limit.

    Attributes:
        alone: by limit, the best value of its column among the designs that can run.
        beside: the same among those that keep all other limits; a limit is missing where there is none.
    """

    alone: dict[str, float] = field(default_factory=dict)
    beside: dict[str, float] = field(default_factory=dict)

    def see(self, goal: Goal, results: Mapping[str, Any]) -> None:
        """Take in a batch of designs."""
        count = len(results["feasible"])
        judged = goal.judge(results, np.arange(count))
        runs, kept = judged.broken[:, -1] <= 0, judged.broken[:, :-1] <= 0
        for place, name in enumerate(goal.limits):
            values = np.asarray(results[name], dtype=float)
            others = runs & np.delete(kept, place, axis=1).all(axis=1)
            for best, among in ((self.alone, runs), (self.beside, others)):
                if among.any():
                    _better(best, goal, name, _best(goal, name, values[among]))

    def merge(self, goal: Goal, other: Reach) -> None:
        """Take in what another has seen."""
        for mine, theirs in ((self.alone, other.alone), (self.beside, other.beside)):
            for name, value in theirs.items():
                _better(mine, goal, name, value)


def _best(goal: Goal, name: str, values: Array) -> float:
    """The value that comes nearest to keeping the limit ``name``."""
    least, most = goal.limits[name]
    over = np.maximum(-np.inf if most is None else values - most, -np.inf if least is None else least - values)
    return float(values[int(np.argmin(over))])


def _better(best: dict[str, float], goal: Goal, name: str, value: float) -> None:
    known = [best[name]] if name in best else []
    best[name] = _best(goal, name, np.array([*known, value]))


@dataclass(frozen=True)
class Swept:
    """Every design of a space under one network.

    Attributes:
        numbers: of the designs on the front, ascending; of those of equal costs the first.
        costs: [N, objectives], minimised.
        runs, legal: designs that can run the network, and those of them that keep all limits.
        over: 0 where one is legal; else the sum of the shares by which the nearest breaks limits, 1 where none runs.
        reach: how near the designs come to each limit.
        reasons: of those that cannot run, and how many each.
    """

    numbers: Array
    costs: Array
    runs: int
    legal: int
    over: float
    reach: Reach
    reasons: dict[str, int]

    def to_bytes(self) -> bytes:
        """All of it; :meth:`from_bytes` reads it."""
        told = {name: getattr(self, name) for name in ("runs", "legal", "over", "reasons")}
        told |= {"alone": self.reach.alone, "beside": self.reach.beside}
        written = io.BytesIO()
        np.savez(written, numbers=self.numbers, costs=self.costs)
        return json.dumps(told).encode() + b"\n" + written.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Swept:
        """What :meth:`to_bytes` wrote; nothing in it is executed."""
        head, _, body = content.partition(b"\n")
        told = json.loads(head)
        reach = Reach(told.pop("alone"), told.pop("beside"))
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return cls(arrays["numbers"], arrays["costs"], reach=reach, **told)


@dataclass(frozen=True)
class Machines:
    """Sweeps the machines of a space that have a network's precision. Can be pickled.

    Attributes:
        space: all designs; their numbers here are those of this space.
        goal: objectives and limits in :data:`COLUMNS`.
    """

    space: DesignSpace
    goal: Goal

    @property
    def bits(self) -> tuple[int, ...]:
        """Precisions that machines of the space have (bit)."""
        return tuple(map(int, self.space.choices.get("weight_bits", (Accelerator.weight_bits,))))

    def __call__(self, item: tuple[Workload, int]) -> bytes:
        """:meth:`Swept.to_bytes` of a workload and its precision (bit)."""
        return self.sweep(*item).to_bytes()

    def sweep(self, workload: Workload, bits: int) -> Swept:
        """Every machine of ``bits`` running ``workload``; one of :attr:`bits`."""
        space, reach = self._of(bits), Reach()

        def evaluate(columns: Mapping[str, Any]) -> Mapping[str, Any]:
            results = machine_columns(workload, columns)
            if self.goal.limits:
                reach.see(self.goal, results)
            return results

        found = exact_front(space, evaluate, self.goal)
        _, first = np.unique(found.costs, axis=0, return_index=True)
        first = np.sort(first)
        tally = found.tally
        over = 0.0 if tally.legal else 1.0 if tally.nearest is None else tally.nearest[0]
        numbers = self._numbers(found.numbers[first], bits)
        return Swept(numbers, found.costs[first], tally.runs, tally.legal, over, reach, dict(tally.reasons))

    def rows(self, workload: Workload, numbers: Array) -> dict[str, Array]:
        """Parameters and results of some designs."""
        columns = self.space.columns(numbers)
        return {**columns, **machine_columns(workload, columns)}

    def _of(self, bits: int) -> DesignSpace:
        return type(self.space)(**{**self.space.choices, "weight_bits": (bits,)})

    def _numbers(self, numbers: Array, bits: int) -> Array:
        """Numbers of the designs of ``bits`` as numbers of the whole space."""
        if "weight_bits" not in self.space.choices:
            return numbers
        axis = [*self.space.choices].index("weight_bits")
        shape = [len(values) for values in self.space.choices.values()]
        digits = [*np.unravel_index(numbers, [1 if at == axis else n for at, n in enumerate(shape)])]
        digits[axis] = np.full(len(numbers), self.space.choices["weight_bits"].index(bits))
        return np.asarray(np.ravel_multi_index(tuple(digits), tuple(shape)), dtype=np.int64)
