"""Area and registers of the generated RTL by part, from synthesis: where ``accelerator/data/control.json`` comes from.

A series of small accelerators is generated and synthesised with yosys, the memories left out. The modules of the RTL
are flattened; each cell is put into the part that its path and its source line belong to, and a part is synthesised by
itself:

control  sequencer, address walks, the mover's counters, pipelines of control bits
hold     the fields of an instruction, which hold while it runs
ports    range checks of the memories' ports
path     what moves words between memories, bus and array: gather and spread, multiplexers of the banks, held sums
skew     triangles of registers at the array's edges, its valid bits and zeroing gates
pe, ...  one processing element of each kind: inner (pe), first row, last column, both
lane     one lane: accumulator adder, pooling, requantiser

The first four are what ``accelerator/control.py`` gives, and their sum is fitted over the shapes; the others are
compared with ``accelerator/technology.py``. Cells are those of NanGate's 45 nm library, unsized and before layout.

Usage: synthesis.py [--write FILE]. It takes five minutes and needs ``pip install pyosys==0.70``, which is no dependency
of the project; without it nothing is done. ``--write`` puts the data file there. The exit status is 1 where the fit is
more than 6 % off on a shape that it has not seen.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import codesign_kernel as ck
from codesign_kernel.accelerator import technology
from codesign_kernel.rtl.generate import PREFIX

Shape = tuple[int, int, int, float, float, float, float, float]
Parts = dict[str, "Part"]

#: rows, cols, bits, KiB of activations, weights, accumulators and instructions, GB/s. The memories are never built:
#: their depths only reach the range checks, and the bandwidth the number of beats of a word.
FITTED: tuple[Shape, ...] = (
    (2, 2, 8, 0.5, 0.5, 0.5, 1, 3.2), (2, 4, 4, 0.5, 0.5, 0.5, 1, 3.2), (4, 2, 8, 1, 1, 0.5, 1, 0.8),
    (4, 4, 8, 16, 64, 8, 16, 3.2), (4, 4, 4, 1, 2, 1, 2, 3.2), (4, 4, 8, 1, 2, 1, 2, 0.4), (4, 8, 8, 3, 5, 3, 7, 3.2),
    (8, 4, 8, 3, 5, 3, 7, 3.2), (8, 8, 8, 16, 64, 8, 16, 3.2), (8, 8, 4, 16, 64, 8, 16, 0.8),
    (2, 8, 8, 4, 4, 4, 4, 0.4), (8, 2, 8, 4, 4, 4, 4, 3.2), (12, 4, 8, 6, 12, 6, 16, 1.6),
    (4, 12, 8, 6, 12, 6, 16, 3.2),
)  # fmt: skip
HELD_OUT: tuple[Shape, ...] = (
    (6, 6, 8, 8, 8, 4, 8, 3.2),
    (12, 12, 8, 32, 64, 16, 16, 3.2),
    (16, 16, 8, 64, 128, 32, 16, 3.2),
)
#: What ``accelerator/control.py`` gives.
CONTROL = ("control", "hold", "ports", "path")
#: Held-out shapes lie within this of the fit.
TOLERANCE = 0.06

#: Widths of NanGate's X1 cells in µm (all are 1.4 µm high) and their functions, for the mapping.
#: Source: ``test/Nangate45/Nangate45_stdcell.lef`` of github.com/The-OpenROAD-Project/OpenROAD (SIZE of the macros).
CELLS = {
    "BUF": (0.57, "A"), "INV": (0.38, "!A"), "NAND2": (0.57, "!(A*B)"), "NAND3": (0.76, "!(A*B*C)"),
    "NAND4": (0.95, "!(A*B*C*D)"), "NOR2": (0.57, "!(A+B)"), "NOR3": (0.76, "!(A+B+C)"), "NOR4": (0.95, "!(A+B+C+D)"),
    "AND2": (0.76, "A*B"),
    "AND3": (0.95, "A*B*C"), "OR2": (0.76, "A+B"), "OR3": (0.95, "A+B+C"), "XOR2": (1.14, "(A*!B)+(!A*B)"),
    "XNOR2": (1.14, "(A*B)+(!A*!B)"), "AOI21": (0.76, "!((A*B)+C)"), "OAI21": (0.76, "!((A+B)*C)"),
    "AOI22": (0.95, "!((A*B)+(C*D))"), "AOI211": (0.95, "!((A*B)+C+D)"), "OAI211": (0.95, "!((A+B)*C*D)"),
    "MUX2": (1.33, "(A*!C)+(B*C)"),
}  # fmt: skip
HEIGHT_UM = 1.4
FLIP_FLOP_UM2 = 3.23 * HEIGHT_UM
NAND2_UM2 = CELLS["NAND2"][0] * HEIGHT_UM
#: abc: for depth and then for area, and for area alone.
SCRIPTS = {
    "nominal": "+strash;ifraig;scorr;dc2;dretime;strash;&get,-n;&dch,-f;&nf;&put",
    "area": "+strash;dc2;dc2;strash;dch,-f;amap",
}


#: What the data file says of itself.
TEXT = {
    "source": "Cell area and flip-flops of what the generated RTL has beside array, skew, lanes and memories: "
    "sequencer, address walks, mover, pipelines of control bits, range checks of the memories' ports, "
    "registers and multiplexers that words pass. Synthesised for this project by benchmarks/synthesis.py "
    "with yosys 0.70 (synth -noabc -noalumacc; plain flip-flops; abc for depth and then for area) in the "
    "cells of the NanGate 45 nm open cell library (widths of the X1 cells from Nangate45_stdcell.lef of "
    "The-OpenROAD-Project/OpenROAD; NAND2_X1 is 0.57 um x 1.4 um = 0.798 um2, DFF_X1 4.522 um2), before "
    "layout, without sizing and without buffers.",
    "fit": "area = constant + sum_bit * cols * 32 + word_bit * word + beyond_bit * (word - rows * data) + banked "
    "if cols > rows, with word = max(rows, cols) * data: least relative squares over the fitted rows, a "
    "sum_bit being one flip-flop. flip_flops and clocked are counts of the same form; clocked are those "
    "that may change while an instruction runs. residual is the largest relative error of the area.",
    "cautions": "The host's port is the plain write port of the RTL, without a bus protocol. Depths of memories, "
    "beats of a word and the bank register of machines with more rows than columns are within the "
    "residual. Logic that switches is not in clocked. By the same script a PE of the template (8 bit) is "
    "962 um2, where pe.json and the registers that cost/ adds to it give 1070, and a lane 5816, where "
    "technology.lane gives 5181.",
}


class Part(NamedTuple):
    """Cell area (µm², NanGate 45 nm) and flip-flops of one part; ``held`` of them have an enable."""

    um2: float
    bits: int
    held: int


def part_of(blocks: Sequence[str], process: str) -> str:
    """The part that a process, or the assignment of a signal, belongs to.

    Args:
        blocks: the kinds of the blocks that it is in, the outermost first.
        process: its name; it begins with those of the blocks that are no modules.
    """
    element = next((block for block in blocks if block.split("_")[0] == "pe"), None)
    if element is not None:
        kinds = {"top_right": "only", "top": "first", "right": "last"}
        return kinds.get(element.removeprefix("pe_").removeprefix("bottom_"), "pe")
    if {"systolic", "stationary"} & set(blocks):
        return "skew"
    if {"lane", "accumulate"} & set(blocks):
        return "lane"
    if re.search(r"(^|_)hold$", process):
        return "hold"
    if any(re.fullmatch(r"ram(_\d+)?", block) for block in blocks):
        return "ports"
    if {"gather", "spread"} & set(blocks) or re.match(r"spread_one|choose_word|pick_bank|sums_pipeline", process):
        return "path"
    return "control"


def process_by_line(verilog: str) -> dict[int, str]:
    """The process by line number, or the signal for the line of an assignment."""
    found: dict[int, str] = {}
    current = ""
    for number, line in enumerate(verilog.splitlines(), 1):
        process = re.match(r"always .*begin: (\w+)", line)
        assigned = re.match(r" *assign (\w+)", line)
        current = process[1] if process else current
        found[number] = assigned[1] if assigned else current
        if line in ("end", "endmodule"):
            current = ""
    return found


def blocks_by_path(design: Any) -> dict[str, tuple[str, ...]]:
    """The kinds of the blocks that a path of instances leads through, by path."""
    found: dict[str, tuple[str, ...]] = {"": ()}
    modules = {name.str(): module for name, module in design.modules_.items()}

    def walk(module: Any, path: str) -> None:
        for cell in module.cells_.values():
            kind = cell.type.str()
            if kind in modules:
                inner = f"{path}.{cell.name.str()}".replace("\\", "").lstrip(".")
                base = re.sub(r"^\$paramod(\$\w+)?|\\[A-Z_]+=.*", "", kind).replace("\\", "").removeprefix(PREFIX)
                found[inner] = (*found[path], base)
                walk(modules[kind], inner)

    walk(design.top_module(), "")
    return found


def parts_of_cells(design: Any, lines: dict[int, str], paths: dict[str, tuple[str, ...]]) -> Iterator[tuple[Any, str]]:
    """The part of each cell of the flat design; equal blocks after the first are ``spare``."""
    first: dict[str, str] = {}
    for cell in design.top_module().cells_.values():
        path = cell.name.str().removeprefix("$flatten").replace("\\", "").rpartition(".$")[0]
        blocks = paths[path]
        line = re.search(r":(\d+)", cell.get_src_attribute())
        part = part_of(blocks, lines[int(line[1])] if line else "")
        for depth, block in enumerate(blocks, 1):
            if block.split("_")[0] in ("pe", "lane", "accumulate"):
                unit = next(other for other in paths if path.startswith(other) and paths[other] == blocks[:depth])
                kind = part if part in ("pe", "first", "last", "only") else block
                part = part if first.setdefault(kind, unit) == unit else "spare"
                break
        yield cell, part


def genlib(folder: Path) -> Path:
    """The cells as a SIS genlib file. Every delay is one: what a cell drives is not looked at."""
    pin = "PIN * UNKNOWN 1 999 1.0 0.0 1.0 0.0"
    lines = [f"GATE {name} {width * HEIGHT_UM:.3f} Y={logic}; {pin}" for name, (width, logic) in CELLS.items()]
    path = folder / "cells.genlib"
    path.write_text("\n".join([*lines, "GATE ZERO 0 Y=CONST0;", "GATE ONE 0 Y=CONST1;"]) + "\n")
    return path


def synthesise(accelerator: ck.Accelerator, folder: Path) -> dict[str, Parts]:
    """Every part of the accelerator in NanGate's cells, by script."""
    from pyosys import libyosys as yosys

    source = folder / "core.v"
    verilog = ck.generate_rtl(accelerator).verilog
    source.write_text(verilog)
    lines = process_by_line(verilog)
    design = yosys.Design()
    label = yosys.IdString("\\submod")

    def run(*passes: str) -> None:
        for name in passes:
            design.run_pass(f"tee -q {name}")

    run(f"read_verilog {source}", "hierarchy -top codesign_core", "proc")
    paths = blocks_by_path(design)
    run("flatten", "delete t:$scopeinfo", "hierarchy -top codesign_core", "opt_expr", "opt_clean")
    for cell, part in parts_of_cells(design, lines, paths):
        cell.set_string_attribute(label, part)
    # a memory keeps its output register; what else its process says are range checks
    run("opt_dff -simple-dffe codesign_core/a:submod=ports", "opt_clean", "memory_dff", "memory_collect", "opt_clean")
    for cell in design.top_module().cells_.values():
        if cell.type.str().startswith("$mem"):
            cell.set_string_attribute(label, "spare")
        elif not cell.get_string_attribute(label):
            cell.set_string_attribute(label, "ports")
    # alumacc sums the products of a multiplier in an order that depends on names: 20 % of a PE, without reason
    run("submod", "delete codesign_core codesign_core_spare", "synth -noabc -noalumacc", "design -save parts")
    kinds = {part: Counter(cell.type.str() for cell in module.cells_.values()) for part, module in _modules(design)}
    result = {}
    for script, text in SCRIPTS.items():
        run("design -load parts", "dfflegalize -cell $_DFF_P_ x", "opt_clean")
        run(f"abc -genlib {genlib(folder)} -script {text}", "opt_clean")
        result[script] = {part: _measured(module, kinds[part]) for part, module in _modules(design)}
    return result


def _modules(design: Any) -> list[tuple[str, Any]]:
    return [(name.str().removeprefix("\\codesign_core_"), module) for name, module in design.modules_.items()]


def _measured(module: Any, before: Counter[str]) -> Part:
    counts = Counter(cell.type.str().removeprefix("\\") for cell in module.cells_.values())
    bits = counts.pop("$_DFF_P_", 0)
    logic = sum(count * CELLS[name][0] * HEIGHT_UM for name, count in counts.items() if name not in ("ZERO", "ONE"))
    # before they were made plain, flip-flops with an enable were called DFFE, SDFFE or SDFFCE
    held = sum(count for name, count in before.items() if re.match(r"\$_S?DFFC?E_", name))
    return Part(logic + bits * FLIP_FLOP_UM2, bits, held)


def measure(shape: Shape) -> tuple[ck.Accelerator, dict[str, Parts]]:
    rows, cols, bits, activation, weight, accumulator, instruction, bandwidth = shape
    accelerator = ck.Accelerator.systolic(
        rows, cols, weight_bits=bits, activation_kib=activation, weight_kib=weight, accumulator_kib=accumulator,
        instruction_kib=instruction, bandwidth_gb_s=bandwidth,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return accelerator, synthesise(accelerator, Path(folder))


def row_of(shape: Shape, parts: Parts) -> list[float]:
    """rows, cols, data width, area (µm²), flip-flops, those of them that are clocked while an instruction runs."""
    um2 = sum(parts[part].um2 for part in CONTROL)
    clocked = parts["control"].bits + parts["path"].bits - parts["path"].held
    return [*shape[:3], round(um2, 3), sum(parts[part].bits for part in CONTROL), clocked]


def terms(row: list[float], acc_bits: int = 32) -> tuple[float, ...]:
    """1; bits of a word of sums, of the activation memory, of it beyond the rows; whether there are more columns."""
    rows, cols, bits = row[:3]
    word = max(rows, cols) * bits
    return 1.0, cols * acc_bits, word, word - rows * bits, float(cols > rows)


def fit(rows: list[list[float]]) -> dict[str, Any]:
    """Area by least relative squares, a bit of sums being one flip-flop; flip-flops as the RTL has them, by medians."""
    matrix = np.array([terms(row) for row in rows])
    area = np.array([row[3] for row in rows])
    rest, free = area - matrix[:, 1] * FLIP_FLOP_UM2, matrix[:, [0, 2, 3, 4]]
    constant, word, beyond, banked = np.linalg.lstsq(free / area[:, None], rest / area, rcond=None)[0]

    def counted(index: int, words: int) -> dict[str, int]:
        narrow, wide = (
            int(median(r[index] - terms(r)[1] - words * terms(r)[2] for r in rows if (r[1] > r[0]) == banked))
            for banked in (False, True)
        )
        return {"constant": narrow, "sum_bit": 1, "word_bit": words, "beyond_bit": 0, "banked": wide - narrow}

    return {
        "coefficients_um2": {
            "constant": round(float(constant), 3),
            "sum_bit": round(FLIP_FLOP_UM2, 3),
            "word_bit": round(float(word), 4),
            "beyond_bit": round(float(beyond), 4),
            "banked": round(float(banked), 3),
        },
        "flip_flops": counted(4, words=2),
        "clocked": counted(5, words=1),
    }


def predicted_um2(row: list[float], fitted: dict[str, Any]) -> float:
    return sum(a * b for a, b in zip(fitted["coefficients_um2"].values(), terms(row), strict=True))


def compare(accelerator: ck.Accelerator, parts: Parts) -> None:
    """The processing elements, the triangles and the lanes beside what the technology tables say of them."""
    rows, cols, bits, acc = accelerator.rows, accelerator.cols, accelerator.weight_bits, accelerator.acc_bits
    pe, lane = technology.pe(bits, acc, 45.0), technology.lane(bits, acc, 45.0)
    register = technology.register(45.0).area_um2
    triangles = rows * (rows - 1) // 2 * bits + cols * (cols - 1) // 2 * (bits + acc)
    for name, synthesised, table in (
        # the template's element has a second weight and two marks, which the table's has not
        ("PE", parts["pe"].um2, pe.area_um2 + (bits + 2) * register),
        ("skew", parts["skew"].um2, triangles * register),
        ("lane", parts["lane"].um2, lane.area_um2),
    ):
        print(f"    {name:<5}{synthesised:9.0f} um2, by the tables {table:9.0f}: ratio {synthesised / table:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the data file here")
    options = parser.parse_args()
    if importlib.util.find_spec("pyosys") is None:
        print("pyosys is missing, so nothing is synthesised: pip install pyosys==0.70")
        return 0
    rows: dict[str, list[list[float]]] = {"fitted": [], "held out": []}
    scripts = []
    for kind, shapes in (("fitted", FITTED), ("held out", HELD_OUT)):
        for shape in shapes:
            start = time.perf_counter()
            accelerator, by_script = measure(shape)
            row = row_of(shape, by_script["nominal"])
            rows[kind].append(row)
            scripts.append(row_of(shape, by_script["area"])[3] / row[3])
            parts = ", ".join(
                f"{part} {by_script['nominal'][part].um2:.0f}" for part in (*CONTROL, "pe", "skew", "lane")
            )
            print(f"{accelerator}: {parts} um2 in {time.perf_counter() - start:.0f} s", flush=True)
            if kind == "held out":
                compare(accelerator, by_script["nominal"])
    return report(rows, scripts, options.write)


def report(rows: dict[str, list[list[float]]], scripts: list[float], path: Path | None) -> int:
    fitted = fit(rows["fitted"])
    errors = {kind: [predicted_um2(row, fitted) / row[3] - 1 for row in found] for kind, found in rows.items()}
    print(json.dumps(fitted, indent=2))
    print(f"mapped for area alone: {min(scripts):.3f} to {max(scripts):.3f} of the nominal area")
    for kind, found in rows.items():
        for row, error in zip(found, errors[kind], strict=True):
            nands = row[3] / NAND2_UM2
            print(f"{kind:<9}{row}: {nands:8.0f} NAND2 equivalents, {row[4]:5} flip-flops, fit {error:+.2%}")
    if path:
        worst = {kind: round(max(map(abs, found)), 4) for kind, found in errors.items()}
        data = {
            **TEXT, **fitted, "residual": worst, "mapped_for_area": [round(min(scripts), 3), round(max(scripts), 3)],
            "nand2_um2": round(NAND2_UM2, 3), "flip_flop_um2": round(FLIP_FLOP_UM2, 3),
            "columns": ["rows", "cols", "data width (bit)", "area (µm²)", "flip-flops", "clocked flip-flops"],
        }  # fmt: skip
        lines = [json.dumps(data, indent=2, ensure_ascii=False).removesuffix("\n}"), ',\n  "rows": {\n']
        tables = [
            f'    "{kind}": [\n      ' + ",\n      ".join(map(json.dumps, found)) + "\n    ]"
            for kind, found in rows.items()
        ]
        path.write_text("".join(lines) + ",\n".join(tables) + "\n  }\n}\n", encoding="utf-8")
    return int(max(map(abs, errors["held out"])) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
