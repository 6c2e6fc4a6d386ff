"""What the rule of an ONNX operator is handed, and the mistakes it can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.onnx_file.structure import Initializer, Node
from codesign_kernel.profiler.trace import Recorder

#: More elements than this no tensor of a network has (2 ** 48 bytes would be 256 TiB); products stay far from 2 ** 63.
LARGEST = 1 << 48


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: on the meta device, with its values beside it where they are known and few."""

    tensor: Tensor
    data: Tensor | None = None


@dataclass(frozen=True)
class Call:
    """A node that is being run. ``values``: its inputs, None where one is left out. ``folding``: on known values."""

    node: Node
    values: list[Value | None]
    recorder: Recorder
    opset: int
    folding: bool = False

    def wrong(self, law: str) -> InvalidInputError:
        """The error of a node that breaks ``law``."""
        shapes = [tuple(value.tensor.shape) if value else None for value in self.values]
        return InvalidInputError(f"{self.node.title}, given {shapes}: {law}; export the network again")

    def has(self, i: int) -> bool:
        """Whether input ``i`` is given."""
        return i < len(self.values) and self.values[i] is not None

    def value(self, i: int) -> Value:
        """Input ``i``."""
        if not self.has(i) or (value := self.values[i]) is None:
            raise self.wrong(f"input {i} is required but missing")
        return value

    def x(self, i: int = 0) -> Tensor:
        """Input ``i`` as a tensor; its values where the node is folded."""
        value = self.value(i)
        return value.data if self.folding and value.data is not None else value.tensor

    def all(self) -> list[Tensor]:
        """Every input that is given."""
        return [self.x(i) for i in range(len(self.values)) if self.has(i)]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, of the kind that ``default`` has."""
        value = self.node.attributes.get(name)
        if value is None:
            return default
        kinds = {int: (int,), float: (int, float), str: (str,), list: (list,)}.get(type(default))
        if kinds and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise self.wrong(f"attribute {name} is {type(default).__name__}, but is {str(value)[:60]!r}")
        return value

    def known(self, i: int) -> Tensor:
        """The values of input ``i``."""
        data = self.value(i).data
        if data is None:
            raise self.wrong(f"input {i} says a shape or an axis and must be known without running the network")
        return data

    def ints(self, i: int, attribute: str = "", default: list[int] | None = None) -> list[int]:
        """Integers that newer operator sets take as input ``i`` and older ones as an attribute."""
        if attribute and attribute in self.node.attributes:
            found = self.attribute(attribute, [])
            if not all(isinstance(item, int) for item in found):
                raise self.wrong(f"attribute {attribute} holds integers")
            return list(found)
        if self.has(i):
            return [int(item) for item in self.known(i).reshape(-1).tolist()]
        return list(default or [])

    def number(self, i: int, attribute: str, default: float) -> float:
        """A number that newer operator sets take as input ``i`` and older ones as an attribute."""
        if self.has(i):
            data = self.known(i)
            if data.numel() != 1:
                raise self.wrong(f"input {i} is one number")
            return float(data)
        return float(self.attribute(attribute, default))

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise self.wrong(f"axis {axis} is within the {rank} dimensions of its input")
        return axis % max(rank, 1)

    def empty(self, shape: list[int] | tuple[int, ...], like: Tensor) -> Tensor:
        """A result of ``shape``, of the type of ``like``."""
        size = 1
        for extent in shape:
            size *= extent
            if extent < 1 or size > LARGEST:
                raise self.wrong(f"a result of shape {tuple(shape)[:8]} is empty or larger than any memory")
        return torch.empty(tuple(shape), dtype=like.dtype, device="meta")

    def tensor(self, name: str) -> Initializer | None:
        """A tensor attribute."""
        value = self.node.attributes.get(name)
        return value if isinstance(value, Initializer) else None
