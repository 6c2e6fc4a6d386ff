"""AppFrame: tabs whose sections are made when they are opened, and what a page may not do to it."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks

from codesign_kernel.errors import InvalidInputError
from codesign_widgets import AppFrame

CELL = """
import codesign_kernel as ck
from codesign_widgets import AppFrame, ArrayAnimator
AppFrame({"Small": ArrayAnimator(ck.array_trace, m=2, k=2, n=2, rows=2, cols=2),
          "Wide": lambda: ArrayAnimator(ck.array_trace, m=2, k=2, n=3, rows=2, cols=3),
          "Broken": lambda: ArrayAnimator(ck.array_trace, m=99)})
"""


class Made:
    """Stands for a widget: what a frame asks of one."""

    closed = False

    def __init__(self, name: str) -> None:
        self.model_id = name

    def close(self) -> None:
        self.closed = True


def test_a_section_is_made_once_when_it_is_opened() -> None:
    made: list[Made] = []

    def second() -> Made:
        made.append(Made("second"))
        return made[-1]

    first = Made("first")
    frame = AppFrame({"One": first, "Two": second})
    assert frame.answer["models"] == {"One": ["first"]}
    assert not made
    frame.show("Two")
    frame.show("One")
    frame.show("Two")
    assert len(made) == 1
    assert (frame.section, frame.answer["models"]) == ("Two", {"One": ["first"], "Two": ["second"]})
    frame.close()
    assert first.closed
    assert made[0].closed


def test_what_is_shown_is_kept_when_the_reader_asks_and_a_refusal_is_told() -> None:
    asked: list[str] = []

    def keep() -> str:
        asked.append("keep")
        if len(asked) > 1:
            raise InvalidInputError("you have not agreed to it")
        return "Kept as x.json."

    frame = AppFrame({"One": Made("first")}, keep=keep)
    assert (frame.setup["keep"], frame.answer["kept"], asked) == (True, "", [])
    for seq, wish in enumerate((False, 1, "yes", None)):
        frame.query = {"section": "One", "keep": wish, "seq": seq + 1}
    assert asked == []
    frame.query = {"section": "One", "keep": True, "seq": 9}
    assert (frame.answer["kept"], frame.answer["error"]) == ("Kept as x.json.", None)
    frame.query = {"section": "One", "keep": True, "seq": 10}
    assert frame.answer["error"]["text"] == "You have not agreed to it."
    without = AppFrame({"One": Made("first")})
    without.query = {"section": "One", "keep": True, "seq": 1}
    assert (without.setup["keep"], without.answer["kept"]) == (False, "")


@pytest.mark.parametrize("asked", [{}, {"section": 3}, {"section": ["One"]}, {"section": "<b>"}, {"section": None}])
def test_a_page_cannot_open_what_is_not_there(asked: dict[str, Any]) -> None:
    frame = AppFrame({"One": Made("first")})
    frame.set_state({"query": {**asked, "seq": 1}, "section": "Two", "answer": {}, "setup": {}})
    assert "the parts of this app are One" in frame.answer["error"]["text"].replace("The", "the")
    assert frame.answer["error"]["control"] == ""
    assert frame.section == "One"
    assert frame.answer["models"] == {"One": ["first"]}


def test_a_frame_has_sections() -> None:
    with pytest.raises(InvalidInputError, match="1 to 7 sections"):
        AppFrame({})


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tabs_by_mouse_and_keyboard(pages: Served) -> None:
    with browse(pages.page("frame", CELL), ".ckx-tab") as tab:
        tab.wait_for_selector(".ckx-pe >> nth=3")
        tab.get_by_role("tab", name="Wide").click()
        tab.wait_for_selector(".ckx-panel:not([hidden]) .ckx-pe >> nth=5")
        assert tab.get_by_role("tabpanel", name="Wide").is_visible()
        assert not tab.get_by_role("tabpanel", name="Small", include_hidden=True).is_visible()
        tab.keyboard.press("Home")
        tab.wait_for_function("() => document.activeElement.innerText === 'Small'")
        assert tab.get_by_role("tabpanel", name="Small").is_visible()

        # what cannot be made is told, and the last section comes back
        tab.keyboard.press("End")
        tab.wait_for_selector(".ckx-app > .ckx-error:has-text('from 1 to 16')")
        assert tab.get_by_role("tab", name="Small").get_attribute("aria-selected") == "true"
        tab.keyboard.press("ArrowRight")
        tab.wait_for_function("() => !document.querySelector('.ckx-app > .ckx-error').textContent")
        # anywidget would give a page up whose browser needs more than 2 s for a widget's script
        tab.evaluate("() => { window.limit = AbortSignal.timeout(1); }")
        tab.wait_for_timeout(100)
        assert tab.evaluate("() => window.limit.aborted") is False
        check_looks(tab, "frame")
