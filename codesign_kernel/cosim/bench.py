"""The MyHDL test bench: drives the accelerator's ports as a host and an external memory would.

It serves the MyHDL model itself, and Icarus through MyHDL's co-simulation.
"""

from __future__ import annotations

import shutil
import sysconfig
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from myhdl import Cosimulation, CosimulationError, Signal, StopSimulation, block, delay, instance, modbv, now

from codesign_kernel.accelerator.types import ADDRESS_BITS, Accelerator
from codesign_kernel.cache import cached_folder, scratch_folder
from codesign_kernel.cosim.job import COUNTER, Answer, Job, Progress, Simulator, check_stop
from codesign_kernel.cosim.process import ASKED_S, call
from codesign_kernel.cosim.waves import PER_CYCLE, write_window
from codesign_kernel.errors import SimulatorError
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of
from codesign_kernel.rtl.generate import RtlBundle

#: Units of vvp's time for one of MyHDL's: MyHDL's VPI module, myhdl.c, spreads delta cycles over them.
_DELTAS = 1000
#: Cycles between two questions whether to stop.
_CYCLES = 32
#: MyHDL keeps its simulation in globals of its modules, so that there is one at a time in a process.
_MYHDL = threading.Lock()


@contextmanager
def _turn(job: Job) -> Iterator[None]:
    """Waits until no other thread simulates with MyHDL."""
    while not _MYHDL.acquire(timeout=ASKED_S):
        check_stop(job.stop)
    try:
        yield
    finally:
        _MYHDL.release()


class _Pace:
    """When an external memory of some latency is ready, and when what was written to it has arrived.

    A load's first word comes ``latency`` cycles after that of a memory without, and the end of a SAVE as many after its
    last word: the time that a bus takes to give data, and to answer that it took them.
    """

    def __init__(self, latency: int) -> None:
        self.latency, self.wait, self.left, self.writing = latency, 0, 0, False

    def cycle(self, p: Ports) -> tuple[bool, bool]:
        """(ready, idle) of the cycle in which the ports are ``p``."""
        if p.ext_request.val:
            self.writing, self.left = bool(p.ext_write.val), int(p.ext_beats.val)
            self.wait = 0 if self.writing else self.latency
        if p.ext_we.val:
            self.left -= 1
            if self.left == 0:
                self.wait = self.latency
        waits = self.wait > 0
        self.wait -= waits
        return self.writing or not waits, not self.writing or (self.left == 0 and not waits)


class _Host:
    """The far side of the ports: writes the program, starts runs, and is the external memory."""

    def __init__(self, accelerator: Accelerator, job: Job, progress: Progress | None, name: str) -> None:
        self.accelerator, self.job, self.progress, self.name = accelerator, job, progress, name
        self.p, self.answer = Ports(accelerator), Answer.blank(job)
        #: the bench puts the design's own in its place, or drives this one
        self.counter = Signal(modbv(0)[ADDRESS_BITS:])
        #: the simulation's time when the first inference begins; high while its window lasts
        self.started, self.dumping = -1, Signal(bool(0))
        self.memory, self.pace = job.memory.copy(), _Pace(accelerator.memory_latency)
        self.beat_bytes = accelerator.bus_bits // 8

    def tick(self) -> Iterator[Any]:
        """One clock: the memory samples before the edge and answers after it."""
        p, size = self.p, self.beat_bytes
        self._mark_window()
        at = int(p.ext_addr.val) * size
        if p.ext_we.val:
            if at + size > len(self.memory):
                raise SimulatorError(
                    f"{self.name} wrote to external memory that the program does not have; is the program damaged?"
                )
            self.memory[at : at + size] = list(int(p.ext_wdata.val).to_bytes(size, "little"))
        read = int.from_bytes(self.memory[at : at + size].tobytes(), "little")
        p.clk.next = 1
        yield delay(1)
        p.ext_rdata.next = read
        p.ext_ready.next, p.ext_idle.next = self.pace.cycle(p)
        p.clk.next = 0
        yield delay(1)

    def run(self, entry: int, issues: list[int]) -> Iterator[Any]:
        """One program from ``entry`` to its HALT; notes in ``issues`` when its instructions issue."""
        p = self.p
        p.start.next, p.entry.next = 1, entry
        yield from self.tick()
        p.start.next = 0
        ticks, at = 0, int(self.counter.val)
        while p.busy.val:
            yield from self.tick()
            ticks += 1
            if ticks % _CYCLES == 0:
                check_stop(self.job.stop)
            if self.counter.val != at:
                at = int(self.counter.val)
                issues.append(int(p.cycles.val))
            if ticks > self.job.limit:
                raise SimulatorError(
                    f"a run ends within {self.job.limit} cycles, but {self.name} is still busy; is the program damaged?"
                )
        if p.error.val:
            raise SimulatorError(f"{self.name} stopped at a word that is no instruction; is the program damaged?")

    def _mark_window(self) -> None:
        trace = self.job.trace
        if trace is not None and self.started >= 0:
            at = (now() - self.started) // PER_CYCLE
            self.dumping.next = not self.answer.cycles and trace.first <= at <= trace.last

    def session(self) -> Iterator[Any]:
        """Everything: reset, program, boot, every input."""
        p, job = self.p, self.job
        p.rst.next = 1
        yield from self.tick()
        yield from self.tick()
        p.rst.next = 0
        for address, word in enumerate(job.words):
            p.prog_we.next, p.prog_addr.next, p.prog_data.next = 1, address, word
            yield from self.tick()
        p.prog_we.next = 0
        if job.boot:
            issues: list[int] = []
            yield from self.run(0, issues)
            self.answer.boot_cycles, self.answer.boot_issues = int(p.cycles.val), tuple(issues)
        for index, data in enumerate(job.inputs):
            self.memory[job.input_at] = data
            issues = []
            if index == 0:
                self.started = now()
            yield from self.run(job.entry, issues)
            self.answer.take(job, index, self.memory, issues, int(p.cycles.val))
            if self.progress is not None:
                self.progress(index + 1, len(job.inputs), f"inputs simulated by {self.name}")
        if job.trace is not None:
            # vvp writes its waveform out when `dumping` falls, and has done so when it answers the edge after that
            for _ in range(3):
                yield from self.tick()
        raise StopSimulation


@block
def _bench_model(ports, host):  # type: ignore[no-untyped-def]
    dut = core_of(host.accelerator)(**ports.as_dict(), accelerator=host.accelerator)
    host.counter = dut.sigdict[COUNTER]

    @instance
    def drive():  # type: ignore[no-untyped-def]
        yield from host.session()

    return dut, drive


class _Vvp(Cosimulation):
    """MyHDL's end of the pipes to Icarus, with its troubles in the words of the contract."""

    def __init__(self, command: list[str], **ports: Any) -> None:
        try:
            super().__init__(command, **ports)
        except CosimulationError as error:
            raise SimulatorError(f"Icarus Verilog's vvp did not start: {error}") from error

    def _get(self) -> None:
        try:
            super()._get()
        except CosimulationError as error:
            raise SimulatorError(f"Icarus Verilog's vvp died: {error}") from error

    def _put(self, time: int) -> None:
        try:
            super()._put(time)
        except BrokenPipeError as error:
            raise SimulatorError(f"Icarus Verilog's vvp died: {error}") from error


@block
def _bench_verilog(ports, host, command):  # type: ignore[no-untyped-def]
    dut = _Vvp(command, **ports.as_dict(), **{COUNTER: host.counter}, dumping=host.dumping)

    @instance
    def drive():  # type: ignore[no-untyped-def]
        yield from host.session()

    return dut, drive


def _simulate(bench: Any, host: _Host) -> Answer:
    try:
        bench.run_sim(quiet=1)
    finally:
        # only ends a simulation that an error or an interrupt has left open
        if bench.sim is not None and not bench.sim._finished:
            bench.quit_sim()
    return host.answer


class MyhdlSimulator(Simulator):
    """The MyHDL model itself: slow, needs nothing."""

    name = "myhdl"

    def missing(self) -> str | None:
        return None

    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        with _turn(job):
            return self._run(bundle, job, progress)

    def _run(self, bundle: RtlBundle, job: Job, progress: Progress | None) -> Answer:
        host = _Host(bundle.accelerator, job, progress, self.name)
        # MyHDL inspects the whole call stack for every block that it makes: a thread of its own has a short one
        with ThreadPoolExecutor(1) as thread:
            bench = thread.submit(_bench_model, host.p, host).result()
        if job.trace is None:
            return _simulate(bench, host)
        with scratch_folder("myhdl") as folder:
            # memories are left out: they have thousands of words
            bench.config_sim(
                trace=True, directory=str(folder), filename="raw", timescale="1ns", tracelists=False, tracebackup=False
            )
            answer = _simulate(bench, host)
            write_window(folder / "raw.vcd", host.started, PER_CYCLE, job.trace)
        return answer


class IcarusSimulator(Simulator):
    """The generated Verilog in Icarus Verilog, driven over VPI by MyHDL's ``Cosimulation``."""

    name = "icarus"

    def missing(self) -> str | None:
        absent = [tool for tool in ("iverilog", "vvp", "iverilog-vpi", "g++") if shutil.which(tool) is None]
        if absent:
            return f"{', '.join(absent)} not found on PATH; install Debian's iverilog and g++"
        if not _vpi_source().exists():
            return f"MyHDL's VPI module is not installed ({_vpi_source().name} is missing); reinstall myhdl"
        return None

    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        with _turn(job):
            return self._run(bundle, job, progress)

    def _run(self, bundle: RtlBundle, job: Job, progress: Progress | None) -> Answer:
        vpi = cached_folder("icarus-vpi", _vpi_source().read_text(), _build_vpi) / "myhdl.vpi"
        with scratch_folder("icarus") as folder:
            (folder / "core.v").write_text(bundle.verilog)
            (folder / "bench.v").write_text(_bench_text(bundle, folder / "raw.vcd"))
            call(["iverilog", "-g2005", "-o", "bench.vvp", "bench.v", "core.v"], folder, "Icarus Verilog", job.stop)
            host = _Host(bundle.accelerator, job, progress, self.name)
            # -n: an interrupt ends vvp, which would else wait for commands on standard input
            command = ["vvp", "-n", "-m", str(vpi), str(folder / "bench.vvp")]
            if job.trace is not None:  # vvp says on standard output that it writes a waveform
                command = ["sh", "-c", 'exec "$@" >"$0"', str(folder / "said"), *command]
            answer = _simulate(_bench_verilog(host.p, host, command), host)
            if job.trace is not None:
                write_window(folder / "raw.vcd", _DELTAS * host.started, _DELTAS * PER_CYCLE, job.trace)
        return answer


def _vpi_source() -> Path:
    return Path(sysconfig.get_path("data")) / "share" / "myhdl" / "cosimulation" / "icarus" / "myhdl.c"


def _build_vpi(folder: Path) -> None:
    for path in _vpi_source().parent.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    call(["iverilog-vpi", "myhdl.c", "myhdl_table.c"], folder, "building MyHDL's VPI module")


def _bench_text(bundle: RtlBundle, waves: Path) -> str:
    """A module that hands the ports of the top to MyHDL. Memories start at zero: simulation's X would outlive the
    multiplication by a zero weight that silences an unused lane in hardware."""
    ports = Ports(bundle.accelerator).as_dict()
    outputs = (*Ports.OUTPUTS, COUNTER)
    lines = ["`timescale 1ns/10ps", "module bench;", f"  wire [{ADDRESS_BITS - 1}:0] {COUNTER} = dut.{COUNTER};"]
    for name, signal in ports.items():
        width = f"[{len(signal) - 1}:0] " if len(signal) > 1 else ""
        lines.append(f"  {'wire' if name in outputs else 'reg'} {width}{name};")
    inputs = [name for name in ports if name not in outputs]
    lines.append("  reg dumping = 0;")
    lines.append(f'  always @(posedge dumping) begin $dumpfile("{waves}"); $dumpvars(0, dut); end')
    lines.append("  always @(negedge dumping) begin $dumpoff; $dumpflush; end")
    lines.append(
        f"  initial begin $from_myhdl({', '.join([*inputs, 'dumping'])}); $to_myhdl({', '.join(outputs)}); end"
    )
    lines.append(f"  {bundle.top} dut({', '.join(f'.{name}({name})' for name in ports)});")
    lines.append("  integer i;")
    lines.append("  initial begin")
    for path, words in bundle.memories:
        lines.append(f"    for (i = 0; i < {words}; i = i + 1) dut.{path}[i] = 0;")
    return "\n".join([*lines, "  end", "endmodule", ""])
