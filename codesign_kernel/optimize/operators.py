"""The torch modules and functions that the datapath has a counterpart of, and what to use instead of others."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from codesign_kernel.optimize.float_layer import FloatLayer
from codesign_kernel.optimize.reader import Handler, Reader, Value

DATAPATH = (
    "Conv2d, BatchNorm2d after a Conv2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, sums of two maps, "
    "Flatten, Linear, Dropout and Identity"
)
#: What to use instead: remedy -> modules and functions.
_INSTEAD = {
    "use MaxPool2d with the window as a number": "AdaptiveMaxPool2d adaptive_max_pool2d amax max",
    "add the branches, as a residual network does": "cat concat concatenate stack mul imul",
    "add the negative: the sign belongs into the weights of the layer before it": "sub isub",
    "leave it out: the largest logit is the largest probability": "Softmax LogSoftmax softmax log_softmax",
    "use ReLU, or leave it to the caller if it is the last layer": (
        "GELU SiLU Sigmoid Tanh LeakyReLU PReLU ELU Hardswish Hardsigmoid Mish "
        "gelu silu sigmoid tanh leaky_relu prelu elu hardswish hardsigmoid mish"
    ),
    "use the module nn.Conv2d with a filter of height 1": "Conv1d conv1d",
    "use the module nn.Conv2d": "conv2d",
    "use the module nn.Linear": "linear",
    "use nn.BatchNorm2d behind a Conv2d": "BatchNorm1d LayerNorm GroupNorm InstanceNorm2d batch_norm layer_norm",
    "call torch.nn.utils.parametrize.remove_parametrizations first": "ParametrizedConv2d ParametrizedLinear",
}
_REMEDIES = {name: text for text, names in _INSTEAD.items() for name in names.split()}


def remedy(kind: str) -> str:
    """What to use instead of a module or function of this name."""
    return _REMEDIES.get(kind, f"build the network from {DATAPATH}")


def _given(node: fx.Node, module: nn.Module | None, *names: str) -> dict[str, Any]:
    """The settings of an operation: the attributes of its module, or the arguments behind the map."""
    if module is not None:
        return {name: getattr(module, name) for name in names}
    return {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}


def _parameters(module: nn.Conv2d | nn.Linear) -> tuple[Tensor, Tensor]:
    weight = module.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().double()


def _pair(value: Any) -> Any:
    return tuple(value) * (2 // len(value)) if isinstance(value, (tuple, list)) else (value, value)


def conv(reader: Reader, node: fx.Node, module: nn.Conv2d) -> Value:
    if module.padding_mode != "zeros":
        reader.refuse(node, f"padding_mode is {module.padding_mode!r}", "use padding_mode='zeros'")
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if module.padding == "same" and any(r % 2 for r in reach):
        reader.refuse(
            node, "padding='same' is lopsided for this filter", "use an odd kernel_size, or padding as a number"
        )
    named = {"valid": [0, 0], "same": [r // 2 for r in reach]}
    padding = named[module.padding] if isinstance(module.padding, str) else module.padding
    reads = (reader.source(node).layer,)
    layer = FloatLayer(reader.name(node), "conv2d", *_parameters(module), reads, groups=module.groups)
    layer.stride, layer.padding, layer.dilation = _pair(module.stride), _pair(padding), _pair(module.dilation)
    return reader.append(layer, node)


def linear(reader: Reader, node: fx.Node, module: nn.Linear) -> Value:
    source = reader.source(node)
    before = node.all_input_nodes[0].meta["tensor_meta"].shape
    if len(before) != 2:
        reader.refuse(
            node, f"it reads a map of {len(before) - 1} dimensions", "flatten the map first, with nn.Flatten()"
        )
    weight, bias = _parameters(module)
    flatten = source.layer < 0 or reader.layers[source.layer].op != "linear"
    return reader.append(
        FloatLayer(reader.name(node), "linear", weight[:, :, None, None], bias, (source.layer,), flatten=flatten), node
    )


def norm(reader: Reader, node: fx.Node, module: nn.BatchNorm2d) -> Value:
    source = reader.source(node)
    last = reader.fusible(node, source)
    if last.op != "conv2d" or last.relu or last.pool > 1 or source.shared:
        reader.refuse(
            node, "it does not follow a Conv2d directly, as its only reader", "put it between the Conv2d and its ReLU"
        )
    if module.running_mean is None or module.running_var is None:
        reader.refuse(node, "it keeps no running statistics", "use track_running_stats=True and train it")
    factor = (module.running_var.double() + module.eps).rsqrt()
    if module.weight is not None:
        factor = factor * module.weight.detach().double()
    last.weight = last.weight * factor[:, None, None, None]
    last.bias = (last.bias - module.running_mean.double()) * factor
    if module.bias is not None:
        last.bias = last.bias + module.bias.detach().double()
    return source


def relu(reader: Reader, node: fx.Node, _module: nn.Module | None) -> Value:
    return _cut(reader, node, None)


def relu6(reader: Reader, node: fx.Node, _module: nn.Module | None) -> Value:
    return _cut(reader, node, 6.0)


def hardtanh(reader: Reader, node: fx.Node, module: nn.Hardtanh | None) -> Value:
    given = {"min_val": -1.0, "max_val": 1.0, **_given(node, module, "min_val", "max_val")}
    return _between(reader, node, given["min_val"], given["max_val"])


def clamp(reader: Reader, node: fx.Node, _module: None) -> Value:
    given = _given(node, None, "min", "max")
    return _between(reader, node, given.get("min"), given.get("max"))


def _between(reader: Reader, node: fx.Node, low: Any, high: Any) -> Value:
    numbers = low == 0 and (high is None or (isinstance(high, (int, float)) and high > 0))
    if not numbers:
        reader.refuse(node, f"it cuts off at {low} and {high}", "use ReLU, or ReLU6: from 0 to a number above")
    return _cut(reader, node, None if high is None else float(high))


def _cut(reader: Reader, node: fx.Node, ceiling: float | None) -> Value:
    """A ReLU, which may cut off at a ceiling too."""
    source = reader.source(node)
    last = reader.fusible(node, source)
    ceiling = min((c for c in (last.ceiling, ceiling) if c is not None), default=None)
    if source.shared and (last.relu, last.ceiling) != (True, ceiling):
        reader.refuse(
            node, f"others read the map of layer {last.name!r} without it", "let all of them read what it gives"
        )
    last.relu, last.ceiling = True, ceiling
    return source


def max_pool(reader: Reader, node: fx.Node, module: nn.MaxPool2d | None) -> Value:
    given = _given(node, module, "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    if given.get("ceil_mode") or given.get("return_indices") or _pair(given.get("dilation", 1)) != (1, 1):
        reader.refuse(
            node, "its window is dilated, in ceil_mode or returns indices", "use MaxPool2d without these, and padding"
        )
    return _pool(reader, node, "max_pool2d", given)


def avg_pool(reader: Reader, node: fx.Node, module: nn.AvgPool2d | None) -> Value:
    given = _given(
        node, module, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    )
    padded = any(_pair(given.get("padding", 0)))
    if (padded and not given.get("count_include_pad", True)) or given.get("ceil_mode") or given.get("divisor_override"):
        reader.refuse(
            node, "it divides by another number than its window, or is in ceil_mode",
            "use AvgPool2d without ceil_mode and divisor_override, and with count_include_pad=True",
        )  # fmt: skip
    return _pool(reader, node, "avg_pool2d", given)


def adaptive_avg_pool(reader: Reader, node: fx.Node, _module: nn.AdaptiveAvgPool2d | None) -> Value:
    (_, iy, ix), (_, _, oy, ox) = reader.source(node).shape, node.meta["tensor_meta"].shape
    if iy % oy or ix % ox:
        reader.refuse(
            node, f"a map of {iy}x{ix} has no {oy}x{ox} windows of one size", "use an output size that divides the map"
        )
    return _pool(reader, node, "avg_pool2d", {"kernel_size": (iy // oy, ix // ox)})


def mean(reader: Reader, node: fx.Node, _module: None) -> Value:
    source, given = reader.source(node), _given(node, None, "dim", "keepdim", "dtype")
    dims = given.get("dim")
    whole = isinstance(dims, (tuple, list)) and sorted(d % 4 for d in dims) == [2, 3] and not source.flat
    if not whole or given.get("dtype") is not None:
        reader.refuse(node, f"it averages over dimensions {dims}", "average over the rows and columns: x.mean((2, 3))")
    value = _pool(reader, node, "avg_pool2d", {"kernel_size": source.shape[1:]})
    return value if given.get("keepdim") else Value(value.layer, value.shape, True, value.shared)


def _pool(reader: Reader, node: fx.Node, op: str, given: dict[str, Any]) -> Value:
    """A pooling: none, the one fused into the convolution before it, or a layer of its own."""
    source, window = reader.source(node), _pair(given["kernel_size"])
    stride, padding = _pair(given.get("stride") or window), _pair(given.get("padding", 0))
    if window == stride == (1, 1):
        return source
    last = reader.layers[source.layer] if source.layer >= 0 else None
    square = window == stride == (window[0],) * 2 and padding == (0, 0)
    if op == "max_pool2d" and square and not source.shared and last and last.op == "conv2d" and last.pool == 1:
        last.pool = window[0]
        return Value(source.layer, (source.shape[0], *node.meta["tensor_meta"].shape[2:]))
    layer = FloatLayer.plain(reader.name(node), op, source.shape[0], (source.layer,), window)
    layer.stride, layer.padding = stride, padding
    return reader.append(layer, node)


def add(reader: Reader, node: fx.Node, _module: None) -> Value:
    named = {"input": None, "other": None, **dict(zip(("input", "other"), node.args, strict=False)), **node.kwargs}
    if named.pop("alpha", 1) != 1 or len(named) != 2:
        reader.refuse(node, "it adds a multiple", "put the factor into the weights of the layer before it")
    a, b = (reader.value(node, given) for given in named.values())
    if a.layer == b.layer:
        reader.refuse(node, "it adds a map to itself", "put the factor 2 into the weights of the layer before it")
    one, other = (given.meta["tensor_meta"].shape for given in named.values())  # type: ignore[union-attr]
    if a.shape != b.shape or one != other:
        reader.refuse(
            node,
            f"its maps (C, H, W) are {a.shape} and {b.shape}",
            "give both branches equal channels, rows and columns",
        )
    layer = FloatLayer.plain(reader.name(node), "add", a.shape[0], (a.layer, b.layer), (1, 1))
    value = reader.append(layer, node)
    return Value(value.layer, a.shape, a.flat)


def flatten(reader: Reader, node: fx.Node, _module: nn.Module | None) -> Value:
    source = reader.source(node)
    before, after = (n.meta["tensor_meta"].shape for n in (node.all_input_nodes[0], node))
    if after == before:
        return source
    if tuple(after) != (before[0], math.prod(before[1:])):
        reader.refuse(
            node, f"it turns {tuple(before[1:])} into {tuple(after[1:])} for a batch of {before[0]}",
            "keep the batch dimension and flatten all others: x.flatten(1)",
        )  # fmt: skip
    return Value(source.layer, source.shape, True, source.shared)


def drop(reader: Reader, node: fx.Node, _module: nn.Module | None) -> Value:
    """Nothing happens at inference."""
    return reader.source(node)


def dropout(reader: Reader, node: fx.Node, _module: nn.Module | None) -> Value:
    if _given(node, None, "p", "training").get("training", True) is not False:
        reader.refuse(node, "it drops values in evaluation mode too", "use nn.Dropout, or training=self.training")
    return reader.source(node)


#: The modules, functions and methods that have a counterpart.
HANDLERS: dict[Any, Handler] = {
    nn.Conv2d: conv, nn.Linear: linear, nn.BatchNorm2d: norm, nn.ReLU: relu, nn.ReLU6: relu6, nn.Hardtanh: hardtanh,
    nn.MaxPool2d: max_pool, nn.AvgPool2d: avg_pool, nn.AdaptiveAvgPool2d: adaptive_avg_pool, nn.Flatten: flatten,
    nn.Identity: drop, nn.Dropout: drop, nn.Dropout2d: drop,
    torch.relu: relu, torch.relu_: relu, F.relu: relu, "relu": relu, "relu_": relu, F.relu6: relu6,
    F.hardtanh: hardtanh, torch.clamp: clamp, "clamp": clamp, "clamp_": clamp,
    F.max_pool2d: max_pool, torch.max_pool2d: max_pool, F.avg_pool2d: avg_pool,
    F.adaptive_avg_pool2d: adaptive_avg_pool, torch.mean: mean, "mean": mean,
    operator.add: add, operator.iadd: add, torch.add: add, "add": add, "add_": add,
    torch.flatten: flatten, torch.reshape: flatten, "flatten": flatten, "view": flatten, "reshape": flatten,
    "contiguous": drop, F.dropout: dropout, F.dropout2d: dropout,
}  # fmt: skip
