"""Profiling with every invariant checked, and a second opinion: shared by the tests of the profiler."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codesign_kernel.profiler import Profile, profile

SUMMED = ("macs", "parameters", "parameter_bytes", "output_bytes")


def hooks_of(model: nn.Module) -> list[dict[str, Any]]:
    """Every hook container of every module, and torch's global ones."""
    local = [{k: dict(v) for k, v in vars(m).items() if k.endswith(("_hooks", "_called"))} for m in model.modules()]
    shared = {k: dict(v) for k, v in vars(nn.modules.module).items() if k.startswith("_global_") and "hooks" in k}
    return [*local, shared]


def profiled(model: nn.Module, inputs: Any, **options: Any) -> Profile:
    """Profile, add up every column again, and see that model, hooks, flags and random state are as before."""
    hooks, flags = hooks_of(model), [m.training for m in model.modules()]
    attributes = [set(vars(m)) for m in model.modules()]
    random = torch.get_rng_state()
    result = profile(model, inputs, **options)
    assert hooks_of(model) == hooks
    assert [m.training for m in model.modules()] == flags
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert torch.equal(torch.get_rng_state(), random)
    totals = result.table()[list(SUMMED)].sum()
    assert totals["macs"] == result.macs == sum(layer.macs for layer in result.workload.layers)
    assert totals["parameters"] == result.parameters == sum(p.numel() for p in model.parameters())
    assert totals["parameter_bytes"] == result.parameter_bytes
    assert totals["output_bytes"] == result.activation_bytes
    return result


def torch_macs(model: nn.Module, inputs: Any) -> float:
    """Half of the FLOP that torch counts; its fused transformer layer, which it cannot see into, is off."""
    args, kwargs = (
        ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    )
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            copy.deepcopy(model).eval()(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 2


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def layers(result: Profile) -> list[tuple[str, str]]:
    """(name, operator) of each layer."""
    return [(layer.name, layer.op) for layer in result.workload.layers]


def meta(*shape: int) -> torch.Tensor:
    """Zeros that have a shape and no data."""
    return torch.zeros(shape, device="meta")
