"""Folders for what is built: a cache by content, and scratch folders that vanish."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codesign_kernel.errors import OutputError

#: A build takes minutes: what is older was left by a process that was killed.
_ABANDONED_S = 86_400


def cache_root() -> Path:
    """``$CODESIGN_CACHE_DIR``, else ``codesign`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    given = os.environ.get("CODESIGN_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codesign"


def cached_folder(kind: str, content: str, build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` fills for ``content``; built at most once, and never seen half-built.

    Processes that build the same at once each build their own; the first to finish is kept. The path is new for every
    content, because a library that is replaced under its old path goes on being served from memory.

    Raises:
        OutputError: the cache cannot be written.
    """
    final = cache_root() / kind / hashlib.sha256(content.encode()).hexdigest()
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final.parent)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=final.parent))
    except OSError as error:
        raise OutputError(
            f"builds are kept in a folder that can be written, but {final.parent}: {error.strerror}; "
            "set CODESIGN_CACHE_DIR"
        ) from error
    try:
        build(part)
        try:
            os.replace(part, final)
        except OSError:
            if not final.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def discard(folder: Path) -> None:
    """Take ``folder``, found damaged, out of the cache; the next to ask for it builds it again.

    Raises:
        OutputError: the cache cannot be written.
    """
    try:
        away = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
        try:
            os.rename(folder, away / folder.name)
        except FileNotFoundError:  # another process has seen it too
            pass
        finally:
            shutil.rmtree(away, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder} is damaged and cannot be removed: {error.strerror}; remove it") from error


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-built."""
    for part in folder.glob(".part-*"):
        try:
            abandoned = time.time() - part.stat().st_mtime > _ABANDONED_S
        except FileNotFoundError:  # another process has finished it meanwhile
            continue
        if abandoned:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"codesign-{kind}-") as folder:
        yield Path(folder)
