"""``codesign audit``: check and read the gateway's audit trail."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from codesign_kernel.cli.output import Answer, table_text
from codesign_kernel.cli.progress import Progress
from codesign_kernel.errors import InvalidInputError


def audit_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign audit verify|show``.

    Raises:
        InvalidInputError: there is no such trail.
        AuditError: its key cannot be read.
    """
    from codesign_kernel.telemetry.audit import paths

    path: Path = args.file or _own_trail(args)
    if not path.is_file() and not paths(path)[0].is_file():
        raise InvalidInputError(f"there is no audit trail at {path}; name its file")
    return _verified(args, path) if args.action == "verify" else _shown(args, path)


def _own_trail(args: argparse.Namespace) -> Path:
    from codesign_kernel.server.settings import read_settings

    return read_settings(args.config, data_dir=args.data).audit_file


def _verified(args: argparse.Namespace, path: Path) -> Answer:
    from codesign_kernel.telemetry.verify import verify

    report = verify(path, args.key)
    if report.intact:
        text = f"{path} is as it was written: {report.lines:,} lines, the last is number {report.last:,}."
        if report.torn:
            text += " Behind it stands a half-written line, as after a crash; it is taken off at the next start."
    else:
        place = f"{report.file}, line {report.line:,}" if report.line else report.file
        text = f"TAMPERED ({report.problem}): {place}: {report.text}."
    return Answer(text, report.plain(), report.intact)


def _shown(args: argparse.Namespace, path: Path) -> Answer:
    from codesign_kernel.telemetry.verify import entries

    found = list(itertools.islice(entries(path, event=args.event, who=args.who, since=args.since), args.count))
    rows = [
        (one["n"], one["time"], one["event"], one["who"] or "-", json.dumps(one["data"], ensure_ascii=True))
        for one in found
    ]
    text = table_text(("number", "time", "event", "who", "data"), rows, left=5) if rows else "No such entries."
    return Answer(text, {"entries": found})
