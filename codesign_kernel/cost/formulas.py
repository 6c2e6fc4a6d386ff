"""Cycles and accesses of one step on N machines, in closed form from shapes.

Every formula is plain broadcasting arithmetic. The cycles of an instruction are those of the instruction set
(:func:`codesign_kernel.accelerator.isa.cycles`); what is summed here, without walking any program, is how many there
are of each and how long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import Op, cycles, group_cycles, tap_cycles
from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.mapping.steps import Step
from codesign_kernel.mapping.tiling import Tiling

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StepCounts:
    """What one step does, all its repetitions together. Arrays over machines.

    Attributes:
        load_cycle, compute_cycle, store_cycle: from external memory; on the array and in the lanes; to external memory.
        instructions: executed.
        program: instructions in the memory; the items of a batch run the same where each runs on its own.
        outputs: values that pass a lane.
        fills: times that the array is filled with weights.
        accesses: bits by (level, operand, direction).
    """

    load_cycle: Array
    compute_cycle: Array
    store_cycle: Array
    instructions: Array
    program: Array
    outputs: Array
    fills: Array
    accesses: dict[tuple[str, str, str], Array]

    def times(self, number: int) -> StepCounts:
        """All of it ``number`` times."""
        if number == 1:
            return self
        counts = {name: number * getattr(self, name) for name in _COUNTS}
        return StepCounts(**counts, accesses={key: number * bits for key, bits in self.accesses.items()})

    def plus(self, other: StepCounts) -> StepCounts:
        """Both, one after the other."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return StepCounts(**counts, accesses={key: bits + other.accesses[key] for key, bits in self.accesses.items()})


_COUNTS = ("load_cycle", "compute_cycle", "store_cycle", "instructions", "program", "outputs", "fills")


@dataclass(frozen=True)
class _ArrayCounts:
    """What array and lanes do in one step, but for loading the tiles' parameters.

    Attributes:
        input_bits: of the activation memory that are read.
        weight_words: of the weight memory that are read: a word is read once for all rows of weights that it holds.
        fills: times that the array is filled with weights.
        sum_reads, sum_writes: words of the accumulators.
    """

    cycle: Any
    instructions: Any
    input_bits: Any
    weight_words: Any
    fills: Any
    sum_reads: Any
    sum_writes: Any


def parameter_words(tiling: Tiling, machines: Machines) -> Array:
    """Words of the weight memory that the step's weights and requantiser parameters take."""
    return tiling.weight_words + tiling.tiles * machines.quant_rows


def _fixed(op: Op) -> int:
    """Cycles of an instruction that has nothing to do."""
    return int(cycles(op, count=0, positions=0))


def _move(op: Op, machines: Machines) -> Any:
    """Cycles of a load or save of no words."""
    return cycles(op, count=0, latency=machines.memory_latency)


def _only(condition: Array | bool, values: Any) -> Any:
    """``values`` where ``condition`` holds, else 0."""
    return values if condition is True else np.where(condition, values, 0)


def _pass_sum(step: Step, tiling: Tiling, of_positions: Callable[[Any], Any]) -> Any:
    """``of_positions`` of the positions of a pass, summed over all passes of one tile."""
    a_line = step.out_width * step.pool * step.pool
    return reduce(np.add, (number * of_positions(rows * a_line) for rows, number in tiling.pass_sizes))


def _weights_stay(step: Step, tiling: Tiling, machines: Machines) -> _ArrayCounts:
    """CONV and STORE: every pass runs each tap of its tile.

    The last tap takes its positions, and those of all passes are the map's; the taps before it take as long as the next
    one's weights at least, so each size of pass counts.
    """
    m, t = machines, tiling
    positions = step.out_height * step.out_width * step.pool * step.pool
    taps, passes, outputs = t.blocks * step.taps, t.tiles * t.passes, t.tiles * positions
    before = _pass_sum(step, t, lambda positions: tap_cycles(m.rows, positions))
    conv = passes * cycles(Op.CONV, rows=m.rows, cols=m.cols, positions=0) + (taps - t.tiles) * before + outputs
    return _ArrayCounts(
        cycle=conv + passes * _fixed(Op.STORE) + outputs,
        instructions=2 * passes,
        input_bits=taps * positions * (m.rows * m.weight_bits),
        weight_words=t.weight_words * t.passes,
        fills=taps * t.passes,
        sum_reads=taps * positions + outputs,
        sum_writes=taps * positions,
    )


def _sums_stay(step: Step, tiling: Tiling, machines: Machines) -> _ArrayCounts:
    """SUM: every group of positions runs each tap, and reads a row of its weights in each cycle."""
    m, t = machines, tiling
    positions = step.out_height * step.out_width * step.pool * step.pool
    passes = t.tiles * t.passes
    groups = _pass_sum(step, t, lambda positions: group_cycles(m.rows, positions) // m.rows)
    streamed = t.blocks * step.taps * (groups * m.rows)
    return _ArrayCounts(
        cycle=passes * cycles(Op.SUM, rows=m.rows, cols=m.cols, positions=0) + streamed,
        instructions=passes,
        input_bits=t.blocks * step.taps * positions * (m.rows * m.weight_bits),
        weight_words=t.weight_words * groups,
        fills=0,
        sum_reads=0,
        sum_writes=0,
    )


def _lanes_work(step: Step, tiling: Tiling, machines: Machines) -> _ArrayCounts:
    """POOL: each result takes a word of every position of its window, and of every map."""
    t = tiling
    words = t.tiles * (step.out_height * step.out_width * step.taps * step.inputs)
    return _ArrayCounts(
        cycle=t.tiles * t.chunks * _fixed(Op.POOL) + words,
        instructions=t.tiles * t.chunks,
        input_bits=words * machines.word_bit["weight"],
        weight_words=0,
        fills=0,
        sum_reads=0,
        sum_writes=0,
    )


def _by_dataflow(step: Step, tiling: Tiling, machines: Machines) -> _ArrayCounts:
    if not step.on_array:
        return _lanes_work(step, tiling, machines)
    holds = machines.holds_sums
    if not holds.any():
        return _weights_stay(step, tiling, machines)
    weights, sums = _weights_stay(step, tiling, machines), _sums_stay(step, tiling, machines)
    return _ArrayCounts(*(np.where(holds, getattr(sums, f.name), getattr(weights, f.name)) for f in fields(sums)))


def input_moves(step: Step, tiling: Tiling, load: Array | bool) -> tuple[Any, Any]:
    """(LOADA instructions, words that they move) for one run of ``step``; see :func:`step_counts`."""
    maps = (step.inputs - 1) + load  # of two maps, the step before makes one
    # images lie one after the other; of one map, groups of channels lie apart
    moves = np.where(tiling.whole, 1, tiling.chunks * (1 if step.images > 1 else tiling.in_groups))
    return maps * moves, maps * (tiling.in_groups * step.width * tiling.loaded_rows)


def parameter_moves(tiling: Tiling, machines: Machines) -> tuple[Any, Any]:
    """(LOADP instructions, beats that they take) for one run of a step, where the weights are not on chip."""
    return tiling.chunks * tiling.tiles, tiling.chunks * parameter_words(tiling, machines) * machines.weight_beats


def step_counts(
    step: Step,
    tiling: Tiling,
    machines: Machines,
    resident: Array,
    load: Array | bool,
    save: Array | bool,
    together: bool = False,
) -> StepCounts:
    """Cycles, instructions and accesses of ``step``.

    Args:
        step, tiling, machines: what runs where, and how it is cut.
        resident: the weights are on chip already.
        load, save: the input (of two, that which the step before makes) comes from, and the output goes to, external
            memory (``True``: on every machine).
        together: one run of the program serves the whole batch.
    """
    m, t = machines, tiling
    stored = step.out_height * step.out_width
    q_loads = t.chunks * t.tiles
    # external memory
    p_moves, p_beats = (np.where(resident, 0, number) for number in parameter_moves(t, m))
    a_moves, a_words = input_moves(step, t, load)
    s_moves = _only(save, np.where(t.whole, 1, t.chunks * t.out_groups))
    s_words = _only(save, t.out_groups * stored)
    load_cycle = p_moves * _move(Op.LOADP, m) + p_beats + (a_moves * _move(Op.LOADA, m) + a_words * m.activation_beats)
    store_cycle = s_moves * _move(Op.SAVE, m) + s_words * m.activation_beats
    array = _by_dataflow(step, t, m)
    quant = q_loads * (_fixed(Op.LOADQ) + m.quant_rows)
    # accesses, in bits
    word_bits, p_bits, sum_bits = (m.word_bit[name] for name in ("activation", "weight", "accumulator"))
    instructions = p_moves + a_moves + s_moves + q_loads + array.instructions
    accesses = {
        ("dram", "W", "read"): p_beats * m.bus_bits,
        ("dram", "I", "read"): a_words * word_bits,
        ("dram", "O", "write"): s_words * word_bits,
        ("activation", "I", "write"): a_words * word_bits,
        ("activation", "I", "read"): array.input_bits,
        ("activation", "O", "write"): t.tiles * stored * p_bits,
        ("activation", "O", "read"): s_words * word_bits,
        ("weight", "W", "write"): np.where(resident, 0, t.chunks * parameter_words(t, m)) * p_bits,
        ("weight", "W", "read"): (array.weight_words + q_loads * m.quant_rows) * p_bits,
        ("accumulator", "O", "write"): array.sum_writes * sum_bits,
        ("accumulator", "O", "read"): array.sum_reads * sum_bits,
        ("instruction", "-", "read"): instructions * INSTRUCTION_BITS,
    }
    once = StepCounts(
        load_cycle=load_cycle,
        compute_cycle=array.cycle + quant,
        store_cycle=store_cycle,
        instructions=instructions,
        program=instructions,
        outputs=t.tiles * stored * m.cols,
        fills=array.fills,
        accesses=accesses,
    )
    # a step runs once, or once for each product of a batched GEMM, for every item of the batch
    runs = step.repeat if together else step.repeat // step.layer.B
    return replace(once.times(step.repeat), program=runs * instructions)
