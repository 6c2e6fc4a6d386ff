"""Energy and area of N spatial arrays from the technology tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.control import control
from codesign_kernel.accelerator.spatial import OPERANDS, SpatialArrays, buffer_words
from codesign_kernel.cost.technology import BANDS, look_up
from codesign_kernel.cost.tiles import Access

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SpatialSilicon:
    """Arrays over machines: pJ/bit of every kind of access (the fields of :class:`Access`), pJ of a MAC and of a value
    through a lane by band, pJ of a clock of the whole array, µm² by part and band, leakage (mW), clock (MHz)."""

    access_pj: dict[str, Array]
    mac_pj: dict[str, Array]
    lane_pj: dict[str, Array]
    clock_pj: Array
    area_um2: dict[str, dict[str, Array]]
    leak_mw: Array
    frequency_mhz: Array
    shared: Array

    def of(self, members: Array) -> SpatialSilicon:
        """Those of some machines."""

        def some(values: dict[str, Array]) -> dict[str, Array]:
            return {name: array[members] for name, array in values.items()}

        return SpatialSilicon(
            some(self.access_pj), some(self.mac_pj), some(self.lane_pj), self.clock_pj[members],
            {part: some(bands) for part, bands in self.area_um2.items()}, self.leak_mw[members],
            self.frequency_mhz[members], self.shared[members],
        )  # fmt: skip


def _bands(found: dict[str, Array], name: str, unit: str) -> dict[str, Array]:
    """Low, nominal and high of a figure whose fields are called in two ways."""
    keys = {band: f"{name}{unit}" if band == "nominal" else f"{name}{unit}_{band}" for band in BANDS}
    if keys["low"] not in found:
        keys = {band: f"{name}{unit}" if band == "nominal" else f"{name}_{band}{unit}" for band in BANDS}
    return {band: found[key] for band, key in keys.items()}


def spatial_silicon(machines: SpatialArrays) -> SpatialSilicon:
    """The figures of ``machines``. The array's registers are clocked while it computes; idle ones are gated.

    A PE has ``register_words`` stationary registers, and one more where the next one's loading is hidden; a word of a
    register file costs a register's clock to read and to write, the only word of a PE nothing to read. The control is
    taken to be as large as that of the generated template.
    """
    m = machines
    pes = m.rows * m.cols
    data = np.maximum(m.weight_bits, m.input_bits)
    pe, lane = (
        look_up(technology.pe, data, m.acc_bits, m.node_nm),
        look_up(technology.lane, data, m.acc_bits, m.node_nm),
    )
    register = look_up(technology.register, m.node_nm)
    held = (m.register_words - 1 + m.overlap) * data
    area = {
        "array": {b: pes * (a + held * register["area_um2"]) for b, a in _bands(pe, "area", "_um2").items()},
        "lanes": {b: (m.cols + m.vector_lanes) * a for b, a in _bands(lane, "area", "_um2").items()},
    }
    leak = (pes * pe["leak_uw"] + (m.cols + m.vector_lanes) * lane["leak_uw"]) / 1000
    rest = look_up(control, m.rows, m.cols, data, m.node_nm)
    area["control"] = _bands(rest, "area", "_um2")
    leak = leak + rest["leak_uw"] / 1000
    words, levels = buffer_words(m), {}
    for name in (*OPERANDS, "shared"):
        here = m.capacity_bit[name] > 0
        word = np.where(here, words[name], 64)
        found = look_up(
            technology.sram, np.where(here, np.maximum(m.capacity_bit[name], word), 64 * 1024), word, m.node_nm
        )
        area[name] = dict.fromkeys(BANDS, np.where(here, found["area_um2"], 0.0))
        leak = leak + np.where(here, found["leak_mw"], 0.0)
        levels[name] = found
    dram = np.full(len(m), technology.dram_pj_per_bit(m.dram))
    shared = m.capacity_bit["shared"] > 0
    pj: dict[str, Array] = {}
    for name in Access._fields:
        level, direction = name.split("_")[0], name.rsplit("_", 1)[1]
        if level == "dram":
            pj[name] = dram
        elif level == "register":
            free = (direction == "read") & (m.register_words == 1)
            pj[name] = np.where(free, 0.0, register["pj"])
        else:
            key = f"{direction}_pj_per_bit"
            pj[name] = np.where(shared, levels["shared"][key], levels[level][key])
    return SpatialSilicon(
        access_pj=pj,
        mac_pj=_bands(pe, "mac_pj", ""),
        lane_pj=_bands(lane, "energy_pj", ""),
        clock_pj=pes * pe["register_pj"] + rest["clock_pj"],
        area_um2=area,
        leak_mw=leak,
        frequency_mhz=m.frequency_mhz,
        shared=shared,
    )


def dynamic_energy(
    rows: Array, macs: int, lane_values: int, silicon: SpatialSilicon, *, leakage: bool = False
) -> dict[str, dict[str, Array]]:
    """pJ by part and band of ``rows`` (see :data:`.spatial.ROWS`), one column a machine (or many, of one machine).

    Parts: ``compute`` (MACs, the array's clock, lanes), ``registers``, ``weight``, ``input``, ``output`` (of a shared
    buffer: what each operand moves there), ``dram``, ``leakage``.
    """
    parts: dict[str, dict[str, Array]] = {}
    clock = rows[-2] * silicon.clock_pj
    parts["compute"] = {
        band: clock + macs * silicon.mac_pj[band] + lane_values * silicon.lane_pj[band] for band in BANDS
    }
    for name, bits in zip(Access._fields, rows, strict=False):
        level = {"register": "registers"}.get(name.split("_")[0], name.split("_")[0])
        pj = bits * silicon.access_pj[name]
        parts[level] = dict.fromkeys(BANDS, parts[level]["low"] + pj if level in parts else pj)
    if leakage:
        # mW = 1e9 pJ/s
        parts["leakage"] = dict.fromkeys(BANDS, silicon.leak_mw * 1e9 * rows[-1] / (silicon.frequency_mhz * 1e6))
    return parts
