"""Samplers: who proposes the next designs. One small contract; random here, the others in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InvalidInputError

Array = NDArray[Any]


class Sampler(Protocol):
    """Proposes designs by number and is told what became of them.

    Attributes:
        batch: designs that it likes to propose at once.
    """

    batch: int

    def ask(self, count: int) -> Array:
        """Numbers of at most ``count`` designs, at least one; they may repeat earlier ones."""
        ...

    def tell(self, numbers: Array, costs: Array, broken: Array) -> None:
        """``costs`` and ``broken``, as in :class:`Judged`, of the designs that the last :meth:`ask` proposed."""
        ...

    def journal(self) -> bytes:
        """What a sampler of the same settings needs to be where this one is, in addition to earlier journals; empty
        where asking and telling it all again is as quick."""
        ...

    def replay(self, journal: bytes) -> None:
        """Be where the sampler was that wrote ``journal``; instead of one ask and tell."""
        ...


class Settings(NamedTuple):
    """What every sampler is made from.

    Attributes:
        genome: the space as lists of genes.
        objectives: how many.
        limits: columns of ``broken``.
        seed: of everything random.
        first: numbers of designs to propose before all others.
        population: designs in a generation; the sampler's own choice without.
    """

    genome: Genome
    objectives: int
    limits: int
    seed: int
    first: Array
    population: int | None


class Genome:
    """A design as one small integer a parameter: the rank of its value among the choices, so that neighbours in a gene
    are neighbours in value. Texts keep the order that they are given in, which means nothing (``ordered`` is False).
    Parameters with one choice have no gene."""

    def __init__(self, space: DesignSpace) -> None:
        self.shape = tuple(len(values) for values in space.choices.values())
        self.names = [name for name, values in space.choices.items() if len(values) > 1]
        self._axes = [axis for axis, length in enumerate(self.shape) if length > 1]
        columns = [[*space.choices.values()][axis] for axis in self._axes]
        self.ordered = [not isinstance(values[0], str) for values in columns]
        self._places = [
            np.argsort(np.array(values), kind="stable") if ordered else np.arange(len(values))
            for values, ordered in zip(columns, self.ordered, strict=True)
        ]
        self._ranks = [np.argsort(place, kind="stable") for place in self._places]

    @property
    def lengths(self) -> list[int]:
        """Values that each gene can take: 0 to one less than this."""
        return [len(place) for place in self._places]

    def numbers(self, genes: Array) -> Array:
        """[N] numbers of designs from [N, genes]."""
        digits = np.zeros((len(self.shape), len(genes)), dtype=np.int64)
        for gene, axis in enumerate(self._axes):
            digits[axis] = self._places[gene][genes[:, gene]]
        return np.asarray(np.ravel_multi_index(tuple(digits), self.shape), dtype=np.int64)

    def genes(self, numbers: Array) -> Array:
        """[N, genes] from [N] numbers of designs."""
        digits = np.unravel_index(np.asarray(numbers, dtype=np.int64), self.shape)
        ranks = [self._ranks[gene][digits[axis]] for gene, axis in enumerate(self._axes)]
        return np.array(ranks, dtype=np.int64).reshape(len(ranks), len(numbers)).T


class Random:
    """Every design as likely as any other, none twice."""

    batch = 256

    def __init__(self, settings: Settings) -> None:
        self._size = int(np.prod([float(n) for n in settings.genome.shape]))
        self._random = np.random.default_rng(settings.seed)
        self._next = [int(number) for number in settings.first]
        self._seen: set[int] = set()
        self.batch = settings.population or self.batch

    def ask(self, count: int) -> Array:
        asked: list[int] = []
        count = min(count, self._size - len(self._seen))
        while len(asked) < count:
            number = self._next.pop(0) if self._next else int(self._random.integers(self._size))
            if number not in self._seen:
                self._seen.add(number)
                asked.append(number)
        return np.array(asked, dtype=np.int64)

    def tell(self, numbers: Array, costs: Array, broken: Array) -> None:
        """Nothing is learnt."""

    def journal(self) -> bytes:
        return b""

    def replay(self, journal: bytes) -> None:
        """Never called: there is no journal."""


def _optuna(kind: str) -> Callable[[Settings], Sampler]:
    def make(settings: Settings) -> Sampler:
        from codesign_kernel.explore.optuna_samplers import OptunaSampler

        return OptunaSampler(kind, settings)

    return make


def _pymoo(settings: Settings) -> Sampler:
    from codesign_kernel.explore.pymoo_sampler import PymooSampler

    return PymooSampler(settings)


#: Name -> what makes it.
SAMPLERS: dict[str, Callable[[Settings], Sampler]] = {
    "random": Random,
    "pymoo": _pymoo,
    "nsga2": _optuna("nsga2"),
    "nsga3": _optuna("nsga3"),
    "tpe": _optuna("tpe"),
    "gp": _optuna("gp"),
}


def make_sampler(
    name: str, space: DesignSpace, objectives: int, limits: int, seed: int = 0, first: Sequence[int] | Array = (),
    population: int | None = None,
) -> Sampler:  # fmt: skip
    """The sampler called ``name``; see :class:`Settings` for the others.

    Raises:
        InvalidInputError: there is no such sampler, or a seed or population that is none.
        MissingPackageError: its package is not installed.
    """
    if name not in SAMPLERS:
        raise InvalidInputError(f"a sampler is one of exact, {', '.join(SAMPLERS)}, but got {name!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InvalidInputError(f"a seed is a whole number of 0 to 2^32 - 1, but got {seed!r}")
    if population is not None and (not isinstance(population, int | np.integer) or population < 2):
        raise InvalidInputError(f"a population is a whole number of at least 2, but got {population!r}")
    numbers = np.asarray(first, dtype=np.int64)
    return SAMPLERS[name](Settings(Genome(space), objectives, limits, int(seed), numbers, population))
