"""FloatLayer: one layer of a torch model in real numbers, in the form in which it becomes an IntegerLayer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class FloatLayer:
    """One layer in real numbers (float64), batch normalisation folded in; fields as in IntegerLayer, but:

    Attributes:
        reads: numbers of the layers whose maps it reads; -1 is the network's input.
        ceiling: where its ReLU cuts off (6 for ReLU6), or None.
    """

    name: str
    op: str
    weight: Tensor
    bias: Tensor
    reads: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    relu: bool = False
    ceiling: float | None = None
    pool: int = 1
    flatten: bool = False

    @classmethod
    def plain(cls, name: str, op: str, channels: int, reads: tuple[int, ...], window: Sequence[int]) -> FloatLayer:
        """A pooling or an addition: ones for weights."""
        weight = torch.ones(channels, 1, *window, dtype=torch.float64)
        return cls(name, op, weight, weight.new_zeros(channels), reads, groups=channels)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the filter or pooling window."""
        return self.weight.shape[2], self.weight.shape[3]

    def sums(self, x: Tensor) -> Tensor:
        """What a convolution or fully connected layer adds up, [N, K, H, W], in the type of ``x`` [N, C, H, W]."""
        weight, bias = (p if p.dtype == x.dtype else p.to(x.dtype) for p in (self.weight, self.bias))
        if self.op == "linear":
            return F.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def run(self, read: Sequence[Tensor]) -> Tensor:
        """What the layer writes to memory, [N, K, H, W], for the maps that it reads (float32, [N, C, H, W])."""
        x = read[0]
        if self.op == "add":
            y = x + read[1]
        elif self.op == "avg_pool2d":
            y = F.avg_pool2d(x, self.window, self.stride, self.padding)
        elif self.op == "max_pool2d":
            y = F.max_pool2d(x, self.window, self.stride, self.padding)
        else:
            y = self.sums(x)
        y = F.relu(y) if self.relu else y
        y = y if self.ceiling is None else y.clamp(max=self.ceiling)
        return F.max_pool2d(y, self.pool) if self.pool > 1 else y


def run_layers(layers: Sequence[FloatLayer], x: Tensor) -> Iterator[Tensor]:
    """The map of each layer for the input ``x`` [N, C, H, W]; a map is forgotten once nobody reads it any more."""
    last = {source: i for i, layer in enumerate(layers) for source in layer.reads}
    maps = {-1: x}
    for i, layer in enumerate(layers):
        y = layer.run([maps[source] for source in layer.reads])
        for source in {*layer.reads}:
            if last[source] == i:
                del maps[source]
        maps[i] = y
        yield y


def tied_maps(layers: Sequence[FloatLayer]) -> list[int]:
    """For the input (map 0) and the map of each layer (1, ...) the first of the maps that it shares its scale with.

    The two maps of an addition have one scale, and a max pooling keeps that of its map.
    """
    group = list(range(len(layers) + 1))
    for i, layer in enumerate(layers):
        tied = {"add": [source + 1 for source in layer.reads], "max_pool2d": [layer.reads[0] + 1, i + 1]}
        both = {group[m] for m in tied.get(layer.op, [])}
        group = [min(both) if g in both else g for g in group]
    return group
