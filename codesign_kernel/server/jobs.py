"""The job service: a queue in the database, fair between people, and workers in the sandbox that empty it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from codesign_kernel.errors import StoreError, StoreUnavailableError
from codesign_kernel.scopes import Scope, scope_of
from codesign_kernel.server.asking import check_room, request_digest, same_request
from codesign_kernel.server.belongings import Belongings
from codesign_kernel.server.news import News
from codesign_kernel.server.runner import STUDY_PREFIX, Ran, Runner
from codesign_kernel.server.settings import Settings
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.jobs import ATTEMPTS, ENDED, JobRecord, JobTable, now
from codesign_kernel.store.store import Store
from codesign_kernel.telemetry.trace import Tracer

#: Kinds that take less than it takes to start a process, and how many jobs of one person one process runs in a row.
TOGETHER, MOST = frozenset({"profile", "evaluate"}), 32
#: Kinds whose result is given again to the same person for the same request: they make no files.
REPEATED = frozenset({"profile", "evaluate", "cosimulate"})
#: Seconds between two clean-ups.
CLEAN_S = 60.0
#: Seconds that running work has to end when it is stopped.
END_S = 30.0


@dataclass
class _Batch:
    """Jobs that one process runs, one behind the other."""

    owner: str
    rows: Sequence[JobRecord]
    halt: threading.Event = field(default_factory=threading.Event)
    stopped: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    asked: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    since_s: float = field(default_factory=time.monotonic)


class Jobs:
    """Takes, runs and answers for jobs. Its methods block: they are called from threads, never from an event loop.

    Args:
        settings: max_jobs, jobs_per_user, max_queued_jobs.
        store: where jobs are kept.
        vault: seals requests, results and files.
        runner: runs a batch in the sandbox.
        consent: whether a person agreed that results are kept beyond the session.
        others: whether more people than one may hand in jobs.
        told: called as ``told(kind, state, who, job, seconds)`` when a job was queued or has ended.
        worked: called as ``worked(kind, request, result, seconds)`` when a job is done that was not answered as before.
        failed: called with an error that a worker thread met.
        tracer: of the jobs.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        vault: Vault,
        runner: Runner,
        *,
        consent: Callable[[str], bool],
        others: Callable[[], bool] = lambda: True,
        told: Callable[[str, str, str, str, float], None] = lambda *facts: None,
        worked: Callable[[str, Mapping[str, Any], Any, float], None] = lambda *facts: None,
        failed: Callable[[Exception], None] = lambda error: None,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings, self.vault, self.runner = settings, vault, runner
        self.table, self.belongings = JobTable(store), Belongings(store, vault, consent)
        self._others, self._told, self._worked, self._failed = others, told, worked, failed
        self._tracer = tracer or Tracer()
        self._lock = threading.Condition()
        self._live: dict[str, _Batch] = {}
        self._busy: Counter[str] = Counter()
        self._served: dict[str, float] = {}
        self._news = News()
        #: an event of the loop that asks, set when something of that job changes; and how that is told
        self.watching, self.changed, self.changed_people = self._news.of, self._news.tell, self._news.tell_all
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._cleaned = time.monotonic()

    # life ----------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Put back what a crash left behind, and begin to work."""
        for row in self.table.left_running():
            if row.attempt >= ATTEMPTS:
                told = {"code": "Interrupted", "message": f"the gateway ended {row.attempt} times while this job ran"}
                self._fail(row.id, told)
            else:
                self.table.back(
                    [row.id], {"state": "queued", "message": "put back after the gateway ended"}, count=True
                )
        self.table.forget_expired()
        self.belongings.forget_expired()
        for number in range(self.settings.max_jobs):
            thread = threading.Thread(target=self._work, name=f"codesign-job-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Stop working; what runs goes back into the queue and does not count as an attempt."""
        with self._lock:
            self._closing = True
            for batch in self._live.values():
                batch.halt.set()
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(timeout=END_S)

    # what operators see ----------------------------------------------------------------------------------------------
    def counts(self) -> dict[str, int]:
        """{state: how many jobs wait or run}."""
        return self.table.counts()

    def everybodys(self, limit: int) -> list[dict[str, Any]]:
        """Jobs of all people, those that have not ended first: what each is and how far, not what it was asked."""
        told = ("id", "owner", "kind", "scope", "state", "done", "attempt", "created_at", "started_at", "finished_at")
        return [
            {name: at.isoformat() if isinstance(at := getattr(one, name), datetime) else at for name in told}
            for one in self.table.everybodys(limit)
        ]

    # what people ask -------------------------------------------------------------------------------------------------
    def submit(
        self,
        owner: str,
        scope: Scope,
        kind: str,
        request: Mapping[str, Any],
        key: str | None = None,
        trace: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[JobRecord, bool]:
        """Take a job, which goes on in ``trace``; ``False`` beside the one that the key names already.

        Raises:
            ReusedKeyError: the key names a job with another request.
            QueueFullError: there is no room.
        """
        digest = request_digest(kind, request)
        if key is not None and (known := self.table.by_key(owner, key)) is not None:
            return same_request(known, digest), False
        check_room(self.table.waiting(), owner, self.settings.max_queued_jobs)
        told = {"name": scope.name, **scope.plain()}
        body = json.dumps({"kind": kind, "request": request, "scope": told, "trace": dict(trace)})
        row: dict[str, Any] = {
            "id": uuid.uuid4().hex, "owner": owner, "kind": kind, "scope": scope.name, "state": "queued",
            "idempotency_key": key, "request_digest": digest, "request": self.vault.seal(body.encode()),
            "created_at": now(), "expires_at": self.belongings.expiry(owner),
        }  # fmt: skip
        events: list[Mapping[str, Any]] = [{"state": "queued", "done": 0.0, "message": ""}]
        if kind in REPEATED and (same := self.table.same(owner, kind, scope.name, digest)) is not None:
            sealed = self.table.content(same.id)[1]
            row |= {"state": "done", "done": 1.0, "result": sealed, "finished_at": now(), "message": "as before"}
            events.append({"state": "done", "done": 1.0, "message": "as before"})
        found, new = self.table.add(row, events)
        if not new:
            return same_request(found, digest), False
        self._told(kind, "queued", owner, found.id, 0.0)
        if found.state in ENDED:
            self._told(kind, found.state, owner, found.id, 0.0)
        with self._lock:
            self._lock.notify()
        return found, True

    def result(self, row: JobRecord) -> Any:
        """The result of a job that is done, plain data."""
        sealed = self.table.content(row.id)[1]
        return None if sealed is None else json.loads(self.vault.open(sealed)).get("result")

    def why(self, row: JobRecord) -> str:
        """Why a job failed; empty where it did not."""
        if row.told is None:
            return row.error
        told = json.loads(self.vault.open(row.told))["error"]
        return f"{told['code']}: {told['message']}"

    def stop(self, owner: str, job: str) -> JobRecord | None:
        """End a job that waits or runs; one that has ended stays as it is. ``None``: there is none."""
        row = self.table.get(owner, job)
        if row is None or row.state in ENDED:
            return row
        with self._lock:
            batch = self._live.get(job)
            if batch is not None:
                batch.stopped.add(job)
                batch.halt.set()
        if batch is None:
            self.table.finish(job, "stopped", [{"state": "stopped", "message": "stopped before it began"}])
            self.changed(job)
        return self.table.get(owner, job)

    def stop_all(self, owner: str) -> int:
        """End everything of a person that waits or runs, and come back when it has ended; how many jobs that were."""
        return self._stopped(owner, self.table.page(owner, 10_000))

    def _stopped(self, owner: str, rows: Sequence[JobRecord]) -> int:
        left = [row.id for row in rows if row.state not in ENDED]
        for job in left:
            self.stop(owner, job)
        with self._lock:
            self._lock.wait_for(lambda: not any(job in self._live for job in left), timeout=END_S)
        return len(left)

    def forget_unkept(self, owner: str) -> None:
        """The person leaves: what they did not agree to keep goes now."""
        rows = [row for row in self.table.page(owner, 10_000) if row.expires_at is not None]
        self._stopped(owner, rows)
        for row in rows:
            self.table.forget(owner, row.id)
        for file in self.belongings.page(owner, 10_000):
            if file.expires_at is not None:
                self.belongings.forget(owner, file.id)

    # work ------------------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        """One worker thread: take the next batch, run it, again."""
        while not self._closing:
            try:
                batch = self._next()
                if batch is not None:
                    self._run(batch)
            except Exception as error:  # the outermost edge of a thread: the queue goes on, the operator is told
                self._failed(error)
                self._cleaned -= CLEAN_S  # what could not be written is put right with the next look, not in a minute
                time.sleep(1.0)

    def _most(self) -> int:
        """How many batches of one person run at once. What runs is not interrupted for who comes later, and may take
        the whole ``wall_s``: where there are others, the last runner is theirs."""
        most, all_but_one = self.settings.jobs_per_user, self.settings.max_jobs - 1
        return all_but_one if 0 < all_but_one < most and self._others() else most

    def _next(self) -> _Batch | None:
        """The next batch: of the person with the fewest that run, then of who was served longest ago."""
        with self._lock:
            if self._closing:
                return None
            waiting = self.table.waiting()
            most = self._most() if waiting else 0
            free = [o for o in waiting if self._busy[o] < most]
            free.sort(key=lambda o: (self._busy[o], self._served.get(o, 0.0), waiting[o][1]))
            for owner in free:
                rows = self.table.claim(owner, TOGETHER, MOST, {"state": "running", "done": 0.0, "message": ""})
                if rows:
                    batch = _Batch(owner, rows)
                    self._busy[owner] += 1
                    self._served = {o: at for o, at in self._served.items() if o in waiting} | {owner: time.monotonic()}
                    self._live |= {row.id: batch for row in rows}
                    return batch
            self._clean()
            self._lock.wait(timeout=2.0)
        return None

    def _clean(self) -> None:
        if time.monotonic() - self._cleaned > CLEAN_S:
            self._cleaned = time.monotonic()
            # what a lost database kept from being written: it runs nowhere
            lost = [row.id for row in self.table.left_running() if row.id not in self._live]
            self.table.back(lost, {"state": "queued", "done": 0.0, "message": "put back"}, count=True)
            self.table.forget_expired()
            self.belongings.forget_expired()

    def _run(self, batch: _Batch) -> None:
        for row in batch.rows:
            self.changed(row.id)
        reason, lost = "", False
        try:
            asked = [self._asked(row) for row in batch.rows]
            batch.asked = {job["id"]: job for job in asked}
            ran = Ran(self._progress, lambda job, told: self._ended(batch, job, told))
            reason = self.runner.run(batch.owner, asked[0]["scope"], asked, batch.halt, ran, self.belongings.input)
        except StoreUnavailableError:
            lost = True  # no fault of the jobs
            raise
        except BaseException:
            reason = "the worker could not be started"
            raise
        finally:
            self._settle(batch, reason, lost)

    def _asked(self, row: JobRecord) -> dict[str, Any]:
        told = json.loads(self.vault.open(self.table.content(row.id)[0]))
        scope = told.pop("scope")
        return {"id": row.id, **told, "scope": scope_of(scope.pop("name"), scope)}

    def _progress(self, job: str, done: float, message: str, event: bool) -> None:
        events = [{"state": "running", "done": done, "message": message}] if event else []
        with suppress(StoreError):  # the next one tells more; the work needs no database before its end
            self.table.progress(job, done, message, events)
            self.changed(job)

    def _ended(self, batch: _Batch, job: str, told: Mapping[str, Any]) -> None:
        """A job of the batch said what came of it."""
        if job in batch.ended:
            return
        if "error" in told:
            self._fail(job, told["error"])
        else:
            files = [
                self.belongings.row(batch.owner, self._named(batch, job, name), media_type, content, job)
                for name, media_type, content in told["files"]
            ]
            seconds = time.monotonic() - batch.since_s
            sealed = self.vault.seal(json.dumps({"result": told["result"]}).encode())
            events = [{"state": "done", "done": 1.0, "message": ""}]
            self.table.patiently(lambda: self.table.finish(job, "done", events, result=sealed, files=files))
            asked = batch.asked[job]
            self._worked(asked["kind"], asked["request"], told["result"], seconds)
        batch.ended.add(job)
        with self._lock:
            self._leave(batch, job)
        self._over(batch, job, "failed" if "error" in told else "done")

    def _named(self, batch: _Batch, job: str, name: str) -> str:
        """What a file of a job is called: the study of an exploration has the name that its person gave it."""
        return f"{STUDY_PREFIX}{batch.asked[job]['request'].get('name', '')}" if name == "study.db" else name

    def _over(self, batch: _Batch, job: str, state: str) -> None:
        """Tell that a job has ended; the next of its process begins now."""
        self.changed(job)
        kind = next(row.kind for row in batch.rows if row.id == job)
        now_s = time.monotonic()
        seconds, batch.since_s = now_s - batch.since_s, now_s
        trace = batch.asked.get(job, {}).get("trace", {})
        self._tracer.past(f"job {kind}", seconds, trace, failed=state == "failed", job=job, kind=kind, state=state)
        self._told(kind, state, batch.owner, job, seconds)

    def _settle(self, batch: _Batch, reason: str, lost: bool) -> None:
        """What the process left open: stopped, failed, or not its turn yet."""
        left = [row.id for row in batch.rows if row.id not in batch.ended]
        with self._lock:
            closing = self._closing
        try:
            self._put_away(batch, left, closing or lost, reason)
        finally:
            with self._lock:
                self._busy[batch.owner] -= 1
                for job in left:
                    self._leave(batch, job)
                self._lock.notify_all()

    def _leave(self, batch: _Batch, job: str) -> None:
        """The job is the batch's no more; another one may have taken it meanwhile, and keeps it. The lock is held."""
        if self._live.get(job) is batch:
            del self._live[job]

    def _put_away(self, batch: _Batch, left: Sequence[str], later: bool, reason: str) -> None:
        for number, job in enumerate(left):
            if job in batch.stopped:
                self.table.finish(job, "stopped", [{"state": "stopped", "message": "stopped"}])
                self._over(batch, job, "stopped")
            elif later or batch.halt.is_set() or number or batch.ended:
                # others were stopped, or used up the time before it: it was not its fault
                self.table.back([job], {"state": "queued", "done": 0.0, "message": "put back"}, count=False)
                with self._lock:
                    self._leave(batch, job)
                    late = job in batch.stopped  # told to this batch, which did not run it any more
                if late:
                    self.table.finish(job, "stopped", [{"state": "stopped", "message": "stopped"}])
                    self._over(batch, job, "stopped")
            else:
                self._fail(job, {"code": "Killed", "message": reason or "the worker ended without a result"})
                self._over(batch, job, "failed")
            self.changed(job)

    def _fail(self, job: str, told: Mapping[str, str]) -> None:
        sealed = self.vault.seal(json.dumps({"error": dict(told)}).encode())
        events = [{"state": "failed", "message": told["message"][:400]}]  # as the job's own page says it
        self.table.patiently(lambda: self.table.finish(job, "failed", events, result=sealed, error=told["code"][:60]))
