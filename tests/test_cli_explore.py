"""``codesign explore``: the front, the design to take, and the refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from codesign_kernel import cli
from codesign_kernel.cli.explore import limits_by_column
from codesign_kernel.cli.parser import SAMPLERS as OFFERED
from codesign_kernel.cli.parser import build_parser
from codesign_kernel.explore.samplers import SAMPLERS

FEW = ["explore", "digits", "--sampler", "random", "--budget", "300", "--seed", "1"]


def test_the_command_offers_every_sampler() -> None:
    assert ("auto", "exact", *SAMPLERS) == OFFERED


def test_the_answer_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "front.csv"
    assert cli.main([*FEW, "--limit", "area_mm2<=1.5", "--best", "energy_uj", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "300 of 241,920 looked at by random" in told
    assert "ended    budget" in told
    assert "the one of least energy among" in told
    assert "\nNearest cheaper: " in told
    assert "\nTo change next: " in told
    front = pd.read_csv(out, index_col="design")
    assert (front["area_mm2"] <= 1.5).all()
    assert len(front)


def test_the_answer_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    def answer() -> dict[str, Any]:
        assert cli.main([*FEW, "--json", "--objectives", "latency_ms,utilization"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    first, again = answer(), answer()
    assert first["objectives"] == {"latency_ms": "min", "utilization": "max"}
    assert (first["designs"], first["space"], first["stopped"]) == (300, 241_920, "budget")
    assert first["front"] == again["front"]
    assert 0 < first["hypervolume"] < 1
    assert first["provenance"]["seed"] == 1
    assert first["recommendation"]["chosen"]["design"] in [row["design"] for row in first["front"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--limit", "area_mm2<=0.0001"], "area_mm2 at most 100 µm² is met by none alone"),
        (["--limit", "area_mm2>=3", "--limit", "area_mm2<=2"], "at least 3 and at most 2"),
        (["--best", "power_mw"], "best is one of the objectives latency_ms, energy_uj, area_mm2"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*FEW, *arguments]) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("text", ["area<=1", "area_mm2", "area_mm2<=small", "area_mm2<=inf", "area_mm2=1"])
def test_a_limit_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([*FEW, "--limit", text])
    assert "is COLUMN<=NUMBER or COLUMN>=NUMBER" in capsys.readouterr().err


def test_limits_of_one_column_are_joined() -> None:
    given = build_parser().parse_args(
        [*FEW, "--limit", "area_mm2<=3", "--limit", "area_mm2 >= 1", "--limit", "area_mm2<=2"]
    )
    assert limits_by_column(given.limit) == {"area_mm2": (1.0, 2.0)}
