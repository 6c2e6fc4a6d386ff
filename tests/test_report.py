"""The report: it tells the whole loop, loads nothing, escapes every name, and works in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from browser import new_tab, settle
from loops import checked, loop

from codesign_kernel import figures
from codesign_kernel.figures import page

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"


class Tags(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_loads_nothing() -> None:
    text = figures.render_report(loop())
    for tag, attributes in Tags(text).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, name, value[:80])
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in text


def test_the_report_tells_the_whole_story() -> None:
    text = figures.render_report(loop())
    anchors = re.findall(r'<section id="(\w+)"', text)
    assert anchors == ["network", "profile", "front", "accelerator", "rtl", "proof"]
    assert len(re.findall(r'<figure class="ck-figure"', text)) == 5
    assert "matches its generated RTL bit for bit" in text
    assert text.count("Plotly = Plotly") == 1, "Plotly is there once"
    downloads = [a["download"] for tag, a in Tags(text).tags if tag == "a" and "download" in a]
    assert downloads == ["profile.csv", "front.csv"]
    ids = [a["id"] for _, a in Tags(text).tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_a_loop_that_does_not_close_is_not_hidden() -> None:
    result = loop()
    bad = checked(mismatches=2, passed=False, first_mismatch="input 7")
    text = figures.render_report(
        figures.LoopResult(**{**vars(result), "cosim": bad})  # type: ignore[arg-type]
    )
    assert "does not match its generated RTL" in text
    assert "Do not trust this design" in text
    assert "✗ 2 differ" in text


def test_the_report_escapes_every_name() -> None:
    text = figures.render_report(loop(HOSTILE))
    assert "<img src=x" not in text
    assert not any(tag == "img" for tag, _ in Tags(text).tags)
    assert "onerror=alert(1)&gt;" in text


def test_a_table_and_a_download_escape_what_comes_in() -> None:
    assert "<b>" not in page.table("<b>", ["<b>"], [["<b>", "<b>"]])
    assert page.download("a.csv", "<b>,1\n", "save").count("<b>") == 0
    assert page.manifest_rows({"a": 1, "b": {"c": [1, 2]}}) == [("a", "1"), ("b.c", "1, 2")]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_the_report_in_a_browser(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(figures.render_report(loop()), encoding="utf-8")
    problems: list[str] = []
    with new_tab() as tab:
        tab.emulate_media(color_scheme="dark")
        tab.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.on("request", lambda r: problems.append(r.url) if r.url.startswith(("http", "ws")) else None)
        for width in (1280, 390):
            tab.set_viewport_size({"width": width, "height": 800})
            tab.goto(file.as_uri())
            tab.wait_for_function("document.querySelectorAll('.ck-plot .main-svg').length >= 4")
            settle(tab)
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            assert not problems
        with tab.expect_download() as saved:
            tab.click("#front .ck-save button:has-text('CSV')")
        lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
        assert lines[0] == "series,x,y,x axis,y axis,design or note"
        assert sum(line.startswith("front,") for line in lines) == 6  # three designs in two panels


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_table_shows_that_it_scrolls(tmp_path: Path, theme: Literal["light", "dark"]) -> None:
    file = tmp_path / "report.html"
    file.write_text(figures.render_report(loop()), encoding="utf-8")
    with new_tab(390) as tab:
        tab.emulate_media(color_scheme=theme)
        tab.goto(file.as_uri())
        tab.wait_for_function("document.querySelectorAll('.ck-plot .main-svg').length >= 4")
        region = tab.locator("#profile .ck-scroll")

        def shadow() -> bool:
            """Whether the right edge, above the caption's letters, has another colour than the page above it."""
            settle(tab)  # figures that are drawn anew move what is below them
            region.evaluate("region => region.scrollIntoView({block: 'center', behavior: 'instant'})")
            box = region.bounding_box()
            edge = {"x": round(box["x"] + box["width"]) - 6, "width": 4, "height": 2}
            inside, outside = (tab.screenshot(clip={**edge, "y": round(box["y"]) + dy}) for dy in (1, -8))
            return inside != outside

        assert region.evaluate("region => region.scrollWidth > region.clientWidth")
        assert shadow()
        region.evaluate("region => region.scrollLeft = region.scrollWidth")
        assert not shadow()
        tab.set_viewport_size({"width": 1280, "height": 800})
        assert not shadow()
