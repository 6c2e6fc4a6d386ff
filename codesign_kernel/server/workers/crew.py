"""The gateway's side of the workers: starts the process that has them, looks after it, and starts it again."""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from codesign_kernel.errors import ClusterError, CodesignError
from codesign_kernel.scopes import LIMITS, Scope
from codesign_kernel.server.sandbox import Cell, Confinement
from codesign_kernel.server.workers import wire
from codesign_kernel.store.breaker import Breaker
from codesign_kernel.telemetry.log import event

#: Seconds that the workers have to start, that a job waits for them, between two looks, to answer one, and to end.
START_S, WAIT_S, LOOK_S, ANSWER_S, END_S = 120.0, 60.0, 5.0, 10.0, 15.0
#: Looks in a row without an answer after which they are ended and started anew; seconds before a new start.
MISSED, PAUSE_S = 3, 1.0
#: Processes and threads of one worker with what watches it.
_THREADS = 96
_MODULE = "codesign_kernel.server.workers.host"


class Crew:
    """The workers of a gateway, as one process in a cell of its own that starts them; threads may share it.

    Args:
        most: workers at most; 0: there are none, and nothing is ever started.
        worker_bytes: memory of one worker.
        confinement, run_root: of the cell.
        log: what the process writes to its standard error, since it was started last.
    """

    def __init__(self, most: int, worker_bytes: int, confinement: Confinement, run_root: Path, log: Path) -> None:
        self.most, self._worker_bytes = most, worker_bytes
        self._confinement, self._run_root, self._log = confinement, run_root, log
        #: open while the workers are away
        self.breaker = Breaker(failures=1, pause_s=PAUSE_S)
        self._changed = threading.Condition()
        self._path: str | None = None
        self._closing = False
        self._wake, self._wakened = socket.socketpair()
        self._thread = threading.Thread(target=self._keep, name="codesign-workers", daemon=True)

    def start(self) -> None:
        """Begin to start the workers; comes back before they are there."""
        if self.most:
            self._thread.start()

    def close(self) -> None:
        """End the workers, and come back when they have ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._wakened.send(b"x")
        if self._thread.ident is not None:
            self._thread.join(2 * END_S)
        self._wake.close()
        self._wakened.close()

    # what is asked of it ---------------------------------------------------------------------------------------------
    def status(self, patience_s: float = ANSWER_S) -> dict[str, Any]:
        """``workers`` that are there, ``planned`` and at ``most``; tasks ``queued`` and ``running``.

        Raises:
            ClusterError: they are away, or do not answer.
        """
        try:
            with self._connected({"status": True}, patience_s) as sock:
                found = wire.receive(sock, wire.ASKED_BYTES)
        except OSError as error:
            raise ClusterError(f"the workers do not answer ({type(error).__name__}); they are started again") from error
        if found is None:
            raise ClusterError("the workers do not answer; they are started again")
        return found[0]

    def connect(self, told: Mapping[str, Any], given_up: threading.Event) -> socket.socket:
        """A connection for a job, behind its first message; waits for workers that are just being started.

        Raises:
            ClusterError: they do not come, or ``given_up`` was set.
        """
        until_s = time.monotonic() + WAIT_S
        while not (self._closing or given_up.is_set()) and (left_s := until_s - time.monotonic()) > 0:
            with suppress(ClusterError, OSError):
                sock = self._connected(told, ANSWER_S)
                sock.settimeout(None)
                return sock
            with self._changed:
                self._changed.wait(min(1.0, left_s))
        raise ClusterError("the gateway's workers are away, and were not back in time; try later, or leave workers out")

    def _connected(self, told: Mapping[str, Any], patience_s: float) -> socket.socket:
        path = self._path
        if path is None:
            raise ClusterError("the workers are away; they are started again")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(patience_s)
            sock.connect(path)
            wire.send(sock, told)
        except OSError:
            sock.close()
            raise
        return sock

    # its life --------------------------------------------------------------------------------------------------------
    def _keep(self) -> None:
        """One life of the workers after the other."""
        while not self._closing:
            if not self.breaker.allows():
                self._rest(None, PAUSE_S)
                continue
            why = ""
            try:
                why = self._live()
            except (CodesignError, OSError) as error:
                why = f"{type(error).__name__}: {error}"
            if not self._closing:
                self.breaker.failed()
                event("workers_ended", level=logging.ERROR, why=why, errors=self._said())

    def _live(self) -> str:
        """Start the workers, look after them, and say why they have ended."""
        memory = min(LIMITS["memory_bytes"].most, (self.most + 1) * self._worker_bytes)
        limits = {"workers": self.most, "memory_bytes": memory, "processes": min(4_096, (self.most + 2) * _THREADS)}
        scope = Scope("workers", capabilities=frozenset({"cluster"}), network="cluster", limits=limits)
        cell = Cell(scope, self._confinement, self._run_root, trusted=True)
        try:
            path = os.fspath(cell.connections / "workers")
            argv = [sys.executable, "-m", _MODULE, path, str(self.most), str(self._worker_bytes)]
            with self._log.open("wb") as log:
                process = cell.start(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                return self._followed(cell, process, path) or (cell.ending() or (0, ""))[1]
            finally:
                self._tell(None)
                _end(process)
        finally:
            cell.remove()

    def _followed(self, cell: Cell, process: subprocess.Popen[bytes], path: str) -> str:
        """Until the process ends, or has to."""
        ended = os.pidfd_open(process.pid)
        began_s, missed = time.monotonic(), 0
        try:
            while not self._rest(ended, LOOK_S if self._path else 0.1):
                if self._closing:
                    return "the gateway ends"
                if self._path is None:
                    if os.path.exists(path):
                        self._tell(path)
                        self.breaker.succeeded()
                        event("workers_started", most=self.most)
                    elif time.monotonic() - began_s > START_S:
                        return f"they were not there after {START_S:g} s"
                    continue
                cell.lay()
                try:
                    self.status()
                    missed = 0
                except ClusterError:
                    missed += 1
                    if missed == MISSED:
                        return f"they did not answer {MISSED} times"
        finally:
            os.close(ended)
        return ""

    def _tell(self, path: str | None) -> None:
        with self._changed:
            self._path = path
            self._changed.notify_all()

    def _rest(self, ended: int | None, seconds: float) -> bool:
        """Wait, at most until the gateway closes or the process has ended; whether it has."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if ended is not None:
            poll.register(ended, select.POLLIN)
        return any(fd == ended for fd, _ in poll.poll(seconds * 1000))

    def _said(self) -> str:
        """The end of what the process wrote."""
        with suppress(OSError):
            return self._log.read_bytes()[-4_096:].decode(errors="replace")
        return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher of a cell, which ends the cell."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
