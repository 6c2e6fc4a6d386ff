"""The structure of an ONNX file as plain Python: inputs, initializers, nodes. Weights are not kept.

Format: github.com/onnx/onnx, ``onnx/onnx.proto`` and ``docs/ExternalData.md``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError

from codesign_kernel.errors import InvalidInputError

#: Initializers and constants up to this many elements keep their values: shapes, axes, bounds.
KEPT_ELEMENTS = 65_536
#: Longest text that is taken from a file into a name.
TEXT = 200

_DTYPES = {
    "FLOAT": torch.float32, "UINT8": torch.uint8, "INT8": torch.int8, "UINT16": torch.uint16, "INT16": torch.int16,
    "INT32": torch.int32, "INT64": torch.int64, "BOOL": torch.bool, "FLOAT16": torch.float16, "DOUBLE": torch.float64,
    "UINT32": torch.uint32, "UINT64": torch.uint64, "COMPLEX64": torch.complex64, "COMPLEX128": torch.complex128,
    "BFLOAT16": torch.bfloat16, "FLOAT8E4M3FN": torch.float8_e4m3fn, "FLOAT8E5M2": torch.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True)
class Initializer:
    """A tensor stored in the file: its type, and its values where they are few."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    values: torch.Tensor | None


@dataclass(frozen=True)
class Declared:
    """A graph input, or a value whose shape the file states; a dimension that is free is its name (or None)."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: torch.dtype | None


@dataclass
class Node:
    """One operator: ``op`` is its name, with the domain in front (``com.microsoft::``) outside ONNX's own."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    path: str
    number: int = 0

    @property
    def title(self) -> str:
        """For messages."""
        return f"node {self.path or self.outputs[0]!r} ({self.op})" if self.outputs else f"node {self.path} ({self.op})"


@dataclass
class Structure:
    """A whole file. ``opset`` is that of ONNX's own operators; ``stated`` what it says about values in between."""

    inputs: list[Declared]
    initializers: dict[str, Initializer]
    nodes: list[Node]
    outputs: list[str]
    opset: int
    stated: dict[str, Declared] = field(default_factory=dict)


def read_structure(path: Path) -> Structure:
    """Read an ONNX file; of the weights only their shapes, and values only where they are few.

    Raises:
        InvalidInputError: not an ONNX file, damaged, or with weights that lie outside of the file's folder.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InvalidInputError(
            f"an ONNX file is a serialised ModelProto, but {path.name} is damaged or is something else ({error}); "
            "export it again"
        ) from error
    if not model.graph.node:
        raise InvalidInputError(f"an ONNX file holds a graph of operators, but {path.name} has none; export it again")
    if model.functions:
        model = _inlined(model)
    graph = model.graph
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    initializers = {_text(tensor.name): _initializer(_text(tensor.name), tensor) for tensor in graph.initializer}
    if graph.sparse_initializer:
        raise InvalidInputError("weights in an ONNX file are dense here, but it has sparse initializers; densify them")
    nodes = [_node(number, node) for number, node in enumerate(graph.node)]
    return Structure(
        inputs=[_declared(value) for value in graph.input if value.name not in initializers],
        initializers=initializers,
        nodes=nodes,
        outputs=[_text(value.name) for value in graph.output],
        opset=opset,
        stated={value.name: _declared(value) for value in (*graph.value_info, *graph.output)},
    )


def infer_missing(path: Path) -> dict[str, Declared]:
    """What ONNX's own shape inference finds about the values of a file, for operators that have no rule here."""
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    for tensor in model.graph.initializer:
        if prod(tensor.dims) > KEPT_ELEMENTS:
            tensor.ClearField("raw_data")
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, TypeError) as error:
        raise InvalidInputError(f"the shapes in an ONNX file must fit together, but {error}") from error
    return {value.name: _declared(value) for value in (*model.graph.value_info, *model.graph.output)}


def _inlined(model: Any) -> Any:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        raise InvalidInputError(f"functions inside an ONNX file must resolve, but {error}") from error


def _text(value: str | bytes) -> str:
    """A string field; protobuf gives bytes where a damaged file does not hold UTF-8."""
    if isinstance(value, bytes):
        raise InvalidInputError(f"text in an ONNX file is UTF-8, but {value[:40]!r} is not; export it again")
    return value


def _dtype(number: int) -> torch.dtype | None:
    if number not in onnx.TensorProto.DataType.values():
        return None
    return _DTYPES.get(onnx.TensorProto.DataType.Name(number))


def _initializer(name: str, tensor: Any) -> Initializer:
    shape = tuple(tensor.dims)
    dtype = _dtype(tensor.data_type)
    if dtype is None:
        raise InvalidInputError(
            f"a stored tensor has a type that torch knows, but {name[:TEXT]!r} has type {tensor.data_type}; "
            "export with another precision"
        )
    if any(extent < 0 for extent in shape) or prod(shape) >= 1 << 62:
        raise InvalidInputError(f"a stored tensor has extents >= 0, but {name[:TEXT]!r} has shape {shape[:8]}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_location(name, {_text(entry.key): _text(entry.value) for entry in tensor.external_data})
        return Initializer(name, shape, dtype, None)
    return Initializer(name, shape, dtype, _values(name, tensor) if prod(shape) <= KEPT_ELEMENTS else None)


def _values(name: str, tensor: Any) -> torch.Tensor | None:
    try:
        array = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(
            f"a stored tensor holds as many values as its shape says, but {name[:TEXT]!r} does not ({error})"
        ) from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        return None  # strings and ml_dtypes' small floats are never shapes
    return torch.from_numpy(array.copy()).reshape(tuple(tensor.dims))


def _check_location(name: str, entries: Mapping[str, str]) -> None:
    """External data lies in the folder of the file: ``docs/ExternalData.md``. It is not opened here in any case."""
    location = entries.get("location", "")
    ways = (PurePosixPath(location), PureWindowsPath(location))
    if not location or any(way.is_absolute() or way.drive or ".." in way.parts for way in ways) or "\0" in location:
        raise InvalidInputError(
            f"external data of an ONNX file lies inside the file's folder, but tensor {name[:TEXT]!r} points to "
            f"{location[:TEXT]!r}; put the data beside the file and export again"
        )


def _declared(value: Any) -> Declared:
    kind, name = value.type.tensor_type, _text(value.name)
    if not value.type.HasField("tensor_type"):
        return Declared(name, None, None)
    dtype = _dtype(kind.elem_type)
    if not kind.HasField("shape"):
        return Declared(name, None, dtype)
    shape: list[int | str | None] = []
    for dim in kind.shape.dim:
        known = dim.HasField("dim_value") and dim.dim_value >= 0
        shape.append(dim.dim_value if known else _text(dim.dim_param)[:TEXT] or None)
    return Declared(name, tuple(shape), dtype)


def _node(number: int, node: Any) -> Node:
    domain, op = _text(node.domain)[:TEXT], _text(node.op_type)[:TEXT]
    op = op if domain in ("", "ai.onnx") else f"{domain}::{op}"
    attributes = {_text(attribute.name): _attribute(attribute) for attribute in node.attribute}
    scopes = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
    inputs, outputs = [_text(name) for name in node.input], [_text(name) for name in node.output]
    return Node(op, inputs, outputs, attributes, _path(_text(node.name)[:TEXT], _text(scopes)), number)


def _attribute(attribute: Any) -> Any:
    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return _initializer(_text(attribute.name), attribute.t)
    if attribute.type in (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS, kinds.STRINGS):
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
    return None  # graphs and types: the operators that take them have no rule here


def _path(name: str, scopes: str) -> str:
    """The module path of a node, as torch's exporters write it down; else the node's name."""
    if scopes and len(scopes) <= 2_000:
        try:
            found = ast.literal_eval(scopes)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
        if isinstance(found, list) and len(found) > 1 and isinstance(found[-2], str):
            return found[-2][:TEXT]
    if not name.startswith("/"):
        return name
    path: list[str] = []
    for part in name.strip("/").split("/")[:-1]:  # /layer1/layer1.0/conv1/Conv
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)
