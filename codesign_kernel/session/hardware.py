"""``hardware_loss``: the cost model as a part of a training loss, where cost and optimize meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from codesign_kernel.cost import Cost, evaluate
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import profile
from codesign_kernel.session.scoped import scoped
from codesign_kernel.session.widths import with_channels

if TYPE_CHECKING:
    from codesign_kernel.optimize.hardware_loss import HardwareLoss

#: What can be paid for, and what it is of a Cost.
METRICS: dict[str, Callable[[Cost], float]] = {
    "latency_ms": lambda cost: cost.latency_s * 1e3,
    "energy_uj": lambda cost: cost.energy_pj * 1e-6,
}


@scoped("hardware_loss")
def hardware_loss(
    model: Any,
    example: Any,
    design: Any,
    metric: str = "latency_ms",
    *,
    strength: float = 1.0,
    batch: int = 1,
    step: int | None = None,
) -> HardwareLoss:
    """What ``model`` costs on ``design``, as a differentiable penalty beside the loss of its task.

    Each channel that can be pruned gets a gate that is learned with the weights (hard concrete gates: Louizos et al.
    2018, arXiv 1712.01312). The penalty is the cost of the expected widths: that of the cost model at multiples of the
    array's columns, and linear between them, so that its gradient is the slope of the staircase and not that of a step.

    Args:
        model: a trained torch model, as for :func:`codesign_kernel.prune`; it is not touched.
        example: inputs [N, C, H, W] that it can run on, a tensor or an array.
        design: an Accelerator, a SpatialArray, or a Design.
        metric: ``"latency_ms"`` or ``"energy_uj"``, of one inference (of a batch, of all of it).
        strength: what the cost of the whole network weighs beside the task's loss, of 0 or more.
        batch: inferences of one run.
        step: channels from one exact cost to the next; without, the columns of the array for layers that have more, its
            rows for those that have more than these, else a quarter of the channels.

    Returns:
        An object to train with, ``fit(loss.model, data, recipe, penalty=loss)``, and that prunes afterwards,
        ``loss.prune(data, recipe)``.

    Raises:
        InvalidInputError: an argument breaks a law.
        UnsupportedLayerError: no layer of the model can be pruned, or its channels cannot be followed.
        InfeasibleDesignError: the whole network does not run on the design.
        MissingPackageError: torch-pruning is not installed.
    """
    from codesign_kernel.optimize.channels import channels_of, check_model, example_of
    from codesign_kernel.optimize.hardware_loss import HardwareLoss
    from codesign_kernel.optimize.width_cost import WidthCost, grid

    _check(metric, strength, step)
    check_model(model)
    two = example_of(example)
    accelerator = getattr(design, "accelerator", design)
    workload = profile(model, two[:1]).workload
    evaluate(workload, accelerator)  # a machine of another kind, or too small, is refused before any work starts
    workload = workload.with_batch(batch)
    channels = channels_of(model, two)
    channels.check()
    layers = {group.name: group.layers for group in channels.groups}
    depthwise = {layer.name for layer in workload.layers if layer.G > 1}

    def exact(widths: Mapping[str, int]) -> float:
        counts = {name: widths[group] for group in layers for name in layers[group] if name not in depthwise}
        return METRICS[metric](evaluate(with_channels(workload, counts), accelerator))

    grids = {
        group.name: grid(group.channels, step or _step(group.channels, accelerator.cols, accelerator.rows))
        for group in channels.groups
    }
    return HardwareLoss(model, two, channels.groups, WidthCost(grids, exact), float(strength))


def _check(metric: object, strength: Any, step: object) -> None:
    if metric not in METRICS:
        raise InvalidInputError(f"metric is one of {', '.join(METRICS)}, but got {metric!r}")
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if not number or not math.isfinite(strength) or strength < 0:
        raise InvalidInputError(f"strength is a finite number of 0 or more, but got {strength!r}")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 1):
        raise InvalidInputError(f"step is an integer >= 1, such as the array's columns, but got {step!r}")


def _step(channels: int, cols: int, rows: int) -> int:
    """Multiples at which cycles change: of columns for the layer itself, of rows for those that read it."""
    return next((size for size in (cols, rows) if size < channels), -(-channels // 4))
