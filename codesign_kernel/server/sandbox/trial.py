"""The trial of a confinement: a cell whose process tries to get out, at the start of the gateway."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from codesign_kernel.scopes import Scope
from codesign_kernel.server.sandbox import landlock, seccomp, system
from codesign_kernel.server.sandbox.cell import Cell, code_folders
from codesign_kernel.server.sandbox.confinement import _UID_RANGES, _WATCHED, REQUIRED, Confinement

_WAIT_S = 60
#: Runs in the cell with the standard library: prints the attempts that succeeded, and that it could work at all.
_ATTEMPTS = """
import json, os, socket, sys
canary, tcp, tcp6, udp, parent = sys.argv[1], *map(int, sys.argv[2:6])
for folder in sys.argv[6:]: os.listdir(folder)
def files():
    for path in (canary, "/etc/passwd"):
        try: open(path).read()
        except OSError: continue
        return True
def network():
    for family, kind, address in ((2, 1, ("127.0.0.1", tcp)), (10, 1, ("::1", tcp6)), (2, 2, ("127.0.0.1", udp))):
        try:
            s = socket.socket(family, kind); s.settimeout(2); s.connect(address); s.send(b"x")
        except OSError: continue
        return True
def environment():
    for name in ("environ", "cmdline", "maps"):
        try: open(f"/proc/{parent}/{name}").read()
        except OSError: continue
        return True
def signals():
    try: os.kill(parent, 0)
    except OSError: return False
    return True
out = [f.__name__ for f in (files, network, environment, signals) if f()]
open("written", "w").write("x")
open("/dev/null", "r+b").close()
print(json.dumps({"out": out, "uid": os.getuid()}))
"""


def _variants(kind: str) -> list[Confinement]:
    """The ways to try, the strongest first: with a user for each cell, and the gateway's own."""
    found = []
    may = all(map(system.has, (system.CAP_SETUID, system.CAP_SETGID, system.CAP_CHOWN, system.CAP_KILL)))
    uids = next((part for part in _UID_RANGES if _mapped(*part)), None)
    if may and uids is not None:
        found = [Confinement(kind, "", frozenset(), True, False, uids)]
        if all(map(system.has, (system.CAP_DAC_READ_SEARCH, system.CAP_SETPCAP))):
            found.append(Confinement(kind, "", frozenset(), True, True, uids))
    return [*found, Confinement(kind, "", frozenset())]


def _mapped(first: int, count: int) -> bool:
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    parts = [tuple(map(int, line.split())) for line in lines]
    return any(start <= first and first + count <= start + length for start, _, length in parts)


def try_kind(kind: str, place: Path | None = None) -> Confinement | str:
    """The confinement as it works here, or in words why it does not."""
    if seccomp.machine() is None:
        return "the seccomp filter knows x86_64 and aarch64 only"
    if kind == "landlock" and not landlock.abi():
        return "the kernel has no Landlock, or it is switched off"
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    said = ""
    for variant in _variants(kind):
        out = _try(variant, place)
        if isinstance(out, str):
            said = out
        elif missing := sorted(out & set(REQUIRED)):
            said = f"did not hold: {', '.join(missing)}"
        else:
            detail = _detail(variant) + (f" (with a user for each: {said})" if said and not variant.own_user else "")
            return Confinement(kind, detail, _WATCHED | set(REQUIRED), variant.own_user, variant.read_all, variant.uids)
    return said


def _detail(variant: Confinement) -> str:
    what = f"Landlock ABI {landlock.abi()}" if variant.kind == "landlock" else "bubblewrap"
    user = "a user of its own for each cell" if variant.own_user else "the gateway's own user in each cell"
    return f"{what} and seccomp, {user}"


def _try(confinement: Confinement, place: Path | None = None) -> set[str] | str:
    """The attempts that succeeded in a cell of this confinement, or why it did not run."""
    scope = Scope("trial", limits={"wall_s": _WAIT_S, "disk_bytes": 1 << 24, "memory_bytes": 1 << 28})
    with (
        tempfile.TemporaryDirectory(prefix="codesign-") as folder,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        with _server6() as tcp6:
            port6 = tcp6.getsockname()[1] if tcp6.family == socket.AF_INET6 else 1
            canary = Path(folder, "canary")
            canary.write_text(secrets.token_hex(), encoding="ascii")
            ports = [str(sock.getsockname()[1]) for sock in (tcp, udp)]
            given = [
                os.fspath(canary),
                ports[0],
                str(port6),
                ports[1],
                str(os.getpid()),
                *map(os.fspath, code_folders()),
            ]
            try:
                cell = Cell(scope, confinement, place or Path(folder, "cells"))
            except OSError as error:  # a file system that knows no other users
                return f"did not start ({error})"
            try:
                return _said(cell, [sys.executable, "-I", "-S", "-c", _ATTEMPTS, *given])
            finally:
                cell.remove()


def _said(cell: Cell, argv: list[str]) -> set[str] | str:
    pipe = subprocess.PIPE
    with cell.start(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        try:
            said, wrong = process.communicate(timeout=_WAIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            return f"did not answer within {_WAIT_S} s"
    if process.returncode:
        last = wrong.decode(errors="replace").strip().rpartition("\n")[2][:200]
        return f"did not start ({last or process.returncode})"
    return set(json.loads(said)["out"])


def _server6() -> socket.socket:
    """A listener on IPv6's loopback; where there is none, a socket that listens to nobody."""
    try:
        return socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        return socket.socket(socket.AF_UNIX)
