"""``profile``: a torch model and example inputs in, a Profile out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.assemble import assemble
from codesign_kernel.profiler.result import Profile
from codesign_kernel.profiler.table import FORMULAS

if TYPE_CHECKING:
    from torch import nn


def profile(model: nn.Module, example_inputs: Any, name: str | None = None) -> Profile:
    """Count what one forward pass of ``model`` computes, stores and moves.

    The model runs once, in eval mode and without gradients, on whatever device it is; on the meta device nothing is
    computed and no memory is needed. Nothing of the model changes: training flags are put back and no hook is left,
    also when forward raises.

    Args:
        model: any ``torch.nn.Module``.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
        name: of the workload; the model's class by default.

    Raises:
        InvalidInputError: not a module; inputs of the wrong kind or device; a forward that fails on them (the message
            names the module where).
    """
    import torch

    from codesign_kernel.profiler.trace import trace

    if not isinstance(model, torch.nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else f"{type(model).__name__}"
        raise InvalidInputError(f"model must be a torch.nn.Module, but got {got}; pass an instance, such as MyNet()")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    args, kwargs = _arguments(example_inputs)
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise InvalidInputError("example_inputs must hold at least one tensor, but hold none; pass torch.zeros(shape)")
    lazy = [path for path, p in model.named_parameters() if isinstance(p, torch.nn.parameter.UninitializedParameter)]
    if lazy:
        raise InvalidInputError(
            f"every parameter must have a shape, but {lazy[0]!r} is not initialised yet; run the model once first"
        )
    stored = {p.is_meta for p in model.parameters()}
    given = {tensor.is_meta for tensor in tensors}
    if len(stored | given) > 1:
        where = "the meta device" if True in stored else "a real device"
        raise InvalidInputError(
            f"model and example inputs must both be on the meta device or both be real, but parameters are on {where} "
            f"and inputs are {'not' if True in stored else 'on meta'}; use model.to('meta') and tensor.to('meta')"
        )
    title = name if name is not None else type(model).__name__
    workload, operators = assemble(trace(model, args, kwargs, FORMULAS.keys()), title)
    parameters = list(model.parameters())
    return Profile(
        name=title,
        workload=workload,
        operators=operators,
        parameters=sum(p.numel() for p in parameters),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        inputs=tuple((tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in tensors),
    )


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, tuple):
        return example_inputs, {}
    if isinstance(example_inputs, Mapping):
        wrong = [key for key in example_inputs if not isinstance(key, str)]
        if wrong:
            raise InvalidInputError(f"keys of a dict of example inputs name arguments of forward, but got {wrong[0]!r}")
        return (), dict(example_inputs)
    raise InvalidInputError(
        "example_inputs must be a tensor, a tuple of positional arguments or a dict of keyword arguments, but got "
        f"{type(example_inputs).__name__}; wrap it in a tuple, or turn an array into a tensor with torch.as_tensor"
    )
