"""What the figures of scaling tell: checked on the info, and that each picture holds what the info says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from codesign_kernel import figures
from codesign_kernel.cluster import Decision
from codesign_kernel.errors import InvalidInputError

LOG = [
    Decision(10.0, 2, 8, "queue", "29 tasks <wait>, more than 10", 29.0),
    Decision(20.0, 8, 8, "hold", "no signal"),
    Decision(400.0, 8, 12, "queue", "40 tasks wait", 40.0),
    Decision(900.0, 12, 3, "cpu", "CPU 3%, below 30% for 600 s", 0.03),
]


def outcome(response_s: float, worker_hours: float) -> SimpleNamespace:
    return SimpleNamespace(completion_s=1.0, response_s=response_s, worker_hours=worker_hours)


COMPARED = {
    "steady": {"predictive": outcome(10, 5), "balanced": outcome(20, 10), "dask": outcome(20, 5)},
    "bursts": {"predictive": outcome(30, 4), "balanced": outcome(30, 8), "dask": outcome(20, 5)},
}


def test_a_log_is_told() -> None:
    info = figures.decisions_info(LOG)
    assert (info.start, info.most, info.end, info.ups, info.downs) == (2, 12, 3, 2, 1)
    assert info.by_signal == {"queue": 2, "cpu": 1}
    assert info.finding == "From 2 to 12 workers and then 3: 3 steps, most often by queue"
    assert figures.decisions_info(LOG[:1]).finding == "From 2 to 8 workers: 1 step, most often by queue"


def test_a_log_is_drawn() -> None:
    figure = figures.plot_decisions(LOG)
    line, *marks = figure.data
    assert list(line.y) == [2, 8, 12, 3, 3]
    assert list(line.x)[1:4] == pytest.approx([10 / 60, 400 / 60, 15], rel=1e-5)
    assert [(mark.name, len(mark.x)) for mark in marks] == [("queue", 2), ("CPU", 1)]
    assert marks[1].marker.symbol == ("triangle-down",)
    assert "&lt;wait&gt;" in marks[0].customdata[0]
    assert "min" in figure.layout.xaxis.title.text


def test_policies_are_compared() -> None:
    info = figures.policies_info(COMPARED)
    assert info.ratios["steady"] == pytest.approx({"predictive": 0.5, "balanced": 2.0, "dask": 1.0})
    assert info.ratios["bursts"] == pytest.approx({"predictive": 1.2, "balanced": 2.4, "dask": 1.0})
    assert (info.best, info.better) == ("predictive", 1)
    assert info.finding == "Predictive beats Dask's Adaptive on 1 of 2 loads and costs 23\u00a0% less on average"


def test_policies_are_drawn() -> None:
    figure = figures.plot_policies(COMPARED)
    assert {trace.name: list(trace.x) for trace in figure.data} == {
        "predictive": pytest.approx([0.5, 1.2]),
        "balanced": pytest.approx([2.0, 2.4]),
    }
    assert list(figure.data[0].y) == ["steady", "bursts"]


def test_mistakes_are_told() -> None:
    with pytest.raises(InvalidInputError, match="there is none yet"):
        figures.decisions_info(LOG[1:2])
    with pytest.raises(InvalidInputError, match="compared on the same loads"):
        figures.policies_info({"steady": COMPARED["steady"], "bursts": {"dask": outcome(1, 1)}})
    with pytest.raises(InvalidInputError, match="needs a policy beside"):
        figures.policies_info({"steady": {"dask": outcome(1, 1)}})
