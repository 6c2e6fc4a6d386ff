"""What a workflow says of optimising, checked, and the network that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codesign_kernel.session.workflow.laws import SEEDS, Law, mapping, number, one_of, optional, refuse, whole

if TYPE_CHECKING:
    from codesign_kernel.optimize import Dataset, IntegerNetwork
    from codesign_kernel.session.workflow.product import Progress

#: Learning rate of the training after channels were taken out, and its epochs where the workflow does not say.
TUNING_RATE, TUNING_EPOCHS = 4e-3, 5

#: Learning rate of quantisation-aware training, as of ``quantize_aware``.
QAT_RATE = 1e-3


def _share(where: str, value: Any) -> float:
    found = number(where, value)
    if not 0 < found <= 1:
        refuse(where, "is a share of the channels, above 0 and up to 1", value)
    return found


def _keep(where: str, value: Any) -> float | dict[str, float]:
    """One share for all layers, or {layer: share}."""
    if not isinstance(value, Mapping):
        return _share(where, value)
    return {name: _share(f"{where}.{name}", share) for name, share in mapping(where, value).items()}


def _widths(where: str, value: Any) -> dict[str, int]:
    return {name: one_of(2, 4, 8, 16)(f"{where}.{name}", bits) for name, bits in mapping(where, value).items()}


OPTIMISE: dict[str, tuple[Law, Any]] = {
    "bits": (one_of(8, 4, 16), 8),
    "weight_bits": (_widths, {}),
    "keep": (_keep, 1.0),
    "tune_epochs": (optional(whole(0, 10_000)), None),
    "qat_epochs": (whole(0, 10_000), 0),
    "seed": (whole(0, SEEDS), None),
}


def check_optimising(where: str, settings: dict[str, Any]) -> None:
    """Check what single laws cannot see, and write down how long to train.

    Raises:
        InvalidInputError: settings contradict one another.
    """
    bits = settings["bits"]
    for name, width in settings["weight_bits"].items():
        if width > bits:
            refuse(f"{where}.weight_bits.{name}", f"is at most optimise.bits, {bits}", width)
    whole_network = settings["keep"] == 1.0
    if settings["tune_epochs"] is None:
        settings["tune_epochs"] = 0 if whole_network else TUNING_EPOCHS
    elif whole_network:
        law = "is the training after channels were taken out"
        refuse(f"{where}.tune_epochs", law, settings["tune_epochs"], "say in `keep` how many stay, or leave it out")


def integers(model: Any, data: Dataset, settings: Mapping[str, Any], progress: Progress) -> IntegerNetwork:
    """``model`` pruned and quantised as ``settings`` say."""
    from codesign_kernel.optimize import Recipe, prune, quantize, quantize_aware

    widths, seed = settings["weight_bits"], settings["seed"]
    if settings["keep"] != 1.0:
        epochs = settings["tune_epochs"]
        recipe = Recipe(epochs, TUNING_RATE) if epochs else None
        model = prune(model, data, settings["keep"], recipe, seed=seed, progress=progress)
    progress(0, 0, "quantising")
    if not settings["qat_epochs"]:
        return quantize(model, data.calibration_x, settings["bits"], widths)
    recipe = Recipe(settings["qat_epochs"], QAT_RATE)
    return quantize_aware(model, data, settings["bits"], widths, recipe, seed, progress)


def in_words(settings: Mapping[str, Any]) -> str:
    """``int8 with conv1 of int4, half of the channels``."""
    narrow = ", ".join(f"{name} int{bits}" for name, bits in settings["weight_bits"].items())
    keep = settings["keep"]
    shares = (
        ", ".join(f"{name} {share:g}" for name, share in keep.items()) if isinstance(keep, Mapping) else f"{keep:g}"
    )
    aware = "trained aware of it" if settings["qat_epochs"] else ""
    words = [f"int{settings['bits']}", narrow, aware, "" if keep == 1.0 else f"channels kept {shares}"]
    return "; ".join(word for word in words if word)
