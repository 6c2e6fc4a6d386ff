"""From the socket of a job's cell to the workers, and back: bytes are carried, and nothing here reads them."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from codesign_kernel.errors import ClusterError
from codesign_kernel.server.sandbox import Cell
from codesign_kernel.server.workers import wire
from codesign_kernel.server.workers.crew import Crew

_PIECE = 1 << 16
_END_S = 5.0


class Relay:
    """Serves the socket of one job's cell as long as the job runs, one connection after the other.

    Args:
        cell: the job's; its process is started afterwards.
        crew: who has the workers.
        told: what the gateway says of the job: ``request`` and ``designs``.
    """

    def __init__(self, cell: Cell, crew: Crew, told: Mapping[str, Any]) -> None:
        self._crew, self._told = crew, told
        self._listener = cell.listen()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="codesign-relay", daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with self._lock:
            for sock in (self._listener, *self._open):
                with suppress(OSError):  # what waits in it goes on, and finds the end
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(_END_S)
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, suppress(OSError):  # a connection that breaks is its job's to make again
                self._hold(near)
                self._carry(near)
            self._drop(near)

    def _carry(self, near: socket.socket) -> None:
        try:
            far = self._crew.connect(self._told, self._closing)
        except ClusterError as error:
            wire.send(near, {"error": type(error).__name__, "message": str(error)})
            return
        with far, selectors.DefaultSelector() as ready:
            self._hold(far)
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            try:
                while not self._closing.is_set():
                    for key, _ in ready.select():
                        piece = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]
                        if not piece:
                            return
                        key.data.sendall(piece)
            finally:
                self._drop(far)

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.append(sock)

    def _drop(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.remove(sock)
