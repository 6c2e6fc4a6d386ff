"""What was compiled, laid into cells: a kernel's first evaluation or co-simulation need not compile that for seconds.

numba finds what it kept by the folder of the source, and in each cell our code stands at a path of the cell's own; it
then checks the source's digest itself. What Verilator adds to every model is found by the digest of its versions and
options. All that is laid in was compiled outside of the cells, by our code alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from codesign_kernel.errors import SandboxError
from codesign_kernel.server.sandbox.system import PR_SET_PDEATHSIG, prctl

#: Beside the cells, made once before any of them needs it; nobody but the gateway reads it.
FOLDER = ".compiled"
_PACKAGE, _RUNTIME, _SECONDS = "cost", "verilator-runtime", 300
#: Compiles where that was not done before, into numba's own folder of this installation, and says which that is.
_COMPILE = """
import codesign_kernel as ck
from codesign_kernel.cost.compiled import every_mapping
from codesign_kernel.session import catalogue
ck.evaluate(catalogue.network("lenet5").workload, ck.accelerator.catalog("edge_tpu"))
print(every_mapping.stats.cache_path)
"""
#: The same of Verilator, into our own cache; says nothing where it does not run here.
_COMPILE_RUNTIME = """
from codesign_kernel.cosim.verilated import VerilatorSimulator, runtime
print(runtime() if VerilatorSimulator().missing() is None else "")
"""


async def compile_for(run_root: Path, capabilities: Collection[str] = ("explore",)) -> int:
    """Compile what cells with these capabilities need, once per installation, and copy the result to where cells of
    ``run_root`` find it; its bytes.

    Raises:
        SandboxError: it cannot be compiled here; cells work without, and compile for themselves.
    """
    (run_root / FOLDER).mkdir(mode=0o700, exist_ok=True)
    parts = []
    if "cosimulate" in capabilities:
        parts.append(_part(run_root, "the runtime of Verilator", _COMPILE_RUNTIME, _RUNTIME, ("*.o",)))
    if "explore" in capabilities:
        kinds = ("compiled.*.nbi", "compiled.*.nbc")
        parts.append(_part(run_root, "the formulas of machines", _COMPILE, _PACKAGE, kinds))
    sizes = await asyncio.gather(*parts, return_exceptions=True)
    for failed in (size for size in sizes if isinstance(size, BaseException)):
        raise failed
    return sum(size for size in sizes if isinstance(size, int))


async def _part(run_root: Path, what: str, code: str, name: str, patterns: tuple[str, ...]) -> int:
    """What ``code`` compiles, in a folder below :data:`FOLDER` as soon as it is whole; its bytes."""
    source = await _compiled(run_root, what, code)
    if source is None:
        return 0
    made, final = run_root / FOLDER / f".{name}", run_root / FOLDER / name
    shutil.rmtree(made, ignore_errors=True)
    folder = made / source.name if name == _RUNTIME else made
    folder.mkdir(mode=0o700, parents=True)
    for path in (path for pattern in patterns for path in source.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    shutil.rmtree(final, ignore_errors=True)
    made.rename(final)
    return sum(path.stat().st_size for path in final.rglob("*") if path.is_file())


async def _compiled(run_root: Path, what: str, code: str) -> Path | None:
    """The folder whose name ``code`` prints in a process of its own, as its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=run_root, preexec_fn=_aside, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        told, errors = await asyncio.wait_for(process.communicate(), _SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = errors.decode(errors="replace").strip()[-300:]
        raise SandboxError(f"not compiled beforehand: {what}: {words}")
    last = told.decode().rstrip("\n").splitlines()[-1]
    return Path(last) if last else None


def _aside() -> None:
    """It gives way to visitors, and ends with the gateway."""
    os.nice(10)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def lay(run_root: Path, code: Path, cache: Path, capabilities: Collection[str] = ("explore",)) -> list[Path]:
    """Copy what was compiled into a cell's ``cache`` folder, as of our code below ``code``; what was made."""
    source = os.fspath(code / "codesign_kernel" / _PACKAGE)
    # the name that numba.core.caching gives: the last folder, and the digest of the whole path
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    made = _copied(run_root / FOLDER / _PACKAGE, cache, "numba", f"{_PACKAGE}_{digest}")
    if "cosimulate" in capabilities:
        for runtime in (run_root / FOLDER / _RUNTIME).glob("*"):
            made += _copied(runtime, cache, "codesign", _RUNTIME, runtime.name)
    return made


def _copied(source: Path, cache: Path, *names: str) -> list[Path]:
    """The files of ``source`` in the folder of these names, one in the other, below ``cache``; what was made."""
    if not source.is_dir():
        return []
    made, folder = [], cache
    for name in names:
        folder = folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        made.append(folder)
    with suppress(FileNotFoundError):  # it is being replaced
        for path in source.iterdir():
            made.append(Path(shutil.copyfile(path, folder / path.name)))
    return made
