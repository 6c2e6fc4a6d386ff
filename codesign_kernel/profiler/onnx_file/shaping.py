"""Rules of ONNX operators that move, select or make values without computing: mostly views, as in torch."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from codesign_kernel.profiler.onnx_file.call import LARGEST, Call, Value
from codesign_kernel.profiler.onnx_file.structure import KEPT_ELEMENTS, Initializer, _dtype


def channels_last(x: Tensor) -> bool:
    """Whether ``x`` is ``[N, H, W, C]`` in the memory of ``[N, C, H, W]``."""
    return x.dim() == 4 and not x.is_contiguous() and x.permute(0, 3, 1, 2).is_contiguous()


def from_last(x: Tensor) -> Tensor:
    """``[N, H, W, C]`` (or what broadcasts with it) as ``[N, C, H, W]``."""
    return x.reshape((1,) * (4 - x.dim()) + tuple(x.shape)).permute(0, 3, 1, 2)


def to_last(x: Tensor) -> Tensor:
    """``[N, C, H, W]`` as ``[N, H, W, C]``."""
    return x.permute(0, 2, 3, 1)


def _shape(call: Call) -> Value:
    extents = list(call.x().shape)
    extents = extents[slice(call.attribute("start", 0), call.node.attributes.get("end"))]
    data = torch.tensor(extents, dtype=torch.int64)
    return Value(torch.empty_like(data, device="meta"), data)


def _size(call: Call) -> Value:
    data = torch.tensor(call.x().numel())
    return Value(torch.empty_like(data, device="meta"), data)


def stored(initializer: Initializer) -> Value:
    """A tensor of the file."""
    if prod(initializer.shape) > LARGEST:
        raise OverflowError(f"{initializer.name[:60]!r} of shape {initializer.shape[:8]} is larger than any memory")
    return Value(torch.empty(initializer.shape, dtype=initializer.dtype, device="meta"), initializer.values)


def _constant(call: Call) -> Value:
    tensor = call.tensor("value")
    if tensor is not None:
        return stored(tensor)
    for name, dtype in (("value_int", torch.int64), ("value_ints", torch.int64), ("value_float", torch.float32),
                        ("value_floats", torch.float32)):  # fmt: skip
        if name in call.node.attributes:
            data = torch.tensor(call.node.attributes[name], dtype=dtype)
            return Value(torch.empty_like(data, device="meta"), data if data.numel() <= KEPT_ELEMENTS else None)
    raise call.wrong("a constant is a tensor or numbers")


def _filled(call: Call) -> Tensor:
    tensor = call.tensor("value")
    dtype = tensor.dtype if tensor else torch.float32
    fill = tensor.values.reshape(-1)[0].item() if tensor and tensor.values is not None and tensor.values.numel() else 0
    shape = _sizes(call, call.ints(0))
    return torch.full(shape, fill, dtype=dtype, device="cpu" if call.folding else "meta")


def _sizes(call: Call, shape: list[int]) -> list[int]:
    if any(extent < 0 for extent in shape) or prod(shape) > LARGEST:
        raise call.wrong(f"a shape has extents >= 0 and fits into memory, but {shape[:8]} does not")
    return shape


def _range(call: Call) -> Tensor:
    start, end, step = (call.known(i).reshape(-1)[0].item() for i in range(3))
    if step == 0 or abs((end - start) / step) > LARGEST:
        raise call.wrong("a range has a step and an end")
    return torch.arange(start, end, step, dtype=call.x().dtype, device="cpu" if call.folding else "meta")


def _reshape(call: Call) -> Tensor:
    x, shape = call.x(), call.ints(1, "shape")
    if not call.attribute("allowzero", 0):
        if any(n == 0 and i >= x.dim() for i, n in enumerate(shape)):
            raise call.wrong("a 0 in a shape takes the extent of the input")
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


def _flatten(call: Call) -> Tensor:
    x = call.x()
    axis = call.attribute("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    if not 0 <= axis <= x.dim():
        raise call.wrong(f"axis {axis} is within the dimensions of the input")
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def _squeeze(call: Call) -> Tensor:
    x = call.x()
    axes = [call.axis(a, x.dim()) for a in call.ints(1, "axes")] or [i for i, n in enumerate(x.shape) if n == 1]
    return x.squeeze(axes) if axes else x


def _unsqueeze(call: Call) -> Tensor:
    x = call.x()
    axes = call.ints(1, "axes")
    for axis in sorted(call.axis(a, x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _transpose(call: Call) -> Tensor:
    x = call.x()
    return x.permute(call.ints(9, "perm", list(range(x.dim()))[::-1]))


def _expand(call: Call) -> Tensor:
    return call.x().broadcast_to(torch.broadcast_shapes(call.x().shape, _sizes(call, call.ints(1))))


def _tile(call: Call) -> Tensor:
    counts = _sizes(call, call.ints(1))
    if prod(counts) * call.x().numel() > LARGEST:
        raise call.wrong("a result larger than any memory")
    return call.x().repeat(counts)


def _concat(call: Call) -> Tensor:
    tensors = call.all()
    axis = call.axis(call.attribute("axis", 0), tensors[0].dim() if tensors else 0)
    if tensors and all(channels_last(x) for x in tensors):
        return to_last(torch.cat([from_last(x) for x in tensors], (0, 2, 3, 1)[axis]))
    return torch.cat(tensors, axis)


def _split(call: Call) -> list[Tensor]:
    x = call.x()
    axis = call.axis(call.attribute("axis", 0), x.dim())
    count = len(call.node.outputs)
    size = -(-x.shape[axis] // count)
    sizes = call.ints(1, "split") or [size] * (count - 1) + [x.shape[axis] - size * (count - 1)]
    if len(sizes) != count:
        raise call.wrong("a split has as many parts as outputs")
    return list(x.split(sizes, axis))


def _slice(call: Call) -> Tensor:
    x = call.x()
    starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise call.wrong("a slice has a start, an end and a step for each axis")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = call.axis(axis, x.dim())
        if step < 0:  # backwards: the same elements turned round
            size = x.shape[axis]
            picked = range(size)[max(start, -size - 1) : max(end, -size - 1) : step] if step else range(0)
            x = x.flip([axis]).narrow(axis, 0, len(picked))
        elif step == 0:
            raise call.wrong("a step is not 0")
        else:
            index = [slice(None)] * x.dim()
            index[axis] = slice(start, end, step)
            x = x[tuple(index)]
    return x


def _gather(call: Call) -> Tensor:
    x, indices = call.x(), call.x(1)
    axis = call.axis(call.attribute("axis", 0), x.dim())
    if indices.dim() == 0 and call.value(1).data is not None:
        return x.select(axis, int(call.known(1)))
    if x.dim() == 2 and axis == 0 and x.is_floating_point():
        return F.embedding(indices, x)
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    flat = indices.reshape(-1)
    if call.folding:
        flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    return torch.index_select(x, axis, flat).reshape(shape)


def _cast(call: Call) -> Tensor:
    dtype = _dtype(call.attribute("to", 1))
    if dtype is None:
        raise call.wrong("a cast is to a type that torch knows")
    return call.x().to(dtype)


def _blocks(call: Call) -> tuple[Tensor, int]:
    x, block = call.x(), call.attribute("blocksize", 1)
    if x.dim() != 4 or not 1 <= block < 1 << 16:
        raise call.wrong("blocks are of a size >= 1, in four dimensions")
    return x, block


def _depth_to_space(call: Call) -> Tensor:
    x, b = _blocks(call)
    n, c, h, w = x.shape
    if call.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


def _space_to_depth(call: Call) -> Tensor:
    x, b = _blocks(call)
    return F.pixel_unshuffle(x, b)


SHAPING: dict[str, Callable[[Call], Any]] = {
    "Shape": _shape, "Size": _size, "Constant": _constant, "ConstantOfShape": _filled, "Range": _range,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Expand": _expand, "Tile": _tile, "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather,
    "Cast": _cast, "CastLike": lambda call: call.x().to(call.x(1).dtype), "Identity": lambda call: call.x(),
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth,
    "GatherElements": lambda call: torch.gather(call.x(), call.attribute("axis", 0), call.x(1)),
}  # fmt: skip
