"""Quantisation: the integers against torch, and what is refused and how."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize import quantize
from codesign_kernel.optimize.assembly import requantiser
from codesign_kernel.optimize.clipping import best_clip


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, (32768, 15)),
        (0.75, (49152, 16)),
        (65535.9 / 65536, (32768, 15)),  # rounds up to 2^16: one bit less
        (32767.5, (65535, 1)),
        (2.0**-32, (32768, 47)),
        (2.0**-40 * 1.25, (160, 47)),  # fewer than 16 bits, as the shift ends at 47
    ],
)
def test_requantiser_uses_all_bits_of_the_multiplier(ratio, expected):
    assert requantiser(ratio) == expected
    assert expected[0] / 2 ** expected[1] == pytest.approx(ratio, rel=2**-15)


def test_a_wider_accumulator_is_shifted_further():
    assert requantiser(2.0**-40 * 1.25, 48) == (40960, 55)
    assert requantiser(2.0**-56 * 1.25, 48) == (160, 63)


@pytest.mark.parametrize("ratio", [40000.0, 2.0**-49])
def test_requantiser_refuses_what_it_cannot_represent(ratio):
    with pytest.raises(InvalidInputError, match="requantiser scales by"):
        requantiser(ratio)


def test_best_clip_trades_an_outlier_for_resolution():
    rng = np.random.default_rng(0)
    values = rng.normal(size=20000)
    peak = float(np.abs(values).max())
    assert best_clip([values], peak, 4) < 0.8 * peak
    assert best_clip([np.linspace(-1, 1, 255)], 1.0, 8) == 1.0  # every value is a step already


class Plain(nn.Module):
    """Every accepted spelling that is not a module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, dilation=2, padding="same"), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4 * 2 * 2, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x), inplace=True), 2)
        x = F.max_pool2d(torch.relu(self.deep(x)), kernel_size=2, stride=2).contiguous()
        x = F.dropout(x.view(x.size(0), -1), training=self.training)
        return self.head(self.fc(x).relu())


def chain(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers)


def trained_norms(model, x):
    """Batch normalisation with statistics and factors that are not the defaults."""
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(5):
            model(x)
    return model


class Calls(nn.Module):
    """A convolution, then whatever a test wants; the parts are found under 'net'."""

    def __init__(self, call, *parts):
        super().__init__()
        self.call = call
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.net = nn.ModuleList(parts)

    def forward(self, x):
        return self.call(self, x)


def conv():
    return nn.Conv2d(2, 4, 3)


def own_weights():
    """Functions with weights of the model, and weights that are computed: a normalised and a masked one."""

    def call(m, x):
        x = F.batch_norm(F.conv2d(x, m.conv.weight * m.mask, m.conv.bias), m.mean, m.variance)
        return F.relu(m.net[0](x)).flatten(1) @ m.net[1].weight.T

    model = Calls(call, torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), nn.Linear(16, 3))
    model.register_buffer("mask", torch.tensor([1.0, 0, 1, 1]).reshape(4, 1, 1, 1))
    model.register_buffer("mean", torch.randn(4))
    model.register_buffer("variance", torch.rand(4) + 0.5)
    return model


def overwritten(m, x):
    y = m.conv(x)
    z = m.net[0](y)
    y.add_(z).relu_()
    return m.net[0](y) + y


ACCEPTED = {
    "own weights": (own_weights, (2, 6, 6)),
    "own convolution": (lambda: chain(type("Own", (nn.Conv2d,), {"__module__": "own"})(2, 4, 3)), (2, 6, 6)),
    "in place": (lambda: Calls(overwritten, nn.Conv2d(4, 4, 1)), (2, 6, 6)),
    "vectors normalised": (lambda: chain(nn.Flatten(), nn.Linear(18, 8), nn.BatchNorm1d(8), nn.ReLU()), (2, 3, 3)),
    "below a limit": (lambda: Calls(lambda m, x: F.relu(m.conv(x)).clamp(max=0.5).mean((2, 3), True).squeeze(-1)
                                    .squeeze(-1) @ m.net[0].weight, nn.Linear(4, 4)), (2, 5, 5)),
    "plain": (Plain, (2, 8, 8)),
    "folded": (lambda: chain(nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                             nn.Conv2d(6, 6, 3, groups=3), nn.BatchNorm2d(6, affine=False)), (2, 8, 9)),
    "pool first": (lambda: chain(nn.Conv2d(1, 4, (1, 3), padding="valid"), nn.MaxPool2d(3), nn.ReLU()), (1, 7, 8)),
    "perceptron": (lambda: chain(nn.Flatten(), nn.Linear(18, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4)), (2, 3, 3)),
    "one layer": (lambda: nn.Conv2d(2, 4, 3), (2, 5, 5)),
    "identity": (lambda: chain(nn.Identity(), nn.Conv2d(2, 4, 3), nn.Dropout2d(), nn.ReLU(), nn.ReLU()), (2, 5, 5)),
    "late relu": (lambda: chain(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.ReLU(), nn.Linear(36, 3, bias=False)), (2, 5, 5)),
}  # fmt: skip


@pytest.mark.parametrize("which", ACCEPTED)
def test_quantised_network_follows_the_float_model(which):
    torch.manual_seed(0)
    build, shape = ACCEPTED[which]
    x = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))
    model = trained_norms(build(), x)
    network = quantize(model, x)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(x).numpy()
    got = network.predict(x.numpy()) * network.output_scale
    assert got.shape == expected.shape
    error = got - expected
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.abs(expected).max()  # 3 steps of 127
    assert np.abs(error).max() < 0.08 * np.abs(expected).max()
    assert model.training  # as before


@pytest.mark.parametrize("which", ["plain", "late relu"])
def test_16_bits_follow_it_closer(which):
    torch.manual_seed(0)
    build, shape = ACCEPTED[which]
    x = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))
    model = trained_norms(build(), x).eval()
    network = quantize(model, x, bits=16)
    assert {layer.weight.dtype for layer in network.layers} == {np.dtype(np.int16)}
    with torch.no_grad():
        expected = model(x).numpy()
    error = network.predict(x.numpy()) * network.output_scale - expected
    assert np.abs(error).max() < 3e-4 * np.abs(expected).max()  # 10 steps of 32767


def test_every_layer_follows_the_float_layer():
    torch.manual_seed(3)
    model = chain(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3), nn.ReLU()).eval()
    x = torch.randn(64, 2, 8, 8)
    network = quantize(model, x)
    with torch.no_grad():
        floats = [model[:3](x).numpy(), model(x).numpy()]
    for layer, got, expected in zip(
        network.layers, network.layer_outputs(network.quantize_input(x)), floats, strict=True
    ):
        assert np.abs(got * layer.scale - expected).mean() < 1.5 * layer.scale
    assert [layer.name for layer in network.layers] == ["0", "3"]
    assert network.name == "Sequential"


def test_first_layer_by_hand():
    model = chain(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.5, -2.54]).reshape(2, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([0.25, 0.0]))
    x = torch.tensor([1.27, -1.0, 0.0]).reshape(3, 1, 1, 1)
    network = quantize(model, x)
    assert network.input_scale == pytest.approx(0.01)
    layer = network.layers[0]
    assert layer.weight.ravel().tolist() == [127, -127]  # per channel: both use their range
    assert layer.scale == pytest.approx(2.54 * 1.27 / 127)
    # channel 0: weight scale 0.5/127, bias 0.25 / (0.01 * 0.5/127) = 6350; channel 1: 2.54/127 = 0.02
    assert layer.bias.tolist() == [6350, 0]
    ratios = layer.multiplier / 2.0**layer.shift
    assert ratios == pytest.approx([0.01 * 0.5 / 127 / layer.scale, 0.01 * 0.02 / layer.scale], rel=2**-15)
    assert layer.multiplier.min() >= 32768
    # 0.5 * 1.27 + 0.25 = 0.885, / 0.0254 = 34.8 -> 35; -2.54 * 1.27 -> -127
    assert network.predict(x)[0].ravel().tolist() == [35, -127]


def test_batch_normalisation_is_folded():
    model = trained_norms(chain(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5)), torch.randn(32, 2, 6, 6)).eval()
    norm = model[1]
    x = torch.randn(64, 2, 6, 6)
    network = quantize(model, x)
    factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy()
    weight = model[0].weight.detach().numpy() * factor[:, None, None, None]
    steps = np.abs(weight).max(axis=(1, 2, 3)) / 127
    layer = network.layers[0]
    assert np.abs(layer.weight * steps[:, None, None, None] - weight).max() <= 0.51 * steps.max()
    bias = (norm.bias - norm.running_mean * torch.from_numpy(factor)).detach().numpy()
    assert layer.bias * network.input_scale * steps == pytest.approx(bias, abs=1e-4)


def test_pruned_channels_keep_their_bias():
    model = chain(nn.Conv2d(1, 4, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias[0] = 0.7
        model[0].weight[1] = 0
        model[0].bias[1] = 0
        model[0].weight[2] = 1e-12
        model[0].bias[2] = 0.3
    x = torch.randn(32, 1, 5, 5)
    network = quantize(model, x)
    got = network.predict(x.numpy()) * network.output_scale
    with torch.no_grad():
        assert np.abs(got - model(x).numpy()).max() < 2 * network.output_scale


def test_four_bits_stay_within_four_bits():
    model = chain(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 4))
    x = torch.randn(64, 2, 5, 5)
    network = quantize(model, x, bits=4)
    assert network.bits == 4
    assert max(int(np.abs(layer.weight).max()) for layer in network.layers) == 7
    for maps in network.layer_outputs(network.quantize_input(x)):
        assert maps.min() >= -8
        assert maps.max() <= 7
    assert network.workload.layers[0].weight_bits == 4


def test_a_module_that_is_used_twice_gives_two_layers():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.conv(self.relu(self.conv(x)))

    assert [layer.name for layer in quantize(Twice(), torch.randn(8, 2, 4, 4)).layers] == ["conv", "conv_2"]


REFUSED = {
    "softmax": (lambda: chain(conv(), nn.Softmax(1)), r"'1' \(Softmax\).*leave it out"),
    "gelu": (lambda: chain(conv(), nn.GELU()), r"'1' \(GELU\).*use ReLU"),
    "transposed": (lambda: chain(nn.ConvTranspose2d(2, 4, 3)), r"'0' \(ConvTranspose2d\).*build the network from"),
    "nested": (lambda: chain(conv(), nn.Sequential(nn.ReLU(), nn.Sigmoid())), r"'1\.1' \(Sigmoid\)"),
    "reflect": (lambda: chain(nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")), r"'0' \(Conv2d\).*'reflect'"),
    "zero padding": (lambda: chain(nn.ZeroPad2d(1), conv()), r"'0' \(ZeroPad2d\)"),
    "dilated pool": (lambda: chain(conv(), nn.MaxPool2d(2, dilation=2)), r"'1' \(MaxPool2d\)"),
    "ceil": (lambda: chain(conv(), nn.MaxPool2d(2, ceil_mode=True)), r"'1' \(MaxPool2d\).*ceil_mode"),
    "indices": (lambda: chain(conv(), nn.MaxPool2d(2, return_indices=True)), r"'1' \(MaxPool2d\).*indices"),
    "first relu": (lambda: chain(nn.ReLU(), conv()), r"'0' \(ReLU\).*no Conv2d or Linear before it"),
    "first norm": (lambda: chain(nn.BatchNorm2d(2), conv()), r"'0' \(BatchNorm2d\).*no Conv2d or Linear before it"),
    "late norm": (lambda: chain(conv(), nn.ReLU(), nn.BatchNorm2d(4)), r"'2' \(BatchNorm2d\).*follow a Conv2d"),
    "no statistics": (lambda: chain(conv(), nn.BatchNorm2d(4, track_running_stats=False)), r"'1' .*statistics"),
    "not flat": (lambda: chain(conv(), nn.Linear(6, 3)), r"'1' \(Linear\).*flatten the map first"),
    "part flat": (lambda: chain(conv(), nn.Flatten(2)), r"'1' \(Flatten\).*flatten all others"),
    "flat end": (lambda: chain(conv(), nn.Flatten()), r"'1' \(Flatten\).*nothing reads the flattened map"),
    "empty": (lambda: chain(nn.Identity()), "no Conv2d and no Linear"),
    "constant": (lambda: Calls(lambda m, x: m.conv(x) * 2), r"'mul' \(mul\)"),
    "always drops": (lambda: Calls(lambda m, x: F.dropout(m.conv(x), 0.0)), r"'dropout' \(dropout\).*self\.training"),
    "dict": (lambda: Calls(lambda m, x: {"y": m.conv(x)}), r"'conv' \(Conv2d\).*inside a tuple, list or dict"),
    "tuple": (lambda: Calls(lambda m, x: (m.conv(x), 1)), r"'conv' \(Conv2d\).*inside a tuple"),
    "nothing": (lambda: Calls(lambda m, x: m.conv(x) is None), r"'conv' \(Conv2d\).*nobody reads its result"),
    "data dependent": (lambda: Calls(lambda m, x: m.conv(x) if x.sum() > 0 else x), "cannot export Calls.*plain nn"),
    "view": (lambda: Calls(lambda m, x: m.conv(x).view(2, 16, -1)), r"'view' \(view\).*flatten all others"),
    "batch": (lambda: Calls(lambda m, x: m.conv(x) + m.conv(x.flip(0))), r"'flip' \(flip\).*build the network from"),
    "one size of batch": (lambda: Calls(lambda m, x: m.conv(x.view(2, 2, 8, 8))), r"fails on one image.*flatten\(1\)"),
    "random": (lambda: Calls(lambda m, x: F.conv2d(x, torch.randn(4, 2, 3, 3))), r"'randn' .*random or written"),
    "numbers of the input": (lambda: Calls(lambda m, x: F.conv2d(x, x[:, :, :3, :3])), r"no such operation"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_refused_layers_are_named_and_the_model_stays_as_it_was(which):
    build, message = REFUSED[which]
    model = build().train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedLayerError, match=message):
        quantize(model, torch.randn(8, 2, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_scripted_modules_are_refused_and_compiled_ones_are_read():
    with pytest.raises(UnsupportedLayerError, match=r"cannot export.*not a scripted one"):
        quantize(torch.jit.script(chain(conv())), torch.randn(4, 2, 6, 6))
    model, x = chain(conv(), nn.ReLU()), torch.randn(4, 2, 6, 6)
    assert quantize(torch.compile(model, backend="eager"), x).digest == quantize(model, x).digest


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_lopsided_padding_is_refused():
    with pytest.raises(UnsupportedLayerError, match=r"'0' \(Conv2d\).*lopsided"):
        quantize(chain(nn.Conv2d(2, 4, 2, padding="same")), torch.randn(4, 2, 6, 6))


def test_a_hook_that_changes_values_is_noticed():
    model = chain(conv(), nn.ReLU())
    hook = model.register_forward_hook(lambda module, args, result: result + 1)
    with pytest.raises(UnsupportedLayerError, match=r"'add' \(add\).*given 1, which is no map"):
        quantize(model, torch.randn(4, 2, 6, 6))
    hook.remove()
    model.register_forward_hook(lambda module, args, result: result if torch.compiler.is_exporting() else result + 1)
    with pytest.raises(UnsupportedLayerError, match="remove hooks"):
        quantize(model, torch.randn(4, 2, 6, 6))


def test_quantize_leaves_the_model_and_its_inputs_alone():
    model = trained_norms(chain(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), torch.randn(8, 2, 6, 6)).train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    x = torch.randn(16, 2, 6, 6, requires_grad=True)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    first, second = quantize(model, x), quantize(model, x.detach().numpy())
    assert first.digest == second.digest
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model[0].weight.requires_grad
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 2, 6, 6), "all of them are 0"),
        (torch.randn(2, 6, 6), r"\(N, C, H, W\) with at least one value, but got \(2, 6, 6\)"),
        (torch.randn(0, 2, 6, 6), r"but got \(0, 2, 6, 6\)"),
        (torch.full((4, 2, 6, 6), float("nan")), "NaN or infinite"),
        (torch.full((4, 2, 6, 6), float("inf")), "NaN or infinite"),
        (torch.ones(4, 2, 6, 6, dtype=torch.uint8), "floating point, but got torch.uint8"),
        (np.ones((4, 2, 6, 6), np.uint8), "floating point, but got uint8"),
        (torch.randn(4, 3, 6, 6), r"cannot run on calibration inputs \(N, C, H, W\) = \(2, 3, 6, 6\)"),
        (torch.empty(4, 2, 6, 6, device="meta"), "'meta'"),
        ([1.0], "a tensor or a numpy array, but got list"),
    ],
)
def test_quantize_refuses_wrong_calibration_inputs(x, message):
    with pytest.raises(InvalidInputError, match=message):
        quantize(chain(conv()), x)


def test_quantize_refuses_other_mistakes():
    x = torch.randn(4, 2, 6, 6)
    with pytest.raises(InvalidInputError, match=r"bits is one of \(4, 8, 16\), but got 12"):
        quantize(chain(conv()), x, bits=12)
    with pytest.raises(InvalidInputError, match=r"a torch\.nn\.Module or a torch\.export\..*, but got function"):
        quantize(lambda x: x, x)
    with pytest.raises(InvalidInputError, match="give it real weights"):
        quantize(chain(conv()).to("meta"), x)
    dead = chain(conv(), nn.ReLU(), nn.Conv2d(4, 2, 1))
    nn.init.constant_(dead[0].bias, -100.0)
    with pytest.raises(InvalidInputError, match="layer '0' gives only zeros"):
        quantize(dead, x)
    with pytest.raises(InvalidInputError, match="a scale is at least"):
        quantize(chain(conv()), x * 1e-40)
    x[1] = 1e30
    steep = chain(conv())
    nn.init.constant_(steep[0].weight, 1e10)
    with pytest.raises(InvalidInputError, match="layer '0' gives NaN or infinity"):
        quantize(steep, x)
    broken = chain(conv())
    nn.init.constant_(broken[0].bias, float("nan"))
    with pytest.raises(UnsupportedLayerError, match="weights are finite"):
        quantize(broken, x)


def test_reading_integers_needs_no_torch():
    code = "import sys, codesign_kernel.optimize.integer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
