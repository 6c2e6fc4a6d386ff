"""A seccomp filter: system calls that no model, simulator or kernel needs, and every socket but a local stream.

A process of another architecture's calls, or of x32's, is killed: their numbers differ. Numbers: the tables
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64) of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys

from codesign_kernel.server.sandbox.system import call

#: name: (x86_64, aarch64); None: that architecture has none.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "fanotify_init": (300, 262),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "acct": (163, 89), "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "personality": (135, 92), "vhangup": (153, 58),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, None),
    "ioprio_set": (251, 30), "inotify_add_watch": (254, 27),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "mbind": (237, 235), "migrate_pages": (256, 238), "move_pages": (279, 239), "lookup_dcookie": (212, 18),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "seccomp": (317, 277), "vmsplice": (278, 75),
}  # fmt: skip
_SOCKET, _SOCKETPAIR, _CONNECT, _CLONE, _CLONE3 = (41, 198), (53, 199), (42, 203), (56, 220), (435, 435)
#: Calls that may name another process of the same user, by (numbers, which argument): 0, oneself, is allowed.
_SELF_ONLY = (((302, 261), 0), ((141, 140), 1), ((203, 122), 0))  # prlimit64, setpriority, sched_setaffinity
#: Calls that set the mode of a file, which Landlock does not mind, by (numbers, which argument is the mode): chmod,
#: fchmod, fchmodat, fchmodat2. What a linker or a temporary folder needs is done; anything else is only said to be.
_MODES = (((90, None), 1), ((91, 52), 1), ((268, 53), 2), ((452, 452), 2))
_OWN_MODES = (0o600, 0o700)
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_X32 = 0x40000000

# linux/filter.h, linux/bpf_common.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_KILL, _ERRNO, _ASK, _ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
_NR, _ARCH, _ARGUMENT = 0, 4, 16
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_AF_UNIX, _SOCK_STREAM, _TYPE_MASK = 1, 1, 0xF
#: IPv4 and IPv6: the families, and bytes of struct sockaddr_in and sockaddr_in6.
_FAMILIES, _INET = (2, 10), (16, 28)
_NEW_NAMESPACES = 0x7E020000 | 0x00000080  # mount, cgroup, uts, ipc, user, pid, net; time


class _Line(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("lines", ctypes.POINTER(_Line)))


def machine() -> int | None:
    """The column of the tables for this machine; ``None``: it has none."""
    return {"x86_64": 0, "aarch64": 1}.get(platform.machine() if sys.maxsize > 2**32 else "")


def _refuse(code: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | code)


def _same_user(column: int) -> list[tuple[int, int, int, int]]:
    lines = []
    for pair, argument in _SELF_ONLY:
        body = [(_LOAD, 0, 0, _ARGUMENT + 8 * argument), (_EQUAL, 1, 0, 0), _refuse(errno.EPERM)]
        lines += [(_EQUAL, 0, len(body) + 1, pair[column]), *body, (_RETURN, 0, 0, _ALLOW)]
    for numbers, argument in _MODES:
        number = numbers[column]
        if number is not None:
            body = [(_LOAD, 0, 0, _ARGUMENT + 8 * argument), (_AND, 0, 0, 0o7777)]
            for mode in _OWN_MODES:
                body += [(_EQUAL, 0, 1, mode), (_RETURN, 0, 0, _ALLOW)]
            lines += [(_EQUAL, 0, len(body) + 1, number), *body, _refuse(0)]
    return lines


def program(
    network: bool = True,
    calls: bool = True,
    connect: bool = True,
    same_user: bool = False,
    door: tuple[int, ...] = (),
    inet: bool = False,
) -> list[tuple[int, int, int, int]]:
    """The filter as (code, jump if true, jump if false, k).

    Args:
        network: refuse sockets other than local streams.
        calls: refuse the calls of the table and new namespaces.
        connect: refuse ``connect``, but ask the listener where the address has a length of ``door``.
        same_user: refuse what one process of a user may do to another, and to the files of that user.
        inet: allow sockets of IPv4 and IPv6, and a ``connect`` whose address is as long as theirs.
    """
    column = machine()
    if column is None:
        raise OSError(errno.ENOSYS, "the filter knows x86_64 and aarch64 only")
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT_ARCH[column]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR)]
    if column == 0:
        lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    if calls:
        for pair in _NUMBERS.values():
            if pair[column] is not None:
                lines += [(_EQUAL, 0, 1, pair[column] or 0), _refuse(errno.EPERM)]
        # clone3's flags are behind a pointer that a filter cannot follow; without it the C library uses clone
        lines += [(_EQUAL, 0, 1, _CLONE3[column]), _refuse(errno.ENOSYS)]
        lines += [
            (_EQUAL, 0, 4, _CLONE[column]),
            (_LOAD, 0, 0, _ARGUMENT),
            (_ANY_BIT, 0, 1, _NEW_NAMESPACES & ~0xFF),
            _refuse(errno.EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ]
    if same_user:
        lines += _same_user(column)
    if network:
        for pair in (_SOCKET, _SOCKETPAIR):
            body = [(_LOAD, 0, 0, _ARGUMENT)]
            for family in _FAMILIES if inet else ():
                body += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
            body += [(_EQUAL, 1, 0, _AF_UNIX), _refuse(errno.EOPNOTSUPP)]
            # a datagram socket, also one of a pair, can send to any path without connecting
            body += [(_LOAD, 0, 0, _ARGUMENT + 8), (_AND, 0, 0, _TYPE_MASK)]
            body += [(_EQUAL, 1, 0, _SOCK_STREAM), _refuse(errno.EOPNOTSUPP), (_RETURN, 0, 0, _ALLOW)]
            lines += [(_EQUAL, 0, len(body), pair[column]), *body]
    if connect:
        body = [(_LOAD, 0, 0, _ARGUMENT + 16)]
        for length in door:
            body += [(_EQUAL, 0, 1, length), (_RETURN, 0, 0, _ASK)]
        for length in _INET if inet else ():
            body += [(_EQUAL, 0, 1, length), (_RETURN, 0, 0, _ALLOW)]
        lines += [(_EQUAL, 0, len(body) + 1, _CONNECT[column]), *body, _refuse(errno.EACCES)]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


def enforce(
    network: bool = True,
    calls: bool = True,
    connect: bool = True,
    same_user: bool = False,
    door: tuple[int, ...] = (),
    inet: bool = False,
) -> int | None:
    """Put the filter on this process and all that it starts, for good; the listener where there is a ``door``.

    Needs no_new_privs.

    Raises:
        OSError: this kernel has no seccomp filters, or the machine is neither x86_64 nor aarch64.
    """
    lines = program(network, calls, connect, same_user, door, inet)
    array = (_Line * len(lines))(*(_Line(*line) for line in lines))
    column = machine() or 0
    flags = _NEW_LISTENER if door else 0
    number = _NUMBERS["seccomp"][column] or 0
    listener = call(number, _SET_MODE_FILTER, flags, ctypes.byref(_Program(len(lines), array)))
    return listener if door else None
