"""The Voila app: its notebook, and in a browser the real thing."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

pytest.importorskip("codesign_widgets")

from browser import ROOT, browse, check_looks, voila

APP = ROOT / "voila_apps" / "pareto.ipynb"


def test_the_app_is_thin_and_stored_without_outputs() -> None:
    notebook = json.loads(APP.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert notebook["cells"][0]["cell_type"] == "markdown"


@pytest.mark.browser
@pytest.mark.slow
def test_the_app_answers_in_a_browser(tmp_path: Path) -> None:
    with (
        voila(APP.parent, tmp_path) as apps,
        browse(f"{apps.url}voila/render/{APP.name}", ".ckx .ck-plot .main-svg") as tab,
    ):
        latency = tab.inner_text(".ckx-tiles dd >> nth=0")
        assert "cycles" in latency

        # a slider of the design moves, the key figures follow, and the front stays
        points = (
            "() => JSON.stringify(document.querySelector('.ckx .ck-plot').data"
            ".filter((t) => t.name === 'front' && t.mode === 'markers').map((t) => [...t.x]))"
        )
        front = tab.evaluate(points)
        slider = tab.get_by_role("slider", name="Rows")
        slider.focus()
        tab.keyboard.press("ArrowLeft")
        changed = "(was) => document.querySelector('.ckx-tiles dd').innerText !== was"
        tab.wait_for_function(changed, arg=latency, timeout=20_000)
        assert tab.get_by_role("spinbutton", name="Rows").input_value() == "8"
        assert tab.evaluate(points) == front

        # one of the conditions moves, and the front with it, on axes that stand
        axes = "() => JSON.stringify(document.querySelector('.ckx .ck-plot').layout.xaxis.range)"
        before = tab.evaluate(axes)
        tab.get_by_role("slider", name="External bandwidth").focus()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_function(f"(was) => ({points})() !== was", arg=front, timeout=20_000)
        assert "external bandwidth 1.6 GB/s" in tab.inner_text(".ckx .ck-subtitle >> nth=0")
        assert tab.evaluate(axes) == before

        # what is not possible is told beside its control, and the last result stays, dimmed
        field = tab.get_by_role("spinbutton", name="Rows")
        field.fill("12")
        field.press("Enter")
        tab.wait_for_selector(".ckx-stale")
        assert "multiple of the shorter" in tab.inner_text(".ckx-wrong .ckx-error")
        assert "Traceback" not in tab.inner_text("body")
        tab.get_by_role("button", name="Back to the defaults").click()
        tab.wait_for_function("() => !document.querySelector('.ckx-stale, .ckx-waiting')")
        assert tab.inner_text(".ckx-tiles dd >> nth=0") == latency
        assert tab.evaluate(points) == front

        # one column on a phone, and nothing to scroll sideways
        tab.set_viewport_size({"width": 390, "height": 800})
        tab.wait_for_timeout(500)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        boxes = [tab.locator(f".ckx-{part}").bounding_box() for part in ("head", "controls", "figures")]
        assert {round(box["x"]) for box in boxes if box} == {16}
        buttons = tab.locator(".ckx button:visible, .ckx select:visible, .ckx input:visible")
        assert min(box["height"] for box in (b.bounding_box() for b in buttons.all()) if box) >= 40
        check_looks(tab, "playground")
