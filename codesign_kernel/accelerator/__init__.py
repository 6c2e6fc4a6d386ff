"""One machine as plain numbers, and the technology tables that price it."""

from codesign_kernel.accelerator.catalog import Nvdla, catalog
from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.accelerator.technology import pe_area_um2
from codesign_kernel.accelerator.types import Accelerator, MemoryLevel

__all__ = ["Accelerator", "MemoryLevel", "Nvdla", "SpatialArray", "catalog", "pe_area_um2"]
