"""How much memory activations need at once, from the order of execution and who reads what. No torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def peak_bytes(
    inputs: Sequence[int], outputs: Sequence[int], reads: Sequence[Collection[int]], kept: Collection[int]
) -> int:
    """The most bytes of activations that are alive during one layer.

    A layer's output is alive from that layer to the last one that reads it, both included; a network input from the
    first layer on; what the network returns to the last layer. So a residual is counted as long as its addition is
    ahead, and every layer holds its inputs and its output at once, also where torch would write in place.

    Args:
        inputs: bytes of each network input. outputs: bytes of each layer's output, in the order of execution.
        reads: for each layer the layers it reads (by position) and the network inputs (-1 for the first, -2, ...).
        kept: what the network returns, numbered in the same way.
    """
    if not outputs:
        return sum(inputs)
    size = {**dict(enumerate(outputs)), **{-1 - i: extent for i, extent in enumerate(inputs)}}
    last = {number: max(number, 0) for number in size}
    for layer, sources in enumerate(reads):
        last.update((source, max(layer, last[source])) for source in sources)
    last.update((number, len(outputs) - 1) for number in kept)
    change = [0] * (len(outputs) + 1)
    for number, extent in size.items():
        change[max(number, 0)] += extent
        change[last[number] + 1] -= extent
    alive = peak = 0
    for step in change:
        alive += step
        peak = max(peak, alive)
    return peak
