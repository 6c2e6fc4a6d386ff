"""The four networks of MLPerf Tiny (Banbury et al. 2021, arXiv 2106.07597), as in the reference code of
github.com/mlcommons/tiny, ``benchmark/training``.

Keras counts the running mean and variance of batch normalisation as parameters, torch as buffers: the published totals
are parameters plus two for each normalised channel. Where Keras pads one side of an even stride more (``same``), these
pad both sides alike: the output has the same size, and so have all loops.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from codesign_kernel.profiler.zoo.vision import named


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> dict[str, nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups)
    return {"conv": conv, "bn": nn.BatchNorm2d(out), "relu": nn.ReLU()}


def keyword_spotting() -> nn.Module:
    """DS-CNN (Zhang et al. 2017, small) on 49 frames of 10 cepstral coefficients, 12 words: 24,908 in Keras."""
    stem = {"conv": nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), "bn": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    parts: dict[str, nn.Module] = {"stem": named(**stem), "drop1": nn.Dropout(0.2)}
    for i in range(1, 5):
        parts[f"depthwise{i}"] = named(**_conv(64, 64, 3, groups=64))
        parts[f"pointwise{i}"] = named(**_conv(64, 64, 1))
    parts |= {"drop2": nn.Dropout(0.4), "avgpool": nn.AvgPool2d((25, 5)), "flatten": nn.Flatten()}
    return named(**parts, fc=nn.Linear(64, 12), softmax=nn.Softmax(1))


def visual_wake_words() -> nn.Module:
    """MobileNetV1 of width 0.25 on 96 x 96, person or not: 221,794 in Keras."""
    parts: dict[str, nn.Module] = {"stem": named(**_conv(3, 8, 3, 2))}
    channels = 8
    plan = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
    for i, (out, stride) in enumerate(plan, 1):
        parts[f"depthwise{i}"] = named(**_conv(channels, channels, 3, stride, channels))
        parts[f"pointwise{i}"] = named(**_conv(channels, out, 1))
        channels = out
    parts |= {"avgpool": nn.AvgPool2d(3), "flatten": nn.Flatten()}
    return named(**parts, fc=nn.Linear(256, 2), softmax=nn.Softmax(1))


class TinyBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut, a 1 x 1 convolution without normalisation where shapes change."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = _conv(channels, out, 3, stride).values()
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(self.shortcut(x) + y)


def image_classification() -> nn.Module:
    """ResNet-8 on the 32 x 32 images of CIFAR-10: 78,666 in Keras."""
    parts: dict[str, nn.Module] = {"stem": named(**_conv(3, 16, 3))}
    parts |= {"stack1": TinyBlock(16, 16, 1), "stack2": TinyBlock(16, 32, 2), "stack3": TinyBlock(32, 64, 2)}
    parts |= {"avgpool": nn.AvgPool2d(8), "flatten": nn.Flatten(), "fc": nn.Linear(64, 10)}
    return named(**parts, softmax=nn.Softmax(1))


def anomaly_detection() -> nn.Module:
    """Autoencoder on 5 frames of 128 mel bands, through 8 values: 269,992 in Keras."""
    parts: dict[str, nn.Module] = {}
    widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
    for i, (channels, out) in enumerate(pairwise(widths), 1):
        parts |= {f"fc{i}": nn.Linear(channels, out), f"bn{i}": nn.BatchNorm1d(out), f"relu{i}": nn.ReLU()}
    return named(**parts, fc10=nn.Linear(128, 640))
