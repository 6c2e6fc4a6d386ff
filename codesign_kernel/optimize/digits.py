"""A real task that trains in seconds: the 1,797 scanned digits that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.networks import NETWORKS

#: Held out for the test, and taken from the rest for calibration (images).
TEST_IMAGES = 450
CALIBRATION_IMAGES = 256
SPLIT_SEED = 20240607
BATCH = 64

Progress = Callable[[int, int, str], None]


class DigitsData(NamedTuple):
    """Images [N, 1, edge, edge] in [0, 1] and their labels [N], 0 to 9; the calibration is part of the training set."""

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    calibration_x: NDArray[np.float32]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]
    all_x: NDArray[np.float32]
    all_y: NDArray[np.int64]


def load_digits(edge: int = 8) -> DigitsData:
    """The UCI set of handwritten digits (its test part), always split alike into training and held-out images.

    The images have 8x8 pixels; for another ``edge`` >= 8 they are enlarged bilinearly.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    x = (bunch.images / 16.0).astype(np.float32)[:, None]  # 17 grey levels: exact in float32
    if edge != len(x[0, 0]):
        x = F.interpolate(torch.from_numpy(x), (edge, edge), mode="bilinear", align_corners=False).numpy()
    y = bunch.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return DigitsData(x[train], y[train], x[train[:CALIBRATION_IMAGES]], x[test], y[test], x, y)


def train_digits(
    seed: int = 0, epochs: int | None = None, progress: Progress | None = None, network: str = "cnn"
) -> tuple[nn.Module, DigitsData, float]:
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
    if network not in NETWORKS:
        raise InvalidInputError(f"there is no digits network {network!r}; choose from {', '.join(NETWORKS)}")
    task = NETWORKS[network]
    epochs = task.epochs if epochs is None else epochs
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise InvalidInputError(f"epochs is an integer >= 1, but got {epochs!r}")
    data = load_digits(task.edge)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    with _repeatable(seed):
        model = task.model()
        optimizer = torch.optim.Adam(model.parameters(), lr=task.learning_rate)
        steps = epochs * -(-len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for epoch in range(epochs):
            total = 0.0
            for batch in torch.randperm(len(x)).split(BATCH):
                loss = F.cross_entropy(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            if progress is not None:
                progress(epoch + 1, epochs, f"training, loss {total / len(x):.3f}")
        model.eval()
        with torch.no_grad():
            right = model(torch.from_numpy(data.test_x)).argmax(1).numpy() == data.test_y
    return model, data, float(right.mean())


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seeded random numbers that leave the caller's alone, and one thread, as sums depend on how they are divided."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
