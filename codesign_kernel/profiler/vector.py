"""Formulas of operators that do no MACs: element by element, pooling, reductions, normalisation, moving data."""

from __future__ import annotations

from typing import Any

from codesign_kernel.profiler.formulas import Formula, Operands, Step, axes, pair, pointwise


def elementwise(name: str) -> Formula:
    """One output element from one element of each operand."""
    return lambda call: _elementwise(name, call, any(call.planar(ref) for ref in call.event.reads))


def channelwise(name: str) -> Formula:
    """As element-wise, on ``[N, C, ...]`` whatever the rank."""
    return lambda call: _elementwise(name, call, planar=True)


def _elementwise(name: str, call: Operands, planar: bool) -> list[Step]:
    return [Step(name, pointwise(call.out.shape, planar), planar=planar)]


def resampled(name: str) -> Formula:
    """``[N, C, ...]`` whose rows and columns change."""

    def formula(call: Operands) -> list[Step]:
        loops = pointwise(call.out.shape, planar=True)
        source = pointwise(call.event.reads[0].shape, planar=True)
        return [Step(name, {**loops, "C": source["C"], "IY": source["IY"], "IX": source["IX"]}, planar=True)]

    return formula


def hardtanh(call: Operands) -> list[Step]:
    """``relu6`` where the bounds are 0 and 6."""
    bounds = (call["min_val"], call["max_val"])
    return elementwise("relu6" if bounds == (0, 6) else "hardtanh")(call)


def _planes(call: Operands, rank: int) -> dict[str, Any]:
    x, out = call.event.reads[0].shape, call.out.shape
    iy, ix = (1, *x[-rank:])[-2:]
    oy, ox = (1, *out[-rank:])[-2:]
    channels = x[-rank - 1]
    batch = x[0] if len(x) == rank + 2 else 1
    return {"B": batch, "K": channels, "C": channels, "OY": oy, "OX": ox, "IY": iy, "IX": ix}


def pool(name: str, rank: int) -> Formula:
    """Pooling with a fixed window; without a stride the window is the stride."""

    def formula(call: Operands) -> list[Step]:
        fy, fx = pair(call["kernel_size"], (1, 1), rank)
        geometry = {
            "stride": pair(call["stride"], (fy, fx), rank),
            "padding": pair(call["padding"], (0, 0), rank),
            "dilation": pair(call.get("dilation"), (1, 1), rank),
        }
        return [Step(name, {**_planes(call, rank), "FY": fy, "FX": fx, **geometry}, planar=True)]

    return formula


def adaptive_pool(name: str, rank: int) -> Formula:
    """Pooling to a given size: the largest window and the mean stride, exact where the sizes divide."""

    def window(size: int, count: int) -> int:
        return max(-(-(i + 1) * size // count) - i * size // count for i in range(count))

    def formula(call: Operands) -> list[Step]:
        loops = _planes(call, rank)
        windows = {"FY": window(loops["IY"], loops["OY"]), "FX": window(loops["IX"], loops["OX"])}
        stride = (max(1, loops["IY"] // loops["OY"]), max(1, loops["IX"] // loops["OX"]))
        return [Step(name, {**loops, **windows, "stride": stride}, planar=True)]

    return formula


def reduction(name: str) -> Formula:
    """A reduction over rows or columns has a window of their extent; over channels (or the batch) it has C > K."""

    def formula(call: Operands) -> list[Step]:
        if "other" in call.event.args:  # max(a, b), min(a, b)
            return elementwise(f"{name}imum")(call)
        source = call.event.reads[0]
        shape, planar = source.shape, call.planar(source)
        dim = call.get("dim")
        dims = range(len(shape)) if dim in (None, []) else dim if isinstance(dim, list) else [dim]
        reduced = {d % len(shape) for d in dims} if shape else set()
        loops = dict.fromkeys(("B", "K", "C", "OY", "OX", "IY", "IX", "FY", "FX"), 1)
        for axis, (loop, extent) in enumerate(zip(axes(len(shape), planar), shape, strict=True)):
            if loop in ("OY", "OX"):
                loops["I" + loop[1]] *= extent
                loops["F" + loop[1] if axis in reduced else loop] *= extent
            elif axis in reduced:
                loops["C"] *= extent
            else:
                loops[loop] *= extent
                loops["C"] *= extent if loop == "K" else 1
        return [Step(name, loops, planar=planar)]

    return formula


def embedding(call: Operands) -> list[Step]:
    """A row of the table for each index: K = its width, and the indices are the input."""
    return [Step("embedding", {**pointwise(call.out.shape), "C": 1})]
