"""Technology tables: energy, area and leakage of memories, processing elements, requantiser lanes and DRAM.

Every number stands, with its source, in a JSON file of ``data/``; the functions here only scale and interpolate. They
are scalar and cached: a batch of designs calls them once for each value that occurs, so a batch equals its scalars bit
by bit.

Between process nodes and between memory sizes all figures are interpolated on log-log axes, and a point of a table
comes back exactly. Nothing is extrapolated over nodes: outside 7 to 45 nm the functions raise.

Bands. Two published sets of arithmetic energies differ 2.4 times (adders) to 4.6 times (multipliers) at 45 nm. ``low``
takes Horowitz, ``high`` takes Aladdin, and the nominal energy is their geometric mean. See :func:`pe` and :func:`lane`
for the bands of the areas. Memories and DRAM come from one source each and carry no band.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from codesign_kernel.accelerator.types import MULTIPLIER_BITS, NODE_NM, SHIFT_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import BIT_PER_KIB

_DATA = Path(__file__).parent / "data"
#: Node of the Horowitz set and of the synthesised PE (nm).
_BASE_NM = 45.0
#: Widths of the macros that memories are built from (bit).
_MACRO_BITS = (64, 128)
#: Operand widths that the scaling rules are used for (bit).
_DATA_RANGE = (2, 32)
_ACC_RANGE = (8, 64)


class Sram(NamedTuple):
    """An on-chip memory: energy of one bit read or written (pJ), area (µm²) and leakage (mW) of the whole memory."""

    read_pj_per_bit: float
    write_pj_per_bit: float
    area_um2: float
    leak_mw: float


class Pe(NamedTuple):
    """A processing element: energy of one MAC and of one clock of its registers (pJ), area (µm²), leakage (µW)."""

    mac_pj_low: float
    mac_pj: float
    mac_pj_high: float
    register_pj: float
    area_um2: float
    area_low_um2: float
    area_high_um2: float
    leak_uw: float


class Register(NamedTuple):
    """One bit of a register: energy of a clock (pJ), area (µm²)."""

    pj: float
    area_um2: float


class Lane(NamedTuple):
    """A requantiser lane: area (µm²), energy of one value through it (pJ), leakage (µW)."""

    area_um2: float
    area_low_um2: float
    area_high_um2: float
    energy_pj_low: float
    energy_pj: float
    energy_pj_high: float
    leak_uw: float


class _Part(NamedTuple):
    """A figure for energy (pJ), area (µm²) and leakage (µW), of one component or of a sum of them."""

    pj: float
    um2: float
    uw: float

    def times(self, factor: float) -> _Part:
        return _Part(self.pj * factor, self.um2 * factor, self.uw * factor)

    def plus(self, other: _Part) -> _Part:
        return _Part(self.pj + other.pj, self.um2 + other.um2, self.uw + other.uw)


@cache
def table(name: str) -> dict[str, Any]:
    """The data file ``name`` (``sram``, ``arithmetic``, ``pe`` or ``dram``) with its sources and cautions as text."""
    data: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))
    return data


@lru_cache(maxsize=65536)
def sram(capacity_bit: int, word_bit: int, node_nm: float) -> Sram:
    """Energy, area and leakage of a single-port memory of ``capacity_bit`` that moves ``word_bit`` a cycle.

    The memory is built from equal macros side by side, each holding its share of the capacity and all active in every
    access: 128 bits wide where the word is a multiple of 128 bits, else 64 bits wide. Columns that a word leaves unused
    are paid for, so a word of 32 bits costs twice the energy a bit of one of 64.

    A macro is interpolated in capacity and node. Below 2 KiB, the smallest of the table, the 2 KiB macro is charged:
    its decoder and sense amplifiers do not shrink any further. Above 4 MiB, the largest, a macro is built from banks of
    4 MiB of which one is active: area and leakage grow in proportion, energy stays; the wires between banks are not
    counted. So energy and area never fall as capacity grows. Leakage is not monotone in the node: see the data file.

    Source: CACTI 7; ``data/sram.json``. Its 128-bit rows exist at 45, 28 and 22 nm; below 22 nm they follow the 64-bit
    rows, which that file says are themselves a scaling of 22 nm.

    Args:
        capacity_bit: whole memory (bit).
        word_bit: bits read or written in one access.
        node_nm: process node, 7 to 45 nm.

    Raises:
        InvalidInputError: a width or capacity that is not a positive integer, a capacity below one word, a node out of
            range.
    """
    word_bit = _integer("word_bit", word_bit, (1, 1 << 20))
    capacity_bit = _integer("capacity_bit", capacity_bit, (word_bit, 1 << 40))
    node_nm = _node(node_nm)
    width = _MACRO_BITS[1] if word_bit % _MACRO_BITS[1] == 0 else _MACRO_BITS[0]
    macros = -(-word_bit // width)
    rows = _macro_rows(width)
    sizes = next(iter(rows.values()))[0]
    kib = capacity_bit / macros / BIT_PER_KIB
    banks = max(1.0, kib / sizes[-1])
    charged = min(max(kib, sizes[0]), sizes[-1])
    read, write, area, leak = (
        _loglog(tuple(rows), [_loglog(columns[0], columns[k], charged) for columns in rows.values()], node_nm)
        for k in range(1, 5)
    )
    return Sram(
        read_pj_per_bit=macros * read / word_bit,
        write_pj_per_bit=macros * write / word_bit,
        area_um2=macros * banks * area * 1e6,
        leak_mw=macros * banks * leak,
    )


def pe_area_um2(data_bits: int, acc_bits: int, library: str = "nangate45") -> float:
    """Cell area (µm²) of a weight-stationary processing element in a standard-cell library.

    The element holds one weight, one activation and one partial sum in registers with enable and synchronous reset, and
    multiplies and adds in one cycle: ``p_out <= p_in + a_in * w_out``, all signed. The generated accelerator's element
    has a second weight, two marks, and neither enable of the sums nor reset, so it is another one.

    Two areas a library, ``register_bit`` and ``adder``, were fitted to syntheses of 3 or 4 widths with yosys 0.70
    (``data/pe.json``, which names RTL, script and corners; ``benchmarks/pe_area.py`` repeats both steps):

        area = register_bit * (2 data + acc) + adder * (data (data - 1) + acc / 2 - dropped)

    The first bracket counts the register bits, the second the adder cells of an array multiplier and, by halves, those
    of the accumulation, whose upper part only passes a carry on. ``dropped = t (t + 1) / 2`` with ``t = 2 data - acc``,
    where that is positive, are the product's bits that no partial sum keeps. The fit is within 2.1 % of its rows, and
    within 4 % of each when it is left out; the data file has what other widths showed. Synthesis itself is no exact
    measure: the order in which yosys sums the products, which follows names, may add up to 30 %. Before layout,
    without sizing.

    Args:
        data_bits: width of weights and activations, 2 to 32; fitted at 4, 8 and 16.
        acc_bits: width of partial sums, 8 to 64, at least ``data_bits``; fitted at 16, 32 and 48.
        library: ``nangate45``, ``asap7``, ``sky130hd``, ``ihp130`` or ``osu018``.

    Raises:
        InvalidInputError: a width is out of range, or there is no such library; the message lists those that there are.
    """
    data_bits, acc_bits = _widths(data_bits, acc_bits)
    libraries = table("pe")["libraries"]
    if not isinstance(library, str) or library not in libraries:
        raise InvalidInputError(
            f"a standard-cell library is one of {', '.join(libraries)}, but got {library!r}; choose one of these, or "
            "fit another with benchmarks/pe_area.py --liberty"
        )
    truncated = max(0, 2 * data_bits - acc_bits)
    registers = 2 * data_bits + acc_bits
    adders = data_bits * (data_bits - 1) + acc_bits / 2 - truncated * (truncated + 1) / 2
    fitted = libraries[library]
    return float(fitted["register_bit_um2"] * registers + fitted["adder_um2"] * adders)


@lru_cache(maxsize=4096)
def pe(data_bits: int, acc_bits: int, node_nm: float) -> Pe:
    """One weight-stationary processing element: a square multiplier, an adder and their registers.

    Energy of a MAC: the multiplier scales with the square of its width, the adder with its width, over the nodes with
    Aladdin's table. ``mac_pj_low`` starts from Horowitz (int8 multiplier 0.2 pJ, int32 adder 0.1 pJ at 45 nm),
    ``mac_pj_high`` from Aladdin; ``mac_pj`` is the geometric mean. ``register_pj`` is the clock of the two pipeline
    registers (activation, partial sum; the weight register holds), from Aladdin: it is paid every cycle, MAC or none.
    The second weight register of the template, and what else moves through the array, come on top in ``cost/``; so does
    the clock of the weights that move through an output-stationary array, whose element has the same parts.
    For comparison, synthesis in NanGate 45 nm and OpenSTA at an assumed activity of 0.5 put the whole 8-bit PE at
    2.19 pJ a cycle, above the upper end here of 1.57 pJ (MAC and registers): half of all nets toggling is pessimistic.

    Area: :func:`pe_area_um2` in NanGate 45 nm, scaled over the nodes with the area of Aladdin's int8 MAC. The band
    covers two kinds of doubt: another synthesis script gave 1274 instead of 993 µm², a factor of 1.28 applied both
    ways; and the published areas of the parts (Horowitz' operators and Aladdin's registers at the low end, Aladdin's
    at the high end). The wider one counts on each side.

    Leakage: Aladdin's multiplier and adder; that table gives registers none.

    Args:
        data_bits: width of weights and activations, 2 to 32.
        acc_bits: width of partial sums, 8 to 64, at least ``data_bits``.
        node_nm: process node, 7 to 45 nm.

    Raises:
        InvalidInputError: a width or the node is out of range.
    """
    data_bits, acc_bits = _widths(data_bits, acc_bits)
    node_nm = _node(node_nm)
    register = _aladdin("register 32b", node_nm).times(1 / 32)
    high = _aladdin_parts(data_bits * data_bits, acc_bits, node_nm)
    low = _horowitz_parts(data_bits * data_bits, acc_bits, node_nm)
    stored_um2 = register.um2 * (2 * data_bits + acc_bits)
    script_low, script_high = table("pe")["script_um2"]
    area = pe_area_um2(data_bits, acc_bits) * _node_ratio(node_nm).um2
    noise = script_high / script_low
    return Pe(
        mac_pj_low=low.pj,
        mac_pj=math.sqrt(low.pj * high.pj),
        mac_pj_high=high.pj,
        register_pj=register.pj * (data_bits + acc_bits),
        area_um2=area,
        area_low_um2=min(area / noise, low.um2 + stored_um2),
        area_high_um2=max(area * noise, high.um2 + stored_um2),
        leak_uw=high.uw,
    )


@lru_cache(maxsize=64)
def register(node_nm: float) -> Register:
    """One bit of a register, from Aladdin's 32-bit one (``data/arithmetic.json``).

    Raises:
        InvalidInputError: the node is out of range.
    """
    bit = _aladdin("register 32b", _node(node_nm)).times(1 / 32)
    return Register(bit.pj, bit.um2)


@lru_cache(maxsize=4096)
def lane(data_bits: int, acc_bits: int, node_nm: float) -> Lane:
    """One requantiser lane: bias adder, ``acc_bits`` x 16 multiplier, rounding adder, registers.

    The rounding adder is ``acc_bits + 17`` wide (49 for 32): the product and a carry. The registers are three clocked
    stages (biased sum, product, result of ``data_bits``) and the held parameters of a channel (bias, multiplier,
    shift); only the clocked ones cost energy. The barrel shifter and the clamp stand in neither table: left out.

    Energy and area: the rules of :func:`pe`, low from Horowitz' operators, high from Aladdin's, both with Aladdin's
    registers, nominal their geometric mean, since no synthesis of a lane is at hand. Leakage: Aladdin.

    Args and errors as for :func:`pe`. Sources: ``data/arithmetic.json``.
    """
    data_bits, acc_bits = _widths(data_bits, acc_bits)
    node_nm = _node(node_nm)
    product_bits = acc_bits + 1 + MULTIPLIER_BITS
    bit = _aladdin("register 32b", node_nm).times(1 / 32)
    clocked = acc_bits + product_bits + data_bits
    held = acc_bits + MULTIPLIER_BITS + SHIFT_BITS
    storage = _Part(bit.pj * clocked, bit.um2 * (clocked + held), bit.uw * (clocked + held))
    low, high = (
        parts(acc_bits * MULTIPLIER_BITS, acc_bits + product_bits, node_nm).plus(storage)
        for parts in (_horowitz_parts, _aladdin_parts)
    )
    return Lane(
        area_um2=math.sqrt(low.um2 * high.um2),
        area_low_um2=low.um2,
        area_high_um2=high.um2,
        energy_pj_low=low.pj,
        energy_pj=math.sqrt(low.pj * high.pj),
        energy_pj_high=high.pj,
        leak_uw=high.uw,
    )


def dram_pj_per_bit(kind: str = "LPDDR4") -> float:
    """Energy of one bit moved between the accelerator and external memory of this ``kind`` (pJ).

    Device and interface together, read and write alike; background and refresh power are not counted. Sources, one a
    kind: ``data/dram.json``.

    Raises:
        InvalidInputError: an unknown kind; the message lists the known ones.
    """
    kinds = table("dram")["pj_per_bit"]
    if kind not in kinds:
        raise InvalidInputError(f"external memory is one of {', '.join(kinds)}, but got {kind!r}; choose one of these")
    return float(kinds[kind]["value"])


def _aladdin_parts(multiplier_area: int, adder_bits: int, node_nm: float) -> _Part:
    """Aladdin's multiplier (operand widths multiplied: bit²) and adders (widths summed: bit) at a node."""
    multiplier = _aladdin("int8 multiplier", node_nm).times(multiplier_area / 64)
    return multiplier.plus(_aladdin("int32 adder", node_nm).times(adder_bits / 32))


def _horowitz_parts(multiplier_area: int, adder_bits: int, node_nm: float) -> _Part:
    """The same parts from Horowitz' 45 nm figures, moved to a node by Aladdin's ratio; that set has no leakage."""
    base, ratio = table("arithmetic")["horowitz_45nm"], _node_ratio(node_nm)
    products, sums = multiplier_area / 64, adder_bits / 32
    energy, area = base["energy_pj"], base["area_um2"]
    return _Part(
        (energy["int8_mult"] * products + energy["int32_add"] * sums) * ratio.pj,
        (area["int8_mult"] * products + area["int32_add"] * sums) * ratio.um2,
        0.0,
    )


def _node_ratio(node_nm: float) -> _Part:
    """What energy and area at 45 nm are multiplied by to get them at ``node_nm``: Aladdin's int8 MAC."""
    here, base = _aladdin("int8 MAC", node_nm), _aladdin("int8 MAC", _BASE_NM)
    return _Part(here.pj / base.pj, here.um2 / base.um2, here.uw / base.uw)


def _aladdin(component: str, node_nm: float) -> _Part:
    """A component of Aladdin's table at a node."""
    nodes: Mapping[str, Any] = table("arithmetic")["aladdin"]["nodes"]
    order = sorted(nodes, key=float)
    xs = [float(node) for node in order]
    return _Part(*(_loglog(xs, [nodes[node][component][k] for node in order], node_nm) for k in range(3)))


@cache
def _macro_rows(width: int) -> dict[float, list[tuple[float, ...]]]:
    """Macros of a width: {node (nm), ascending: columns capacity (KiB), read, write (pJ), area (mm²), leakage (mW)}."""
    macros = table("sram")["macros"]
    narrow, rows = macros[str(_MACRO_BITS[0])], dict(macros[str(width)])
    smallest = min(rows, key=float)
    for node in narrow:
        # below its own smallest node a width follows the ratio of the 64-bit rows, which is one constant a column there
        if float(node) < float(smallest):
            rows[node] = [
                [wide[0], *(w * n / b for w, n, b in zip(wide[1:], here[1:], base[1:], strict=True))]
                for wide, here, base in zip(rows[smallest], narrow[node], narrow[smallest], strict=True)
            ]
    return {float(node): list(zip(*rows[node], strict=True)) for node in sorted(rows, key=float)}


def _loglog(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Straight lines on log-log axes through the points (``xs`` ascending, ``x`` within them); exact on the points."""
    i = bisect_left(xs, x)
    if xs[i] == x:
        return ys[i]
    below, above = ys[i - 1], ys[i]
    if below == above:
        return below
    return below * (above / below) ** (math.log(x / xs[i - 1]) / math.log(xs[i] / xs[i - 1]))


def _widths(data_bits: object, acc_bits: object) -> tuple[int, int]:
    data = _integer("data_bits", data_bits, _DATA_RANGE)
    return data, _integer("acc_bits", acc_bits, (max(_ACC_RANGE[0], data), _ACC_RANGE[1]))


def _integer(name: str, value: object, bounds: tuple[int, int]) -> int:
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InvalidInputError(f"{name} is an integer of {low} to {high}, but got {value!r}; choose one in that range")
    return int(value)


def _node(node_nm: object) -> float:
    low, high = NODE_NM
    if isinstance(node_nm, bool) or not isinstance(node_nm, Real) or not low <= float(node_nm) <= high:
        raise InvalidInputError(
            f"the technology tables cover {low:g} to {high:g} nm, but node_nm is {node_nm!r}; choose a node within"
        )
    return float(node_nm)
