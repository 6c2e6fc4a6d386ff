"""Small networks, each of a form that larger ones have: a chain, averages, residual sums, depthwise filters."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.dataset import Dataset
from codesign_kernel.optimize.training import Progress, Recipe, accuracy, fit, logits, repeatable


class DigitsCNN(nn.Module):
    """Two convolutions of 3x3, each with ReLU and 2x2 max pooling, and a classifier: 84,224 MAC for 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of images [N, 1, 8, 8]."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        return self.fc(self.flatten(x))


class LeNet5(nn.Module):
    """LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition"), with ReLU: 416,520 MAC.

    As in the original, poolings average; every map of the second convolution reads all maps of the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.pool1 = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool2 = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of images [N, 1, 28, 28]."""
        x = self.pool1(F.relu(self.conv1(x)))
        x = self.pool2(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class ResidualBlock(nn.Module):
    """Two convolutions of 3x3 and a way around them, 1x1 where it strides (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels_out, H / stride, W / stride] of [N, channels_in, H, W]."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class ResidualCNN(nn.Module):
    """A small ResNet: two residual blocks, the second at half the resolution, and a global average: 533,824 MAC."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block1 = ResidualBlock(16, 16)
        self.block2 = ResidualBlock(16, 32, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of images [N, 1, 8, 8]."""
        x = self.block2(self.block1(self.stem(x)))
        return self.fc(self.flatten(self.pool(x)))


def _separable(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """A filter of 3x3 for each channel, then a mixture of the channels (Howard et al. 2017, arXiv 1704.04861)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.ReLU6(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )


class SeparableCNN(nn.Module):
    """A small MobileNet: three depthwise-separable convolutions with ReLU6 and a global average: 163,968 MAC."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.block1 = _separable(16, 32)
        self.block2 = _separable(32, 64, stride=2)
        self.block3 = _separable(64, 64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of images [N, 1, 8, 8]."""
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


class KeywordsCNN(nn.Module):
    """A small DS-CNN (Zhang et al. 2017, "Hello Edge", arXiv 1711.07128) for spectrograms: 436,320 MAC.

    A convolution of 5x5 that halves time and frequency, three depthwise-separable ones, the second of which halves them
    again, a global average, and ReLU6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 5, 2, padding=2, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.block1 = _separable(24, 32)
        self.block2 = _separable(32, 48, stride=2)
        self.block3 = _separable(48, 48)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, 10] of spectrograms [N, 1, 32 frames, 20 bands]."""
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


class Task(NamedTuple):
    """What a network learns, and how.

    Attributes:
        model: its class.
        data: ``digits`` or ``keywords``.
        shape: of its inputs (C, H, W).
        epochs: passes over the training inputs.
        learning_rate: at the start.
        weight_decay: of AdamW.
    """

    model: type[nn.Module]
    data: str
    shape: tuple[int, int, int]
    epochs: int
    learning_rate: float
    weight_decay: float = 0.0

    def untrained(self) -> tuple[nn.Module, Tensor]:
        """The network with weights at random, and an input for it [1, C, H, W]."""
        return self.model(), torch.zeros(1, *self.shape)

    def train(self, data: Dataset, seed: int, epochs: int | None, progress: Progress | None) -> tuple[nn.Module, float]:
        """The network, trained on ``data`` and in evaluation mode, and its share of right answers in the test.

        Raises:
            InvalidInputError: ``epochs`` is neither an integer >= 1 nor ``None``, for as many as the network needs.
        """
        recipe = Recipe(self.epochs if epochs is None else epochs, self.learning_rate, weight_decay=self.weight_decay)
        with repeatable(seed):
            model = self.model()
        fit(model, data, recipe, seed=seed, progress=progress)
        return model, accuracy(logits(model, data.test_x), data.test_y)


#: What ``train_digits``, ``train_keywords`` and ``--network`` know, by name.
NETWORKS = {
    "cnn": Task(DigitsCNN, "digits", (1, 8, 8), 40, 1e-2),
    "lenet5": Task(LeNet5, "digits", (1, 28, 28), 40, 1e-2),
    "resnet": Task(ResidualCNN, "digits", (1, 8, 8), 20, 1e-2),
    "mobilenet": Task(SeparableCNN, "digits", (1, 8, 8), 40, 5e-3),
    "keywords": Task(KeywordsCNN, "keywords", (1, 32, 20), 12, 5e-3, weight_decay=1e-2),
}


def network_of(name: str, data: str) -> Task:
    """The network ``name`` for the task ``data``.

    Raises:
        InvalidInputError: that task has no such network.
    """
    known = [key for key, task in NETWORKS.items() if task.data == data]
    if name not in known:
        raise InvalidInputError(f"there is no {data} network {name!r}; choose from {', '.join(known)}")
    return NETWORKS[name]
