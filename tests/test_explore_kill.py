"""Explorations whose client, database, cache or disk fails in the middle, and two that share a study.

Nothing that was finished is lost or counted twice, and what is resumed ends like what was not disturbed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from explorecases import SPACE, Logged, counted_once, explored, recorder_of, results, same
from servers import Postgres, Redis

import codesign_kernel as ck
from codesign_kernel.errors import StoreUnavailableError
from codesign_kernel.store import digest_of

for needed in ("distributed", "optuna", "pymoo"):
    pytest.importorskip(needed)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parent.parent

#: A client: explores into a study, on two workers if told so, and says how far it is. From 40 designs on it takes its
#: time, ``pause_s`` a design, so that whoever kills it then finds it at work, however late he comes.
CLIENT = """
import contextlib, sys
sys.path.insert(0, "tests")
import codesign_kernel as ck
from explorecases import Logged, explored, recorder_of

def told(done, total, message):
    if done >= 40:
        evaluate.pause_s = float(pause_s)
    print(done, flush=True)

if __name__ == "__main__":
    url, sampler, log, pause_s, workers, seed = sys.argv[1:]
    evaluate = Logged(log, 0.005)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(ck.Store(url))
        executor = None
        if int(workers):
            executor = stack.enter_context(ck.cluster(minimum=int(workers), maximum=int(workers))).executor()
        print("ready", flush=True)
        sys.stdin.readline()
        explored(
            sampler, evaluate, executor=executor, recorder=recorder_of(store, sampler), progress=told, seed=int(seed)
        )
"""


def client(
    tmp_path: Path, url: str, sampler: str, pause_s: float, workers: int = 0, seed: int = 3
) -> subprocess.Popen[str]:
    """A client that is ready, and goes when a line is written to it."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    command = [sys.executable, str(script), url, sampler, str(tmp_path / "log"), str(pause_s), str(workers), str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def sound(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


@pytest.mark.parametrize(
    ("sampler", "workers", "database"),
    [
        ("exact", 0, "sqlite"),
        ("pymoo", 0, "sqlite"),
        ("nsga2", 2, "sqlite"),
        pytest.param("nsga2", 0, "postgresql", marks=pytest.mark.postgres),
    ],
)
def test_the_client_is_killed_in_the_middle(
    request: pytest.FixtureRequest, tmp_path: Path, sampler: str, workers: int, database: str
) -> None:
    path = tmp_path / "store.db"
    url = str(path) if database == "sqlite" else request.getfixturevalue("postgres").new_store()
    running = client(tmp_path, url, sampler, 0.3, workers)
    family = psutil.Process(running.pid)
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("go\n")
    running.stdin.close()
    while int(running.stdout.readline()) < 40:
        pass
    children = family.children(recursive=True)
    running.send_signal(signal.SIGKILL)
    running.stdout.close()
    assert running.wait(timeout=60) == -signal.SIGKILL
    assert len(children) >= workers
    assert not psutil.wait_procs(children, timeout=60)[1], "workers outlive a client that was killed"
    if database == "sqlite":
        sound(path)
    evaluate = Logged(str(tmp_path / "log"))
    before = len(evaluate.evaluated())
    with ck.Store(url) as store:
        recorder = recorder_of(store, sampler)
        kept = len(recorder.done())
        found = explored(sampler, evaluate, recorder=recorder)
        same(found, explored(sampler))
        counted_once(store, found)
    if sampler == "exact":
        assert before <= SPACE.size - found.provenance.evaluated + 4 * 36, "blocks are kept as they are done"
    else:
        assert 40 <= kept < len(found.frame)
        assert found.provenance.evaluated == len(found.frame) - kept, "what was kept is not evaluated again"
        assert before - kept <= 2 * 16, "what was under way, at most"


def test_two_processes_explore_into_one_study(store_url: str, tmp_path: Path) -> None:
    """Of the same seed, and so of the same designs and the same journal; and this one, of another seed."""
    running = [client(tmp_path, store_url, "nsga2", 0.005) for _ in range(2)]
    evaluate = Logged(str(tmp_path / "log"), 0.005)
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    with ck.Store(store_url) as store:
        explored("nsga2", evaluate, recorder=recorder_of(store, "nsga2"), seed=4)
    for process in running:
        process.communicate(timeout=200)
    assert [process.returncode for process in running] == [0, 0]
    if (tmp_path / "store.db").is_file():
        sound(tmp_path / "store.db")
    with ck.Store(store_url) as store:
        study = store.open_study("nsga2")
        done = study.frame()
        assert done.index.is_unique
        assert len(done) == len(set(evaluate.evaluated())), "each design that was evaluated is there, once"
        truth = pd.DataFrame(results(SPACE.columns(done.index.to_numpy())), index=done.index)
        pd.testing.assert_frame_equal(done[[*truth]], truth, check_dtype=False)
        for seed in (3, 4):
            again = explored("nsga2", recorder=recorder_of(store, "nsga2"), seed=seed)
            same(again, explored("nsga2", seed=seed))
            assert again.provenance.evaluated == 0


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that a test may kill."""
    with Postgres() as server:
        yield server


@pytest.mark.postgres
@pytest.mark.parametrize("sampler", ["exact", "nsga2", "pymoo"])
def test_postgresql_is_killed_in_the_middle(own_postgres: Postgres, tmp_path: Path, sampler: str) -> None:
    """The exploration waits for it; then it stays away: an error, and later on everything goes on."""
    evaluate = Logged(str(tmp_path / "log"), 0.002)
    url = own_postgres.new_store()
    kills = iter([40, 70])
    due = [next(kills)]
    restarts: list[threading.Thread] = []

    def restart() -> None:
        time.sleep(0.3)
        own_postgres.start()

    def progress(done: int, total: int, message: str) -> None:
        if done < due[0]:
            return
        for restarting in restarts:
            restarting.join()
        own_postgres.kill()
        if restarts:
            due[0] = 10_000
            store._database.patience_s = 0.2
            return
        due[0] = next(kills)
        restarts.append(threading.Thread(target=restart))
        restarts[0].start()

    with ck.Store(url, patience_s=100) as store:
        recorder = recorder_of(store, sampler)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            explored(sampler, evaluate, recorder=recorder, progress=progress)
    assert due[0] == 10_000, "it went on after the first kill, to the second"
    own_postgres.start()
    with ck.Store(url) as store:
        found = explored(sampler, evaluate, recorder=recorder_of(store, sampler))
        same(found, explored(sampler))
        counted_once(store, found)
    done = evaluate.evaluated()
    if sampler != "exact":
        assert len(done) - len(set(done)) <= 16, "the generation that could not be written, at most"


@pytest.mark.redis
def test_redis_is_killed_in_the_middle(tmp_path: Path) -> None:
    """An evaluator with results in the cache: it goes on with the database, and counts what it could not ask."""
    asked: list[str] = []
    with Redis() as server, ck.Store(tmp_path / "s.db", redis_url=server.url, memory_bytes=1) as store:

        def cached(columns: Mapping[str, Any]) -> dict[str, Any]:
            found = results(columns)
            for row in zip(*(found[name].tolist() for name in ("latency_ms", "area_mm2")), strict=True):
                text = json.dumps(row)
                asked.append(text)
                assert store.cache.fetch(digest_of([str(each) for each in row]), text.encode) == text.encode()
            return found

        def progress(done: int, total: int, message: str) -> None:
            if done >= 60:
                server.kill()

        explored("random", cached)  # all of it is cached
        found = explored("random", cached, progress=progress)
        same(found, explored("random"))
        health = store.cache.health()
    assert len(asked) == 240
    assert health["redis"]["errors"] >= 3
    assert health["redis"]["trips"] >= 1
    assert health["redis"]["hits"] + health["database"]["hits"] >= 120
    assert health["database"]["hits"] > 0


#: A client with a disk of its own, which is full after a while, gets larger, and is gone with the process.
FULL = """
import contextlib, os, subprocess, sys
sys.path.insert(0, "tests")
import codesign_kernel as ck
from codesign_kernel.errors import StoreFullError
from explorecases import Logged, counted_once, explored, recorder_of, same
from servers import Postgres
folder, sampler, database, log = sys.argv[1:]
os.environ["TMPDIR"] = folder  # where the server keeps its data
evaluate, held = Logged(log), contextlib.ExitStack()
url = f"{folder}/s.db" if database == "sqlite" else held.enter_context(Postgres()).new_store()
with ck.Store(url) as store:
    recorder = recorder_of(store, sampler)
    with open(f"{folder}/others", "wb", buffering=0) as others:  # somebody else fills the disk
        def progress(done, total, message):
            if done >= 40:
                try:
                    while True:
                        others.write(bytes(512))
                except OSError as error:
                    assert error.errno == 28, error
        try:
            explored(sampler, evaluate, recorder=recorder, progress=progress)
        except StoreFullError as error:
            assert "make room, then repeat" in str(error), error
        else:
            sys.exit("the disk was not full")
    kept = len(recorder.done())
    assert kept >= 40 or sampler == "exact"
with ck.Store(url) as store:  # full as it is, it can be read
    assert len(recorder_of(store, sampler).done()) == kept
subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
before = len(evaluate.evaluated())
with ck.Store(url) as store:
    found = explored(sampler, evaluate, recorder=recorder_of(store, sampler))
    same(found, explored(sampler))
    counted_once(store, found)
if sampler == "exact":
    assert 0 < found.provenance.evaluated < 720, found.provenance.evaluated
else:
    assert found.provenance.evaluated == len(found.frame) - kept
    assert before - kept <= 16, "the generation that could not be written, at most"
held.close()
"""


@pytest.mark.parametrize(
    ("sampler", "database", "size"),
    [
        ("exact", "sqlite", "600k"),
        ("nsga2", "sqlite", "600k"),
        ("pymoo", "sqlite", "600k"),
        pytest.param("nsga2", "postgresql", "80m", marks=pytest.mark.postgres),
    ],
)
def test_the_disk_is_full_in_the_middle(tmp_path: Path, sampler: str, database: str, size: str) -> None:
    """A real one, of a size of its own: a mount that only this client sees."""
    script = tmp_path / "full.py"
    script.write_text(FULL)
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:  # pytest's own path is too long for a server's socket
        _run_full(Path(folder), script, sampler, database, size, tmp_path / "log")


def _run_full(folder: Path, script: Path, sampler: str, database: str, size: str, log: Path) -> None:
    alone = ["unshare", "--mount"] if not os.geteuid() else ["unshare", "--mount", "--map-root-user"]
    mount = f'mount -t tmpfs -o size={size},mode=1777 tmpfs "$1"'
    if shutil.which("unshare") is None or subprocess.run([*alone, "sh", "-c", mount, "-", str(folder)]).returncode:
        pytest.skip("a disk of its own takes the right to mount one, which is not given here")
    run = [sys.executable, str(script), str(folder), sampler, database, str(log)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [*alone, "sh", "-c", f'{mount} && shift && exec "$@"', "-", str(folder), *run],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
