"""Our estimates beside the figures of others: the figures are true copies, and the page that shows them is current."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.session import validation
from codesign_kernel.session.validation import GENERAL, OWN, Comparison, Row

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def compared() -> tuple[Comparison, ...]:
    return validation.compare()


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_validation", ROOT / "docs" / "validation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_peers_and_how_close_they_come(compared: tuple[Comparison, ...]) -> None:
    # (cases, largest median, largest difference either way)
    limits = {
        "array cycles": (80, 0.0, 1.0),
        "cycles, mapping given": (105, 0.05, 1.55),
        "cycles, best mapping run": (35, 0.21, 4.8),
        "cycles, own tiling": (35, 0.33, 7.3),
        "latency": (4, 1.0, 25.0),
        "ResNet-50 frames/s": (7, 0.035, 1.06),
        "AlexNet latency": (5, 0.05, 1.06),
        "AlexNet DRAM traffic": (5, 0.06, 1.13),
        "AlexNet buffer traffic": (5, 0.01, 1.01),
        "VGG-16 frames/s": (1, 1.5, 2.5),
    }
    for one in compared:
        assert one.source
        assert one.model == (OWN if one.peer in ("NVDLA", "Eyeriss v1") or "given" in one.quantity else GENERAL)
        if one.peer.startswith("ZigZag"):
            continue
        cases, median, worst = limits.pop(one.quantity)
        assert len(one.rows) == cases, one.quantity
        assert one.median <= median, one.quantity
        assert max(one.worst.ratio, 1 / one.worst.ratio) <= worst, one.quantity
    assert not limits


def test_zigzag_differs_little_where_it_moves_the_same(compared: tuple[Comparison, ...]) -> None:
    same, other = (one for one in compared if one.peer.startswith("ZigZag"))
    assert len(same.rows) + len(other.rows) == 16
    assert all(0.99 <= row.ratio <= 1.1 for row in same.rows)
    for row, (bits, theirs) in validation.zigzag_cases():
        assert (abs(bits / theirs - 1) < 0.01) == (row in same.rows)


def test_medians_ranks_and_cycles_by_hand() -> None:
    from scipy.stats import spearmanr

    pairs = [(1.0, 2.0), (3.0, 2.0), (4.0, 4.0)]
    one = Comparison("Chip", "latency", "chip", "by hand", tuple(Row("x", *p, "ms") for p in pairs), OWN, 10.0)
    assert one.median == 0.5
    assert one.worst == one.rows[0], "half counts as far as double, and half again as much as less"
    assert one.spearman is None
    assert one.cycles == ((10_000, 20_000), (30_000, 20_000), (40_000, 40_000))
    rows = tuple(Row("x", float(i), float(11 - i), "frame/s") for i in range(1, 11))
    rates = Comparison("Chip", "rate", "chip", "by hand", rows, GENERAL, 10.0)
    assert rates.spearman == pytest.approx(-1)
    assert rates.cycles[0] == (1e7, 1e6)
    ours, theirs = [1, 2, 2, 3, 5, 5, 5, 8, 9, 10], [2, 1, 3, 3, 4, 7, 5, 9, 8, 8]
    rows = tuple(Row("x", float(a), float(b), "MB") for a, b in zip(ours, theirs, strict=True))
    ties = Comparison("Chip", "traffic", "chip", "by hand", rows)
    assert ties.spearman == pytest.approx(spearmanr(ours, theirs).statistic)
    assert ties.cycles == ()


def test_tables(compared: tuple[Comparison, ...]) -> None:
    frame = validation.summary(compared)
    assert list(frame["cases"]) == [len(one.rows) for one in compared]
    assert frame["Spearman"].notna().sum() == 4
    assert set(frame["estimated here by"]) == {GENERAL, OWN}
    rows = validation.table(compared[0])
    assert list(rows.columns) == ["name", "ours", "theirs", "unit", "difference"]
    assert (rows["difference"] == 0).all()


def test_an_unknown_record_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'nobody'"):
        validation.record("nobody")


def test_the_page_is_current(compared: tuple[Comparison, ...], page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    found = page.tables(compared)
    assert {mark[2] for mark in page.MARKED.finditer(text)} == set(found)
    assert page.updated(text, found) == text, "docs/validation.md is out of date: run python docs/validation.py"
    assert page.PICTURE.is_file()
    for link in re.findall(r"\]\(([\w.]+)\)", text):
        assert (page.PAGE.parent / link).is_file(), link


def test_the_page_shows_what_moves(page: ModuleType) -> None:
    assert [page.share(value) for value in (0, 0.0004, -0.0004, 0.017, -0.5)] == [
        "0", "under 0.05 %", "under 0.05 %", "+1.7 %", "-50.0 %",
    ]  # fmt: skip
    text = "before\n<!-- table: a -->\nold\n<!-- end -->\nafter\n"
    assert page.updated(text, {"a": "new\n"}) == text.replace("old", "new")
    with pytest.raises(KeyError):
        page.updated(text, {})


def test_figures_are_those_they_were_copied_from(reference: Path) -> None:
    cases = json.loads((reference / "scalesim_cases.json").read_text())["cases"]
    fields = ("M", "N", "K", "rows", "cols", "dataflow", "last_cycle_index")
    assert validation.record("scalesim_3_0_0")["cases"] == [
        [case["layer"]["name"], *(case[field] for field in fields)] for case in cases
    ]
    theirs, published = json.loads((reference / "published.json").read_text()), validation.record("published")
    for told in theirs["nvdla_resnet50"]["rows"]:  # a part of what the primer has
        assert [told[0], told[5]] in published["nvdla_resnet50"]["rows"]
    for name, row in published["eyeriss_v1_alexnet"]["rows"].items():
        told = theirs["eyeriss_v1_alexnet"]["rows"][name]
        assert row == [told[2], told[7], told[6], told[5]], name


def test_ratios_of_the_general_law_are_those_of_the_benchmark(reference: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gemmini.py"), "--evaluate", str(tmp_path / "found.json")]
    environment = {**os.environ, "CODESIGN_REFERENCE_DIR": str(reference)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == validation.record("gemmini_evaluate"), "make the file anew, by its command"


def test_general_law_is_optimistic_about_gemmini(compared: tuple[Comparison, ...]) -> None:
    for one in compared:
        if one.peer == "Gemmini" and one.model == GENERAL:
            assert all(row.ratio < 1 for row in one.rows)
            assert one.cycles == (), "only ratios are kept"


@pytest.mark.slow
def test_ratios_of_gemmini_are_those_of_the_benchmark(reference: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gemmini.py"), "--out", str(tmp_path / "found.json")]
    environment = {**os.environ, "CODESIGN_REFERENCE_DIR": str(reference)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found, kept = json.loads((tmp_path / "found.json").read_text()), dict(validation.record("gemmini"))
    assert found.pop("ratios") == {name: pytest.approx(ratios, abs=0.01) for name, ratios in kept.pop("ratios").items()}
    assert found.pop("spearman") == pytest.approx(kept.pop("spearman"), abs=0.001)
    assert found == kept
