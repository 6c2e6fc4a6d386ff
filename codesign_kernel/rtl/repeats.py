"""Statements that are alike but for numbers in step become one loop of the language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: A number of a statement: a part of no name, no sized literal, no string.
NUMBER = re.compile(r"""("[^"]*")|(?<![\w'])(\d+)(?![\w'"])""")
#: Fewer statements stay as they are.
_FEWEST = 3
LINE = 120
INDEX = "index"


@dataclass(frozen=True)
class Statement:
    """A concurrent statement, ``text``, that makes or drives ``name``."""

    name: str
    text: str


def wrap(text: str, indent: str = "", after: str = ", ") -> str:
    """``text``, one line, in lines of a house's width that end ``after`` such places."""
    lines = [indent]
    for piece in re.findall(rf".+?(?:{after}|$)", text):
        if lines[-1].strip() and len(lines[-1]) + len(piece.rstrip()) > LINE:
            lines.append(f"{indent}    ")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def shape(text: str) -> str:
    """``text`` without its numbers."""
    return NUMBER.sub(lambda found: found[1] or "#", text)


def numbers(text: str) -> list[int]:
    """The numbers of ``text``."""
    return [int(found[2]) for found in NUMBER.finditer(text) if found[2]]


def runs(statements: Sequence[Statement]) -> list[list[int]]:
    """The positions of ``statements`` in lists: of those that can be a loop, and of each other one by itself."""
    by_shape: dict[str, list[int]] = {}
    for position, statement in enumerate(statements):
        by_shape.setdefault(shape(statement.text), []).append(position)
    found: list[list[int]] = []
    for positions in by_shape.values():
        values = [numbers(statements[position].text) for position in positions]
        start = 0
        while start < len(positions):
            end = start + 1
            steps = None
            while end < len(positions):
                step = [b - a for a, b in zip(values[end - 1], values[end], strict=True)]
                if steps not in (None, step):
                    break
                steps, end = step, end + 1
            if end - start < _FEWEST or steps is None or not any(steps):
                end = start + 1
            found.append(positions[start:end])
            start = end
    return sorted(found)


def loop(statements: Sequence[Statement], label: str, verilog: bool) -> str:
    """One loop for ``statements``, which are a run."""
    first, second = (numbers(statement.text) for statement in statements[:2])
    steps = iter(zip(first, second, strict=True))

    def replace(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        start, after = next(steps)
        step = after - start
        if not step:
            return found[2]
        text = INDEX if abs(step) == 1 else f"{abs(step)}*{INDEX}"
        return f"{start} - {text}" if step < 0 else f"{text} + {start}" if start else text

    text = wrap(NUMBER.sub(replace, statements[0].text), "    ")
    last = len(statements)
    if verilog:
        return f"for ({INDEX} = 0; {INDEX} < {last}; {INDEX} = {INDEX} + 1) begin: {label}\n{text}\nend"
    return f"{label}: for {INDEX} in 0 to {last - 1} generate\n{text}\nend generate;"
