"""A mapping that was chosen, as a loop nest that a person can read; and the words with which a person chooses one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping.nest import LOOPS, Nest

#: What lies on the rows, on the columns, and streams past, by dataflow; then the operand that stays.
LAYOUT = {"ws": ("k", "n", "m", "W"), "os": ("m", "n", "k", "O"), "is": ("k", "m", "n", "I")}
_AXES = {"m": "positions", "n": "output channels", "k": "input channels x taps"}
#: The operand that a loop leaves alone.
OPERAND_OF = {"y": "W", "k": "I", "c": "O"}
#: The operands that change along an axis of the array.
_ALONG = {"m": "IO", "n": "WO", "k": "WI"}


class NestLine(NamedTuple):
    """One line of a loop nest.

    Attributes:
        text: the line, without indent.
        place: ``dram`` for a loop over tiles, whose turns bring tiles from DRAM into the buffers; ``buffer`` for a loop
            within a tile, whose turns bring words from the buffers to the array; ``array`` for what lies on it at once;
            ``note`` for a remark.
        moves: the operands that another turn of the loop changes, among ``"WIO"``.
    """

    text: str
    place: str
    moves: str = ""

    @property
    def is_loop(self) -> bool:
        """Whether the next line stands inside of it."""
        return self.place in ("dram", "buffer")


@dataclass(frozen=True)
class LayerMapping:
    """How one layer runs on a :class:`SpatialArray`; ``str()`` gives the loop nest.

    Attributes:
        nest: the layer's loop bounds.
        dataflow, rows, cols: of the array.
        y, k, c: output rows, output channels (or groups, where ``grouped``) and input channels of a tile.
        inner: the innermost loop over tiles, ``"y"``, ``"k"`` or ``"c"``.
        held: operands besides that loop's whose tiles all lie in their buffer together, among ``"WIO"``.
        grouped: a tile holds whole groups.
        keeps_input, keeps_output: the map stays on chip.
        im2col: the taps of a filter are packed on the array.
        needs_bit: what W, I and O take of their buffers at once: a tile, twice where the next one arrives meanwhile;
            all of a held operand; maps that stay on chip are I's (bit).
    """

    nest: Nest
    dataflow: str
    rows: int
    cols: int
    y: int
    k: int
    c: int
    inner: str
    held: str = ""
    grouped: bool = False
    keeps_input: bool = False
    keeps_output: bool = False
    im2col: bool = True
    needs_bit: tuple[int, int, int] = (0, 0, 0)

    @property
    def tiles(self) -> dict[str, int]:
        """Tiles along each loop (``y``: of all images)."""
        extents = {"y": self.nest.OY, "k": self.nest.G if self.grouped else self.nest.K, "c": self.nest.C}
        counts = {loop: -(-extents[loop] // getattr(self, loop)) for loop in LOOPS}
        return {**counts, "y": counts["y"] * self.nest.B}

    @property
    def order(self) -> str:
        """The loops from the outermost to the innermost."""
        outer = "ykc" if self.nest.serial else "kyc"  # a step is through before the next one begins
        return "".join(loop for loop in outer if loop != self.inner) + self.inner

    @property
    def folds(self) -> tuple[int, int, int]:
        """Of a full tile of one group: folds along the rows, along the columns, and cycles of the stream."""
        nest = self.nest
        channels = self.c * (nest.taps if self.im2col else 1)
        sizes = {"m": self.y * nest.OX, "n": nest.K if self.grouped else self.k, "k": channels}
        on_rows, on_cols, stream, _ = LAYOUT[self.dataflow]
        length = self.c * nest.taps if stream == "k" else sizes[stream]
        return -(-sizes[on_rows] // self.rows), -(-sizes[on_cols] // self.cols), length

    def __str__(self) -> str:
        lines, depth = [], 0
        for line in self.lines:
            lines.append("  " * depth + line.text)
            depth += line.is_loop
        return "\n".join(lines)

    @property
    def lines(self) -> tuple[NestLine, ...]:
        """The loop nest, from the outermost loop to the array."""
        return (*self._tile_loops(), *self._array_loops())

    def _tile_loops(self) -> list[NestLine]:
        """The loops over tiles: what lies between DRAM and the buffers."""
        what = {"y": "output rows", "k": "groups" if self.grouped else "output channels", "c": "input channels"}
        extents = {"y": self.nest.OY, "k": self.nest.G if self.grouped else self.nest.K, "c": self.nest.C}
        outer = self.nest.G > 1 and not self.grouped
        lines = [NestLine(f"for group in {self.nest.G}", "dram", "WIO")] if outer else []
        for loop in self.order:
            tiles, size = self.tiles[loop], getattr(self, loop)
            if tiles == 1:
                continue
            each = tiles // self.nest.B if loop == "y" else tiles
            rest = extents[loop] - (each - 1) * size
            last = f", the last {rest}" if rest != size else ""
            of_groups = self.grouped and loop == "k"
            stays = f"   # {OPERAND_OF[loop]} stays" if loop == self.inner and not of_groups else ""
            many = "steps" if self.nest.serial else "images"
            images = f" of {self.nest.B} {many}" if loop == "y" and self.nest.B > 1 else ""
            text = f"for {loop} in {tiles} tiles of {size} {what[loop]} (of {extents[loop]}{images}{last}){stays}"
            moves = "WIO" if of_groups else "".join(o for o in "WIO" if o != OPERAND_OF[loop])
            lines.append(NestLine(text, "dram", moves))
        held = [f"{' and '.join(self.held)} held whole"] if self.held else []
        kept = [name for name, here in (("input", self.keeps_input), ("output", self.keeps_output)) if here]
        maps = [f"{' and '.join(kept)} map{'s' if len(kept) > 1 else ''} on chip"] if kept else []
        notes = "; ".join(held + maps)
        return [*lines, NestLine(f"# DRAM above, buffers below{': ' + notes if notes else ''}", "note")]

    def _array_loops(self) -> list[NestLine]:
        """The loops within a full tile: what lies between the buffers and the PEs."""
        on_rows, on_cols, stream, stays = LAYOUT[self.dataflow]
        row_folds, col_folds, length = self.folds
        several = self.grouped and self.k > 1
        lines = [NestLine(f"for group in {self.k} groups of the tile", "buffer", "WIO")] if several else []
        if not self.im2col and stream != "k" and self.nest.taps > 1:
            lines.append(NestLine(f"for tap in {self.nest.taps}", "buffer", _ALONG["k"]))
        for axis, folds, side in ((on_cols, col_folds, self.cols), (on_rows, row_folds, self.rows)):
            if folds > 1:
                lines.append(NestLine(f"for fold in {folds} of up to {side} {_AXES[axis]}", "buffer", _ALONG[axis]))
        text = f"for {stream} in {length} {_AXES[stream]}   # {stays} stays in the PEs"
        lines.append(NestLine(text, "buffer", _ALONG[stream]))
        laid = f"{self.rows} rows <- {_AXES[on_rows]}, {self.cols} columns <- {_AXES[on_cols]}"
        return [*lines, NestLine(laid, "array")]


@dataclass(frozen=True)
class Constraint:
    """What a mapping must be: the largest tile along each loop, and the innermost loop; see :meth:`parse`."""

    most: tuple[tuple[str, int], ...]
    inner: str | None = None

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """``"y=14 k=64 c=32 inner=y"``, any part of it: each tile is the largest legal one of at most that size, and
        that loop is innermost wherever it has several tiles. Where even the smallest legal tile (of the array's side,
        say) is larger, it is that one.

        Raises:
            InvalidInputError: the text says something else, or says a thing twice.
        """
        most: dict[str, int] = {}
        inner = None
        for word in text.replace(",", " ").split():
            found = re.fullmatch(r"(?:([ykc])=([1-9]\d{0,8})|inner=([ykc]))", word)
            if found is None or (found[1] or "inner") in most or (found[3] and inner):
                raise InvalidInputError(
                    "a mapping is words like 'y=14 k=64 c=32 inner=y' (largest tile along output rows, output channels "
                    f"and input channels; innermost loop), each once, but got {word!r} in {text!r}"
                )
            if found[3]:
                inner = found[3]
            else:
                most[found[1]] = int(found[2])
        if not most and inner is None:
            raise InvalidInputError(f"a mapping says at least one thing, like 'inner=y', but got {text!r}")
        return cls(tuple(sorted(most.items())), inner)

    def keeps(self, sizes: Any, which: Any, tiles: Any, serial: bool = False) -> Any:
        """Which mappings obey: [mappings], of ``sizes`` [mappings, 3], innermost loops and ``tiles`` [mappings, 3]."""
        kept, most = np.ones(len(sizes), dtype=bool), dict(self.most)
        bound = [(axis, most[loop]) for axis, loop in enumerate(LOOPS) if loop in most]
        # tiles of groups and tiles of one group have different sizes along k and c: one loop's bound can rule out the
        # tilings that have the largest size along the other
        for axis, largest in bound:
            below = kept & (sizes[:, axis] <= largest)
            kept = below if below.any() else kept & (sizes[:, axis] == sizes[kept, axis].min())
        for axis, _ in bound:
            kept = kept & (sizes[:, axis] == sizes[kept, axis].max())
        if self.inner is not None and not (serial and self.inner == "y"):  # of a recurrence y is outermost
            axis = LOOPS.index(self.inner)
            kept = kept & ((which == axis) | (tiles[:, axis] == 1))
        return kept
