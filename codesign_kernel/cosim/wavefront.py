"""A small GEMM on the systolic array of the generated RTL: what every processing element does in every cycle.

The numbers are those of the blocks that the generator emits, in MyHDL's own simulator: see
:mod:`codesign_kernel.cosim.array_bench`. Hardware carries no names, so that which ``a[i, k]`` a number is follows from
the schedule of the inputs; wherever a name is given, :func:`array_trace` compares the number with the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from codesign_kernel.cosim.array_bench import Tiles, simulate, tiles_of
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError, SimulatorError

#: dataflow -> what stays in the elements.
STATIONARY = {"ws": "weights", "os": "outputs", "is": "inputs"}
MAX_SIDE, MAX_CYCLES = 16, 4096
#: Elements times cycles: MyHDL takes about 15 s for so many.
MAX_STEPS = 1 << 18


class Step(NamedTuple):
    """One multiplication of one element: c[i, j] becomes ``sum_in + input * weight``, which is ``sum``."""

    cycle: int
    i: int
    k: int
    j: int
    input: int
    weight: int
    sum_in: int
    sum: int


@dataclass(frozen=True, eq=False)
class ArrayTrace(Shown):
    """What a systolic array did while it computed a @ b. All arrays are read-only; M, K, N are the sizes of a and b.

    Cycle t is the time between two clock edges. Arrays of (cycles, rows, cols) have one place for each element:

    Attributes:
        dataflow: ``"ws"``, ``"os"`` or ``"is"``. rows, cols: of the array.
        a, b: (M, K) and (K, N), int8 values. result: (M, N), the sums that left the array; equal to a @ b.
        inputs, weights: the operands at the multiplier. int8.
        sums_in: what the product is added to. sums: the sum behind it, which is there in the next cycle. int32.
        i, k, j: the multiplication is a[i, k] * b[k, j] for c[i, j]; -1 where there is none. With k = -1 alone, a row
            of the array without a row of the matrix hands a sum on. int16.
        held_row, held_col: place in its matrix of what stays in the element, -1 for nothing: in b (ws), in a (is), in
            c (os). int16.
        waiting, waiting_row, waiting_col: the operand that will stay next, which is being shifted in beside the one in
            use, and its place (ws, is; nothing for os).
        loading: the element takes a new ``waiting`` at the end of the cycle.

    Arrays of (cycles, cols) say what leaves at the bottom of each column:

    Attributes:
        leaves: the sum, int32. leaves_i, leaves_j: of c[i, j]; -1 where nothing leaves.
        leaves_row: the row of the array that it leaves: the last (ws, is), or its own (os).
        leaves_last: no further part of this c[i, j] follows; parts are added up outside of the array.
    """

    dataflow: str
    rows: int
    cols: int
    a: np.ndarray
    b: np.ndarray
    result: np.ndarray
    inputs: np.ndarray
    weights: np.ndarray
    sums_in: np.ndarray
    sums: np.ndarray
    i: np.ndarray
    k: np.ndarray
    j: np.ndarray
    held_row: np.ndarray
    held_col: np.ndarray
    waiting: np.ndarray
    waiting_row: np.ndarray
    waiting_col: np.ndarray
    loading: np.ndarray
    leaves: np.ndarray
    leaves_i: np.ndarray
    leaves_j: np.ndarray
    leaves_row: np.ndarray
    leaves_last: np.ndarray

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def cycles(self) -> int:
        """From the first input to the last sum, both counted."""
        return len(self.sums)

    @property
    def active(self) -> np.ndarray:
        """(cycles, rows, cols): the element does one of the GEMM's multiplications."""
        return (self.i >= 0) & (self.k >= 0) & (self.j >= 0)

    @property
    def macs(self) -> int:
        """Multiplications of the GEMM that were seen: M * K * N."""
        return int(np.count_nonzero(self.active))

    @property
    def busy(self) -> np.ndarray:
        """(cycles,): elements that multiply, of ``rows * cols``."""
        return np.count_nonzero(self.active, axis=(1, 2))

    @property
    def utilization(self) -> float:
        """MACs over the MACs that the array could have done, 0 to 1; of each cycle: :attr:`busy` / (rows * cols)."""
        return self.macs / (self.cycles * self.rows * self.cols)

    @property
    def stationary(self) -> str:
        """What stays in the elements: weights, outputs or inputs."""
        return STATIONARY[self.dataflow]

    def history(self, row: int, col: int) -> list[Step]:
        """The multiplications of one element, in order.

        Raises:
            InvalidInputError: there is no such element.
        """
        for name, value, size in (("row", row, self.rows), ("col", col, self.cols)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < size:
                raise InvalidInputError(f"{name} of this array is 0 to {size - 1}, but got {value!r}")
        names = ("i", "k", "j", "inputs", "weights", "sums_in", "sums")
        at = np.flatnonzero(self.active[:, row, col])
        found = [at, *(getattr(self, name)[at, row, col] for name in names)]
        return [Step(*map(int, step)) for step in zip(*found, strict=True)]

    def __str__(self) -> str:
        (m, k), n = self.a.shape, self.b.shape[1]
        return (
            f"{m} x {k} by {k} x {n}, {self.stationary} stay in {self.rows} x {self.cols} elements: "
            f"{self.macs} MACs in {self.cycles} cycles, utilisation {self.utilization:.1%}"
        )


def array_trace(a: Any, b: Any, dataflow: str = "ws", rows: int = 4, cols: int = 4) -> ArrayTrace:
    """Compute ``a @ b`` on the systolic array of the generated RTL, and tell what each element does in each cycle.

    MyHDL simulates the very blocks that :func:`codesign_kernel.generate_rtl` emits, with inputs as their sequencers
    give them; memories, accumulators and requantisation around them are left out. A product larger than the array takes
    several passes. What several passes give for one sum is added up here, as the accumulators would.

    Dataflow ``"ws"``: weights stay, inputs move right, sums move down. ``"os"``: sums stay, inputs move right, weights
    move down; K is worked off in chunks of ``rows``. ``"is"`` is the RTL of ``"ws"`` with the operands exchanged, since
    (a @ b)ᵀ = bᵀ @ aᵀ: inputs stay, weights move right; the names of the trace are exchanged with them.

    Cycles are those of :func:`codesign_kernel.accelerator.isa.cycles` for CONV (ws, is) and SUM (os), less what is
    outside of the array.

    Args:
        a, b: (M, K) and (K, N), integers from -128 to 127.
        rows, cols: of the array, 1 to 16.

    Raises:
        InvalidInputError: sizes that do not fit, values that are no int8, or more than 4,096 cycles, or than 262,144
            cycles times elements.
        SimulatorError: the blocks gave something else than a @ b, or a number is not the element that it is named.
    """
    if not isinstance(dataflow, str) or dataflow not in STATIONARY:
        raise InvalidInputError(f"dataflow is one of {', '.join(map(repr, STATIONARY))}, but got {dataflow!r}")
    left, right = _matrix("a", a), _matrix("b", b)
    if left.shape[1] != right.shape[0]:
        raise InvalidInputError(
            f"a has as many columns as b has rows, but got {left.shape[1]} and {right.shape[0]}; transpose one of them"
        )
    for name, side in (("rows", rows), ("cols", cols)):
        if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or not 1 <= side <= MAX_SIDE:
            raise InvalidInputError(f"{name} is an integer from 1 to {MAX_SIDE}, but got {side!r}")
    rtl = "os" if dataflow == "os" else "ws"
    x, y = (right.T, left.T) if dataflow == "is" else (left, right)
    tiles = tiles_of(rtl, x.shape[0], x.shape[1], y.shape[1], int(rows), int(cols))
    if tiles.cycles > MAX_CYCLES or tiles.cycles * rows * cols > MAX_STEPS:
        raise InvalidInputError(
            f"a trace has at most {MAX_CYCLES:,} cycles, and {MAX_STEPS:,} cycles times elements, but this one has "
            f"{tiles.cycles:,} on {rows} x {cols}; give smaller matrices"
        )
    seen = simulate(rtl, x, y, tiles)
    told = (_weights_stay if rtl == "ws" else _sums_stay)(x, y, tiles, seen)
    if dataflow == "is":
        told = _exchanged(told)
    trace = ArrayTrace(dataflow, int(rows), int(cols), left, right, **told)
    _check(trace)
    return trace


def _matrix(name: str, given: Any) -> np.ndarray:
    try:
        found = np.asarray(given)
    except ValueError as error:
        raise InvalidInputError(f"{name} is a matrix of integers, but its rows differ in length: {error}") from error
    if found.ndim != 2 or found.dtype.kind not in "iu" or found.size == 0:
        raise InvalidInputError(
            f"{name} is a matrix of integers, but got an array of shape {found.shape} and type {found.dtype}"
        )
    if found.min() < -128 or found.max() > 127:
        raise InvalidInputError(
            f"{name} has values from -128 to 127, but got {found.min()} to {found.max()}; quantise it first"
        )
    return found.astype(np.int8)


class _Grid(NamedTuple):
    """Cycle, row and column of each place of the arrays, and ``late``: the cycle less the skew of the element."""

    row: np.ndarray
    col: np.ndarray
    late: np.ndarray


def _grid(tiles: Tiles) -> _Grid:
    cycle, row, col = np.ogrid[: tiles.cycles, : tiles.rows, : tiles.cols]
    return _Grid(row, col, cycle - row - col)


def _named(where: Any, index: np.ndarray, size: int) -> np.ndarray:
    """Indices below ``size`` where there is something, -1 elsewhere."""
    return np.where(where & (index >= 0) & (index < size), index, -1).astype(np.int16)


def _weights_stay(x: np.ndarray, y: np.ndarray, tiles: Tiles, seen: dict[str, np.ndarray]) -> dict[str, Any]:
    """The arrays of a trace from the signals of a weight-stationary array."""
    (words, depth), width = x.shape, y.shape[1]
    rows, at, last = tiles.rows, _grid(tiles), tiles.cycles
    starts, passes = np.array(tiles.start), np.array(tiles.passes)
    place = np.searchsorted(starts, at.late, side="right") - 1
    began = np.maximum(place, 0)
    word = at.late - starts[began]
    k, n = passes[began, 1] + at.row, passes[began, 2] + at.col
    streams = (place >= 0) & (word < words)

    # rows of weights are shifted in from the top, the bottom one first; the skew is that of the columns alone
    loads = np.array([0, *(starts[:-1] - 1)])
    since = at.late + at.row
    newest = np.searchsorted(loads, since, side="right") - 1
    shifted = since - loads[np.maximum(newest, 0)]
    arrived = shifted > at.row  # else what waits is still of the pass before
    taken = np.where(arrived, newest, newest - 1)
    row = np.where(arrived & (shifted <= rows), rows - shifted + at.row, at.row)
    coming = np.maximum(taken, 0)
    waits = (taken >= 0, passes[coming, 1] + row, passes[coming, 2] + at.col)

    total = seen["total"]
    result = np.zeros((words, width), np.int32)
    for (_, _, first), start in zip(tiles.passes, tiles.start, strict=True):
        behind = start + rows + tiles.cols - 1
        across = min(tiles.cols, width - first)
        result[:, first : first + across] += seen["sums"][behind : behind + words, :across]
    i, j = _named(streams, word, words), _named(streams, n, width)
    out = np.full((2, last, tiles.cols), -1, np.int16)
    out[:, 1:] = np.stack([i, j])[:, :-1, -1]
    out[:, (out < 0).any(axis=0)] = -1
    of_last = passes[began, 1] + rows >= depth
    ends = np.zeros((last, tiles.cols), bool)
    ends[1:] = of_last[:-1, -1]
    return {
        "result": result,
        "inputs": seen["a_in"][:last].astype(np.int8),
        "weights": seen["weight"][:last].astype(np.int8),
        "sums_in": seen["p_in"][:last],
        "sums": total[1:],
        "i": i,
        "k": _named(streams, k, depth),
        "j": j,
        "held_row": _named((place >= 0) & (n < width), k, depth),
        "held_col": _named((place >= 0) & (k < depth), n, width),
        "waiting": seen["w_next"][:last].astype(np.int8),
        "waiting_row": _named(waits[0] & (waits[2] < width), waits[1], depth),
        "waiting_col": _named(waits[0] & (waits[1] < depth), waits[2], width),
        "loading": seen["load"][:last].astype(bool),
        "leaves": np.where(out[0] >= 0, total[:last, -1], 0).astype(np.int32),
        "leaves_i": out[0],
        "leaves_j": out[1],
        "leaves_row": np.where(out[0] >= 0, rows - 1, -1).astype(np.int16),
        "leaves_last": ends & (out[0] >= 0),
    }


def _sums_stay(x: np.ndarray, y: np.ndarray, tiles: Tiles, seen: dict[str, np.ndarray]) -> dict[str, Any]:
    """The arrays of a trace from the signals of an output-stationary array."""
    (words, depth), width = x.shape, y.shape[1]
    rows, cols, last, at = tiles.rows, tiles.cols, tiles.cycles, _grid(tiles)
    passes = np.array(tiles.passes)
    # a word is taken in the first cycle, and gives its first channel in the second
    place, channel = np.divmod(at.late - 1, rows)
    works = (place >= 0) & (place < len(passes))
    now = np.clip(place, 0, len(passes) - 1)
    m, k, n = passes[now, 0] + at.row, passes[now, 1] + channel, passes[now, 2] + at.col
    mine = works & (m < words) & (n < width)
    i, j = _named(mine, m, words), _named(mine, n, width)

    total, first = seen["total"], seen["first"][:last].astype(bool)
    # a sum is handed out in the cycle that starts the next one
    handed = np.zeros((last, rows, cols), bool)
    handed[1:] = first[1:] & (i[:-1] >= 0) & (j[:-1] >= 0)
    cycle, row, col = np.nonzero(handed)
    leaves = np.zeros((last, cols), np.int32)
    out = np.full((3, last, cols), -1, np.int16)
    leaves[cycle, col] = total[cycle, row, col]
    out[:, cycle, col] = i[cycle - 1, row, col], j[cycle - 1, row, col], row

    result = np.zeros((words, width), np.int32)
    for (top, chunk, left), start in zip(tiles.passes, tiles.start, strict=True):
        if chunk + rows >= depth:
            behind = start + rows + 1 + cols
            down, across = min(rows, words - top), min(cols, width - left)
            result[top : top + down, left : left + across] = seen["sums"][behind : behind + down, :across]
    nothing = np.full((last, rows, cols), -1, np.int16)
    return {
        "result": result,
        "inputs": seen["a"][:last].astype(np.int8),
        "weights": seen["w"][:last].astype(np.int8),
        "sums_in": np.where(first, 0, total[:last]),
        "sums": total[1:],
        "i": i,
        "k": _named(works, k, depth),
        "j": j,
        "held_row": i,
        "held_col": j,
        "waiting": np.zeros((last, rows, cols), np.int8),
        "waiting_row": nothing,
        "waiting_col": nothing,
        "loading": np.zeros((last, rows, cols), bool),
        "leaves": leaves,
        "leaves_i": out[0],
        "leaves_j": out[1],
        "leaves_row": out[2],
        "leaves_last": out[0] >= 0,
    }


#: Name of an array -> that of the array which it is when the operands are exchanged.
_PARTNERS = (
    ("inputs", "weights"),
    ("i", "j"),
    ("held_row", "held_col"),
    ("waiting_row", "waiting_col"),
    ("leaves_i", "leaves_j"),
)


def _exchanged(told: dict[str, Any]) -> dict[str, Any]:
    """The arrays of bᵀ @ aᵀ as those of a @ b."""
    for one, other in _PARTNERS:
        told[one], told[other] = told[other], told[one]
    return {**told, "result": np.ascontiguousarray(told["result"].T)}


def _check(trace: ArrayTrace) -> None:
    """What the RTL gave is a @ b, and every number is the element that it is named.

    Raises:
        SimulatorError: it is not.
    """
    wanted = trace.a.astype(np.int32) @ trace.b.astype(np.int32)
    on = trace.active
    i, k, j = trace.i[on], trace.k[on], trace.j[on]
    product = trace.inputs[on].astype(np.int32) * trace.weights[on]
    faults = [
        name
        for name, right in (
            ("result", np.array_equal(trace.result, wanted)),
            ("inputs", np.array_equal(trace.inputs[on], trace.a[i, k])),
            ("weights", np.array_equal(trace.weights[on], trace.b[k, j])),
            ("sums", np.array_equal(trace.sums[on], trace.sums_in[on] + product)),
            ("macs", trace.macs == trace.a.size * trace.b.shape[1]),
        )
        if not right
    ]
    if faults:
        raise SimulatorError(
            f"the array computes a @ b on the elements that the trace names, but {', '.join(faults)} of "
            f"{trace.dataflow!r} on {trace.rows} x {trace.cols} do not agree; the blocks of codesign_kernel/rtl differ"
        )
