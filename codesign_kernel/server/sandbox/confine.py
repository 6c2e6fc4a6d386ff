"""What a cell's process does to itself between fork and exec: limits, its own user, no capabilities, Landlock, seccomp.

Only the standard library, because every start of a cell loads this. ``spec`` is what ``cell.Cell`` writes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from codesign_kernel.server.sandbox import door, landlock, loopback, seccomp, system

#: Files of /proc about the machine; nothing there speaks of another process.
MACHINE_FILES = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/vmstat",
    "/proc/filesystems", "/proc/sys/kernel", "/proc/sys/vm", "/sys/devices/system/cpu", "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
)  # fmt: skip
#: Files of /proc/PID of the cell's first process. Not net/, which lists everybody's sockets, nor task/, which has it.
OWN_FILES = ("maps", "stat", "statm", "status", "smaps_rollup", "fd", "cgroup")
#: What processes of a cell that is trusted share. (Of others' folders in /proc Landlock gives out nothing private.)
SHARED = ("/dev/shm",)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")


def read_spec(path: str | int) -> dict[str, Any]:
    """What ``cell.Cell`` wrote; an open file is closed."""
    with open(path, encoding="utf-8") as file:
        spec: dict[str, Any] = json.load(file)
    return spec


def pin(pid: int) -> list[int]:
    """Open files that rules name, so that the kernel keeps the very inodes that the rules are tied to."""
    kept = []
    for path in (*MACHINE_FILES, *(f"/proc/{pid}/{name}" for name in OWN_FILES)):
        with suppress(OSError):
            kept.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return kept


def _limit(which: int, soft: int, hard: int) -> None:
    most = resource.getrlimit(which)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(which, (soft, hard))


def _limits(spec: Mapping[str, Any]) -> None:
    for name, (soft, hard) in spec["rlimits"].items():
        _limit(getattr(resource, name), soft, hard)


def _other_user(uid: int, keep: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if keep:
        system.no_rights_of_root()
    os.setresuid(uid, uid, uid)


def confine(spec: Mapping[str, Any], channel: int) -> None:
    """Confine this process for good; the listener of its door goes through the socket ``channel``.

    Raises:
        OSError: a guard could not be put up; nothing may run then.
    """
    without = {*spec["without"], *(("tcp",) if spec["trusted"] else ())}
    if spec["trusted"] and spec["kind"] == "landlock":  # bubblewrap has made one
        loopback.alone()
    keep = (1 << system.CAP_DAC_READ_SEARCH) if spec["read_all"] else 0
    rules = None
    if spec["landlock"]:
        rules = landlock.Ruleset("files" not in without, "tcp" not in without, "scoped" not in without)
    if rules is not None:
        rules.read([*spec["read"], *MACHINE_FILES, *(f"/proc/self/{name}" for name in OWN_FILES)])
        rules.write([*spec["write"], *DEVICES])
        if spec["trusted"]:
            rules.read(["/proc"])
            rules.write(SHARED)
    if "rlimits" not in without:
        _limits(spec)
    if "capabilities" not in without:
        system.drop_bounding(keep)
    if spec["uid"] is not None:
        _other_user(spec["uid"], keep)
    if "capabilities" not in without:
        system.keep_only(keep)
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
    if rules is not None:
        rules.enforce()
    if spec["seccomp"]:
        lengths = door.lengths(spec["broker"]) if "connect" not in without and not spec["trusted"] else ()
        alike = spec["uid"] is None and "same_user" not in without
        network, calls, connect = (name not in without for name in ("sockets", "calls", "connect"))
        listener = seccomp.enforce(network, calls, connect, alike, lengths, spec["trusted"])
        if listener is None:
            os.close(channel)  # it has no door, and nothing of the launcher's
        else:
            door.send(channel, listener)


def become(spec: Mapping[str, Any], argv: list[str], channel: int) -> NoReturn:
    """Confine this process and run ``argv`` in it; ends with status 126 where a guard cannot be put up."""
    try:
        os.umask(0o077)
        os.environ.pop("JPY_PARENT_PID", None)  # the launcher is the parent here, and it watches
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")  # where the machine runs out of memory, cells end before the gateway
        confine(spec, channel)
        os.chdir(spec["work"])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(argv[0], argv, os.environ)
    except OSError as error:
        print(f"the cell could not be confined: {error}", file=sys.stderr, flush=True)
    os._exit(126)
