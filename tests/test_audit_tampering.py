"""Whatever is done to the files of an audit trail shows, and what was done is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from trails import edited, lines_of, trail

from codesign_kernel.errors import AuditError
from codesign_kernel.telemetry.audit import Audit, paths
from codesign_kernel.telemetry.verify import PROBLEMS, verify

__all__ = ["trail"]  # a fixture


def blanked(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b":", b": ", 1), *lines[4:]]


def inserted(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b'"s3"', b'"s9"'), *lines[3:]]


def repeated(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5], lines[2], *lines[5:]]


def brought_forward(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[6], *lines[3:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def moved(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], *lines[4:7], lines[3], lines[7]]


CHANGES = [
    (edited, "edited"),
    (blanked, "edited"),
    (lambda lines: [*lines[:3], b"garbage\n", *lines[4:]], "edited"),
    (lambda lines: [*lines[:3], *lines[4:]], "removed"),
    (lambda lines: [*lines[:3], *lines[6:]], "removed"),
    (inserted, "inserted"),
    (lambda lines: [*lines[:3], b"garbage\n", *lines[3:]], "inserted"),
    (repeated, "inserted"),
    (brought_forward, "inserted"),
    (swapped, "reordered"),
    (moved, "reordered"),
]


@pytest.mark.parametrize(("change", "kind"), CHANGES)
def test_what_was_done_is_named_and_where(trail: Path, change: object, kind: str) -> None:
    lines = lines_of(trail)
    trail.write_bytes(b"".join(change(lines)))  # type: ignore[operator]
    report = verify(trail)
    assert report.problem == kind, report
    assert not report.intact
    assert report.line == (6 if change is repeated else 4)
    assert report.file == "audit.jsonl"
    assert report.last == report.line - 1
    # whoever writes on does not make it good
    Audit(trail).write("sign_out", "s1")
    assert verify(trail).problem == kind


@pytest.mark.parametrize("kept", [0, 5, 7])
def test_a_cut_tail_shows(trail: Path, kept: int) -> None:
    trail.write_bytes(b"".join(lines_of(trail)[:kept]))
    report = verify(trail)
    assert (report.problem, report.line) == ("truncated", kept + 1)
    Audit(trail).write("sign_out", "s1")
    assert verify(trail).problem == "removed"


def test_a_cut_in_the_middle_of_a_line_that_was_whole_shows(trail: Path) -> None:
    trail.write_bytes(trail.read_bytes()[:-9])
    assert verify(trail).problem == "truncated"
    Audit(trail).write("sign_out", "s1")
    assert verify(trail).problem == "edited"


def test_a_removed_trail_shows(trail: Path) -> None:
    trail.unlink()
    assert verify(trail).problem == "truncated"


def test_a_damaged_head_shows_and_stops_the_writer(trail: Path) -> None:
    head = paths(trail)[0]
    good = head.read_bytes()
    audit = Audit(trail)
    for bad in (good.replace(b'"n":8', b'"n":7'), b"", b"{}", good[10:]):
        head.write_bytes(bad)
        assert verify(trail).problem == "head"
        with pytest.raises(AuditError, match="damaged"):
            Audit(trail)
        with pytest.raises(AuditError, match="damaged"):
            audit.write("sign_in", "s1")
    head.unlink()
    assert verify(trail).problem == "head"
    with pytest.raises(AuditError, match="gone"):
        Audit(trail)
    head.write_bytes(good)
    assert verify(trail).intact


def test_without_the_key_nothing_is_written_or_believed(trail: Path) -> None:
    key = trail.with_name("audit.key")
    other = "ab" * 32
    key.write_text(other)
    assert verify(trail).problem == "edited"
    key.unlink()
    with pytest.raises(AuditError, match=r"audit\.key"):
        Audit(trail)
    with pytest.raises(AuditError, match=r"audit\.key"):
        verify(trail)
    assert not key.exists(), "a new key would make the old lines worthless"


def test_random_tampering_never_passes(tmp_path: Path) -> None:
    """Bytes and lines changed at random in file and head: not one of 400 changes goes unnoticed."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, rotate_bytes=900)
    for number in range(12):
        audit.write("job_submitted", f"s{number % 3}", kind="sweep", designs=number)
    files = [*sorted(tmp_path.glob("audit.jsonl.0*")), path]
    assert len(files) >= 2
    good = {file: file.read_bytes() for file in [*files, paths(path)[0]]}
    pick = random.Random(7)
    for turn in range(400):
        file = pick.choice(list(good))
        content = bytearray(good[file])
        at = pick.randrange(len(content))
        what = pick.choice(["flip", "drop", "add", "line"])
        if what == "flip":
            content[at] ^= 1 << pick.randrange(8)
        elif what == "drop":
            del content[at : at + pick.randint(1, 300)]
        elif what == "add":
            content[at:at] = pick.randbytes(pick.randint(1, 40)).replace(b"\0", b"x")
        else:
            parts = bytes(content).splitlines(keepends=True)
            parts.insert(pick.randrange(len(parts) + 1), parts.pop(pick.randrange(len(parts))))
            content = bytearray(b"".join(parts))
        blanks = file == paths(path)[0] and bytes(content).strip() == good[file].strip()
        if bytes(content) == good[file] or blanks:
            continue
        file.write_bytes(content)
        report = verify(path)
        assert report.problem in PROBLEMS, (turn, what, file.name, at, report)
        file.write_bytes(good[file])
    assert verify(path).intact
