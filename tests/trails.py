"""An audit trail of eight lines, for tests, and one way to change it."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign_kernel.telemetry.audit import Audit
from codesign_kernel.telemetry.verify import verify


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A trail of eight lines."""
    path = tmp_path / "audit" / "audit.jsonl"
    audit = Audit(path)
    for number in range(8):
        audit.write("sign_in", f"s{number}", via="password", try_number=number)
    assert verify(path).intact
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].replace(b'"s3"', b'"s9"'), *lines[4:]]
