"""IntegerNetwork: a quantised network as plain integers, and what the hardware makes of an input."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign_kernel.accelerator.types import ACC_BITS, DATA_BITS
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import archive
from codesign_kernel.optimize.golden import run_layer
from codesign_kernel.optimize.joints import check_graph, sources_of
from codesign_kernel.optimize.layer import ARRAYS, IntegerLayer, Shape, is_scale, nests
from codesign_kernel.workload import Layer, Workload

#: Elements of the largest map that the golden model holds at once (float64: 32 MiB).
CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, eq=False)
class IntegerNetwork(Shown):
    """Integer layers and who reads whom: what :func:`codesign_kernel.quantize` returns, and what is lowered.

    The last layer gives the result; the map of every other one is read by a layer behind it. The two maps of an
    addition have one shape and one scale, as their integers are added. A max pooling that could be the ``pool`` of the
    convolution before it is written as such: one network has one form, and its layers are the steps of its program.

    Attributes:
        name: of the network.
        input_shape: (C, H, W), element.
        input_scale: what one step of the input stands for.
        bits: width of activations, and of weights where a layer has no ``weight_bits`` of its own (bit): 4, 8 or 16.
        layers: in execution order.

    Raises:
        InvalidInputError: a layer does not fit what it reads, reads what is not there or is not read itself, a weight
            does not fit ``bits``, or a sum could leave the accumulator (32 bits, or 48 for ``bits`` = 16).
    """

    name: str
    input_shape: Shape
    input_scale: float
    bits: int
    layers: tuple[IntegerLayer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not isinstance(self.name, str) or not all(isinstance(layer, IntegerLayer) for layer in self.layers):
            raise InvalidInputError(
                f"a network has a name and IntegerLayers, but got {self.name!r} and {self.layers!r}"
            )
        shape = self.input_shape
        if (
            not isinstance(shape, (tuple, list))
            or len(shape) != 3
            or not all(hasattr(v, "__index__") and v >= 1 for v in shape)
        ):
            raise InvalidInputError(f"input_shape is (C, H, W), three integers >= 1, but got {shape!r}")
        object.__setattr__(self, "input_shape", tuple(map(index, shape)))
        if not is_scale(self.input_scale):
            raise InvalidInputError(f"input_scale is a finite number above 0, but got {self.input_scale!r}")
        object.__setattr__(self, "input_scale", float(self.input_scale))
        if not isinstance(self.bits, int) or self.bits not in DATA_BITS:
            raise InvalidInputError(f"bits is one of {DATA_BITS}, but got {self.bits!r}")
        if not self.layers:
            raise InvalidInputError("a network has at least one layer, but got none")
        for layer in self.layers:
            self._check_range(layer)
        check_graph(self.layers, self.sources, self.input_scale)
        _ = self.shapes, self.workload  # both refuse layers that do not fit together

    def _check_range(self, layer: IntegerLayer) -> None:
        low, high = self.range
        if layer.weight.min() < low or layer.weight.max() > high:
            raise InvalidInputError(
                f"weights of {self.bits} bits lie between {low} and {high}, but those of layer {layer.name!r} "
                f"reach from {layer.weight.min()} to {layer.weight.max()}"
            )
        if layer.weight_bits > self.bits:
            raise InvalidInputError(
                f"weights are at most as wide as the network's {self.bits} bits, but layer {layer.name!r} has "
                f"weight_bits = {layer.weight_bits}; quantise the network with more bits"
            )
        if layer.weight.dtype != self.dtype:
            raise InvalidInputError(
                f"weights of {self.bits} bits are an array of {np.dtype(self.dtype)}, but those of layer "
                f"{layer.name!r} are {layer.weight.dtype}"
            )
        bound = 1 << (ACC_BITS[self.bits] - 1)
        worst = np.abs(layer.weight.astype(np.int64)).sum(axis=(1, 2, 3)) * -low + np.abs(layer.bias.astype(np.int64))
        if worst.max() >= bound:
            raise InvalidInputError(
                f"an accumulator of {ACC_BITS[self.bits]} bits holds sums below {bound}, but channel {worst.argmax()} "
                f"of layer {layer.name!r} can reach {worst.max()}; use fewer input channels, a smaller filter or a "
                "smaller bias"
            )

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer of ``bits`` signed bits."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    @property
    def dtype(self) -> type[np.int8] | type[np.int16]:
        """What weights, inputs and outputs are kept as."""
        return np.int16 if self.bits == 16 else np.int8

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the numbers of those whose maps it reads, two for an addition; -1 is the input."""
        return sources_of(self.layers)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """(C, H, W) in memory: of the input, then of each layer's map; layer i reads ``shapes[source + 1]``."""
        shapes = [self.input_shape]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            given = [shapes[source + 1] for source in sources]
            if len(set(given)) > 1:
                raise InvalidInputError(
                    f"the two maps of an addition have one shape (C, H, W), but {layer.name!r} reads "
                    f"{given[0]} and {given[1]}; give the branches equal channels, strides and padding"
                )
            shapes.append(layer.output_shape(given[0]))
        return tuple(shapes)

    def __str__(self) -> str:
        """What it is in a line; ``repr`` has every layer."""
        shape = " x ".join(map(str, self.input_shape))
        count = len(self.layers)
        return f"IntegerNetwork {self.name}: int{self.bits}, {count} layers, {self.workload.macs:,} MAC, input {shape}"

    @property
    def output_scale(self) -> float:
        """What one step of the output stands for."""
        return self.layers[-1].scale

    @cached_property
    def workload(self) -> Workload:
        """The layers as loop nests, batch 1, and behind them operators ``<layer>.relu`` and ``<layer>.max_pool2d``.

        An edge joins the last nest of a layer to the first of one that reads it; the input has no edges.
        """
        groups: list[list[Layer]] = []
        edges: list[tuple[str, str]] = []
        for layer, sources in zip(self.layers, self.sources, strict=True):
            group = nests(layer, self.shapes[sources[0] + 1], self.bits)
            edges += [(groups[source][-1].name, layer.name) for source in sources if source >= 0]
            edges += pairwise(nest.name for nest in group)
            groups.append(group)
        return Workload(self.name, tuple(chain.from_iterable(groups)), tuple(edges))

    @cached_property
    def digest(self) -> str:
        """sha256 over every field and array."""
        body = hashlib.sha256()
        body.update(self.header().encode())
        for array in self.arrays().values():
            body.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return body.hexdigest()

    def header(self) -> str:
        """Everything but the arrays, as JSON."""
        own = {"name": self.name, "input_shape": self.input_shape, "input_scale": self.input_scale, "bits": self.bits}
        layers = [{**layer.settings(), "shape": layer.weight.shape} for layer in self.layers]
        return json.dumps({**own, "layers": layers}, sort_keys=True)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """``{"<layer number>.<field>": array}``."""
        return {f"{i}.{name}": getattr(layer, name) for i, layer in enumerate(self.layers) for name in ARRAYS}

    def quantize_input(self, x: ArrayLike) -> NDArray[Any]:
        """Real inputs [N, C, H, W] as integers: round(x / input_scale), half to even, clamped to ``bits``.

        int8, or int16 in a network of 16 bits.

        Raises:
            InvalidInputError: the shape is another one, or a value is not a finite number.
        """
        real = self._batch(x).astype(np.float64)
        if not np.isfinite(real).all():
            raise InvalidInputError(
                f"inputs are finite numbers, but {(~np.isfinite(real)).sum()} of {real.size} are NaN or infinite"
            )
        return np.clip(np.rint(real / self.input_scale), *self.range).astype(self.dtype)

    def as_quantized(self, x: ArrayLike) -> NDArray[Any]:
        """Inputs [N, C, H, W] as integers: floating point is quantised, integers are taken as quantised.

        Raises:
            InvalidInputError: the shape is another one, or a value is not a finite number.
        """
        batch = self._batch(x)
        return self.quantize_input(batch) if batch.dtype.kind == "f" else batch

    def predict(self, x: ArrayLike) -> NDArray[np.int64]:
        """The network's result: [N, K], or [N, K, H, W] where the last layer is not linear.

        Args:
            x: [N, C, H, W]; floating point is quantised first, integers are taken as quantised.

        Raises:
            InvalidInputError: the shape is another one, or a value is outside its range.
        """
        return np.concatenate([maps[-1] for maps in self._run(self.as_quantized(x))])

    def layer_outputs(self, xq: ArrayLike) -> list[NDArray[np.int64]]:
        """What the hardware writes to memory after each layer, for quantised inputs [N, C, H, W].

        Returns:
            For each layer [N, K, H, W] after ReLU and pooling; [N, K] for linear layers.
        """
        return [np.concatenate(parts) for parts in zip(*self._run(self._batch(xq)), strict=True)]

    def _run(self, xq: NDArray[Any]) -> Iterator[list[NDArray[np.int64]]]:
        """The outputs of every layer, for as many inputs at a time as keep memory bounded."""
        low, high = self.range
        if xq.dtype.kind not in "iu":
            raise InvalidInputError(
                f"quantised inputs are integers, but got {xq.dtype}; see IntegerNetwork.quantize_input"
            )
        if xq.min() < low or xq.max() > high:
            raise InvalidInputError(
                f"quantised inputs of {self.bits} bits lie between {low} and {high}, but got {xq.min()} to {xq.max()}; "
                "pass real values as floating point"
            )
        before = [self.shapes[sources[0] + 1] for sources in self.sources]
        largest = max(
            math.prod(shape)
            for given, layer in zip(before, self.layers, strict=True)
            for shape in (given, layer.map_shape(given))
        )
        step = max(1, CHUNK_ELEMENTS // largest)
        for at in range(0, len(xq), step):
            maps = [xq[at : at + step].astype(np.int64)]
            for layer, sources in zip(self.layers, self.sources, strict=True):
                maps.append(run_layer(layer, [maps[source + 1] for source in sources], self.bits))
            yield [m[:, :, 0, 0] if layer.op == "linear" else m for layer, m in zip(self.layers, maps[1:], strict=True)]

    def _batch(self, x: ArrayLike) -> NDArray[Any]:
        try:
            batch = np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors that need a gradient
            raise InvalidInputError(f"inputs are an array of numbers, but {error}") from error
        if batch.dtype.kind not in "fiu":
            raise InvalidInputError(f"inputs are floating point or integers, but got {batch.dtype}")
        if batch.ndim != 4 or batch.shape[1:] != self.input_shape or not len(batch):
            c, h, w = self.input_shape
            raise InvalidInputError(
                f"expected (N, C, H, W) = (N >= 1, {c}, {h}, {w}), but got {tuple(batch.shape)}; "
                "a single map needs a batch dimension of 1"
            )
        return batch

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the network to exactly this path (.npz is usual) and return it.

        Raises:
            OutputError: the file cannot be written there.
        """
        return archive.write(path, self.header(), self.arrays(), self.digest)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IntegerNetwork:
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises:
            InvalidInputError: there is no such file, it is malformed, or it does not match its digest.
        """
        header, arrays, digest = archive.read(path)
        try:
            own = json.loads(header)
            layers = []
            for i, fields in enumerate(own.pop("layers")):
                del fields["shape"]
                fields.update({name: arrays[f"{i}.{name}"] for name in ARRAYS})
                layers.append(IntegerLayer(**fields))
            network = cls(**own, layers=tuple(layers))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise archive.malformed(path, error) from error
        if network.digest != digest:
            raise archive.malformed(path, "its contents do not match its digest")
        return network
