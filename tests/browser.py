"""Pages in a real browser: Voila and JupyterLab on loopback, and a tab in which nothing may go wrong unnoticed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
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
#: Milliseconds for what is there within three seconds on a machine that is not busy.
PATIENCE_MS = 60_000
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
    """A port that is free, and below those that the system hands out: none of the kernels, clusters and browsers that
    start meanwhile beside this test is given it before the server for which it is has come up."""
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path, timeout_s: float = 120) -> None:
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
          const { shell, restored } = window.jupyterapp;
          await restored;
          while (!shell.currentWidget?.sessionContext) await new Promise((done) => setTimeout(done, 50));
          const context = shell.currentWidget.sessionContext;
          await context.ready;
          await context.session.kernel.info;
          await window.jupyterapp.commands.execute("notebook:run-all-cells");
        }"""
    )


def loopback(url: str) -> bool:
    return urlparse(url).scheme in ("data", "blob") or urlparse(url).hostname == "127.0.0.1"


def program() -> str | None:
    """Chromium's own build without windows where it is installed: the same pages, for less work. Else Chromium."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


class _Chromium:
    """Playwright and one Chromium, which the tests of a process share: to start them takes more than most pages do."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._browser: Any = None
        self._loop: Any = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Any]:
        """The browser; it runs on a loop of Playwright's, which is no other test's outside of this context."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self._loop)
        try:
            if self._browser is None or not self._browser.is_connected():
                self._start()
            yield self._browser
        finally:
            asyncio._set_running_loop(before)

    def _start(self) -> None:
        playwright = pytest.importorskip("playwright.sync_api")
        self._stack.close()
        play = self._stack.enter_context(playwright.sync_playwright())
        self._loop = asyncio._get_running_loop()
        self._browser = play.chromium.launch(executable_path=program(), args=[*CHROMIUM])
        self._stack.callback(self._browser.close)

    def stop(self) -> None:
        """End both; the next test that wants a browser starts them again."""
        asyncio._set_running_loop(self._loop)
        try:
            self._stack.close()
        finally:
            asyncio._set_running_loop(None)
            self._browser = self._loop = None


chromium = _Chromium()


@contextlib.contextmanager
def new_tab(width: int = 1280) -> Iterator[Any]:
    """An empty tab of Playwright's in a profile of its own, of which nothing stays."""
    with chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": 900})
        try:
            context.set_default_timeout(PATIENCE_MS)
            tab = context.new_page()
            # left to itself, Playwright asks in every frame, which takes more than what is waited for
            tab.wait_for_function = functools.partial(tab.wait_for_function, polling=100)
            yield tab
        finally:
            context.close()


@contextlib.contextmanager
def browse(
    url: str, ready: str | None = None, width: int = 1280, timeout_s: float = 180, script: str = ""
) -> Iterator[Any]:
    """A tab of Playwright's at ``url``, once there is something at the selector ``ready``; ``script`` runs before it.

    At the end the test fails if the page logged an error, raised one, was refused a request or asked for anything that
    is not on this machine.
    """
    problems: list[str] = []
    with new_tab(width) as tab:
        tab.on("request", lambda r: None if loopback(r.url) else problems.append(f"leaves this machine: {r.url}"))
        tab.on("websocket", lambda w: None if loopback(w.url) else problems.append(f"leaves this machine: {w.url}"))
        tab.on("response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda e: problems.append(str(e)))
        if script:
            tab.add_init_script(script)
        tab.goto(url, wait_until="commit")
        if ready is not None:
            try:
                tab.wait_for_selector(ready, timeout=timeout_s * 1000)
            except pytest.importorskip("playwright.sync_api").TimeoutError:
                pytest.fail(f"nothing at {ready}: {problems} {tab.inner_text('body')[-3000:]}")
        yield tab
    assert not problems, problems


def serious_violations(tab: Any, root: str = ".ckx", rest_of: str = "") -> list[str]:
    """What axe-core finds serious or critical in the elements at ``root``, as the tab shows them now.

    With ``rest_of``, the name of a theme that was looked at whole, only the contrast of text in colours which the page
    did not have then: nearly all of the time of a run goes into contrast, and the same colours give the same.
    """
    axe = pytest.importorskip("axe_playwright_python.base")
    if tab.evaluate("() => typeof axe === 'undefined'"):
        tab.evaluate(axe.AXE_SCRIPT)
    found = tab.evaluate(_AXE, {"root": root, "rest": rest_of})
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def settle(tab: Any, dark: bool | None = None) -> None:
    """Wait until the page rests: its fonts are there, no widget waits for the kernel, nothing is on its way to another
    place or colour, and nothing in the document has changed in the last 0.4 s and the last frames.

    What is measured, or clicked by its coordinates, stays where it is from then on. With ``dark``, every widget wears
    the theme too.
    """
    moving = tab.evaluate(_SETTLED, {"dark": None if dark is None else str(dark).lower(), "patience": PATIENCE_MS})
    assert not moving, f"the page does not come to rest: {moving}"


def check_looks(tab: Any, name: str, root: str = ".ckx") -> None:
    """What holds for each widget on a page of Voila, at 1280 and 390 pixels, light and dark.

    Nothing is wider than the screen, axe-core finds no serious violation, on a phone what can be pressed is at least
    40 pixels high, and the keyboard reaches every control. axe-core sees each width and each theme whole; of the other
    two pairs what differs. With CODESIGN_SHOTS=folder the pictures are kept there.
    """
    looks = ((1280, "light", ""), (390, "dark", ""), (390, "light", "light"), (1280, "dark", "dark"))
    for width, scheme, rest_of in looks:
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        settle(tab, scheme == "dark")  # the theme follows after 200 ms, and figures are drawn again
        if folder := os.environ.get("CODESIGN_SHOTS"):
            tab.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
        serious = serious_violations(tab, root, rest_of)
        assert not serious, f"at {width} pixels, {scheme}: {serious}"
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} px wide on a screen of {width}"
        if width == 390:
            low = tab.evaluate(_LOW, root)
            assert not low, f"lower than 40 pixels on a phone: {low}"
            unreached = tab.evaluate(_UNREACHED, root)
            assert not unreached, f"the keyboard does not reach {unreached}"
    tab.emulate_media(color_scheme="light")


#: Gives the reason why the page does not rest; nothing, once it does. What goes on for ever is no way to another place.
_SETTLED = """async ({ dark, patience }) => {
  const end = performance.now() + patience;
  let quiet = { since: performance.now(), frames: 0 };
  const moved = () => { quiet = { since: performance.now(), frames: 0 }; };
  const watch = new MutationObserver(moved);
  watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  const reason = () => {
    if (document.readyState === "loading" || document.fonts.status !== "loaded") return "it loads";
    if (document.querySelector(".ckx-waiting")) return "a widget waits for the kernel";
    const page = [...document.querySelectorAll(".ckx")];
    if (dark !== null && page.some((one) => one.dataset.dark !== dark)) return "the theme";
    const runs = (one) => one.playState === "running" && Number.isFinite(one.effect.getComputedTiming().endTime);
    return document.getAnimations().some(runs) ? "a transition" : "";
  };
  let why = "";
  while (performance.now() - quiet.since < 400 || quiet.frames < 5) {
    if (performance.now() > end) return why || "it changes again and again";
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    quiet.frames += 1;
    why = reason();
    if (why) moved();
  }
  watch.disconnect();
  return "";
}"""
#: Runs axe-core, and remembers in the document which colours of text it has seen, by theme. A colour stands for its
#: size, its weight, how opaque it is and all that is painted below it by elements around it.
_AXE = """async ({ root, rest }) => {
  const seen = (globalThis.ckxSeen ??= {});
  const style = new Map();
  const painted = (e) => {
    if (!e) return "";
    if (!style.has(e)) {
      const { backgroundColor, backgroundImage, opacity, position } = getComputedStyle(e);
      style.set(e, `${painted(e.parentElement)}|${[backgroundColor, backgroundImage, opacity, position]}`);
    }
    return style.get(e);
  };
  const look = (e) => {
    const { color, fill, fontSize, fontWeight, textShadow } = getComputedStyle(e);
    return [color, fill, fontSize, fontWeight, textShadow, painted(e)].join();
  };
  const texts = [...document.querySelectorAll(root)].flatMap((at) => [...at.querySelectorAll("*")]).filter((e) =>
    ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.matches("input, select, textarea")) &&
    e.checkVisibility({ visibilityProperty: true, opacityProperty: true }));
  let context = root;
  const options = { resultTypes: ["violations"] };
  if (rest) {
    context = texts.filter((e) => !seen[rest].has(look(e)));
    if (!context.length) return [];
    options.runOnly = { type: "rule", values: ["color-contrast"] };
  } else {
    const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    seen[theme] = new Set(texts.map(look));
  }
  return (await axe.run(context, options)).violations;
}"""
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
