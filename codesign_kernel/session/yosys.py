"""yosys, in a process of its own: it keeps state between runs, cannot be interrupted, and a crash takes it down.

``python -m codesign_kernel.session.yosys FOLDER`` works in ``FOLDER``: it reads ``job.json``, ``core.v`` and the
liberty files, and writes ``blocks.json``, ``before.json``, ``stat.json``, ``netlist.v`` and ``yosys.log``. Standard
output has one JSON object a line for each step that begins. Standard input must stay open: when it closes, the process
and all that it has started end.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

#: Before cells are chosen: what ``synth`` does up to its stage ``fine``, and that stage without spreading memories over
#: flip-flops.
_COARSE = ("synth -run coarse:fine", "opt -fast -full", "opt -undriven -fine", "techmap", "opt -fast")
#: What abc does by itself, but for a sweep that takes minutes on a multiplier; the second part is for liberty files.
_ABC = "+strash;ifraig;scorr;dc2;dretime;strash;&get,-n;&dch,-f;&nf;&put"
_SIZING = ";buffer;upsize,{D};dnsize,{D};stime,-p"
#: Ports get no pads and no clock buffers: the core is a part of something larger.
_FPGA = {
    "ice40": "synth_ice40 -noflatten -top {top}",
    "ecp5": "synth_ecp5 -noflatten -top {top}",
    "xilinx": "synth_xilinx -noiopad -noclkbuf -top {top}",
}


class Worker:
    """One synthesis: the passes, and the lines that tell of them."""

    def __init__(self, job: dict[str, Any], say: Any) -> None:
        from pyosys import libyosys

        self.yosys, self.job, self.say = libyosys, job, say
        self.design = libyosys.Design()

    def run(self, *passes: str) -> None:
        """Run passes; what they say goes to the log."""
        for text in passes:
            self.say({"step": text})
            self.design.run_pass(f"tee -q -a yosys.log {text}")

    def modules(self) -> list[str]:
        """Modules with cells, the top last."""
        top = self.job["top"]
        names = [name.str().removeprefix("\\") for name in self.design.modules_]
        return [name for name in names if name != top and not name.startswith("$")] + [top]

    def blocks(self) -> None:
        """Read the RTL; what has parameters becomes a module for each set of them, a memory one of its own."""
        top = self.job["top"]
        self.run("read_verilog core.v", f"hierarchy -check -top {top}", "proc", "opt_expr", "opt_clean")
        self._name()
        # a memory keeps its output register and gets one enable
        self.run("opt_muxtree", "opt_reduce", "opt_expr", "opt_clean")
        reading = [name for name, cells in self._cells().items() if any(_is(cell, "$memrd") for cell in cells)]
        self.run(*(f"opt_dff -simple-dffe {name}" for name in reading), "opt_clean", "memory -nomap", "opt_clean")
        if self.job["target"] == "generic":
            label = self.yosys.IdString("\\submod")
            for cells in self._cells().values():
                for cell in cells:
                    if _is(cell, "$mem"):
                        cell.set_string_attribute(label, "words")
            self.run("submod", "opt_clean")
        self.run("write_json blocks.json")

    def _name(self) -> None:
        """Name modules that yosys made for values of parameters after what they were made of, with a number."""
        kinds: Counter[str] = Counter()
        names = sorted(name.str() for name in self.design.modules_)
        for name in names:
            found = re.match(r"\$paramod(?:\$\w+)?\\(\w+)", name)
            if found:
                kind = found[1]
                kinds[kind] += 1
                while f"\\{kind}_{kinds[kind]}" in names:
                    kinds[kind] += 1
                module = self.design.module(self.yosys.IdString(name))
                module.set_string_attribute(self.yosys.IdString("\\block"), kind)
                self.design.rename(module, self.yosys.IdString(f"\\{kind}_{kinds[kind]}"))
                for others in self._cells().values():
                    for cell in others:
                        if cell.type.str() == name:
                            cell.type = self.yosys.IdString(f"\\{kind}_{kinds[kind]}")

    def _cells(self) -> dict[str, list[Any]]:
        """The cells of each module."""
        modules = self.design.modules_.items()
        return {name.str().removeprefix("\\"): list(module.cells_.values()) for name, module in modules}

    def cells(self) -> None:
        """Gates of yosys, or cells of a liberty file; memories stay whole."""
        memories = [name for name, cells in self._cells().items() if cells and all(_is(cell, "$mem") for cell in cells)]
        if memories:
            self.run(f"blackbox {' '.join(memories)}")
        self.run(*_COARSE, "tee -q -o before.json stat -json")
        liberty = " ".join(f"-liberty {name}" for name in self.job["liberty"])
        if liberty:
            self.run(f"dfflibmap -liberty {self.job['liberty'][-1]}", "opt_clean")
        options = f"{liberty} -D {self.job['period_ps']} -script {_ABC}{_SIZING}" if liberty else f"-script {_ABC}"
        names = [name for name in self.modules() if name not in memories]
        for number, name in enumerate(names):
            self.say({"step": f"cells of {name}", "done": number, "total": len(names)})
            self.design.run_pass(f"tee -q -a yosys.log abc {options} {name}")
        self.run("setundef -zero", "opt_clean -purge", f"tee -q -o stat.json stat -json {liberty}")

    def fpga(self) -> None:
        """Look-up tables, block RAMs and whatever else the family has."""
        # within 1 % of the look-up tables that the long script needs, which takes minutes on a multiplier
        self.run("scratchpad -copy abc9.script.default.fast abc9.script")
        self.run(_FPGA[self.job["target"]].format(top=self.job["top"]))
        self.run("tee -q -o stat.json stat -json")

    def work(self) -> None:
        """The whole job."""
        self.blocks()
        if self.job["target"] == "generic":
            self.cells()
        else:
            self.fpga()
        self.run("write_verilog -noattr -noexpr netlist.v")


def _is(cell: Any, kind: str) -> bool:
    return bool(cell.type.str().startswith(kind))


def _end_with_standard_input() -> None:
    """Have the kernel end this process group when whoever holds the other end of standard input has gone.

    SIGIO ends a process that does not handle it; yosys holds Python's lock, so no thread here could look after it.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def main() -> None:
    """See the module."""
    _end_with_standard_input()
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # what yosys prints by itself is in the log already
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=told, flush=True)

    os.chdir(sys.argv[1])
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    Worker(job, say).work()


if __name__ == "__main__":
    main()
