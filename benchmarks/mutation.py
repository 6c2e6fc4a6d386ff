"""Mutation testing of the generated RTL: what share of small faults does verification notice?

Every mutant of an accelerator's Verilog (:mod:`codesign_kernel.cosim.mutants`) runs the verification sample: before
each network, words that are no instruction, and runs of another network that a reset breaks off. It is killed when a
bit, a cycle of an instruction or a total differs, a register holds something else after a reset, or a run ends
otherwise than it should. One Verilated library holds all mutants of an accelerator. What survives is held against the
original by SAT (``equivalence.py``); what is not proven equivalent counts as survived.

``python benchmarks/mutation.py --machines 2x2-ws --mutants 200 --seed 1`` takes a sample of the mutants.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from equivalence import proven

import codesign_kernel as ck
from codesign_kernel.accelerator.isa import LAYOUT, RESERVED, RESERVED_OS, Instruction, Op
from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.cosim.job import Answer, Job, job_of
from codesign_kernel.cosim.mutants import CHOICE, RESETS, Mutant, mutants, with_switch
from codesign_kernel.cosim.timing import issue_cycles
from codesign_kernel.cosim.verilated import VerilatorSimulator, build, write_program
from codesign_kernel.errors import SimulatorError
from codesign_kernel.lower import Program
from codesign_kernel.rtl import RtlBundle, generate_rtl
from codesign_kernel.session.verification import drawn_case

#: Small arrays of every kind: square and oblong, both dataflows, one bus cycle a word and more, a memory that waits.
MACHINES = {
    f"{rows}x{cols}-{dataflow}": ck.Accelerator.systolic(
        rows, cols, dataflow, activation_kib=0.25, weight_kib=1, accumulator_kib=0.25, instruction_kib=3.5,
        bandwidth_gb_s=bandwidth, memory_latency=latency,
    )
    for rows, cols, dataflow, bandwidth, latency in [
        (2, 2, "ws", 0.2, 2), (4, 2, "ws", 0.2, 3), (2, 4, "ws", 0.4, 1),
        (2, 2, "os", 0.2, 2), (4, 2, "os", 0.2, 3), (2, 4, "os", 0.4, 1),
    ]
}  # fmt: skip
#: Networks of the sample, and runs that are broken off before each.
CASES = 24
RESETS_A_CASE = 8


@dataclass(frozen=True)
class Case:
    """A program, its runs, and what they must give."""

    program: Program
    job: Job
    golden: Any

    @classmethod
    def of(cls, program: Program, inputs: Any) -> Case:
        """The case of a program and quantised inputs."""
        return cls(program, job_of(program, inputs), program.network.predict(inputs))

    def differs(self, answer: Answer) -> bool:
        """Whether bits, cycles of an instruction or totals are not as predicted."""
        p = self.program
        place = p.maps[len(p.network.layers) - 1]
        # zeros fill the last run of a batch up
        outputs = p.unpack(answer.outputs[0], place)[: len(self.golden)].reshape(self.golden.shape)
        return (
            any(cycles != p.cycles for cycles in answer.cycles)
            or any(issues != issue_cycles(p, p.main) for issues in answer.issues)
            or answer.boot_cycles != sum(map(p.cycles_of, p.boot))
            or (bool(p.boot) and answer.boot_issues != issue_cycles(p, p.boot))
            or not np.array_equal(outputs, self.golden)
        )


@dataclass(frozen=True)
class Result:
    """Of one accelerator: how many mutants, how many of them killed, by how many cases, and those that survive."""

    machine: str
    mutants: int
    killed: int
    killed_by: dict[int, int]
    equivalent: tuple[Mutant, ...]
    survived: tuple[Mutant, ...]
    wall_s: float

    @property
    def score(self) -> float:
        """Killed mutants over those that are not equivalent."""
        return self.killed / max(1, self.mutants - len(self.equivalent))


def to_the_end(program: Program) -> Program:
    """The same program with its weights at the end of their memory."""
    depth = program.accelerator.memory("weight").depth
    loads = [i for i in (*program.boot, *program.main) if i.op == Op.LOADP]
    shift = depth - max(i["addr"] + i["count"] for i in loads)

    def moved(i: Instruction) -> Instruction:
        field = "addr" if i.op == Op.LOADP else "waddr"
        return Instruction(i.op, {**i.fields, field: i[field] + shift}) if field in i.fields else i

    def those(instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
        return tuple(moved(i) if i.op == Op.LOADP or "waddr" in i.fields else i for i in instructions)

    return replace(program, boot=those(program.boot), main=those(program.main))


def beyond_the_end(program: Program) -> Program:
    """The same program, filled up to the last instruction that there is room for with loads beyond the ends of the
    memories of weights and of activations: they must change nothing."""
    a = program.accelerator
    loads = [
        Instruction(op, {"addr": a.memory(name).depth, "ext": 0, "count": 1})
        for op, name in ((Op.LOADP, "weight"), (Op.LOADA, "activation"))
    ]
    room = a.memory("instruction").depth - len(program.words)
    at = 1 + next(n for n, i in enumerate(program.main) if i.op == Op.LOADA)
    more = [loads[n % 2] for n in range(room)]
    owners = (*program.owners[:at], *[program.owners[at]] * room, *program.owners[at:])
    return replace(program, main=(*program.main[:at], *more, *program.main[at:]), owners=owners)


def in_parts(program: Program) -> Program:
    """The same program, each CONV of several input tiles as one of the first tile and one that adds the others; the
    lowering has no need of the latter."""
    main: list[Instruction] = []
    owners: list[str] = []
    banks = max(1, program.accelerator.cols // program.accelerator.rows)
    for i, owner in zip(program.main, program.owners, strict=True):
        parts = [i]
        if i.op == Op.CONV and i["nct"] > 1:
            rows = i["nfy"] * i["nfx"] * program.accelerator.rows
            # the second tile is in the next bank, or one map further behind the last bank
            word, bank = divmod(i["bank"] + 1, banks) if banks > 1 else (1, i["bank"])
            more = {
                "acc": 1, "nct": i["nct"] - 1, "addr": i["addr"] + word * i["ct_step"], "bank": bank,
                "waddr": i["waddr"] + rows,
            }  # fmt: skip
            parts = [Instruction(i.op, {**i.fields, "nct": 1}), Instruction(i.op, {**i.fields, **more})]
        main += parts
        owners += [owner] * len(parts)
    split = replace(program, main=tuple(main), owners=tuple(owners))
    return split if len(split.words) <= program.accelerator.memory("instruction").depth else program


def sample(accelerator: ck.Accelerator, seed: int, count: int) -> list[Case]:
    """The verification sample on one accelerator; every fourth program at the ends of the memories, every fourth with
    loads beyond them, every fourth with its sums in parts."""
    cases = []
    for number in range(count):
        program, inputs = drawn_case(seed, number, accelerator, False)
        change = {1: to_the_end, 2: in_parts, 3: beyond_the_end}.get(number % 4, lambda same: same)
        case = Case.of(change(program), inputs)
        if change is beyond_the_end:  # one word more than there is room for
            case = replace(case, job=replace(case.job, words=[*case.job.words, illegal_words(accelerator)[0]]))
        cases.append(case)
    return cases


def illegal_words(accelerator: ck.Accelerator) -> list[int]:
    """Words that are no instruction of ``accelerator``: unknown operations, those of the other dataflow, reserved bits,
    banks that there are not."""
    other = {"ws": (Op.TILE, Op.SUM), "os": (Op.LOADQ, Op.CONV, Op.STORE)}[accelerator.dataflow]
    reserved = {"ws": RESERVED, "os": RESERVED_OS}[accelerator.dataflow]
    unknown = [code for code in range(16) if code not in set(Op) - set(other)]
    words = unknown + [1 << bit for bit in (reserved, INSTRUCTION_BITS - 1)]
    if accelerator.rows == accelerator.cols:
        words += [int(Op.LOADP) | 1 << (LAYOUT["bank"][0] + bit) for bit in (0, LAYOUT["bank"][1] - 1)]
    return words


class Troubled(VerilatorSimulator):
    """Verilator after a hard life: words that are no instruction, and runs of another program that a reset breaks off.

    An accelerator must refuse the words and go on, and forget the run.
    """

    def __init__(self, accelerator: ck.Accelerator, other: Case, at: int) -> None:
        self.accelerator, self.other = accelerator, other.job
        chosen = np.random.default_rng(at).integers(1, other.program.cycles - 2, RESETS_A_CASE)
        self.after = [int(after) for after in chosen]

    def _start(self, library: Any, handle: Any, entry: int, limit: int) -> int:
        """A run on a copy of the other job's memory; how it ends, as the harness says."""
        memory, issued = self.other.memory.copy(), ctypes.c_uint()
        return int(
            library.core_run(
                handle, entry, memory.ctypes.data, memory.nbytes, self.accelerator.bus_bits // 8, limit,
                self.accelerator.memory_latency, ctypes.byref(ctypes.c_uint()), (ctypes.c_uint * 1)(), 0,
                ctypes.byref(issued),
            )
        )  # fmt: skip

    def prepare(self, library: ctypes.CDLL, handle: ctypes.c_void_p, job: Job) -> None:
        """Illegal words, HALT after each, then the run that is broken off."""
        for word in illegal_words(self.accelerator):
            for what, status in ((word, 2), (int(Op.HALT), 0)):
                write_program(library, handle, [what])
                if self._start(library, handle, 0, 20) != status:
                    raise SimulatorError(f"word {what:#x} ends otherwise than with status {status}")
        write_program(library, handle, [illegal_words(self.accelerator)[0]])
        self._start(library, handle, 0, 20)
        library.core_reset(handle)
        write_program(library, handle, self.other.words)
        for after in self.after:
            if self._start(library, handle, self.other.entry, after) != 1:
                raise SimulatorError(f"the other program has ended after {after} cycles")
            library.core_reset(handle)


class Trial:
    """A worker's view: the library with all mutants, and the cases, shortest first."""

    bundle: RtlBundle
    cases: list[Case]
    #: what registers hold after the resets of each case
    resets: list[str]

    @classmethod
    def run(cls, at: int) -> tuple[Answer, str]:
        """Case ``at``, after the next one has been broken off; and its registers after each reset."""
        case, other = cls.cases[at], cls.cases[(at + 1) % len(cls.cases)]
        answer = Troubled(cls.bundle.accelerator, other, at).run(cls.bundle, case.job)
        return answer, Path(RESETS).read_text()

    @classmethod
    def learn(cls) -> list[str]:
        """What registers hold after resets when nothing is wrong; ends the program where a case fails."""
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            Path(CHOICE).write_text("0\n")
            found = []
            for at, case in enumerate(cls.cases):
                answer, resets = cls.run(at)
                # power-on, illegal word, and every run that was broken off
                states, ends = resets.splitlines(), 2 + RESETS_A_CASE
                size = len(states) // ends
                if case.differs(answer) or not size or states != states[:size] * ends:
                    sys.exit(f"case {at} fails without any mutant")
                found.append(resets)
            return found

    @classmethod
    def kills(cls, number: int) -> int | None:
        """The case that notices mutant ``number``; ``None`` where none does."""
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            Path(CHOICE).write_text(f"{number:x}\n")
            for at, case in enumerate(cls.cases):
                try:
                    answer, resets = cls.run(at)
                except SimulatorError:
                    return at
                if case.differs(answer) or resets != cls.resets[at]:
                    return at
        return None


def alive(trials: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, int | None]]:
    """Each mutant with the case that kills it."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from zip(trials, pool.map(Trial.kills, [m.number for m in trials], chunksize=8), strict=True)


def run(machine: str, count: int, seed: int, cases: int, jobs: int, prove: bool) -> Result:
    """Mutation testing of one accelerator; ``count`` mutants drawn at random, or all (0)."""
    started = time.perf_counter()
    bundle = generate_rtl(MACHINES[machine])
    every = mutants(bundle.verilog)
    if 0 < count < len(every):
        every = sorted(random.Random(seed).sample(every, count), key=lambda mutant: mutant.number)
    switched = with_switch(bundle.verilog, bundle.top, every)
    Trial.bundle = replace(bundle, files={f"{bundle.top}.v": switched})
    build(Trial.bundle)
    found = sample(bundle.accelerator, seed, cases)
    Trial.cases = sorted(found, key=lambda case: case.program.cycles * len(case.job.inputs))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        Trial.resets = pool.submit(Trial.learn).result()
    answers = list(alive(every, jobs))
    left = [mutant for mutant, case in answers if case is None]
    equal = proven(bundle.verilog, left) if prove else []
    killed_by = Counter(case for _, case in answers if case is not None)
    return Result(
        machine, len(every), len(every) - len(left), dict(sorted(killed_by.items())), tuple(equal),
        tuple(mutant for mutant in left if mutant not in equal), time.perf_counter() - started,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Print a table, and the mutants that survive."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--machines", nargs="+", choices=list(MACHINES), default=list(MACHINES))
    parser.add_argument(
        "--mutants", type=int, default=250, metavar="N", help="drawn of each machine's (default 250; 0: all)"
    )
    parser.add_argument("--cases", type=int, default=CASES, metavar="N", help=f"networks (default {CASES})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the networks, and of the choice")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--no-proof", action="store_true", help="count equivalent mutants as survived")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result, with every survivor")
    given = parser.parse_args(arguments)
    results = []
    for machine in given.machines:
        result = run(machine, given.mutants, given.seed, given.cases, given.jobs, not given.no_proof)
        results.append(result)
        print(
            f"{machine}: {result.mutants} mutants, {result.killed} killed, {len(result.equivalent)} proven equivalent, "
            f"{len(result.survived)} survived: {result.score:.1%} killed of those that are not equivalent; "
            f"{result.wall_s:.0f} s",
            flush=True,
        )
        for mutant in result.survived:
            print(f"  {mutant}")
    if given.out is not None:
        body = [{**asdict(result), "score": result.score} for result in results]
        given.out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
