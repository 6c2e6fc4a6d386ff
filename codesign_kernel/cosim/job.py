"""What a simulator is asked to do, what it answers, and the contract between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign_kernel.cosim.waves import Trace
from codesign_kernel.errors import StoppedError
from codesign_kernel.lower import Program
from codesign_kernel.rtl.generate import RtlBundle

Array = np.ndarray[Any, Any]
#: The signal of the top level that holds the address of the next instruction, in all three languages.
COUNTER = "pc"
Progress = Callable[[int, int, str], None]
#: Whether somebody asked to stop; called often, from threads of the simulator too.
Stop = Callable[[], bool]


def check_stop(stop: Stop | None) -> None:
    """
    Raises:
        StoppedError: ``stop`` says so.
    """
    if stop is not None and stop():
        raise StoppedError("the simulation was stopped before its end; run it again for a result")


@dataclass(frozen=True)
class Job:
    """Runs of one program on other inputs.

    Attributes:
        words: the instruction memory, from address 0 on.
        boot: start at 0 once, before the first input.
        entry: where every inference starts.
        memory: the external memory before the first run, shape (bytes,), uint8. It keeps its contents between runs.
        inputs: what is written at ``input_at`` before each run, shape (runs, bytes), uint8.
        input_at: slice of the memory, in bytes.
        outputs_at: slices that are read after each run; all of them whole words of the bus.
        limit: cycles after which a run is given up.
        trace: the waveform to write of the first input's run; none without.
        stop: asked while the simulator is built and runs; once it says so, the run ends with a StoppedError.
    """

    words: list[int]
    boot: bool
    entry: int
    memory: Array
    inputs: Array
    input_at: slice
    outputs_at: tuple[slice, ...]
    limit: int
    trace: Trace | None = None
    stop: Stop | None = None


def job_of(program: Program, inputs: Array, every: bool = False) -> Job:
    """The runs of ``program`` on quantised ``inputs``, shape [N, ...].

    Its outputs are the last layer's, or with ``every`` those of each layer, which ``program`` then saves.
    """
    memory = np.zeros(program.memory_bytes, dtype=np.uint8)
    memory[: len(program.parameters)] = program.parameters
    last = len(program.network.layers) - 1
    outputs = range(last + 1) if every else (last,)
    missing = -len(inputs) % program.batch
    # zeros fill the last run of a batch up
    whole = np.concatenate([inputs, np.zeros((missing, *inputs.shape[1:]), inputs.dtype)]) if missing else inputs
    return Job(
        words=program.words,
        boot=bool(program.boot),
        entry=program.entry,
        memory=memory,
        inputs=program.pack(whole),
        input_at=program.bytes_of(program.maps[-1]),
        outputs_at=tuple(program.bytes_of(program.maps[i]) for i in outputs),
        # generous, but bounded: the prediction is exact unless the RTL is broken
        limit=4 * max(program.cycles, sum(program.cycles_of(i) for i in program.boot)) + 1000,
    )


@dataclass
class Answer:
    """What came out.

    Attributes:
        outputs: for each of ``outputs_at`` an array (runs, bytes).
        cycles, boot_cycles: of each run and of the boot, as the port says.
        issues, boot_issues: in each run and in the boot, the cycle in which each instruction issued: what the port
            ``cycles`` says when the program counter moves on.
    """

    outputs: tuple[Array, ...]
    cycles: list[int] = field(default_factory=list)
    boot_cycles: int = 0
    issues: list[tuple[int, ...]] = field(default_factory=list)
    boot_issues: tuple[int, ...] = ()

    @classmethod
    def blank(cls, job: Job) -> Answer:
        """Room for the answer to ``job``."""
        runs = len(job.inputs)
        return cls(tuple(np.zeros((runs, at.stop - at.start), dtype=np.uint8) for at in job.outputs_at))

    def take(self, job: Job, run: int, memory: Array, issues: Sequence[int], cycles: int) -> None:
        """Note the end of run ``run``."""
        self.cycles.append(cycles)
        self.issues.append(tuple(issues))
        for output, at in zip(self.outputs, job.outputs_at, strict=True):
            output[run] = memory[at]


class Simulator(ABC):
    """Runs generated RTL. A new one is a subclass, an entry in ``SIMULATORS`` and a parameter of the contract tests."""

    name: str

    @abstractmethod
    def missing(self) -> str | None:
        """What to install before this simulator runs here; ``None`` where it does. Called before any work; cheap."""

    @abstractmethod
    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        """Simulate ``job`` on ``bundle``, cycle by cycle, from reset. Called by :func:`codesign_kernel.cosim.check`.

        Implementations leave no process and no file behind outside of their cache, also when they are interrupted.

        Raises:
            SimulatorError: it could not be built, died, met a word that is no instruction, or passed ``job.limit``.
            StoppedError: ``job.stop`` said so.
        """
