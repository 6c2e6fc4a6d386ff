"""The one door out of a cell: ``connect`` is answered from outside, and leads to the cell's broker or nowhere.

The filter stops every ``connect`` of the cell; the launcher connects in its stead, to the one path it knows, and puts
the connected socket where the cell's was. No address is read from the cell's memory, so none can change after a check.
Without this, any socket file could be connected to whose path and mode allow it: Landlock before ABI 9 does not mind.
Structures and numbers: linux/seccomp.h; Linux 5.9 and later.
"""

from __future__ import annotations

import _socket
import array
import errno
import fcntl
import os
import struct
from contextlib import suppress

_RECEIVE, _ANSWER, _ADD_FD = 0xC0502100, 0xC0182101, 0x40182103
_SET_FD = 1
#: id, pid, flags; call, architecture, instruction, six arguments
_QUESTION = struct.Struct("=QIIiIQ6Q")
_REPLY = struct.Struct("=QqiI")
_PLACE = struct.Struct("=QIIII")
#: struct sockaddr_un begins with the family.
_FAMILY_BYTES = 2


def lengths(path: str) -> tuple[int, int]:
    """What ``connect`` is told as the length of a socket's address, without and with the zero at its end."""
    size = len(os.fsencode(path)) + _FAMILY_BYTES
    return size, size + 1


def send(channel: int, fd: int) -> None:
    """Pass a file descriptor through a socket, and close both here."""
    sock = _socket.socket(fileno=channel)
    sock.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))])
    sock.close()
    os.close(fd)


def receive(channel: _socket.socket) -> int | None:
    """The file descriptor that :func:`send` passed; ``None``: the other end was closed without."""
    _, ancillary, _, _ = channel.recvmsg(1, _socket.CMSG_SPACE(4))
    for _, _, data in ancillary:
        return array.array("i", data[:4])[0]
    return None


def answer(listener: int, broker: str) -> None:
    """Answer one ``connect`` that waits at ``listener``."""
    question = bytearray(_QUESTION.size)
    with suppress(OSError):  # who asked may have ended meanwhile
        fcntl.ioctl(listener, _RECEIVE, question)
        about, *_, number, _length, _2, _3, _4, _5 = _QUESTION.unpack(question)
        wrong = 0
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        try:
            sock.connect(broker)
            sock.setblocking(True)
            fcntl.ioctl(listener, _ADD_FD, _PLACE.pack(about, _SET_FD, sock.fileno(), number & 0xFFFFFFFF, 0))
        except OSError as error:
            wrong = error.errno or errno.EACCES
        finally:
            sock.close()
        fcntl.ioctl(listener, _ANSWER, _REPLY.pack(about, 0, -wrong, 0))
