"""A person of a running gateway, with work in every store, is exported and erased; nothing of theirs is left."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from command import run
from gateway import Gate, gateway, write_app
from people import holding

import codesign_kernel as ck
from codesign_kernel.errors import ServiceError
from codesign_kernel.store.people import People, Person
from codesign_kernel.telemetry.verify import entries

CANARY = "canary-ada"
#: Seconds for what happens soon.
SOON_S = 150


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "apps").mkdir()
    write_app(folder / "apps", "hello", "print(1)", capabilities='["profile", "upload"]')
    with gateway(folder, identity="password", log_file=folder / "data" / "gateway.jsonl") as running:
        yield running


def arrive(gate: Gate, name: str) -> tuple[Person, str]:
    """A person of the gateway, and a token of theirs."""
    with ck.Store(gate.data / "store.db") as store:
        people = People(store)
        person = people.add(name, "user")
        return person, people.create_token(person, f"{name}-label", ["profile", "upload", "explore", "generate"], 1)[1]


def work(gate: Gate, token: str, name: str, folder: Path) -> None:
    """A job with a result, and an upload."""
    import torch

    file = folder / f"{name}.pt2"
    exported = torch.export.export(torch.nn.Linear(4, 2), (torch.zeros(1, 4),))
    torch.export.save(exported, file)
    with ck.Client(gate.url, token) as client:
        assert client.profile("resnet18", key=f"{name}-key").result(timeout_s=SOON_S)
        client.upload(file)
        assert len(list(client.artefacts())) >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_export_and_erase_in_a_running_gateway(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ada, token = arrive(gate, f"{CANARY}-name")
    ben, other = arrive(gate, "canary-ben-name")
    work(gate, token, CANARY, tmp_path)
    work(gate, other, "canary-ben", tmp_path)
    with ck.Store(gate.data / "store.db") as store:
        secret = People(store).start_login(ada.subject, 3600)
    cookie = {"Cookie": f"codesign-{gate.told['port']}={secret}"}
    assert httpx.get(f"{gate.url}apps/hello", headers=cookie, timeout=SOON_S).status_code == 200, (
        "a kernel of hers runs"
    )
    trail, out = gate.data / "audit" / "audit.jsonl", tmp_path / "ada.zip"
    assert run(capsys, "privacy", "export", ada.subject, "--out", str(out), "--data", str(gate.data))[0] == 0
    with zipfile.ZipFile(io.BytesIO(out.read_bytes())) as opened:
        jobs = json.loads(opened.read("jobs.json"))
        assert [(job["idempotency_key"], job["state"]) for job in jobs] == [(f"{CANARY}-key", "done")]
        assert b"resnet18" in opened.read(jobs[0]["request"])
        assert json.loads(opened.read("belongings.json"))
        assert ben.subject.encode() not in b"".join(opened.read(name) for name in opened.namelist())
    assert holding(gate.data, CANARY.encode()), "it is there to be found"
    assert run(capsys, "backup", str(tmp_path / "backup"), "--data", str(gate.data))[0] == 0
    assert run(capsys, "privacy", "erase", ada.subject, "--yes", "--data", str(gate.data))[0] == 0
    with ck.Client(gate.url, token) as client, pytest.raises(ServiceError) as refused:
        client.me()
    assert refused.value.status in (401, 403)
    assert holding(gate.data, CANARY.encode()) == []
    until_s = time.monotonic() + SOON_S
    while not list(entries(trail, event="kernel_ended", who=ada.subject)) and time.monotonic() < until_s:
        time.sleep(0.2)  # the gateway notices within seconds
    (ended,) = entries(trail, event="kernel_ended", who=ada.subject)
    assert "erased" in json.dumps(ended["data"])
    assert {Path(name).name for name in holding(gate.data, ada.subject.encode())} <= {
        "audit.jsonl", "erased.jsonl", "gateway.jsonl",
    }  # fmt: skip
    with ck.Client(gate.url, other) as client:
        assert client.me()["subject"] == ben.subject
        assert [job.state for job in client.jobs()] == ["done"], "others work on"
    assert httpx.get(f"{gate.url}health", timeout=SOON_S).status_code == 200
    assert run(capsys, "restore", str(tmp_path / "backup"), "--data", str(tmp_path / "other"), "--erased",
               str(gate.data / "erased.jsonl"))[0] == 0  # fmt: skip
    assert holding(tmp_path / "other", CANARY.encode()) == []
