"""A cell in namespaces of its own, made by bubblewrap: its own tree of files, processes, network and IPC.

Where the kernel has no Landlock. Inside, a second stage puts up what namespaces do not: limits, a user of its own, the
filter. Only the standard library.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from codesign_kernel.server.sandbox import confine, system

_UNSHARE = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
_START = f"import sys; sys.path.append(sys.argv.pop(1)); from {__name__} import second_stage as s; s(sys.argv[1:])"
#: Capabilities that the second stage needs to become another user, and drops.
_NEEDED = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")


def _bound(spec: Mapping[str, Any]) -> list[str]:
    """The tree of files: what may be read, then what may be written over it; the rest is not there."""
    said = ["--proc", "/proc", "--dev", "/dev"]
    readable = [*spec["read"], *(path for path in confine.MACHINE_FILES if path.startswith("/sys/"))]
    said += _parents([*readable, *spec["write"]])
    for path in sorted(dict.fromkeys(readable), key=len):
        if os.path.islink(path):
            said += ["--symlink", os.readlink(path), path]
        else:
            said += ["--ro-bind-try", path, path]
    for path in spec["write"]:
        said += ["--bind", path, path]
    shared = [part for path in confine.SHARED for part in ("--perms", "1777", "--tmpfs", path)]
    return [*said, "--remount-ro", "/dev", *(shared if spec["trusted"] else ())]


def _parents(paths: Sequence[str]) -> list[str]:
    """Folders above what is bound, which another user may pass through; bubblewrap would make them for root alone."""
    bound = set(paths)
    above = {os.fspath(parent) for path in paths for parent in Path(path).parents} - {"/"} - bound
    free = {path for path in above if not bound & {os.fspath(parent) for parent in Path(path).parents}}
    return [part for path in sorted(free, key=len) for part in ("--perms", "0755", "--dir", path)]


def become(spec: Mapping[str, Any], spec_file: str, argv: list[str], channel: int) -> NoReturn:
    """Become bubblewrap, which starts the second stage; ends with status 126 where it cannot."""
    root = os.fspath(Path(__file__).parents[3])
    user = [part for name in _NEEDED for part in ("--cap-add", name)] if os.geteuid() == 0 else ["--unshare-user"]
    spec_fd = os.open(spec_file, os.O_RDONLY)
    os.set_inheritable(spec_fd, True)
    inside = [sys.executable, "-I", "-S", "-c", _START, root, str(spec_fd), str(channel), *argv]
    bound = _bound(spec)
    if "files" in spec["without"]:
        bound = ["--dev-bind", "/", "/", "--proc", "/proc"]
    unshare = [name for name in _UNSHARE if not (name == "--unshare-net" and "sockets" in spec["without"])]
    command = ["bwrap", "--die-with-parent", *user, *unshare, *bound, "--remount-ro", "/", "--", *inside]
    try:
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execv(shutil.which("bwrap") or "bwrap", command)
    except OSError as error:
        print(f"the cell could not be confined: bwrap: {error}", file=sys.stderr, flush=True)
    os._exit(126)


def second_stage(arguments: list[str]) -> NoReturn:
    """Inside: ``SPEC CHANNEL PROGRAM ARGUMENTS...``, the first two open files."""
    confine.become(confine.read_spec(int(arguments[0])), arguments[2:], int(arguments[1]))
