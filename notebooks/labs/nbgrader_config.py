"""nbgrader's settings for this course; `make labs` puts a copy beside the folders that nbgrader works in."""

c = get_config()  # noqa: F821 - nbgrader hands it over

c.CourseDirectory.course_id = "codesign"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}
# A cell of a lab takes seconds. What takes a minute is a loop without an end; it fails, and grading goes on.
c.Execute.timeout = 60
c.Execute.interrupt_on_timeout = True
