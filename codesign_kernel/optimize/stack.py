"""Layers in real numbers as a torch module again, so that torch can export and train them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from codesign_kernel.optimize.float_layer import FloatLayer
from codesign_kernel.optimize.layer import PLAIN_OPS


class LayerModule(nn.Module):
    """One layer; what has weights has the parameters ``weight`` and ``bias`` (float32)."""

    def __init__(self, layer: FloatLayer) -> None:
        super().__init__()
        self.layer = replace(layer, weight=layer.weight.float(), bias=layer.bias.float())
        if layer.op not in PLAIN_OPS:
            self.weight = nn.Parameter(self.layer.weight.clone())
            self.bias = nn.Parameter(self.layer.bias.clone())

    def forward(self, *maps: Tensor) -> Tensor:
        """The layer's map [N, K, H, W] of those that it reads."""
        if self.layer.op in PLAIN_OPS:
            return self.layer.run(maps)
        return replace(self.layer, weight=self.weight, bias=self.bias).run(maps)


class LayerStack(nn.Module):
    """The layers one after the other, layer ``i`` at the path ``layers.<i>``."""

    def __init__(self, layers: Sequence[FloatLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(LayerModule, layers))
        self.reads = [layer.reads for layer in layers]
        self.flat = layers[-1].op == "linear"

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer gives for inputs [N, C, H, W]: [N, K] if it is linear, else [N, K, H, W]."""
        maps = [x]
        for layer, reads in zip(self.layers, self.reads, strict=True):
            maps.append(layer(*(maps[source + 1] for source in reads)))
        return maps[-1].flatten(1) if self.flat else maps[-1]


def place_of(path: str) -> int:
    """The number of the layer whose module or parameter stands at ``path`` within a :class:`LayerStack`."""
    return int(path.rpartition("layers.")[2].partition(".")[0])
