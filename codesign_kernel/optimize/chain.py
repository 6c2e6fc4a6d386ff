"""Read a torch model as a chain of convolutions and fully connected layers, or name the layer that is in the way."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError

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

DATAPATH = "Conv2d, BatchNorm2d after a Conv2d, ReLU, MaxPool2d, Flatten, Linear, Dropout and Identity"
#: What to use instead: remedy -> modules and functions.
_INSTEAD = {
    "use MaxPool2d, or a Conv2d whose filter covers the map": (
        "AdaptiveAvgPool2d AvgPool2d adaptive_avg_pool2d avg_pool2d mean"
    ),
    "use MaxPool2d with the window as a number": "AdaptiveMaxPool2d adaptive_max_pool2d",
    "use ReLU, whose upper end comes from the calibration": "ReLU6 relu6 Hardtanh hardtanh clamp",
    "leave it out: the largest logit is the largest probability": "Softmax LogSoftmax softmax log_softmax",
    "use ReLU, or leave it to the caller if it is the last layer": (
        "GELU SiLU Sigmoid Tanh LeakyReLU PReLU ELU Hardswish Hardsigmoid Mish "
        "gelu silu sigmoid tanh leaky_relu prelu elu hardswish hardsigmoid mish"
    ),
    "use the module nn.Conv2d with a filter of height 1": "Conv1d conv1d",
    "use the module nn.Conv2d": "conv2d",
    "use the module nn.Linear": "linear",
    "use nn.BatchNorm2d behind a Conv2d": "BatchNorm1d LayerNorm GroupNorm InstanceNorm2d batch_norm layer_norm",
    "call torch.nn.utils.parametrize.remove_parametrizations first": "ParametrizedConv2d ParametrizedLinear",
}
REMEDIES = {name: remedy for remedy, names in _INSTEAD.items() for name in names.split()}


@dataclass
class FloatLayer:
    """One layer of the chain in real numbers (float64), batch normalisation folded in; fields as in IntegerLayer."""

    name: str
    op: str
    weight: Tensor
    bias: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    relu: bool = False
    pool: int = 1
    flatten: bool = False

    def run(self, x: Tensor) -> Tensor:
        """What the layer writes to memory for ``x`` (float32, [N, C, H, W], or [N, C] for a linear layer)."""
        weight, bias = self.weight.float(), self.bias.float()
        if self.op == "linear":
            y = F.linear(x.flatten(1), weight.flatten(1), bias)
        else:
            y = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        y = F.relu(y) if self.relu else y
        return F.max_pool2d(y, self.pool) if self.pool > 1 else y


def read_chain(model: nn.Module, example: Tensor) -> list[FloatLayer]:
    """The layers of ``model`` in execution order, as in evaluation mode; the model itself is not touched.

    Args:
        model: traceable by ``torch.fx``; one input, one output, no branches.
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
        layers = _Reader(graph).read()
        _compare(layers, example, expected)
    return layers


def _compare(layers: list[FloatLayer], example: Tensor, expected: Tensor) -> None:
    """Two roads meet: the chain gives what the model gives, or something acts in the model that is no layer of it."""
    got = example
    for layer in layers:
        got = layer.run(got)
    tolerance = 1e-3 * float(expected.abs().max()) + 1e-6
    if got.shape != expected.shape or not float((got - expected).abs().max()) <= tolerance:
        raise UnsupportedLayerError(
            "the layers of the model, run one after the other, do not give what the model gives; remove hooks and "
            "whatever else changes values outside of its layers, and check that its weights are finite numbers"
        )


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _Reader:
    """Walks the only path from a traced model's input to its output."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.modules = dict(graph.named_modules())
        self.layers: list[FloatLayer] = []
        self.flat = False  # the map before the next layer has been flattened

    def read(self) -> list[FloatLayer]:
        node = next(n for n in self.graph.graph.nodes if n.op == "placeholder")
        while True:
            following = self._follow(node)
            if following.op == "output":
                break
            self._take(following, node)
            node = following
        if following.args != (node,):
            self._refuse(node, "its result is returned inside a tuple, list or dict", "return one tensor")
        if not self.layers:
            raise UnsupportedLayerError("the model holds no Conv2d and no Linear, so there is nothing to compute")
        if self.flat:
            self._refuse(node, "nothing reads the flattened map", "return the map, or end with a Linear")
        return self.layers

    def _follow(self, node: fx.Node) -> fx.Node:
        """The one operation that reads the tensor; reading its shape is free."""
        users = [user for user in node.users if user.op == "output" or "tensor_meta" in user.meta]
        if len(users) != 1:
            readers = ", ".join(repr(self._path(user)) for user in users) or "nobody"
            self._refuse(
                node,
                f"its result is read {len(users)} times (by {readers})",
                "the datapath runs plain chains: take out branches, residual sums and unused layers",
            )
        return users[0]

    def _path(self, node: fx.Node) -> str:
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

    def _refuse(self, node: fx.Node, why: str, remedy: str) -> NoReturn:
        raise UnsupportedLayerError(
            f"layer {self._path(node)!r} ({self._kind(node)}) cannot be quantised: {why}; {remedy}"
        )

    def _take(self, node: fx.Node, source: fx.Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        handler = _MODULES.get(type(module)) if module is not None else _CALLS.get(node.target)
        if handler is None:
            kind = self._kind(node)
            self._refuse(
                node, "the datapath has no such operation", REMEDIES.get(kind, f"build the network from {DATAPATH}")
            )
        given = node.args[0] if node.args else node.kwargs.get("input")
        if given is not source:
            self._refuse(node, "its first argument is not the map before it", "pass the map as the first argument")
        handler(self, node, module)

    def _last(self, node: fx.Node) -> FloatLayer:
        if not self.layers:
            self._refuse(
                node, "there is no Conv2d or Linear before it", "put it behind the layer whose results it works on"
            )
        return self.layers[-1]

    def _name(self, node: fx.Node) -> str:
        """The module path; the second use of a module is ``<path>_2``."""
        path, names = self._path(node), {layer.name for layer in self.layers}
        return next(n for n in (path, *(f"{path}_{i}" for i in range(2, len(names) + 3))) if n not in names)

    def conv(self, node: fx.Node, module: nn.Conv2d) -> None:
        if module.padding_mode != "zeros":
            self._refuse(node, f"padding_mode is {module.padding_mode!r}", "use padding_mode='zeros'")
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if module.padding == "same" and any(r % 2 for r in reach):
            self._refuse(
                node, "padding='same' is lopsided for this filter", "use an odd kernel_size, or padding as a number"
            )
        named = {"valid": [0, 0], "same": [r // 2 for r in reach]}
        padding = named[module.padding] if isinstance(module.padding, str) else module.padding
        layer = FloatLayer(self._name(node), "conv2d", *_parameters(module), groups=module.groups)
        layer.stride, layer.padding, layer.dilation = _pair(module.stride), _pair(padding), _pair(module.dilation)
        self.layers.append(layer)

    def linear(self, node: fx.Node, module: nn.Linear) -> None:
        before = node.all_input_nodes[0].meta["tensor_meta"].shape
        if len(before) != 2:
            self._refuse(
                node, f"it reads a map of {len(before) - 1} dimensions", "flatten the map first, with nn.Flatten()"
            )
        weight, bias = _parameters(module)
        self.layers.append(FloatLayer(self._name(node), "linear", weight[:, :, None, None], bias, flatten=self.flat))
        self.flat = False

    def norm(self, node: fx.Node, module: nn.BatchNorm2d) -> None:
        last = self._last(node)
        if last.op != "conv2d" or last.relu or last.pool > 1:
            self._refuse(node, "it does not follow a Conv2d directly", "put it between the Conv2d and its ReLU")
        if module.running_mean is None or module.running_var is None:
            self._refuse(node, "it keeps no running statistics", "use track_running_stats=True and train it")
        factor = (module.running_var.double() + module.eps).rsqrt()
        if module.weight is not None:
            factor = factor * module.weight.detach().double()
        last.weight = last.weight * factor[:, None, None, None]
        last.bias = (last.bias - module.running_mean.double()) * factor
        if module.bias is not None:
            last.bias = last.bias + module.bias.detach().double()

    def relu(self, node: fx.Node, _module: nn.Module | None) -> None:
        self._last(node).relu = True

    def pool(self, node: fx.Node, module: nn.MaxPool2d | None) -> None:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        if module is not None:
            given = {name: getattr(module, name) for name in names}
        else:
            given = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
        edges = _pair(given["kernel_size"])
        stride = given.get("stride")
        plain = not given.get("ceil_mode") and not given.get("return_indices")
        shape = (
            edges,
            _pair(stride) if stride else edges,
            _pair(given.get("padding", 0)),
            _pair(given.get("dilation", 1)),
        )
        if not plain or shape != ((edges[0],) * 2, edges, (0, 0), (1, 1)):
            self._refuse(
                node, "its window is not square, or overlaps, or is padded, dilated, in ceil_mode or returns indices",
                "use MaxPool2d(n) with stride n",
            )  # fmt: skip
        if edges[0] == 1:
            return
        last = self._last(node)
        if last.op != "conv2d" or self.flat:
            self._refuse(node, "it does not pool the map of a Conv2d", "put it behind a Conv2d or its ReLU")
        if last.pool > 1:
            self._refuse(
                node, f"layer {last.name!r} is pooled already", "use one MaxPool2d with the product of the windows"
            )
        last.pool = edges[0]

    def flatten(self, node: fx.Node, _module: nn.Module | None) -> None:
        before, after = (n.meta["tensor_meta"].shape for n in (node.all_input_nodes[0], node))
        if after == before:
            return
        if tuple(after) != (before[0], math.prod(before[1:])):
            self._refuse(
                node, f"it turns {tuple(before[1:])} into {tuple(after[1:])} for a batch of {before[0]}",
                "keep the batch dimension and flatten all others: x.flatten(1)",
            )  # fmt: skip
        self.flat = True

    def drop(self, _node: fx.Node, _module: nn.Module | None) -> None:
        """Nothing happens at inference."""

    def dropout(self, node: fx.Node, _module: nn.Module | None) -> None:
        given = {**dict(zip(("p", "training"), node.args[1:], strict=False)), **node.kwargs}
        if given.get("training", True) is not False:
            self._refuse(node, "it drops values in evaluation mode too", "use nn.Dropout, or training=self.training")


def _parameters(module: nn.Conv2d | nn.Linear) -> tuple[Tensor, Tensor]:
    weight = module.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().double()


def _pair(value: Any) -> Any:
    return tuple(value) * (2 // len(value)) if isinstance(value, (tuple, list)) else (value, value)


_Handler = Callable[[_Reader, fx.Node, Any], None]
_MODULES: dict[type, _Handler] = {
    nn.Conv2d: _Reader.conv, nn.Linear: _Reader.linear, nn.BatchNorm2d: _Reader.norm, nn.ReLU: _Reader.relu,
    nn.MaxPool2d: _Reader.pool, nn.Flatten: _Reader.flatten, nn.Identity: _Reader.drop, nn.Dropout: _Reader.drop,
    nn.Dropout2d: _Reader.drop,
}  # fmt: skip
_CALLS: dict[Any, _Handler] = {
    torch.relu: _Reader.relu, torch.relu_: _Reader.relu, F.relu: _Reader.relu,
    "relu": _Reader.relu, "relu_": _Reader.relu,
    F.max_pool2d: _Reader.pool, torch.max_pool2d: _Reader.pool,
    torch.flatten: _Reader.flatten, torch.reshape: _Reader.flatten, "flatten": _Reader.flatten, "view": _Reader.flatten,
    "reshape": _Reader.flatten, "contiguous": _Reader.drop, F.dropout: _Reader.dropout, F.dropout2d: _Reader.dropout,
}  # fmt: skip
