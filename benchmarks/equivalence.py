"""Which mutants change nothing? The process or assignment that a mutant changes, against the original, by SAT in yosys.

Both become circuits whose inputs are all signals that they read, registers among them, and whose outputs are all that
they write; a module with parameters is compared for all values that its instances give them. ``equiv_simple`` proves
outputs and next states equal for all inputs, reachable or not; then no program can tell the two apart. Where it cannot,
nothing is claimed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from codesign_kernel.cosim.mutants import Mutant, block_pair, settings


def equivalent(verilog: str, mutant: Mutant) -> bool:
    """Whether ``mutant`` is proven to change nothing; to be called in a process of its own, which yosys may end."""
    pairs = [block_pair(verilog, mutant, values) for values in settings(verilog, mutant.module)]
    return bool(pairs) and all(pair is not None and _equal(pair) for pair in pairs)


def _equal(pair: tuple[str, str]) -> bool:
    """Whether yosys proves that the modules ``gold`` and ``gate`` do the same."""
    from pyosys import libyosys

    with tempfile.TemporaryDirectory() as folder:
        source, said = Path(folder, "pair.v"), Path(folder, "said")
        source.write_text("".join(pair), encoding="utf-8")
        design = libyosys.Design()
        for text in (
            f"read_verilog -sv {source}", "proc", "opt_expr", "opt_clean", "equiv_make gold gate equiv",
            "hierarchy -top equiv", "equiv_simple", f"tee -o {said} equiv_status",
        ):  # fmt: skip
            design.run_pass(f"tee -q {text}" if not text.startswith("tee") else text)
        return "Equivalence successfully proven" in said.read_text(encoding="utf-8")


def proven(verilog: str, mutants: list[Mutant]) -> list[Mutant]:
    """Those of ``mutants`` that are proven equivalent, each by a process of its own."""
    found = []
    for mutant in mutants:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            status = 2
            try:
                status = 0 if equivalent(verilog, mutant) else 1
            finally:
                os._exit(status)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            found.append(mutant)
    return found
