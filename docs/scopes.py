"""The tables of ``docs/scopes.md``, made of the tables that the checks themselves use, and of the apps' scope files.

``python docs/scopes.py`` brings the file up to date; ``--check`` only says whether it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from codesign_kernel.scopes import CAPABILITIES, LIMITS, Scope, read_scope
from codesign_kernel.session.asked import families
from codesign_kernel.session.scoped import RULES

PAGE = Path(__file__).with_suffix(".md")
APPS = Path(__file__).parents[1] / "voila_apps"
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
#: By whom a limit is enforced, in words.
BY = {
    "session": "the session, before the work starts",
    "system": "the operating system",
    "gateway": "the gateway, from outside",
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(cell or '-' for cell in cells)} |" for cells in lines) + "\n"


def size(value: int, unit: str) -> str:
    """``16 MiB``; other numbers with their unit, or without where it says nothing more than the row."""
    if unit != "byte":
        return f"{value:,}" + (f" {unit}" if unit in ("s", "MAC") else "")
    for name, bytes_each in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value and value % bytes_each == 0:
            return f"{value // bytes_each} {name}"
    return f"{value:,} byte"


def capabilities() -> str:
    return markdown(["capability", "allows to"], [(f"`{name}`", what) for name, what in CAPABILITIES.items()])


def limits() -> str:
    rows = [
        (f"`{name}`", one.what, BY[one.by], size(one.default, one.unit), size(one.most, one.unit))
        for name, one in LIMITS.items()
    ]
    return markdown(["limit", "of what", "enforced by", "default", "at most"], rows)


def functions() -> str:
    rows = [
        (f"`{name}`", code(rule.capabilities) or "those of its steps", code(rule.limits))
        for name, rule in sorted(RULES.items())
    ]
    return markdown(["function", "capabilities", "looks at"], rows)


def code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def templates() -> str:
    told = {"generator": "the accelerator that `generate_rtl` builds", "spatial": "a `SpatialArray`"}
    rows = []
    for word in families():
        family, _, flow = word.partition(":")
        rows.append((f"`{word}`", told[family] + (f", dataflow `{flow}`" if flow else "")))
    return markdown(["template", "is"], [*rows, ("a name of the catalogue", "that published machine, unchanged")])


def scopes() -> list[Scope]:
    return [read_scope(path) for path in sorted(APPS.glob("*.toml"))]


def apps() -> str:
    rows = [
        (f"**{one.title}** (`{one.name}`)", one.open_to, code(sorted(one.capabilities)), own_limits(one), one.network)
        for one in scopes()
    ]
    return markdown(["app", "open to", "capabilities", "limits of its own", "network"], rows)


def own_limits(scope: Scope) -> str:
    """Those that are not the default, and the models and templates where not all are allowed."""
    told = [
        f"`{name}` {size(value, LIMITS[name].unit)}"
        for name, value in scope.limits.items()
        if value != LIMITS[name].default
    ]
    for what, words in (("models", scope.models), ("templates", scope.templates)):
        if "*" not in words:
            told.append(f"{what}: {', '.join(words) or 'none'}")
    return "; ".join(told)


TABLES = {
    "capabilities": capabilities, "limits": limits, "functions": functions, "templates": templates, "apps": apps,
}  # fmt: skip


def renewed(text: str) -> str:
    """The page with all its tables made anew."""
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is out of date")
    asked = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    if asked.check:
        print("up to date" if after == before else "out of date: run python docs/scopes.py")
        return int(after != before)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
