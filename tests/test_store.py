"""The store: what goes in comes out, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError, StoreError, StoreUnavailableError
from codesign_kernel.store import KINDS, digest_of
from codesign_kernel.store.artefacts import FILE_BYTES
from codesign_kernel.store.database import address

SPACE = digest_of({"rows": [4, 8]})
ROOT = Path(__file__).parent.parent


def evaluations(start: int, count: int) -> pd.DataFrame:
    """Designs ``start`` and on, each with results that its number decides."""
    numbers = np.arange(start, start + count)
    columns = {"rows": numbers % 7, "latency_ms": 1 / (numbers + 3), "feasible": numbers % 2 == 0}
    return pd.DataFrame(columns, index=pd.Index(numbers, name="design"))


@pytest.fixture
def store(store_url: str) -> ck.Store:
    with ck.Store(store_url) as opened:
        yield opened


def test_a_record_comes_back(store: ck.Store) -> None:
    before = datetime.now(UTC)
    data = {"name": "ü", "bits": [4, 8], "energy_pj": 0.1 + 0.2, "none": None, "deep": {"on": True}, "nul": "\0"}
    network = store.keep("network", data, name="digits", files={"net.npz": b"\0\1", "notes": b""}, seed=7, wall_s=1.5)
    report = store.keep("report", {"mismatches": 0}, links=[("network", network)])
    found = store.record("network", network)
    assert (found.data, found.name, found.digest) == (data, "digits", found.content)
    assert {name: store.get(digest) for name, digest in found.files.items()} == {"net.npz": b"\0\1", "notes": b""}
    assert (found.provenance.seed, found.provenance.wall_s) == (7, 1.5)
    assert found.provenance.versions["numpy"] == np.__version__
    assert before <= found.provenance.created_at <= before + timedelta(minutes=1)
    assert found.provenance.created_at.utcoffset() == timedelta(0)
    assert store.record("report", report).links == (("network", network),)
    assert store.records()["kind"].tolist() == ["report", "network"]
    assert store.records("network")["name"].tolist() == ["digits"]
    assert store.has("report", report)
    assert not store.has("design", report)


def test_to_keep_twice_is_to_keep_once(store: ck.Store) -> None:
    first = store.keep("design", {"rows": 4}, name="a", seed=1)
    assert store.keep("design", {"rows": 4}, name="b", seed=2) == first
    assert len(store.records()) == 1
    assert store.record("design", first).provenance.seed == 1
    assert store.keep("profile", {"rows": 4}) != first, "the kind is part of what a record says"


def test_a_digest_stands_for_one_content(store: ck.Store) -> None:
    own = digest_of("of its maker")
    assert store.keep("design", {"rows": 4}, digest=own) == own
    assert store.record("design", own).data == {"rows": 4}
    with pytest.raises(InvalidInputError, match="a digest stands for one content"):
        store.keep("design", {"rows": 8}, digest=own)
    assert store.record("design", own).data == {"rows": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_kept(tmp_path: Path, kind: str) -> None:
    with ck.Store(tmp_path / "s.db") as store:
        assert store.record(kind, store.keep(kind, [1])).kind == kind


def test_what_is_no_record_is_refused(store: ck.Store) -> None:
    for options, told in (
        ({"kind": "banana", "data": 1}, "kinds are network"),
        ({"kind": "design", "data": np.ones(2)}, "plain data"),
        ({"kind": "design", "data": float("nan")}, "plain data"),
        ({"kind": "design", "data": [{1: "a number as key"}]}, "the key 1 of a dict is no text"),
        ({"kind": "design", "data": 1, "digest": "../../etc"}, "64 digits"),
        ({"kind": "design", "data": 1, "name": "a\0b"}, "printable"),
        ({"kind": "design", "data": 1, "files": {"a": "text"}}, "a file is bytes"),
        ({"kind": "design", "data": 1, "files": {"a\0": b""}}, "printable"),
        ({"kind": "design", "data": 1, "seed": 2**64}, "64-bit"),
        ({"kind": "design", "data": 1, "wall_s": -1.0}, "0 s or more"),
        ({"kind": "report", "data": 1, "links": [("network", "0" * 64)]}, "that the store has not"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            store.keep(**options)
    assert store.records().empty
    with pytest.raises(InvalidInputError, match="has no design"):
        store.record("design", "0" * 64)


@pytest.mark.parametrize("size", [0, 10, FILE_BYTES, FILE_BYTES + 1])
def test_an_artefact_comes_back(store: ck.Store, size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    digest = store.put(content)
    assert store.put(content) == digest
    assert store.get(digest) == content
    with pytest.raises(InvalidInputError, match="has no artefact"):
        store.get("0" * 64)


def test_large_artefacts_are_files_that_are_checked(tmp_path: Path) -> None:
    with ck.Store(tmp_path / "s.db") as store:
        digest = store.put(b"x" * (FILE_BYTES + 1))
        path = tmp_path / "s.db.files" / digest[:2] / digest
        assert path.stat().st_size == FILE_BYTES + 1
        assert [p.name for p in path.parent.iterdir()] == [digest]
        path.write_bytes(b"y" * (FILE_BYTES + 1))
        with pytest.raises(StoreError, match="is damaged; keep it again"):
            store.get(digest)
        store.put(b"x" * (FILE_BYTES + 1))
        assert store.get(digest) == b"x" * (FILE_BYTES + 1)
        path.unlink()
        with pytest.raises(StoreError, match="moved together with its folder"):
            store.get(digest)


def test_evaluations_come_back(store: ck.Store) -> None:
    frame = evaluations(0, 50).assign(
        energy_uj=np.float32(0.1),
        gain=np.resize([np.inf, -np.inf, np.nan, 5e-324, 0.1 + 0.2], 50),
        big=np.int64(2**62 + 1),
        why=pd.Series(
            np.resize(np.array(["fits", "", "ünder\0", None], dtype=object), 50), dtype="str", index=range(50)
        ),
    )
    recorder = store.study("s", SPACE, ["latency_ms"]).recorder(seed=3)
    assert recorder.done().empty
    assert recorder.done().index.name == "design"
    recorder.add(frame.sample(frac=1, random_state=0))
    recorder.add(frame.iloc[:0])
    assert recorder.added == 50
    pd.testing.assert_frame_equal(recorder.done(), frame, check_exact=True)


def test_a_design_is_counted_once(store: ck.Store) -> None:
    study = store.study("s", SPACE, ["latency_ms"])
    recorder = study.recorder()
    for frame, added in (
        (evaluations(0, 10), 10),
        (evaluations(5, 10).assign(latency_ms=-1.0), 15),
        (evaluations(0, 15), 15),
    ):
        recorder.add(frame)
        assert recorder.added == added
    twice = pd.concat([evaluations(20, 1), evaluations(20, 1).assign(latency_ms=9.0)])
    recorder.add(twice)
    assert recorder.added == 16
    assert len(study) == 16
    done = study.frame()
    assert done.index.tolist() == [*range(15), 20]
    pd.testing.assert_frame_equal(done.iloc[:10], evaluations(0, 10))
    assert (done.latency_ms.iloc[10:15] == -1).all()
    assert done.latency_ms[20] == evaluations(20, 1).latency_ms[20]


def test_batches_of_other_columns_stand_together(store: ck.Store) -> None:
    recorder = store.study("s", SPACE, ["a"]).recorder()
    recorder.add(pd.DataFrame({"a": [1, 2]}, index=[4, 0]))
    recorder.add(pd.DataFrame({"a": [0.5], "b": [True]}, index=[2]))
    done = recorder.done()
    assert done["a"].to_dict() == {0: 2.0, 2: 0.5, 4: 1.0}
    assert done["b"].dropna().to_dict() == {2: True}


def test_threads_write_at_once(store_url: str) -> None:
    """They wait for one another; that none has to try again is why the patience is none."""
    store = ck.Store(store_url, patience_s=0)
    study = store.study("s", SPACE, ["a"])
    recorders = [study.recorder() for _ in range(4)]

    def record(start: int) -> None:
        for batch in range(start, start + 10):
            recorders[start].add(evaluations(10 * batch, 10))
            store.keep("design", {"number": batch})
            len(study)

    threads = [threading.Thread(target=record, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pd.testing.assert_frame_equal(study.frame(), evaluations(0, 130))
    assert sum(recorder.added for recorder in recorders) == 130
    assert len(store.records()) == 13
    store.close()


def test_a_recorder_is_what_an_exploration_wants(tmp_path: Path) -> None:
    """The names and parameters of the protocol, which this room may not import."""
    with ck.Store(tmp_path / "s.db") as store:
        recorder = store.study("s", SPACE, ["a"]).recorder()
        recorder.add(frame=evaluations(0, 1))
        recorder.keep(name="sampler", value=b"x")
        assert recorder.state(name="sampler") == b"x"
        assert recorder.done().index.tolist() == [0]


def test_what_is_no_evaluation_is_refused(store: ck.Store) -> None:
    recorder = store.study("s", SPACE, ["a"]).recorder()
    for frame, told in (
        (pd.DataFrame({"a": [1]}, index=[-1]), "0 or more"),
        (pd.DataFrame({"a": [1]}, index=["x"]), "design's number"),
        (pd.DataFrame({"a": [[1]]}), "numbers, truth values or text, but 'a'"),
        (pd.DataFrame({"a": [1j]}), "convert it"),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), "'a' is Int64"),
        (pd.DataFrame({0: [1]}), "text as its name"),
        (pd.DataFrame({"design": [1]}), "none of design"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two are the same"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            recorder.add(frame)
    assert recorder.done().empty


def test_a_study_stays_what_it_is(store: ck.Store) -> None:
    store.study("s", SPACE, {"latency_ms": "min"}, data={"budget": 9}, seed=5)
    again = store.study("s", SPACE, {"latency_ms": "min"}, data={"budget": 10})
    assert again.data == {"budget": 9}
    assert store.open_study("s").objectives == {"latency_ms": "min"}
    assert store.provenance("s").seed == 5
    with pytest.raises(InvalidInputError, match=r"count one space, .* choose another name"):
        store.study("s", digest_of("another"), {"latency_ms": "min"})
    with pytest.raises(InvalidInputError, match="has the objectives that it began with"):
        store.study("s", SPACE, {"latency_ms": "max"})
    with pytest.raises(InvalidInputError, match="has no study 't'"):
        store.open_study("t")
    store.study("t", SPACE, ["a"]).recorder().add(evaluations(0, 3))
    assert store.studies()[["name", "evaluations"]].to_numpy().tolist() == [["t", 3], ["s", 0]]


def test_a_state_is_replaced(store: ck.Store) -> None:
    recorder = store.study("s", SPACE, ["a"]).recorder()
    other = store.study("t", SPACE, ["a"]).recorder()
    assert recorder.state("sampler") is None
    for content in (b"first", b"", bytes(range(256)) * 1000):
        recorder.keep("sampler", content)
        assert recorder.state("sampler") == content
    assert other.state("sampler") is None
    with pytest.raises(InvalidInputError, match="a state is at most"):
        recorder.keep("sampler", "text")


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_DATA_DIR", str(tmp_path / "data"))
    with ck.Store() as store:
        store.put(b"here")
    assert (tmp_path / "data" / "store.db").is_file()
    monkeypatch.delenv("CODESIGN_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert address(None).database == str(tmp_path / "xdg" / "codesign" / "store.db")
    assert address("postgresql://u:secret@h/d").drivername == "postgresql+psycopg"
    for url in ("mysql://h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory", "nonsense://"):
        with pytest.raises(InvalidInputError, match="write a path"):
            ck.Store(url)


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at\n" * 100)
    with pytest.raises(StoreError, match="not a sound database"):
        ck.Store(tmp_path / "text.db")
    with pytest.raises(StoreError, match="choose another"):
        ck.Store(tmp_path / "text.db" / "below.db")
    with pytest.raises(StoreError, match="check that it can be read and written"):
        ck.Store(tmp_path)
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached .*check the URL") as caught:
        ck.Store(f"postgresql://me:secret@/d?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_the_store_needs_no_torch_and_no_dask(tmp_path: Path) -> None:
    code = (
        "import sys, codesign_kernel.store as s, pandas; s.Store(sys.argv[1]).study('s', '0' * 64, ['a']).recorder()"
        ".add(pandas.DataFrame({'a': [1]})); print(sorted({'torch', 'dask', 'distributed'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "[]"


def test_threads_that_write_to_sqlite_wait_in_turn_and_without_a_connection(tmp_path: Path) -> None:
    with ck.Store(tmp_path / "store.db") as store:
        database = store._database
        written: list[int] = []

        def write(number: int) -> None:
            with database.write():
                written.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
        with database.write():
            for thread in threads:
                thread.start()
            threads[0].join(0.1)
            assert database.engine.pool.checkedout() == 1  # type: ignore[attr-defined]
            assert not written
        for thread in threads:
            thread.join()
        assert sorted(written) == list(range(20))
