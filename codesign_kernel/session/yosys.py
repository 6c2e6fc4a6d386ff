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
from pathlib import Path
from typing import Any

from codesign_kernel.session.netlist import TOP_BLOCK, block_by_line, share

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
        """Read the RTL. Where it is one flat module, its blocks become modules, one for all that are equal; each memory
        becomes a module of its own in any case."""
        top = self.job["top"]
        self.run("read_verilog core.v", f"hierarchy -check -top {top}", "proc", "opt_expr", "opt_clean")
        flat = self.modules() == [top]
        blocks = block_by_line(Path("core.v").read_text(encoding="utf-8")) if flat else {}
        label = self.yosys.IdString("\\submod")
        for cell in self._cells() if flat else ():
            cell.set_string_attribute(label, blocks.get(_line(cell), TOP_BLOCK))
        # a memory keeps its output register and gets one enable; nothing here merges cells of different blocks
        self.run("opt_muxtree", "opt_reduce", "opt_expr", "opt_clean")
        reading = [cell for cell in self._cells() if cell.type.str().startswith("$memrd")]
        holding = sorted({f"{top}/a:submod={blocks.get(_line(cell), TOP_BLOCK)}" for cell in reading})
        self.run(*(f"opt_dff -simple-dffe {block}" for block in (holding if flat else [""])))
        self.run("opt_clean", "memory -nomap", "opt_clean")
        memories = [cell for cell in self._cells() if cell.type.str().startswith("$mem")]
        for number, cell in enumerate(memories):
            cell.set_string_attribute(label, f"memory{number}")
        self.run("submod", "opt_clean", "write_json blocks.json")
        if flat:
            self.say({"step": "one module for all equal blocks"})
            netlist = share(json.loads(Path("blocks.json").read_text(encoding="utf-8")), top)
            Path("blocks.json").write_text(json.dumps(netlist), encoding="utf-8")
            self.design = self.yosys.Design()
            self.run("read_json blocks.json", f"hierarchy -check -top {top}")

    def _cells(self) -> list[Any]:
        return [cell for module in self.design.modules_.values() for cell in module.cells_.values()]

    def cells(self) -> None:
        """Gates of yosys, or cells of a liberty file; memories stay whole."""
        netlist = json.loads(Path("blocks.json").read_text(encoding="utf-8"))
        memories = [
            name
            for name, module in netlist["modules"].items()
            if module["cells"] and all(cell["type"].startswith("$mem") for cell in module["cells"].values())
        ]
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


def _line(cell: Any) -> int:
    """The line of the Verilog that a cell comes from; 0 where it does not say."""
    found = re.search(r":(\d+)", cell.get_src_attribute())
    return int(found[1]) if found else 0


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
