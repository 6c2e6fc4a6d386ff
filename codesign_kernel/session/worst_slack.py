"""Fmax of a netlist in standard cells, from OpenSTA where it is installed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from codesign_kernel.session.watched import run_watched

#: The clock that slack is measured against (ns), and how long OpenSTA's unit of time is taken to be.
_PERIOD_NS = 10.0
_SCRIPT = """
{libraries}
read_verilog sta.v
link_design {top}
create_clock -name clk -period {period} [get_ports clk]
report_worst_slack
exit
"""
NOTE = "between registers, memories and wires left out, large fan-out without buffers"
MISSING = "Fmax needs OpenSTA, but there is no sta on PATH; apt-get install opensta"


def fmax(
    folder: Path, top: str, liberty: Sequence[str], progress: Callable[[int, int, str], None] | None = None
) -> tuple[float | None, str]:
    """Fmax (MHz) of ``netlist.v`` in ``folder``, and what it rests on; None and the reason where there is none.

    Paths from register to register count; ports have no delays, and memories, which are not in the netlist, end paths.

    Args:
        folder: with ``netlist.v`` and the liberty files.
        top: module whose clock port is ``clk``.
        liberty: names of the files.
        progress: called as ``progress(done, total, message)``.
    """
    program = shutil.which("sta")
    if program is None:
        return None, MISSING
    # OpenSTA's reader of Verilog does not know signed
    text = (folder / "netlist.v").read_text(encoding="utf-8")
    (folder / "sta.v").write_text(re.sub(r"\bsigned\s+", "", text), encoding="utf-8")
    script = folder / "sta.tcl"
    libraries = "\n".join(f"read_liberty {name}" for name in liberty)
    script.write_text(f"cd {{{folder}}}\n" + _SCRIPT.format(libraries=libraries, top=top, period=_PERIOD_NS))
    said: list[str] = []

    def tell(line: str | None) -> None:
        if line is not None:
            said.append(line)
        if progress is not None:
            progress(0, 0, "OpenSTA: slack")

    run_watched([program, "-no_splash", "-exit", str(script)], folder, tell)
    found = re.search(r"worst slack\s+(-?[\d.]+)", "\n".join(said))
    if found is None:
        wrong = next((line for line in said if "rror" in line), said[-1] if said else "no message")
        return None, f"OpenSTA gave no slack: {wrong.strip()}"
    return 1e3 / (_PERIOD_NS - float(found[1])), NOTE
