"""The arguments of blocks: signals, lists of signals, objects with signals in them (interfaces), and plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from myhdl import ConversionError, ResetSignal, Signal
from myhdl._Signal import _isListOfSigs, _Signal


def key_of(value: Any) -> Any:
    """What tells a signal or a list of signals from others."""
    return id(value) if isinstance(value, _Signal) else tuple(map(id, value))


def each(value: Any) -> Sequence[_Signal]:
    return [value] if isinstance(value, _Signal) else value


def kind_of(signal: _Signal) -> str:
    if signal._type is bool:
        return "bit"
    return "signed" if signal._min is not None and signal._min < 0 else "unsigned"


def is_nested(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_isListOfSigs(inner) for inner in value)


def is_interface(value: Any) -> bool:
    return (
        not isinstance(value, _Signal | type | ModuleType)
        and hasattr(value, "__dict__")
        and any(isinstance(part, _Signal) for part in vars(value).values())
    )


def signals_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The signals and lists of signals of an argument, by the names that they have as ports."""
    if isinstance(value, _Signal) or _isListOfSigs(value):
        yield name, value
    elif is_interface(value):
        for part, signal in vars(value).items():
            yield from signals_of(f"{name}_{part}", signal)


def formals_of(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The ports of a block with ``arguments``, each signal under the first of its names."""
    seen = set()
    for name, argument in arguments.items():
        for path, value in signals_of(name, argument):
            if key_of(value) not in seen:
                seen.add(key_of(value))
                yield path, value


def likeness(value: Any, numbering: dict[int, int]) -> Any:
    """What two arguments have in common that give the same module."""
    if isinstance(value, _Signal):
        number = numbering.setdefault(id(value), len(numbering))
        start = value._init
        reset = (value.active, value.isasync) if isinstance(value, ResetSignal) else None
        return "signal", number, type(start).__name__, value._nrbits, value._min, value._max, repr(start), reset
    if _isListOfSigs(value):
        return "list", tuple(likeness(signal, numbering) for signal in value)
    if is_interface(value):
        return type(value), tuple((name, likeness(part, numbering)) for name, part in vars(value).items())
    try:
        hash(value)
    except TypeError as error:
        raise ConversionError(f"an argument of a block must be hashable, but {value!r} is not") from error
    return type(value), value


def fresh(value: Any, made: dict[int, _Signal]) -> Any:
    """``value`` with signals of the same kind in place of its own."""
    if isinstance(value, _Signal):
        if id(value) not in made:
            reset = isinstance(value, ResetSignal)
            made[id(value)] = (
                ResetSignal(int(value._init), value.active, value.isasync) if reset else Signal(value._init)
            )
        return made[id(value)]
    if _isListOfSigs(value):
        return [fresh(signal, made) for signal in value]
    if is_interface(value):
        copy = object.__new__(type(value))
        copy.__dict__.update({name: fresh(part, made) for name, part in vars(value).items()})
        return copy
    return value
