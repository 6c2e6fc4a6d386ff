"""A program run beside this one that never outlives it: not an error, not Ctrl-C, not a kill of this process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

#: Seconds between two calls of ``on_line`` while the program says nothing.
_SILENT_S = 1.0


def run_watched(command: Sequence[str], folder: Path, on_line: Callable[[str | None], None]) -> tuple[int, str]:
    """Run ``command`` in a process group of its own and wait for it.

    The group is killed when this function is left in any way. Standard input stays open as long as this process lives,
    for programs that look after it. Temporary files of the program go to ``folder``.

    Args:
        command: program and arguments.
        folder: for temporary files.
        on_line: called with each line of standard output, and with None once a second while there is none.

    Returns:
        The exit status (negative: the signal that ended it), and what it wrote to standard error.
    """
    with tempfile.TemporaryFile(dir=folder) as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            rest = b""
            while True:
                if not select.select([process.stdout], [], [], _SILENT_S)[0]:
                    on_line(None)
                    continue
                read = os.read(process.stdout.fileno(), 1 << 16)
                if not read:
                    break
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    on_line(line.decode(errors="replace"))
            status = process.wait()
        finally:
            # what it has started may outlive it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()
            process.stdout.close()
        errors.seek(0)
        return status, errors.read().decode(errors="replace")
