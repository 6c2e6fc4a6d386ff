"""The labs can be taught: full marks for the solution, none for the empty version, and a mistake costs its own points.

All of it goes through nbgrader's own converters, a course directory and a gradebook; ``labs_harness.py`` says how.
"""

from __future__ import annotations

import copy
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from labs_harness import LABS, Graded, Grader, Grades, Wrong, filled, without_asides

pytest.importorskip("nbgrader", reason="could not import nbgrader")

NAMES = sorted(path.stem for path in LABS.glob("lab*.ipynb"))
POINTS = 20


@cache
def notebook(lab: str) -> Any:
    """The instructor's version of ``lab``."""
    return json.loads((LABS / f"{lab}.ipynb").read_text(encoding="utf-8"))


def cells(lab: str, kind: str) -> dict[str, Any]:
    """{grade_id: cell} of the instructor's cells whose metadata say yes to ``kind``: ``solution`` or ``grade``."""
    about = [(cell["metadata"].get("nbgrader", {}), cell) for cell in notebook(lab)["cells"]]
    return {meta["grade_id"]: cell for meta, cell in about if meta.get(kind)}


def points(lab: str) -> dict[str, int]:
    """{grade_id of a test cell: points}."""
    return {name: cell["metadata"]["nbgrader"]["points"] for name, cell in cells(lab, "grade").items()}


def solutions(lab: str) -> dict[str, str]:
    return {name: "".join(cell["source"]) for name, cell in cells(lab, "solution").items()}


def wrong_answers(lab: str) -> tuple[Wrong, ...]:
    found: tuple[Wrong, ...] = importlib.import_module(f"labs_answers.{lab.split('_')[0]}").WRONG
    return found


def marked(source: str, kind: str) -> list[str]:
    """What stands between the marks of ``kind``; at least one part."""
    found = re.findall(f"### BEGIN {kind}\n(.*?)### END {kind}", source, re.DOTALL)
    assert found, f"no {kind}"
    return found


class Room:
    """One course directory and one grader for all labs; each lab is graded once, when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grader = Grader()
        self.done: dict[str, Grades] = {}
        self.releases: dict[str, Any] = {}

    def release(self, lab: str) -> Any:
        if lab not in self.releases:
            self.releases[lab] = self.grader.release(self.folder, lab)
        return self.releases[lab]

    def grades(self, lab: str) -> Grades:
        if lab not in self.done:
            empty, right = self.release(lab), solutions(lab)
            submissions = {"solution": filled(empty, right), "empty": without_asides(filled(empty, {}))}
            for wrong in wrong_answers(lab):
                submissions[wrong.name] = without_asides(filled(empty, {**right, **wrong.cells}))
            self.done[lab] = self.grader.grade(self.folder, lab, submissions)
        return self.done[lab]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    found = Room(tmp_path_factory.mktemp("course"))
    yield found
    found.grader.close()


def test_the_course_has_its_labs() -> None:
    assert NAMES[:1] == ["lab1_counting"]
    assert [name.split("_")[0] for name in NAMES] == [f"lab{number}" for number in range(1, len(NAMES) + 1)]


@pytest.mark.parametrize("lab", NAMES)
def test_a_lab_is_laid_out_as_the_course_wants(lab: str) -> None:
    """What the rules of labs_harness.py say of cells, points and wrong answers."""
    assert sum(points(lab).values()) == POINTS
    exercises = set(cells(lab, "solution"))
    assert 4 <= len(exercises) <= 7
    assert set(points(lab)) == {f"test_{name}" for name in exercises}
    assert "challenge" in exercises
    for name, cell in cells(lab, "grade").items():
        source = "".join(cell["source"])
        hidden = "".join(marked(source, "HIDDEN TESTS"))
        visible = "".join(re.split("### (?:BEGIN|END) HIDDEN TESTS", source)[::2])
        assert "assert" in visible or "check(" in visible, f"{name} has no self-check"
        assert "assert" in hidden or "check(" in hidden, f"{name} has no hidden test"
    for cell in notebook(lab)["cells"]:
        if "nbgrader" in cell["metadata"]:
            assert "codesign_widgets" not in "".join(cell["source"]), "a widget stands in no graded cell"
    text = "\n".join("".join(cell["source"]) for cell in notebook(lab)["cells"] if cell["cell_type"] == "markdown")
    assert text.count("<details>") >= len(exercises) - 1, "exercises have hints"
    assert text.count("<details>") == text.count("</details>")
    wrongs = wrong_answers(lab)
    assert len(wrongs) >= 3
    for wrong in wrongs:
        assert set(wrong.cells) <= exercises
        assert wrong.lost
        assert set(wrong.told) == set(wrong.lost) <= set(points(lab))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("lab", NAMES)
def test_the_solution_gets_full_marks(lab: str, room: Room) -> None:
    graded = room.grades(lab)["solution"]
    assert not graded.messages
    assert not graded.others, "a cell without points fails, or writes to stderr"
    assert graded.cells == points(lab)
    assert graded.score == POINTS


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("lab", NAMES)
def test_the_empty_version_gets_nothing(lab: str, room: Room) -> None:
    graded = room.grades(lab)["empty"]
    assert graded.score == 0
    assert set(graded.messages) == set(points(lab))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("lab", NAMES)
def test_a_mistake_costs_its_own_points_and_is_explained(lab: str, room: Room) -> None:
    for wrong in wrong_answers(lab):
        graded: Graded = room.grades(lab)[wrong.name]
        kept = {name: 0 if name in wrong.lost else value for name, value in points(lab).items()}
        assert graded.cells == kept, (wrong.name, graded.messages)
        for name, words in wrong.told.items():
            assert words in graded.messages[name], (wrong.name, graded.messages[name])


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("lab", NAMES)
def test_students_see_no_answer(lab: str, room: Room) -> None:
    """Neither marks nor any telling line of a solution or a hidden test."""
    shown = "\n".join("".join(cell["source"]) for cell in room.release(lab)["cells"])
    assert "BEGIN SOLUTION" not in shown
    assert "HIDDEN" not in shown
    assert shown.count("raise NotImplementedError") == len(cells(lab, "solution"))
    lines = {line.strip() for line in shown.splitlines()}
    for cell in [*cells(lab, "solution").values(), *cells(lab, "grade").values()]:
        source = "".join(cell["source"])
        kind = "SOLUTION" if "BEGIN SOLUTION" in source else "HIDDEN TESTS"
        secret = "\n".join(marked(source, kind))
        told = {line.strip() for line in secret.splitlines() if len(line.strip()) >= 16} & lines
        assert not {line for line in told if not line.startswith(("from ", "import "))}


def damaged(release: Any, right: dict[str, str], kinds: dict[str, str]) -> str:
    """A submission as students hand it in: ``kinds`` says what befell the cells of which exercise."""
    broken = {"syntax error": "def :", "endless": "import time\nwhile True:\n    time.sleep(0.1)"}
    notebook = json.loads(filled(release, {**right, **{name: broken.get(kind, "") for name, kind in kinds.items()}}))
    cells = []
    for cell in notebook["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        kind = kinds.get(grade_id.removeprefix("test_"), "")
        part = "test" if grade_id.startswith("test_") else "answer"
        if kind and kind not in broken and part == "answer":
            cell["source"] = right[grade_id]
        if kind == f"{part} edited":
            cell["source"] = "pass"
        if kind not in (f"{part} deleted", "both deleted"):
            cells.append(cell)
        if kind == f"{part} twice":
            cells.append({**copy.deepcopy(cell), "id": f"again-{len(cells)}"})
    return json.dumps({**notebook, "cells": cells})


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_damaged_submissions_are_graded(room: Room) -> None:
    """What is damaged loses its own points or none; what is no notebook is left out; the grader ends in time."""
    lab = "lab2_roofline"
    lost = dict(
        zip(
            cells(lab, "solution"),
            ("answer deleted", "test deleted", "both deleted", "syntax error", "endless"),
            strict=False,
        )
    )
    mended = dict(zip(cells(lab, "solution"), ("answer twice", "test twice", "test edited"), strict=False))
    submissions = {
        "lost": damaged(room.release(lab), solutions(lab), lost),
        "mended": damaged(room.release(lab), solutions(lab), mended),
        "no_notebook": "this is not JSON",
    }
    grades = room.grader.grade(room.folder, lab, submissions, timeout=25)
    assert set(grades) == {"lost", "mended"}
    kept = {name: 0 if name.removeprefix("test_") in lost else value for name, value in points(lab).items()}
    assert grades["lost"].cells == kept, grades["lost"]
    assert grades["mended"].cells == points(lab), grades["mended"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_make_labs_writes_a_course(tmp_path: Path, room: Room) -> None:
    """The program behind ``make labs``, on one lab: student version, settings, gradebook; the solution passes."""
    status, told = room.grader.course(str(tmp_path), NAMES[0])
    assert status == 0, told
    assert f"{NAMES[0]}.ipynb: ready" in told
    assert (tmp_path / "nbgrader_config.py").is_file()
    assert (tmp_path / "gradebook.db").is_file()
    assert (tmp_path / "release" / NAMES[0] / f"{NAMES[0]}.ipynb").is_file()
    command = [sys.executable, str(LABS / "course.py"), str(tmp_path), "lab99"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "lab99" in done.stderr
