"""POOL on the RTL, alone and among the other instructions: every bit of the activation memory, and every cycle.

Programs are drawn at random, or written by hand, and are not what lowering makes; :mod:`emulator` says what they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
from cases import machine
from emulator import Emulator

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.isa import ISSUE, RESERVED, RESERVED_OS, Instruction, Op, cycles
from codesign_kernel.cosim import find_simulator
from codesign_kernel.cosim.job import Job
from codesign_kernel.errors import SimulatorError
from codesign_kernel.rtl import generate_rtl

#: Words of the activation memory, and rows of weights; the lower half of the words is read while the upper is written,
#: and the other way round.
WORDS, ROWS = 64, 160


def pooling_machine(rows: int, cols: int, bits: int, dataflow: str) -> Accelerator:
    """An accelerator with ``WORDS`` words, ``ROWS`` rows of weights and 36 of accumulators."""
    a = machine(rows, cols, 1, 1, 1, weight_bits=bits, dataflow=dataflow)
    return machine(
        rows, cols, WORDS * a.word_bits / 8192, ROWS * cols * bits / 8192, 36 * cols * a.acc_bits / 8192,
        weight_bits=bits, dataflow=dataflow, instruction_kib=4,
    )  # fmt: skip


#: Square, wide and tall arrays; banks of inputs and of results; every precision.
SHAPES = [(2, 2, 8), (2, 4, 8), (4, 2, 8), (8, 2, 4), (2, 2, 16), (4, 2, 16), (2, 4, 4), (1, 1, 8)]
MACHINES = {
    f"{rows}x{cols} int{bits} {dataflow}": pooling_machine(rows, cols, bits, dataflow)
    for rows, cols, bits in SHAPES
    for dataflow in ("ws", "os")
}


@dataclass
class Draft:
    """A program in the making: it begins with a LOADA of the whole activation memory and a LOADP of all weights."""

    a: Accelerator
    rng: np.random.Generator
    instructions: list[Instruction] = field(default_factory=list)
    weights: list[list[int]] = field(default_factory=list)

    def emit(self, op: Op, **fields: int) -> None:
        self.instructions.append(Instruction(op, fields))

    def parameters(self, to: int = 0) -> None:
        """LOADQ or TILE with other parameters in each lane; results are spread over the range, and beyond it."""
        a = self.a
        packed = []
        for _ in range(a.cols):
            bias = int(self.rng.integers(-(1 << a.weight_bits), 1 << a.weight_bits)) % (1 << a.acc_bits)
            multiplier, shift = int(self.rng.integers(1 << 14, 1 << 16)), int(self.rng.integers(15, 19))
            spare = a.quant_rows * a.weight_bits - (a.acc_bits + 24)
            packed.append((bias | multiplier << a.acc_bits | (shift - 1) << (a.acc_bits + 16)) << spare)
        at = len(self.weights)
        mask = (1 << a.weight_bits) - 1
        self.weights += [[p >> (k * a.weight_bits) & mask for p in packed] for k in range(a.quant_rows)]
        if a.dataflow == "ws":
            self.emit(Op.LOADQ, waddr=at, count=a.quant_rows)
        else:
            self.emit(Op.TILE, addr=to, waddr=at, count=a.quant_rows)

    @property
    def room(self) -> int:
        return ROWS - len(self.weights) - 2 * self.a.quant_rows

    def window(self, lowest: int, kx: int, ky: int) -> dict[str, int]:
        """A map in the half of the memory from ``lowest`` on, and steps that leave every window some of it."""
        draw = self.rng.integers
        while True:
            width, height = int(draw(1, 9)), int(draw(1, 5))
            origin = lowest + int(draw(0, WORDS // 2 - width * height + 1))
            f = {name: int(draw(1, 4)) for name in ("sx", "sy")} | {name: int(draw(1, 3)) for name in ("dx", "dy")}
            f |= {"nx": int(draw(1, 6)), "ny": int(draw(1, 6)), "ix0": -int(draw(0, 3)), "iy0": -int(draw(0, 3))}
            f |= {"nfx": kx, "nfy": ky, "width": width, "height": height}
            f |= {"addr": origin + f["iy0"] * width + f["ix0"], "row_step": f["sy"] * width, "tap_row": f["dy"] * width}
            if all(
                any(0 <= f["ix0"] + x * f["sx"] + k * f["dx"] < width for k in range(kx))
                and any(0 <= f["iy0"] + y * f["sy"] + k * f["dy"] < height for k in range(ky))
                for x, y in product(range(f["nx"]), range(f["ny"]))
            ):
                return f

    def bank(self) -> int:
        return int(self.rng.integers(0, self.a.rows // self.a.cols)) if self.a.rows > self.a.cols else 0

    def pool(self, lowest: int, kx: int, ky: int, add: int) -> None:
        """A POOL of windows of ``kx`` x ``ky``."""
        self.parameters()
        f = self.window(lowest, kx, ky)
        to = WORDS // 2 - lowest + int(self.rng.integers(0, WORDS // 2 - f["nx"] * f["ny"] + 1))
        f |= {"to": to, "bank": self.bank(), "relu": int(self.rng.integers(0, 2)), "sum": add}
        self.emit(Op.POOL, **f)

    def convolve(self, lowest: int) -> None:
        """CONV and STORE, or TILE and SUM, of one input tile, with maxima over windows of one to three."""
        a, draw = self.a, self.rng.integers
        side, nx, ny = (int(v) for v in draw(1, (4, 3, 3)))
        to, waddr = WORDS // 2 - lowest + int(draw(0, WORDS // 2 - 3)), len(self.weights)
        f = {"nfx": int(draw(1, 3)), "nfy": 1, "nct": 1, "waddr": waddr, "dx": 1, "dy": 1, "tap_row": 8, "ct_step": 0}
        f |= {"ix0": -int(draw(0, 2)), "iy0": -int(draw(0, 2)), "width": 8, "height": 4, "sx": 1, "sy": 1}
        f |= {"addr": lowest + f["iy0"] * 8 + f["ix0"], "row_step": 8}
        values = self.rng.integers(0, 1 << a.weight_bits, (f["nfx"] * a.rows, a.cols))
        self.weights += values.tolist()
        relu, wide = int(draw(0, 2)), max(a.cols // a.rows, 1)
        read = int(draw(0, wide))
        self.parameters(to)
        if a.dataflow == "ws":
            self.emit(Op.CONV, acc=0, bank=read, **f | {"nx": nx * side, "ny": ny * side})
            self.emit(Op.STORE, relu=relu, bank=self.bank(), addr=to, nx=nx, ny=ny, pool=side, acc_row=nx * side)
        else:
            bank = read if wide > 1 else self.bank()
            self.emit(Op.SUM, relu=relu, bank=bank, window=side, **f | {"nx": nx, "ny": ny})

    def law(self, instruction: Instruction) -> int:
        """Cycles of ``instruction``."""
        a, f = self.a, instruction.fields
        return int(
            cycles(
                instruction.op, rows=a.rows, cols=a.cols,
                beats=a.weight_beats if instruction.op == Op.LOADP else a.activation_beats, count=f.get("count", 0),
                positions=f.get("nx", 0) * f.get("ny", 0), taps=f.get("nct", 1) * f.get("nfx", 1) * f.get("nfy", 1),
                pool=f.get("pool", f.get("window", 1)),
            )
        )  # fmt: skip

    def agree(self, simulator: str, runs: int = 1) -> np.ndarray[Any, Any]:
        """Run it on the RTL and on the interpreter: the same memory, in the cycles of the law. Returns the former as
        values, (runs, WORDS, lanes)."""
        a = self.a
        row, beat = a.weight_beats * a.bus_bits // 8, a.bus_bits // 8
        held, size = len(self.weights) * row, WORDS * a.word_bits // 8
        assert len(self.weights) <= ROWS
        start, end = -(-held // beat), -(-held // beat) + size // beat
        program = [
            Instruction(Op.LOADP, {"addr": 0, "ext": 0, "count": len(self.weights)}),
            Instruction(Op.LOADA, {"addr": 0, "ext": start, "count": WORDS}),
            *self.instructions,
            Instruction(Op.SAVE, {"addr": 0, "ext": end, "count": WORDS}),
            Instruction(Op.HALT),
        ]
        memory = np.zeros(end * beat + size, dtype=np.uint8)
        for i, values in enumerate(self.weights):
            word = sum(value << (j * a.weight_bits) for j, value in enumerate(values))
            memory[i * row : (i + 1) * row] = [*word.to_bytes(row, "little")]
        inputs = self.rng.integers(0, 256, (runs, size), dtype=np.uint8)
        words, output = [i.encode() for i in program], slice(end * beat, end * beat + size)
        job = Job(words, False, 0, memory, inputs, slice(start * beat, start * beat + size), (output,), 100_000)
        answer = find_simulator(simulator).run(generate_rtl(a), job)
        emulator = Emulator(a, words, memory.copy())
        for run in range(runs):
            emulator.external[job.input_at] = inputs[run]
            emulator.run(0)
            got, want = answer.outputs[0][run], emulator.external[output]
            where = np.flatnonzero(got != want)
            assert where.size == 0, f"run {run}, word {where[0] // (a.word_bits // 8)} of {WORDS}"
        laws = [self.law(i) for i in program]
        assert answer.issues == [tuple(ISSUE + sum(laws[:i]) for i in range(len(laws)))] * runs
        assert answer.cycles == [sum(laws)] * runs
        flat = answer.outputs[0]
        if a.weight_bits == 4:
            flat = np.stack([flat << 4, flat], axis=-1).view(np.int8) >> 4
        return flat.reshape(runs, -1).view(np.int16 if a.weight_bits == 16 else np.int8).reshape(runs, WORDS, a.lanes)


def windows(a: Accelerator, seed: int) -> Draft:
    """Windows of every size from 1 x 1 to 4 x 4, both ways to pool, as many as the weight memory has parameters for."""
    draft = Draft(a, np.random.default_rng(seed))
    sizes = [(kx, ky) for kx in range(1, 5) for ky in range(1, 5)]
    draft.rng.shuffle(sizes)
    for i, (kx, ky) in enumerate(sizes):
        if draft.room < a.quant_rows:
            break
        draft.pool((i % 2) * WORDS // 2, int(kx), int(ky), (i // 2 + seed) % 2)
    return draft


def mixture(a: Accelerator, seed: int) -> Draft:
    """POOL before and behind CONV and STORE, or SUM: what one leaves in the pipelines must not reach the next."""
    draft = Draft(a, np.random.default_rng(seed))
    for i in range(6):
        lowest = (i % 2) * WORDS // 2
        if draft.room < 2 * a.quant_rows + 2 * a.rows:
            break
        if i % 3 == 1:
            draft.convolve(lowest)
        else:
            draft.pool(lowest, int(draft.rng.integers(1, 4)), int(draft.rng.integers(1, 3)), i % 2)
    return draft


ALL = [pytest.param(name, marks=pytest.mark.slow) for name in MACHINES]
FEW = [
    "2x2 int8 ws",
    "4x2 int8 os",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("4x2 int8 ws", "2x4 int4 os", "8x2 int4 ws")),
]


@pytest.mark.verilator
@pytest.mark.parametrize("name", ALL)
class TestVerilator:
    @pytest.mark.parametrize("seed", range(6))
    def test_windows(self, name, seed):
        got = windows(MACHINES[name], seed).agree("verilator", runs=3)
        assert len(np.unique(got)) > 8

    @pytest.mark.parametrize("seed", range(4))
    def test_mixture(self, name, seed):
        draft = mixture(MACHINES[name], seed)
        assert len({i.op for i in draft.instructions} & {Op.POOL, Op.STORE, Op.SUM}) == 2
        draft.agree("verilator", runs=3)


@pytest.mark.icarus
@pytest.mark.parametrize("name", FEW)
class TestIcarus:
    @pytest.mark.parametrize("seed", range(2))
    def test_windows(self, name, seed):
        windows(MACHINES[name], seed).agree("icarus")

    def test_mixture(self, name):
        draft = mixture(MACHINES[name], 4)
        assert any(i.op in (Op.STORE, Op.SUM) and i["nx"] * i["ny"] > 1 for i in draft.instructions)
        draft.agree("icarus")

    @pytest.mark.parametrize("backwards", [False, True])
    def test_two_maps_are_added(self, name, backwards):
        """The other map lies behind this one or, by a distance that wraps around, before it. The result takes the
        place of the first of them."""
        a = MACHINES[name]
        draft = Draft(a, np.random.default_rng(5))
        nx, ny, here, there = 5, 3, *((40, 3) if backwards else (3, 40))
        draft.parameters()
        draft.emit(
            Op.POOL, relu=0, sum=1, bank=0, addr=here, to=here, nx=nx, ny=ny, ix0=0, iy0=0, width=nx, height=ny,
            sx=1, sy=1, row_step=nx, nfx=1, nfy=2, dx=0, dy=0, tap_row=there - here,
        )  # fmt: skip
        draft.emit(Op.LOADQ if a.dataflow == "ws" else Op.TILE, **draft.instructions[0].fields)
        assert draft.law(draft.instructions[1]) == 2 + 2 * nx * ny + 6
        values = draft.agree("icarus")[0]
        assert len(np.unique(values[here : here + nx * ny, : a.cols])) > 8


@pytest.mark.parametrize(
    "simulator",
    ["myhdl", pytest.param("ghdl", marks=[pytest.mark.ghdl, pytest.mark.slow])],
)
@pytest.mark.parametrize("name", ["2x2 int8 ws", "4x2 int8 os"])
def test_the_other_simulators(simulator, name):
    draft = mixture(MACHINES[name], 4)
    draft.instructions = draft.instructions[:6]
    draft.agree(simulator)


@pytest.mark.icarus
@pytest.mark.parametrize("name", ["2x2 int8 ws", "4x2 int8 os"])
def test_words_that_are_no_pool(name):
    """Bits from the reserved ones on, and a bank where there is one only; the sum's bit is another operation's."""
    a = MACHINES[name]
    draft = windows(a, 0)
    good = next(i for i in draft.instructions if i.op == Op.POOL).encode()
    load = Instruction(Op.LOADA, {"addr": 0, "ext": 0, "count": 1}).encode()
    wrong = [good | 1 << (RESERVED if a.dataflow == "ws" else RESERVED_OS), load | 1 << 4, good + 1]
    for word in [*wrong, *([good & ~(255 << 6) | 1 << 6] if a.rows == a.cols else [])]:
        job = Job(
            [word, 0], False, 0, np.zeros(64, np.uint8), np.zeros((1, 4), np.uint8), slice(0, 4), (slice(0, 4),), 999
        )
        with pytest.raises(SimulatorError, match="a word that is no instruction"):
            find_simulator("icarus").run(generate_rtl(a), job)
