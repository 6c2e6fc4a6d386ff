"""Reads the source of a MyHDL process and tells what converts wrongly."""

from __future__ import annotations

import ast
import builtins
import linecache
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from myhdl import intbv
from myhdl._Signal import _Signal

from codesign_kernel.rtl.lawful_values import Tell, Values
from codesign_kernel.rtl.lawful_widths import bits_of, constant
from codesign_kernel.rtl.reserved import malformed, reserved_in

#: Builtins that MyHDL converts; every other is written down as a call of a function that nobody defines.
_CONVERTED = frozenset({"len", "bool", "int", "ord", "print", "range", "AssertionError"})
_RENAME = "rename it"


@lru_cache(maxsize=64)
def _functions(file: str, length: int) -> Mapping[int, ast.FunctionDef]:
    """Every function of a file by its first line, a decorator's where it has some."""
    tree = ast.parse("".join(linecache.getlines(file)))
    return {
        (node.decorator_list[0] if node.decorator_list else node).lineno: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def tree_of(code: CodeType) -> ast.FunctionDef | None:
    """The source of a function; None where there is none (it was typed at a prompt)."""
    lines = linecache.getlines(code.co_filename)
    return _functions(code.co_filename, len(lines)).get(code.co_firstlineno) if lines else None


def names_of(function: FunctionType, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What the free names of ``function`` mean."""
    cells = function.__closure__ or ()
    free = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    used = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    known = {name: getattr(builtins, name) for name in ("len", "bool", "int", "range")}
    return {**known, **used, **extra, **free}


def meaning(value: Any) -> object:
    """What of ``value`` decides how an expression converts: two processes with equal ones need one look."""
    if isinstance(value, _Signal):
        return ("signal", bits_of(value))
    if isinstance(value, intbv):
        return ("variable", bits_of(value), int(value))
    if isinstance(value, (list, tuple)) and value:
        return (type(value), len(value), meaning(value[0]))
    return value if isinstance(value, int) else id(value)


def _locals(tree: ast.FunctionDef, names: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a process and what they hold; an integer stands for itself as ``int``."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        name, value = node.targets[0].id, node.value
        called = ast.unparse(value).split("(")[0]
        if called in ("intbv", "modbv"):
            try:
                held = eval(compile(ast.Expression(value), "<variable>", "eval"), dict(names))
            except (TypeError, ValueError, NameError, AttributeError, IndexError):
                continue
            found.setdefault(name, held)
        elif isinstance(value, (ast.Compare, ast.BoolOp)) or called == "bool" or _is_bool(value):
            found.setdefault(name, False)
        else:
            found.setdefault(name, int)
    return found


def _is_bool(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def _loops(tree: ast.FunctionDef, names: Mapping[str, Any]) -> dict[str, tuple[int, int] | None]:
    found: dict[str, tuple[int, int] | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Call):
            ends = [constant(argument, names) for argument in node.iter.args[:2]]
            known = [end for end in ends if end is not None]
            whole = len(known) == len(ends) and known
            span = (0, known[0] - 1) if len(known) == 1 else (min(known), max(known)) if known else (0, 0)
            found[node.target.id] = span if whole and span[0] <= span[1] else None
    return found


class _Process(ast.NodeVisitor):
    """One walk over the statements of a process."""

    def __init__(self, tree: ast.FunctionDef, names: Mapping[str, Any], tell: Tell) -> None:
        self.tell = tell
        self.variables = _locals(tree, names)
        self.loops = _loops(tree, names)
        known = {name: value for name, value in self.variables.items() if value is not int}
        self.names = {**{n: v for n, v in names.items() if n not in self.variables}, **known}
        self.values = Values(self.names, self.loops, tell)
        for name in {*self.variables, *self.loops}:
            for reason in name_faults(name, True):
                first = next(n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name)
                tell(first, f"the variable {name} {reason}", _RENAME)
        for statement in tree.body:
            self.visit(statement)

    # ---- statements: expressions with a target or a width of their own

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(target, ast.Name):
            if self.variables.get(target.id) is int:
                self.values.whole(node.value)
        else:
            bits = self._target_bits(target)
            if bits:
                self.values.assigned(node.value, bits)
        if isinstance(node.value, ast.IfExp):
            for part in ast.iter_child_nodes(node.value):
                self.visit(part)
        elif not self._is_table(node.value):
            self.visit(node.value)
        self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        left = ast.copy_location(ast.parse(ast.unparse(node.target), mode="eval").body, node.target)
        whole = ast.fix_missing_locations(ast.copy_location(ast.BinOp(left, node.op, node.value), node))
        for part in ast.walk(whole):
            ast.copy_location(part, node)
        bits = self._target_bits(node.target)
        if bits:
            self.values.assigned(whole, bits, in_place=True)
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        self.values.tested(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.values.tested(node.test)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        if isinstance(node.iter, ast.Call) and len(node.iter.args) == 3:
            self.tell(
                node,
                "a step in range() does not convert to VHDL, and a negative one not to Verilog",
                "count by one and multiply, or use downrange()",
            )
        for part in node.body:
            self.visit(part)

    def visit_Match(self, node: ast.Match) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.MatchOr):
                self.tell(
                    part,
                    f"case {ast.unparse(part)} becomes the bitwise or of its values in Verilog",
                    "write a case of its own for every value",
                )
        for case in node.cases:
            for statement in case.body:
                self.visit(statement)

    # ---- expressions

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.tell(
            node,
            "MyHDL converts `a if c else b` only as the whole right-hand side of an assignment",
            "assign it to a variable first, or write if and else",
        )
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator in node.ops:
            if isinstance(operator, (ast.In, ast.NotIn, ast.Is, ast.IsNot)):
                self.tell(node, f"{ast.unparse(node)} does not convert", "compare with == and or")
        if len(node.ops) > 1:
            self.tell(node, "a chain of comparisons does not convert", "write a < b and b < c")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.tell(node, "an f-string does not convert", 'print("%d" % value), or leave it to the test bench')

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name):
            name = node.func.id
            if name not in self.names and hasattr(builtins, name) and name not in _CONVERTED:
                self.tell(
                    node,
                    f"{name}() is written into the Verilog and the VHDL as it stands, which have no such function",
                    "write it out with if and else",
                )
            called = self.names.get(name)
            if isinstance(called, FunctionType):
                given = len(node.args) + len(node.keywords)
                if given < called.__code__.co_argcount:
                    self.tell(node, f"{name}() is called without an argument that has a default", "give every argument")
                inner = tree_of(called.__code__)
                if inner is not None:
                    self._visit_returns(node, inner)
        self.generic_visit(node)

    def _visit_returns(self, call: ast.Call, inner: ast.FunctionDef) -> None:
        for part in ast.walk(inner):
            if isinstance(part, ast.Return) and isinstance(part.value, ast.BinOp):
                self.tell(
                    call,
                    f"{inner.name}() returns an expression, so MyHDL makes its result an integer of 32 bits",
                    "put it into a variable with a width (t = intbv(0, min=..., max=...)) and return that",
                )
                return

    def visit_BinOp(self, node: ast.BinOp) -> None:
        shifts = isinstance(node.op, (ast.LShift, ast.RShift))
        left, right = constant(node.left, self.names), constant(node.right, self.names)
        if shifts and left is not None and right is None:
            self.tell(
                node,
                f"a shift of the constant {left} has no width, so VHDL has no shift for it",
                "shift a variable: t = intbv(1)[8:], then t << n",
            )
        if isinstance(node.op, ast.Pow) and (left is None or right is None):
            self.tell(node, "** of a signal does not convert to VHDL", "multiply")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        value = self.names.get(node.id)
        kind = type(value)
        if kind.__module__ == "numpy":
            self.tell(node, f"{node.id} is a numpy {kind.__name__}, which does not convert", f"use int({node.id})")
        elif isinstance(value, float):
            self.tell(node, f"{node.id} is a float, which does not convert", "use an integer of fixed point")
        elif isinstance(value, int) and not isinstance(value, bool) and node.id not in self.variables:
            self._visit_size(node, value)
        elif isinstance(value, tuple) and value and all(isinstance(item, int) for item in value):
            self.tell(
                node,
                f"the table {node.id} converts only as the whole right-hand side of an assignment",
                f"assign t = {node.id}[i] first (with t a signal or an intbv variable)",
            )
        elif isinstance(value, list) and value and isinstance(value[0], int):
            self.tell(node, f"the list of integers {node.id} does not convert", "make it a tuple")

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            self._visit_size(node, node.value)

    def _visit_size(self, node: ast.AST, value: int) -> None:
        if not -(1 << 31) <= value < 1 << 31:
            self.tell(
                node,
                f"{value} is beyond VHDL's integers, which have 32 bits",
                "put it together with concat(), or shift a variable that is wide enough",
            )

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr not in ("min", "max"):
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice):
            self._visit_slice(node, node.slice)
        elif isinstance(node.value, ast.Subscript) and isinstance(self._object(node.value.value), list):
            inner = self._object(node.value.value)
            if inner and isinstance(inner[0], list):
                self.tell(node, "a list of lists of signals does not convert", "make one list, and compute the index")
        self.visit(node.value)
        self.visit(node.slice)

    def _visit_slice(self, node: ast.Subscript, piece: ast.Slice) -> None:
        upper, lower = piece.lower, piece.upper
        if isinstance(node.value, (ast.Call, ast.BinOp)) and not (
            isinstance(node.value, ast.Call)
            and constant(node.value.args[0] if node.value.args else None, self.names) is not None
        ):
            self.tell(
                node, "bits of an expression do not convert", "assign the expression to a variable or signal first"
            )
        moving = [end for end in (upper, lower) if end is not None and constant(end, self.names) is None]
        step = isinstance(upper, ast.BinOp) and isinstance(upper.op, ast.Add) and isinstance(lower, ast.Name)
        if moving and not (step and ast.unparse(upper.left) == lower.id):  # type: ignore[union-attr]
            self.tell(
                node,
                f"the bounds of {ast.unparse(node)} move, which Verilog takes only as a start and a fixed width",
                "write x[i + 8:i] with the name of one variable, or copy bit by bit",
            )
        if upper is None and lower is None and isinstance(node.ctx, ast.Load):
            self.tell(node, "x[:] among signed operands leaves a bracket open in Verilog", "write x")

    # ---- helpers

    def _object(self, node: ast.AST) -> Any:
        return self.names.get(node.id) if isinstance(node, ast.Name) else None

    def _is_table(self, node: ast.AST) -> bool:
        if not (isinstance(node, ast.Subscript) and isinstance(self._object(node.value), tuple)):
            return False
        self.values.tested(node)
        self.visit(node.slice)
        return True

    def _target_bits(self, target: ast.AST) -> int:
        """Width of an assignment's target; 0 where only MyHDL can tell."""
        if isinstance(target, ast.Attribute) and target.attr == "next":
            target = target.value
        if isinstance(target, ast.Subscript):
            if isinstance(target.slice, ast.Slice):
                whole = self._target_bits(target.value)
                upper = whole if target.slice.lower is None else constant(target.slice.lower, self.names)
                lower = 0 if target.slice.upper is None else constant(target.slice.upper, self.names)
                return max(0, upper - lower) if upper is not None and lower is not None else 0
            inner = target.value.value if isinstance(target.value, ast.Attribute) else target.value
            items = self._object(inner)
            found = bits_of(items[0]) if isinstance(items, list) and items else None
            return found[2] if found else 0 if isinstance(items, list) else 1
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            value = getattr(self.names.get(target.value.id), target.attr, None)
        else:
            value = self._object(target)
        found = bits_of(value)
        return found[2] if found else 0


def name_faults(name: str, bare: bool) -> Iterator[str]:
    """Why ``name`` is no identifier in all the languages; ``bare``: it is not prefixed with the name of its block."""
    languages = reserved_in(name) if bare else []
    if languages:
        yield f"is called like a reserved word of {' and '.join(languages)}"
    fault = malformed(name)
    if fault:
        yield f"{fault}, which VHDL does not allow"


def check_process(tree: ast.FunctionDef, names: Mapping[str, Any], tell: Tell) -> None:
    """Everything that the source of one process tells, given what its names mean."""
    _Process(tree, names, tell)
