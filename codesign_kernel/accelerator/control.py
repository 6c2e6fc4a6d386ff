"""Area, energy and leakage of what an accelerator has beside its array, lanes and memories: its control.

That is the sequencer with its address walks, the mover, and the registers and multiplexers that words pass between the
memories, the bus and the array. Wires, clock tree and pads are not counted, nor is logic that switches: energy is that
of the registers' clock alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from numbers import Integral
from typing import NamedTuple

from codesign_kernel.accelerator import technology
from codesign_kernel.errors import InvalidInputError

#: MUX2_X1 of the library of ``data/control.json`` (µm²: 1.33 µm x 1.4 µm).
_MUX_UM2 = 1.862
#: Node of the synthesis (nm).
_BASE_NM = 45.0
_BOUNDS = {"rows": (1, 4096), "cols": (1, 4096), "data_bits": (2, 32)}


class Control(NamedTuple):
    """The control of one accelerator: area (µm²), energy of a cycle (pJ), leakage (µW), flip-flops."""

    area_um2: float
    area_low_um2: float
    area_high_um2: float
    clock_pj: float
    leak_uw: float
    flip_flops: int


@lru_cache(maxsize=65536, typed=True)
def control(rows: int, cols: int, data_bits: int, node_nm: float, narrowest_bits: int = 0) -> Control:
    """The control of the template that ``ck.generate_rtl`` builds, without array, lanes and memories.

    Area: synthesis of the generated RTL in NanGate 45 nm, fitted over 14 shapes (``data/control.json``). The
    sequencer is the same for every shape; what grows are registers of a word of sums (``cols`` x 32 bit, or 3 x
    ``data_bits``) and of a word of the activation memory (the longer side x ``data_bits``), and with more columns
    than rows the multiplexers of the banks. Depths of memories and the bus do not count: addresses have one width.
    Other nodes scale with the area of Aladdin's int8 MAC, as :func:`technology.pe` does. The band is the factor by
    which another synthesis script changed the area of a PE (``data/pe.json``), both ways; the fit itself is within
    3.3 %, and within 5.4 % on shapes that it has not seen.

    Clock: registers of Aladdin's table, of those that may change while an instruction runs. The fields of an
    instruction and what arrives from the bus hold, as a PE's weights do; the RTL itself has no clock gating.

    Leakage: that of Aladdin's int8 MAC for the area that is no flip-flop; its registers have none.

    Weights narrower than ``data_bits`` are unpacked behind the weight memory (``narrowest_bits``). The unpacker is
    counted in its cells: for each column and each halving of the width, multiplexers of two inputs that choose a half,
    and as many that keep the upper half or extend the sign, 2 (``data_bits`` - ``narrowest_bits``) in all; and
    registers for the number of a row in its word, for the same a cycle later, and for the last one's.

    Args:
        rows, cols: of the array, 1 to 4096; the fit has seen up to 16.
        data_bits: width of activations, 2 to 32; the fit has seen 4 and 8.
        node_nm: process node, 7 to 45 nm.
        narrowest_bits: width of the narrowest weights that are unpacked, ``data_bits`` halved once or more; 0 without.

    Raises:
        InvalidInputError: a value is out of range.
    """
    for name, value in (("rows", rows), ("cols", cols), ("data_bits", data_bits)):
        low, high = _BOUNDS[name]
        if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
            raise InvalidInputError(
                f"{name} of the control is an integer of {low} to {high}, but got {value!r}; choose one in that range"
            )
    data = technology.table("control")
    word = max(rows, cols) * data_bits
    terms = {
        "constant": 1,
        # sums of the template have 32 bits, or 48 where operands have 16
        "sum_bit": cols * max(32, 3 * data_bits),
        "word_bit": word,
        "beyond_bit": word - rows * data_bits,
        "banked": int(cols > rows),
    }
    base = _sum(data["coefficients_um2"], terms)
    flip_flops, clocked = int(_sum(data["flip_flops"], terms)), _sum(data["clocked"], terms)
    if narrowest_bits:
        halvings = (data_bits // narrowest_bits).bit_length() - 1
        registers = 3 * halvings
        base += cols * 2 * (data_bits - narrowest_bits) * _MUX_UM2 + registers * data["flip_flop_um2"]
        flip_flops, clocked = flip_flops + registers, clocked + 2 * halvings
    # an int8 MAC of Aladdin's set: what areas and leakages of other nodes are taken from
    here, origin = technology.pe(8, 32, node_nm), technology.pe(8, 32, _BASE_NM)
    mac_um2 = technology.table("arithmetic")["aladdin"]["nodes"]["45"]["int8 MAC"][1]
    area = base * here.area_um2 / origin.area_um2
    low, high = technology.table("pe")["script_um2"]
    return Control(
        area_um2=area,
        area_low_um2=area * low / high,
        area_high_um2=area * high / low,
        clock_pj=clocked * technology.register(node_nm).pj,
        leak_uw=(base - flip_flops * data["flip_flop_um2"]) / mac_um2 * here.leak_uw,
        flip_flops=flip_flops,
    )


def _sum(coefficients: Mapping[str, float], terms: Mapping[str, int]) -> float:
    return sum(coefficients[name] * amount for name, amount in terms.items())
