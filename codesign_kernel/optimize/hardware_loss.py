"""A training loss that knows the hardware: gates on channels, and a penalty that is the cost of those open."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from codesign_kernel.optimize.channels import ChannelGroup, narrowed
from codesign_kernel.optimize.dataset import Dataset
from codesign_kernel.optimize.gates import fold, gated
from codesign_kernel.optimize.pruning import best
from codesign_kernel.optimize.training import Progress, Recipe, fit
from codesign_kernel.optimize.width_cost import WidthCost

#: The hard concrete distribution (Louizos et al. 2018, arXiv 1712.01312, section 4): temperature, and the ends to which
#: it is stretched before it is cut off at 0 and 1.
TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
#: A gate is open with the chance sigmoid(log_alpha - OPEN_AT) (equation 12 there).
OPEN_AT = TEMPERATURE * math.log(-LOW / HIGH)
#: log_alpha = SPEED * parameter: a gate opens or closes over some units, within
#: some hundred steps at a learning rate that suits weights of about 0.1.
SPEED = 50.0
#: log_alpha at the start: gates are open, but not so surely that no gradient reaches them.
START = 1.5


class GatedModel(nn.Module):
    """A copy of a model, with a random gate on each channel of ``groups``; in evaluation mode, gates are as likely."""

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        super().__init__()
        self.network = copy.deepcopy(model)
        self.groups = tuple(groups)
        self.gates = nn.ParameterList(torch.full((group.channels,), START / SPEED) for group in groups)

    @property
    def undecayed(self) -> list[nn.Parameter]:
        """What weight decay must leave alone; see :func:`codesign_kernel.optimize.fit`."""
        return list(self.gates)

    def log_alpha(self) -> dict[str, Tensor]:
        """{group: log alpha of each gate}, the odds of being open."""
        return {group.name: SPEED * gate for group, gate in zip(self.groups, self.gates, strict=True)}

    def chances(self) -> dict[str, Tensor]:
        """{group: the chance of each gate to be open}."""
        return {name: torch.sigmoid(odds - OPEN_AT) for name, odds in self.log_alpha().items()}

    def settled(self) -> dict[str, Tensor]:
        """{group: the value of each gate, 0 to 1, when nothing is drawn} (equation 13 of Louizos et al.)."""
        return {name: _stretched(torch.sigmoid(odds)) for name, odds in self.log_alpha().items()}

    def _drawn(self) -> dict[str, Tensor]:
        drawn = {}
        for name, odds in self.log_alpha().items():
            u = torch.rand_like(odds).clamp(1e-6, 1 - 1e-6)
            drawn[name] = _stretched(torch.sigmoid((u.log() - (-u).log1p() + odds) / TEMPERATURE))
        return drawn

    def forward(self, x: Tensor) -> Tensor:
        """What the network gives with gates as drawn, or, in evaluation mode, as settled."""
        with gated(self.network, self.groups, self._drawn() if self.training else self.settled()):
            return self.network(x)


def _stretched(share: Tensor) -> Tensor:
    return (share * (HIGH - LOW) + LOW).clamp(0, 1)


class HardwareLoss:
    """Cost of the network whose channels are gated, to be added to a task's loss.

        loss = ck.hardware_loss(model, example, machine, "latency_ms", strength=1.0)
        fit(loss.model, data, Recipe(20), penalty=loss)        # weights and gates together
        small = loss.prune(data, Recipe(20))                   # closed channels are gone; a plain model

    Attributes:
        model: what to train: a copy of the model with gates.
        strength: what the cost of the whole network weighs beside the task's loss.
        cost: of the widths, in the metric's unit.
    """

    def __init__(
        self, model: nn.Module, example: Tensor, groups: Sequence[ChannelGroup], cost: WidthCost, strength: float
    ) -> None:
        self.model = GatedModel(model, groups)
        self.example, self.groups, self.cost, self.strength = example, tuple(groups), cost, strength
        self._whole = cost.whole

    def __call__(self) -> Tensor:
        """strength x cost at the expected widths / cost of the whole network."""
        return (self.cost(self._widths()) * (self.strength / self._whole)).float()

    def _widths(self) -> dict[str, Tensor]:
        return {name: chances.sum() for name, chances in self.model.chances().items()}

    @property
    def widths(self) -> dict[str, float]:
        """{group: expected number of open channels}."""
        return {name: width.item() for name, width in self._widths().items()}

    @property
    def expected(self) -> float:
        """The cost at :attr:`widths`, in the metric's unit."""
        return self.cost(self._widths()).item()

    def kept(self) -> dict[str, int]:
        """{group: channels that stay}: open ones, to the nearest width of the grid, and those that cost nothing more.

        At least the first width of the grid stays.
        """
        counts = {
            name: _nearest(int((chances > 0.5).sum()), self.cost.grids[name])
            for name, chances in self.model.chances().items()
        }
        for group in self.groups:
            more = dict(counts)
            while more[group.name] < group.channels:
                more[group.name] += 1
                if self.cost.at(more) <= self.cost.at(counts):
                    counts = dict(more)
        return counts

    def narrow(self) -> nn.Module:
        """A plain model without gates and without the channels that are closed, as trained, in evaluation mode."""
        counts, odds = self.kept(), self.model.log_alpha()
        chosen = {name: best(odds[name].detach(), count) for name, count in counts.items()}
        open_gates = {name: torch.where(gate > 0, gate, 1.0) for name, gate in self.model.settled().items()}
        own = copy.deepcopy(self.model.network)
        fold(own, self.groups, open_gates)
        return narrowed(own, self.example, chosen).eval()

    def prune(
        self,
        data: Dataset,
        recipe: Recipe | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> nn.Module:
        """:meth:`narrow`, fine-tuned by ``recipe``; see :func:`codesign_kernel.optimize.fit` for the arguments."""
        small = self.narrow()
        if recipe is not None:
            fit(small, data, recipe, seed=seed, progress=progress, stop=stop)
        return small


def _nearest(width: int, grid: Sequence[int]) -> int:
    """The width of ``grid`` that is next to ``width``, the larger of two."""
    return min(grid, key=lambda other: (abs(other - width), -other))
