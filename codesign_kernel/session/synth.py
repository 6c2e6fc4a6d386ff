"""``synthesise``: the generated RTL in gates, in the cells of a library or in the parts of an FPGA, block by block.

yosys does it, in a process of its own (:mod:`codesign_kernel.session.yosys`). Every kind of block is synthesised once
and counted as often as it is there, so nothing is optimised across blocks. Memories are named apart: they stay whole,
but for FPGAs, which have block RAMs for them. All is before placement: no wires, no clock tree.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.cache import scratch_folder
from codesign_kernel.errors import InvalidInputError, SynthesisError
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.rtl.generate import PREFIX
from codesign_kernel.session.scoped import scoped
from codesign_kernel.session.watched import run_watched
from codesign_kernel.session.worst_slack import fmax

Progress = Callable[[int, int, str], None]

#: Parts by name, for each target: what a report counts, and the cells that are counted as it.
PARTS: Mapping[str, Mapping[str, str]] = {
    "generic": {},
    "ice40": {
        "LUT": r"SB_LUT4", "carry": r"SB_CARRY", "flip-flops": r"SB_DFF", "RAM": r"SB_S?P?RAM", "DSP": r"SB_MAC16",
    },
    "ecp5": {
        "LUT": r"LUT4", "carry": r"CCU2C", "flip-flops": r"TRELLIS_FF", "RAM": r"(DP|PDPW)16KD",
        "LUT RAM": r"TRELLIS_D", "DSP": r"MULT\d|ALU54",
    },
    "xilinx": {
        "LUT": r"LUT\d", "carry": r"CARRY4", "flip-flops": r"FD[RSCP]E", "RAM": r"RAMB\d", "LUT RAM": r"RAM\d|SRL",
        "DSP": r"DSP48",
    },
}  # fmt: skip
TARGETS = tuple(PARTS)
_FLIP_FLOP = re.compile(r"\$_[A-Z]*DFF")
#: What abc aims at where a clock is given in MHz: its period (ps).
_PS_MHZ = 1e6
INSTALL = 'pip install -c constraints.txt -e ".[synth]"'


@dataclass(frozen=True)
class Block:
    """All instances of one kind of block, what lies in the blocks within it left out.

    Attributes:
        name: that of its module, like ``pe``; what has parameters is one kind, whatever their values.
        instances: how many there are.
        cells: cells by type, of all instances.
        parts: what :data:`PARTS` counts for the target, of all instances; ``flip-flops`` for every target.
        area_um2: of all instances; None without a liberty file.
    """

    name: str
    instances: int
    cells: Mapping[str, int]
    parts: Mapping[str, int]
    area_um2: float | None


@dataclass(frozen=True)
class Memory:
    """A memory of the RTL: its path from the top on, words, width of a word (bit)."""

    name: str
    words: int
    word_bit: int


@dataclass(frozen=True)
class Synthesis:
    """What synthesis made of an accelerator.

    Attributes:
        accelerator, target: what was synthesised, for what.
        liberty: names of the liberty files.
        blocks: by kind, the largest first.
        memories: of the RTL; ``area_um2`` does not count them.
        fmax_mhz: of the logic between registers, memories left out; None where it was not measured.
        fmax_note: what the figure rests on, or why there is none.
        tool: the version of yosys.
        wall_s: seconds, generating the RTL left out.
        files: text by name: the netlist, what yosys counted, its log.
    """

    accelerator: Accelerator
    target: str
    liberty: tuple[str, ...]
    blocks: tuple[Block, ...]
    memories: tuple[Memory, ...]
    fmax_mhz: float | None
    fmax_note: str
    tool: str
    wall_s: float
    files: Mapping[str, str]

    @cached_property
    def cells(self) -> dict[str, int]:
        """Cells by type, the most frequent first."""
        total: Counter[str] = Counter()
        for block in self.blocks:
            total.update(block.cells)
        return dict(total.most_common())

    @property
    def parts(self) -> dict[str, int]:
        """What :data:`PARTS` counts for the target; ``flip-flops`` for every target."""
        names = ("flip-flops", *PARTS[self.target])
        return {name: sum(block.parts[name] for block in self.blocks) for name in dict.fromkeys(names)}

    @property
    def area_um2(self) -> float | None:
        """Cell area without memories (µm²); None without a liberty file."""
        return sum(block.area_um2 or 0.0 for block in self.blocks) if self.liberty else None

    @property
    def memory_bit(self) -> int:
        """Bits of all memories."""
        return sum(memory.words * memory.word_bit for memory in self.memories)


@scoped("synthesise")
def synthesise(
    design: Any, *, liberty: Sequence[str | Path] = (), target: str = "generic", progress: Progress | None = None
) -> Synthesis:
    """Synthesise the RTL that ``generate_rtl`` makes of ``design``.

    Args:
        design: an :class:`Accelerator`, or anything with one in ``.accelerator``.
        liberty: files of a standard-cell library, for ``generic`` only; flip-flops are taken from the last one. Without
            any, cells are yosys' gates and there is no area. The clock of the design is what abc aims at.
        target: ``generic``, ``ice40``, ``ecp5`` or ``xilinx`` (7 series).
        progress: called as ``progress(done, total, message)``; a total of 0 means unknown.

    Raises:
        InvalidInputError: an unknown target, a liberty file for an FPGA, or one that cannot be read.
        SynthesisError: pyosys is not installed, or yosys failed; the message has its complaint.
        ConversionError: the RTL cannot be made.
    """
    if target not in PARTS:
        raise InvalidInputError(f"synthesis is for {', '.join(TARGETS)}, but got {target!r}; choose one of these")
    paths = [_checked(Path(path)) for path in liberty]
    if paths and target != "generic":
        raise InvalidInputError(
            f"a liberty file is for the target generic, but the target is {target}; leave one of the two out"
        )
    if importlib.util.find_spec("pyosys") is None:
        raise SynthesisError(f"synthesis needs yosys as a Python package, but pyosys is not installed; {INSTALL}")
    bundle = generate_rtl(design)
    started = time.perf_counter()
    with scratch_folder("synth") as folder:
        (folder / "core.v").write_text(bundle.verilog, encoding="utf-8")
        names = [f"library{number}.lib" for number in range(len(paths))]
        for name, path in zip(names, paths, strict=True):
            (folder / name).symlink_to(path)
        period_ps = round(_PS_MHZ / bundle.accelerator.frequency_mhz)
        job = {"top": bundle.top, "target": target, "liberty": names, "period_ps": period_ps}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _yosys(folder, progress)
        note, found = "Fmax needs a liberty file", None
        if names:
            found, note = fmax(folder, bundle.top, names, progress)
        files = {name: (folder / name).read_text(encoding="utf-8") for name in ("netlist.v", "stat.json", "yosys.log")}
        blocks, memories = _count(folder, bundle.top, target, bool(names))
    return Synthesis(
        bundle.accelerator, target, tuple(path.name for path in paths), blocks, memories, found, note,
        str(json.loads(files["stat.json"])["creator"]).split(" (")[0], time.perf_counter() - started, files,
    )  # fmt: skip


def _checked(path: Path) -> Path:
    """``path``, absolute, if it looks like a liberty file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            head = stream.read(1 << 16)
    except OSError as error:
        raise InvalidInputError(f"the liberty file {path} cannot be read: {error.strerror or error}") from error
    if not re.search(r"^\s*library\s*\(", head, re.MULTILINE):
        raise InvalidInputError(f"a liberty file begins with library(name), but {path} does not; is it another format?")
    return path.resolve()


def _yosys(folder: Path, progress: Progress | None) -> None:
    """Run the worker in ``folder``, its steps as progress."""
    step: dict[str, Any] = {"step": "starting"}

    def tell(line: str | None) -> None:
        if line is not None:
            step.clear()
            step.update(json.loads(line))
        if progress is not None:
            progress(step.get("done", 0), step.get("total", 0), f"yosys: {step['step'].split(' -liberty')[0]}")

    status, complaint = run_watched(
        [sys.executable, "-m", "codesign_kernel.session.yosys", str(folder)], folder, on_line=tell
    )
    if status:
        log = folder / "yosys.log"
        said = re.findall(r"^ERROR: (.*)", log.read_text(errors="replace") if log.is_file() else "", re.MULTILINE)
        lines = complaint.strip().splitlines()
        reason = said[-1] if said else lines[-1] if lines else f"it ended with status {status}"
        raise SynthesisError(f"yosys could not synthesise the design: {reason}")


def _count(folder: Path, top: str, target: str, area: bool) -> tuple[tuple[Block, ...], tuple[Memory, ...]]:
    """Blocks and memories from what yosys counted in each module."""
    stat = {name.removeprefix("\\"): found for name, found in _json(folder / "stat.json")["modules"].items()}
    before = folder / "before.json"
    gates = _json(before)["modules"] if before.is_file() else {}
    source = _json(folder / "blocks.json")["modules"]
    instances = _instances(stat, top)
    kinds: dict[str, list[str]] = {}
    for name in instances:
        if name in stat:
            kind = source.get(name, {}).get("attributes", {}).get("block") or name
            kinds.setdefault("top" if name == top else kind.removeprefix(PREFIX), []).append(name)
    blocks = []
    for kind, names in kinds.items():
        cells: Counter[str] = Counter()
        flip_flops = 0
        for name in names:
            own = {kind: n for kind, n in stat[name].get("num_cells_by_type", {}).items() if kind not in source}
            cells.update({cell: count * instances[name] for cell, count in own.items()})
            was = gates.get(f"\\{name}", {}).get("num_cells_by_type", {})
            flip_flops += instances[name] * sum(n for cell, n in was.items() if _FLIP_FLOP.match(cell))
        parts = {"flip-flops": flip_flops}
        for part, pattern in PARTS[target].items():
            parts[part] = sum(count for cell, count in cells.items() if re.match(pattern, cell))
        um2 = sum(_own_area(stat, name) * instances[name] for name in names) if area else None
        if cells:
            blocks.append(Block(kind, sum(instances[name] for name in names), dict(cells.most_common()), parts, um2))
    blocks.sort(key=lambda block: (-(block.area_um2 or 0.0), -sum(block.cells.values()), block.name))
    return tuple(blocks), tuple(_memories(source, top))


def _memories(source: Mapping[str, Any], name: str, path: str = "") -> Iterator[Memory]:
    """The memories in a module, by the path of the block that each is in."""
    for label, cell in source[name]["cells"].items():
        inner = f"{path}.{label}" if path else label
        if cell["type"].startswith("$mem"):
            alone = all(other["type"].startswith("$mem") for other in source[name]["cells"].values())
            size = (int(cell["parameters"][key], 2) for key in ("SIZE", "WIDTH"))
            yield Memory(path.rpartition(".")[0] if alone else path, *size)
        elif cell["type"] in source:
            yield from _memories(source, cell["type"], inner)


def _own_area(stat: Mapping[str, Any], name: str) -> float:
    """Area of a module without the modules in it, which yosys includes (µm²)."""
    within = stat[name].get("num_cells_by_type", {}).items()
    inside = sum(count * stat[kind].get("area", 0.0) for kind, count in within if kind in stat)
    return float(stat[name].get("area", 0.0) - inside)


def _instances(stat: Mapping[str, Any], top: str) -> Counter[str]:
    """How often each module is there, the top once."""
    found: Counter[str] = Counter()

    def walk(name: str, times: int) -> None:
        found[name] += times
        for kind, count in stat.get(name, {}).get("num_cells_by_type", {}).items():
            if not kind.startswith("$"):
                walk(kind, times * count)

    walk(top, 1)
    return found


def _json(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read
