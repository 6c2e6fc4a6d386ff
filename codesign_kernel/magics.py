"""IPython magics: ``%load_ext codesign_kernel`` brings ``%%codesign_profile`` and ``%codesign_doctor``."""

from __future__ import annotations

import argparse
import ast
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from codesign_kernel.display import Shown
from codesign_kernel.errors import CodesignError

if TYPE_CHECKING:
    from codesign_kernel.profiler import Profile
    from codesign_kernel.session.doctor import Check

_HOW = "end the cell with `model, input`, or name them with --model and --input"


class Examination(Shown):
    """What ``codesign doctor`` found.

    Attributes:
        checks: one a package or a program, see :class:`codesign_kernel.session.doctor.Check`.
    """

    def __init__(self, checks: list[Check]) -> None:
        self.checks = checks

    @property
    def fit(self) -> bool:
        """Everything that ``codesign demo`` needs is here."""
        return all(check.found for check in self.checks if check.required)

    def __str__(self) -> str:
        width = max((len(check.name) for check in self.checks), default=0)
        lines = []
        for check in self.checks:
            sign = "✓" if check.found else "✗" if check.required else "-"
            remedy = f"; {check.remedy}" if check.remedy else ""
            lines.append(f"{sign} {check.name:{width}}  {check.detail}{remedy}")
        return "\n".join(lines) or "Nothing is missing."


class _Asked(NamedTuple):
    """What to profile: a model (or its name, or a file), and its example input (None where it needs none)."""

    model: Any
    inputs: Any


@magics_class
class CodesignMagics(Magics):
    """The magics of this library."""

    @magic_arguments()
    @argument("-m", "--model", metavar="EXPR", help="the model; without, the last expression of the cell is it")
    @argument("-i", "--input", metavar="EXPR", help="its example input; without, the second of `model, input`")
    @argument("-n", "--name", help="what the profile is called; without, the model's class")
    @argument("-t", "--to", metavar="VAR", help="the variable that keeps the Profile (and VAR_cost the Cost)")
    @argument("-a", "--accelerator", metavar="EXPR", help="what it costs on this machine: an expression, or a name of ck.accelerator.catalog")  # fmt: skip  # noqa: E501
    @argument("-s", "--sort", metavar="COLUMN", help="also show all operators, sorted by this column, largest first")
    @cell_magic
    def codesign_profile(self, line: str, cell: str) -> Any:
        """Run the cell, and show what the model in it computes, stores and moves.

        The cell runs once, in the notebook's own namespace: what it assigns stays, as with ``%%prun`` and ``%%time``,
        and what it prints and raises is seen as in any cell. Then ``model(input)`` is profiled. Both come from the
        cell's last expression, ``model, input`` (as a tuple), or from --model and --input, which may name anything that
        is there when the cell has run. A network of ``ck.zoo`` or a file (``.onnx``, ``.pt2``) needs no input.

        The Profile is the value of the cell: shown, in ``_`` and in ``Out``, and in VAR with --to. With --accelerator
        the Cost is shown behind it, and is the value. A semicolon at the end of the cell shows nothing.

            %%codesign_profile --to small --accelerator gemmini_default --sort macs
            model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
            model, torch.zeros(1, 3, 32, 32)
        """
        from codesign_kernel.session.scoped import profile

        options = parse_argstring(self.codesign_profile, line)
        if options.to is not None and not options.to.isidentifier():
            raise UsageError(f"--to is the name of a variable, but got {options.to!r}")
        ended = self._ran(cell)
        asked = self._asked(options, ended)
        quiet = cell.rstrip().endswith(";")
        try:
            found = profile(asked.model, asked.inputs, options.name)
            machine = self._machine(options.accelerator)
            cost = None if machine is None else self._cost(found, machine)
        except CodesignError as error:
            raise UsageError(str(error)) from error
        table = self._table(found, options.sort)
        if options.to is not None:
            self._push(options.to, found, cost)
        shown = [found, *([] if table is None else [table]), *([] if cost is None else [cost])]
        for one in [] if quiet else shown[:-1]:
            display(one)
        return None if quiet else shown[-1]

    @magic_arguments()
    @argument("--missing", action="store_true", help="only what is not here")
    @line_magic
    def codesign_doctor(self, line: str) -> Examination:
        """What this machine has of all that the library can use, and the command that brings the rest.

        Nothing is run or imported. The value is an ``Examination``: its ``checks`` are those of ``codesign doctor``.
        """
        from codesign_kernel.session.doctor import doctor

        options = parse_argstring(self.codesign_doctor, line)
        return Examination([check for check in doctor() if not (options.missing and check.found)])

    def _ran(self, cell: str) -> Any:
        """Run ``cell`` as IPython would; the value of its last expression, None without one."""
        shell = self._shell()
        source = shell.transform_cell(cell)
        name = shell.compile.cache(source, raw_code=cell)  # so that a traceback shows the cell's lines
        tree = shell.transform_ast(ast.parse(source, name))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(shell.compile(tree, name, "exec"), shell.user_ns)
        if not isinstance(last, ast.Expr):
            return None
        return eval(shell.compile(ast.Expression(last.value), name, "eval"), shell.user_ns)

    def _asked(self, options: argparse.Namespace, ended: Any) -> _Asked:
        from pathlib import Path

        pair = isinstance(ended, tuple) and len(ended) == 2
        if options.model is not None:
            model = self._valued("--model", options.model)
            inputs = None
        else:
            model, inputs = ended if pair else (ended, None)
        if options.input is not None:
            inputs = self._valued("--input", options.input)
        if model is None:
            raise UsageError(f"%%codesign_profile needs a model, but this cell ends with no expression; {_HOW}")
        if inputs is None and not isinstance(model, str | Path) and type(model).__name__ != "ExportedProgram":
            raise UsageError(f"a model is profiled on an example input, but {type(model).__name__} has none; {_HOW}")
        return _Asked(model, inputs)

    def _machine(self, told: str | None) -> Any:
        """An accelerator of the notebook, else of the catalogue."""
        from codesign_kernel.accelerator import catalog

        if told is None:
            return None
        machine = (
            self._valued("--accelerator", told) if told in self._shell().user_ns or not told.isidentifier() else None
        )
        return catalog(told) if machine is None else getattr(machine, "accelerator", machine)

    def _cost(self, found: Profile, machine: Any) -> Any:
        from codesign_kernel.session.scoped import evaluate

        return evaluate(found, machine)

    def _table(self, found: Profile, column: str | None) -> Any:
        if column is None:
            return None
        table = found.table()
        if column not in table.columns:
            raise UsageError(f"--sort is a column of the profile ({', '.join(table.columns)}), but got {column!r}")
        falls = column not in ("name", "op")
        return table.sort_values(column, ascending=not falls, kind="stable")

    def _push(self, name: str, found: Profile, cost: Any) -> None:
        self._shell().push({name: found, **({} if cost is None else {f"{name}_cost": cost})})

    def _valued(self, option: str, expression: str) -> Any:
        """The value of an expression of the notebook's namespace."""
        try:
            return eval(expression, self._shell().user_ns)
        except (NameError, SyntaxError, AttributeError, LookupError, TypeError) as error:
            raise UsageError(
                f"{option} is an expression of this notebook, but {expression!r} is none ({error})"
            ) from error

    def _shell(self) -> Any:
        return self.shell


def register(shell: Any) -> None:
    """Make the magics known to an IPython shell."""
    shell.register_magics(CodesignMagics)
