"""RtlViewer: the sources of an accelerator and the waveform of its run, linked by the program's instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import traitlets

from codesign_kernel.errors import InvalidInputError
from codesign_widgets.page import Page, script_of, style_of, text_of
from codesign_widgets.rtl_sources import language_of, marks_of, outline
from codesign_widgets.rtl_view import MOST_CYCLES, MOST_SIGNALS, RADIXES, Limits, lawful, whole

#: Signals shown at first, those of them that there are.
USUAL = ("clk", "busy", "pc", "cycles", "ext_request", "ext_we", "ext_addr", "live")
#: Signals that are read as numbers.
COUNTERS = ("pc", "cycles")
#: Cycles shown at first, and loaded with them on both sides.
_SHOWN = 60


class Sources(Protocol):
    """What is read: see :class:`codesign_kernel.RtlBundle`."""

    @property
    def files(self) -> Mapping[str, str]: ...
    @property
    def top(self) -> str: ...


class Window(Protocol):
    """Some cycles of a run: see :class:`codesign_kernel.Waveform`."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def signals(self) -> Sequence[Any]: ...
    def changes(self, number: int, first: int, last: int) -> Any:
        """``times`` (half cycles), ``value`` and ``unknown`` of a signal from cycle ``first`` to ``last``."""
        ...


class Waves(Protocol):
    """A run: see :class:`codesign_kernel.Recording` and :class:`codesign_kernel.Waveform`."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def instructions(self) -> Sequence[Any]: ...
    @property
    def cycle_ns(self) -> float | None: ...
    @property
    def window(self) -> Callable[[int, int], Window]: ...


class RtlViewer(Page):
    """A page of sources, with their hierarchy and a search over all of them, and of waveforms.

    Args:
        bundle: the sources.
        waves: the run to look at; none without. What of it is looked at is asked for in windows of at most
            ``MOST_CYCLES``.
        signals: names of those to show at first, such as ``"pc"`` or ``"systolic0.swap"``; without, the usual ones.

    Attributes:
        view: what the reader chose: file, line, what is looked for, signals with their radixes, window and cursors
            (cycles). Whatever is put here is made lawful.

    Raises:
        InvalidInputError: there are no sources, or a signal has no such name.
    """

    marks = traitlets.Dict().tag(sync=True, kernel=True)
    waves = traitlets.Dict().tag(sync=True, kernel=True)
    sources = traitlets.Dict().tag(sync=True, kernel=True)
    # of any type, as traitlets.Any would keep None as it is
    view: Any = traitlets.TraitType({}).tag(sync=True)

    _esm = "".join([script_of("code.js"), *map(text_of, ("waves.js", "wavepick.js", "wavepane.js", "rtl.js"))])
    _css = style_of("rtl.css", "ckx-rtl")
    _limits: Limits | None = None  # until there is something to look at
    _kept: dict[str, Any]  # the last lawful view

    def __init__(self, bundle: Sources, waves: Waves | None = None, signals: Sequence[str] = ()) -> None:
        files = {name: text for name, text in bundle.files.items() if language_of(name)}
        if not files:
            raise InvalidInputError("a viewer shows Verilog (.v) or VHDL (.vhd) files, but the bundle has none")
        if isinstance(signals, str):
            raise InvalidInputError(f"signals is a list of names, but got {signals!r}; write [{signals!r}]")
        super().__init__()
        self._files, self._run = files, waves
        self._seen: Window | None = None
        self._names: list[tuple[str, str]] = []
        self._outline = modules = outline(files, bundle.top)
        lines = {name: text.count("\n") + 1 for name, text in files.items()}
        first, last = (0, 0) if waves is None else (waves.first, waves.last)
        if waves is not None:
            self._seen = waves.window(first, min(last, first + 3 * _SHOWN))
            self._names = [(signal.scope, signal.name) for signal in self._seen.signals]
        limits = Limits(lines, list(modules) or [language_of(next(iter(files)))], len(self._names), first, last)
        self.setup = {
            "files": [{"name": name, "language": language_of(name), "lines": lines[name]} for name in files],
            "outline": modules,
            "radixes": list(RADIXES),
            "most": {"signals": MOST_SIGNALS, "cycles": MOST_CYCLES},
            "run": None if waves is None else self._run_in_words(waves),
        }
        chosen = [
            {"id": number, "radix": "unsigned" if self._names[number][1] in COUNTERS else RADIXES[0]}
            for number in self._chosen(signals)
        ]
        language = limits.languages[0]
        top = modules.get(language, {}).get("top", "")
        place = modules[language]["modules"][top] if top else {"file": next(iter(files)), "line": 1}
        self.sources = files
        self.view = self._kept = {
            "language": language,
            "file": place["file"],
            "line": place["line"],
            "find": {"text": "", "regex": False, "case": False},
            "signals": chosen,
            "window": [first, min(last + 1, first + _SHOWN)],
            "cursors": [None, None],
        }
        self._limits = limits
        asked = {"file": self.view["file"], "signals": [one["id"] for one in chosen] if waves is not None else None}
        self.tell(0, {**asked, "first": first, "last": min(last, first + 2 * _SHOWN)})

    @traitlets.validate("view")
    def _lawful(self, proposal: Mapping[str, Any]) -> Any:
        if self._limits is None:
            return proposal["value"]
        # not self.view: what a page sends stands there already when it is validated
        self._kept = lawful(proposal["value"], self._kept, self._limits)
        return dict(self._kept)

    def show(self, name: str, line: int | None = None) -> None:
        """Show a file, or a module or entity at its first line.

        Raises:
            InvalidInputError: there is none of this name.
        """
        for language, one in self._outline.items():
            if name in one["modules"]:
                place = one["modules"][name]
                self.view = {"language": language, "file": place["file"], "line": line or place["line"]}
                return
        if name not in self._files:
            known = [*self._files, *(n for one in self._outline.values() for n in one["modules"])]
            raise InvalidInputError(f"there are {', '.join(known)}, but got {name!r}")
        self.view = {"language": language_of(name), "file": name, "line": line or 1}

    def look(self, first: float, last: float) -> None:
        """Show these cycles; what is not there is cut off."""
        self.view = {"window": [first, last]}

    def look_at(self, address: int) -> None:
        """Show the run of the instruction at this address, with the cursors at its begin and end.

        Raises:
            InvalidInputError: it did not run.
        """
        ran = [] if self._run is None else [one for one in self._run.instructions if one.address == address]
        if not ran:
            raise InvalidInputError(
                f"the instructions of a run are known by their addresses, but {address!r} did not run"
            )
        begin, end = ran[0].begin, ran[0].begin + ran[0].got
        margin = max(4, (end - begin) // 4)
        self.view = {"window": [begin - margin, end + margin], "cursors": [begin, end]}

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        file, signals = asked.get("file"), asked.get("signals")
        if file is not None:
            if not isinstance(file, str) or file not in self._files:
                raise InvalidInputError(f"file is one of {', '.join(self._files)}, but got {str(file)[:40]!r}")
            self.marks = {"file": file, "data": marks_of(self._files[file], language_of(file))}
        if signals is not None:
            self.waves = self._loaded(signals, asked.get("first"), asked.get("last"))
        return {}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        return "file" if message.startswith("file") else "waves"

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        with self.hold_sync():  # the answer comes with what it is about
            super().tell(seq, asked)

    def _loaded(self, signals: Any, first: Any, last: Any) -> dict[str, Any]:
        """The changes of ``signals`` from cycle ``first`` to ``last``."""
        run = self._run
        if run is None:
            raise InvalidInputError("this viewer has no waveform; give it waves=")
        known = isinstance(signals, list | tuple) and all(whole(one, 0, len(self._names) - 1) for one in signals)
        if not known or len(signals) > MOST_SIGNALS or len(set(signals)) < len(signals):
            raise InvalidInputError(
                f"signals are at most {MOST_SIGNALS} different numbers from 0 to {len(self._names) - 1}, but got "
                f"{str(signals)[:60]}"
            )
        if not whole(first, run.first, run.last) or not whole(last, first, run.last) or last - first > MOST_CYCLES:
            raise InvalidInputError(
                f"a window is two cycles from {run.first} to {run.last} in order, at most {MOST_CYCLES} apart, but got "
                f"{str(first)[:40]} and {str(last)[:40]}"
            )
        if self._seen is None or not (self._seen.first <= first and last <= self._seen.last):
            self._seen = run.window(first, last)
            if [(signal.scope, signal.name) for signal in self._seen.signals] != self._names:
                raise InvalidInputError(
                    "the windows of a run have the same signals, but these differ; make the run again"
                )
        return {"first": first, "last": last, "signals": [_part(self._seen, one, first, last) for one in signals]}

    def _run_in_words(self, waves: Waves) -> dict[str, Any]:
        assert self._seen is not None
        return {
            "first": waves.first,
            "last": waves.last,
            "cycle_ns": waves.cycle_ns,
            "signals": [[signal.scope, signal.name, signal.width] for signal in self._seen.signals],
            "instructions": [
                [one.address, one.instruction, one.layer, one.begin, one.got, one.expected]
                for one in waves.instructions
            ],
        }

    def _chosen(self, wanted: Sequence[str]) -> list[int]:
        """The numbers of the signals of these names, or of the usual ones; where a name is met twice, the first."""
        full = [f"{scope}.{name}" for scope, name in self._names]

        def found(name: str) -> int | None:
            return next((at for at, one in enumerate(full) if one == name or one.endswith(f".{name}")), None)

        missing = [name for name in wanted if found(name) is None]
        if missing:
            raise InvalidInputError(f"signals have names of this run, but it has no {', '.join(map(repr, missing))}")
        numbers = [at for name in wanted or USUAL if (at := found(name)) is not None]
        return list(dict.fromkeys(numbers))[:MOST_SIGNALS]


def _part(seen: Window, number: int, first: int, last: int) -> dict[str, Any]:
    """What a signal is from cycle ``first`` to ``last``: binary, for a page."""
    changes = seen.changes(number, first, last)
    return {
        "id": number,
        "times": np.ascontiguousarray(changes.times, "<i4").tobytes(),
        "value": np.ascontiguousarray(changes.value).tobytes(),
        "unknown": np.ascontiguousarray(changes.unknown).tobytes(),
    }
