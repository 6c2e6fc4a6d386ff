"""``codesign co-optimize``: the pairs, the one to take, and the refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from codesign_kernel import cli
from codesign_kernel.cli.parser import PAIR_SAMPLERS, TRAINED_NETWORKS, TRAINED_TASKS
from codesign_kernel.explore.samplers import SAMPLERS

FEW = ["co-optimize", "digits", "--epochs", "2", "--tuning", "0", "--budget", "3"]


def test_the_command_offers_what_there_is() -> None:
    from codesign_kernel.optimize import NETWORKS

    assert set(PAIR_SAMPLERS) == {"auto", *SAMPLERS} - {"pymoo"}
    assert tuple(NETWORKS) == TRAINED_NETWORKS
    assert {NETWORKS[name].data: name for name in TRAINED_TASKS.values()} == TRAINED_TASKS


@pytest.mark.slow
def test_the_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """For people; and for programs, from what the first run has kept."""
    out, figure, store = tmp_path / "pairs.csv", tmp_path / "pairs.html", tmp_path / "store.db"
    limits = ["--limit", "accuracy>=0.3", "--limit", "area_mm2<=0.1", "--store", str(store)]
    assert cli.main([*FEW, *limits, "--out", str(out), "--figure", str(figure)]) == 0
    told = capsys.readouterr().out
    assert "3 trained now" in told
    assert "Take pair " in told
    assert "with accuracy at least 0.300, area_mm2 at most 0.100 mm²" in told
    front = pd.read_csv(out, index_col="pair")
    assert (front["area_mm2"] <= 0.1).all()
    assert (front["accuracy"] >= 0.3).all()
    assert "plotly" in figure.read_text(encoding="utf-8")[:20_000]
    assert cli.main([*FEW, *limits, "--best", "energy_uj", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["evaluated"], found["provenance"]["evaluated"], found["stopped"]) == (3, 0, "budget")
    assert len(found["front"]) == len(front)
    chosen = found["front"][found["recommendation"]["pair"]]
    assert chosen["energy_uj"] == pytest.approx(front["energy_uj"].min())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["co-optimize", "letters"], "choose from digits, keywords"),
        (["co-optimize", "digits", "--limit", "beauty>=1"], "accuracy"),
        (["co-optimize", "digits", "--network", "keywords"], "is for keywords, but the task is digits"),
        (["co-optimize", "digits", "--limit", "accuracy>=2"], "a limit on accuracy is its least, 0 to 1"),
        (["co-optimize", "digits", "--limit", "area_mm2<=1", "--limit", "area_mm2>=2"], "exchange them"),
        (["co-optimize", "digits", "--store", "/dev/null/pairs.db"], "/dev/null"),
        (["co-optimize", "digits", "--out", "/dev/null/pairs.csv"], "/dev/null"),
    ],
)
def test_refusals(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status != 0
    answer = capsys.readouterr().err
    assert told in answer.replace("'", "") or told in answer
    assert answer.count("\n") == 1
