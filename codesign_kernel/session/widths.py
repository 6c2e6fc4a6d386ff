"""A workload with other numbers of channels: what a pruned network's profile would say, without pruning it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.workload import MAC_OPS, Layer, Workload


def with_channels(workload: Workload, channels: Mapping[str, int]) -> Workload:
    """``workload`` with other numbers of output channels; whatever reads them follows.

    Args:
        channels: {convolution or linear layer: its output channels}. What is added is given alike.

    Raises:
        InvalidInputError: a name is no such layer, or maps that are added differ.
        UnsupportedLayerError: an operator that reads the channels does not simply follow them.
    """
    makers = {layer.name for layer in workload.layers if layer.op in MAC_OPS and layer.G == 1}
    unknown = sorted(set(channels) - makers)
    if unknown:
        raise InvalidInputError(f"channels are those of convolutions and linear layers, but {unknown} are none")
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    layers = []
    producers: dict[str, list[str]] = {}
    for a, b in workload.edges:
        producers.setdefault(b, []).append(a)
    for layer in workload.layers:
        inputs = {_read(layer, before[p], after[p]) for p in producers.get(layer.name, ())} or {layer.G * layer.C}
        if len(inputs) > 1:
            raise InvalidInputError(
                f"maps that are joined have the same channels, but {layer.name!r} would read {sorted(inputs)}; give "
                "the layers that make them the same number"
            )
        narrow = _followed(layer, inputs.pop(), channels.get(layer.name))
        before[layer.name], after[layer.name] = layer.G * layer.K, narrow.G * narrow.K
        layers.append(narrow)
    return replace(workload, layers=tuple(layers))


def _read(layer: Layer, before: int, after: int) -> int:
    """Channels that ``layer`` reads of a map that had ``before`` and has ``after``; flattened, each becomes several."""
    if layer.G * layer.C % before:
        if before == after:
            return layer.G * layer.C
        raise _refused(layer)
    return layer.G * layer.C // before * after


def _followed(layer: Layer, inputs: int, outputs: int | None) -> Layer:
    """``layer`` reading ``inputs`` channels, with ``outputs`` of its own if they are given."""
    if layer.op in MAC_OPS - {"matmul"} and layer.G == 1:
        return replace(layer, C=inputs, K=layer.K if outputs is None else outputs)
    if inputs == layer.G * layer.C:
        return layer
    if layer.C == layer.K == 1 and layer.op in MAC_OPS:
        return replace(layer, G=inputs)
    if layer.op in MAC_OPS or layer.G != 1 or layer.C != layer.K:
        raise _refused(layer)
    return replace(layer, C=inputs, K=inputs)


def _refused(layer: Layer) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"channels are followed through convolutions, poolings and operators on elements, but {layer.name!r} is a "
        f"{layer.op} of {layer.G} x {layer.C} to {layer.G} x {layer.K} channels; profile the narrower network itself"
    )
