"""One process in the sandbox for a batch of jobs: what goes in, the lines that come out, what is read back.

The process has read what a person uploaded, so nothing of it is believed: lines are bounded and checked, files are
opened without following links, sizes are those of the scope.
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import Cell, Confinement, run_confined
from codesign_kernel.server.worker import RESULT
from codesign_kernel.server.workers.crew import Crew
from codesign_kernel.server.workers.relay import Relay

#: Events of progress of one job, seconds between two writes, characters of a message, bytes of a line, files of a job.
EVENTS, WRITE_S, TEXT, LINE_BYTES, FILES = 200, 0.25, 300, 64 << 10, 8
#: Bytes of a result, beside its files.
RESULT_BYTES = 16 << 20
_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_MEDIA = {"text/csv", "application/zip", "application/json", "application/x-codesign-study"}
#: What the name of a study that is kept begins with.
STUDY_PREFIX = "study "
#: Kinds of jobs that go on with a study of the name in their request.
STUDIES = ("explore", "optimize")
_ENDINGS = {"application/onnx": ".onnx", "application/x-pt2": ".pt2"}

Inputs = Callable[[str, str], tuple[str, bytes] | None]


@dataclass
class Ran:
    """What a batch tells while it runs.

    Args:
        progress: called with (job, done, message, whether it is an event of its own).
        ended: called with (job, {"result", "files"} or {"error": {"code", "message"}}).
    """

    progress: Callable[[str, float, str, bool], None]
    ended: Callable[[str, Mapping[str, Any]], None]
    written_at: dict[str, float] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


class Runner:
    """Runs batches in cells of the sandbox.

    Args:
        confinement: how; of ``sandbox.probe``.
        run_root: where the private folders are made.
        fault: called with what happened, and the end of what the process wrote to its standard error, where a job
            failed by a fault of ours.
        crew: the workers outside the sandbox, for jobs that ask for them.
    """

    def __init__(
        self,
        confinement: Confinement,
        run_root: Path,
        fault: Callable[[str, str], None] = lambda what, errors: None,
        crew: Crew | None = None,
    ) -> None:
        self.confinement, self.run_root, self._fault, self._crew = confinement, run_root, fault, crew

    def run(
        self, owner: str, scope: Scope, jobs: Sequence[Mapping[str, Any]], halt: threading.Event, ran: Ran, find: Inputs
    ) -> str:
        """Run ``jobs`` one behind the other in one process; why it ended early, empty where it did not."""
        cell = Cell(scope, self.confinement, self.run_root)
        try:
            asked = [self._placed(cell, owner, job, ran, find) for job in jobs]
            body = json.dumps({"jobs": [one for one in asked if one is not None]}).encode()
            known = {job["id"] for job in jobs}

            def on_line(line: str | bytes) -> None:
                self._line(cell.work, scope, known, line, ran)

            argv = [sys.executable, "-m", "codesign_kernel.server.worker"]
            with self._reach(cell, scope, jobs[0]["request"]):
                ended = run_confined(cell, argv, stdin=body, on_line=on_line, stop=halt)
            if ran.faults:
                self._fault("\n".join(ran.faults), ended.errors)
            return ended.reason or (f"the worker ended with status {ended.status}" if ended.status else "")
        finally:
            cell.remove()

    def _reach(self, cell: Cell, scope: Scope, request: Mapping[str, Any]) -> AbstractContextManager[object]:
        """The way to the workers, for a job that asks for them in a scope that allows it; such a job runs alone."""
        asked = request.get("workers", 0)
        if self._crew is None or not asked or not scope.may("cluster") or asked > scope.limits["workers"]:
            return nullcontext()
        return Relay(cell, self._crew, {"request": request, "designs": scope.limits["designs"]})

    def _placed(self, cell: Cell, owner: str, job: Mapping[str, Any], ran: Ran, find: Inputs) -> dict[str, Any] | None:
        """The job as the worker takes it, its files in ``in/ID/``; ``None`` where one is not there any more."""
        told = {"id": job["id"], "kind": job["kind"], "request": job["request"], "inputs": {}}
        if (upload := job["request"].get("upload")) is not None:
            found = find(owner, upload)
            if found is None or found[0] not in _ENDINGS:
                message = "the upload is not there any more, or is no model; upload it again"
                ran.ends.add(job["id"])
                ran.ended(job["id"], {"error": {"code": "InvalidInputError", "message": message}})
                return None
            told["inputs"] = {"model": _put(cell, job["id"], f"model{_ENDINGS[found[0]]}", found[1])}
        name = job["request"].get("name") if job["kind"] in STUDIES else None
        if name is not None and (study := find(owner, f"{STUDY_PREFIX}{name}")) is not None:
            told["inputs"] = {"study": _put(cell, job["id"], "study.db", study[1])}
        return told

    def _line(self, folder: Path, scope: Scope, known: set[str], line: str | bytes, ran: Ran) -> None:
        """One line of the process: what it may say is little, the rest is dropped."""
        told = _told(line)
        job = told.get("job")
        if not isinstance(job, str) or job not in known or job in ran.ends:
            return
        kind = told.get("kind")
        if kind == "progress":
            self._progress(job, told, ran)
        elif kind == "made":
            ran.ends.add(job)
            ran.ended(job, _collected(folder, job, told.get("files"), scope))
        elif kind == "error":
            ran.ends.add(job)
            ran.ended(job, {"error": {"code": text_of(told.get("code"), 60), "message": text_of(told["message"], 2_000)
                                      if "message" in told else ""}})  # fmt: skip
        elif kind == "fault":
            ran.ends.add(job)
            code, number = text_of(told.get("code"), 60), text_of(told.get("number"), 12)
            ran.faults.append(f"fault {number} in job {job}: {code}")
            message = f"the job failed with {code}; the operator finds it under {number}"
            ran.ended(job, {"error": {"code": "Fault", "message": message}})

    @staticmethod
    def _progress(job: str, told: Mapping[str, Any], ran: Ran) -> None:
        done, at = told.get("done"), time.monotonic()
        if isinstance(done, bool) or not isinstance(done, int | float) or not math.isfinite(done):
            return
        if at - ran.written_at.get(job, 0.0) < WRITE_S:
            return
        ran.written_at[job] = at
        ran.events[job] = ran.events.get(job, 0) + 1
        ran.progress(
            job, min(1.0, max(0.0, float(done))), text_of(told.get("message"), TEXT), ran.events[job] <= EVENTS
        )


def _put(cell: Cell, job: str, name: str, content: bytes) -> str:
    """Write a file that a job reads, for the cell's user; its path below the working folder."""
    place = cell.work / "in" / job / name
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    for path in (place.parent.parent, place.parent, place):
        cell.give(path)
    return str(place.relative_to(cell.work))


def text_of(value: Any, most: int) -> str:
    """A text to keep and to show: no control characters, no halves of characters, not longer than ``most``."""
    told = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else " " for c in told[:most]).encode("utf-8", "replace").decode()


def _told(line: str | bytes) -> Mapping[str, Any]:
    if len(line) > LINE_BYTES:
        return {}
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _collected(folder: Path, job: str, files: Any, scope: Scope) -> dict[str, Any]:
    """The result and the files of a job: {"result", "files": [(name, media type, bytes)]}, or {"error"}."""
    try:
        wanted = [(one["name"], one["media_type"]) for one in files]
        if len(wanted) > FILES or any(not _file_name(name) or kind not in _MEDIA for name, kind in wanted):
            raise ValueError("names")
        most = scope.limits["artefact_bytes"]
        result = json.loads(read_below(folder, ("out", job, RESULT), RESULT_BYTES), parse_constant=_refuse)
        json.dumps(result, allow_nan=False)
        found = [(name, kind, read_below(folder, ("out", job, name), most)) for name, kind in wanted]
        return {"result": result, "files": found}
    except TooLargeError as error:
        return {"error": {"code": "ScopeError", "message": str(error)}}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {"error": {"code": "Killed", "message": "the worker's result cannot be read"}}


class TooLargeError(Exception):
    """A file of the sandbox is larger than the scope allows."""


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _file_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 100 and set(name) <= _NAMES and not name.startswith(".")


def read_below(folder: Path, parts: Sequence[str], most: int) -> bytes:
    """A regular file below ``folder``, of at most ``most`` bytes; no part of the way may be a link.

    Raises:
        OSError: there is none, or there is something else.
        TooLargeError: it is larger.
    """
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        # O_NONBLOCK: a pipe of that name would wait for ever
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    with os.fdopen(file, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError("no regular file of its own")
        content = stream.read(most + 1)
    if len(content) > most:
        raise TooLargeError(f"a result has at most {most:,} bytes (artefact_bytes), but this has more; ask for less")
    return content
