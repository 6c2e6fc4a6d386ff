"""What an upload is, by its content: the two kinds that pass, and what does not, whatever it is called."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import pytest

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.uploads import ONNX, PT2, check_upload, safe_name


def archive(*entries: tuple[str, bytes], packed: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return stream.getvalue()


def onnx_file() -> bytes:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph).SerializeToString()


def external_file() -> bytes:
    """Weights in a file outside of the model's folder."""
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../../etc/passwd")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph).SerializeToString()


PROGRAM = ("archive/models/model.json", b'{"schema_version": {"major": 8}}')


def test_the_two_kinds_pass() -> None:
    assert check_upload(onnx_file()) == ONNX
    assert check_upload(archive(PROGRAM)) == PT2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (pickle.dumps({"a": 1}, 4), "a pickle, which could run any code"),
        (pickle.dumps([1, 2], 0), "a pickle"),
        (archive(("net/data.pkl", pickle.dumps(1))), "checkpoint or TorchScript"),
        (archive(("word/document.xml", b"<w/>")), "this zip has 0"),
        (archive(("archive/models/model.json", bytes(10**7)), packed=True), "unpacks to at most 200 times its size"),
        (archive(PROGRAM, ("archive/../../etc/passwd", b"x")), "stay inside it"),
        (archive(PROGRAM, ("/etc/passwd", b"x")), "stay inside it"),
        (archive(PROGRAM, ("a\\..\\b", b"x")), "stay inside it"),
        (archive(PROGRAM, ("archive/extra/other.zip", b"PK\x03\x04")), "no other archive"),
        (archive(PROGRAM)[:-30], "damaged"),
        (archive(("archive/models/model.json", b"other")) + archive(PROGRAM), "something before it"),
        (gzip.compress(b"net"), "application/gzip|neither"),
        (bytes(257) + b"ustar" + bytes(250), "application/x-tar|neither"),
        (b"<html><script>", "a script or a page"),
        (b'{"model": 1}', "neither"),
        (b"\x89HDF\r\n\x1a\n", "a Keras model"),
        (onnx_file()[:-1], "neither"),
        (onnx_file() + b"\x99\x07", "neither"),
        (b"\x08\x0a", "neither"),  # a version alone, and no graph
        (b"\x0a" + b"\xff" * 11, "neither"),
        (external_file(), "external data"),
    ],
)
def test_everything_else_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        check_upload(content)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\nets\\mine.onnx", "mine.onnx"),
        ("<img src=x onerror=alert(1)>.onnx", "img src_x onerror_alert(1)_.onnx"),
        ("x" * 300, "x" * 80),
        ("..", "upload"),
        ("a\nb\x00c", "a_b_c"),
        (None, "upload"),
        (7, "upload"),
    ],
)
def test_a_name_is_plain(given: object, shown: str) -> None:
    assert safe_name(given) == shown
