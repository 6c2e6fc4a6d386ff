"""Dataset keeps its parts apart, and training is repeatable."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import Dataset, Recipe, accuracy, fit, logits, training


def parts(rng: np.random.Generator, n: int = 6) -> dict[str, np.ndarray]:
    made = {}
    for part in ("train", "calibration", "validation", "test"):
        made[f"{part}_x"] = rng.normal(size=(n, 1, 2, 2)).astype(np.float32)
        made[f"{part}_y"] = rng.integers(0, 3, n)
    return made


def small(**changes: np.ndarray) -> Dataset:
    return Dataset("small", ("a", "b", "c"), **{**parts(np.random.default_rng(0)), **changes})


def test_parts_follow_one_another_in_all_x() -> None:
    data = small()
    assert data.all_x.shape == (24, 1, 2, 2)
    assert np.array_equal(data.all_x[-6:], data.test_x)
    assert np.array_equal(data.all_y[6:12], data.calibration_y)
    assert data.input_shape == (1, 2, 2)


def test_an_input_in_two_parts_is_refused() -> None:
    data = small()
    mixed = data.test_x.copy()
    mixed[3] = data.calibration_x[0]
    with pytest.raises(InvalidInputError, match="test_x holds one of calibration_x"):
        small(test_x=mixed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": np.zeros((2, 1, 2, 2))}, "float32"),
        ({"test_x": np.zeros((0, 1, 2, 2), np.float32)}, "test_x is an array of float32"),
        ({"test_x": np.ones((6, 1, 3, 3), np.float32)}, "one shape"),
        ({"test_x": np.full((6, 1, 2, 2), np.nan, np.float32)}, "NaN"),
        ({"test_y": np.zeros(5, np.int64)}, r"test_y is an array of int64 \[6\]"),
        ({"validation_y": np.full(6, 3)}, "labels are 0 to 2"),
    ],
)
def test_arrays_that_break_a_law_are_refused(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        small(**changes)


def test_training_is_repeatable_and_learns() -> None:
    rng = np.random.default_rng(1)
    made = parts(rng, 60)
    for part in ("train", "calibration", "validation", "test"):
        made[f"{part}_y"] = made[f"{part}_x"][:, 0].reshape(60, 4)[:, :3].argmax(1)
    data = small(**made)
    weights, scores = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        losses = fit(model, data, Recipe(20, 0.1, batch=16), seed=seed)
        assert losses[-1] < losses[0] / 2
        weights.append(model[1].weight.detach().numpy().copy())
        scores.append(accuracy(logits(model, data.test_x), data.test_y))
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
    assert min(scores) > 0.8


def test_training_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer without torch's compiler makes the same bits, decayed and not, and loads no compiler."""
    data, weights = small(), []
    for optimizer in (training._AdamW, torch.optim.AdamW):
        monkeypatch.setattr(training, "_AdamW", optimizer)
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
        with monkeypatch.context() as without:
            if optimizer is not torch.optim.AdamW:
                without.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error
            fit(model, data, Recipe(3, weight_decay=0.1, batch=2))
        weights.append([value.numpy().copy() for value in model.state_dict().values()])
    for one, other in zip(*weights, strict=True):
        assert np.array_equal(one, other)


def test_training_that_diverges_says_when() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(InvalidInputError, match="in epoch 1; lower the learning rate"):
        fit(model, small(), Recipe(2), penalty=lambda: torch.tensor(float("nan"), requires_grad=True))


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("epochs", True), ("batch", 2.0), ("learning_rate", 0), ("weight_decay", -1)]
)
def test_recipes_refuse_what_breaks_a_law(field: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=field):
        dataclasses.replace(Recipe(1), **{field: value})
