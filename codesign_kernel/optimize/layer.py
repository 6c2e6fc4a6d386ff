"""IntegerLayer: one layer of a quantised network as plain integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import index
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.accelerator.types import ACC_BITS, MULTIPLIER_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer

OPS = ("conv2d", "linear", "avg_pool2d", "max_pool2d", "add")
#: Layers without weights of their own: the array of ones that they keep says how many channels and which window.
PLAIN_OPS = ("avg_pool2d", "max_pool2d", "add")
#: The name under which a layer reads the network's input.
INPUT = "input"
#: Widths that a layer's own weights can have (bit).
WEIGHT_BITS = (2, 4, 8, 16)
ARRAYS = ("weight", "bias", "multiplier", "shift")
MULTIPLIER_RANGE = (1, (1 << MULTIPLIER_BITS) - 1)

Shape = tuple[int, int, int]


def shift_range(acc_bits: int) -> tuple[int, int]:
    """The shifts of a requantiser: total * multiplier stays below 2^(acc_bits + 15), so more only give 0."""
    return 1, acc_bits + MULTIPLIER_BITS - 1


def is_scale(value: object) -> bool:
    """Whether a value can be a scale: a finite number above 0."""
    return isinstance(value, (int, float, np.floating)) and value is not True and 0 < float(value) < math.inf


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A convolution, fully connected layer, pooling or addition with its requantiser and ReLU.

    For every output channel k, with ``acc`` the integer convolution, the sum (``avg_pool2d``: padding counts as zeros)
    or the maximum (``max_pool2d``: padding never wins) over the window, or the sum of two maps (``add``)::

        t = (acc + bias[k]) * multiplier[k]
        q = clamp((t + 2^(shift[k]-1)) >> shift[k], -2^(bits-1), 2^(bits-1)-1)     rounds half up

    then ``max(q, 0)`` where ``relu``, then the maximum over windows of ``pool`` x ``pool``. An average's division by
    its window is part of ``multiplier / 2^shift``; a maximum keeps its map's scale with 32768 / 2^15.

    Attributes:
        name: unique within its network; ``"input"`` is the network's input.
        op: ``"conv2d"``, ``"linear"``, ``"avg_pool2d"``, ``"max_pool2d"`` or ``"add"``.
        weight: int8 [K, C/groups, FY, FX]; for ``linear`` [K, C, 1, 1]; for a pooling ones [K, 1, FY, FX] and for
            ``add`` ones [K, 1, 1, 1], with ``groups`` = K. int16 in a network of 16 bits.
        bias: int32 [K], in units of the accumulator; int64 beside weights of int16; 0 for poolings and ``add``.
        multiplier: int32 [K], 1 to 65535. shift: int32 [K], 1 to 47, and to 63 beside weights of int16.
        stride, padding, dilation: (y, x), element; the padding is of zeros, and that of a pooling smaller than its
            window.
        groups: of the convolution.
        relu: whether negative results become 0.
        pool: edge and stride of the max pooling behind a convolution (element); 1 is none; a remainder of the map is
            dropped.
        flatten: whether the input map (C, H, W) is flattened in that order first; ``linear`` only.
        scale: what one step of the output stands for.
        reads: names of the earlier layers whose maps it reads, or ``"input"``: two for ``add``, else one. Empty: the
            layer before it, and the input for the first.
        weight_bits: width of its weights (bit): 2, 4, 8 or 16, at most the network's; 0 is the network's. Activations
            have the network's width always.

    Raises:
        InvalidInputError: a field breaks a law; the message names layer and field.
    """

    name: str
    op: str
    weight: NDArray[np.int8] | NDArray[np.int16]
    bias: NDArray[np.int32] | NDArray[np.int64]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    relu: bool = False
    pool: int = 1
    flatten: bool = False
    scale: float = 1.0
    reads: tuple[str, ...] = ()
    weight_bits: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInputError(f"a layer's name is a text of at least one letter, but got {self.name!r}")
        if self.name == INPUT:
            raise InvalidInputError(f"{INPUT!r} is the network's input, so no layer has this name; choose another")
        if self.op not in OPS:
            self._refuse("op", f"is one of {', '.join(map(repr, OPS))}", repr(self.op))
        self._check_arrays()
        for name, low in (("stride", 1), ("padding", 0), ("dilation", 1)):
            self._set(name, self._pair(name, low))
        for name in ("groups", "pool"):
            self._set(name, self._whole(name, getattr(self, name), 1))
        for name in ("relu", "flatten"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                self._refuse(name, "is True or False", repr(getattr(self, name)))
            self._set(name, bool(getattr(self, name)))
        if self.weight.shape[0] % self.groups:
            self._refuse("groups", f"divides the {self.weight.shape[0]} output channels", str(self.groups))
        if not is_scale(self.scale):
            self._refuse("scale", "is a finite number above 0", repr(self.scale))
        self._set("scale", float(self.scale))
        plain = (self.stride, self.padding, self.dilation, self.groups, self.pool) == ((1, 1), (0, 0), (1, 1), 1, 1)
        if self.op == "linear" and not (plain and self.weight.shape[2:] == (1, 1)):
            self._refuse(
                "op", "'linear' has a 1x1 filter, stride 1 and no padding, dilation, groups or pool", repr(self)
            )
        if self.op != "linear" and self.flatten:
            self._refuse("flatten", "is for linear layers", f"a {self.op} with flatten = True")
        if self.op in PLAIN_OPS:
            self._check_plain()
        self._check_reads()
        self._check_weight_bits()

    def _check_plain(self) -> None:
        """Poolings and additions: ones for weights, and nothing that the hardware has only for convolutions."""
        k, c, fy, fx = self.weight.shape
        if c != 1 or self.groups != k or (self.weight != 1).any() or self.bias.any():
            self._refuse(
                "weight",
                f"of op {self.op!r} is ones [K, 1, FY, FX], with groups = K and a bias of 0",
                f"shape {[k, c, fy, fx]} of {self.weight.min()} to {self.weight.max()}, groups = {self.groups}, a bias "
                f"of {self.bias.min()} to {self.bias.max()}",
            )
        if self.dilation != (1, 1) or self.pool != 1:
            self._refuse(
                "op", f"{self.op!r} has dilation 1 and pool 1", f"dilation = {self.dilation}, pool = {self.pool}"
            )
        if self.op == "add" and (fy, fx, self.stride, self.padding) != (1, 1, (1, 1), (0, 0)):
            self._refuse(
                "op", "'add' has a 1x1 window, stride 1 and no padding",
                f"a window of {fy}x{fx}, stride = {self.stride}, padding = {self.padding}",
            )  # fmt: skip
        if self.padding[0] >= fy or self.padding[1] >= fx:
            self._refuse("padding", f"is smaller than the window of {fy}x{fx}", str(self.padding))

    def _check_reads(self) -> None:
        reads = self.reads
        if not isinstance(reads, (tuple, list)) or not all(isinstance(name, str) and name for name in reads):
            self._refuse("reads", "is a tuple of names of layers", repr(reads))
        self._set("reads", tuple(reads))
        if self.op == "add" and (len(reads) != 2 or reads[0] == reads[1]):
            self._refuse("reads", "of an addition names two different maps", repr(reads))
        if self.op != "add" and len(reads) > 1:
            self._refuse("reads", "names one map, and two only for op 'add'", repr(reads))

    def _check_weight_bits(self) -> None:
        legal = (0,) if self.op in PLAIN_OPS else (0, *WEIGHT_BITS)
        bits = self._whole("weight_bits", self.weight_bits, 0)
        if bits not in legal:
            self._refuse("weight_bits", f"is one of {legal} for op {self.op!r}", repr(self.weight_bits))
        self._set("weight_bits", bits)
        top = 1 << (bits - 1) if bits else math.inf
        if self.weight.min() < -top or self.weight.max() >= top:
            self._refuse(
                "weight", f"of {bits} bits lies between {-top} and {top - 1}",
                f"{self.weight.min()} to {self.weight.max()}",
            )  # fmt: skip

    def _check_arrays(self) -> None:
        wide = getattr(self.weight, "dtype", None) == np.int16
        for name, kind, dims in (
            ("weight", np.int16 if wide else np.int8, 4),
            ("bias", np.int64 if wide else np.int32, 1),
            ("multiplier", np.int32, 1),
            ("shift", np.int32, 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype != kind or value.ndim != dims:
                got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
                kinds = "int8 or int16" if name == "weight" else str(np.dtype(kind))
                self._refuse(name, f"is an array of {kinds} with {dims} dimension{'s' * (dims > 1)}", got)
            value = np.array(value, order="C")  # an own copy, so that nobody changes a network behind its digest
            value.setflags(write=False)
            self._set(name, value)
        if not self.weight.size:
            self._refuse("weight", "has at least one element in every dimension", str(list(self.weight.shape)))
        for name in ("bias", "multiplier", "shift"):
            if getattr(self, name).shape != self.weight.shape[:1]:
                self._refuse(
                    name,
                    f"has one value for each of the {len(self.weight)} output channels",
                    str(len(getattr(self, name))),
                )
        shifts = shift_range(self.acc_bits)
        for name, (low, high) in (("bias", self.sums), ("multiplier", MULTIPLIER_RANGE), ("shift", shifts)):
            value = getattr(self, name)
            if value.min() < low or value.max() > high:
                self._refuse(name, f"lies between {low} and {high}", f"{value.min()} to {value.max()}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _refuse(self, field: str, law: str, got: str) -> NoReturn:
        raise InvalidInputError(f"{field} {law}, but layer {self.name!r} has {got}")

    def _whole(self, name: str, value: Any, low: int) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__") or index(value) < low:
            self._refuse(name, f"is an integer >= {low}", repr(value))
        return index(value)

    def _pair(self, name: str, low: int) -> tuple[int, int]:
        value = getattr(self, name)
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            self._refuse(name, "is a pair (y, x)", repr(value))
        return self._whole(name, value[0], low), self._whole(name, value[1], low)

    def __repr__(self) -> str:
        k, c, fy, fx = self.weight.shape
        extra = "".join(f", {name}={value}" for name, value in self.settings().items() if name not in ("name", "op"))
        return f"IntegerLayer({self.name!r}, {self.op!r}, weight={self.weight.dtype}[{k}, {c}, {fy}, {fx}]{extra})"

    @property
    def acc_bits(self) -> int:
        """Width of the accumulators that the layer needs (bit)."""
        return ACC_BITS[8 * self.weight.itemsize]

    @property
    def sums(self) -> tuple[int, int]:
        """Smallest and largest sum of an accumulator."""
        return -(1 << (self.acc_bits - 1)), (1 << (self.acc_bits - 1)) - 1

    def settings(self) -> dict[str, Any]:
        """Every field that is not an array; ``reads`` and ``weight_bits`` only where they are given, so that networks
        without them keep their digests."""
        names = ("name", "op", "stride", "padding", "dilation", "groups", "relu", "pool", "flatten", "scale")
        given = [name for name in ("reads", "weight_bits") if getattr(self, name)]
        return {name: getattr(self, name) for name in (*names, *given)}

    def map_shape(self, shape: Shape) -> Shape:
        """(K, OY, OX) of the layer's own result, before the fused pooling, for an input map of ``shape`` (C, IY, IX).

        Raises:
            InvalidInputError: the layer cannot read that map.
        """
        k, c, fy, fx = self.weight.shape
        if self.flatten:
            shape = (math.prod(shape), 1, 1)
        if shape[0] != c * self.groups:
            raise InvalidInputError(
                f"layer {self.name!r} reads {c * self.groups} channels, but its input map (C, H, W) is {shape}; "
                "a layer reads what the one before it writes, or those that its field reads names"
            )
        if self.op == "linear" and shape[1:] != (1, 1):
            raise InvalidInputError(
                f"a linear layer reads a map of 1x1, but the input of {self.name!r} is {shape}; set flatten"
            )
        edges = []
        for i, f, s, p, d in zip(shape[1:], (fy, fx), self.stride, self.padding, self.dilation, strict=True):
            edges.append((i + 2 * p - d * (f - 1) - 1) // s + 1)
        if min(edges) < self.pool:
            what = (
                f"a pool of {self.pool}"
                if min(edges) >= 1
                else f"a {'window' if self.op in PLAIN_OPS else 'filter'} of {fy}x{fx}"
            )
            raise InvalidInputError(f"the input map {shape} (C, H, W) of layer {self.name!r} is too small for {what}")
        return k, edges[0], edges[1]

    def output_shape(self, shape: Shape) -> Shape:
        """(K, H, W) as written to memory, after pooling, for an input map of ``shape``."""
        k, oy, ox = self.map_shape(shape)
        return k, oy // self.pool, ox // self.pool


def nests(layer: IntegerLayer, shape: Shape, bits: int) -> list[Layer]:
    """The loop nests of a layer that reads a map of ``shape``: itself, then its ReLU and its fused pooling.

    What does no MACs has C = K and G = 1, so that its inputs and outputs count, as in the profiler.
    """
    k, oy, ox = layer.map_shape(shape)
    _, c, fy, fx = layer.weight.shape
    groups, c = (1, k) if layer.op in PLAIN_OPS else (layer.groups, c)
    iy, ix = (1, 1) if layer.flatten else shape[1:]
    chain = [
        Layer(
            layer.name, layer.op, G=groups, K=k // groups, C=c, OY=oy, OX=ox, FY=fy, FX=fx, IY=iy, IX=ix,
            stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
            weight_bits=layer.weight_bits or bits, input_bits=bits,
        )
    ]  # fmt: skip
    if layer.relu:
        chain.append(
            Layer(f"{layer.name}.relu", "relu", K=k, C=k, OY=oy, OX=ox, IY=oy, IX=ox, weight_bits=bits, input_bits=bits)
        )
    if layer.pool > 1:
        edge = layer.pool
        chain.append(
            Layer(
                f"{layer.name}.max_pool2d", "max_pool2d", K=k, C=k, OY=oy // edge, OX=ox // edge, FY=edge,
                FX=edge, IY=oy, IX=ox, stride=(edge, edge), weight_bits=bits, input_bits=bits,
            )
        )  # fmt: skip
    return chain
