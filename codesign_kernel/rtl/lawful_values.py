"""What an expression of a MyHDL process is worth in Python, and what the Verilog and the VHDL made of it compute.

Python's integers are exact. MyHDL 0.11 writes the expression down almost as it stands: Verilog then computes it in the
width of its widest operand or of the target, and as unsigned as soon as one operand is (IEEE 1364-2005, 5.4 and 5.5);
VHDL's ``numeric_std`` gives a sum the width of its longer operand. This module follows both through an expression: the
range of every part, its width and its sign. Where a part that must be exact does not fit, the languages disagree.

MyHDL puts the sign bit on the unsigned operands of a signed expression only until the first nested operation, call or
index: after it the expression is silently unsigned. ``Values.mixed`` follows that.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from myhdl import concat
from myhdl._Signal import _Signal

from codesign_kernel.rtl.lawful_widths import INTEGER_BITS, MODULAR, SIZED, Seen, bits_of, constant, span, vhdl_type

Tell = Callable[[ast.AST, str, str], None]


class _Unknown(Exception):
    """Part of an expression whose type only MyHDL can tell: no verdict on the whole."""


class Values:
    """Follows the expressions of one process.

    Args:
        names: what every name means: signals, lists of them, constants, variables (as ``intbv``).
        loops: range of each loop variable (None: unknown).
        tell: takes a node, what is wrong, and what to write instead.
    """

    def __init__(self, names: Mapping[str, Any], loops: Mapping[str, tuple[int, int] | None], tell: Tell) -> None:
        self.names, self.loops, self.tell = names, loops, tell
        self.in_place = False
        self.mixed = False  # MyHDL's "signed context": unsigned operands get a sign bit

    # ---- what a name is -------------------------------------------------------------------------------------------

    def object(self, node: ast.AST) -> Any:
        """The object behind a name or an attribute of one."""
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.names[node.id]
        elif isinstance(node, ast.Attribute):
            owner = self.object(node.value)
            if isinstance(owner, _Signal) and node.attr in ("val", "next"):
                return owner
            if hasattr(owner, node.attr):
                return getattr(owner, node.attr)
        raise _Unknown

    def marked(self, node: ast.AST, root: bool = False) -> bool:
        """Whether MyHDL takes ``node`` for signed."""
        if isinstance(node, ast.BinOp):
            return self.marked(node.left) or self.marked(node.right) or (isinstance(node.op, ast.Sub) and not root)
        if isinstance(node, ast.UnaryOp):
            constant_minus = isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
            return constant_minus or self.marked(node.operand)
        if isinstance(node, ast.Compare):
            return any(self.marked(part) for part in (node.left, *node.comparators))
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Attribute) and node.func.attr == "signed"
        if isinstance(node, ast.Name):
            if node.id in self.loops:
                return True
            value = self.object(node)
            found = bits_of(value)
            return found[3] if found else isinstance(value, int) and value < 0
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            found = bits_of(self._element(node)) if self._is_list(node.value) else None
            return bool(found and found[3])
        return False

    def _is_list(self, node: ast.AST) -> bool:
        return isinstance(node, (ast.Name, ast.Attribute)) and isinstance(self.object(node), (list, tuple))

    def _element(self, node: ast.Subscript) -> Any:
        items = self.object(node.value)
        if not items:
            raise _Unknown
        return items[0]

    # ---- parts ----------------------------------------------------------------------------------------------------

    def _leaf(self, node: ast.AST, low: int | None, high: int | None, bits: int, signed: bool) -> Seen:
        return Seen(node, low, high, bits, signed, bits, signed)

    def _whole(self, node: ast.AST, low: int | None, high: int | None) -> Seen:
        """An integer: 32 bits and signed in Verilog up to 2^30, longer and unsigned beyond."""
        known = max(abs(low or 0), abs(high or 0))
        sized = low == high and known >= SIZED
        return Seen(node, low, high, known.bit_length() + 1 if sized else INTEGER_BITS, not sized, 0, (low or 0) < 0)

    def _with_sign(self, seen: Seen, marked: bool) -> Seen:
        if self.mixed and not marked and not seen.signed:
            seen.bits, seen.signed = seen.bits + 1, True
        return seen

    def see(self, node: ast.AST, root: bool = False) -> Seen:
        """Range, widths and signs of ``node`` and its parts."""
        method = getattr(self, f"_see_{type(node).__name__.lower()}", None)
        if method is None:
            raise _Unknown
        seen: Seen = method(node, root) if isinstance(node, ast.BinOp) else method(node)
        return seen

    def _see_name(self, node: ast.Name) -> Seen:
        if node.id in self.loops:
            return self._whole(node, *(self.loops[node.id] or (None, None)))
        return self._see_object(node, self.object(node))

    def _see_object(self, node: ast.AST, value: Any) -> Seen:
        found = bits_of(value)
        if found:
            seen = self._leaf(node, *found)
            return seen if isinstance(value, bool) else self._with_sign(seen, found[3])
        if isinstance(value, int):
            return self._whole(node, value, value)
        raise _Unknown

    def _see_constant(self, node: ast.Constant) -> Seen:
        if not isinstance(node.value, int):
            raise _Unknown
        if isinstance(node.value, bool):
            return self._leaf(node, int(node.value), int(node.value), 1, False)
        return self._whole(node, node.value, node.value)

    def _see_attribute(self, node: ast.Attribute) -> Seen:
        return self._see_object(node, self.object(node))

    def _see_subscript(self, node: ast.Subscript) -> Seen:
        mixed, self.mixed = self.mixed, False
        if isinstance(node.slice, ast.Slice):
            whole = self.see(node.value)
            upper = whole.bits if node.slice.lower is None else constant(node.slice.lower, self.names)
            lower = 0 if node.slice.upper is None else constant(node.slice.upper, self.names)
            if upper is None or lower is None or upper <= lower:
                raise _Unknown
            seen = self._leaf(node, 0, (1 << (upper - lower)) - 1, upper - lower, False)
        elif self._is_list(node.value):
            self.exact_index(node.slice)
            items = self.object(node.value)
            if items and all(isinstance(item, int) for item in items):
                seen = self._whole(node, min(items), max(items))
            else:
                found = bits_of(self._element(node))
                if not found:
                    raise _Unknown
                seen = self._leaf(node, *found)
        else:
            self.see(node.value)
            self.exact_index(node.slice)
            seen = self._leaf(node, 0, 1, 1, False)
        self.mixed = mixed
        seen = self._with_sign(seen, seen.signed)
        self.mixed = False
        return seen

    def exact_index(self, node: ast.AST) -> None:
        """An index must come out exact in its own width."""
        if constant(node, self.names) is None and not (isinstance(node, ast.Name) and node.id in self.loops):
            seen = self.see(node)
            self.settle(seen, seen.bits, seen.signed, None)
            self.settle_vhdl(seen, 0, exact=True)

    def _see_call(self, node: ast.Call) -> Seen:
        self.mixed = False
        if isinstance(node.func, ast.Attribute) and node.func.attr == "signed" and not node.args:
            inner = self.see(node.func.value)
            half = 1 << (inner.bits - 1)
            return self._leaf(node, -half, half - 1, inner.bits, True)
        function = self.object(node.func)
        if function is len:
            size = constant(node, self.names)
            return self._whole(node, size, size)
        if function is bool and len(node.args) == 1:
            self.see(node.args[0])
            return self._leaf(node, 0, 1, 1, False)
        if function is int and len(node.args) == 1:
            return self.see(node.args[0])
        if function is concat:
            width = sum(self.see(part).bits for part in node.args)
            return self._leaf(node, 0, (1 << width) - 1, width, False)
        raise _Unknown

    def _see_boolop(self, node: ast.BoolOp) -> Seen:
        for part in node.values:
            self.see(part)
        return self._leaf(node, 0, 1, 1, False)

    def _see_compare(self, node: ast.Compare) -> Seen:
        if len(node.comparators) != 1 or not isinstance(
            node.ops[0], (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
        ):
            raise _Unknown
        self.mixed = self.marked(node)
        left, right = self.see(node.left), self.see(node.comparators[0])
        self.mixed = False
        bits, signed = max(left.bits, right.bits), left.signed and right.signed
        for side in (left, right):
            self.settle(side, bits, signed, None)
            self.settle_vhdl(side, 0, exact=True)
        return self._leaf(node, 0, 1, 1, False)

    def _see_unaryop(self, node: ast.UnaryOp) -> Seen:
        inner = self.see(node.operand)
        if isinstance(node.op, ast.Not):
            return self._leaf(node, 0, 1, 1, False)
        seen = Seen(node, inner.low, inner.high, inner.bits, inner.signed, inner.vhdl_bits, inner.vhdl_signed, [inner])
        if inner.low is None or inner.high is None or isinstance(node.op, ast.UAdd):
            return seen
        if isinstance(node.op, ast.USub):
            seen.low, seen.high = -inner.high, -inner.low
            if inner.vhdl_bits and not inner.vhdl_signed:
                seen.vhdl_bits, seen.vhdl_signed = inner.vhdl_bits + 1, True
        elif inner.parts or inner.signed:
            seen.low, seen.high = ~inner.high, ~inner.low
        else:
            seen.low, seen.high = 0, (1 << inner.bits) - 1
        return seen

    def _see_ifexp(self, node: ast.IfExp) -> Seen:
        self.see(node.test)
        body, other = self.see(node.body), self.see(node.orelse)
        known = None not in (body.low, body.high, other.low, other.high)
        return Seen(
            node,
            min(body.low, other.low) if known else None,  # type: ignore[type-var]
            max(body.high, other.high) if known else None,  # type: ignore[type-var]
            max(body.bits, other.bits),
            body.signed and other.signed,
            0,
            False,
            [body, other],
        )

    def _see_binop(self, node: ast.BinOp, root: bool) -> Seen:
        marked = self.marked(node, root) and not (root and self.in_place)
        self.mixed = marked
        left, right = self.see(node.left), self.see(node.right)
        self.mixed = False
        shift = isinstance(node.op, (ast.LShift, ast.RShift))
        low, high = span(node.op, left, right)
        vhdl_bits, vhdl_signed = vhdl_type(node.op, left, right, root)
        seen = Seen(
            node, low, high, left.bits if shift else max(left.bits, right.bits),
            left.signed and (shift or right.signed), vhdl_bits, vhdl_signed, [left, right],
        )  # fmt: skip
        if isinstance(node.op, (ast.FloorDiv, ast.Mod)) and (left.negative or right.negative):
            self.tell(
                node,
                "Python rounds a quotient down, Verilog and VHDL towards zero: they differ below zero",
                "write x >> n for a division by 2**n and x & (2**n - 1) for its rest, or make both operands unsigned",
            )
        if isinstance(node.op, ast.RShift) and marked:
            # MyHDL writes $signed(left >>> right), which is a width of its own
            self.settle(seen, seen.bits, seen.signed, None)
            seen.closed, seen.signed = True, True
        return seen

    # ---- verdicts -------------------------------------------------------------------------------------------------

    def settle(self, seen: Seen, bits: int, signed: bool, need: int | None) -> None:
        """Verilog computes ``seen`` in ``bits``: are the lowest ``need`` of them right (None: is the value)?"""
        node = seen.node
        if need is None and not seen.fits(bits, signed):
            self._tell_width(seen, bits, signed, "Verilog")
            return
        if not seen.parts or seen.closed:
            reaches = bits if need is None else min(bits, need)
            if seen.negative and seen.bits < reaches and not signed:
                self._tell_sign(node)
            return
        if isinstance(node, ast.UnaryOp):
            (inner,) = seen.parts
            if isinstance(node.op, ast.Invert) and not inner.signed and not inner.parts:
                reaches = bits if need is None else min(bits, need)
                if reaches > inner.bits:
                    self.tell(
                        node,
                        f"~ of {inner.bits} bits in an expression of {reaches}: Verilog extends first, "
                        "so the upper bits come out as ones",
                        "invert into a signal or variable of its own width first",
                    )
                return
            self.settle(inner, bits, signed, need if need is not None else bits)
            return
        if isinstance(node, ast.IfExp):
            for part in seen.parts:
                self.settle(part, bits, signed, need)
            return
        if not isinstance(node, ast.BinOp):
            return
        left = seen.parts[0]
        if isinstance(node.op, ast.LShift):
            self.settle(left, bits, signed, bits if need is None else need)
        elif isinstance(node.op, MODULAR):
            for part in seen.parts:
                self.settle(part, bits, signed, bits if need is None else need)
        elif isinstance(node.op, ast.RShift):
            self.settle(left, bits, signed, None)
        else:
            for part in seen.parts:
                self.settle(part, bits, signed, None)

    def settle_vhdl(self, seen: Seen, bits: int, exact: bool) -> None:
        """VHDL computes ``seen`` in its own width or the target's ``bits``; ``exact``: every part must fit there."""
        node = seen.node
        if exact and seen.parts and not isinstance(node, ast.IfExp):
            width = max(seen.vhdl_bits, bits) if seen.vhdl_bits else INTEGER_BITS
            if not seen.fits(width, seen.vhdl_signed or not seen.vhdl_bits):
                self._tell_width(seen, width, seen.vhdl_signed, "VHDL")
                return
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not exact and seen.vhdl_bits < bits:
            # VHDL negates in the operand's own width, and extends what comes out
            self.settle_vhdl(seen, 0, exact=True)
            return
        narrow = isinstance(node, ast.BinOp) and not isinstance(node.op, MODULAR)
        for part in (
            seen.parts if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift)) else seen.parts[:1]
        ):
            self.settle_vhdl(part, bits, exact or narrow)

    def assigned(self, node: ast.AST, bits: int, in_place: bool = False) -> None:
        """``node`` goes into a target of ``bits``; ``in_place``: it stands for t += x, where MyHDL adds no sign bit."""
        try:
            self.mixed, self.in_place = False, in_place
            seen = self.see(node, root=True)
        except _Unknown:
            return
        self.settle(seen, max(bits, seen.bits), seen.signed, bits)
        self.settle_vhdl(seen, bits, exact=False)

    def tested(self, node: ast.AST) -> None:
        """``node`` is a condition, or an expression in a width of its own."""
        try:
            self.mixed = False
            self.see(node)
        except _Unknown:
            return

    def whole(self, node: ast.AST) -> None:
        """``node`` goes into a variable that is an integer: 32 bits in both languages."""
        try:
            self.mixed = False
            seen = self.see(node, root=True)
        except _Unknown:
            return
        if not seen.fits(INTEGER_BITS, True):
            self.tell(
                node,
                f"values from {seen.low} to {seen.high} go into an integer, which has 32 bits outside of Python",
                "give the variable a width: t = intbv(0, min=..., max=...)",
            )

    def _tell_width(self, seen: Seen, bits: int, signed: bool, language: str) -> None:
        if not seen.parts and seen.negative and not signed:
            self._tell_sign(seen.node)
            return
        kind = "signed" if signed else "unsigned"
        self.tell(
            seen.node,
            f"{ast.unparse(seen.node)} reaches from {seen.low} to {seen.high}, but {language} computes it in {bits} "
            f"{kind} bits here: the rest is lost",
            "put it into a signal or variable that is wide enough first",
        )

    def _tell_sign(self, node: ast.AST) -> None:
        self.tell(
            node,
            f"{ast.unparse(node)} can be negative, but another operand makes the whole expression unsigned in Verilog: "
            "its sign is lost",
            "put every unsigned operand into a signed signal or variable, one bit wider, first",
        )
