"""Our estimates beside the figures of others, computed when asked: simulators, RTL, a maker's estimates, a chip.

What others say stands, with its source, in ``data/`` beside this file. Cycles of Gemmini's RTL do not: of them only our
ratios to them are recorded, which ``benchmarks/gemmini.py`` makes from the original.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from codesign_kernel.accelerator import SpatialArray, catalog
from codesign_kernel.accelerator.catalog import Eyeriss, Nvdla
from codesign_kernel.cost import evaluate, frames_per_second
from codesign_kernel.cost.eyeriss import estimate
from codesign_kernel.cost.nvdla import constant
from codesign_kernel.cost.row_stationary import layer_estimates
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer, Workload

if TYPE_CHECKING:
    from pandas import DataFrame

#: A rank correlation of fewer cases says nothing.
_FEWEST_RANKED = 10
#: The general law, and the models that know one machine: ``cost/gemmini.py``, ``nvdla.py`` and ``eyeriss.py``.
GENERAL, OWN = "ck.evaluate", "own mechanism"
#: Two mappings whose DRAM traffic differs by less than this share are told as moving the same data.
_SAME = 0.01


class Row(NamedTuple):
    """One figure of theirs and our estimate of it, both in ``unit``."""

    name: str
    ours: float
    theirs: float
    unit: str

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs


@dataclass(frozen=True)
class Comparison:
    """Our estimates of one quantity beside the figures of one peer.

    Attributes:
        peer, quantity: whose figures, of what.
        kind: what they are: ``simulator``, ``RTL``, ``maker's estimate``, ``chip`` or ``mapper``.
        model: what estimates here: ``GENERAL``, the law that every :class:`SpatialArray` is costed by, or ``OWN``, a
            model of that one machine.
        source: where they come from.
        rows: the cases.
        clock_mhz: of the machine, where the figures are milliseconds or frames a second.
        recorded_spearman: where only ratios are kept, whose ranks say nothing.
    """

    peer: str
    quantity: str
    kind: str
    source: str
    rows: tuple[Row, ...]
    model: str = GENERAL
    clock_mhz: float | None = None
    recorded_spearman: float | None = None

    @property
    def median(self) -> float:
        """Median of abs(ours / theirs - 1)."""
        return statistics.median(abs(row.ratio - 1) for row in self.rows)

    @property
    def worst(self) -> Row:
        """The row that is farthest off, counting twice as much like half as much."""
        return max(self.rows, key=lambda row: max(row.ratio, 1 / row.ratio))

    @property
    def spearman(self) -> float | None:
        """Rank correlation of ours and theirs; None for fewer than ten cases."""
        if self.recorded_spearman is not None or len(self.rows) < _FEWEST_RANKED:
            return self.recorded_spearman
        return statistics.correlation(
            _ranks([row.ours for row in self.rows]), _ranks([row.theirs for row in self.rows])
        )

    @property
    def cycles(self) -> tuple[tuple[float, float], ...]:
        """(ours, theirs) of each row in cycles of the machine's clock; empty where the quantity is no time."""
        return tuple(
            (self._cycles(row.ours, row.unit), self._cycles(row.theirs, row.unit))
            for row in self.rows
            if row.unit in ("cycle", "ms", "frame/s")
        )

    def _cycles(self, value: float, unit: str) -> float:
        if unit == "cycle":
            return value
        clock_hz = (self.clock_mhz or 0.0) * 1e6
        return value * 1e-3 * clock_hz if unit == "ms" else clock_hz / value


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    return [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]


@cache
def record(name: str) -> Mapping[str, Any]:
    """The figures of a peer as they stand in ``data/<name>.json``: ``scalesim_3_0_0``, ``gemmini``,
    ``gemmini_evaluate``, ``published`` or ``zigzag_3_9_1``."""
    file = resources.files("codesign_kernel.session").joinpath("data", f"{name}.json")
    if not file.is_file():
        raise InvalidInputError(f"figures of others are kept under names like 'published', but got {name!r}")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def compare(resnet50: Any = None) -> tuple[Comparison, ...]:
    """Every comparison, computed now (about 25 s).

    Args:
        resnet50: a Workload or Profile of ResNet-50, for NVDLA; profiled here where absent.
    """
    own = (gemmini(), nvdla(resnet50), *eyeriss(), eyeriss_vgg16())
    return (scalesim(), *zigzag(), *gemmini_evaluate(), edge_tpu(), *own)


def scalesim() -> Comparison:
    """Cycles of the array alone: one tile, nothing overlaps. SCALE-Sim prints the last cycle's index; 1 is added."""
    data = record("scalesim_3_0_0")
    rows = []
    for name, m, n, k, height, width, dataflow, last_index in data["cases"]:
        roomy: dict[str, Any] = dict.fromkeys(("input_kib", "weight_kib", "output_kib"), 1e6)
        array = SpatialArray(rows=height, cols=width, dataflow=dataflow, overlap=False, **roomy)
        product = Workload(name, (Layer(name, "linear", OY=m, K=n, C=k),))
        cost = evaluate(product, array, mapping=f"y={m} k={n} c={k}", fusion=False)
        title = f"{name} {dataflow} {height}x{width}"
        rows.append(Row(title, cost.layers[0].compute_cycle, last_index + 1, "cycle"))
    return Comparison("SCALE-Sim 3.0.0", "array cycles", "simulator", data["source"], tuple(rows))


def gemmini() -> Comparison:
    """Gemmini's cycles, each predicted with constants that were fitted without its layer, over those of the RTL."""
    data = record("gemmini")
    rows = tuple(Row(kind, ratio, 1.0, "× RTL") for kind, ratios in data["ratios"].items() for ratio in ratios)
    return Comparison("Gemmini", "cycles, mapping given", "RTL", data["source"], rows, OWN, None, data["spearman"])


def gemmini_evaluate() -> tuple[Comparison, Comparison]:
    """Cycles of ``evaluate`` on the catalogue's Gemmini over those of the RTL, with the best of the mappings that were
    run and with Gemmini's own tiling; as recorded."""
    data = record("gemmini_evaluate")
    first, second = (
        Comparison(
            "Gemmini",
            f"cycles, {name}",
            "RTL",
            data["source"],
            tuple(Row(kind, ratio, 1.0, "× RTL") for kind, ratios in one["ratios"].items() for ratio in ratios),
            recorded_spearman=one["spearman"],
        )
        for name, one in data["against"].items()
    )
    return first, second


def edge_tpu() -> Comparison:
    """Milliseconds of networks on the catalogue's Edge TPU beside those measured on Coral's devices."""
    data = record("published")["edge_tpu"]
    machine = catalog("edge_tpu")
    assert isinstance(machine, SpatialArray)
    rows = tuple(
        Row(f"{title}, {side} x {side}", 1e3 * evaluate(_network(name, side), machine).latency_s, usb_ms, "ms")
        for title, name, side, usb_ms, _ in data["rows"]
    )
    return Comparison("Edge TPU", "latency", "device", data["source"], rows, clock_mhz=machine.frequency_mhz)


def nvdla(resnet50: Any = None) -> Comparison:
    """Frames a second on ResNet-50; NVIDIA's figures are estimates too."""
    data = record("published")["nvdla_resnet50"]
    work = getattr(resnet50, "workload", resnet50) or _network("resnet50", 224)
    rows = []
    for macs, fps in data["rows"]:
        machine = catalog(f"nvdla_{macs}")
        assert isinstance(machine, Nvdla)
        rows.append(Row(f"{macs:,} MACs", frames_per_second(work, machine), fps, "frame/s"))
    clock = constant("frequency_mhz")
    return Comparison("NVDLA", "ResNet-50 frames/s", "maker's estimate", data["source"], tuple(rows), OWN, clock)


def eyeriss() -> tuple[Comparison, ...]:
    """Latency, DRAM and buffer traffic of AlexNet's convolutions on Eyeriss v1, whose zeros are known."""
    data = record("published")["eyeriss_v1_alexnet"]
    layers, figures = [_layer(op="conv2d", **fields) for fields in data["layers"]], data["rows"]
    zeros = [figures[layer.name][3] / 100 for layer in layers]
    found = {
        layer.name: estimate(layer, data["batch"], own, of_next)
        # the zeros of a layer's result are those that the next one reads
        for layer, own, of_next in zip(layers, zeros, [*zeros[1:], zeros[-1]], strict=True)
    }
    quantities = (
        ("latency", "latency_ms", "ms"),
        ("DRAM traffic", "dram_mb", "MB"),
        ("buffer traffic", "buffer_mb", "MB"),
    )
    return tuple(
        Comparison(
            "Eyeriss v1",
            f"AlexNet {quantity}",
            "chip",
            data["source"],
            tuple(Row(name, getattr(one, attribute), figures[name][place], unit) for name, one in found.items()),
            OWN,
            _eyeriss().frequency_mhz if unit == "ms" else None,
        )
        for place, (quantity, attribute, unit) in enumerate(quantities)
    )


def eyeriss_vgg16() -> Comparison:
    """Frames a second of VGG-16's convolutions, with mappings that are found here: the chip's are not published."""
    data = record("published")["eyeriss_v1_vgg16"]
    layers = tuple(
        Layer(f"conv{i}", "conv2d", B=data["batch"], C=c, K=k, OY=side, OX=side, FY=3, FX=3, IY=side, IX=side,
              padding=(1, 1))
        for i, (c, k, side) in enumerate(data["rows"], 1)
    )  # fmt: skip
    machine = _eyeriss()
    ms = sum(one.estimate.latency_ms for one in layer_estimates(Workload("VGG-16", layers), machine))
    row = Row("13 convolutions", 1000 * data["batch"] / ms, data["frames_per_s"], "frame/s")
    return Comparison("Eyeriss v1", "VGG-16 frames/s", "chip", data["source"], (row,), OWN, machine.frequency_mhz)


def zigzag() -> tuple[Comparison, Comparison]:
    """Cycles of the best mapping found here and by ZigZag: where both move as much over DRAM, and where they do not."""
    data = record("zigzag_3_9_1")
    same: list[Row] = []
    other: list[Row] = []
    for row, (bits, their_bits) in zigzag_cases():
        (same if abs(bits / their_bits - 1) < _SAME else other).append(row)
    split = (("cycles, same traffic", same), ("cycles, other traffic", other))
    first, second = (Comparison("ZigZag 3.9.1", name, "mapper", data["source"], tuple(rows)) for name, rows in split)
    return first, second


@cache
def zigzag_cases() -> tuple[tuple[Row, tuple[int, int]], ...]:
    """Every layer on every machine: cycles, and the bits moved over DRAM (ours, theirs)."""
    data = record("zigzag_3_9_1")
    layers = {fields["name"]: _layer(**fields) for fields in data["layers"]}
    found = []
    for result in data["results"]:
        layer, array = layers[result["layer"]], SpatialArray(**data["machines"][result["machine"]])
        cost = evaluate(Workload(layer.name, (layer,)), array, fusion=False)
        bits = sum(result["dram_read_bit"].values()) + result["dram_write_bit"]
        row = Row(f"{layer.name}, {result['machine']}", cost.latency_cycle, result["latency_cycle"], "cycle")
        found.append((row, (cost.dram_bit, bits)))
    return tuple(found)


def summary(comparisons: Sequence[Comparison]) -> DataFrame:
    """A row a comparison: how many cases, the median and the largest difference (share of theirs), rank correlation."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "peer": one.peer,
                "quantity": one.quantity,
                "their figures are of": one.kind,
                "estimated here by": one.model,
                "cases": len(one.rows),
                "median |difference|": one.median,
                "worst": one.worst.ratio - 1,
                "Spearman": one.spearman,
            }
            for one in comparisons
        ]
    )


def table(comparison: Comparison) -> DataFrame:
    """A row a case: ours, theirs (in ``unit``), and the difference as a share of theirs."""
    import pandas as pd

    frame = pd.DataFrame(comparison.rows)
    frame["difference"] = [row.ratio - 1 for row in comparison.rows]
    return frame


def _layer(**fields: Any) -> Layer:
    """A layer from JSON, whose pairs come as lists."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Layer(**values)


def _eyeriss() -> Eyeriss:
    machine = catalog("eyeriss_v1")
    assert isinstance(machine, Eyeriss)
    return machine


@cache
def _network(name: str, side: int) -> Workload:
    """A network of the zoo on one square image."""
    from codesign_kernel.profiler import profile, zoo

    model, example = zoo.build(name)
    assert not isinstance(example, tuple)  # one image
    workload: Workload = profile(model, example.new_empty((1, 3, side, side))).workload
    return workload
