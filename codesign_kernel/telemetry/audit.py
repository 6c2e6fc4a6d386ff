"""The audit trail: who did what, when, in lines that nobody can change, remove, insert, reorder or cut unnoticed.

Each line is a JSON object: ``n`` counts from 1, ``time``, ``event`` (of ``EVENTS``), ``who`` (the random name of a
person, never another), ``data``, and ``chain``, the HMAC-SHA256 of the line before's chain and this line. The key is in
a file of its own. A head file, sealed with the same key, says how the trail ends, so that a cut tail shows too. Whoever
has the key, or puts back an older copy of the trail and its head together, is not found out by this: keep the key from
those who may read the trail, and send the head (``Audit.head``) elsewhere, as /metrics and the log do.

A full file is renamed to ``NAME.0001``, ``NAME.0002``... and the chain goes on in the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from codesign_kernel.errors import AuditError
from codesign_kernel.telemetry.log import REQUEST_ID, scrub, scrubbed

#: {event: what it says}.
EVENTS = MappingProxyType(
    {
        "gateway_started": "the gateway started, with these settings",
        "gateway_stopped": "the gateway ended in order",
        "sign_in": "somebody signed in",
        "sign_in_failed": "a name and password, or a token, were wrong",
        "sign_out": "somebody signed out",
        "person_added": "a person may sign in from now on",
        "person_changed": "a person's role or state was changed",
        "token_created": "an API token was made",
        "token_used": "an API token was used for the first time in a while",
        "token_revoked": "an API token was taken back",
        "app_opened": "a page of an app was opened",
        "kernel_started": "a confined process was started for somebody",
        "kernel_ended": "it ended",
        "kernel_killed": "it was ended because it reached a limit",
        "job_submitted": "work was asked for",
        "job_ended": "it ended, in this state",
        "upload_refused": "a file was not taken",
        "scope_refused": "something was asked for that the scope does not allow",
        "rate_limited": "somebody asked too often",
        "ownership_refused": "somebody asked for what belongs to another",
        "origin_refused": "a page of another site asked",
        "exported": "a person's data was given to them",
        "erased": "a person's data was erased",
        "consent_changed": "a person agreed to something, or took it back",
        "retention": "what was older than its time was erased",
        "keys_rotated": "a new key encrypts from now on",
        "backup": "a backup was written or read back",
        "admin_action": "an administrator stopped or read something of another person's",
        "audit_mended": "the end of this trail was half written when the process or machine died, and was taken off",
        "audit_forgotten": "the oldest files of this trail were removed, as the retention says",
    }
)

#: A file is renamed when it is larger than this.
ROTATE_BYTES = 16 << 20
GENESIS = "0" * 64
_HEAD_BYTES = 512


class Head(NamedTuple):
    """How the trail stands: its last number and chain, the current file's size, the files that were renamed, and the
    number and chain before the first line that is kept."""

    n: int = 0
    chain: str = GENESIS
    size: int = 0
    files: int = 0
    first_n: int = 0
    first_chain: str = GENESIS


def render(entry: dict[str, Any]) -> bytes:
    """An entry as it stands in a line."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def chained(key: bytes, before: str, entry: dict[str, Any]) -> str:
    """The chain of an entry (without its own) behind a line with the chain ``before``."""
    return hmac.new(key, before.encode() + render(entry), hashlib.sha256).hexdigest()


def sealed_head(key: bytes, head: Head) -> bytes:
    """The head file's content: one line, filled up with spaces, as it is written over in place."""
    plain = json.dumps(head._asdict(), separators=(",", ":"))
    mac = hmac.new(key, b"head" + plain.encode(), hashlib.sha256).hexdigest()
    return f"{mac} {plain}".encode().ljust(_HEAD_BYTES - 1) + b"\n"


def opened_head(key: bytes, content: bytes) -> Head | None:
    """The head of such a content; ``None`` if it is not as it was written."""
    mac, _, plain = content.strip().partition(b" ")
    expected = hmac.new(key, b"head" + plain, hashlib.sha256).hexdigest()
    return Head(**json.loads(plain)) if hmac.compare_digest(mac, expected.encode()) else None


def paths(path: Path) -> tuple[Path, Path]:
    """The head file and the lock file of a trail."""
    return path.with_name(path.name + ".head"), path.with_name(path.name + ".lock")


def read_key(key_file: Path) -> bytes:
    """The key of a trail.

    Raises:
        AuditError: it is not there, or is none.
    """
    try:
        key = bytes.fromhex(key_file.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise AuditError(f"the audit trail's key {key_file} cannot be read; put it back from the backup") from error
    if len(key) != 32:
        raise AuditError(f"the audit trail's key has 32 bytes, but that of {key_file} has {len(key)}; put it back")
    return key


def numbered_files(path: Path) -> list[Path]:
    """The renamed files of a trail, the oldest first."""
    found = [one for one in path.parent.glob(path.name + ".*") if one.suffix[1:].isdigit()]
    return sorted(found, key=lambda one: int(one.suffix[1:]))


def key_beside(path: Path) -> Path:
    """Where the key of a trail is unless somebody says otherwise."""
    return path.with_name(path.stem + ".key")


class Audit:
    """A trail that is written to. Threads and processes may share it.

    Args:
        path: of the current file; folder, key and file are made if they are not there, for their owner alone.
        key_file: the key; ``NAME.key`` beside the file without.
        rotate_bytes: a file larger than this is renamed.

    Raises:
        AuditError: it cannot be written, its head or key is missing or damaged.
    """

    def __init__(self, path: Path, key_file: Path | None = None, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.path = path
        self.key_file = key_file or key_beside(path)
        self._rotate_bytes = rotate_bytes
        self._head_path, self._lock_path = paths(path)
        self._turn = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._alone():
                self._key = self._made_key()
                if not self._head_path.exists():
                    if path.exists() or numbered_files(path):
                        raise AuditError(f"the head {self._head_path} of the audit trail is gone; {_REMEDY}")
                    self._write_head(Head())
                self._mended(self._read_head())
        except OSError as error:
            raise AuditError(f"the audit trail {path} cannot be written: {error.strerror or error}") from error

    def write(self, event: str, who: str = "", **data: Any) -> int:
        """Add a line, on the disk when this returns; its number. Secrets in ``data`` are cut out.

        Raises:
            AuditError: it cannot be written: what it is about should not be done.
        """
        try:
            with self._alone():
                head = self._mended(self._read_head())
                if head.size >= self._rotate_bytes:
                    head = self._rotated(head)
                return self._append(head, event, who, data).n
        except OSError as error:
            raise AuditError(f"the audit trail {self.path} cannot be written: {error.strerror or error}") from error

    def head(self) -> Head:
        """How the trail stands.

        Raises:
            AuditError: the head is damaged.
        """
        with self._alone():
            return self._read_head()

    def forget(self, before: datetime) -> int:
        """Remove the renamed files whose last line was written before that time; how many lines those had."""
        with self._alone():
            head = self._mended(self._read_head())
            dropped, gone = 0, []
            for file in numbered_files(self.path):
                lines = file.read_bytes().splitlines()
                last = json.loads(lines[-1])
                if datetime.fromisoformat(last["time"]) >= before:
                    break
                gone.append(file)
                dropped += len(lines)
                head = head._replace(first_n=last["n"], first_chain=last["chain"])
            if gone:
                self._write_head(head)  # first: a file that stays although it is forgotten is no harm
                for file in gone:
                    file.unlink()
                self._append(head, "audit_forgotten", "", {"lines": dropped, "before": before.isoformat()})
            return dropped

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, of all threads and processes."""
        with self._turn:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)

    def _made_key(self) -> bytes:
        if not self.key_file.exists() and not self._head_path.exists():
            handle = os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(32) + "\n")
                stream.flush()
                os.fsync(handle)
        return read_key(self.key_file)

    def _read_head(self) -> Head:
        try:
            head = opened_head(self._key, self._head_path.read_bytes())
        except OSError:
            head = None
        if head is None:
            raise AuditError(f"the head {self._head_path} of the audit trail is damaged; {_REMEDY}")
        return head

    def _write_head(self, head: Head) -> None:
        handle = os.open(self._head_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, sealed_head(self._key, head), 0)
        finally:
            os.close(handle)

    def _append(self, head: Head, event: str, who: str, data: dict[str, Any]) -> Head:
        entry = {
            "n": head.n + 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "who": scrub(str(who))[:64],
            "data": scrubbed({**data, **({"request_id": REQUEST_ID.get()} if REQUEST_ID.get() else {})}),
        }
        chain = chained(self._key, head.chain, entry)
        line = render({**entry, "chain": chain}) + b"\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(handle).st_size
            if os.write(handle, line) != len(line):
                os.ftruncate(handle, before)
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
        head = head._replace(n=head.n + 1, chain=chain, size=before + len(line))
        self._write_head(head)
        return head

    def _rotated(self, head: Head) -> Head:
        os.rename(self.path, self.path.with_name(f"{self.path.name}.{head.files + 1:04d}"))
        head = head._replace(size=0, files=head.files + 1)
        self._write_head(head)
        return head

    def _mended(self, head: Head) -> Head:
        """The head, and the trail behind it, after whoever wrote last may have died while writing."""
        size = self.path.stat().st_size if self.path.exists() else 0
        renamed = self.path.with_name(f"{self.path.name}.{head.files + 1:04d}")
        if size < head.size and renamed.exists():
            head = head._replace(size=0, files=head.files + 1)
            self._write_head(head)
        if size == head.size:
            return head
        content = self.path.read_bytes() if size else b""
        if size < head.size:  # it has been cut: the line that comes next shows that to `verify`
            return self._ended(head, content)
        behind = content[head.size :]
        *whole, torn = behind.split(b"\n")
        for line in whole:
            entry = entry_of(line)
            if entry is None or entry["chain"] != chained(self._key, head.chain, _bare(entry)):
                return self._ended(head, content)  # not ours: it stays where it is, and `verify` says so
            head = head._replace(n=entry["n"], chain=entry["chain"], size=head.size + len(line) + 1)
        if torn:
            os.truncate(self.path, head.size)
            about = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
            return self._append(head, "audit_mended", "", about)
        self._write_head(head)
        return head

    def _ended(self, head: Head, content: bytes) -> Head:
        """The head at the end of a file that is not as we left it; the next line begins on a line of its own."""
        if content and not content.endswith(b"\n"):
            with self.path.open("ab") as stream:
                stream.write(b"\n")
            return head._replace(size=len(content) + 1)
        return head._replace(size=len(content))


_REMEDY = "see what happened with `codesign audit verify`, then move the trail away so that a new one begins"


def _bare(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "chain"}


def entry_of(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; ``None`` if it is none, or not written as :func:`render` writes it."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or list(entry) != ["n", "time", "event", "who", "data", "chain"]:
        return None
    whole = isinstance(entry["n"], int) and not isinstance(entry["n"], bool)
    texts = all(isinstance(entry[name], str) for name in ("time", "event", "who", "chain"))
    try:
        return entry if whole and texts and render(entry) == line else None
    except ValueError:
        return None
