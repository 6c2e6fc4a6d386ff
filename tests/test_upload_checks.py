"""Uploads are what their content says: each attack is refused in words, and succeeds with its guard removed."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from codesign_kernel import uploads
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.uploads import ONNX, PT2, check_upload


class Small(torch.nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


@pytest.fixture(scope="module")
def pt2() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Small().eval(), (torch.zeros(1, 4),)), buffer)
    return buffer.getvalue()


def model(external: str | None = None, inside: bool = False) -> bytes:
    """An ONNX model; its weight, in the graph or in one of a branch, is said to be in the file ``external``."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], [0.0] * 12)
    if external is not None:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", external
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if inside:
        branch = helper.make_graph([], "b", [], [], [weight])
        nodes.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 4])], [value("y", 1, [1, 3])], [] if inside else [weight])
    return bytes(helper.make_model(graph).SerializeToString())


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with a program and ``entries``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/models/model.json", "{}")
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def overlapping() -> bytes:
    """Two entries of the directory that share the bytes of one (the bomb of Fifield, 2019)."""
    content = packed(("archive/data/weights/a", b"x" * 50_000), ("archive/data/weights/b", b"y"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[1]
    at = content.rindex(b"archive/data/weights/b") - 46  # its entry in the directory
    changed = bytearray(content)
    changed[at + 16 : at + 28] = struct.pack("<III", first.CRC, first.compress_size, first.file_size)
    changed[at + 42 : at + 46] = struct.pack("<I", first.header_offset)
    return bytes(changed)


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save(Small().state_dict(), buffer)
    return buffer.getvalue()


def test_models_are_taken(pt2: bytes) -> None:
    assert check_upload(pt2) == PT2
    assert check_upload(model()) == ONNX
    assert check_upload(packed()) == PT2


ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "pickle": (lambda: pickle.dumps({"a": 1}), r"a pickle, which could run any code"),
    "old pickle": (lambda: pickle.dumps({"a": 1}, protocol=0), r"a pickle, which could run any code"),
    "checkpoint": (checkpoint, r"torch checkpoint.*torch\.export\.save"),
    "bomb": (lambda: packed(("archive/b", b"\0" * 3_000_000)), r"unpacks to at most 200 times its size"),
    "entry bomb": (
        lambda: packed(("archive/b", b"\0" * 2_000_000), ("archive/c", bytes(range(256)) * 2000)),
        r"200 times its size",
    ),
    "nested": (lambda: packed(("archive/x.bin", packed())), r"no other archive"),
    "overlap": (overlapping, r"behind one another, but two overlap"),
    "absolute": (lambda: packed(("/etc/passwd", b"")), r"stay inside it"),
    "parent": (lambda: packed(("archive/../../x", b"")), r"stay inside it"),
    "backslash": (lambda: packed(("archive\\..\\x", b"")), r"stay inside it"),
    "drive": (lambda: packed(("C:/x", b"")), r"stay inside it"),
    "link": (lambda: packed((linked("archive/l"), b"/etc/passwd")), r"a link or a device"),
    "many": (lambda: packed(*((f"archive/{n}", b"") for n in range(10_001)), method=0), r"at most 10,000 entries"),
    "method": (lambda: packed(("archive/b", b"x" * 99), method=zipfile.ZIP_LZMA), r"stored or deflated"),
    "external": (lambda: model("weights.bin"), r"holds its weights itself.*save_as_external_data=False"),
    "external outside": (lambda: model("/etc/passwd"), r"holds its weights itself"),
    "external above": (lambda: model("../../secret"), r"holds its weights itself"),
    "external in a branch": (lambda: model("/etc/passwd", inside=True), r"holds its weights itself"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 99, r"image/png"),
    "script": (lambda: b"#!/bin/sh\n", r"a script or a page"),
    "page": (lambda: b"<html><script>alert(1)</script>", r"a script or a page"),
    "text": (lambda: b"hello", r"neither"),
    "nothing": (lambda: b"", r"this is empty"),
    "plain zip": (lambda: _zip_of("a.txt"), r"has one program, but this zip has 0"),
    "cut off": (lambda: packed(("archive/b", b"x" * 999))[:-9], r"damaged"),
}  # fmt: skip


def _zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_in_words(name: str) -> None:
    make, words = ATTACKS[name]
    with pytest.raises(InvalidInputError, match=words):
        check_upload(make())


@pytest.mark.parametrize(
    ("guard", "names"),
    [
        ("_check_sizes", ["bomb", "entry bomb", "many", "method"]),
        ("_check_names", ["absolute", "parent", "link"]),
        ("_check_places", ["overlap"]),
        ("_check_program", ["checkpoint"]),
        ("_check_nested", ["nested"]),
        ("_look", ["external outside", "external above", "external in a branch"]),
    ],
)
def test_without_its_guard_the_attack_is_taken(monkeypatch: pytest.MonkeyPatch, guard: str, names: list[str]) -> None:
    monkeypatch.setattr(uploads, guard, lambda *given: None)
    for name in names:
        content = ATTACKS[name][0]()
        assert check_upload(content) in (ONNX, PT2)


def test_what_external_data_would_do() -> None:
    """The library would open the file that the model names: that is what is refused."""
    loaded = onnx.load_model_from_string(model("/etc/hostname"))
    assert loaded.graph.initializer[0].external_data[0].value == "/etc/hostname"


def test_a_message_of_endless_parts_is_refused_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "FIELDS", 1_000)
    with pytest.raises(InvalidInputError, match="at most 1,000 parts"):
        check_upload(b"\x08\x08" * 2_000)


def test_graphs_in_graphs_have_an_end() -> None:
    inner = b""
    for _ in range(60):
        attribute = b"\x32" + _sized(inner)
        inner = b"\x0a" + _sized(b"\x2a" + _sized(attribute))
    with pytest.raises(InvalidInputError, match="16 deep"):
        check_upload(b"\x08\x08\x3a" + _sized(inner))


def _sized(content: bytes) -> bytes:
    size, head = len(content), b""
    while size >= 0x80:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return head + bytes([size]) + content
