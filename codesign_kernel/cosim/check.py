"""``check``: run a program on RTL, and compare bits with the golden model and cycles with two predictions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign_kernel.accelerator.causes import Causes
from codesign_kernel.cosim.job import Answer, Job, Progress, Simulator, Stop, job_of
from codesign_kernel.cosim.timing import InstructionMismatch, Timed, first_difference, layer_cycles, timed
from codesign_kernel.cosim.waves import Trace, window_of
from codesign_kernel.display import Shown
from codesign_kernel.errors import CapacityError
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.rtl.generate import RtlBundle

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Mismatch:
    """The first difference, at the first layer where one can be seen.

    Attributes:
        vector: number of the input.
        layer: its name; channel, y, x: the position in its result.
        expected, got: of the golden model and of the RTL.
        first_cycle, last_cycle: of the inference, in which the layer runs.
    """

    vector: int
    layer: str
    channel: int
    y: int
    x: int
    expected: int
    got: int
    first_cycle: int
    last_cycle: int

    def __str__(self) -> str:
        return (
            f"input {self.vector}, layer {self.layer!r}, channel {self.channel}, position ({self.y}, {self.x}): "
            f"expected {self.expected}, got {self.got}; the layer runs in cycles {self.first_cycle} to "
            f"{self.last_cycle}"
        )


@dataclass(frozen=True)
class CosimReport(Shown):
    """What a co-simulation found.

    Attributes:
        simulator: its name.
        vectors: inputs that were run.
        mismatches: inputs whose result differs from the golden model's in at least one bit.
        first_mismatch: where the first of them begins to differ; ``None`` without one.
        cycles_rtl: of one run, which is one inference or a batch, as the RTL counts them (of the first run in which
            they are not ``cycles_model``, where there is one).
        cycles_model: of one run, as the cost model says from the layers' shapes.
        cycles_program: the sum over the instructions of the program that ran.
        cycle_mismatches: runs in which the RTL took another number of cycles than ``cycles_model``.
        instructions: of one run; each one's cycles are compared in every run, and those of the boot once.
        instruction_mismatches: runs, the boot among them, in which an instruction took other cycles than its law says.
        first_instruction: the first of these instructions; ``None`` without one.
        boot_cycles_rtl, boot_cycles_model: of loading the weights once; 0 where they are loaded every time.
        outputs: results of the RTL, integers [N, ...].
        causes: where the cycles of one run go, by layer: of ``cycles_program``.
        batch: inferences of one run.
        schedule: the instructions of one run as they went: of the first run that differs in bits or cycles, else of the
            first. Empty in a report that was read back.
    """

    simulator: str
    vectors: int
    mismatches: int
    first_mismatch: Mismatch | None
    cycles_rtl: int
    cycles_model: int
    cycles_program: int
    cycle_mismatches: int
    instructions: int
    instruction_mismatches: int
    first_instruction: InstructionMismatch | None
    boot_cycles_rtl: int
    boot_cycles_model: int
    design: str
    network: str
    rtl_digest: str
    outputs: Array = field(repr=False, compare=False)
    causes: Causes = field(repr=False)
    batch: int = 1
    schedule: tuple[Timed, ...] = field(default=(), repr=False, compare=False)

    @property
    def runs(self) -> int:
        """Runs of the program; the last one of a batch may have been filled up."""
        return -(-self.vectors // self.batch)

    @property
    def passed(self) -> bool:
        """Equal bits and equal cycles: RTL, model and program, as a whole and instruction by instruction."""
        return (
            self.mismatches == 0
            and self.instruction_mismatches == 0
            and self.cycle_mismatches == 0
            and self.cycles_rtl == self.cycles_model == self.cycles_program
            and self.boot_cycles_rtl == self.boot_cycles_model
        )

    def to_dict(self) -> dict[str, Any]:
        """The report without the outputs and the schedule, ready for JSON."""
        left_out = ("outputs", "schedule")
        body = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        for name in ("first_mismatch", "first_instruction"):
            body[name] = None if body[name] is None else vars(body[name])
        return {**body, "causes": self.causes.to_dict(), "passed": self.passed}

    def __str__(self) -> str:
        bits = "bits equal" if not self.mismatches else f"{self.mismatches} differ, first at {self.first_mismatch}"
        return (
            f"{self.vectors} inputs on {self.simulator}: {bits}; cycles RTL {self.cycles_rtl:,}, "
            f"model {self.cycles_model:,}, program {self.cycles_program:,}"
            + ("" if self.first_instruction is None else f"; {self.first_instruction}")
            + f"; MAC slots: {self.causes}"
        )


def _run_of(program: Program, x: Array, vector: int) -> Array:
    """The inputs that run together with ``vector``."""
    first = vector // program.batch * program.batch
    return x[first : first + program.batch]


def _locate(bundle: RtlBundle, simulator: Simulator, plain: Program, x: Array, vector: int) -> Mismatch | None:
    """Run one input again with every layer's result saved, and compare layer by layer."""
    network, batch = plain.network, plain.batch
    try:
        program = lower(network, bundle.accelerator, batch=batch, every=True)
    except CapacityError:  # the instruction memory has no room for saving every layer
        return None
    answer = simulator.run(bundle, job_of(program, _run_of(plain, x, vector), every=True))
    wanted = network.layer_outputs(x[vector : vector + 1])
    for i, (golden, data) in enumerate(zip(wanted, answer.outputs, strict=True)):
        place = program.maps[i]
        got = program.unpack(data, place)[vector % batch :][:1]
        expected = golden.reshape(got.shape)
        if not np.array_equal(got, expected):
            _, channel, row, column = (int(v) for v in np.argwhere(got != expected)[0])
            at = (0, channel, row, column)
            found = int(expected[at]), int(got[at])
            return Mismatch(vector, place.name, channel, row, column, *found, *layer_cycles(plain, place.name))
    return None


def _first_mismatch(
    bundle: RtlBundle, simulator: Simulator, program: Program, x: Array, golden: Array, outputs: Array
) -> Mismatch:
    """Where ``outputs`` begin to differ from ``golden``."""
    first = int(np.argmax((outputs != golden).reshape(len(x), -1).any(axis=1)))
    found = _locate(bundle, simulator, program, x, first)
    return found or _end(program, golden, outputs, first)


class _Stoppable(Simulator):
    """A simulator whose jobs all end when ``stop`` says so."""

    def __init__(self, simulator: Simulator, stop: Stop) -> None:
        self.name, self._inner, self._stop = simulator.name, simulator, stop

    def missing(self) -> str | None:
        return self._inner.missing()

    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        return self._inner.run(bundle, replace(job, stop=self._stop), progress)


def check(
    bundle: RtlBundle,
    network: IntegerNetwork,
    inputs: Any,
    simulator: Simulator,
    *,
    cycles_model: int,
    boot_cycles_model: int,
    batch: int = 1,
    progress: Progress | None = None,
    vcd: Path | None = None,
    window: object = None,
    stop: Stop | None = None,
) -> CosimReport:
    """Run ``inputs`` through ``network`` on the RTL of ``bundle``.

    Args:
        bundle: the RTL, of an accelerator that the network fits.
        network: what to run.
        inputs: [N, C, H, W]; floats are quantised by the network, integers taken as quantised.
        simulator: one that runs here.
        cycles_model, boot_cycles_model: the prediction to hold the RTL to.
        batch: inferences of one run; the last run is filled up with zeros.
        progress: called as ``progress(done, total, message)``.
        vcd: file for the waveform of one run, which is simulated once more for it: that of the first input that
            differs in bits or cycles, else of the first.
        window: (first, last) cycle of the run to write; ``None``: all of it.
        stop: asked now and then; once it says so, the simulator is ended.

    Raises:
        InvalidInputError: the inputs do not fit the network; the window is none.
        OutputError: the waveform cannot be written.
        SimulatorError: the simulator failed.
        StoppedError: ``stop`` said so.
    """
    if stop is not None:
        simulator = _Stoppable(simulator, stop)
    x = network.as_quantized(inputs)
    golden = network.predict(x)
    program = lower(network, bundle.accelerator, batch=batch)
    seen = window_of(window, program.cycles)
    answer = simulator.run(bundle, job_of(program, x), progress)
    place = program.maps[len(network.layers) - 1]
    outputs = program.unpack(answer.outputs[0], place)[: len(x)].reshape(golden.shape)
    differs = (outputs != golden).reshape(len(x), -1).any(axis=1)
    mismatch = _first_mismatch(bundle, simulator, program, x, golden, outputs) if differs.any() else None
    off = [cycles for cycles in answer.cycles if cycles != cycles_model]
    runs = [(-1, answer.boot_issues), *zip(range(0, len(x), batch), answer.issues, strict=True)]
    wrong = [item for vector, issues in runs if (item := first_difference(program, vector, issues))]
    shown = min([max(item.vector, 0) for item in (mismatch, *wrong) if item is not None], default=0)
    if vcd is not None:
        _draw(bundle, simulator, program, x, shown, Trace(vcd, *seen), progress)
    return CosimReport(
        simulator=simulator.name, vectors=len(x), mismatches=int(differs.sum()), first_mismatch=mismatch,
        cycles_rtl=off[0] if off else answer.cycles[0], cycles_model=cycles_model, cycles_program=program.cycles,
        cycle_mismatches=len(off), instructions=len(program.main), instruction_mismatches=len(wrong),
        first_instruction=wrong[0] if wrong else None, boot_cycles_rtl=answer.boot_cycles,
        boot_cycles_model=boot_cycles_model, design=str(bundle.accelerator), network=network.name,
        rtl_digest=bundle.digest, outputs=outputs, causes=program.causes, batch=batch,
        schedule=timed(program, answer.issues[shown // batch], answer.cycles[shown // batch]),
    )  # fmt: skip


def _draw(
    bundle: RtlBundle, simulator: Simulator, program: Program, x: Array, vector: int, trace: Trace,
    progress: Progress | None,
) -> None:  # fmt: skip
    """Run one input again, with those of its batch, and write the waveform."""
    if progress is not None:
        progress(0, 1, f"writing the waveform of input {vector}")
    simulator.run(bundle, replace(job_of(program, _run_of(program, x, vector)), trace=trace))


def _end(program: Program, golden: Array, outputs: Array, vector: int) -> Mismatch:
    """The difference at the network's end, where the repeated run did not show it."""
    expected, got = golden[vector].reshape(-1), outputs[vector].reshape(-1)
    at = int(np.argmax(expected != got))
    channels = golden.shape[1]
    plane = len(expected) // channels
    side = golden.shape[3] if golden.ndim == 4 else 1
    last = program.network.layers[-1].name
    return Mismatch(
        vector,
        last,
        at // plane,
        at % plane // side,
        at % plane % side,
        int(expected[at]),
        int(got[at]),
        *layer_cycles(program, last),
    )
