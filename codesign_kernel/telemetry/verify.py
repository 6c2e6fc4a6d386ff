"""Is an audit trail as it was written, and if not: where does it differ first, and how."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from codesign_kernel.telemetry.audit import (
    GENESIS,
    Head,
    chained,
    entry_of,
    key_beside,
    numbered_files,
    opened_head,
    paths,
    read_key,
)

#: {kind of problem: what it means}.
PROBLEMS = {
    "edited": "this line is not what was written",
    "removed": "lines that stood before this one are gone",
    "inserted": "this line was not written here",
    "reordered": "this line was written, but not at this place",
    "truncated": "the trail's last lines are gone",
    "head": "the head file is damaged or gone, so that a cut tail would not show",
}


@dataclass(frozen=True)
class AuditReport:
    """What :func:`verify` found.

    Attributes:
        lines: that were read.
        last: the number of the last line that is good.
        problem: of ``PROBLEMS``; "" where the trail is as it was written.
        file, line: where it begins: a file's name and the line in it, from 1.
        text: in words.
        torn: whether the last line is half written, as after a kill or a power cut: no tampering, and mended when
            the trail is opened next.
    """

    lines: int
    last: int
    problem: str = ""
    file: str = ""
    line: int = 0
    text: str = ""
    torn: bool = False

    @property
    def intact(self) -> bool:
        """Whether the trail is as it was written."""
        return not self.problem

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "intact": self.intact}


class _Line(NamedTuple):
    file: str
    line: int
    raw: bytes
    entry: dict[str, Any] | None


def verify(path: Path, key_file: Path | None = None) -> AuditReport:
    """Check a trail, all its files and its head; nothing is changed.

    Raises:
        AuditError: the key cannot be read.
    """
    key = read_key(key_file or key_beside(path))
    head_path = paths(path)[0]
    head = opened_head(key, head_path.read_bytes()) if head_path.is_file() else None
    lines, tail = _lines(path)
    anchor = head or Head()
    # files that were forgotten but could not be removed are no part of the trail any more
    lines = [line for line in lines if not (line.entry and line.entry["n"] <= anchor.first_n)]
    n, chain = anchor.first_n, anchor.first_chain if anchor.first_n else GENESIS
    for place, line in enumerate(lines):
        entry = line.entry
        if entry is None or entry["n"] != n + 1 or not _follows(key, chain, entry):
            kind, text = _what(key, lines, place, n, chain)
            return AuditReport(len(lines), n, kind, line.file, line.line, text)
        n, chain = entry["n"], entry["chain"]
    return _end(lines, tail, head, n, chain, path)


def _end(lines: list[_Line], tail: bytes, head: Head | None, n: int, chain: str, path: Path) -> AuditReport:
    """What is to be said where every whole line is good."""
    file, after = (lines[-1].file, lines[-1].line + 1) if lines else (path.name, 1)
    if head is None:
        return AuditReport(len(lines), n, "head", f"{path.name}.head", 0, PROBLEMS["head"])
    if head.n > n:
        text = f"the trail ends with line {n:,}, but {head.n:,} were written"
        return AuditReport(len(lines), n, "truncated", file, after, text)
    if tail:
        begun = f'{{"n":{n + 1},"time":"'.encode()
        if not (tail.strip(b"\0") and (tail.startswith(begun) or begun.startswith(tail))) and tail.strip(b"\0"):
            return AuditReport(len(lines), n, "inserted", file, after, "an unfinished line that was not begun here")
        return AuditReport(len(lines), n, torn=True, text="the last line is half written; it is no tampering")
    return AuditReport(len(lines), n)


def _follows(key: bytes, before: str, entry: dict[str, Any]) -> bool:
    bare = {name: value for name, value in entry.items() if name != "chain"}
    return hmac.compare_digest(chained(key, before, bare).encode(), entry["chain"].encode())


def _what(key: bytes, lines: list[_Line], place: int, n: int, chain: str) -> tuple[str, str]:
    """What happened at the first line that does not follow, with ``n`` and ``chain`` those of the one before it."""
    found = lines[place]
    later = [one.entry for one in lines[place + 1 :] if one.entry is not None and one.entry["n"] == n + 1]
    here = found.entry
    if any(_follows(key, chain, entry) for entry in later):
        # the line that belongs here stands further down
        if here is not None and here["n"] > n and _genuine(key, lines, here) and _once(lines, found.raw):
            return "reordered", f"line {here['n']:,} stands where line {n + 1:,} was written"
        return "inserted", f"what stands here was not written between line {n:,} and line {n + 1:,}"
    if here is None or here["n"] == n + 1:
        return "edited", f"line {n + 1:,} is not what was written"
    if here["n"] > n + 1:
        gone = f"line {n + 1:,} is" if here["n"] == n + 2 else f"lines {n + 1:,} to {here['n'] - 1:,} are"
        return "removed", f"{gone} gone: line {here['n']:,} stands here"
    return "inserted", f"line {here['n']:,} stands here once more"


def _genuine(key: bytes, lines: list[_Line], entry: dict[str, Any]) -> bool:
    """Whether the line before it is somewhere in the trail, so that it was written like this."""
    before = (one.entry for one in lines if one.entry is not None and one.entry["n"] == entry["n"] - 1)
    return any(_follows(key, one["chain"], entry) for one in before)


def _once(lines: list[_Line], raw: bytes) -> bool:
    return sum(one.raw == raw for one in lines) == 1


def _lines(path: Path) -> tuple[list[_Line], bytes]:
    """All whole lines of a trail, and what stands behind the last one."""
    lines, tail = [], b""
    for file in [*numbered_files(path), *([path] if path.is_file() else [])]:
        *whole, tail = file.read_bytes().split(b"\n")
        lines += [_Line(file.name, number, raw, entry_of(raw)) for number, raw in enumerate(whole, 1)]
    return lines, tail


def entries(path: Path, *, event: str = "", who: str = "", since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """The entries of a trail, the latest first, without checking them; what is no entry is left out.

    Args:
        path: of the current file.
        event: only of this event, or of all that begin so.
        who: only of this person.
        since: only those written then or later.
    """
    for file in [*([path] if path.is_file() else []), *reversed(numbered_files(path))]:
        for raw in reversed(file.read_bytes().split(b"\n")):
            entry = entry_of(raw)
            if entry is None:
                continue
            if since is not None and datetime.fromisoformat(entry["time"]) < since:
                return
            if entry["event"].startswith(event) and (not who or entry["who"] == who):
                yield entry
