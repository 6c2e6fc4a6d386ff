"""Networks that come as programs, files and names: the same workload by every road."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from onnxcases import keras_like, value, written
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import profile, zoo
from codesign_kernel.profiler.packing import pack, unpack
from codesign_kernel.profiler.zoo.transformers import TransformerBlock
from codesign_kernel.workload import Layer, Workload

ROOT = Path(__file__).parent.parent


def exported(model: nn.Module, inputs: Any, path: Path, **options: Any) -> Path:
    """``model`` as an ONNX file, by the exporter that needs no further package."""
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one, and that shapes become constants
        torch.onnx.export(model.eval(), args, str(path), dynamo=False, **options)
    return path


# --- the same network by every road -----------------------------------------------------------------------------------

WITHOUT_FOLDING = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}


@pytest.mark.parametrize(
    "name", ["lenet5", "mobilenet_v2", "mlperf_tiny_kws", "mlperf_tiny_vww", "mlperf_tiny_ic", "mlperf_tiny_ad"]
)
def test_onnx_and_torch_give_the_same_workload(name: str, tmp_path: Path) -> None:
    model, example = zoo.build(name, "cpu")
    expected = profile(*zoo.build(name)).workload
    plain = profile(exported(model, example, tmp_path / "plain.onnx", **WITHOUT_FOLDING))
    assert plain.workload.canonical() == expected.canonical()
    folded = profile(exported(model, example, tmp_path / "folded.onnx"))
    # some exporters fold into convolutions only
    assert folded.workload.without_batch_norm().canonical() == expected.without_batch_norm().canonical()
    assert plain.macs == folded.macs == expected.macs
    assert plain.peak_activation_bytes == profile(*zoo.build(name)).peak_activation_bytes


class Small(nn.Module):
    """What the large networks of the zoo are made of, small enough to write to a file in no time."""

    def __init__(self, norm_first: bool, causal: bool, approximate: str, fused: bool) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(50, 32), nn.Embedding(16, 32)
        blocks = [TransformerBlock(32, 4, norm_first, causal, 1e-5, approximate, fused) for _ in range(2)]
        self.blocks, self.ln, self.head = nn.Sequential(*blocks), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.ln(self.blocks(x))[:, 0])


@pytest.mark.parametrize("version", [14, 17, 20])
@pytest.mark.parametrize(
    "options", [(True, False, "none", True), (False, False, "none", False), (True, True, "tanh", True)], ids=str
)
def test_transformers_as_each_operator_set_writes_them(options: Any, version: int, tmp_path: Path) -> None:
    """Attention, GELU and layer normalisation are several nodes in older operator sets, and one layer again here."""
    model, ids = Small(*options), torch.zeros(2, 8, dtype=torch.int64)
    found = profile(exported(model, ids, tmp_path / "small.onnx", opset_version=version))
    assert found.workload.canonical() == profile(model, ids).workload.canonical()


class Assorted(nn.Module):
    """Operators that no network of the zoo has."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2)
        self.act, self.pool = nn.PReLU(6), nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.lstm, self.gru = nn.LSTM(8, 5, 2, bidirectional=True), nn.GRU(10, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.leaky_relu(self.act(self.up(x))))
        x = F.interpolate(F.hardswish(F.pad(x, (1, 0, 2, 1))), scale_factor=2.0)
        a, b = torch.cat([x, x.clamp(-1, 1)], 1).split(6, 1)
        y, _ = self.lstm((a * b).amax(1).flatten(1)[:, :24].reshape(3, 1, 8))
        return self.gru(y.transpose(0, 1))[0].sum(1).exp()


def test_assorted_operators_agree(tmp_path: Path) -> None:
    model, x = Assorted(), torch.zeros(1, 4, 5, 7)
    found, expected = profile(exported(model, x, tmp_path / "a.onnx")), profile(model, x)
    assert [layer.op for layer in found.workload.layers] == [layer.op for layer in expected.workload.layers]
    assert found.workload.canonical() == expected.workload.canonical()
    assert not found.workload.uncosted


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "mobilenet_v2", "bert_base", "mlperf_tiny_ic"])
def test_exported_programs_give_the_same_profile(name: str, tmp_path: Path) -> None:
    """Names, edges, bytes and parameters too, in memory and in a file."""
    model, example = zoo.build(name)
    program = torch.export.export(model, (example,))
    torch.export.save(program, str(tmp_path / "net.pt2"))
    expected = profile(model, example, name)
    assert profile(program, name=name) == expected
    assert profile(tmp_path / "net.pt2", name=name) == expected


def test_program_in_training_mode_with_a_free_batch_and_tied_weights(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm, self.drop = nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout()
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.b(self.drop(self.norm(self.a(x)))).view(x.shape[0] * 2, 4) + y[:1]

    batch = torch.export.Dim("batch", min=2, max=64)
    inputs = (torch.zeros(4, 8), torch.zeros(3, 4))
    program = torch.export.export(Tied().train(), inputs, dynamic_shapes=({0: batch}, None))
    torch.export.save(program, str(tmp_path / "tied.pt2"))
    expected = profile(Tied(), inputs, "tied")
    assert profile(program, name="tied") == expected
    assert profile(str(tmp_path / "tied.pt2")) == expected
    larger = (torch.zeros(6, 8), torch.zeros(3, 4))
    assert profile(tmp_path / "tied.pt2", larger) == profile(Tied(), larger, "tied")
    with pytest.raises(InvalidInputError, match="has 2 inputs, but 1 were given"):
        profile(tmp_path / "tied.pt2", torch.zeros(6, 8))


def test_a_name_of_the_zoo_is_its_network() -> None:
    assert profile("resnet18") == profile(*zoo.build("resnet18"), name="resnet18")
    assert profile("lenet5", torch.zeros(7, 1, 28, 28, device="meta"), "seven").macs == 7 * profile("lenet5").macs
    with pytest.raises(InvalidInputError, match=r"no network 'resnet19'; it has lenet5"):
        profile("resnet19")


def test_canonical_form_forgets_names_and_nothing_else() -> None:
    a, b = Layer("a", "conv2d", K=2), Layer("b", "batch_norm", K=2)
    other = Workload("other", (Layer("x", "conv2d", K=2), Layer("y", "batch_norm", K=2)), (("x", "y"),))
    assert Workload("net", (a, b), (("a", "b"),)).canonical() == other.canonical()
    assert Workload("net", (a, b)).canonical() != other.canonical()
    assert other.without_batch_norm().canonical() == Workload("net", (a,)).canonical()
    branched = Workload("net", (a, b, Layer("c", "relu", K=2)), (("a", "b"), ("a", "c")))
    assert branched.without_batch_norm() == branched


# --- ONNX as TensorFlow writes it, by hand ----------------------------------------------------------------------------


def test_a_network_as_tensorflow_writes_it(tmp_path: Path) -> None:
    result = profile(keras_like(tmp_path / "keras.onnx"))
    half = {"B": 1, "K": 8, "C": 8, "OY": 16, "OX": 16, "IY": 16, "IX": 16}
    quarter = {**half, "OY": 8, "OX": 8, "IY": 8, "IX": 8}
    # 32 rows, filter 3, stride 2: 15 x 2 + 3 - 32 = 1 row of padding, after the last
    assert result.workload.layers == (
        Layer("conv", "conv2d", K=8, C=3, OY=16, OX=16, FY=3, FX=3, IY=32, IX=32, stride=(2, 2)),
        Layer("relu", "relu", **half),
        Layer("gain", "mul", **half),
        Layer("depthwise", "conv2d", G=8, OY=8, OX=8, FY=3, FX=3, IY=16, IX=16, stride=(2, 2)),
        Layer("bn", "batch_norm", **quarter),
        Layer("mean", "mean", **{**quarter, "OY": 1, "OX": 1, "FY": 8, "FX": 8}),
        Layer("dense/BiasAdd", "linear", K=5, C=8),
        Layer("softmax", "softmax", K=5, C=5),
    )
    names = [layer.name for layer in result.workload.layers]
    assert result.workload.edges == tuple(pairwise(names))
    assert result.parameters == 8 * 27 + 8 + 8 + 72 + 2 * 8 + 40 + 5
    assert result.inputs == (((1, 32, 32, 3), "float32"),)
    four = profile(tmp_path / "keras.onnx", {"x": torch.zeros(4, 32, 32, 3)})
    assert four.macs == 4 * result.macs
    with pytest.raises(InvalidInputError, match=r"has shape \('unk__1', 32, 32, 3\), but \(4, 3\) was given"):
        profile(tmp_path / "keras.onnx", torch.zeros(4, 3))
    with pytest.raises(InvalidInputError, match=r"name inputs of the file, \['x'\], but got \['y'\]"):
        profile(tmp_path / "keras.onnx", {"y": torch.zeros(4, 3)})


def test_operators_without_a_rule_are_counted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("TopK", ["a", "k"], ["b", "i"]),
        helper.make_node("Strange", ["b"], ["c"], domain="com.example"),
        helper.make_node("Exp", ["c"], ["y"]),
    ]
    k = numpy_helper.from_array(np.array([2], np.int64), "k")
    path = written(tmp_path / "a.onnx", nodes, [value("x", [3, 4])], [value("y", [3, 2]), value("c", [3, 2])], [k])
    result = profile(path)
    assert dict(result.workload.uncosted) == {"onnx::TopK": 1, "com.example::Strange": 1}
    assert [layer.op for layer in result.workload.layers] == ["relu", "exp"]
    assert len(result.workload.edges) == 1
    path = written(tmp_path / "b.onnx", nodes, [value("x", [3, 4])], [value("y", [3, 2])], [k])
    with pytest.raises(InvalidInputError, match=r"Strange.*no rule here, and the file does not say what shape"):
        profile(path)


def test_a_profile_crosses_to_json_and_back() -> None:
    result = profile(*zoo.build("mobilenet_v2"))
    assert unpack(pack(result)) == result
    assert unpack(pack(result)).digest == result.digest
