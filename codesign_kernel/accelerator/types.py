"""Accelerator and MemoryLevel: one machine as plain numbers."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import BIT_PER_KIB

DATAFLOWS = ("ws", "os")
#: Width of a partial sum by that of weights and activations (bit): at least 2^15 products fit, whatever their values.
ACC_BITS = {4: 32, 8: 32, 16: 48}
DATA_BITS = tuple(ACC_BITS)
#: Widths in which weights can be stored (bit), at most that of the machine.
STORED_BITS = (2, 4, 8, 16)
#: The requantiser's parameters of one output channel are a bias (acc_bits), a multiplier and a shift.
MULTIPLIER_BITS = 16
SHIFT_BITS = 8
INSTRUCTION_BITS = 224
#: Width of an on-chip address in an instruction: no memory has more words than this reaches.
ADDRESS_BITS = 18
#: Clock range that the model accepts (MHz), and nodes between which the technology tables interpolate (nm).
FREQUENCY_MHZ = (1.0, 5000.0)
NODE_NM = (7.0, 45.0)
#: No memory (KiB) and no bandwidth (GB/s) is larger; far below where arithmetic overflows.
LARGEST = 1e9
#: No external memory is slower (cycles); a DRAM behind a network on chip takes some hundreds.
MOST_LATENCY = 1000


def _is_number(value: Any) -> bool:
    """A real number of Python's or numpy's."""
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class MemoryLevel:
    """One memory of the machine. Widths and capacities in bit, areas in µm², energies in pJ/bit."""

    name: str
    capacity_bit: int
    word_bit: int
    operands: tuple[str, ...]

    @property
    def depth(self) -> int:
        """Words."""
        return self.capacity_bit // self.word_bit


@dataclass(frozen=True)
class Accelerator(Shown):
    """A systolic-array accelerator of the template that :func:`codesign_kernel.generate_rtl` builds.

    Attributes:
        rows, cols: processing elements along the reduction and along the output channels; the larger is a multiple of
            the smaller. In an output-stationary array rows take as many channels a tap, and hold positions.
        dataflow: ``"ws"``, weight stationary, or ``"os"``, output stationary.
        weight_bits: width of weights and activations (bit): 4, 8 or 16.
        acc_bits: width of partial sums (bit): 32, or 48 for 16-bit operands. 0 takes what ``weight_bits`` needs.
        activation_kib, weight_kib, accumulator_kib, instruction_kib: the on-chip memories (KiB). Weights' memory also
            holds the requantiser's parameters. An output-stationary array holds its sums itself: it has no
            accumulators, and ``accumulator_kib`` becomes 0.
        bandwidth_gb_s: of the external memory (10^9 byte a second).
        frequency_mhz: clock.
        node_nm: process node, between 7 and 45 nm.
        memory_latency: cycles from a request to the external memory to its first word, beyond those of a synchronous
            memory, and from the last word written to the answer that it has arrived: 0 to 1000. The sources of the
            hardware do not depend on it.
        min_weight_bits: the narrowest weights that the weight memory can hold packed (bit): 2, 4 or 8, below
            ``weight_bits``; 0, and ``weight_bits`` itself, which becomes 0: all are stored with ``weight_bits``. A
            layer of narrower weights is stored with :meth:`stored_bits`, so many rows of them in one word of the
            memory; behind it they are extended to ``weight_bits``.
        name: for people; it does not change the hardware.
    """

    rows: int
    cols: int
    dataflow: str = "ws"
    weight_bits: int = 8
    acc_bits: int = 0
    activation_kib: float = 16.0
    weight_kib: float = 64.0
    accumulator_kib: float = 8.0
    instruction_kib: float = 16.0
    bandwidth_gb_s: float = 3.2
    frequency_mhz: float = 200.0
    node_nm: float = 28.0
    memory_latency: int = 0
    min_weight_bits: int = 0
    name: str = ""

    @classmethod
    def systolic(
        cls,
        rows: int,
        cols: int,
        dataflow: str = "ws",
        weight_bits: int = 8,
        *,
        acc_bits: int = 0,
        activation_kib: float = 16.0,
        weight_kib: float = 64.0,
        accumulator_kib: float = 8.0,
        instruction_kib: float = 16.0,
        bandwidth_gb_s: float = 3.2,
        frequency_mhz: float = 200.0,
        node_nm: float = 28.0,
        memory_latency: int = 0,
        min_weight_bits: int = 0,
        name: str = "",
    ) -> Accelerator:
        """A systolic array with its buffers; see the class for the arguments and their units.

        Raises:
            InvalidInputError: a value breaks a law; the message says which, and what would do.
        """
        return cls(
            rows, cols, dataflow, weight_bits, acc_bits, activation_kib, weight_kib, accumulator_kib, instruction_kib,
            bandwidth_gb_s, frequency_mhz, node_nm, memory_latency, min_weight_bits, name,
        )  # fmt: skip

    def __post_init__(self) -> None:
        for name in WHOLE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InvalidInputError(f"{name} is an integer, but got {value!r}")
            object.__setattr__(self, name, int(value))  # numpy's integers too
        for name in ("rows", "cols"):
            if not 1 <= getattr(self, name) <= 256:
                raise InvalidInputError(f"{name} is an integer of 1 to 256, but got {getattr(self, name)!r}")
        if not 0 <= self.memory_latency <= MOST_LATENCY:
            raise InvalidInputError(
                f"memory_latency is an integer of 0 to {MOST_LATENCY} cycles, but got {self.memory_latency!r}"
            )
        if not isinstance(self.name, str):
            raise InvalidInputError(f"name is a text, but got {self.name!r}")
        if max(self.rows, self.cols) % min(self.rows, self.cols):
            raise InvalidInputError(
                f"the longer side of the array is a multiple of the shorter, but got rows = {self.rows}, "
                f"cols = {self.cols}; the activation memory is banked by the shorter side"
            )
        if self.dataflow not in DATAFLOWS:
            raise InvalidInputError(f"dataflow is one of {', '.join(map(repr, DATAFLOWS))}, but got {self.dataflow!r}")
        if self.weight_bits not in DATA_BITS:
            raise InvalidInputError(f"weight_bits is one of {DATA_BITS}, but got {self.weight_bits!r}")
        legal = tuple(bits for bits in (0, *STORED_BITS) if bits <= self.weight_bits)
        if self.min_weight_bits not in legal:
            raise InvalidInputError(
                f"min_weight_bits is one of {legal} for weight_bits = {self.weight_bits}, but got "
                f"{self.min_weight_bits!r}; 0 stores all weights with weight_bits"
            )
        if self.min_weight_bits == self.weight_bits:  # one machine, with one digest
            object.__setattr__(self, "min_weight_bits", 0)
        needed = ACC_BITS[self.weight_bits]
        object.__setattr__(self, "acc_bits", self.acc_bits or needed)
        if self.acc_bits != needed:
            raise InvalidInputError(
                f"acc_bits is {needed} for weight_bits = {self.weight_bits}, but got {self.acc_bits!r}; leave it out"
            )
        for name in REAL:
            value = getattr(self, name)
            absent = name == "accumulator_kib" and self.dataflow == "os"
            if absent:
                value = 0.0
            elif not _is_number(value) or not 0 < value <= LARGEST:
                raise InvalidInputError(f"{name} is a number above 0 and at most {LARGEST:g}, but got {value!r}")
            object.__setattr__(self, name, float(value))  # 16 and 16.0 are one machine, with one digest
        for name, (low, high) in (("frequency_mhz", FREQUENCY_MHZ), ("node_nm", NODE_NM)):
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(f"{name} lies between {low:g} and {high:g}, but got {getattr(self, name)!r}")
        if self.word_bits % 8:
            raise InvalidInputError(
                f"a word of the activation memory is a whole number of bytes, but {self.lanes} lanes of "
                f"{self.weight_bits} bits are not; use an even number of lanes or more weight_bits"
            )
        if self.bits_per_cycle < 8:
            # the next round number, and the one after it where the quotient rounds to just below 8 bits
            enough = [math.ceil(self.frequency_mhz + more) / 1000 for more in (0, 1)]
            raise InvalidInputError(
                f"the external memory delivers at least 8 bits a cycle, but {self.bandwidth_gb_s:g} GB/s at "
                f"{self.frequency_mhz:g} MHz are {self.bits_per_cycle:.3g}; raise bandwidth_gb_s to "
                f"{next(g for g in enough if g * 8000.0 / self.frequency_mhz >= 8):.15g} or lower frequency_mhz"
            )
        self._check_memories()

    def _check_memories(self) -> None:
        """Every memory holds two words, and no more than an instruction can address."""
        for level in self.memories:
            if level.depth < 2:
                raise InvalidInputError(
                    f"the {level.name} memory holds at least two words of {level.word_bit} bits, but has "
                    f"{level.capacity_bit} bits; make it at least {2 * level.word_bit / BIT_PER_KIB:.15g} KiB"
                )
            if level.depth > 1 << ADDRESS_BITS:
                raise InvalidInputError(
                    f"the {level.name} memory holds at most {1 << ADDRESS_BITS} words, but "
                    f"{level.capacity_bit / BIT_PER_KIB:g} KiB in words of {level.word_bit} bits are {level.depth}; "
                    f"make it at most {(1 << ADDRESS_BITS) * level.word_bit / BIT_PER_KIB:g} KiB"
                )

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.rows * self.cols

    @property
    def lanes(self) -> int:
        """Channels in one word of the activation memory: the longer side of the array."""
        return max(self.rows, self.cols)

    @property
    def bits_per_cycle(self) -> float:
        """What the external memory could deliver in one clock (bit)."""
        return self.bandwidth_gb_s * 8000.0 / self.frequency_mhz

    @property
    def word_bits(self) -> int:
        """Width of one word of the activation memory (bit)."""
        return self.lanes * self.weight_bits

    @property
    def bus_bits(self) -> int:
        """Width of the external data bus (bit): a power of two, as in AXI, no wider than ``bits_per_cycle``.

        It divides a word of the activation memory; what the memory could deliver beyond it is not used.
        """
        covered = 1 << (math.frexp(min(self.bits_per_cycle, 1024.0))[1] - 1)
        return min(covered, self.word_bits & -self.word_bits)

    @property
    def activation_beats(self) -> int:
        """Bus cycles for one word of the activation memory."""
        return self.word_bits // self.bus_bits

    @property
    def weight_beats(self) -> int:
        """Bus cycles for one row of the weight memory."""
        return -(-self.cols * self.weight_bits // self.bus_bits)

    @property
    def quant_rows(self) -> int:
        """Rows of the weight memory that hold the requantiser's parameters of ``cols`` output channels."""
        return -(-(self.acc_bits + MULTIPLIER_BITS + SHIFT_BITS) // self.weight_bits)

    @property
    def most_per_word(self) -> int:
        """Rows of the narrowest weights in one word of the weight memory: 1 where all have one width."""
        return self.weight_bits // (self.min_weight_bits or self.weight_bits)

    def stored_bits(self, layer_bits: int) -> int:
        """Width (bit) in which weights of ``layer_bits`` are stored: the next power of two within the machine's."""
        needed = 1 << max(layer_bits - 1, 0).bit_length()
        return min(self.weight_bits, max(needed, self.min_weight_bits or self.weight_bits))

    @property
    def memories(self) -> tuple[MemoryLevel, ...]:
        """The on-chip memories."""
        levels = (
            MemoryLevel("activation", int(self.activation_kib * BIT_PER_KIB), self.word_bits, ("I", "O")),
            MemoryLevel("weight", int(self.weight_kib * BIT_PER_KIB), self.cols * self.weight_bits, ("W",)),
            MemoryLevel("accumulator", int(self.accumulator_kib * BIT_PER_KIB), self.cols * self.acc_bits, ("O",)),
            MemoryLevel("instruction", int(self.instruction_kib * BIT_PER_KIB), INSTRUCTION_BITS, ()),
        )
        return tuple(level for level in levels if self.dataflow == "ws" or level.name != "accumulator")

    def memory(self, name: str) -> MemoryLevel:
        """The memory called ``name``."""
        return next(level for level in self.memories if level.name == name)

    @property
    def digest(self) -> str:
        """sha256 over everything that changes the machine (the name does not).

        ``min_weight_bits`` counts where there is one, so that machines without keep their digests.
        """
        body = {
            key: value for key, value in asdict(self).items() if key != "name" and (value or key != "min_weight_bits")
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    @property
    def peak_macs_per_s(self) -> float:
        """Peak rate: every PE busy every cycle (MAC/s)."""
        return self.pes * self.frequency_mhz * 1e6

    def __str__(self) -> str:
        late = f", {self.memory_latency} cycles late" if self.memory_latency else ""
        accumulators = f"{self.accumulator_kib:g} KiB accumulators, " if self.accumulator_kib else ""
        narrow = f" (weights from int{self.min_weight_bits})" if self.min_weight_bits else ""
        return (
            f"{self.rows}x{self.cols} {self.dataflow} int{self.weight_bits}{narrow}, "
            f"{self.activation_kib:g} KiB activations, "
            f"{self.weight_kib:g} KiB weights, {accumulators}{self.bandwidth_gb_s:g} GB/s{late}, "
            f"{self.frequency_mhz:g} MHz, {self.node_nm:g} nm"
        )


#: Names of the fields that change the machine, in order; a batch of accelerators is one array for each.
FIELDS = tuple(f.name for f in fields(Accelerator) if f.name != "name")
#: Those that count things, and the other numbers.
WHOLE = ("rows", "cols", "weight_bits", "acc_bits", "memory_latency", "min_weight_bits")
REAL = tuple(name for name in FIELDS if name not in (*WHOLE, "dataflow"))
