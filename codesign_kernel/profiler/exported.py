"""Exported programs (``torch.export``): their graph of ATen operators, run on torch's meta device under the recorder.

A program in memory and a program in a file become the same plain graph and are run in the same way; ``pt2`` reads the
file.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.events import Trace
from codesign_kernel.profiler.table import FORMULAS
from codesign_kernel.profiler.trace import FORWARD_ERRORS, Recorder, shapes_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: More elements than this no tensor of a network has.
LARGEST = 1 << 48
#: torch's types by name, as a profile writes them.
DTYPE_NAMES = {
    str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)
}


@dataclass(frozen=True)
class Name:
    """A value of the graph, in the arguments of an operator."""

    name: str


@dataclass(frozen=True)
class GraphCall:
    """One operator. ``outputs``: names of what it returns, None where a part has none; nested as it returns them.

    ``path`` and ``stack``: the innermost module's path, and the chain of modules, which tells one call from the next.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    path: str
    stack: str


@dataclass(frozen=True)
class Graph:
    """A program: values that are there at the start (on the meta device), the names of the parameters and of the inputs
    among them, the operators in order, and the names of what is returned. A parameter is (name here, name in the
    model)."""

    values: dict[str, Any]
    parameters: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]
    calls: tuple[GraphCall, ...]
    outputs: tuple[str, ...]


#: What a graph may call besides ATen operators: arithmetic on sizes.
SCALARS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in (
        "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_",
        "getitem",
    )},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    **{f"torch.sym_{name}": getattr(torch, f"sym_{name}") for name in ("max", "min", "not", "float", "int", "ite")},
}  # fmt: skip
#: Checks that exporting writes into a graph: nothing is computed.
CHECKS = frozenset((
    "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size", "_assert_async",
))  # fmt: skip


def aten(target: Any) -> bool:
    """Whether ``target`` is an operator of ATen."""
    return isinstance(target, torch._ops.OpOverload) and target.namespace == "aten"


def trace_graph(graph: Graph, given: Sequence[Tensor] = ()) -> tuple[Trace, list[Tensor]]:
    """What a run of the program computes, and its inputs.

    Args:
        given: tensors to take in place of the inputs that the program was exported with.

    Raises:
        InvalidInputError: shapes do not fit, or an operator that is not ATen's.
    """
    values = dict(graph.values)
    if given and len(given) != len(graph.inputs):
        raise InvalidInputError(f"the program has {len(graph.inputs)} inputs, but {len(given)} were given")
    for name, tensor in zip(graph.inputs, given, strict=False):
        values[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    parameters = {id(values[place]): (name, values[place]) for place, name in reversed(graph.parameters)}
    recorder = Recorder([*parameters.values()][::-1], FORMULAS.keys())
    inputs = [values[name] for name in graph.inputs if isinstance(values[name], Tensor)]
    refs = tuple(recorder.ref(tensor) for tensor in inputs)
    inner = Counter(path for path in {call.path for call in graph.calls} for path in _above(path))
    numbers: dict[str, int] = {}
    with recorder.recording():
        for call in graph.calls:
            number = numbers.setdefault(call.stack, len(numbers) + 1)
            recorder.at(call.path, number, leaf=bool(call.path) and not inner[call.path])
            _run(call, values)
    returned = [values[name] for name in graph.outputs if isinstance(values.get(name), Tensor)]
    outputs = tuple(recorder.ref(tensor) for tensor in returned)
    return Trace(tuple(recorder.events), refs, recorder.parameters, outputs), inputs


def _above(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _run(call: GraphCall, values: dict[str, Any]) -> None:
    args, kwargs = _resolved(call.args, values), _resolved(call.kwargs, values)
    target = call.target
    if aten(target):
        if target._schema.name.removeprefix("aten::") in CHECKS:
            return
        args, kwargs = _as_inference(target, args, kwargs)
    try:
        result = target(*args, **kwargs)
    except (*FORWARD_ERRORS, NotImplementedError, ZeroDivisionError, OverflowError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise InvalidInputError(
            f"operators of an exported program fit their operands, but {call.path or 'the program'} calls {target} on "
            f"{shapes_of((args, kwargs))}: {reason}; export the network again"
        ) from error
    _bind(call.outputs, result, values)


def _bind(names: Any, result: Any, values: dict[str, Any]) -> None:
    if isinstance(names, list):
        if not isinstance(result, list | tuple) or len(result) < len(names):
            raise InvalidInputError(
                "an exported program names what an operator returns, but it returns less; export again"
            )
        for name, part in zip(names, result, strict=False):
            _bind(name, part, values)
    elif names is not None:
        if isinstance(result, Tensor) and result.numel() > LARGEST:
            raise InvalidInputError(
                f"a tensor fits into memory, but {names[:100]!r} has shape {tuple(result.shape)[:8]}"
            )
        values[names] = result


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, Name):
        if value.name not in values:
            raise InvalidInputError(
                f"operators of an exported program are in order and have no cycle, but {value.name[:100]!r} is read "
                "before it is made; export the network again"
            )
        return values[value.name]
    if isinstance(value, list | tuple):
        return type(value)(_resolved(item, values) for item in value)
    if isinstance(value, dict):
        return {key: _resolved(item, values) for key, item in value.items()}
    return torch.device("meta") if isinstance(value, torch.device) else value


def _as_inference(target: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Training flags of dropout and normalisation off, as a profile is of inference; new tensors on the meta device."""
    args, kwargs = list(args), dict(kwargs)
    if not any(isinstance(leaf, Tensor) for leaf in torch.utils._pytree.tree_leaves((args, kwargs))):
        kwargs |= {a.name: torch.device("meta") for a in target._schema.arguments if a.name == "device"}
    for position, argument in enumerate(target._schema.arguments):
        if argument.name in ("train", "training"):
            if position < len(args):
                args[position] = False
            else:
                kwargs[argument.name] = False
    return args, kwargs


def graph_of(program: ExportedProgram) -> Graph:
    """The graph of a program in memory.

    Raises:
        InvalidInputError: it holds operators besides ATen's (custom ones, control flow).
    """
    from torch.export.graph_signature import InputKind

    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    values: dict[str, Any] = {}
    parameters, inputs, calls = [], [], []
    shared: dict[int, Tensor] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec, example = specs[node.name], node.meta.get("val")
            values[node.name] = _meta(example) if isinstance(example, Tensor) else example
            if spec.kind == InputKind.PARAMETER:
                stored = program.state_dict[spec.target]
                values[node.name] = shared.setdefault(id(stored), values[node.name])
                parameters.append((node.name, str(spec.target)))
            elif spec.kind == InputKind.USER_INPUT and isinstance(example, Tensor):
                inputs.append(node.name)
        elif node.op == "call_function":
            calls.append(_call_of(node))
        elif node.op == "get_attr":
            raise InvalidInputError(
                f"an exported program is a flat graph of operators here, but it holds the subgraph {node.target!r} "
                "(control flow, or no_grad inside forward); export without it, or profile the module itself"
            )
    return Graph(values, tuple(parameters), tuple(inputs), tuple(calls), tuple(_user_outputs(program)))


def _user_outputs(program: ExportedProgram) -> list[str]:
    return [name for name in program.graph_signature.user_outputs if isinstance(name, str)]


def _meta(tensor: Tensor) -> Tensor:
    """A tensor of the same shape; a free size is the one that the program was exported with."""
    shape = [size if isinstance(size, int) else int(size.node.hint) for size in tensor.shape]
    return torch.empty(shape, dtype=tensor.dtype, device="meta")


def _call_of(node: Any) -> GraphCall:
    target = node.target
    if not aten(target) and target not in SCALARS.values():
        raise InvalidInputError(
            f"an exported program is a graph of ATen operators, but node {node.name!r} calls {target}; "
            "profile the module itself, where a custom operator is counted in `uncosted`"
        )
    stack = node.meta.get("nn_module_stack") or {}
    path = str([*stack.values()][-1][0]) if stack else ""
    return GraphCall(target, _plain(node.args), _plain(node.kwargs), node.name, path, ";".join(map(str, stack)))


def _plain(value: Any) -> Any:
    """fx's arguments as plain ones."""
    if isinstance(value, torch.fx.Node):
        return Name(value.name)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value
