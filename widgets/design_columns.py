"""Columns of a table of designs: how they read, and how they travel to a page as binary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.words import OBJECTIVES, PARAMETERS
from codesign_kernel.units import SUFFIXES, column_word
from codesign_widgets.controls import CONTROLS

#: A column of at most so many different values travels as a byte a design, and its axis has a tick for each.
FEW = 64
#: Columns that a page shows at most.
MOST = 32
_SYMBOLS = {"_ms": "ms", "_us": "µs", "_ns": "ns", "_s": "s", "_j": "J", "_mj": "mJ", "_uj": "µJ", "_nj": "nJ",
            "_pj": "pJ", "_w": "W", "_mw": "mW", "_mm2": "mm²", "_um2": "µm²", "_cycle": "cycles", "_kib": "KiB",
            "_mhz": "MHz", "_nm": "nm", "_bits": "bit"}  # fmt: skip
_SHARES = ("utilization", "accuracy", "top1")
_APART = ("feasible", "reason")


class Column(NamedTuple):
    """One column as a page shows it.

    Attributes:
        name, label, unit: of the column, of its axis, of the numbers on it. factor: from the column's numbers to those.
        base, base_unit: from the column's numbers to a unit without prefix, and that unit; "" where there is none.
        better: "lower", "higher", or "" for what is chosen and no result.
        result: it is worked out of the others. text: its values are texts.
    """

    name: str
    label: str
    unit: str
    factor: float
    base: float
    base_unit: str
    better: str
    result: bool
    text: bool


def describe(name: str, series: Any, directions: Mapping[str, str]) -> Column:
    """How the column ``name`` reads; ``directions``: "min" or "max" by objective."""
    text = series.dtype.kind not in "iuf"
    control = next((control for control in CONTROLS if control.name == name), None)
    known = OBJECTIVES.get(name)
    tail = "_" + name.rpartition("_")[2]
    base, base_unit = (1.0, "") if name.endswith("_gb_s") else SUFFIXES.get(tail, (1.0, ""))
    label = control.label if control else known.label if known else _word(name)
    result = known is not None or name in directions or name in _SHARES or (not control and base_unit != "")
    if name in _SHARES:
        return Column(name, label, "%", 100.0, 1.0, "%", _better(name, directions), True, text)
    unit = "GB/s" if name.endswith("_gb_s") else control.unit if control else _SYMBOLS.get(tail, "")
    better = _better(name, directions) if result else ""
    return Column(name, label, unit, 1.0, base, base_unit, better, result, text)


def _word(name: str) -> str:
    head, _, tail = name.rpartition("_")
    word = column_word(name) if f"_{tail}" not in _SYMBOLS or not head else head.replace("_", " ")
    return f"{word[:1].upper()}{word[1:]}"


def _better(name: str, directions: Mapping[str, str]) -> str:
    if name in directions:
        return "higher" if directions[name] == "max" else "lower"
    return OBJECTIVES[name].better if name in OBJECTIVES else "higher" if name in _SHARES else "lower"


def choose(frame: Any, objectives: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """The columns to show, what is chosen before what comes out: ``wanted``, or those that tell designs apart.

    Raises:
        InvalidInputError: a column is not there, or there are more than ``MOST``.
    """
    names = [str(name) for name in frame.columns]
    asked = [*objectives, *(wanted or ())]
    missing = [name for name in asked if name not in names]
    if missing:
        raise InvalidInputError(f"the designs have the columns {', '.join(names)}, but not {', '.join(missing)}")
    if wanted is None:
        wanted = [name for name in names if name not in objectives and _tells(frame[name], name, names)]
    ordered = [*dict.fromkeys([*sorted(wanted, key=_rank), *objectives])]
    chosen = [*(n for n in ordered if not _is_result(n, objectives)), *objectives]
    chosen += [n for n in ordered if n not in chosen]
    if len(chosen) > MOST:
        raise InvalidInputError(
            f"a page shows at most {MOST} columns, but there are {len(chosen)}; name some: columns="
        )
    return chosen


def _rank(name: str) -> int:
    return PARAMETERS.index(name) if name in PARAMETERS else len(PARAMETERS)


def _is_result(name: str, objectives: Sequence[str]) -> bool:
    return name in objectives or name in OBJECTIVES or name in _SHARES


def _tells(series: Any, name: str, names: Sequence[str]) -> bool:
    """Whether a column tells designs apart: no band of another, no other unit of the same, not the same everywhere."""
    if name in _APART or "_low_" in name or "_high_" in name or (name == "latency_cycle" and "latency_ms" in names):
        return False
    different = series.nunique()
    return bool(different > 1) and (series.dtype.kind in "iuf" or different <= FEW)


def encode(series: Any, result: bool) -> dict[str, Any]:
    """A column as binary: {"kind": "codes", "values": sorted, "data": uint8 a design}, or ``as_numbers``; a ``result``
    is of numbers always, as they change.

    Raises:
        InvalidInputError: texts of more than ``FEW`` kinds.
    """
    if series.dtype.kind in "iuf":
        numbers = series.to_numpy(dtype=float, na_value=np.nan)
        if result or not _few(numbers) or not np.isfinite(numbers).all():
            return as_numbers(numbers)
        values, codes = np.unique(numbers, return_inverse=True)
        return {"kind": "codes", "values": values.tolist(), "data": codes.astype(np.uint8).tobytes()}
    kinds, codes = np.unique(series.astype(str).to_numpy(dtype=str), return_inverse=True)
    if len(kinds) > FEW:
        raise InvalidInputError(f"a column of texts has at most {FEW} kinds, but {series.name!r} has {len(kinds)}")
    return {"kind": "codes", "values": [str(kind) for kind in kinds], "data": codes.astype(np.uint8).tobytes()}


def as_numbers(numbers: Any) -> dict[str, Any]:
    """{"kind": "numbers", "data": float64 a design}, or where that loses nothing {"kind": "singles", float32}."""
    with np.errstate(over="ignore"):
        singles = numbers.astype(np.float32)
    if np.array_equal(singles.astype(np.float64), numbers, equal_nan=True):
        return {"kind": "singles", "data": singles.tobytes()}
    return {"kind": "numbers", "data": numbers.tobytes()}


def _few(numbers: Any) -> bool:
    """Whether there may be few different values: a look at some of them spares sorting the rest."""
    return len(np.unique(numbers[:4096])) <= FEW and len(np.unique(numbers)) <= FEW


def span(series: Iterable[float]) -> list[float]:
    """[least, most] of the finite numbers; empty where there are none."""
    numbers = np.asarray(series, dtype=float)
    finite = numbers[np.isfinite(numbers)]
    return [float(finite.min()), float(finite.max())] if len(finite) else []
