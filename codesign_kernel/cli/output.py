"""What a command hands back, and its two forms: text and JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """A command's result.

    Attributes:
        text: for people, printed without ``--json``.
        body: for programs, printed with ``--json``.
        passed: whether what the command set out to prove holds; decides between exit status 0 and 1.
    """

    text: str
    body: Mapping[str, object]
    passed: bool = True


def rows_text(rows: Iterable[tuple[object, object]]) -> str:
    """Two columns, label and value, the labels padded to the longest."""
    pairs = [(str(label), str(value)) for label, value in rows]
    width = max((len(label) for label, _ in pairs), default=0)
    return "\n".join(f"{label:<{width}}  {value}".rstrip() for label, value in pairs)


def table_text(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table in plain text: the first ``left`` columns to the left, all others to the right."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def plain(value: object) -> object:
    """``value`` in JSON's own types: arrays become lists, NaN and infinities null, paths strings.

    Raises:
        TypeError: a type that has no such form.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    tolist = getattr(value, "tolist", None)  # numpy scalars and arrays, pandas series
    if callable(tolist):
        return plain(tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON")
