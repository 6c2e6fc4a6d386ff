"""Encryption at rest: what people bring and get is sealed with Fernet before it goes into the database.

A sealed value begins with ``CPG1`` and eight digits that say which key sealed it; the rest is a Fernet token
(AES-128-CBC and HMAC-SHA-256, https://github.com/fernet/spec) without its base64. The keys file has one line a key, the
newest first: the key and the moment when it was made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from codesign_kernel.errors import StoreError

MAGIC = b"CPG1"
_ID_DIGITS = 8
#: Bytes before the token.
HEAD = len(MAGIC) + _ID_DIGITS


@dataclass(frozen=True)
class Key:
    """One key: what it is called (the first digits of its digest), its secret, when it was made."""

    id: str
    secret: bytes
    made_at: datetime

    @property
    def head(self) -> bytes:
        """What everything sealed by it begins with."""
        return MAGIC + self.id.encode()

    def __repr__(self) -> str:
        return f"Key({self.id!r})"  # never the secret: representations end up in logs


def new_key() -> Key:
    """A key that nobody has had before."""
    return _key(Fernet.generate_key(), datetime.now(UTC))


def _key(secret: bytes, made_at: datetime) -> Key:
    Fernet(secret)  # ValueError unless it is one
    return Key(hashlib.sha256(secret).hexdigest()[:_ID_DIGITS], secret, made_at)


class Vault:
    """Seals and opens bytes with the keys of a file. Threads may share it, and processes the file.

    The file is read again when it changes, so that keys can be rotated while a gateway runs.

    Args:
        keys_file: made with one new key, readable by nobody else, if it is not there.

    Raises:
        StoreError: others may read the file, or it holds no keys.
    """

    def __init__(self, keys_file: str | os.PathLike[str]) -> None:
        self.path = Path(keys_file)
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._keys: tuple[Key, ...] = ()
        if not self.path.exists():
            write_keys(self.path, [new_key()], new=True)
        self._read()

    def __repr__(self) -> str:
        return f"Vault({str(self.path)!r})"

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys, the newest first."""
        return self._read()

    def seal(self, content: bytes) -> bytes:
        """``content``, encrypted with the newest key.

        Raises:
            StoreError: the keys file is gone, or others may read it.
        """
        newest = self._read()[0]
        return newest.head + base64.urlsafe_b64decode(Fernet(newest.secret).encrypt(content))

    def open(self, sealed: bytes) -> bytes:
        """What was sealed, checked.

        Raises:
            StoreError: it was not sealed here, its key is not in the file, or it was changed since.
        """
        name = key_of(sealed)
        if name is None:
            raise StoreError("what is opened begins with the mark of what was sealed, and this does not; it is damaged")
        key = next((key for key in self._read() if key.id == name), None)
        if key is None:
            raise StoreError(
                f"this was sealed with the key {name}, which {self.path} has not "
                f"(it has {', '.join(key.id for key in self._read())}); put that key's line back into the file"
            )
        try:
            return Fernet(key.secret).decrypt(base64.urlsafe_b64encode(sealed[HEAD:]))
        except InvalidToken:
            raise StoreError(f"what the key {name} sealed was changed or cut since; restore it from a backup") from None

    def add_key(self) -> Key:
        """Put a new key before the others; from now on it seals, and the others still open."""
        with self._lock:
            added = new_key()
            write_keys(self.path, [added, *_read_keys(self.path)[1]])
        return added

    def drop_key(self, name: str) -> None:
        """Forget a key: nothing that it sealed can be opened any more.

        Raises:
            StoreError: it is the newest, or there is none of that name.
        """
        with self._lock:
            held = _read_keys(self.path)[1]
            if name not in {key.id for key in held[1:]}:
                raise StoreError(
                    f"an older key can be dropped, but {name!r:.20} is the newest or unknown; see them first"
                )
            write_keys(self.path, [key for key in held if key.id != name])

    def _read(self) -> tuple[Key, ...]:
        try:
            about = os.stat(self.path)
        except OSError as error:
            raise StoreError(
                f"the keys of the encryption should be in {self.path}, but {error.strerror or error}; put the file back"
            ) from error
        with self._lock:
            if _mark(about) != self._seen:
                self._seen, self._keys = _read_keys(self.path)
            return self._keys


def key_of(sealed: bytes) -> str | None:
    """Which key sealed it; ``None`` if none did."""
    name = bytes(sealed[len(MAGIC) : HEAD])
    if bytes(sealed[: len(MAGIC)]) != MAGIC or len(name) != _ID_DIGITS or not name.isalnum():
        return None
    return name.decode()


def _mark(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_mode


def _read_keys(path: Path) -> tuple[tuple[int, ...], tuple[Key, ...]]:
    try:
        with path.open("rb") as stream:
            about = os.fstat(stream.fileno())
            lines = stream.read(1 << 16).splitlines()
    except OSError as error:
        raise StoreError(f"the keys in {path} cannot be read: {error.strerror or error}; check the file") from error
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise StoreError(
            f"a keys file is for its owner alone, but {path} has mode {stat.S_IMODE(about.st_mode):04o}; "
            f"chmod 600 it, and rotate the keys if somebody may have read them"
        )
    try:
        words = [line.split() for line in lines if line.strip() and not line.startswith(b"#")]
        keys = tuple(_key(secret, datetime.fromisoformat(made_at.decode())) for secret, made_at in words)
    except (ValueError, binascii.Error):
        raise StoreError(f"{path} holds a line that is no key; put the file back from where you keep a copy") from None
    if not keys:
        raise StoreError(f"{path} holds no key; put the file back from where you keep a copy")
    return _mark(about), keys


def write_keys(path: Path, keys: list[Key], *, new: bool = False) -> None:
    """Write a keys file, whole or not at all, mode 0600; with ``new`` a file that another process made first stays.

    Raises:
        StoreError: it cannot be written.
    """
    text = "".join(f"{key.secret.decode()} {key.made_at.isoformat()}\n" for key in keys)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(
                f"# keys of the encryption at rest, the newest first; whoever has them reads everything\n{text}"
            )
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            with suppress(FileExistsError):
                os.link(temporary, path)
        else:
            os.replace(temporary, path)
            temporary = ""
    except OSError as error:
        raise StoreError(
            f"the keys file {path} cannot be written: {error.strerror or error}; check its folder"
        ) from error
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
