"""nbgrader's settings for this course; `make labs` puts a copy beside the folders that nbgrader works in."""

from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, DeduplicateIds, OverwriteCells, OverwriteKernelspec


def forget_copies(notebook, resources):
    """Make a cell that a student copied an ordinary one.

    DeduplicateIds leaves such a cell empty metadata, which CheckCellMetadata (nbgrader 0.9.6) takes for those of an old
    release; it then refuses the submission and all that would have come after it.
    """
    for cell in notebook.cells:
        if not cell.metadata.get("nbgrader", True):
            del cell.metadata["nbgrader"]
    return notebook, resources


c = get_config()  # noqa: F821 - nbgrader hands it over

c.CourseDirectory.course_id = "codesign"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}
# A cell of a lab takes seconds. What takes two minutes is a loop without an end; it fails, and grading goes on.
c.Execute.timeout = 120
c.Execute.interrupt_on_timeout = True
c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    DeduplicateIds,
    forget_copies,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]
