"""Reading and quantising networks of branches: against torch, the scales that are shared, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign_kernel import profile
from codesign_kernel.cli.parser import TRAINED_NETWORKS
from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize import load_digits, quantize, train_digits
from codesign_kernel.optimize.clipping import best_clip
from codesign_kernel.optimize.networks import NETWORKS, LeNet5, ResidualCNN, SeparableCNN


class Calls(nn.Module):
    """A convolution, then whatever a test wants; the parts are found under 'net'."""

    def __init__(self, call, *parts):
        super().__init__()
        self.call = call
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.net = nn.ModuleList(parts)

    def forward(self, x):
        return self.call(self, x)


def same(c=4):
    return nn.Conv2d(c, 4, 3, padding=1)


def in_place(m, x):
    y = F.relu(m.conv(x))
    z = m.net[0](y)
    z += y
    return z


def vectors(m, x):
    x = F.relu(m.net[0](m.conv(x).flatten(1)))
    return m.net[2](F.relu(m.net[1](x) + x))


ACCEPTED = {
    "plus": (lambda: Calls(lambda m, x: F.relu((y := m.conv(x)) + m.net[0](y)), same()), (2, 6, 7)),
    "torch.add": (lambda: Calls(lambda m, x: m.net[0](torch.add(m.conv(x), m.net[1](x))), same(), same(2)), (2, 6, 6)),
    "method": (lambda: Calls(lambda m, x: m.conv(x).add(other=m.net[0](x)).relu(), same(2)), (2, 6, 6)),
    "in place": (lambda: Calls(in_place, same()), (2, 6, 6)),
    "input": (lambda: Calls(lambda m, x: m.net[1](m.net[0](m.conv(x)) + x), nn.Conv2d(4, 2, 1), same(2)), (2, 5, 5)),
    "pooled input": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 4, 3), nn.AvgPool2d(3, 2, 1)), (2, 12, 12)),
    "vectors": (lambda: Calls(vectors, nn.Linear(144, 9), nn.Linear(9, 9), nn.Linear(9, 4)), (2, 6, 6)),
    "windows": (lambda: nn.Sequential(same(2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), same(), nn.MaxPool2d((1, 2)),
                                      nn.AvgPool2d((2, 1), stride=1, padding=(1, 0))), (2, 8, 8)),
    "two pools": (lambda: nn.Sequential(same(2), nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(2), same()), (2, 8, 8)),
    "functions": (lambda: Calls(lambda m, x: m.net[0](F.avg_pool2d(F.max_pool2d(F.relu6(m.conv(x)), 3, 1), 2)
                                                      .mean([-1, -2], keepdim=True)), nn.Conv2d(4, 3, 1)), (2, 8, 8)),
    "adaptive": (lambda: Calls(lambda m, x: m.net[0](F.adaptive_avg_pool2d(m.conv(x), (2, 1))), same()), (2, 8, 6)),
    "adaptive on 1x1": (lambda: nn.Sequential(nn.Conv2d(2, 4, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                              nn.Linear(4, 3)), (2, 6, 6)),
    "clips": (lambda: Calls(lambda m, x: torch.clamp(m.net[1](m.net[0](m.conv(x)).clamp(0, 0.5)), min=0),
                            nn.Hardtanh(0.0, 1.0), same()), (2, 6, 6)),
    "one relu for two": (lambda: Calls(lambda m, x: m.net[0](y := F.relu(m.conv(x))) + F.relu(y), same()), (2, 6, 6)),
    "resnet": (ResidualCNN, (1, 8, 8)),
    "mobilenet": (SeparableCNN, (1, 8, 8)),
    "lenet5": (LeNet5, (1, 28, 28)),
}  # fmt: skip


def built(which):
    """The model with uneven batch normalisation, in evaluation mode, and inputs for it."""
    build, shape = ACCEPTED[which]
    torch.manual_seed(0)
    model = build().train()
    x = torch.randn(24, *shape)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(5):
            model(x)
    return model.eval(), x


@pytest.mark.parametrize("which", ACCEPTED)
def test_quantised_branches_follow_the_float_model(which):
    model, x = built(which)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(x).numpy()
    largest = np.abs(expected).max()
    for bits, mean, most in ((16, 1e-4, 6e-4), (8, 0.02, 0.12), (4, 0.25, 1.2)):
        network = quantize(model, x, bits)
        got = network.predict(x.numpy()) * network.output_scale
        assert got.shape == expected.shape
        error = got - expected
        assert np.sqrt(np.mean(error**2)) < mean * largest, bits
        assert np.abs(error).max() < most * largest, bits
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_residual_network_becomes_these_layers():
    model, x = built("resnet")
    network = quantize(model, x)
    assert [(layer.name, layer.op, layer.reads, layer.relu) for layer in network.layers] == [
        ("stem.0", "conv2d", (), True),
        ("block1.conv1", "conv2d", (), True),
        ("block1.conv2", "conv2d", (), False),
        ("block1.add", "add", ("block1.conv2", "stem.0"), True),
        ("block2.conv1", "conv2d", (), True),
        ("block2.conv2", "conv2d", (), False),
        ("block2.skip.0", "conv2d", ("block1.add",), False),
        ("block2.add_1", "add", ("block2.conv2", "block2.skip.0"), True),
        ("pool", "avg_pool2d", (), False),
        ("fc", "linear", (), False),
    ]
    pool = network.layers[8]
    assert pool.weight.shape == (32, 1, 4, 4)
    ratio = network.layers[7].scale / pool.scale / 16  # the division by the window is in the requantiser
    assert pool.multiplier / 2.0**pool.shift == pytest.approx(np.full(32, ratio), rel=2**-15)


def test_a_square_pool_is_fused_only_where_nobody_reads_the_map_before_it():
    model = Calls(lambda m, x: m.net[0](F.max_pool2d(m.conv(x), 2)), same())
    assert [(layer.op, layer.pool) for layer in quantize(model, torch.randn(8, 2, 6, 6)).layers] == [
        ("conv2d", 2), ("conv2d", 1),
    ]  # fmt: skip
    model = Calls(lambda m, x: m.net[0](y := m.conv(x)) + F.max_pool2d(y, 2), nn.Conv2d(4, 4, 2, 2))
    assert [(layer.op, layer.pool, layer.reads) for layer in quantize(model, torch.randn(8, 2, 6, 6)).layers] == [
        ("conv2d", 1, ()), ("conv2d", 1, ()), ("max_pool2d", 1, ("conv",)), ("add", 1, ("net.0", "max_pool2d")),
    ]  # fmt: skip


@pytest.mark.parametrize("which", ["lenet5", "resnet"])
def test_the_profiler_finds_the_same_loop_nests(which):
    model, x = built(which)
    profiled = profile(model, x[:1]).workload.without_batch_norm()
    ours = quantize(model, x).workload
    for load in (profiled, ours):
        assert load.macs == {"lenet5": 416_520, "resnet": 533_824}[which]
    assert len(profiled.layers) == len(ours.layers)
    place = [{layer.name: i for i, layer in enumerate(load.layers)} for load in (profiled, ours)]
    joints = [sorted((at[a], at[b]) for a, b in load.edges) for at, load in zip(place, (profiled, ours), strict=True)]
    assert joints[0] == joints[1]
    for one, other in zip(profiled.layers, ours.layers, strict=True):
        assert one.op.removeprefix("adaptive_") == other.op
        for field in ("G", "K", "C", "OY", "OX", "FY", "FX", "IY", "IX", "stride", "padding"):
            assert getattr(one, field) == getattr(other, field), (one.name, field)


def scales(network):
    return {layer.name: layer.scale for layer in network.layers}


def test_tied_maps_share_the_scale_that_errs_least():
    torch.manual_seed(1)
    model = Calls(
        lambda m, x: m.net[3](F.max_pool2d(y := m.conv(x), 3, 1, 1) + m.net[0](y) + m.net[1](m.net[2](y))),
        same(), same(), same(), same(),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.net[0].weight.mul_(8)  # one branch is much wider than the other two
    x = torch.randn(64, 2, 8, 8)
    network = quantize(model, x)
    found = scales(network)
    tied = {found[name] for name in ("conv", "max_pool2d", "net.0", "add", "net.1")}
    assert set(found) == {"conv", "max_pool2d", "net.0", "add", "net.1", "net.2", "add_1", "net.3"}
    pool = next(layer for layer in network.layers if layer.op == "max_pool2d")
    assert (set(pool.multiplier.tolist()), set(pool.shift.tolist())) == ({32768}, {15})
    # the pooled map is tied to the convolution's and the first sum's to what the second adds
    assert found["conv"] == found["max_pool2d"] == found["net.0"]
    assert found["add"] == found["net.1"]
    assert len(tied) == 2
    with torch.no_grad():
        y = model.conv(x)
        maps = [m.double().flatten().numpy() for m in (y, F.max_pool2d(y, 3, 1, 1), model.net[0](y))]
    peak = max(float(np.abs(m).max()) for m in maps)
    top = 127

    def error(clip):
        step = clip / top
        return sum(np.square(np.clip(np.rint(m / step), -128, 127) * step - m).mean() for m in maps)

    chosen = found["conv"] * top
    assert chosen == pytest.approx(best_clip(maps, peak, 8), rel=1e-6)
    assert all(error(chosen) <= error(peak * part) * (1 + 1e-6) for part in np.linspace(0.2, 1.0, 41))


def test_the_input_shares_its_scale_with_what_is_added_to_it():
    network = quantize(*built("input"))
    assert network.layers[1].scale == network.input_scale
    assert network.layers[2].reads == ("net.0", "input")


def test_a_relu6_ends_where_the_integers_end():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU6(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
    x = torch.linspace(-9, 9, 256).reshape(16, 1, 4, 4)
    network = quantize(model, x)
    first = network.layers[0]
    assert first.relu
    assert first.scale <= np.float32(6 / 127)
    maps = network.layer_outputs(network.quantize_input(x))[0]
    assert maps.max() == 127
    assert np.abs(maps * first.scale - x.clamp(0, 6).numpy()).max() < 6 * 0.04
    # tied to a map of many times that, the scale still ends at 6
    wide = Calls(lambda m, x: m.net[1](F.relu6(m.conv(x)) + m.net[0](x)), same(2), same())
    with torch.no_grad():
        wide.net[0].weight.mul_(100)
    network = quantize(wide, 5 * torch.randn(32, 2, 6, 6))
    assert [layer.scale for layer in network.layers[:2]] == [np.float32(6 / 127)] * 2


REFUSED = {
    "relu of a map that others read": (lambda m, x: (y := m.conv(x)) + F.relu(y),
                                       r"'relu' \(relu\).*others read the map of layer 'conv' without it"),
    "relu of another name": (lambda m, x: (y := m.conv(x)) + F.relu(F.dropout(y, training=False)),
                             r"'relu' .*others read the map"),
    "relu6 after others read": (lambda m, x: (y := F.relu(m.conv(x))) + F.relu6(y), r"'relu6' .*others read the map"),
    "norm of a map that others read": (lambda m, x: (y := m.conv(x)) + m.net[3](y), r"'net\.3' .*its only reader"),
    "a number": (lambda m, x: m.conv(x) + 1.0, r"'add' \(add\).*given 1\.0, which is no map"),
    "a parameter": (lambda m, x: F.adaptive_avg_pool2d(m.conv(x), (1, 4)) + m.net[0].bias,
                    r"'add' .*which is no map"),
    "a multiple": (lambda m, x: torch.add(m.conv(x), m.net[0](x), alpha=2), r"'add' .*adds a multiple"),
    "itself": (lambda m, x: (y := m.conv(x)) + y, r"'add' .*a map to itself.*factor 2"),
    "shapes": (lambda m, x: (y := m.conv(x)) + y.mean((2, 3), keepdim=True),
               r"'add' .*maps \(C, H, W\) are \(4, 8, 8\) and \(4, 1, 1\)"),
    "dead end": (lambda m, x: (m.net[0](x), m.conv(x))[1], r"'net\.0' \(Conv2d\).*nobody reads its result"),
    "lost relu": (lambda m, x: (F.relu(y := m.conv(x)), y)[1], r"'relu' .*(nobody|others) read"),
    "joined": (lambda m, x: torch.cat([m.conv(x), m.net[0](x)], 1), r"'cat' \(cat\).*add the branches"),
    "scaled": (lambda m, x: m.conv(x) * m.net[0](x), r"'mul' \(mul\).*add the branches"),
    "subtracted": (lambda m, x: m.conv(x) - m.net[0](x), r"'sub' \(sub\).*add the negative"),
    "uneven": (lambda m, x: F.adaptive_avg_pool2d(m.conv(x), 3), r"8x8 has no 3x3 windows of one size.*divides"),
    "padding left out": (lambda m, x: F.avg_pool2d(m.conv(x), 2, 2, 1, count_include_pad=False),
                         r"'avg_pool2d' .*count_include_pad=True"),
    "average in ceil_mode": (lambda m, x: F.avg_pool2d(m.conv(x), 3, 2, ceil_mode=True), r"'avg_pool2d' .*ceil_mode"),
    "own divisor": (lambda m, x: F.avg_pool2d(m.conv(x), 2, divisor_override=3), r"'avg_pool2d' .*another number"),
    "one axis": (lambda m, x: m.conv(x).mean(3), r"'mean' .*dimensions \(3,\).*x\.mean\(\(2, 3\)\)"),
    "channels": (lambda m, x: m.conv(x).mean((1, 2), keepdim=True), r"'mean' .*dimensions \(1, 2\)"),
    "all": (lambda m, x: m.conv(x).mean(), r"'mean' .*dimensions None"),
    "below zero": (lambda m, x: m.conv(x).clamp(-1, 1), r"'clamp' .*cuts off at -1 and 1.*ReLU6"),
    "hardtanh": (lambda m, x: F.hardtanh(m.conv(x)), r"'hardtanh' .*cuts off at -1\.0 and 1\.0"),
    "vector": (lambda m, x: m.conv(x).flatten(1).mean((-2, -1)), r"'mean' .*dimensions \(-2, -1\)"),
    "relu of the input": (lambda m, x: m.conv(F.relu(x)), r"'relu' .*no Conv2d or Linear before it"),
    "mean at the end": (lambda m, x: m.conv(x).mean((2, 3)), r"'mean' .*nothing reads the flattened map"),
    "input as result": (lambda m, x: (m.conv(x), x)[1], r"'conv' .*nobody reads its result"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_refused_joints_are_named(which):
    call, message = REFUSED[which]
    model = Calls(call, same(2), same(2), same(2), nn.BatchNorm2d(4)).eval()
    with pytest.raises(UnsupportedLayerError, match=message):
        quantize(model, torch.randn(4, 2, 8, 8))


@pytest.mark.parametrize("name", [name for name, task in NETWORKS.items() if task.data == "digits"])
def test_every_network_of_the_digits_trains_and_is_quantised(name):
    epochs = 4 if name == "mobilenet" else 2  # depthwise convolutions learn slower
    model, data, accuracy = train_digits(2, epochs=epochs, network=name)
    assert isinstance(model, NETWORKS[name].model)
    assert data.test_x.shape == (450, *NETWORKS[name].shape)
    assert accuracy > 0.6
    network = quantize(model, data.calibration_x)
    eight = float((network.predict(data.test_x).argmax(1) == data.test_y).mean())
    assert abs(eight - accuracy) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("lenet5", 0.96), ("resnet", 0.98), ("mobilenet", 0.97)])
def test_accuracy_of_the_digits_networks(name, least):
    model, data, accuracy = train_digits(network=name)
    assert accuracy >= least
    for bits, loss in ((16, 0.005), (8, 0.01), (4, 0.08)):
        network = quantize(model, data.calibration_x, bits)
        assert float((network.predict(data.test_x).argmax(1) == data.test_y).mean()) >= accuracy - loss, bits


def test_enlarged_digits_are_the_same_digits():
    small, large = load_digits(), load_digits(28)
    assert large.all_x.shape == (1797, 1, 28, 28)
    assert large.all_x.dtype == np.float32
    assert np.array_equal(small.test_y, large.test_y)
    assert large.all_x.min() >= 0
    assert large.all_x.max() <= 1
    # centres of pixels: the corner stays, its neighbour at twice the resolution lies a quarter of the way to the next
    double = load_digits(16).all_x[:, 0, 0]
    assert np.array_equal(double[:, 0], small.all_x[:, 0, 0, 0])
    assert np.allclose(double[:, 5], 0.75 * small.all_x[:, 0, 0, 2] + 0.25 * small.all_x[:, 0, 0, 3])


def test_unknown_networks_are_refused_and_the_command_line_knows_them_all():
    assert tuple(NETWORKS) == TRAINED_NETWORKS
    with pytest.raises(InvalidInputError, match="no digits network 'vgg'; choose from cnn, lenet5, resnet, mobilenet"):
        train_digits(network="vgg")
