"""Energy and area of N machines from the technology tables: one look-up for each distinct memory, PE and lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.columns import MEMORIES, Machines

Array = np.ndarray[Any, Any]
BANDS = ("low", "nominal", "high")


@dataclass(frozen=True)
class Silicon:
    """Arrays over machines: energies (pJ), areas (µm²) by part and band, leakage (mW).

    Memories come from one source (CACTI), so their figure is the same in every band; PEs and lanes from two.
    """

    read_pj_per_bit: dict[str, Array]
    write_pj_per_bit: dict[str, Array]
    mac_pj: dict[str, Array]
    register_pj: Array
    lane_pj: dict[str, Array]
    area_um2: dict[str, dict[str, Array]]
    leak_mw: Array


def _look_up(function: Callable[..., tuple[float, ...]], *keys: Array) -> dict[str, Array]:
    """``function`` of each distinct row of ``keys``, by the name of its fields, as arrays over the rows."""
    # one integer for each distinct combination: cheaper than sorting rows
    index = np.zeros(len(keys[0]), dtype=np.int64)
    values = []
    for key in keys:
        unique, inverse = np.unique(key, return_inverse=True)
        index = index * len(unique) + inverse
        values.append(unique)
    combinations, inverse = np.unique(index, return_inverse=True)
    results = []
    for combination in combinations.tolist():
        arguments: list[Any] = []
        for unique in reversed(values):
            combination, position = divmod(combination, len(unique))
            arguments.insert(0, unique[position].item())
        results.append(function(*arguments))
    table = np.array(results)
    return {name: table[inverse, i] for i, name in enumerate(results[0]._fields)}  # type: ignore[attr-defined]


def silicon_of(machines: Machines) -> Silicon:
    """The figures of ``machines``, all of them lawful."""
    m = machines
    read, write, area, leak = {}, {}, {}, np.zeros(len(m))
    narrow = np.minimum(m.rows, m.cols)
    for name in MEMORIES:
        # the activation memory is built in banks of the array's shorter side
        banks = m.lanes // narrow if name == "activation" else np.ones(len(m), dtype=np.int64)
        found = _look_up(technology.sram, m.capacity_bit[name] // banks, m.word_bit[name] // banks, m.node_nm)
        read[name], write[name] = found["read_pj_per_bit"], found["write_pj_per_bit"]
        area[name] = dict.fromkeys(BANDS, found["area_um2"] * banks)
        leak = leak + found["leak_mw"] * banks
    pe = _look_up(technology.pe, m.weight_bits, m.acc_bits, m.node_nm)
    lane = _look_up(technology.lane, m.weight_bits, m.acc_bits, m.node_nm)
    pes = m.rows * m.cols
    area["array"] = {band: pes * pe[f"area_{band}_um2" if band != "nominal" else "area_um2"] for band in BANDS}
    area["lanes"] = {band: m.cols * lane[f"area_{band}_um2" if band != "nominal" else "area_um2"] for band in BANDS}
    leak = leak + (pes * pe["leak_uw"] + m.cols * lane["leak_uw"]) / 1000
    return Silicon(
        read_pj_per_bit=read,
        write_pj_per_bit=write,
        mac_pj={band: pe[f"mac_pj_{band}" if band != "nominal" else "mac_pj"] for band in BANDS},
        register_pj=pe["register_pj"],
        lane_pj={band: lane[f"energy_pj_{band}" if band != "nominal" else "energy_pj"] for band in BANDS},
        area_um2=area,
        leak_mw=leak,
    )
