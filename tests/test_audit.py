"""The audit trail: what stands in it, what a crash leaves behind, and the command that reads it."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import run
from trails import edited, lines_of, trail

from codesign_kernel.telemetry.audit import EVENTS, Audit, paths
from codesign_kernel.telemetry.log import REQUEST_ID
from codesign_kernel.telemetry.verify import entries, verify

__all__ = ["trail"]  # a fixture

ROOT = Path(__file__).parent.parent


def test_a_trail_says_who_did_what(trail: Path) -> None:
    shown = [json.loads(line) for line in lines_of(trail)]
    assert [one["n"] for one in shown] == list(range(1, 9))
    assert shown[2]["event"] == "sign_in"
    assert shown[2]["who"] == "s2"
    assert shown[2]["data"] == {"via": "password", "try_number": 2}
    report = verify(trail)
    assert (report.lines, report.last, report.torn) == (8, 8, False)


def test_only_the_owner_reads_it(trail: Path) -> None:
    for file in (trail, trail.with_name("audit.key"), *paths(trail)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_the_request_is_named_and_secrets_are_not(tmp_path: Path) -> None:
    told = REQUEST_ID.set("r-17")
    try:
        Audit(tmp_path / "audit.jsonl").write("token_created", "s1", token="cpg_ab_cdefgh", label="Bearer abcdefgh1234")
    finally:
        REQUEST_ID.reset(told)
    (entry,) = entries(tmp_path / "audit.jsonl")
    assert entry["data"]["request_id"] == "r-17"
    assert "cdefgh" not in json.dumps(entry)
    assert "abcdefgh1234" not in json.dumps(entry)


WRITER = """
import os, sys
from pathlib import Path
from codesign_kernel.telemetry.audit import Audit
audit = Audit(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    audit.write("sign_in", "s", pad="x" * 200)
"""


def test_a_kill_in_the_middle_of_writing_is_no_tampering(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=environment
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        while not path.exists() or path.stat().st_size < before + 4_000:
            assert writer.poll() is None
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        before = path.stat().st_size
        assert verify(path).intact
        Audit(path).write("gateway_started")
        assert verify(path).intact


@pytest.mark.parametrize("kept", [1, 3, 30, -3])
def test_a_torn_last_line_is_told_apart_and_mended(trail: Path, kept: int) -> None:
    head = paths(trail)[0].read_bytes()
    Audit(trail).write("sign_out", "s3")
    *whole, last = lines_of(trail)
    trail.write_bytes(b"".join(whole) + last[:kept])
    paths(trail)[0].write_bytes(head)  # it is written after the line
    report = verify(trail)
    assert report.intact
    assert report.torn
    Audit(trail)
    assert verify(trail).intact
    assert not verify(trail).torn
    mended = next(iter(entries(trail)))
    assert mended["event"] == "audit_mended"
    assert mended["data"]["bytes"] == len(last[:kept])


def test_a_line_that_was_written_before_its_head_counts(trail: Path) -> None:
    head = paths(trail)[0].read_bytes()
    Audit(trail).write("sign_out", "s3")
    paths(trail)[0].write_bytes(head)
    assert verify(trail).intact
    assert Audit(trail).head().n == 9
    assert Audit(trail).write("sign_in", "s4") == 10
    assert verify(trail).intact


def test_an_unfinished_line_of_somebody_else_is_no_torn_line(trail: Path) -> None:
    with trail.open("ab") as stream:
        stream.write(b'{"n":9,"who":"nobody"')
    assert verify(trail).problem == "inserted"


def test_the_chain_goes_on_through_renamed_files(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, rotate_bytes=700)
    for number in range(20):
        audit.write("sign_in", f"s{number}")
    files = sorted(tmp_path.glob("audit.jsonl.0*"))
    assert len(files) >= 3
    assert verify(path).last == 20
    assert [entry["n"] for entry in entries(path)] == list(range(20, 0, -1))
    content = files[1].read_bytes()
    files[1].unlink()
    assert verify(path).problem == "removed"
    files[1].write_bytes(content)
    kept = files[-1].read_bytes()
    os.rename(path, tmp_path / "away")
    files[-1].write_bytes(b"".join(kept.splitlines(keepends=True)[:-1]))
    assert verify(path).problem == "truncated"


def test_a_rename_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    for number in range(4):
        audit.write("sign_in", f"s{number}")
    os.rename(path, tmp_path / "audit.jsonl.0001")  # and killed before the head was written
    assert verify(path).intact
    assert Audit(path).write("sign_in", "s5") == 5
    assert verify(path).intact
    assert verify(path).lines == 5


def test_what_is_older_than_its_time_can_go(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, rotate_bytes=700)
    for number in range(20):
        audit.write("sign_in", f"s{number}")
    assert audit.forget(datetime.now(UTC) - timedelta(days=1)) == 0
    dropped = audit.forget(datetime.now(UTC) + timedelta(seconds=1))
    assert dropped > 5
    assert not list(tmp_path.glob("audit.jsonl.0*"))
    report = verify(path)
    assert report.intact
    assert report.last == 21
    assert report.lines == 21 - dropped
    assert next(iter(entries(path)))["data"]["lines"] == dropped
    path.write_bytes(b"".join(lines_of(path)[1:]))
    assert verify(path).problem == "removed"


def test_threads_and_processes_share_a_trail(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audits = [Audit(path), Audit(path)]

    def write(audit: Audit) -> None:
        for _ in range(20):
            audit.write("token_used", "s1")

    threads = [threading.Thread(target=write, args=(audit,)) for audit in (*audits, *audits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify(path)
    assert report.intact
    assert report.last == 80


def test_anything_can_be_written(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.write(
        "upload_refused", "s1", name='a"\n\u2028\ud800<script>', size=float("nan"), many=["x"] * 3, deep={"a": {"b": 1}}
    )
    audit.write("upload_refused", "s1", path=Path("/a"))
    assert verify(tmp_path / "audit.jsonl").intact
    assert verify(tmp_path / "audit.jsonl").last == 2


def test_every_event_that_is_written_is_listed() -> None:
    """Whatever the gateway writes is in the table that docs and filters are made from."""
    written = {
        event
        for room in ("server", "store", "cli", "telemetry")
        for file in (ROOT / "codesign_kernel" / room).rglob("*.py")
        for event in re.findall(r"\baudit\.write\(\s*\"(\w+)\"", file.read_text(encoding="utf-8"))
    }
    assert written <= set(EVENTS), sorted(written - set(EVENTS))


def test_the_command_verifies_and_shows(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Audit(trail).write("token_revoked", "s3", id="ab")
    status, out, _ = run(capsys, "audit", "verify", str(trail))
    assert (status, "9 lines" in out) == (0, True)
    status, out, _ = run(capsys, "audit", "show", str(trail), "--who", "s3", "--json")
    assert [one["event"] for one in json.loads(out)["entries"]] == ["token_revoked", "sign_in"]
    status, out, _ = run(capsys, "audit", "show", str(trail), "--event", "token", "--since", "1h")
    assert status == 0
    assert "token_revoked" in out
    assert "sign_in" not in out
    with pytest.raises(SystemExit, match="2"):
        run(capsys, "audit", "show", str(trail), "--since", "yesterday")
    assert "--since: is 30m" in capsys.readouterr().err
    trail.write_bytes(b"".join(edited(lines_of(trail))))
    status, out, _ = run(capsys, "audit", "verify", str(trail), "--json")
    assert status == 1
    assert json.loads(out)["problem"] == "edited"
    assert json.loads(out)["line"] == 4


def test_the_command_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "audit", "verify", str(tmp_path / "none.jsonl"))
    assert status == 2
    assert "none" in err


def test_the_command_finds_the_trail_of_a_gateways_settings(
    trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.toml").write_text(f'data_dir = "{trail.parents[1]}"')
    for named in (["--config", str(tmp_path / "gateway.toml")], ["--data", str(trail.parents[1])]):
        status, out, _ = run(capsys, "audit", "verify", *named)
        assert status == 0
        assert out.startswith(str(trail))
