"""A torch program as ``torch.export`` writes it: ATen operators in order, and everything else as numbers."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError

#: Modules that only call others: an operator right in one of them is a function's.
_CONTAINERS = "torch.nn.modules.container."


class Program:
    """What an exported program computes.

    A name that is written in place stands for the result from there on, so that every node has one value.

    Attributes:
        name: the class of the model.
        nodes: in execution order.
        input: the node of the only input [N, C, H, W]. results: of the tensors that are returned.
        packed: whether more is returned than one tensor, or it is inside of a tuple, list or dict.

    Raises:
        UnsupportedLayerError: it has more than one input.
        InvalidInputError: it has weights without numbers.
    """

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        if len(signature.user_inputs) != 1:
            raise UnsupportedLayerError(
                f"a network has one input, but the program has {len(signature.user_inputs)}; give it one tensor"
            )
        graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        graph.output(graph.graph_copy(program.graph, copies))  # the program stays as it is
        _name_results(graph)
        self.nodes = list(graph.nodes)
        named = {node.name: copied for node, copied in copies.items()}
        self.input = named[str(signature.user_inputs[0])]
        given = [spec.arg for spec in signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
        self.results = [named[out.name] for out in given if isinstance(out, TensorArgument)]
        self.packed = len(given) != 1 or program.call_spec.out_spec is None or not program.call_spec.out_spec.is_leaf()
        self._stored = {
            named[spec.arg.name]: program.state_dict.get(str(spec.target), program.constants.get(str(spec.target)))
            for spec in signature.input_specs
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
        }
        if any(not isinstance(stored, Tensor) or stored.is_meta for stored in self._stored.values()):
            raise InvalidInputError("weights are numbers, but the program has some without; give it real weights")
        stacks = [node.meta["nn_module_stack"] for node in self.nodes if node.meta.get("nn_module_stack")]
        self.name = _class_name(next(iter(stacks[0].values()))[1]) if stacks else "program"

    def module(self, node: fx.Node) -> tuple[str, str]:
        """Path and class (with its module) of the innermost torch module in which an operator stands."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        return str(path), kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"

    def path(self, node: fx.Node) -> str:
        """Where an operator stands: the path of its module if that is torch's, else that and the operator's own name.

        ``stem.0`` is a ``Conv2d``; ``block1.add`` is a function that the module ``block1`` calls.
        """
        path, kind = self.module(node)
        if path and _is_layer(kind):
            return path
        own = re.sub(r"_(?=_\d+$|$)", "", node.name)  # relu_ and add__1 are relu and add_1, written in place
        return f"{path}.{own}" if path else own

    def kind(self, node: fx.Node) -> str:
        """The class of an operator's module if that is torch's, else the operator: ``Conv2d``, ``add``."""
        kind = self.module(node)[1]
        return _class_name(kind) if _is_layer(kind) else operator_of(node).strip("_")

    def constant(self, node: fx.Node) -> Tensor:
        """The value of a node that does not depend on the input.

        Raises:
            UnsupportedLayerError: it is drawn at random, or written in place.
        """
        if node not in self._stored:
            target: Any = node.target
            schema = getattr(target, "_schema", None)
            if schema is None or schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
                raise UnsupportedLayerError(
                    f"numbers of a network are parameters or computed from them, but {self.path(node)!r} "
                    f"({self.kind(node)}) is random or written in place; keep it as a buffer of the model"
                )
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.constant)
            with torch.no_grad():
                self._stored[node] = target(*args, **kwargs)
        value: Any = self._stored[node]
        return value.detach().cpu()


def operator_of(node: fx.Node) -> str:
    """ATen's name of an operator, without what tells its variants: ``add`` for ``aten.add_.Tensor``."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    name = target._schema.name.removeprefix("aten::")
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def arguments(node: fx.Node) -> dict[str, Any]:
    """What an ATen operator is given, by the names of its schema, with the defaults."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return {**defaults, **dict(zip((a.name for a in schema), node.args, strict=False)), **node.kwargs}


def tensor_of(node: fx.Node) -> Tensor | None:
    """Shape and type of a node's tensor, of the first if it gives several, or None if it gives none."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    return first if isinstance(first, Tensor) else None


def dims(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor; its first size may be free."""
    tensor = tensor_of(node)
    return () if tensor is None else tuple(tensor.shape)


def _is_layer(kind: str) -> bool:
    return kind.startswith("torch.nn.") and not kind.startswith(_CONTAINERS)


def _class_name(kind: Any) -> str:
    return kind.rpartition(".")[2] if isinstance(kind, str) else str(kind.__name__)


def _name_results(graph: fx.Graph) -> None:
    """Whoever reads a tensor after it was written in place reads the result of that."""
    seen: set[fx.Node] = set()
    for node in graph.nodes:
        seen.add(node)
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and node.args and isinstance(node.args[0], fx.Node):
            node.args[0].replace_all_uses_with(node, delete_user_cb=lambda user: user not in seen)
