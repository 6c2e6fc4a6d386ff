"""Backup and restore: the same answers afterwards, on both databases and across them; nothing damaged gets in."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from people import Somebody, holding, put, rows
from sqlalchemy import text

import codesign_kernel as ck
from codesign_kernel.errors import ArchiveError, InvalidInputError, OutputError
from codesign_kernel.store import digest_of
from codesign_kernel.store.backup import LEFT_OUT, MARK, Places, back_up, digest_before, without_secrets
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.privacy import Privacy
from codesign_kernel.store.restore import restore
from codesign_kernel.store.schema import BelongingRow, JobRow, PersonRow, Table, TokenRow
from codesign_kernel.telemetry.audit import Audit
from codesign_kernel.telemetry.verify import verify

ROOT = Path(__file__).parent.parent


def places(folder: Path) -> Places:
    return Places(folder / "erased.jsonl", folder / "keys", folder / "audit.jsonl", folder / "audit.key")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def filled(url: str, folder: Path) -> tuple[ck.Store, Privacy, Somebody]:
    """A store with two people and what is everybody's."""
    store = ck.Store(url)
    privacy = Privacy(store, Vault(folder / "keys"), Audit(folder / "audit.jsonl"))
    ada = Somebody(store, privacy._vault, "ada").arrive().work()
    Somebody(store, privacy._vault, "ben").arrive().work()
    privacy.set_consent(ada.subject, "storage", True)
    store.study("shared", digest_of(1), {"a": "min"}, seed=5).recorder(5).add(pd.DataFrame({"a": [0.1, 2e300]}))
    store.keep("design", {"name": "ü\0", "none": None, "list": []}, name="d", seed=3, wall_s=1.5)
    return store, privacy, ada


def everything(store: ck.Store) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that is in a backup; an artefact by its content, wherever that is."""
    found = {}
    for mapper in Table.registry.mappers:
        name = mapper.local_table.name
        if name not in LEFT_OUT:
            found[name] = sorted(rows(store, mapper.class_), key=lambda row: json.dumps(row, default=str))
    for row in found["codesign_artefact"]:
        row["content"] = store.get(row["digest"])
    return found


def test_a_restored_store_gives_the_same_answers(store_url: str, here: Path, there: Path) -> None:
    """From each database into a file of SQLite, with the keys and the audit trail."""
    store, _, ada = filled(store_url, here)
    counts = back_up(store, here / "backup", places(here), settings={"port": 1}, with_keys=True)
    assert stat.S_IMODE((here / "backup").stat().st_mode) == 0o600
    before = everything(store)
    assert counts["rows"] == sum(map(len, before.values()))
    done = restore(here / "backup", there / "store.db", places(there))
    assert done == {"rows": counts["rows"], "artefacts": counts["artefacts"], "files": 4, "erased": 0}
    with ck.Store(there / "store.db") as again:
        assert everything(again) == before
        assert again.study("mine", digest_of(0), ["a"], owner=ada.subject).frame().a.tolist() == [1, 2]
        pd.testing.assert_frame_equal(again.open_study("shared").frame(), store.open_study("shared").frame())
        pd.testing.assert_frame_equal(again.records(), store.records())
        restored = Privacy(again, Vault(there / "keys"), Audit(there / "audit.jsonl"))
        assert restored.consent(ada.subject, "storage")
        with zipfile.ZipFile(io.BytesIO(restored.export(ada.subject))) as opened:
            for of in ("model", "upload", "output", "evaluation", "artefact"):
                assert any(ada.word(of).encode() in opened.read(name) for name in opened.namelist()), of
        assert rows(again, JobRow)[0]["request"].startswith(b"CPG1")
    report = verify(there / "audit.jsonl")
    assert report.intact, report
    assert stat.S_IMODE((there / "keys").stat().st_mode) == 0o600
    store.close()


@pytest.mark.postgres
def test_a_restored_store_goes_on_in_postgresql(here: Path, postgres: Any) -> None:
    """From a file of SQLite: artefacts come in from beside it, and new rows get numbers of their own."""
    store, _, ada = filled(f"sqlite:///{here / 'store.db'}", here)
    back_up(store, here / "backup", places(here))
    url = postgres.new_store()
    restore(here / "backup", url, Places(here / "other.jsonl"))
    with ck.Store(url) as again:
        assert everything(again) == everything(store)
        again.study("new", digest_of(2), ["a"]).recorder().add(pd.DataFrame({"a": [1]}))
        again.open_study("mine", owner=ada.subject).recorder().add(pd.DataFrame({"a": [9]}, index=[7]))
        assert again.open_study("mine", owner=ada.subject).frame().a.tolist() == [1, 2, 9]
        assert len(again.open_study("new")) == 1
    with pytest.raises(InvalidInputError, match=r"goes into an empty database, but .* has rows in codesign_"):
        restore(here / "backup", url, Places(here / "other.jsonl"))
    store.close()


def small(here: Path) -> tuple[ck.Store, Privacy, Somebody]:
    store = ck.Store(here / "store.db")
    privacy = Privacy(store, Vault(here / "keys"), Audit(here / "audit.jsonl"))
    return store, privacy, Somebody(store, privacy._vault, "ada").arrive().work()


def test_a_damaged_backup_is_refused_whole(here: Path, there: Path) -> None:
    store, _, _ = small(here)
    back_up(store, here / "backup", places(here), with_keys=True)
    store.close()
    whole = (here / "backup").read_bytes()
    draw = random.Random(0)
    damaged = [whole[:-1], whole[:100], b"", whole + b"x", whole[: len(whole) // 2], b"x" + whole]
    for _ in range(40):
        place = draw.randrange(len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :])
    for content in damaged:
        (here / "damaged").write_bytes(content)
        with pytest.raises(ArchiveError, match="no sound backup, and nothing was restored"):
            restore(here / "damaged", there / "store.db", places(there))
    assert not there.exists()
    with pytest.raises(ArchiveError, match="cannot be read"):
        restore(here / "none", there / "store.db", places(there))


def signed(content: dict[str, bytes], comment: bytes = MARK + b"0" * 64) -> bytes:
    """A zip of such files, signed as a backup is: what somebody makes who knows how."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, data in content.items():
            opened.writestr(name, data)
        opened.comment = comment
    end = len(stream.getvalue()) - 64
    return stream.getvalue()[:end] + digest_before(stream, end).encode()


def forged(whole: bytes, change: Callable[[dict[str, bytes], dict[str, Any]], object]) -> bytes:
    """A backup with changed contents, and all digests put right."""
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        content = {name: opened.read(name) for name in opened.namelist()}
    manifest = json.loads(content.pop("manifest.json"))
    change(content, manifest)
    about = {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in content.items()}
    return signed({**content, "manifest.json": json.dumps(manifest | {"files": about}).encode()})


PERSON = "tables/codesign_person.jsonl"
FORGERIES: dict[str, Callable[[dict[str, bytes], dict[str, Any]], object]] = {
    "another format": lambda content, manifest: manifest.update(format="x"),
    "a newer schema": lambda content, manifest: manifest.update(schema="0099"),
    "a path outside": lambda content, manifest: content.update({"audit/../../x": b""}),
    "another file": lambda content, manifest: content.update({"x": b""}),
    "a row too few": lambda content, manifest: manifest["tables"].update(codesign_person=2),
    "a row without a name": lambda content, manifest: content.update(
        {PERSON: content[PERSON].replace(b'"name":', b'"nome":')}
    ),
    "a time that is none": lambda content, manifest: content.update(
        {PERSON: content[PERSON].replace(b'_at":"2', b'_at":"x')}
    ),
    "no JSON": lambda content, manifest: content.update({PERSON: b"{"}),
    "a table that is not there": lambda content, manifest: manifest["tables"].update(codesign_x=0),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_backup_leaves_nothing_behind(
    here: Path, there: Path, change: Callable[[dict[str, bytes], dict[str, Any]], object]
) -> None:
    with ck.Store(here / "store.db") as store:
        Somebody(store, Vault(here / "keys"), "ada").arrive()
        back_up(store, here / "backup", Places(here / "erased.jsonl"))
    (here / "forged").write_bytes(forged((here / "backup").read_bytes(), change))
    with pytest.raises(ArchiveError, match="nothing was restored"):
        restore(here / "forged", there / "store.db", places(there))
    assert [path for path in there.rglob("*") if path.is_file()] == []
    (here / "same").write_bytes(forged((here / "backup").read_bytes(), lambda content, manifest: None))
    restore(here / "same", there / "store.db", places(there))


def test_nothing_is_overwritten(here: Path, there: Path) -> None:
    store, _, _ = small(here)
    back_up(store, here / "backup", places(here), with_keys=True)
    with pytest.raises(InvalidInputError, match="goes into an empty database"):
        restore(here / "backup", here / "store.db", places(there))
    there.mkdir()
    for name in ("keys", "audit.jsonl", "audit.key", "audit.jsonl.head"):
        (there / name).write_text("mine")
        with pytest.raises(InvalidInputError, match=f"overwrites nothing, but .*{name} is there"):
            restore(here / "backup", there / "store.db", places(there))
        assert (there / name).read_text() == "mine"
        (there / name).unlink()
    (there / "store.db.files" / "ab").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match=r"store.db.files is there"):
        restore(here / "backup", there / "store.db", places(there))
    (there / "store.db.files" / "ab").rmdir()
    ck.Store(there / "store.db").close()  # made by somebody, and empty
    restore(here / "backup", there / "store.db", places(there))
    with pytest.raises(OutputError):
        back_up(store, here, places(here))
    store.close()


def test_the_erased_do_not_come_back(here: Path, there: Path) -> None:
    store, privacy, ada = small(here)
    ben = Somebody(store, privacy._vault, "ben").arrive().work()
    back_up(store, here / "old", places(here), with_keys=True)
    privacy.erase(ada.subject)
    back_up(store, here / "new", places(here))
    store.close()
    done = restore(here / "old", there / "store.db", places(there), erased=here / "erased.jsonl")
    assert done["erased"] == 1
    with ck.Store(there / "store.db") as again:
        assert [row["subject"] for row in rows(again, PersonRow)] == [ben.subject]
        assert holding(there, b"canary-ada") == []
        assert Privacy(again, Vault(there / "keys")).tombstones.all() == {ada.subject: True}
    (there.parent / "third").mkdir()
    (there.parent / "third" / "erased.jsonl").write_bytes((here / "erased.jsonl").read_bytes())
    done = restore(here / "old", there.parent / "third" / "store.db", Places(there.parent / "third" / "erased.jsonl"))
    assert done["erased"] == 1, "by the list that stood in its place"
    done = restore(here / "new", there.parent / "fourth.db", Places(there.parent / "fourth.jsonl"))
    assert (done["erased"], (there.parent / "fourth.jsonl").exists()) == (0, True), "the list came along"


def test_tokens_can_be_revoked(here: Path, there: Path) -> None:
    store, _, _ = small(here)
    back_up(store, here / "backup", places(here))
    store.close()
    restore(here / "backup", there / "store.db", Places(there / "erased.jsonl"), revoke_tokens=True)
    with ck.Store(there / "store.db") as again:
        assert all(row["revoked_at"] is not None for row in rows(again, TokenRow))


def test_secrets_are_in_it_only_where_asked_for(here: Path) -> None:
    store, privacy, ada = small(here)
    settings = {"database_url": "postgresql://me:hunter2@db/x", "hub": {"url": "https://u:hunter2@h/?a=1"}, "port": 8}
    back_up(store, here / "backup", places(here), settings=settings)
    store.close()
    with zipfile.ZipFile(here / "backup") as opened:
        everything = b"\n".join(opened.read(name) for name in opened.namelist())
        assert json.loads(opened.read("settings.json"))["database_url"] == "postgresql://me:***@db/x"
    for secret in (b"hunter2", privacy._vault.keys[0].secret, (here / "audit.key").read_bytes().strip()):
        assert secret not in everything
    for words in (ada.word("model"), ada.word("result"), 2 * ada.word("upload")):
        assert words.encode() not in everything, "what was sealed stays sealed"
    assert without_secrets("postgresql:///x?password=hunter2&host=a") == "postgresql:///x?password=***&host=a"


def test_a_backup_is_of_one_moment(store_url: str, here: Path, there: Path) -> None:
    """Others write meanwhile: every file of a job is there with its job, and as many as it says."""
    with ck.Store(store_url) as store:
        vault = Vault(here / "keys")
        ada = Somebody(store, vault, "ada").arrive()
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                ada.work_quickly()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            counts = [back_up(store, here / f"backup{n}", Places(here / "none"))["rows"] for n in range(3)]
        finally:
            stop.set()
            thread.join()
    assert counts == sorted(counts)
    restore(here / "backup2", there / "store.db", Places(there / "erased.jsonl"))
    with ck.Store(there / "store.db") as again:
        jobs = [row["id"] for row in rows(again, JobRow)]
        assert sorted(row["job_id"] for row in rows(again, BelongingRow)) == sorted(jobs)


def test_the_audit_trail_is_whole_while_it_is_written(here: Path, there: Path) -> None:
    audit = Audit(here / "audit.jsonl", rotate_bytes=4096)
    for _ in range(30):  # two files that are full
        audit.write("sign_in", "f" * 32, text="x" * 500)
    with ck.Store(here / "store.db") as store:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                audit.write("sign_in", "f" * 32, text="x" * 500)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(5):
                back_up(store, here / f"backup{number}", places(here))
        finally:
            stop.set()
            thread.join()
    restore(here / "backup4", there / "store.db", Places(there / "erased.jsonl", audit=there / "audit.jsonl"))
    report = verify(there / "audit.jsonl", here / "audit.key")
    assert report.intact, report
    assert len(list(there.glob("audit.jsonl.0*"))) > 1


@pytest.mark.slow
def test_a_killed_backup_leaves_no_file_that_looks_whole(here: Path) -> None:
    store, _, _ = small(here)
    store.close()
    code = (
        "import os, sys; from pathlib import Path; from codesign_kernel.store import Store, backup\n"
        "backup._sign = lambda stream: os.kill(os.getpid(), 9)\n"
        "backup.back_up(Store(sys.argv[1]), sys.argv[2], backup.Places(Path('none')))"
    )
    command = [sys.executable, "-c", code, str(here / "store.db"), str(here / "backup")]
    done = subprocess.run(command, cwd=ROOT, timeout=100)
    assert done.returncode == -9
    assert not (here / "backup").exists()
    for part in here.glob(".backup-*"):
        with pytest.raises(ArchiveError):
            restore(part, here / "other.db", Places(here / "erased"))


def test_people_who_sign_in_again(here: Path, there: Path) -> None:
    """Sessions are not in a backup: whoever had signed out by then is not let in by it."""
    store, _, _ = small(here)
    back_up(store, here / "backup", places(here))
    put(store, PersonRow, subject="0" * 32, name="later", role="user", password=None, provider="password",
        disabled=False, created_at=rows(store, PersonRow)[0]["created_at"], seen_at=None)  # fmt: skip
    store.close()
    restore(here / "backup", there / "store.db", Places(there / "erased.jsonl"))
    with ck.Store(there / "store.db") as again, again._database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM codesign_login")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM codesign_person")).scalar_one() == 1
