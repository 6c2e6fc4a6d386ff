"""Conversion of one accelerator, to be run in a process of its own: MyHDL keeps state between conversions.

``python -m codesign_kernel.rtl.convert TOP PARENT`` reads an accelerator's fields as JSON from standard input and
writes ``{"top": name, "files": {name: text}, "memories": [[path, words], ...]}`` as JSON to standard output. It ends
when the process with the id PARENT, which started it, does.
"""

import gc
import json
import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

from myhdl import ToVerilogWarning, ToVHDLWarning
from myhdl.conversion._toVHDLPackage import _package

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.rtl.axi import AxiPorts, axi_accelerator
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of
from codesign_kernel.rtl.generate import PREFIX
from codesign_kernel.rtl.hierarchy import Conversion
from codesign_kernel.rtl.lawful import check_block
from codesign_kernel.rtl.memory import ram
from codesign_kernel.rtl.modules import sources

#: What a bundle is of -> the name of its top.
TOPS = {"core": "codesign_core", "axi": "codesign_axi"}
PACKAGE = "pck_myhdl_011.vhd"


def convert(accelerator: Accelerator, top: str) -> tuple[dict[str, str], list[tuple[str, int]]]:
    """Verilog, a file for each module, and VHDL of ``accelerator``; and its memories, as :class:`RtlBundle` has them.

    ``top`` is one of ``TOPS``.

    Raises:
        codesign_kernel.errors.ConversionError: a construct would convert wrongly; the message names the line.
        myhdl.ConversionError: a construct cannot be converted.
        ToVerilogWarning, ToVHDLWarning: MyHDL is in doubt about what it wrote.
    """
    files = {PACKAGE: _package}
    memories: list[tuple[str, int]] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", ToVerilogWarning)
        warnings.simplefilter("error", ToVHDLWarning)
        block, ports = (axi_accelerator, AxiPorts) if top == "axi" else (core_of(accelerator), Ports)
        whole = block(**ports(accelerator).as_dict(), accelerator=accelerator)
        check_block(whole)
        for language in ("Verilog", "VHDL"):
            conversion = Conversion(language, Path(folder))
            conversion.run(block, {**ports(accelerator).as_dict(), "accelerator": accelerator})
            written, found = sources(conversion.modules, TOPS[top], language, ram.func.__name__, PREFIX)
            if language == "Verilog":
                files.update({f"{source.name}.v": source.text for source in written})
                memories = found
            else:
                files[f"{TOPS[top]}.vhd"] = "\n".join(source.text for source in written)
    return dict(sorted(files.items())), memories


def _end_with(parent: int) -> None:
    """End this process when ``parent``, which asked for it, is no more: a killed one cannot end it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    # told, not asked for: the parent can be gone before this line is reached
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    gc.disable()  # what is made here is needed to the end; looking for garbage takes a third of the time
    made, stores = convert(Accelerator(**json.load(sys.stdin)), sys.argv[1])
    json.dump({"top": TOPS[sys.argv[1]], "files": made, "memories": stores}, sys.stdout)
