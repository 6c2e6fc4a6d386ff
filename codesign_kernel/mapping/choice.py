"""A mapping that was chosen, as a loop nest that a person can read; and the words with which a person chooses one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping.nest import LOOPS, Nest

#: What lies on the rows, on the columns, and streams past, by dataflow; then the operand that stays.
LAYOUT = {"ws": ("k", "n", "m", "W"), "os": ("m", "n", "k", "O"), "is": ("k", "m", "n", "I")}
_AXES = {"m": "positions", "n": "output channels", "k": "input channels x taps"}
#: The operand that a loop leaves alone.
OPERAND_OF = {"y": "W", "k": "I", "c": "O"}


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

    @property
    def tiles(self) -> dict[str, int]:
        """Tiles along each loop (``y``: of all images)."""
        extents = {"y": self.nest.OY, "k": self.nest.G if self.grouped else self.nest.K, "c": self.nest.C}
        counts = {loop: -(-extents[loop] // getattr(self, loop)) for loop in LOOPS}
        return {**counts, "y": counts["y"] * self.nest.B}

    @property
    def order(self) -> str:
        """The loops from the outermost to the innermost."""
        return "".join(loop for loop in "kyc" if loop != self.inner) + self.inner

    def __str__(self) -> str:
        what = {"y": "output rows", "k": "groups" if self.grouped else "output channels", "c": "input channels"}
        extents = {"y": self.nest.OY, "k": self.nest.G if self.grouped else self.nest.K, "c": self.nest.C}
        lines, indent = [], ""
        if self.nest.G > 1 and not self.grouped:
            lines.append(f"for group in {self.nest.G}")
            indent = "  "
        for loop in self.order:
            tiles = self.tiles[loop]
            if tiles == 1:
                continue
            stays = (
                f"   # {OPERAND_OF[loop]} stays" if loop == self.inner and not (self.grouped and loop == "k") else ""
            )
            images = f" of {self.nest.B} images" if loop == "y" and self.nest.B > 1 else ""
            lines.append(
                f"{indent}for {loop} in {tiles} tiles of {getattr(self, loop)} {what[loop]} "
                f"(of {extents[loop]}{images}){stays}"
            )
            indent += "  "
        on_rows, on_cols, stream, _ = LAYOUT[self.dataflow]
        lines.append(
            f"{indent}{self.rows} rows <- {_AXES[on_rows]}, {self.cols} columns <- {_AXES[on_cols]}, "
            f"streaming {_AXES[stream]}"
        )
        if self.held:
            lines.append(f"{indent}{' and '.join(self.held)} held whole")
        kept = [name for name, here in (("input", self.keeps_input), ("output", self.keeps_output)) if here]
        if kept:
            lines.append(f"{indent}{' and '.join(kept)} map{'s' if len(kept) > 1 else ''} on chip")
        return "\n".join(lines)


@dataclass(frozen=True)
class Constraint:
    """What a mapping must be: at most so many elements of a tile along each loop, and the innermost loop."""

    most: tuple[tuple[str, int], ...]
    inner: str | None = None

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """``"y=14 k=64 c=32 inner=y"``, any part of it: each tile is the largest legal one of at most that size, and
        that loop is innermost wherever it has several tiles.

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

    def keeps(self, sizes: Any, which: Any, tiles: Any) -> Any:
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
        if self.inner is not None:
            axis = LOOPS.index(self.inner)
            kept = kept & ((which == axis) | (tiles[:, axis] == 1))
        return kept
