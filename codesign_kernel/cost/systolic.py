"""SCALE-Sim's cycle count of a GEMM on a systolic array, for comparison with tools that use it.

The count charges every fold the full array and never overlaps two folds. Where ours differs: a single tap of N
positions on the template takes N + 2 rows + cols + 2 cycles (weights rows + 1, positions N, and rows + cols + 1 until
the last sum is stored) against SCALE-Sim's N + 2 rows + cols - 2. The four cycles are the memory read, the accumulator
write and the two between phases. Every further tap takes max(N, rows, 2) only, since the array holds two taps' weights.
Fetching, requantising and external memory come on top, and convolutions are cut by filter position instead of by
columns of an im2col matrix.
"""

from __future__ import annotations

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping.tiling import ceil_div

#: dataflow -> the dimensions along rows, along columns, and in time, among M, N and K.
_DIMENSIONS = {"os": ("m", "n", "k"), "ws": ("k", "n", "m"), "is": ("k", "m", "n")}


def systolic_cycles(m: int, n: int, k: int, rows: int, cols: int, dataflow: str = "ws") -> int:
    """Cycles of an M x K by K x N product: folds x cycles per fold, as SCALE-Sim 3.0.0 counts them.

    Output stationary: ceil(M/rows) ceil(N/cols) folds of K + rows + cols - 2 cycles. Weight stationary: ceil(K/rows)
    ceil(N/cols) folds of M + 2 rows + cols - 2. Input stationary: ceil(K/rows) ceil(M/cols) folds of N + 2 rows + cols
    - 2.
    SCALE-Sim prints the index of the last cycle, which is one less.

    Args:
        m, n, k: rows of the input, columns of the weights, and what is summed over (elements).
        rows, cols: of the array (PE).
        dataflow: ``"os"``, ``"ws"`` or ``"is"``.

    Raises:
        InvalidInputError: a size below 1, or an unknown dataflow.
    """
    sizes = {"m": m, "n": n, "k": k, "rows": rows, "cols": cols}
    for name, value in sizes.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise InvalidInputError(f"{name} is an integer >= 1, but got {value!r}")
    if dataflow not in _DIMENSIONS:
        raise InvalidInputError(f"dataflow is one of {', '.join(map(repr, _DIMENSIONS))}, but got {dataflow!r}")
    down, across, time = (sizes[name] for name in _DIMENSIONS[dataflow])
    load = rows if dataflow == "os" else 2 * rows
    return int(ceil_div(down, rows) * ceil_div(across, cols) * (time + load + cols - 2))
