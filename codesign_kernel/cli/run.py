"""``codesign run``: a workflow from its file, or its plan."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.cli.progress import Progress
from codesign_kernel.errors import MissingPackageError
from codesign_kernel.files import check_folder


def run_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """Run the workflow of ``args``, or tell what would run.

    Raises:
        MissingPackageError: the packages of the store are not installed.
        CodesignError: see :func:`codesign_kernel.session.workflow.run_workflow`.
        OutputError: the results cannot be written into ``--out``.
    """
    missing = [name for name in ("alembic", "sqlalchemy", "yaml") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"a workflow keeps its results in a store, which needs {', '.join(missing)}; "
            "pip install 'codesign-playground[store]'"
        )
    if args.out is not None:
        check_folder(args.out)
    from codesign_kernel.session.workflow import plan_workflow, run_workflow

    if args.plan:
        found = plan_workflow(args.workflow, store=args.store)
    else:
        found = run_workflow(args.workflow, store=args.store, progress=progress)
    table = table_text(("step", "state", "time", "gave"), found.rows(), left=4)
    totals: list[tuple[str, object]] = [("workflow", found.name)]
    if not args.plan:
        totals.append(("evaluations", f"{found.evaluations:,} now"))
    body = found.to_dict()
    if args.out is not None and not args.plan:
        written = found.write(args.out)
        totals.append(("written", f"{len(written)} files into {args.out}"))
        body["files"] = written
    if not found.passed:
        totals.append(("verdict", "NOT proven: see what cosimulate gave"))
    return Answer(f"{table}\n\n{rows_text(totals)}", body, found.passed)
