"""Pruning takes channels out for good, all that belong together, and nothing else."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize import Dataset, Recipe, fit, load_digits, logits
from codesign_kernel.optimize.channels import channels_of, example_of, narrowed
from codesign_kernel.optimize.gates import fold, gated
from codesign_kernel.optimize.networks import NETWORKS
from codesign_kernel.optimize.pruning import IMPORTANCES, best, taylor
from codesign_kernel.optimize.training import repeatable

GROUPS = {
    "cnn": {"conv1": ("conv1",), "conv2": ("conv2",)},
    "lenet5": {"conv1": ("conv1",), "conv2": ("conv2",), "fc1": ("fc1",), "fc2": ("fc2",)},
    "resnet": {
        "stem.0": ("stem.1", "block1.norm2"),
        "block1.conv1": ("block1.norm1",),
        "block2.conv1": ("block2.norm1",),
        "block2.conv2": ("block2.norm2", "block2.skip.1"),
    },
    "mobilenet": {
        "stem.0": ("stem.1", "block1.1"),
        "block1.3": ("block1.4", "block2.1"),
        "block2.3": ("block2.4", "block3.1"),
        "block3.3": ("block3.4",),
    },
}


def digits(network: str) -> Dataset:
    return load_digits(NETWORKS[network].shape[-1])


def lively(network: str) -> nn.Module:
    """A network whose normalisations have statistics and parameters of their own, as trained ones have."""
    with repeatable(3):
        model = NETWORKS[network].untrained()[0]
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


@pytest.mark.parametrize("network", list(GROUPS))
def test_groups_are_what_the_network_couples(network: str) -> None:
    model, example = NETWORKS[network].untrained()
    channels = channels_of(model, example.repeat(2, 1, 1, 1))
    assert {group.name: group.ends for group in channels.groups} == GROUPS[network]
    (last, why), *others = channels.fixed.items()
    assert not others
    assert isinstance(model.get_submodule(last), nn.Linear)
    assert why == "its channels are the model's result"


@pytest.mark.parametrize("network", list(GROUPS))
def test_a_narrow_network_computes_what_the_whole_one_does_without_the_channels(network: str) -> None:
    """Two roads meet: channels that are gone, and channels that are multiplied by 0."""
    model, x = lively(network), digits(network).validation_x[:20]
    example = example_of(x)
    groups = channels_of(model, example).groups
    rng = np.random.default_rng(0)
    kept = {g.name: sorted(rng.permutation(g.channels)[: g.channels // 2 + 1].tolist()) for g in groups}
    gates = {g.name: torch.zeros(g.channels).index_fill(0, torch.tensor(kept[g.name]), 1.0) for g in groups}
    with gated(model, groups, gates):
        expected = logits(model, x)
    small = narrowed(model, example, kept)
    np.testing.assert_allclose(logits(small, x), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected - logits(model, x)).max() > 0.01  # the channels did matter
    for group in groups:
        assert len(small.get_parameter(f"{group.name}.weight")) == group.channels // 2 + 1


@pytest.mark.parametrize("network", ["lenet5", "mobilenet"])
def test_gates_fold_into_weights(network: str) -> None:
    model, x = lively(network), digits(network).validation_x[:10]
    groups = channels_of(model, example_of(x)).groups
    with repeatable(0):
        gates = {group.name: torch.rand(group.channels) for group in groups}
    with gated(model, groups, gates):
        expected = logits(model, x)
    fold(model, groups, gates)
    np.testing.assert_allclose(logits(model, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", list(GROUPS))
def test_what_was_pruned_goes_everywhere(network: str) -> None:
    """Profiled, quantised, evaluated, exported, pickled: a plain model, and the given one is as before."""
    model, data = lively(network), digits(network)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = ck.prune(model, data, 0.5, importance="magnitude", round_to=4)
    x = torch.from_numpy(data.validation_x[:4])
    macs = [ck.profile(each, x[:1]).workload.macs for each in (model, small)]
    assert macs[1] < 0.6 * macs[0]
    machine = ck.Accelerator.systolic(4, 4)
    network_of = [ck.quantize(each, data.calibration_x) for each in (model, small)]
    assert network_of[1].workload.macs == macs[1]
    latency = [ck.evaluate(each, machine).latency_cycle for each in network_of]
    assert latency[1] < latency[0]
    expected = small(x)
    assert torch.allclose(torch.export.export(small, (x,)).module()(x), expected, atol=1e-5)
    again = pickle.loads(pickle.dumps(small))
    assert torch.equal(again(x), expected)
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    other = ck.prune(model, data, 0.5, importance="random", round_to=4)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), expected)
    assert type(small) is type(model)
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == {
        name: list(tensor.shape) for name, tensor in before.items()
    }
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_shares_are_rounded_up_to_the_columns() -> None:
    model, data = lively("resnet"), digits("resnet")

    def widths(keep: Any, **settings: Any) -> list[int]:
        small = ck.prune(model, data, keep, importance="random", **settings)
        return [len(small.get_parameter(f"{name}.weight")) for name in GROUPS["resnet"]]

    assert widths(0.3) == [5, 5, 10, 10]
    assert widths(0.3, round_to=4) == [8, 8, 12, 12]
    assert widths(0.3, round_to=64) == [16, 16, 32, 32]
    assert widths(1e-6) == [1, 1, 1, 1]
    assert widths(1) == [16, 16, 32, 32]
    assert widths({"block1.conv2": 0.5, "block2.conv1": 0.25}) == [8, 16, 8, 32]  # conv2 is added to what stem.0 makes
    assert widths({"block1.conv2": 0.5, "stem.0": 0.5}) == [8, 16, 32, 32]
    assert widths({}) == [16, 16, 32, 32]
    whole = ck.prune(model, data, 1.0)
    assert torch.equal(whole.get_parameter("fc.weight"), model.get_parameter("fc.weight"))


def test_taylor_is_the_square_of_the_derivative_by_a_gate() -> None:
    """Input by input, against finite differences; and a channel that nobody reads matters not at all."""
    model, data = lively("cnn"), digits("cnn")
    with torch.no_grad():
        model.get_parameter("conv2.weight")[:, 3] = 0
    few = Dataset(
        "few", data.labels, data.train_x[:3], data.train_y[:3], data.calibration_x, data.calibration_y,
        data.validation_x, data.validation_y, data.test_x, data.test_y,
    )  # fmt: skip
    groups = channels_of(model, example_of(few.train_x)).groups
    found = taylor(model, few, groups)["conv1"]
    assert float(found[3]) == 0.0
    double = model.double()
    x, y = torch.from_numpy(few.train_x).double(), torch.from_numpy(few.train_y)
    expected = []
    for channel in (0, 7, 15):
        losses = []
        for factor in (1 - 1e-6, 1 + 1e-6):
            gate = torch.ones(16, dtype=torch.float64)
            gate[channel] = factor
            with gated(double, groups[:1], {"conv1": gate}), torch.no_grad():
                losses.append(F.cross_entropy(double(x), y, reduction="none"))
        expected.append(float(((losses[1] - losses[0]) / 2e-6).square().mean()))
    assert found[[0, 7, 15]].tolist() == pytest.approx(expected, rel=1e-3)


def test_the_best_stay_in_order() -> None:
    assert best(torch.tensor([0.1, 0.9, 0.5, 0.9]), 2) == [1, 3]
    assert best(torch.zeros(5), 3) == [0, 1, 2]


@pytest.mark.parametrize("importance", list(IMPORTANCES))
def test_a_seed_makes_pruning_repeatable(importance: str) -> None:
    model, data = lively("cnn"), digits("cnn")

    def weights(seed: int) -> Tensor:
        return ck.prune(model, data, 0.5, Recipe(1), importance=importance, seed=seed).get_parameter("conv1.weight")

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_fine_tuning_heals_and_sees_the_training_part_only() -> None:
    """Labels of the other parts may be anything, and the result is the same to the bit."""
    model, data = lively("cnn"), digits("cnn")
    fit(model, data, Recipe(4))
    bare = ck.prune(model, data, 0.25)
    told: list[int] = []
    healed = ck.prune(model, data, 0.25, Recipe(4), progress=lambda done, total, message: told.append(done))
    right = [float((logits(m, data.validation_x).argmax(1) == data.validation_y).mean()) for m in (bare, healed)]
    assert right[1] > right[0] + 0.1
    assert told == [1, 2, 3, 4]
    other = Dataset(
        "other", data.labels, data.train_x, data.train_y, data.calibration_x, 0 * data.calibration_y,
        data.validation_x, 0 * data.validation_y, data.test_x, 0 * data.test_y,
    )  # fmt: skip
    assert torch.equal(
        ck.prune(model, other, 0.25, Recipe(4)).get_parameter("fc.weight"), healed.get_parameter("fc.weight")
    )
    stopped = ck.prune(model, data, 0.25, Recipe(4), stop=lambda: True)
    assert torch.equal(stopped.get_parameter("fc.weight"), bare.get_parameter("fc.weight"))


def test_modes_and_frozen_weights_are_kept() -> None:
    model, data = lively("mobilenet").train(), digits("mobilenet")
    model.get_parameter("stem.0.weight").requires_grad_(False)
    small = narrowed(model, example_of(data.train_x), {"stem.0": [0, 5]})
    assert small.training
    assert all(module.training for module in small.modules())
    assert {n for n, p in small.named_parameters() if not p.requires_grad} == {"stem.0.weight"}
    taylor(model, data, channels_of(model, example_of(data.train_x)).groups)
    assert model.training
    assert model.get_parameter("fc.weight").grad is None


class Written(nn.Module):
    """Its code has the number of channels in it; what its groups of filters give is normalised in groups as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 4, 1)
        self.fc = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.grouped(F.relu(self.conv1(x))))
        x = self.conv3(F.relu(self.conv2(x)))
        return self.fc(x.reshape(-1, 256))


def test_what_cannot_be_pruned_says_why() -> None:
    data = digits("cnn")
    channels = channels_of(Written(), example_of(data.train_x))
    assert [group.name for group in channels.groups] == ["conv2"]
    assert "'grouped' is a convolution of 2 groups" in channels.fixed["grouped"]
    assert "does not run" in channels.fixed["conv3"]
    with pytest.raises(UnsupportedLayerError, match=r"'conv3' cannot be pruned: without one .* leave it out, or prune"):
        ck.prune(Written(), data, {"conv3": 0.5})
    with pytest.raises(UnsupportedLayerError, match="'fc' cannot be pruned: its channels are the model's result"):
        ck.prune(lively("cnn"), data, {"fc": 0.5})
    with pytest.raises(UnsupportedLayerError, match="no layer of the model can be pruned"):
        ck.prune(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": 0.0}, "keep is a share .* above 0 and up to 1, but got 0.0"),
        ({"keep": 1.01}, "up to 1"),
        ({"keep": float("nan")}, "up to 1"),
        ({"keep": True}, "up to 1"),
        ({"keep": {"conv1": 2}}, r"keep\['conv1'\]"),
        ({"keep": {"conv9": 0.5}}, "no layer 'conv9'.*conv1, conv2"),
        ({"importance": "luck"}, "importance is one of taylor, magnitude, random"),
        ({"round_to": 0}, "round_to is an integer >= 1"),
        ({"model": "net"}, "Module"),
        ({"data": np.zeros(3)}, "Dataset"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"model": lively("cnn"), "data": digits("cnn"), "keep": 0.5, **change}
    with pytest.raises(InvalidInputError, match=message):
        ck.prune(**settings)


def test_channels_that_go_together_have_one_share() -> None:
    with pytest.raises(InvalidInputError, match=r"'stem.0' and 'block1.conv2' have 0.5 and 0.25"):
        ck.prune(lively("resnet"), digits("resnet"), {"stem.0": 0.5, "block1.conv2": 0.25})


def test_a_model_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot run on inputs"):
        ck.prune(lively("lenet5"), digits("cnn"), 0.5)
