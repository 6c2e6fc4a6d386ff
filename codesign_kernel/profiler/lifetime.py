"""How much memory activations need at once, from the order of execution and who reads what. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class Activation(NamedTuple):
    """A tensor between layers, or one that goes into the network, and when it is alive.

    Attributes:
        producer: the layer that makes it, by position; of a network input -1 for the first, -2 for the second, ...
        bytes: its size. readers: the layers that read it, rising. last: the last layer during which it is alive.
    """

    producer: int
    bytes: int
    readers: tuple[int, ...]
    last: int

    @property
    def first(self) -> int:
        """The first layer during which it is alive."""
        return max(self.producer, 0)


def activations(
    inputs: Sequence[int], outputs: Sequence[int], reads: Sequence[Collection[int]], kept: Collection[int]
) -> tuple[Activation, ...]:
    """Each network input, and each layer's output in the order of execution, with the time that it lives.

    A layer's output is alive from that layer to the last one that reads it, both included; a network input from the
    first layer on; what the network returns to the last layer. So a residual is counted as long as its addition is
    ahead, and every layer holds its inputs and its output at once, also where torch would write in place.

    Args:
        inputs: bytes of each network input. outputs: bytes of each layer's output, in the order of execution.
        reads: for each layer the layers it reads (by position) and the network inputs (-1 for the first, -2, ...).
        kept: what the network returns, numbered in the same way.
    """
    size = {**{-1 - i: extent for i, extent in enumerate(inputs)}, **dict(enumerate(outputs))}
    readers: dict[int, list[int]] = {number: [] for number in size}
    for layer, sources in enumerate(reads):
        for source in sources:
            readers[source].append(layer)
    end = max(len(outputs) - 1, 0)
    return tuple(
        Activation(number, extent, tuple(readers[number]), end if number in kept else max(number, 0, *readers[number]))
        for number, extent in size.items()
    )


def live_bytes(tensors: Iterable[Activation], layers: int) -> tuple[int, ...]:
    """Bytes of activations that are alive during each of so many layers."""
    change = [0] * (layers + 1)
    for tensor in tensors:
        change[tensor.first] += tensor.bytes
        change[tensor.last + 1] -= tensor.bytes
    alive, told = 0, []
    for step in change[:-1]:
        alive += step
        told.append(alive)
    return tuple(told)


def peak_bytes(tensors: Collection[Activation], layers: int) -> int:
    """The most bytes of activations that are alive during one layer; of all inputs, where there is no layer."""
    return max(live_bytes(tensors, max(layers, 1)))
