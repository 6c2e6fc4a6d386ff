"""Channels that can only go together: the groups of a torch model that pruning may narrow, and how they are narrowed.

Which tensors share a channel (sums of branches, depthwise filters, flattened maps) is found by torch-pruning's
dependency graph (Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError, MissingPackageError, UnsupportedLayerError
from codesign_kernel.optimize.graph import MODEL_ERRORS

#: What makes channels, and what may stand between makers and readers with parameters of its own for each channel.
MAKERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are pruned together.

    Attributes:
        name: path of the first of ``layers`` in the model.
        channels: how many there are.
        layers: paths of the convolutions and linear layers whose output channels they are.
        ends: paths of the modules behind whose results a channel can be switched off: the normalisations of
            ``layers``, or a layer itself where none follows.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    ends: tuple[str, ...]


@dataclass(frozen=True)
class Channels:
    """The channels of a model: the groups that can be pruned, in order of the model's modules, and why others cannot.

    Attributes:
        fixed: {layer: why its output channels cannot be pruned}.
    """

    groups: tuple[ChannelGroup, ...]
    fixed: Mapping[str, str]

    def check(self) -> None:
        """Raise UnsupportedLayerError where there is nothing to prune."""
        if not self.groups:
            why = "; ".join(f"{layer}: {reason}" for layer, reason in self.fixed.items()) or "it has no layers"
            raise UnsupportedLayerError(f"no layer of the model can be pruned ({why}); prune another network")

    def of(self, layer: str) -> ChannelGroup:
        """The group of the output channels of ``layer``.

        Raises:
            UnsupportedLayerError: they cannot be pruned.
            InvalidInputError: the model has no such layer.
        """
        for group in self.groups:
            if layer in group.layers:
                return group
        if layer in self.fixed:
            raise UnsupportedLayerError(
                f"layer {layer!r} cannot be pruned: {self.fixed[layer]}; leave it out, or prune "
                f"{', '.join(group.name for group in self.groups) or 'another network'}"
            )
        known = ", ".join(name for group in self.groups for name in group.layers) or "none"
        raise InvalidInputError(f"the model has no layer {layer!r} to prune; those that can be pruned are {known}")


def channels_of(model: nn.Module, example: Tensor) -> Channels:
    """The channel groups of ``model``; the model itself is not touched.

    A group is tried before it is offered: a copy without one of its channels must run on ``example``, and its result
    must keep its shape, so that neither the classifier's outputs nor sizes written into forward() are in the way.

    Args:
        model: convolutions and linear layers, with batch normalisation or without, that autograd can trace.
        example: [N, C, H, W] float32 that the model can run on.

    Raises:
        InvalidInputError: the model cannot be copied, or cannot run on ``example``.
        MissingPackageError: torch-pruning is not installed.
    """
    check_model(model)
    own = _copy(model)
    graph, shape = _graph(own, example)
    paths = {module: path for path, module in own.named_modules()}
    found: list[ChannelGroup] = []
    fixed: dict[str, str] = {}
    for items in graph.get_all_groups(root_module_types=MAKERS):
        group, why = _group(graph, items, paths)
        why = why or _tried(model, group, example, shape)
        if why:
            fixed.update(dict.fromkeys(group.layers, why))
        else:
            found.append(group)
    order = {path: i for i, path in enumerate(paths.values())}
    found.sort(key=lambda group: order[group.name])
    return Channels(tuple(found), fixed)


def narrowed(model: nn.Module, example: Tensor, kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of ``model`` with only the channels ``kept`` ({name of a group: its channels}) of the groups named.

    Its layers are of the same classes with smaller tensors; training mode and ``requires_grad`` are as in ``model``.
    """
    own = _copy(model)
    graph, _ = _graph(own, example)
    modules = dict(own.named_modules())
    for name, channels in kept.items():
        maker = modules[name]
        gone = sorted(set(range(_width(maker))) - set(channels))
        if gone:
            prune = graph.get_pruner_of_module(maker).prune_out_channels
            graph.get_pruning_group(maker, prune, idxs=gone).prune()
    for ours, theirs in zip(own.modules(), model.modules(), strict=True):
        ours.training = theirs.training
    for mine, given in zip(own.parameters(), model.parameters(), strict=True):
        mine.requires_grad_(given.requires_grad)
        mine.grad = None
    return own


def magnitudes(model: nn.Module, example: Tensor, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """{name of a group: the size of each channel's weights}: the mean of the L2 norms of all tensors that it takes part
    in (Li et al. 2017, arXiv 1608.08710, over coupled layers as in DepGraph), the mean channel having 1."""
    own = _copy(model)
    graph, _ = _graph(own, example)
    modules = dict(own.named_modules())
    score = _library().importance.GroupMagnitudeImportance()
    sizes = {}
    for group in groups:
        maker = modules[group.name]
        prune = graph.get_pruner_of_module(maker).prune_out_channels
        sizes[group.name] = score(graph.get_pruning_group(maker, prune, idxs=list(range(group.channels)))).detach()
    return sizes


def check_model(model: object) -> None:
    """Raise InvalidInputError for what is no torch model."""
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"model is a torch.nn.Module, but got {type(model).__name__}")


def example_of(inputs: Any) -> Tensor:
    """Two of ``inputs`` [N, C, H, W], a tensor or an array of floating point, as a tensor of float32.

    Raises:
        InvalidInputError: they are of another kind or shape.
    """
    given = torch.from_numpy(inputs) if isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f" else inputs
    if not isinstance(given, Tensor) or not given.is_floating_point() or given.ndim != 4 or not given.numel():
        got = f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise InvalidInputError(f"example is a tensor or an array (N, C, H, W) of floating point, but got {got}")
    return given[[0, -1]].detach().cpu().float()


def _library() -> ModuleType:
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingPackageError(
            "pruning needs the package torch-pruning, which is not installed; pip install "
            "'codesign-playground[optimize]'"
        ) from error
    return torch_pruning


def _copy(model: nn.Module) -> nn.Module:
    try:
        own = copy.deepcopy(model).cpu()
    except MODEL_ERRORS as error:
        raise InvalidInputError(f"the model cannot be copied to the CPU: {error}; give it real weights") from error
    return own.requires_grad_(True)


def _graph(own: nn.Module, example: Tensor) -> tuple[Any, torch.Size]:
    """The dependency graph of ``own``, which is left in evaluation mode, and the shape of its result."""
    own.eval()
    try:
        with torch.enable_grad():
            result = own(example)
            # in a tuple: of a bare tensor, the library would try its first index as several arguments
            graph = _library().DependencyGraph().build_dependency(own, (example,), verbose=False)
    except MODEL_ERRORS as error:
        raise InvalidInputError(f"the model cannot run on inputs {tuple(example.shape)}: {error}") from error
    if not isinstance(result, Tensor):
        raise InvalidInputError(f"a model to prune gives one tensor, but got {type(result).__name__}")
    return graph, result.shape


def _width(module: nn.Module) -> int:
    width = getattr(module, "out_channels", None) or getattr(module, "out_features", None)
    return int(width if width is not None else getattr(module, "num_features", 0))


def _group(graph: Any, items: Any, paths: Mapping[nn.Module, str]) -> tuple[ChannelGroup, str]:
    """The group that torch-pruning found, and why it cannot be pruned, if its modules tell."""
    layers, ends, why = [], [], ""
    channels = len(items[0].idxs)
    for item in items:
        module = item.dep.target.module
        if module not in paths:  # an operation without parameters, or a parameter outside of any layer
            why = "a parameter of no layer follows its channels" if isinstance(module, nn.Parameter) else why
            continue
        if not graph.is_out_channel_pruning_fn(item.dep.handler):
            continue
        followed = {type(node.module) for node in item.dep.target.outputs}
        if isinstance(module, MAKERS):
            groups = getattr(module, "groups", 1)
            if groups > 1 and not groups == module.in_channels == module.out_channels:
                why = f"{paths[module]!r} is a convolution of {groups} groups that is not depthwise"
            layers.append(paths[module])
        elif not isinstance(module, NORMS):
            why = f"{paths[module]!r} ({type(module).__name__}) has parameters for its channels"
        if len(item.idxs) != channels or _width(module) != channels:
            why = why or f"{paths[module]!r} has a part of its channels, or other channels too"
        if isinstance(module, NORMS) or not (followed and followed <= {*NORMS}):
            ends.append(paths[module])
    order = {path: i for i, path in enumerate(paths.values())}
    layers = sorted({*layers}, key=order.__getitem__)
    ends = sorted({*ends}, key=order.__getitem__)
    return ChannelGroup(layers[0], channels, tuple(layers), tuple(ends)), why


def _tried(model: nn.Module, group: ChannelGroup, example: Tensor, shape: torch.Size) -> str:
    """Why the model does not do without the first channel of ``group``; empty if it does."""
    if group.channels < 2:
        return "it has one channel"
    try:
        with torch.no_grad():
            result = narrowed(model, example, {group.name: range(1, group.channels)}).eval()(example)
    except MODEL_ERRORS as error:
        return f"without one of its channels the model does not run ({str(error).splitlines()[0]})"
    return "" if result.shape == shape else "its channels are the model's result"
