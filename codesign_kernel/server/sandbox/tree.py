"""The processes of one cell, seen from outside: who they are, what they use, and how all of them end. Linux's /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: A tree that is still there after that long is in uninterruptible sleep; the kernel ends it when it wakes.
_PATIENCE_S = 10.0


class Process(NamedTuple):
    """One line of /proc/PID/stat: parent, whether it is only waited for, threads, processor seconds, bytes."""

    pid: int
    parent: int
    gone: bool
    threads: int
    cpu_s: float
    resident: int


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    rest = line[line.rindex(b")") + 2 :].split()
    # fields 3 (state), 4 (parent), 14 to 17 (user and system ticks, own and of children), 20 (threads), 24 (pages)
    ticks = sum(map(int, rest[11:15]))
    return Process(pid, int(rest[1]), rest[0] in b"ZX", int(rest[17]), ticks / _TICKS, int(rest[21]) * _PAGE)


def everybody() -> dict[int, Process]:
    """{pid: process} of all that /proc shows."""
    found = (_read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def _children(pid: int) -> list[int] | None:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
                continue
            if os.path.isdir(f"/proc/{pid}/task/{thread}"):
                return None  # a kernel without CONFIG_PROC_CHILDREN
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def beneath(root: int) -> list[Process]:
    """All that descend from ``root``, which is itself not among them.

    Nobody leaves the tree of a process that is its children's subreaper.
    """
    found: dict[int, Process] = {}
    ahead = [root]
    while ahead:
        pid = ahead.pop()
        children = _children(pid)
        if children is None:
            return _beneath_by_parents(root)
        for child in children:
            if child not in found and (process := _read(child)) is not None:
                found[child] = process
                ahead.append(child)
    return list(found.values())


def _beneath_by_parents(root: int) -> list[Process]:
    by_parent: dict[int, list[Process]] = {}
    for process in everybody().values():
        by_parent.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    ahead = [root]
    while ahead:
        children = by_parent.get(ahead.pop(), [])
        found += children
        ahead += [child.pid for child in children]
    return found


def proportional(processes: Iterable[Process]) -> int:
    """Bytes that the processes hold, what they share counted once between them (PSS); resident where that is secret."""
    total = 0
    for process in processes:
        try:
            with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
                total += next(int(line.split()[1]) << 10 for line in file if line.startswith(b"Pss:"))
        except PermissionError:
            total += process.resident
        except (OSError, StopIteration):
            continue  # it has just ended
    return total


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_all(root: int) -> bool:
    """Kill everything beneath ``root``, which is this process and its children's subreaper; whether all are gone.

    Stopped first, so that none of them forks while the others die.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        stopped: set[int] = set()
        while fresh := {process.pid for process in beneath(root) if not process.gone} - stopped:
            _send(fresh, signal.SIGSTOP)
            stopped |= fresh
        _send(stopped, signal.SIGKILL)
        _reap()
        if not beneath(root):
            return True
        time.sleep(0.002)
    return False


def of_user(uid: int) -> list[int]:
    """Every process of a user, but for those that have ended and are only waited for."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/status", "rb") as lines:
            about = {line.split()[0]: line.split()[1:] for line in lines if line.startswith((b"State:", b"Uid:"))}
            if str(uid).encode() in about.get(b"Uid:", []) and about.get(b"State:", [b"Z"])[0] not in b"ZX":
                found.append(int(name))
    return found


def end_user(uid: int) -> bool:
    """Kill every process of a user; whether all are gone."""
    deadline = time.monotonic() + _PATIENCE_S
    while pids := of_user(uid):
        _send(pids, signal.SIGSTOP)
        _send(of_user(uid), signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
