"""Quantisation-aware training: what the trained graph computes is what the integer network computes."""

from __future__ import annotations

import copy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from codesign_kernel.errors import InvalidInputError, MissingPackageError
from codesign_kernel.optimize import Recipe, accuracy, fit, load_digits, logits, quantize, quantize_aware, train_digits
from codesign_kernel.optimize.assembly import assemble
from codesign_kernel.optimize.calibration import Calibration

NAMES = ("stem.0", "deep.0", "deep.3", "fc")


class Joined(nn.Module):
    """An addition, a max pooling of its own, a fused one, an average, depthwise filters and ReLU6."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.deep = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.MaxPool2d(2)
        )
        self.wide = nn.MaxPool2d(3, 2, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.fc(self.pool(torch.relu(self.deep(x) + self.wide(x))).flatten(1))


@pytest.fixture(scope="module")
def data():
    """What training and calibration may read, and nothing else."""
    digits = load_digits()
    parts = {name: getattr(digits, name) for name in ("calibration_x", "calibration_y", "labels")}
    return SimpleNamespace(name="few", train_x=digits.train_x[:320], train_y=digits.train_y[:320], **parts)


@pytest.fixture(scope="module")
def images():
    return load_digits().validation_x


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    model = Joined()
    fit(model, data, Recipe(4))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "width", "steps"), [(8, 8, 2), (8, 2, 2), (4, 4, 1), (16, 4, 8)])
def test_the_integers_are_those_of_the_trained_graph(bits, width, steps, model, data, images):
    """Up to the rounding of a requantiser's multiplier: 2^-16 of the range, 1 step of 16 bits a layer."""
    from codesign_kernel.optimize.pt2e import learned, prepare

    calibration = Calibration(model, data.calibration_x, bits)
    layers, rounded = calibration.rounded(dict.fromkeys(NAMES, width))
    graph = prepare(layers, bits, calibration.scales, rounded, torch.from_numpy(data.calibration_x))
    fit(graph, data, Recipe(2, 3e-3))
    found = learned(graph, layers, rounded)
    network = assemble("trained", calibration.input_shape, found.layers, found.scales, bits, found.steps)
    assert [not np.allclose(a.weight, b.weight) for a, b in zip(layers, found.layers, strict=True) if a.name in NAMES]
    assert {layer.name: layer.weight_bits for layer in network.layers if layer.name in NAMES} == dict.fromkeys(
        NAMES, 0 if width == bits else width
    )
    real, integer = logits(graph, images) / network.output_scale, network.predict(images)
    assert np.abs(real - np.rint(real)).max() < 0.01  # the graph's results are steps too
    assert np.abs(real - integer).max() < steps + 0.01
    assert (np.rint(real).argmax(1) == integer.argmax(1)).mean() >= 0.99
    if bits <= 8:
        assert (np.abs(real - integer) < 0.01).mean() > 0.95


def test_a_fake_quantizer_stands_where_the_datapath_rounds(model, data):
    from codesign_kernel.optimize.pt2e import LearnedStep, RoundedBias, prepare

    calibration = Calibration(model, data.calibration_x, 8)
    layers, rounded = calibration.rounded({"fc": 2})
    graph = prepare(layers, 8, calibration.scales, rounded, torch.from_numpy(data.calibration_x))
    assert [layer.name for layer in layers] == ["stem.0", "deep.0", "deep.3", "wide", "add", "pool", "fc"]
    behind = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            behind[node.args[0].name] = graph.get_submodule(node.target)
    maps = {name: q for name, q in behind.items() if not name.startswith("layers_")}
    assert len(maps) == 8  # of the input and of each layer
    assert len({id(q) for q in maps.values()}) == 6  # deep.3, wide and stem.0 have one
    weights = {name: q for name, q in behind.items() if name.endswith("weight")}
    assert sorted(len(q.step) for q in weights.values()) == [6, 6, 6, 10]
    assert [(q.quant_min, q.quant_max) for q in weights.values()] == [(-127, 127)] * 3 + [(-1, 1)]
    assert {(q.quant_min, q.quant_max) for q in maps.values()} == {(-128, 127)}
    assert sum(isinstance(q, RoundedBias) for q in behind.values()) == 4
    capped = [q for q in maps.values() if isinstance(q, LearnedStep) and q.most is not None]
    assert {q.most for q in capped} == {6 / 127}
    with torch.no_grad():
        capped[0].logarithm.fill_(5.0)
    assert float(capped[0].step.detach()) == pytest.approx(6 / 127)
    for q in behind.values():  # what torchao's own conversion would ask for
        step, zero = q.calculate_qparams()
        assert step.shape == zero.shape
        assert not zero.any()


@pytest.mark.slow
def test_the_same_seed_trains_the_same_network_and_the_model_stays(model, data):
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    steps = []
    progress = lambda *step: steps.append(step[:2])  # noqa: E731
    first = quantize_aware(model, data, 8, {"fc": 4}, Recipe(2), seed=3, progress=progress)
    assert steps == [(1, 2), (2, 2)]
    assert first.digest == quantize_aware(model, data, 8, {"fc": 4}, Recipe(2), seed=3).digest
    assert first.digest != quantize_aware(model, data, 8, {"fc": 4}, Recipe(2), seed=4).digest
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert first.name == "Joined"


def test_steps_do_not_decay(model, data):
    """Decay alone, at a rate at which nothing else changes: weights shrink, what a step stands for does not."""
    recipe = Recipe(2, 1e-9, weight_decay=1e7)
    decayed, kept = quantize_aware(model, data, recipe=recipe), quantize(model, data.calibration_x)
    assert [layer.scale for layer in decayed.layers] == pytest.approx([layer.scale for layer in kept.layers], rel=1e-4)
    assert np.abs(decayed.layers[-1].weight).sum() < 0.98 * np.abs(kept.layers[-1].weight).sum()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": 5}, r"recipe is a Recipe, such as Recipe\(epochs=10\), but got 5"),
        ({"seed": "x"}, r"seed is an integer of 0 to 2\^64 - 1, but got 'x'"),
        ({"data": np.zeros(3)}, "data is a Dataset, labelled inputs in four parts, but ndarray has no train_x"),
    ],
)
def test_what_is_no_recipe_or_data_is_refused(changes, message, model, data):
    with pytest.raises(InvalidInputError, match=message):
        quantize_aware(**{"model": model, "data": data, **changes})
    with pytest.raises(InvalidInputError, match=message):
        fit(**{"model": model, "data": data, "recipe": Recipe(1), **changes})


def test_without_a_step_of_training_it_is_what_quantize_gives(model, data, images):
    network = quantize_aware(model, data, 4, {"fc": 2}, stop=lambda: True)
    expected = quantize(model, data.calibration_x, 4, {"fc": 2})
    for one, other in zip(network.layers, expected.layers, strict=True):
        assert np.array_equal(one.weight, other.weight)
        assert one.scale == pytest.approx(other.scale, rel=1e-6)
    assert np.abs(network.predict(images) - expected.predict(images)).max() <= 1


def test_a_model_that_gives_no_classes_is_refused(data):
    with pytest.raises(InvalidInputError, match="each of the 10 classes of few, but its last layer '0' is a conv2d"):
        quantize_aware(nn.Sequential(nn.Conv2d(1, 10, 8)), data)
    with pytest.raises(InvalidInputError, match="is a linear with 9 channels"):
        quantize_aware(nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), data)
    with pytest.raises(InvalidInputError, match="weight_bits names layers with weights, but got 'head'"):
        quantize_aware(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, weight_bits={"head": 2})


def test_without_torchao_the_error_names_the_extra(model, data, monkeypatch):
    monkeypatch.delitem(sys.modules, "codesign_kernel.optimize.pt2e", raising=False)
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e.fake_quantize", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'codesign-playground\[optimize\]'"):
        quantize_aware(model, data)


@pytest.mark.slow
def test_torchao_is_loaded_late_and_without_a_word():
    """Its messages about GPUs are not for the user; whatever else it says is."""
    code = (
        "import sys, logging, codesign_kernel.optimize.qat; assert 'torchao' not in sys.modules;"
        "import codesign_kernel.optimize.pt2e; logging.getLogger('torchao').warning('something else')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "something else"
    assert not done.stdout


@pytest.mark.slow
def test_training_recovers_what_two_bits_cost():
    model, digits, _ = train_digits(network="resnet", epochs=10)
    widths = {layer.name: 2 for layer in quantize(model, digits.calibration_x).layers if layer.op == "conv2d"}
    rounded = quantize(model, digits.calibration_x, 8, widths)
    trained = quantize_aware(model, digits, 8, widths, Recipe(4, 2e-3))
    shares = [accuracy(network.predict(digits.test_x), digits.test_y) for network in (rounded, trained)]
    assert shares[1] > shares[0] + 0.02
    assert shares[1] > 0.95
