"""People with something in every store, for tests of what is kept about them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import insert, inspect, select, text

import codesign_kernel as ck
from codesign_kernel.store import digest_of
from codesign_kernel.store.artefacts import FILE_BYTES
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.schema import BelongingRow, JobEventRow, JobRow, LoginRow, PersonRow, Table, TokenRow

if TYPE_CHECKING:
    from servers import Redis


def rows(store: ck.Store, table: type[Table]) -> list[dict[str, Any]]:
    """Every row of a table."""
    with store._database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table.__table__))]


def put(store: ck.Store, table: type[Table], **row: Any) -> None:
    """A row of a table."""
    with store._database.write() as connection:
        connection.execute(insert(table).values(row))


@dataclass
class Somebody:
    """A person, and the words by which all that is theirs can be recognised: no two people share one."""

    store: ck.Store
    vault: Vault
    tag: str
    provider: str = "password"
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    subject: str = field(default_factory=lambda: secrets.token_hex(16))

    def word(self, of: str) -> str:
        return f"canary-{self.tag}-{of}-x"

    def arrive(self) -> Somebody:
        """A person with a session and a token."""
        tomorrow = self.at + timedelta(days=1)
        own = {"owner": self.subject, "created_at": self.at, "expires_at": tomorrow}
        put(
            self.store, PersonRow, subject=self.subject, name=self.word("name"), role="user",
            password=self.word("hash"), provider=self.provider, disabled=False, created_at=self.at, seen_at=self.at,
        )  # fmt: skip
        put(self.store, LoginRow, digest=digest_of(self.word("cookie")), seen_at=self.at, **own)
        put(
            self.store, TokenRow, id=secrets.token_hex(8), digest=digest_of(self.word("token")),
            label=self.word("label"), capabilities=["profile"], revoked_at=None, used_at=None, **own,
        )  # fmt: skip
        return self

    def work(self) -> Somebody:
        """A job with events, an upload, a study about a record with a large file, and a cached result."""
        job = secrets.token_hex(16)
        request = json.dumps({"model": self.word("model")}).encode()
        put(
            self.store, JobRow, id=job, owner=self.subject, kind="profile", scope="profiler", state="done",
            idempotency_key=self.word("key"), request_digest=digest_of(self.tag), request=self.vault.seal(request),
            result=self.vault.seal(self.word("result").encode()), error="", done=1.0, message=self.word("message"),
            attempt=1, created_at=self.at, started_at=self.at, finished_at=self.at, expires_at=None,
        )  # fmt: skip
        put(self.store, JobEventRow, job_id=job, number=1, at=self.at, data={"text": self.word("event")})
        for name, of in (("upload", None), ("output", job)):
            content = self.word(name).encode() * 3
            put(
                self.store, BelongingRow, id=secrets.token_hex(16), owner=self.subject, job_id=of,
                name=f"../{self.word(name)} <b>.onnx", media_type="application/octet-stream", size=len(content),
                digest=digest_of(name), content=self.vault.seal(content), created_at=self.at, expires_at=None,
            )  # fmt: skip
        study = self.store.study("mine", digest_of(0), ["a"], data={"note": self.word("study")}, owner=self.subject)
        study.recorder(seed=1).add(pd.DataFrame({"a": [1, 2], "text": [self.word("evaluation"), ""]}, index=[0, 1]))
        study.recorder().keep("sampler", self.word("state").encode())
        origin = self.store.keep("network", {"name": self.word("network")}, name=self.word("record"))
        large = self.word("artefact").encode() * (FILE_BYTES // 8)
        files = {"small": self.word("file").encode(), "large": large}
        study.attach("report", self.store.keep("report", {"of": self.tag}, files=files, links=[("network", origin)]))
        self.store.cache.of(self.subject).put(digest_of("question"), self.word("cached").encode())
        return self

    def work_quickly(self) -> None:
        """A job and its one file, written at once."""
        job, sealed = secrets.token_hex(16), self.vault.seal(b"x")
        made = {"owner": self.subject, "created_at": self.at, "expires_at": None}
        with self.store._database.write() as connection:
            connection.execute(
                insert(JobRow).values(
                    id=job,
                    kind="profile",
                    scope="",
                    state="done",
                    idempotency_key=None,
                    request_digest=digest_of(job),
                    request=sealed,
                    result=sealed,
                    error="",
                    done=1.0,
                    message="",
                    attempt=1,
                    started_at=None,
                    finished_at=None,
                    **made,
                )
            )
            connection.execute(
                insert(BelongingRow).values(
                    id=secrets.token_hex(16),
                    job_id=job,
                    name="n",
                    media_type="t",
                    size=1,
                    digest=digest_of(job),
                    content=sealed,
                    **made,
                )
            )


def holding(folder: Path, words: bytes) -> list[str]:
    """The files under ``folder`` that hold ``words``. What a gateway removes meanwhile holds nothing."""
    found = []
    for path in _files(folder):
        with contextlib.suppress(FileNotFoundError):
            if words in path.read_bytes():
                found.append(str(path))
    return found


def _files(folder: Path) -> Iterator[Path]:
    def told(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for place, folders, names in os.walk(folder, onerror=told):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(place, name)).is_file() and not path.is_symlink())


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert len(opened.namelist()) == len(set(opened.namelist()))
        return {name: opened.read(name) for name in opened.namelist()}


def tables_with(store: ck.Store, words: str) -> list[str]:
    """The tables of which a row holds ``words``, whatever the type of its columns."""
    found = []
    with store._database.read() as connection:
        for name in inspect(connection).get_table_names():
            cells = (cell for row in connection.execute(text(f'SELECT * FROM "{name}"')) for cell in row)
            if any(words in (c.decode("latin1") if isinstance(c, bytes | memoryview) else str(c)) for c in cells):
                found.append(name)
    return found


def redis_with(redis: Redis, *words: bytes) -> list[bytes]:
    import redis as client

    with client.Redis.from_url(redis.url) as opened:
        return [key for key in opened.scan_iter() if any(w in key or w in (opened.get(key) or b"") for w in words)]


def redis_forget(redis: Redis) -> None:
    import redis as client

    with client.Redis.from_url(redis.url) as opened:
        opened.flushdb()
