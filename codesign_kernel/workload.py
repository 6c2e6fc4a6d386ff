"""Workload: a network as loop bounds and precisions, without its weights and without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType

from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import quantity

#: Operators whose eight loops multiply and accumulate; every other operator does no MACs.
MAC_OPS = frozenset({"conv2d", "conv_transpose2d", "linear", "matmul"})
LOOPS = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")


@dataclass(frozen=True)
class Layer:
    """One operator as a loop nest. Loop names are those of ZigZag and of the field.

    Attributes:
        name: unique within its workload; the module path where there is one.
        op: the operator: ``conv2d``, ``linear`` and ``matmul`` do MACs; ``relu``, ``max_pool2d``, ``add``, ``softmax``
            and so on do none.
        B: batch. G: groups. K, C: output and input channels *of one group*. OY, OX: output rows and columns.
        FY, FX: filter (or pooling window) rows and columns. All in elements.
        IY, IX: input rows and columns as stored, before padding (element).
        stride, padding, dilation: (y, x), element.
        weight_bits, input_bits, acc_bits: precision of the operands W, I and of the accumulator (bit).
        steps: parts of its rows, equally many each, that follow one another because each needs the result of the one
            before: the time steps of a recurrent product. 1 for all that is computed at once.
    """

    name: str
    op: str
    B: int = 1
    G: int = 1
    K: int = 1
    C: int = 1
    OY: int = 1
    OX: int = 1
    FY: int = 1
    FX: int = 1
    IY: int = 1
    IX: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    weight_bits: int = 8
    input_bits: int = 8
    acc_bits: int = 32
    steps: int = 1

    def __post_init__(self) -> None:
        for loop in (*LOOPS, "IY", "IX", "steps"):
            value = getattr(self, loop)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(
                    f"loop bounds are integers >= 1, but layer {self.name!r} has {loop} = {value!r}; "
                    "check the shape that the network was profiled with"
                )

        if self.OY * self.OX % self.steps:
            raise InvalidInputError(
                f"the rows of a layer come in equal steps, but layer {self.name!r} has {self.OY * self.OX} rows in "
                f"{self.steps} steps"
            )
        for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
            pair = getattr(self, name)
            whole = isinstance(pair, tuple) and len(pair) == 2 and all(type(v) is int and v >= least for v in pair)
            if not whole:
                raise InvalidInputError(
                    f"{name} is a pair (y, x) of integers >= {least}, but layer {self.name!r} has {pair!r}"
                )
        if self.op in MAC_OPS and min(self.weight_bits, self.input_bits, self.acc_bits) < 1:
            raise InvalidInputError(f"precisions are at least 1 bit, but layer {self.name!r} has one below")

    @property
    def macs(self) -> int:
        """Multiply-accumulates: the product of the eight loops for an operator that does MACs, else 0.

        A transposed convolution multiplies every input element by every filter element: IY, IX in place of OY, OX.
        """
        if self.op not in MAC_OPS:
            return 0
        y, x = (self.IY, self.IX) if self.op == "conv_transpose2d" else (self.OY, self.OX)
        return self.B * self.G * self.K * self.C * y * x * self.FY * self.FX

    @property
    def weights(self) -> int:
        """Elements of the W operand (0 for operators without one; for ``matmul`` the second activation)."""
        return (
            self.G * self.K * self.C * self.FY * self.FX * (self.B if self.op == "matmul" else 1)
            if self.op in MAC_OPS
            else 0
        )

    @property
    def inputs(self) -> int:
        """Elements of the I operand."""
        return self.B * self.G * self.C * self.IY * self.IX

    @property
    def outputs(self) -> int:
        """Elements of the O operand."""
        return self.B * self.G * self.K * self.OY * self.OX


@dataclass(frozen=True)
class Workload(Shown):
    """A network: its operators in execution order and the tensors between them.

    Attributes:
        name: of the network.
        layers: in execution order; names are unique.
        edges: (producer, consumer) names; an operator without a producer reads the network's input. Views (flatten,
            reshape, transpose) move no data and are passed through.
        uncosted: operators for which there is no formula, and how often they occur.
    """

    name: str
    layers: tuple[Layer, ...]
    edges: tuple[tuple[str, str], ...] = ()
    uncosted: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "edges", tuple((a, b) for a, b in self.edges))
        object.__setattr__(self, "uncosted", MappingProxyType(dict(self.uncosted)))
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InvalidInputError(f"layer names are unique within a workload, but {twice} occur more than once")
        unknown = sorted({name for edge in self.edges for name in edge} - set(names))
        if unknown:
            raise InvalidInputError(f"edges join layers of the workload, but {unknown} are not among them")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass."""
        return sum(layer.macs for layer in self.layers)

    def with_batch(self, batch: int) -> Workload:
        """The same network on ``batch`` times as many inputs at once.

        Raises:
            InvalidInputError: ``batch`` is no integer of at least 1.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InvalidInputError(f"batch is an integer of at least 1, but got {batch!r}")
        return replace(self, layers=tuple(replace(layer, B=batch * layer.B) for layer in self.layers))

    def without_batch_norm(self) -> Workload:
        """The same network with each batch normalisation folded into the convolution or linear layer before it.

        Inference engines do so, and exporters to ONNX do it by default: a scale and an offset of each output channel
        are absorbed by weights and bias (Jacob et al. 2018, arXiv 1712.05877, section 3.2). Only a normalisation whose
        producer has no other consumer can be folded.
        """
        producers: dict[str, list[str]] = {}
        consumers: dict[str, list[str]] = {}
        for a, b in self.edges:
            producers.setdefault(b, []).append(a)
            consumers.setdefault(a, []).append(b)
        op = {layer.name: layer.op for layer in self.layers}
        into: dict[str, str] = {}
        for layer in self.layers:
            if layer.op == "batch_norm" and len(producers.get(layer.name, ())) == 1:
                source = into.get(producers[layer.name][0], producers[layer.name][0])
                if op[source] in MAC_OPS - {"matmul"} and consumers[producers[layer.name][0]] == [layer.name]:
                    into[layer.name] = source
        edges = dict.fromkeys((into.get(a, a), b) for a, b in self.edges if b not in into)
        return Workload(self.name, tuple(x for x in self.layers if x.name not in into), tuple(edges), self.uncosted)

    def canonical(self) -> tuple[object, ...]:
        """What the network is, whatever its layers are called: layers without names, edges as pairs of positions.

        Two workloads with equal canonical forms cost the same on every design.
        """
        place = {layer.name: i for i, layer in enumerate(self.layers)}
        layers = tuple(replace(layer, name="") for layer in self.layers)
        edges = tuple(sorted((place[a], place[b]) for a, b in self.edges))
        return layers, edges, tuple(sorted(self.uncosted.items()))

    @property
    def digest(self) -> str:
        """sha256 of the contents (names of layers included)."""
        body = [self.name, [asdict(layer) for layer in self.layers], self.edges, dict(self.uncosted)]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        """Totals in words; ``repr`` has every layer."""
        return f"Workload {self.name}: {len(self.layers):,} layers, {quantity(self.macs, 'MAC')}"

    def __reduce__(self) -> tuple[object, ...]:  # a mapping proxy does not pickle
        return (Workload, (self.name, self.layers, self.edges, dict(self.uncosted)))
