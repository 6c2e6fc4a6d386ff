"""The parameters that can be chosen, and the check of values that come from a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from codesign_kernel.errors import InvalidInputError


class Control(NamedTuple):
    """One parameter of a design.

    Attributes:
        name: of the parameter. label, unit, help: what a person reads; ``help`` explains the term in one sentence.
        values: positions of the slider, rising; anything between the first and the last can be typed in.
        default: one of ``values``.
        whole: only integers make sense.
    """

    name: str
    label: str
    unit: str
    values: tuple[float, ...]
    default: float
    help: str
    whole: bool = False


def _doubling(first: float, count: int) -> tuple[float, ...]:
    return tuple(first * 2**i for i in range(count))


#: The parameters of the systolic template.
CONTROLS = (
    Control(
        "rows",
        "Rows",
        "PE",
        _doubling(2, 7),
        16,
        "Processing elements along the reduction: input channels times filter taps.",
        True,
    ),
    Control("cols", "Columns", "PE", _doubling(2, 7), 16, "Processing elements along the output channels.", True),
    Control("activation_kib", "Activation memory", "KiB", _doubling(1, 11), 64, "On-chip memory for feature maps."),
    Control(
        "weight_kib",
        "Weight memory",
        "KiB",
        _doubling(2, 12),
        64,
        "On-chip memory for weights and requantiser parameters.",
    ),
    Control("accumulator_kib", "Accumulator memory", "KiB", _doubling(0.5, 10), 8, "On-chip memory for partial sums."),
    Control(
        "instruction_kib",
        "Instruction memory",
        "KiB",
        _doubling(1, 12),
        4,
        "On-chip memory for the program of one inference.",
    ),
    Control(
        "bandwidth_gb_s", "External bandwidth", "GB/s", _doubling(0.8, 6), 3.2, "What the external memory delivers."
    ),
    Control("frequency_mhz", "Clock", "MHz", _doubling(50, 5), 200, "Clock frequency of the whole accelerator."),
)

#: Those that the surroundings give rather than the designer: what the memory delivers, and what the process allows.
CONDITIONS = ("bandwidth_gb_s", "frequency_mhz")


def check(controls: Iterable[Control], values: Any) -> dict[str, float]:
    """``values`` as a whole and lawful set of parameters: untrusted data in, numbers within their ranges out.

    Raises:
        InvalidInputError: something is missing, unknown, not a number, or out of range; the message names the control.
    """
    known = {control.name: control for control in controls}
    if not isinstance(values, dict) or set(values) != set(known):
        raise InvalidInputError(f"a design has a value for each of {', '.join(known)}, and for nothing else")
    return {name: _number(control, values[name]) for name, control in known.items()}


def _number(control: Control, value: Any) -> float:
    low, high = control.values[0], control.values[-1]
    # NaN compares as false, so it is out of range as well
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidInputError(
            f"{control.name} lies between {low:g} and {high:g} {control.unit}, but got {str(value)[:40]!r}"
        )
    if control.whole:
        if value != int(value):
            raise InvalidInputError(f"{control.name} is a whole number of {control.unit}, but got {value:g}")
        return int(value)
    return float(value)
