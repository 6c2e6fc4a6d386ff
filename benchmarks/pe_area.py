"""Area of one processing element by standard-cell library: where ``accelerator/data/pe.json`` comes from.

The element is the one that ``accelerator.pe_area_um2`` describes: three registers with enable and synchronous reset, a
signed multiplier and an adder. It is synthesised with yosys in a library's cells for some widths; two areas, that of a
bit of register and that of an adder cell, are fitted to these by least relative squares (see ``terms``).

Usage:
    pe_area.py                                  fit the rows of the data file anew; leave each row out in turn
    pe_area.py --liberty LIB --library NAME     synthesise in a library first; needs ``pip install pyosys==0.70``
    pe_area.py ... --write FILE                 write the data file, with that library's rows in it

``--liberty`` may be given again for a library of several files; flip-flops are taken from the last one. A liberty file
that Debian has: ``/usr/share/qflow/tech/osu018/osu018_stdcells.lib`` of qflow-tech-osu018. A library takes 15 seconds.
The exit status is 1 where a width that was not fitted is more than 10 % off, or where the fit is not the stored one.

The figures move by 1 or 2 % with the names of signals and modules, and by up to 30 % in the first synthesis of a
process: yosys sums the products of a multiplier in an order that follows the numbers of the names that it makes up. So
one synthesis is thrown away at the start.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from codesign_kernel.accelerator import pe_area_um2, technology

Row = tuple[int, int, float]

FITTED = ((4, 16), (4, 32), (8, 32), (16, 48))
HELD_OUT = ((4, 20), (6, 24), (8, 24), (12, 40), (16, 40))
#: Widths that were not fitted lie within this of the fit.
TOLERANCE = 0.1
VERILOG = """
module {name}(clk, rst, en, wload, a_in, w_in, p_in, a_out, w_out, p_out);
  input clk, rst, en, wload;
  input signed [{data}:0] a_in, w_in;
  input signed [{acc}:0] p_in;
  output reg signed [{data}:0] a_out, w_out;
  output reg signed [{acc}:0] p_out;
  always @(posedge clk)
    if (rst == 1) begin
      p_out <= 0;
      w_out <= 0;
      a_out <= 0;
    end else begin
      if (wload) w_out <= w_in;
      if (en) begin
        a_out <= a_in;
        p_out <= (p_in + (a_in * w_out));
      end
    end
endmodule
"""


def terms(data_bits: int, acc_bits: int) -> tuple[float, float]:
    """Register bits and adder cells of an element, as ``accelerator.pe_area_um2`` counts them."""
    truncated = max(0, 2 * data_bits - acc_bits)
    cells = data_bits * (data_bits - 1) + acc_bits / 2 - truncated * (truncated + 1) / 2
    return 2 * data_bits + acc_bits, cells


def fit(rows: list[Row]) -> tuple[float, float]:
    """Areas of a register bit and of an adder cell (µm²) that fit ``rows`` by least relative squares."""
    matrix = np.array([terms(data, acc) for data, acc, _ in rows]) / np.array([[um2] for *_, um2 in rows])
    register_bit, adder = np.linalg.lstsq(matrix, np.ones(len(rows)), rcond=None)[0]
    return round(float(register_bit), 5), round(float(adder), 5)


def error(row: Row, fitted: tuple[float, float]) -> float:
    data, acc, um2 = row
    return float(np.dot(fitted, terms(data, acc))) / um2 - 1


def entry(title: str, rows: list[Row], left_out: list[Row]) -> dict[str, Any]:
    """What the data file has of a library: the fit and its largest relative errors, with all rows and without each."""
    fitted = fit(rows)
    others = [error(row, fit([other for other in rows if other != row])) for row in rows]
    return {
        "title": title,
        "register_bit_um2": fitted[0],
        "adder_um2": fitted[1],
        "residual": round(max(abs(error(row, fitted)) for row in rows), 4),
        "leave_one_out": round(max(map(abs, others)), 4),
        "rows": [list(row) for row in rows],
        **({"left_out": [list(row) for row in left_out]} if left_out else {}),
    }


def synthesise(widths: tuple[tuple[int, int], ...], liberty: list[Path], period_ps: int) -> list[Row]:
    """(data, acc, area in µm²) of each of ``widths``, by the script of the data file."""
    from pyosys import libyosys as yosys

    cells = " ".join(f"-liberty {path.resolve()}" for path in liberty)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source, report = Path(folder) / "pe.v", Path(folder) / "stat.json"
        for data, acc in (widths[0], *widths):
            name = f"pe_{data}_{acc}"
            source.write_text(VERILOG.format(name=name, data=data - 1, acc=acc - 1))
            design = yosys.Design()
            for command in (
                f"read_verilog {source}", f"synth -flatten -top {name}", f"dfflibmap -liberty {liberty[-1].resolve()}",
                f"abc {cells} -D {period_ps}", "opt_clean -purge",
            ):  # fmt: skip
                design.run_pass(f"tee -q {command}")
            design.run_pass(f"tee -q -o {report} stat -json {cells}")
            rows.append((data, acc, float(json.loads(report.read_text())["design"]["area"])))
    return rows[1:]


def show(name: str, library: dict[str, Any]) -> None:
    fitted = (library["register_bit_um2"], library["adder_um2"])
    print(
        f"{name}: register bit {fitted[0]:g} um2, adder cell {fitted[1]:g} um2; rows within {library['residual']:.1%}, "
        f"each within {library['leave_one_out']:.1%} when it is left out"
    )
    for kind in ("rows", "left_out"):
        for row in library.get(kind, ()):
            print(f"    {row[0]:2}/{row[1]:<2} {row[2]:12.3f} um2, fit {error(row, fitted):+.1%}  {kind}")


def measure(name: str, options: argparse.Namespace, libraries: dict[str, Any]) -> float:
    """Synthesise in a library, put its rows into ``libraries``, and say how far off widths are that were not fitted."""
    started = time.perf_counter()
    rows = synthesise((*FITTED, *HELD_OUT), options.liberty, options.period_ps)
    title = options.title or libraries.get(name, {}).get("title", name)
    print(f"{name}: {len(rows)} widths synthesised in {time.perf_counter() - started:.0f} s")
    new = entry(title, rows[: len(FITTED)], [])
    fitted = (new["register_bit_um2"], new["adder_um2"])
    for row in rows[len(FITTED) :]:
        stored = f", stored fit {pe_area_um2(*row[:2], library=name) / row[2] - 1:+.1%}" if name in libraries else ""
        print(f"    {row[0]:2}/{row[1]:<2} {row[2]:12.3f} um2, fit {error(row, fitted):+.1%}{stored}  held out")
    libraries[name] = new
    return max(abs(error(row, fitted)) for row in rows[len(FITTED) :])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--liberty", type=Path, action="append", metavar="LIB", help="a liberty file of the library")
    parser.add_argument("--library", metavar="NAME", help="the library's name in the data file")
    parser.add_argument("--title", help="the library's full name and corner, for the data file")
    parser.add_argument("--period-ps", type=int, default=5000, metavar="N", help="what abc aims at (default 5000)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the data file here")
    options = parser.parse_args()
    if bool(options.liberty) != bool(options.library):
        parser.error("--liberty and --library go together")
    if options.liberty and importlib.util.find_spec("pyosys") is None:
        parser.error("--liberty needs pyosys: pip install pyosys==0.70")
    data = json.loads(json.dumps(technology.table("pe")))
    libraries = data["libraries"]
    worst = measure(options.library, options, libraries) if options.liberty else 0.0
    same = True
    for name, library in libraries.items():
        again = entry(library["title"], [tuple(row) for row in library["rows"]], library.get("left_out", []))
        same = same and again == library
        libraries[name] = again
        show(name, again)
        worst = max(worst, again["leave_one_out"])
    print(
        f"worst error of a width that was not fitted: {worst:.1%}; the stored fit is {'' if same else 'NOT '}repeated"
    )
    if options.write:
        text = json.dumps(data, indent=2, ensure_ascii=False)
        flat = re.sub(r"\[\s+([^][{}]+?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
        options.write.write_text(flat + "\n", encoding="utf-8")
    return int(worst > TOLERANCE or not same)


if __name__ == "__main__":
    sys.exit(main())
