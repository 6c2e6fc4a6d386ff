"""Encryption at rest: the keys file, what is refused, and rotation while others write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from people import Somebody, holding, put, rows

import codesign_kernel as ck
from codesign_kernel.errors import StoreError
from codesign_kernel.store.crypto import HEAD, MAGIC, Vault, key_of
from codesign_kernel.store.rotation import drop_old, rotate, told
from codesign_kernel.store.schema import BelongingRow, JobRow

ROOT = Path(__file__).parent.parent
NOW = timedelta(0)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "deep" / "keys")


def test_what_is_sealed_comes_back(vault: Vault) -> None:
    for content in (b"", b"x", b"\0" * 1000, os.urandom(16 << 20)):
        sealed = vault.seal(content)
        assert vault.open(sealed) == content
        assert len(sealed) - len(content) <= HEAD + 73, "the token's own bytes, and no base64"
        assert len(content) < 9 or content not in sealed[HEAD:]
    assert vault.seal(b"x") != vault.seal(b"x")
    assert key_of(vault.seal(b"x")) == vault.keys[0].id
    assert key_of(b"x") is None


def test_the_keys_are_nobody_elses(vault: Vault) -> None:
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(vault.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in vault.path.parent.iterdir()] == ["keys"]
    secret, sealed = vault.keys[0].secret.decode(), vault.seal(b"x")
    assert secret not in repr(vault) + repr(vault.keys)
    for mode in (0o640, 0o604, 0o660):
        vault.path.chmod(mode)
        for use in (lambda: Vault(vault.path), lambda: vault.seal(b"x"), lambda: vault.open(sealed)):
            with pytest.raises(StoreError, match=f"has mode {mode:04o}; chmod 600") as caught:
                use()
            assert secret not in str(caught.value)


def test_what_was_changed_is_refused(vault: Vault) -> None:
    sealed = vault.seal(b"content")
    with pytest.raises(StoreError, match="begins with the mark"):
        vault.open(b"content")
    for damaged in (sealed[:-1], sealed[:HEAD], sealed + b"x", sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(StoreError, match="was changed or cut"):
            vault.open(damaged)


def test_a_wrong_or_lost_key_is_said(vault: Vault, tmp_path: Path) -> None:
    sealed, first = vault.seal(b"content"), vault.path.read_bytes()
    other = Vault(tmp_path / "other")
    with pytest.raises(StoreError, match=f"sealed with the key {vault.keys[0].id}, which .*other has not"):
        other.open(sealed)
    renamed = MAGIC + other.keys[0].id.encode() + sealed[HEAD:]
    with pytest.raises(StoreError, match="was changed or cut"):
        other.open(renamed)
    for content, said in ((b"", "holds no key"), (b"# nothing\n", "holds no key"), (b"abc 2025-01-01\n", "no key")):
        vault.path.write_bytes(content)
        with pytest.raises(StoreError, match=said):
            vault.open(sealed)
    vault.path.unlink()
    with pytest.raises(StoreError, match=r"should be in .*; put the file back"):
        vault.seal(b"x")
    vault.path.write_bytes(first)
    vault.path.chmod(0o600)
    assert vault.open(sealed) == b"content"


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    path, made = tmp_path / "keys", []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        made.append(Vault(path).keys[0].id)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_a_new_key_is_seen_by_who_runs(vault: Vault) -> None:
    running, before = Vault(vault.path), vault.seal(b"before")
    old = vault.keys[0]
    new = vault.add_key()
    assert key_of(running.seal(b"after")) == new.id
    assert running.open(before) == b"before"
    with pytest.raises(StoreError, match="is the newest or unknown"):
        running.drop_key(new.id)
    running.drop_key(old.id)
    with pytest.raises(StoreError, match=f"which .* has not .it has {new.id}"):
        vault.open(before)


@pytest.fixture
def store(store_url: str) -> ck.Store:
    with ck.Store(store_url) as opened:
        yield opened


def sealed_cells(store: ck.Store) -> list[bytes]:
    cells = [row[name] for row in rows(store, JobRow) for name in ("request", "result")]
    return [cell for cell in [*cells, *(row["content"] for row in rows(store, BelongingRow))] if cell is not None]


def test_a_rotation_seals_everything_again(store: ck.Store, vault: Vault) -> None:
    ada = Somebody(store, vault, "ada").arrive()
    for _ in range(3):
        put_job(ada)
    ada.work()
    before = {vault.open(cell) for cell in sealed_cells(store)}
    old = vault.keys[0]
    put(
        store, BelongingRow, id="plain", owner=ada.subject, job_id=None, name="n", media_type="t", size=1,
        digest="0" * 64, content=b"never sealed", created_at=ada.at, expires_at=None,
    )  # fmt: skip
    done = rotate(store, vault)
    assert (done.sealed, done.unreadable, done.dropped, done.waiting) == (7, 0, (), (old.id,))
    assert done.key == vault.keys[0].id != old.id
    assert {key_of(cell) for cell in sealed_cells(store)} == {done.key, None}
    assert [entry["seals"] for entry in told(store, vault)] == [7, 0]
    assert drop_old(store, vault) == ((), (old.id,)), "an hour has not passed"
    assert drop_old(store, vault, grace=NOW) == ((old.id,), ())
    assert {vault.open(cell) for cell in sealed_cells(store) if key_of(cell)} == before
    assert len(vault.keys) == 1


def put_job(who: Somebody) -> None:
    at = datetime.now(UTC)
    put(
        who.store, JobRow, id=os.urandom(16).hex(), owner=who.subject, kind="profile", scope="", state="queued",
        idempotency_key=None, request_digest="0" * 64, request=who.vault.seal(os.urandom(8)), result=None, error="",
        done=0.0, message="", attempt=0, created_at=at, started_at=None, finished_at=None, expires_at=None,
    )  # fmt: skip


def test_a_rotation_that_was_killed_goes_on(store: ck.Store, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = Somebody(store, vault, "ada").arrive()
    for _ in range(20):
        put_job(ada)

    def killed(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate(store, vault, progress=killed)
    assert [entry["seals"] for entry in told(store, vault)] == [8, 12]
    assert drop_old(store, vault, grace=NOW) == ((), ()), "the old key still opens something"
    done = rotate(store, vault, grace=NOW)
    assert (done.sealed, len(done.dropped), len(vault.keys)) == (12, 1, 1), "with the key that it had begun with"
    again = rotate(store, vault, grace=NOW)
    assert (again.sealed, again.key != done.key) == (20, True), "the next one makes a new key"


def test_what_no_key_opens_is_counted(store: ck.Store, vault: Vault, tmp_path: Path) -> None:
    ada = Somebody(store, vault, "ada").arrive()
    put_job(ada)
    lost = Vault(tmp_path / "lost")
    put_job(Somebody(store, lost, "ada", subject=ada.subject))
    done = rotate(store, vault, grace=NOW)
    assert (done.sealed, done.unreadable) == (1, 1)
    assert told(store, vault)[-1] == {"key": lost.keys[0].id, "made_at": None, "seals": 1}


def test_others_write_while_keys_are_rotated(store: ck.Store, vault: Vault) -> None:
    ada, writer = Somebody(store, vault, "ada").arrive(), Vault(vault.path)
    for _ in range(30):
        put_job(ada)
    other = Somebody(store, writer, "ada", subject=ada.subject)
    thread = threading.Thread(target=lambda: [put_job(other) for _ in range(15)])
    thread.start()
    for _ in range(3):
        assert rotate(store, vault).unreadable == 0
    thread.join()
    cells = sealed_cells(store)
    assert len(cells) == 45
    assert all(len(vault.open(cell)) == 8 for cell in cells)


@pytest.mark.slow
def test_a_rotation_survives_sigkill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed in the middle leaves a store of which every row can be opened."""
    url, keys = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "keys"
    with ck.Store(url) as store:
        ada = Somebody(store, vault := Vault(keys), "ada").arrive()
        for _ in range(60):
            put_job(ada)
        code = (
            "import os, sys; from codesign_kernel.store import Store; from codesign_kernel.store.crypto import Vault; "
            "from codesign_kernel.store.rotation import rotate\n"
            "def end(done):\n    if done > 20: os.kill(os.getpid(), 9)\n"
            "rotate(Store(sys.argv[1]), Vault(sys.argv[2]), progress=end)"
        )
        done = subprocess.run([sys.executable, "-c", code, url, str(keys)], cwd=ROOT, timeout=60)
        assert done.returncode == -9
        assert all(len(vault.open(cell)) == 8 for cell in sealed_cells(store))
        assert rotate(store, vault).sealed == 36


def test_nothing_of_a_person_stands_open(tmp_path: Path) -> None:
    """Requests, results and files are nowhere in the database's own bytes."""
    with ck.Store(tmp_path / "store.db") as store:
        ada = Somebody(store, Vault(tmp_path / "keys"), "ada").arrive().work()
        for words in (ada.word("model"), ada.word("result"), 2 * ada.word("upload"), 2 * ada.word("output")):
            assert holding(tmp_path, words.encode()) == [], "a file's content, for its name stands open"
        assert holding(tmp_path, ada.word("label").encode()), "a search finds what is there"
