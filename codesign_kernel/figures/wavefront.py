"""A GEMM on a systolic array in words and in bytes: what a page needs to play it, and one sentence for each cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from codesign_kernel.figures.words import percent

#: Dataflow -> the field's words for it.
DATAFLOWS: Mapping[str, str] = {"ws": "Weight stationary", "os": "Output stationary", "is": "Input stationary"}
#: Arrays of a trace that a page needs -> their type there; the widest first, so that all of them are aligned.
ARRAYS: Mapping[str, str] = {
    **dict.fromkeys(("sums", "sums_in", "leaves", "result"), "int32"),
    **dict.fromkeys(("i", "k", "j", "held_row", "held_col", "waiting_row", "waiting_col"), "int16"),
    **dict.fromkeys(("leaves_i", "leaves_j", "leaves_row"), "int16"),
    **dict.fromkeys(("a", "b", "inputs", "weights", "waiting", "loading", "leaves_last"), "int8"),
}
#: Names that a sentence gives before it counts the others.
_NAMED = 3


class Traced(Protocol):
    """What an array did, see :class:`codesign_kernel.ArrayTrace`, which has the arrays of ``ARRAYS`` too."""

    @property
    def dataflow(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def cycles(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def utilization(self) -> float: ...
    @property
    def busy(self) -> np.ndarray: ...


class WavefrontInfo(NamedTuple):
    """finding, subtitle: what the trace shows. cycles: a sentence for each, what happens. why: another, why it does.

    busy: elements that multiply, by cycle.

    best: the first of the cycles in which most elements multiply.
    """

    finding: str
    subtitle: str
    cycles: tuple[str, ...]
    why: tuple[str, ...]
    busy: tuple[int, ...]
    best: int


def wavefront_info(trace: Traced) -> WavefrontInfo:
    """The trace in words."""
    busy = trace.busy
    matrices: Any = trace
    (m, k), n = matrices.a.shape, matrices.b.shape[1]
    share = percent(trace.utilization)
    finding = f"{DATAFLOWS[trace.dataflow]}: {_count(trace.cycles, 'cycle')}, and the array is {share} busy"
    subtitle = (
        f"C = A · B, {m} × {k} by {k} × {n}, {_count(trace.macs, 'MAC')} on {trace.rows} × {trace.cols} processing "
        "elements (PE) of the generated RTL, simulated cycle by cycle"
    )
    told = tuple(_sentence(trace, cycle) for cycle in range(trace.cycles))
    return WavefrontInfo(finding, subtitle, told, _reasons(trace), tuple(busy.tolist()), int(busy.argmax()))


def wavefront_bytes(trace: Traced) -> tuple[dict[str, tuple[str, int, tuple[int, ...]]], bytes]:
    """The arrays of a trace one behind the other: ({name: (type, offset in bytes, shape)}, bytes; little-endian)."""
    places, parts, offset = {}, [], 0
    for name, kind in ARRAYS.items():
        array = np.ascontiguousarray(getattr(trace, name), np.dtype(kind).newbyteorder("<"))
        places[name] = (kind, offset, array.shape)
        parts.append(array.tobytes())
        offset += array.nbytes
    return places, b"".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def _names(matrix: str, places: Iterable[tuple[int, int]], verb: Sequence[str], values: Any = None) -> str:
    """``a[0, 1], a[1, 0] and 2 more enter at the left``; nothing for nothing."""
    found = list(places)
    if not found:
        return ""
    told = [f"{matrix}[{row}, {col}]" for row, col in found[:_NAMED]]
    if values is not None:
        told = [f"{name} = {value}".replace("-", "−") for name, value in zip(told, values, strict=False)]
    more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
    *first, last = told + more
    words = f"{', '.join(first)} and {last}" if first else last
    return f"{words} {verb[len(found) > 1]}"


def _places(one: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    named = (one >= 0) & (other >= 0)
    return list(zip(one[named].tolist(), other[named].tolist(), strict=True))


#: What is done before the first product, by dataflow.
_FIRST = {
    "ws": "The weights come first: a row of them is shifted in from the top in each cycle, and waits in its PEs.",
    "is": "The inputs come first: a row of them is shifted in from the top in each cycle, and waits in its PEs.",
    "os": "The first operands are on their way to the corner; each row and each column gets its own a cycle later.",
}
_STAY = {
    "ws": "the weights stay, inputs move right and sums move down",
    "is": "the inputs stay, weights move right and sums move down",
    "os": "the sums stay, inputs move right and weights move down",
}


def _reasons(trace: Any) -> tuple[str, ...]:
    """Why each cycle looks as it does: how far the wave of products is."""
    active = trace.active
    begun = np.logical_or.accumulate(active, axis=0)
    left = np.logical_or.accumulate(active[::-1], axis=0)[::-1]
    ever, total = begun[-1], trace.rows * trace.cols
    never = total - int(ever.sum())
    told = []
    for t in range(trace.cycles):
        busy = int(active[t].sum())
        fresh = int((active[t] & ~begun[t - 1]).sum()) if t else busy
        done = int((ever & ~left[t]).sum())
        if not begun[t].any():
            told.append(_FIRST[trace.dataflow])
        elif not left[t].any():
            told.append("All products are made; what follows is the way of the last sums out of the array.")
        elif fresh and busy == fresh and not begun[t - 1].any():
            told.append("The first product: the corner begins, and the wave goes out from it, a PE a cycle each way.")
        elif fresh:
            begin = "PE begins, one cycle after its" if fresh == 1 else "PEs begin, one cycle after their"
            told.append(f"Filling: {fresh} {begin} neighbours on the left and above.")
        elif done:
            idle = "PE has" if done == 1 else "PEs have"
            told.append(f"Emptying: {done} {idle} made the last product; the wave runs out at the far corner.")
        elif busy == total:
            told.append(f"Every PE works, {total} products a cycle: {_STAY[trace.dataflow]}.")
        elif busy == total - never:
            told.append(f"All PEs that the matrices reach work; {never} never do, for the array is larger than they.")
        else:
            wait = total - never - busy
            waits = "PE waits" if wait == 1 else "PEs wait"
            told.append(f"{wait} {waits} for the next part of the matrices, which begins at the corner.")
    return tuple(told)


def _sentence(trace: Any, t: int) -> str:
    """What happens in cycle ``t``."""
    a, b = ("a", trace.i, trace.k), ("b", trace.k, trace.j)
    matrix, row, col = b if trace.dataflow == "is" else a
    parts = [f"{trace.busy[t]} of {trace.rows * trace.cols} PEs multiply"]
    enters = ("enters", "enter")
    parts.append(_names(matrix, _places(row[t, :, 0], col[t, :, 0]), tuple(f"{v} at the left" for v in enters)))
    if trace.dataflow == "os":
        top = _places(trace.k[t, 0], trace.j[t, 0])
        parts.append(_names("b", top, tuple(f"{v} at the top" for v in enters)))
    elif t + 1 < trace.cycles:
        shifted = trace.loading[t, 0]
        stays = "a" if trace.dataflow == "is" else "b"
        coming = _places(
            np.where(shifted, trace.waiting_row[t + 1, 0], -1), np.where(shifted, trace.waiting_col[t + 1, 0], -1)
        )
        parts.append(_names(stays, coming, ("is shifted in at the top", "are shifted in at the top")))
    out = _places(trace.leaves_i[t], trace.leaves_j[t])
    sums = trace.leaves[t][trace.leaves_i[t] >= 0].tolist()
    ends = bool(trace.leaves_last[t].any())
    verbs = ("leaves", "leave") if ends else ("leaves as a part", "leave as parts")
    parts.append(_names("c", out, verbs, sums))
    told = [part for part in parts if part]
    if len(told) == 1 and not trace.busy[t]:
        quiet = "the registers behind the array line the sums up" if trace.busy[:t].any() else "the first operands wait"
        told.append(quiet)
    return f"Cycle {t}: {'; '.join(told)}."
