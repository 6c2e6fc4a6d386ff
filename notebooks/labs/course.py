"""The course as a folder that nbgrader works in. ``make labs`` runs ``python course.py FOLDER [LAB ...]``.

The notebooks beside this file are the instructor's: with solutions and hidden tests. Afterwards FOLDER holds

- ``source/LAB/LAB.ipynb``, copies of them, and ``nbgrader_config.py``;
- ``release/LAB/LAB.ipynb``, what students get, made by nbgrader: no solution, no hidden test, no output;
- ``gradebook.db``, nbgrader's own, which knows the points.

Every ``nbgrader`` command works in FOLDER from then on: hand out ``release/``, put what comes back into
``submitted/STUDENT/LAB/LAB.ipynb``, and run ``nbgrader autograde LAB``.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# nbgrader takes seconds to load: what needs it loads it, so that a wrong name is refused at once
if TYPE_CHECKING:
    from nbformat import NotebookNode
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

HERE = Path(__file__).resolve().parent
SETTINGS = "nbgrader_config.py"
#: Regions of a cell that students do not get, as nbgrader marks them.
REGIONS = (("### BEGIN SOLUTION", "### END SOLUTION"), ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"))
#: A line shorter than this (characters), or an import, may stand anywhere and gives nothing away.
TELLING = 16


def labs() -> list[str]:
    """Names of the labs, in order; the name is also nbgrader's name of the assignment."""
    return sorted(path.stem for path in HERE.glob("lab*.ipynb"))


def settings(folder: Path, **more: dict[str, Any]) -> tuple[CourseDirectory, Config]:
    """nbgrader's course directory and settings for ``folder``; ``more`` are settings by class name."""
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config
    from traitlets.config.loader import PyFileConfigLoader

    programs = str(Path(sys.executable).parent)  # nbgrader asks a program of its environment, alembic, by name
    if programs not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([programs, os.environ["PATH"]])
    config = PyFileConfigLoader(SETTINGS, path=str(HERE)).load_config()
    config.merge(Config({"CourseDirectory": {"root": str(folder.resolve())}}))
    config.merge(Config(more))
    return CourseDirectory(config=config), config


def lay_out(folder: Path, names: list[str]) -> None:
    """Make ``source/`` and the student versions of ``names`` in ``release/``, in place of older ones."""
    from nbgrader.converters import GenerateAssignment

    for name in names:
        source = folder / "source" / name
        source.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / f"{name}.ipynb", source / f"{name}.ipynb")
    shutil.copyfile(HERE / SETTINGS, folder / SETTINGS)
    for name in names:
        course, config = settings(folder)
        course.assignment_id = name
        GenerateAssignment(coursedir=course, config=config, force=True).start()


def secrets(notebook: NotebookNode) -> list[str]:
    """The lines of an instructor's notebook that only the instructor may see, but for those that tell nothing."""
    found = []
    for cell in notebook.cells:
        end = ""
        for line in cell.source.splitlines():
            begins = [last for first, last in REGIONS if first in line]
            if end and end in line:
                end = ""
            elif end and len(line.strip()) >= TELLING and not line.lstrip().startswith(("from ", "import ")):
                found.append(line.strip())
            end = begins[0] if begins else end
    return found


def leaks(instructor: Path, student: Path) -> list[str]:
    """What of the solutions and hidden tests of one notebook stands in the other, and marks that were left there."""
    import nbformat

    shown = nbformat.read(student, as_version=4)
    text = "\n".join(cell.source for cell in shown.cells)
    open_lines = {line.strip() for line in text.splitlines()}
    marks = [mark for region in REGIONS for mark in region if mark in text]
    outputs = [f"the output of {cell.source[:40]!r}" for cell in shown.cells if cell.get("outputs")]
    return marks + outputs + [line for line in secrets(nbformat.read(instructor, as_version=4)) if line in open_lines]


def failures(folder: Path, name: str) -> list[str]:
    """What fails when the instructor's version of ``name`` is run and checked as ``nbgrader validate`` does."""
    from nbgrader.validator import Validator

    _, config = settings(folder)
    told = Validator(config=config).validate(str(folder / "source" / name / f"{name}.ipynb"))
    return [f"{kind}: {cell['source'][:80]}\n{cell.get('error', '')}" for kind, cells in told.items() for cell in cells]


def main(folder: Path, names: list[str]) -> None:
    """Lay the course out in ``folder``; stop with a word on what is wrong."""
    unknown = sorted(set(names) - set(labs()))
    if unknown:
        sys.exit(f"the labs are {', '.join(labs())}, but got {', '.join(unknown)}")
    lay_out(folder, names or labs())
    wrong = 0
    for name in names or labs():
        student = folder / "release" / name / f"{name}.ipynb"
        told = leaks(HERE / f"{name}.ipynb", student)
        problems = [f"students would see: {line}" for line in told] + failures(folder, name)
        print("\n".join([f"{student}: {'not fit to hand out' if problems else 'ready'}", *problems]))
        wrong += len(problems)
    if wrong:
        sys.exit(f"{wrong} problems; mend the notebooks in {HERE}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    main(Path(sys.argv[1]), sys.argv[2:])
