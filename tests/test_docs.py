"""The documents are whole: what a merge of two of them leaves behind is seen here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codesign_kernel.cli.commands import COMMANDS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_headings_stand_apart_and_code_ends(path: Path) -> None:
    fenced, before = False, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        assert fenced or not before.startswith("#") or not line, f"{path.name}:{number}: no empty line below a heading"
        assert fenced or not line.startswith("#") or not before, f"{path.name}:{number}: no empty line above a heading"
        before = "" if fenced or line.startswith("```") else line
    assert not fenced


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_documents_point_to_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"[a-z]+:", link)]
    named = re.findall(r"(?:benchmarks|notebooks|tests)/\w+\.(?:py|ipynb)", text)
    lost = [link for link in links if not (path.parent / link).exists()]
    assert not lost + [name for name in named if not (ROOT / name).exists()]


def test_the_readme_has_a_row_for_each_thing_and_each_command_once() -> None:
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    wanted = [row.split("|")[1].strip() for row in rows]
    assert len(wanted) == len(set(wanted))
    (commands,) = (row for row in rows if row.startswith("| the command line"))
    assert set(re.findall(r"`([a-z-]+)`", commands)) - {"--json"} == set(COMMANDS)
    linked = {Path(name).name for row in rows for name in re.findall(r"\]\((docs/\w+\.md)\)", row)}
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")}
