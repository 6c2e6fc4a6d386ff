"""The loop of a joint search: ask for a generation of networks, make them, sweep their machines, tell, keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InfeasibleDesignError
from codesign_kernel.explore import Executor, Provenance, Recorder
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.samplers import Sampler
from codesign_kernel.explore.volume import hypervolume, reference_of
from codesign_kernel.optimize import Dataset, accuracy
from codesign_kernel.pareto import pareto_front
from codesign_kernel.session.candidates import NetworkSpace, Trained, Training, weights_bit
from codesign_kernel.session.machines import Machines, Swept
from codesign_kernel.session.pairs import ACCURACY, CoOptimization, PairsSoFar, joint_volume, why_none

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
Progress = Callable[[int, int, str], None]
#: A search is over when so many generations in a row had no new network.
BARREN = 20


@dataclass
class JointSearch:
    """A search as far as it is.

    Attributes:
        training, machines, networks, goal: what is made, on what it runs, what is chosen from, and what is sought.
        chance: accuracy of guessing, from which on accuracy counts where no limit says (share).
        recorder: where finished work is kept; nowhere without.
        executor: where the work is done.
        keys: digests of all that decides what a candidate becomes (``network``), and what its machines cost
            (``machines``).
        made, swept: what is known, by number of the network, in the order in which networks came.
        trained: networks made now, and not known before.
    """

    training: Training
    machines: Machines
    networks: NetworkSpace
    goal: Goal
    chance: float
    recorder: Recorder | None
    executor: Executor
    keys: Mapping[str, str]
    made: dict[int, Trained] = field(default_factory=dict)
    swept: dict[int, Swept] = field(default_factory=dict)
    trained: int = 0
    reference: Array | None = None

    def run(
        self, sampler: Sampler | None, budget: int, progress: Progress | None, stop: Callable[[], bool] | None
    ) -> str:
        """Ask, make, tell, until ``budget`` networks are known; every network where there is no ``sampler``.

        The sampler knows nothing but its seed and what it was told, in order: asked again over results that were kept
        it proposes the same, so that nothing of it has to be kept.

        Returns:
            "complete", "budget", "exhausted" or "stopped".
        """
        barren = 0
        if sampler is None:
            every = list(dict.fromkeys(map(self.networks.canonical, range(self.networks.size))))
            return "complete" if self._make(every, len(every), progress, stop) else "stopped"
        while len(self.made) < budget:
            asked = sampler.ask(sampler.batch)
            if not len(asked):
                return "exhausted"
            numbers = [self.networks.canonical(int(number)) for number in asked]
            new = list(dict.fromkeys(number for number in numbers if number not in self.made))
            whole = len(new) <= budget - len(self.made)
            if not self._make(new[: budget - len(self.made)], budget, progress, stop):
                return "stopped"
            if not whole:
                break
            sampler.tell(asked, *self.told(numbers))
            barren = 0 if new else barren + 1
            if barren == BARREN:
                return "exhausted"
        return "budget"

    def told(self, numbers: Sequence[int]) -> tuple[Array, Array]:
        """What a sampler learns of networks: ([N, 2] costs: accuracy and volume of the machines, both negated;
        [N, 3] by how much the limits on accuracy and machine are broken, and 1 where there is no network)."""
        costs, broken = np.full((len(numbers), 2), np.nan), np.zeros((len(numbers), 3))
        floor = self.goal.limits.get(ACCURACY, (None, None))[0]
        for row, number in enumerate(numbers):
            made = self.made[number]
            if made.network is None:
                broken[row] = 1.0
                continue
            found = self.swept[number]
            costs[row] = -made.accuracy, -self.volume(found.costs)
            broken[row, :2] = 0.0 if floor is None else max(0.0, floor - made.accuracy), found.over
        return costs, broken

    def volume(self, costs: Array) -> float:
        """Of the machines of one network, in the product of decades; 0 before the first network has any."""
        if self.reference is None or not len(costs):
            return 0.0
        return hypervolume(np.log10(costs), np.log10(self.reference))

    def _make(
        self, numbers: Sequence[int], budget: int, progress: Progress | None, stop: Callable[[], bool] | None
    ) -> bool:
        """Make networks and sweep their machines; False where ``stop`` ended it."""
        fresh: dict[int, Trained] = {}
        going = True
        for number, content in self._work(self.training, {n: self.networks.candidate(n) for n in numbers}, "network"):
            fresh[number] = Trained.from_bytes(content)
            if progress is not None:
                done = len(self.made) + len(fresh)
                progress(done, budget, f"networks evaluated, the best {self._best(fresh):.1%} accurate")
            if stop is not None and stop():
                going = False
                break
        fresh = {n: fresh[n] for n in numbers if n in fresh}  # in the order asked, whoever was first
        items = {n: (t.network.workload, t.network.bits) for n, t in fresh.items() if t.network is not None}
        swept = {n: Swept.from_bytes(content) for n, content in self._work(self.machines, items, "machines")}
        self.swept.update({n: swept[n] for n in items})  # likewise: of equal pairs the front has the first
        self.made.update(fresh)
        if self.reference is None:
            self._refer()
        self._record(fresh)
        stands = getattr(progress, "stands", None)
        if stands is not None and self._legal():
            stands(PairsSoFar(self.machines.space, self.goal, self._front(None)))
        return going

    def _work(
        self, function: Callable[[Any], bytes], items: Mapping[int, Any], kind: str
    ) -> Iterator[tuple[int, bytes]]:
        """(number, what ``function`` makes of its item): what was kept first, then the rest as it is done and kept."""
        left: dict[int, str] = {}
        for number, item in items.items():
            state = f"{kind}-{self._key(kind, number, item)}"
            content = None if self.recorder is None else self.recorder.state(state)
            if content is None:
                left[number] = state
            else:
                yield number, content
        numbers = [*left]
        for position, content in self.executor.run(function, [items[number] for number in numbers]):
            number = numbers[position]
            if self.recorder is not None:
                self.recorder.keep(left[number], content)
            self.trained += kind == "network"
            yield number, content

    def _key(self, kind: str, number: int, item: Any) -> str:
        told = list(item) if kind == "network" else [item[0].digest, item[1]]
        return hashlib.sha256(json.dumps([self.keys[kind], told]).encode()).hexdigest()

    def _record(self, fresh: Mapping[int, Trained]) -> None:
        """Write rows of networks into the study, each once."""
        if self.recorder is None or not fresh:
            return
        known = set(self.recorder.done().index.tolist())
        rows = self.frame([number for number in fresh if number not in known])
        if len(rows):
            self.recorder.add(
                rows.drop(columns=["volume", "pairs"])
            )  # which depend on the machines, and the networks not

    def _refer(self) -> None:
        """Fix what volumes are measured to: a machine's limit, or else a tenth of the range (in decades) behind the
        worst of the first machines found."""
        fronts = [np.log10(found.costs) for found in self.swept.values() if len(found.costs)]
        if not fronts:
            return
        points = 10.0 ** reference_of(np.concatenate(fronts))
        most = [self.goal.limits.get(name, (None, None))[1] for name in self.machines.goal.objectives]
        self.reference = np.array([p if m is None else m for p, m in zip(points, most, strict=True)])

    def _best(self, fresh: Mapping[int, Trained]) -> float:
        scores = [t.accuracy for t in (*self.made.values(), *fresh.values()) if t.network is not None]
        return max(scores, default=0.0)

    def frame(self, numbers: Sequence[int]) -> pd.DataFrame:
        """One row a network: its choices and what came of it."""
        import pandas as pd

        rows = []
        for number in numbers:
            made, found = self.made[number], self.swept.get(number)
            network = made.network
            rows.append(
                {
                    **self.networks.values(number),
                    ACCURACY: made.accuracy,
                    "macs": 0 if network is None else network.workload.macs,
                    "weight_kib": 0.0 if network is None else weights_bit(network) / 8192,
                    "volume": 0.0 if found is None else self.volume(found.costs),
                    "pairs": 0 if found is None else len(found.numbers),
                    "reason": made.reason,
                    "wall_s": made.wall_s,
                }
            )
        return pd.DataFrame(rows, index=pd.Index(list(numbers), dtype="int64", name="network"))

    def result(
        self, space: DesignSpace, data: Dataset, stopped: str, provenance: Provenance, digests: Mapping[str, str]
    ) -> CoOptimization:
        """What was found.

        Raises:
            InfeasibleDesignError: no pair keeps all limits; the message says which bind.
        """
        front = self._front(data)
        history, reference = self._history()
        told = [ACCURACY, *self.machines.goal.objectives]
        return CoOptimization(
            space=space, networks=self.networks, goal=self.goal, frame=self.frame([*self.made]), front=front,
            history=history, reference=dict(zip(told, reference, strict=True)), stopped=stopped,
            provenance=provenance, digests=digests,
            made={n: t.network for n, t in self.made.items() if t.network is not None},
        )  # fmt: skip

    def _legal(self) -> list[int]:
        """Networks that keep the limit on the accuracy and have a machine."""
        floor = self.goal.limits.get(ACCURACY, (None, None))[0] or 0.0
        return [n for n, found in self.swept.items() if len(found.numbers) and self.made[n].accuracy >= floor]

    def _front(self, data: Dataset | None) -> pd.DataFrame:
        """The front, measured on the test part of ``data`` too, where it is given."""
        import pandas as pd

        legal = self._legal()
        if not legal:
            raise InfeasibleDesignError(self._why_none())
        parts = []
        for number in legal:
            found = self.swept[number]
            objectives = dict(zip(self.machines.goal.objectives, found.costs.T, strict=True))
            accurate = self.made[number].accuracy
            parts.append(pd.DataFrame({ACCURACY: accurate, **objectives, "network": number, "design": found.numbers}))
        every = pd.concat(parts, ignore_index=True)
        front = pareto_front(every, self.goal.objectives).drop_duplicates([*self.goal.objectives])
        rows = []
        for number, pairs in front.groupby("network", sort=False):
            network = self.made[int(number)].network
            assert network is not None
            designs = pairs["design"].to_numpy()
            own = {"network": int(number), "design": designs, ACCURACY: pairs[ACCURACY].to_numpy()}
            if data is not None:
                own["test_accuracy"] = accuracy(network.predict(data.test_x), data.test_y)
            machine = self.machines.rows(network.workload, designs)
            parts_of = {**own, **self.networks.values(int(number)), **machine}
            rows.append(pd.DataFrame(parts_of, index=pairs.index))
        whole = pd.concat(rows).loc[front.index].reset_index(drop=True)
        whole.index.name = "pair"
        whole.attrs.update(front.attrs)
        return whole.drop(columns=["feasible", "reason"])

    def _history(self) -> tuple[pd.DataFrame, list[float]]:
        """Hypervolume after each network, and the reference that it is measured to."""
        import pandas as pd

        floor = self.goal.limits.get(ACCURACY, (None, None))[0]
        assert self.reference is not None
        reference = [self.chance if floor is None else floor, *self.reference.tolist()]
        legal = set(self._legal())
        parts: list[tuple[float, Array]] = []
        rows: list[tuple[int, float]] = []
        for count, number in enumerate(self.made, start=1):
            if number in legal:
                parts.append((self.made[number].accuracy, self.swept[number].costs))
            if number in legal or not rows:
                volume = joint_volume(parts, reference)
            rows.append((count, volume))
        return pd.DataFrame(rows, columns=["networks", "hypervolume"]), reference

    def _why_none(self) -> str:
        made = [(number, found) for number, found in self.swept.items() if found.runs]
        if made:
            told = [(self.made[number].accuracy, found.legal, found.reach) for number, found in made]
            return why_none(self.goal, told, self.machines.space.size)
        reasons = {reason: count for found in self.swept.values() for reason, count in found.reasons.items()}
        reasons |= {trained.reason: 1 for trained in self.made.values() if trained.reason}
        return (
            f"a pair is a network and a machine that can run it, but there is none among {len(self.made):,} networks "
            f"on {self.machines.space.size:,} designs. Reasons: {'; '.join([*reasons][:4])}. Widen the spaces"
        )
