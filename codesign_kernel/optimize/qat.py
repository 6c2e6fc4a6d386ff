"""Quantisation-aware training: the network learns with its weights and maps rounded as the hardware rounds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.assembly import assemble
from codesign_kernel.optimize.calibration import Calibration
from codesign_kernel.optimize.dataset import Dataset, check_parts
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.training import Progress, Recipe, check_recipe, check_seed, fit, repeatable

#: Passes over the training inputs and learning rate where nothing else is asked for.
RECIPE = Recipe(epochs=10, learning_rate=1e-3)


def quantize_aware(
    model: nn.Module,
    data: Dataset,
    bits: int = 8,
    weight_bits: Mapping[str, int] | None = None,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> IntegerNetwork:
    """Train on with weights and maps rounded as in the integer network; the model itself is not touched.

    Starts from what :func:`codesign_kernel.quantize` makes of the model and its calibration inputs, batch normalisation
    folded in, and learns weights, biases and what one step of each map and of each channel's weights stands for. It
    helps most where weights or maps are narrow. Dropout is left out.

    Args:
        model: as for :func:`codesign_kernel.quantize`, ending in a Linear with one result for each class.
        data: trains on its training part, calibrates on its calibration part, and reads no other.
        bits, weight_bits: as for :func:`codesign_kernel.quantize`.
        recipe: how long and how fast to train.
        seed: of the order of the inputs; the same seed gives the same network on a machine.
        progress: called after each epoch with (epochs done, epochs, message).
        stop: asked before each epoch; ``True`` ends the training there.

    Raises:
        InvalidInputError: an argument breaks a law, or the loss became NaN.
        UnsupportedLayerError: the model holds a layer that the datapath cannot run; the message names it.
        MissingPackageError: torchao is not installed.
    """
    check_parts(data, "train", "calibration")
    check_recipe(recipe)
    check_seed(seed)
    from codesign_kernel.optimize.pt2e import learned, prepare

    calibration = Calibration(model, data.calibration_x, bits)
    check_classes(calibration, data)
    layers, steps = calibration.rounded(weight_bits)
    with repeatable(seed):  # an export draws random numbers
        graph = prepare(layers, bits, calibration.scales, steps, torch.from_numpy(data.calibration_x))
    fit(graph, data, recipe, seed=seed, progress=progress, stop=stop)
    found = learned(graph, layers, steps)
    return assemble(calibration.name, calibration.input_shape, found.layers, found.scales, bits, found.steps)


def check_classes(calibration: Calibration, data: Dataset) -> None:
    """Refuse a model that does not give one result for each class of ``data``."""
    last, classes = calibration.layers[-1], len(data.labels)
    if last.op != "linear" or len(last.weight) != classes:
        raise InvalidInputError(
            f"the model ends in a Linear with one result for each of the {classes} classes of {data.name}, but its "
            f"last layer {last.name!r} is a {last.op} with {len(last.weight)} channels"
        )
