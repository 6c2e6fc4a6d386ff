"""``generate_rtl``: an accelerator as Verilog and VHDL text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.errors import ConversionError, InvalidInputError
from codesign_kernel.files import write_folder

#: Converting takes seconds; an array of 64 x 64 some minutes.
TIMEOUT_S = 1800
#: What can be the top of the sources.
TOPS = ("core", "axi")


@dataclass(frozen=True)
class RtlBundle:
    """The generated sources of one accelerator.

    Attributes:
        accelerator: what was generated.
        top: name of the top module and entity.
        files: text by file name: ``<top>.v``, ``<top>.vhd`` and MyHDL's VHDL package, which is compiled first.
    """

    accelerator: Accelerator
    top: str
    files: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    @property
    def verilog(self) -> str:
        """The Verilog text."""
        return self.files[f"{self.top}.v"]

    @property
    def vhdl(self) -> str:
        """The VHDL text of the top entity."""
        return self.files[f"{self.top}.vhd"]

    @property
    def digest(self) -> str:
        """sha256 over names and texts: equal sources, equal digest."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    @property
    def lines(self) -> dict[str, int]:
        """Lines by file name."""
        return {name: text.count("\n") for name, text in self.files.items()}

    def write(self, folder: str | Path) -> list[Path]:
        """Write the files into ``folder`` (made where it is missing), all of them or none.

        Raises:
            OutputError: the folder cannot be written.
        """
        return write_folder(Path(folder), self.files)

    def __repr__(self) -> str:
        return f"RtlBundle({self.top}, {self.accelerator}, {self.lines}, digest {self.digest[:12]})"


@lru_cache(maxsize=16)
def _convert(accelerator: Accelerator, top: str = "core") -> RtlBundle:
    try:
        run = subprocess.run(
            [sys.executable, "-m", "codesign_kernel.rtl.convert", top],
            input=json.dumps(asdict(accelerator)),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"converting takes at most {TIMEOUT_S} s, but {accelerator} took longer; choose fewer rows and cols"
        ) from error
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"exit status {run.returncode}"
        raise ConversionError(f"MyHDL could not convert {accelerator}: {last}")
    files = json.loads(run.stdout)
    name = next(name for name in files if name.endswith(".v")).removesuffix(".v")
    return RtlBundle(accelerator, name, files)


def generate_rtl(design: object, top: str = "core") -> RtlBundle:
    """The accelerator of ``design`` as Verilog and VHDL, converted by MyHDL in a fresh process.

    The same accelerator gives the same bytes on every run. The node does not change the sources; bandwidth and clock do
    only through the width of the bus, which is the bandwidth over the clock.

    Args:
        design: an :class:`Accelerator`, or anything with one in ``.accelerator``.
        top: ``"core"``, the accelerator with the ports that simulators drive; or ``"axi"``, the same with an AXI4
            master to the external memory and an AXI4-Lite slave for control around it.

    Raises:
        InvalidInputError: ``design`` or ``top`` is something else.
        ConversionError: MyHDL rejects a construct, or takes too long.
    """
    accelerator = getattr(design, "accelerator", design)
    if not isinstance(accelerator, Accelerator):
        raise InvalidInputError(
            f"generate_rtl takes an Accelerator or a Design of one, but got {type(accelerator).__name__}"
        )
    if top not in TOPS:
        raise InvalidInputError(f"top is one of {', '.join(map(repr, TOPS))}, but got {top!r}")
    return _convert(accelerator, top)
