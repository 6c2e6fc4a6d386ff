"""Results on disk: checked before the work, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from codesign_kernel.errors import OutputError


def check_folder(folder: Path) -> None:
    """Make sure that files can be written into ``folder``, which need not exist yet; leaves nothing behind.

    Raises:
        OutputError: it cannot; the message says which folder stands in the way.
    """
    nearest = folder.absolute()
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise OutputError(f"results go into a folder, but {nearest} is not one; choose another")
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".codesign-"):
            pass
    except OSError as error:
        raise OutputError(
            f"results need a folder that can be written to, but {nearest} cannot: {error.strerror or error}; "
            "choose another"
        ) from error


def check_file(path: Path) -> None:
    """Make sure that the file ``path`` can be written.

    Raises:
        OutputError: it cannot, or it is a folder.
    """
    if path.is_dir():
        raise OutputError(f"a file is asked for, but {path} is a folder; add a file name to it")
    check_folder(path.parent)


def write_whole(path: Path, text: str | bytes | Iterable[str]) -> None:
    """Write ``text``, whole or in pieces, to ``path`` through a temporary file beside it: nobody ever reads half of it.

    Text is written as UTF-8, bytes as they are.

    Raises:
        OutputError: it cannot be written; an older file of that name is untouched.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as stream:
            pieces = [text] if isinstance(text, (str, bytes)) else text
            stream.writelines(piece if isinstance(piece, bytes) else piece.encode() for piece in pieces)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)


def write_folder(folder: Path, texts: Mapping[str, str] | Mapping[str, str | bytes]) -> list[Path]:
    """Write all of ``texts`` (by path within ``folder``), or none of them; other files in ``folder`` stay.

    Everything is written beside the folder first and moved when it is complete.

    Raises:
        OutputError: it cannot be written.
    """
    folder = folder.absolute()
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}; choose another place") from error
    try:
        for name, text in texts.items():
            write_whole(staged / name, text)
        for name in texts:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged / name, folder / name)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return [folder / name for name in texts]
