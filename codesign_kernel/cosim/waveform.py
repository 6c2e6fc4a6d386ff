"""Waveforms read back: the signals of a VCD and what they are when, ready to be drawn."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codesign_kernel.cache import scratch_folder
from codesign_kernel.cosim.job import Answer, Job, Progress, Simulator, Stop, job_of
from codesign_kernel.cosim.timing import Timed, timed
from codesign_kernel.cosim.waves import PER_CYCLE, TIMESCALE, Trace, window_of
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.lower import Program
from codesign_kernel.rtl.generate import RtlBundle

Array = np.ndarray[Any, Any]
#: Cycles of the beginning that a recording has from the first.
START = 240
_VAR = re.compile(r"\$var\s+(\w+)\s+(\d+)\s+(\S+)\s+(.+?)\s*(\[[\d:\s]+\])?\s*\$end")
#: States of a bit, those of VHDL too.
_STATES = frozenset("01xXzZuUwWlLhH-")
#: States of a bit -> its bits in the two planes: x is (0, 1), z is (1, 1).
_PLANES = np.zeros((2, 256), np.uint8)
for _state in b"1zZhH":
    _PLANES[0, _state] = 1
for _state in b"xXzZuUwW-":
    _PLANES[1, _state] = 1
#: What fills a value up to its width on the left, by its first state, as IEEE 1364-2005, 18.2.2, says.
_FILL = {"x": "x", "z": "z"}


class Signal(NamedTuple):
    """One name of a VCD. scope: the instances it lies in, from the top on, joined by dots. width: bits."""

    scope: str
    name: str
    width: int
    code: str


class Changes(NamedTuple):
    """What a signal is, and from when on.

    Attributes:
        times: rising, in half cycles: cycle c begins at 2 c. int32[N].
        value, unknown: its bits, the lowest in bit 0 of byte 0; uint8[N, bytes]. A bit that is unknown is x where its
            value is 0 and z where it is 1.
    """

    times: Array
    value: Array
    unknown: Array


@dataclass(frozen=True)
class Waveform(Shown):
    """A window of the run of a program.

    Attributes:
        first, last: cycles, both in the window; of the port ``cycles`` in the files of
            :func:`codesign_kernel.cosimulate`.
        signals: in the order of the file.
        instructions: those of the whole run, where known.
        cycle_ns: what a cycle takes; ``None`` where nobody said, as a VCD counts cycles only.
    """

    first: int
    last: int
    signals: tuple[Signal, ...]
    instructions: tuple[Timed, ...] = ()
    cycle_ns: float | None = None
    _told: dict[str, list[tuple[int, str]]] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        return f"cycles {self.first:,} to {self.last:,}: {len(self.signals):,} signals"

    @property
    def size_bytes(self) -> int:
        """Of all changes as they are held: a time of 8 bytes, and a character a bit."""
        return sum(8 + len(text) for told in self._told.values() for _, text in told)

    def window(self, first: int, last: int) -> Waveform:
        """The waveform itself: there is no more than what the file holds."""
        return self

    def changes(self, number: int, first: int | None = None, last: int | None = None) -> Changes:
        """What signal ``number`` is when; nothing before its first time is known.

        Args:
            first, last: cycles; what holds when ``first`` begins, and all changes up to the end of ``last``. Without,
                of the whole window.

        Raises:
            InvalidInputError: there is no such signal.
        """
        if not 0 <= number < len(self.signals):
            raise InvalidInputError(f"signals are numbered from 0 to {len(self.signals) - 1}, but got {number}")
        signal = self.signals[number]
        told = self._told.get(signal.code, [])
        low = 0 if first is None else max(bisect_right(told, PER_CYCLE * first, key=_time_of) - 1, 0)
        high = len(told) if last is None else bisect_left(told, PER_CYCLE * (last + 1), key=_time_of)
        told = told[low:high]
        width = -(-signal.width // 8) * 8
        states = "".join(_padded(text, signal.width).rjust(width, "0") for _, text in told)
        bits = _PLANES[:, np.frombuffer(states.encode("ascii"), np.uint8)].reshape(2, len(told), width)
        value, unknown = np.packbits(bits[..., ::-1], axis=-1, bitorder="little")
        return Changes(np.array([at for at, _ in told], np.int32), value, unknown)


def _time_of(change: tuple[int, str]) -> int:
    return change[0]


def _padded(text: str, width: int) -> str:
    return text.rjust(width, _FILL.get(text[0].lower(), "0"))[-width:]


def parse_waves(lines: Iterable[str]) -> Waveform:
    """The waveform in the lines of a VCD whose cycle c begins at time 2 c; what has no bits is left out.

    Raises:
        InvalidInputError: it is no VCD, or of another time scale; the message has the line.
    """
    source = enumerate(lines, 1)
    declared = tuple(_declared(source))
    signals = tuple(signal for signal in declared if signal.width)
    without_bits = {signal.code for signal in declared if not signal.width}
    told: dict[str, list[tuple[int, str]]] = {signal.code: [] for signal in signals}
    time: int | None = None
    first = 0
    for number, line in source:
        text = line.strip()
        if not text or text[0] == "$":
            continue
        if text[0] == "#":
            time = _time(number, text[1:], time)
            first = time if not any(told.values()) else first
            continue
        state, _, code = text[1:].partition(" ") if text[0] in "bBrRsS" else (text[:1], "", text[1:])
        if code in without_bits:
            continue
        if code not in told or time is None or not state or not set(state) <= _STATES:
            raise InvalidInputError(f"line {number} of a VCD is a change of one of its signals, but got {text[:40]!r}")
        changes = told[code]
        if changes and changes[-1][0] == time:  # the last word of a time is what holds
            changes.pop()
        if not changes or changes[-1][1] != state:
            changes.append((time, state))
    if time is None:
        raise InvalidInputError("a VCD has times and changes behind its declarations, but this one has none")
    return Waveform(first // PER_CYCLE, max(first, time - 1) // PER_CYCLE, signals, _told=told)


def _time(number: int, text: str, before: int | None) -> int:
    if not text.isdigit() or int(text) < (before or 0) or int(text) >= 1 << 31:
        raise InvalidInputError(f"times of a VCD rise and stay below 2^31, but line {number} has {text[:40]!r}")
    return int(text)


def _declared(source: Iterator[tuple[int, str]]) -> Iterator[Signal]:
    """The signals of the declarations; what has no bits has width 0."""
    scopes: list[str] = []
    for number, line in source:
        words = line.split()
        if words[:1] == ["$timescale"] and " ".join(words[1:-1]) != TIMESCALE:
            raise InvalidInputError(f"a cycle is 2 of {TIMESCALE} in the VCDs of cosimulate, but got {line.strip()!r}")
        if words[:1] == ["$scope"]:
            scopes.append(words[2])
        elif words[:1] == ["$upscope"]:
            scopes.pop()
        elif words[:1] == ["$enddefinitions"]:
            return
        elif words[:1] == ["$var"]:
            found = _VAR.fullmatch(line.strip())
            if found is None or not 0 <= int(found[2]) <= 1 << 16:
                raise InvalidInputError(f"line {number} of a VCD declares a signal, but got {line.strip()[:60]!r}")
            # names of states and real numbers have no bits
            width = 0 if found[1] in ("real", "string") else int(found[2])
            yield Signal(".".join(scopes), found[4], width, found[3])
    raise InvalidInputError("a VCD begins with its declarations, but $enddefinitions is missing; is it whole?")


def read_waves(path: str | Path, instructions: Sequence[Timed] = (), cycle_ns: float | None = None) -> Waveform:
    """The waveform that ``cosimulate(..., vcd=path)`` wrote.

    Args:
        instructions: ``report.schedule`` of the same co-simulation: when each instruction ran.
        cycle_ns: what a cycle takes, 1000 / ``frequency_mhz`` of the design. The file does not say it; without,
            what shows the waveform gives cycles and no times.

    Raises:
        InvalidInputError: there is no such file, or it is no such VCD; ``cycle_ns`` is no time.
    """
    number = isinstance(cycle_ns, int | float) and not isinstance(cycle_ns, bool)
    if cycle_ns is not None and not (number and 0 < cycle_ns <= 1e9):
        raise InvalidInputError(
            f"a cycle takes more than 0 and at most 1e9 ns, but cycle_ns is {str(cycle_ns)[:40]!r}; "
            "give 1000 / frequency_mhz of the design"
        )
    try:
        with open(path, encoding="utf-8") as lines:
            return replace(parse_waves(lines), instructions=tuple(instructions), cycle_ns=cycle_ns)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"a waveform is a VCD that can be read, but {path} is not: {error}") from error


@dataclass(frozen=True)
class Recording(Shown):
    """A run whose waveform is simulated where somebody looks: :meth:`window` gives any part of it.

    Attributes:
        first, last: cycles that can be looked at: the run takes ``last - first`` of them, and in the last one it
            stands still.
        instructions: as they ran. cycle_ns: what a cycle takes.
    """

    first: int
    last: int
    instructions: tuple[Timed, ...]
    cycle_ns: float
    _record: Callable[[int, int], Waveform] = field(repr=False, compare=False)
    _start: Waveform = field(repr=False, compare=False)

    def __str__(self) -> str:
        return (
            f"{self.last - self.first:,} cycles, {len(self.instructions):,} instructions, {self.cycle_ns:g} ns a cycle"
        )

    def window(self, first: int, last: int) -> Waveform:
        """These cycles of the run, or more.

        Raises:
            InvalidInputError: they are none of the run.
            SimulatorError: the simulator failed.
        """
        low, high = window_of((first, last), self.last)
        return self._start if self._start.first <= low and high <= self._start.last else self._record(low, high)


def recording(
    bundle: RtlBundle, program: Program, x: Array, simulator: Simulator,
    progress: Progress | None = None, stop: Stop | None = None,
) -> Recording:  # fmt: skip
    """One run of ``program`` on the quantised inputs ``x`` to be looked at.

    Raises:
        SimulatorError: the simulator failed.
        StoppedError: ``stop`` said so.
    """
    job = job_of(program, x)
    period_ns = 1e3 / bundle.accelerator.frequency_mhz

    def run(job: Job, first: int, last: int, told: Progress | None = None) -> tuple[Answer, Waveform]:
        with scratch_folder("waves") as folder:
            trace = Trace(folder / "waves.vcd", first, last)
            answer = simulator.run(bundle, replace(job, trace=trace), told)
            instructions = timed(program, answer.issues[0], answer.cycles[0])
            return answer, read_waves(trace.path, instructions, period_ns)

    # with its beginning at once: a simulator that is compiled is compiled for waveforms only
    answer, start = run(replace(job, stop=stop), 0, min(START, program.cycles), progress)
    return Recording(
        0, answer.cycles[0], start.instructions, period_ns, lambda first, last: run(job, first, last)[1], start
    )
