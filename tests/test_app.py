"""The explorer in its kernel, with stand-ins; and the Voila app in a browser, with the real thing."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError

codesign_widgets = pytest.importorskip("codesign_widgets")

ROOT = Path(__file__).parent.parent
APP = ROOT / "voila_apps" / "pareto.ipynb"
OBJECTIVES = ["latency_ms", "energy_uj", "area_mm2"]
SMALL = ck.Workload(
    "small", (ck.Layer("conv", "conv2d", K=8, C=4, OY=8, OX=8, FY=3, FX=3, IY=8, IX=8, padding=(1, 1)),)
)
LARGE = ck.Workload("large", (ck.Layer("conv", "conv2d", K=64, C=512, OY=32, OX=32, IY=32, IX=32),))


def cost_of(workload: ck.Workload, parameters: dict[str, float]) -> ck.Cost:
    return ck.evaluate(workload, ck.Design.of(parameters))


def explorer(**changes: Any) -> Any:
    space = ck.DesignSpace(rows=(4, 8), cols=(4, 8), activation_kib=(4, 1024), weight_kib=(16, 512), instruction_kib=64)
    arguments: dict[str, Any] = {
        "networks": {"Small": SMALL, "Large": lambda: LARGE},
        "evaluate": cost_of,
        "sweep": partial(ck.sweep, space=space),
        "front": partial(ck.pareto_front, objectives=OBJECTIVES),
        "knee": ck.knee,
    }
    return codesign_widgets.DesignExplorer(**{**arguments, **changes})


def test_the_first_view_is_a_real_result() -> None:
    shown = explorer()
    assert shown.network == "Small"
    assert shown.answer["error"] is None
    expected = cost_of(SMALL, shown.parameters)
    assert shown.cost == expected
    assert shown.answer["tiles"][0]["note"] == f"{expected.latency_cycle:,} cycles"
    assert shown.front_figure["spec"]["data"]
    assert json.loads(json.dumps(shown.setup)), "what goes to the page is plain JSON"
    assert json.loads(json.dumps(shown.answer))


def test_a_question_is_answered_with_its_number() -> None:
    shown = explorer()
    before = shown.answer["tiles"]
    shown.query = {"seq": 7, "network": "Small", "parameters": {**shown.parameters, "rows": 8}}
    assert (shown.answer["seq"], shown.parameters["rows"]) == (7, 8)
    assert shown.answer["tiles"] != before
    assert shown.answer["marks"]["data"]["chosen"]["x"] == pytest.approx([shown.cost.latency_s * 1e6], rel=1e-5)


def test_every_point_drawn_can_be_picked() -> None:
    shown = explorer()
    for trace, columns in shown.front_figure["picks"].items():
        drawn = [t for t in shown.front_figure["spec"]["data"] if t["name"] == trace and t["mode"] == "markers"]
        assert {len(t["x"]) for t in drawn} == {len(values) for values in columns.values()}
        first = {name: values[0] for name, values in columns.items()}
        shown.choose(**first)
        assert drawn[0]["x"][0] == pytest.approx(shown.cost.latency_s * 1e6, rel=1e-5)


def test_a_network_is_swept_once() -> None:
    calls = []

    def sweep(workload: ck.Workload) -> Any:
        calls.append(workload.name)
        return ck.sweep(
            workload, ck.DesignSpace(rows=(4, 8), cols=(8,), activation_kib=(1024, 2048), instruction_kib=64)
        )

    shown = explorer(sweep=sweep)
    for rows in (2, 4, 8):
        shown.choose(rows=rows)
    shown.choose(network="Large")
    shown.choose(network="Small")
    assert calls == ["small", "large"]


def test_a_design_that_cannot_run_a_new_network_gives_way_to_its_knee() -> None:
    shown = explorer()
    shown.choose(instruction_kib=1, activation_kib=4)
    shown.choose(network="Large")
    assert shown.answer["error"] is None
    assert "knee" in shown.answer["note"]
    knee = shown.front_figure["knee"]
    assert {name: shown.parameters[name] for name in knee} == knee


@pytest.mark.parametrize(
    ("changes", "control", "told"),
    [
        ({"rows": 10**400}, "rows", "between 2 and 128"),
        ({"rows": math.nan}, "rows", "between 2 and 128"),
        ({"rows": True}, "rows", "between 2 and 128"),
        ({"cols": "<script>"}, "cols", "between 2 and 128"),
        ({"cols": None}, "cols", "between 2 and 128"),
        ({"rows": 2.5}, "rows", "whole number"),
        ({"rows": 12, "cols": 16}, "rows", "multiple of the shorter"),
        ({"activation_kib": [1]}, "activation_kib", "between 1 and 1024"),
        ({"extra": 1}, "", "nothing else"),
    ],
)
def test_what_a_page_sends_is_checked(changes: dict[str, Any], control: str, told: str) -> None:
    shown = explorer()
    before = dict(shown.parameters)
    shown.query = {"seq": 3, "network": "Small", "parameters": {**before, **changes}}
    error = shown.answer["error"]
    assert error is not None
    assert told in error["text"]
    assert error["control"] == control or not control
    assert shown.answer["seq"] == 3
    assert shown.answer["tiles"], "the last good result stays"


@pytest.mark.parametrize(
    "query", [[], "x", {"seq": "1"}, {"seq": 1, "network": ["Small"]}, {"seq": 1, "network": "?"}, 7]
)
def test_nonsense_gets_a_message(query: Any) -> None:
    shown = explorer()
    shown.query = query
    assert "networks here are" in shown.answer["error"]["text"]


def test_a_design_that_does_not_fit_blames_its_control() -> None:
    shown = explorer()
    shown.choose(accumulator_kib=0.5, rows=2, cols=128)
    error = shown.answer["error"]
    assert error["control"] in ("accumulator_kib", "cols", "rows", "activation_kib", "weight_kib")
    assert shown.cost is None
    shown.choose(
        **{name: control.default for name, control in zip(shown.parameters, codesign_widgets.CONTROLS, strict=True)}
    )
    assert shown.answer["error"] is None


def test_a_fault_in_the_model_is_a_message_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    shown = explorer()
    shown._evaluate = lambda workload, parameters: {}["secret path"]
    shown.choose(rows=8)
    assert "KeyError" in shown.answer["error"]["text"]
    assert "secret" not in json.dumps(shown.answer["error"])
    assert "secret path" in caplog.text


def test_plotly_is_shared_between_explorers() -> None:
    assert explorer().bundle is explorer().bundle
    assert len(explorer().bundle.packed) < 2_000_000
    assert len(explorer()._esm) < 40_000


def test_an_explorer_shows_something() -> None:
    with pytest.raises(InvalidInputError, match="at least one network"):
        explorer(networks={})


def test_the_app_is_thin_and_stored_without_outputs() -> None:
    notebook = json.loads(APP.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert notebook["cells"][0]["cell_type"] == "markdown"


# --- in a browser ----------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if server.poll() is not None:
            pytest.fail(f"Voila ended with {server.returncode}: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"Voila does not listen: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def app_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app, served by a Voila of its own on loopback; nothing of the user's Jupyter settings is read."""
    pytest.importorskip("voila")
    home = tmp_path_factory.mktemp("voila")
    port = free_port()
    python_path = [str(ROOT), str(Path(codesign_widgets.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
        "JUPYTER_PATH": str(ROOT / "widgets"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    command = [sys.executable, "-m", "voila", str(APP), "--template=codesign", "--no-browser", f"--port={port}"]
    log = home / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "--Voila.ip=127.0.0.1", "--show_tracebacks=False"],
            cwd=home, env=environment, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(port, server, log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(5)


def loopback(url: str) -> bool:
    return urlparse(url).scheme in ("data", "blob") or urlparse(url).hostname == "127.0.0.1"


@pytest.mark.browser
@pytest.mark.slow
def test_the_app_answers_in_a_browser(app_url: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    problems: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.on("request", lambda r: None if loopback(r.url) else problems.append(f"leaves loopback: {r.url}"))
        tab.on("websocket", lambda w: None if loopback(w.url) else problems.append(f"leaves loopback: {w.url}"))
        tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.goto(app_url, wait_until="commit", timeout=60_000)
        tab.wait_for_selector(".ckx .ck-plot .main-svg", timeout=90_000)
        latency = tab.inner_text(".ckx-tiles dd >> nth=0")
        assert "cycles" in latency

        # a slider moves, and the key figures follow
        slider = tab.get_by_role("slider", name="Rows")
        slider.focus()
        tab.keyboard.press("ArrowLeft")
        changed = "(was) => document.querySelector('.ckx-tiles dd').innerText !== was"
        tab.wait_for_function(changed, arg=latency, timeout=20_000)
        assert tab.get_by_label("Rows", exact=True).nth(0).input_value() == "8"

        # what is not possible is told beside its control, and the last result stays, dimmed
        field = tab.locator("input[type=number]").nth(0)
        field.fill("12")
        field.press("Enter")
        tab.wait_for_selector(".ckx-stale")
        assert "multiple of the shorter" in tab.inner_text(".ckx-wrong .ckx-error")
        assert "Traceback" not in tab.inner_text("body")
        tab.get_by_role("button", name="Back to the defaults").click()
        tab.wait_for_function("() => !document.querySelector('.ckx-stale, .ckx-waiting')")
        assert tab.inner_text(".ckx-tiles dd >> nth=0") == latency

        # one column on a phone, and nothing to scroll sideways
        tab.set_viewport_size({"width": 390, "height": 800})
        tab.wait_for_timeout(500)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        boxes = [tab.locator(f".ckx-{part}").bounding_box() for part in ("head", "controls", "figures")]
        assert {round(box["x"]) for box in boxes if box} == {16}
        buttons = tab.locator(".ckx button:visible, .ckx select:visible, .ckx input:visible")
        assert min(box["height"] for box in (b.bounding_box() for b in buttons.all()) if box) >= 40
        browser.close()
    assert not problems
