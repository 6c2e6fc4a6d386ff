"""``verify``: random networks on random accelerators, each compared bit for bit and cycle for cycle."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from codesign_kernel.accelerator.types import DATA_BITS, DATAFLOWS, Accelerator
from codesign_kernel.cosim import CosimReport, check, find_simulator
from codesign_kernel.cosim.job import Simulator
from codesign_kernel.cost import evaluate
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError, SimulatorError
from codesign_kernel.lower import Program
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.layer import IntegerLayer
from codesign_kernel.rtl import generate_rtl
from codesign_kernel.scopes import current, within
from codesign_kernel.session.asked import predicted_cycles
from codesign_kernel.session.cases import (
    at_its_ends,
    draw,
    end_inputs,
    features,
    random_accelerator,
    random_inputs,
    random_network,
)
from codesign_kernel.session.scoped import scoped

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int, str], None]
#: ``min_weight_bits`` of the accelerators, in turn.
NARROWEST = (0, 2, 4, 8)
#: Accelerators among which the cases are divided; each is generated and compiled once.
MACHINES = 12
#: The most cycles of a case on a simulator that is not compiled, and the largest map there.
SLOW_CYCLES, SLOW_LARGEST = 600, 6
#: Share of networks of which one layer has every number at an end of its range.
AT_ITS_ENDS = 0.2
#: Shares of batches of 1, 2 and 3 among the networks whose fully connected layers can run for several inputs.
BATCHES = (0.6, 0.2, 0.2)
#: Totals of a report.
COUNTS = ("agreed", "vectors", "layers", "instructions", "cycles")


@dataclass(frozen=True)
class Failure:
    """The first case that failed.

    Attributes:
        case: its number.
        repeat: the command that runs it alone.
        accelerator, network: what ran on what, in words.
        what: what differs first: layer, position, value and cycle, or instruction and its cycles.
    """

    case: int
    repeat: str
    accelerator: str
    network: str
    what: str

    def __str__(self) -> str:
        return f"case {self.case}: {self.what}. {self.network} on {self.accelerator}. Repeat with: {self.repeat}"


@dataclass(frozen=True)
class VerifyReport(Shown):
    """What a verification found.

    Attributes:
        simulator: its name.
        seed: of everything random.
        cases: networks that were asked for; passed: whether all of them agree.
        agreed: networks that agree: bits, cycles of every instruction, and both totals.
        vectors, layers, instructions, cycles: inputs, layers, compared instructions and RTL cycles of these.
        accelerators: those that cases ran on.
        met: in how many networks each way to cut a layer and each setting of one was met.
        failure: the first that does not agree; the search ends there.
        wall_s: seconds.
    """

    simulator: str
    seed: int
    cases: int
    agreed: int
    vectors: int
    layers: int
    instructions: int
    cycles: int
    accelerators: tuple[str, ...]
    met: dict[str, int]
    failure: Failure | None
    wall_s: float

    @property
    def passed(self) -> bool:
        """Every case agrees."""
        return self.failure is None and self.agreed == self.cases

    def __str__(self) -> str:
        found = f"; {self.failure}" if self.failure else ""
        return (
            f"{self.agreed:,} of {self.cases:,} networks agree on {self.simulator} (seed {self.seed}): {self.layers:,} "
            f"layers, {self.instructions:,} instructions, {self.cycles:,} cycles on {len(self.accelerators):,} "
            f"accelerators{found}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        body["failure"] = None if self.failure is None else vars(self.failure)
        return {**body, "accelerators": list(self.accelerators), "passed": self.passed}


def _machine(seed: int, number: int, small: bool) -> Accelerator:
    """Accelerator ``number``: every dataflow in every precision in turn; first those that pack no weights, then those
    that pack weights from 2 bits on, and so on."""
    kinds = list(product(DATAFLOWS, DATA_BITS))
    dataflow, bits = kinds[number % len(kinds)]
    narrowest = NARROWEST[number // len(kinds) % len(NARROWEST)]
    rng = np.random.default_rng((seed, 0, number))
    return random_accelerator(rng, dataflow, bits, small, narrowest if narrowest < bits else 0)


def drawn_case(seed: int, case: int, accelerator: Accelerator, small: bool) -> tuple[Program, Array]:
    """The program and the inputs of ``case``."""
    rng = np.random.default_rng((seed, 1, case))

    def network() -> IntegerNetwork:
        bits = accelerator.weight_bits
        found = random_network(rng, bits, largest=SLOW_LARGEST) if small else random_network(rng, bits)
        if rng.random() >= AT_ITS_ENDS:
            return found
        layers = list(found.layers)
        at = int(rng.integers(len(layers)))
        layers[at] = at_its_ends(rng, layers[at], bits)
        return replace(found, layers=tuple(layers))

    batch = int(rng.choice(np.arange(len(BATCHES)) + 1, p=BATCHES))
    program = draw(network, accelerator, SLOW_CYCLES if small else None, batch)
    inputs = np.concatenate([random_inputs(rng, program.network, 1), end_inputs(rng, program.network)])
    # slow simulators take one input, of each kind in turn
    return program, inputs[case % 3 : case % 3 + 1] if small else inputs


def _differs(report: CosimReport) -> str:
    """What a report that did not pass says first."""
    if report.first_mismatch is not None:
        return str(report.first_mismatch)
    if report.first_instruction is not None:
        return str(report.first_instruction)
    return (
        f"cycles: RTL {report.cycles_rtl:,}, model {report.cycles_model:,}, program {report.cycles_program:,}; boot: "
        f"RTL {report.boot_cycles_rtl:,}, model {report.boot_cycles_model:,}"
    )


def _run(program: Program, inputs: Array, simulator: Simulator) -> tuple[CosimReport | None, str]:
    """One case: its report, and what differs (nothing: "")."""
    accelerator = program.accelerator
    cost = evaluate(program.network.workload.with_batch(program.batch), accelerator)
    try:
        report = check(
            generate_rtl(accelerator), program.network, inputs, simulator,
            cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle, batch=program.batch,
        )  # fmt: skip
    except SimulatorError as error:  # RTL that never ends is a difference too
        return None, str(error)
    return report, "" if report.passed else _differs(report)


def _in_words(layer: IntegerLayer) -> str:
    usual = {
        "stride": (1, 1),
        "padding": (0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "relu": False,
        "pool": 1,
        "weight_bits": 0,
    }
    settings = [f"{name}={getattr(layer, name)}" for name, value in usual.items() if getattr(layer, name) != value]
    reads = [f"of {' and '.join(layer.reads)}"] if layer.reads else []
    return " ".join([layer.name, layer.op, "x".join(map(str, layer.weight.shape)), *settings, *reads])


def _program_in_words(program: Program) -> str:
    network = program.network
    shape = "x".join(map(str, network.input_shape))
    inputs = f"{program.batch} inputs of {shape} at once" if program.batch > 1 else f"a {shape} input"
    return f"int{network.bits} network of {inputs}: {'; '.join(map(_in_words, network.layers))}"


def _repeat(seed: int, case: int, machines: int, simulator: str) -> str:
    many = "" if machines == MACHINES else f" --machines {machines}"
    return f"codesign verify --seed {seed} --case {case}{many} --simulator {simulator}"


def _counts(program: Program, report: CosimReport) -> dict[str, int]:
    """What one case that agrees adds to the totals, as ``COUNTS`` names them."""
    instructions = report.runs * report.instructions + len(program.boot)
    cycles = report.runs * report.cycles_rtl + report.boot_cycles_rtl
    return dict(zip(COUNTS, (1, report.vectors, len(program.network.layers), instructions, cycles), strict=True))


def _check_arguments(cases: int, seed: int, machines: int, only: int | None) -> None:
    number = 0 if only is None else only
    for name, value, low in (("cases", cases, 1), ("seed", seed, 0), ("machines", machines, 1), ("only", number, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InvalidInputError(f"{name} is an integer of at least {low}, but got {value!r}")


@scoped("verify")
def verify(
    cases: int = 200,
    seed: int = 0,
    simulator: str = "auto",
    *,
    machines: int = MACHINES,
    only: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Run ``cases`` random networks on random accelerators, and stop at the first that differs.

    The networks are small, quantised, of random weights; the accelerators are lawful ones of every dataflow and every
    precision, with sides that differ and memories that cut layers, some with narrow weights packed. Inputs are random,
    and at the ends of their range. Each case compares all bits with the golden model, the cycles of every instruction
    with its law, and the total with what ``evaluate`` says from shapes alone. On the simulators that are not compiled
    the cases are smaller.

    Args:
        cases: networks.
        seed: equal seed, simulator and machines, equal cases.
        simulator: as for :func:`cosimulate`.
        machines: accelerators among which the cases are divided.
        only: run this case alone.
        progress: called as ``progress(done, total, message)``.

    Raises:
        InvalidInputError: an argument is out of range; the simulator is unknown.
        SimulatorError: the simulator is not installed.
        ConversionError: an accelerator could not be generated.
    """
    _check_arguments(cases, seed, machines, only)
    runner = find_simulator(simulator)
    small = runner.name != "verilator"
    chosen = sorted(range(cases), key=lambda case: case % machines) if only is None else [only]
    tell = progress or (lambda done, total, message: None)
    started, totals, met = time.perf_counter(), Counter[str](), Counter[str]()
    ran: dict[int, Accelerator] = {}
    failure, cycles = None, 0
    for done, case in enumerate(chosen):
        number = case % machines
        if number not in ran:
            tell(done, len(chosen), f"building accelerator {len(ran) + 1}")
            ran[number] = _machine(seed, number, small)
        program, inputs = drawn_case(seed, case, ran[number], small)
        if current() is not None:
            cycles += predicted_cycles(program.network, ran[number], len(inputs), program.batch)
            within("simulated_cycles", cycles)
        report, what = _run(program, inputs, runner)
        if report is None or what:
            repeat = _repeat(seed, case, machines, runner.name)
            failure = Failure(case, repeat, str(ran[number]), _program_in_words(program), what)
            break
        totals.update(_counts(program, report))
        met.update(features(program))
        tell(done + 1, len(chosen), f"networks verified on {runner.name}")
    return VerifyReport(
        simulator=runner.name,
        seed=seed,
        cases=len(chosen),
        accelerators=tuple(str(accelerator) for accelerator in ran.values()),
        met=dict(sorted(met.items())),
        failure=failure,
        wall_s=time.perf_counter() - started,
        **{name: totals[name] for name in COUNTS},
    )
