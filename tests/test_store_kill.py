"""What happens to the store when something dies, or the disk is full: nothing finished is lost, or counted twice."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from servers import Postgres
from sqlalchemy import text

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError, StoreFullError, StoreUnavailableError
from codesign_kernel.store import database, digest_of
from codesign_kernel.store.people import People

SPACE = digest_of({"rows": [4, 8]})
ROOT = Path(__file__).parent.parent
BATCH = 50

#: A client that records batch after batch, and says which it has finished.
CLIENT = """
import sys
sys.path.insert(0, "tests")
import codesign_kernel as ck
from test_store_kill import SPACE, evaluations
url, start, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
recorder = ck.Store(url).study("s", SPACE, ["latency_ms"]).recorder(seed=start)
for batch in range(start, int(sys.argv[4]), step):
    before = recorder.added
    recorder.add(evaluations(batch))
    print(batch, recorder.added - before, flush=True)
"""


def evaluations(batch: int) -> pd.DataFrame:
    """The designs of one batch, with results that their numbers decide."""
    numbers = np.arange(BATCH * batch, BATCH * (batch + 1))
    return pd.DataFrame({"latency_ms": 1 / (numbers + 3), "rows": numbers % 7}, index=pd.Index(numbers, name="design"))


def client(url: str, start: int, step: int, stop: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, url, str(start), str(step), str(stop)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_suspended_postgresql_is_away_and_comes_back(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections stay open and nothing comes through them: what asks has an end all the same."""
    monkeypatch.setattr(database, "SILENT_S", 2.0)  # on a busy machine a sound answer takes some of that
    with ck.Store(postgres.new_store()) as store:
        people = People(store)
        ada = people.add("ada", "user")

        def ask_suspended() -> None:
            with store._database.read() as held:
                server = held.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                os.kill(server, signal.SIGSTOP)
                try:
                    held.exec_driver_sql("SELECT 1")
                finally:
                    os.kill(server, signal.SIGCONT)

        def ask_for_long() -> None:
            with store._database.read() as held:
                held.exec_driver_sql("SELECT pg_sleep(30)")

        for ask, told in ((ask_suspended, "said nothing for 2 s"), (ask_for_long, "statement timeout")):
            with pytest.raises(StoreUnavailableError, match=told):
                ask()
        assert people.by_name("ada") == ada
        with store._database.write(for_long=True) as held:
            held.exec_driver_sql("SELECT pg_sleep(2.5)")


def check(store: ck.Store, batches: set[int]) -> None:
    """The study holds exactly these batches, each design once and with its own results."""
    done = store.open_study("s").frame()
    expected = pd.concat([evaluations(batch) for batch in sorted(batches)])
    pd.testing.assert_frame_equal(done, expected, check_exact=True)


def sound(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_client_is_killed_while_it_writes(store_url: str, tmp_path: Path) -> None:
    finished: set[int] = set()
    for _ in range(3):
        start = max(finished, default=-1) + 1
        running = client(store_url, start, 1, 1_000_000)
        assert running.stdout is not None
        for _ in range(15):
            finished.add(int(running.stdout.readline().split()[0]))
        running.send_signal(signal.SIGKILL)
        finished.update(int(line.split()[0]) for line in running.stdout.read().splitlines() if line.count(" "))
        running.stdout.close()
        assert running.wait(timeout=60) == -signal.SIGKILL
    if (tmp_path / "store.db").is_file():
        sound(tmp_path / "store.db")
    with ck.Store(store_url) as store:
        there = {int(number) // BATCH for number in store.open_study("s").frame().index}
        assert finished <= there, "what was finished is there"
        assert len(there - finished) <= 3, "and at most one batch a kill that was written and not yet told"
        check(store, there)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_write_at_once(store_url: str, tmp_path: Path) -> None:
    """Each has batches of its own and batches that the other has too; every design is counted once."""
    running = [client(store_url, 0, 1, 60), client(store_url, 0, 2, 120)]
    told = [process.communicate(timeout=250)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    batches = {*range(60), *range(0, 120, 2)}
    assert sum(int(new) for lines in told for new in lines[1::2]) == BATCH * len(batches)
    if (tmp_path / "store.db").is_file():
        sound(tmp_path / "store.db")
    with ck.Store(store_url) as store:
        check(store, batches)


def test_a_forked_child_has_connections_of_its_own(store_url: str) -> None:
    with ck.Store(store_url) as store:
        recorder = store.study("s", SPACE, ["latency_ms"]).recorder()
        recorder.add(evaluations(0))
        child = os.fork()
        if not child:
            status = 1
            try:
                recorder.add(evaluations(1))
                status = 0
            finally:
                os._exit(status)
        recorder.add(evaluations(2))
        assert os.waitpid(child, 0)[1] == 0
        check(store, {0, 1, 2})


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that a test may kill."""
    with Postgres() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.postgres
def test_postgresql_is_killed_in_the_middle(own_postgres: Postgres) -> None:
    """The recording waits for it, and goes on where it was."""
    recorded: list[int] = []
    stop = threading.Event()
    with ck.Store(own_postgres.new_store(), patience_s=100) as store:
        study = store.study("s", SPACE, ["latency_ms"])

        def record() -> None:
            recorder = study.recorder()
            while not stop.is_set():
                recorder.add(evaluations(len(recorded)))
                recorded.append(len(recorded))

        def wait_for(batches: int) -> None:
            deadline_s = time.monotonic() + 60
            while len(recorded) < batches:
                assert writer.is_alive()
                assert time.monotonic() < deadline_s
                time.sleep(0.005)

        writer = threading.Thread(target=record)
        writer.start()
        for _ in range(3):
            wait_for(len(recorded) + 10)
            own_postgres.kill()
            with pytest.raises(StoreUnavailableError):
                len(study)
            finished = len(recorded)
            own_postgres.start()
            assert len(study) >= finished * BATCH
        wait_for(len(recorded) + 10)
        stop.set()
        writer.join(timeout=60)
        assert not writer.is_alive()
        check(store, set(recorded))


@pytest.mark.postgres
def test_patience_ends(own_postgres: Postgres) -> None:
    with ck.Store(own_postgres.new_store(), patience_s=0.2) as store:
        recorder = store.study("s", SPACE, ["latency_ms"]).recorder()
        recorder.add(evaluations(0))
        own_postgres.kill()
        with pytest.raises(StoreUnavailableError, match=r"cannot be reached .* start it, or check the URL"):
            recorder.add(evaluations(1))
        own_postgres.start()
        recorder.add(evaluations(1))  # the frame was the caller's to add again
        assert recorder.added == 2 * BATCH
        check(store, {0, 1})


def test_another_process_holds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesign_kernel.store.database.BUSY_S", 0.1)
    with ck.Store(tmp_path / "s.db", patience_s=0) as store:
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store.records().empty, "who reads does not wait for who writes"
        with pytest.raises(StoreUnavailableError, match="another process has been writing"):
            store.put(b"x")
        other.execute("ROLLBACK")
        other.close()
        assert store.get(store.put(b"x")) == b"x"


#: A client whose files may not grow beyond a limit: what a full disk looks like to it.
FULL = """
import resource, sys
sys.path.insert(0, "tests")
import codesign_kernel as ck
from codesign_kernel.errors import StoreFullError
from codesign_kernel.store import digest_of
from codesign_kernel.store.artefacts import FILE_BYTES
from test_store_kill import SPACE, evaluations
store = ck.Store(sys.argv[1])
recorder = store.study("s", SPACE, ["latency_ms"]).recorder()
recorder.add(evaluations(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, resource.RLIM_INFINITY))
batch = 1
try:
    while True:
        recorder.add(evaluations(batch))
        batch += 1
except StoreFullError as error:
    assert "nothing was written" in str(error) and "make room" in str(error), error
assert batch > 3
try:
    store.put(b"x" * (2 * FILE_BYTES))
except StoreFullError as error:
    assert "nothing was kept" in str(error), error
else:
    sys.exit("an artefact larger than the disk was kept")
store.cache.put(digest_of(1), b"y" * 2 * FILE_BYTES)
assert store.cache.get(digest_of(1)) is not None, "the memory has it"
assert store.health()["cache"]["database"]["errors"] == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
recorder.add(evaluations(batch))
print(batch)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    sound(path)
    assert [entry for entry in (tmp_path / "s.db.files").rglob("*") if entry.is_file()] == []
    with ck.Store(path) as store:
        check(store, set(range(int(done.stdout) + 1)))


@pytest.mark.postgres
def test_a_full_disk_of_postgresql(postgres: Postgres) -> None:
    """The server says so with a code of its own, which is raised here: to fill its disk takes rights that few have."""
    with ck.Store(postgres.new_store()) as store:
        before, half = store.put(b"before"), hashlib.sha256(b"half").hexdigest()
        full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"

        def write() -> None:
            with store._database.write() as connection:
                assert store._artefacts.insert(connection, b"half") == half
                connection.execute(text(full))

        with pytest.raises(StoreFullError, match="make room"):
            write()
        assert store.get(before) == b"before"
        with pytest.raises(InvalidInputError, match="has no artefact"):
            store.get(half)
