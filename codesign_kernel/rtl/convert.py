"""Conversion of one accelerator, to be run in a process of its own: MyHDL's names depend on what was elaborated before.

``python -m codesign_kernel.rtl.convert TOP`` reads an accelerator's fields as JSON from standard input and writes
``{file name: text}`` as JSON to standard output.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path

from myhdl import ToVerilogWarning, ToVHDLWarning

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.rtl.axi import AxiPorts, axi_accelerator
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of

#: What a bundle is of -> the name of its top.
TOPS = {"core": "codesign_core", "axi": "codesign_axi"}


def convert(accelerator: Accelerator, top: str) -> dict[str, str]:
    """Verilog and VHDL of ``accelerator``; ``top`` is one of ``TOPS``.

    Raises:
        myhdl.ConversionError: a construct cannot be converted.
        ToVerilogWarning, ToVHDLWarning: MyHDL is in doubt about what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", ToVerilogWarning)
        warnings.simplefilter("error", ToVHDLWarning)
        # a port that is read inside becomes an inout-free copy in VHDL; that is what we want
        warnings.filterwarnings("ignore", message="Output port is read internally", category=ToVHDLWarning)
        for language, options in (("Verilog", {"testbench": False}), ("VHDL", {})):
            block, ports = (axi_accelerator, AxiPorts) if top == "axi" else (core_of(accelerator), Ports)
            instance = block(**ports(accelerator).as_dict(), accelerator=accelerator)
            instance.convert(hdl=language, path=folder, name=TOPS[top], no_myhdl_header=True, **options)
        return {path.name: path.read_text() for path in sorted(Path(folder).iterdir())}


if __name__ == "__main__":
    json.dump(convert(Accelerator(**json.load(sys.stdin)), sys.argv[1]), sys.stdout)
