"""What an operator does about what a gateway keeps: the commands, and the gateway's daily look."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import threading
import zipfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import one_line, run
from people import Somebody, holding, rows

import codesign_kernel as ck
from codesign_kernel.errors import ServiceError, StoreError, StoreUnavailableError
from codesign_kernel.server import keeping
from codesign_kernel.server.keeping import Keeping
from codesign_kernel.server.settings import Settings
from codesign_kernel.store import rotation
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.privacy import table_text
from codesign_kernel.store.schema import JobRow, PersonRow
from codesign_kernel.telemetry.audit import Audit
from codesign_kernel.telemetry.verify import entries, verify


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data of a gateway that has run, with two people."""
    settings = Settings(data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    with ck.Store(settings.store_url) as store:
        vault, _ = keeping.opened(settings, store, Audit(settings.audit_file))
        for tag in ("ada", "ben"):
            Somebody(store, vault, tag).arrive().work()
    return settings.data_dir


def test_export_and_erase(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    out, name = tmp_path / "ada.zip", "canary-ada-name-x"
    status, told, _ = run(capsys, "privacy", "export", name, "--out", str(out), "--data", str(data))
    assert (status, "exported" in told) == (0, True)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(out) as opened:
        assert json.loads(opened.read("person.json"))["name"] == name
    status, _, error = run(capsys, "privacy", "erase", name, "--data", str(data))
    assert (status, one_line(error), "--yes" in error) == (2, True, True)
    status, told, _ = run(capsys, "privacy", "erase", name, "--yes", "--json", "--data", str(data))
    body = json.loads(told)
    assert (status, body["jobs"], body["people"]) == (0, 1, 1)
    assert holding(data, b"canary-ada") == []
    assert holding(data, b"canary-ben")
    status, _, error = run(capsys, "privacy", "export", name, "--out", str(out), "--data", str(data))
    assert (status, "1 to 32 letters" in error) == (2, True)
    assert {entry["event"] for entry in entries(data / "audit" / "audit.jsonl")} == {"exported", "erased"}


def test_rename_and_retain(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert run(capsys, "privacy", "rename", "canary-ada-name-x", "Ada", "--data", str(data))[0] == 0
    assert run(capsys, "privacy", "rename", "Ada", "Ada Lovelace", "--data", str(data))[0] == 0
    status, told, _ = run(capsys, "privacy", "retain", "--data", str(data))
    assert (status, told) == (0, "erased  nothing\n")


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "privacy", "table")[1] == table_text()


def test_nothing_is_made_where_no_gateway_was(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (["privacy", "retain"], ["keys", "show"], ["backup", str(tmp_path / "b")]):
        status, _, error = run(capsys, *arguments, "--data", str(tmp_path / "none"))
        assert (status, one_line(error), "there is no gateway" in error) == (2, True, True)
    assert not (tmp_path / "none").exists()


def test_keys(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    status, told, _ = run(capsys, "keys", "show", "--json", "--data", str(data))
    (key,) = json.loads(told)["keys"]
    assert (status, key["seals"]) == (0, 8)
    status, told, _ = run(capsys, "keys", "rotate", "--data", str(data))
    assert (status, "8 values" in told, f"{key['key']}: by the gateway's daily look" in told) == (0, True, True)
    secret = Vault(data / "keys").keys[0].secret.decode()
    assert holding(data / "audit", secret.encode()) == []
    (data / "keys").unlink()
    Vault(data / "keys")
    status, told, _ = run(capsys, "keys", "show", "--data", str(data))
    assert (status, "NOT IN THE FILE" in told) == (1, True)


def test_backup_and_restore(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "backup", tmp_path / "other"
    config = tmp_path / "gateway.toml"
    config.write_text('redis_url = ""\n')
    where = ["--config", str(config)]
    assert run(capsys, "backup", str(file), "--with-keys", "--data", str(data), *where)[0] == 0
    erased = json.loads(run(capsys, "privacy", "erase", "canary-ben-name-x", "--yes", "--json", "--data", str(data))[1])
    status, told, _ = run(
        capsys, "restore", str(file), "--data", str(other), "--erased", str(data / "erased.jsonl"), *where
    )
    assert (status, "erased again  1 people" in told) == (0, True)
    assert holding(other, b"canary-ben") == []
    assert [path for path in (other, *other.rglob("*")) if path.stat().st_mode & 0o066] == []
    with ck.Store(other / "store.db") as store:
        assert [row["name"] for row in rows(store, PersonRow)] == ["canary-ada-name-x"]
        assert erased["subject"] not in {row["owner"] for row in rows(store, JobRow)}
    assert verify(other / "audit" / "audit.jsonl").intact
    assert [e["data"]["action"] for e in entries(other / "audit" / "audit.jsonl", event="backup")] == ["restored"]
    status, _, error = run(capsys, "restore", str(file), "--data", str(other))
    assert (status, "goes into an empty database" in error) == (2, True)
    file.write_bytes(file.read_bytes()[:-1])
    status, _, error = run(capsys, "restore", str(file), "--data", str(tmp_path / "third"))
    assert (status, "no sound backup" in error, "Traceback" in error) == (2, True, False)
    assert not (tmp_path / "third").exists()


def test_a_restored_gateway_starts_with_its_keys_only(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    file, other = tmp_path / "backup", tmp_path / "other"
    assert run(capsys, "backup", str(file), "--data", str(data))[0] == 0
    status, told, _ = run(capsys, "restore", str(file), "--data", str(other))
    assert (status, told.count("MISSING")) == (0, 2)
    settings = Settings(data_dir=other)
    with ck.Store(settings.store_url) as store:
        with pytest.raises(StoreError, match="put your copy of it back"):
            keeping.opened(settings, store, None)
        assert not settings.keys.exists()
        shutil.copy(data / "keys", settings.keys)
        vault, _ = keeping.opened(settings, store, None)
        assert all(key["made_at"] for key in rotation.told(store, vault))


class Kernels:
    """Kernels as a gateway's manager has them, in the loop's own thread."""

    def __init__(self, owner: str, folder: Path) -> None:
        self.seats = {"k": SimpleNamespace(owner=owner, cell=SimpleNamespace(work=folder))}
        self.ended_in: list[str] = []

    def of(self, subject: str) -> list[str]:
        return [name for name, seat in self.seats.items() if seat.owner == subject]

    async def end(self, name: str, reason: str) -> None:
        self.ended_in.append(threading.current_thread().name)
        del self.seats[name]


class Jobs:
    """Jobs that end a moment after they were told to."""

    def __init__(self, asked: int) -> None:
        self.left = asked

    def stop_all(self, subject: str) -> int:
        self.left -= 1
        return max(0, self.left)


@pytest.fixture
def services(data: Path) -> Any:
    settings = Settings(data_dir=data)
    with ck.Store(settings.store_url) as store:
        audit = Audit(settings.audit_file)
        vault, privacy = keeping.opened(settings, store, audit)
        yield SimpleNamespace(store=store, vault=vault, privacy=privacy, kernels=None, jobs=None)


def test_what_runs_ends_before_an_erasure(services: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = services.privacy.subject_of("canary-ada-name-x")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes").write_text("canary-ada-notes")
    services.kernels, services.jobs = Kernels(ada, tmp_path / "work"), Jobs(3)

    async def erase() -> None:
        kept = Keeping(services, asyncio.get_running_loop())
        with zipfile.ZipFile(_file(tmp_path, services.privacy.export(ada))) as opened:
            assert any(opened.read(name) == b"canary-ada-notes" for name in opened.namelist())
        with pytest.raises(ServiceError, match="in a thread of its own"):
            kept.end_kernels(ada)
        counts = await asyncio.to_thread(services.privacy.erase, ada)
        assert counts["people"] == 1

    asyncio.run(erase())
    assert services.kernels.ended_in == ["MainThread"]
    assert services.jobs.left == 0
    monkeypatch.setattr(keeping, "END_S", 0.1)
    services.jobs = Jobs(10**6)
    with pytest.raises(StoreUnavailableError, match=r"jobs of .* do not end"):
        services.privacy.erase(services.privacy.subject_of("canary-ben-name-x"))


def test_an_erasure_waits_for_a_kernel_that_another_watch_ends(services: Any, tmp_path: Path) -> None:
    """It is told of none that could be ended, and nothing of theirs may go before it has ended."""
    ada = services.privacy.subject_of("canary-ada-name-x")
    services.kernels = Kernels(ada, tmp_path / "work")
    services.kernels.of = lambda subject: []

    async def erase() -> None:
        kept = Keeping(services, asyncio.get_running_loop())
        erasing = asyncio.ensure_future(asyncio.to_thread(kept.end_kernels, ada))
        done, _ = await asyncio.wait([erasing], timeout=0.3)
        assert not done
        services.kernels.seats.clear()
        await erasing

    asyncio.run(erase())


def _file(folder: Path, content: bytes) -> Path:
    (folder / "export.zip").write_bytes(content)
    return folder / "export.zip"


def test_an_erasure_by_the_command_line_is_noticed(
    services: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kernels and memory are the gateway's, so that it has to do its part."""
    ada = services.privacy.subject_of("canary-ada-name-x")
    services.kernels = Kernels(ada, tmp_path / "none")
    services.store.cache.of(ada).put("0" * 64, b"canary-ada-memory")

    async def live() -> None:
        kept = Keeping(services, asyncio.get_running_loop())
        kept.glance()
        assert run(capsys, "privacy", "erase", ada, "--yes", "--data", str(data))[0] == 0
        assert services.kernels.seats
        assert services.store.cache.of(ada).get("0" * 64) == b"canary-ada-memory", "it is in this process's memory"
        await asyncio.to_thread(kept.glance)
        assert not services.kernels.seats
        assert services.store.cache.of(ada).get("0" * 64) is None
        services.privacy.before_erase.clear()
        services.privacy.before_erase.append(lambda subject: pytest.fail("once is enough"))
        kept.glance()

    asyncio.run(live())


def test_the_daily_look(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "GRACE", timedelta(0))
    done = rotation.rotate(services.store, services.vault)
    assert done.waiting, "the hour is not over"
    looked = threading.Event()
    monkeypatch.setattr(keeping, "FIRST_S", 0.0)

    async def live() -> None:
        kept = Keeping(services, asyncio.get_running_loop())
        assert kept.look() == keeping.DAY_S
        monkeypatch.setattr(services.privacy, "retain", looked.set)
        kept.start()
        assert await asyncio.to_thread(looked.wait, 90)
        kept.close()
        assert not kept._thread.is_alive()

        def fail() -> None:
            raise StoreUnavailableError("gone")

        monkeypatch.setattr(services.privacy, "retain", fail)
        assert kept.look() == keeping.AGAIN_S

    asyncio.run(live())
