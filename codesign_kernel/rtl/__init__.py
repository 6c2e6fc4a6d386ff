"""The accelerator in MyHDL, its instruction set, and its conversion to Verilog and VHDL."""

from codesign_kernel.rtl.generate import RtlBundle, generate_rtl
from codesign_kernel.rtl.lawful import check_block

__all__ = ["RtlBundle", "check_block", "generate_rtl"]
