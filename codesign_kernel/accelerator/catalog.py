"""Published machines by name; their figures and sources are in the data files beside this one."""

from __future__ import annotations

from dataclasses import dataclass

from codesign_kernel.accelerator.technology import table
from codesign_kernel.errors import InvalidInputError


@dataclass(frozen=True)
class Nvdla:
    """One configuration of NVDLA: multipliers (int8), convolution buffer (KiB), DRAM bandwidth (10^9 byte a second)."""

    macs: int
    buffer_kib: float
    bandwidth_gb_s: float


def names() -> tuple[str, ...]:
    """The machines that :func:`catalog` knows."""
    return tuple(table("nvdla")["machines"]["sizes"])


def catalog(name: str) -> Nvdla:
    """The published machine called ``name``: ``nvdla_2048`` to ``nvdla_32``.

    :func:`codesign_kernel.cost.frames_per_second` says how fast it runs a network.

    Raises:
        InvalidInputError: there is none of that name; the message lists those there are.
    """
    if name not in names():
        raise InvalidInputError(f"the catalogue has {', '.join(names())}, but got {name!r}")
    return Nvdla(*table("nvdla")["machines"]["sizes"][name])
