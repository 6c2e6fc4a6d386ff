"""Eyeriss v1: latency, buffer accesses and DRAM accesses of a convolution under the row-stationary dataflow.

A mapping has the seven numbers of the paper. A PE set of ``R x e`` PEs (filter rows times output rows) convolves ``p``
filters with ``q`` channels; ``r`` sets share an output and ``t`` sets hold other filters; a processing pass takes ``n``
images; the partial sums of ``m`` filters stay in the buffer until all channels are through.

A pass loads its filters, then fills the PEs with the first window of every row, then runs as long as the slowest of
three: the MACs of one PE, the input feature map and the partial sums on their buses.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from codesign_kernel.accelerator.technology import table
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer


@cache
def constant(name: str) -> float:
    """One cited number of ``eyeriss.json``."""
    value: float = table("eyeriss")["constants"][name]["value"]
    return value


@dataclass(frozen=True)
class Mapping:
    """Row-stationary mapping in the letters of the paper (see the module)."""

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int


@dataclass(frozen=True)
class Estimate:
    """A layer under a mapping, for the whole batch. MB are 10^6 byte, as in the paper's Table V."""

    mapping: Mapping
    passes: int
    pass_cycle: float
    active_pes: int
    buffer_mb: float
    dram_ifmap_mb: float
    dram_filter_mb: float
    dram_ofmap_mb: float

    @property
    def latency_ms(self) -> float:
        """Processing latency: all passes, one after the other."""
        return self.passes * self.pass_cycle / (constant("frequency_mhz") * 1e3)

    @property
    def dram_mb(self) -> float:
        """All traffic to and from DRAM, feature maps run-length compressed."""
        return self.dram_ifmap_mb + self.dram_filter_mb + self.dram_ofmap_mb


def rlc_ratio(zeros: float) -> float:
    """Bytes after compression for one byte of a feature map of which the fraction ``zeros`` is zero; 1 at most, since
    a map that compression would enlarge is stored as it is."""
    pair_bit = constant("rlc_bit") / constant("rlc_value")
    return min(1.0, (1.0 - zeros) * pair_bit / (8 * constant("word_byte")))


def _input_rows(layer: Layer, output_rows: int) -> int:
    return (output_rows - 1) * layer.stride[0] + layer.FY


def _width(layer: Layer) -> int:
    return (layer.OX - 1) * layer.stride[1] + layer.FX


def _strips(layer: Layer, mapping: Mapping) -> list[int]:
    return [min(mapping.e, layer.OY - done) for done in range(0, layer.OY, mapping.e)]


def _rounds(layer: Layer, mapping: Mapping, batch: int) -> int:
    """Passes of one strip."""
    filters = math.ceil(layer.K / (mapping.p * mapping.t)) * layer.G
    return math.ceil(batch / mapping.n) * filters * math.ceil(layer.C / (mapping.q * mapping.r))


def pass_cycle(layer: Layer, mapping: Mapping) -> float:
    """Cycles of one processing pass (a full strip)."""
    images, channels, filters = mapping.n, mapping.q * mapping.r, mapping.p * mapping.t
    rows = _input_rows(layer, mapping.e)
    load = filters * channels * layer.FY * layer.FX / constant("filter_word_per_cycle")
    fill = rows * channels * layer.FX / constant("ifmap_word_per_cycle")
    compute = images * mapping.p * mapping.q * layer.FX * layer.OX
    ifmap = images * channels * rows * _width(layer) / constant("ifmap_word_per_cycle")
    psum = images * filters * mapping.e * layer.OX / constant("psum_word_per_cycle")
    return load + fill + max(compute, ifmap, psum)


def _buffer_word(layer: Layer, mapping: Mapping, batch: int) -> float:
    """Words that the global buffer delivers to the PEs and takes from them: a pass reads its input feature map, and
    reads and writes its partial sums."""
    words = 0
    for strip in _strips(layer, mapping):
        words += mapping.q * mapping.r * _input_rows(layer, strip) * _width(layer)
        words += 2 * mapping.p * mapping.t * strip * layer.OX
    return float(words * mapping.n * _rounds(layer, mapping, batch))


def _dram_word(layer: Layer, mapping: Mapping, batch: int) -> tuple[float, float, float]:
    """Words before compression: the input once for every ``m`` filters, the filters once for every strip and every
    ``n`` images, the output once."""
    strips = _strips(layer, mapping)
    rows = sum(_input_rows(layer, strip) for strip in strips)
    ifmap = batch * layer.G * layer.C * rows * _width(layer) * math.ceil(layer.K / mapping.m)
    filters = layer.weights * len(strips) * math.ceil(batch / mapping.n)
    return float(ifmap), float(filters), float(batch * layer.G * layer.K * layer.OY * layer.OX)


def _divisors(number: int, most: int) -> list[int]:
    return [one for one in range(1, min(number, most) + 1) if number % one == 0]


def _strip_heights(layer: Layer) -> Iterator[tuple[int, int]]:
    """Output rows of a PE set and how many sets the array then holds. A set wider than the array is folded."""
    stacks, cols = int(constant("rows")) // layer.FY, int(constant("cols"))
    for e in sorted({math.ceil(layer.OY / strips) for strips in range(1, layer.OY + 1)}):
        sets = stacks * (cols // e) if e <= cols else stacks // math.ceil(e / cols)
        if sets:
            yield e, sets


def _fits_prefetch(layer: Layer, filters: int, channels: int) -> bool:
    words = filters * channels * layer.FY * layer.FX
    return words * constant("word_byte") <= constant("filter_prefetch_byte")


def _largest_m(layer: Layer, mapping: Mapping) -> int:
    """The largest divisor of the filters, in steps of a pass, whose partial sums fit beside the input; 0 for none."""
    bank_word = constant("buffer_bank_byte") / constant("word_byte")
    ifmap = mapping.n * mapping.q * mapping.r * _input_rows(layer, mapping.e) * _width(layer)
    free_word = (constant("buffer_banks") - math.ceil(ifmap / bank_word)) * bank_word
    step = mapping.p * mapping.t
    most = int(free_word // (mapping.n * mapping.e * layer.OX)) // step
    return max(_divisors(layer.K // step, most), default=0) * step


def mappings(layer: Layer, batch: int) -> Iterator[Mapping]:
    """Every mapping that fits array, scratch pads and buffer, with the largest ``m`` that the rest leaves room for."""
    for e, sets in _strip_heights(layer):
        for q in range(1, min(int(constant("ifmap_spad_word")) // layer.FX, layer.C) + 1):
            most = min(int(constant("psum_spad_word")), int(constant("filter_spad_word")) // (q * layer.FX))
            for p, r in itertools.product(_divisors(layer.K, most), range(1, sets + 1)):
                if r > 1 and math.ceil(layer.C / (q * r)) == math.ceil(layer.C / (q * (r - 1))):
                    continue  # a set more saves no pass
                for t, n in itertools.product(_divisors(layer.K // p, sets // r), _divisors(batch, batch)):
                    one = Mapping(0, n, e, p, q, r, t)
                    if _fits_prefetch(layer, p * t, q * r) and (m := _largest_m(layer, one)):
                        yield replace(one, m=m)


def best_mapping(layer: Layer, batch: int) -> Mapping:
    """The fastest of the mappings whose energy for data movement is the least, within the tolerance.

    Raises:
        InvalidInputError: no mapping fits.
    """
    costs = [
        (
            constant("dram_cost") * sum(_dram_word(layer, one, batch))
            + constant("buffer_cost") * _buffer_word(layer, one, batch),
            _rounds(layer, one, batch) * len(_strips(layer, one)) * pass_cycle(layer, one),
            one,
        )
        for one in mappings(layer, batch)
    ]
    if not costs:
        raise InvalidInputError(
            f"a filter has at most {constant('rows'):g} rows and {constant('ifmap_spad_word'):g} columns and one row "
            f"of outputs fits the buffer, but layer {layer.name!r} has filters of {layer.FY} x {layer.FX} and rows of "
            f"{layer.OX}; split it"
        )
    limit = min(energy for energy, _, _ in costs) * (1 + constant("energy_tolerance"))
    return min((cost for cost in costs if cost[0] <= limit), key=lambda cost: (cost[1], cost[0]))[2]


def estimate(
    layer: Layer, batch: int, ifmap_zeros: float, ofmap_zeros: float, mapping: Mapping | None = None
) -> Estimate:
    """One convolution of ``batch`` images (the layer's own ``B`` is not used).

    Args:
        layer: a ``conv2d``; the input feature map counts with its padding, as the chip stores it.
        ifmap_zeros, ofmap_zeros: fraction of zeros, 0 to 1, in what is read and written.
        mapping: as the chip ran it; found by ``best_mapping`` where absent.

    Raises:
        InvalidInputError: another operator, a fraction out of range, or a layer that no mapping fits.
    """
    if layer.op != "conv2d":
        raise InvalidInputError(f"Eyeriss runs conv2d, but layer {layer.name!r} is {layer.op!r}; leave it out")
    for zeros in (ifmap_zeros, ofmap_zeros):
        if not 0.0 <= zeros <= 1.0:
            raise InvalidInputError(
                f"a fraction of zeros lies between 0 and 1, but got {zeros!r}; divide percent by 100"
            )
    one = mapping if mapping is not None else best_mapping(layer, batch)
    to_mb = constant("word_byte") / 1e6
    ifmap, filters, ofmap = _dram_word(layer, one, batch)
    return Estimate(
        mapping=one,
        passes=_rounds(layer, one, batch) * len(_strips(layer, one)),
        pass_cycle=pass_cycle(layer, one),
        active_pes=layer.FY * one.e * one.r * one.t,
        buffer_mb=_buffer_word(layer, one, batch) * to_mb,
        dram_ifmap_mb=ifmap * to_mb * rlc_ratio(ifmap_zeros),
        dram_filter_mb=filters * to_mb,
        dram_ofmap_mb=ofmap * to_mb * rlc_ratio(ofmap_zeros),
    )
