"""``lower``: the program of an integer network, or a clear word on which memory or field is too small for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.isa import MAX_SIDE, Instruction, Op
from codesign_kernel.accelerator.types import Accelerator
from codesign_kernel.errors import CapacityError, InvalidInputError
from codesign_kernel.lower.emit import Emitter
from codesign_kernel.lower.parameters import tile_words, word_bytes
from codesign_kernel.lower.program import Program, cycles_on
from codesign_kernel.mapping.packing import packings, runs
from codesign_kernel.mapping.steps import OUTSIDE, Step, steps_of
from codesign_kernel.mapping.tiling import Tiling, tile
from codesign_kernel.optimize.integer import IntegerNetwork


def lower(network: IntegerNetwork, design: Any, *, batch: int = 1, every: bool = False) -> Program:
    """The program of ``network`` on ``design``.

    Args:
        network: what to run.
        design: an :class:`Accelerator`, or anything with one in ``.accelerator``.
        batch: inferences of one run. All layers up to the first fully connected one run image after image; that one
            and those behind it run once for all, and so load and shift in their weights once.
        every: save every layer's result to external memory too, to find where a difference begins.

    Raises:
        InvalidInputError: the network's precision is not the accelerator's; there is nothing to share in a batch.
        CapacityError: a memory or an instruction field is too small.
    """
    a: Accelerator = getattr(design, "accelerator", design)
    if network.bits != a.weight_bits:
        raise InvalidInputError(
            f"network and accelerator have one precision, but got int{network.bits} and int{a.weight_bits}; "
            f"quantise with bits={a.weight_bits} or choose weight_bits={network.bits}"
        )
    steps, uncosted = steps_of(network.workload.with_batch(batch))
    assert len(steps) == len(network.layers), "every layer of an integer network is a step"
    assert not uncosted, "an integer network has nothing but steps"
    if batch > 1:
        _check_batch(steps)
    machines = Machines.of([a])
    tilings = tuple(tile(step, machines) for step in steps)
    e = _fastest(network, a, steps, tilings, batch, every)
    _check_sizes(e.steps, e.tilings, a, e.resident)
    head = {"addr": 0, "ext": 0, "count": e.total_rows}
    boot = (Instruction(Op.LOADP, head), Instruction(Op.HALT)) if e.resident else ()
    depth = a.memory("instruction").depth
    if len(boot) + len(e.main) > depth:
        raise CapacityError(
            f"the instruction memory holds the program, but {len(boot) + len(e.main)} instructions do not fit {depth}; "
            "raise instruction_kib"
        )
    parameters = [
        word_bytes(tile_words(step, layer, a, number), a)
        for step, layer, t in zip(e.steps, network.layers, e.tilings, strict=True)
        for number in range(int(t.tiles[0]))
    ]
    program = Program(
        network, a, boot, tuple(e.main), tuple(e.owners), np.concatenate(parameters), e.maps,
        e.beats * a.bus_bits // 8, (steps[0], e.steps[0]), batch,
    )  # fmt: skip
    _ = program.words  # every field fits, or the refusal comes now
    return program


def _fastest(
    network: IntegerNetwork, a: Accelerator, steps: tuple[Step, ...], tilings: tuple[Tiling, ...], batch: int,
    every: bool,
) -> Emitter:  # fmt: skip
    """The program whose first step is packed as takes the fewest cycles, and of equals the most."""
    machines = Machines.of([a])
    found: Emitter | None = None
    cycles = 0
    for way in packings(steps[0]):
        tiling = tile(way, machines)
        if not runs(way, tiling, machines)[0]:
            continue
        # all layers are saved for a look at what the program without it does: packed as there
        e = Emitter(network, a, (way, *steps[1:]), (tiling, *tilings[1:]), batch, False)
        taken = sum(cycles_on(a, instruction) for instruction in e.main)
        if found is None or taken <= cycles:
            found, cycles = e, taken
    if found is None:
        return Emitter(network, a, steps, tilings, batch, every)
    return Emitter(network, a, found.steps, found.tilings, batch, True) if every else found


def _check_batch(steps: tuple[Step, ...]) -> None:
    """Fully connected layers are what the items of a batch share, and only they and sums follow them."""
    if all(step.repeat > 1 for step in steps):
        raise InvalidInputError(
            "the items of a batch share the weights of fully connected layers, but the network has none; run its "
            "program once for each"
        )
    for step in steps:
        early = [steps[at] for at in step.reads if at != OUTSIDE and steps[at].repeat == 1]
        if step.repeat > 1 and early:
            raise InvalidInputError(
                f"in a batch, fully connected layers are read by such layers and sums, but {step.layer.name!r} "
                f"({step.layer.op}) reads {early[0].layer.name!r}; lower it with batch=1"
            )


def _check_sizes(steps: tuple[Step, ...], tilings: tuple[Tiling, ...], a: Accelerator, resident: bool) -> None:
    for step, t in zip(steps, tilings, strict=True):
        height = step.height // step.images
        if max(height, step.width) >= MAX_SIDE:
            raise CapacityError(
                f"a map's sides are below {MAX_SIDE}, but {step.layer.name!r} reads {height}x{step.width}; "
                "use a smaller input"
            )
        for level in a.memories:
            if level.name == "instruction" or (level.name == "weight" and resident):
                continue
            need = int(getattr(t, f"{level.name}_need")[0])
            if need > level.depth:
                what = "output tile" if level.name == "weight" else "tile"
                raise CapacityError(
                    f"the {level.name} memory holds one {what}, but {step.layer.name!r} needs {need} words and there "
                    f"are {level.depth}; raise {level.name}_kib"
                )
