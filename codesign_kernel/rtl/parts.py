"""What a converted hierarchy consists of, before it has its final text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Port:
    """A port of a module: ``kind`` is bit, unsigned or signed; ``is_read`` says whether the module reads it."""

    name: str
    kind: str
    width: int
    is_output: bool = False
    is_register: bool = False
    is_read: bool = True


@dataclass(frozen=True)
class Vector:
    """A list of signals inside of a module as one signal, or ``depth`` such lists as an array of these."""

    name: str
    kind: str
    width: int
    depth: int | None


@dataclass(frozen=True)
class Actual:
    """What an instance has at ``port``: a signal by its name, whether its module reads it, its port if it is one."""

    port: str
    signal: str
    is_read: bool
    outer: str | None


@dataclass
class Instance:
    """``module`` as ``name`` in another one."""

    module: Module
    name: str
    actuals: list[Actual] = field(default_factory=list)


@dataclass
class Module:
    """A block as MyHDL converted it, before it has its final name.

    Attributes:
        function: what the block was made by.
        numbers: its plain integer arguments, widths of ports and integers among its variables, by name.
        variant: its arguments that are text: they tell its variants apart, and are a part of the name.
        text: as MyHDL wrote it; a line ``@n@`` stands for ``instances[n]``.
    """

    function: Callable[..., Any]
    numbers: dict[str, int]
    variant: str
    ports: list[Port] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    text: str = ""
