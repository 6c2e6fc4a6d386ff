"""The accelerator in MyHDL, its instruction set, and its conversion to Verilog and VHDL."""

from codesign_kernel.rtl.generate import RtlBundle, generate_rtl

__all__ = ["RtlBundle", "generate_rtl"]
