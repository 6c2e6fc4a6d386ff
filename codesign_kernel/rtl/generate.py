"""``generate_rtl``: an accelerator as Verilog and VHDL text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.cache import cached_folder
from codesign_kernel.display import Shown
from codesign_kernel.errors import ConversionError, InvalidInputError, OutputError
from codesign_kernel.files import write_folder

#: Converting takes seconds, whatever the size of the array; large memories take longer.
TIMEOUT_S = 1800
#: What can be the top of the sources.
TOPS = ("core", "axi")
#: What the names of all modules begin with, so that they meet none of the design that they become a part of.
PREFIX = "codesign_"
#: The one file of a bundle in the cache.
KEPT = "files.json"


@dataclass(frozen=True)
class RtlBundle(Shown):
    """The generated sources of one accelerator.

    Attributes:
        accelerator: what was generated.
        top: name of the top module and entity.
        files: text by file name: a ``.v`` for each Verilog module, ``<top>.vhd`` with all entities, each behind those
            that it is made of, and MyHDL's VHDL package, which is compiled first.
        memories: the path of the array of words of each memory, from the top on, and how many words it has.
        testbench: of a self-checking test bench, text by file name; empty where none was asked for.
    """

    accelerator: Accelerator
    top: str
    files: Mapping[str, str]
    memories: tuple[tuple[str, int], ...] = ()
    testbench: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("files", "testbench"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

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
        """sha256 over names and texts of the sources: equal sources, equal digest. The test bench is none of them."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    @property
    def lines(self) -> dict[str, int]:
        """Lines by file name."""
        return {name: text.count("\n") for name, text in self.files.items()}

    @property
    def in_words(self) -> str:
        """How much there is of each language."""
        modules = [count for name, count in self.lines.items() if name.endswith(".v")]
        entities = sum(count for name, count in self.lines.items() if name.endswith(".vhd"))
        return f"{sum(modules):,} lines of Verilog in {len(modules)} modules, {entities:,} lines of VHDL"

    @property
    def texts(self) -> dict[str, str]:
        """Everything, by path: the sources, and the test bench in ``testbench/``."""
        return {**self.files, **{f"testbench/{name}": text for name, text in self.testbench.items()}}

    def write(self, folder: str | Path) -> list[Path]:
        """Write :attr:`texts` into ``folder`` (made where it is missing), all of them or none.

        Raises:
            OutputError: the folder cannot be written.
        """
        return write_folder(Path(folder), self.texts)

    def __repr__(self) -> str:
        return f"RtlBundle({self.top}, {self.accelerator}, {self.in_words}, digest {self.digest[:12]})"


@lru_cache(maxsize=16)
def _convert(accelerator: Accelerator, top: str = "core") -> RtlBundle:
    try:
        run = subprocess.run(
            [sys.executable, "-m", "codesign_kernel.rtl.convert", top, str(os.getpid())],
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
    return _bundle(accelerator, json.loads(run.stdout))


def _bundle(accelerator: Accelerator, made: dict[str, Any]) -> RtlBundle:
    """The bundle of what :mod:`codesign_kernel.rtl.convert` wrote."""
    return RtlBundle(accelerator, made["top"], made["files"], tuple((path, words) for path, words in made["memories"]))


@lru_cache(maxsize=1)
def _converter() -> str:
    """What decides over the sources of an accelerator, but for the accelerator: texts and versions."""
    kernel = Path(__file__).parent.parent
    texts = sorted(path for room in ("rtl", "accelerator") for path in (kernel / room).glob("*.py"))
    body = [(path.name, path.read_text(encoding="utf-8")) for path in texts]
    return json.dumps([sys.version, metadata.version("myhdl"), body])


@lru_cache(maxsize=16)
def _kept(accelerator: Accelerator, top: str) -> RtlBundle:
    """The bundle from the cache of builds, converted where it is not there yet."""

    def build(folder: Path) -> None:
        made = _convert(accelerator, top)
        kept = {"top": made.top, "files": dict(made.files), "memories": made.memories}
        (folder / KEPT).write_text(json.dumps(kept), encoding="utf-8")

    try:
        folder = cached_folder("rtl", json.dumps([asdict(accelerator), top, _converter()]), build)
    except OutputError:  # there is nowhere to keep it
        return _convert(accelerator, top)
    return _bundle(accelerator, json.loads((folder / KEPT).read_text(encoding="utf-8")))


def generate_rtl(design: object, top: str = "core") -> RtlBundle:
    """The accelerator of ``design`` as Verilog and VHDL, converted by MyHDL in a fresh process.

    Every kind of block is a Verilog module and a VHDL entity, described above its header. What was converted once by
    these sources and this MyHDL comes from the cache (``$CODESIGN_CACHE_DIR``).

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
    return _kept(accelerator, top)
