"""One file for a study or everything: whole, the same after a second import, and harmless when somebody changed it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

import codesign_kernel as ck
from codesign_kernel.errors import ArchiveError, InvalidInputError, OutputError
from codesign_kernel.store import digest_of
from codesign_kernel.store.artefacts import FILE_BYTES

SPACE = digest_of({"rows": [4, 8]})
LARGE = np.random.default_rng(0).bytes(FILE_BYTES + 1)


def evaluations(start: int, count: int) -> pd.DataFrame:
    numbers = np.arange(start, start + count)
    columns = {
        "rows": numbers % 7,
        "latency_ms": np.where(numbers % 5 == 4, np.inf, 1 / (numbers + 3)),
        "feasible": numbers % 2 == 0,
        "area_mm2": (numbers / 3).astype("float32"),
        "why": pd.Series([f"reason {n}" for n in numbers], dtype="str"),
    }
    frame = pd.DataFrame(columns)
    frame.index = pd.Index(numbers, name="design")
    return frame


def fill(store: ck.Store) -> None:
    """A study about a report of a network, another study, and a record of neither."""
    network = store.keep("network", {"layers": 3}, name="digits", files={"net.npz": LARGE, "note": b"small"}, seed=1)
    report = store.keep("report", {"mismatches": 0}, links=[("network", network)], wall_s=2.5)
    study = store.study("first", SPACE, {"latency_ms": "min"}, data={"budget": 9}, seed=4)
    study.attach("report", report)
    recorder = study.recorder(seed=4)
    recorder.add(evaluations(0, 20))
    recorder.add(evaluations(40, 10).drop(columns="feasible").assign(extra=1))
    recorder.keep("sampler", b"\0state")
    store.study("second", SPACE, ["area_mm2"]).recorder().add(evaluations(0, 3))
    store.keep("design", {"rows": 4})
    store.put(b"on its own")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    with ck.Store(tmp_path / "from.db") as store:
        fill(store)
        return store.export_file(tmp_path / "all.zip")


@pytest.fixture
def store(store_url: str) -> Iterator[ck.Store]:
    with ck.Store(store_url) as opened:
        yield opened


def test_everything_goes_there_and_back(store: ck.Store, exported: Path, tmp_path: Path) -> None:
    with ck.Store(tmp_path / "from.db") as origin:
        assert store.import_file(exported) == {"records": 3, "studies": 2, "evaluations": 33, "artefacts": 3}
        for name in ("first", "second"):
            pd.testing.assert_frame_equal(
                store.open_study(name).frame(), origin.open_study(name).frame(), check_exact=True
            )
            assert store.provenance(name) == origin.provenance(name)
        pd.testing.assert_frame_equal(
            store.records().sort_values("digest", ignore_index=True),
            origin.records().sort_values("digest", ignore_index=True),
        )
        for kind, digest in origin.records()[["kind", "digest"]].itertuples(index=False):
            assert store.record(kind, digest) == origin.record(kind, digest)
    assert store.get(hashlib.sha256(LARGE).hexdigest()) == LARGE
    assert store.get(hashlib.sha256(b"on its own").hexdigest()) == b"on its own"
    assert store.open_study("first").objectives == {"latency_ms": "min"}
    assert store.open_study("first").recorder().state("sampler") is None, "a state is taken only where one is trusted"


def test_a_second_import_changes_nothing(store: ck.Store, exported: Path, tmp_path: Path) -> None:
    store.import_file(exported)
    before = {name: store.open_study(name).frame() for name in ("first", "second")}
    assert store.import_file(exported) == {"records": 0, "studies": 2, "evaluations": 0, "artefacts": 3}
    for name, frame in before.items():
        pd.testing.assert_frame_equal(store.open_study(name).frame(), frame)
    with ck.Store(tmp_path / "third.db") as third:
        third.import_file(store.export_file(tmp_path / "again.zip"))
        pd.testing.assert_frame_equal(third.open_study("first").frame(), before["first"])


def test_an_import_adds_to_what_is_there(store: ck.Store, exported: Path) -> None:
    recorder = store.study("first", SPACE, {"latency_ms": "min"}).recorder()
    recorder.add(evaluations(0, 5).assign(latency_ms=7.0))
    assert store.import_file(exported, states=True)["evaluations"] == 28
    done = recorder.done()
    assert len(done) == 30
    assert (done.latency_ms.iloc[:5] == 7).all(), "what is there stays"
    assert recorder.state("sampler") == b"\0state"


def test_a_study_is_exported_with_what_it_is_about(store: ck.Store, tmp_path: Path) -> None:
    with ck.Store(tmp_path / "from.db") as origin:
        fill(origin)
        path = origin.export_file(tmp_path / "one.zip", "first")
        with pytest.raises(InvalidInputError, match="has no study 'third'"):
            origin.export_file(tmp_path / "none.zip", "third")
    assert not (tmp_path / "none.zip").exists()
    assert store.import_file(path, names={"first": "copy"})["records"] == 2
    assert store.studies()["name"].tolist() == ["copy"]
    assert set(store.records()["kind"]) == {"report", "network"}
    with pytest.raises(InvalidInputError, match="has no study 'second'"):
        store.import_file(path, names={"second": "x"})


def test_a_study_of_another_space_is_refused(store: ck.Store, exported: Path) -> None:
    store.study("second", digest_of("another"), ["area_mm2"])
    with pytest.raises(InvalidInputError, match="choose another name"):
        store.import_file(exported)
    assert store.records().empty, "nothing was written"
    assert store.studies()["name"].tolist() == ["second"]
    store.import_file(exported, names={"second": "theirs"})
    assert len(store.open_study("theirs")) == 3


def test_anyone_can_read_the_file(exported: Path) -> None:
    with zipfile.ZipFile(exported) as opened:
        manifest = json.loads(opened.read("manifest.json"))
        for path, entry in manifest["files"].items():
            content = opened.read(path)
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
        table = pd.read_parquet(io.BytesIO(opened.read("studies/0/evaluations.parquet")))
    assert table["design"].tolist() == [*range(20), *range(40, 50)]
    assert table["latency_ms"].head(20).tolist() == evaluations(0, 20)["latency_ms"].tolist()
    assert manifest["format"] == "codesign-store-1"


def test_a_file_that_cannot_be_written(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = exported.read_bytes()

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    with ck.Store(tmp_path / "from.db") as store:
        with pytest.raises(OutputError, match="a file is asked for"):
            store.export_file(tmp_path)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"all\.zip cannot be written: No space left"):
            store.export_file(exported)
    assert exported.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def changed(path: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None], *, honest: bool = True) -> Path:
    """A copy in which ``change`` has been at the files and the manifest; ``honest`` brings the digests up to date."""
    with zipfile.ZipFile(path) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    if honest:
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        }
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            made.writestr(name, content)
    return target


TABLE = "studies/0/evaluations.parquet"


def _table(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def _put(name: str, content: bytes) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    return lambda files, manifest: files.update({name: content})


def _say(path: str, value: Any) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        *steps, last = path.split("/")
        place: Any = manifest
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        place[int(last) if isinstance(place, list) else last] = value

    return change


def _columns(**types: str) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        for batch in manifest["studies"][0]["batches"].values():
            batch["columns"].update(types)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_put("artefacts/" + "0" * 64, b"other"), "not what its name says"),
        (_put("../../outside", b"x"), "no file in it may be called"),
        (_put("/etc/outside", b"x"), "no file in it may be called"),
        (_put("studies/0/code.py", b"x"), "no file in it may be called"),
        (_put(TABLE, pickle.dumps([1])), "evaluations cannot be read"),
        (_put(TABLE, _table(design=[1], latency=[1.0])), "no table of numbers and text"),
        (_put(TABLE, _table(design=[1], _batch=[1], a=[{"b": 1}])), "no table of numbers and text"),
        (_put(TABLE, _table(design=["1"], _batch=[1], a=[1.0])), "are no integers"),
        (_put(TABLE, _table(design=[1], _batch=[99], a=[1.0])), "batch 99, which its manifest does not list"),
        (_put(TABLE, _table(design=[1] * 50, _batch=[1] * 50, why=["x" * 70_000] * 50)), "longer than 65,536 bytes"),
        (_columns(nonsense="float64"), "not those of its table"),
        (_columns(latency_ms="object"), "not those of its table"),
        (_columns(why="float64"), "of other types than it says"),
        (_say("format", "codesign-store-9"), "its format is 'codesign-store-9'"),
        (_say("studies", {"name": "x"}), "is dict, not list"),
        (_say("studies/0", None), "is NoneType, not dict"),
        (_say("studies/0/provenance/created_at", "yesterday"), "is no time"),
        (_say("studies/0/provenance/token", "'; DROP TABLE"), "not a seed, a time"),
        (_say("studies/0/evaluations", "artefacts/none"), "which it does not list"),
        (_say("studies/0/evaluations", ["list"]), "which it does not list"),
        (_say("studies/0/name", 5), "is int, not str"),
        (_say("studies/0/records", [["report", "0" * 64]]), "is about a report that is not in it"),
        (_say("records/0/files", {"a": "1" * 64}), "has a file that is not in it"),
        (_say("records/0/links", "abc"), "is str, not list"),
    ],
)  # fmt: skip
def test_a_changed_file_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None], told: str
) -> None:
    with ck.Store(tmp_path / "to.db") as store:
        with pytest.raises(ArchiveError, match=told):
            store.import_file(changed(exported, change))
        assert store.records().empty
        assert store.studies().empty
    assert {path.name for path in tmp_path.parent.iterdir() if path.name == "outside"} == set()


def test_a_record_that_does_not_fit_its_digest_is_refused(exported: Path, tmp_path: Path) -> None:
    with ck.Store(tmp_path / "from.db") as store, pytest.raises(InvalidInputError, match="stands for one content"):
        store.import_file(changed(exported, _say("records/0/data", {"layers": 99})))


@pytest.mark.parametrize(
    "change",
    [
        lambda files, manifest: files.update({TABLE: files[TABLE][:-1] + b"\0"}),
        lambda files, manifest: files.pop(TABLE),
        lambda files, manifest: files.update({"studies/7/states/0": b"more"}),
        lambda files, manifest: manifest["files"][TABLE].update(bytes=1),
        lambda files, manifest: manifest["files"][TABLE].update(bytes="1"),
        lambda files, manifest: manifest.pop("files"),
    ],
)
def test_a_digest_that_differs_is_seen(exported: Path, tmp_path: Path, change: Callable[..., None]) -> None:
    with ck.Store(tmp_path / "to.db") as store:
        with pytest.raises(ArchiveError, match="nothing was imported"):
            store.import_file(changed(exported, change, honest=False))
        assert store.studies().empty


def test_a_bomb_is_not_unpacked(exported: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("manifest.json", b" " * (50 << 20))
    with ck.Store(tmp_path / "to.db") as store:
        with pytest.raises(ArchiveError, match="holds 52,428,800 bytes unpacked, and the limit is 1,000,000"):
            store.import_file(bomb, limit_bytes=1_000_000)
        lying = bytearray(bomb.read_bytes())
        at = lying.rindex((50 << 20).to_bytes(4, "little"))
        lying[at : at + 4] = (100).to_bytes(4, "little")  # the directory says 100 bytes
        bomb.write_bytes(lying)
        with pytest.raises(ArchiveError):
            store.import_file(bomb, limit_bytes=1_000_000)
        with pytest.raises(ArchiveError, match="the limit is 1,000"):
            store.import_file(exported, limit_bytes=1000)


def test_run_lengths_are_no_way_around(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a few kilobytes may say that it has any number of values."""
    monkeypatch.setattr("codesign_kernel.store.parquet._VALUES", 1_000_000)
    zeros = np.zeros(500_000, dtype="int8")
    table = _table(design=zeros, _batch=zeros, a=zeros)
    assert len(table) < 100_000
    with ck.Store(tmp_path / "to.db") as store, pytest.raises(ArchiveError, match=r"500,000 rows .* which is too many"):
        store.import_file(changed(exported, _put(TABLE, table)))


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no zip", b"x" * 1000])
def test_what_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.zip").write_bytes(content)
    with ck.Store(tmp_path / "to.db") as store:
        with pytest.raises(ArchiveError, match="name a file that export_file wrote"):
            store.import_file(tmp_path / "file.zip")
        with pytest.raises(ArchiveError, match="cannot be read: No such file"):
            store.import_file(tmp_path / "none.zip")
