"""Bounded proofs of Verilog: yosys writes the relation between states down, z3 searches for a run."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import z3

#: yosys talks to file descriptor 1 whatever it is told: it runs in a process of its own.
_RELATION = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for text in sys.argv[1:]:
    design.run_pass(text)
"""


def counterexample(sources: list[str], top: str, cycles: int, folder: Path) -> dict[str, int] | None:
    """The wires of ``top`` at the end of a run of ``cycles`` clocks that breaks an assertion of it, or None.

    The first state is free and the inputs are free in every cycle. None therefore proves the assertions at every time
    from ``cycles`` clocks after power-on, whatever came before.
    """
    for number, text in enumerate(sources):
        (folder / f"{number}.v").write_text(text)
    files = " ".join(f"{number}.v" for number in range(len(sources)))
    passes = [
        f"read_verilog -formal {files}", f"prep -top {top} -flatten", "async2sync", "chformal -lower", "dffunmap",
        "write_smt2 -stdt -wires relation.smt2",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _RELATION, *passes], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    relation = (folder / "relation.smt2").read_text()
    assert "yosys-smt2-assert" in relation, "nothing is asserted"
    states = [f"state{n}" for n in range(cycles + 1)]
    wires = [line.split()[2] for line in relation.splitlines() if line.startswith("; yosys-smt2-wire")]
    wires = [name for name in wires if "." not in name]
    lines = [f"(declare-const {state} |{top}_s|)" for state in states]
    lines += [f"(assert (|{top}_t| {now} {after}))" for now, after in pairwise(states)]
    lines += [f"(assert (|{top}_u| {state}))" for state in states]
    lines.append(f"(assert (not (|{top}_a| {states[-1]})))")
    for name in wires:
        lines.append(f"(define-fun at_{name} () {_sort(relation, top, name)} (|{top}_n {name}| {states[-1]}))")
        lines.append(f"(declare-const {name} {_sort(relation, top, name)}) (assert (= {name} at_{name}))")
    solver = z3.Solver()
    solver.from_string("\n".join([relation, *lines]))
    verdict = solver.check()
    if verdict == z3.unsat:
        return None
    assert verdict == z3.sat, verdict
    model = solver.model()
    values = {str(symbol): model[symbol] for symbol in model.decls() if str(symbol) in wires}
    return {
        name: value.as_long() if z3.is_bv_value(value) else int(z3.is_true(value)) for name, value in values.items()
    }


def _sort(relation: str, top: str, wire: str) -> str:
    (line,) = [text for text in relation.splitlines() if text.startswith(f"(define-fun |{top}_n {wire}| ")]
    return (
        "Bool" if ")) Bool " in line else line[line.index("(_ BitVec") : line.index(")", line.index("(_ BitVec")) + 1]
    )
