"""The instruction set: what each instruction does, its fields, and the cycles that it takes.

The sequencer runs one instruction at a time: fetch and decode (2 cycles), run, drain. Lengths are therefore exact and
depend only on the fields; :func:`cycles` is that law, and the RTL is held to it by co-simulation.
LOADQ, CONV and STORE are those of a weight-stationary array, TILE and SUM those of an output-stationary one; the others
are those of both.

=====  ============================================================================================================
HALT   stop, and lower ``busy``
LOADP  external memory -> weight memory, ``count`` rows (weights and requantiser parameters)
LOADA  external memory -> activation memory, ``count`` words
SAVE   activation memory -> external memory, ``count`` words
LOADQ  weight memory -> requantisers, ``count`` rows
CONV   for each of ``nct`` input tiles, ``nfy`` filter rows and ``nfx`` filter columns: load the array with the next
       ``rows`` rows of weights (bottom row first), then stream ``nx`` x ``ny`` positions of a map of ``width`` x
       ``height`` through it into the accumulators. A tap starts at (``ix0`` + fx ``dx``, ``iy0`` + fy ``dy``) and walks
       in steps of (``sx``, ``sy``); what lies outside of the map is zero. The array holds two taps' weights: one loads
       while the one before it streams
STORE  accumulators -> maximum over ``pool`` x ``pool`` -> bias, multiplier, rounding shift, clamp, ReLU -> activation
       memory: ``nx`` x ``ny`` words
TILE   LOADQ of an output-stationary array; the results of the next SUM go to ``addr``
SUM    CONV and STORE of an output-stationary array in one. Positions are taken window by window, ``window`` x
       ``window`` of them for each of ``nx`` x ``ny`` results, ``rows`` at a time. Every such group streams all taps,
       ``rows`` channels each (the first one's weights first), and then hands its sums to maximum and requantiser
POOL   activation memory -> maximum, or with ``sum`` the sum, over ``nfy`` x ``nfx`` words -> requantiser as in STORE,
       with the parameters of the last LOADQ or TILE -> activation memory: ``nx`` x ``ny`` words from ``to`` on
=====  ============================================================================================================

POOL takes result (x, y) from the words ``addr`` + y ``row_step`` + x ``sx`` + ky ``tap_row`` + kx ``dx`` (modulo 2^18)
at the coordinates (``ix0`` + x ``sx`` + kx ``dx``, ``iy0`` + y ``sy`` + ky ``dy``), for kx below ``nfx`` and ky below
``nfy``. What lies outside of a map of ``width`` x ``height`` is zero in a sum, and no maximum. It works on the ``cols``
channels of a word, with more rows than columns on those of bank ``bank``: in the words read and in those written. A
result must not overwrite what a later one reads. Two maps are added, position by position, as the sum over a window of
``nfy`` = 2 whose ``tap_row`` is the distance between the maps and whose ``dy`` is 0. The SUM after a POOL needs a TILE
of its own.

Where the accelerator has a ``min_weight_bits``, a word of the weight memory can hold several rows of weights for CONV
and SUM, ``per_word`` of them: 1, 2, 4 or 8. Each column's share of the word holds one weight of each of them, side by
side. The lowest bit of a row's number in the word says in which half of the share its weight is, the next bit in which
half of that, and so on. The first row is that of the lowest bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from codesign_kernel.accelerator.types import ADDRESS_BITS
from codesign_kernel.errors import CapacityError

COORDINATE_BITS = 12
EXTERNAL_BITS = 32
COUNT_BITS = 20
BANK_BITS = 8
STEP_BITS = 4
ROW_STEP_BITS = 16
TAP_BITS = 6
#: A position on its way round (output stationary): its address, its coordinates, and what it is in its pooling window.
PLACE_BITS = ADDRESS_BITS + 2 * COORDINATE_BITS + 3
#: A map's side is below this, so that a coordinate left of the map wraps to a number right of it.
MAX_SIDE = 1 << (COORDINATE_BITS - 1)


class Op(IntEnum):
    """Operation codes."""

    HALT = 0
    LOADP = 1
    LOADA = 2
    SAVE = 3
    LOADQ = 4
    CONV = 5
    STORE = 6
    TILE = 7
    SUM = 8
    POOL = 9


#: field -> (lowest bit, width); fields of different operations share bits.
LAYOUT: Mapping[str, tuple[int, int]] = {
    "op": (0, 4), "acc": (4, 1), "sum": (4, 1), "relu": (5, 1), "bank": (6, BANK_BITS),
    "addr": (14, ADDRESS_BITS), "waddr": (32, ADDRESS_BITS), "to": (32, ADDRESS_BITS),
    "nx": (50, 12), "ny": (62, 12), "ix0": (74, 12), "iy0": (86, 12), "width": (98, 12), "height": (110, 12),
    "sx": (122, STEP_BITS), "sy": (126, STEP_BITS), "row_step": (130, ROW_STEP_BITS),
    "nfx": (146, TAP_BITS), "nfy": (152, TAP_BITS), "nct": (158, 12), "dx": (170, STEP_BITS), "dy": (174, STEP_BITS),
    "tap_row": (178, ADDRESS_BITS), "ct_step": (196, ADDRESS_BITS),
    "ext": (50, EXTERNAL_BITS), "count": (82, COUNT_BITS), "pool": (74, STEP_BITS), "acc_row": (86, 12),
    "window": (214, STEP_BITS), "per_word": (218, 3),
}  # fmt: skip
#: Bits from here on are reserved and zero; those of an output-stationary array's instructions. ``per_word`` lies
#: there: it is of CONV and SUM alone, and 1 where all weights have one width.
RESERVED, RESERVED_OS = 214, 218
_TAPS = "bank addr waddr nx ny ix0 iy0 width height sx sy row_step nfx nfy nct dx dy tap_row ct_step per_word"
_WINDOWS = "bank addr to nx ny ix0 iy0 width height sx sy row_step nfx nfy dx dy tap_row"
FIELDS: Mapping[Op, tuple[str, ...]] = {
    Op.HALT: (),
    Op.LOADP: ("addr", "ext", "count"),
    Op.LOADA: ("addr", "ext", "count"),
    Op.SAVE: ("addr", "ext", "count"),
    Op.LOADQ: ("waddr", "count"),
    Op.CONV: ("acc", *_TAPS.split()),
    Op.STORE: ("relu", "bank", "addr", "nx", "ny", "pool", "acc_row"),
    Op.TILE: ("addr", "waddr", "count"),
    Op.SUM: ("relu", *_TAPS.split(), "window"),
    Op.POOL: ("relu", "sum", *_WINDOWS.split()),
}
#: Numbers of things: stored less one.
LESS_ONE = frozenset({"count", "nx", "ny", "pool", "window", "nfx", "nfy", "nct", "per_word"})
#: Fields that may be left out, and what they are then.
OPTIONAL: Mapping[str, int] = {"per_word": 1}
#: Two's complement, or an address that wraps around: any integer is taken modulo the field.
WRAPS: Mapping[Op, frozenset[str]] = {
    **dict.fromkeys((Op.CONV, Op.SUM), frozenset({"addr", "ix0", "iy0"})),
    Op.POOL: frozenset({"addr", "ix0", "iy0", "tap_row"}),
}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its operation and its fields by name."""

    op: Op
    fields: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.fields[name]

    def encode(self) -> int:
        """The instruction as a word of ``INSTRUCTION_BITS``.

        Raises:
            CapacityError: a value does not fit its field.
        """
        if set(FIELDS[self.op]) != {*self.fields, *(set(OPTIONAL) & set(FIELDS[self.op]))}:
            raise CapacityError(f"{self.op.name} takes the fields {FIELDS[self.op]}, but got {tuple(self.fields)}")
        word = int(self.op)
        for name in FIELDS[self.op]:
            low, width = LAYOUT[name]
            value = self.fields.get(name, OPTIONAL.get(name, 0)) - (name in LESS_ONE)
            if name in WRAPS.get(self.op, ()):
                value %= 1 << width
            if not 0 <= value < 1 << width:
                raise CapacityError(
                    f"{name} of {self.op.name} lies between {int(name in LESS_ONE)} and "
                    f"{(1 << width) - 1 + (name in LESS_ONE)}, "
                    f"but got {self.fields[name]}; the layer is too large for the instruction"
                )
            word |= value << low
        return word

    @classmethod
    def decode(cls, word: int) -> Instruction:
        """The instruction of a word; wrapped fields come back as they are stored (unsigned)."""
        op = Op(word & 15)
        fields = {}
        for name in FIELDS[op]:
            low, width = LAYOUT[name]
            value = ((word >> low) & ((1 << width) - 1)) + (name in LESS_ONE)
            if value != OPTIONAL.get(name):
                fields[name] = value
        return cls(op, fields)

    def __str__(self) -> str:
        return " ".join([f"{self.op.name:<6}", *(f"{name}={value}" for name, value in self.fields.items())]).rstrip()


#: Cycles for fetch and decode.
ISSUE = 2


def tap_cycles(rows, positions):  # type: ignore[no-untyped-def]
    """Cycles from the start of one tap of a CONV to that of the next. Scalars, or arrays that broadcast.

    The positions stream one a cycle while the next weights load one row a cycle, so the longer counts. No fewer than 2:
    a sum is read, added to and written in two cycles, and with one row and one position the next tap needs it again.
    """
    return np.maximum(positions, np.maximum(rows, 2))


def group_cycles(rows, positions):  # type: ignore[no-untyped-def]
    """Cycles of one tap of a SUM, all groups of positions together. Scalars, or arrays that broadcast.

    A word of activations is read a cycle, for each row in turn, whether the last group has as many positions or not.
    """
    return -(-positions // rows) * rows


def cycles(op: Op, *, rows=1, cols=1, beats=1, count=1, positions=1, taps=1, pool=1, latency=0):  # type: ignore[no-untyped-def]
    """Cycles of one instruction, from its issue to the next one's. Scalars, or arrays that broadcast.

    The terms after ``ISSUE`` are what runs (one item a cycle) and what drains: the depth of the pipeline behind it.

    Args:
        op: the operation.
        rows, cols: of the array (PE).
        beats: bus cycles for one word (LOADP, LOADA, SAVE).
        count: words moved (LOADP, LOADA, SAVE, LOADQ, TILE).
        positions: ``nx * ny`` (CONV: inputs of one tap; STORE, SUM, POOL: outputs).
        taps: ``nct * nfy * nfx`` (CONV, SUM), ``nfy * nfx`` (POOL).
        pool: side of the pooling window (STORE, SUM).
        latency: of the external memory: cycles to a load's first word, or from a SAVE's last word to the answer.
    """
    if op == Op.HALT:
        return ISSUE
    if op in (Op.LOADP, Op.LOADA, Op.SAVE):
        return ISSUE + latency + count * beats + 2
    if op in (Op.LOADQ, Op.TILE):
        return ISSUE + count + 1
    if op == Op.CONV:
        # the first weights: rows, and 1 until the last has arrived; the taps, of which the last one ends with its last
        # position; memory 1, array rows + cols - 1, accumulate 1
        return ISSUE + (rows + 1) + (taps - 1) * tap_cycles(rows, positions) + positions + (rows + cols + 1)
    if op == Op.SUM:
        # address 1, memory 1, row 1; the last row's last sum, rows - 1, across the columns, cols - 1, and out of the
        # element 1 and the column 1; maximum 1, bias 1, multiply 1, shift and clamp 1
        return ISSUE + taps * group_cycles(rows, positions * pool * pool) + (rows + cols + 7)
    if op == Op.POOL:
        # address 1, and what STORE has
        return ISSUE + positions * taps + 6
    # memory 1, maximum 1, bias 1, multiply 1, shift and clamp 1
    return ISSUE + positions * pool * pool + 5
