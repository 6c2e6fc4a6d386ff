"""Pages in a real browser: Voila and JupyterLab on loopback, and a tab in which nothing may go wrong unnoticed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import pytest

import codesign_widgets

ROOT = Path(__file__).parent.parent
#: Where a kernel finds both packages.
KERNEL_PATH = os.pathsep.join(
    filter(None, [str(ROOT), str(Path(codesign_widgets.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
)
#: Without a graphics card, and without the requests that Chromium itself makes.
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
#: What pages need of JupyterLab's extensions.
EXTENSIONS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget"]
_KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


class Served(NamedTuple):
    """A running server and the folder whose notebooks it shows."""

    folder: Path
    url: str
    log: Path

    def write(self, name: str, *cells: str) -> None:
        """A notebook of these code cells, called ``name``.ipynb."""
        nbformat = pytest.importorskip("nbformat")
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=_KERNEL)
        nbformat.write(made, self.folder / f"{name}.ipynb")

    def page(self, name: str, *cells: str) -> str:
        """The address at which Voila runs these code cells."""
        self.write(name, *cells)
        return f"{self.url}voila/render/{name}.ipynb"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"the server does not listen: {log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def _served(command: list[str], folder: Path, home: Path, port: int) -> Iterator[Served]:
    """The server that ``command`` starts; nothing of the user's Jupyter settings is read."""
    environment = {
        **os.environ,
        "PYTHONPATH": KERNEL_PATH,
        "JUPYTER_PATH": str(ROOT / "widgets"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    log = home / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, cwd=home, env=environment, stdout=out, stderr=out, start_new_session=True
        )  # fmt: skip
        try:
            _wait_for(port, server, log)
            yield Served(folder, f"http://127.0.0.1:{port}/", log)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(5)


@contextlib.contextmanager
def voila(folder: Path, home: Path) -> Iterator[Served]:
    """Voila with our template, for the notebooks of ``folder``; what it writes goes to ``home``."""
    pytest.importorskip("voila")
    port = free_port()
    command = [sys.executable, "-m", "voila", str(folder), "--template=codesign", "--no-browser", f"--port={port}"]
    # other extensions of JupyterLab's look for parts that Voila's page does not have
    options = [
        "--Voila.ip=127.0.0.1",
        "--show_tracebacks=True",
        f"--VoilaConfiguration.extension_allowlist={EXTENSIONS}",
    ]
    with _served([*command, *options], folder, home, port) as served:
        yield served


@contextlib.contextmanager
def jupyterlab(folder: Path, home: Path) -> Iterator[Served]:
    """JupyterLab for the notebooks of ``folder``, open to all on this machine; what it writes goes to ``home``."""
    pytest.importorskip("jupyterlab")
    port = free_port()
    options = [
        f"--ServerApp.root_dir={folder}",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--allow-root",
    ]
    quiet = ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.expose_app_in_browser=True"]
    settings = home / "config" / "labconfig"
    settings.mkdir(parents=True)
    # no question whether to fetch news; widgets' state is saved with the notebook
    asks = '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}'
    (settings / "page_config.json").write_text(asks)
    saves = '{"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": true}}'
    (settings / "default_setting_overrides.json").write_text(saves)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", *options, *quiet]
    with _served(command, folder, home, port) as served:
        yield served


def run_all(tab: Any) -> None:
    """Run every cell of the notebook that JupyterLab shows, once its kernel is there."""
    tab.evaluate(
        """async () => {
          const context = window.jupyterapp.shell.currentWidget.sessionContext;
          await context.ready;
          await context.session.kernel.info;
          await window.jupyterapp.commands.execute("notebook:run-all-cells");
        }"""
    )


def loopback(url: str) -> bool:
    return urlparse(url).scheme in ("data", "blob") or urlparse(url).hostname == "127.0.0.1"


@contextlib.contextmanager
def browse(url: str, ready: str | None = None, width: int = 1280, timeout_s: float = 90) -> Iterator[Any]:
    """A tab of Playwright's at ``url``, once there is something at the selector ``ready``.

    At the end the test fails if the page logged an error, raised one, was refused a request or asked for anything that
    is not on this machine.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    problems: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=[*CHROMIUM])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("request", lambda r: None if loopback(r.url) else problems.append(f"leaves this machine: {r.url}"))
        tab.on("websocket", lambda w: None if loopback(w.url) else problems.append(f"leaves this machine: {w.url}"))
        tab.on("response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.goto(url, wait_until="commit", timeout=60_000)
        if ready is not None:
            try:
                tab.wait_for_selector(ready, timeout=timeout_s * 1000)
            except playwright.TimeoutError:
                pytest.fail(f"nothing at {ready}: {problems} {tab.inner_text('body')[-3000:]}")
        yield tab
        browser.close()
    assert not problems, problems


def serious_violations(tab: Any, root: str = ".ckx") -> list[str]:
    """What axe-core finds serious or critical in the elements at ``root``, as the tab shows them now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(tab, context=root, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def check_looks(tab: Any, name: str, root: str = ".ckx") -> None:
    """What holds for each widget on a page of Voila, at 1280 and 390 pixels, light and dark.

    Nothing is wider than the screen, axe-core finds no serious violation, on a phone what can be pressed is at least
    40 pixels high, and the keyboard reaches every control. With CODESIGN_SHOTS=folder the pictures are kept there.
    """
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_timeout(700)  # the theme follows after 200 ms, and figures are drawn again
            if folder := os.environ.get("CODESIGN_SHOTS"):
                tab.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
            serious = serious_violations(tab, root)
            assert not serious, f"at {width} pixels, {scheme}: {serious}"
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} px wide on a screen of {width}"
    low = tab.evaluate(_LOW, root)
    assert not low, f"lower than 40 pixels on a phone: {low}"
    unreached = tab.evaluate(_UNREACHED, root)
    assert not unreached, f"the keyboard does not reach {unreached}"
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.emulate_media(color_scheme="light")


_VISIBLE = """(root) => [...document.querySelectorAll(root)]
  .flatMap((at) => [...at.querySelectorAll(
    "button, select, input, textarea, summary, a[href], [role=slider], [role=tab], [role=option]")])
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && !e.closest(".js-plotly-plot"))"""
#: Visible controls under 40 pixels; a checkbox is pressed by its label, and Plotly's own drawing is not ours.
_LOW = f"""{_VISIBLE}
  .map((e) => (e.matches("[type=checkbox], [type=radio]") && e.closest("label")) || e)
  .filter((e) => e.getBoundingClientRect().height < 39.5)
  .map((e) => e.outerHTML.slice(0, 160))"""
#: Visible controls that cannot take the focus. One of a group that the arrow keys walk (roving tabindex) is enough.
_UNREACHED = f"""{_VISIBLE}
  .filter((e) => e.tabIndex < 0)
  .filter((e) => !e.parentElement.closest("[role=tablist], [role=listbox], [role=radiogroup], [role=grid]"))
  .map((e) => e.outerHTML.slice(0, 160))"""
