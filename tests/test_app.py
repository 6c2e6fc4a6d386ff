"""The Voila app: its notebook, and in a browser the real thing."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest

codesign_widgets = pytest.importorskip("codesign_widgets")

ROOT = Path(__file__).parent.parent
APP = ROOT / "voila_apps" / "pareto.ipynb"


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
        browser.close()
    assert not problems
