"""Bytes by their digest: small ones in the database, large ones as files beside SQLite's."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, select

from codesign_kernel.errors import InvalidInputError, StoreError, StoreFullError
from codesign_kernel.store.database import Database
from codesign_kernel.store.digests import checked_digest, sha256
from codesign_kernel.store.schema import ArtefactRow

#: Bytes above which an artefact becomes a file: SQLite reads a file of its own faster than a row from about here on.
FILE_BYTES = 1 << 20
#: What both databases take in one value.
LIMIT_BYTES = 900 << 20


class Artefacts:
    """The artefacts of one database.

    Attributes:
        folder: where large ones lie, as ``ab/abcd...``; ``None`` with PostgreSQL, which keeps all of them itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        path = database.path
        self.folder = None if path is None else path.with_name(f"{path.name}.files")

    def insert(self, connection: Connection, content: bytes) -> str:
        """Keep ``content``, within a transaction; its digest. A file is complete before any row speaks of it.

        Raises:
            InvalidInputError: it is no bytes, or more than a database takes.
            StoreFullError: the disk is full.
            StoreError: the file cannot be written.
        """
        if not isinstance(content, bytes) or len(content) > LIMIT_BYTES:
            raise InvalidInputError(
                f"an artefact is at most {LIMIT_BYTES:,} bytes, but got "
                f"{len(content) if isinstance(content, bytes) else type(content).__name__}; split it, or encode it"
            )
        digest = sha256(content)
        inside = self.folder is None or len(content) <= FILE_BYTES
        if not inside:
            self._write_file(digest, content)
        row = {"digest": digest, "size": len(content), "content": content if inside else None}
        self._database.insert_new(connection, ArtefactRow, [row])
        return digest

    def read(self, connection: Connection, digest: str) -> bytes:
        """The bytes of ``digest``, checked against it.

        Raises:
            InvalidInputError: there are none.
            StoreError: the file is gone or damaged.
        """
        checked_digest(digest, "an artefact's digest")
        found = connection.execute(select(ArtefactRow.content).where(ArtefactRow.digest == digest)).one_or_none()
        if found is None:
            raise InvalidInputError(f"the store {self._database.place} has no artefact {digest}; keep it first")
        content = found.content if found.content is not None else self._read_file(digest)
        if sha256(content) != digest:
            raise StoreError(f"the artefact {digest} of {self._database.place} is damaged; keep it again")
        return bytes(content)

    def _file(self, digest: str) -> Path:
        if self.folder is None:
            raise StoreError(f"the artefact {digest} of {self._database.place} has no content; keep it again")
        return self.folder / digest[:2] / digest

    def _read_file(self, digest: str) -> bytes:
        path = self._file(digest)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"the artefact {digest} should be in {path}, but {error.strerror or error}; "
                "a store in SQLite is moved together with its folder"
            ) from error

    def _write_file(self, digest: str, content: bytes) -> None:
        path, temporary = self._file(digest), ""
        try:
            if path.is_file() and sha256(path.read_bytes()) == digest:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            temporary = ""
        except OSError as error:
            told = f"{path} cannot be written: {error.strerror or error}, and nothing was kept"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFullError(f"{told}; make room, then repeat") from error
            raise StoreError(f"{told}; check the folder") from error
        finally:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)
