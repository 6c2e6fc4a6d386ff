"""Read a torch model as a graph of layers that the datapath has, or name the layer that is in the way."""

from __future__ import annotations

import copy
from collections import deque

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize.float_layer import FloatLayer, run_layers
from codesign_kernel.optimize.operators import HANDLERS, remedy
from codesign_kernel.optimize.reader import Reader

#: What a model's own code may raise while it is traced or run.
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


def read_graph(model: nn.Module, example: Tensor) -> list[FloatLayer]:
    """The layers of ``model`` in execution order, as in evaluation mode; the model itself is not touched.

    Args:
        model: traceable by ``torch.fx``; one input, one output; branches end in additions.
        example: [N, C, H, W] float32, N >= 2, that the model can run on.

    Raises:
        UnsupportedLayerError: a layer, or the way layers are joined, has no counterpart in the datapath.
        InvalidInputError: the model cannot be copied or cannot run on ``example``.
    """
    try:
        own = copy.deepcopy(model).eval().cpu().float()
    except MODEL_ERRORS as error:  # weights on "meta", tensors that are results of a computation
        raise InvalidInputError(
            f"the model cannot be copied to the CPU: {_line(error)}; give it real weights"
        ) from error
    if isinstance(own, (nn.Conv2d, nn.Linear)):
        own = nn.Sequential(own)
    with torch.no_grad():
        try:
            expected = own(example)
        except MODEL_ERRORS as error:
            raise InvalidInputError(
                f"the model cannot run on calibration inputs (N, C, H, W) = {tuple(example.shape)}: {_line(error)}"
            ) from error
        try:
            graph = fx.symbolic_trace(own)
            ShapeProp(graph).propagate(example)
        except MODEL_ERRORS as error:
            raise UnsupportedLayerError(
                f"torch.fx cannot trace {type(model).__name__}: {_line(error)}; pass a plain nn.Module, neither "
                "scripted nor compiled, whose forward() does not depend on the values of a tensor"
            ) from error
        layers = Reader(graph, HANDLERS, remedy).read()
        _compare(layers, example, expected)
    return layers


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
