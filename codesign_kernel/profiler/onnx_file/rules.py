"""The rules of ONNX operators: each runs the torch operator of the same meaning on the meta device.

What torch then does (decompositions, views, names) is what it does for a module, so that both routes agree.
To add an operator, write a function ``Call -> Tensor | list[Tensor]`` and name it in ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from codesign_kernel.profiler.onnx_file.call import LARGEST, Call
from codesign_kernel.profiler.onnx_file.shaping import SHAPING, channels_last, from_last, to_last
from codesign_kernel.profiler.onnx_file.spatial import Rule, convolution, pad, pool, recurrent, resize, transposed


def pointwise(function: Callable[..., Tensor]) -> Rule:
    """An element-wise operator. On ``[N, H, W, C]`` that is a view of ``[N, C, H, W]`` (as TensorFlow's exporters leave
    between two transposes) it runs on the latter, whose loops are the usual ones."""

    def rule(call: Call) -> Tensor:
        tensors = call.all()
        if not tensors:
            raise call.wrong("an operator has an operand")
        if any(channels_last(x) for x in tensors):
            return to_last(function(*(from_last(x) for x in tensors)))
        return function(*tensors)

    return rule


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="trunc" if not a.is_floating_point() else None)


def _clip(call: Call) -> Tensor:
    given = [call.has(i) or name in call.node.attributes for i, name in ((1, "min"), (2, "max"))]
    low = call.number(1, "min", 0.0) if given[0] else None
    high = call.number(2, "max", 0.0) if given[1] else None
    if (low, high) == (0.0, 6.0):
        return pointwise(F.relu6)(Call(call.node, call.values[:1], call.recorder, call.opset, call.folding))
    return torch.clamp(call.x(), low, high) if any(given) else call.x()


def _gemm(call: Call) -> Tensor:
    a, b = call.x(), call.x(1)
    if a.dim() != 2 or b.dim() != 2:
        raise call.wrong("Gemm multiplies two matrices")
    a = a.mT if call.attribute("transA", 0) else a
    b = b if call.attribute("transB", 0) else b.mT
    return F.linear(a, b, _row(call.x(2), b.shape[0]) if call.has(2) else None)


def _row(bias: Tensor, size: int) -> Tensor | None:
    return bias.reshape(-1) if bias.numel() == size else None


def _fused_linear(call: Call) -> Tensor:
    weight = call.x(1)
    return F.linear(call.x(), weight.mT, call.x(2)) if weight.dim() == 2 else torch.matmul(call.x(), weight) + call.x(2)


def _attention(call: Call) -> Tensor:
    mask = call.x(3) if call.has(3) else None
    return F.scaled_dot_product_attention(call.x(), call.x(1).transpose(-1, -2), call.x(2), mask)


def _stated_attention(call: Call) -> Tensor:
    """ONNX's own Attention (opset 23), without a cache."""
    query, key, value = call.x(), call.x(1), call.x(2)
    if call.has(4) or len(call.node.outputs) > 1:
        raise call.wrong("Attention with a cache inside the operator has no rule here")
    folded = query.dim() == 3
    if folded:
        heads = [call.attribute("q_num_heads", 0), *[call.attribute("kv_num_heads", 0)] * 2]
        if min(heads) < 1:
            raise call.wrong("Attention on three dimensions says how many heads it has")
        query, key, value = (
            x.unflatten(-1, (n, x.shape[-1] // n)).transpose(1, 2)
            for x, n in zip((query, key, value), heads, strict=True)
        )
    y = F.scaled_dot_product_attention(
        query, key, value, call.x(3) if call.has(3) else None, enable_gqa=query.shape[1] != key.shape[1]
    )
    return y.transpose(1, 2).flatten(2) if folded else y


def _batch_norm(call: Call) -> Tensor:
    return F.batch_norm(call.x(), call.x(3), call.x(4), call.x(1), call.x(2))


def _layer_norm(call: Call) -> Tensor:
    x = call.x()
    axis = call.axis(call.attribute("axis", -1), x.dim())
    return F.layer_norm(x, x.shape[axis:], call.x(1), call.x(2) if call.has(2) else None)


def _rms_norm(call: Call) -> Tensor:
    x = call.x()
    return F.rms_norm(x, x.shape[call.axis(call.attribute("axis", -1), x.dim()) :], call.x(1))


def _group_norm(call: Call) -> Tensor:
    groups = call.attribute("num_groups", 1)
    if groups < 1 or call.x().shape[1] % groups:
        raise call.wrong("groups divide the channels")
    return F.group_norm(call.x(), groups)


def _softmax(function: Callable[..., Tensor]) -> Rule:
    def rule(call: Call) -> Tensor:
        return function(call.x(), call.axis(call.attribute("axis", -1 if call.opset >= 13 else 1), call.x().dim()))

    return rule


def _reduce(function: Callable[..., Tensor]) -> Rule:
    """Over the axes given (attribute, or input 1), over all where none is; over rows and columns of an image with the
    dimensions kept, a mean is the global average pooling that exporters write in this way."""

    def rule(call: Call) -> Tensor:
        x = call.x()
        axes = sorted({call.axis(a, x.dim()) for a in call.ints(1, "axes")})
        if not axes:
            if call.attribute("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.dim()))
        keep = bool(call.attribute("keepdims", 1))
        turned = channels_last(x)
        if turned:
            x, axes = from_last(x), [(0, 2, 3, 1)[axis] for axis in axes]
        if keep and axes == [2, 3] and x.dim() == 4 and function is torch.mean:
            y = F.adaptive_avg_pool2d(x, 1)
        else:
            y = function(x, axes, keepdim=keep)
        return to_last(y) if turned and keep else y

    return rule


def _norm(order: int) -> Callable[..., Tensor]:
    return lambda x, axes, keepdim: torch.linalg.vector_norm(x, order, axes, keepdim)


def _arg(function: Callable[..., Tensor]) -> Rule:
    return lambda call: function(
        call.x(), call.axis(call.attribute("axis", 0), call.x().dim()), bool(call.attribute("keepdims", 1))
    )


def _global_pool(kind: str) -> Rule:
    def rule(call: Call) -> Tensor:
        x = call.x()
        if x.dim() in (3, 4):
            return getattr(F, f"adaptive_{kind}_pool{x.dim() - 2}d")(x, 1)
        return (torch.mean if kind == "avg" else torch.amax)(x, list(range(2, x.dim())), keepdim=True)

    return rule


def _matmul(first: int, second: int) -> Rule:
    def rule(call: Call) -> Tensor:
        a, b = call.x(first), call.x(second)
        shape = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if a.dim() > 1 and b.dim() > 1 and shape.numel() * a.shape[-2] * b.shape[-1] > LARGEST:
            raise call.wrong("a result larger than any memory")
        return torch.matmul(a, b)

    return rule


def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.attribute("equation", ""), *call.all())


def _cum_sum(call: Call) -> Tensor:
    return torch.cumsum(call.x(), call.axis(call.ints(1)[0], call.x().dim()))


def _trilu(call: Call) -> Tensor:
    diagonal = call.ints(1)[0] if call.has(1) else 0
    return (torch.triu if call.attribute("upper", 1) else torch.tril)(call.x(), diagonal)


def _quantize(call: Call) -> Tensor:
    """No formula: counted, with the shape and the type that it makes."""
    like = call.x(2) if call.has(2) else torch.empty(0, dtype=torch.uint8, device="meta")
    return _counted(call, like if call.node.op == "QuantizeLinear" else call.x(1))


def _counted(call: Call, like: Tensor) -> Tensor:
    result = call.empty(tuple(call.x().shape), like)
    call.recorder.record(f"onnx::{call.node.op}", {"x": call.x()}, result)
    return result


def _dropout(call: Call) -> list[Tensor]:
    return [call.x(), torch.empty_like(call.x(), dtype=torch.bool)][: len(call.node.outputs)]


def _gelu(call: Call) -> Tensor:
    return F.gelu(call.x(), approximate="tanh" if call.attribute("approximate", "none") == "tanh" else "none")


_POINTWISE: dict[str, Callable[..., Any]] = {
    "Relu": F.relu, "Silu": F.silu, "Swish": F.silu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Elu": F.elu,
    "HardSwish": F.hardswish, "HardSigmoid": F.hardsigmoid, "Mish": F.mish, "Softplus": F.softplus, "Celu": F.celu,
    "Softsign": F.softsign, "LeakyRelu": F.leaky_relu, "Selu": F.selu, "PRelu": lambda x, w: F.prelu(x, w.reshape(-1)),
    "ThresholdedRelu": lambda x: F.threshold(x, 1.0, 0.0), "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul,
    "Div": _divide, "Pow": torch.pow, "Mod": torch.remainder, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log,
    "Erf": torch.erf, "Sin": torch.sin, "Cos": torch.cos, "Atan": torch.atan, "Sinh": torch.sinh, "Cosh": torch.cosh,
    "Neg": torch.neg, "Abs": torch.abs, "Reciprocal": torch.reciprocal, "Round": torch.round, "Floor": torch.floor,
    "Ceil": torch.ceil, "Sign": torch.sign, "Where": lambda c, a, b: torch.where(c.bool(), a, b),
    "Equal": torch.eq, "Less": torch.lt, "LessOrEqual": torch.le, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Not": torch.logical_not, "And": torch.logical_and, "Or": torch.logical_or, "IsNaN": torch.isnan,
    "Max": lambda *xs: reduce(torch.maximum, xs), "Min": lambda *xs: reduce(torch.minimum, xs),
    "Sum": lambda *xs: reduce(torch.add, xs), "Mean": lambda *xs: reduce(torch.add, xs) / len(xs),
}  # fmt: skip

RULES: dict[str, Callable[[Call], Any]] = {
    **{op: pointwise(function) for op, function in _POINTWISE.items()},
    **SHAPING,
    "Conv": convolution(),
    "ConvInteger": convolution(offset=9),
    "QLinearConv": convolution(0, 3, 8),
    "ConvTranspose": transposed,
    "Gemm": _gemm,
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "QLinearMatMul": _matmul(0, 3),
    "Linear": _fused_linear,
    "Attention:": _attention,
    "Attention": _stated_attention,
    "Einsum": _einsum,
    "LSTM": recurrent("lstm", 4),
    "GRU": recurrent("gru", 3),
    "RNN": recurrent("rnn_tanh", 1),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "LastNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "RmsNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": lambda call: F.instance_norm(call.x()),
    "MaxPool": pool("max_pool"),
    "AveragePool": pool("avg_pool"),
    "GlobalAveragePool": _global_pool("avg"),
    "GlobalMaxPool": _global_pool("max"),
    "Resize": resize,
    "Upsample": resize,
    "Pad": pad,
    "Clip": _clip,
    "Gelu": _gelu,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Dropout": _dropout,
    "CumSum": _cum_sum,
    "Trilu": _trilu,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
    "LRN": lambda call: _counted(call, call.x()),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "ReduceL2": _reduce(_norm(2)),
    "ReduceL1": _reduce(_norm(1)),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
}
