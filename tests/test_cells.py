"""What runs in a cell has what it needs, the probe finds what holds here, and a kernel lives in one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from cells import best, held, root, run, scope

from codesign_kernel.errors import InvalidInputError, SandboxError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import (
    Cell,
    Confinement,
    Ended,
    check_scope,
    confinement,
    probe,
    run_confined,
    trial,
)

__all__ = ["best", "held", "root"]  # fixtures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cells are Linux's")


def test_a_cell_reaches_its_own_broker_and_its_own_files(held: Confinement, root: Path) -> None:
    cell = Cell(scope(), held, root)
    code = """
import os, pwd, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["CODESIGN_BROKER"]); s.sendall(b"hello")
print(s.recv(9).decode())
for path in ("kept", os.environ["TMPDIR"] + "/t", os.path.expanduser("~/deep")): open(path, "w").write("x")
print(os.getcwd() == sys.argv[1], os.path.expanduser("~"), sum(1 for _ in open("/proc/self/status")) > 9)
try: pwd.getpwuid(os.getuid())
except KeyError: print("nobody")
"""
    with cell.listen() as listener:
        listener.settimeout(100)

        def _answer() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(9) == b"hello"
                connection.sendall(b"you are in")

        thread = threading.Thread(target=_answer)
        thread.start()
        ended, lines = run(cell, code, os.fspath(cell.work))
        thread.join()
    assert ended == Ended(0, "")
    assert lines == ["you are i", f"True {cell.home} True", "nobody"]
    assert cell.usage_bytes() > 0
    cell.remove()
    assert not cell.folder.exists()


def test_lines_come_one_by_one_and_input_goes_in(best: Confinement, root: Path) -> None:
    code = (
        "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\nprint('half', end='')\nsys.exit(3)"
    )
    ended, lines = run(Cell(scope(), best, root), code, stdin=b"one\ntwo\n" * 20_000)
    assert ended == Ended(3, "")
    assert lines == ["ONE", "TWO"] * 20_000 + ["half"]


def test_a_line_without_end_is_a_result_that_is_too_long(best: Confinement, root: Path) -> None:
    ended, _ = run(Cell(scope(artefact_bytes=1 << 16), best, root), "while 1: print('x' * 65536, end='')")
    assert ended.reason == "artefact_bytes: the result is longer than the scope's limit of 65,536 byte"


def test_what_the_probe_finds_is_enforced_and_anything_less_is_refused(
    best: Confinement, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(confinement.REQUIRED) <= best.enforces
    check_scope(scope(), best)
    weak = Confinement("landlock", "of an old kernel", best.enforces - {"network", "memory_bytes"})
    with pytest.raises(SandboxError, match="does not enforce with landlock: memory_bytes, network"):
        check_scope(scope(), weak)
    with pytest.raises(SandboxError, match=r"memory_bytes of 274,877,906,944 byte, but this machine has"):
        check_scope(scope(memory_bytes=256 << 30), best)
    with pytest.raises(InvalidInputError, match="a sandbox is auto or one of landlock"):
        probe("chroot")
    monkeypatch.setattr(trial.landlock, "abi", lambda: 0)
    monkeypatch.setattr(trial.shutil, "which", lambda name: None)
    with pytest.raises(
        SandboxError, match=r"no sandbox works here \(landlock: .* bubblewrap: bwrap is not installed\)"
    ):
        probe("auto")
    accepted = probe("auto", accept_none=True)
    assert accepted.kind == "none"
    check_scope(scope(), accepted)


def test_the_probe_notices_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial of a confinement that lost its filter ends with words on what got out."""
    real = trial.Cell
    monkeypatch.setattr(trial, "Cell", lambda *given: real(*given, without=("sockets", "tcp", "connect")))
    assert trial.try_kind("landlock") == "did not hold: network"


def test_a_folder_with_too_long_a_name_is_refused(best: Confinement, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="choose a shorter data_dir"):
        Cell(scope(), best, tmp_path / ("x" * 80))


@pytest.mark.slow
def test_a_kernel_runs_in_its_cell_and_leaves_nothing(held: Confinement, root: Path) -> None:
    import asyncio

    asyncio.run(_drive_a_kernel(held, root))
    assert list(root.iterdir()) == []


async def _drive_a_kernel(held: Confinement, root: Path) -> None:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    from codesign_kernel.server.sandbox import provisioner

    class _One(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                display_name="Python", language="python", interrupt_mode="message",
                metadata={"kernel_provisioner": {"provisioner_name": provisioner.NAME}},
            )  # fmt: skip

    provisioner.register()
    manager = AsyncKernelManager(kernel_name="python", kernel_spec_manager=_One())
    cell = Cell(Scope("app"), held, root)
    await manager.start_kernel(cell=cell, stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=110)
        said: list[str] = []
        code = (
            "import os, torch; print(1 + 1, torch.ones(2).sum().item(), os.environ.get('JPY_PARENT_PID'), os.getcwd())"
        )
        await client.execute_interactive(
            code, timeout=110, output_hook=lambda message: said.append(message["content"].get("text", ""))
        )
        assert "".join(said).split() == ["2", "2.0", "None", os.fspath(cell.work)]
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
    assert manager.provisioner is not None
    assert not await manager.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["g++", "iverilog"])
def test_tools_of_the_simulators_work_in_a_cell(held: Confinement, root: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    sources = {
        "g++": ("a.cpp", "#include <iostream>\nint main() { std::cout << 42 << std::endl; }", "g++ a.cpp -o a && ./a"),
        "iverilog": ("a.v", 'module a; initial $display("42"); endmodule', "iverilog -o a a.v && vvp a"),
    }
    name, text, command = sources[program]
    cell = Cell(scope(disk_bytes=1 << 28), held, root)
    (cell.work / name).write_text(text, encoding="ascii")
    (cell.work / name).chmod(0o644)
    lines: list[str] = []
    ended = run_confined(cell, ["/bin/sh", "-c", command], on_line=lines.append)
    assert (ended.status, lines) == (0, ["42"]), ended.errors


def test_interrupting_reaches_the_program(best: Confinement, root: Path) -> None:
    cell = Cell(scope(), best, root)
    code = (
        "import time\ntry: print('ready', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print('interrupted')"
    )
    with cell.start([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"ready\n"
        if best.kind == "landlock":
            launcher.send_signal(signal.SIGINT)
            assert launcher.stdout.readline() == b"interrupted\n"
        launcher.terminate()


def test_the_trial_runs_where_the_cells_will_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is above that folder may keep a cell's own user out, which a trial elsewhere would not find."""
    seen = []

    class Seen(Cell):
        def __init__(self, scope: Scope, confinement: Confinement, run_root: Path) -> None:
            seen.append(run_root)
            super().__init__(scope, confinement, run_root)

    monkeypatch.setattr(trial, "Cell", Seen)
    with tempfile.TemporaryDirectory() as folder:
        probe("auto", accept_none=True, place=Path(folder))
        assert {*seen} == {Path(folder)}
        assert [*Path(folder).iterdir()] == []
