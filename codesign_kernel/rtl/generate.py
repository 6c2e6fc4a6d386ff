"""``generate_rtl``: an accelerator as Verilog and VHDL text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.errors import ConversionError, InvalidInputError
from codesign_kernel.files import write_folder

#: Converting takes seconds, whatever the size of the array; large memories take longer.
TIMEOUT_S = 1800


@dataclass(frozen=True)
class RtlBundle:
    """The generated sources of one accelerator.

    Attributes:
        accelerator: what was generated.
        top: name of the top module and entity.
        files: text by file name: a ``.v`` for each Verilog module, ``<top>.vhd`` with all entities, each behind those
            that it is made of, and MyHDL's VHDL package, which is compiled first.
        memories: the path of the array of words of each memory, from the top on, and how many words it has.
    """

    accelerator: Accelerator
    top: str
    files: Mapping[str, str]
    memories: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    @property
    def verilog(self) -> str:
        """All Verilog modules in one text, the top first."""
        names = sorted((name for name in self.files if name.endswith(".v")), key=lambda name: name != f"{self.top}.v")
        return "\n".join(self.files[name] for name in names)

    def with_verilog(self, text: str) -> RtlBundle:
        """The bundle with all its Verilog modules replaced by ``text``."""
        others = {name: other for name, other in self.files.items() if not name.endswith(".v")}
        return replace(self, files={**others, f"{self.top}.v": text})

    @property
    def vhdl(self) -> str:
        """The VHDL text of all entities."""
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
def _convert(accelerator: Accelerator) -> RtlBundle:
    try:
        run = subprocess.run(
            [sys.executable, "-m", "codesign_kernel.rtl.convert"],
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
    made = json.loads(run.stdout)
    return RtlBundle(accelerator, made["top"], made["files"], tuple((path, words) for path, words in made["memories"]))


def generate_rtl(design: object) -> RtlBundle:
    """The accelerator of ``design`` as Verilog and VHDL, converted by MyHDL in a fresh process.

    Every kind of block is a Verilog module and a VHDL entity, described above its header.

    The same accelerator gives the same bytes on every run. The node does not change the sources; bandwidth and clock do
    only through the width of the bus, which is the bandwidth over the clock.

    Args:
        design: an :class:`Accelerator`, or anything with one in ``.accelerator``.

    Raises:
        InvalidInputError: ``design`` is something else.
        ConversionError: MyHDL rejects a construct, or takes too long.
    """
    accelerator = getattr(design, "accelerator", design)
    if not isinstance(accelerator, Accelerator):
        raise InvalidInputError(
            f"generate_rtl takes an Accelerator or a Design of one, but got {type(accelerator).__name__}"
        )
    return _convert(accelerator)
