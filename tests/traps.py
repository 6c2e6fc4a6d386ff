"""What MyHDL converts wrongly, and the lawful neighbour of each: tests/test_lawful.py proves both.

A wrong block has ``# trap`` on the line that the checker names. ``verilog`` and ``vhdl`` say what
becomes of it: "agrees", "differs" from MyHDL in simulation, "rejected" by a tool, or "refused" by MyHDL.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from myhdl import ConcatSignal, Constant, Signal, always, always_comb, block, downrange, enum, intbv, modbv

from codesign_kernel.rtl.lawful import findings


def s(bits: int, value: int = 0) -> Any:
    """A signed signal."""
    return Signal(intbv(value, min=-(1 << (bits - 1)), max=1 << (bits - 1)))


def u(bits: int, value: int = 0) -> Any:
    """An unsigned signal."""
    return Signal(intbv(value)[bits:])


def b() -> Any:
    """One bit."""
    return Signal(bool(0))


class Trap(NamedTuple):
    """One construct, its lawful neighbour, and what goes wrong."""

    name: str
    title: str
    wrong: Callable[..., Any]
    right: Callable[..., Any]
    ports: dict[str, Callable[[], Any]]
    verilog: str
    vhdl: str
    right_ports: dict[str, Callable[[], Any]]


TRAPS: dict[str, Trap] = {}


def trap(
    title: str, verilog: str, vhdl: str, right_ports: dict[str, Any] | None = None, **ports: Callable[[], Any]
) -> Callable[..., Any]:
    """Enter the decorated function, which returns (wrong, right)."""

    def enter(function: Callable[[], tuple[Any, Any]]) -> Callable[..., Any]:
        wrong, right = function()
        TRAPS[function.__name__] = Trap(
            function.__name__, title, wrong, right, ports, verilog, vhdl, right_ports or ports
        )
        return function

    return enter


class Pair:
    """An interface."""

    def __init__(self) -> None:
        self.d = u(8)


# ---- values that come out different: no tool complains -------------------------------------------------------------


@trap("A carry that a comparison needs", "differs", "differs", a=lambda: u(8), c=lambda: u(8), y=b)
def carry_compared():
    @block
    def wrong(a, c, y):
        @always_comb
        def over():
            y.next = a + a > c  # trap

        return over

    @block
    def right(a, c, y):
        total = u(9)

        @always_comb
        def add():
            total.next = a + a

        @always_comb
        def over():
            y.next = total > c

        return add, over

    return wrong, right


@trap("A carry that a shift needs", "differs", "differs", a=lambda: u(8), c=lambda: u(8), y=lambda: u(8))
def carry_shifted():
    @block
    def wrong(a, c, y):
        @always_comb
        def mean():
            y.next = (a + c) >> 1  # trap

        return mean

    @block
    def right(a, c, y):
        total = u(9)

        @always_comb
        def add():
            total.next = a + c

        @always_comb
        def mean():
            y.next = total >> 1

        return add, mean

    return wrong, right


@trap("One more than the largest value", "agrees", "differs", a=lambda: u(8), c=lambda: u(8), y=b)
def increment_compared():
    @block
    def wrong(a, c, y):
        @always_comb
        def last():
            y.next = a + 1 > c  # trap

        return last

    @block
    def right(a, c, y):
        @always_comb
        def last():
            y.next = a >= c

        return last

    return wrong, right


@trap("The negative of the smallest value", "differs", "differs", a=lambda: s(8), c=lambda: s(8), y=b)
def negated_compared():
    @block
    def wrong(a, c, y):
        @always_comb
        def over():
            y.next = -a > c  # trap

        return over

    @block
    def right(a, c, y):
        negative = s(9)

        @always_comb
        def negate():
            negative.next = 0 - a

        @always_comb
        def over():
            y.next = negative > c

        return negate, over

    return wrong, right


@trap("The negative of the smallest value in a wider target", "agrees", "differs", p=lambda: s(8), y=lambda: s(9))
def negated_wide():
    @block
    def wrong(p, y):
        @always_comb
        def negate():
            y.next = -p  # trap

        return negate

    @block
    def right(p, y):
        @always_comb
        def negate():
            y.next = 0 - p

        return negate

    return wrong, right


@trap("Bits shifted out before a comparison", "differs", "differs", a=lambda: u(8), c=lambda: u(8), y=b)
def shifted_compared():
    @block
    def wrong(a, c, y):
        @always_comb
        def over():
            y.next = (a << 4) > c  # trap

        return over

    @block
    def right(a, c, y):
        scaled = u(12)

        @always_comb
        def scale():
            scaled.next = a << 4

        @always_comb
        def over():
            y.next = scaled > c

        return scale, over

    return wrong, right


@trap(
    "An unsigned operand behind a nested operation", "differs", "agrees",
    p=lambda: s(8), q=lambda: s(8), a=lambda: u(8), y=lambda: s(12),
)  # fmt: skip
def mixed_nested():
    @block
    def wrong(p, q, a, y):
        @always_comb
        def add():
            y.next = p + q + a  # trap

        return add

    @block
    def right(p, q, a, y):
        wide = s(9)

        @always_comb
        def extend():
            wide.next = a

        @always_comb
        def add():
            y.next = p + q + wide

        return extend, add

    return wrong, right


@trap(
    "An unsigned operand behind an element of a list", "differs", "agrees",
    clk=b, p=lambda: s(8), a=lambda: u(8), y=lambda: s(12),
)  # fmt: skip
def mixed_element():
    @block
    def wrong(clk, p, a, y):
        kept = [s(8) for _ in range(2)]

        @always(clk.posedge)
        def keep():
            kept[0].next = p
            kept[1].next = p

        @always_comb
        def add():
            y.next = kept[0] + a  # trap

        return keep, add

    @block
    def right(clk, p, a, y):
        kept = [s(8) for _ in range(2)]

        @always(clk.posedge)
        def keep():
            kept[0].next = p
            kept[1].next = p

        @always_comb
        def add():
            y.next = a + kept[0]

        return keep, add

    return wrong, right


@trap("Unsigned bits behind .signed()", "differs", "agrees", a=lambda: u(8), y=lambda: s(12))
def mixed_bits():
    @block
    def wrong(a, y):
        @always_comb
        def add():
            y.next = a[8:4].signed() + a[4:]  # trap

        return add

    @block
    def right(a, y):
        @always_comb
        def add():
            y.next = a[4:] + a[8:4].signed()

        return add

    return wrong, right


@trap("Two signs in one choice", "differs", "agrees", c=b, a=lambda: u(8), p=lambda: s(8), y=lambda: s(12))
def mixed_choice():
    @block
    def wrong(c, a, p, y):
        @always_comb
        def choose():
            y.next = a if c else p  # trap

        return choose

    @block
    def right(c, a, p, y):
        @always_comb
        def choose():
            if c:
                y.next = a
            else:
                y.next = p

        return choose

    return wrong, right


@trap(
    "A signed value added in place to an unsigned variable",
    "differs",
    "rejected",
    a=lambda: u(8),
    p=lambda: s(6),
    y=lambda: u(9),
)
def mixed_in_place():
    @block
    def wrong(a, p, y):
        @always_comb
        def add():
            t = modbv(0)[9:]
            t[:] = a
            t += p  # trap
            y.next = t

        return add

    @block
    def right(a, p, y):
        @always_comb
        def add():
            t = modbv(0, min=-256, max=256)
            t[:] = a + p
            y.next = t[9:]

        return add

    return wrong, right


@trap("A constant of 2**30 or more beside a signed operand", "differs", "agrees", p=lambda: s(32), y=b)
def large_constant():
    limit = -(1 << 30)

    @block
    def wrong(p, y):
        @always_comb
        def below():
            y.next = p < limit  # trap

        return below

    @block
    def right(p, y):
        edge = limit + 1

        @always_comb
        def below():
            y.next = p < edge

        return below

    return wrong, right


@trap("A quotient of negative values", "differs", "differs", p=lambda: s(8), y=lambda: s(8))
def floor_division():
    @block
    def wrong(p, y):
        @always_comb
        def divide():
            y.next = p // 4  # trap

        return divide

    @block
    def right(p, y):
        @always_comb
        def divide():
            y.next = p >> 2

        return divide

    return wrong, right


@trap("The rest of negative values", "differs", "agrees", p=lambda: s(8), y=lambda: s(8))
def modulo():
    @block
    def wrong(p, y):
        @always_comb
        def rest():
            y.next = p % 4  # trap

        return rest

    @block
    def right(p, y):
        @always_comb
        def rest():
            y.next = p & 3

        return rest

    return wrong, right


@trap("An inverted value in a wider target", "differs", "agrees", a=lambda: u(8), y=lambda: u(10))
def inverted_wide():
    @block
    def wrong(a, y):
        @always_comb
        def invert():
            y.next = ~a  # trap

        return invert

    @block
    def right(a, y):
        inverse = u(8)

        @always_comb
        def invert():
            inverse.next = ~a

        @always_comb
        def extend():
            y.next = inverse

        return invert, extend

    return wrong, right


@trap("An integer variable beyond 32 bits", "differs", "rejected", a=lambda: u(20), y=lambda: u(40))
def integer_variable():
    @block
    def wrong(a, y):
        @always_comb
        def square():
            t = 0
            t = a * a  # trap
            y.next = t

        return square

    @block
    def right(a, y):
        @always_comb
        def square():
            t = intbv(0)[40:]
            t[:] = a * a
            y.next = t

        return square

    return wrong, right


def product(x, z):
    return x * z


def wide_product(x, z):
    t = intbv(0)[40:]
    t[:] = x * z
    return t


@trap("A function that returns an expression", "differs", "rejected", a=lambda: u(20), c=lambda: u(20), y=lambda: u(40))
def function_result():
    @block
    def wrong(a, c, y):
        @always_comb
        def multiply():
            y.next = product(a, c)  # trap

        return multiply

    @block
    def right(a, c, y):
        @always_comb
        def multiply():
            y.next = wide_product(a, c)

        return multiply

    return wrong, right


@trap("An index that leaves its width", "agrees", "differs", i=lambda: u(3), y=lambda: u(8))
def index_overflow():
    table = tuple(range(1, 17))

    @block
    def wrong(i, y):
        @always_comb
        def look():
            y.next = table[i + 1]  # trap

        return look

    @block
    def right(i, y):
        at = u(4)

        @always_comb
        def move():
            at.next = i + 1

        @always_comb
        def look():
            y.next = table[at]

        return move, look

    return wrong, right


@trap("Alternatives in one case", "differs", "agrees", a=lambda: u(2), y=lambda: u(8))
def match_alternatives():
    @block
    def wrong(a, y):
        @always_comb
        def decode():
            match a:
                case 0:
                    y.next = 1
                case 1 | 2:  # trap
                    y.next = 2
                case _:
                    y.next = 3

        return decode

    @block
    def right(a, y):
        @always_comb
        def decode():
            match a:
                case 0:
                    y.next = 1
                case 1:
                    y.next = 2
                case 2:
                    y.next = 2
                case _:
                    y.next = 3

        return decode

    return wrong, right


@trap("A signed signal that nobody drives", "differs", "agrees", p=lambda: s(8), y=lambda: s(10))
def undriven_signed():
    @block
    def wrong(p, y):
        offset = s(8, 3)  # trap

        @always_comb
        def add():
            y.next = p + offset

        return add

    @block
    def right(p, y):
        offset = 3

        @always_comb
        def add():
            y.next = p + offset

        return add

    return wrong, right


@trap("A signed Constant", "differs", "agrees", p=lambda: s(8), y=lambda: s(10))
def signed_constant():
    @block
    def wrong(p, y):
        offset = Constant(intbv(3, min=-128, max=128))  # trap

        @always_comb
        def add():
            y.next = p + offset

        return add

    @block
    def right(p, y):
        offset = Constant(intbv(3)[8:])

        @always_comb
        def add():
            y.next = p + offset

        return add

    return wrong, right


@trap("A list that is only read", "agrees", "differs", a=lambda: u(2), y=lambda: u(8))
def undriven_list():
    @block
    def wrong(a, y):
        words = [u(8, k + 1) for k in range(4)]  # trap

        @always_comb
        def look():
            y.next = words[a]

        return look

    @block
    def right(a, y):
        words = (1, 2, 3, 4)

        @always_comb
        def look():
            y.next = words[a]

        return look

    return wrong, right


@trap(
    "A register that starts at another value than zero, without reset",
    "differs",
    "differs",
    clk=b,
    a=lambda: u(8),
    y=lambda: u(8),
)
def initial_value():
    @block
    def wrong(clk, a, y):
        kept = u(8, 5)  # trap

        @always(clk.posedge)
        def keep():
            kept.next = a
            y.next = kept

        return keep

    @block
    def right(clk, a, y):
        kept = u(8)

        @always(clk.posedge)
        def keep():
            kept.next = a ^ 5

        @always_comb
        def give():
            y.next = kept ^ 5

        return keep, give

    return wrong, right


@trap(
    "A variable of the block that starts at another value than zero",
    "differs",
    "differs",
    clk=b,
    a=lambda: u(8),
    y=lambda: u(8),
)
def initial_variable():
    @block
    def wrong(clk, a, y):
        kept = intbv(5)[8:]  # trap

        @always(clk.posedge)
        def keep():
            y.next = kept
            kept[:] = a

        return keep

    @block
    def right(clk, a, y):
        @always(clk.posedge)
        def keep():
            kept = intbv(5)[8:]
            kept[:] = a
            y.next = kept

        return keep

    return wrong, right


# ---- text that no tool reads ---------------------------------------------------------------------------------------


@trap("A signed signal that nobody drives, below zero", "rejected", "agrees", p=lambda: s(8), y=lambda: s(10))
def undriven_negative():
    @block
    def wrong(p, y):
        offset = s(8, -3)  # trap

        @always_comb
        def add():
            y.next = p + offset

        return add

    @block
    def right(p, y):
        offset = -3

        @always_comb
        def add():
            y.next = p + offset

        return add

    return wrong, right


@trap("A negative Constant", "rejected", "agrees", p=lambda: s(8), y=lambda: s(10))
def negative_constant():
    @block
    def wrong(p, y):
        offset = Constant(intbv(-3, min=-128, max=128))  # trap

        @always_comb
        def add():
            y.next = p + offset

        return add

    @block
    def right(p, y):
        offset = -3

        @always_comb
        def add():
            y.next = p + offset

        return add

    return wrong, right


@trap("Bounds of bits that move with a loop", "rejected", "agrees", a=lambda: u(32), y=lambda: u(32))
def moving_bits():
    @block
    def wrong(a, y):
        @always_comb
        def turn():
            t = intbv(0)[32:]
            for i in range(4):
                t[(i + 1) * 8 : i * 8] = a[8:]  # trap
            y.next = t

        return turn

    @block
    def right(a, y):
        @always_comb
        def turn():
            t = intbv(0)[32:]
            for i in range(24):
                t[i + 8 : i] = a[i + 8 : i]
            y.next = t

        return turn

    return wrong, right


@trap("All bits, x[:], in an expression", "rejected", "agrees", p=lambda: s(8), a=lambda: u(8), y=lambda: s(12))
def full_slice():
    @block
    def wrong(p, a, y):
        @always_comb
        def add():
            y.next = p + a[:]  # trap

        return add

    @block
    def right(p, a, y):
        @always_comb
        def add():
            y.next = p + a

        return add

    return wrong, right


@trap("Bits of an expression", "rejected", "rejected", a=lambda: u(8), y=lambda: u(4))
def bits_of_expression():
    @block
    def wrong(a, y):
        @always_comb
        def cut():
            y.next = intbv(a + 3)[4:]  # trap

        return cut

    @block
    def right(a, y):
        @always_comb
        def cut():
            t = intbv(0)[9:]
            t[:] = a + 3
            y.next = t[4:]

        return cut

    return wrong, right


@trap("max()", "rejected", "rejected", a=lambda: u(8), c=lambda: u(8), y=lambda: u(8))
def builtin_max():
    @block
    def wrong(a, c, y):
        @always_comb
        def choose():
            y.next = max(a, c)  # trap

        return choose

    @block
    def right(a, c, y):
        @always_comb
        def choose():
            if a > c:
                y.next = a
            else:
                y.next = c

        return choose

    return wrong, right


@trap("min()", "rejected", "rejected", a=lambda: u(8), c=lambda: u(8), y=lambda: u(8))
def builtin_min():
    @block
    def wrong(a, c, y):
        @always_comb
        def choose():
            y.next = min(a, c)  # trap

        return choose

    @block
    def right(a, c, y):
        @always_comb
        def choose():
            if a < c:
                y.next = a
            else:
                y.next = c

        return choose

    return wrong, right


@trap("abs()", "rejected", "rejected", p=lambda: s(8), y=lambda: u(8))
def builtin_abs():
    @block
    def wrong(p, y):
        @always_comb
        def size():
            y.next = abs(p)  # trap

        return size

    @block
    def right(p, y):
        @always_comb
        def size():
            if p < 0:
                y.next = -p
            else:
                y.next = p

        return size

    return wrong, right


@trap("A table inside of an expression", "rejected", "rejected", i=lambda: u(2), y=lambda: s(8))
def table_in_expression():
    table = (3, -1, 7, -8)

    @block
    def wrong(i, y):
        @always_comb
        def look():
            y.next = table[i] + 1  # trap

        return look

    @block
    def right(i, y):
        @always_comb
        def look():
            y.next = table[i]

        return look

    return wrong, right


@trap("A shift of a constant", "agrees", "rejected", n=lambda: u(3), y=lambda: u(8))
def constant_shifted():
    @block
    def wrong(n, y):
        @always_comb
        def one_of():
            y.next = 1 << n  # trap

        return one_of

    @block
    def right(n, y):
        @always_comb
        def one_of():
            t = intbv(1)[8:]
            t[:] = 1
            y.next = t << n

        return one_of

    return wrong, right


@trap("A power of a signal", "agrees", "refused", a=lambda: u(8), y=lambda: u(16))
def power():
    @block
    def wrong(a, y):
        @always_comb
        def square():
            y.next = a**2  # trap

        return square

    @block
    def right(a, y):
        @always_comb
        def square():
            y.next = a * a

        return square

    return wrong, right


@trap("A concatenation of signed signals", "agrees", "rejected", p=lambda: s(8), q=lambda: s(8), y=lambda: u(16))
def signed_concatenation():
    @block
    def wrong(p, q, y):
        word = ConcatSignal(p, q)  # trap

        @always_comb
        def give():
            y.next = word

        return give

    @block
    def right(p, q, y):
        high, low = u(8), u(8)
        word = ConcatSignal(high, low)

        @always_comb
        def bits():
            high.next = p[8:]
            low.next = q[8:]

        @always_comb
        def give():
            y.next = word

        return bits, give

    return wrong, right


@trap("A slice x(m, n) of a signed signal", "agrees", "rejected", p=lambda: s(8), y=lambda: u(4))
def signed_slice():
    @block
    def wrong(p, y):
        low = p(4, 0)  # trap

        @always_comb
        def give():
            y.next = low

        return give

    @block
    def right(p, y):
        @always_comb
        def give():
            y.next = p[4:]

        return give

    return wrong, right


@trap("A constant beyond 32 bits", "agrees", "rejected", a=lambda: u(48), y=b)
def beyond_integer():
    limit = 1 << 40

    @block
    def wrong(a, y):
        @always_comb
        def above():
            y.next = a == limit  # trap

        return above

    @block
    def right(a, y):
        @always_comb
        def above():
            y.next = a[48:40] == 1 and a[40:20] == 0 and a[20:] == 0

        return above

    return wrong, right


@trap("A top-level process called like a reserved word", "rejected", "agrees", clk=b, a=lambda: u(8), y=lambda: u(8))
def reserved_process():
    @block
    def wrong(clk, a, y):
        @always(clk.posedge)
        def logic():  # trap
            y.next = a

        return logic

    @block
    def right(clk, a, y):
        @always(clk.posedge)
        def logic_of_y():
            y.next = a

        return logic_of_y

    return wrong, right


@trap("A process called like a reserved word of VHDL", "agrees", "rejected", clk=b, a=lambda: u(8), y=lambda: u(8))
def reserved_process_vhdl():
    @block
    def wrong(clk, a, y):
        @always(clk.posedge)
        def process():  # trap
            y.next = a

        return process

    @block
    def right(clk, a, y):
        @always(clk.posedge)
        def processed():
            y.next = a

        return processed

    return wrong, right


@trap("A signal called like a reserved word", "rejected", "agrees", a=lambda: u(8), y=lambda: u(8))
def reserved_signal():
    @block
    def wrong(a, y):
        byte = u(8)  # trap

        @always_comb
        def take():
            byte.next = a

        @always_comb
        def give():
            y.next = byte

        return take, give

    @block
    def right(a, y):
        octet = u(8)

        @always_comb
        def take():
            octet.next = a

        @always_comb
        def give():
            y.next = octet

        return take, give

    return wrong, right


@trap("A variable called like a reserved word", "rejected", "agrees", a=lambda: u(8), y=lambda: u(8))
def reserved_variable():
    @block
    def wrong(a, y):
        @always_comb
        def copy():
            reg = intbv(0)[8:]  # trap
            reg[:] = a
            y.next = reg

        return copy

    @block
    def right(a, y):
        @always_comb
        def copy():
            held = intbv(0)[8:]
            held[:] = a
            y.next = held

        return copy

    return wrong, right


@trap(
    "A port called like a reserved word",
    "rejected",
    "agrees",
    {"three": lambda: u(8), "y": lambda: u(8)},
    tri=lambda: u(8),
    y=lambda: u(8),
)
def reserved_port():
    @block
    def wrong(tri, y):  # trap
        @always_comb
        def copy():
            y.next = tri

        return copy

    @block
    def right(three, y):
        @always_comb
        def copy():
            y.next = three

        return copy

    return wrong, right


@trap("Names that differ in case only", "agrees", "rejected", a=lambda: u(8), y=lambda: u(8))
def differing_case():
    @block
    def wrong(a, y):
        A = u(8)  # trap

        @always_comb
        def take():
            A.next = a

        @always_comb
        def give():
            y.next = A

        return take, give

    @block
    def right(a, y):
        a_taken = u(8)

        @always_comb
        def take():
            a_taken.next = a

        @always_comb
        def give():
            y.next = a_taken

        return take, give

    return wrong, right


@trap("A name that begins with an underscore", "agrees", "rejected", a=lambda: u(8), y=lambda: u(8))
def underscore():
    @block
    def wrong(a, y):
        _kept = u(8)  # trap

        @always_comb
        def take():
            _kept.next = a

        @always_comb
        def give():
            y.next = _kept

        return take, give

    @block
    def right(a, y):
        kept_a = u(8)

        @always_comb
        def take():
            kept_a.next = a

        @always_comb
        def give():
            y.next = kept_a

        return take, give

    return wrong, right


@trap("States called like a signal", "agrees", "rejected", a=lambda: u(8), y=lambda: u(8))
def state_names():
    clashing, distinct = enum("A", "B"), enum("IDLE", "BUSY")

    @block
    def wrong(a, y):
        state = Signal(clashing.A)  # trap

        @always_comb
        def step():
            if a > 3:
                state.next = clashing.B
            else:
                state.next = clashing.A

        @always_comb
        def give():
            if state == clashing.B:
                y.next = 1
            else:
                y.next = 0

        return step, give

    @block
    def right(a, y):
        state = Signal(distinct.IDLE)

        @always_comb
        def step():
            if a > 3:
                state.next = distinct.BUSY
            else:
                state.next = distinct.IDLE

        @always_comb
        def give():
            if state == distinct.BUSY:
                y.next = 1
            else:
                y.next = 0

        return step, give

    return wrong, right


# ---- what MyHDL itself refuses, without a remedy -------------------------------------------------------------------


@trap("A choice inside of an expression", "refused", "refused", c=b, a=lambda: u(8), y=lambda: u(10))
def choice_in_expression():
    @block
    def wrong(c, a, y):
        @always_comb
        def add():
            y.next = (a if c else 3) + 1  # trap

        return add

    @block
    def right(c, a, y):
        @always_comb
        def add():
            y.next = a if c else 3

        return add

    return wrong, right


@trap("A step in range()", "agrees", "refused", a=lambda: u(8), y=lambda: u(8))
def stepping_loop():
    @block
    def wrong(a, y):
        @always_comb
        def even():
            t = intbv(0)[8:]
            for i in range(0, 8, 2):  # trap
                t[i] = a[i]
            y.next = t

        return even

    @block
    def right(a, y):
        @always_comb
        def even():
            t = intbv(0)[8:]
            for i in downrange(4):
                t[2 * i] = a[2 * i]
            y.next = t

        return even

    return wrong, right


@trap("Membership", "refused", "refused", a=lambda: u(8), y=b)
def membership():
    @block
    def wrong(a, y):
        @always_comb
        def known():
            y.next = a in (1, 2)  # trap

        return known

    @block
    def right(a, y):
        @always_comb
        def known():
            y.next = a == 1 or a == 2

        return known

    return wrong, right


@trap("A chain of comparisons", "refused", "refused", a=lambda: u(8), y=b)
def chained_comparison():
    @block
    def wrong(a, y):
        @always_comb
        def between():
            y.next = 1 < a < 5  # trap

        return between

    @block
    def right(a, y):
        @always_comb
        def between():
            y.next = a > 1 and a < 5

        return between

    return wrong, right


@trap("An f-string", "refused", "refused", a=lambda: u(8), y=lambda: u(8))
def formatted_string():
    @block
    def wrong(a, y):
        @always_comb
        def copy():
            if a == 256:
                print(f"{a}")  # trap
            y.next = a

        return copy

    @block
    def right(a, y):
        @always_comb
        def copy():
            if a == 256:
                print("%d" % a)
            y.next = a

        return copy

    return wrong, right


def offset_by(x, k=1):
    t = intbv(0)[10:]
    t[:] = x + k
    return t


@trap("An argument left to its default", "refused", "refused", a=lambda: u(8), y=lambda: u(10))
def default_argument():
    @block
    def wrong(a, y):
        @always_comb
        def add():
            y.next = offset_by(a)  # trap

        return add

    @block
    def right(a, y):
        @always_comb
        def add():
            y.next = a + 1

        return add

    return wrong, right


@trap("A numpy constant", "refused", "refused", a=lambda: u(8), y=lambda: u(10))
def numpy_constant():
    given = np.int64(5)
    plain = int(given)

    @block
    def wrong(a, y):
        @always_comb
        def add():
            y.next = a + given  # trap

        return add

    @block
    def right(a, y):
        @always_comb
        def add():
            y.next = a + plain

        return add

    return wrong, right


@trap("A list of integers as a table", "refused", "refused", i=lambda: u(2), y=lambda: u(8))
def list_table():
    listed, table = [3, 1, 7, 8], (3, 1, 7, 8)

    @block
    def wrong(i, y):
        @always_comb
        def look():
            y.next = listed[i]  # trap

        return look

    @block
    def right(i, y):
        @always_comb
        def look():
            y.next = table[i]

        return look

    return wrong, right


@trap("A list of lists of signals", "refused", "refused", clk=b, a=lambda: u(8), y=lambda: u(8))
def nested_list():
    @block
    def wrong(clk, a, y):
        m = [[u(8) for _ in range(2)] for _ in range(2)]

        @always(clk.posedge)
        def move():
            m[0][1].next = a  # trap
            y.next = m[0][1]  # trap

        return move

    @block
    def right(clk, a, y):
        m = [u(8) for _ in range(4)]

        @always(clk.posedge)
        def move():
            for i in range(4):
                m[i].next = a

        @always_comb
        def give():
            y.next = m[1]

        return move, give

    return wrong, right


@trap("A list of interfaces", "refused", "refused", clk=b, a=lambda: u(8), y=lambda: u(8))
def interface_list():
    @block
    def wrong(clk, a, y):
        pairs = [Pair() for _ in range(2)]

        @always(clk.posedge)
        def move():
            pairs[0].d.next = a  # trap
            y.next = pairs[0].d  # trap

        return move

    @block
    def right(clk, a, y):
        pair = Pair()

        @always_comb
        def take():
            pair.d.next = a

        @always_comb
        def give():
            y.next = pair.d

        return take, give

    return wrong, right


@trap("A signal in two lists", "refused", "refused", clk=b, a=lambda: u(8), y=lambda: u(8))
def two_lists():
    @block
    def wrong(clk, a, y):
        first = [u(8) for _ in range(2)]
        second = [first[0], first[1]]  # trap

        @always(clk.posedge)
        def take():
            for i in range(2):
                first[i].next = a

        @always_comb
        def give():
            y.next = second[0]

        return take, give

    @block
    def right(clk, a, y):
        first = [u(8) for _ in range(2)]
        second = u(8)

        @always(clk.posedge)
        def take():
            for i in range(2):
                first[i].next = a

        @always_comb
        def copy():
            second.next = first[0]

        @always_comb
        def give():
            y.next = second

        return take, copy, give

    return wrong, right


@trap(
    "A list as a port of the top",
    "refused",
    "refused",
    {"a": lambda: u(8), "y": lambda: u(8)},
    a=lambda: [u(8), u(8)],
    y=lambda: u(8),
)
def list_port():
    @block
    def wrong(a, y):  # trap
        @always_comb
        def give():
            y.next = a[0]

        return give

    @block
    def right(a, y):
        @always_comb
        def give():
            y.next = a

        return give

    return wrong, right


@trap("A signal without a width", "refused", "refused", a=lambda: u(8), y=lambda: u(8))
def no_width():
    @block
    def wrong(a, y):
        kept = Signal(intbv(0))  # trap

        @always_comb
        def take():
            kept.next = a

        @always_comb
        def give():
            y.next = kept

        return take, give

    @block
    def right(a, y):
        kept = Signal(intbv(0)[8:])

        @always_comb
        def take():
            kept.next = a

        @always_comb
        def give():
            y.next = kept

        return take, give

    return wrong, right


# ---- docs/conversion.md --------------------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "conversion.md"
_HEAD = """# What MyHDL converts wrongly

MyHDL 0.11 simulates a block in Python and writes it down as Verilog or VHDL. For the constructs below the text computes
something else than the simulation, or no tool reads it, or MyHDL stops with an error that does not say what to do.
`codesign_kernel.check_block(instance)` finds every one of them, names file and line, and says what to write instead;
`generate_rtl` does so before each conversion.

    import codesign_kernel as ck

    instance = my_block(clk, a, y)   # a function decorated with myhdl.block
    ck.check_block(instance)         # ConversionError: every finding as file:line: reason; remedy
    instance.convert(hdl="Verilog")

"differs" is the worst: every tool takes the text, and it computes something else. The table and the snippets are made
of `tests/traps.py` (`python tests/traps.py` writes this page), whose tests convert and run each of them in Icarus and
GHDL: they fail when a new MyHDL mends a construct. What a function called by a process does inside is not followed,
only what it returns; expressions whose width MyHDL alone can tell are passed over.

`s(n)` and `u(n)` make a signed and an unsigned signal of n bits, `b()` one bit.

| construct | Verilog | VHDL |
|---|---|---|
"""


def _snippet(function: Any) -> str:
    return textwrap.dedent(inspect.getsource(function.func)).replace("  # trap", "").rstrip()


def page() -> str:
    """The text of docs/conversion.md."""
    rows = [f"| [{t.title}](#{t.name}) | {t.verilog} | {t.vhdl} |" for t in TRAPS.values()]
    parts = [_HEAD + "\n".join(rows) + "\n"]
    for t in TRAPS.values():
        ports = {name: kind() for name, kind in t.ports.items()}
        (told, *_) = findings(t.wrong(**ports))
        parts.append(
            f'<a id="{t.name}"></a>\n\n## {t.title}\n\nVerilog: {t.verilog}. VHDL: {t.vhdl}. '
            f"The checker: {told.reason}; {told.remedy}.\n\n"
            f"```python\n{_snippet(t.wrong)}\n```\n\nLawful:\n\n```python\n{_snippet(t.right)}\n```\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
