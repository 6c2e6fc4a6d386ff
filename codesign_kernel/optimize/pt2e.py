"""torchao's PT2E flow for our datapath: fake quantizers in an exported graph, put there by a Quantizer of our own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from codesign_kernel.accelerator.types import ACC_BITS
from codesign_kernel.errors import MissingPackageError
from codesign_kernel.optimize.assembly import Step, single
from codesign_kernel.optimize.float_layer import FloatLayer, tied_maps
from codesign_kernel.optimize.layer import PLAIN_OPS
from codesign_kernel.optimize.stack import LayerStack, place_of

#: What torchao 0.18 logs when it is imported beside a torch without CUDA: logger -> how the messages begin. Its
#: extensions for GPUs are not loaded, and a call of its own is one that torch 2.13 calls deprecated.
_LOGGED = {
    "torchao": "Failed to load",
    "torchao.kernel.intmm": "Warning: Detected no triton",
    "torch.utils._pytree": "<enum 'KernelPreference'>",
}


@contextmanager
def _without_its_messages() -> Iterator[None]:
    """Keeps exactly the messages of ``_LOGGED`` off the terminal."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_LOGGED[record.name])

    loggers = [logging.getLogger(name) for name in _LOGGED]
    for logger in loggers:
        logger.addFilter(other)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(other)


try:
    with _without_its_messages():
        from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer import (
            QuantizationAnnotation,
            QuantizationSpec,
            Quantizer,
            SharedQuantizationSpec,
        )
except ImportError as error:
    raise MissingPackageError(
        "quantisation-aware training is torchao's, which is not installed; pip install 'codesign-playground[optimize]'"
    ) from error

_CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
_ANNOTATION = "quantization_annotation"


class LearnedStep(FakeQuantizeBase):
    """Rounds to steps whose size is learned, as its logarithm, with the gradients of LSQ.

    The gradient of a step is that of Esser et al. 2020 (arXiv 1902.08153), torchao's LearnableFakeQuantize likewise;
    the logarithm, as in Jain et al. 2020 (arXiv 1903.08066), keeps it positive and lets Adam, whose updates have one
    size for all, change every step by the same factor whatever its unit.

    Args:
        step: at the start: one number, or one for each output channel.
        most: the largest that it can become, or None.
        quant_min, quant_max: the integers.
        dtype, qscheme, is_dynamic: what torchao tells every fake quantizer.
    """

    def __init__(
        self,
        step: Tensor,
        most: float | None,
        quant_min: int,
        quant_max: int,
        dtype: torch.dtype,
        qscheme: torch.qscheme,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__()
        self.quant_min, self.quant_max, self.dtype, self.qscheme = quant_min, quant_max, dtype, qscheme
        self.is_dynamic = is_dynamic
        least = torch.finfo(torch.float32).tiny
        self.logarithm = nn.Parameter(step.float().reshape(-1).clamp(min=least).log())
        self.register_buffer("zero_point", torch.zeros_like(self.logarithm))
        self.most = most

    @property
    def undecayed(self) -> list[nn.Parameter]:
        """What weight decay must leave alone; see :func:`codesign_kernel.optimize.fit`."""
        return [self.logarithm]

    @property
    def step(self) -> Tensor:
        """What one step stands for: [1], or [K] for weights."""
        step = self.logarithm.exp()
        return step if self.most is None else step.clamp(max=self.most)

    def calculate_qparams(self, **_: Any) -> tuple[Tensor, Tensor]:
        """(steps, zero points), as torchao asks of a fake quantizer."""
        return self.step.detach(), self.zero_point

    def forward(self, x: Tensor) -> Tensor:
        """``x`` rounded to steps and cut off at both ends."""
        if self.qscheme == torch.per_channel_symmetric:
            return torch._fake_quantize_learnable_per_channel_affine(
                x, self.step, self.zero_point, 0, self.quant_min, self.quant_max, 1.0
            )
        return torch._fake_quantize_learnable_per_tensor_affine(
            x, self.step, self.zero_point, self.quant_min, self.quant_max, 1.0
        )


class RoundedBias(FakeQuantizeBase):
    """Rounds a bias to steps of the accumulator: those of the map that the layer reads times those of its weights.

    Gradients pass as if nothing were rounded. :func:`prepare` says which steps they are.
    """

    def __init__(self, quant_min: int, quant_max: int, dtype: torch.dtype, qscheme: torch.qscheme, **_: Any) -> None:
        super().__init__()
        self.quant_min, self.quant_max, self.dtype, self.qscheme = quant_min, quant_max, dtype, qscheme
        self.factors: tuple[LearnedStep, LearnedStep] | None = None  # a tuple: they belong to other nodes

    @property
    def step(self) -> Tensor:
        """What one step stands for in each output channel, [K]."""
        assert self.factors is not None
        of_map, of_weight = self.factors
        return of_map.step * of_weight.step

    def calculate_qparams(self, **_: Any) -> tuple[Tensor, Tensor]:
        """(steps, zero points), as torchao asks of a fake quantizer."""
        step = self.step.detach()
        return step, torch.zeros_like(step)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [K] rounded."""
        step = self.step.detach()
        return x + (torch.round(x / step) * step - x).detach()


class DatapathQuantizer(Quantizer):
    """What is rounded where in an exported :class:`LayerStack`, as the datapath does it.

    Weights: symmetric, one step for each output channel, of the layer's own width. Maps: symmetric, one step each,
    where they are written to memory: behind ReLU and the fused pooling, which rounding does not change the order of.
    The two maps of an addition share a step, and so does a max pooling with its map; the range of a step that a ReLU6's
    map has a part in never reaches beyond 6. Biases: to the steps of the accumulator.

    Args:
        layers: of the stack.
        bits: of the maps.
        scales: step at the start of the input's map, then of each layer's.
        steps: width of each layer's weights, and their steps at the start.
    """

    def __init__(self, layers: Sequence[FloatLayer], bits: int, scales: Sequence[float], steps: Sequence[Step]) -> None:
        super().__init__()
        self.layers, self.bits, self.scales, self.steps = layers, bits, scales, steps

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark the nodes of ``model``; called by torchao."""
        written: dict[int, fx.Node] = {}
        for node in model.graph.nodes:
            if node.op == "placeholder":
                written[-1] = node
            elif node.op == "call_function" and (place := _layer_of(node)) is not None:
                written[place] = node  # the last node of a layer gives its map
                if node.target in _CONVOLUTIONS:
                    self._weights(node, place)
        group = tied_maps(self.layers)
        for i, first in enumerate(group):
            annotation = written[i - 1].meta.setdefault(_ANNOTATION, QuantizationAnnotation())
            annotation.output_qspec = self._map(i, group) if i == first else SharedQuantizationSpec(written[first - 1])
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to refuse: the layers come from the reader, which has refused what the datapath cannot run."""

    def _weights(self, node: fx.Node, place: int) -> None:
        """Weights and bias of the convolution or fully connected layer at ``node``."""
        width, step = self.steps[place]
        top, acc_top = (1 << (width - 1)) - 1, (1 << (ACC_BITS[self.bits] - 1)) - 1
        steps = LearnedStep.with_args(step=torch.from_numpy(step), most=None)
        rounded = {
            1: self._spec(width, steps, -top, top, True),
            2: self._spec(64, RoundedBias, -acc_top, acc_top, True),
        }
        for at, spec in rounded.items():
            reader: Any = node
            given: Any = node.args[at]
            while given.op != "get_attr":  # a linear layer's weights are flattened
                reader, given = given, given.args[0]
            reader.meta.setdefault(_ANNOTATION, QuantizationAnnotation()).input_qspec_map[given] = spec

    def _map(self, i: int, group: Sequence[int]) -> Any:
        top = (1 << (self.bits - 1)) - 1
        ceilings = [layer.ceiling for m, layer in enumerate(self.layers, 1) if group[m] == i]
        most = min((c / top for c in ceilings if c is not None), default=None)
        step = LearnedStep.with_args(step=torch.tensor(self.scales[i]), most=most)
        return self._spec(self.bits, step, -top - 1, top, False)

    @staticmethod
    def _spec(width: int, step: Any, low: int, high: int, channels: bool) -> Any:
        kind = {16: torch.int16, 64: torch.int64}.get(width, torch.int8)
        scheme = torch.per_channel_symmetric if channels else torch.per_tensor_symmetric
        return QuantizationSpec(kind, step, low, high, scheme, 0 if channels else None)


def _layer_of(node: fx.Node) -> int | None:
    """The number of the layer that a node of an exported stack belongs to; None for what is around the layers."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if "layers." in path]
    return place_of(paths[-1]) if paths else None


class Learned(NamedTuple):
    """What a prepared graph has learned, as :func:`codesign_kernel.optimize.assembly.assemble` takes it."""

    layers: list[FloatLayer]
    scales: list[float]
    steps: list[Step]


def prepare(
    layers: Sequence[FloatLayer], bits: int, scales: Sequence[float], steps: Sequence[Step], example: Tensor
) -> fx.GraphModule:
    """The exported layers with a fake quantizer wherever the datapath rounds; it trains like any module.

    Args:
        layers, bits, scales, steps: as for :class:`DatapathQuantizer`.
        example: [N, C, H, W], N >= 2.
    """
    shapes = ({0: torch.export.Dim.AUTO},)
    exported = torch.export.export(LayerStack(layers).eval(), (example[:2],), dynamic_shapes=shapes)
    graph = prepare_qat_pt2e(exported.module(check_guards=False), DatapathQuantizer(layers, bits, scales, steps))
    for node in graph.graph.nodes:
        if node.target in _CONVOLUTIONS:
            of_map, of_weight, of_bias = (_quantizer_of(graph, given) for given in node.args[:3])
            of_bias.factors = (of_map, of_weight)
    graph.training = False
    graph.train, graph.eval = partial(_train, graph), partial(_train, graph, False)
    return graph


#: Numbers that torchao's own ``train()`` of an exported graph draws, as examples for the patterns that it looks for.
_DRAWN = 15


def _train(graph: fx.GraphModule, mode: bool = True) -> fx.GraphModule:
    """``train()`` and ``eval()`` of an exported graph, which has none of its own.

    A stack holds neither dropout nor batch normalisation, the only operators that torchao's
    ``allow_exported_model_train_eval`` switches, so there is nothing to rewrite. That function traces its patterns anew
    at every call, which takes as long as some epochs of a small network. What it draws is drawn here too, so that a
    seed trains what it has always trained.
    """
    if mode and not graph.training:
        torch.randn(_DRAWN)
    graph.training = mode
    return graph


def _quantizer_of(graph: fx.GraphModule, node: Any) -> Any:
    """The fake quantizer that a node comes from, past operations that only give it another shape."""
    while node.op != "call_module":
        node = node.args[0]
    return graph.get_submodule(str(node.target))


def learned(graph: fx.GraphModule, layers: Sequence[FloatLayer], steps: Sequence[Step]) -> Learned:
    """The weights, biases and steps of ``graph``, which :func:`prepare` made of ``layers`` and ``steps``."""
    scales, rounded = [0.0] * (len(layers) + 1), list(steps)
    for node in graph.graph.nodes:
        if node.op != "call_module":
            continue
        quantizer, of = _quantizer_of(graph, node), node.args[0]
        if isinstance(quantizer, RoundedBias):
            continue
        step, place = quantizer.step.detach(), _layer_of(of)
        if of.op == "get_attr":
            place = place_of(str(of.target))
            rounded[place] = (rounded[place][0], step.double().numpy())
        else:
            scales[0 if place is None else place + 1] = single(float(step))
    new = []
    for i, layer in enumerate(layers):
        if layer.op not in PLAIN_OPS:
            weight, bias = (graph.get_parameter(f"layers.{i}.{name}").detach() for name in ("weight", "bias"))
            layer = replace(layer, weight=weight.double(), bias=bias.double())
        new.append(layer)
    return Learned(new, scales, rounded)
