"""What a traced forward pass leaves behind: operators and the tensors between them, without torch or values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class TensorRef:
    """A tensor that an operator read or made.

    Attributes:
        storage: number of the memory it lives in; views of one tensor share it.
        shape: in elements. itemsize: bytes an element.
        whole: it covers all of its storage.
    """

    storage: int
    shape: tuple[int, ...]
    itemsize: int
    whole: bool = True

    @property
    def size(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes, counted as if every element were stored (an expanded view counts in full)."""
        return self.size * self.itemsize


@dataclass(frozen=True)
class Event:
    """One operator as it ran.

    Attributes:
        op: base name (``relu`` for ``relu_``; ``namespace::name`` outside ATen).
        args: by schema name; tensors as TensorRef, sequences as lists.
        outputs: tensors returned. written: tensors changed in place.
        path: innermost module; call: number of that module's call; leaf: the module has no children.
    """

    op: str
    args: dict[str, Any]
    outputs: tuple[TensorRef, ...]
    written: tuple[TensorRef, ...]
    path: str
    call: int
    leaf: bool

    @property
    def reads(self) -> tuple[TensorRef, ...]:
        """Tensor operands in the order of the schema."""
        return tuple(_flatten(self.args.values()))


@dataclass(frozen=True)
class Parameter:
    """A parameter of the model; one that is registered under several names appears once."""

    name: str
    storage: int
    size: int
    bytes: int


@dataclass(frozen=True)
class Trace:
    """A forward pass: operators in order, the tensors passed in, the model's parameters, the tensors returned."""

    events: tuple[Event, ...]
    inputs: tuple[TensorRef, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[TensorRef, ...] = ()


def _flatten(values: Any) -> Iterator[TensorRef]:
    for value in values:
        if isinstance(value, TensorRef):
            yield value
        elif isinstance(value, list):
            yield from _flatten(value)
