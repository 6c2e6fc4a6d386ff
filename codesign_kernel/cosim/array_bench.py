"""The systolic array by itself in MyHDL's simulator: streams tiles through it and notes every signal of every element.

The blocks are those of the generated accelerators, :func:`codesign_kernel.rtl.array.systolic` and
:func:`codesign_kernel.rtl.array_os.stationary`, unchanged. Their elements are found in MyHDL's hierarchy of blocks, and
their signals there by name. Inputs come when the sequencers of the accelerators would give them, see
:func:`codesign_kernel.accelerator.isa.cycles`, without the memories around the array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from myhdl import ResetSignal, Signal, StopSimulation, block, delay, instance

from codesign_kernel.accelerator.isa import tap_cycles
from codesign_kernel.mapping.tiling import ceil_div
from codesign_kernel.rtl.array import pe, systolic
from codesign_kernel.rtl.array_os import element, stationary
from codesign_kernel.rtl.bits import unsigned

DATA_BITS, SUM_BITS = 8, 32

#: What is noted of an element, by what it is called there.
PROBES: Mapping[str, tuple[str, ...]] = {
    "ws": ("load", "a_in", "weight", "w_next", "p_in", "total"),
    "os": ("first", "a", "w", "total"),
}


@dataclass(frozen=True)
class Tiles:
    """How ``words`` x ``depth`` by ``depth`` x ``width`` is cut for an array, and when each pass begins.

    Attributes:
        passes: (first of the words, first of the depth, first of the width) of each pass, in order.
        start: cycle in which the first word of each pass is given to the array.
        cycles: from the first input to the last sum, both counted.
    """

    rows: int
    cols: int
    passes: tuple[tuple[int, int, int], ...]
    start: tuple[int, ...]
    cycles: int


def stationary_weights(words: int, depth: int, width: int, rows: int, cols: int) -> Tiles:
    """A pass for ``rows`` of the depth and ``cols`` of the width; all words stream through it.

    The weights of the next pass are shifted in while the words stream, one row a cycle.
    """
    passes = tuple((0, k, n) for n in range(0, width, cols) for k in range(0, depth, rows))
    pace = int(tap_cycles(rows, words))
    start = tuple(rows + 1 + place * pace for place in range(len(passes)))
    return Tiles(rows, cols, passes, start, start[-1] + words + rows + cols - 1)


def stationary_sums(words: int, depth: int, width: int, rows: int, cols: int) -> Tiles:
    """A pass for ``rows`` words, ``rows`` of the depth and ``cols`` of the width; sums stay for all of the depth."""
    passes = tuple(
        (m, k, n) for n in range(0, width, cols) for m in range(0, words, rows) for k in range(0, depth, rows)
    )
    start = tuple(place * rows for place in range(len(passes)))
    return Tiles(rows, cols, passes, start, start[-1] + 2 * rows + cols + 1)


def tiles_of(dataflow: str, words: int, depth: int, width: int, rows: int, cols: int) -> Tiles:
    """The tiles of a GEMM, ``dataflow`` being that of the RTL: ``"ws"`` or ``"os"``."""
    cut = stationary_weights if dataflow == "ws" else stationary_sums
    return cut(words, depth, width, rows, cols)


def padded(matrix: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """``matrix`` with zeros up to multiples of ``rows`` and ``cols``."""
    down, across = matrix.shape
    return np.pad(matrix, ((0, ceil_div(down, rows) * rows - down), (0, ceil_div(across, cols) * cols - across)))


def word_of(lanes: np.ndarray) -> int:
    """The lanes as one word, the first in the lowest bits."""
    return sum((int(lane) & (1 << DATA_BITS) - 1) << DATA_BITS * place for place, lane in enumerate(lanes))


Stimulus = dict[int, dict[str, int]]


def weight_stimulus(x: np.ndarray, y: np.ndarray, tiles: Tiles) -> Stimulus:
    """{cycle: inputs of :func:`systolic` that are not zero} for x @ y, as the sequencer gives them."""
    rows, cols, given = tiles.rows, tiles.cols, {}  # type: int, int, Stimulus
    x_whole, y_whole = padded(x, 1, rows), padded(y, rows, cols)

    def put(cycle: int, **values: int) -> None:
        given.setdefault(cycle, {}).update(values)

    for place, ((_, k, n), start) in enumerate(zip(tiles.passes, tiles.start, strict=True)):
        load = tiles.start[place - 1] - 1 if place else 0
        for row in range(rows):  # the bottom one first
            put(load + row, load=1, w_word=word_of(y_whole[k + rows - 1 - row, n : n + cols]))
        if rows > 1:
            put(load + rows - 2, load_last=1)
        put(start - 1, swap=1)
        for m in range(len(x)):
            put(start + m, live=1, valid=1, a_word=word_of(x_whole[m, k : k + rows]), tap_end=int(m == len(x) - 1))
    return given


def sum_stimulus(x: np.ndarray, y: np.ndarray, tiles: Tiles) -> Stimulus:
    """{cycle: inputs of :func:`stationary` that are not zero} for x @ y, as the sequencer gives them."""
    rows, cols, given = tiles.rows, tiles.cols, {}  # type: int, int, Stimulus
    x_whole, y_whole = padded(x, rows, rows), padded(y, rows, cols)

    def put(cycle: int, **values: int) -> None:
        given.setdefault(cycle, {}).update(values)

    for (m, k, n), start in zip(tiles.passes, tiles.start, strict=True):
        put(start, take=1)
        for row in range(rows):
            put(start + row, live=1, a_word=word_of(x_whole[m + row, k : k + rows]))
            # the weights of a word's first channel come a cycle after the word
            put(start + 1 + row, w_word=word_of(y_whole[k + row, n : n + cols]))
        put(start + 1, first=int(k == 0))
    put(tiles.start[-1] + rows + 1, first=1)  # hands the last sums out
    return given


def _signals(dataflow: str, rows: int, cols: int) -> dict[str, Any]:
    """The ports of the array but its clock."""
    bits = ("load", "load_last", "swap", "live", "valid", "tap_end", "sums_valid", "sums_end")
    ports = {name: Signal(bool(0)) for name in (bits if dataflow == "ws" else ("take", "first", "live"))}
    if dataflow == "ws":
        ports["rst"] = ResetSignal(0, active=1, isasync=False)
    ports["w_word"], ports["a_word"] = Signal(unsigned(cols * DATA_BITS)), Signal(unsigned(rows * DATA_BITS))
    return {**ports, "sums": Signal(unsigned(cols * SUM_BITS))}


def _inside(instance: Any) -> Iterator[Any]:
    """A block and all blocks in it, in the order in which they are made."""
    yield instance
    for part in getattr(instance, "subs", ()):
        yield from _inside(part)


@block
def _bench(dataflow, clk, ports, rows, cols, drive):  # type: ignore[no-untyped-def]
    make = systolic if dataflow == "ws" else stationary
    array = make(clk, **ports, rows=rows, cols=cols, data_bits=DATA_BITS, acc_bits=SUM_BITS)

    @instance
    def clocked():  # type: ignore[no-untyped-def]
        yield from drive()

    return array, clocked


def simulate(dataflow: str, x: np.ndarray, y: np.ndarray, tiles: Tiles) -> dict[str, np.ndarray]:
    """Every signal of every element while the array computes x @ y.

    Args:
        dataflow: of the RTL, ``"ws"`` or ``"os"``.
        x, y: int8 values; rows of x are the words that stream, y are the weights.
        tiles: of :func:`tiles_of`, for these sizes.

    Returns:
        By signal of ``PROBES``: (tiles.cycles + 1, rows, cols) int32, as it is before the clock edge that ends the
        cycle, with one cycle more behind the last; a top row without partial sums has zeros. ``sums``: (tiles.cycles +
        1, cols) what the array gives.
    """
    rows, cols = tiles.rows, tiles.cols
    clk, ports = Signal(bool(0)), _signals(dataflow, rows, cols)
    stimulus = (weight_stimulus if dataflow == "ws" else sum_stimulus)(x, y, tiles)
    inputs = {name: signal for name, signal in ports.items() if name not in ("rst", "sums", "sums_valid", "sums_end")}
    kind: Callable[..., Any] = (pe if dataflow == "ws" else element).func
    seen = {name: np.zeros((tiles.cycles + 1, rows * cols), np.int32) for name in PROBES[dataflow]}
    sums = np.zeros((tiles.cycles + 1, cols), np.int32)
    probes: list[tuple[np.ndarray, int, Any]] = []

    def drive() -> Iterator[Any]:
        for cycle in range(tiles.cycles + 1):
            given = stimulus.get(cycle, {})
            for name, signal in inputs.items():
                signal.next = given.get(name, 0)
            yield delay(1)
            for table, place, signal in probes:
                table[cycle, place] = int(signal.val)
            word = int(ports["sums"].val)
            sums[cycle] = np.array([word >> SUM_BITS * col & (1 << SUM_BITS) - 1 for col in range(cols)]).astype(
                np.int32
            )
            clk.next = True
            yield delay(1)
            clk.next = False
        raise StopSimulation

    def build() -> Any:
        made = _bench(dataflow, clk, ports, rows, cols, drive)
        elements = [found for found in _inside(made) if getattr(found, "func", None) is kind]
        for place, found in enumerate(elements):
            probes.extend((seen[name], place, found.sigdict[name]) for name in seen if name in found.sigdict)
        return made

    # MyHDL inspects the whole call stack for every block that it makes: a thread of its own has a short one
    with ThreadPoolExecutor(1) as thread:
        bench = thread.submit(build).result()
    try:
        bench.run_sim(quiet=1)
    finally:
        if not bench.sim._finished:
            bench.quit_sim()
    return {**{name: table.reshape(-1, rows, cols) for name, table in seen.items()}, "sums": sums}
