"""Programs as text: what is printed reads back, and what cannot be read is told with its line."""

from __future__ import annotations

import numpy as np
import pytest
from cases import MACHINES, TINY, pair, random_inputs, runnable
from emulator import Emulator

from codesign_kernel.accelerator.isa import FIELDS, OPTIONAL, RESERVED, Instruction, Op
from codesign_kernel.assembly import assemble, parse
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.lower import Program, lower

A = TINY["2x2"]


def outcome(program: Program, x: np.ndarray) -> np.ndarray:
    """What the interpreter of the instruction set makes of one input."""
    memory = np.zeros(program.memory_bytes, dtype=np.uint8)
    memory[: len(program.parameters)] = program.parameters
    emulator = Emulator(program.accelerator, program.words, memory)
    if program.boot:
        emulator.run(0)
    emulator.external[program.bytes_of(program.maps[-1])] = program.pack(x)[0]
    emulator.run(program.entry)
    place = program.maps[len(program.network.layers) - 1]
    return program.unpack(emulator.external[program.bytes_of(place)][None], place)


@pytest.mark.parametrize("name", ["2x2", "4x4 int4", "2x8", "9x3"])
def test_programs_round_trip(name):
    """Words, cycles, layers and the text itself; negative coordinates among them."""
    negative = 0
    for program in runnable(MACHINES[name], 40, 10):
        text = program.assembly()
        again = assemble(text, program)
        assert again.words == program.words
        assert (len(again.boot), again.owners, again.cycles) == (len(program.boot), program.owners, program.cycles)
        assert again.assembly() == text
        lines = parse(text)
        assert [line.cycles for line in lines] == [program.cycles_of(i) for i in (*program.boot, *program.main)]
        assert sum(line.cycles for line in lines[program.entry :]) == program.cycles
        negative += "iy0=-" in text
    assert negative


def test_every_operation_round_trips_at_its_ends():
    for op in Op:
        for bits in (0, (1 << RESERVED) - 1):
            word = bits & ~15 | op
            instruction = Instruction.decode(word)
            (line,) = parse(str(instruction))
            assert line.instruction == instruction
            assert tuple(line.instruction.fields) == tuple(name for name in FIELDS[op] if name not in OPTIONAL)


def test_remarks_addresses_cycles_and_layers_may_be_left_out():
    lines = parse("; a remark\n\nLOADQ count=7 waddr=2\n  1 HALT\n   2   2  HALT  ; end; of all \n")
    assert [str(line.instruction) for line in lines] == ["LOADQ  waddr=2 count=7", "HALT", "HALT"]
    assert [(line.layer, line.cycles) for line in lines] == [("", None), ("", None), ("end; of all", 2)]


def test_an_edited_program_does_something_else():
    program = lower(pair(), A)
    inputs = random_inputs(np.random.default_rng(1), program.network, 8)
    edited = assemble(program.assembly().replace("relu=1", "relu=0"), program)
    golden = program.network.predict(inputs).tolist()
    right, wrong = (
        [outcome(ran, x[None]).reshape(-1).tolist() for x in inputs]
        for ran in (assemble(program.assembly(), program), edited)
    )
    assert right == golden
    assert wrong != golden


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("HALT\n!", "line 2: an instruction is an operation and its fields, but got '!'"),
        ("JUMP to=3", "line 1: operations are HALT, LOADP, .*, but got 'JUMP'"),
        ("HALT x=1", "line 1: HALT takes each of no field once as name=integer, but got 'x=1'"),
        ("LOADQ waddr=1 count=2 count=2", "LOADQ takes each of waddr, count once as name=integer, but got 'count=2'"),
        ("LOADQ waddr=1 count=two", "but got 'count=two'"),
        ("LOADQ waddr=1", "line 1: LOADQ lacks count"),
        ("; remark\nLOADQ waddr=-1 count=2", "line 2: waddr of LOADQ lies between 0 and 262143, but got -1"),
        ("0 HALT\n2 HALT", "line 2: addresses count from 0, so this one is 1, but got 2"),
    ],
)
def test_what_cannot_be_read_is_told(text, told):
    with pytest.raises(InvalidInputError, match=told):
        parse(text)


@pytest.mark.parametrize(("text", "told"), [("", "got 0 and 0"), ("HALT ; boot", "got 1 and 1"), ("HALT\n" * 37, "37")])
def test_a_program_that_cannot_run_is_refused(text, told):
    with pytest.raises(InvalidInputError, match=f"at most 36 in all, but .*{told}"):
        assemble(text, lower(pair(), A))
