"""A small task of networks and machines to choose together, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

import codesign_kernel as ck
from codesign_kernel.optimize import Dataset, Recipe, train_digits

#: 2 x 2 x 2 x 2 x 2 x 2 = 64 machines of two widths, some of which cannot run some networks.
SPACE = ck.DesignSpace(
    rows=(4, 8), weight_bits=(4, 8), cols=(4, 8), weight_kib=(1, 4), accumulator_kib=(1, 2), bandwidth_gb_s=(0.8, 1.6)
)
#: 2 x 2 x 2 x 3 = 24 combinations, 20 networks: 8 bits are 4 bits in a network of 4.
NETWORKS = ck.NetworkSpace(
    bits=(4, 8), epochs=(0,), keep={"conv1": (0.5, 1.0), "conv2": (0.25, 1.0)}, weight_bits={"fc": (8, 2, 4)}
)
QUICK = Recipe(1, 4e-3, batch=256)


class Task(NamedTuple):
    model: Any
    data: Dataset

    def search(self, constraints: Any = None, **arguments: Any) -> ck.CoOptimization:
        """With a tiny budget, unless told otherwise."""
        given = {"networks": NETWORKS, "budget": 8, "population": 4, "prune_recipe": QUICK, **arguments}
        return ck.co_optimize(self.model, given.pop("space", SPACE), given.pop("data", self.data), constraints, **given)


@pytest.fixture(scope="module")
def task() -> Task:
    model, data, _ = train_digits(seed=0, epochs=3)
    return Task(model, data)


class Counting:
    """An executor that remembers what it was given."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for position, item in enumerate(items):
            self.items.append(item)
            yield position, function(item)

    def close(self) -> None:
        """Nothing is held."""
