"""A real task that trains in seconds: the 1,797 scanned digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from codesign_kernel.optimize.dataset import Dataset
from codesign_kernel.optimize.networks import network_of
from codesign_kernel.optimize.training import Progress

#: Held out for the test, and taken from the rest for calibration and for choices (images).
TEST_IMAGES = 450
CALIBRATION_IMAGES = 128
VALIDATION_IMAGES = 160
SPLIT_SEED = 20240607


def load_digits(edge: int = 8) -> Dataset:
    """The UCI set of handwritten digits (its test part), always split alike.

    The images have 8x8 pixels; for another ``edge`` >= 8 they are enlarged bilinearly.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    x = (bunch.images / 16.0).astype(np.float32)[:, None]  # 17 grey levels: exact in float32
    if edge != len(x[0, 0]):
        x = F.interpolate(torch.from_numpy(x), (edge, edge), mode="bilinear", align_corners=False).numpy()
    y = bunch.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    sizes = np.cumsum([TEST_IMAGES, CALIBRATION_IMAGES, VALIDATION_IMAGES])
    test, calibration, validation, train = np.split(order, sizes)
    parts = [array[rows] for rows in (train, calibration, validation, test) for array in (x, y)]
    return Dataset("digits", tuple(map(str, range(10))), *parts)


def train_digits(
    seed: int = 0, epochs: int | None = None, progress: Progress | None = None, network: str = "cnn"
) -> tuple[nn.Module, Dataset, float]:
    """Train a network: Adam, the learning rate falling to 0 along a cosine.

    Args:
        seed: of initial weights and of the order of the images; the same seed gives the same weights on a machine.
        epochs: passes over the training images, at least 1; without, as many as the network needs.
        progress: called after each epoch with (epochs done, epochs, message).
        network: ``cnn``, two convolutions in a chain; ``lenet5``, on images enlarged to 28x28, with average pooling;
            ``resnet``, residual blocks and a global average; ``mobilenet``, depthwise convolutions and ReLU6.

    Returns:
        The network in evaluation mode, the data, and the share of held-out images that it gets right.

    Raises:
        InvalidInputError: ``epochs`` is not an integer >= 1, or there is no such network.
    """
    task = network_of(network, "digits")
    data = load_digits(task.shape[1])
    model, right = task.train(data, seed, epochs, progress)
    return model, data, right
