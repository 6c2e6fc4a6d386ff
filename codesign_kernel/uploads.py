"""What somebody uploads, judged by its content before anything is done with it. Names say nothing here.

ONNX and the archives of ``torch.export.save`` are taken. Neither is loaded in this process: an archive's directory and
the frames of an ONNX message are walked in plain Python, with an end to every count.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

from codesign_kernel.errors import InvalidInputError

ONNX, PT2 = "application/onnx", "application/x-pt2"
#: Of an archive: entries, bytes unpacked in all, and how many times larger one may become (above a MiB).
ENTRIES, UNPACKED_BYTES, RATIO = 10_000, 1 << 30, 200
#: Of an ONNX message: fields that are looked at, and how deep graphs may lie in graphs.
FIELDS, DEPTH = 300_000, 16
REMEDY = "save it with torch.export.save as .pt2, or export it to ONNX"
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd")
_SUFFIXES = (".zip", ".pt2", ".pt", ".pth", ".whl", ".jar", ".gz", ".xz", ".bz2", ".7z", ".tar", ".rar")


#: Characters of a name that are shown, and how many.
_PLAIN, _LONGEST = re.compile(r"[^\w .()+-]+", re.ASCII), 80


def safe_name(name: object) -> str:
    """A file's name to show and to call a network by: the last part of it, of plain characters, at most 80 of them."""
    last = re.split(r"[/\\]", name if isinstance(name, str) else "")[-1]
    return _PLAIN.sub("_", last).strip(" ._-")[:_LONGEST] or "upload"


def check_upload(content: bytes) -> str:
    """The media type of a model that may be kept.

    Raises:
        InvalidInputError: it is something else, or an archive or a message that is not what it says; the message names
            the format and the remedy.
    """
    if not content:
        raise InvalidInputError("an upload has content, but this is empty; choose a file")
    if content[:2] == b"PK":
        _check_archive(content)
        return PT2
    if (other := _other(content)) is not None:
        raise InvalidInputError(f"an upload is an exported program or ONNX, but this is {other}; {REMEDY}")
    _check_onnx(content)
    return ONNX


def _other(content: bytes) -> str | None:
    """The name of a format that is not taken."""
    if (content[0] == 0x80 and len(content) > 1 and content[1] <= 5) or content[:2] in (b"(d", b"(l", b"cc", b"c_"):
        return "a pickle, which could run any code when it is loaded"
    if content[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if content[:8] == b"\x89HDF\r\n\x1a\n":
        return "a Keras model in HDF5"
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content):
        return "a safetensors file, which has weights and no network"
    if content[:2] == b"#!" or content[:1] == b"<":
        return "a script or a page"
    with suppress(ImportError):  # it comes with the gateway, and gives a refusal better words
        import filetype

        if (found := filetype.guess(content[:8192])) is not None:
            return f"a file of the type {found.mime}"
    return None


# archives ------------------------------------------------------------------------------------------------------------
def _check_archive(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            _check_sizes(infos, len(content))
            _check_names(infos)
            _check_places(infos, content)
            _check_program(infos)
            _check_nested(archive, infos)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"the archive is damaged ({str(error)[:80]}); save it again") from error


def _check_sizes(infos: list[zipfile.ZipInfo], size: int) -> None:
    if len(infos) > ENTRIES:
        raise InvalidInputError(f"an archive has at most {ENTRIES:,} entries, but this has {len(infos):,}")
    total = sum(info.file_size for info in infos)
    if total > min(UNPACKED_BYTES, max(RATIO * size, 1 << 20)):
        raise InvalidInputError(
            f"an archive unpacks to at most {RATIO} times its size and {UNPACKED_BYTES >> 20} MiB, but this goes from "
            f"{size:,} to {total:,} bytes"
        )
    for info in infos:
        if info.file_size > max(1 << 20, RATIO * info.compress_size):
            raise InvalidInputError(
                f"an entry unpacks to at most {RATIO} times its size, but one goes from {info.compress_size:,} to "
                f"{info.file_size:,} bytes"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 0x1:
            raise InvalidInputError("entries are stored or deflated, not encrypted; save the archive again")


def _check_names(infos: list[zipfile.ZipInfo]) -> None:
    seen = set()
    for info in infos:
        name = info.orig_filename
        parts = name.replace("\\", "/").split("/")
        outside = name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name or "\\" in name
        if outside or len(name) > 400:
            raise InvalidInputError(f"names in an archive stay inside it, but one is {name[:60]!r}; save it again")
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidInputError(f"an archive holds plain files, but {name[:60]!r} is a link or a device")
        if name in seen:
            raise InvalidInputError(f"an archive has each name once, but {name[:60]!r} twice; save it again")
        seen.add(name)


def _check_places(infos: list[zipfile.ZipInfo], content: bytes) -> None:
    """Entries lie behind one another, from the file's begin on: those that share bytes unpack to more than there is,
    and behind another archive some readers see the one and some the other.
    """
    if min((info.header_offset for info in infos), default=0):
        raise InvalidInputError(
            "an archive begins with its first entry, but this has something before it; save it again"
        )
    end = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        at = info.header_offset
        if at < end or content[at : at + 4] != b"PK\x03\x04":
            raise InvalidInputError("entries of an archive lie behind one another, but two overlap; save it again")
        head = content[at + 26 : at + 30]
        end = at + 30 + int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little") + info.compress_size
    if end > len(content):
        raise InvalidInputError("an archive holds all of its entries, but one is cut off; save it again")


def _check_program(infos: list[zipfile.ZipInfo]) -> None:
    """It is what ``torch.export.save`` writes: one program under ``models``, as JSON."""
    names = [info.filename for info in infos]
    programs = [n for n in names if n.partition("/")[2].rpartition("/")[0] == "models" and n.endswith(".json")]
    if len(programs) == 1:
        return
    if any(name.endswith(("data.pkl", "/constants.pkl")) for name in names):
        kind = "a torch checkpoint or TorchScript (.pt, .pth), a pickle that could run any code when it is loaded"
        raise InvalidInputError(f"an upload is an exported program or ONNX, but this is {kind}; {REMEDY}")
    raise InvalidInputError(f"a .pt2 archive has one program, but this zip has {len(programs)}; {REMEDY}")


def _check_nested(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """No archive in the archive, but those of tensors that torch writes into ``data``, which nobody opens."""
    for info in infos:
        inside = info.filename.partition("/")[2]
        if info.is_dir() or inside.startswith(("data/weights/", "data/constants/", "data/sample_inputs/")):
            continue
        with archive.open(info) as stream:
            head = stream.read(8)
        if head.startswith(_ARCHIVES) or info.filename.lower().endswith(_SUFFIXES):
            raise InvalidInputError(f"an archive holds no other archive, but {info.filename[:60]!r} is one")


# ONNX ----------------------------------------------------------------------------------------------------------------
#: {message: {number of a field: the message in it}} of onnx.proto3, as far as tensors can lie.
_MESSAGES: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "node": {5: "attribute"},
        "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
        "sparse": {1: "tensor", 2: "tensor"},
        "function": {7: "node", 11: "attribute"},
        "training": {1: "graph", 2: "graph"},
    }
)
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_EXTERNAL, _LOCATION = 13, 14


class _Walk:
    """Looks at every field of a message once; nothing is copied."""

    def __init__(self, content: bytes) -> None:
        self.content, self.left = content, FIELDS

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, wire type, where its content begins, where it ends; or its value where it is a number)."""
        at = start
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise InvalidInputError(f"an ONNX file has at most {FIELDS:,} parts outside of its weights; split it")
            key, at = self.varint(at, end)
            wire, number = key & 7, key >> 3
            if wire == 0:
                value, at = self.varint(at, end)
                yield number, wire, value, at
                continue
            if wire == 2:
                size, at = self.varint(at, end)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise InvalidInputError(_NEITHER)
            if number == 0 or at + size > end:
                raise InvalidInputError(_NEITHER)
            yield number, wire, at, at + size
            at += size

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A number and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self.content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise InvalidInputError(_NEITHER)


_NEITHER = f"an upload is an exported program or ONNX, but this is neither; {REMEDY}"


def _check_onnx(content: bytes) -> None:
    walk = _Walk(content)
    top = [(number, wire, a, b) for number, wire, a, b in walk.fields(0, len(content))]
    version = [a for number, wire, a, _ in top if number == 1 and wire == 0]
    graphs = [1 for number, wire, _, _ in top if number == 7 and wire == 2]
    known = all(number in _MODEL_FIELDS for number, *_ in top)
    if len(version) != 1 or not 1 <= version[0] <= 100 or len(graphs) != 1 or not known:
        raise InvalidInputError(_NEITHER)
    _look(walk, "model", 0, len(content), 0)


def _look(walk: _Walk, message: str, start: int, end: int, depth: int) -> None:
    """No tensor keeps its values in another file, however deep it lies."""
    if depth > DEPTH * 3:
        raise InvalidInputError(f"graphs in an ONNX file lie at most {DEPTH} deep in one another; flatten it")
    inner = _MESSAGES.get(message, {})
    for number, wire, a, b in walk.fields(start, end):
        if message == "tensor" and ((number == _EXTERNAL and wire == 2) or (number == _LOCATION and wire == 0 and a)):
            raise InvalidInputError(
                "an uploaded ONNX file holds its weights itself, but this one names other files (external data); save "
                "it in one file: onnx.save(model, path, save_as_external_data=False)"
            )
        if wire == 2 and number in inner:
            _look(walk, inner[number], a, b, depth + 1)
