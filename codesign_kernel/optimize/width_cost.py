"""What a network costs at widths between those at which the cost model is asked: exact there, linear in between."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from codesign_kernel.errors import InvalidInputError

#: {group: channels} -> cost, a positive number.
ExactCost = Callable[[Mapping[str, int]], float]


class WidthCost:
    """A continuous cost of fractional widths, with gradients, from a cost model of whole ones.

    The widths of G groups of channels are a point in a box of the grid. The box is cut into simplices along the order
    of the coordinates (Kuhn's triangulation), and the cost is linear in each: G + 1 exact costs, where a multilinear
    interpolation would take 2^G. At a grid point it is the exact cost of the whole network, so whatever layers have to
    do with one another (weights that fit on chip together, maps that stay there) is in it.

    An array's cost is a staircase in the number of channels, flat but at multiples of its columns. With the grid at the
    multiples, its gradient is the slope of the ramp from one step to the next.

    Args:
        grids: {group: whole widths, ascending}, of which the last is that of the whole network. A width below the first
            costs what the first does.
        exact: the cost at grid points; what it gave is kept.
    """

    def __init__(self, grids: Mapping[str, Sequence[int]], exact: ExactCost) -> None:
        for name, grid in grids.items():
            if not grid or list(grid) != sorted(set(grid)) or grid[0] < 1:
                raise InvalidInputError(f"a grid has ascending widths >= 1, but that of {name!r} is {list(grid)}")
        self.grids = {name: tuple(grid) for name, grid in grids.items()}
        self._exact = exact
        self._known: dict[tuple[int, ...], float] = {}

    @property
    def whole(self) -> float:
        """The cost of the whole network."""
        return self.at({name: grid[-1] for name, grid in self.grids.items()})

    @property
    def asked(self) -> int:
        """How many exact costs were asked for."""
        return len(self._known)

    def at(self, widths: Mapping[str, int]) -> float:
        """The exact cost of whole ``widths``, on the grid or not."""
        key = tuple(widths[name] for name in self.grids)
        if key not in self._known:
            cost = float(self._exact(dict(zip(self.grids, key, strict=True))))
            if not cost > 0:
                raise InvalidInputError(f"a cost is above 0, but that of the widths {dict(widths)} is {cost}")
            self._known[key] = cost
        return self._known[key]

    def __call__(self, widths: Mapping[str, Tensor]) -> Tensor:
        """The cost of ``widths`` ({group: a number}), a scalar of float64 with a gradient by each of them."""
        corner, shares, spans = {}, {}, {}
        values = {name: widths[name].item() for name in self.grids}
        for name, grid in self.grids.items():
            width = min(max(values[name], grid[0]), grid[-1])
            upper = max(1, bisect_left(grid, width)) if len(grid) > 1 else 0
            low, high = grid[max(0, upper - 1)], grid[upper]
            corner[name], spans[name] = low, high - low
            shares[name] = (width - low) / (high - low) if high > low else 0.0
        cost = total = self.at(corner)
        slopes = dict.fromkeys(corner, 0.0)
        for name in sorted(shares, key=lambda name: -shares[name]):
            if not spans[name]:
                continue
            corner[name] += spans[name]
            above = self.at(corner)
            slopes[name] = (above - cost) / spans[name]
            total += shares[name] * (above - cost)
            cost = above
        result = torch.tensor(total, dtype=torch.float64)
        for name, slope in slopes.items():
            if slope and self.grids[name][0] <= values[name] <= self.grids[name][-1]:
                given = widths[name].double()
                result = result + slope * (given - given.detach())  # adds 0, and the gradient
        return result


def grid(channels: int, step: int) -> tuple[int, ...]:
    """Widths at which the cost of ``channels`` channels is asked for: half a ``step``, its multiples, and all."""
    return tuple(sorted({min(channels, -(-step // 2)), *range(step, channels, step), channels}))
