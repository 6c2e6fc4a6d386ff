"""``codesign synth``: the generated RTL in gates, standard cells or the parts of an FPGA, block by block."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from codesign_kernel.cli.output import Answer, plain, rows_text, table_text
from codesign_kernel.cli.progress import Progress
from codesign_kernel.files import check_folder, write_folder
from codesign_kernel.units import quantity

if TYPE_CHECKING:
    from codesign_kernel.design import Design
    from codesign_kernel.session.synth import Synthesis

#: Types of cells printed for people; ``--json`` has all of them.
CELL_TYPES = 6


def synth_answer(args: argparse.Namespace, design: Callable[[], Design], progress: Progress) -> Answer:
    """The answer of ``codesign synth``; ``design`` reads the accelerator from ``args``.

    Raises:
        InvalidInputError, SynthesisError, ConversionError: see :func:`codesign_kernel.session.synth.synthesise`.
        OutputError: the results cannot be written into ``--out``.
    """
    if args.out is not None:
        check_folder(args.out)
    accelerator = design().accelerator
    from codesign_kernel.session.synth import synthesise

    result = synthesise(accelerator, liberty=args.liberty or (), target=args.target, progress=progress)
    body = _body(result)
    if args.out is not None:
        report = json.dumps(plain(body), indent=2) + "\n"
        body = {**body, "files": write_folder(args.out, {**result.files, "synthesis.json": report})}
    return Answer(_text(result, body), body)


def _text(result: Synthesis, body: dict[str, object]) -> str:
    parts = list(result.parts)
    area = result.area_um2
    header = ["block", "instances", "cells", *parts, *(["µm²", "share"] if area else [])]
    rows = [
        [
            block.name, block.instances, f"{sum(block.cells.values()):,}",
            *(f"{block.parts[part]:,}" for part in parts),
            *([f"{block.area_um2 or 0.0:,.0f}", f"{(block.area_um2 or 0.0) / area:.1%}"] if area else []),
        ]
        for block in result.blocks
    ]  # fmt: skip
    memories = [
        [memory.name, f"{memory.words:,}", memory.word_bit, quantity(memory.words * memory.word_bit / 8, "B")]
        for memory in result.memories
    ]
    cells = [f"{count:,} {name}" for name, count in result.cells.items()]
    more = f", {len(cells) - CELL_TYPES} more types" if len(cells) > CELL_TYPES else ""
    within = "are among the cells" if "RAM" in result.parts else "stay whole, not in the area"
    totals: list[tuple[object, object]] = [
        ("design", result.accelerator),
        ("target", " ".join((result.target, *result.liberty))),
        ("cells", f"{sum(result.cells.values()):,}: {', '.join(cells[:CELL_TYPES])}{more}"),
        *((part, f"{count:,}") for part, count in result.parts.items()),
        *([("area", f"{quantity(area * 1e-12, 'm²')} of cells, before placement")] if area else []),
        ("memories", f"{quantity(result.memory_bit / 8, 'B')} in {len(memories)}; they {within}"),
        ("Fmax", f"{result.fmax_mhz:.1f} MHz, {result.fmax_note}" if result.fmax_mhz else result.fmax_note),
        ("tool", f"{result.tool}, {quantity(result.wall_s, 's')}; nothing is optimised across blocks"),
    ]
    files = body.get("files")
    totals += [("written", path) for path in files] if isinstance(files, list) else []
    tables = [table_text(header, rows), table_text(["memory", "words", "bit", "holds"], memories)]
    return "\n\n".join([*tables, rows_text(totals)])


def _body(result: Synthesis) -> dict[str, object]:
    return {
        "design": asdict(result.accelerator),
        "target": result.target,
        "liberty": result.liberty,
        "cells": sum(result.cells.values()),
        "cells_by_type": result.cells,
        "parts": result.parts,
        "area_um2": result.area_um2,
        "memory_bit": result.memory_bit,
        "memories": [asdict(memory) for memory in result.memories],
        "fmax_mhz": result.fmax_mhz,
        "fmax_note": result.fmax_note,
        "tool": result.tool,
        "wall_s": result.wall_s,
        "blocks": [{**asdict(block), "total_cells": sum(block.cells.values())} for block in result.blocks],
    }
