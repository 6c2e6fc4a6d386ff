"""Memory that activations need at once, by hand, and wall time that is measured."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import profile, zoo
from codesign_kernel.profiler.lifetime import Activation, activations, live_bytes
from codesign_kernel.profiler.lifetime import peak_bytes as peak_of


def peak_bytes(*given: Any) -> int:
    """Inputs, outputs, reads and what is returned, as ``activations`` takes them."""
    return peak_of(activations(*given), len(given[1]))


def test_when_each_tensor_is_alive() -> None:
    made = activations([10], [20, 20, 10], [{-1}, {0}, {1, -1}], {2})
    assert made == (
        Activation(-1, 10, (0, 2), 2), Activation(0, 20, (1,), 1), Activation(1, 20, (2,), 2), Activation(2, 10, (), 2)
    )  # fmt: skip
    assert live_bytes(made, 3) == (30, 50, 40)
    assert activations([4], [], [], {-1}) == (Activation(-1, 4, (), 0),)


def test_a_chain_holds_two_neighbours() -> None:
    # input 10; layers 40, 5, 30: 10 + 40 | 40 + 5 | 5 + 30
    assert peak_bytes([10], [40, 5, 30], [{-1}, {0}, {1}], {2}) == 50
    assert peak_bytes([10], [1, 5, 30], [{-1}, {0}, {1}], {2}) == 35


def test_a_residual_stays_until_it_is_added() -> None:
    # input 10 is read by layer 0 and again by layer 2: 10 + 20 | 10 + 20 + 20 | 10 + 20 + 10
    assert peak_bytes([10], [20, 20, 10], [{-1}, {0}, {1, -1}], {2}) == 50
    assert peak_bytes([10], [20, 20, 10], [{-1}, {0}, {1}], {2}) == 40


def test_what_is_returned_stays_and_what_nobody_reads_does_not() -> None:
    reads = [{-1}, {-1}, {1}, {2}]
    assert peak_bytes([1], [100, 10, 10, 10], reads, {3}) == 101
    assert peak_bytes([1], [100, 10, 10, 10], reads, {0, 3}) == 120  # 100 + 10 + 10
    assert peak_bytes([1], [100, 10, 10, 10], reads, {-1, 0, 3}) == 121


def test_an_input_waits_for_its_layer() -> None:
    assert peak_bytes([4, 7], [3, 3], [{-1}, {0, -2}], {1}) == 14  # 4 + 7 + 3; then 7 + 3 + 3
    assert peak_bytes([4, 7], [], [], set()) == 11


class Block(nn.Module):
    """conv, relu in place, conv, plus the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.relu(self.conv1(x))) + x


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_a_residual_block_by_hand(dtype: torch.dtype, size: int) -> None:
    """x has 4 x 6 x 6 = 144 elements: x + conv1 = 432 | x + conv1 + relu = 720 | x + relu + conv2 = 576 | x + conv2 +
    sum = 432."""
    result = profile(Block().to(dtype), torch.zeros(1, 4, 6, 6, dtype=dtype))
    assert result.peak_activation_bytes == 720 * size


def test_attention_holds_its_scores() -> None:
    """One projection makes query, key and value, 3 x 64 elements, which live until the value is read; the scores are
    2 x 8 x 8 = 128: while they become the softmax, 192 + 128 + 128."""
    result = profile(zoo.transformers.Attention(8, 2, causal=False), torch.zeros(1, 8, 8))
    assert result.peak_activation_bytes == 4 * (192 + 128 + 128)


def test_views_hold_what_they_look_at() -> None:
    class Split(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = torch.relu(x).chunk(2, 1)
            return torch.exp(a.transpose(0, 1)).sum() + b

    # x 80, relu 80, exp 40, sum 1, add 40 elements: 80 + 80 | 80 + 40 | 80 + 40 + 1 | 80 + 1 + 40
    assert profile(Split(), torch.zeros(8, 10)).peak_activation_bytes == 4 * 160


def test_resnet18_peaks_at_its_first_normalisation() -> None:
    """64 x 112 x 112 values twice: 12.85 MB at 4 bytes, and nothing else is alive there."""
    result = profile(*zoo.build("resnet18"))
    assert result.peak_activation_bytes == 2 * 64 * 112 * 112 * 4
    live = live_bytes(result.activations, len(result.operators))
    assert live.index(result.peak_activation_bytes) == 1
    assert [one.producer for one in result.activations if one.first <= 1 <= one.last] == [0, 1]
    assert "at once 6.12 MiB" in repr(result)


def test_caches_are_alive_throughout_a_decoding_step() -> None:
    """2 x 32 caches of 2047 tokens come in, and as many of 2048 go out, in half precision."""
    result = profile(*zoo.build("llama_7b_decode"))
    one = 32 * 128 * 2
    assert 64 * 2048 * one <= result.peak_activation_bytes <= 65 * 2048 * one + (1 << 20)


def test_measured_time_stands_beside_each_operator() -> None:
    model, example = zoo.build("mlperf_tiny_kws", "cpu")
    result = profile(model, example, measure=True)
    table = result.table()
    assert list(table.columns)[-1] == "wall_us"
    assert (table["wall_us"] > 0).all()
    assert sum(result.wall_us) == pytest.approx(table["wall_us"].sum())
    plain = profile(model, example)
    assert result == plain
    assert result.digest == plain.digest
    assert "wall_us" not in plain.table()
    assert pickle.loads(pickle.dumps(result)).wall_us == result.wall_us


def test_an_operator_of_several_layers_is_timed_as_one() -> None:
    model = zoo.transformers.Attention(64, 4, causal=False)
    result = profile(model, torch.zeros(1, 32, 64), measure=True)
    times = {layer.op: time for layer, time in zip(result.workload.layers, result.wall_us, strict=True)}
    assert [layer.op for layer in result.workload.layers] == ["linear", "matmul", "softmax", "matmul", "linear"]
    assert times["softmax"] == 0
    assert result.wall_us[1] > 0 == result.wall_us[3]


def test_only_a_module_on_a_real_device_is_measured() -> None:
    with pytest.raises(InvalidInputError, match="meta device computes nothing"):
        profile(*zoo.build("lenet5"), measure=True)
    with pytest.raises(InvalidInputError, match="a program, a file or a name"):
        profile("lenet5", measure=True)
