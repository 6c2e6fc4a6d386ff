"""What every test shares: which programs are there, and that CI may not do without them."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codesign_kernel.session.doctor import doctor

if TYPE_CHECKING:
    from browser import Served
    from gateway import Gate
    from servers import Postgres, Redis

# Several workers share the processors: threads of one that wait for each other, busily, take them from the rest. This
# stands before anything that loads numpy or torch, and holds for every program that a test starts.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# What a shell starts in the background ignores Ctrl-C, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Marker -> the check of `codesign doctor` that must be good for the test to run.
NEEDS = {
    "browser": "chromium",
    "icarus": "icarus",
    "nginx": "nginx with modsecurity",
    "ghdl": "ghdl",
    "postgres": "postgresql",
    "redis": "redis server",
    "sta": "opensta",
    "verilator": "verilator",
    "yosys": "pyosys",
}

#: Words by which a skip gives away that a program of tests/apt.txt or a package of constraints.txt is missing.
PROGRAMS = re.compile(
    r"\b(icarus|iverilog|vvp|ghdl|verilator|chromium|playwright|browser|perl|make|g\+\+|postgres|redis|nginx)",
    re.IGNORECASE,
)


def must_not_skip(reason: str, markers: set[str]) -> bool:
    """Whether a skip for ``reason`` of a test with ``markers`` says that an installation step is missing."""
    return bool(markers & set(NEEDS)) or PROGRAMS.search(reason) is not None or "could not import" in reason


def _fail_in_ci(report: pytest.TestReport | pytest.CollectReport, markers: set[str]) -> None:
    if not (os.environ.get("CI") and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if must_not_skip(reason, markers):
        report.outcome = "failed"
        report.longrepr = f"in CI this may not be skipped; `make test` should have installed what it needs: {reason}"


#: Files that take minutes, the longest first: begun last, one of them would run on while the other workers wait.
LONG = ("test_notebooks", "test_verify", "test_labs", "test_axi", "test_synth", "test_lawful", "test_testbench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first; `make test` tells xdist to keep this order."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is looked for while the tests are collected, nor ever again among what collecting them has made.

    That are over a million objects (torch, servers, every test), which live to the end: walking them takes half a
    second, and MyHDL's and Dask's tests alone have the heap walked hundreds of times.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_in_ci(report, {marker.name for marker in item.iter_markers()})
    return report


def pytest_sessionfinish() -> None:
    """The browser that tests share ends with them."""
    if "browser" in sys.modules:
        sys.modules["browser"].chromium.stop()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_in_ci(report, set())
    return report


@pytest.fixture(scope="session")
def machine() -> dict[str, tuple[bool, str]]:
    """{check of `codesign doctor`: (found, what to do)}."""
    return {check.name: (check.found, f"{check.detail}; {check.remedy}") for check in doctor()}


@pytest.fixture(autouse=True)
def _programs_are_there(request: pytest.FixtureRequest, machine: dict[str, tuple[bool, str]]) -> None:
    """Skip a marked test where its program is missing, and say what would bring it."""
    for marker, name in NEEDS.items():
        if request.node.get_closest_marker(marker) and not machine[name][0]:
            pytest.skip(f"{name}: {machine[name][1]}")


@pytest.fixture(scope="session", autouse=True)
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What generators and simulators build goes into one folder, shared by the workers of a run and kept out of the
    user's cache: an accelerator that several files test is converted and compiled once."""
    if os.environ.get("CODESIGN_CACHE_DIR"):
        yield Path(os.environ["CODESIGN_CACHE_DIR"])
        return
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / "compiled models"  # paths have spaces at times
    os.environ["CODESIGN_CACHE_DIR"] = str(folder)
    yield folder
    del os.environ["CODESIGN_CACHE_DIR"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that tests share; it goes when they are done. Who uses it has the marker ``postgres``."""
    from servers import Postgres

    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis that tests share; it goes when they are done. Who uses it has the marker ``redis``."""
    from servers import Redis

    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Voila that tests share: ``pages.page(name, cell)`` is the address of a notebook. Marker ``browser``."""
    from browser import voila

    with voila(tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("voila")) as served:
        yield served


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gateway that tests share, with the identity ``token`` and two small apps, ``slider`` and ``console``."""
    from gateway import gateway, write_app

    folder = tmp_path_factory.mktemp("gate")
    (folder / "apps").mkdir()
    write_app(folder / "apps", "slider", SLIDER)
    write_app(folder / "apps", "console", SLIDER, open_to="admin")
    # more places than tests take: a page that a test leaves keeps its kernel for minutes
    with gateway(folder, warm_kernels=0, max_kernels=12) as running:
        yield running


#: An app whose page is ready when `#out` is there; moving the slider changes its text.
SLIDER = """import ipywidgets as w
slider, out = w.IntSlider(max=100), w.HTML("<b id=out>size 0</b>")
slider.observe(lambda change: setattr(out, "value", f"<b id=out>size {change.new}</b>"), "value")
w.VBox([slider, out])"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that is not there yet: a test that takes it runs on both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres").new_store()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of measured reference data that the models are compared with; it is kept outside of the repository."""
    folder = Path(os.environ.get("CODESIGN_REFERENCE_DIR", Path(__file__).parents[2] / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; set CODESIGN_REFERENCE_DIR")
    return folder
