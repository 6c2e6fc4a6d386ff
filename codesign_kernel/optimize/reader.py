"""The walk over a traced torch model that finds its layers; what each operation means is in ``operators``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from torch import fx

from codesign_kernel.errors import UnsupportedLayerError
from codesign_kernel.optimize.float_layer import FloatLayer
from codesign_kernel.optimize.layer import INPUT, Shape


@dataclass(frozen=True)
class Value:
    """What a tensor of the traced model is: a layer's map.

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
    """Walks the operations of a traced model in execution order; for each one a handler adds or changes a layer.

    Args:
        graph: the traced model, with the shapes of its tensors.
        handlers: module class, function or method name -> what to do about it.
        remedy: the name of an operation without a handler -> what to use instead.
    """

    def __init__(self, graph: fx.GraphModule, handlers: Mapping[Any, Handler], remedy: Callable[[str], str]) -> None:
        self.graph, self.handlers, self.remedy = graph, handlers, remedy
        self.modules = dict(graph.named_modules())
        self.layers: list[FloatLayer] = []
        self.values: dict[fx.Node, Value] = {}

    def read(self) -> list[FloatLayer]:
        """The layers, in execution order; the last one's map is the model's result."""
        nodes = iter(self.graph.graph.nodes)
        start = next(node for node in nodes if node.op == "placeholder")
        self.values[start] = Value(-1, shape_of(start))
        for node in nodes:
            if node.op == "output":
                self._finish(node)
            elif node.op.startswith("call") and "tensor_meta" in node.meta:  # reading a tensor's shape is free
                self.values[node] = self._take(node)
                if not _readers(node):
                    self.refuse(node, "nobody reads its result", "take it out of forward(), or return what it gives")
        return self.layers

    def _finish(self, output: fx.Node) -> None:
        if not self.layers:
            raise UnsupportedLayerError("the model holds no Conv2d and no Linear, so there is nothing to compute")
        (given,) = output.args
        if not isinstance(given, fx.Node):
            last = output.all_input_nodes[-1]
            self.refuse(last, "its result is returned inside a tuple, list or dict", "return one tensor")
        value = self.value(given, given)
        if value.layer < 0:
            self.refuse(given, "it is the model's input and its result", "return what a layer gives")
        if value.flat and self.layers[value.layer].op != "linear":
            self.refuse(given, "nothing reads the flattened map", "return the map, or end with a Linear")

    def _take(self, node: fx.Node) -> Value:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        handler = self.handlers.get(node.target if module is None else type(module))
        if handler is None:
            self.refuse(node, "the datapath has no such operation", self.remedy(self._kind(node)))
        return handler(self, node, module)

    def path(self, node: fx.Node) -> str:
        """Where the operation stands: the path of its module, or of the one that calls it and its own name."""
        if node.op == "call_module":
            return str(node.target)
        stack = list(node.meta.get("nn_module_stack") or {})
        return f"{stack[-1]}.{node.name}" if stack else node.name

    def _kind(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(self.modules[str(node.target)]).__name__
        if node.op == "placeholder":
            return "the input"
        return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))

    def refuse(self, node: fx.Node, why: str, remedy: str) -> NoReturn:
        """Say that the operation has no counterpart."""
        raise UnsupportedLayerError(
            f"layer {self.path(node)!r} ({self._kind(node)}) cannot be quantised: {why}; {remedy}"
        )

    def value(self, node: fx.Node, given: object) -> Value:
        """The map that ``node`` is given."""
        if not isinstance(given, fx.Node) or given not in self.values:
            self.refuse(node, f"it is given {given!r}, which is no map of a layer", "give it a map that a layer wrote")
        value = self.values[given]
        return replace(value, shared=value.shared or len(_readers(given)) > 1)

    def source(self, node: fx.Node) -> Value:
        """The map that ``node`` is given as its first argument."""
        return self.value(node, node.args[0] if node.args else node.kwargs.get("input"))

    def fusible(self, node: fx.Node, source: Value) -> FloatLayer:
        """The layer whose map ``source`` is, for an operation that the datapath does only on a layer's way out."""
        if source.layer < 0:
            self.refuse(
                node, "there is no Conv2d or Linear before it", "put it behind the layer whose results it works on"
            )
        return self.layers[source.layer]

    def name(self, node: fx.Node) -> str:
        """A layer's name: the path; the second use of a module is ``<path>_2``."""
        path, names = self.path(node), {INPUT, *(layer.name for layer in self.layers)}
        return next(n for n in (path, *(f"{path}_{i}" for i in range(2, len(names) + 3))) if n not in names)

    def append(self, layer: FloatLayer, node: fx.Node) -> Value:
        """Add a layer; its map."""
        self.layers.append(layer)
        return Value(len(self.layers) - 1, shape_of(node), layer.op == "linear")


def shape_of(node: fx.Node) -> Shape:
    """(C, H, W) of a node's map; (C, 1, 1) of a vector."""
    _, *shape = node.meta["tensor_meta"].shape
    c, h, w = (*shape, 1, 1)[:3]
    return c, h, w


def _readers(node: fx.Node) -> list[fx.Node]:
    return [user for user in node.users if user.op == "output" or "tensor_meta" in user.meta]


#: (reader, operation, its module if it is one) -> the map that it gives.
Handler = Callable[[Reader, fx.Node, Any], Value]
