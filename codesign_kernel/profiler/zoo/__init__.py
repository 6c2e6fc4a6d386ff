"""Well-known networks in plain torch, with their published shapes, on the meta device: for profiling, not for weights.

``build`` gives a model whose parameter count is that of the publication (or of torchvision's and Hugging Face's code,
where the publication leaves details open).
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.zoo import llama, tiny, transformers, vision

_Made = tuple[nn.Module, Tensor | tuple[Tensor, ...]]
_BUILT: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def names() -> tuple[str, ...]:
    """The networks that ``build`` knows."""
    return tuple(_ZOO)


def build(name: str, device: str = "meta") -> _Made:
    """A network in eval mode and one example input (batch 1); a tuple where it takes several.

    Args:
        name: one of ``names()``.
        device: ``"meta"`` allocates nothing; ``"cpu"`` gives random weights.

    Raises:
        InvalidInputError: unknown name.
    """
    if name not in _ZOO:
        raise InvalidInputError(f"the zoo has no network {name!r}; it has {', '.join(_ZOO)}")
    with torch.device(device):
        model, example = _ZOO[name]()
    _BUILT[model] = name
    return model.eval(), example


def name_of(model: object) -> str | None:
    """The name by which ``build`` made a model; None for one that it did not make."""
    return _BUILT.get(model) if isinstance(model, nn.Module) else None


def _on_values(make: Callable[[], nn.Module], *shape: int) -> Callable[[], _Made]:
    return lambda: (make(), torch.zeros(shape))


def _on_tokens(make: Callable[[], nn.Module], length: int) -> Callable[[], _Made]:
    return lambda: (make(), torch.zeros((1, length), dtype=torch.int64))


_IMAGE = (1, 3, 224, 224)
_ZOO: dict[str, Callable[[], _Made]] = {
    "lenet5": _on_values(vision.lenet5, 1, 1, 28, 28),
    "alexnet": _on_values(vision.alexnet, 1, 3, 227, 227),
    "vgg16": _on_values(vision.vgg16, *_IMAGE),
    "resnet18": _on_values(lambda: vision.ResNet((2, 2, 2, 2), bottleneck=False), *_IMAGE),
    "resnet50": _on_values(lambda: vision.ResNet((3, 4, 6, 3), bottleneck=True), *_IMAGE),
    "mobilenet_v1": _on_values(vision.mobilenet_v1, *_IMAGE),
    "mobilenet_v2": _on_values(vision.mobilenet_v2, *_IMAGE),
    "efficientnet_b0": _on_values(vision.efficientnet_b0, *_IMAGE),
    "vit_b16": _on_values(transformers.VisionTransformer, *_IMAGE),
    "bert_base": _on_tokens(transformers.Bert, 128),
    "gpt2": _on_tokens(transformers.Gpt2, 128),
    "llama_7b_prefill": llama.prefill,
    "llama_7b_decode": llama.decode,
    "mlperf_tiny_kws": _on_values(tiny.keyword_spotting, 1, 1, 49, 10),
    "mlperf_tiny_vww": _on_values(tiny.visual_wake_words, 1, 3, 96, 96),
    "mlperf_tiny_ic": _on_values(tiny.image_classification, 1, 3, 32, 32),
    "mlperf_tiny_ad": _on_values(tiny.anomaly_detection, 1, 640),
}
