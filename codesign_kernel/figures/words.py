"""How designs and objectives read: names, units and the one-line description of a design."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import quantity, three_digits


class Objective(NamedTuple):
    """A result column of a sweep. ``to_base`` turns its values into ``unit`` without a prefix (s, J, m², W)."""

    column: str
    label: str
    to_base: float
    unit: str
    better: str = "lower"

    def text(self, value: float) -> str:
        """``value`` of this column as an engineer writes it."""
        if self.unit == "":
            return f"{three_digits(100 * value)} %"
        return quantity(float(value) * self.to_base, self.unit)


OBJECTIVES: Mapping[str, Objective] = {
    o.column: o
    for o in (
        Objective("latency_ms", "Latency", 1e-3, "s"),
        Objective("latency_cycle", "Latency", 1.0, "cycle"),
        Objective("energy_uj", "Energy", 1e-6, "J"),
        Objective("area_mm2", "Area", 1e-6, "m²"),
        Objective("power_mw", "Power", 1e-3, "W"),
        Objective("utilization", "Utilisation", 1.0, "", "higher"),
    )
}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


class Scale(NamedTuple):
    """An axis: values of a column times ``factor`` are in ``unit``; ``log`` where they span more than two decades."""

    label: str
    factor: float
    unit: str
    log: bool
    better: str

    @property
    def title(self) -> str:
        """``Latency (ms, log scale), lower is better``."""
        unit = ", ".join(word for word in (self.unit, "log scale" if self.log else "") if word)
        return f"{self.label} ({unit}), {self.better} is better" if unit else f"{self.label}, {self.better} is better"


def objective(column: str) -> Objective:
    """The objective of a sweep's ``column``.

    Raises:
        InvalidInputError: there is no such objective.
    """
    if column not in OBJECTIVES:
        raise InvalidInputError(f"an objective is one of {', '.join(OBJECTIVES)}, but got {column!r}")
    return OBJECTIVES[column]


def scale(column: str, values: Iterable[float]) -> Scale:
    """The axis for ``values`` (all above 0 and finite ones count) of ``column``: its prefix, and linear or log."""
    what = objective(column)
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    low, high = (min(positive), max(positive)) if positive else (1.0, 1.0)
    log = high / low > 100
    if what.unit in ("", "cycle"):
        return Scale(
            what.label, 100.0 if what.unit == "" else 1.0, "%" if what.unit == "" else "cycles", log, what.better
        )
    if what.unit == "m²":
        small = high * what.to_base < 1e-8
        return Scale(what.label, what.to_base * (1e12 if small else 1e6), "µm²" if small else "mm²", log, what.better)
    typical = math.sqrt(low * high) * what.to_base
    step, prefix = next(((s, p) for s, p in _PREFIXES if typical >= s), _PREFIXES[-1])
    return Scale(what.label, what.to_base / step, prefix + what.unit, log, what.better)


#: Parameters of a design in the order in which they are told, and the words around the number.
_PARAMETERS: Sequence[tuple[str, str]] = (
    ("weight_kib", "{} KiB weights"),
    ("activation_kib", "{} KiB activations"),
    ("accumulator_kib", "{} KiB accumulators"),
    ("bandwidth_gb_s", "{} GB/s"),
    ("frequency_mhz", "{} MHz"),
    ("node_nm", "{} nm"),
    ("memory_latency", "memory {} cycles late"),
    ("weight_bits", "{} bit"),
    ("min_weight_bits", "weights from {} bit"),
    ("dataflow", "{}"),
)
#: Values that go without saying.
UNTOLD = {"min_weight_bits": 0}
PARAMETERS = ("rows", "cols", *(name for name, _ in _PARAMETERS))


def design_words(row: Mapping[Any, Any], keep: Iterable[str] = PARAMETERS) -> str:
    """A design in one line: ``16 × 16 PEs, 64 KiB weights, 200 MHz``.

    Args:
        row: a row of a sweep, or any mapping with some of the parameters.
        keep: the parameters to tell; rows and cols are told always.
    """
    parts = [f"{int(row['rows'])} × {int(row['cols'])} PEs"] if "rows" in row and "cols" in row else []
    wanted = set(keep)
    told = [
        (row[name], words)
        for name, words in _PARAMETERS
        if name in wanted and name in row and row[name] != UNTOLD.get(name)
    ]
    return ", ".join([*parts, *(words.format(v if isinstance(v, str) else f"{float(v):g}") for v, words in told)])


def phrases(columns: Iterable[str]) -> list[tuple[str, str]]:
    """(column, words around its number) of those ``columns`` that :func:`design_words` tells, in its order."""
    given = set(columns)
    return [(name, words) for name, words in _PARAMETERS if name in given]


#: Keeps a number and its unit on one line.
_NO_BREAK = "\u00a0"


def percent(share: float) -> str:
    """A share of 1 as whole percent, with ``< 1 %`` and ``> 99 %`` where rounding would lie."""
    if 0 < share < 0.01:
        number = f"<{_NO_BREAK}1"
    elif 0.99 < share < 1:
        number = f">{_NO_BREAK}99"
    else:
        number = f"{100 * share:.0f}"
    return f"{number}{_NO_BREAK}%"


def times(ratio: float) -> str:
    """A ratio of at least 1: ``4.1 ×``."""
    return f"{ratio:.0f}{_NO_BREAK}×" if ratio >= 20 else f"{ratio:.1f}{_NO_BREAK}×"


def band(low: float, high: float, unit: str) -> str:
    """The band of an estimate: ``144 to 182 nJ``."""
    first, last = quantity(low, unit), quantity(high, unit)
    number, _, suffix = first.rpartition(" ")
    return f"{number} to {last}" if last.endswith(f" {suffix}") else f"{first} to {last}"


def short(name: str, length: int = 18) -> str:
    """The end of a long name, which tells layers apart: ``…block.conv.1``."""
    return name if len(name) <= length else f"…{name[1 - length :]}"
