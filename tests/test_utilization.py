"""How much of the array 3x3 convolutions of at least 16 channels use, loads and stores of their maps included."""

from __future__ import annotations

import pytest
from test_causes import one_layer

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.cost import evaluate
from codesign_kernel.lower import lower

#: Channels in and out, and the side of the map. The first and the last are the least favourable: most of the time goes
#: to external memory, or a map is small.
CHANNELS = ((16, 16), (16, 32), (32, 32), (64, 64))
SIDES = (14, 16, 28, 56)


def accelerator(side: int, dataflow: str) -> Accelerator:
    """All values but these are the defaults; room for the program of 64 channels on 56x56 in chunks."""
    return Accelerator.systolic(side, side, dataflow=dataflow, instruction_kib=64)


@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize("map_side", SIDES)
@pytest.mark.parametrize(("channels", "results"), CHANNELS)
def test_seventy_percent_with_external_memory(
    side: int, dataflow: str, map_side: int, channels: int, results: int
) -> None:
    a = accelerator(side, dataflow)
    network = one_layer((channels, map_side, map_side), results, 3, padding=(1, 1))
    conv = lower(network, a).causes.layers[0]
    assert conv.utilization >= 0.7
    assert conv.array_utilization >= 0.85
    # without the multiplications by the zeros around the map
    assert conv.slots["useful"] / conv.streamed >= 0.8
    # the model says the same from the shape alone
    assert evaluate(network.workload, a).layers[0].utilization == conv.utilization


@pytest.mark.parametrize(("channels", "results"), [(24, 40), (17, 17), (48, 20)])
def test_channels_that_do_not_fill_the_array_are_edges(channels: int, results: int) -> None:
    """The streamed slots that do a MAC are the product of the shares of rows and columns that the channels fill."""
    a = accelerator(16, "ws")
    conv = lower(one_layer((channels, 14, 14), results, 3, padding=(1, 1)), a).causes.layers[0]
    padded = (-(-channels // 16) * 16) * (-(-results // 16) * 16)
    assert conv.macs * padded == conv.streamed * channels * results
