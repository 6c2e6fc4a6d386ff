"""Runs jobs inside the sandbox: requests on standard input, one line of JSON a step on standard output.

``python -m codesign_kernel.server.worker`` in the private folder of a cell. Results and files go into ``out/ID/``; the
gateway reads them there, and believes nothing that it has not checked: this process has read somebody's model.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from codesign_kernel.errors import CodesignError

#: When this process began, by the clock that only goes forward.
BEGAN_S = time.monotonic()
#: Seconds between two lines about progress, and characters of a message.
EVERY_S, TEXT = 0.2, 300
#: The result of a job, beside its files.
RESULT = "result.json"


@dataclass(frozen=True)
class Made:
    """What came of a job: plain data, and files {name: (media type, bytes)}."""

    result: Mapping[str, Any]
    files: Mapping[str, tuple[str, bytes]]


class Teller:
    """Writes the lines of one job; of progress not more than five a second."""

    def __init__(self, stream: TextIO, job: str) -> None:
        self._stream, self._job, self._last = stream, job, 0.0

    def line(self, kind: str, **data: Any) -> None:
        """One line."""
        self._stream.write(json.dumps({"job": self._job, "kind": kind, **data}) + "\n")
        self._stream.flush()

    def progress(self, done: int, total: int, message: str) -> None:
        """As sessions tell it: ``total`` 0 where it is not known."""
        if time.monotonic() - self._last >= EVERY_S or (total and done >= total):
            self._last = time.monotonic()
            words = f"{done:,} of {total:,} {message}" if done and total else str(message)
            self.line("progress", done=min(1.0, done / total) if total else 0.0, message=words[:TEXT])


Work = Callable[[Mapping[str, Any], Mapping[str, str], Callable[[int, int, str], None]], Made]


def run(jobs: Sequence[Mapping[str, Any]], stream: TextIO, folder: Path) -> None:
    """Every job of ``jobs``: {"id", "kind", "request", "inputs": {role: path below ``folder``}}."""
    for job in jobs:
        teller = Teller(stream, job["id"])
        teller.line("started")
        try:
            made = _work(job["kind"])(job["request"], job["inputs"], teller.progress)
            _write(folder / "out" / job["id"], made)
            teller.line("made", files=[{"name": name, "media_type": kind} for name, (kind, _) in made.files.items()])
        except CodesignError as error:
            message = str(error).replace(f"{folder}{os.sep}", "")
            teller.line("error", code=type(error).__name__, message=message[:2_000])
        except MemoryError:
            teller.line("error", code="MemoryError", message=_MEMORY)
        except Exception as error:  # the outermost edge: the text goes to the operator, its type to the person
            number = uuid.uuid4().hex[:12]
            traceback.print_exc(file=sys.stderr)
            sys.stderr.write(f"fault {number} in job {job['id']}\n")
            teller.line("fault", code=type(error).__name__, number=number)


_MEMORY = "the job needs more memory than the limit memory_bytes of its scope; ask for less at once"


def _work(kind: str) -> Work:
    from codesign_kernel.server import work

    return work.KINDS[kind]


def _write(folder: Path, made: Made) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(made.result, allow_nan=False), encoding="utf-8")
    for name, (_, content) in made.files.items():
        (folder / name).write_bytes(content)


def main() -> None:
    """Read the jobs, run them, one behind the other."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not ours
    asked = json.loads(sys.stdin.buffer.read())
    run(asked["jobs"], stream, Path.cwd())


if __name__ == "__main__":
    main()
