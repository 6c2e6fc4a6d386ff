"""Which maps stay on chip: dynamic programming over the chain of layers, for all machines at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def keep_maps(costs: Sequence[Array]) -> Array:
    """The cheapest way to keep maps between neighbours.

    Args:
        costs: one array a layer, [2, 2, machines, 2]: first the cost to be least, then what decides between equals,
            where its input map is loaded (0) or kept (1) and its output map stored (0) or kept (1); infinite where that
            cannot be.

    Returns:
        [layers + 1, machines]: whether the map before each layer, and behind the last one, is kept. It means
        nothing where no way has a finite cost.
    """
    machines = costs[0].shape[2]
    state = np.full((2, machines, 2), np.inf)
    state[0] = 0.0
    came_from = np.zeros((len(costs), 2, machines), dtype=bool)
    for number, cost in enumerate(costs):
        ways = state[:, np.newaxis] + cost  # [before, behind, machines, 2]
        first, second = ways[0], ways[1]
        kept = (second[..., 0] < first[..., 0]) | ((second[..., 0] == first[..., 0]) & (second[..., 1] < first[..., 1]))
        came_from[number] = kept
        state = np.where(kept[..., np.newaxis], second, first)
    chosen = np.zeros((len(costs) + 1, machines), dtype=bool)
    for number in range(len(costs) - 1, -1, -1):
        chosen[number] = np.where(chosen[number + 1], came_from[number, 1], came_from[number, 0])
    return chosen
