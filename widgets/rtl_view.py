"""What a reader of sources and waveforms has chosen, as a page sent it: made lawful, whatever it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

RADIXES = ("hex", "bin", "unsigned", "signed", "ascii")
#: Signals shown at a time, cycles at once, and characters that are looked for.
MOST_SIGNALS, MOST_CYCLES, MOST_TEXT = 64, 2000, 200


class Limits(NamedTuple):
    """What there is: lines by file, signals, and the first and last cycle."""

    lines: Mapping[str, int]
    languages: Sequence[str]
    signals: int
    first: int
    last: int


def whole(value: object, low: int, high: int) -> bool:
    """Whether ``value`` is an integer from ``low`` to ``high``."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)


def lawful(view: object, before: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """``view`` with all that is not lawful as in ``before``, which is."""
    given: Mapping[Any, Any] = view if isinstance(view, Mapping) else {}
    kept = dict(before)
    if isinstance(given.get("language"), str) and given["language"] in limits.languages:
        kept["language"] = given["language"]
    file = given.get("file")
    if isinstance(file, str) and file in limits.lines:
        line = given.get("line")
        kept["file"], kept["line"] = file, line if whole(line, 1, limits.lines[file]) else 1
    find = given.get("find")
    if isinstance(find, Mapping) and isinstance(find.get("text"), str) and len(find["text"]) <= MOST_TEXT:
        kept["find"] = {"text": find["text"], "regex": find.get("regex") is True, "case": find.get("case") is True}
    if isinstance(given.get("signals"), list | tuple):
        kept["signals"] = _signals(given["signals"], limits)
    if (window := window_in(given.get("window"), limits)) is not None:
        kept["window"] = window
    cursors = given.get("cursors")
    if isinstance(cursors, list | tuple) and len(cursors) == 2 and all(at is None or _finite(at) for at in cursors):
        kept["cursors"] = [at if at is None else min(max(at, limits.first), limits.last + 1) for at in cursors]
    return kept


def _signals(given: Sequence[Any], limits: Limits) -> list[dict[str, Any]]:
    chosen: dict[int, str] = {}
    for one in given[: 4 * MOST_SIGNALS]:
        if isinstance(one, Mapping) and whole(one.get("id"), 0, limits.signals - 1):
            radix = one.get("radix")
            chosen.setdefault(one["id"], radix if isinstance(radix, str) and radix in RADIXES else RADIXES[0])
    return [{"id": number, "radix": radix} for number, radix in list(chosen.items())[:MOST_SIGNALS]]


def window_in(window: object, limits: Limits) -> list[float] | None:
    """``window`` moved and cut to what there is, (from, to) in cycles; ``None`` where it is none."""
    if not isinstance(window, list | tuple) or len(window) != 2 or not all(map(_finite, window)):
        return None
    low, high = window
    if not low < high:
        return None
    span = min(max(high - low, 2.0), MOST_CYCLES, limits.last + 1 - limits.first)
    low = min(max(low, limits.first), limits.last + 1 - span)
    return [low, low + span]
