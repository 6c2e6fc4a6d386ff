"""One .npz file for a header and named arrays: written in one step, read without pickle, checked against its digest."""

from __future__ import annotations

import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import InvalidInputError, OutputError

FORMAT = "codesign-integer-network-1"
_OWN = ("format", "header", "digest")


def write(path: str | os.PathLike[str], header: str, arrays: Mapping[str, NDArray[Any]], digest: str) -> Path:
    """Write the file under exactly this path; a reader sees the old file or the new one, never a part of one.

    Raises:
        OutputError: the file cannot be written there.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        try:
            with draft.open("xb") as file:
                np.savez_compressed(file, format=FORMAT, header=header, digest=digest, **dict(arrays))  # type: ignore[arg-type]
            os.replace(draft, target)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; choose a folder that exists and is writable"
        ) from error
    return target


def read(path: str | os.PathLike[str]) -> tuple[str, dict[str, NDArray[Any]], str]:
    """Header, arrays and digest of a file that :func:`write` wrote.

    Raises:
        InvalidInputError: there is no such file, or it is not one of ours.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        own = {name: str(entries.pop(name)[()]) for name in _OWN}
    except FileNotFoundError as error:
        raise InvalidInputError(f"there is no file {path}; write one with IntegerNetwork.save") from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise malformed(path, error) from error
    if own["format"] != FORMAT:
        raise malformed(path, f"its format is {own['format'][:60]!r}, not {FORMAT!r}")
    return own["header"], entries, own["digest"]


def malformed(path: str | os.PathLike[str], why: object) -> InvalidInputError:
    """The error for a file that is not what :func:`write` wrote."""
    return InvalidInputError(f"{path} is not a saved IntegerNetwork: {why}; write it again with IntegerNetwork.save")
