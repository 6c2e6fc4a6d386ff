"""Co-simulation: a network on the generated RTL, beside the integer golden model and the predicted cycles."""

from codesign_kernel.cosim.check import CosimReport, Mismatch, check
from codesign_kernel.cosim.simulators import SIMULATORS, find_simulator
from codesign_kernel.cosim.timing import InstructionMismatch

__all__ = ["SIMULATORS", "CosimReport", "InstructionMismatch", "Mismatch", "check", "find_simulator"]
