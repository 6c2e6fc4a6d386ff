"""Networks in files that are hostile, damaged or too large: refused in words, and nothing of them is executed."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxcases import keras_like, stored, value, written

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.profiler import Limits, isolated, profile, zoo

ROOT = Path(__file__).parent.parent


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
