"""Jobs in the database: a queue that survives the process, one owner a job, events numbered from 1.

Every question that a person's request can ask names the owner, so that somebody else's job is simply not there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, insert, null, or_, select, update

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.schema import JobEventRow, JobRow
from codesign_kernel.store.store import Store

STATES = ("queued", "running", "done", "failed", "stopped")
#: States that a job does not leave.
ENDED = ("done", "failed", "stopped")
#: How often a job is started at most: once, and once more where the gateway died under it.
ATTEMPTS = 2
_LIGHT = (
    JobRow.id, JobRow.owner, JobRow.kind, JobRow.scope, JobRow.state, JobRow.idempotency_key, JobRow.request_digest,
    JobRow.error, JobRow.done, JobRow.message, JobRow.attempt, JobRow.created_at, JobRow.started_at,
    JobRow.finished_at, JobRow.expires_at, case((JobRow.state == "failed", JobRow.result), else_=null()),
)  # fmt: skip


@dataclass(frozen=True)
class JobRecord:
    """A job without its request and its result, which may be large.

    ``error`` is the kind of failure, one word; ``told`` is the sealed result of a job that failed, which says why.
    """

    id: str
    owner: str
    kind: str
    scope: str
    state: str
    idempotency_key: str | None
    request_digest: str
    error: str
    done: float
    message: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    told: bytes | None


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def cursor_of(at: datetime, name: str) -> str:
    """Where a page ends: the moment and the name of its last entry, as a text for a URL."""
    return base64.urlsafe_b64encode(f"{at.astimezone(UTC).isoformat()} {name}".encode()).decode("ascii").rstrip("=")


def place_of(cursor: str) -> tuple[datetime, str]:
    """The moment and the name of :func:`cursor_of`.

    Raises:
        InvalidInputError: the text is no such place.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        at, _, name = text.partition(" ")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None or not name.isalnum():
            raise ValueError("no place")
        return moment.astimezone(UTC), name
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidInputError(
            "after is a place that a page before gave (see its header Link), but got something else; begin without"
        ) from error


class JobTable:
    """All SQL for jobs and their events."""

    def __init__(self, store: Store) -> None:
        self._database = store._database

    # a person's questions ------------------------------------------------------------------------------------------
    def add(self, row: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> tuple[JobRecord, bool]:
        """Write a new job and its first events; ``False`` beside the one that is there, where its owner has used the
        idempotency key before."""
        whole = {"result": None, "error": "", "done": 0.0, "message": "", "attempt": 0, "started_at": None,
                 "finished_at": None, "expires_at": None, "idempotency_key": None, **row}  # fmt: skip
        with self._database.write() as connection:
            new = self._database.insert_new(connection, JobRow, [whole]) == 1
            if new:
                _append(connection, whole["id"], events)
                key = JobRow.id == whole["id"]
            else:
                key = and_(JobRow.owner == whole["owner"], JobRow.idempotency_key == whole["idempotency_key"])
            found = connection.execute(select(*_LIGHT).where(key)).one()
        return JobRecord(*found), new

    def by_key(self, owner: str, key: str) -> JobRecord | None:
        """The job that ``owner`` gave that idempotency key."""
        return self._one(and_(JobRow.owner == owner, JobRow.idempotency_key == key))

    def get(self, owner: str, job: str) -> JobRecord | None:
        """The job, where it is the owner's and has not expired."""
        return self._one(and_(JobRow.id == job, JobRow.owner == owner, _kept(JobRow.expires_at)))

    def same(self, owner: str, kind: str, scope: str, digest: str) -> JobRecord | None:
        """A job of the owner that was asked the same in the same scope and is done."""
        asked = and_(JobRow.kind == kind, JobRow.scope == scope, JobRow.request_digest == digest)
        return self._one(and_(JobRow.owner == owner, asked, JobRow.state == "done", _kept(JobRow.expires_at)))

    def page(
        self, owner: str, limit: int, after: str | None = None, *, kind: str | None = None, state: str | None = None
    ) -> list[JobRecord]:
        """The owner's jobs, the newest first, at most ``limit``, behind the place ``after``.

        Raises:
            InvalidInputError: ``after`` is no place.
        """
        wanted = select(*_LIGHT).where(JobRow.owner == owner, _kept(JobRow.expires_at))
        if kind is not None:
            wanted = wanted.where(JobRow.kind == kind)
        if state is not None:
            wanted = wanted.where(JobRow.state == state)
        if after is not None:
            at, name = place_of(after)
            wanted = wanted.where(or_(JobRow.created_at < at, and_(JobRow.created_at == at, JobRow.id < name)))
        wanted = wanted.order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [JobRecord(*row) for row in connection.execute(wanted)]

    def content(self, job: str) -> tuple[bytes, bytes | None]:
        """Request and result as they were written (sealed)."""
        with self._database.read() as connection:
            request, result = connection.execute(select(JobRow.request, JobRow.result).where(JobRow.id == job)).one()
        return request, result

    def events(self, job: str, after: int = 0, limit: int = 500) -> list[tuple[int, datetime, Any]]:
        """(number, moment, what) of the events behind number ``after``."""
        wanted = select(JobEventRow.number, JobEventRow.at, JobEventRow.data)
        wanted = wanted.where(JobEventRow.job_id == job, JobEventRow.number > after).order_by(JobEventRow.number)
        with self._database.read() as connection:
            return [(number, at, data) for number, at, data in connection.execute(wanted.limit(limit))]

    def forget(self, owner: str, job: str) -> bool:
        """Delete a job that has ended, with its events and files; whether there was one."""
        mine = and_(JobRow.id == job, JobRow.owner == owner, JobRow.state.in_(ENDED))
        with self._database.write() as connection:
            return connection.execute(delete(JobRow).where(mine)).rowcount == 1

    # the runner's ---------------------------------------------------------------------------------------------------
    def waiting(self) -> dict[str, tuple[int, datetime]]:
        """{owner: (jobs that wait, the moment of the oldest)}."""
        wanted = select(JobRow.owner, func.count(), func.min(JobRow.created_at)).where(JobRow.state == "queued")
        with self._database.read() as connection:
            return {owner: (count, first) for owner, count, first in connection.execute(wanted.group_by(JobRow.owner))}

    def counts(self) -> dict[str, int]:
        """{state: jobs} of those that wait or run."""
        wanted = select(JobRow.state, func.count()).where(JobRow.state.in_(("queued", "running")))
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(wanted.group_by(JobRow.state))}
        return {"queued": 0, "running": 0, **found}

    def everybodys(self, limit: int) -> list[JobRecord]:
        """Jobs of all people for an administrator: those that wait or run first, then the latest that have ended."""
        open_first = case((JobRow.state.in_(("queued", "running")), 0), else_=1)
        wanted = select(*_LIGHT).order_by(open_first, JobRow.created_at.desc(), JobRow.id).limit(limit)
        with self._database.read() as connection:
            return [JobRecord(*row) for row in connection.execute(wanted)]

    def claim(self, owner: str, together: Collection[str], most: int, event: Mapping[str, Any]) -> list[JobRecord]:
        """Start the owner's oldest job; of the kinds ``together`` also the next in the same scope, ``most`` in all.

        ``event`` is written for each. Two claims at once never start one job twice.
        """
        queued = and_(JobRow.owner == owner, JobRow.state == "queued")
        in_order = (JobRow.created_at, JobRow.id)
        with self._database.write() as connection:
            rows = [JobRecord(*row) for row in connection.execute(_oldest(queued, in_order, 1))]
            if rows and rows[0].kind in together:
                alike = and_(queued, JobRow.scope == rows[0].scope, JobRow.kind.in_(sorted(together)))
                rows = [JobRecord(*row) for row in connection.execute(_oldest(alike, in_order, most))]
            taken = []
            for row in rows:
                mine = and_(JobRow.id == row.id, JobRow.state == "queued")
                values = {"state": "running", "attempt": row.attempt + 1, "started_at": now()}
                if connection.execute(update(JobRow).where(mine).values(values)).rowcount == 1:
                    _append(connection, row.id, [event])
                    taken.append(row)
        return taken

    def progress(self, job: str, done: float, message: str, events: Sequence[Mapping[str, Any]]) -> None:
        """How far a running job is."""
        running = and_(JobRow.id == job, JobRow.state == "running")
        with self._database.write() as connection:
            if connection.execute(update(JobRow).where(running).values(done=done, message=message)).rowcount:
                _append(connection, job, events)

    def finish(
        self,
        job: str,
        state: str,
        events: Sequence[Mapping[str, Any]],
        *,
        result: bytes | None = None,
        error: str = "",
        files: Iterable[Mapping[str, Any]] = (),
    ) -> bool:
        """The end of a job, with its files, all at once; ``False`` where it had ended (or was deleted) before."""
        from codesign_kernel.store.schema import BelongingRow

        values: dict[str, Any] = {"state": state, "result": result, "error": error, "finished_at": now()}
        if state == "done":
            values["done"] = 1.0
        with self._database.write() as connection:
            open_one = and_(JobRow.id == job, JobRow.state.not_in(ENDED))
            if connection.execute(update(JobRow).where(open_one).values(values)).rowcount != 1:
                return False
            for row in files:
                connection.execute(insert(BelongingRow).values(dict(row)))
            _append(connection, job, events)
        return True

    def back(self, jobs: Sequence[str], event: Mapping[str, Any], *, count: bool) -> None:
        """Put running jobs back into the queue; ``count`` says whether the start counts as an attempt."""
        with self._database.write() as connection:
            for job in jobs:
                running = and_(JobRow.id == job, JobRow.state == "running")
                attempt = JobRow.attempt if count else JobRow.attempt - 1
                values = {"state": "queued", "started_at": None, "done": 0.0, "message": "", "attempt": attempt}
                if connection.execute(update(JobRow).where(running).values(values)).rowcount:
                    _append(connection, job, [event])

    def left_running(self) -> list[JobRecord]:
        """Jobs that say that they run."""
        with self._database.read() as connection:
            return [JobRecord(*row) for row in connection.execute(select(*_LIGHT).where(JobRow.state == "running"))]

    def patiently(self, work: Callable[[], bool]) -> bool:
        """``work``, again while the database cannot be reached, as long as the store waits."""
        return self._database.patiently(work)

    def forget_expired(self, at: datetime | None = None) -> int:
        """Delete what has expired and does not run; how many jobs that were."""
        gone = and_(JobRow.expires_at <= (at or now()), JobRow.state != "running")
        with self._database.write() as connection:
            return int(connection.execute(delete(JobRow).where(gone)).rowcount)

    def _one(self, where: Any) -> JobRecord | None:
        wanted = select(*_LIGHT).where(where).order_by(JobRow.created_at.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else JobRecord(*row)


def _oldest(where: Any, in_order: Sequence[Any], most: int) -> Any:
    return select(*_LIGHT).where(where).order_by(*in_order).limit(most)


def _kept(expires_at: Any) -> Any:
    return or_(expires_at.is_(None), expires_at > now())


def _append(connection: Connection, job: str, events: Sequence[Mapping[str, Any]]) -> None:
    if not events:
        return
    last = connection.execute(select(func.max(JobEventRow.number)).where(JobEventRow.job_id == job)).scalar_one() or 0
    rows = [{"job_id": job, "number": last + i, "at": now(), "data": dict(e)} for i, e in enumerate(events, start=1)]
    connection.execute(insert(JobEventRow), rows)
