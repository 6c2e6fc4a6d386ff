"""The house rules that a program can check: imports run down the floors, heavy libraries stay home, the door is light.

A new room goes into FLOORS, above everything that it imports. A new heavy library goes into HOMES.
"""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
KERNEL = "codesign_kernel"

#: A room may import rooms of lower floors only.
FLOORS = {
    "units": 1,
    "errors": 1,
    "display": 1,
    "numerics": 1,
    "cache": 2,
    "files": 2,
    "workload": 2,
    "accelerator": 2,
    "pareto": 2,
    "scopes": 2,
    "telemetry": 2,
    "uploads": 2,
    "cluster": 3,
    "profiler": 3,
    "optimize": 3,
    "mapping": 3,
    "cost": 4,
    "rtl": 4,
    "design": 5,
    "lower": 5,
    "assembly": 6,
    "client": 6,
    "cosim": 6,
    "explore": 6,
    "store": 6,
    "figures": 6,
    "session": 7,
    "server": 8,
    "cli": 9,
    "magics": 8,
}

#: The two wings meet in session only; explore is handed its evaluation and its executor.
APART = {
    "cosim": {"cost", "design", "explore"},
    "lower": {"cost", "design", "explore"},
    "rtl": {"cost", "design", "explore"},
    "cost": {"rtl", "lower", "cosim"},
    "design": {"rtl", "lower", "cosim"},
    "explore": {"cost", "cluster", "store", "rtl", "lower", "cosim"},
    "store": {"cluster", "profiler", "optimize", "cost", "design", "rtl", "lower"},  # it is handed plain data and bytes
}

#: The one import upwards: how a result shows itself is asked for when it is shown, inside a function and not before.
DOORS = {"display": "codesign_kernel.figures.cards.shown_as"}

#: Heavy library -> the rooms that may import it.
HOMES = {
    "torch": {"profiler", "optimize"},
    "torch_pruning": {"optimize"},
    "torchao": {"optimize"},
    "onnx": {"profiler"},
    "sklearn": {"optimize"},
    "moocore": {"explore"},
    "optuna": {"explore"},
    "pymoo": {"explore"},
    "dask": {"cluster"},
    "distributed": {"cluster"},
    "dask_jobqueue": {"cluster"},
    "dask_kubernetes": {"cluster"},
    "dask_gateway": {"cluster"},
    "cryptography": {"cluster", "store"},
    "myhdl": {"rtl", "cosim"},
    "numba": {"cost"},
    "pyosys": {"session"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "psycopg": {"store"},
    "pyarrow": {"store"},
    "redis": {"store"},
    "yaml": {"session"},
    "plotly": {"figures", "widgets"},
    "IPython": {"magics"},
    "ipywidgets": {"widgets"},
    "anywidget": {"widgets"},
    "voila": {"server"},
    "jupyter_server": {"server"},
    "jupyter_client": {"server"},
    "jupyterhub": {"server"},
    "limits": {"server"},
    "tornado": {"server"},
    "argon2": {"server"},
    "prometheus_client": {"telemetry"},
    "opentelemetry": {"telemetry"},
    "httpx": {"client"},
}

#: Widgets are given data and callables: of the kernel they know the figures and the ground floor.
WIDGETS_MAY = {"figures", "units", "errors", "scopes"}

ROOTS_OF_HEAVY = {*HOMES, "pandas", "numpy", "scipy", "matplotlib"}


class Import(NamedTuple):
    """One import: the absolute dotted name, the line, and whether it runs when the file is loaded."""

    module: str
    line: int
    at_load: bool


def imports(source: str, package: str) -> Iterator[Import]:
    """Every import of ``source``, a module of ``package`` (dotted): statements anywhere, and import_module("...")."""
    tree = ast.parse(source)
    deferred: set[ast.AST] = set()
    for node in ast.walk(tree):
        type_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if type_checking or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            deferred.update(ast.walk(node))
    for node in ast.walk(tree):
        at_load = node not in deferred
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_load)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, at_load)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield Import(argument.value, node.lineno, at_load)


def room_of(path: str) -> str:
    """The room of a file given relative to the checkout: ``codesign_kernel/cost/area.py`` -> ``cost``."""
    parts = Path(path).parts
    return Path(parts[1]).stem if parts[0] == KERNEL else parts[0]


def _check_import(room: str, found: Import) -> str | None:
    """What ``found`` breaks in ``room``, or None."""
    top, *rest = found.module.split(".")
    if rest and rest[-1] == "*":
        return "imports *; name what is used"
    if top in HOMES and room not in HOMES[top]:
        return f"imports {top}, whose home is {' and '.join(sorted(HOMES[top]))}"
    if top != KERNEL:
        return None
    target = rest[0] if rest else ""
    if room == "widgets":
        return None if target in WIDGETS_MAY else f"imports {found.module}; widgets know {sorted(WIDGETS_MAY)} only"
    if target == room or (DOORS.get(room) == found.module and not found.at_load):
        return None
    if target == "__version__":
        return None  # the release that results and workers are stamped with: a constant, which loads nothing
    if target not in FLOORS:
        return f"imports {found.module} through the front door; import the room that it lives in"
    if target in APART.get(room, ()):
        return f"imports {target}, which is of the other wing; let session hand over what is needed"
    if FLOORS[target] >= FLOORS[room]:
        return f"(floor {FLOORS[room]}) imports {target} (floor {FLOORS[target]}); imports run down"
    return None


def violations(files: Mapping[str, str]) -> list[str]:
    """What breaks the rules in ``files`` ({path relative to the checkout: source}), one line each."""
    told = []
    for path, source in sorted(files.items()):
        room = room_of(path)
        if room == "__init__":
            continue  # the front door: test_the_front_door_is_light
        if room not in FLOORS and room != "widgets":
            told.append(f"{path}: {room} is on no floor; add it to FLOORS in tests/test_house.py, above all it imports")
            continue
        package = ".".join(Path(path).parent.parts)
        for found in imports(source, package):
            problem = _check_import(room, found)
            if problem:
                told.append(f"{path}:{found.line}: {room} {problem}")
    return told


def sources() -> dict[str, str]:
    """Every Python file of the kernel and the widgets."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in (KERNEL, "widgets")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_the_house_keeps_its_rules() -> None:
    assert len(sources()) > 20, "the tree was not found"
    assert not violations(sources()), "\n".join(violations(sources()))


@pytest.mark.parametrize(
    ("path", "source", "told"),
    [
        ("cost/area.py", "from codesign_kernel.design import Design", "imports run down"),
        ("cost/area.py", "from ..session import sweep", "imports run down"),
        ("units.py", "def f():\n    import codesign_kernel.errors", "imports run down"),
        ("cosim/check.py", "from codesign_kernel.cost import evaluate", "other wing"),
        ("lower.py", "from codesign_kernel import cost", "other wing"),
        ("explore/sweep.py", "from codesign_kernel.cluster import start", "other wing"),
        ("explore/sweep.py", "import codesign_kernel.cost.evaluate", "other wing"),
        ("session/run.py", "import codesign_kernel as ck", "front door"),
        ("session/run.py", "from codesign_kernel import evaluate", "front door"),
        ("cost/area.py", "def f():\n    import torch.nn", "home is optimize and profiler"),
        ("cosim/run.py", "import importlib\nimportlib.import_module('torch')", "home is optimize and profiler"),
        ("session/run.py", "from plotly import graph_objects", "home is figures and widgets"),
        ("cost/area.py", "from math import *", "imports *"),
        ("quantum/magic.py", "", "add it to FLOORS"),
        ("display.py", "from codesign_kernel.figures.cards import shown_as", "imports run down"),
        ("display.py", "def f():\n    from codesign_kernel.figures import theme", "imports run down"),
        ("cost/result.py", "def f():\n    from codesign_kernel.figures.cards import shown_as", "imports run down"),
        ("../widgets/playground.py", "from codesign_kernel.session import sweep", "widgets know"),
    ],
)
def test_each_rule_can_be_broken(path: str, source: str, told: str) -> None:
    full = path.removeprefix("../") if path.startswith("..") else f"{KERNEL}/{path}"
    (only,) = violations({full: source})
    assert told in only


def test_what_the_rules_allow() -> None:
    allowed = {
        f"{KERNEL}/cost/area.py": [
            "from .formulas import x",
            "from ..units import quantity",
            "from ..accelerator import types",
        ],
        f"{KERNEL}/session/__init__.py": ["from codesign_kernel import cosim, cost", "from .doctor import doctor"],
        f"{KERNEL}/cli/parser.py": ["from codesign_kernel import __version__, session"],
        f"{KERNEL}/rtl/core.py": ["from myhdl import block", "import numpy as np"],
        f"{KERNEL}/display.py": ["def f():\n    from codesign_kernel.figures.cards import shown_as"],
        "widgets/playground.py": [
            "import ipywidgets",
            "from codesign_kernel.figures import theme",
            "from ._base import Base",
        ],
    }
    assert not violations({path: "\n".join(lines) for path, lines in allowed.items()})


def test_pandas_loads_when_it_is_needed() -> None:
    at_load = [
        f"{path}:{found.line}"
        for path, source in sources().items()
        if path.startswith(KERNEL)
        for found in imports(source, ".".join(Path(path).parent.parts))
        if found.module.split(".")[0] == "pandas" and found.at_load
    ]
    assert not at_load, f"pandas is imported inside functions, or under TYPE_CHECKING: {at_load}"


COLD = """
import json, sys, time
start = time.process_time()
{statement}
print(json.dumps([time.process_time() - start, sorted({{name.split(".")[0] for name in sys.modules}})]))
"""


def cold(statement: str) -> tuple[float, set[str]]:
    """Processor seconds that ``statement`` takes in a fresh interpreter, and top-level modules loaded afterwards."""
    command = [sys.executable, "-c", COLD.format(statement=statement)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


@pytest.mark.parametrize(
    "statement",
    ["import codesign_kernel", "from codesign_kernel.cli.parser import build_parser; build_parser()"],
)
def test_the_front_door_is_light(statement: str) -> None:
    runs = [cold(statement) for _ in range(5)]
    heavy = runs[0][1] & ROOTS_OF_HEAVY
    assert not heavy, f"{statement!r} loads {sorted(heavy)}"
    assert statistics.median(seconds for seconds, _ in runs) < 0.2


def test_the_light_door_check_sees_what_loads() -> None:
    assert "numpy" in cold("import numpy")[1] & ROOTS_OF_HEAVY


def notebook_code(path: Path) -> str:
    """All code cells of a notebook as one module, magics left out."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in lines)


@pytest.mark.parametrize("path", sorted((ROOT / "voila_apps").glob("*.ipynb")), ids=lambda path: path.name)
def test_an_app_only_composes(path: Path) -> None:
    tree = ast.parse(notebook_code(path))
    made = [node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert not made, f"{path.name} defines {made}; they belong into widgets/ or codesign_kernel/session/"


def test_every_public_name_is_there() -> None:
    """Each name that the front door promises loads, and the three lists of them agree."""
    import codesign_kernel as ck

    assert set(ck.__all__) == {*ck._HOME, "__version__"}
    typed = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse((ROOT / KERNEL / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert typed == set(ck._HOME)
    for name in ck.__all__:
        assert getattr(ck, name) is not None, name
        assert name in dir(ck)


def test_an_unknown_name_lists_the_known_ones() -> None:
    import codesign_kernel as ck

    with pytest.raises(AttributeError, match=r"no attribute 'accelerate'.*Accelerator"):
        ck.accelerate  # noqa: B018 - the access is what is tested
