"""The one mapping of a step on the generated accelerator, as a loop nest that a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.mapping.choice import NestLine
from codesign_kernel.mapping.steps import Step
from codesign_kernel.mapping.tiling import Tiling, ceil_div


@dataclass(frozen=True)
class FixedMapping:
    """How a generated accelerator runs one step; ``str()`` gives the loop nest. See :mod:`.tiling` for the law.

    Attributes:
        lines: from the outermost loop to the array.
        needs_bit: by memory, what each operand takes of it at once (bit); of the weight memory with the requantiser's
            parameters, and with those of all steps where they stay on chip.
    """

    lines: tuple[NestLine, ...]
    needs_bit: Mapping[str, Mapping[str, int]]

    def __str__(self) -> str:
        lines, depth = [], 0
        for line in self.lines:
            lines.append("  " * depth + line.text)
            depth += line.is_loop
        return "\n".join(lines)


def _one(values: Any) -> int:
    """The value of the only machine."""
    return int(np.asarray(values).reshape(-1)[0])


def fixed_mapping(
    step: Step, tiling: Tiling, machine: Accelerator, resident: bool, parameter_words: int
) -> FixedMapping:
    """``step``, cut as ``tiling`` says, on ``machine``.

    Args:
        resident: the weights of all steps stay on chip, in so many words (``parameter_words``) of their memory.
    """
    return FixedMapping(
        (*_outside(step, tiling, machine, resident), *_inside(step, tiling, machine, resident)),
        _needs(step, tiling, machine, resident, parameter_words),
    )


def _tiles(step: Step, tiling: Tiling, machine: Accelerator, place: str, moves: str) -> list[NestLine]:
    tiles = _one(tiling.tiles)
    text = f"for tile in {tiles} of up to {machine.cols} output channels (of {step.channels_out})"
    return [NestLine(text, place, moves)] if tiles > 1 else []


def _outside(step: Step, tiling: Tiling, machine: Accelerator, resident: bool) -> list[NestLine]:
    """The loops whose turns move something over the external memory."""
    chunks, rows = _one(tiling.chunks), _one(tiling.chunk_rows)
    lines = [NestLine(f"for image in {step.repeat}", "dram", "IO" if resident else "WIO")] if step.repeat > 1 else []
    if chunks > 1:
        text = f"for chunk in {chunks} of up to {rows} output rows (of {step.out_height})"
        lines.append(NestLine(text, "dram", "IO"))
    if step.on_array and not resident:
        lines += _tiles(step, tiling, machine, "dram", "W")
    kept = [
        words for words, here in (("all weights stay", resident), ("both maps whole", _one(tiling.whole) == 1)) if here
    ]
    return [*lines, NestLine(f"# DRAM above, buffers below{': ' + '; '.join(kept) if kept else ''}", "note")]


def _inside(step: Step, tiling: Tiling, machine: Accelerator, resident: bool) -> list[NestLine]:
    """The loops between the memories and the array, or the lanes."""
    if not step.on_array:
        positions = _one(tiling.chunk_rows) * step.out_width
        lines = _tiles(step, tiling, machine, "buffer", "IO")
        return [
            *lines,
            NestLine(f"for m in {positions} positions", "buffer", "IO"),
            NestLine(f"{machine.cols} lanes <- channels", "array"),
        ]
    lines = _tiles(step, tiling, machine, "buffer", "WO") if resident else []
    pass_rows = min(_one(tiling.pass_rows), _one(tiling.chunk_rows))
    passes = ceil_div(_one(tiling.chunk_rows), pass_rows)
    if passes > 1:
        lines.append(NestLine(f"for pass in {passes} of up to {pass_rows} output rows", "buffer", "IO"))
    positions = pass_rows * step.out_width * step.pool * step.pool
    blocks = _one(tiling.blocks_max)
    if machine.dataflow == "ws":
        if blocks * step.taps > 1:
            text = f"for tap in {blocks * step.taps} of up to {machine.rows} input channels"
            lines.append(NestLine(text, "buffer", "WI"))
        lines.append(NestLine(f"for m in {positions} positions   # W stays in the PEs", "buffer", "IO"))
        return [
            *lines,
            NestLine(f"{machine.rows} rows <- input channels, {machine.cols} columns <- output channels", "array"),
        ]
    groups = ceil_div(positions, machine.rows)
    if groups > 1:
        lines.append(NestLine(f"for group in {groups} of up to {machine.rows} positions", "buffer", "IO"))
    length = blocks * step.taps * machine.rows
    lines.append(NestLine(f"for k in {length} input channels x taps   # O stays in the PEs", "buffer", "WI"))
    return [*lines, NestLine(f"{machine.rows} rows <- positions, {machine.cols} columns <- output channels", "array")]


def _needs(
    step: Step, tiling: Tiling, machine: Accelerator, resident: bool, parameter_words: int
) -> dict[str, dict[str, int]]:
    words = {level.name: level.word_bit for level in machine.memories}
    rows = _one(tiling.chunk_rows)
    seen = min(step.height, (rows * step.pool - 1) * step.stride[0] + step.reach[0])
    in_rows = step.height if _one(tiling.whole) else seen
    needs = {
        "activation": {
            "I": _one(tiling.in_groups) * step.width * in_rows * words["activation"],
            "O": _one(tiling.out_groups) * step.out_width * rows * words["activation"],
        },
        "weight": {"W": (parameter_words if resident else _one(tiling.weight_need)) * words["weight"]},
    }
    if "accumulator" in words and step.on_array:
        positions = min(_one(tiling.pass_rows), rows) * step.out_width * step.pool * step.pool
        needs["accumulator"] = {"O": positions * words["accumulator"]}
    return needs
