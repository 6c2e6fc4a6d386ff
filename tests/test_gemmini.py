"""The model of Gemmini against RTL counts, and its parts by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign_kernel.cost import gemmini_cycles
from codesign_kernel.cost.gemmini import CONSTANTS, parse_mapping, prepare
from codesign_kernel.errors import InvalidInputError

ROOT = Path(__file__).parent.parent
#: One 16 x 16 block of weights, 16 outputs: a product of 16 x 16 by 16 x 16.
SMALL: dict[str, Any] = {
    "mapping.mapping": "L3[WIO] N1 - L2[WI] N1 K16X - L1[O] C16X - L0[W] P16",
    **{f"prob.{name}": 1 for name in ("R", "S", "Q", "N", "Wstride", "Hstride")},
    **{f"prob.{name}": 16 for name in ("P", "C", "K")},
}


def test_one_block_by_hand() -> None:
    work = prepare(SMALL)
    (tile,) = work.tiles
    assert (tile.count, tile.blocks, tile.rows, tile.instructions) == (1, 1, 16, 1)
    assert (tile.weight_requests, tile.input_requests, tile.store_requests) == (16, 16, 16)
    # everything stays in the cache, and nothing overlaps in a single tile
    least = 32 * CONSTANTS.request_cycle + 16 * CONSTANTS.store_cycle + 16
    assert gemmini_cycles(SMALL) == pytest.approx(least, abs=2)


def test_a_mapping_is_read_from_the_outside() -> None:
    tile, order = parse_mapping("L3[WIO] K48 P2 - L2[WI] N1 K16X - L1[O] C48 P16 C16X - L0[W] P8")
    assert (tile["K"], tile["C"], tile["P"], tile["Q"]) == (16, 768, 128, 1)
    assert order[:2] == "PK", "inner to outer"


def test_more_channels_take_longer() -> None:
    named = SMALL["mapping.mapping"]
    counts = [gemmini_cycles({**SMALL, "prob.K": k, "mapping.mapping": named.replace("N1", f"K{k // 16}", 1)})
              for k in (16, 32, 64, 128)]  # fmt: skip
    assert counts == sorted(counts)
    assert counts[-1] > 4 * counts[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("mapping.mapping", None), ("mapping.mapping", "K16"), ("prob.C", 0), ("prob.P", 2.5), ("prob.K", None)],
)
def test_what_cannot_be_read_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match="mapping" if field.startswith("mapping") else field):
        gemmini_cycles({**SMALL, field: value})


def test_agrees_with_rtl(reference: Path) -> None:
    cases = json.loads((reference / "gemmini_rtl.json").read_text())["cases"]
    truth = np.array([case["target.gemmini_cycle"] for case in cases])
    blind = [{k: v for k, v in case.items() if not k.startswith("target.")} for case in cases]
    error = np.abs(np.array([gemmini_cycles(case) for case in blind]) / truth - 1)
    assert np.median(error) < 0.06
    assert np.quantile(error, 0.9) < 0.25


@pytest.mark.slow
def test_agrees_with_layers_it_was_not_fitted_on(reference: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gemmini.py")],
        env={**os.environ, "CODESIGN_REFERENCE_DIR": str(reference)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "leave one of 35 layers out" in run.stdout
