"""Programs of torch.export as networks, and the report of what was folded and fused: counted again by running them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_read_graph import Calls, built, same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import codesign_kernel as ck
from codesign_kernel import figures
from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize.float_layer import run_layers
from codesign_kernel.optimize.fusion import LAYER, FusionReport, LayerTraffic, Operator
from codesign_kernel.optimize.graph import read_graph
from codesign_kernel.optimize.networks import NETWORKS

#: What gives a tensor that it is given, or another view of it.
MOVES_NOTHING = {"view", "_unsafe_view", "alias", "detach", "clone", "squeeze", "t", "unsqueeze", "permute", "expand"}


class Traffic(TorchDispatchMode):
    """Counts the elements of maps that operators read and write: tensors that depend on the input."""

    def __init__(self, x):
        super().__init__()
        self.maps, self.moved = [x], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        read = [t for t in args if any(t is m for m in self.maps)]
        if read:
            name = func._schema.name.removeprefix("aten::").rstrip("_")
            first = result[0] if isinstance(result, tuple) else result
            self.maps.append(first)
            self.moved += 0 if name in MOVES_NOTHING else sum(t.numel() for t in [*read, first])
        return result


def by_hand(model, layers, x):
    """Traffic before and after for one image, from running the model's operators and the layers."""
    with torch.no_grad(), Traffic(x) as traffic:
        model(x)
    maps = [x, *run_layers(layers, x)]
    after = sum(maps[source + 1].numel() for layer in layers for source in layer.reads)
    after += sum(m.numel() for m in maps[1:])
    return traffic.moved // len(x), after // len(x)


def check(model, x):
    """The report adds up, and counting tensors gives the same; the layers give what the model gives."""
    report = ck.fusion_report(model, x)
    layers = read_graph(model, x)
    frame = report.frame
    assert report.traffic_before - report.traffic_saved == report.traffic_after
    assert (report.traffic_before, report.traffic_after) == by_hand(model, layers, x)
    assert frame["saved"].sum() == report.traffic_saved
    assert (frame["read"] + frame["written"]).sum() == report.traffic_before
    assert frame["saved_bytes"].sum() == report.bytes(report.traffic_saved) == report.traffic_saved
    assert [layer.name for layer in report.layers if layer.name != "input"] == [layer.name for layer in layers]
    assert report.layers_after == len(layers)
    for i, layer in enumerate(report.layers):
        number = i - (report.layers[0].name == "input")
        saved = sum(o.saved for o in report.operators if o.layer == number)
        assert layer.before - saved == layer.after, layer
    with torch.no_grad():
        expected, got = model(x), [*run_layers(layers, x)][-1]
    assert torch.allclose(got.flatten(1), expected.flatten(1), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return report


@pytest.mark.parametrize("which", ["mobilenet", "in place", "windows", "two pools", "functions", "vectors",
                                   "one relu for two"])  # fmt: skip
def test_traffic_is_what_tensors_count(which):
    model, x = built(which)
    check(model, x[:2])


class Drawn(nn.Module):
    """A random chain of convolutions (dense, grouped, depthwise), norms, activations, poolings and residual sums."""

    def __init__(self, seed):
        super().__init__()
        draw = random.Random(seed)
        self.parts = nn.ModuleList()
        self.plan = []
        channels = 2
        for _ in range(draw.randint(1, 4)):
            kind = draw.choice(["conv", "depthwise", "residual"])
            to = {"conv": draw.choice([2, 4, 6]), "depthwise": channels, "residual": channels}[kind]
            groups = {"conv": draw.choice([1, 2]), "depthwise": channels, "residual": 1}[kind]
            edge = draw.choice([1, 3])
            block = [nn.Conv2d(channels, to, edge, padding=edge // 2, groups=groups, bias=draw.random() < 0.5)]
            block += [nn.BatchNorm2d(to, affine=draw.random() < 0.7)] * (draw.random() < 0.6)
            block += [draw.choice([nn.ReLU(), nn.ReLU6(), nn.Identity(), nn.Dropout()])]
            if kind != "residual":
                block += [draw.choice([nn.MaxPool2d(2), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2, 1), nn.Identity()])]
            self.parts.append(nn.Sequential(*block))
            self.plan.append((kind == "residual", draw.random() < 0.5))
            channels = to
        self.fc = nn.LazyLinear(3) if draw.random() < 0.5 else None

    def forward(self, x):
        for part, (residual, relu) in zip(self.parts, self.plan, strict=True):
            x = part(x) + x if residual else part(x)
            x = F.relu(x) if residual and relu else x
        return x if self.fc is None else self.fc(x.flatten(1))


def drawn(seed):
    torch.manual_seed(seed)
    model, x = Drawn(seed), torch.randn(8, 2, 17, 14)
    with torch.no_grad():
        for _ in range(3):  # statistics that are not the defaults
            model.train()(x)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return model.eval(), x[:2]


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(i, marks=pytest.mark.slow) for i in range(5, 30))])
def test_random_networks_are_folded_exactly(seed):
    check(*drawn(seed))


def test_the_report_of_a_residual_network():
    model, x = built("resnet")
    report = ck.fusion_report(model, x, bits=4)
    check(model, x[:2])
    frame = report.frame.set_index("operator")
    assert frame["became"].to_dict() == {
        "stem.0": "a layer", "stem.1": "folded into stem.0", "stem.2": "fused into stem.0",
        "block1.conv1": "a layer", "block1.norm1": "folded into block1.conv1",
        "block1.relu_1": "fused into block1.conv1", "block1.conv2": "a layer",
        "block1.norm2": "folded into block1.conv2", "block1.add": "a layer", "block1.relu_2": "fused into block1.add",
        "block2.conv1": "a layer", "block2.norm1": "folded into block2.conv1",
        "block2.relu_3": "fused into block2.conv1", "block2.conv2": "a layer",
        "block2.norm2": "folded into block2.conv2", "block2.skip.0": "a layer",
        "block2.skip.1": "folded into block2.skip.0", "block2.add_1": "a layer",
        "block2.relu_4": "fused into block2.add_1", "pool": "a layer", "flatten": "nothing at inference",
        "fc": "a layer",
    }  # fmt: skip
    # every map of the first half is 16 x 8 x 8 = 1,024, of the second 32 x 4 x 4 = 512
    assert frame["saved"]["stem.1"] == frame["saved"]["stem.2"] == 2 * 1024
    assert frame["saved_bytes"]["block2.norm1"] == 2 * 512 / 2
    assert frame["parameters_folded"]["stem.1"] == 4 * 16
    assert report.parameters_folded == 4 * (16 + 16 + 16 + 32 + 32 + 32)
    assert report.traffic_saved == 2 * (6 * 1024 + 5 * 512)
    assert str(report).startswith("ResidualCNN: 22 operators become 10 layers\n  maps of 4 bits: ")
    assert "6 batch normalisations folded (576 parameters), 5 operators fused, 1 do nothing" in str(report)
    assert report.to_dict()["traffic_saved_bytes"] == report.traffic_saved / 2
    assert report == ck.fusion_report(torch.export.export(model, (x[:1],)), x, bits=4)


def test_what_does_nothing_is_told():
    model = nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Dropout(), nn.ReLU(), nn.MaxPool2d(1))
    report = check(model.eval(), torch.randn(1, 2, 6, 6).repeat(2, 1, 1, 1))
    assert report.frame["became"].tolist() == [
        "nothing at inference", "a layer", "fused into 1", *["nothing at inference"] * 3,
    ]  # fmt: skip
    assert report.frame["saved"].tolist() == [2 * 72, 0, 2 * 64, 0, 2 * 64, 2 * 64]
    assert [(layer.name, layer.before, layer.after) for layer in report.layers] == [
        ("input", 144, 0), ("1", 72 + 64 + 3 * 128, 72 + 64),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("network", "batch"), [("cnn", 1), ("cnn", 5), ("cnn", "free"), ("lenet5", 1), ("resnet", 1), ("mobilenet", "free")]
)
def test_exported_programs_are_read_as_their_modules(network, batch):
    torch.manual_seed(1)
    task = NETWORKS[network]
    model, x = task.model().eval(), torch.randn(12, 1, task.edge, task.edge)
    free = ({0: torch.export.Dim("N")},) if batch == "free" else None
    example = x[:3] if batch == "free" else x[:batch]
    program = torch.export.export(model, (example,), dynamic_shapes=free, strict=False)
    before = str(program.graph)
    assert ck.quantize(program, x).digest == ck.quantize(model, x).digest
    assert str(program.graph) == before


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")  # torch 2.13's own
@pytest.mark.parametrize("which", ["mobilenet", "plus", "clips", "windows"])
def test_programs_that_are_taken_apart_are_read_too(which):
    model, x = built(which)
    program = torch.export.export(model, (x[:2],), strict=False).run_decompositions()
    taken = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.convolution.default" in taken
    one, other = (ck.quantize(read, x).predict(x.numpy()) for read in (program, model))
    assert np.array_equal(one, other)


def exported(call, *parts, x=None):
    model = Calls(call, *parts)
    return torch.export.export(model, (torch.randn(2, 2, 8, 8) if x is None else x,), strict=False)


REFUSED = {
    "training": (lambda: exported(lambda m, x: m.net[0](m.conv(x)), nn.BatchNorm2d(4)),
                 UnsupportedLayerError, r"'net\.0' \(BatchNorm2d\).*statistics from the batch; call model\.eval\(\)"),
    "dropout": (lambda: exported(lambda m, x: m.net[0](m.conv(x)), nn.Dropout()),
                UnsupportedLayerError, r"'net\.0' \(Dropout\).*model\.eval\(\) before torch\.export"),
    "no gradients": (lambda: exported(lambda m, x: torch.no_grad()(m.conv)(x).relu()),
                     UnsupportedLayerError, r"export it inside `with torch\.no_grad\(\):`"),
    "other maps": (lambda: exported(lambda m, x: m.conv(x), x=torch.randn(2, 2, 6, 6)), InvalidInputError,
                   r"exported for inputs \(C, H, W\) = \(2, 6, 6\), but got \(2, 8, 8\)"),
    "other type": (lambda: exported(lambda m, x: m.conv(x.float()), x=torch.randn(2, 2, 8, 8).double()),
                   InvalidInputError, r"torch\.float64, but a network takes .* torch\.float32"),
    "free maps": (lambda: torch.export.export(
        same(2), (torch.randn(2, 2, 8, 8),), strict=False,
        dynamic_shapes=({2: torch.export.Dim("H", min=4, max=64)},)), UnsupportedLayerError, "only the batch may be"),
    "two inputs": (lambda: torch.export.export(
        nn.Bilinear(2, 2, 2), (torch.randn(2, 2), torch.randn(2, 2)), strict=False), UnsupportedLayerError,
        "one input, but the program has 2"),
    "two results": (lambda: exported(lambda m, x: (m.conv(x), m.net[0](x)), same(2)),
                    UnsupportedLayerError, r"'conv' \(Conv2d\).*inside a tuple"),
    "no numbers": (lambda: torch.export.export(same(2).to("meta"), (torch.randn(2, 2, 8, 8, device="meta"),),
                                               strict=False), InvalidInputError, "real weights"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_programs_that_cannot_be_read_are_refused(which):
    build, kind, message = REFUSED[which]
    with pytest.raises(kind, match=message):
        ck.quantize(build(), torch.randn(4, 2, 8, 8))


@pytest.mark.parametrize(
    ("x", "bits", "message"),
    [
        (torch.zeros(1, 1, 8, 8), 7, r"bits is one of \(4, 8, 16\), but got 7"),
        (torch.zeros(1, 8, 8), 8, r"\(N, C, H, W\) with at least one value, but got \(1, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int8), 8, "floating point numbers, but got torch.int8"),
        (np.zeros((1, 1, 8, 8), np.uint8), 8, "floating point numbers, but got uint8"),
        (torch.zeros(1, 1, 8, 8, device="meta"), 8, "floating point"),
        ("x", 8, "floating point numbers, but got str"),
        (torch.zeros(1, 3, 8, 8), 8, "cannot run on"),
    ],
)
def test_wrong_questions_are_refused(x, bits, message):
    with pytest.raises(InvalidInputError, match=message):
        ck.fusion_report(NETWORKS["cnn"].model(), x, bits)


def test_reports_are_plain_data():
    report = FusionReport("one", 8, (Operator("a", "Conv2d", LAYER, 0, 3, 4, 5),), (LayerTraffic("a", "conv2d", 7, 7),))
    assert "one: 1 operators become 1 layers" in report._repr_html_()
    assert report.traffic_saved == 0


def test_the_figure_draws_every_byte_once():
    model, x = built("resnet")
    report = ck.fusion_report(model, x, bits=16)
    info = figures.fusion_info(report)
    assert [bar.name for bar in info.bars] == [layer.name for layer in report.layers]
    assert sum(bar.before for bar in info.bars) == info.before == 2 * report.traffic_before
    assert sum(bar.after for bar in info.bars) == info.after == 2 * report.traffic_after
    drawn = {trace.name: trace.x for trace in figures.fusion_figure(info).data if trace.type == "bar"}
    assert list(drawn) == ["still travels", "no longer travels"]
    assert [sum(column) for column in zip(*drawn.values(), strict=True)] == [bar.before for bar in info.bars]
    assert sum(drawn["no longer travels"]) == 2 * report.traffic_saved
    assert info.finding.startswith("Fusing saves ")
    assert info.bars[-1].saved == 0


def test_many_layers_share_a_row_of_the_figure():
    layers = tuple(LayerTraffic(f"l{i}", "conv2d", 10 * (i + 1), 4 * (i + 1)) for i in range(30))
    operators = (Operator("r", "ReLU", "fused", 0, 3 * sum(i + 1 for i in range(30)), 0, 0),)
    info = figures.fusion_info(FusionReport("deep", 8, operators, layers), rows=5)
    assert [bar.name for bar in info.bars] == ["l26", "l27", "l28", "l29", "26 smaller layers"]
    assert sum(bar.before for bar in info.bars) == info.before == 4650
    assert all(bar.saved == pytest.approx(0.6) for bar in info.bars)
    assert "60\u00a0%" in info.finding
