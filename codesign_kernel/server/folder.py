"""The data folder: made for its gateway alone, and for no other user of the machine."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codesign_kernel.errors import ServiceError
from codesign_kernel.server.settings import Settings


@contextmanager
def nobody_else() -> Iterator[None]:
    """What this process writes meanwhile is readable by its user alone: databases have no modes of their own."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def private(settings: Settings) -> Path:
    """The data folder, made where it is not there.

    Raises:
        ServiceError: it cannot be made or written to.
    """
    folder = settings.data_dir
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            alone(folder)  # whatever the umask is
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".try-") as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise ServiceError(
            f"data_dir is a folder that {_name(os.geteuid())} can write to, with space left, but {folder}: "
            f"{error.strerror or error}; make it so, or name another (data_dir in the settings, or --data)"
        ) from error
    return folder


def alone(folder: Path) -> None:
    """Close a data folder to others; users of cells pass through one of root's, and list nothing."""
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def same_user(settings: Settings) -> None:
    """For commands beside a gateway: refused to another user than the one that it runs as.

    Raises:
        ServiceError: the folder is another user's, who could not read what this process would write into it.
    """
    lock, folder = settings.file("lock"), settings.data_dir
    try:
        owner = (lock if lock.exists() else folder).stat().st_uid
    except OSError:  # it is not there, or not ours to look into; what opens files there says so
        return
    if owner != os.geteuid():
        raise ServiceError(
            f"the data folder is written by the user that the gateway runs as, but {folder} is {_name(owner)}'s and "
            f"this is {_name(os.geteuid())}; run this command as {_name(owner)}"
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
