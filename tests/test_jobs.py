"""The job service: idempotent, fair, bounded, sealed, and what was asked for survives the process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from apicases import EVALUATION, PROFILE, Here, service
from test_upload_checks import model

from codesign_kernel.errors import InvalidInputError, ServiceError, StoreUnavailableError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.api.call import scope_for
from codesign_kernel.server.jobs import Jobs
from codesign_kernel.store import Store
from codesign_kernel.store.jobs import cursor_of, now, place_of
from codesign_kernel.store.people import People
from codesign_kernel.store.persons import Person
from codesign_kernel.uploads import ONNX

SCOPE = Scope("s", capabilities=frozenset({"profile", "explore"}))


class Made(NamedTuple):
    """A service whose work is done by ``runner`` here."""

    jobs: Jobs
    runner: Here
    people: People
    ann: Person
    store: Store


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    runner = Here()
    jobs, people, store = service(tmp_path, runner, max_jobs=2, jobs_per_user=1, max_queued_jobs=8)
    yield Made(jobs, runner, people, people.add("ann", "user"), store)
    runner.hold.set()
    jobs.close()
    store.close()


def ended(jobs: Jobs, owner: str, job: str) -> Any:
    """The job when it has ended."""
    for _ in range(24_000):
        row = jobs.table.get(owner, job)
        assert row is not None
        if row.state in ("done", "failed", "stopped"):
            return row
        time.sleep(0.005)
    raise AssertionError(row)


def explore(number: int) -> dict[str, Any]:
    return {"network": "cnn", "space": "default", "seed": number}


def test_job_runs_and_everything_of_it_is_sealed(made: Made, tmp_path: Path) -> None:
    made.runner.hold.set()
    made.runner.answer = lambda job: {"result": {"x": "SECRET-R"}, "files": [("a.csv", "text/csv", b"SECRET-F")]}
    made.jobs.start()
    row, new = made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": "cnn", "name": "SECRET-Q"})
    assert new
    row = ended(made.jobs, made.ann.subject, row.id)
    assert row.state == "done"
    assert row.attempt == 1
    assert made.jobs.result(row) == {"x": "SECRET-R"}
    (file,) = made.jobs.belongings.page(made.ann.subject, 5, job=row.id)
    assert made.jobs.belongings.read(made.ann.subject, file.id) == b"SECRET-F"
    states = [data["state"] for _, _, data in made.jobs.table.events(row.id)]
    assert states == ["queued", "running", "running", "done"]
    assert [number for number, *_ in made.jobs.table.events(row.id, after=2)] == [3, 4]
    made.jobs.close()  # before the store: who looks for work opens it again
    made.store.close()
    assert b"SECRET" not in b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))


def test_a_key_stands_for_one_request(made: Made) -> None:
    first, new = made.jobs.submit(made.ann.subject, SCOPE, "profile", PROFILE, "k")
    again, second = made.jobs.submit(made.ann.subject, SCOPE, "profile", dict(reversed(PROFILE.items())), "k")
    assert (new, second) == (True, False)
    assert again.id == first.id
    with pytest.raises(ServiceError, match="used for another"):
        made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": "lenet5"}, "k")
    other = made.people.add("bob", "user")
    assert made.jobs.submit(other.subject, SCOPE, "profile", PROFILE, "k")[0].id != first.id


def test_the_same_request_is_answered_from_before_but_never_to_another(made: Made) -> None:
    made.runner.hold.set()
    made.jobs.start()
    row, _ = made.jobs.submit(made.ann.subject, SCOPE, "evaluate", EVALUATION)
    ended(made.jobs, made.ann.subject, row.id)
    again, new = made.jobs.submit(made.ann.subject, SCOPE, "evaluate", EVALUATION)
    assert new
    assert again.state == "done"
    assert made.jobs.result(again) == made.jobs.result(row)
    other = made.people.add("bob", "user")
    assert made.jobs.submit(other.subject, SCOPE, "evaluate", EVALUATION)[0].state == "queued"


def test_people_take_turns_and_small_jobs_share_a_process(made: Made) -> None:
    bob = made.people.add("bob", "user")
    owned = [made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(n))[0].id for n in range(3)]
    theirs = [made.jobs.submit(bob.subject, SCOPE, "profile", {"model": m})[0].id for m in ("cnn", "lenet5", "gpt2")]
    made.jobs.start()
    end_s = time.monotonic() + 60
    while len(made.runner.batches) < 2 and time.monotonic() < end_s:
        time.sleep(0.005)
    assert sorted(made.runner.batches) == sorted([(made.ann.subject, owned[:1]), (bob.subject, theirs)])
    made.runner.hold.set()
    for job in owned:
        assert ended(made.jobs, made.ann.subject, job).state == "done"


def test_the_queue_is_bounded_for_all_and_for_one(made: Made) -> None:
    for number in range(4):
        made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(number))
    with pytest.raises(ServiceError, match=r"of one person at most 4 jobs"):
        made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(9))
    bob, eve = made.people.add("bob", "user"), made.people.add("eve", "user")
    for number in range(4):
        made.jobs.submit(bob.subject, SCOPE, "explore", explore(number))
    with pytest.raises(ServiceError, match=r"at most 8 jobs wait \(max_queued_jobs\)") as caught:
        made.jobs.submit(eve.subject, SCOPE, "explore", explore(0))
    assert caught.value.status == 503


def test_a_limit_fails_the_job_that_reached_it_and_no_other(made: Made) -> None:
    made.runner.hold.set()
    made.runner.answer = lambda job: (
        {"dies": "wall_s: 3 s"} if job["request"]["model"] == "gpt2" else {"result": {}, "files": []}
    )
    ids = [made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": m})[0].id for m in ("cnn", "gpt2", "lenet5")]
    made.jobs.start()
    rows = [ended(made.jobs, made.ann.subject, job) for job in ids]
    assert [row.state for row in rows] == ["done", "failed", "done"]
    assert made.jobs.why(rows[1]) == "Killed: wall_s: 3 s"


def test_without_consent_a_job_is_forgotten_with_its_files(made: Made, tmp_path: Path) -> None:
    row, _ = made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(1))
    assert row.expires_at is not None
    assert 3500 < (row.expires_at - now()).total_seconds() <= 3600
    made.jobs.table.finish(row.id, "done", [], result=b"")
    file = made.jobs.belongings.keep(made.ann.subject, "f", "text/csv", b"x", job=row.id)
    later = row.expires_at.replace(year=row.expires_at.year + 1)
    assert made.jobs.table.forget_expired(later) == 1
    assert made.jobs.table.get(made.ann.subject, row.id) is None
    assert made.jobs.belongings.read(made.ann.subject, file.id) is None


def test_with_consent_it_is_kept(tmp_path: Path) -> None:
    jobs, people, store = service(tmp_path, Here(), consent=True)
    row, _ = jobs.submit(people.add("ann", "user").subject, SCOPE, "explore", explore(1))
    assert row.expires_at is None
    store.close()


def test_pages_have_every_job_once(made: Made) -> None:
    ids = [made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(n))[0].id for n in range(4)]
    table, seen, after = made.jobs.table, [], None
    while rows := table.page(made.ann.subject, 1, after):
        seen += [row.id for row in rows]
        after = cursor_of(rows[-1].created_at, rows[-1].id)
    assert sorted(seen) == sorted(ids)
    for wrong in ("x", "", "AAAA", "' OR 1=1 --", "é"):
        with pytest.raises(InvalidInputError, match="after is a place"):
            place_of(wrong)


CRASH = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from apicases import Here, service
from codesign_kernel.scopes import Scope
jobs, people, store = service(Path({folder!r}), Here(), max_jobs=1)
jobs.start()
if not people.by_name("ann"):
    ann = people.add("ann", "user")
    for number in range(2):
        jobs.submit(ann.subject, Scope("s"), "explore", {{"network": "cnn", "seed": number}}, str(number))
while jobs.table.counts()["running"] != 1:
    time.sleep(0.01)
print("running", flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_a_killed_gateway_puts_its_jobs_back_once(tmp_path: Path) -> None:
    """kill -9 twice in the middle of a job: once it is put back, then it is called failed; the other one still runs."""
    code = CRASH.format(path=[str(Path(__file__).parent)], folder=str(tmp_path))
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ})
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    runner = Here()
    runner.hold.set()
    jobs, people, store = service(tmp_path, runner)
    ann = people.by_name("ann")
    assert ann is not None
    jobs.start()
    rows = {row.idempotency_key: ended(jobs, ann.subject, row.id) for row in jobs.table.page(ann.subject, 9)}
    assert (rows["0"].state, rows["0"].attempt) == ("failed", 2)
    assert "ended 2 times while this job ran" in jobs.why(rows["0"])
    assert (rows["1"].state, rows["1"].attempt) == ("done", 1)
    jobs.close()
    store.close()


def test_closing_puts_back_without_an_attempt(tmp_path: Path) -> None:
    runner = Here()
    jobs, people, store = service(tmp_path, runner)
    ann = people.add("ann", "user")
    row, _ = jobs.submit(ann.subject, SCOPE, "explore", explore(1))
    jobs.start()
    while not runner.batches:
        time.sleep(0.005)
    jobs.close()
    again = jobs.table.get(ann.subject, row.id)
    assert again is not None
    assert (again.state, again.attempt) == ("queued", 0)
    store.close()


@pytest.mark.slow
def test_the_real_worker_in_the_sandbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One process for two jobs: a result, and an error in words without a path of the server."""
    tmp_path = tmp_path_factory.mktemp("j")  # short, because sockets lie in it
    jobs, people, store = service(tmp_path, max_jobs=1)
    ann = people.add("ann", "user")
    scope = scope_for(ann, 0)
    good, _ = jobs.submit(ann.subject, scope, "evaluate", EVALUATION)
    bad, _ = jobs.submit(ann.subject, scope, "evaluate", {"network": "nothing", "designs": []})
    small = {"network": "cnn", "space": {"rows": [4, 8], "cols": [4, 8]}, "name": "mine", "sampler": "random"}
    studies = [jobs.submit(ann.subject, scope, "explore", {**small, "budget": n})[0].id for n in (2, 4)]
    jobs.start()
    explored = [ended(jobs, ann.subject, job) for job in studies]
    assert [row.error for row in explored] == ["", ""]
    evaluated = [jobs.result(row)["evaluated"] for row in explored]
    assert evaluated[0] == 2
    assert evaluated[1] == 2  # the other two were known
    upload = jobs.belongings.keep(ann.subject, "m.onnx", ONNX, model())
    profiled, _ = jobs.submit(ann.subject, scope, "profile", {"upload": upload.id})
    assert jobs.result(ended(jobs, ann.subject, profiled.id))["macs"] == 12
    rows = [ended(jobs, ann.subject, row.id) for row in (good, bad)]
    assert [row.state for row in rows] == ["done", "failed"]
    assert jobs.result(rows[0])["designs"][0]["latency_cycle"] > 0
    assert jobs.why(rows[1]).startswith("InvalidInputError: there is no network 'nothing'")
    assert str(tmp_path) not in jobs.why(rows[1])
    jobs.close()
    assert not [path for path in (tmp_path / "r").iterdir() if path.is_dir()]
    store.close()


def test_event_loop_watches_a_job_while_the_queue_is_held(made: Made) -> None:
    """The queue is held while the database is asked, which may take seconds."""
    held, watched = threading.Event(), threading.Event()
    waits: list[bool] = []

    def hold() -> None:
        with made.jobs._lock:
            held.set()
            waits.append(watched.wait(60))

    async def watch() -> None:
        with made.jobs.watching("job"):
            watched.set()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    asyncio.run(watch())
    thread.join()
    assert waits == [True]


def test_what_a_lost_database_left_running_goes_back_at_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": "cnn"})
    claim, lost = made.jobs.table.claim, threading.Event()

    def claimed(*given: Any) -> Any:
        found = claim(*given)
        if found and not lost.is_set():  # written, and the answer was lost on the way
            lost.set()
            raise StoreUnavailableError("lost")
        return found

    monkeypatch.setattr(made.jobs.table, "claim", claimed)
    monkeypatch.setattr("codesign_kernel.server.jobs.CLEAN_S", 1e9)  # never by the clock
    made.runner.hold.set()
    made.jobs.start()
    assert ended(made.jobs, made.ann.subject, row.id).state == "done"
    assert lost.is_set()


def test_a_database_lost_before_a_job_begins_does_not_fail_it(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": "cnn"})
    content, lost = made.jobs.table.content, threading.Event()

    def read(job: str) -> Any:
        if not lost.is_set():
            lost.set()
            raise StoreUnavailableError("lost")
        return content(job)

    monkeypatch.setattr(made.jobs.table, "content", read)
    made.runner.hold.set()
    made.jobs.start()
    assert ended(made.jobs, made.ann.subject, row.id).state == "done"
    assert lost.is_set()


def test_progress_that_a_lost_database_does_not_take_ends_no_job(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of hours is not begun again because how far it is could not be written down."""
    lost = threading.Event()

    def gone(*told: Any) -> None:
        lost.set()
        raise StoreUnavailableError("lost")

    monkeypatch.setattr(made.jobs.table, "progress", gone)
    made.runner.hold.set()
    made.jobs.start()
    row, _ = made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": "cnn"})
    row = ended(made.jobs, made.ann.subject, row.id)
    assert lost.is_set()
    assert (row.state, row.attempt) == ("done", 1)
    assert "queued" not in [data["state"] for _, _, data in made.jobs.table.events(row.id)][1:]
