"""The callers of a function, as MyHDL looks at them while it elaborates."""

from __future__ import annotations

import sys
from types import FrameType


def frames() -> list[tuple[FrameType, str, int, str]]:
    """The callers, the nearest first: what ``inspect.stack`` begins with for each."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return found
