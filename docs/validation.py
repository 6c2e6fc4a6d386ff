"""The tables of ``docs/validation.md``, computed now and put between its marks.

``python docs/validation.py`` brings the file up to date; ``--check`` only says whether it is; ``--picture`` makes the
plot anew too (needs Chromium).
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from codesign_kernel.figures import page, plot_parity
from codesign_kernel.session import validation
from codesign_kernel.session.validation import Comparison, Row
from codesign_kernel.units import three_digits

PAGE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_suffix(".png")
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def share(value: float) -> str:
    """``+1.7 %``; ``0`` only where it is."""
    if value == 0:
        return "0"
    return f"{100 * value:+.1f} %" if abs(value) >= 0.0005 else "under 0.05 %"


def number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "cycle" else three_digits(value)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose columns from ``words`` on are numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)) + "\n"


def spread(rows: Sequence[Row]) -> tuple[str, str, str]:
    """Cases, median and worst difference."""
    worst = max(rows, key=lambda row: max(row.ratio, 1 / row.ratio))
    median = statistics.median(abs(row.ratio - 1) for row in rows)
    return str(len(rows)), share(median).lstrip("+"), share(worst.ratio - 1)


def summary(comparisons: Sequence[Comparison]) -> str:
    rows = [
        (one.peer, one.kind, one.quantity, *spread(one.rows), f"{one.spearman:.4f}" if one.spearman else "-")
        for one in comparisons
    ]
    return markdown(["peer", "their figures", "what", "cases", "median", "worst", "Spearman"], rows, 3)


def cases(comparisons: Sequence[Comparison]) -> str:
    rows = [
        (
            one.quantity,
            row.name,
            number(row.ours, row.unit),
            number(row.theirs, row.unit),
            row.unit,
            share(row.ratio - 1),
        )
        for one in comparisons
        for row in one.rows
    ]
    return markdown(["what", "case", "here", "theirs", "unit", "difference"], rows, 2)


def scalesim(one: Comparison) -> str:
    """By dataflow, which the cases' names end with before the array."""
    names = {"ws": "weight stationary", "os": "output stationary", "is": "input stationary"}
    rows = []
    for flow, told in names.items():
        some = [row for row in one.rows if row.name.split()[-2] == flow]
        least, most = (f(row.theirs for row in some) for f in (min, max))
        equal = sum(row.ours == row.theirs for row in some)
        rows.append((told, str(len(some)), f"{least:,.0f} to {most:,.0f}", str(equal)))
    return markdown(["dataflow", "cases", "cycles", "equal"], rows)


def gemmini(one: Comparison) -> str:
    layers = validation.record("gemmini")["layers"]
    rows = []
    for kind, count in layers.items():
        some = [row for row in one.rows if row.name == kind]
        bias = statistics.median(row.ratio for row in some) - 1
        rows.append((kind, str(count), *spread(some), share(bias)))
    return markdown(["layers", "number", "cases", "median", "worst", "middle, with sign"], rows)


def zigzag() -> str:
    rows = [
        (
            *row.name.rsplit(", ", 1),
            *(f"{value:,.0f}" for value in (row.ours, row.theirs)),
            share(row.ratio - 1),
            *(f"{value / 1e6:.2f}" for value in bits),
        )
        for row, bits in validation.zigzag_cases()
    ]
    head = ["layer", "machine", "cycles here", "ZigZag's", "difference", "Mbit here", "ZigZag's"]
    return markdown(head, rows, 2)


def tables(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Every table of the page, by name."""
    of = {
        name: [one for one in comparisons if one.peer.startswith(name)] for name in ("SCALE", "Gemmini", "NVDLA", "Eye")
    }
    return {
        "summary": summary(comparisons),
        "scalesim": scalesim(of["SCALE"][0]),
        "gemmini": gemmini(of["Gemmini"][0]),
        "nvdla": cases(of["NVDLA"]),
        "eyeriss": cases(of["Eye"]),
        "zigzag": zigzag(),
    }


def updated(text: str, found: dict[str, str]) -> str:
    """``text`` with its tables replaced.

    Raises:
        KeyError: the page has a mark for a table that there is not.
    """
    return MARKED.sub(lambda mark: f"{mark[1]}{found[mark[2]]}{mark[3]}", text)


def picture(comparisons: Sequence[Comparison], path: Path) -> None:
    """The parity plot as Chromium shows it."""
    from playwright.sync_api import sync_playwright

    section = page.Section("parity", "Parity", page.figure(plot_parity(comparisons), "parity"))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "parity.html"
        file.write_text(page.document("Validation", "Validation", "", "", [section], ""), encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        view = browser.new_page(viewport={"width": 1180, "height": 900}, device_scale_factor=1.5)
        view.goto(file.as_uri())
        figure = view.locator("#parity figure").first
        figure.locator(".main-svg").first.wait_for()
        view.wait_for_timeout(1000)  # plotly lays its labels out once more
        figure.screenshot(path=path)
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; the exit status is 1 where figures moved")
    parser.add_argument("--picture", action="store_true", help=f"make {PICTURE.name} too")
    options = parser.parse_args()
    comparisons = validation.compare()
    old = PAGE.read_text(encoding="utf-8")
    new = updated(old, tables(comparisons))
    if options.check:
        print(f"{PAGE.name} is {'up to date' if new == old else 'out of date; run python docs/validation.py'}")
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    if options.picture:
        picture(comparisons, PICTURE)
    print(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
