"""The cost between whole widths is exact at the grid, has the gradient that it says, and training by it costs less."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import codesign_kernel as ck
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError, UnsupportedLayerError
from codesign_kernel.optimize import Recipe, fit, load_digits, logits
from codesign_kernel.optimize.channels import channels_of, example_of, narrowed
from codesign_kernel.optimize.hardware_loss import HardwareLoss
from codesign_kernel.optimize.networks import NETWORKS, DigitsCNN
from codesign_kernel.optimize.training import repeatable
from codesign_kernel.optimize.width_cost import WidthCost, grid
from codesign_kernel.session.widths import with_channels
from codesign_kernel.workload import Layer, Workload

SMALL = ck.Accelerator.systolic(4, 4)
SPATIAL = ck.SpatialArray(rows=8, cols=8, dataflow="ws")


def untrained(network: str) -> tuple[nn.Module, Tensor]:
    with repeatable(0):
        model, example = NETWORKS[network].untrained()
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.uniform_(module.bias, 0.1, 0.2)  # a channel that is left alone gives more than zeros
        return model.eval(), torch.rand(2, *example.shape[1:])


def point(**widths: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in widths.items()}


def slope_of(width: Tensor) -> float:
    """The gradient that arrived; none where nothing depends on it."""
    return 0.0 if width.grad is None else width.grad.item()


@pytest.mark.slow
@pytest.mark.parametrize("network", list(NETWORKS))
def test_a_workload_with_other_channels_is_that_of_the_pruned_network(network: str) -> None:
    model, example = untrained(network)
    workload = ck.profile(model, example[:1]).workload
    rng = np.random.default_rng(1)
    groups = channels_of(model, example).groups
    kept = {g.name: list(range(int(rng.integers(1, g.channels)))) for g in groups}
    depthwise = {layer.name for layer in workload.layers if layer.G > 1}
    counts = {name: len(kept[g.name]) for g in groups for name in g.layers if name not in depthwise}
    found = with_channels(workload, counts)
    expected = ck.profile(narrowed(model, example, kept), example[:1]).workload
    assert found.canonical() == expected.canonical()
    assert with_channels(workload, {}) == workload


def test_channels_that_cannot_be_followed_are_refused() -> None:
    model, example = untrained("resnet")
    workload = ck.profile(model, example[:1]).workload
    with pytest.raises(InvalidInputError, match=r"'block1.add' would read \[8, 16\]"):
        with_channels(workload, {"stem.0": 8})
    with pytest.raises(InvalidInputError, match=r"\['pool'\] are none"):
        with_channels(workload, {"pool": 8})
    maker = Layer("a", "conv2d", K=8, C=3)
    for reader in (Layer("b", "conv2d", G=2, C=4, K=4), Layer("b", "matmul", C=8, K=8), Layer("b", "cat", C=8, K=16)):
        with pytest.raises(UnsupportedLayerError, match="'b' is a"):
            with_channels(Workload("w", (maker, reader), (("a", "b"),)), {"a": 4})


def test_the_grid_has_the_multiples_and_the_ends() -> None:
    assert grid(16, 4) == (2, 4, 8, 12, 16)
    assert grid(18, 8) == (4, 8, 16, 18)
    assert grid(3, 4) == (2, 3)
    assert grid(1, 8) == (1,)


@pytest.mark.parametrize("metric", ["latency_ms", "energy_uj"])
@pytest.mark.parametrize("network", ["cnn", "mobilenet"])
def test_at_the_grid_it_is_the_cost_of_the_pruned_int8_network(network: str, metric: str) -> None:
    """Two roads meet: the interpolated cost, and a network that was pruned, quantised and evaluated."""
    model, example = untrained(network)
    loss = ck.hardware_loss(model, example, SMALL, metric)
    rng = np.random.default_rng(2)
    for _ in range(3):
        counts = {name: int(rng.choice(widths)) for name, widths in loss.cost.grids.items()}
        small = narrowed(model, example, {name: range(count) for name, count in counts.items()})
        cost = ck.evaluate(ck.quantize(small, example.repeat(8, 1, 1, 1)), SMALL)
        expected = {"latency_ms": cost.latency_s * 1e3, "energy_uj": cost.energy_pj * 1e-6}[metric]
        assert loss.cost(point(**{name: float(count) for name, count in counts.items()})).item() == pytest.approx(
            expected, rel=1e-12
        )


@pytest.mark.parametrize(
    ("network", "design", "metric", "batch"),
    [
        ("resnet", SMALL, "latency_ms", 1),
        ("resnet", SMALL, "energy_uj", 3),
        pytest.param("cnn", SPATIAL, "latency_ms", 1, marks=pytest.mark.slow),
    ],
)
def test_its_gradient_is_that_of_its_values(network: str, design: Any, metric: str, batch: int) -> None:
    model, example = untrained(network)
    cost = ck.hardware_loss(model, example, design, metric, batch=batch).cost
    rng = np.random.default_rng(3)
    for _ in range(3):
        widths = {name: float(rng.uniform(widths[0], widths[-1])) for name, widths in cost.grids.items()}
        at = point(**widths)
        cost(at).backward()
        for name in widths:
            beside = [cost(point(**{**widths, name: widths[name] + step})).item() for step in (-1e-5, 1e-5)]
            assert slope_of(at[name]) == pytest.approx((beside[1] - beside[0]) / 2e-5, rel=1e-4, abs=1e-9)


def staircase(widths: Mapping[str, int]) -> float:
    """Cycles of a chain of two layers on an array with 4 columns, with a tie between them."""
    a, b = -(-widths["a"] // 4), -(-widths["b"] // 4)
    return 10.0 * a + 5.0 * a * b + (7.0 if a + b > 3 else 0.0)


def test_a_staircase_becomes_a_ramp() -> None:
    cost = WidthCost({"a": (2, 4, 8), "b": (4, 8, 12)}, staircase)
    for a, b in itertools.product((2, 4, 8), (4, 8, 12)):
        assert cost(point(a=float(a), b=float(b))).item() == staircase({"a": a, "b": b})
    values = [cost(point(a=width, b=4.0)).item() for width in (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)]
    assert values == [15.0, 15.0, 15.0, 18.75, 22.5, 26.25, 30.0]  # where the steps are, whatever the rounding
    inside = point(a=7.0, b=4.0)
    cost(inside).backward()
    assert slope_of(inside["a"]) == 3.75
    assert cost(point(a=1.0, b=1.0)).item() == staircase({"a": 2, "b": 4})
    assert cost(point(a=99.0, b=99.0)).item() == cost.whole == staircase({"a": 8, "b": 12})
    assert cost(point(a=6.0, b=7.0)).item() <= cost(point(a=6.5, b=7.0)).item()


def test_exact_costs_are_asked_for_once() -> None:
    asked = []

    def exact(widths: Mapping[str, int]) -> float:
        asked.append(dict(widths))
        return staircase(widths)

    cost = WidthCost({"a": (4, 8), "b": (4, 8)}, exact)
    for a, b in ((5.0, 6.0), (5.5, 6.5), (7.0, 7.5)):
        cost(point(a=a, b=b))
    assert len(asked) == cost.asked == 3  # one simplex: two groups have three corners
    cost(point(a=6.0, b=5.0))
    assert cost.asked == 4


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_cost_is_above_zero(value: float) -> None:
    with pytest.raises(InvalidInputError, match="a cost is above 0"):
        WidthCost({"a": (1, 2)}, lambda widths: value)(point(a=1.5))


@pytest.mark.parametrize("widths", [(), (4, 2), (2, 2), (0, 4)])
def test_a_grid_ascends(widths: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="ascending widths >= 1"):
        WidthCost({"a": widths}, staircase)


def toy(strength: float, metric: str = "latency_ms", **settings: Any) -> HardwareLoss:
    model, example = untrained("cnn")
    return ck.hardware_loss(model, example, SMALL, metric, strength=strength, **settings)


def close(loss: HardwareLoss, group: int, channels: slice) -> None:
    with torch.no_grad():
        loss.model.gates[group][channels] = -0.1


def test_the_penalty_is_the_share_of_the_cost_that_is_open() -> None:
    loss = toy(3.0)
    assert loss().item() == pytest.approx(3.0 * loss.expected / loss.cost.whole)
    assert loss.widths == pytest.approx({"conv1": 16 * 0.9568, "conv2": 32 * 0.9568}, rel=1e-3)
    before = loss().item()
    close(loss, 1, slice(0, 16))
    assert loss().item() < before
    loss().backward()
    slopes = [gate.grad for gate in loss.model.gates]
    assert all(slope is not None and bool((slope >= 0).all()) for slope in slopes)
    assert all(slope is not None and float(slope.max()) > 0 for slope in slopes)


def test_closed_channels_go_for_good() -> None:
    """The narrow network computes what the gated one does, and what rounding lets stay is open again."""
    loss = toy(1.0)
    close(loss, 0, slice(0, 8))
    close(loss, 1, slice(4, 15))
    x = load_digits().validation_x[:8]
    gated_logits = logits(loss.model, x)
    assert loss.kept() == {"conv1": 8, "conv2": 20}  # 21 are open; 20 and 24 are multiples of the columns
    small = loss.narrow()
    assert len(small.get_parameter("conv2.weight")) == 20
    close(loss, 1, slice(15, 16))
    np.testing.assert_allclose(logits(loss.narrow(), x), logits(loss.model, x), rtol=1e-4, atol=1e-5)
    assert np.abs(gated_logits - logits(loss.model, x)).max() > 0
    assert not any(isinstance(module, nn.ParameterList) for module in small.modules())
    close(loss, 0, slice(None))
    assert loss.kept()["conv1"] >= 1
    loss.narrow()


def test_channels_that_cost_nothing_stay() -> None:
    """On 8 columns 3 channels take as many cycles as 8, if the grid allows to leave them."""
    model, example = untrained("cnn")
    loss = ck.hardware_loss(model, example, ck.Accelerator.systolic(8, 8), step=3)
    close(loss, 1, slice(3, None))
    counts = loss.kept()
    assert counts["conv2"] == 8
    exact = loss.cost.at
    assert exact({**counts, "conv2": 8}) == exact({**counts, "conv2": 3}) < exact({**counts, "conv2": 9})


def test_gates_are_drawn_in_training_and_settled_in_evaluation() -> None:
    model = toy(1.0).model
    x = torch.from_numpy(load_digits().validation_x[:4])
    with torch.no_grad():
        assert torch.equal(model.eval()(x), model(x))
        model.train()
        with repeatable(0):
            first, second = model(x), model(x)
        assert not torch.equal(first, second)
        with repeatable(0):
            assert torch.equal(first, model(x))
    drawn = torch.cat(list(model._drawn().values())).detach()
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) == 1.0
    # the chance to be open is that of the drawing (equation 12)
    with repeatable(1), torch.no_grad():  # in this order: the first lets gradients in
        for gate in model.gates:
            gate.fill_(-0.03)
        share = np.mean([float((gate > 0).float().mean()) for _ in range(200) for gate in model._drawn().values()])
    assert share == pytest.approx(model.chances()["conv1"][0].item(), abs=0.02)


@pytest.mark.slow
def test_the_more_it_weighs_the_less_it_takes() -> None:
    """Exact latency of the pruned int8 network, by strength; the given model is as before."""
    data = load_digits()
    with repeatable(0):
        model = DigitsCNN()
    fit(model, data, Recipe(6))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    latency = []
    for strength in (0.0, 2.0, 8.0, 32.0):
        loss = ck.hardware_loss(model, data.train_x, SMALL, strength=strength)
        fit(loss.model, data, Recipe(6, 5e-3), penalty=loss)
        small = loss.prune(data, Recipe(1, 5e-3))
        latency.append(ck.evaluate(ck.quantize(small, data.calibration_x), SMALL).latency_cycle)
    assert all(after <= 1.02 * last for last, after in itertools.pairwise(latency)), latency
    assert latency[-1] < 0.5 * latency[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"metric": "area_mm2"}, InvalidInputError, "metric is one of latency_ms, energy_uj"),
        ({"strength": -1.0}, InvalidInputError, "strength is a finite number of 0 or more"),
        ({"strength": float("inf")}, InvalidInputError, "strength"),
        ({"strength": "much"}, InvalidInputError, "strength"),
        ({"step": 0}, InvalidInputError, "step is an integer >= 1"),
        ({"batch": 0}, InvalidInputError, "batch"),
        ({"example": [[1.0]]}, InvalidInputError, "example is a tensor or an array"),
        ({"example": np.zeros((1, 1, 8, 8), int)}, InvalidInputError, "floating point"),
        ({"model": 5}, InvalidInputError, "model is a torch.nn.Module"),
        ({"design": "8x8"}, InvalidInputError, "Accelerator"),
        (
            {"design": ck.Accelerator.systolic(4, 4, accumulator_kib=0.0625)},
            InfeasibleDesignError,
            "the accumulator memory holds",
        ),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}, UnsupportedLayerError, "no layer of the model"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model, example = untrained("cnn")
    settings = {"model": model, "example": example, "design": SMALL, **change}
    with pytest.raises(error, match=message):
        ck.hardware_loss(**settings)


def test_an_example_may_be_one_input_of_any_float() -> None:
    assert example_of(np.zeros((1, 1, 8, 8), np.float64)).shape == (2, 1, 8, 8)
    assert example_of(torch.zeros(5, 1, 8, 8, dtype=torch.float64)).dtype == torch.float32
