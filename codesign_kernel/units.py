"""Units: the suffixes used in names, and the one formatter that turns a number into what a person reads.

Names carry their unit as a suffix: ``_pj`` picojoule, ``_um2`` square micrometre, ``_kib`` kibibyte (1024 byte),
``_gb_s`` gigabyte (10^9 byte) a second, ``_mhz``, ``_ns``, ``_bit``, ``_cycle``.
"""

import math

BIT_PER_KIB = 8 * 1024

_PREFIXES = [
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
]


def three_digits(value: float) -> str:
    """``value`` with three significant digits and no exponent: ``1.24``, ``12.5``, ``420``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def quantity(value: float, unit: str) -> str:
    """``value`` in the base ``unit`` as an engineer writes it: ``quantity(0.00124, "s") == "1.24 ms"``.

    Args:
        value: the number, in ``unit`` without a prefix (s, J, W, MAC, GB/s ...).
        unit: the unit's symbol. ``"m²"`` is scaled by the square of the prefix; ``"B"`` in powers of 1024;
            ``"cycle"`` is written out with thousands separated.
    """
    if not math.isfinite(value):
        return f"{value} {unit}"
    if unit == "cycle":
        return f"{value:,.0f} cycles"
    if unit == "B":
        for step, prefix in ((2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki")):
            if abs(value) >= step:
                return f"{three_digits(value / step)} {prefix}B"
        return f"{three_digits(value)} B"
    if unit == "m²":
        if abs(value) < 1e-8 and value != 0:
            return f"{three_digits(value * 1e12)} µm²"
        return f"{three_digits(value * 1e6)} mm²"
    if value == 0:
        return f"0 {unit}"
    for scale, prefix in _PREFIXES:
        # 999.6 rounds to 1000 at three digits, so it belongs to the next prefix
        if abs(value) >= scale * 0.9995:
            return f"{three_digits(value / scale)} {prefix}{unit}"
    scale, prefix = _PREFIXES[-1]
    return f"{three_digits(value / scale)} {prefix}{unit}"


#: Suffix of a column's name -> (what turns its values into the base unit, the base unit).
SUFFIXES = {
    "_cycle": (1.0, "cycle"),
    "_s": (1.0, "s"),
    "_ms": (1e-3, "s"),
    "_us": (1e-6, "s"),
    "_ns": (1e-9, "s"),
    "_j": (1.0, "J"),
    "_mj": (1e-3, "J"),
    "_uj": (1e-6, "J"),
    "_nj": (1e-9, "J"),
    "_pj": (1e-12, "J"),
    "_w": (1.0, "W"),
    "_mw": (1e-3, "W"),
    "_mm2": (1e-6, "m²"),
    "_um2": (1e-12, "m²"),
}


def column_text(name: str, value: float) -> str:
    """``value`` of a column whose name ends in its unit: ``column_text("latency_ms", 1.2) == "1.20 ms"``.

    The number alone, with three digits, where the name has no such suffix.
    """
    # gigabytes a second are a rate, no time
    known = SUFFIXES.get("_" + name.rpartition("_")[2]) if not name.endswith("_gb_s") else None
    scale, unit = known or (1.0, "")
    return quantity(float(value) * scale, unit) if unit else three_digits(float(value))


def column_word(name: str) -> str:
    """The name of a column without its unit: ``column_word("latency_ms") == "latency"``."""
    head, _, tail = name.rpartition("_")
    return (head if head and f"_{tail}" in SUFFIXES else name).replace("_", " ")
