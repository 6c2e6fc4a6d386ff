"""Rules of ONNX operators whose geometry torch cannot take as it is: other padding on each side, recurrent weights.

They compute the shape themselves and write the event that torch would have written, so that the formulas are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from codesign_kernel.profiler.onnx_file.call import Call

Rule = Callable[[Call], Any]


def _positive(call: Call, name: str, rank: int, default: int = 1) -> list[int]:
    values = call.attribute(name, []) or [default] * rank
    if len(values) != rank or not all(isinstance(v, int) and 1 <= v < 1 << 31 for v in values):
        raise call.wrong(f"{name} holds {rank} integers >= 1, but is {values[:8]}")
    return list(values)


def _pads(call: Call, sizes: list[int], window: list[int], stride: list[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each axis; ``window`` is the extent of the (dilated) filter."""
    rank = len(sizes)
    mode = call.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(sizes, window, stride, strict=True)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        return (small, large) if mode == "SAME_UPPER" else (large, small)
    pads = call.attribute("pads", []) if mode != "VALID" else []
    pads = pads or [0] * (2 * rank)
    if len(pads) != 2 * rank or not all(isinstance(p, int) and 0 <= p < 1 << 31 for p in pads):
        raise call.wrong(f"pads holds {2 * rank} integers >= 0, but is {pads[:8]}")
    return pads[:rank], pads[rank:]


def _slid(call: Call, kernel: list[int], dilation: list[int], ceil: bool = False) -> tuple[list[int], dict[str, list]]:
    """Output extents of a window that slides over input 0, and stride, padding, dilation as torch names them."""
    sizes = list(call.x().shape[2:])
    stride = _positive(call, "strides", len(kernel))
    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    before, after = _pads(call, sizes, window, stride)
    out = []
    for n, w, s, a, b in zip(sizes, window, stride, before, after, strict=True):
        steps = n + a + b - w
        if steps < 0:
            raise call.wrong(f"a window of {w} does not fit into {n} padded by {a} and {b}")
        count = (-(-steps // s) if ceil else steps // s) + 1
        out.append(count - 1 if ceil and (count - 1) * s >= n + a else count)
    return out, {"stride": stride, "padding": before, "dilation": dilation}


def convolution(data: int = 0, filters: int = 1, offset: int = 2) -> Rule:
    """Conv; the quantised kinds have their operands at other places."""

    def rule(call: Call) -> Tensor:
        x, weight = call.x(data), call.x(filters)
        rank = x.dim() - 2
        groups = call.attribute("group", 1)
        if not 1 <= rank <= 3 or weight.dim() != x.dim():
            raise call.wrong("a convolution has one to three spatial dimensions, in input and filter alike")
        if groups < 1 or weight.shape[0] % groups or weight.shape[1] * groups != x.shape[1]:
            raise call.wrong(f"filters of {weight.shape[1]} channels in {groups} groups fit {x.shape[1]} channels")
        out, geometry = _slid(call, list(weight.shape[2:]), _positive(call, "dilations", rank))
        result = call.empty([x.shape[0], weight.shape[0], *out], x)
        bias = call.x(offset) if call.has(offset) else None
        args = {"input": x, "weight": weight, "bias": bias, **geometry, "groups": groups}
        call.recorder.record(f"conv{rank}d", args, result)
        return result

    return rule


def transposed(call: Call) -> Tensor:
    """ConvTranspose: filters ``[C, K/groups, ...]``."""
    x, weight = call.x(), call.x(1)
    rank = x.dim() - 2
    groups = call.attribute("group", 1)
    if not 1 <= rank <= 3 or weight.dim() != x.dim() or groups < 1:
        raise call.wrong("a convolution has one to three spatial dimensions, in input and filter alike")
    if weight.shape[0] != x.shape[1] or weight.shape[0] % groups:
        raise call.wrong(f"filters of {weight.shape[0]} channels in {groups} groups fit {x.shape[1]} channels")
    stride, dilation = _positive(call, "strides", rank), _positive(call, "dilations", rank)
    extra = call.attribute("output_padding", []) or [0] * rank
    window = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    sizes = list(x.shape[2:])
    full = [(n - 1) * s + w + e for n, s, w, e in zip(sizes, stride, window, extra, strict=True)]
    stated = call.attribute("output_shape", [])
    if stated:
        before = [max(f - o, 0) // 2 for f, o in zip(full, stated[-rank:], strict=True)]
        out = list(stated[-rank:])
    elif str(call.attribute("auto_pad", "NOTSET")).startswith("SAME"):
        out = [n * s for n, s in zip(sizes, stride, strict=True)]
        before = [max(f - o, 0) // 2 for f, o in zip(full, out, strict=True)]
    else:
        before, after = _pads(call, sizes, window, stride)
        out = [f - a - b for f, a, b in zip(full, before, after, strict=True)]
    result = call.empty([x.shape[0], weight.shape[1] * groups, *out], x)
    args = {"input": x, "weight": weight, "stride": stride, "padding": before, "dilation": dilation, "groups": groups}
    call.recorder.record(f"conv_transpose{rank}d", args, result)
    return result


def pool(kind: str) -> Rule:
    """MaxPool, AveragePool."""

    def rule(call: Call) -> Tensor | list[Tensor]:
        x = call.x()
        rank = x.dim() - 2
        if rank not in (1, 2, 3):
            raise call.wrong("pooling has one to three spatial dimensions")
        kernel = _positive(call, "kernel_shape", rank)
        dilation = _positive(call, "dilations", rank)
        out, geometry = _slid(call, kernel, dilation, bool(call.attribute("ceil_mode", 0)))
        result = call.empty([*x.shape[:2], *out], x)
        call.recorder.record(f"{kind}{rank}d", {"self": x, "kernel_size": kernel, **geometry}, result)
        return [result, torch.empty_like(result, dtype=torch.int64)][: len(call.node.outputs)]

    return rule


def resize(call: Call) -> Tensor:
    """Resize and Upsample: to given sizes, or by given factors."""
    x = call.x()
    where = 1 if len(call.values) == 2 or "scales" in call.node.attributes else 2
    if call.has(3):
        sizes = call.ints(3)
    else:
        factors = call.attribute("scales", []) or [float(v) for v in call.known(where).reshape(-1).tolist()]
        if len(factors) != x.dim() or not all(0 < f < 1 << 20 for f in factors):
            raise call.wrong("one factor > 0 for each dimension")
        sizes = [int(n * f) for n, f in zip(x.shape, factors, strict=True)]
    axes = call.attribute("axes", [])
    if axes and len(axes) == len(sizes) and call.has(3):
        given = {call.axis(axis, x.dim()): size for axis, size in zip(axes, sizes, strict=True)}
        sizes = [given.get(i, n) for i, n in enumerate(x.shape)]
    if len(sizes) != x.dim():
        raise call.wrong("one size for each dimension")
    result = call.empty(sizes, x)
    kind = {"linear": "bilinear2d", "cubic": "bicubic2d"}.get(call.attribute("mode", "nearest"), "nearest2d")
    call.recorder.record(f"upsample_{kind}", {"self": x}, result)
    return result


def pad(call: Call) -> Tensor:
    """Pad, whatever with."""
    x = call.x()
    pads = call.ints(1, "pads")
    axes = [call.axis(axis, x.dim()) for axis in call.ints(3)] or list(range(x.dim()))
    if len(pads) != 2 * len(axes):
        raise call.wrong("pads holds two integers for each axis")
    if not any(pads):
        return x
    shape = list(x.shape)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        shape[axis] += before + after
    result = call.empty(shape, x)
    call.recorder.record("constant_pad_nd", {"self": x, "pad": pads}, result)
    return result


def recurrent(op: str, gates: int) -> Rule:
    """LSTM, GRU, RNN: the weights of both directions lie in one tensor each, the two biases behind one another."""

    def rule(call: Call) -> list[Tensor]:
        x, w, r = call.x(), call.x(1), call.x(2)
        if (x.dim(), w.dim(), r.dim()) != (3, 3, 3):
            raise call.wrong("input, weights and recurrent weights have three dimensions")
        directions, hidden = w.shape[0], r.shape[2]
        batch_first = call.attribute("layout", 0) == 1
        expected = (gates * hidden, x.shape[2])
        if directions not in (1, 2) or tuple(w.shape[1:]) != expected or tuple(r.shape[1:]) != (expected[0], hidden):
            raise call.wrong(f"weights are [1 or 2, {gates} x hidden, inputs] and [1 or 2, {gates} x hidden, hidden]")
        weights: list[Tensor] = []
        for d in range(directions):
            weights += [w[d], r[d]]
            if call.has(3):
                weights += list(call.x(3)[d].chunk(2))
        n, t = (x.shape[0], x.shape[1]) if batch_first else (x.shape[1], x.shape[0])
        full = [n, t, directions, hidden] if batch_first else [t, directions, n, hidden]
        last = [n, directions, hidden] if batch_first else [directions, n, hidden]
        results = [call.empty(full, x), call.empty(last, x), call.empty(last, x)]
        args = {"input": x, "params": weights, "has_biases": call.has(3), "num_layers": 1}
        call.recorder.record(
            op,
            {**args, "bidirectional": directions == 2, "batch_first": batch_first},
            *results[: 3 if gates == 4 else 2],
        )
        return results[: len(call.node.outputs)]

    return rule
