"""The slow road to what one tile does on a spatial array: fold after fold, as docs/mapping.md lays them down."""

from __future__ import annotations

from collections import Counter
from typing import Any

Access = tuple[str, str, str]
#: Operand -> its buffer.
BUFFER = {"W": "weight", "I": "input", "O": "output"}


def cut(whole: range, size: int) -> list[range]:
    """``whole`` in pieces of ``size``; the last one may be shorter."""
    return [whole[at : at + size] for at in range(0, len(whole), size)]


class ArrayWalk:
    """The array of a machine under filters of so many taps; what a tile does is remembered, for many are alike."""

    def __init__(self, machine: Any, taps: int) -> None:
        self.machine, self.taps = machine, taps
        self.packed = machine.im2col or machine.dataflow == "os"  # the taps lie together with the channels
        self.known: dict[tuple[int, ...], Any] = {}

    def timed(self, m: int, n: int, ch: int, groups: int) -> int:
        """Cycles of a tile."""
        key = (m, n, ch, groups, 0)
        if key not in self.known:
            self.known[key] = self.cycles(m, n, ch, groups)
        time: int = self.known[key]
        return time

    def folds(self, m: int, n: int, ch: int, groups: int) -> int:
        """How often the array is filled, counted by putting one piece after the other on it."""
        rows, cols = self.machine.rows, self.machine.cols
        k = ch * self.taps if self.packed else ch
        down, across = {"ws": (k, n), "os": (m, n), "is": (k, m)}[self.machine.dataflow]
        count = 0
        if down <= rows and across <= cols:
            row, col = rows, cols  # no room beside what lies there yet: nothing does
            for _ in range(groups):
                if row + down > rows or col + across > cols:
                    count, row, col = count + 1, 0, 0
                row, col = row + down, col + across
        else:
            for _ in range(groups):
                count += sum(1 for _ in cut(range(down), rows) for _ in cut(range(across), cols))
        return count * (1 if self.packed else self.taps)

    def cycles(self, m: int, n: int, ch: int, groups: int) -> int:
        """Fold after fold: what is stationary moves in, the stream passes, and the last sum leaves the far corner."""
        a = self.machine
        stream = {"ws": m, "os": ch * self.taps, "is": n}[a.dataflow]
        load = 0 if a.dataflow == "os" else a.rows
        corner = (a.rows - 1) + (a.cols - 1)
        time = 0
        folds = self.folds(m, n, ch, groups)
        for fold in range(folds):
            if a.overlap:
                time += stream if fold == folds - 1 else max(stream, a.rows)
            else:
                time += load + stream + corner
        return time + (load + corner if a.overlap else 0)

    def words(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        """Words that one group's folds take from the buffers, give to them, and keep in the registers."""
        key = (m, n, ch, new)
        if key not in self.known:
            walk = {"ws": self.weights_stay, "os": self.outputs_stay, "is": self.inputs_stay}[self.machine.dataflow]
            self.known[key] = walk(m, n, ch, new)
        found: Counter[Access] = self.known[key]
        return found

    def reductions(self, ch: int) -> list[range]:
        """What of the reduction lies on the rows, fold by fold."""
        if self.packed:
            return cut(range(ch * self.taps), self.machine.rows)
        return [piece for _ in range(self.taps) for piece in cut(range(ch), self.machine.rows)]

    def columns(self, across: int) -> list[list[range]]:
        """Folds along the columns; those of one list share their stream, as a PE holds a word of each."""
        pieces = cut(range(across), self.machine.cols)
        share = self.machine.register_words
        return [pieces[at : at + share] for at in range(0, len(pieces), share)]

    def weights_stay(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        words: Counter[Access] = Counter()
        for place, k in enumerate(self.reductions(ch)):
            for held in self.columns(n):
                words["input", "I", "read"] += m * len(k)
                for out in held:
                    self.stay(words, "W", "read", len(k) * len(out), m)
                    self.sums(words, m * len(out), new and place == 0)
        return words

    def inputs_stay(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        words: Counter[Access] = Counter()
        for place, k in enumerate(self.reductions(ch)):
            for held in self.columns(m):
                words["weight", "W", "read"] += n * len(k)
                for position in held:
                    self.stay(words, "I", "read", len(k) * len(position), n)
                    self.sums(words, n * len(position), new and place == 0)
        return words

    def outputs_stay(self, m: int, n: int, ch: int, new: bool) -> Counter[Access]:
        words: Counter[Access] = Counter()
        k = ch * self.taps
        for position in cut(range(m), self.machine.rows):
            for held in self.columns(n):
                words["input", "I", "read"] += len(position) * k
                for out in held:
                    words["weight", "W", "read"] += k * len(out)
                    self.stay(words, "O", "write", len(position) * len(out), k)
                    words["output", "O", "read"] += 0 if new else len(position) * len(out)
        return words

    def stay(self, words: Counter[Access], operand: str, direction: str, count: int, macs: int) -> None:
        """``count`` words of the stationary operand, each used for ``macs`` products."""
        words[BUFFER[operand], operand, direction] += count
        words["register", operand, "write"] += count
        words["register", operand, "read"] += count * macs

    def sums(self, words: Counter[Access], count: int, new: bool) -> None:
        """Sums leave the array and are written; what they are added to is read."""
        words["output", "O", "write"] += count
        words["output", "O", "read"] += 0 if new else count
