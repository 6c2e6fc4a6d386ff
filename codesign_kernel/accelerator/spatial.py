"""SpatialArray: a machine described freely, to estimate; :class:`Accelerator` is what is generated and proven."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import FIELDS, FREQUENCY_MHZ, LARGEST, NODE_NM, MemoryLevel
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import BIT_PER_KIB

Array = np.ndarray[Any, Any]
DATAFLOWS = ("ws", "os", "is")
OPERANDS = {"input": "I", "weight": "W", "output": "O"}
#: Dataflow -> the side of the array along which each operand enters or leaves.
SIDES = {
    "ws": {"input": "rows", "weight": "cols", "output": "cols"},
    "os": {"input": "rows", "weight": "cols", "output": "cols"},
    "is": {"input": "cols", "weight": "rows", "output": "cols"},
}
#: Largest array side, register file, burst and vector unit: beyond what anybody built, below where counts lose digits.
LIMITS = {
    "rows": (1, 4096), "cols": (1, 4096), "weight_bits": (2, 32), "input_bits": (2, 32), "output_bits": (2, 32),
    "acc_bits": (8, 64), "register_words": (1, 256), "burst_bytes": (1, 65536), "vector_lanes": (1, 65536),
}  # fmt: skip
SWITCHES = ("overlap", "im2col", "double_buffered", "duplex")
_BUFFERS = ("input_kib", "weight_kib", "output_kib", "shared_kib")


@dataclass(frozen=True)
class SpatialArray(Shown):
    """A spatial array between buffers and DRAM. ``docs/mapping.md`` says what its layers cost.

    Attributes:
        rows, cols: processing elements.
        dataflow: what stays in the PEs: ``"ws"`` weights, ``"os"`` outputs, ``"is"`` inputs.
        overlap: the next fold's stationary operand moves in, and sums move out, behind the stream.
        im2col: the taps of a filter are packed on the array together with the channels.
        weight_bits, input_bits, output_bits, acc_bits: widths of the operands and of partial sums (bit).
        input_kib, weight_kib, output_kib: separate buffers; or shared_kib: one for all three, and those are 0 (KiB).
        double_buffered: the next tile moves while one is computed; else they take turns.
        register_words: stationary words that a PE holds, 1 to 256 (more is a memory, with another energy a bit).
        bandwidth_gb_s, burst_bytes: of the DRAM (10^9 byte a second); it moves whole bursts.
        duplex: reads and writes do not share the DRAM's bus.
        dram: its kind, which sets the energy of a bit.
        vector_lanes: operations a cycle of the unit for everything that is no product.
        frequency_mhz, node_nm: clock, process node (7 to 45 nm).
        name, source: for people; they do not change the machine.
    """

    rows: int = 16
    cols: int = 16
    dataflow: str = "ws"
    overlap: bool = True
    im2col: bool = True
    weight_bits: int = 8
    input_bits: int = 8
    output_bits: int = 8
    acc_bits: int = 32
    input_kib: float = 64.0
    weight_kib: float = 64.0
    output_kib: float = 64.0
    shared_kib: float = 0.0
    double_buffered: bool = True
    register_words: int = 1
    bandwidth_gb_s: float = 12.8
    burst_bytes: int = 64
    duplex: bool = False
    dram: str = "LPDDR4"
    vector_lanes: int = 16
    frequency_mhz: float = 500.0
    node_nm: float = 28.0
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.shared_kib and (self.input_kib, self.weight_kib, self.output_kib) == (64.0, 64.0, 64.0):
            for name in _BUFFERS[:3]:  # nobody asked for separate buffers
                object.__setattr__(self, name, 0.0)
        self._check_numbers()
        if self.dataflow not in DATAFLOWS:
            raise InvalidInputError(f"dataflow is one of {', '.join(map(repr, DATAFLOWS))}, but got {self.dataflow!r}")
        for name in ("dram", "name", "source"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInputError(f"{name} is a text, but got {getattr(self, name)!r}")
        least = max(self.output_bits, self.weight_bits + self.input_bits)
        if self.acc_bits < least:
            raise InvalidInputError(
                f"partial sums hold a product and a result, but acc_bits = {self.acc_bits} is less than {least}, the "
                "larger of output_bits and weight_bits + input_bits; widen acc_bits"
            )
        separate = [getattr(self, name) > 0 for name in _BUFFERS[:3]]
        if not (all(separate) and not self.shared_kib) and not (self.shared_kib and not any(separate)):
            raise InvalidInputError(
                "a machine has three buffers (input_kib, weight_kib, output_kib) or one (shared_kib, the three being "
                f"0), but got {', '.join(f'{name} = {getattr(self, name):g}' for name in _BUFFERS)}"
            )
        for level in self.memories:
            if level.depth < 1:
                raise InvalidInputError(
                    f"the {level.name} buffer holds at least one word of {level.word_bit} bits, but has "
                    f"{level.capacity_bit} bits; make it at least {level.word_bit / BIT_PER_KIB:.15g} KiB"
                )

    def _check_numbers(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
                raise InvalidInputError(f"{name} is an integer of {low} to {high}, but got {value!r}")
            object.__setattr__(self, name, int(value))
        for name in SWITCHES:
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_) and value not in (0, 1):
                raise InvalidInputError(f"{name} is True or False, but got {value!r}")
            object.__setattr__(self, name, bool(value))
        ranges: dict[str, tuple[float, float]] = {
            **dict.fromkeys(_BUFFERS, (0.0, LARGEST)),
            "bandwidth_gb_s": (1e-6, LARGEST),
            "frequency_mhz": FREQUENCY_MHZ,
            "node_nm": NODE_NM,
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not isinstance(value, Real) or isinstance(value, bool) or not least <= float(value) <= most:
                raise InvalidInputError(f"{name} is a number from {least:g} to {most:g}, but got {value!r}")
            object.__setattr__(self, name, float(value))

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.rows * self.cols

    @property
    def bits_per_cycle(self) -> float:
        """What DRAM delivers in one clock (bit)."""
        return self.bandwidth_gb_s * 8000.0 / self.frequency_mhz

    @property
    def peak_macs_per_s(self) -> float:
        """Every PE busy every cycle (MAC/s)."""
        return self.pes * self.frequency_mhz * 1e6

    @property
    def memories(self) -> tuple[MemoryLevel, ...]:
        """The buffers; a word is what the array takes or gives in a cycle."""
        widths = {name: int(bits) for name, bits in buffer_words(self).items()}
        if self.shared_kib:
            return (MemoryLevel("shared", int(self.shared_kib * BIT_PER_KIB), widths["shared"], ("W", "I", "O")),)
        return tuple(
            MemoryLevel(name, int(getattr(self, f"{name}_kib") * BIT_PER_KIB), widths[name], (operand,))
            for name, operand in OPERANDS.items()
        )

    @property
    def digest(self) -> str:
        """sha256 over everything that changes the machine (name and source do not)."""
        body = {key: value for key, value in asdict(self).items() if key not in ("name", "source")}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        buffers = ", ".join(f"{level.capacity_bit / BIT_PER_KIB:g} KiB {level.name}" for level in self.memories)
        named = f"{self.name}: " if self.name else ""
        return (
            f"{named}{self.rows}x{self.cols} {self.dataflow} int{self.weight_bits}, {buffers}, "
            f"{self.bandwidth_gb_s:g} GB/s, {self.frequency_mhz:g} MHz, {self.node_nm:g} nm"
        )


def buffer_words(machine: Any) -> dict[str, Any]:
    """Widths of the buffers' words (bit): what the array takes or gives in a cycle. Numbers or arrays.

    The streaming operand enters along the rows or the columns, and the stationary one along the columns.
    """
    flow = machine.dataflow
    if isinstance(flow, str):
        sides = {name: getattr(machine, side) for name, side in SIDES[flow].items()}
    else:
        inputs = np.where(flow == DATAFLOWS.index("is"), machine.cols, machine.rows)
        weights = np.where(flow == DATAFLOWS.index("is"), machine.rows, machine.cols)
        sides = {"input": inputs, "weight": weights, "output": machine.cols}
    words = {
        "input": sides["input"] * machine.input_bits,
        "weight": sides["weight"] * machine.weight_bits,
        "output": sides["output"] * machine.acc_bits,
    }
    return {**words, "shared": np.maximum(np.maximum(words["input"], words["weight"]), words["output"])}


#: Fields that a batch has as arrays, in order: everything but the texts; ``dataflow`` as its place in ``DATAFLOWS``.
SPATIAL_FIELDS = tuple(f.name for f in fields(SpatialArray) if f.name not in ("name", "source", "dram"))


def spatial_only(names: Container[str]) -> bool:
    """Whether one of these parameters is one that only a :class:`SpatialArray` has."""
    return any(name in names for name in SPATIAL_FIELDS if name not in FIELDS)  # a row of a table iterates its values


@dataclass(frozen=True)
class SpatialArrays:
    """N machines as arrays of length N, one for each of ``SPATIAL_FIELDS``, all with one kind of DRAM.

    ``lawful`` is false where :class:`SpatialArray` would refuse the values.
    """

    columns: Mapping[str, Array]
    dram: str
    lawful: Array

    def __len__(self) -> int:
        return len(self.lawful)

    def __getattr__(self, name: str) -> Array:
        if name.startswith("_") or name not in self.__dict__.get("columns", {}):
            raise AttributeError(name)
        column: Array = self.columns[name]
        return column

    @cached_property
    def bits_per_cycle(self) -> Array:
        """What DRAM delivers in one clock (bit)."""
        per_cycle: Array = self.columns["bandwidth_gb_s"] * 8000.0 / self.columns["frequency_mhz"]
        return per_cycle

    @cached_property
    def capacity_bit(self) -> dict[str, Array]:
        """Of each buffer (bit); 0 for one that a machine has not."""
        return {name: (self.columns[f"{name}_kib"] * BIT_PER_KIB).astype(np.int64) for name in (*OPERANDS, "shared")}

    def of_some(self, members: Array) -> SpatialArrays:
        """Some of the machines."""
        columns = {name: values[members] for name, values in self.columns.items()}
        return SpatialArrays(columns, self.dram, self.lawful[members])

    @classmethod
    def of(cls, machines: list[SpatialArray]) -> SpatialArrays:
        """The machines of a list.

        Raises:
            InvalidInputError: there is none, or they have different kinds of DRAM.
        """
        kinds = {machine.dram for machine in machines}
        if len(kinds) != 1:
            raise InvalidInputError(f"a batch has machines with one kind of DRAM, but got {sorted(kinds)}")
        columns = {name: [getattr(machine, name) for machine in machines] for name in SPATIAL_FIELDS}
        return cls.from_columns(columns, dram=kinds.pop())

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], dram: str = "LPDDR4") -> SpatialArrays:
        """Numbers or arrays by field of :class:`SpatialArray`; a field that is missing takes its default.

        ``dataflow`` is texts, or numbers: places in ``DATAFLOWS``.

        Raises:
            InvalidInputError: a column is no field, or holds what is no number.
        """
        unknown = sorted(set(columns) - set(SPATIAL_FIELDS))
        if unknown:
            raise InvalidInputError(
                f"columns are fields of a SpatialArray ({', '.join(SPATIAL_FIELDS)}), but got {unknown}"
            )
        found: dict[str, Array] = {}
        for name in SPATIAL_FIELDS:
            values = np.asarray(columns.get(name, _default(name, columns)))
            if name == "dataflow" and values.dtype.kind in "UO":
                values = _codes(values)
            if values.dtype.kind not in "iufb":
                raise InvalidInputError(f"{name} is a column of numbers, but got {values.dtype}")
            found[name] = values
        found = dict(zip(found, np.broadcast_arrays(*(np.atleast_1d(v) for v in found.values())), strict=True))
        return cls._checked(found, dram)

    @classmethod
    def _checked(cls, found: dict[str, Array], dram: str) -> SpatialArrays:
        lawful = np.ones(len(found["rows"]), dtype=bool)
        laws = {
            **LIMITS, **dict.fromkeys(SWITCHES, (0, 1)), "dataflow": (0, len(DATAFLOWS) - 1),
            **dict.fromkeys(_BUFFERS, (0.0, LARGEST)), "bandwidth_gb_s": (1e-6, LARGEST),
            "frequency_mhz": FREQUENCY_MHZ, "node_nm": NODE_NM,
        }  # fmt: skip
        for name, (low, high) in laws.items():
            values = found[name]
            kept = (values >= low) & (values <= high)
            kept &= (values == np.floor(values)) if name in LIMITS or name == "dataflow" else True
            lawful &= kept
            harmless = _default(name, {})
            values = values if kept.all() else np.where(kept, values, harmless)
            whole = name in LIMITS or name in SWITCHES or name == "dataflow"
            found[name] = values.astype(np.int64 if whole else np.float64)
        machines = cls(found, dram, lawful)
        separate = [machines.columns[f"{name}_kib"] > 0 for name in OPERANDS]
        shared = machines.columns["shared_kib"] > 0
        three, none = separate[0] & separate[1] & separate[2], ~(separate[0] | separate[1] | separate[2])
        holds = np.ones(len(machines), dtype=bool)
        words = buffer_words(machines)
        for name, capacity in machines.capacity_bit.items():
            holds &= (capacity >= words[name]) | (machines.columns[f"{name}_kib"] == 0)
        operands = machines.columns["weight_bits"] + machines.columns["input_bits"]
        holds &= machines.columns["acc_bits"] >= np.maximum(machines.columns["output_bits"], operands)
        return cls(found, dram, lawful & np.where(shared, none, three) & holds)


def _default(name: str, columns: Mapping[str, Any]) -> Any:
    """The default of a field; separate buffers are absent where a shared one is asked for."""
    if name == "dataflow":
        return 0
    if name in _BUFFERS[:3] and "shared_kib" in columns:
        return np.where(np.asarray(columns["shared_kib"]) > 0, 0.0, getattr(SpatialArray, name))
    return getattr(SpatialArray, name)


def _codes(values: Array) -> Array:
    """Places of dataflows' names in ``DATAFLOWS``; -1 for another text."""
    names, inverse = np.unique(values.astype(str), return_inverse=True)
    places = np.array([DATAFLOWS.index(name) if name in DATAFLOWS else -1 for name in names.tolist()])
    return places[inverse].reshape(values.shape)


def ceil_kib(bits: float) -> str:
    """``bits`` in KiB, rounded up to a hundredth, so that what is suggested suffices."""
    return f"{math.ceil(bits * 100 / BIT_PER_KIB) / 100:.15g}"
