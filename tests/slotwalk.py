"""The slow road to the causes of lost cycles: an interpreter that steps the array cycle by cycle, element by element.

It asks each processing element in each cycle what it does. Which weights belong to the layer it sees in the weight
memory itself, for the networks that it runs have no weight of zero. Of the formulas it knows nothing.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

from emulator import Emulator, signed

from codesign_kernel.accelerator.isa import Instruction, Op


class SlotWalk(Emulator):
    """An emulator that notes the cause of every MAC slot by layer in ``seen``; ``owners`` are those of ``main``."""

    def tally(self, entry: int, owners: tuple[str, ...]) -> dict[str, Counter[str]]:
        """Run from ``entry`` to HALT; the slots by layer and cause."""
        seen: dict[str, Counter[str]] = {}
        for word, owner in zip(self.instructions[entry:], owners, strict=True):
            instruction = Instruction.decode(word)
            mine = seen.setdefault(owner, Counter())
            mine["issue"] += 2 * self.a.pes
            mine.update(self.steps(instruction))
            if instruction.op != Op.HALT:
                getattr(self, instruction.op.name.lower())(**instruction.fields)
        return {name: +counts for name, counts in seen.items()}

    def steps(self, instruction: Instruction) -> Counter[str]:
        """The slots of one instruction behind its issue."""
        a, f = self.a, instruction.fields
        if instruction.op in (Op.LOADP, Op.LOADA, Op.SAVE):
            beats = a.weight_beats if instruction.op == Op.LOADP else a.activation_beats
            return Counter(memory=(f["count"] * beats + 2 + a.memory_latency) * a.pes)
        if instruction.op in (Op.LOADQ, Op.TILE):
            return Counter(requantise=(f["count"] + 1) * a.pes)
        if instruction.op == Op.STORE:
            return Counter(requantise=(f["nx"] * f["ny"] * f["pool"] ** 2 + 5) * a.pes)
        if instruction.op == Op.POOL:
            return Counter(requantise=(f["nx"] * f["ny"] * f["nfx"] * f["nfy"] + 6) * a.pes)
        if instruction.op == Op.CONV:
            return self.stay(f)
        return self.hold(f) if instruction.op == Op.SUM else Counter()

    def kind(self, f: dict[str, int], tap: int, at: tuple[int, int] | None, row: int, col: int) -> str:
        """What an element of ``col`` does with channel ``row`` of tap number ``tap`` at position ``at`` (x, y)."""
        block, place = divmod(tap, f["nfy"] * f["nfx"])
        fy, fx = divmod(place, f["nfx"])
        assert block < f["nct"]
        below = self.a.rows - 1 - row if self.a.dataflow == "ws" else row
        weights = self.weight[f["waddr"] + tap * self.a.rows + below]
        assert weights is not None
        if at is None or weights[col] == 0:
            return "edge"
        x = signed(f["ix0"], 12) + fx * f["dx"] + at[0] * f["sx"]
        y = signed(f["iy0"], 12) + fy * f["dy"] + at[1] * f["sy"]
        return "useful" if 0 <= x < f["width"] and 0 <= y < f["height"] else "padding"

    def stay(self, f: dict[str, int]) -> Counter[str]:
        """A CONV: what enters the array cycle by cycle, and what each element makes of it."""
        rows, cols = self.a.rows, self.a.cols
        positions = [(x, y) for y in range(f["ny"]) for x in range(f["nx"])]
        taps = f["nct"] * f["nfy"] * f["nfx"]
        # row by row, and one cycle until the last has arrived
        front: list[tuple[int, tuple[int, int]] | str] = ["weights"] * (rows + 1)
        for tap in range(taps):
            started = len(front)
            front += [(tap, at) for at in positions]
            # the next tap's rows are read from its start on; with one row a cycle later
            ready = started + rows + (rows == 1)
            if tap < taps - 1:
                front += ["weights"] * (ready - len(front))
        seen: Counter[str] = Counter()
        # a word is there a cycle after its address; the last element's sums are added up in two more
        length = len(front) + 1 + (rows - 1) + (cols - 1) + 2
        for now, i, j in product(range(length), range(rows), range(cols)):
            late = now - 1 - i - j
            if now <= rows:
                seen["weights"] += 1
            elif late <= rows:
                seen["fill"] += 1
            elif late >= len(front):
                seen["drain"] += 1
            else:
                event = front[late]
                seen[event if isinstance(event, str) else self.kind(f, *event, i, j)] += 1
        return seen

    def hold(self, f: dict[str, int]) -> Counter[str]:
        """A SUM: each row has a position of the group, all of them take the channels of a tap one after the other."""
        rows, cols, side = self.a.rows, self.a.cols, f["window"]
        positions = [
            (x * side + kx, y * side + ky)
            for y in range(f["ny"]) for x in range(f["nx"]) for ky in range(side) for kx in range(side)
        ]  # fmt: skip
        front = [
            (group, tap, channel)
            for group in range(0, len(positions), rows)
            for tap in range(f["nct"] * f["nfy"] * f["nfx"])
            for channel in range(rows)
        ]
        seen: Counter[str] = Counter()
        # address, memory and row before the first element; element, column and four stages of the lane behind the last
        done = len(front) + 3 + (rows - 1) + (cols - 1) + 2
        seen["requantise"] = 4 * rows * cols
        for now, i, j in product(range(done), range(rows), range(cols)):
            late = now - 3 - i - j
            if late < 0:
                seen["fill"] += 1
            elif late >= len(front):
                seen["drain"] += 1
            else:
                group, tap, channel = front[late]
                at = positions[group + i] if group + i < len(positions) else None
                seen[self.kind(f, tap, at, channel, j)] += 1
        return seen
