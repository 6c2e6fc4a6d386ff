"""What the C library does for a cell: prctl, capabilities, raw system calls. Only the standard library."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_CLEAR = 47, 2, 4

# linux/securebits.h: root has no capabilities by being root, and access(2) counts those that a user has; locked
_SECUREBITS = 0b1111

# linux/capability.h
CAP_CHOWN, CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 0, 2, 5, 6, 7, 8
_CAP_VERSION_3 = 0x20080522


def call(number: int, *arguments: object) -> int:
    """A raw system call; whole numbers are passed as long.

    Raises:
        OSError: it failed.
    """
    given = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    answer: int = _LIBC.syscall(ctypes.c_long(number), *given)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def prctl(option: int, *arguments: int) -> int:
    """``prctl(2)``.

    Raises:
        OSError: it failed.
    """
    given = [ctypes.c_ulong(item) for item in (*arguments, 0, 0, 0, 0)[:4]]
    answer: int = _LIBC.prctl(ctypes.c_int(option), *given)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def capabilities() -> int:
    """The effective capabilities of this process, a bit each."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def has(capability: int) -> bool:
    """Whether this process has the capability."""
    return bool(capabilities() >> capability & 1)


def drop_bounding(keep: int) -> None:
    """Empty the bounding set but for the bits ``keep``, where this process may; nobody after it gets more."""
    for number in range(64):
        if not keep >> number & 1:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:  # no such capability here, or no right to: no_new_privs then says the same
                continue


def no_rights_of_root() -> None:
    """Capabilities no longer follow the user number: they are those that :func:`keep_only` leaves.

    Raises:
        OSError: this process may not say so.
    """
    prctl(PR_SET_SECUREBITS, _SECUREBITS)


def keep_only(keep: int) -> None:
    """Have the capabilities ``keep`` (a bit each) and no other, also after execve."""
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    low, high = keep & 0xFFFFFFFF, keep >> 32
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    if _LIBC.capset(ctypes.byref(header), ctypes.byref(data)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    prctl(PR_CAP_AMBIENT, _AMBIENT_CLEAR)
    for number in range(64):
        if keep >> number & 1:
            prctl(PR_CAP_AMBIENT, _AMBIENT_RAISE, number)
