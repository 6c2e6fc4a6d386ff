"""The parameters of a torch model as arrays by name, and back into a model of the same form: no pickle anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from codesign_kernel.errors import InvalidInputError


def weights_of(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Parameters and buffers of ``model`` by name, copied."""
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def load_weights(model: nn.Module, weights: Mapping[str, NDArray[Any]]) -> nn.Module:
    """``model`` itself, with what :func:`weights_of` gave, in evaluation mode.

    Raises:
        InvalidInputError: the names or the shapes are those of another model.
    """
    try:
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    except RuntimeError as error:
        raise InvalidInputError(
            f"weights are those of the model that takes them, but for {type(model).__name__} "
            f"{' '.join(str(error).split()):.200}; take the weights of a model of this form"
        ) from error
    return model.eval()
