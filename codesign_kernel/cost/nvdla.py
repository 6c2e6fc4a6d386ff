"""NVDLA in NVIDIA's own terms: for every layer the longer of its MAC cycles and its DRAM cycles.

Nothing here is fitted: the constants of ``nvdla.json`` are those of the documentation and of NVIDIA's estimator, each
with its source. The buffer decides the traffic: a layer whose input and weights do not go into the convolution buffer
together reads one of them more than once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from codesign_kernel.accelerator.catalog import Nvdla
from codesign_kernel.accelerator.technology import table
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer, Workload

#: Operators that ride on the convolution before them and cost nothing of their own.
_FREE = frozenset({"batch_norm", "relu", "relu6", "dropout", "softmax"})
_POOLS = frozenset({"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"})


@cache
def constant(name: str) -> float:
    """One cited number of ``nvdla.json``."""
    value: float = table("nvdla")["constants"][name]["value"]
    return value


def byte_per_cycle(machine: Nvdla) -> float:
    """What DRAM delivers in one clock."""
    return machine.bandwidth_gb_s * 1000.0 / constant("frequency_mhz")


@dataclass(frozen=True)
class LayerTime:
    """One convolution with all that rides on it: cycles and DRAM traffic (byte) of one frame."""

    name: str
    mac_cycle: float
    dram_cycle: float
    input_byte: float
    weight_byte: float
    output_byte: float
    shortcut_byte: float

    @property
    def cycle(self) -> float:
        """MACs and DRAM overlap, so the longer counts."""
        return max(self.mac_cycle, self.dram_cycle)


@dataclass(frozen=True)
class _Operands:
    """What a convolution looks like to the machine, after channel extension (byte, int8)."""

    input_byte: float
    weight_byte: float
    row_byte: float
    rows: int
    filter_rows: int
    kernel_byte: float


def _round_up(value: int, granule: float) -> int:
    return math.ceil(value / granule) * int(granule)


def _winograd(layer: Layer) -> bool:
    return layer.op == "conv2d" and layer.FY == 3 and layer.FX == 3


def _operands(layer: Layer) -> _Operands:
    """Channel extension turns a stride s into s * s times the channels and an s times smaller map and filter."""
    stride_y, stride_x = layer.stride
    channels = _round_up(layer.C * stride_y * stride_x, constant("granule"))
    filter_rows = math.ceil(layer.FY / stride_y)
    kernel = channels * filter_rows * math.ceil(layer.FX / stride_x)
    growth = constant("winograd_weight_growth") if _winograd(layer) else 1.0
    rows = math.ceil(layer.IY / stride_y)
    row = float(channels * math.ceil(layer.IX / stride_x))
    return _Operands(
        input_byte=row * rows,
        weight_byte=kernel * growth * layer.K,
        row_byte=row,
        rows=rows,
        filter_rows=filter_rows,
        kernel_byte=kernel * growth,
    )


def _reads_byte(part: _Operands, buffer_byte: float) -> tuple[float, float]:
    """Bytes of input and of weights that one group of a convolution reads from DRAM.

    Each is read once where all input and a few kernels, or all weights and a few rows, fit. Else either the weights
    are read again for every chunk of rows (which overlap by the filter), or the input for every chunk of kernels.
    """
    few_kernels = part.kernel_byte * constant("resident_kernels")
    if few_kernels >= buffer_byte:
        few_kernels = buffer_byte / 2
    few_rows = part.row_byte * min(part.filter_rows + constant("resident_extra_rows"), part.rows)
    if part.input_byte + few_kernels <= buffer_byte or part.weight_byte + few_rows <= buffer_byte:
        return part.input_byte, part.weight_byte
    choices: list[tuple[float, float]] = []
    overlap = part.filter_rows - 1
    step = int((buffer_byte - few_kernels) // part.row_byte) - overlap
    if step >= 1:
        chunks = max(1, math.ceil((part.rows - overlap) / step))
        choices.append((part.input_byte + (chunks - 1) * overlap * part.row_byte, part.weight_byte * chunks))
    if buffer_byte > few_rows:
        chunks = math.ceil(part.weight_byte / (buffer_byte - few_rows))
        choices.append((part.input_byte * chunks, part.weight_byte))
    if not choices:
        raise InvalidInputError(
            f"the convolution buffer holds a few rows or a few kernels, but {buffer_byte / 1024:g} KiB hold neither "
            f"{few_rows:g} byte of input nor {few_kernels:g} byte of weights; enlarge buffer_kib"
        )
    return min(choices, key=sum)


def _mac_cycle(layer: Layer, macs: int) -> float:
    granule = constant("granule")
    stride_y, stride_x = layer.stride
    channels = _round_up(layer.C * stride_y * stride_x, granule)
    taps = layer.FY * layer.FX / (stride_y * stride_x)
    gain = constant("winograd_mac_gain") if _winograd(layer) else 1.0
    kernels = _round_up(layer.K, granule)
    return layer.G * layer.OY * layer.OX * channels * kernels * taps / gain / macs


def _layer_time(layer: Layer, stored_elements: int, shortcut_elements: int, machine: Nvdla) -> LayerTime:
    part = _operands(layer)
    input_byte, weight_byte = _reads_byte(part, machine.buffer_kib * 1024)
    if layer.op == "linear":
        weight_byte /= constant("fc_batch")
    traffic = layer.G * (input_byte + weight_byte) + stored_elements + shortcut_elements
    return LayerTime(
        name=layer.name,
        mac_cycle=_mac_cycle(layer, machine.macs),
        dram_cycle=traffic / byte_per_cycle(machine),
        input_byte=layer.G * input_byte,
        weight_byte=layer.G * weight_byte,
        output_byte=float(stored_elements),
        shortcut_byte=float(shortcut_elements),
    )


def layer_times(workload: Workload, machine: Nvdla) -> tuple[LayerTime, ...]:
    """Every convolution of one frame, in order; pooling and additions are charged to the one that they follow.

    Raises:
        InvalidInputError: a batch above 1, an operator that NVDLA's pipelines have no place for, or a layer that does
            not fit the buffer in any way.
    """
    heads: list[Layer] = []
    stored: list[int] = []
    shortcut: list[int] = []
    for layer in workload.layers:
        if layer.B != 1:
            raise InvalidInputError(f"frames are timed one by one, but layer {layer.name!r} has B = {layer.B}; use 1")
        if layer.op in ("conv2d", "linear"):
            heads.append(layer)
            stored.append(layer.outputs)
            shortcut.append(0)
        elif layer.op in _POOLS and heads:
            stored[-1] = layer.outputs
        elif layer.op == "add" and heads:
            shortcut[-1] += layer.outputs
        elif layer.op not in _FREE:
            raise InvalidInputError(
                f"NVDLA runs convolutions with what may follow them, but layer {layer.name!r} is {layer.op!r} "
                f"at place {len(heads)}; leave it to the processor"
            )
    return tuple(_layer_time(*args, machine) for args in zip(heads, stored, shortcut, strict=True))


def frames_per_second(workload: Workload, machine: Nvdla) -> float:
    """Frames a second at 1 GHz, int8, layers one after the other."""
    return constant("frequency_mhz") * 1e6 / sum(time.cycle for time in layer_times(workload, machine))
