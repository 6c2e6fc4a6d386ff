"""pymoo's NSGA-II behind our contract: array by array, for evaluations that are cheap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import MissingPackageError
from codesign_kernel.explore.samplers import Settings

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PolynomialMutation
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.termination import get_termination
except ImportError as error:
    raise MissingPackageError(
        "the sampler pymoo is a package that is not installed; pip install 'codesign-playground[search]'"
    ) from error

Array = NDArray[Any]
BATCH = 100


class PymooSampler:
    """NSGA-II over integer genes: uniform crossover, polynomial mutation rounded to whole genes, no design twice in a
    generation. Constraints by domination, as in K. Deb et al., IEEE Trans. Evol. Comput. 6(2), 2002."""

    def __init__(self, settings: Settings) -> None:
        genome = settings.genome
        size = settings.population or BATCH
        self._settings = settings
        random = np.random.default_rng(settings.seed)
        top = np.array(genome.lengths)
        first = genome.genes(settings.first)
        start = np.concatenate([first, random.integers(top, size=(max(0, size - len(first)), len(top)))])
        # the first generation holds all that is known, however much that is
        self.batch, self._size = len(start), size
        problem = Problem(
            n_var=len(top), n_obj=settings.objectives, n_ieq_constr=settings.limits, xl=0, xu=top - 1, vtype=int
        )
        self._algorithm: Any = NSGA2(
            pop_size=size,
            sampling=start,
            crossover=UniformCrossover(repair=RoundingRepair()),
            mutation=PolynomialMutation(prob_var=1.0 / max(1, len(top)), eta=3, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        self._algorithm.setup(problem, seed=settings.seed, termination=get_termination("n_gen", 2**31), verbose=False)
        self._asked: Any = None
        self._worst = np.zeros(settings.objectives)

    def ask(self, count: int) -> Array:
        asked = self._algorithm.ask()
        self._asked = asked[:count]
        return self._settings.genome.numbers(np.round(self._asked.get("X").astype(float)).astype(np.int64))

    def tell(self, numbers: Array, costs: Array, broken: Array) -> None:
        """A design that cannot run counts by the limits that it breaks; the worst costs seen stand for its own."""
        known = costs[~np.isnan(costs).any(axis=1)]
        if len(known):
            self._worst = np.maximum(self._worst, known.max(axis=0))
        self._asked.set("F", np.where(np.isnan(costs), self._worst, costs))
        self._asked.set("G", broken)
        for one in self._asked:
            one.evaluated.update({"F", "G"})
        self._algorithm.tell(infills=self._asked)
        self.batch = self._size

    def journal(self) -> bytes:
        return b""

    def replay(self, journal: bytes) -> None:
        """Never called: there is no journal."""
