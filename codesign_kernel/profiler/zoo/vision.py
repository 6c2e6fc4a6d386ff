"""Convolutional networks for images: LeNet to EfficientNet."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


def named(**modules: nn.Module) -> nn.Sequential:
    """Modules one after the other, under these names."""
    return nn.Sequential(OrderedDict(modules))


def lenet5() -> nn.Module:
    """LeCun et al. 1998 on 28 x 28 digits, with ReLU and max pooling as is usual today: 61,706 parameters."""
    return named(
        conv1=nn.Conv2d(1, 6, 5, padding=2),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(400, 120),
        relu3=nn.ReLU(),
        fc2=nn.Linear(120, 84),
        relu4=nn.ReLU(),
        fc3=nn.Linear(84, 10),
    )


def alexnet() -> nn.Module:
    """Krizhevsky et al. 2012, the two GPUs as groups of conv2, conv4 and conv5, on 227 x 227 as in Caffe's
    ``bvlc_alexnet``: 60,965,224 parameters. Without the local response normalisation, which has no weights and no MACs
    and which later networks dropped."""
    convs = ((3, 96, 11, 4, 0, 1), (96, 256, 5, 1, 2, 2), (256, 384, 3, 1, 1, 1), (384, 384, 3, 1, 1, 2))
    parts: dict[str, nn.Module] = {}
    for i, (channels, out, kernel, stride, padding, groups) in enumerate((*convs, (384, 256, 3, 1, 1, 2)), 1):
        parts[f"conv{i}"] = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups)
        parts[f"relu{i}"] = nn.ReLU(inplace=True)
        if i in (1, 2, 5):
            parts[f"pool{i}"] = nn.MaxPool2d(3, 2)
    parts |= {"flatten": nn.Flatten(), "fc6": nn.Linear(256 * 6 * 6, 4096), "relu6": nn.ReLU(inplace=True)}
    parts |= {"drop6": nn.Dropout(), "fc7": nn.Linear(4096, 4096), "relu7": nn.ReLU(inplace=True)}
    return named(**parts, drop7=nn.Dropout(), fc8=nn.Linear(4096, 1000))


def vgg16() -> nn.Module:
    """Simonyan and Zisserman 2014, configuration D: 138,357,544 parameters."""
    parts: dict[str, nn.Module] = {}
    channels = 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(1, count + 1):
            parts[f"conv{stage}_{i}"] = nn.Conv2d(channels, width, 3, padding=1)
            parts[f"relu{stage}_{i}"] = nn.ReLU(inplace=True)
            channels = width
        parts[f"pool{stage}"] = nn.MaxPool2d(2)
    parts |= {"flatten": nn.Flatten(), "fc6": nn.Linear(512 * 7 * 7, 4096), "relu6": nn.ReLU(inplace=True)}
    parts |= {"drop6": nn.Dropout(), "fc7": nn.Linear(4096, 4096), "relu7": nn.ReLU(inplace=True)}
    return named(**parts, drop7=nn.Dropout(), fc8=nn.Linear(4096, 1000))


class ResidualBlock(nn.Module):
    """Basic block (two 3 x 3) or bottleneck (1 x 1, 3 x 3 with the stride, 1 x 1) with a shortcut."""

    def __init__(self, channels: int, width: int, out: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        plan = [(width, 1, 1), (width, 3, stride), (out, 1, 1)] if bottleneck else [(width, 3, stride), (out, 3, 1)]
        self.count = len(plan)
        previous = channels
        for i, (size, kernel, step) in enumerate(plan, 1):
            self.add_module(f"conv{i}", nn.Conv2d(previous, size, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(size))
            previous = size
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            if i < self.count:
                y = self.relu(y)
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """He et al. 2015; the stride of a bottleneck is in its 3 x 3, as in torchvision."""

    def __init__(self, depths: tuple[int, int, int, int], bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, depth in enumerate(depths):
            width = 64 << stage
            out = width * (4 if bottleneck else 1)
            blocks = []
            for i in range(depth):
                blocks.append(ResidualBlock(channels, width, out, 2 if stage and not i else 1, bottleneck))
                channels = out
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def _conv_bn(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, activation: type[nn.Module] = nn.ReLU6
) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return named(conv=conv, bn=nn.BatchNorm2d(out), **{activation.__name__.lower(): activation(inplace=True)})


def mobilenet_v1() -> nn.Module:
    """Howard et al. 2017, width 1.0: 4,231,976 parameters."""
    parts: dict[str, nn.Module] = {"stem": _conv_bn(3, 32, 3, 2, activation=nn.ReLU)}
    channels = 32
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for i, (out, stride) in enumerate(plan, 1):
        parts[f"depthwise{i}"] = _conv_bn(channels, channels, 3, stride, channels, activation=nn.ReLU)
        parts[f"pointwise{i}"] = _conv_bn(channels, out, 1, activation=nn.ReLU)
        channels = out
    parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(1024, 1000)}
    return named(**parts)


class InvertedResidual(nn.Module):
    """Expand 1 x 1, depthwise 3 x 3, project 1 x 1 without activation; a shortcut where shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        self.expand = _conv_bn(channels, hidden, 1) if expand > 1 else nn.Identity()
        self.depthwise = _conv_bn(hidden, hidden, 3, stride, hidden)
        self.project = named(conv=nn.Conv2d(hidden, out, 1, bias=False), bn=nn.BatchNorm2d(out))
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018, width 1.0: 3,504,872 parameters."""
    parts: dict[str, nn.Module] = {"stem": _conv_bn(3, 32, 3, 2)}
    channels = 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, out, count, stride in plan:
        for i in range(count):
            parts[f"block{len(parts)}"] = InvertedResidual(channels, out, 1 if i else stride, expand)
            channels = out
    parts |= {"head": _conv_bn(320, 1280, 1), "avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return named(**parts, drop=nn.Dropout(0.2), fc=nn.Linear(1280, 1000))


class SqueezeExcite(nn.Module):
    """Each channel times a gate that is computed from the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.silu = nn.Conv2d(channels, squeezed, 1), nn.SiLU(inplace=True)
        self.expand, self.sigmoid = nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(self.expand(self.silu(self.reduce(self.mean(x)))))


class MobileBlock(nn.Module):
    """Inverted residual with SiLU and squeeze-and-excite on a quarter of the block's input channels."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        self.expand = _conv_bn(channels, hidden, 1, activation=nn.SiLU) if expand > 1 else nn.Identity()
        self.depthwise = _conv_bn(hidden, hidden, kernel, stride, hidden, activation=nn.SiLU)
        self.se = SqueezeExcite(hidden, channels // 4)
        self.project = named(conv=nn.Conv2d(hidden, out, 1, bias=False), bn=nn.BatchNorm2d(out))
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.shortcut else y


def efficientnet_b0() -> nn.Module:
    """Tan and Le 2019, B0: 5,288,548 parameters."""
    parts: dict[str, nn.Module] = {"stem": _conv_bn(3, 32, 3, 2, activation=nn.SiLU)}
    channels = 32
    plan = (
        (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    )  # fmt: skip
    for expand, kernel, out, count, stride in plan:
        for i in range(count):
            parts[f"block{len(parts)}"] = MobileBlock(channels, out, kernel, 1 if i else stride, expand)
            channels = out
    parts |= {"head": _conv_bn(320, 1280, 1, activation=nn.SiLU), "avgpool": nn.AdaptiveAvgPool2d(1)}
    return named(**parts, flatten=nn.Flatten(), drop=nn.Dropout(0.2), fc=nn.Linear(1280, 1000))
