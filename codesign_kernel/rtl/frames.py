"""The callers of a function, as MyHDL looks at them while it elaborates."""

from __future__ import annotations

import inspect
import sys
from types import FrameType, ModuleType
from typing import Any

from myhdl import _block, _hdlclass, _instance, _misc

Caller = tuple[FrameType, str, int, str]


def callers(frame: FrameType | None) -> list[Caller]:
    """``frame`` and its callers, the nearest first: what ``inspect.getouterframes`` begins with for each."""
    found = []
    while frame is not None:
        found.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return found


class _Bare(ModuleType):
    """``inspect``, but for lines of the source of every caller, which nobody reads here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    @staticmethod
    def stack() -> list[Caller]:
        return callers(sys._getframe(1))

    getouterframes = staticmethod(callers)


def bare_stack() -> None:
    """Let MyHDL, which looks at the stack for every block and process, do so without lines of the source.

    With them each look reads files, and for callers that no file belongs to (a cell of a notebook, a worker of the
    tests) goes through all modules that are loaded: most of the time of an elaboration.
    """
    bare = _Bare("inspect")
    for module in (_block, _hdlclass, _instance, _misc):
        vars(module)["inspect"] = bare
