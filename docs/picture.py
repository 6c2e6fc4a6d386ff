"""The picture of the README: the front of the demo's report, as Chromium shows it. ``make picture`` runs this."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(report: Path, picture: Path) -> None:
    """Screenshot the figure of the front in ``report`` into ``picture``."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("the picture needs Chromium; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1180, "height": 900}, device_scale_factor=1.5)
        page.goto(report.resolve().as_uri())
        figure = page.locator("#front figure").first
        figure.locator(".main-svg").first.wait_for()
        page.wait_for_timeout(1000)  # plotly lays its labels out once more
        figure.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
