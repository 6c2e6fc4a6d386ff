"""Machines by name; their figures, each with its source, are in the data files beside this one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.accelerator.technology import table
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.errors import InvalidInputError


@dataclass(frozen=True)
class Nvdla:
    """One configuration of NVDLA: multipliers (int8), convolution buffer (KiB), DRAM bandwidth (10^9 byte a second)."""

    macs: int
    buffer_kib: float
    bandwidth_gb_s: float


@dataclass(frozen=True)
class Eyeriss:
    """Eyeriss v1 as fabricated: PEs, scratch pads of a PE (words), global buffer for feature maps and partial sums and
    its part that prefetches filters (KiB), width of a word (bit), clock, where the figures come from."""

    rows: int
    cols: int
    filter_spad_word: int
    ifmap_spad_word: int
    psum_spad_word: int
    buffer_kib: float
    filter_prefetch_kib: float
    word_bits: int
    frequency_mhz: float
    source: str


Machine = Accelerator | SpatialArray | Eyeriss | Nvdla

#: Field of :class:`Eyeriss` -> its factors: constants of ``eyeriss.json``, and a change of unit.
_EYERISS: dict[str, tuple[tuple[str, ...], float]] = {
    "rows": (("rows",), 1),
    "cols": (("cols",), 1),
    "filter_spad_word": (("filter_spad_word",), 1),
    "ifmap_spad_word": (("ifmap_spad_word",), 1),
    "psum_spad_word": (("psum_spad_word",), 1),
    "buffer_kib": (("buffer_bank_byte", "buffer_banks"), 1 / 1024),
    "filter_prefetch_kib": (("filter_prefetch_byte",), 1 / 1024),
    "word_bits": (("word_byte",), 8),
    "frequency_mhz": (("frequency_mhz",), 1),
}


def names() -> tuple[str, ...]:
    """The machines that :func:`catalog` knows."""
    data = table("machines")
    return (*data["spatial"], "eyeriss_v1", *data["generator"]["machines"], *table("nvdla")["machines"]["sizes"])


def catalog(name: str) -> Machine:
    """The machine called ``name``, ready to be estimated.

    - ``tpu_v1``, ``gemmini_default``, ``edge_tpu``, ``mcu_class``: a :class:`SpatialArray`, for ``evaluate``. Its
      ``source`` names the publication in one line.
    - ``generator_4x8``, ``generator_8x8``, ``generator_16x16``: an :class:`Accelerator`, for ``evaluate`` and for
      ``generate_rtl``. They hold MLPerf Tiny, ResNet-18 and ResNet-50 in this order.
    - ``eyeriss_v1``: an :class:`Eyeriss`, for :func:`codesign_kernel.cost.row_stationary.layer_estimates`.
    - ``nvdla_2048`` to ``nvdla_32``: an :class:`Nvdla`, for :func:`codesign_kernel.cost.frames_per_second`.

    :func:`sources` says where each figure comes from.

    Raises:
        InvalidInputError: there is none of that name; the message lists those there are.
    """
    _check(name)
    data = table("machines")
    if name in data["spatial"]:
        one = data["spatial"][name]
        values = {field: entry["value"] for part in ("figures", "assumed") for field, entry in one[part].items()}
        return SpatialArray(**values, name=name, source=one["source"])
    if name in data["generator"]["machines"]:
        return Accelerator(**data["generator"]["machines"][name], name=name)
    if name == "eyeriss_v1":
        return _eyeriss()
    return Nvdla(*table("nvdla")["machines"]["sizes"][name])


def sources(name: str) -> dict[str, str]:
    """Where each figure of a machine comes from, by field; ``"assumed: "`` and the reason where no source gives it.

    Raises:
        InvalidInputError: there is no machine of that name.
    """
    _check(name)
    data = table("machines")
    if name in data["spatial"]:
        one = data["spatial"][name]
        said = {field: entry["source"] for field, entry in one["figures"].items()}
        return said | {field: f"assumed: {entry['reason']}" for field, entry in one["assumed"].items()}
    if name in data["generator"]["machines"]:
        return {f.name: f"assumed: {data['generator']['reason']}" for f in fields(Accelerator) if f.name != "name"}
    if name == "eyeriss_v1":
        constants = table("eyeriss")["constants"]
        return {field: constants[factors[0]]["source"] for field, (factors, _) in _EYERISS.items()}
    return {f.name: table("nvdla")["machines"]["source"] for f in fields(Nvdla)}


def _check(name: str) -> None:
    if name not in names():
        raise InvalidInputError(f"the catalogue has {', '.join(names())}, but got {name!r}")


def _eyeriss() -> Eyeriss:
    constants = table("eyeriss")["constants"]
    values: dict[str, Any] = {}
    for field, (factors, value) in _EYERISS.items():
        for factor in factors:
            value *= constants[factor]["value"]
        values[field] = int(value) if Eyeriss.__annotations__[field] == "int" else float(value)
    return Eyeriss(**values, source=constants["rows"]["source"].split(": 168")[0])
