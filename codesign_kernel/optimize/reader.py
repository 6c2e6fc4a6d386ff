"""The walk over an exported program that finds its layers; what each operator means is in ``operators``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor, fx

from codesign_kernel.errors import UnsupportedLayerError
from codesign_kernel.optimize.float_layer import FloatLayer
from codesign_kernel.optimize.fusion import FOLDED, FUSED, LAYER, NOTHING, Operator
from codesign_kernel.optimize.layer import INPUT, Shape
from codesign_kernel.optimize.program import Program, dims, operator_of, tensor_of


@dataclass(frozen=True)
class Value:
    """What a tensor of the program is: a layer's map.

    Attributes:
        layer: its number; -1 is the network's input.
        shape: (C, H, W) of the map in memory.
        flat: whether the tensor is [N, C*H*W].
        shared: whether somebody else reads the map as it is, so that nothing more can be fused into its layer.
    """

    layer: int
    shape: Shape
    flat: bool = False
    shared: bool = False


class Reader:
    """Walks the operators of a program in execution order; for each one a handler adds or changes a layer.

    Args:
        program: to be read.
        handlers: ATen's name of an operator -> what to do about it.
        views: operators that give what they are given: nothing is read or written.
        remedy: an operator without a handler -> what to use instead.
    """

    def __init__(
        self,
        program: Program,
        handlers: Mapping[str, Handler],
        views: frozenset[str],
        remedy: Callable[[str], str],
    ) -> None:
        self.program, self.handlers, self.views, self.remedy = program, handlers, views, remedy
        self.layers: list[FloatLayer] = []
        self.shapes: list[Shape] = []
        self.operators: list[Operator] = []
        self.values = {program.input: Value(-1, self.shape_of(program.input))}

    def read(self) -> list[FloatLayer]:
        """The layers, in execution order; the last one's map is the model's result."""
        for node in self.program.nodes:
            maps = [given for given in node.all_input_nodes if given in self.values]
            if node.op == "output" or not maps or tensor_of(node) is None:
                continue  # it computes a parameter, or reads a map's shape: both are known before any image comes
            if _lost_part(node):
                continue
            self.values[node] = self._take(node, maps)
            if not _readers(node):
                self.refuse(node, "nobody reads its result", "take it out of forward(), or return what it gives")
        self._finish()
        return self.layers

    def _finish(self) -> None:
        if not self.layers:
            raise UnsupportedLayerError("the model holds no Conv2d and no Linear, so there is nothing to compute")
        if not self.program.results:
            raise UnsupportedLayerError("a network returns one tensor, but the model returns none; return its result")
        result = self.program.results[0]
        if self.program.packed:
            self.refuse(result, "its result is returned inside a tuple, list or dict", "return one tensor")
        value = self.value(result, result)
        if value.layer < 0:
            self.refuse(result, "it is the model's input and its result", "return what a layer gives")
        if value.flat and self.layers[value.layer].op != "linear":
            self.refuse(result, "nothing reads the flattened map", "return the map, or end with a Linear")

    def _take(self, node: fx.Node, maps: list[fx.Node]) -> Value:
        kind = operator_of(node)
        handler = self.handlers.get(kind)
        if handler is None:
            self.refuse(node, "the datapath has no such operation", self.remedy(kind))
        before = [replace(layer) for layer in self.layers]
        value = handler(self, node)
        if value.layer >= 0:
            self.shapes[value.layer] = value.shape
        if kind != "getitem":  # which is the first part of what the operator before it gives
            fate = self._fate(before, value.layer)
            self.operators.append(self._operator(node, maps, fate, value.layer))
        return value

    def _fate(self, before: list[FloatLayer], layer: int) -> str:
        """What an operator became, by what it did to the layer that it went into."""
        if len(self.layers) > len(before):
            return LAYER
        if layer < 0:
            return NOTHING
        was, now = before[layer], self.layers[layer]
        if was.weight is not now.weight:
            return FOLDED
        return NOTHING if (was.relu, was.ceiling, was.pool) == (now.relu, now.ceiling, now.pool) else FUSED

    def _operator(self, node: fx.Node, maps: list[fx.Node], fate: str, layer: int) -> Operator:
        moves = operator_of(node) not in self.views
        own = [given for given in node.all_input_nodes if given not in self.values]
        return Operator(
            name=self.program.path(node),
            kind=self.program.kind(node),
            fate=fate,
            layer=layer,
            reads=moves * sum(math.prod(self.shape_of(given)) for given in maps),
            writes=moves * math.prod(self.shape_of(node)),
            parameters=sum(math.prod(dims(given)) for given in own if tensor_of(given) is not None),
        )

    def refuse(self, node: fx.Node, why: str, remedy: str) -> NoReturn:
        """Say that the operation has no counterpart."""
        kind = "the input" if node.op == "placeholder" else self.program.kind(node)
        raise UnsupportedLayerError(f"layer {self.program.path(node)!r} ({kind}) cannot be quantised: {why}; {remedy}")

    def value(self, node: fx.Node, given: object) -> Value:
        """The map that ``node`` is given."""
        if not isinstance(given, fx.Node) or given not in self.values:
            self.refuse(node, f"it is given {given!r}, which is no map of a layer", "give it a map that a layer wrote")
        value = self.values[given]
        return replace(value, shared=value.shared or len(_readers(given)) > 1)

    def source(self, node: fx.Node) -> Value:
        """The map that ``node`` is given as its first argument."""
        return self.value(node, node.args[0])

    def constant(self, node: fx.Node, given: object) -> Tensor | None:
        """Numbers that ``node`` is given (float64), or None if it is given none."""
        if given is None:
            return None
        if not isinstance(given, fx.Node) or given in self.values:
            self.refuse(node, f"its numbers are {given!r}, which changes with the input", "give it a parameter")
        return self.program.constant(given).double()

    def fusible(self, node: fx.Node, source: Value) -> FloatLayer:
        """The layer whose map ``source`` is, for an operation that the datapath does only on a layer's way out."""
        if source.layer < 0:
            self.refuse(
                node, "there is no Conv2d or Linear before it", "put it behind the layer whose results it works on"
            )
        return self.layers[source.layer]

    def name(self, node: fx.Node) -> str:
        """A layer's name: the path; the second use of a module is ``<path>_2``."""
        path, names = self.program.path(node), {INPUT, *(layer.name for layer in self.layers)}
        return next(n for n in (path, *(f"{path}_{i}" for i in range(2, len(names) + 3))) if n not in names)

    def append(self, layer: FloatLayer, node: fx.Node) -> Value:
        """Add a layer; its map."""
        self.layers.append(layer)
        self.shapes.append(self.shape_of(node))
        return Value(len(self.layers) - 1, self.shape_of(node), layer.op == "linear")

    def shape_of(self, node: fx.Node) -> Shape:
        """(C, H, W) of a node's map; (C, 1, 1) of a vector."""
        _, *shape = dims(node)
        if any(isinstance(size, torch.SymInt) for size in shape):
            self.refuse(
                node, f"its map (C, H, W) is {tuple(shape)}, with free sizes",
                "export the model for maps of one size; only the batch may be free",
            )  # fmt: skip
        c, h, w = (*shape, 1, 1)[:3]
        return c, h, w


def _lost_part(node: fx.Node) -> bool:
    """Whether it is a part of a result of several, such as the indices of a pooling, that nobody wants."""
    return operator_of(node) == "getitem" and bool(node.args[1] != 0) and not node.users


def _readers(node: fx.Node) -> list[fx.Node]:
    return [
        user for user in node.users if user.op == "output" or (tensor_of(user) is not None and not _lost_part(user))
    ]


#: (reader, operator) -> the map that it gives.
Handler = Callable[[Reader, fx.Node], Value]
