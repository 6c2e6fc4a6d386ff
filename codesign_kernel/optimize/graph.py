"""Read a torch model as a graph of layers that the datapath has, or name the layer that is in the way."""

from __future__ import annotations

import contextlib
import copy
import io
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize.float_layer import FloatLayer, run_layers
from codesign_kernel.optimize.fusion import Operator
from codesign_kernel.optimize.layer import Shape
from codesign_kernel.optimize.operators import HANDLERS, VIEWS, remedy
from codesign_kernel.optimize.program import Program, dims, tensor_of
from codesign_kernel.optimize.reader import Reader

#: What a model's own code may raise while it is exported or run.
MODEL_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
    NameError,
    ArithmeticError,
)
#: torch exports one program at a time: two threads break each other's (torch 2.13).
_EXPORTING = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """A model that was read: name of its class, (C, H, W) of its input, layers, (C, H, W) of their maps, operators."""

    name: str
    shape: Shape
    layers: list[FloatLayer]
    shapes: list[Shape]
    operators: list[Operator]


def read_graph(model: nn.Module | ExportedProgram, example: Tensor) -> list[FloatLayer]:
    """The layers of ``model`` in execution order, as in evaluation mode; the model itself is not touched.

    They compute images one by one, so they take a batch of any size, also where the program was exported for one.

    Args:
        model: a module that ``torch.export`` can export, or what it gave; one input, one output; branches end in
            additions.
        example: [N, C, H, W] float32, N >= 2, that the model can run on.

    Raises:
        UnsupportedLayerError: a layer, or the way layers are joined, has no counterpart in the datapath.
        InvalidInputError: the model cannot be copied or cannot run on ``example``.
    """
    return read(model, example).layers


def read(model: nn.Module | ExportedProgram, example: Tensor) -> Reading:
    """As :func:`read_graph`, with what became of every operator."""
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise InvalidInputError(
            f"model is a torch.nn.Module or a torch.export.ExportedProgram, but got {type(model).__name__}"
        )
    with torch.no_grad():
        if isinstance(model, ExportedProgram):
            program = Program(model)
            example = _fitting(program, example)
            runs = [(example, _run(model.module(), example))]
        else:
            own = _copy(model)
            runs = [(example, _run(own, example))]
            program = Program(_export(own, example))
            runs.append((example[:1], _alone(own, example[:1])))
        reader = Reader(program, HANDLERS, VIEWS, remedy)
        layers = reader.read()
        for given, expected in runs:
            _compare(layers, given, expected)
    return Reading(program.name, reader.shape_of(program.input), layers, reader.shapes, reader.operators)


def example_of(given: Any) -> Tensor:
    """Inputs to read a model with, as float32 [N, C, H, W], N >= 2.

    Raises:
        InvalidInputError: they are of another kind or shape, or hold no values.
    """
    inputs = torch.from_numpy(given) if isinstance(given, np.ndarray) and given.dtype.kind == "f" else given
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.is_meta:
        raise InvalidInputError(
            f"example inputs are floating point numbers, but got {getattr(given, 'dtype', type(given).__name__)}; "
            "give a tensor or a numpy array like those that the model takes"
        )
    if inputs.ndim != 4 or not inputs.numel():
        raise InvalidInputError(
            f"example inputs are (N, C, H, W) with at least one value, but got {tuple(inputs.shape)}"
        )
    inputs = inputs.detach().cpu().float()
    return inputs if len(inputs) > 1 else inputs.repeat(2, 1, 1, 1)


def _copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode on the CPU, of what was handed to torch.compile if it was."""
    model = getattr(model, "_orig_mod", model)
    try:
        return copy.deepcopy(model).eval().cpu().float()
    except MODEL_ERRORS as error:  # weights on "meta", tensors that are results of a computation
        raise InvalidInputError(
            f"the model cannot be copied to the CPU: {_line(error)}; give it real weights"
        ) from error


def _run(model: nn.Module, example: Tensor) -> Tensor:
    try:
        result: Tensor = model(example.clone())  # forward() may write into what it is given
    except MODEL_ERRORS as error:
        raise InvalidInputError(
            f"the model cannot run on calibration inputs (N, C, H, W) = {tuple(example.shape)}: {_line(error)}"
        ) from error
    return result


def _alone(model: nn.Module, image: Tensor) -> Tensor:
    """What the model gives for one image: its export is of a batch, and must not hold for that batch only."""
    try:
        result: Tensor = model(image.clone())
    except MODEL_ERRORS as error:
        raise UnsupportedLayerError(
            f"a network takes batches of any size, but the model fails on one image: {_line(error)}; keep the batch "
            "dimension as it comes: x.flatten(1)"
        ) from error
    return result


def _export(model: nn.Module, example: Tensor) -> ExportedProgram:
    try:
        with _EXPORTING, contextlib.redirect_stderr(io.StringIO()):  # where torch prints what it had until an error
            return torch.export.export(model, (example,), strict=False)
    except MODEL_ERRORS as error:
        raise UnsupportedLayerError(
            f"torch.export cannot export {type(model).__name__}: {_line(error)}; pass a plain nn.Module, not a "
            "scripted one, whose forward() does not depend on the values of a tensor"
        ) from error


def _fitting(program: Program, example: Tensor) -> Tensor:
    """The example in the batch size that the program was exported for, if it was for one alone."""
    tensor, shape = tensor_of(program.input), dims(program.input)
    if tensor is None or len(shape) != 4 or tensor.dtype != torch.float32:
        raise InvalidInputError(
            f"the program was exported for inputs of {shape} and {getattr(tensor, 'dtype', None)}, but a network "
            "takes (N, C, H, W) of torch.float32; export it with such inputs"
        )
    if tuple(example.shape[1:]) != shape[1:] and not any(isinstance(size, torch.SymInt) for size in shape[1:]):
        raise InvalidInputError(
            f"the program was exported for inputs (C, H, W) = {shape[1:]}, but got {tuple(example.shape[1:])}; give "
            "it such inputs, or export it for these"
        )
    count = shape[0] if isinstance(shape[0], int) else len(example)
    return example[torch.arange(count) % len(example)]


def _compare(layers: list[FloatLayer], example: Tensor, expected: Tensor) -> None:
    """Two roads meet: the layers give what the model gives, or something acts in the model that is no layer of it."""
    got = deque(run_layers(layers, example), maxlen=1)[0]
    if layers[-1].op == "linear":
        got = got[:, :, 0, 0]
    tolerance = 1e-3 * float(expected.abs().max()) + 1e-6
    if got.shape != expected.shape or not float((got - expected).abs().max()) <= tolerance:
        raise UnsupportedLayerError(
            "the layers of the model, run one after the other, do not give what the model gives; remove hooks and "
            "whatever else changes values outside of its layers, such as an operation in place on a map that others "
            "read too, and check that its weights are finite numbers"
        )


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
