"""Profiler: a network becomes a Profile (loops, edges, bytes). torch loads when ``profile`` is first called."""

from codesign_kernel.profiler.limits import Limits
from codesign_kernel.profiler.model import profile
from codesign_kernel.profiler.result import Operator, Profile

__all__ = ["Limits", "Operator", "Profile", "profile"]
