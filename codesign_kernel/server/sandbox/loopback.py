"""A network with nobody else in it, for a cell whose processes speak with one another by TCP. Standard library only.

Constants: linux/sched.h, linux/sockios.h, linux/if.h; numbers of the call as in ``seccomp``.
"""

from __future__ import annotations

import _socket
import fcntl
import struct
from contextlib import suppress

from codesign_kernel.server.sandbox import seccomp
from codesign_kernel.server.sandbox.system import call

_UNSHARE = (272, 97)  # x86_64, aarch64
_NEW_NETWORK = 0x40000000
_SET_FLAGS, _UP_AND_RUNNING = 0x8914, 0x1 | 0x40
#: struct ifreq: the name of the interface, its flags.
_REQUEST = struct.Struct("16sH22x")


def alone() -> bool:
    """Leave the machine's network for one in which there is only the loopback interface, for good.

    ``False`` where this process may not: it takes CAP_SYS_ADMIN, which a gateway that is not root does not have.
    """
    column = seccomp.machine()
    if column is None:
        return False
    with suppress(OSError):
        call(_UNSHARE[column], _NEW_NETWORK)
        sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        fcntl.ioctl(sock.fileno(), _SET_FLAGS, _REQUEST.pack(b"lo", _UP_AND_RUNNING))
        sock.close()
        return True
    return False
