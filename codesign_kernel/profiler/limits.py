"""What a file may cost to read, and which files are read at all. No torch."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from codesign_kernel.errors import InvalidInputError

#: An ONNX file is one protobuf message, and those end at 2 GiB; larger networks keep their weights in files beside it.
ONNX_BYTES = 2 << 30
#: Of a ``.pt2`` archive only the directory and the graph are read, so weights may be as large as a disk holds.
PT2_BYTES = 1 << 40
#: Memory beyond that of an idle reader, and what an ONNX file needs besides: its bytes, and the message made of them.
MEMORY_BYTES = 512 << 20
MEMORY_PER_ONNX_BYTE = 3
#: Wall-clock time, and the slowest disk that a large ONNX file is expected on.
SECONDS = 9.0
ONNX_BYTES_PER_SECOND = 32 << 20

KINDS = {".onnx": ONNX_BYTES, ".pt2": PT2_BYTES}
_PICKLED = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".jit", ".ptl"})
ACCEPTED = "an exported program (.pt2, written by torch.export.save) or an ONNX file (.onnx)"


@dataclass(frozen=True)
class Limits:
    """What reading a file of someone else may cost; None is the default of its kind (the constants above).

    Attributes:
        file_bytes: larger files are refused before they are opened.
        memory_bytes: beyond that of an idle reader. seconds: of wall-clock time.
    """

    file_bytes: int | None = None
    memory_bytes: int | None = None
    seconds: float | None = None

    def of(self, kind: str, size: int) -> tuple[int, float]:
        """(bytes of memory, seconds) for a file of this kind and size."""
        onnx = kind == ".onnx"
        memory = MEMORY_BYTES + (MEMORY_PER_ONNX_BYTE * size if onnx else 0)
        seconds = SECONDS + (size / ONNX_BYTES_PER_SECOND if onnx else 0)
        return self.memory_bytes or memory, self.seconds or seconds


def check_file(path: Path, limits: Limits) -> tuple[str, int]:
    """The kind (".onnx" or ".pt2") and the size in bytes of a file that may be read.

    Raises:
        InvalidInputError: no such file, of another kind (pickles are never loaded), or too large.
    """
    kind = path.suffix.lower()
    if kind in _PICKLED:
        raise InvalidInputError(
            f"{path.name} is a pickled module or checkpoint, which could run any code when it is loaded, and is never "
            f"loaded; pass {ACCEPTED}, or build the module yourself and pass it"
        )
    if kind not in KINDS:
        raise InvalidInputError(
            f"a network comes from {ACCEPTED}, but {path.name} is neither; export it as one of them"
        )
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"there is no file {path} that can be read: {error}; check the path") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInputError(f"a network is read from a file, but {path} is not a regular one; copy it into a file")
    most = limits.file_bytes if limits.file_bytes is not None else KINDS[kind]
    if found.st_size > most:
        raise InvalidInputError(
            f"a {kind} file has at most {most} bytes, but {path.name} has {found.st_size}; keep weights in external "
            "data, or raise limits.file_bytes"
        )
    return kind, found.st_size
