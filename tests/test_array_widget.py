"""The array animator: what goes to the page, what a page may say, and the page in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import wavefront_info
from codesign_kernel.figures.wavefront import ARRAYS, wavefront_bytes

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need

A, B = np.arange(12).reshape(4, 3) - 6, np.arange(6).reshape(3, 2) - 3


@pytest.fixture(scope="module")
def trace() -> ck.ArrayTrace:
    return ck.array_trace(A, B, "ws", 3, 2)


@pytest.fixture
def shown() -> Any:
    widget = codesign_widgets.ArrayAnimator(ck.array_trace, m=2, k=3, n=2, rows=2, cols=2)
    yield widget
    widget.close()


class TestWords:
    def test_a_sentence_for_each_cycle(self, trace: ck.ArrayTrace) -> None:
        info = wavefront_info(trace)
        assert len(info.cycles) == len(info.busy) == trace.cycles
        assert info.finding.startswith(f"Weight stationary: {trace.cycles} cycles")
        assert info.cycles[0] == "Cycle 0: 0 of 6 PEs multiply; b[2, 0] is shifted in at the top."
        # weights take three cycles, then they are swapped
        assert info.cycles[4] == "Cycle 4: 1 of 6 PEs multiply; a[0, 0] enters at the left."
        assert "c[0, 0] = 19 leaves" in info.cycles[7]
        narrow = wavefront_info(ck.array_trace(A, B[:, :1], "ws", 3, 2)).cycles[-1]
        assert narrow.endswith("the registers behind the array line the sums up.")
        assert info.busy[info.best] == max(info.busy)

    def test_parts_and_both_operands_are_told(self) -> None:
        parts = wavefront_info(ck.array_trace(A, B, "ws", 2, 2))
        assert any("leave as parts" in told or "leaves as a part" in told for told in parts.cycles)
        moving = wavefront_info(ck.array_trace(A, B, "os", 2, 2)).cycles[1]
        assert "a[0, 0] enters at the left; b[0, 0] enters at the top" in moving
        exchanged = wavefront_info(ck.array_trace(A, B, "is", 3, 2)).cycles
        assert "a[0, 2] is shifted in at the top" in exchanged[0]
        assert "b[0, 0] enters at the left" in exchanged[4]

    def test_the_bytes_are_the_arrays(self, trace: ck.ArrayTrace) -> None:
        places, data = wavefront_bytes(trace)
        assert set(places) == set(ARRAYS)
        for name, (kind, offset, shape) in places.items():
            size = np.dtype(kind).itemsize
            assert offset % size == 0, "typed arrays of a page are aligned"
            found = np.frombuffer(data, kind, int(np.prod(shape)), offset).reshape(shape)
            assert np.array_equal(found, getattr(trace, name)), name


class TestKernel:
    def test_a_callable_is_asked_for_what_the_page_wants(self, shown: Any) -> None:
        assert list(shown.answer["traces"]) == ["ws"]
        sizes = {"m": 3, "k": 2, "n": 1, "rows": 3, "cols": 2, "seed": 7}
        shown.query = {"seq": 1, "sizes": sizes, "labels": ["os", "is"]}
        assert shown.answer["error"] is None
        assert shown.answer["sizes"] == sizes
        assert list(shown.traces) == ["os", "is"], "those of other sizes are gone"
        assert shown.traces["os"].a.shape == (3, 2)
        assert np.array_equal(shown.traces["os"].result, shown.traces["is"].result)
        before = shown.traces["os"]
        shown.query = {"seq": 2, "sizes": sizes, "labels": ["ws", "os"]}
        assert shown.traces["os"] is before, "traced once"
        assert set(shown.answer["traces"]) == {"ws", "os", "is"}

    def test_traces_that_are_there_are_shown(self, trace: ck.ArrayTrace) -> None:
        one = codesign_widgets.ArrayAnimator(trace)
        assert one.setup["labels"] == {"ws": "Weight stationary"}
        assert not one.setup["live"]
        two = codesign_widgets.ArrayAnimator({"mine": trace, "os": ck.array_trace(A, B, "os", 3, 2)})
        assert two.setup["labels"] == {"mine": "mine", "os": "Output stationary"}
        assert two.view["cycle"] == wavefront_info(trace).best
        two.query = {"seq": 4, "labels": ["os"], "sizes": {"m": 1}}
        assert (two.answer["seq"], two.answer["error"], set(two.answer["traces"])) == (4, None, {"mine", "os"})
        one.close()
        two.close()

    @pytest.mark.parametrize(
        ("query", "control", "told"),
        [
            (7, "", "A page asks for 1 to 3 traces"),
            ({"labels": []}, "", "A page asks for"),
            ({"labels": ["ws"] * 99}, "", "A page asks for"),
            ({"labels": ["<b>rs"]}, "", "The traces are ws, os, is, but got '<b>rs'"),
            ({"labels": [None]}, "", "The traces are"),
            ({"labels": ["ws"], "sizes": None}, "", "Sizes are m, k, n"),
            ({"labels": ["ws"], "sizes": {"m": 17}}, "m", "Rows of A and C: an integer from 1 to 16, but got '17'"),
            ({"labels": ["ws"], "sizes": {"k": 0}}, "k", "Columns of A, rows of B: an integer from 1 to 16"),
            ({"labels": ["ws"], "sizes": {"n": float("nan")}}, "n", "Columns of B and C"),
            ({"labels": ["ws"], "sizes": {"rows": "4"}}, "rows", "Rows of the array"),
            ({"labels": ["ws"], "sizes": {"cols": True}}, "cols", "Columns of the array"),
            ({"labels": ["ws"], "sizes": {"cols": None}}, "cols", "Columns of the array"),
            ({"labels": ["ws"], "sizes": {"seed": -1}}, "seed", "Seed of the numbers: an integer from 0 to 9999"),
            ({"labels": ["ws"], "sizes": {"seed": 10**400}}, "seed", "Seed of the numbers"),
        ],
    )  # fmt: skip
    def test_whatever_a_page_asks_is_answered_in_words(self, shown: Any, query: Any, control: str, told: str) -> None:
        before = shown.answer["traces"]
        if isinstance(query, dict) and isinstance(query.get("sizes"), dict):
            query = {**query, "sizes": {**shown.sizes, **query["sizes"]}}
        shown.query = query
        assert shown.answer["error"]["control"] == control
        assert shown.answer["error"]["text"].startswith(told)
        assert shown.answer["traces"] == before, "the last answer stands"

    def test_a_view_is_what_makes_sense(self, shown: Any) -> None:
        shown.query = {"seq": 1, "sizes": shown.sizes, "labels": ["os"]}
        right = {
            "label": "os",
            "compare": True,
            "cycle": 3,
            "pe": [1, 0],
            "speed": 4,
            "names": True,
            "follow": ["c", 1, 1],
        }
        shown.view = right
        assert shown.view == right
        shown.view = {**right, "label": "is", "cycle": 1000}
        assert (shown.view["label"], shown.view["cycle"]) == ("is", max(t.cycles for t in shown.traces.values()) - 1)
        nothing = {"label": "ws", "compare": False, "cycle": 0, "pe": None, "speed": 2, "names": False, "follow": None}
        for wrong in (
            {},
            {
                "label": ["os"],
                "compare": 1,
                "cycle": 10**10,
                "pe": [2, 0],
                "speed": 3,
                "names": "yes",
                "follow": ["c", 2, 0],
            },
            {"label": "<i>", "compare": None, "cycle": -1, "pe": "ab", "speed": "4", "names": 0, "follow": "c11"},
            {"label": None, "cycle": 1.5, "pe": [0, 0, 0], "speed": float("nan"), "follow": [["a"], 0, 0]},
            {"cycle": True, "pe": [True, 0], "speed": [2], "follow": ["d", 0, 0]},
        ):
            shown.view = wrong
            assert shown.view == nothing, wrong

    def test_a_size_that_cannot_be_traced_loses_nothing(self, shown: Any) -> None:
        def refuses(*given: Any) -> Any:
            raise InvalidInputError("a trace has at most 4,096 cycles")

        before = dict(shown.traces)
        shown._source = refuses
        shown.query = {"seq": 1, "sizes": {**shown.sizes, "m": 16}, "labels": ["ws"]}
        assert shown.answer["error"]["text"] == "A trace has at most 4,096 cycles."
        assert shown.traces == before
        assert shown.sizes["m"] == 2

    def test_what_is_no_trace_is_refused(self) -> None:
        for wrong, told in (({}, "at least one trace"), (7, "but got int"), ({"ws": "x"}, "but got str")):
            with pytest.raises(InvalidInputError, match=told):
                codesign_widgets.ArrayAnimator(wrong)
        with pytest.raises(InvalidInputError, match="dataflow is one of ws, os, is, but got 'rs'"):
            codesign_widgets.ArrayAnimator(ck.array_trace, dataflow="rs")
        with pytest.raises(InvalidInputError, match="Rows of A and C: an integer from 1 to 16"):
            codesign_widgets.ArrayAnimator(ck.array_trace, m=99)


#: A product that takes two passes, on the RTL of all three dataflows as the reader asks for them.
CELL = """
import codesign_kernel as ck
from codesign_widgets import ArrayAnimator
ArrayAnimator(ck.array_trace)
"""


def expects(tab: Any, what: str, seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if seen():
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"{what}: {tab.inner_text('.ckx-animator')[:1500]}")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_plays_in_a_browser(pages: Served) -> None:
    """By mouse and by keyboard; numbers on the page are compared with a trace made here."""
    generator = np.random.default_rng(0)
    a, b = (generator.integers(-9, 10, shape) for shape in ((8, 4), (4, 8)))
    weights, outputs = (ck.array_trace(a, b, flow) for flow in ("ws", "os"))
    with browse(pages.page("array", CELL), ".ckx-animator .ckx-pe") as tab:

        def text(where: str) -> str:
            found: str = tab.inner_text(f".ckx-animator {where}")
            return found.replace("−", "-")

        def clock(cycle: int, trace: ck.ArrayTrace = weights) -> None:
            expects(tab, f"not in cycle {cycle}", lambda: text(".ckx-clock") == f"Cycle {cycle} / {trace.cycles - 1}")

        def cells(matrix: str, how: str) -> int:
            return int(tab.locator(f".ckx-at-{matrix} td.{how}").count())

        best = wavefront_info(weights).best
        clock(best)
        assert cells("b", "held") + cells("b", "works") == 16
        assert cells("a", "works") == len({*zip(*np.nonzero(weights.active[best]), strict=True)})
        # the mouse: an element, its work, the ends of time, the plot
        tab.click(".ckx-pe[aria-label='PE in row 2, column 3']")
        history = weights.history(2, 3)
        expects(tab, "no history", lambda: f"row 2, column 3: {len(history)} multiplications" in text(".ckx-beside"))
        first = history[0]
        assert f"a[{first.i}, {first.k}] × b[{first.k}, {first.j}]" in text(".ckx-beside tbody tr:has(td:text('×'))")
        tab.click("[aria-label='Last cycle']")
        clock(weights.cycles - 1)
        assert cells("c", "done") == 64
        assert text(".ckx-at-c td").splitlines()[0] == str((a @ b)[0, 0])
        tab.click(".ckx-busy", position={"x": 8, "y": 50})
        clock(0)
        tab.click("[aria-label='One cycle on']")
        clock(1)
        assert "b[2, 0]" in text(".ckx-sentence")
        # the keyboard: play and pause, steps, the slider, elements
        tab.focus("[aria-label='One cycle on']")
        tab.keyboard.press("End")
        clock(weights.cycles - 1)
        tab.keyboard.press("ArrowLeft")
        clock(weights.cycles - 2)
        tab.focus(".ckx-scrub")
        tab.keyboard.press("Home")
        clock(0)
        tab.select_option("[aria-label='Cycles a second']", "8")
        tab.focus(".ckx-scrub")
        tab.keyboard.press(" ")
        # both at one time: it is soon over
        plays = """() => Number(document.querySelector('.ckx-clock').innerText.split(' ')[1]) >= 3
          && document.querySelector('.ckx-sentence').getAttribute('aria-live') === 'off'"""
        tab.wait_for_function(plays)
        # from the beginning again, and slowly, so that it plays still when it is stopped
        tab.keyboard.press("Home")
        tab.select_option("[aria-label='Cycles a second']", "1")
        tab.focus(".ckx-scrub")
        tab.keyboard.press(" ")
        tab.wait_for_selector(".ckx-sentence[aria-live=off]")
        tab.keyboard.press(" ")
        assert tab.get_attribute(".ckx-sentence", "aria-live") == "polite"
        tab.focus(".ckx-pe[tabindex='0']")
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("ArrowLeft")
        expects(tab, "another element", lambda: "row 1, column 2" in text(".ckx-beside"))
        # one value on its way
        tab.keyboard.press("Home")
        tab.focus(".ckx-follow button >> nth=1")
        tab.keyboard.press("Enter")
        assert tab.locator(".ckx-at-b td.followed").count() == 1
        assert "b[1, 2] is used nowhere in this cycle" in text(".ckx-sentence")
        tab.click(".ckx-at-a td >> nth=0")
        assert tab.get_attribute(".ckx-follow button >> nth=0", "aria-pressed") == "true"
        tab.click(".ckx-at-a td >> nth=0")
        assert tab.locator("td.followed").count() == 0
        # another dataflow at the same cycle, and all of them beside each other
        for _ in range(3):
            tab.keyboard.press(".")
            tab.wait_for_timeout(450)
        clock(3)
        tab.click(".ckx-flows label >> nth=1")
        clock(3, outputs)
        busy = outputs.busy[3]
        expects(tab, "outputs", lambda: text(".ckx-sentence").startswith(f"Cycle 3: {busy} of 16 PEs multiply"))
        tab.click(".ckx-toggle >> nth=0")
        expects(tab, "three arrays", lambda: tab.locator(".ckx-array:visible").count() == 3)
        expects(tab, "the fewest first", lambda: text(".ck-title").startswith("Cycles: output stationary 25"))
        tab.click(".ckx-toggle >> nth=0")
        # a size that is refused, beside the control; and one that is not
        tab.fill(".ckx-size input >> nth=0", "99")
        tab.keyboard.press("Enter")
        expects(tab, "no refusal", lambda: "an integer from 1 to 16, but got '99'" in text(".ckx-error"))
        tab.fill(".ckx-size input >> nth=0", "5")
        tab.keyboard.press("Enter")
        expects(tab, "five rows", lambda: text(".ck-subtitle").startswith("C = A · B, 5 × 4 by 4 × 8"))
        assert text(".ckx-error") == ""
        tab.click("summary:has-text('as a table')")
        expects(tab, "a table", lambda: tab.locator("details:has-text('as a table') tbody tr").count() == 16)
        # less motion: a step is there at once, and playing goes in steps
        tab.emulate_media(reduced_motion="reduce")
        tab.click("[aria-label='First cycle']")
        tab.click("[aria-label='One cycle on']")
        assert text(".ckx-clock").startswith("Cycle 1 /")
        tab.emulate_media(reduced_motion="no-preference")
        tab.click("summary")
        tab.fill(".ckx-size input >> nth=0", "8")
        tab.keyboard.press("Enter")
        tab.click(".ckx-flows label >> nth=0")
        clock(1)
        tab.focus(".ckx-scrub")
        for _ in range(best - 1):
            tab.keyboard.press("ArrowRight")
        clock(best)
        check_looks(tab, "array")
