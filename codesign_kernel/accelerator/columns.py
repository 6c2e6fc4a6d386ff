"""Many accelerators at once: one array a field, with the sizes that :class:`Accelerator` derives, derived alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import (
    ACC_BITS,
    ADDRESS_BITS,
    DATA_BITS,
    DATAFLOWS,
    FIELDS,
    FREQUENCY_MHZ,
    INSTRUCTION_BITS,
    LARGEST,
    MOST_LATENCY,
    MULTIPLIER_BITS,
    NODE_NM,
    SHIFT_BITS,
    STORED_BITS,
    WHOLE,
    Accelerator,
)
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import BIT_PER_KIB

Array = np.ndarray[Any, Any]
MEMORIES = ("activation", "weight", "accumulator", "instruction")
_DEFAULTS = Accelerator(1, 1)


class Grid(dict[str, Array]):
    """Columns of all combinations of some choices, the last parameter changing fastest: flat arrays of one length.

    ``axes`` holds the choices themselves, as arrays that broadcast to ``shape``. A formula over these computes what
    depends on few parameters for their combinations only, and gives the same values.
    """

    def __init__(self, choices: Mapping[str, Any]) -> None:
        """``choices``: numbers by parameter."""
        self.axes: dict[str, Array] = dict(zip(choices, np.ix_(*choices.values()), strict=True))
        self.shape = np.broadcast_shapes(*(axis.shape for axis in self.axes.values()))
        super().__init__({name: np.broadcast_to(axis, self.shape).reshape(-1) for name, axis in self.axes.items()})


@dataclass(frozen=True)
class Machines:
    """N accelerators as arrays; every attribute is what :class:`Accelerator` says of one of them.

    ``holds_sums`` is where ``dataflow`` is ``"os"``: the array holds its sums, and there are no accumulators.

    The arrays have length N, unless the machines are a grid: then they broadcast to ``shape``, of N elements.
    ``lawful`` is false where :class:`Accelerator` would refuse the values; the other attributes mean nothing there, but
    are such that every formula is defined.
    """

    rows: Array
    cols: Array
    dataflow: Array
    weight_bits: Array
    acc_bits: Array
    activation_kib: Array
    weight_kib: Array
    accumulator_kib: Array
    instruction_kib: Array
    bandwidth_gb_s: Array
    frequency_mhz: Array
    node_nm: Array
    memory_latency: Array
    min_weight_bits: Array
    holds_sums: Array
    lanes: Array
    bus_bits: Array
    activation_beats: Array
    weight_beats: Array
    quant_rows: Array
    capacity_bit: Mapping[str, Array]
    word_bit: Mapping[str, Array]
    depth: Mapping[str, Array]
    lawful: Array

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,), or the lengths of the axes of a grid."""
        return np.broadcast_shapes(*(getattr(self, name).shape for name in FIELDS))

    @cached_property
    def sides(self) -> tuple[list[tuple[int, int]], Array]:
        """The distinct (rows, cols), and for each machine the position of its own among them."""
        codes, inverse = np.unique(self.rows * 512 + self.cols, return_inverse=True)
        return [divmod(code, 512) for code in codes.tolist()], inverse

    def rows_per_word(self, layer_bits: int) -> Array:
        """Rows of weights of ``layer_bits`` in one word of the weight memory."""
        if not self.min_weight_bits.any():
            return np.ones_like(self.weight_bits)
        needed = 1 << max(layer_bits - 1, 0).bit_length()
        narrowest = np.where(self.min_weight_bits == 0, self.weight_bits, self.min_weight_bits)
        return self.weight_bits // np.minimum(self.weight_bits, np.maximum(needed, narrowest))

    @classmethod
    def of(cls, accelerators: Iterable[Accelerator]) -> Machines:
        """The machines of a list of accelerators."""
        machines = list(accelerators)
        return cls.from_columns({name: np.array([getattr(m, name) for m in machines]) for name in FIELDS})

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Machines:
        """Arrays by field name of :class:`Accelerator`; a field that is missing takes its default.

        Columns of one length give N machines; arrays of several axes (those of a :class:`Grid`) all combinations.
        """
        f, lawful = _fields(columns)
        rows, cols, bits = f["rows"], f["cols"], f["weight_bits"]
        holds_sums = f["dataflow"] == "os"
        f["min_weight_bits"] = np.where(f["min_weight_bits"] == bits, 0, f["min_weight_bits"])
        f["accumulator_kib"] = _harmless(~holds_sums, f["accumulator_kib"], 0.0)
        even = np.maximum(rows, cols) % np.minimum(rows, cols) == 0
        cols = f["cols"] = _harmless(even, cols, rows)
        lanes = np.maximum(rows, cols)
        word = lanes * bits
        per_cycle = f["bandwidth_gb_s"] * 8000.0 / f["frequency_mhz"]
        covered = np.int64(1) << np.clip(np.frexp(per_cycle)[1] - 1, 0, 10).astype(np.int64)
        bus = np.minimum(covered, word & -word)
        words = {
            "activation": word,
            "weight": cols * bits,
            "accumulator": cols * f["acc_bits"],
            "instruction": np.full_like(rows, INSTRUCTION_BITS),
        }
        lawful = lawful & even & (word % 8 == 0) & (per_cycle >= 8)
        capacity, depth = {}, {}
        for name in MEMORIES:
            # what is no number or beyond any memory becomes a capacity that breaks the law
            bit = np.fmax(0.0, np.fmin(f[f"{name}_kib"] * BIT_PER_KIB, 2.0**40)).astype(np.int64)
            depth[name] = bit // words[name]
            fits = (depth[name] >= 2) & (depth[name] <= 1 << ADDRESS_BITS)
            capacity[name] = _harmless(fits, bit, 2 * words[name])
            lawful = lawful & (fits | holds_sums if name == "accumulator" else fits)
        return cls(
            **f,
            holds_sums=holds_sums,
            lanes=lanes,
            bus_bits=bus,
            activation_beats=word // bus,
            weight_beats=-(-cols * bits // bus),
            quant_rows=-(-(f["acc_bits"] + MULTIPLIER_BITS + SHIFT_BITS) // bits),
            capacity_bit=capacity,
            word_bit=words,
            depth=depth,
            lawful=lawful,
        )


def _harmless(lawful: Array, values: Array, instead: Any) -> Array:
    """``values``, and ``instead`` where they break a law: so that the arithmetic behind is defined everywhere."""
    return values if lawful.all() else np.where(lawful, values, instead)


def _fields(columns: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """(all fields as arrays, made harmless; where each of them keeps its own law).

    Raises:
        InvalidInputError: a column is no field.
    """
    unknown = sorted(set(columns) - set(FIELDS))
    if unknown:
        raise InvalidInputError(f"columns are fields of an Accelerator ({', '.join(FIELDS)}), but got {unknown}")
    f: dict[str, Array] = {}
    for name in FIELDS:
        values = np.asarray(columns.get(name, 0 if name == "acc_bits" else getattr(_DEFAULTS, name)))
        f[name] = values.astype(str if name == "dataflow" else np.int64 if name in WHOLE else np.float64)
    shape = np.broadcast_shapes((1,), *(values.shape for values in f.values()))
    if len(shape) == 1:
        f = {name: np.broadcast_to(values, shape) for name, values in f.items()}
    else:
        f = {name: values.reshape((1,) * (len(shape) - values.ndim) + values.shape) for name, values in f.items()}
    # what no law knows counts as the default width
    needed = np.choose(np.isin(f["weight_bits"], 16), (ACC_BITS[_DEFAULTS.weight_bits], ACC_BITS[16]))
    f["acc_bits"] = np.where(f["acc_bits"] == 0, needed, f["acc_bits"])
    laws = {
        "rows": (f["rows"] >= 1) & (f["rows"] <= 256),
        "cols": (f["cols"] >= 1) & (f["cols"] <= 256),
        "dataflow": np.isin(f["dataflow"], DATAFLOWS),
        "weight_bits": np.isin(f["weight_bits"], DATA_BITS),
        "acc_bits": f["acc_bits"] == needed,
        "min_weight_bits": np.isin(f["min_weight_bits"], (0, *STORED_BITS))
        & (f["min_weight_bits"] <= f["weight_bits"]),
        "memory_latency": (f["memory_latency"] >= 0) & (f["memory_latency"] <= MOST_LATENCY),
        "bandwidth_gb_s": (f["bandwidth_gb_s"] > 0) & (f["bandwidth_gb_s"] <= LARGEST),
    }
    for name, (low, high) in (("frequency_mhz", FREQUENCY_MHZ), ("node_nm", NODE_NM)):
        laws[name] = (f[name] >= low) & (f[name] <= high)
    lawful = np.ones((1,) * len(shape), dtype=bool)
    for name, kept in laws.items():
        f[name] = _harmless(kept, f[name], needed if name == "acc_bits" else getattr(_DEFAULTS, name))
        lawful = lawful & kept
    return f, lawful
