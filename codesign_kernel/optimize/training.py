"""Training on the CPU: one loop for first training, fine-tuning and quantisation-aware training."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.dataset import Dataset, check_parts

Progress = Callable[[int, int, str], None]
#: Inputs that run through a model at once where nothing is learned.
WIDE = 512


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the training inputs, at least 1.
        learning_rate: of Adam at the start; it falls to 0 along half a cosine.
        batch: inputs a step.
        weight_decay: of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), on weights and biases, but not on steps
            of quantisation and gates; 0 is plain Adam.

    Raises:
        InvalidInputError: a field breaks its law.
    """

    epochs: int
    learning_rate: float = 1e-2
    batch: int = 64
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"{name} is an integer >= 1, but got {value!r}")
        for name, law in (("learning_rate", "above 0"), ("weight_decay", "of 0 or more")):
            value = getattr(self, name)
            lawful = isinstance(value, (int, float)) and np.isfinite(value) and value >= 0
            if not lawful or (name == "learning_rate" and value == 0):
                raise InvalidInputError(f"{name} is a finite number {law}, but got {value!r}")


class _AdamW(torch.optim.AdamW):
    """torch's, without what wraps its methods for ``torch.compile``: that loads the compiler, which takes seconds."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def check_recipe(recipe: object) -> None:
    """Refuse what is no :class:`Recipe`."""
    if not isinstance(recipe, Recipe):
        raise InvalidInputError(f"recipe is a Recipe, such as Recipe(epochs=10), but got {recipe!r}")


def check_seed(seed: object) -> None:
    """Refuse what does not make a run repeatable."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 1 << 64:
        raise InvalidInputError(f"seed is an integer of 0 to 2^64 - 1, but got {seed!r}")


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    penalty: Callable[[], Tensor] | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[float]:
    """Train ``model`` in place on the training part of ``data``; it ends in evaluation mode.

    Args:
        model: [N, C, H, W] -> logits [N, classes].
        seed: of the order of the inputs and of everything that the model draws; the same seed gives the same weights on
            one machine.
        penalty: added to the cross entropy of every step, such as a multiple of a latency; without, nothing.
        progress: called after each epoch with (epochs done, epochs, message).
        stop: asked before each epoch; ``True`` ends the training there.

    Returns:
        The mean loss of each epoch.

    Raises:
        InvalidInputError: an argument is of another kind, or the loss became NaN or infinite; the message says in
            which epoch.
    """
    check_parts(data, "train")
    check_recipe(recipe)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    losses: list[float] = []
    with repeatable(seed):
        model.train()
        optimizer = _AdamW(_decayed(model, recipe), lr=recipe.learning_rate)
        steps = recipe.epochs * -(-len(x) // recipe.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for epoch in range(recipe.epochs):
            if stop is not None and stop():
                break
            total = 0.0
            for batch in torch.randperm(len(x)).split(recipe.batch):
                loss = F.cross_entropy(model(x[batch]), y[batch])
                if penalty is not None:
                    loss = loss + penalty()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            losses.append(total / len(x))
            if not np.isfinite(losses[-1]):
                raise InvalidInputError(
                    f"the loss is a finite number, but became {losses[-1]} in epoch {epoch + 1}; lower the learning "
                    f"rate of {recipe.learning_rate:g}"
                )
            if progress is not None:
                progress(epoch + 1, recipe.epochs, f"training, loss {losses[-1]:.3f}")
        model.eval()
    return losses


def _decayed(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """What is trained, as groups of an optimizer.

    Modules name in ``undecayed`` what is no weight, such as the logarithm of a step, which would decay to a step of 1.
    """
    free = {id(p) for module in model.modules() for p in getattr(module, "undecayed", ())}
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = (
        {"params": [p for p in learning if id(p) not in free], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learning if id(p) in free], "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]


def logits(model: nn.Module, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ``model`` says of inputs [N, C, H, W], in evaluation mode: [N, classes]."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            return np.concatenate([model(part).numpy() for part in torch.from_numpy(x).split(WIDE)])
    finally:
        model.train(was)


def accuracy(scores: NDArray[np.float32] | NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of the rows of ``scores`` [N, classes, ...] whose largest value, the first of equals, is at the label."""
    return float((scores.reshape(len(scores), -1).argmax(1) == labels).mean())


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Seeded random numbers that leave the caller's alone, and one thread, as sums depend on how they are divided."""
    check_seed(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(int(seed))
            yield
    finally:
        torch.set_num_threads(threads)
