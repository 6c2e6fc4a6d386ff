"""Makes the pictures of the cards in the gallery: ``python docs/app_pictures.py [NAME ...]`` -> voila_apps/public/.

Each is a window onto the real app, served by Voila and drawn by Chromium; see tests/browser.py for what these need. The
console looks at a gateway, and is served by one, in which somebody has another app open.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import browse, voila  # noqa: E402
from gateway import gateway  # noqa: E402

#: App -> (what is there when it is ready, where to scroll to).
APPS = {
    "profiler": (".ckx-models .js-plotly-plot .main-svg", ".ckx-tiles"),
    "explorer": (".ckx .ck-plot .main-svg", ".ckx-figures"),
    "rtl_studio": (".ckx-rtl .ckx-outline, .ckx-rtl h3", ".ckx-settings"),
    "co_optimise": (".ckx-monitor .js-plotly-plot .main-svg", ".ckx-monitor .ckx-axes"),
    "classroom": (".ckx-pe", ".ckx-stage"),
}
#: Milliseconds after which the console's lines have several points.
LOOKS_MS = 20_000
CONSOLE, CONSOLE_READY, CONSOLE_TOP = "console", ".ckx-console .ckx-card", ".ckx-console"
#: Of the window (pixels), and of the picture, whose colours are few.
WINDOW, SIZE, COLOURS, BYTES = (1240, 763), (780, 480), 128, 60_000


def picture(tab: Any, ready: str, top: str) -> bytes:
    """A PNG of the window, its top at the element ``top``."""
    tab.set_viewport_size({"width": WINDOW[0], "height": WINDOW[1]})
    tab.wait_for_selector(ready)
    tab.wait_for_timeout(1500)
    there = "document.querySelector(at).getBoundingClientRect().top"
    tab.evaluate(f"(at) => window.scrollTo(0, {there} + scrollY - 12)", top)
    tab.wait_for_timeout(500)
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    for colours in (COLOURS, 64, 32, 16):
        written = io.BytesIO()
        shot.quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() <= BYTES:
            break
    return written.getvalue()


def main(names: list[str]) -> None:
    folder = ROOT / "voila_apps" / "public"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, voila(ROOT / "voila_apps", Path(home)) as served:
        for name in names or APPS:
            if name == CONSOLE:
                continue
            ready, top = APPS[name]
            with browse(f"{served.url}voila/render/{name}.ipynb", ready) as tab:
                (folder / f"{name}.png").write_bytes(picture(tab, ready, top))
    if CONSOLE in (names or [CONSOLE]):
        (folder / f"{CONSOLE}.png").write_bytes(console())


def console() -> bytes:
    """The picture of a gateway's console while another app is open."""
    with (
        tempfile.TemporaryDirectory() as home,
        gateway(Path(home), apps_dir=ROOT / "voila_apps", warm_kernels=0) as gate,
        browse(gate.sign_in) as tab,
    ):
        beside = tab.context.browser.new_context()
        beside.add_cookies([{"name": n, "value": v, "url": gate.url} for n, v in gate.visitor("visitor").items()])
        other = beside.new_page()
        other.goto(f"{gate.url}apps/classroom", timeout=300_000)
        other.wait_for_selector(APPS["classroom"][0], timeout=300_000)
        tab.goto(f"{gate.url}apps/{CONSOLE}", timeout=300_000)
        tab.wait_for_selector(CONSOLE_READY, timeout=300_000)
        tab.wait_for_timeout(LOOKS_MS)
        shot = picture(tab, CONSOLE_READY, CONSOLE_TOP)
        beside.close()
    return shot


if __name__ == "__main__":
    main(sys.argv[1:])
