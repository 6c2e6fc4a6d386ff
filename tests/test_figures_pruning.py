"""Accuracy against cost of pruned networks: what the figure says is checked on hand-made rows."""

from __future__ import annotations

import pandas as pd
import pytest

from codesign_kernel import figures
from codesign_kernel.errors import InvalidInputError


def rows(*given: tuple[str, float, int, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(given, columns=["method", "setting", "seed", "validation", "test", "latency_ms"])


FRAME = rows(
    ("whole", 1.0, 0, 98.0, 97.0, 0.040),
    ("whole", 1.0, 1, 99.0, 98.0, 0.040),
    ("uniform", 0.5, 0, 98.0, 96.0, 0.020),
    ("uniform", 0.5, 1, 98.0, 97.0, 0.020),
    ("uniform", 0.25, 0, 90.0, 99.0, 0.008),  # good on the test part alone: not chosen
    ("uniform", 0.25, 1, 90.0, 99.0, 0.008),
    ("aware", 4.0, 0, 97.0, 95.0, 0.010),
    ("aware", 4.0, 1, 98.0, 98.0, 0.014),
)


def words(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_what_the_figure_shows() -> None:
    info = figures.pruning_info(FRAME, network="a CNN")
    uniform, aware = info.methods
    assert [each.setting for each in uniform.settings] == [0.25, 0.5]
    assert uniform.chosen == uniform.settings[1] == (0.5, 0.020, 98.0, 96.5, 96.0, 97.0)
    assert aware.chosen == (4.0, pytest.approx(0.012), 97.5, 96.5, 95.0, 98.0)
    assert (info.whole.validation, info.whole.test, info.seeds) == (98.5, 97.5, 2)
    assert words(info.finding) == "Within 1 point of the whole network (40.0 µs), aware takes 12.0 µs, uniform 20.0 µs"


def test_nothing_may_be_good_enough() -> None:
    poor = rows(("whole", 1.0, 0, 98.0, 97.0, 0.04), ("uniform", 0.5, 0, 90.0, 97.0, 0.02))
    info = figures.pruning_info(poor)
    assert info.methods[0].chosen is None
    assert info.finding == "Nothing smaller comes within 1 point of the whole network"


def test_it_is_drawn() -> None:
    figure = figures.plot_pruning(FRAME)
    lines = {trace.name: trace for trace in figure.data}
    assert lines["uniform"].x == pytest.approx((8, 20))
    assert lines["uniform"].y == pytest.approx((99, 96.5))
    assert lines["aware"].error_y.array == pytest.approx((1.5,))
    assert lines["aware"].error_y.arrayminus == pytest.approx((1.5,))
    assert lines["whole"].x == pytest.approx((40,))
    assert words(figure.layout.xaxis.title.text) == "Latency (µs), lower is better"
    assert "aware takes" in figure.layout.title.text
    assert "where the whole one has 98.50 %" in figure.layout.title.text
    alone = figures.plot_pruning(FRAME[FRAME["seed"] == 0])
    assert alone.data[0].error_y.array is None


@pytest.mark.parametrize(
    ("frame", "metric", "message"),
    [
        (FRAME.drop(columns="test"), "latency_ms", r"\['test'\] are missing"),
        (FRAME, "energy_uj", r"\['energy_uj'\] are missing"),
        (FRAME, "beauty", "objective"),
        (FRAME[FRAME["method"] != "whole"], "latency_ms", "compares the method 'whole'"),
        (FRAME[FRAME["method"] == "whole"], "latency_ms", "compares the method 'whole'"),
        (
            rows(*[(name, 1.0, 0, 9.0, 9.0, 9.0) for name in ("whole", *"abcdefg")]),
            "latency_ms",
            "at most 6 methods",
        ),
    ],
)
def test_bad_input_is_refused(frame: pd.DataFrame, metric: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        figures.pruning_info(frame, metric)
