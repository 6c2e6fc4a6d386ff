"""Ranges, widths and signs of the parts of an expression, in Python, Verilog and VHDL."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from myhdl import intbv
from myhdl._Signal import _Signal

MODULAR = (ast.Add, ast.Sub, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift)
#: MyHDL writes a constant from here on with a size, and so without a sign.
SIZED = 1 << 30
INTEGER_BITS = 32


@dataclass
class Seen:
    """A part of an expression: its range in Python (None: unknown), bits and sign in Verilog and in VHDL.

    ``vhdl_bits`` is 0 for what VHDL holds as an integer.
    """

    node: ast.AST
    low: int | None
    high: int | None
    bits: int
    signed: bool
    vhdl_bits: int
    vhdl_signed: bool
    parts: list[Seen] = field(default_factory=list)
    #: Verilog sees it as a whole: no width reaches its inside
    closed: bool = False

    def fits(self, bits: int, signed: bool) -> bool:
        if self.low is None or self.high is None or bits == 0:
            return True
        if signed:
            return -(1 << (bits - 1)) <= self.low and self.high < 1 << (bits - 1)
        return self.low >= 0 and self.high < 1 << bits

    @property
    def negative(self) -> bool:
        return self.low is not None and self.low < 0


def bits_of(value: Any) -> tuple[int, int, int, bool] | None:
    """Lowest and highest value, bits and sign of what a signal or variable holds; None where it is no bit vector."""
    if isinstance(value, bool) or (isinstance(value, _Signal) and value._type is bool):
        return 0, 1, 1, False
    if isinstance(value, (intbv, _Signal)) and value._nrbits and value.max is not None:
        return value.min, value.max - 1, value._nrbits, value.min < 0
    return None


def constant(node: ast.AST | None, names: Mapping[str, Any]) -> int | None:
    """The integer that ``node`` always is, or None."""
    if node is None:
        return None
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            value = names.get(part.id)
            measured = isinstance(value, (_Signal, intbv)) and not isinstance(node, ast.Name)
            if not (isinstance(value, int) or value is len or (measured and _only_measured(node, part.id))):
                return None
        elif not isinstance(
            part, (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Call, ast.Attribute, ast.operator, ast.unaryop, ast.Load)
        ):
            return None
    try:
        value = eval(compile(ast.Expression(node), "<constant>", "eval"), {"__builtins__": {}}, dict(names))  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    return int(value) if isinstance(value, int) else None


def _only_measured(node: ast.AST, name: str) -> bool:
    """Whether ``name`` occurs in ``node`` as ``len(name)``, ``name.min`` or ``name.max`` only."""
    measured = 0
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and ast.unparse(part.func) == "len":
            measured += ast.unparse(part.args[0]) == name
        elif isinstance(part, ast.Attribute) and part.attr in ("min", "max"):
            measured += ast.unparse(part.value) == name
    return measured == sum(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def span(op: ast.operator, left: Seen, right: Seen) -> tuple[int | None, int | None]:
    """The range of the result in Python."""
    if None in (left.low, left.high, right.low, right.high):
        return None, None
    a, b = (left.low, left.high), (right.low, right.high)
    assert left.low is not None
    assert left.high is not None
    assert right.low is not None
    assert right.high is not None
    corners: list[int]
    if isinstance(op, ast.Add):
        corners = [left.low + right.low, left.high + right.high]
    elif isinstance(op, ast.Sub):
        corners = [left.low - right.high, left.high - right.low]
    elif isinstance(op, ast.Mult):
        corners = [x * y for x, y in itertools.product(a, b)]  # type: ignore[operator]
    elif isinstance(op, (ast.LShift, ast.RShift)) and 0 <= right.low and right.high <= 4096:
        move = int.__lshift__ if isinstance(op, ast.LShift) else int.__rshift__
        corners = [move(x, y) for x, y in itertools.product(a, b)]  # type: ignore[arg-type]
    elif isinstance(op, ast.FloorDiv) and right.low > 0:
        corners = [x // y for x, y in itertools.product(a, b)]  # type: ignore[operator]
    elif isinstance(op, ast.Mod) and right.low > 0:
        corners = [0, right.high - 1]
    elif isinstance(op, (ast.BitAnd, ast.BitOr, ast.BitXor)):
        if isinstance(op, ast.BitAnd) and (left.low >= 0 or right.low >= 0):
            return 0, min(x.high for x in (left, right) if x.low is not None and x.low >= 0)  # type: ignore[type-var]
        most = max(abs(x) for x in (*a, *b) if x is not None).bit_length()
        corners = [-(1 << most) if left.low < 0 or right.low < 0 else 0, (1 << most) - 1]
    else:
        return None, None
    return min(corners), max(corners)


def vhdl_type(op: ast.operator, left: Seen, right: Seen, root: bool) -> tuple[int, bool]:
    """Bits (0: integer) and sign of the result, as MyHDL's own annotation has it."""
    if isinstance(op, (ast.LShift, ast.RShift)):
        return left.vhdl_bits, left.vhdl_signed
    l_bits, r_bits = left.vhdl_bits, right.vhdl_bits
    l_signed, r_signed = left.vhdl_signed, right.vhdl_signed
    if not isinstance(op, (ast.BitAnd, ast.BitOr, ast.BitXor)):
        minus = isinstance(op, ast.Sub) and not root
        if r_bits and not r_signed and (l_signed or minus):
            r_bits, r_signed = r_bits + 1, True
        if l_bits and not l_signed and (r_signed or minus):
            l_bits, l_signed = l_bits + 1, True
    if isinstance(op, ast.Mult) and (l_bits or r_bits):
        bits = l_bits + r_bits if l_bits and r_bits else 2 * max(l_bits, r_bits)
    elif isinstance(op, ast.Mod) and l_bits and r_bits:
        bits = r_bits
    elif isinstance(op, ast.FloorDiv) and l_bits and r_bits:
        bits = l_bits
    else:
        bits = max(l_bits, r_bits)
    return bits, l_signed or r_signed
