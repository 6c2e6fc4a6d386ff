"""Cycles instruction by instruction: when each should issue, and the first that took another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from codesign_kernel.accelerator.isa import ISSUE, Instruction
from codesign_kernel.lower import Program


@dataclass(frozen=True)
class InstructionMismatch:
    """The first instruction that took another number of cycles than its law says.

    Attributes:
        vector: number of the input; -1 is the boot.
        address: of the instruction.
        instruction: as text.
        layer: that it belongs to.
        cycle: of the inference, in which it began.
        expected, got: its cycles by the law and on the RTL; ``got`` is ``None`` where the RTL never came to its end.
    """

    vector: int
    address: int
    instruction: str
    layer: str
    cycle: int
    expected: int
    got: int | None

    def __str__(self) -> str:
        where = "boot" if self.vector < 0 else f"input {self.vector}"
        took = "never ended" if self.got is None else f"took {self.got}"
        return (
            f"{where}, layer {self.layer!r}, address {self.address}, from cycle {self.cycle} on: "
            f"{self.instruction} takes {self.expected} cycles, but {took}"
        )


@dataclass(frozen=True)
class Timed:
    """An instruction of a run as it went.

    Attributes:
        address, instruction, layer: which one, as text, and the layer that it belongs to.
        begin: the cycle of the run in which it begins on the RTL.
        expected, got: its cycles by its law and on the RTL.
    """

    address: int
    instruction: str
    layer: str
    begin: int
    expected: int
    got: int


def timed(program: Program, issues: Sequence[int], cycles: int) -> tuple[Timed, ...]:
    """The instructions of a run of ``program`` that issued, in order.

    Args:
        issues: the cycles in which they did, as in :class:`codesign_kernel.cosim.job.Answer`.
        cycles: of the run.
    """
    ends = [*issues[1:], cycles + ISSUE]
    return tuple(
        Timed(program.entry + at, str(one), owner, begin - ISSUE, program.cycles_of(one), end - begin)
        for at, (one, owner, begin, end) in enumerate(
            zip(program.main, program.owners, issues, ends, strict=False)  # RTL that is broken may stop early
        )
    )


def issue_cycles(program: Program, instructions: Sequence[Instruction]) -> tuple[int, ...]:
    """The cycle of the run in which each of ``instructions`` issues; the last one's is the length of the run."""
    at, cycles = ISSUE, []
    for instruction in instructions:
        cycles.append(at)
        at += program.cycles_of(instruction)
    return tuple(cycles)


def first_difference(program: Program, vector: int, issues: Sequence[int]) -> InstructionMismatch | None:
    """The first instruction of a run of ``program`` that took another time; ``vector`` -1 is the boot."""
    boot = vector < 0
    instructions = program.boot if boot else program.main
    expected = issue_cycles(program, instructions)
    if tuple(issues) == expected:
        return None
    owners = ("boot",) * len(program.boot) if boot else program.owners
    # an instruction lasts until the next one issues; HALT, which ends the run, for its own fetch and decode
    lengths = [after - before for before, after in pairwise(issues)]
    laws = [after - before for before, after in pairwise(expected)]
    same = list(issues[:1]) == list(expected[:1])
    at = next((i for i, law in enumerate(laws) if not same or lengths[i : i + 1] != [law]), len(laws))
    got = lengths[at] if at < len(lengths) else None
    return InstructionMismatch(
        vector,
        at if boot else program.entry + at,
        str(instructions[at]),
        owners[at],
        expected[at] - ISSUE,
        program.cycles_of(instructions[at]),
        got,
    )


def layer_cycles(program: Program, layer: str) -> tuple[int, int]:
    """The first and the last cycle of an inference in which instructions of ``layer`` run."""
    starts = [at - ISSUE for at in issue_cycles(program, program.main)]
    mine = [i for i, owner in enumerate(program.owners) if owner == layer]
    return starts[mine[0]], starts[mine[-1]] + program.cycles_of(program.main[mine[-1]]) - 1
