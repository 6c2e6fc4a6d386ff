"""The figure of pairs: what it says is checked on a hand-made front."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from codesign_kernel import figures
from codesign_kernel.errors import InvalidInputError

COLUMNS = ("network", "accuracy", "test_accuracy", "latency_ms", "energy_uj", "area_mm2", "rows", "cols")
FRONT = pd.DataFrame(
    [
        (7, 0.97, 0.95, 0.020, 0.10, 0.20, 4, 4),
        (7, 0.97, 0.95, 0.010, 0.20, 0.30, 8, 8),
        (3, 0.92, 0.96, 0.040, 0.05, 0.15, 4, 4),  # chosen by validation, better on the test
        (1, 0.90, 0.90, 0.005, 0.04, 0.15, 2, 4),
    ],
    columns=COLUMNS,
).assign(**{"bits": 8, "keep.conv1": [1.0, 1.0, 0.5, 0.25], "weight_bits.fc": [8, 8, 4, 2]})
OTHERS = pd.DataFrame([(9, 0.95, 0.95, 0.030, 0.15, 0.25, 4, 4)], columns=COLUMNS).assign(bits=8)


def words(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_what_the_pairs_show() -> None:
    info = figures.pairs_info(FRONT, knee=FRONT.iloc[0])
    assert info.steps["latency_ms"] == ((0.005, 0.010, 0.040), (0.90, 0.95, 0.96))
    assert info.steps["energy_uj"] == ((0.04, 0.05), (0.90, 0.96))
    assert (info.networks, len(info.pairs), info.baseline) == (3, 4, ())
    assert info.finding == "From 96.0 % for 40.0 µs to 90.0 % for 5.00 µs"
    assert info.pairs[2].network == "8 bits; channels conv1 0.5; weights fc 4 bits"
    assert info.pairs[0].results == "95.0 % right, 20.0 µs, 100 nJ, 0.200 mm²"
    assert info.knee == info.pairs[0]


def test_the_validation_part_can_be_shown() -> None:
    info = figures.pairs_info(FRONT, accuracy="accuracy", columns=["latency_ms"])
    assert info.steps["latency_ms"] == ((0.005, 0.010), (0.90, 0.97))


@pytest.mark.parametrize(
    ("score", "finding"),
    [
        (0.95, "For the 95.0 % of model first, then the hardware: 3.0 × less latency and 3.0 × less energy"),
        (0.99, "96.0 % at most, where model first, then the hardware has 99.0 %"),
    ],
)
def test_what_is_found_beside_a_baseline(score: float, finding: str) -> None:
    info = figures.pairs_info(FRONT, OTHERS.assign(test_accuracy=score))
    assert words(info.finding) == finding


def test_a_baseline_may_be_better() -> None:
    info = figures.pairs_info(FRONT, OTHERS.assign(latency_ms=0.005))
    assert words(info.finding).endswith("2.0 × the latency and 3.0 × less energy")


def test_the_pairs_are_drawn() -> None:
    figure = figures.plot_pairs(FRONT, OTHERS, knee=FRONT.iloc[0])
    names = [trace.name for trace in figure.data]
    assert names == 2 * ["model first, then the hardware"] + ["pairs", "pairs", "knee"] + names[5:]
    assert len(names) == 10
    pairs = figure.data[3]
    assert pairs.x == pytest.approx((20, 10, 40, 5))
    assert pairs.y == pytest.approx((95, 95, 96, 90))
    assert pairs.marker.color == pytest.approx((0.2, 0.3, 0.15, 0.15))
    line = figure.data[2]
    assert (line.x, line.y) == (pytest.approx((5, 10, 40, 40)), pytest.approx((90, 95, 96, 96)))
    assert "Latency (µs), lower is better" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text == "Test accuracy (%), higher is better"
    small = figures.narrowed(figure)
    assert tuple(small.layout.xaxis2.domain) == (0, 1)
    assert "4 pairs of 3 networks" in figure.layout.title.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"front": FRONT.head(0)}, "lacks rows"),
        ({"front": FRONT.drop(columns="test_accuracy")}, "test_accuracy"),
        ({"baseline": OTHERS.drop(columns="area_mm2")}, "area_mm2"),
        ({"columns": ()}, "one or two costs"),
        ({"columns": ("beauty",)}, "an objective is one of"),
        ({"accuracy": "beauty"}, "accuracy is one of"),
    ],
)
def test_what_cannot_be_drawn(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        figures.pairs_info(**{"front": FRONT, **arguments})
