"""Progress on stderr: one line that updates on a terminal, a few lines elsewhere."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from typing import TextIO

#: Seconds between two redraws on a terminal, and between two lines in a log.
REDRAW_S = 0.1
LOG_EVERY_S = 10.0
_NUMBER = re.compile(r"\d[\d.,]*")


class Progress:
    """Tells how far a long run is; call it as ``progress(done, total, message)``.

    On a terminal one line is redrawn. Elsewhere a line is written when the message changes in more than its numbers, at
    the end, and every ten seconds between. Use it as a context manager: leaving it clears the terminal's line.

    Args:
        stream: where to write; it is asked once whether it is a terminal.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._task = ""
        self._finished = False
        self._last = float("-inf")
        self._drawn = False

    def __call__(self, done: int, total: int, message: str) -> None:
        """Report that ``done`` of ``total`` steps of ``message`` are finished; a ``total`` of 0 means unknown."""
        message = " ".join(message.split())
        task = _NUMBER.sub("", message)  # "training, loss 0.31" and "training, loss 0.30" are one task
        finished = 0 < total <= done
        turning_point = task != self._task or (finished and not self._finished)
        now = self._clock()
        if not turning_point and (finished or now - self._last < (REDRAW_S if self._terminal else LOG_EVERY_S)):
            return
        self._task, self._finished, self._last = task, finished, now
        line = f"{message} {100 * min(done, total) // total:3d} %" if total > 0 else message
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self._stream.write(f"\r\x1b[K{line[: width - 1]}")
            self._drawn = True
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False
