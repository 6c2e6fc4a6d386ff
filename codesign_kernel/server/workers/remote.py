"""The executor of a job's process: which designs to evaluate goes out, what they came to comes back."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from codesign_kernel import errors
from codesign_kernel.client import VARIABLE
from codesign_kernel.errors import ClusterError, CodesignError
from codesign_kernel.explore.front import Block
from codesign_kernel.explore.search import Evaluation
from codesign_kernel.server.workers import wire

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Numbers of designs in one message, so that it stays far below what is read.
_NUMBERS = 100_000
#: Times that a lost connection is made again before anything has come through it, and seconds between.
TRIES, PAUSE_S = 3, 1.0


class RemoteExecutor:
    """Has an exploration's designs evaluated on the gateway's workers.

    It can do nothing else: the gateway knows from the job's own request what is explored. A connection that is lost
    (the workers were killed, say) is made again and asked for what has not come back.

    Args:
        most: workers that the request asks for.
        path: of the socket; this cell's own without.
    """

    def __init__(self, most: int, path: str | None = None) -> None:
        self.most, self._path = most, path or os.environ.get(VARIABLE, "")
        self._sock: socket.socket | None = None

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position of an item, what ``function`` makes of it), as they complete, each exactly once.

        Raises:
            ClusterError: the workers cannot be reached, or ``function`` is no evaluation of an exploration.
            CodesignError: what the evaluation raised.
        """
        what, asked = _asked(function, items)
        left, failed = dict(enumerate(asked)), 0
        complete = False
        try:
            while left:
                before = len(left)
                try:
                    for position, result in self._run(what, left):
                        del left[position]
                        yield position, result
                except OSError as error:
                    self.close()
                    failed = failed + 1 if len(left) == before else 1
                    if failed > TRIES:
                        raise ClusterError(
                            f"the gateway's workers cannot be reached ({error}); try again, or leave workers out"
                        ) from error
                    time.sleep(PAUSE_S)
            complete = True
        finally:
            if not complete:
                self.close()  # what is under way is of no use any more

    def _run(self, what: str, left: dict[int, list[int]]) -> Iterator[tuple[int, Any]]:
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.connect(self._path)
        positions = _some(left)
        wire.send(self._sock, {"run": what, "items": [left[position] for position in positions]})
        while (message := wire.receive(self._sock, wire.ANSWER_BYTES)) is not None:
            told, body = message
            if "error" in told:
                raise _error(str(told["error"]), str(told.get("message", "")))
            if "at" not in told:
                return
            # from the gateway's own workers to a process that is trusted less than they are
            yield positions[told["at"]], pickle.loads(body)
        raise wire.Garbled("the connection was closed")

    def close(self) -> None:
        """Let go of the connection; the workers drop what it asked for."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.close()
            self._sock = None


def _some(left: dict[int, list[int]]) -> list[int]:
    """The first positions, at least one and not more numbers than a message takes."""
    found: list[int] = []
    room = _NUMBERS
    for position, numbers in left.items():
        room -= len(numbers)
        if found and room < 0:
            break
        found.append(position)
    return found


def _asked(function: Any, items: Sequence[Any]) -> tuple[str, list[list[int]]]:
    """What is asked of each item, as numbers of designs."""
    if isinstance(function, Evaluation):
        return "evaluate", [[int(number) for number in item] for item in items]
    if isinstance(function, Block):
        return "front", [[int(start) for start, _ in item] for item in items]
    raise ClusterError(
        f"the gateway's workers evaluate designs of an exploration, but got {type(function).__name__}; leave it out"
    )


def _error(name: str, message: str) -> CodesignError:
    kind = getattr(errors, name, None)
    known = isinstance(kind, type) and issubclass(kind, CodesignError) and kind is not errors.ServiceError
    return kind(message) if known else ClusterError(message)  # type: ignore[misc]
