"""Co-simulation: a network on the generated RTL, beside the integer golden model and the predicted cycles."""

from codesign_kernel.cosim.check import CosimReport, Mismatch, check
from codesign_kernel.cosim.simulators import SIMULATORS, find_recorder, find_simulator
from codesign_kernel.cosim.timing import InstructionMismatch, Timed
from codesign_kernel.cosim.waveform import Recording, Waveform, read_waves, recording

__all__ = [
    "SIMULATORS",
    "CosimReport",
    "InstructionMismatch",
    "Mismatch",
    "Recording",
    "Timed",
    "Waveform",
    "check",
    "find_recorder",
    "find_simulator",
    "read_waves",
    "recording",
]
