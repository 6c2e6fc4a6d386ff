"""Waveforms: the window of a simulator's VCD that is asked for, in the same time whatever the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.files import write_whole

#: A clock is high for one of these and low for one: time 2 c is where the port ``cycles`` becomes c.
PER_CYCLE = 2
TIMESCALE = "1 ns"


@dataclass(frozen=True)
class Trace:
    """The cycles ``first`` to ``last`` of the first inference, to be written to ``path``.

    Cycles are those of the port ``cycles``: 0 begins at the clock edge that takes ``start``.
    """

    path: Path
    first: int
    last: int


def window_of(window: object, cycles: int) -> tuple[int, int]:
    """The first and the last cycle of ``window`` (``None``: all) in an inference of ``cycles``.

    Raises:
        InvalidInputError: it is no pair of cycles in order, or begins behind the end.
    """
    if window is None:
        return 0, cycles
    if (
        not isinstance(window, (tuple, list))
        or len(window) != 2
        or not all(isinstance(at, int) and not isinstance(at, bool) for at in window)
        or not 0 <= window[0] <= window[1]
        or window[0] > cycles
    ):
        raise InvalidInputError(
            f"window is (first cycle, last cycle) in order, the first between 0 and {cycles} for this network, but got "
            f"{window!r}"
        )
    return window[0], min(window[1], cycles)


def _header(lines: Iterator[str]) -> Iterator[str]:
    """The declarations of a VCD, without date and version, in the time of all."""
    yield f"$timescale {TIMESCALE} $end\n"
    skipping = False
    for line in lines:
        word = line.split(maxsplit=1)[:1]
        if skipping or word in (["$date"], ["$version"], ["$timescale"], ["$comment"]):
            skipping = "$end" not in line
        elif word:
            yield line
        if word == ["$enddefinitions"]:
            return


def cut(lines: Iterable[str], start: int, per_cycle: int, trace: Trace) -> Iterator[str]:
    """The window of a VCD.

    Args:
        lines: of the VCD, from its first.
        start: its time when cycle 0 begins.
        per_cycle: its time that a cycle takes, a multiple of ``PER_CYCLE``; times between are rounded down.
        trace: the window.
    """
    source = iter(lines)
    yield from _header(source)
    begin, end = trace.first * PER_CYCLE, (trace.last + 1) * PER_CYCLE
    values: dict[str, str] = {}  # of every signal when the window begins
    told, inside = begin, False
    for line in source:
        if line.startswith("#"):
            time = (int(line[1:]) - start) * PER_CYCLE // per_cycle
            if time >= end:
                break
            if time > begin and not inside:
                yield from _opened(trace, values)
                inside = True
            if inside and time > told:
                yield f"#{time}\n"
                told = time
        elif not line.startswith("$") and line.strip():
            if inside:
                yield line
            else:
                values[line.split()[-1] if line[0] in "bBrRsS" else line[1:].strip()] = line
    if not inside:
        yield from _opened(trace, values)
    yield f"#{(trace.last + 1) * PER_CYCLE}\n"


def _opened(trace: Trace, values: dict[str, str]) -> Iterator[str]:
    yield f"#{trace.first * PER_CYCLE}\n$dumpvars\n"
    yield from values.values()
    yield "$end\n"


def write_window(raw: Path, start: int, per_cycle: int, trace: Trace) -> None:
    """Write the window of the VCD file ``raw`` to where ``trace`` says; see :func:`cut`.

    Raises:
        OutputError: it cannot be written.
    """
    with open(raw, encoding="utf-8") as lines:
        write_whole(trace.path, cut(lines, start, per_cycle, trace))
