"""Who was erased: subjects without names, in a file beside the data, so that no old backup brings anybody back.

A line is a JSON object: ``subject``, ``at``, and ``done``: false before the erasure began, true after it ended, so that
one that was cut off is finished later.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from codesign_kernel.errors import StoreError
from codesign_kernel.store.digests import checked_owner


class Tombstones:
    """The list in one file, which is made when the first person is erased. Threads and processes may share it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def begin(self, subject: str) -> None:
        """Write down that ``subject`` is to be erased; on the disk when this returns."""
        self._add([{"subject": checked_owner(subject), "at": _now(), "done": False}])

    def end(self, subject: str) -> None:
        """Write down that nothing is left of ``subject``."""
        self._add([{"subject": checked_owner(subject), "at": _now(), "done": True}])

    def all(self) -> dict[str, bool]:
        """{subject: whether the erasure ended}, in the order in which they were erased.

        Raises:
            StoreError: the file cannot be read, or holds something else.
        """
        try:
            text = self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"the list of the erased {self.path} cannot be read ({error}); check the file") from error
        return tombstones_of(text, str(self.path))

    def take(self, others: dict[str, bool]) -> int:
        """Add those of another list, as still to be erased here; how many were new."""
        known = self.all()
        new = [{"subject": subject, "at": _now(), "done": False} for subject in others if subject not in known]
        self._add(new)
        return len(new)

    def _add(self, entries: list[dict[str, object]]) -> None:
        if not entries:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                size = os.fstat(handle).st_size
                torn = size and os.pread(handle, 1, size - 1) != b"\n"  # whoever wrote last died at it
                lines = ("\n" if torn else "") + "".join(f"{json.dumps(entry)}\n" for entry in entries)
                os.write(handle, lines.encode("ascii"))
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise StoreError(
                f"the list of the erased {self.path} cannot be written: {error.strerror or error}; nobody was erased"
            ) from error


def tombstones_of(text: str, place: str) -> dict[str, bool]:
    """{subject: whether the erasure ended} of such a text; a last line without its end is passed over.

    Raises:
        StoreError: a line is something else.
    """
    found: dict[str, bool] = {}
    for line in text.splitlines(keepends=True):
        try:
            entry = json.loads(line)
            found[checked_owner(entry["subject"])] = entry["done"] is True
        except (ValueError, KeyError, TypeError) as error:
            if line.endswith("}\n"):
                raise StoreError(f"{place} has a line that is no erased person; put the file back") from error
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
