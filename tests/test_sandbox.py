"""Cells hold: what is attacked from inside stays out of reach, limits end all of a cell, and nothing outlives it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import sandbox_attacks
from cells import best, held, marked, root, run, scope, until

import codesign_kernel
from codesign_kernel.errors import SandboxError
from codesign_kernel.server.sandbox import (
    Cell,
    Confinement,
    Ended,
    probe,
    run_confined,
)

__all__ = ["best", "held", "root"]  # fixtures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cells are Linux's")

#: What the attacks are stopped by when nothing but the one guard is there: {guard: attacks that succeed without it}.
GUARDS = {
    "files": ("passwd", "outside_file", "symlink"),
    "sockets": ("udp",),
    "connect": ("open_socket",),
    "calls": ("kernel_calls", "namespaces"),
    "rlimits": ("many_files",),
    "environment": ("inherited_secret",),
    "same_user": ("others_limits",),  # where the gateway is not root
}


class Yard:
    """What there is around a cell to be attacked: sockets, a neighbour, files, a server with a secret."""

    def __init__(self, held: Confinement, root: Path, without: tuple[str, ...] = (), *, trusted: bool = False) -> None:
        self.open = ExitStack()
        self.secret = secrets.token_hex(16)
        sockets = [self._listen(socket.AF_INET, "127.0.0.1"), self._listen(socket.AF_INET6, "::1")]
        udp = self._bind(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        abstract = f"codesign-{secrets.token_hex(8)}"
        self._bind(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}").listen()
        public = root / "public"
        public.mkdir(mode=0o755)
        for name, kind in (("open", socket.SOCK_STREAM), ("datagrams", socket.SOCK_DGRAM)):
            made = self._bind(socket.AF_UNIX, kind, os.fspath(public / name))
            (public / name).chmod(0o777)
            if kind == socket.SOCK_STREAM:
                made.listen()
        canary = public / "canary"
        canary.write_text(self.secret, encoding="ascii")
        shutil.copy("/usr/bin/id", public / "id")
        (public / "id").chmod(0o4755)
        root.chmod(0o755)
        self.facts_file = public / "facts.json"
        self.cell = Cell(
            scope(), held, root / "c", [self.facts_file, public / "id", Path(sandbox_attacks.__file__)],
            without=without, trusted=trusted,
        )  # fmt: skip
        self.other = Cell(scope(), held, root / "c")
        (self.other.work / "notes").write_text(self.secret, encoding="ascii")
        (self.other.connections / "kernel.json").write_text(self.secret, encoding="ascii")
        self.open.enter_context(self.other.listen())
        server = self._keep(subprocess.Popen(["sleep", "600"], env={"SECRET": self.secret}))
        neighbour = self._keep(self.other.start(["sleep", "600"], stdin=subprocess.DEVNULL))
        self.facts = {
            "canary": os.fspath(canary), "run_root": os.fspath(root / "c"), "own": os.fspath(self.cell.folder),
            "other": os.fspath(self.other.folder), "server": server.pid, "neighbour": neighbour.pid,
            "secret": self.secret, "tcp": sockets[0], "tcp6": sockets[1], "udp": udp.getsockname()[1],
            "abstract": abstract, "setuid": os.fspath(public / "id"),
            "open_socket": os.fspath(public / "open"), "datagrams": os.fspath(public / "datagrams"),
            "code": [codesign_kernel.__file__, os.__file__, f"{sys.prefix}/a", os.path.dirname(os.__file__) + "/a"],
        }  # fmt: skip
        self.facts_file.write_text(json.dumps(self.facts), encoding="utf-8")

    def _bind(self, family: int, kind: int, address: object) -> socket.socket:
        sock = self.open.enter_context(socket.socket(family, kind))
        sock.bind(address)
        return sock

    def _listen(self, family: int, host: str) -> int:
        try:
            sock = self._bind(family, socket.SOCK_STREAM, (host, 0))
        except OSError:
            return 1  # a machine without IPv6
        sock.listen()
        return int(sock.getsockname()[1])

    def _keep(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self.open.callback(process.wait)
        self.open.callback(process.terminate)
        return process

    def attacked(self, *names: str) -> dict[str, str]:
        """{attack: what it got} of a program in the cell."""
        os.environ["CODESIGN_TEST_SECRET"] = self.secret
        lines: list[str] = []
        argv = [sys.executable, "-I", "-S", sandbox_attacks.__file__, os.fspath(self.facts_file), *names]
        try:
            ended = run_confined(self.cell, argv, on_line=lines.append)
        finally:
            del os.environ["CODESIGN_TEST_SECRET"]
        assert ended.status == 0, ended
        return json.loads(lines[-1])

    def close(self) -> None:
        self.open.close()
        self.cell.remove()
        self.other.remove()


@pytest.fixture(scope="module", params=["a user for each cell", "the gateway's user"])
def results(held: Confinement, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What every attack got in a cell with all guards up."""
    if request.param == "the gateway's user":
        held = replace(held, own_user=False, read_all=False)
    elif not held.own_user:
        pytest.skip("only root can give each cell a user")
    folder = Path(os.path.realpath("/tmp"), f"cells-{secrets.token_hex(4)}")
    folder.mkdir()
    yard = Yard(held, folder)
    try:
        yield yard.attacked()
    finally:
        yard.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", sandbox_attacks.ATTACKS)
def test_attack_gets_nothing(results: dict[str, str], name: str) -> None:
    assert results[name] == ""


@pytest.mark.parametrize("guard", GUARDS)
def test_the_attack_succeeds_when_the_guard_alone_is_off(root: Path, guard: str) -> None:
    try:
        held = probe("landlock")
    except SandboxError as error:
        pytest.skip(str(error))
    if guard == "same_user":
        held = replace(held, own_user=False, read_all=False)
    yard = Yard(held, root, without=(guard,))
    try:
        got = yard.attacked(*GUARDS[guard])
    finally:
        yard.close()
    assert all(got.values()), got


def test_a_cell_that_is_trusted_has_a_network_of_its_own_and_gets_no_more(held: Confinement, root: Path) -> None:
    """The workers' cell: its processes meet on a loopback interface that nobody else is on."""
    if not held.own_user:
        pytest.skip("a network of its own takes root, or bubblewrap")
    yard = Yard(held, root, trusted=True)
    try:
        got = yard.attacked()
        ended, lines = run(yard.cell, _MEET)
    finally:
        yard.close()
    # to listen, to send into that network, and to share semaphores is what such a cell is for; without a process
    # namespace others' command lines can be read, and nothing else of theirs
    meant = {"listening", "udp", "shared_folders", *(("proc_of_server",) if held.kind == "landlock" else ())}
    assert {name for name, found in got.items() if found} <= meant, got
    assert got["proc_of_server"] in ("", "sleep\x00600\x00"), got
    assert got["shared_folders"].startswith("/dev/shm/"), got
    assert lines == ["they met; ['lo']"], ended


@pytest.mark.slow
def test_workers_start_where_no_local_socket_can_be_connected_to(held: Confinement, root: Path) -> None:
    """In a folder whose name is short enough for a forkserver's socket, as an operator's is."""
    cell = Cell(scope(wall_s=300, cpu_s=300, memory_bytes=1 << 30), held, root, trusted=True)
    lines: list[str] = []
    ended = run_confined(cell, [sys.executable, "-c", _COPIED], on_line=lines.append)
    cell.remove()
    assert lines == ["True spawn"], ended


_COPIED = """
import dask, tempfile
from codesign_kernel.cluster import backends
with backends.copied_workers():
    how = dask.config.get("distributed.worker.multiprocessing-method", "spawn")
print(len(tempfile.gettempdir()) <= backends._ROOM, how)
"""


_MEET = """
import multiprocessing, socket
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname()).close()
multiprocessing.Lock()
print("they met;", [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]])
"""


ENDLESS = {
    "wall_s": (1, "import time\nwhile 1: time.sleep(9)"),
    "cpu_s": (1, "while 1: pass"),
    "disk_bytes": (
        1 << 22,
        "import time\nfor n in range(99): open(f'f{n}', 'wb').write(bytes(1 << 20))\ntime.sleep(99)",
    ),
    # each of them stays within the limit of a process
    "memory_bytes": (
        1 << 27,
        "import os, time\nfor n in range(5):\n  if not os.fork(): x = b'x' * (50 << 20); time.sleep(99)\n"
        "time.sleep(99)",
    ),
    "processes": (
        24,
        "import os, time\nwhile 1:\n  try: os.fork()\n  except OSError: time.sleep(0.1)",
    ),
}


@pytest.mark.parametrize("limit", ENDLESS)
def test_a_limit_ends_all_of_a_cell_and_is_named_with_its_value(held: Confinement, root: Path, limit: str) -> None:
    most, code = ENDLESS[limit]
    cell, mark = Cell(scope(**{limit: most}), held, root), secrets.token_hex(8)
    ended, _ = run(cell, code, mark)
    assert ended.status != 0
    assert ended.reason.startswith(f"{limit}: the scope's limit of {most:,} ")
    assert marked(mark) == []
    cell.remove()


def test_a_limit_that_is_not_watched_is_passed(best: Confinement, root: Path) -> None:
    cell = Cell(scope(disk_bytes=1 << 22), best, root, without=("watch",))
    ended, lines = run(cell, ENDLESS["disk_bytes"][1].replace("time.sleep(99)", "print('full')"))
    assert (ended.status, lines) == (0, ["full"])


def test_one_process_gets_no_more_memory_than_its_scope_has(held: Confinement, root: Path) -> None:
    ended, lines = run(
        Cell(scope(), held, root),
        "try: bytearray(1 << 30)\nexcept MemoryError: print('refused')\nelse: print('got it')",
    )
    assert (ended.status, lines) == (0, ["refused"])


DAEMON = """
import os, sys, time
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    time.sleep(60)
os.wait()
print("ready", flush=True)
"""


def test_what_a_program_leaves_behind_ends_with_it(held: Confinement, root: Path) -> None:
    mark = secrets.token_hex(8)
    ended, lines = run(Cell(scope(), held, root), DAEMON, mark)
    assert (ended, lines) == (Ended(0, ""), ["ready"])
    assert marked(mark) == []


def test_stopping_ends_all_of_a_cell(best: Confinement, root: Path) -> None:
    mark, stop = secrets.token_hex(8), threading.Event()
    argv = [sys.executable, "-I", "-S", "-c", DAEMON + "time.sleep(60)", mark]
    ended = run_confined(Cell(scope(), best, root), argv, on_line=lambda line: stop.set(), stop=stop)
    assert ended.reason == "stopped"
    assert marked(mark) == []


GATEWAY = """
import sys, time
from pathlib import Path
from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import Cell, probe
cell = Cell(Scope("t"), probe(sys.argv[1]), Path(sys.argv[2]))
cell.start([sys.executable, "-I", "-S", "-c", sys.argv[3] + "time.sleep(60)", sys.argv[4]])
time.sleep(60)
"""


def test_nothing_outlives_a_gateway_that_was_killed(held: Confinement, root: Path) -> None:
    mark = secrets.token_hex(8)
    argv = [sys.executable, "-c", GATEWAY, held.kind, os.fspath(root), DAEMON, f"mark-{mark}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == b"ready\n"
        gateway.kill()
    assert until(lambda: marked(mark) == [])
    assert until(lambda: list(root.iterdir()) == [])


def test_nothing_outlives_its_cell_where_the_launcher_was_killed(best: Confinement, root: Path) -> None:
    if not best.own_user:
        pytest.skip("the gateway is not root: what a killed launcher leaves has no user of its own to be known by")
    cell, mark = Cell(scope(), best, root), secrets.token_hex(8)
    argv = [sys.executable, "-I", "-S", "-c", DAEMON + "time.sleep(60)", mark]
    with cell.start(argv, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"ready\n"
        launcher.kill()
        launcher.wait()
        cell.remove()
    assert marked(mark) == []
