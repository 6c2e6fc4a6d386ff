"""An ONNX graph, run node by node on torch's meta device under the recorder of ``profiler.trace``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.events import Trace
from codesign_kernel.profiler.onnx_file.call import LARGEST, Call, Value
from codesign_kernel.profiler.onnx_file.patterns import put_together
from codesign_kernel.profiler.onnx_file.rules import RULES
from codesign_kernel.profiler.onnx_file.shaping import stored
from codesign_kernel.profiler.onnx_file.structure import (
    KEPT_ELEMENTS,
    Declared,
    Node,
    Structure,
    infer_missing,
    read_structure,
)
from codesign_kernel.profiler.table import FORMULAS
from codesign_kernel.profiler.trace import FORWARD_ERRORS, Recorder

Given = Sequence[Tensor] | Mapping[str, Tensor]


def trace_onnx(path: Path, given: Given) -> tuple[Trace, list[Tensor]]:
    """What a run of the file computes, and its inputs (on the meta device).

    Args:
        given: tensors for the inputs, in order or by name; where one is not given, the file's own shape is taken. A
            first dimension that the file leaves free is a batch of 1.

    Raises:
        InvalidInputError: not an ONNX file; shapes that do not fit; another dimension is free.
    """
    structure = read_structure(path)
    inputs = _inputs(structure, given)
    values = {name: Value(tensor) for name, tensor in inputs.items()}
    try:
        values |= {name: stored(initializer) for name, initializer in structure.initializers.items()}
    except (RuntimeError, OverflowError) as error:
        raise InvalidInputError(f"every stored tensor fits into memory, but {error}") from error
    recorder = Recorder(_parameters(structure, values), FORMULAS.keys())
    refs = tuple(recorder.ref(tensor) for tensor in inputs.values())
    runner = _Runner(path, structure, values, recorder)
    with recorder.recording():
        for node in put_together(structure):
            runner.run(node)
    returned = tuple(recorder.ref(runner.values[name].tensor) for name in structure.outputs if name in runner.values)
    return Trace(tuple(recorder.events), refs, recorder.parameters, returned), list(inputs.values())


def _parameters(structure: Structure, values: Mapping[str, Value]) -> list[tuple[str, Tensor]]:
    """Stored tensors that are trained: floating point, not a lone number, no running mean or variance."""
    used = {name for node in structure.nodes for name in node.inputs}
    statistics = {name for node in structure.nodes if node.op == "BatchNormalization" for name in node.inputs[3:5]}
    return [
        (name, values[name].tensor)
        for name, initializer in structure.initializers.items()
        if name in used - statistics and initializer.dtype.is_floating_point and initializer.shape
    ]


def _inputs(structure: Structure, given: Given) -> dict[str, Tensor]:
    """The graph's inputs by name."""
    names = [declared.name for declared in structure.inputs]
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InvalidInputError(f"example inputs name inputs of the file, {names}, but got {unknown}")
        named = dict(given)
    else:
        if len(given) > len(names):
            raise InvalidInputError(f"the file has {len(names)} inputs, {names}, but {len(given)} were given")
        named = dict(zip(names, given, strict=False))
    return {declared.name: _input(declared, named.get(declared.name)) for declared in structure.inputs}


def _input(declared: Declared, given: Tensor | None) -> Tensor:
    stated = declared.shape
    if given is not None:
        fits = stated is None or (
            len(stated) == given.dim()
            and all(not isinstance(a, int) or a == b for a, b in zip(stated, given.shape, strict=True))
        )
        if not fits:
            raise InvalidInputError(
                f"input {declared.name!r} of the file has shape {stated}, but {tuple(given.shape)} was given"
            )
        return torch.empty(given.shape, dtype=given.dtype, device="meta")
    if stated is None or declared.dtype is None:
        raise InvalidInputError(f"the file does not say the shape of its input {declared.name!r}; pass example_inputs")
    shape = [1 if i == 0 and not isinstance(n, int) else n for i, n in enumerate(stated)]
    free = [n for n in shape if not isinstance(n, int)]
    if free:
        raise InvalidInputError(
            f"input {declared.name!r} of the file has shape {stated}, and what is free must be given; pass "
            f"example_inputs={{{declared.name!r}: torch.zeros(shape)}}"
        )
    size = 1
    for extent in shape:
        size *= int(extent or 0)
        if not 0 < size <= LARGEST:
            raise InvalidInputError(f"an input fits into memory, but {declared.name!r} has shape {stated[:8]}")
    return torch.empty([int(n or 0) for n in shape], dtype=declared.dtype, device="meta")


class _Runner:
    """The values of the graph while it runs."""

    def __init__(self, path: Path, structure: Structure, values: dict[str, Value], recorder: Recorder) -> None:
        self.path, self.structure, self.values, self.recorder = path, structure, values, recorder
        self._inferred: dict[str, Declared] | None = None

    def run(self, node: Node) -> None:
        missing = [name for name in node.inputs if name and name not in self.values]
        if missing:
            raise InvalidInputError(
                f"the nodes of an ONNX file are in order and have no cycle, but {node.title} reads "
                f"{missing[0][:100]!r} before it is made; export the network again"
            )
        inputs = [self.values[name] if name else None for name in node.inputs]
        self.recorder.at(node.path, node.number + 1, leaf=True)
        call = Call(node, inputs, self.recorder, self.structure.opset)
        try:
            results = self._results(call)
        except FORWARD_ERRORS as error:
            if isinstance(error, InvalidInputError):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise call.wrong(f"operands fit their operator, but {reason}") from error
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                self.values[name] = value

    def _results(self, call: Call) -> list[Value]:
        rule = RULES.get(call.node.op)
        if rule is None:
            return self._unknown(call)
        made = rule(call)
        values = [v if isinstance(v, Value) else Value(v) for v in (made if isinstance(made, list) else [made])]
        for value in values:
            if value.tensor.numel() > LARGEST:
                raise call.wrong("a result larger than any memory")
        small = all(value.tensor.numel() <= KEPT_ELEMENTS for value in values)
        folded = all(value is None or value.data is not None for value in call.values)
        if not small or not folded or any(value.data is not None for value in values) or call.node.op in _COUNTED:
            return values
        with self.recorder.paused():
            again = rule(Call(call.node, call.values, call.recorder, call.opset, folding=True))
        data = again if isinstance(again, list) else [again]
        return [
            Value(value.tensor, item if isinstance(item, Tensor) and item.device.type == "cpu" else None)
            for value, item in zip(values, data, strict=True)
        ]

    def _unknown(self, call: Call) -> list[Value]:
        """An operator without a rule: counted, with the shapes that the file or ONNX's shape inference states."""
        results = []
        for name in call.node.outputs:
            declared = self.structure.stated.get(name)
            if name and not _complete(declared):
                if self._inferred is None:
                    self._inferred = infer_missing(self.path)
                declared = self._inferred.get(name)
            if name and not _complete(declared):
                raise call.wrong("the operator has no rule here, and the file does not say what shape it makes")
            results.append(_input(declared, None) if declared and name else torch.empty(0, device="meta"))
        operands = {str(i): value.tensor for i, value in enumerate(call.values) if value}
        op = call.node.op if "::" in call.node.op else f"onnx::{call.node.op}"
        self.recorder.record(op, operands, *results)
        return [Value(tensor) for tensor in results]


_COUNTED = frozenset({"QuantizeLinear", "DequantizeLinear", "LRN", "Pad", "Resize", "Upsample"})


def _complete(declared: Declared | None) -> bool:
    return bool(
        declared
        and declared.shape is not None
        and declared.dtype is not None
        and all(isinstance(n, int) for n in declared.shape[1:])
    )
