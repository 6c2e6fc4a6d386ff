"""The process outside a cell that starts it, watches it, and ends all of it: one per cell, the standard library only.

It is the subreaper of everything in the cell, so that nothing leaves its tree; it ends the cell when a limit is
reached, when it is told to (SIGTERM), when the cell's first process has ended, and when the gateway is gone.
"""

from __future__ import annotations

import _socket
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from codesign_kernel.server.sandbox import bubblewrap, confine, door, groups, system, tree

#: Looks at a cell this often, and less often while it does nothing.
_BUSY_S, _IDLE_S = 0.2, 0.5
#: Rests that long after each ``connect`` of a cell, so that none of them keeps a processor busy with it.
_DOOR_S = 0.005
GONE = "the gateway is gone"
#: Walking the folder may take that share of the time, and no more.
_WALK_SHARE = 0.05


def usage_bytes(folder: str) -> int:
    """Bytes that the files in ``folder`` take on disk, each file counted once."""
    total, seen, ahead = 0, set(), [folder]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    with suppress(OSError):
                        about = entry.stat(follow_symlinks=False)
                        if (about.st_dev, about.st_ino) not in seen:
                            seen.add((about.st_dev, about.st_ino))
                            total += about.st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            ahead.append(entry.path)
        except OSError:
            continue
    return total


def over(limit: str, most: int, unit: str, found: float) -> str:
    """Why a cell was ended."""
    return f"{limit}: the scope's limit of {most:,} {unit} was reached ({found:,.0f} {unit} in use); the cell was ended"


class Watch:
    """What a cell uses, held against its limits."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.limits: dict[str, int] = spec["limits"]
        self.folder = spec["folder"]
        self.began = time.monotonic()
        self.cpu_s = 0.0
        self.busy = True
        self._walk_after = 0.0

    def look(self) -> str:
        """The reason to end the cell now; empty: none."""
        limits, now = self.limits, time.monotonic()
        processes = tree.beneath(os.getpid())
        of_dead = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = of_dead.ru_utime + of_dead.ru_stime + sum(process.cpu_s for process in processes)
        self.busy, self.cpu_s = cpu_s > self.cpu_s, max(cpu_s, self.cpu_s)
        threads = sum(process.threads for process in processes if not process.gone)
        if now - self.began >= limits["wall_s"]:
            return over("wall_s", limits["wall_s"], "s", now - self.began)
        if self.cpu_s >= limits["cpu_s"]:
            return over("cpu_s", limits["cpu_s"], "s", self.cpu_s)
        if threads >= limits["processes"]:
            return over("processes", limits["processes"], "processes", threads)
        # resident memory counts shared pages again and again: only where even that is too much is PSS worth its time
        if sum(process.resident for process in processes) >= limits["memory_bytes"]:
            held = tree.proportional(processes)
            if held >= limits["memory_bytes"]:
                return over("memory_bytes", limits["memory_bytes"], "byte", held)
        return self._disk(now)

    def _disk(self, now: float) -> str:
        if not self.busy or now < self._walk_after:
            return ""
        used = usage_bytes(self.folder)
        took = time.monotonic() - now
        self._walk_after = now + took / _WALK_SHARE
        most = self.limits["disk_bytes"]
        return over("disk_bytes", most, "byte", used) if used >= most else ""


def _start(spec: dict[str, Any], argv: list[str], spec_file: str) -> tuple[int, _socket.socket, list[int]]:
    """Fork the cell's first process; it goes on when files are pinned and it is in its control groups."""
    ready, go = os.pipe()
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(ready, 1)
        os.close(ready)
        ours.close()
        os.setsid()
        channel = theirs.detach()
        if spec["kind"] == "bubblewrap":
            os.set_inheritable(channel, True)
            bubblewrap.become(spec, spec_file, argv, channel)
        confine.become(spec, argv, channel)
    os.close(ready)
    theirs.close()
    pinned = confine.pin(pid)
    for group in spec["groups"]:
        with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(pid))
    os.close(go)
    return pid, ours, pinned


class _Supervisor:
    """Waits for what can happen to a cell: told to end, gateway gone, ended, a ``connect``, a limit reached."""

    def __init__(self, spec: dict[str, Any], child: int, channel: _socket.socket, wake: int, parent: int) -> None:
        self._spec, self._child, self._channel, self._wake, self._parent = spec, child, channel, wake, parent
        self._watch, self._listener, self._look_at = Watch(spec), -1, 0.0
        self._poll = select.poll()
        for fd in (parent, wake, channel.fileno()):
            self._poll.register(fd, select.POLLIN)

    def run(self) -> tuple[int, str]:
        """(status as of ``subprocess``, reason) when the cell has to end."""
        while True:
            pause = _BUSY_S if self._watch.busy else _IDLE_S
            ready = dict(self._poll.poll(pause * 1000))
            if self._parent in ready:
                return -signal.SIGKILL, GONE
            self._door(ready)
            told = set(os.read(self._wake, 4096)) if self._wake in ready else set()
            if told & {signal.SIGTERM, signal.SIGHUP}:
                return -signal.SIGTERM, "stopped"
            if signal.SIGINT in told and self._spec["kind"] != "bubblewrap":  # it would end bubblewrap itself
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._child, signal.SIGINT)
            if (status := _reap(self._child)) is not None:
                return status, self._why(status)
            if time.monotonic() >= self._look_at:
                watched = "" if "watch" in self._spec["without"] else self._watch.look()
                if reason := self._why() or watched:
                    return -signal.SIGKILL, reason
                self._look_at = time.monotonic() + pause

    def _why(self, status: int = 0) -> str:
        """The limit by which the kernel itself ended a process of the cell; empty: none."""
        limits = self._spec["limits"]
        if any(map(groups.out_of_memory, self._spec["groups"])):
            return over("memory_bytes", limits["memory_bytes"], "byte", limits["memory_bytes"])
        if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
            return over("cpu_s", limits["cpu_s"], "s", self._watch.cpu_s)
        return ""

    def _door(self, ready: dict[int, int]) -> None:
        if self._channel.fileno() in ready:
            self._poll.unregister(self._channel)
            found = door.receive(self._channel)
            if found is not None:
                self._listener = found
                self._poll.register(found, select.POLLIN)
        elif self._listener in ready:
            if ready[self._listener] & select.POLLIN:
                door.answer(self._listener, self._spec["broker"])
                time.sleep(_DOOR_S)
            else:
                self._poll.unregister(self._listener)


def _reap(child: int) -> int | None:
    """Reap everything that has ended; the status of ``child`` where it is among them."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = os.waitstatus_to_exitcode(ended[1])
    return found


def _finish(spec: dict[str, Any], status: int, reason: str) -> NoReturn:
    tree.end_all(os.getpid())
    groups.remove(spec["groups"])
    temporary = f"{spec['folder']}/end.part"
    with suppress(OSError), open(temporary, "w", encoding="utf-8") as file:
        json.dump({"status": status, "reason": reason}, file)
    with suppress(OSError):
        os.replace(temporary, f"{spec['folder']}/end.json")
    if reason == GONE:
        shutil.rmtree(spec["folder"], ignore_errors=True)
    sys.exit(status if status >= 0 else 128 - status)


def main(arguments: list[str]) -> NoReturn:
    """``launch SPEC PROGRAM ARGUMENTS...``: run the program in the cell that the file SPEC describes."""
    spec = confine.read_spec(arguments[0])
    parent = os.pidfd_open(os.getppid())
    if os.getppid() != spec["parent"]:
        sys.exit("a cell is started by the process that made it")
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    wake, wakened = os.pipe()
    os.set_blocking(wakened, False)
    signal.set_wakeup_fd(wakened, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    child, channel, _pinned = _start(spec, arguments[1:], arguments[0])
    status, reason = _Supervisor(spec, child, channel, wake, parent).run()
    _finish(spec, status, reason)
