"""Gates: a factor for each channel of a group, put on by hooks, so that the model's code stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from codesign_kernel.optimize.channels import ChannelGroup


@contextmanager
def gated(model: nn.Module, groups: Sequence[ChannelGroup], gates: Mapping[str, Tensor]) -> Iterator[None]:
    """While it lasts, the channels of each group are multiplied by ``gates[group.name]``, [C] or [N, C].

    A gate acts at the group's ends, before any activation: with 0, a network whose activations keep 0 at 0, such as
    ReLU, computes what it computes without the channel.
    """
    modules = dict(model.named_modules())
    hooks = []
    for group in groups:
        for end in group.ends:
            hooks.append(modules[end].register_forward_hook(_Gate(gates, group.name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Gate:
    """A forward hook that multiplies a result [N, C, ...] by a gate."""

    def __init__(self, gates: Mapping[str, Tensor], name: str) -> None:
        self.gates, self.name = gates, name

    def __call__(self, module: nn.Module, given: Any, result: Tensor) -> Tensor:
        gate = self.gates[self.name]
        return result * gate.reshape(*gate.shape, *[1] * (result.ndim - 2))


def fold(model: nn.Module, groups: Sequence[ChannelGroup], gates: Mapping[str, Tensor]) -> None:
    """Multiply gates [C] into the weights and biases at the ends of their groups: the model then needs them no more."""
    modules = dict(model.named_modules())
    with torch.no_grad():
        for group in groups:
            gate = gates[group.name]
            for end in group.ends:
                weight: Any = modules[end].weight
                weight.mul_(gate.reshape(-1, *[1] * (weight.ndim - 1)))
                bias: Any = modules[end].bias
                if bias is not None:
                    bias.mul_(gate)
