"""Many accelerators at once: one array a field, with the sizes that :class:`Accelerator` derives, derived alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import (
    ADDRESS_BITS,
    DATA_BITS,
    FIELDS,
    FREQUENCY_MHZ,
    INSTRUCTION_BITS,
    MULTIPLIER_BITS,
    NODE_NM,
    SHIFT_BITS,
    Accelerator,
)
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import BIT_PER_KIB

Array = np.ndarray[Any, Any]
MEMORIES = ("activation", "weight", "accumulator", "instruction")
_DEFAULTS = Accelerator(1, 1)


@dataclass(frozen=True)
class Machines:
    """N accelerators as arrays of length N; every attribute is what :class:`Accelerator` says of one of them.

    ``lawful`` is false where :class:`Accelerator` would refuse the values; the other attributes mean nothing there.
    """

    rows: Array
    cols: Array
    weight_bits: Array
    acc_bits: Array
    activation_kib: Array
    weight_kib: Array
    accumulator_kib: Array
    instruction_kib: Array
    bandwidth_gb_s: Array
    frequency_mhz: Array
    node_nm: Array
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
        return len(self.rows)

    @classmethod
    def of(cls, accelerators: Iterable[Accelerator]) -> Machines:
        """The machines of a list of accelerators."""
        machines = list(accelerators)
        return cls.from_columns({name: np.array([getattr(m, name) for m in machines]) for name in FIELDS})

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Machines:
        """Arrays by field name of :class:`Accelerator`; a field that is missing takes its default."""
        unknown = sorted(set(columns) - set(FIELDS))
        if unknown:
            raise InvalidInputError(f"columns are fields of an Accelerator ({', '.join(FIELDS)}), but got {unknown}")
        given = {name: np.atleast_1d(np.asarray(columns.get(name, getattr(_DEFAULTS, name)))) for name in FIELDS}
        size = max(len(values) for values in given.values())
        whole = ("rows", "cols", "weight_bits", "acc_bits")
        f: dict[str, Any] = {
            n: np.broadcast_to(v.astype(np.int64 if n in whole else np.float64), size) for n, v in given.items()
        }
        # values that break a law are replaced by harmless ones, so that the arithmetic below is defined everywhere
        lawful = (
            np.isin(f["weight_bits"], DATA_BITS) & (f["acc_bits"] == _DEFAULTS.acc_bits) & (f["bandwidth_gb_s"] > 0)
        )
        for name in ("rows", "cols"):
            lawful &= (f[name] >= 1) & (f[name] <= 256)
        for name, (low, high) in (("frequency_mhz", FREQUENCY_MHZ), ("node_nm", NODE_NM)):
            lawful &= (f[name] >= low) & (f[name] <= high)
        f = {name: np.where(lawful, values, getattr(_DEFAULTS, name)) for name, values in f.items()}
        rows, cols, bits = f["rows"], f["cols"], f["weight_bits"]
        lanes = np.maximum(rows, cols)
        word = lanes * bits
        per_cycle = f["bandwidth_gb_s"] * 8000.0 / f["frequency_mhz"]
        covered = np.int64(1) << np.clip(np.frexp(per_cycle)[1] - 1, 0, 10).astype(np.int64)
        bus = np.minimum(np.minimum(covered, 1024), word & -word)
        capacity = {name: (f[f"{name}_kib"] * BIT_PER_KIB).astype(np.int64) for name in MEMORIES}
        words = {
            "activation": word,
            "weight": cols * bits,
            "accumulator": cols * f["acc_bits"],
            "instruction": np.full(size, INSTRUCTION_BITS),
        }
        depth = {name: capacity[name] // words[name] for name in MEMORIES}
        lawful &= (lanes % np.minimum(rows, cols) == 0) & (word % 8 == 0) & (per_cycle >= 8)
        for name in MEMORIES:
            lawful &= (depth[name] >= 2) & (depth[name] <= 1 << ADDRESS_BITS)
        return cls(
            **f,
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
