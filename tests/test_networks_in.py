"""Networks that come as programs, files and names: the same workload by every road, and nothing hostile gets far."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import random
import time
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.profiler import Limits, isolated, profile, zoo
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
    assert plain.peak_activation_bytes == profile(name).peak_activation_bytes


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


def stored(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def written(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], tensors: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
        ).SerializeToString()
    )
    return path


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def keras_like(path: Path, batch: Any = "unk__1") -> Path:
    """NHWC outside, NCHW inside; padding that differs by side; a mean in NHWC; a dense layer as MatMul and Add."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["x1"], perm=[0, 3, 1, 2]),
        node("Conv", ["x1", "w1", "b1"], ["c1"], "conv", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Transpose", ["c1"], ["c2"], perm=[0, 2, 3, 1]),
        node("Relu", ["c2"], ["r1"], "relu"),
        node("Mul", ["r1", "gain"], ["r2"], "gain"),
        node("Transpose", ["r2"], ["r3"], perm=[0, 3, 1, 2]),
        node("Conv", ["r3", "w2"], ["d1"], "depthwise", group=8, pads=[0, 0, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["d1", "g", "b", "s", "s"], ["d2"], "bn"),
        node("Transpose", ["d2"], ["d3"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["d3"], ["m"], "mean", axes=[1, 2], keepdims=0),
        node("MatMul", ["m", "w3"], ["f1"], "dense/MatMul"),
        node("Add", ["f1", "b3"], ["f2"], "dense/BiasAdd"),
        node("Softmax", ["f2"], ["y"], "softmax"),
    ]
    tensors = [stored("w1", 8, 3, 3, 3), stored("b1", 8), stored("gain", 8), stored("w2", 8, 1, 3, 3)]
    tensors += [stored("g", 8), stored("b", 8), stored("s", 8), stored("w3", 8, 5), stored("b3", 5)]
    return written(path, nodes, [value("x", [batch, 32, 32, 3])], [value("y", [batch, 5])], tensors)


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
    result = profile("mobilenet_v2")
    assert unpack(pack(result)) == result
    assert unpack(pack(result)).digest == result.digest


# --- what is refused --------------------------------------------------------------------------------------------------


class Trap:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".pt2", ".onnx"])
def test_pickles_are_never_loaded(suffix: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    body = pickle.dumps(Trap(mark))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", body)
    for content in (body, buffer.getvalue()):
        path = tmp_path / f"net{suffix}"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"never loaded|zip archive|ModelProto"):
            profile(path)
    assert not mark.exists()


def changed_pt2(path: Path, change: Callable[[dict[str, Any]], Any], extra: dict[str, bytes] | None = None) -> Path:
    """A sound program with something changed in its graph, and other files put into the archive."""
    if not path.exists():
        model, example = zoo.build("lenet5", "cpu")
        torch.export.save(torch.export.export(model, (example,)), str(path))
    data = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = (extra or {}).get(info.filename.partition("/")[2], old.read(info))
            if info.filename.endswith("models/model.json"):
                program = json.loads(content)
                change(program)
                content = json.dumps(program).encode()
            new.writestr(info.filename, content)
    return path


def test_nothing_in_a_program_is_executed(tmp_path: Path) -> None:
    """Sample inputs are a pickle, and free sizes expressions that torch's own loader evaluates: neither is touched."""
    mark = tmp_path / "ran"
    expression = {"as_expr": {"expr_str": f"__import__('os').mkdir({str(mark)!r})", "hint": {"as_int": 1}}}

    def change(program: dict[str, Any]) -> None:
        graph = program["graph_module"]["graph"]
        graph["tensor_values"]["input"]["sizes"][0] = expression
        graph["sym_int_values"] = {"s": expression}
        program["range_constraints"] = {f"__import__('os').mkdir({str(mark)!r})": {"min_val": 0, "max_val": 9}}

    path = changed_pt2(tmp_path / "a.pt2", change, {"data/sample_inputs/model.pt": pickle.dumps(Trap(mark))})
    assert profile(path).macs == profile("lenet5").macs
    assert not mark.exists()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("os.system", "one is 'os.system'"),
        ("torch.ops.aten.from_file.default", "from_file"),
        ("torch.ops.aten.__class__.mro", "mro"),
        ("torch.ops.other.twice.default", "a custom operator"),
        ("torch.ops.aten.conv3d.default", "fit their operands"),
    ],
)
def test_only_known_operators_are_called(target: str, told: str, tmp_path: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    with pytest.raises(InvalidInputError, match=told):
        profile(changed_pt2(tmp_path / "a.pt2", change))


@pytest.mark.parametrize(
    ("size", "told"), [(1 << 62, "fits into memory"), (-1, "fits into memory"), ("1", "says what it was exported with")]
)
def test_sizes_are_sane(size: Any, told: str, tmp_path: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = {"as_int": size}

    with pytest.raises(InvalidInputError, match=told):
        profile(changed_pt2(tmp_path / "a.pt2", change))


def test_archives_do_not_unpack_without_end(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/models/model.json", b" " * (64 << 20))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(InvalidInputError, match="unpacks"):
        profile(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/models/model.json", b"[" * 1_000_000)
    with pytest.raises(InvalidInputError):
        profile(path)


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret", "a/../../secret", "C:\\secret", "..\\secret", ""])
def test_external_data_stays_in_the_folder(place: str, tmp_path: Path) -> None:
    path = keras_like(tmp_path / "net.onnx")
    model = onnx.ModelProto.FromString(path.read_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInputError, match="inside the file's folder"):
        profile(path)
    tensor.external_data[0].value = "weights/net.bin"  # need not even be there: weights are not read
    path.write_bytes(model.SerializeToString())
    assert profile(path).parameters == profile(keras_like(tmp_path / "whole.onnx")).parameters


def test_cycles_and_huge_shapes_are_told(tmp_path: Path) -> None:
    x, y = [value("x", [1, 4])], [value("y", [1, 4])]
    add = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(InvalidInputError, match="have no cycle"):
        profile(written(tmp_path / "cycle.onnx", add, x, y, []))
    for op in ("Expand", "Tile", "ConstantOfShape"):
        huge = numpy_helper.from_array(np.array([1 << 40, 1 << 40], np.int64), "n")
        inputs = ["n"] if op == "ConstantOfShape" else ["x", "n"]
        with pytest.raises(InvalidInputError, match="memory"):
            profile(written(tmp_path / "huge.onnx", [helper.make_node(op, inputs, ["y"])], x, y, [huge]))


def test_limits_are_checked_before_a_file_is_opened(tmp_path: Path) -> None:
    path = keras_like(tmp_path / "net.onnx")
    with pytest.raises(InvalidInputError, match=r"at most 100 bytes, but net\.onnx has \d+"):
        profile(path, limits=Limits(file_bytes=100))
    sparse = tmp_path / "large.onnx"
    with sparse.open("wb") as stream:
        stream.truncate((2 << 30) + 1)
    with pytest.raises(InvalidInputError, match="at most 2147483648 bytes"):
        profile(sparse)
    with pytest.raises(InvalidInputError, match="within 0 s"):
        profile(path, limits=Limits(seconds=0.0001))
    large = written(tmp_path / "l.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", [1, 4096])],
                    [value("y", [1, 4096])], [stored("w", 4096, 4096)])  # fmt: skip
    assert profile(large).macs == 4096 * 4096
    with pytest.raises(InvalidInputError, match="within 1 MiB"):
        profile(large, limits=Limits(memory_bytes=1 << 20))
    for wrong, told in (("net.tflite", "is neither"), ("none.onnx", "no file"), ("folder.onnx", "not a regular one")):
        (tmp_path / "folder.onnx").mkdir(exist_ok=True)
        with pytest.raises(InvalidInputError, match=told):
            profile(tmp_path / wrong)


def test_the_reading_process_is_replaced_when_it_dies(tmp_path: Path) -> None:
    path = keras_like(tmp_path / "net.onnx")
    expected = profile(path)
    assert isolated._reader is not None
    first = isolated._reader.process
    first.kill()
    first.wait()
    assert profile(path) == expected
    assert isolated._reader.process is not first
    isolated.stop()
    assert isolated._reader is None


def test_a_reading_process_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolated.stop()
    path = keras_like(tmp_path / "net.onnx")
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(CodesignError, match="cannot be started"):
        profile(path)


@pytest.mark.slow
def test_damaged_files_end_in_a_profile_or_a_clear_error(tmp_path: Path) -> None:
    """A sample; ``benchmarks/fuzz_models.py`` does 500."""
    spec = importlib.util.spec_from_file_location("fuzz_models", ROOT / "benchmarks" / "fuzz_models.py")
    assert spec is not None
    assert spec.loader is not None
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    start = time.monotonic()
    outcomes = fuzz.run(60, random.randrange(1 << 30) if os.environ.get("FUZZ") else 7, tmp_path)
    assert len(outcomes) == 60
    assert {outcome.kind for outcome in outcomes} == {"profile", "error"}
    assert max(outcome.seconds for outcome in outcomes) < 10
    assert time.monotonic() - start < 90
