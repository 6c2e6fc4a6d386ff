"""Grades submissions of the labs with nbgrader's own autograder. ``tests/test_labs.py`` says what must come out.

How a lab is written (``notebooks/labs/labN_NAME.ipynb``, the instructor's version, stored without outputs)
-----------------------------------------------------------------------------------------------------------
- nbgrader's metadata, schema_version 3. An exercise has two cells, and the second grades what the first defines:

  ``conv_macs``       solution cell: ``grade: false, solution: true, locked: false, task: false``; the student's part
                      stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION``, ``def`` and docstring outside.
  ``test_conv_macs``  test cell: ``grade: true, solution: false, locked: true, points: n``. First the self-check, which
                      students see: asserts whose messages say what is likely wrong. Then, between
                      ``### BEGIN HIDDEN TESTS`` and ``### END HIDDEN TESTS``, the same with other data, and with the
                      tool's own models (``ck.evaluate``, ``ck.profile``, the RTL).

  Explanations and code that must not change are locked: ``grade: false, solution: false, locked: true`` and a grade_id.
  Other cells have no metadata of nbgrader.
- A lab has 20 points. Four to six exercises; the last is the challenge (``challenge``, ``test_challenge``, 2 points for
  a lawful answer that passes the threshold), whose number on the leaderboard a locked cell computes.
- A test cell uses what its own exercise defines and nothing of another exercise, so that one mistake costs its points
  once. Where it needs the right answer to an earlier one it computes it, inside the hidden part or by ``ck``.
- The order of asserts: first the mistakes that one knows ("that is twice ...: a MAC is one multiplication and one
  addition ..."), then the value. A message never says only "wrong".
- No widget stands in a graded cell. A cell that shows a figure of ``ck.figures`` has no points.
- numpy and the light rooms of ``codesign_kernel``; torch costs 2 s in each of some ten runs. A lab runs in under 20 s.
- A cell prints nothing to stderr: nbgrader counts that as a failure.

How wrong answers are given: ``tests/labs_answers/labN.py`` has ``WRONG``, at least three of :class:`Wrong`, each a
student who understood one or more things wrongly, the rest of the submission being the solution. The figures of a lab
and whatever else takes no part in the grading are run for the solution only.

How it runs: ``labs_harness.py`` as a program reads jobs from its standard input, one JSON object a line, and answers
each with one line; nbgrader and its event loops live in that process. :class:`Grader` is its client.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import runpy
import subprocess
import symtable
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LABS = ROOT / "notebooks" / "labs"


@dataclass(frozen=True)
class Wrong:
    """A student who errs.

    Attributes:
        name: of the misconception, as an identifier.
        cells: grade_id of a solution cell -> all of the source that this student leaves there.
        lost: grade_ids of the test cells that give no points then; all others give all.
        told: grade_id of a test cell -> words that its message has to hold, so that the student can mend it.
    """

    name: str
    cells: Mapping[str, str]
    lost: tuple[str, ...]
    told: Mapping[str, str] = field(default_factory=dict)


class Graded(NamedTuple):
    """What came out: points in all, points by grade_id of the test cell, and what the test cells that failed say.

    ``others``: errors of all other cells, and whatever a cell wrote to stderr.
    """

    score: float
    cells: dict[str, float]
    messages: dict[str, str]
    others: list[str]


Grades = dict[str, Graded]


class Grader:
    """The process that grades; each question is answered when all submissions of one lab are done."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def release(self, course: Path, lab: str) -> Any:
        """The student version of ``lab`` as a notebook, made by nbgrader in the folder ``course``."""
        return json.loads(self._ask({"do": "release", "course": str(course), "lab": lab}))

    def grade(self, course: Path, lab: str, submissions: Mapping[str, str], timeout: int = 120) -> Grades:
        """Grade ``submissions`` (name -> text of the notebook) of ``lab``, which was released in the folder ``course``.

        ``timeout``: of a cell (second). A submission that the autograder could not grade is not in the answer.
        """
        job = {"do": "grade", "course": str(course), "lab": lab, "submissions": dict(submissions), "timeout": timeout}
        return {name: Graded(**graded) for name, graded in self._ask(job).items()}

    def course(self, *arguments: str) -> tuple[int, str]:
        """Run the program ``course.py`` with ``arguments``: (exit status, what it said)."""
        status, told = self._ask({"do": "course", "arguments": arguments})
        return int(status), str(told)

    def _ask(self, job: Mapping[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process that grades has ended; its words are above"
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def filled(release: Any, answers: Mapping[str, str]) -> str:
    """The text of a submission: the student version with ``answers`` (grade_id of a solution cell -> source)."""
    notebook = copy.deepcopy(release)
    for cell in notebook["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if grade_id in answers:
            cell["source"] = answers[grade_id]
    return json.dumps(notebook)


def without_asides(submission: str) -> str:
    """``submission`` without the code cells that take no part in the grading: figures, and looks at what was found.

    A cell of nbgrader's stays, and so does any other that gives a name to one that stays.
    """
    notebook = json.loads(submission)
    code = {place: cell for place, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"}
    about = {place: names("".join(cell["source"])) for place, cell in code.items()}
    kept = {place for place, cell in code.items() if "nbgrader" in cell["metadata"]}
    while True:
        wanted = set().union(*(about[place][1] for place in kept))
        more = {place for place, (given, _) in about.items() if given & wanted} - kept
        if not more:
            break
        kept |= more
    cells = [cell for place, cell in enumerate(notebook["cells"]) if place in kept or place not in code]
    return json.dumps({**notebook, "cells": cells})


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell gives to those behind it, and those that it takes from others."""
    top = symtable.symtable(source, "cell", "exec")
    given = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    taken = {one.get_name() for one in top.get_symbols() if one.is_referenced()}
    inner = [*top.get_children()]
    for table in inner:
        inner += table.get_children()
        taken |= {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
    return given, taken - given


def release(job: Mapping[str, Any]) -> str:
    """See :meth:`Grader.release`; the text of the notebook."""
    import course

    folder, lab = Path(job["course"]), job["lab"]
    course.lay_out(folder, [lab])
    return (folder / "release" / lab / f"{lab}.ipynb").read_text(encoding="utf-8")


def grade(job: Mapping[str, Any]) -> dict[str, Any]:
    """See :meth:`Grader.grade`."""
    import course
    from nbgrader.api import Gradebook
    from nbgrader.converters import Autograde
    from nbgrader.converters.base import NbGraderException

    folder, lab = Path(job["course"]), job["lab"]
    for name, text in job["submissions"].items():
        place = folder / "submitted" / name / lab
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{lab}.ipynb").write_text(text, encoding="utf-8")
    coursedir, config = course.settings(folder, Execute={"timeout": job["timeout"]})
    coursedir.assignment_id = lab
    for name in job["submissions"]:
        coursedir.student_id = name  # one after the other: a file that is no notebook ends the run that meets it
        with contextlib.suppress(NbGraderException):  # nothing is written then, which is seen below
            Autograde(coursedir=coursedir, config=config).start()
    grades = {}
    with Gradebook(coursedir.db_url, coursedir.course_id) as book:
        for submission in book.assignment_submissions(lab):
            name = submission.student.id
            path = folder / "autograded" / name / lab / f"{lab}.ipynb"
            if name in job["submissions"] and path.is_file():
                cells = {one.name: one.score for notebook in submission.notebooks for one in notebook.grades}
                grades[name] = {"score": submission.score, "cells": cells, **complaints(path)}
    return grades


def course(job: Mapping[str, Any]) -> tuple[int, str]:
    """See :meth:`Grader.course`. It runs as the main program, but here, where nbgrader and its kernels are warm."""
    program, told = str(LABS / "course.py"), io.StringIO()
    before, sys.argv = sys.argv, [program, *job["arguments"]]
    try:
        with contextlib.redirect_stdout(told):
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        return 1, f"{told.getvalue()}{end.code}\n"
    finally:
        sys.argv = before
    return 0, told.getvalue()


def complaints(path: Path) -> dict[str, Any]:
    """The ``messages`` and ``others`` of :class:`Graded` in a graded notebook."""
    messages, others = {}, []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        about = cell["metadata"].get("nbgrader", {})
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                told = f"{output['ename']}: {output['evalue']}"
                if about.get("grade"):
                    messages[about["grade_id"]] = told
                else:
                    others.append(told)
            elif output.get("name") == "stderr":
                others.append("".join(output["text"]))
    return {"messages": messages, "others": others}


@contextlib.contextmanager
def quick_kernels() -> Iterator[None]:
    """Jupyter's kernels of this process come from :mod:`labs_kernels`."""
    import labs_kernels

    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder, "kernels.sock")
        labs_kernels.write_spec(Path(folder), address)
        command = [sys.executable, labs_kernels.__file__, "serve", str(address)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            os.environ["JUPYTER_PATH"] = folder
            yield


def main() -> None:
    """Answer jobs until the input ends. What nbgrader has to say goes to stderr."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    sys.path.insert(0, str(LABS))
    with quick_kernels():
        answer_all()


def answer_all() -> None:
    """Answer jobs until the input ends."""
    answers = sys.stdout
    for line in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()):
            job = json.loads(line)
            answer = {"release": release, "grade": grade, "course": course}[job["do"]](job)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
