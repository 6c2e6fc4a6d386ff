"""Well-known networks in plain torch, with their published shapes, on the meta device: for profiling, not for weights.

``build`` gives a model whose parameter count is that of the publication (or of torchvision's and Hugging Face's code,
where the publication leaves details open).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError


def names() -> tuple[str, ...]:
    """The networks that ``build`` knows."""
    return tuple(_ZOO)


def build(name: str, device: str = "meta") -> tuple[nn.Module, Tensor]:
    """A network in eval mode and one example input (batch 1).

    Args:
        name: one of ``names()``.
        device: ``"meta"`` allocates nothing; ``"cpu"`` gives random weights.

    Raises:
        InvalidInputError: unknown name.
    """
    if name not in _ZOO:
        raise InvalidInputError(f"the zoo has no network {name!r}; it has {', '.join(_ZOO)}")
    make, shape = _ZOO[name]
    with torch.device(device):
        example = torch.zeros(shape, dtype=torch.int64 if len(shape) == 2 else torch.float32)
        return make().eval(), example


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def lenet5() -> nn.Module:
    """LeCun et al. 1998 on 28 x 28 digits, with ReLU and max pooling as is usual today: 61,706 parameters."""
    return _named(
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
    return _named(**parts, drop7=nn.Dropout(), fc8=nn.Linear(4096, 1000))


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


def _conv_bn(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return _named(conv=conv, bn=nn.BatchNorm2d(out), relu6=nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand 1 x 1, depthwise 3 x 3, project 1 x 1 without activation; a shortcut where shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        self.expand = _conv_bn(channels, hidden, 1) if expand > 1 else nn.Identity()
        self.depthwise = _conv_bn(hidden, hidden, 3, stride, hidden)
        self.project = _named(conv=nn.Conv2d(hidden, out, 1, bias=False), bn=nn.BatchNorm2d(out))
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
    return _named(**parts, drop=nn.Dropout(0.2), fc=nn.Linear(1280, 1000))


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(n, t, d))


class TransformerBlock(nn.Module):
    """Attention and a four times wider GELU network, each with a shortcut; normalised before (ViT, GPT) or after."""

    def __init__(self, width: int, heads: int, norm_first: bool, causal: bool, eps: float, approximate: str) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.ln1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, causal)
        self.ln2 = nn.LayerNorm(width, eps)
        self.mlp = _named(up=nn.Linear(width, 4 * width), gelu=nn.GELU(approximate), down=nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))
        x = self.ln1(x + self.attn(x))
        return self.ln2(x + self.mlp(x))


def _blocks(norm_first: bool = True, causal: bool = False, eps: float = 1e-5, approximate: str = "none") -> nn.Module:
    return nn.Sequential(*(TransformerBlock(768, 12, norm_first, causal, eps, approximate) for _ in range(12)))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2020, ViT-B/16 on 224 x 224: 86,567,656 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.position = nn.Parameter(torch.zeros(1, 197, 768))
        self.blocks = _blocks(eps=1e-6)
        self.ln = nn.LayerNorm(768, 1e-6)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.ln(self.blocks(x))[:, 0])


class Bert(nn.Module):
    """Devlin et al. 2018, base, encoder with pooler: 109,482,240 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, 768)
        self.positions = nn.Embedding(512, 768)
        self.segments = nn.Embedding(2, 768)
        self.ln = nn.LayerNorm(768, 1e-12)
        self.blocks = _blocks(norm_first=False, eps=1e-12)
        self.pooler = nn.Linear(768, 768)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.words(ids) + self.positions(places) + self.segments(torch.zeros_like(ids))
        x = self.blocks(self.ln(x))
        return x, torch.tanh(self.pooler(x[:, 0]))


class Gpt2(nn.Module):
    """Radford et al. 2019, small; the head is the embedding: 124,439,808 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50257, 768)
        self.positions = nn.Embedding(1024, 768)
        self.blocks = _blocks(causal=True, approximate="tanh")
        self.ln = nn.LayerNorm(768)
        self.head = nn.Linear(768, 50257, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.ln(self.blocks(self.words(ids) + self.positions(places))))


_IMAGE = (1, 3, 224, 224)
_ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lenet5, (1, 1, 28, 28)),
    "resnet18": (lambda: ResNet((2, 2, 2, 2), bottleneck=False), _IMAGE),
    "resnet50": (lambda: ResNet((3, 4, 6, 3), bottleneck=True), _IMAGE),
    "mobilenet_v2": (mobilenet_v2, _IMAGE),
    "vgg16": (vgg16, _IMAGE),
    "vit_b16": (VisionTransformer, _IMAGE),
    "bert_base": (Bert, (1, 128)),
    "gpt2": (Gpt2, (1, 128)),
}
