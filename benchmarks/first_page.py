"""How long a visitor waits for an app whose kernel is warm: from the click to the first view that answers.

A gateway as ``codesign serve`` starts it, one page after the other in headless Chromium, each in a fresh profile
(nothing cached) and again in one that has been here before. A page counts as interactive when its widgets are drawn,
its kernel is connected and the first control can be used.

    python benchmarks/first_page.py [--apps DIR] [--app NAME ...] [--times 10]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, sync_playwright

ROOT = Path(__file__).parent.parent
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
#: A control of a widget that is drawn and can be used. Widgets are drawn from the kernel's state, so it is connected.
READY = """() => {
  const cells = document.getElementById("rendered_cells");
  if (!cells || cells.style.display === "none") return false;
  const all = "button, select, input, textarea, summary, [role=slider], [role=tab]";
  return [...cells.querySelectorAll(all)].some((e) => e.checkVisibility() && !e.disabled);
}"""
TARGET_S = 3.0


def serve(apps: Path, folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A gateway with a warm kernel for each app."""
    (folder / "gateway.toml").write_text(
        'max_kernels = 16\nrates = { render = "1000/minute", static = "100000/minute" }\n'
    )
    command = [sys.executable, "-m", "codesign_kernel.cli", "serve", "--json", "--port", "0", "--apps", str(apps)]
    command += ["--data", str(folder / "data"), "--config", str(folder / "gateway.toml")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("}"):
            return process, json.loads("".join(lines))
    raise SystemExit(f"the gateway does not start: {(folder / 'log').read_text()[-3000:]}")


def warm(context: BrowserContext, url: str, app: str, patience_s: float = 180) -> None:
    """Wait until a kernel of the app waits for a visitor."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        kernels = context.request.get(f"{url}api/v1/admin/kernels").json()["kernels"]
        if any(one["app"] == app and one["state"] == "warm" and one["ready"] for one in kernels):
            return
        time.sleep(0.5)
    raise SystemExit(f"no kernel of {app} became warm")


def once(browser: Browser, told: dict[str, Any], app: str) -> tuple[float, float]:
    """Seconds to the first view, with nothing cached and then with the page's files in the browser's cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(told["login"])
    times = []
    for _ in range(2):
        warm(context, told["url"], app)
        started = time.perf_counter()
        tab.goto(f"{told['url']}apps/{app}", wait_until="commit")
        tab.wait_for_function(READY, timeout=120_000)
        times.append(time.perf_counter() - started)
        tab.goto("about:blank")
    context.close()
    return times[0], times[1]


def main() -> None:
    """Print a table: the median, the fastest and the slowest of each app."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--apps", type=Path, default=ROOT / "voila_apps")
    parser.add_argument("--app", action="append", help="only this one; again for more")
    parser.add_argument("--times", type=int, default=10)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="first-page-"))
    process, told = serve(args.apps, folder)
    slowest = 0.0
    try:
        print(f"{'app':<14}{'first visit (s)':>22}{'later visit (s)':>22}")
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=[*CHROMIUM])
            for app in args.app or told["apps"]:
                first, later = zip(*(once(browser, told, app) for _ in range(args.times)), strict=True)
                cells = (f"{statistics.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" for t in (first, later))
                print(f"{app:<14}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
                slowest = max(slowest, statistics.median(first))
            browser.close()
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)
    print(f"slowest median {slowest:.2f} s, wanted under {TARGET_S:g} s: {'met' if slowest < TARGET_S else 'NOT MET'}")


if __name__ == "__main__":
    main()
