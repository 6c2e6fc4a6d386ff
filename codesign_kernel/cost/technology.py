"""Energy and area of N machines from the technology tables: one look-up for each distinct memory, PE and lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.columns import MEMORIES, Machines
from codesign_kernel.accelerator.control import control
from codesign_kernel.accelerator.isa import PLACE_BITS

Array = np.ndarray[Any, Any]
BANDS = ("low", "nominal", "high")


@dataclass(frozen=True)
class Silicon:
    """Arrays over machines: energies (pJ), areas (µm²) by part and band, leakage (mW).

    ``clock_pj`` is that of the array's registers in one cycle, ``weights_pj`` that of filling the array with weights.
    Memories come from one source (CACTI), so their figure is the same in every band; PEs and lanes from two.
    """

    read_pj_per_bit: dict[str, Array]
    write_pj_per_bit: dict[str, Array]
    mac_pj: dict[str, Array]
    clock_pj: Array
    weights_pj: Array
    lane_pj: dict[str, Array]
    area_um2: dict[str, dict[str, Array]]
    leak_mw: Array


def look_up(function: Callable[..., Any], *keys: Array) -> dict[str, Array]:
    """``function`` of each distinct combination of ``keys``, by the name of its fields, as arrays over the machines."""
    keys = np.broadcast_arrays(*keys)
    shape = keys[0].shape
    varying = [key for key in keys if (key != key.flat[0]).any()]
    if not varying:
        only = function(*(key.flat[0].item() for key in keys))
        return {name: np.broadcast_to(value, shape) for name, value in only._asdict().items()}
    # one integer for each combination, so that one sort finds the distinct ones
    code = np.zeros(shape, dtype=np.int64)
    for key in varying:
        number = key if key.dtype.kind == "i" else np.unique(key, return_inverse=True)[1]
        code = code * (int(number.max()) + 1) + number
    distinct, inverse = np.unique(code, return_inverse=True)
    member = np.empty(len(distinct), dtype=np.int64)
    member[inverse] = np.arange(code.size).reshape(shape)
    results = [function(*(key.flat[i].item() for key in keys)) for i in member.tolist()]
    return {name: np.array([getattr(r, name) for r in results])[inverse] for name in results[0]._fields}


def _weights_stay(m: Machines) -> tuple[Array, Array, Array]:
    """Registers of a weight-stationary array besides those of the synthesised elements (bit): clocked in every cycle;
    holding; and weights that registers take when the array is filled.
    """
    pes = m.rows * m.cols
    # rows and columns are skewed and put straight again by triangles of registers: activations; weights and sums
    skew = m.rows * (m.rows - 1) // 2 * m.weight_bits + m.cols * (m.cols - 1) // 2 * (m.weight_bits + m.acc_bits)
    # two bits pass every element but the first: take the weight from above, and use it. Every element holds a second
    # weight. The i-th row from the bottom is passed by i weights, and then all are put to use
    taken = m.cols * (m.rows * (m.rows + 1) // 2 + m.rows) * m.weight_bits
    return skew + 2 * (pes - 1), pes * m.weight_bits, taken


def _sums_stay(m: Machines) -> tuple[Array, Array, Array]:
    """The same of an output-stationary array, which is never filled."""
    # columns are skewed and put straight, weights and sums; a word of sums is counted with the control. Every row holds
    # a word
    skew = m.cols * (m.cols - 1) // 2 * (m.weight_bits + m.acc_bits)
    words = m.rows * m.rows * m.weight_bits
    # one bit passes every element but the first, and one more every row; every row's place goes round; and three bits
    # wait for a place's sum, one of them for its result
    marks = m.rows * m.cols - 1 + m.rows - 1 + m.rows * PLACE_BITS + 3 * (m.rows + m.cols + 3) + 4
    nothing = np.zeros_like(m.rows)
    return skew + words + marks, nothing, nothing


def silicon_of(machines: Machines) -> Silicon:
    """The figures of ``machines``."""
    m = machines
    read, write, area = {}, {}, {}
    leak: Any = 0.0
    for name in MEMORIES:
        banks: Any = 1
        capacity, word = m.capacity_bit[name], m.word_bit[name]
        if name == "activation":
            # built in banks of the array's shorter side
            banks = m.lanes // np.minimum(m.rows, m.cols)
            capacity, word = capacity // banks, word // banks
        found = look_up(technology.sram, capacity, word, m.node_nm)
        read[name], write[name] = found["read_pj_per_bit"], found["write_pj_per_bit"]
        there = ~m.holds_sums if name == "accumulator" else 1
        area[name] = dict.fromkeys(BANDS, found["area_um2"] * banks * there)
        leak = leak + found["leak_mw"] * banks * there
    pe = look_up(technology.pe, m.weight_bits, m.acc_bits, m.node_nm)
    lane = look_up(technology.lane, m.weight_bits, m.acc_bits, m.node_nm)
    pes = m.rows * m.cols
    register = look_up(technology.register, m.node_nm)
    clocked, held, taken = (np.where(m.holds_sums, *both) for both in zip(_sums_stay(m), _weights_stay(m), strict=True))
    more = (clocked + held) * register["area_um2"]
    # weights that move are clocked; the synthesised element has that register, whose clock it does not count
    clocked = clocked + np.where(m.holds_sums, pes * m.weight_bits, 0)
    area["array"] = {band: pes * pe[f"area_{band}_um2" if band != "nominal" else "area_um2"] + more for band in BANDS}
    area["lanes"] = {band: m.cols * lane[f"area_{band}_um2" if band != "nominal" else "area_um2"] for band in BANDS}
    rest = look_up(control, m.rows, m.cols, m.weight_bits, m.node_nm, m.min_weight_bits)
    area["control"] = {band: rest[f"area_{band}_um2" if band != "nominal" else "area_um2"] for band in BANDS}
    leak = leak + (pes * pe["leak_uw"] + m.cols * lane["leak_uw"] + rest["leak_uw"]) / 1000
    return Silicon(
        read_pj_per_bit=read,
        write_pj_per_bit=write,
        mac_pj={band: pe[f"mac_pj_{band}" if band != "nominal" else "mac_pj"] for band in BANDS},
        clock_pj=pes * pe["register_pj"] + clocked * register["pj"] + rest["clock_pj"],
        weights_pj=taken * register["pj"],
        lane_pj={band: lane[f"energy_pj_{band}" if band != "nominal" else "energy_pj"] for band in BANDS},
        area_um2=area,
        leak_mw=leak,
    )
