"""The callers of a function, as MyHDL looks at them while it elaborates."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def frames() -> list[tuple[FrameType, str, int, str]]:
    """The callers, the nearest first: what ``inspect.stack`` begins with for each."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return found


@contextmanager
def bare_stack() -> Iterator[None]:
    """Within it MyHDL, which looks at the stack for every block and process, gets that without lines of the source."""
    whole = inspect.stack
    inspect.stack = frames  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.stack = whole
