"""Files of someone else, read in a process of their own: bounded in time and memory, and free to crash.

The first file costs the start of that process (2 to 4 s, torch is loaded in it and takes some 250 MB); it stays for a
minute after the last one, and each further file costs about 20 ms and what its operators take. No torch here.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.profiler.limits import Limits, check_file
from codesign_kernel.profiler.packing import unpack
from codesign_kernel.profiler.result import Profile

#: Seconds that loading torch and onnx may take on a busy machine, and that a reply may be late beyond its own limit.
START_SECONDS = 120.0
GRACE_SECONDS = 5.0

Stated = tuple[list[int], str]
_lock = threading.Lock()
_reader: _Reader | None = None


def profile_file(path: Path, given: list[Stated] | Mapping[str, Stated], name: str, limits: Limits) -> Profile:
    """The profile of a ``.pt2`` or ``.onnx`` file.

    Args:
        given: (shape, dtype) of example inputs, in order or by name; empty for those of the file.

    Raises:
        InvalidInputError: a file of another kind, too large, damaged, or too costly to read.
        CodesignError: the reading process cannot be started.
    """
    kind, size = check_file(path, limits)
    memory, seconds = limits.of(kind, size)
    request = {"path": str(path.absolute()), "kind": kind, "given": given, "name": name, "memory": memory}
    answer = _ask({**request, "seconds": seconds}, seconds)
    if "late" in answer:
        raise InvalidInputError(
            f"a file is read within {seconds:.0f} s, but {path.name} took longer; a larger network needs more "
            "limits.seconds, a damaged file another export"
        )
    if "ended" in answer:
        how = answer["ended"]
        reason = f"signal {signal.Signals(-how).name}" if how < 0 else f"exit code {how}"
        raise InvalidInputError(
            f"{path.name} ended the process that read it ({reason}); it is damaged, export it again"
        )
    try:
        reply = json.loads(answer["reply"])
        if "profile" in reply:
            return unpack(reply["profile"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInputError(f"{path.name} gave no readable profile ({error}); export it again") from error
    if "memory" in reply:
        raise InvalidInputError(
            f"a file is read within {memory >> 20} MiB, but {path.name} needs more; a larger network needs more "
            "limits.memory_bytes, a damaged file another export"
        )
    raise InvalidInputError(f"{path.name}: {reply['error']}")


def _ask(request: dict[str, Any], seconds: float) -> dict[str, Any]:
    global _reader
    with _lock:
        if _reader is None or not _reader.usable():
            _reader = _Reader()
        return _reader.ask(request, seconds + GRACE_SECONDS)


def stop() -> None:
    """End the reading process now; the next file starts another."""
    global _reader
    with _lock:
        if _reader is not None:
            _reader.close()
        _reader = None


class _Reader:
    """The process, and the pipes to it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.used = time.monotonic()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        path = os.pathsep.join(entry for entry in sys.path if entry)
        command = [sys.executable, "-P", "-m", "codesign_kernel.profiler.reader"]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment, cwd="/"
            )
        except OSError as error:
            self.log.close()
            raise CodesignError(
                f"files are read in a process of their own, but it cannot be started: {error}"
            ) from error
        atexit.register(self.close)
        if not self._line(START_SECONDS):
            self.log.seek(0)
            told = self.log.read()[-2000:].decode("utf-8", "replace").strip().splitlines()[-1:]
            self.close()
            raise CodesignError(f"the process that reads files did not start: {' '.join(told) or 'no message'}")

    def usable(self) -> bool:
        """Whether it can be asked: it is ours (no parent's that forked us), runs, and is not about to leave."""
        if self.owner != os.getpid():
            return False
        if self.process.poll() is None and time.monotonic() - self.used < 50:
            return True
        self.close()
        return False

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        self.used = time.monotonic()
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            self.close()
            return {"ended": self.process.returncode or 1}
        line = self._line(seconds)
        self.used = time.monotonic()
        if not line:
            gone = self.process.poll()
            self.close()
            return {"late": True} if gone is None else {"ended": gone or 1}
        return dict(json.loads(line))

    def _line(self, seconds: float) -> bytes:
        """One line of stdout, or nothing if the process ends or the time is over."""
        assert self.process.stdout is not None
        stream, end = self.process.stdout.fileno(), time.monotonic() + seconds
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                return b""
            part = os.read(stream, 1 << 20)
            if not part:
                return b""
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        if self.owner != os.getpid():
            return
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self.log.close()
