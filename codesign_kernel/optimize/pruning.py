"""Structured pruning: a trained model becomes one with fewer channels, which is then trained a little longer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.channels import ChannelGroup, Channels, channels_of, magnitudes, narrowed
from codesign_kernel.optimize.dataset import Dataset
from codesign_kernel.optimize.gates import gated
from codesign_kernel.optimize.training import WIDE, Progress, Recipe, check_recipe, check_seed, fit, repeatable

#: How the channels that go are chosen.
IMPORTANCES = {
    "taylor": "what the loss on the training data would change without the channel",
    "magnitude": "the size of the channel's weights",
    "random": "drawn: what the others are compared with",
}


def prune(
    model: nn.Module,
    data: Dataset,
    keep: float | Mapping[str, float],
    recipe: Recipe | None = None,
    *,
    importance: str = "taylor",
    round_to: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> nn.Module:
    """A copy of ``model`` with fewer channels, fine-tuned; the model itself is not touched.

    Channels that are added to one another or filtered one by one go together. What the model gives, such as the scores
    of a classifier, stays whole, and so does every layer that cannot do with fewer channels.

    Args:
        model: trained; convolutions and linear layers with or without batch normalisation.
        data: what it was trained on. Importance and fine-tuning see the training part only.
        keep: share of the channels to keep, above 0 and up to 1: one for all layers, or {layer: share}, the others
            staying whole. Layers whose channels go together are named once, or alike.
        recipe: of the fine-tuning; without, the channels are taken out and that is all.
        importance: how the channels that stay are chosen: ``"taylor"``, the mean over the training inputs of the
            square of the loss's derivative by a factor on the channel (Molchanov et al. 2019, arXiv 1906.10771);
            ``"magnitude"``, the size of their weights (Li et al. 2017, arXiv 1608.08710); ``"random"``.
        round_to: numbers of channels are rounded up to a multiple of it (at most to all of them). An array works on as
            many output channels at once as it has columns, so channels up to the next multiple of those cost nothing.
        seed: of the fine-tuning, and of random choice.
        progress, stop: as for :func:`codesign_kernel.optimize.fit`.

    Returns:
        A model of the same classes with smaller tensors, in evaluation mode.

    Raises:
        InvalidInputError: an argument breaks a law, or the model has no such layer.
        UnsupportedLayerError: the layer, or the whole model, cannot be pruned; the message says why.
        MissingPackageError: torch-pruning is not installed.
    """
    _check(data, importance, round_to)
    check_seed(seed)
    if recipe is not None:
        check_recipe(recipe)
    example = torch.from_numpy(data.train_x[:2])
    channels = channels_of(model, example)
    counts = _counts(channels, keep, round_to)
    groups = [group for group in channels.groups if counts[group.name] < group.channels]
    scores = _scores(model, data, groups, importance, seed) if groups else {}
    kept = {group.name: best(scores[group.name], counts[group.name]) for group in groups}
    small = narrowed(model, example, kept)
    if recipe is not None:
        fit(small, data, recipe, seed=seed, progress=progress, stop=stop)
    return small.eval()


def _check(data: object, importance: object, round_to: object) -> None:
    if not isinstance(data, Dataset):
        raise InvalidInputError(f"data is a Dataset, whose parts never mix, but got {type(data).__name__}")
    if importance not in IMPORTANCES:
        raise InvalidInputError(f"importance is one of {', '.join(IMPORTANCES)}, but got {importance!r}")
    if isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1:
        raise InvalidInputError(f"round_to is an integer >= 1, such as an array's columns, but got {round_to!r}")


def _counts(channels: Channels, keep: float | Mapping[str, float], round_to: int) -> dict[str, int]:
    """{name of a group: how many channels stay}."""
    channels.check()
    if isinstance(keep, Mapping):
        shares: dict[str, float] = {}
        for layer, share in keep.items():
            share = _share(share, f"keep[{layer!r}]")
            name = channels.of(layer).name
            if shares.setdefault(name, share) != share:
                raise InvalidInputError(
                    f"channels that go together have one share, but {name!r} and {layer!r} have {shares[name]:g} and "
                    f"{share:g}; name one of them"
                )
    else:
        shares = dict.fromkeys((group.name for group in channels.groups), _share(keep, "keep"))
    counts = {}
    for group in channels.groups:
        count = max(1, round(shares.get(group.name, 1.0) * group.channels))
        counts[group.name] = min(group.channels, math.ceil(count / round_to) * round_to)
    return counts


def _share(value: object, name: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(value) <= 1:  # type: ignore[arg-type]
        raise InvalidInputError(f"{name} is a share of channels above 0 and up to 1, but got {value!r}")
    return float(value)  # type: ignore[arg-type]


def best(scores: Tensor, count: int) -> list[int]:
    """The channels of the ``count`` largest of ``scores``, the first of equals, in order."""
    return sorted(torch.argsort(scores, descending=True, stable=True)[:count].tolist())


def _scores(
    model: nn.Module, data: Dataset, groups: Sequence[ChannelGroup], importance: str, seed: int
) -> dict[str, Tensor]:
    """{name of a group: how much each of its channels matters}."""
    if importance == "magnitude":
        return magnitudes(model, torch.from_numpy(data.train_x[:2]), groups)
    if importance == "random":
        drawn = torch.Generator().manual_seed(int(seed))
        return {group.name: torch.rand(group.channels, generator=drawn) for group in groups}
    return taylor(model, data, groups)


def taylor(model: nn.Module, data: Dataset, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """{name of a group: mean over the training inputs of (d loss / d gate)^2, for the gate of each channel at 1}.

    The loss without a channel is the loss minus that derivative, to first order (Molchanov et al. 2019, equation 8).
    """
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    sums = {group.name: torch.zeros(group.channels, dtype=torch.float64) for group in groups}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with repeatable(0):
            for inputs, labels in zip(x.split(WIDE), y.split(WIDE), strict=True):
                gates = {g.name: torch.ones(len(inputs), g.channels, requires_grad=True) for g in groups}
                with gated(model, groups, gates):
                    loss = F.cross_entropy(model(inputs), labels, reduction="sum")
                slopes: Any = torch.autograd.grad(loss, list(gates.values()))
                for name, slope in zip(gates, slopes, strict=True):
                    sums[name] += slope.double().square().sum(0)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {name: total / len(x) for name, total in sums.items()}
