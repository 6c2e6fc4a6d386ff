"""Conversion of one accelerator, to be run in a process of its own: MyHDL's names depend on what was elaborated before.

``python -m codesign_kernel.rtl.convert TOP`` reads an accelerator's fields as JSON from standard input and writes
``{file name: text}`` as JSON to standard output.
"""

import json
import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

from myhdl import ToVerilogWarning, ToVHDLWarning

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.rtl.axi import AxiPorts, axi_accelerator
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of
from codesign_kernel.rtl.lawful import check_block

#: What a bundle is of -> the name of its top.
TOPS = {"core": "codesign_core", "axi": "codesign_axi"}


def convert(accelerator: Accelerator, top: str) -> dict[str, str]:
    """Verilog and VHDL of ``accelerator``; ``top`` is one of ``TOPS``.

    Raises:
        codesign_kernel.errors.ConversionError: a construct would convert wrongly; the message names the line.
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
            if language == "Verilog":  # the second one is the same block again
                check_block(instance)
            instance.convert(hdl=language, path=folder, name=TOPS[top], no_myhdl_header=True, **options)
        return {path.name: path.read_text() for path in sorted(Path(folder).iterdir())}


def _end_with(parent: int) -> None:
    """End this process when ``parent``, which asked for it, is no more: a killed one cannot end it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    json.dump(convert(Accelerator(**json.load(sys.stdin)), sys.argv[1]), sys.stdout)
