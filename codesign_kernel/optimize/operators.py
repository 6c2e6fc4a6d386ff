"""The operators of ATen that the datapath has a counterpart of, and what to use instead of others."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from torch import Tensor, fx

from codesign_kernel.optimize.float_layer import FloatLayer
from codesign_kernel.optimize.program import arguments, dims, tensor_of
from codesign_kernel.optimize.reader import Handler, Reader, Value

DATAPATH = (
    "Conv2d, BatchNorm2d after a Conv2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, sums of two maps, "
    "Flatten, Linear, BatchNorm1d after a Linear, Dropout and Identity"
)
#: What to use instead: remedy -> modules and operators.
_INSTEAD = {
    "use MaxPool2d with the window as a number": "adaptive_max_pool2d amax max",
    "add the branches, as a residual network does": "cat stack mul",
    "add the negative: the sign belongs into the weights of the layer before it": "sub rsub",
    "leave it out: the largest logit is the largest probability": "softmax log_softmax",
    "use ReLU, or leave it to the caller if it is the last layer": (
        "gelu silu sigmoid tanh leaky_relu prelu elu hardswish hardsigmoid mish"
    ),
    "use nn.Conv2d with a filter of height 1": "conv1d",
    "use nn.BatchNorm2d behind a Conv2d": "layer_norm group_norm instance_norm native_layer_norm native_group_norm",
    "export it inside `with torch.no_grad():`": "wrap_with_set_grad_enabled",
}
_REMEDIES = {name: text for text, names in _INSTEAD.items() for name in names.split()}


def remedy(operator: str) -> str:
    """What to use instead of an operator."""
    return _REMEDIES.get(operator.strip("_"), f"build the network from {DATAPATH}")


def _pair(value: Any) -> Any:
    return tuple(value) * (2 // len(value)) if isinstance(value, (tuple, list)) else (value, value)


def conv(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    weight, bias = reader.constant(node, given["weight"]), reader.constant(node, given["bias"])
    if weight is None or weight.ndim != 4 or given.get("transposed"):
        reader.refuse(node, "its filter does not slide over rows and columns", "use nn.Conv2d")
    dilation, padding = _pair(given["dilation"]), given["padding"]
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            reader.refuse(
                node, "padding='same' is lopsided for this filter", "use an odd kernel_size, or padding as a number"
            )
        padding = [r // 2 for r in reach] if padding == "same" else [0, 0]
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    reads = (reader.source(node).layer,)
    layer = FloatLayer(reader.name(node), "conv2d", weight, bias, reads, groups=given["groups"])
    layer.stride, layer.padding, layer.dilation = _pair(given["stride"]), _pair(padding), dilation
    return reader.append(layer, node)


def pad(reader: Reader, node: fx.Node) -> NoReturn:
    """A Conv2d pads with zeros by itself: this is another padding, or another operation's."""
    if reader.program.kind(node) == "Conv2d":
        mode = arguments(node).get("mode")
        reader.refuse(node, f"padding_mode is {mode!r}", "use padding_mode='zeros'")
    reader.refuse(node, "the datapath has no such operation", "use the padding of the Conv2d behind it")


def linear(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    return _dense(reader, node, given["input"], reader.constant(node, given["weight"]), given["bias"])


def addmm(reader: Reader, node: fx.Node) -> Value:
    """What a Linear is made of once the program is taken apart."""
    given = arguments(node)
    if (given["beta"], given["alpha"]) != (1, 1):
        reader.refuse(node, "it adds a multiple", "put the factor into its weights")
    return _dense(reader, node, given["mat1"], _turned(reader, node, given["mat2"]), given["self"])


def matmul(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    return _dense(reader, node, given["self"], _turned(reader, node, given.get("other", given.get("mat2"))), None)


def _turned(reader: Reader, node: fx.Node, given: object) -> Tensor | None:
    matrix = reader.constant(node, given)
    return None if matrix is None else matrix.T if matrix.ndim == 2 else matrix


def _dense(reader: Reader, node: fx.Node, given: Any, weight: Tensor | None, own: object) -> Value:
    """A fully connected layer with weights [K, C]."""
    source, bias = reader.value(node, given), reader.constant(node, own)
    if len(dims(given)) != 2:
        reader.refuse(
            node, f"it reads a map of {len(dims(given)) - 1} dimensions", "flatten the map first, with nn.Flatten()"
        )
    if weight is None or weight.ndim != 2 or (bias is not None and bias.numel() not in (1, len(weight))):
        reader.refuse(node, "its weights are no matrix with a bias for each row", "use nn.Linear")
    bias = weight.new_zeros(len(weight)) if bias is None else bias.flatten().expand(len(weight))
    flatten = source.layer < 0 or reader.layers[source.layer].op != "linear"
    return reader.append(
        FloatLayer(reader.name(node), "linear", weight[:, :, None, None], bias, (source.layer,), flatten=flatten), node
    )


def norm(reader: Reader, node: fx.Node) -> Value:
    source, given = reader.source(node), arguments(node)
    last = reader.fusible(node, source)
    direct = last.op == "linear" or (last.op == "conv2d" and not source.flat)
    if not direct or last.relu or last.pool > 1 or source.shared:
        reader.refuse(
            node, "it does not follow a Conv2d or Linear directly, as its only reader",
            "put it between that layer and its ReLU",
        )  # fmt: skip
    mean, variance = (reader.constant(node, given.get(name)) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        reader.refuse(node, "it keeps no running statistics", "use track_running_stats=True and train it")
    if given.get("training"):
        reader.refuse(node, "it takes its statistics from the batch", "call model.eval() before torch.export")
    weight, bias = reader.constant(node, given["weight"]), reader.constant(node, given["bias"])
    factor = (variance + given["eps"]).rsqrt()
    factor = factor if weight is None else factor * weight
    last.weight = last.weight * factor[:, None, None, None]
    last.bias = (last.bias - mean) * factor
    last.bias = last.bias if bias is None else last.bias + bias
    return source


def relu(reader: Reader, node: fx.Node) -> Value:
    return _cut(reader, node, None)


def relu6(reader: Reader, node: fx.Node) -> Value:
    return _cut(reader, node, 6.0)


def hardtanh(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    return _between(reader, node, given["min_val"], given["max_val"])


def clamp(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    return _between(reader, node, given.get("min"), given.get("max"))


def _between(reader: Reader, node: fx.Node, low: Any, high: Any) -> Value:
    source = reader.source(node)
    if source.layer >= 0 and reader.layers[source.layer].relu and low is None:
        low = 0  # nothing is below it
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


def max_pool(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    if given["ceil_mode"] or _pair(given["dilation"]) != (1, 1):
        reader.refuse(node, "its window is dilated, or in ceil_mode", "use MaxPool2d without these, and padding")
    return _pool(reader, node, "max_pool2d", given)


def part(reader: Reader, node: fx.Node) -> Value:
    """The first result of an operator that gives several."""
    whole = node.all_input_nodes[0]
    if node.args[1] != 0:
        reader.refuse(whole, "its indices or statistics are read too", "use it without these: return_indices=False")
    return reader.source(node)


def avg_pool(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    padded = any(_pair(given["padding"]))
    if (padded and not given["count_include_pad"]) or given["ceil_mode"] or given["divisor_override"]:
        reader.refuse(
            node, "it divides by another number than its window, or is in ceil_mode",
            "use AvgPool2d without ceil_mode and divisor_override, and with count_include_pad=True",
        )  # fmt: skip
    return _pool(reader, node, "avg_pool2d", given)


def adaptive_avg_pool(reader: Reader, node: fx.Node) -> Value:
    (_, iy, ix), (_, oy, ox) = reader.source(node).shape, reader.shape_of(node)
    if iy % oy or ix % ox:
        reader.refuse(
            node, f"a map of {iy}x{ix} has no {oy}x{ox} windows of one size", "use an output size that divides the map"
        )
    return _pool(reader, node, "avg_pool2d", {"kernel_size": (iy // oy, ix // ox)})


def mean(reader: Reader, node: fx.Node) -> Value:
    source, given = reader.source(node), arguments(node)
    axes = given.get("dim")
    whole = axes is not None and sorted(d % 4 for d in axes) == [2, 3] and not source.flat
    if not whole or given.get("dtype") is not None:
        over = axes if axes is None else tuple(axes)
        reader.refuse(node, f"it averages over dimensions {over}", "average over the rows and columns: x.mean((2, 3))")
    value = _pool(reader, node, "avg_pool2d", {"kernel_size": source.shape[1:]})
    return value if given.get("keepdim") else Value(value.layer, value.shape, True, value.shared)


def _pool(reader: Reader, node: fx.Node, op: str, given: dict[str, Any]) -> Value:
    """A pooling: none, the one fused into the convolution before it, or a layer of its own."""
    source, window = reader.source(node), _pair(given["kernel_size"])
    stride, padding = _pair(given.get("stride") or window), _pair(given.get("padding", 0))
    if window == stride == (1, 1) and padding == (0, 0):
        return source
    last = reader.layers[source.layer] if source.layer >= 0 else None
    square = window == stride == (window[0],) * 2 and padding == (0, 0)
    if op == "max_pool2d" and square and not source.shared and last and last.op == "conv2d" and last.pool == 1:
        last.pool = window[0]
        return Value(source.layer, reader.shape_of(node))
    layer = FloatLayer.plain(reader.name(node), op, source.shape[0], (source.layer,), window)
    layer.stride, layer.padding = stride, padding
    return reader.append(layer, node)


def add(reader: Reader, node: fx.Node) -> Value:
    given = arguments(node)
    if given["alpha"] != 1:
        reader.refuse(node, "it adds a multiple", "put the factor into the weights of the layer before it")
    one, other = given["self"], given["other"]
    a, b = reader.value(node, one), reader.value(node, other)
    if a.layer == b.layer:
        reader.refuse(node, "it adds a map to itself", "put the factor 2 into the weights of the layer before it")
    if a.shape != b.shape or dims(one) != dims(other):
        reader.refuse(
            node,
            f"its maps (C, H, W) are {a.shape} and {b.shape}",
            "give both branches equal channels, rows and columns",
        )
    layer = FloatLayer.plain(reader.name(node), "add", a.shape[0], (a.layer, b.layer), (1, 1))
    value = reader.append(layer, node)
    return Value(value.layer, a.shape, a.flat)


def flatten(reader: Reader, node: fx.Node) -> Value:
    source = reader.source(node)
    before, after = dims(node.all_input_nodes[0]), dims(node)
    one = source.shape[1:] == (1, 1) and after[:2] == before[:2]  # a number a channel, in however many dimensions
    if after == before or one:
        return Value(source.layer, source.shape, len(after) == 2, source.shared)
    if after != (before[0], math.prod(before[1:])):
        reader.refuse(
            node, f"it turns {before[1:]} into {after[1:]} for a batch of {before[0]}",
            "keep the batch dimension and flatten all others: x.flatten(1)",
        )  # fmt: skip
    return Value(source.layer, source.shape, True, source.shared)


def same(reader: Reader, node: fx.Node) -> Value:
    """Nothing happens at inference."""
    return reader.source(node)


def cast(reader: Reader, node: fx.Node) -> Value:
    before, after = tensor_of(node.all_input_nodes[0]), tensor_of(node)
    if before is None or after is None or before.dtype != after.dtype:
        reader.refuse(node, "it changes the type of its map", "compute in torch.float32 throughout")
    return reader.source(node)


def dropout(reader: Reader, node: fx.Node) -> Value:
    if arguments(node)["train"]:
        reader.refuse(
            node, "it drops values in evaluation mode too",
            "use nn.Dropout, or training=self.training, and call model.eval() before torch.export",
        )  # fmt: skip
    return reader.source(node)


#: Operators that give what they are given, in another shape at most: nothing is computed, and nothing moves.
_PASSING: dict[str, Handler] = {
    **dict.fromkeys(("flatten", "view", "reshape", "_unsafe_view", "squeeze"), flatten),
    **dict.fromkeys(("contiguous", "clone", "detach", "alias", "lift_fresh_copy"), same),
    **dict.fromkeys(("to", "_to_copy"), cast),
    **dict.fromkeys(("dropout", "feature_dropout"), dropout),
    "getitem": part,
}
#: ATen's operators that have a counterpart, by name; those with an underscore in front are what others are made of.
HANDLERS: dict[str, Handler] = {
    "conv2d": conv, "convolution": conv, "linear": linear, "addmm": addmm, "mm": matmul, "matmul": matmul,
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"), norm),
    "relu": relu, "relu6": relu6, "hardtanh": hardtanh,
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "clip"), clamp),
    "max_pool2d": max_pool, "max_pool2d_with_indices": max_pool, "avg_pool2d": avg_pool, "mean": mean,
    "adaptive_avg_pool2d": adaptive_avg_pool, "_adaptive_avg_pool2d": adaptive_avg_pool, "add": add,
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), pad),
    **_PASSING,
}  # fmt: skip
VIEWS = frozenset(_PASSING)
