"""Convergence and attainment: what they say is checked on hand-made runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from codesign_kernel import figures
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.attainment import surface


def history(*pairs: tuple[int, float]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["evaluations", "hypervolume"])


RUNS = {
    "quick": [history((10, 0.5), (20, 0.995), (40, 1.0)), history((10, 0.7), (30, 0.999), (40, 0.9999))],
    "slow": [history((10, 0.2), (20, 0.4), (40, 0.6))],
}


def front(*pairs: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["latency_ms", "energy_uj"])


FRONTS = {
    "half": [front((1, 9), (4, 4)), front((2, 8), (5, 3)), front((3, 3))],
    "best": [front((1, 8), (3, 3), (6, 1))],
}


def words(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_what_a_convergence_shows() -> None:
    info = figures.convergence_info(RUNS, "the exact front")
    quick, slow = info.curves
    assert quick.evaluations == (10, 20, 30, 40)
    assert quick.median == pytest.approx((0.4, 0.1525, 0.003, 0.00005))
    assert quick.least == pytest.approx((0.3, 0.005, 0.001, 0.0))
    assert quick.most == pytest.approx((0.5, 0.3, 0.005, 0.0001))
    assert (quick.found, slow.found, slow.runs) == (30, None, 1)
    assert words(info.finding) == "quick has 99 % of the exact front after 30 designs; not yet there: slow"
    assert info.clipped


@pytest.mark.parametrize(
    ("runs", "finding"),
    [
        ({"slow": RUNS["slow"]}, "After 40 designs slow lacks 40 % of the best front"),
        ({"quick": RUNS["quick"]}, "quick has 99 % of the best front after 30 designs"),
        (
            {**RUNS, "slow": [history((10, 0.2), (80, 1.0))]},
            "quick has 99 % of the best front after 30 designs, slow after 80",
        ),
        (
            {**RUNS, "slow": [history((10, 0.2), (30, 1.0))]},
            "quick has 99 % of the best front after 30 designs, and so have all",
        ),
    ],
)
def test_the_finding_of_a_convergence(runs: Any, finding: str) -> None:
    assert words(figures.convergence_info(runs).finding) == finding


def test_a_convergence_is_drawn() -> None:
    figure = figures.plot_convergence(RUNS, "the exact front")
    lines = {trace.name: trace for trace in figure.data if trace.line.width == 2}
    assert lines["quick"].y == pytest.approx((40, 15.25, 0.3, 0.01))  # the least that is drawn
    assert lines["slow"].y == pytest.approx((80, 60, 40))
    assert [trace.fill for trace in figure.data] == [None, "tonexty", None, None]
    assert [words(note.text) for note in figure.layout.annotations] == ["<b>quick</b>", "<b>slow</b>"]
    assert figure.layout.yaxis.type == "log"
    assert "lower is better" in figure.layout.yaxis.title.text
    assert "0.01 %" in figure.layout.title.text
    alone = figures.plot_convergence({"exact": [history((720, 1.0))]})
    assert alone.data[0].mode == "markers"


def test_labels_do_not_cover_one_another() -> None:
    same = {name: [history((10, 0.5), (20, 0.9))] for name in "abcd"}
    heights = [note.y for note in figures.plot_convergence(same).layout.annotations]
    assert min(np.diff(sorted(heights))) > 0.06


def reached(fronts: list[Any], x: float, y: float) -> int:
    return sum(any(a <= x and b <= y for a, b in points) for points in fronts)


def test_an_attainment_surface_is_the_edge_of_what_so_many_reach() -> None:
    fronts = [np.random.default_rng(seed).integers(0, 12, (6, 2)).astype(float) for seed in range(5)]
    for count in range(1, 6):
        xs, ys = surface(fronts, count)
        assert (np.diff(xs) > 0).all()
        assert (np.diff(ys) < 0).all()
        for x in range(13):
            for y in range(13):
                under = bool(((xs <= x) & (ys <= y)).any())
                assert under == (reached([f.tolist() for f in fronts], x, y) >= count)


def test_what_an_attainment_shows() -> None:
    info = figures.attainment_info(FRONTS, exact=front((1, 8), (3, 3), (6, 1)))
    half, best = info.samplers
    # at 1 ms one run of three has begun; at 2 two have: the second lowest energy is 9, then 8 .. 4 .. 3
    assert half.median == ((2, 3, 4, 5), (9, 8, 4, 3))
    assert half.best == ((1, 2, 3), (9, 8, 3))
    assert half.worst == ((3, 4, 5), (9, 8, 4))
    assert (half.share, best.share) == (0.0, 1.0)
    assert words(info.finding) == "best reaches 100 % of the exact front and half 0 %"
    assert words(figures.attainment_info(FRONTS).finding) == "What half the runs of half and best reach"
    assert figures.attainment_info({"best": FRONTS["best"]}).finding == "What best reaches"
    assert figures.attainment_info({"half": FRONTS["half"]}).finding == "What the 3 runs of half reach"


def test_an_attainment_is_drawn() -> None:
    figure = figures.plot_attainment(FRONTS, exact=FRONTS["best"][0])
    assert [trace.name for trace in figure.data] == ["half", "half", "best", "exact front"]
    assert figure.data[0].fill == "toself"
    line = figure.data[1]
    assert len(line.x) == len(line.y) == len(line.text)
    assert all(np.diff(line.x) >= 0)
    assert "lower is better" in figure.layout.xaxis.title.text
    assert figure.layout.meta["alt"].startswith("best reaches")


def test_what_is_better_when_higher_is_turned_round() -> None:
    several = [pd.DataFrame({"utilization": [0.9, 0.5], "energy_uj": [4.0, 1.0]})]
    info = figures.attainment_info({"run": several}, x="utilization", exact=several[0])
    assert info.samplers[0].median == ((0.9, 0.5), (4.0, 1.0))
    assert info.samplers[0].share == 1.0
    assert figures.plot_attainment({"run": several}, x="utilization").data


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="shows one or more histories"):
        figures.convergence_info({})
    with pytest.raises(InvalidInputError, match="that of 'a' lacks hypervolume"):
        figures.convergence_info({"a": [pd.DataFrame({"evaluations": [1]})]})
    with pytest.raises(InvalidInputError, match="at most 6 samplers apart, but got 7"):
        figures.convergence_info({name: [history((1, 1))] for name in "abcdefg"})
    with pytest.raises(InvalidInputError, match="shows one or more fronts"):
        figures.attainment_info({"a": []})
    with pytest.raises(InvalidInputError, match="at most 6 samplers apart, but got 7"):
        figures.attainment_info({name: [front((1, 1))] for name in "abcdefg"})
    with pytest.raises(InvalidInputError, match="a column 'area_mm2', but one has not"):
        figures.attainment_info(FRONTS, y="area_mm2")
    with pytest.raises(InvalidInputError, match="an objective is one of"):
        figures.attainment_info(FRONTS, x="speed")
