"""``PairSearch``: the joint search of the digits network and its machine, as an app asks for it again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codesign_kernel.design import DesignSpace
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.work import Memory
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.pareto import pareto_front
from codesign_kernel.session.digits import digits_accuracy, digits_model, digits_network
from codesign_kernel.session.goals import goal_of
from codesign_kernel.session.machines import Machines, small_machines
from codesign_kernel.session.pairs import ACCURACY, CoOptimization, PairsSoFar

Progress = Callable[[int, int, str], None]
Values = Mapping[str, Any]
#: Passes over the training images behind pruning: enough for these networks.
PRUNE_EPOCHS = 2
#: What a network takes on one core, its training included (s).
NETWORK_S = 1.5
_SEED = 0


class PairSearch:
    """Searches for pairs of a network and a machine. What was trained once is known to every later search."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._machines = small_machines()

    def expected(self, values: Values) -> list[dict[str, str]]:
        """What a search of ``goals`` (columns), ``accuracy`` (the least, %) and ``budget`` (networks) looks at: tiles.

        Raises:
            InvalidInputError: these are no such values.
        """
        _goal(self._machines, values)
        budget, machines = int(values["budget"]), self._machines.size
        return [
            {"label": "Networks", "value": f"{budget}", "note": "each pruned, trained with narrow weights, measured"},
            {"label": "Machines", "value": f"{machines:,}", "note": "all of them, for every network"},
            {"label": "Pairs", "value": f"{budget * machines:,}", "note": "of which the front is kept"},
            {"label": "It takes", "value": f"about {budget * NETWORK_S:.0f} s",
             "note": "and can be stopped; what was trained is not trained again"},
        ]  # fmt: skip

    def first(self, values: Values) -> PairsSoFar:
        """What is known before any search: the network as it was trained, in 4 and in 8 bits, on every machine."""
        goal, machines = _goal(self._machines, values)
        whole = [(digits_network(bits), digits_accuracy(bits, "validation")) for bits in machines.bits]
        return pairs_of(whole, goal, machines)

    def run(self, values: Values, progress: Progress, stop: Callable[[], bool]) -> CoOptimization:
        """See :func:`codesign_kernel.co_optimize`. A search that was stopped goes on where it was.

        Raises:
            InvalidInputError, InfeasibleDesignError: as there.
        """
        progress(0, int(values["budget"]), "networks; loading PyTorch and the images")
        from codesign_kernel.optimize import Recipe, load_digits
        from codesign_kernel.session.co_optimize import co_optimize

        return co_optimize(
            digits_model(), self._machines, load_digits(), {ACCURACY: values["accuracy"] / 100},
            objectives=values["goals"], budget=int(values["budget"]), seed=_SEED,
            prune_recipe=Recipe(PRUNE_EPOCHS, 4e-3), store=self._memory, progress=progress, stop=stop,
        )  # fmt: skip


def _goal(space: DesignSpace, values: Values) -> tuple[Goal, Machines]:
    return goal_of(space, values["goals"], {ACCURACY: values["accuracy"] / 100})


def pairs_of(networks: Sequence[tuple[IntegerNetwork, float]], goal: Goal, machines: Machines) -> PairsSoFar:
    """The front of some networks, whose accuracies are known, on all machines of their precision."""
    import pandas as pd

    parts = []
    for number, (network, accurate) in enumerate(networks):
        swept = machines.sweep(network.workload, network.bits)
        rows = machines.rows(network.workload, swept.numbers)
        parts.append(pd.DataFrame({ACCURACY: accurate, "network": number, "design": swept.numbers, **rows}))
    every = pd.concat(parts, ignore_index=True)
    floor = goal.limits.get(ACCURACY, (None, None))[0] or 0.0
    legal = every[np.asarray(every[ACCURACY]) >= floor]
    front = pareto_front(legal, goal.objectives).drop_duplicates([*goal.objectives]).reset_index(drop=True)
    return PairsSoFar(machines.space, goal, front)
