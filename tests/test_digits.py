"""The digits task: its parts, its training, and what quantisation leaves of its accuracy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from codesign_kernel import profile
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import quantize, train_digits


@pytest.fixture(scope="module")
def digits():
    state = torch.get_rng_state()
    steps = []
    model, data, accuracy = train_digits(progress=lambda *step: steps.append(step))
    assert torch.equal(torch.get_rng_state(), state)
    assert [step[:2] for step in steps] == [(i, 40) for i in range(1, 41)]
    return model, data, accuracy


def test_digits_are_split_without_overlap(digits):
    _, data, _ = digits
    assert data.all_x.shape == (1797, 1, 8, 8)
    assert data.all_x.dtype == np.float32
    assert (data.all_x.min(), data.all_x.max()) == (0.0, 1.0)
    assert (len(data.train_x), len(data.test_x), len(data.calibration_x)) == (1059, 450, 128)
    train, test = ({image.tobytes() for image in part} for part in (data.train_x, data.test_x))
    assert not train & test
    assert sorted(np.bincount(data.all_y).tolist()) == [174, 177, 178, 179, 180, 181, 181, 182, 182, 183]


def test_digits_accuracy_survives_quantisation(digits):
    model, data, accuracy = digits
    assert accuracy >= 0.97
    assert not model.training
    network = quantize(model, data.calibration_x)
    assert [layer.name for layer in network.layers] == ["conv1", "conv2", "fc"]
    profiled = profile(model, torch.from_numpy(data.test_x[:1])).workload  # two roads to the same loop nests
    nests = [[dataclasses.replace(layer, name="") for layer in load.layers] for load in (network.workload, profiled)]
    assert nests[0] == nests[1]
    assert network.workload.macs == 84_224
    eight = float((network.predict(data.test_x).argmax(1) == data.test_y).mean())
    assert abs(eight - accuracy) <= 0.005
    four = quantize(model, data.calibration_x, bits=4)
    assert float((four.predict(data.test_x).argmax(1) == data.test_y).mean()) > 0.93
    with torch.no_grad():
        floats = model(torch.from_numpy(data.all_x)).numpy()
    got = network.predict(data.all_x) * network.output_scale
    assert np.sqrt(np.mean((got - floats) ** 2)) < 0.01 * np.abs(floats).max()


def test_training_is_repeatable():
    first, second, other = (train_digits(seed, epochs=1)[0].state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    with pytest.raises(InvalidInputError, match="epochs is an integer >= 1, but got 0"):
        train_digits(epochs=0)
