"""Profiler: MACs against torch's own counter, loops by hand, what is counted, and the Profile itself."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from profiles import Apply, layers, meta, profiled, torch_macs
from torch import nn

from codesign_kernel.profiler import profile, zoo
from codesign_kernel.profiler.result import UNUSED
from codesign_kernel.workload import Layer

# --- counts -----------------------------------------------------------------------------------------------------------


UNUSUAL: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "grouped dilated": (lambda: nn.Conv2d(4, 8, 3, (2, 1), 2, dilation=(2, 3), groups=4), meta(2, 4, 16, 17)),
    "same padding": (lambda: nn.Conv2d(4, 8, (3, 5), padding="same", dilation=2), meta(2, 4, 6, 7)),
    "unbatched": (lambda: nn.Conv2d(4, 8, 3), meta(4, 6, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3, 2, 1, groups=2), meta(2, 4, 20)),
    "conv3d": (lambda: nn.Conv3d(4, 8, (3, 2, 1), 2, 1, groups=2), meta(2, 4, 6, 7, 8)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 8, 3, 2), meta(2, 4, 6)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 8, 3, 2, 1, groups=2), meta(2, 4, 6, 7)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(4, 8, (3, 2, 1), 2), meta(2, 4, 6, 7, 5)),
    "lstm": (lambda: nn.LSTM(8, 16, 2, bidirectional=True), meta(5, 3, 8)),
    "lstm projected": (lambda: nn.LSTM(8, 16, 2, bias=False, batch_first=True, proj_size=4), meta(5, 3, 8)),
    "gru": (lambda: nn.GRU(8, 16, 2, bidirectional=True), meta(5, 3, 8)),
    "rnn": (lambda: nn.RNN(8, 16), meta(5, 8)),
    "lstm cell": (lambda: nn.LSTMCell(8, 16), meta(5, 8)),
    "gru cell": (lambda: nn.GRUCell(8, 16), meta(5, 8)),
    "attention with weights": (lambda: nn.MultiheadAttention(8, 2), (meta(5, 3, 8),) * 3),
    "transformer": (lambda: nn.Transformer(16, 2, 1, 1, 32, batch_first=True), (meta(2, 5, 16), meta(2, 4, 16))),
    "einsum": (lambda: Apply(lambda a, b: torch.einsum("bij,bkj->bik", a, b)), (meta(2, 3, 4), meta(2, 5, 4))),
    "broadcast": (lambda: Apply(torch.matmul), (meta(2, 1, 3, 4), meta(5, 4, 6))),
    "grouped queries": (
        lambda: Apply(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
        (meta(2, 8, 5, 4), meta(2, 2, 7, 4)),
    ),
    "addmm, baddbmm": (
        lambda: Apply(lambda a, b: torch.baddbmm(b, b, b) + torch.addmm(a, a, a)),
        (meta(4, 4), meta(3, 4, 4)),
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_macs_equal_those_that_torch_counts(case: str) -> None:
    make, inputs = UNUSUAL[case]
    with torch.device("meta"):
        model = make()
    result = profiled(model, inputs)
    assert result.macs == torch_macs(model, inputs) > 0
    assert not result.workload.uncosted


@pytest.mark.parametrize("name", ["lenet5", "mobilenet_v2"])
def test_real_and_meta_give_the_same(name: str) -> None:
    on_meta, on_cpu = (profiled(*zoo.build(name, device), name=name) for device in ("meta", "cpu"))
    assert on_meta == on_cpu
    assert on_meta.digest == on_cpu.digest


def test_real_and_meta_attention_give_the_same() -> None:
    results = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            results.append(profiled(layer, torch.zeros(2, 5, 16)))
    assert results[0].digest == results[1].digest


# --- loops, by hand ---------------------------------------------------------------------------------------------------


def test_small_network_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.MaxPool2d((2, 3), (1, 2)),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.Linear(16, 5, bias=False),
    )
    result = profiled(model, torch.zeros(2, 3, 9, 10), name="small")
    # rows (9 + 2 - 3) // 2 + 1 = 5; columns (10 - 2 - 1) // 1 + 1 = 8
    conv = Layer("0", "conv2d", B=2, K=8, C=3, OY=5, OX=8, FY=3, FX=2, IY=9, IX=10, stride=(2, 1), padding=(1, 0),
                 dilation=(1, 2))  # fmt: skip
    full = {"B": 2, "K": 8, "C": 8, "OY": 5, "OX": 8, "IY": 5, "IX": 8}
    pool = Layer("3", "max_pool2d", B=2, K=8, C=8, OY=4, OX=3, FY=2, FX=3, IY=5, IX=8, stride=(1, 2))
    mean = Layer("4", "adaptive_avg_pool2d", B=2, K=8, C=8, OY=2, OX=1, FY=2, FX=3, IY=4, IX=3, stride=(2, 3))
    fc = Layer("6", "linear", B=2, K=5, C=16)
    expected = (conv, Layer("1", "batch_norm", **full), Layer("2", "relu6", **full), pool, mean, fc)
    assert result.workload.layers == expected
    assert result.macs == 2 * 8 * 3 * 5 * 8 * 3 * 2 + 2 * 5 * 16
    assert result.workload.edges == (("0", "1"), ("1", "2"), ("2", "3"), ("3", "4"), ("4", "6"))
    table = result.table().set_index("name")
    assert list(table["parameters"]) == [8 * 3 * 3 * 2 + 8, 16, 0, 0, 0, 80]
    assert list(table["parameter_bytes"]) == [4 * n for n in table["parameters"]]
    assert list(table["input_bytes"])[:2] == [4 * 2 * 3 * 9 * 10, 4 * 2 * 8 * 5 * 8]
    assert table.loc["3", "output_bytes"] == 4 * 2 * 8 * 4 * 3
    assert table.loc["6", "intensity"] == pytest.approx(160 / (4 * (2 * 16 + 2 * 5 + 80)))
    assert [conv.inputs, pool.inputs, pool.outputs] == [2 * 3 * 9 * 10, 2 * 8 * 5 * 8, 2 * 8 * 4 * 3]


def test_depthwise_convolution_has_one_channel_a_group() -> None:
    (layer,) = profiled(nn.Conv2d(6, 12, 3, groups=6), torch.zeros(1, 6, 5, 5)).workload.layers
    assert (layer.G, layer.K, layer.C, layer.macs) == (6, 2, 1, 6 * 2 * 9 * 9)


def test_transposed_convolution_multiplies_input_elements() -> None:
    (layer,) = profiled(nn.ConvTranspose2d(4, 6, 3, stride=2), torch.zeros(1, 4, 5, 7)).workload.layers
    assert (layer.op, layer.K, layer.C, layer.OY, layer.OX) == ("conv_transpose2d", 6, 4, 11, 15)
    assert layer.macs == 5 * 7 * 4 * 6 * 9


def test_one_dimensional_layers_lie_along_x() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.BatchNorm1d(8), nn.MaxPool1d(2))
    conv, relu, norm, pool = profiled(model, torch.zeros(2, 4, 12)).workload.layers
    assert (conv.op, conv.OY, conv.OX, conv.FY, conv.FX, conv.IX) == ("conv2d", 1, 10, 1, 3, 12)
    assert [(x.B, x.K, x.OX) for x in (relu, norm, pool)] == [(2, 8, 10), (2, 8, 10), (2, 8, 5)]
    assert (pool.FX, pool.stride) == (2, (1, 2))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8,), (1, 1)), ((3, 8), (3, 1)), ((3, 5, 8), (3, 5)), ((3, 5, 7, 8), (3, 35))],
)
def test_linear_batch_is_the_first_axis(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    (layer,) = profiled(nn.Linear(8, 4), torch.zeros(shape)).workload.layers
    assert ((layer.B, layer.OX), layer.C, layer.K, layer.op) == (expected, 8, 4, "linear")


def test_folded_rows_are_unfolded() -> None:
    class Folded(nn.Module):  # as the Conv1D of GPT-2 does it
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.zeros(8, 4)), nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.addmm(self.bias, x.view(-1, 8), self.weight).view(*x.shape[:-1], 4)

    (layer,) = profiled(Folded(), torch.zeros(3, 5, 8)).workload.layers
    assert layer == Layer("linear", "linear", B=3, K=4, C=8, OX=5, IX=5)


def test_matmul_has_two_activations_and_linear_has_fixed_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Parameter(torch.zeros(4, 8, 6))
            self.register_buffer("basis", torch.zeros(5, 3))

        def forward(self, x: torch.Tensor) -> Any:  # [2, 4, 3, 8]
            return x @ x.transpose(-1, -2), x @ self.experts, self.basis @ x, x @ x[0, 0].mT

    result = profiled(Net(), torch.zeros(2, 4, 3, 8))
    assert [(x.op, x.B, x.G, x.K, x.C, x.OX) for x in result.workload.layers] == [
        ("matmul", 1, 8, 3, 8, 3),
        ("linear", 2, 4, 6, 8, 3),
        ("linear", 8, 1, 5, 3, 8),
        ("matmul", 1, 1, 3, 8, 24),
    ]


def test_attention_is_two_gemms_around_a_softmax() -> None:
    model = Apply(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    result = profiled(model, (torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 4)))
    scores = {"B": 2, "K": 3, "C": 3, "OY": 5, "OX": 7, "IY": 5, "IX": 7}
    assert result.workload.layers == (
        Layer("matmul", "matmul", G=6, K=7, C=8, OX=5, IX=5),
        Layer("softmax", "softmax", **scores),
        Layer("matmul#2", "matmul", G=6, K=4, C=7, OX=5, IX=5),
    )
    assert result.workload.edges == (("matmul", "softmax"), ("softmax", "matmul#2"))
    assert [o.output_bytes for o in result.operators] == [4 * 210, 4 * 210, 4 * 120]


def test_lstm_by_hand() -> None:
    result = profiled(nn.LSTM(8, 16, batch_first=True), torch.zeros(3, 5, 8))
    assert [(x.name, x.B, x.K, x.C, x.OX) for x in result.workload.layers] == [
        ("linear", 3, 64, 8, 5),
        ("linear#2", 3, 64, 16, 5),
        ("lstm_cell", 3, 16, 64, 5),
    ]
    assert [o.parameters for o in result.operators] == [64 * 8 + 64, 64 * 16 + 64, 0]
    assert [x.steps for x in result.workload.layers] == [1, 5, 1]  # the hidden states follow one another


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        ((2, 3), {"B": 2, "K": 3, "C": 3, "FY": 4, "FX": 5, "IY": 4, "IX": 5}),
        (1, {"B": 2, "K": 1, "C": 3, "OY": 4, "OX": 5, "IY": 4, "IX": 5}),
        (None, {"C": 6, "FY": 4, "FX": 5, "IY": 4, "IX": 5}),
    ],
)
def test_reductions_have_windows(dims: Any, expected: dict[str, int]) -> None:
    (layer,) = profiled(Apply(lambda x: torch.mean(x, dims)), torch.zeros(2, 3, 4, 5)).workload.layers
    assert layer == Layer("mean", "mean", **expected)


# --- what is counted, and what is not ---------------------------------------------------------------------------------


def test_unknown_operators_are_counted_and_pass_edges() -> None:
    model = Apply(lambda x: torch.sort(torch.relu(x)).values.exp() + torch.sort(x).values)
    result = profiled(model, torch.zeros(2, 3))
    assert dict(result.workload.uncosted) == {"sort": 2}
    assert result.workload.edges == (("relu", "exp"), ("exp", "add"))
    assert "not costed: sort x2" in repr(result)


def test_custom_operator_is_counted_under_its_namespace() -> None:
    library = torch.library.Library("codesign_test", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    result = profiled(Apply(lambda x: torch.ops.codesign_test.twice(x)), torch.zeros(3))
    assert dict(result.workload.uncosted) == {"codesign_test::twice": 1}


def test_unused_parameters_stand_in_a_row_of_their_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 3, dtype=torch.float64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    last = profiled(Net(), torch.zeros(1, 4)).table().iloc[-1]
    assert (last["name"], last["parameters"], last["parameter_bytes"], last["macs"]) == (UNUSED, 15, 120, 0)


def test_bytes_are_those_of_the_types_profiled() -> None:
    model = nn.Linear(4, 2, dtype=torch.bfloat16)
    result = profiled(model, torch.zeros(3, 4, dtype=torch.bfloat16))
    (row,) = result.operators
    assert (row.input_bytes, row.output_bytes, row.parameter_bytes) == (24, 12, 20)
    assert result.inputs == (((3, 4), "bfloat16"),)


def test_parametrised_weight_belongs_to_its_layer() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    result = profiled(model, torch.zeros(2, 8))
    assert layers(result) == [("linear", "linear")]
    assert result.operators[0].parameters == 32 + 4 + 4


# --- Profile ----------------------------------------------------------------------------------------------------------


def test_profile_reads_well_and_travels_without_torch() -> None:
    result = profiled(*zoo.build("resnet18"), name="resnet18")
    assert repr(result).splitlines() == [
        "Profile resnet18: 68 operators, 1.81 GMAC",
        "  11.7 M parameters (44.6 MiB), activations 31.4 MiB, at once 6.12 MiB",
    ]
    assert result._repr_html_().startswith("<pre>Profile resnet18")
    assert pickle.loads(pickle.dumps(result)) == result
    assert result.digest != profile(*zoo.build("resnet18"), name="other").digest
    check = "import sys, codesign_kernel.profiler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
