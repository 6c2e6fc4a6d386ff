"""A network's convolutions on Eyeriss v1, each with the mapping that the row-stationary search finds for it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from codesign_kernel.accelerator.catalog import Eyeriss, catalog
from codesign_kernel.cost.eyeriss import Estimate, Mapping, best_mapping, estimate
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer, Workload


class LayerEstimate(NamedTuple):
    """One convolution: its name and what it costs for the whole batch."""

    name: str
    estimate: Estimate


def layer_estimates(workload: Workload, machine: Eyeriss) -> tuple[LayerEstimate, ...]:
    """Every ``conv2d`` of a workload, in order, for the layer's own batch; other operators are left out.

    Latency (ms), traffic with the global buffer and with DRAM (MB) and the mapping stand in each estimate; its laws are
    those of :mod:`codesign_kernel.cost.eyeriss`. Feature maps count without zeros, so nothing is compressed; where
    the fraction of zeros is known, :func:`codesign_kernel.cost.eyeriss.estimate` takes it, layer by layer.

    The search for a mapping takes up to a few seconds for each shape of layer; equal shapes are searched once.

    Raises:
        InvalidInputError: the machine is not the chip as fabricated, there is no convolution, or one has no mapping.
    """
    chip = catalog("eyeriss_v1")
    if machine != chip:
        raise InvalidInputError(
            f"the row-stationary estimates are of the chip as fabricated, {chip}, but got {machine!r}; "
            "take catalog('eyeriss_v1'), or describe another machine as a SpatialArray"
        )
    layers = [layer for layer in workload.layers if layer.op == "conv2d"]
    if not layers:
        raise InvalidInputError(f"Eyeriss runs conv2d, but workload {workload.name!r} has none; give it convolutions")
    found: dict[Layer, Mapping] = {}
    results = []
    for layer in layers:
        shape = replace(layer, name="")
        if shape not in found:
            found[shape] = best_mapping(layer, layer.B)
        results.append(LayerEstimate(layer.name, estimate(layer, layer.B, 0.0, 0.0, found[shape])))
    return tuple(results)
