"""What a hostile program tries from inside a cell: each attack returns what it got, or nothing.

Run as a script in the cell, with the standard library only: ``sandbox_attacks.py FACTS NAMES...``; prints {name: got}.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
ATTACKS: dict[str, Callable[[Facts], object]] = {}
_LIBC = ctypes.CDLL(None, use_errno=True)
_CALLS = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "mount": (165, 40),
    "unshare": (272, 97), "setns": (308, 268), "open_by_handle_at": (304, 265), "shmget": (29, 194),
    "memfd_create": (319, 279), "chroot": (161, 51), "pidfd_open": (434, 434), "clone3": (435, 435),
}  # fmt: skip


def attack(function: Callable[[Facts], object]) -> Callable[[Facts], object]:
    """Register an attack under its name."""
    ATTACKS[function.__name__] = function
    return function


def _first(*ways: Callable[[], object]) -> object:
    """What the first way that works brings."""
    for way in ways:
        with suppress(OSError):
            if got := way():
                return got
    return None


def _read(path: str) -> str:
    return Path(path).read_bytes()[:200].decode(errors="replace")


def _written(path: str) -> str:
    with open(path, "ab"):
        return path


def _raw(name: str, *arguments: object) -> str:
    """A raw system call: refused by a guard it brings nothing, even where it would have failed otherwise."""
    number = _CALLS[name][platform.machine() == "aarch64"]
    given = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    answer = _LIBC.syscall(ctypes.c_long(number), *given)
    code = ctypes.get_errno()
    return "" if answer < 0 and code in (errno.EPERM, errno.EACCES, errno.ENOSYS) else f"{name} gave {answer}, {code}"


@attack
def passwd(facts: Facts) -> object:
    return _first(lambda: _read("/etc/passwd"), lambda: _read("/etc/shadow"), lambda: _read("/etc/group"))


@attack
def outside_file(facts: Facts) -> object:
    return _first(lambda: _read(facts["canary"]))


@attack
def data_folder(facts: Facts) -> object:
    """Where it can be listed at all, it shows the cell's own folder alone."""
    hidden = {Path(facts["other"]).name, Path(facts["canary"]).name}
    folders = (facts["run_root"], os.path.dirname(facts["canary"]), os.path.dirname(facts["run_root"]))
    return _first(*[lambda path=path: sorted(hidden & set(os.listdir(path))) for path in folders])


@attack
def other_cell(facts: Facts) -> object:
    other = facts["other"]
    return _first(
        lambda: os.listdir(other), lambda: os.listdir(f"{other}/work"), lambda: _read(f"{other}/work/notes"),
        lambda: _written(f"{other}/work/planted"),
    )  # fmt: skip


@attack
def other_kernels_key(facts: Facts) -> object:
    return _first(lambda: _read(f"{facts['other']}/conn/kernel.json"))


@attack
def environment_of_server(facts: Facts) -> object:
    """In a process namespace the parent is a stranger to the server, with the cell's own environment."""
    pids = (facts["server"], facts["neighbour"], os.getppid())
    return _first(*[lambda pid=pid: facts["secret"] in _read(f"/proc/{pid}/environ") for pid in pids])


@attack
def proc_of_server(facts: Facts) -> object:
    found = []
    for pid in (facts["server"], facts["neighbour"]):
        for name in ("cmdline", "maps", "mem", "status", "net/unix"):
            found.append(lambda path=f"/proc/{pid}/{name}": _read(path))
        for name in ("fd", "root", "cwd", "task"):
            found.append(lambda path=f"/proc/{pid}/{name}": os.listdir(path))
    return _first(*found)


@attack
def any_root_of_proc(facts: Facts) -> object:
    own = str(os.getpid())
    pids = [str(pid) for pid in range(1, 400) if str(pid) != own]
    ways = [lambda pid=pid: _read(f"/proc/{pid}/root{facts['canary']}") for pid in [*pids, str(facts["server"])]]
    return _first(lambda: _read("/proc/self/root/etc/passwd"), *ways)


@attack
def inherited_secret(facts: Facts) -> object:
    return [name for name, text in os.environ.items() if facts["secret"] in text]


@attack
def inherited_files(facts: Facts) -> object:
    """Open file descriptors besides the three, and the one that lists them."""
    found = []
    for number in range(3, 256):
        with suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


def _connected(family: int, kind: int, address: object) -> str:
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)
        sock.send(b"out")
        return f"sent to {address!r}"


@attack
def tcp(facts: Facts) -> object:
    return _first(
        lambda: _connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp"])),
        lambda: _connected(socket.AF_INET6, socket.SOCK_STREAM, ("::1", facts["tcp6"])),
    )


@attack
def udp(facts: Facts) -> object:
    """As a question to a name server would go, without connecting."""

    def _sent(family: int, host: str) -> str:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            return f"sent {sock.sendto(b'out', (host, facts['udp']))} bytes"

    return _first(lambda: _sent(socket.AF_INET, "127.0.0.1"), lambda: _sent(socket.AF_INET6, "::1"))


@attack
def name_service(facts: Facts) -> object:
    return _first(lambda: socket.getaddrinfo("a.root-servers.net", 53))


@attack
def listening(facts: Facts) -> object:
    return _first(lambda: socket.create_server(("127.0.0.1", 0)).getsockname())


@attack
def other_sockets(facts: Facts) -> object:
    """Raw, packet, netlink, virtual machine, Bluetooth."""
    kinds = [(2, 3, 1), (17, 3, 3), (16, 3, 0), (16, 3, 4), (40, 1, 0), (31, 3, 1)]
    return _first(*[lambda kind=kind: str(socket.socket(*kind)) for kind in kinds])


@attack
def signal_server(facts: Facts) -> object:
    def _reached(pid: int) -> str:
        os.kill(pid, 0)
        return f"reached {pid}"

    return _first(
        *[lambda pid=pid: _reached(pid) for pid in (facts["server"], facts["neighbour"], os.getppid()) if pid > 1]
    )


@attack
def abstract_socket(facts: Facts) -> object:
    return _first(lambda: _connected(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + facts["abstract"]))


@attack
def other_broker(facts: Facts) -> object:
    return _first(lambda: _connected(socket.AF_UNIX, socket.SOCK_STREAM, f"{facts['other']}/broker"))


@attack
def open_socket(facts: Facts) -> object:
    """A socket file that everybody may use, as those of D-Bus and of databases are."""
    return _first(lambda: _connected(socket.AF_UNIX, socket.SOCK_STREAM, facts["open_socket"]))


@attack
def datagrams(facts: Facts) -> object:
    def _pair() -> str:
        first, _second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return str(first.sendto(b"out", facts["datagrams"]))

    return _first(lambda: str(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", facts["datagrams"])), _pair)


@attack
def write_code(facts: Facts) -> object:
    ways = [lambda path=path: _written(path) for path in facts["code"]]
    return _first(
        *ways, lambda: _written(os.environ["CODESIGN_SCOPE"]), lambda: _written(f"{facts['own']}/launch.json")
    )


@attack
def replace_own_rules(facts: Facts) -> object:
    def _moved() -> str:
        os.rename(os.environ["CODESIGN_SCOPE"], f"{facts['own']}/work/scope")
        return "moved"

    def _mode() -> bool:
        before = os.stat(facts["own"]).st_mode
        os.chmod(facts["own"], 0o777)
        return os.stat(facts["own"]).st_mode != before

    return _first(
        _moved, _mode, lambda: _written(f"{facts['own']}/planted"), lambda: _read(f"{facts['own']}/launch.json")
    )


@attack
def shared_folders(facts: Facts) -> object:
    return _first(
        *[lambda path=path: _written(f"{path}/planted-{os.getpid()}") for path in ("/tmp", "/dev/shm", "/var/tmp", "/")]
    )


@attack
def symlink(facts: Facts) -> object:
    os.symlink(facts["canary"], "link")
    os.symlink("/", "slash")
    return _first(lambda: _read("link"), lambda: _read("slash/etc/passwd"))


@attack
def hardlink(facts: Facts) -> object:
    def _linked() -> str:
        os.link(facts["canary"], "hard")
        return _read("hard")

    return _first(_linked)


@attack
def trace(facts: Facts) -> object:
    """PTRACE_SEIZE stops nobody; ESRCH would mean that the call was let through."""
    pid, seize = facts["server"], 0x4206
    buffer = ctypes.create_string_buffer(16)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 16)
    return _raw("ptrace", seize, pid, 0, 0) or _raw("process_vm_readv", pid, vector, 1, vector, 1, 0)


@attack
def kernel_calls(facts: Facts) -> object:
    nothing = ctypes.c_void_p(None)
    said = [
        _raw("keyctl", 0, -3, 0), _raw("bpf", 0, nothing, 0), _raw("perf_event_open", nothing, 0, -1, -1, 0),
        _raw("userfaultfd", 1), _raw("io_uring_setup", 1, nothing),
        _raw("mount", nothing, nothing, nothing, 0, nothing),
        _raw("setns", -1, 0), _raw("open_by_handle_at", -1, nothing, 0), _raw("shmget", 0, 4096, 0o600),
        _raw("memfd_create", b"x", 0), _raw("chroot", b"."), _raw("pidfd_open", os.getpid(), 0),
        _raw("clone3", nothing, 0),
    ]  # fmt: skip
    return [part for part in said if part]


@attack
def namespaces(facts: Facts) -> object:
    return _raw("unshare", 0x10000000)


@attack
def become_root(facts: Facts) -> object:
    if os.getuid() == 0:
        return None  # it is the gateway's user already, without any capability
    return _first(lambda: [os.setuid(0), "root"], lambda: [os.setresgid(0, 0, 0), "root's group"])


@attack
def setuid_program(facts: Facts) -> object:
    """A program that runs as root for everybody."""
    if os.getuid() == 0:
        return None
    said = subprocess.run([facts["setuid"], "-u"], capture_output=True, text=True, check=False)
    return said.stdout.strip() == "0" and "ran as root"


@attack
def capabilities(facts: Facts) -> object:
    """All that may be left is to read what the mode of a file forbids, which Landlock then decides."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    left = int(text.split("CapEff:")[1].split()[0], 16) & ~(1 << 2)
    return left or "NoNewPrivs:\t1" not in text


@attack
def others_limits(facts: Facts) -> object:
    """Take the server's open files, its turn at the processor, and the mode of its files from it."""

    def _mode() -> bool:
        before = os.stat(facts["canary"]).st_mode
        os.chmod(facts["canary"], 0)
        return os.stat(facts["canary"]).st_mode != before

    server = facts["server"]
    return _first(
        lambda: resource.prlimit(server, resource.RLIMIT_NOFILE, (64, 64)),
        lambda: [os.setpriority(os.PRIO_PROCESS, server, 19)],
        lambda: [os.sched_setaffinity(server, {0})],
        _mode,
    )


@attack
def watching(facts: Facts) -> object:
    """Be told the names of files as they come into a folder that may not be listed."""
    fd = _LIBC.inotify_init1(0)
    return _LIBC.inotify_add_watch(fd, facts["run_root"].encode(), 0x100) >= 0


@attack
def device(facts: Facts) -> object:
    def _made() -> str:
        os.mknod("memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))
        return "made"

    return _first(_made, lambda: _read("/dev/mem"), lambda: _read("/dev/kmsg"), lambda: os.listdir("/dev/block"))


@attack
def many_files(facts: Facts) -> object:
    kept = []
    with suppress(OSError):
        for _ in range(2000):
            kept.append(os.open("/dev/null", os.O_RDONLY))
    for fd in kept:
        os.close(fd)
    return len(kept) == 2000


def main() -> None:
    facts: Facts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = {}
    for name in sys.argv[2:] or ATTACKS:
        got: object = None
        with suppress(OSError):
            got = ATTACKS[name](facts)
        found[name] = str(got)[:200] if got else ""
    print(json.dumps(found))


if __name__ == "__main__":
    main()
