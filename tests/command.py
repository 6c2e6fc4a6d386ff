"""The `codesign` command for tests: in a process of its own, and in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codesign_kernel import cli

ROOT = Path(__file__).parent.parent


def codesign(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "codesign_kernel.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    options = {"timeout": 100, **options}
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command in this process: (exit status, stdout, stderr)."""
    status = cli.main(arguments)
    caught = capsys.readouterr()
    return status, caught.out, caught.err
