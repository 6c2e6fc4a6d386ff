"""How soon the widgets answer, in headless Chromium on a page of Voila: from an input to the picture that follows.

Timed in the page itself, from just before the input event is sent until the frame after the one in which the picture
was drawn has begun, so that it was painted: the slider of the roofline; a box drawn in the scatter of the design
explorer, and a range on an axis of its parallel coordinates, with all 100,800 designs drawn; and a parameter under
which the kernel evaluates all of these again. Last comes the first figure of the quickstart: the seconds from asking
for a kernel to that figure, the cells before it included. There is no graphics card, and kernel, server, page and
painting share the cores: times mean something where nothing else runs; the load is printed.

The exit status is 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import codesign_kernel as ck
from codesign_kernel.units import quantity

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from browser import Served, browse, voila  # noqa: E402 - from the folder named above

ROW = "{:<46} {:>5} {:>9} {:>9} {:>9}  {}"
#: The first figure of the quickstart (s).
FIRST_S = 20.0
NOTEBOOK = ROOT / "notebooks" / "00_quickstart.ipynb"

ROOFLINE = """
import codesign_kernel as ck
from codesign_kernel.accelerator import catalog
from codesign_widgets import Roofline
Roofline({"MobileNetV2": ck.profile("mobilenet_v2").workload}, {"Edge TPU": catalog("edge_tpu")}, ck.evaluate)
"""
EXPLORER = """
import torch
import codesign_kernel as ck
from codesign_kernel.optimize import DigitsCNN
from codesign_widgets import CONDITIONS, CONTROLS, DesignExplorer
torch.set_num_threads(1)
work = ck.profile(DigitsCNN(), torch.zeros(1, 1, 8, 8), name="digits CNN").workload
choices = dict(
    rows=(2, 4, 8, 16, 32, 64), cols=(2, 4, 8, 16, 32, 64), activation_kib=(4, 8, 16, 32, 64, 128, 256, 512),
    weight_kib=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192), accumulator_kib=(0.5, 1, 2, 4, 8, 16, 32),
    instruction_kib=(4, 8, 16, 32, 64))
def under(conditions):
    return ck.sweep(work, ck.DesignSpace(**choices, **conditions))
conditions = [control for control in CONTROLS if control.name in CONDITIONS]
designs = under({control.name: control.default for control in conditions})
DesignExplorer(designs, knee=ck.knee, evaluate=under, controls=conditions)
"""

#: In the page: ms from an input to the frame after the picture that done() waits for.
TIMED = """
globalThis.timedInput = async (send, done) => {
  const frame = () => new Promise((then) => requestAnimationFrame(then));
  await frame();
  const start = performance.now();
  send();
  do await frame(); while (!done());
  await frame();
  return performance.now() - start;
};
globalThis.slide = (label, step) => {
  const slider = document.querySelector(`input[type=range][aria-label="${label}"]`);
  slider.value = String(step);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
};
globalThis.point = (element, type, x, y) => {
  const frame = element.getBoundingClientRect();
  const at = { clientX: frame.left + x * frame.width, clientY: frame.top + y * frame.height };
  const buttons = type === "pointerup" ? 0 : 1;
  element.dispatchEvent(new PointerEvent(type, { pointerId: 1, bubbles: true, buttons, ...at }));
};
// a synthetic pointer cannot be captured
Element.prototype.setPointerCapture = () => {};
globalThis.explorer = () => document.querySelector(".ckx-explorer").dataset;
"there";
"""
ROOF = """async (steps) => {
  const roof = () => document.querySelector(".ckx-roof").dataset.bandwidth;
  const found = [];
  for (const step of steps) {
    const was = roof();
    found.push(await timedInput(() => slide("External bandwidth", step), () => roof() !== was));
    await new Promise((then) => setTimeout(then, 60));
  }
  return found;
}"""
BRUSH = """async ([place, moves]) => {
  const box = document.querySelector(place);
  const found = [];
  point(box, "pointerdown", ...moves[0]);
  for (const [x, y] of moves.slice(1)) {
    const was = explorer().drawn;
    found.push(await timedInput(() => point(box, "pointermove", x, y), () => explorer().drawn !== was));
  }
  point(box, "pointerup", ...moves.at(-1));
  return found;
}"""
EVALUATE = """async ([label, steps]) => {
  const found = [];
  for (const step of steps) {
    const was = explorer().version;
    found.push(await timedInput(() => slide(label, step), () => explorer().version !== was));
    await new Promise((then) => setTimeout(then, 700));
  }
  return found;
}"""


class Timed(NamedTuple):
    """What is measured: its name, the limit of its 95th percentile (ms), and what gives its milliseconds in a page."""

    name: str
    limit_ms: float
    run: Callable[[Any, int], list[float]]


def roof(tab: Any, runs: int) -> list[float]:
    """The slider of the external bandwidth, to and fro."""
    return list(tab.evaluate(ROOF, [1 + n % 4 for n in range(runs)]))


def box(tab: Any, runs: int) -> list[float]:
    """A box in the scatter that grows and shrinks."""
    ends = [(0.15 + 0.75 * abs((n % 40) / 20 - 1), 0.1 + 0.7 * abs((n % 26) / 13 - 1)) for n in range(runs)]
    return list(tab.evaluate(BRUSH, [".ckx-scatter", [(0.12, 0.85), *ends]]))


def axis(tab: Any, runs: int) -> list[float]:
    """A range on an axis of the parallel coordinates, to and fro, within the box that was drawn."""
    tab.get_by_role("button", name="Clear all limits").click()
    box, handle = (tab.locator(one).bounding_box() for one in (".ckx-lanes", ".ckx-handle[aria-label='Most area']"))
    x = (handle["x"] + handle["width"] / 2 - box["x"]) / box["width"]
    ends = [(x, 0.3 + 0.5 * abs((n % 40) / 20 - 1)) for n in range(runs)]
    return list(tab.evaluate(BRUSH, [".ckx-lanes", [(x, 0.85), *ends]]))


def evaluated(tab: Any, runs: int) -> list[float]:
    """The slider of the external bandwidth: the kernel evaluates all designs, the page draws them."""
    clear = tab.get_by_role("button", name="Clear all limits")
    if clear.is_enabled():
        clear.click()
    tab.wait_for_timeout(1000)
    return list(tab.evaluate(EVALUATE, ["External bandwidth", [(3 + n) % 6 for n in range(max(8, runs // 2))]]))


#: Page -> (its code, what says that it is there, what is measured on it).
PAGES: dict[str, tuple[str, str, tuple[Timed, ...]]] = {
    "roofline": (ROOFLINE, ".ckx-roofline .ckx-roof", (Timed("roofline: a slider moves the roof", 100, roof),)),
    "explorer": (
        EXPLORER,
        ".ckx-explorer[data-drawn]",
        (
            Timed("explorer, 100,800 designs: box in the scatter", 150, box),
            Timed("explorer, 100,800 designs: range on an axis", 150, axis),
            Timed("explorer: all 100,800 designs evaluated again", 400, evaluated),
        ),
    ),
}


def timed_page(served: Served, name: str, runs: int) -> bool:
    """Print the rows of one page; whether all limits are kept."""
    code, ready, measures = PAGES[name]
    kept = True
    with browse(served.page(name, code), ready) as tab:
        tab.wait_for_timeout(2000)
        tab.evaluate(TIMED)
        for what in measures:
            what.run(tab, 8)  # the first ones compile
            found = what.run(tab, runs)
            middle, late = statistics.median(found), float(np.percentile(found, 95))
            kept &= late < what.limit_ms
            told = [quantity(ms * 1e-3, "s") for ms in (middle, late, what.limit_ms)]
            print(ROW.format(what.name, len(found), *told, "kept" if late < what.limit_ms else "MISSED"), flush=True)
    return kept


def first_figure() -> bool:
    """Print how long the quickstart takes from a cold kernel to its first figure; whether that is within the limit."""
    from jupyter_client.manager import start_new_kernel

    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    manager, client = start_new_kernel(env=environment, cwd=str(NOTEBOOK.parent))
    seconds = 0.0
    try:
        for cell in cells:
            if cell["cell_type"] == "code" and not seconds:
                seconds = _figure_in(client, "".join(cell["source"]), start)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if not seconds:
        raise SystemExit(f"{NOTEBOOK.name} shows no figure")
    told = [quantity(seconds, "s"), "", quantity(FIRST_S, "s")]
    print(ROW.format("quickstart: first figure of a cold kernel", 1, *told, "kept" if seconds < FIRST_S else "MISSED"))
    return seconds < FIRST_S


def _figure_in(client: Any, code: str, start: float) -> float:
    """Run a cell; the seconds since ``start`` at which it showed a figure, 0 without."""
    seconds: list[float] = []

    def heard(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "error":
            raise SystemExit(f"the quickstart failed: {content['ename']}: {content['evalue']}")
        kinds = content.get("data", {}) if message["msg_type"] in ("display_data", "execute_result") else {}
        if "application/vnd.plotly.v1+json" in kinds:
            seconds.append(time.perf_counter() - start)

    client.execute_interactive(code, timeout=300, output_hook=heard)
    return seconds[0] if seconds else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "pages", nargs="*", help=f"what to measure, of {', '.join([*PAGES, 'quickstart'])}; all without"
    )
    parser.add_argument("--runs", type=int, default=60, help="inputs of each kind")
    arguments = parser.parse_args()
    unknown = sorted({*arguments.pages} - {*PAGES, "quickstart"})
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}")
    wanted = arguments.pages or [*PAGES, "quickstart"]
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; "
        f"codesign {ck.__version__}; headless Chromium without a graphics card\n"
    )
    print(ROW.format("from the input to the painted picture", "runs", "p50", "p95", "limit", ""))
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "pages").mkdir()
        with voila(home / "pages", home) as served:
            kept += [timed_page(served, name, arguments.runs) for name in PAGES if name in wanted]
    if "quickstart" in wanted:
        kept.append(first_figure())
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
