"""What a selection of designs comes to, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codesign_kernel.figures.words import design_words, percent, times
from codesign_kernel.units import column_text, column_word, three_digits
from codesign_widgets.design_columns import Column

#: What differs by less than this share is the same.
_SAME = 1e-3


def value_text(name: str, value: Any) -> str:
    """A value of a column: ``1.20 ms``, ``41.0 %``, ``os``."""
    if isinstance(value, str):
        return value
    if name in ("utilization", "accuracy", "top1"):
        return f"{three_digits(100 * float(value))} %"
    return column_text(name, float(value))


def told(row: Mapping[Any, Any], columns: Iterable[str]) -> str:
    """``latency 1.20 ms, energy 41.0 µJ``."""
    return ", ".join(f"{column_word(name)} {value_text(name, row[name])}" for name in columns)


def knee_words(knee: Any, rows: Any, directions: Mapping[str, str], parameters: Sequence[str]) -> str:
    """The most balanced design, and how far it is from the best of each objective among ``rows``."""
    parts = []
    for name, way in directions.items():
        value, best = float(knee[name]), float(rows[name].min() if way == "min" else rows[name].max())
        worse = "the best" if abs(value - best) <= _SAME * abs(best) else f"the best is {value_text(name, best)}"
        parts.append(f"{column_word(name)} {value_text(name, value)} ({worse})")
    return f"The knee is design {knee.name}, {design_words(knee, parameters)}: {', '.join(parts)}."


def limits_words(ranges: Mapping[str, tuple[Any, Any]], columns: Mapping[str, Column]) -> str:
    """The limits that hold: ``latency at most 1.20 ms, rows 8 to 16``."""
    parts = []
    for name, (low, high) in ranges.items():
        column = columns[name]
        word, least, most = column.label.lower(), _limit(column, low), _limit(column, high)
        given = f"at most {most}" if low is None else f"at least {least}" if high is None else f"{least} to {most}"
        parts.append(f"{word} {least if low == high else given} {column.unit}".strip())
    return ", ".join(parts)


def _limit(column: Column, value: Any) -> str:
    return str(value) if value is None or isinstance(value, str) else f"{float(f'{value * column.factor:.4g}'):g}"


def against(
    first: Any, other: Any, results: Sequence[str], parameters: Sequence[str], columns: Mapping[str, Column]
) -> str:
    """What another design has beside the first, results before what was chosen."""
    words = {name: columns[name].label.lower() for name in [*results, *parameters]}
    parts = [_beside(words[name], name, float(first[name]), float(other[name])) for name in results]
    said = [part for part in parts if part]
    same = [words[name] for name, part in zip(results, parts, strict=True) if not part]
    if same:
        said.append(f"the same {', '.join(same)}")
    changes = [
        f"{words[name]} {_plain(first[name])} → {_plain(other[name])} {columns[name].unit}".strip()
        for name in parameters
        if first[name] != other[name]
    ]
    return f"{'; '.join(said)}. {('Changed: ' + ', '.join(changes)) if changes else 'No parameter differs'}."


def _beside(word: str, name: str, old: float, new: float) -> str:
    """``latency 2.1 × as much (1.24 ms → 2.60 ms)``, ``latency 21 % less (...)``; "" where it is the same."""
    if old != old or new != new:
        return f"{word} unknown of one"
    if abs(new - old) <= _SAME * abs(old):
        return ""
    texts = f"({value_text(name, old)} → {value_text(name, new)})"
    if old > 0 and new >= 2 * old:
        return f"{word} {times(new / old)} as much {texts}"
    share = abs(new - old) / (abs(old) or 1.0)
    return f"{word} {percent(share)} {'more' if new > old else 'less'} {texts}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):g}"
