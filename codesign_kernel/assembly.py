"""Programs as text, read back: what :meth:`codesign_kernel.lower.Program.assembly` prints, and what people make of it.

One instruction a line: its address, the cycles that it takes, the operation, its fields as ``name=value``, and behind a
semicolon the layer that it belongs to::

        4        18  CONV   acc=0 bank=0 addr=0 waddr=0 nx=4 ny=2 ...  ; conv1

Address and cycles may be left out, as may the layer. Lines that begin with a semicolon are remarks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

from codesign_kernel.accelerator.isa import FIELDS, OPTIONAL, Instruction, Op
from codesign_kernel.errors import CapacityError, InvalidInputError
from codesign_kernel.lower import Program

#: The layer of the instructions that load the weights once.
BOOT = "boot"
_LINE = re.compile(
    r"(?:(?P<address>\d+)\s+(?:(?P<cycles>\d+)\s+)?)?(?P<op>[A-Za-z]\w*)(?P<fields>[^;]*)(?:;(?P<layer>.*))?"
)


@dataclass(frozen=True)
class Line:
    """One instruction of a program: the layer that it belongs to, and its cycles where the text has them."""

    instruction: Instruction
    layer: str = ""
    cycles: int | None = None


def _instruction(op: str, words: Iterable[str]) -> Instruction:
    """The instruction in words of an assembly line.

    Raises:
        InvalidInputError, CapacityError: there is no such operation or field; a value does not fit.
    """
    if op not in Op.__members__:
        raise InvalidInputError(f"operations are {', '.join(Op.__members__)}, but got {op!r}")
    fields: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in FIELDS[Op[op]] or name in fields or not re.fullmatch(r"-?\d+", value):
            raise InvalidInputError(
                f"{op} takes each of {', '.join(FIELDS[Op[op]]) or 'no field'} once as name=integer, but got {word!r}"
            )
        fields[name] = int(value)
    missing = [name for name in FIELDS[Op[op]] if name not in fields and name not in OPTIONAL]
    if missing:
        raise InvalidInputError(f"{op} lacks {', '.join(missing)}")
    instruction = Instruction(Op[op], {name: fields[name] for name in FIELDS[Op[op]] if name in fields})
    instruction.encode()
    return instruction


def parse(text: str) -> tuple[Line, ...]:
    """The instructions of ``text``, in order.

    Raises:
        InvalidInputError: a line is no instruction, a value does not fit its field, or an address is not the line's;
            the message has the number of the line.
    """
    found: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InvalidInputError(
                f"line {number}: an instruction is an operation and its fields, but got {line.strip()!r}"
            )
        try:
            instruction = _instruction(match["op"], match["fields"].split())
        except (InvalidInputError, CapacityError) as error:
            raise InvalidInputError(f"line {number}: {error}") from error
        if match["address"] is not None and int(match["address"]) != len(found):
            raise InvalidInputError(
                f"line {number}: addresses count from 0, so this one is {len(found)}, but got {match['address']}; "
                "correct it, or leave addresses and cycles out"
            )
        cycles = None if match["cycles"] is None else int(match["cycles"])
        found.append(Line(instruction, (match["layer"] or "").strip(), cycles))
    return tuple(found)


def assemble(text: str, program: Program) -> Program:
    """``program`` with the instructions of ``text``: equal network, weights and places in memory, another way.

    The instructions of the layer ``boot`` at the beginning run once, all others for every inference.

    Raises:
        InvalidInputError: as for :func:`parse`; or nothing is left to run, or too much for the instruction memory.
    """
    lines = parse(text)
    boot = len(list(takewhile(lambda line: line.layer == BOOT, lines)))
    depth = program.accelerator.memory("instruction").depth
    if not boot < len(lines) <= depth:
        raise InvalidInputError(
            f"a program has an instruction behind those of the boot, and at most {depth} in all, but got {boot} and "
            f"{len(lines)}"
        )
    instructions = tuple(line.instruction for line in lines)
    owners = tuple(line.layer for line in lines[boot:])
    return replace(program, boot=instructions[:boot], main=instructions[boot:], owners=owners)
