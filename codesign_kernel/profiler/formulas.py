"""Formulas of convolutions, GEMMs and attention: shapes in, loop nests out; no torch.

Loop conventions, here and in ``vector`` and ``recurrent``:

====================  =================================================================================================
operand               loops
====================  =================================================================================================
``[N, C, H, W]``      B=N, K=C, OY=H, OX=W
``[N, T, D]``         B=N, OX=T, K=D (also ``[N, ..., D]`` of a linear layer: OX is the product of the middle)
``[N, C, L]``         B=N, K=C, OX=L behind a 1-D convolution, pooling or batch-norm
``[N, D]``            B=N, K=D; a linear layer's input that is a view of ``[N, T, D]``: B=N, OX=T
GEMM of activations   ``matmul``: G = number of GEMMs, OX = rows, K = columns, C = reduction, B = 1
3-D convolution       each output plane is a 2-D convolution over C x depth of the filter: B=N*OD, C=C*FD
====================  =================================================================================================

Operators that do no MACs set C = K where one input element feeds one output element, so that inputs and outputs count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from codesign_kernel.profiler.events import Event, TensorRef


@dataclass(frozen=True)
class Step:
    """One layer of an operator.

    Attributes:
        op, loops: fields of ``workload.Layer``.
        reads: operands; an int is the output of an earlier step of the same operator. None: all tensors of the event.
        input_bytes, output_bytes: activations read and written, where they are not those of ``reads`` and the event.
        planar: the output has its channels in the second axis, whatever its rank.
    """

    op: str
    loops: dict[str, Any]
    reads: tuple[TensorRef | int, ...] | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    planar: bool = False


@dataclass(frozen=True)
class Operands:
    """What a formula may ask about an event.

    ``fixed(tensor)``: it does not depend on the network's input (a parameter, a buffer, a constant).
    ``origin(tensor)``: the shape its storage was made with.
    ``planar(tensor)``: it was made with its channels in the second axis.
    """

    event: Event
    fixed: Callable[[TensorRef], bool]
    origin: Callable[[TensorRef], tuple[int, ...]]
    planar: Callable[[TensorRef], bool]

    def __getitem__(self, name: str) -> Any:
        return self.event.args[name]

    def get(self, *names: str) -> Any:
        """The first argument of these names that is there, else None."""
        return next((self.event.args[name] for name in names if name in self.event.args), None)

    @property
    def out(self) -> TensorRef:
        """The first output."""
        return (self.event.outputs or self.event.written)[0]


Formula = Callable[[Operands], list[Step]]


def pair(value: Any, empty: tuple[int, int], rank: int = 2) -> tuple[int, int]:
    """An int or a list of ``rank`` (or one) of them as (y, x); of three, the last two; of one dimension, x."""
    values = list(value) if isinstance(value, list) else [value]
    if not values or values == [None]:
        return empty
    if len(values) == 1:
        values = values * rank
    return (empty[0], values[0]) if rank == 1 else (values[-2], values[-1])


def convolution(call: Operands) -> list[Step]:
    """Convolutions of one to three dimensions, grouped, dilated or transposed.

    A transposed convolution multiplies each *input* element by each filter element: ``workload.Layer.macs`` takes IY
    and IX in place of OY and OX. ``padding="same"`` of an even filter pads one more on the far side; the near side is
    kept.
    """
    x, weight, event = call.get("input", "self"), call["weight"], call.event
    rank = len(weight.shape) - 2
    transposed = event.op.startswith("conv_transpose") or bool(event.args.get("transposed"))
    groups = event.args.get("groups", 1)
    batch = x.shape[0] if len(x.shape) == rank + 2 else 1
    iy, ix = (1, *x.shape[-rank:])[-2:]
    oy, ox = (1, *call.out.shape[-rank:])[-2:]
    fy, fx = (1, *weight.shape[2:])[-2:]
    stride, dilation = pair(call["stride"], (1, 1), rank), pair(call["dilation"], (1, 1), rank)
    if call["padding"] == "same":
        padding = (dilation[0] * (fy - 1) // 2, dilation[1] * (fx - 1) // 2)
    else:
        padding = (0, 0) if call["padding"] == "valid" else pair(call["padding"], (0, 0), rank)
    if transposed:
        channels = {"K": weight.shape[1], "C": weight.shape[0] // groups}
        if rank == 3:  # each input plane makes a plane of the output for each plane of the filter
            batch, channels["K"] = batch * x.shape[-3], channels["K"] * weight.shape[2]
    else:
        channels = {"K": weight.shape[0] // groups, "C": weight.shape[1]}
        if rank == 3:
            batch, channels["C"] = batch * call.out.shape[-3], channels["C"] * weight.shape[2]
    loops = {"B": batch, "G": groups, **channels, "OY": oy, "OX": ox, "FY": fy, "FX": fx, "IY": iy, "IX": ix}
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    return [Step("conv_transpose2d" if transposed else "conv2d", {**loops, **geometry}, planar=True)]


def rows(call: Operands, x: TensorRef) -> tuple[int, int]:
    """(B, OX) of an activation ``[..., D]``: the first axis and the product of the rest.

    Rows that were folded, ``[N*T, D]`` in the memory of ``[N, T, D]``, are unfolded.
    """
    shape = x.shape
    if len(shape) <= 2 or shape[0] == 1:
        made = call.origin(x)
        if len(made) > 2 and made[-1] == shape[-1] and prod(made) == x.size:
            shape = made
    return (shape[0] if len(shape) > 1 else 1), prod(shape[1:-1])


def gemm(call: Operands, a: TensorRef, b: TensorRef, b_shape: tuple[int, ...] | None = None) -> list[Step]:
    """``a [..., M, C] @ b [..., C, N]``: ``linear`` where one operand is fixed, else ``matmul``.

    Fixed ``b``: K = N and the rows of ``a`` are B x OX; a batch of fixed matrices is G. Fixed ``a``: K = M, OX = N.
    """
    a_shape = a.shape if len(a.shape) > 1 else (1, *a.shape)
    b_shape = b_shape or b.shape
    b_shape = b_shape if len(b_shape) > 1 else (*b_shape, 1)
    m, c, n = a_shape[-2], a_shape[-1], b_shape[-1]
    a_batch, b_batch = prod(a_shape[:-2]), prod(b_shape[:-2])
    batch = prod(_broadcast(a_shape[:-2], b_shape[:-2]))
    if call.fixed(b):
        count, ox = rows(call, a) if b_batch == 1 else (batch // b_batch, m)
        return [Step("linear", {"B": count, "G": b_batch, "K": n, "C": c, "OX": ox, "IX": ox})]
    if call.fixed(a):
        return [Step("linear", {"B": batch // a_batch, "G": a_batch, "K": m, "C": c, "OX": n, "IX": n})]
    if len(b_shape) == 2:  # one right-hand side for all: a single, taller GEMM
        batch, m = 1, a_batch * m
    return [Step("matmul", {"G": batch, "K": n, "C": c, "OX": m, "IX": m})]


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    length = max(len(a), len(b))
    padded = ((1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b)
    return tuple(x if y == 1 else y for x, y in zip(*padded, strict=True))


def gemm_of(left: str, right: str) -> Formula:
    """``gemm`` on the arguments of these names."""
    return lambda call: gemm(call, call[left], call[right])


def linear(call: Operands) -> list[Step]:
    """``F.linear``: the weight is stored ``[K, C]``."""
    weight = call["weight"]
    return gemm(call, call["input"], weight, weight.shape[::-1])


def attention(call: Operands) -> list[Step]:
    """Scaled dot-product attention as its two GEMMs around a softmax; a causal mask saves nothing, as in torch."""
    query, key, value = call["query"], call["key"], call["value"]
    heads, length = prod(query.shape[:-2]), query.shape[-2]
    keys, width = key.shape[-2], value.shape[-1]
    scores = (*query.shape[:-1], keys)
    size = prod(scores) * query.itemsize
    mask = tuple(m for m in (call.get("attn_mask", "attn_bias"),) if m is not None)
    first = {"G": heads, "K": keys, "C": query.shape[-1], "OX": length, "IX": length}
    last = {"G": heads, "K": width, "C": keys, "OX": length, "IX": length}
    return [
        Step("matmul", first, (query, key), output_bytes=size),
        Step("softmax", pointwise(scores), (0, *mask), output_bytes=size),
        Step("matmul", last, (1, value), output_bytes=call.out.bytes),
    ]


def pointwise(shape: tuple[int, ...], planar: bool = False) -> dict[str, Any]:
    """Loops of an operator whose output elements each come from one input element."""
    loops = {"B": 1, "K": 1, "OY": 1, "OX": 1}
    for axis, extent in zip(axes(len(shape), planar), shape, strict=True):
        loops[axis] *= extent
    return {**loops, "C": loops["K"], "IY": loops["OY"], "IX": loops["OX"]}


def axes(rank: int, planar: bool = False) -> tuple[str, ...]:
    """The loop of each axis of a tensor; above four dimensions, the middle ones are rows."""
    if rank <= 3:
        return ((), ("K",), ("B", "K"), ("B", "K", "OX") if planar else ("B", "OX", "K"))[rank]
    return ("B", "K", *("OY",) * (rank - 3), "OX")
