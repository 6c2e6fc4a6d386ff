"""Sensitivity by layer, the search for widths, and the picture: what they measure, find and refuse."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from codesign_kernel import figures
from codesign_kernel.errors import EvaluationError, InvalidInputError
from codesign_kernel.figures import theme
from codesign_kernel.optimize import (
    Recipe,
    accuracy,
    load_digits,
    logits,
    mixed_precision,
    quantize,
    sensitivity,
    train_digits,
    weight_bytes,
)
from codesign_kernel.optimize.mixed import Assignment, front_of
from codesign_kernel.optimize.narrowing import Measured, cross_entropy
from codesign_kernel.pareto import hypervolume

LAYERS = ("conv1", "conv2", "fc")
SIZES = dict(zip(LAYERS, (144, 4608, 1280), strict=True))


@pytest.fixture(scope="module")
def model():
    return train_digits(epochs=8)[0]


@pytest.fixture(scope="module")
def data():
    """Everything but the test part, which no choice may read."""
    digits = load_digits()
    names = [f"{part}_{xy}" for part in ("train", "calibration", "validation") for xy in "xy"]
    return SimpleNamespace(name="digits", labels=digits.labels, **{name: getattr(digits, name) for name in names})


@pytest.fixture(scope="module")
def measured(model, data):
    return sensitivity(model, data)


def test_sensitivity_measures_each_layer_and_width_on_validation_data(measured, model, data):
    assert list(measured.layer) == ["", *(name for name in LAYERS for _ in range(2))]
    assert list(measured.weight_bits) == [8, 2, 4, 2, 4, 2, 4]
    assert list(measured.weights) == [sum(SIZES.values()), *(SIZES[name] for name in LAYERS for _ in range(2))]
    network = quantize(model, data.calibration_x, 8, {"conv2": 2})
    row = measured[(measured.layer == "conv2") & (measured.weight_bits == 2)].iloc[0]
    scores = network.predict(data.validation_x) * network.output_scale
    assert row.accuracy == accuracy(network.predict(data.validation_x), data.validation_y)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(data.validation_y))
    assert row.cross_entropy == pytest.approx(float(loss), rel=1e-6)
    real = logits(model, data.validation_x)
    noise = np.square(scores - real).sum() / np.square(real).sum()
    assert row.sqnr_db == pytest.approx(-10 * np.log10(noise), rel=1e-6)
    by_width = measured.groupby("weight_bits").sqnr_db
    assert by_width.max()[2] < by_width.min()[4] < by_width.max()[4] < by_width.max()[8]  # 6 dB a bit, about


def test_cross_entropy_by_hand():
    scores = np.array([[0.0, math.log(3.0)], [1000.0, 0.0]])
    assert cross_entropy(scores, np.array([1, 0])) == pytest.approx(math.log(4 / 3) / 2)


def test_weights_are_counted_at_their_own_width(model, data):
    assert weight_bytes(quantize(model, data.calibration_x)) == 6032
    mixed = quantize(model, data.calibration_x, 8, {"conv2": 2, "fc": 4})
    assert weight_bytes(mixed) == 144 + 4608 / 4 + 1280 / 2


@pytest.fixture(scope="module")
def every(model, data):
    return mixed_precision(model, data, weight_bytes)


def test_few_assignments_are_all_tried(every, model, data):
    assert every.exhaustive
    assert len(every.tried) == len({tuple(one.weight_bits.values()) for one in every.tried}) == 27
    costs, right = ([getattr(one, name) for one in every.front] for name in ("cost", "accuracy"))
    assert costs == sorted(costs)
    assert right == sorted({*right})
    for one in every.tried:  # nothing tried is better than the front
        assert any(best.cost <= one.cost and best.accuracy >= one.accuracy for best in every.front)
    one = every.front[0]
    assert one.network.digest == quantize(model, data.calibration_x, 8, one.weight_bits).digest
    assert one.cost == weight_bytes(one.network) == 1508  # all at 2 bit


def test_the_search_comes_near_the_exhaustive_front(every, model, data):
    found = mixed_precision(model, data, weight_bytes, budget=18)
    assert not found.exhaustive
    assert len(found.tried) == 18
    volumes = []
    for result in (every, found):
        points = np.array([[1 - one.accuracy, one.cost / 6032] for one in result.front])
        volumes.append(hypervolume(points, (0.3, 1.01)))
    assert volumes[1] >= 0.98 * volumes[0]
    again = mixed_precision(model, data, weight_bytes, budget=18)
    assert [one.network.digest for one in again.tried] == [one.network.digest for one in found.tried]
    other = mixed_precision(model, data, weight_bytes, budget=18, seed=1)
    assert len(other.tried) == 18


def test_a_budget_is_kept_to(model, data):
    told = []
    for budget in (1, 3, 7):
        progress = lambda *step: told.append(step)  # noqa: E731
        found = mixed_precision(model, data, weight_bytes, budget=budget, progress=progress)
        assert len(found.tried) == budget
        assert [step[:2] for step in told[-budget:]] == [(i, budget) for i in range(1, budget + 1)]
    assert set(found.tried[0].weight_bits.values()) == {8}


def test_the_front_of_equals_is_the_one_with_less_loss():
    def one(cost, right, loss):
        return Assignment({}, Measured(right, loss, 0.0), cost, network=None)

    low, high, worse, dear = one(1, 0.9, 0.2), one(1, 0.9, 0.1), one(2, 0.9, 0.0), one(3, 0.95, 0.3)
    assert front_of([dear, worse, low, high]) == (high, dear)


@pytest.mark.slow
def test_training_lifts_the_front(every, model, data):
    found = mixed_precision(model, data, weight_bytes, qat=Recipe(2, 2e-3), trained=2)
    assert len(found.tried) == 27 + min(2, len(every.front))
    again = [one for one in found.tried if one.trained]
    assert {one.cost for one in again} == {every.front[0].cost, every.front[-1].cost}
    assert set(found.front) <= set(again)
    assert again[0].accuracy > every.front[0].accuracy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "budget is an integer >= 1, but got 0"),
        ({"trained": True}, "trained is an integer >= 1, but got True"),
        ({"widths": (2, 3)}, r"widths are different ones of 2, 4, 8, at least one, but got \(2, 3\)"),
        ({"widths": ()}, "at least one, but got"),
        ({"widths": (4, 4)}, "are different ones"),
        ({"widths": (4, 16)}, "are different ones of 2, 4, 8"),
        ({"bits": 5}, "bits is one of"),
        ({"seed": None}, "seed is an integer of 0 to"),
        ({"cost": 3}, "cost is a function of an IntegerNetwork"),
        ({"data": np.zeros(3)}, "data is a Dataset"),
        ({"qat": 5}, "recipe is a Recipe"),
    ],
)
def test_other_requests_are_refused(changes, message, model, data):
    with pytest.raises(InvalidInputError, match=message):
        mixed_precision(**{"model": model, "data": data, "cost": weight_bytes, **changes})


def test_a_cost_that_is_no_number_is_refused(model, data):
    with pytest.raises(EvaluationError, match="the cost function gave nan"):
        mixed_precision(model, data, lambda network: math.nan, budget=3)
    with pytest.raises(EvaluationError, match="the cost function gave None"):
        mixed_precision(model, data, lambda network: None, budget=3)
    with pytest.raises(InvalidInputError, match="widths are different ones of 2, 4, at least one"):
        sensitivity(model, data, widths=(8,))


def test_widths_without_a_choice_fit_the_network(model, data):
    assert sensitivity(model, data, bits=4)["weight_bits"].tolist() == [4, 2, 2, 2]
    found = mixed_precision(model, data, weight_bytes, bits=4)
    assert found.exhaustive
    assert {width for one in found.tried for width in one.weight_bits.values()} == {2, 4}
    first, *rows = repr(found).splitlines()
    assert first == f"MixedPrecision: 8 measured (all that there are), {len(found.front)} on the front"
    assert rows[0].strip() == (
        f"Assignment(conv1:2 conv2:2 fc:2, rounded: accuracy {100 * found.front[0].accuracy:.1f} %, cost 1,508)"
    )


def test_where_nothing_is_saved_the_least_loss_goes_first(model, data, measured):
    """A cost that is flat, as a memory of one size is: the layer that suffers least is narrowed first."""
    found = mixed_precision(model, data, lambda network: 1.0, widths=(2, 8), budget=5)
    start, *alone, step = found.tried
    assert set(start.weight_bits.values()) == {8}
    gentle = min(alone, key=lambda one: one.measured.cross_entropy)
    assert list(step.weight_bits.values()).count(2) == 2
    assert all(step.weight_bits[name] == 2 for name, width in gentle.weight_bits.items() if width == 2)


def test_the_picture_has_a_dot_for_each_layer_and_width(measured):
    info = figures.sensitivity_info(measured)
    assert info.layers == LAYERS
    assert info.weights == tuple(SIZES.values())
    assert [(dot.layer, dot.width) for dot in info.dots] == [(name, width) for name in LAYERS for width in (2, 4)]
    figure = figures.plot_sensitivity(measured)
    drawn = {trace.name: trace for trace in figure.data}
    assert list(drawn) == ["2 bit", "4 bit"]
    assert drawn["2 bit"].x == pytest.approx(measured[measured.weight_bits == 2].sqnr_db, rel=1e-4)
    assert figure.layout.xaxis.title.text.endswith("(dB), higher is better")
    assert theme.narrowed(figure).layout.xaxis.title.text == "Signal over noise of the results (dB)"  # 390 px wide
    assert figure.layout.yaxis.ticktext[1] == "conv2 (4,608)"
    theme.dark(theme.narrowed(figure)).to_json()


def test_the_picture_says_where_narrow_weights_cost_most():
    rows = [("", 30, 8, 0.9, 40.0), ("a", 10, 2, 0.85, 12.0), ("b", 20, 2, 0.9, 20.0), ("a", 10, 4, 0.9, 30.0)]
    frame = pd.DataFrame(rows, columns=["layer", "weights", "weight_bits", "accuracy", "sqnr_db"])
    assert figures.sensitivity_info(frame).finding == (
        "Weights of 2 bit cost most in a: 5.00 points of accuracy; least in b"
    )
    few = figures.sensitivity_info(frame, rows=1)
    assert (few.layers, few.left_out) == (("a",), 1)
    assert "suffer less: 1." in figures.sensitivity_figure(few).layout.meta["caption"]
    with pytest.raises(InvalidInputError, match="'sqnr_db' is missing"):
        figures.sensitivity_info(frame.drop(columns="sqnr_db"))
    with pytest.raises(InvalidInputError, match="but got 1 and 0"):
        figures.sensitivity_info(frame.iloc[:1])
