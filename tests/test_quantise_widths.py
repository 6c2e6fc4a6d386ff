"""Weights of a layer's own width: how they are rounded, what the network says of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import quantize
from codesign_kernel.optimize.clipping import CUT_BITS, rounded_weight, weight_steps


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv2d(2, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.fc = nn.Linear(6 * 9, 4)

    def forward(self, x):
        y = torch.relu(self.one(x))
        return self.fc(torch.max_pool2d(torch.relu(self.two(y)) + y, 2).flatten(1))


@pytest.fixture(scope="module")
def x():
    return torch.rand(64, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def test_layers_have_the_widths_that_were_asked_for(x):
    network = quantize(Small(), x, 8, {"one": 8, "two": 4, "fc": 2})
    layers = {layer.name: layer for layer in network.layers}
    assert {name: layer.weight_bits for name, layer in layers.items() if layer.op in ("conv2d", "linear")} == {
        "one": 0,  # the network's
        "two": 4,
        "fc": 2,
    }
    assert [int(np.abs(layers[name].weight).max()) for name in ("one", "two", "fc")] == [127, 7, 1]
    assert {layer.weight.dtype for layer in network.layers} == {np.dtype(np.int8)}
    widths = {layer.name: layer.weight_bits for layer in network.workload.layers if layer.name in ("one", "two", "fc")}
    assert widths == {"one": 8, "two": 4, "fc": 2}
    every = quantize(Small(), x, 8)
    assert quantize(Small(), x, 8, {"one": 8, "two": 8, "fc": 8}).digest == quantize(Small(), x, 8, {}).digest
    assert every.digest == quantize(Small(), x, 8, {}).digest != network.digest


def test_more_bits_follow_the_model_closer(x):
    model = Small().eval()
    with torch.no_grad():
        expected = model(x).numpy()
    errors = []
    for width in (2, 4, 8, 16):
        network = quantize(model, x, 16, dict.fromkeys(("one", "two", "fc"), width))
        errors.append(np.sqrt(np.mean((network.predict(x.numpy()) * network.output_scale - expected) ** 2)))
    # from 4 to 8 bits steps are 18 times finer, and from 8 to 16 258 times
    assert errors[0] > 3 * errors[1] > 30 * errors[2] > 300 * errors[3]


@pytest.mark.parametrize("width", [2, 4])
def test_narrow_weights_are_cut_where_a_channel_errs_least(width):
    weight = np.random.default_rng(0).normal(size=(8, 4, 3, 3))
    weight[0], weight[1] = 0, np.sign(weight[1])
    steps, top = weight_steps(weight, width), 2 ** (width - 1) - 1
    peaks = np.abs(weight).max(axis=(1, 2, 3))
    assert steps[0] == 0
    assert (rounded_weight(weight, width, steps)[0] == 0).all()
    assert steps[1] == pytest.approx(1 / top)  # every weight is a step already
    gained = []
    for k in range(2, 8):  # by search over every step, one channel at a time
        grid = np.linspace(0.02, 1, 400) * peaks[k] / top
        errors = [np.square(np.clip(np.rint(weight[k] / s), -top, top) * s - weight[k]).sum() for s in grid]
        ours = np.square(rounded_weight(weight, width, steps)[k] - weight[k]).sum()
        assert ours <= 1.02 * min(errors)
        gained.append(errors[-1] - ours)  # over the largest magnitude
    assert min(gained) >= 0
    assert max(gained) > 0


def test_wider_weights_keep_their_largest():
    weight = np.random.default_rng(0).normal(size=(3, 4, 3, 3))
    assert CUT_BITS < 8
    assert weight_steps(weight, 8) == pytest.approx(np.abs(weight).max(axis=(1, 2, 3)) / 127)


@pytest.mark.parametrize("name", ["one", "two", "fc"])
def test_the_bias_takes_up_the_mean_error_of_narrow_weights(name, x):
    """Per channel of the narrowed layer, over the calibration inputs, before anything behind it."""
    model = Small().eval()
    network = quantize(model, x, 16, {name: 2})
    seen = []
    model.get_submodule(name).register_forward_hook(lambda module, args, y: seen.append((args[0], y)))
    with torch.no_grad():
        model(x)
    (given, expected), layer = seen[0], next(layer for layer in network.layers if layer.name == name)
    scale_in = network.input_scale if name == "one" else network.layers[[*layer_names(network)].index(name) - 1].scale
    step = layer.multiplier / 2.0**layer.shift * layer.scale / scale_in  # of the weights, up to 2^-15
    weight = torch.from_numpy(layer.weight * step[:, None, None, None]).float()
    module = model.get_submodule(name)
    bias = torch.from_numpy(layer.bias * step * scale_in).float()
    with torch.no_grad():
        if isinstance(module, nn.Conv2d):
            got = torch.conv2d(given, weight, bias, padding=1, groups=module.groups)
            plain = torch.conv2d(given, weight, module.bias, padding=1, groups=module.groups)
            means = [(y - expected).mean((0, 2, 3)).abs().max() for y in (got, plain)]
        else:
            got = torch.nn.functional.linear(given, weight.flatten(1), bias)
            plain = torch.nn.functional.linear(given, weight.flatten(1), module.bias)
            means = [(y - expected).mean(0).abs().max() for y in (got, plain)]
    assert means[0] < 1e-4 * expected.abs().max()
    assert means[1] > 100 * means[0]


def layer_names(network):
    return [layer.name for layer in network.layers]


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"three": 4}, r"weight_bits names layers with weights, but got 'three'; they are 'one', 'two', 'fc'$"),
        ({"add": 4}, "but got 'add'; they are 'one', 'two', 'fc'"),
        ({"input": 4}, "but got 'input'"),
        ({"one": 3}, "have a width of 2, 4, 8, but layer 'one' is given 3"),
        ({"one": 16}, "have a width of 2, 4, 8, but layer 'one' is given 16.*with more bits"),
        ({"one": True}, "is given True"),
        ({"one": "4"}, "is given '4'"),
        ({"one": 4.5}, "is given 4.5"),
        (["one"], "weight_bits is a mapping of layers' names to widths, but got list"),
    ],
)
def test_other_widths_are_refused(widths, message, x):
    with pytest.raises(InvalidInputError, match=message):
        quantize(Small(), x, 8, widths)
