"""Landlock: the files, TCP ports, signals and abstract sockets that a process may still reach. Linux 5.13 and later.

Constants and structures: linux/landlock.h; what each version of the interface brought: docs.kernel.org,
userspace-api/landlock. Landlock neither hides that a file exists nor stops UDP: the filter in ``seccomp`` does the
latter.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from codesign_kernel.server.sandbox.system import call

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_FIRST = (1 << 13) - 1
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 0b11
_SCOPED = 0b11  # abstract sockets, signals


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The version of the interface that this kernel has; 0: none."""
    try:
        return call(_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def file_rights(version: int) -> int:
    """Every right over files that a version knows."""
    rights = _FIRST
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        rights |= right if version >= since else 0
    return rights


class Ruleset:
    """What will be allowed; everything else that Landlock knows is refused after :meth:`enforce`.

    Args:
        files, network, scoped: which of the three is restricted at all.
    """

    def __init__(self, files: bool = True, network: bool = True, scoped: bool = True) -> None:
        version = abi()
        self._handled = file_rights(version) if files else 0
        ruleset = _Ruleset(
            self._handled, _TCP if network and version >= 4 else 0, _SCOPED if scoped and version >= 6 else 0
        )
        size = 24 if version >= 6 else 16 if version >= 4 else 8
        self.empty = not (ruleset.files or ruleset.network or ruleset.scoped)
        self._fd = -1 if self.empty else call(_CREATE, ctypes.byref(ruleset), size, 0)

    def read(self, paths: Iterable[str]) -> None:
        """Allow to read and execute what is at and beneath ``paths``."""
        self._allow(paths, EXECUTE | READ_FILE | READ_DIR)

    def write(self, paths: Iterable[str]) -> None:
        """Allow everything but device files at and beneath ``paths``."""
        self._allow(paths, file_rights(abi()) & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))

    def _allow(self, paths: Iterable[str], rights: int) -> None:
        if not self._handled:
            return
        for path in paths:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # what is not there needs no rule
            given = rights if stat.S_ISDIR(os.fstat(fd).st_mode) else rights & _OF_A_FILE
            rule = _Beneath(given & self._handled, fd)
            call(_ADD, self._fd, _PATH_BENEATH, ctypes.byref(rule), 0)
            os.close(fd)

    def enforce(self) -> None:
        """Restrict this process and all that it starts, for good. Needs no_new_privs."""
        if not self.empty:
            call(_RESTRICT, self._fd, 0)
            os.close(self._fd)
