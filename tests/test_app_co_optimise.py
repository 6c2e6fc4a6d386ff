"""The co-optimisation app: what stands behind its page, and the page itself, as a visitor of a gateway has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("codesign_widgets")

from apps import thin, visited
from browser import check_looks

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.session.pair_search import PairSearch
from codesign_kernel.session.pairs import PairsSoFar

VALUES: dict[str, Any] = {"goals": ["latency_ms", "energy_uj"], "accuracy": 90.0, "budget": 2}


class Followed:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, str]] = []
        self.stood: list[PairsSoFar] = []

    def __call__(self, done: int, total: int, message: str) -> None:
        self.told.append((done, total, message))

    def stands(self, found: PairsSoFar) -> None:
        self.stood.append(found)


def test_the_app_is_thin_and_stored_without_outputs() -> None:
    assert thin("co_optimise")["metadata"]["title"] == "Network and hardware together"


def test_what_is_known_before_a_search_is_real() -> None:
    search = PairSearch()
    found = search.first(VALUES)
    assert found.objectives == {"accuracy": "max", "latency_ms": "min", "energy_uj": "min"}
    front = found.front
    assert 2 <= len(front) <= 100
    assert set(front["weight_bits"]) == {4, 8}
    from codesign_kernel.cost import evaluate
    from codesign_kernel.design import Design
    from codesign_kernel.session.digits import digits_accuracy, digits_network

    row = found.knee
    bits = int(row["weight_bits"])
    fields = {name: row[name] for name in found.space.parameters}
    cost = evaluate(digits_network(bits), Design.of(fields))
    assert cost.latency_s * 1e3 == pytest.approx(row["latency_ms"])
    assert row["accuracy"] == digits_accuracy(bits, "validation")
    assert [tile["value"] for tile in search.expected(VALUES)[:3]] == ["2", "55,296", "110,592"]
    with pytest.raises(InvalidInputError, match="objectives are of"):
        search.expected({**VALUES, "goals": []})


@pytest.mark.slow
def test_a_search_stands_is_stopped_and_goes_on() -> None:
    """What was trained before the stop is not trained again, whatever is sought afterwards."""
    search, first, second = PairSearch(), Followed(), Followed()
    found = search.run(VALUES, first, lambda: len(first.told) > 1)
    assert found.stopped == "stopped"
    assert found.provenance.evaluated == 1
    whole = search.run({**VALUES, "goals": ["area_mm2"]}, second, lambda: False)
    assert whole.stopped == "budget"
    assert whole.provenance.evaluated == 1
    assert second.told[-1][:2] == (2, 2)
    last = second.stood[-1]
    assert last.front["network"].tolist() == whole.front["network"].tolist()
    assert "test_accuracy" not in last.front, "the test part is looked at once"
    assert whole.front["accuracy"].min() >= 0.9


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_visitor_searches_stops_resumes_and_takes_a_pair(tmp_path: Path) -> None:
    with visited("co_optimise", ".ckx-monitor .ck-plot .main-svg", tmp_path) as tab:
        # something real before anything is touched: the network as it was trained, on every machine
        title = tab.inner_text(".ckx-monitor .ck-title >> nth=0")
        assert "pairs are on the front" in title
        assert "as it was trained" in tab.inner_text(".ckx-monitor .ckx-state")
        assert tab.inner_text(".ckx-settings .ckx-tiles dd >> nth=0").startswith("12")

        # what makes no sense is said beside its control
        for name in ("Latency", "Energy", "Area"):
            tab.get_by_role("checkbox", name=name).uncheck()
        tab.wait_for_selector(".ckx-several .ckx-error:has-text('one or more')")
        for name in ("Latency", "Energy"):
            tab.get_by_role("checkbox", name=name).press("Space")
        budget = tab.get_by_role("slider", name="Networks to try")
        budget.focus()
        budget.press("Home")
        tab.wait_for_function("() => document.querySelector('.ckx-settings .ckx-tiles dd').innerText.startsWith('4')")

        # start, watch it grow, stop, resume
        tab.get_by_role("button", name="Start").press("Enter")
        tab.wait_for_selector(".ckx-monitor[data-state=running]")
        tab.wait_for_function(
            "() => document.querySelector('.ckx-doing').innerText.includes('of 4 networks e')", timeout=60_000
        )
        tab.get_by_role("button", name="Cancel").click()
        tab.wait_for_selector(".ckx-monitor[data-state=stopped]", timeout=60_000)
        tab.get_by_role("button", name="Resume").click()
        tab.wait_for_selector(".ckx-monitor[data-state=done]", timeout=120_000)
        assert tab.inner_text(".ckx-monitor .ck-title >> nth=0") != title
        assert "Take pair" in tab.inner_text(".ckx-advice")
        heads = tab.inner_text(".ckx-best thead")
        assert "Energy" in heads
        assert "Area" not in heads

        # accuracy against the other goal
        tab.get_by_label("Across").select_option("energy_uj")
        tab.wait_for_selector(".ck-subtitle:has-text('Accuracy against energy')")
        assert "Traceback" not in tab.inner_text("body")
        check_looks(tab, "co_optimise")
