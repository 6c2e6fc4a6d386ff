"""One program in a cell, to its end: its lines as they come, and why it ended."""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from codesign_kernel.server.sandbox.cell import Cell

#: Looks at ``stop`` this often.
_LOOK_S = 0.1
_END_S = 15.0
_PIECE = 1 << 16
_ERRORS = 4096


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        status: its exit status; below 0: the signal that ended it.
        reason: the limit that was reached and its value, ``stopped``, or empty: it ended by itself.
        errors: the end of what it wrote to its standard error; untrusted, for logs only.
    """

    status: int
    reason: str
    errors: str = ""


class _Lines:
    """Pieces in, whole lines out; a line of more than ``most`` bytes is too long."""

    def __init__(self, on_line: Callable[[str], None], most: int) -> None:
        self._on_line, self._most, self._rest = on_line, most, bytearray()

    def take(self, piece: bytes) -> bool:
        """Whether what came so far is within the limit."""
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._rest += line
            self._give()
        self._rest += rest
        return len(self._rest) <= self._most

    def _give(self) -> None:
        self._on_line(self._rest.decode("utf-8", errors="replace"))
        self._rest.clear()

    def close(self) -> None:
        if self._rest:
            self._give()


def run_confined(
    cell: Cell,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    on_line: Callable[[str], None],
    stop: threading.Event | None = None,
) -> Ended:
    """Run ``argv`` in the cell until it and all that it started have ended.

    Args:
        stdin: what it reads.
        on_line: called with every line of its standard output as it comes, without the line's end, in this thread.
        stop: ends it when set.

    Returns:
        How it ended; a limit of the cell's scope ends it, and nothing raises.
    """
    most = 2 * cell.scope.limits["artefact_bytes"] + (1 << 20)
    process = cell.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return follow(cell, process, stdin, _Lines(on_line, most), stop or threading.Event())


def follow(cell: Cell, process: subprocess.Popen[bytes], stdin: bytes, lines: _Lines, stop: threading.Event) -> Ended:
    """Feed and read a process of the cell until its pipes are closed, then say how it ended."""
    errors, said = bytearray(), ""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as ready:
        left = memoryview(stdin)
        os.set_blocking(process.stdin.fileno(), False)
        ready.register(process.stdout, selectors.EVENT_READ)
        ready.register(process.stderr, selectors.EVENT_READ)
        ready.register(process.stdin, selectors.EVENT_WRITE)
        try:
            while ready.get_map():
                for key, _ in ready.select(_LOOK_S):
                    if key.fileobj is process.stdin:
                        left = _feed(ready, process, left)
                    elif not (piece := os.read(key.fd, _PIECE)):
                        ready.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        errors = (errors + piece)[-_ERRORS:]
                    elif not lines.take(piece):
                        most = cell.scope.limits["artefact_bytes"]
                        said = f"artefact_bytes: the result is longer than the scope's limit of {most:,} byte"
                if (said or stop.is_set()) and process.poll() is None:
                    said = said or "stopped"
                    process.terminate()
                    process.wait(_END_S)
        finally:
            _close(process)
    lines.close()
    status, reason = cell.ending() or (process.returncode, "the cell could not be started")
    return Ended(status, said or reason, errors.decode("utf-8", errors="replace"))


def _feed(ready: selectors.BaseSelector, process: subprocess.Popen[bytes], left: memoryview) -> memoryview:
    assert process.stdin
    with suppress(BlockingIOError, BrokenPipeError):
        if left:
            return left[os.write(process.stdin.fileno(), left[:_PIECE]) :]
    if not left or process.poll() is not None:
        ready.unregister(process.stdin)
        process.stdin.close()
    return left


def _close(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, and let go of the pipes."""
    if process.poll() is None:
        process.terminate()
    process.wait(_END_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
