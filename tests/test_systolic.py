"""SCALE-Sim's count, against its own runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesign_kernel.cost import systolic_cycles
from codesign_kernel.errors import InvalidInputError


def test_equals_every_measured_case(reference: Path) -> None:
    cases = json.loads((reference / "scalesim_cases.json").read_text())["cases"]
    assert len(cases) == 80
    for case in cases:
        cycles = systolic_cycles(case["M"], case["N"], case["K"], case["rows"], case["cols"], case["dataflow"])
        assert cycles == case["last_cycle_index"] + 1, case
        assert cycles == case["folds"] * case["cycles_per_fold"]


@pytest.mark.parametrize(
    ("dataflow", "cycles"),
    # 5 x 7 by 7 x 6 on 4 x 3, by hand: folds x (time + fill and drain)
    [("os", 2 * 2 * (7 + 4 + 3 - 2)), ("ws", 2 * 2 * (5 + 8 + 3 - 2)), ("is", 2 * 2 * (6 + 8 + 3 - 2))],
)
def test_a_case_by_hand(dataflow: str, cycles: int) -> None:
    assert systolic_cycles(5, 6, 7, 4, 3, dataflow) == cycles


@pytest.mark.parametrize("bad", [{"m": 0}, {"rows": -1}, {"k": 2.5}, {"dataflow": "rs"}])
def test_refuses_what_has_no_meaning(bad: dict[str, object]) -> None:
    arguments = {"m": 4, "n": 4, "k": 4, "rows": 4, "cols": 4, **bad}
    with pytest.raises(InvalidInputError, match=next(iter(bad))):
        systolic_cycles(**arguments)  # type: ignore[arg-type]
