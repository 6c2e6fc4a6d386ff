"""Conversion of one accelerator, to be run in a process of its own: MyHDL keeps state between conversions.

``python -m codesign_kernel.rtl.convert`` reads an accelerator's fields as JSON from standard input and writes
``{"top": name, "files": {name: text}, "memories": [[path, words], ...]}`` as JSON to standard output.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path

from myhdl import ToVerilogWarning, ToVHDLWarning
from myhdl.conversion._toVHDLPackage import _package

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of
from codesign_kernel.rtl.hierarchy import Conversion
from codesign_kernel.rtl.memory import ram
from codesign_kernel.rtl.modules import sources

TOP = "codesign_core"
PACKAGE = "pck_myhdl_011.vhd"


def convert(accelerator: Accelerator) -> tuple[dict[str, str], list[tuple[str, int]]]:
    """Verilog, a file for each module, and VHDL of ``accelerator``; and its memories, as :class:`RtlBundle` has them.

    Raises:
        myhdl.ConversionError: a construct cannot be converted.
        ToVerilogWarning, ToVHDLWarning: MyHDL is in doubt about what it wrote.
    """
    files = {PACKAGE: _package}
    memories: list[tuple[str, int]] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", ToVerilogWarning)
        warnings.simplefilter("error", ToVHDLWarning)
        for language in ("Verilog", "VHDL"):
            conversion = Conversion(language, Path(folder))
            arguments = {**Ports(accelerator).as_dict(), "accelerator": accelerator}
            conversion.run(core_of(accelerator), arguments)
            written, found = sources(conversion.modules, TOP, language, ram.func.__name__)
            if language == "Verilog":
                files.update({f"{source.name}.v": source.text for source in written})
                memories = found
            else:
                files[f"{TOP}.vhd"] = "\n".join(source.text for source in written)
    return dict(sorted(files.items())), memories


if __name__ == "__main__":
    made, stores = convert(Accelerator(**json.load(sys.stdin)))
    json.dump({"top": TOP, "files": made, "memories": stores}, sys.stdout)
