"""Lowering: an integer network becomes the instructions and the memory image of one accelerator."""

from codesign_kernel.lower.lowering import lower
from codesign_kernel.lower.program import FeatureMap, Program

__all__ = ["FeatureMap", "Program", "lower"]
