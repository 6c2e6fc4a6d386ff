"""Exploring a design space. This room is handed an evaluation; it knows no cost model."""

from codesign_kernel.explore.sweep import sweep

__all__ = ["sweep"]
