"""What this machine can enforce, found out by trying."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from codesign_kernel.errors import InvalidInputError, SandboxError
from codesign_kernel.scopes import LIMITS, Scope
from codesign_kernel.server.sandbox import tree

KINDS = ("landlock", "bubblewrap", "none")
#: Users of cells: numbers that distributions leave alone (systemd's table of uid ranges), or its dynamic users'.
_UID_RANGES = ((1_900_000_000, 1 << 20), (61_184, 4_336))


@dataclass(frozen=True)
class Confinement:
    """What cells are confined by here.

    Attributes:
        kind: ``landlock`` (with a seccomp filter), ``bubblewrap`` (namespaces, with the same filter) or ``none``.
        detail: what was found, for the log and the console.
        enforces: what is enforced, of the limits of a scope and ``files``, ``network``, ``signals``, ``environment``.
        own_user: whether each cell gets a user of its own, which takes a gateway that is root.
        read_all: whether that user needs the capability to read what its mode forbids, because Python's folder is
            not everybody's; Landlock then says alone what it reads.
        uids: (first, count) of the users.
    """

    kind: str
    detail: str
    enforces: frozenset[str]
    own_user: bool = False
    read_all: bool = False
    uids: tuple[int, int] = field(default=(0, 0), repr=False)


#: User numbers of this process's cells.
_TAKEN: set[int] = set()


def free_uid(confinement: Confinement) -> int:
    """A user number that no other cell of this process has, and no process of this machine.

    Raises:
        SandboxError: all are taken.
    """
    first, count = confinement.uids
    for _ in range(1000):
        uid = first + secrets.randbelow(count)
        if uid not in _TAKEN and not tree.of_user(uid):
            _TAKEN.add(uid)
            return uid
    raise SandboxError(f"each cell has a user of its own, but the {count:,} there are for cells are taken; end some")


def give_back(uid: int) -> None:
    """The user number is free again."""
    _TAKEN.discard(uid)


#: What a confinement has to enforce to be called one, and what each means.
REQUIRED = {
    "files": "files outside of the cell stay unreadable",
    "network": "no socket reaches further than this machine's files",
    "environment": "other processes' environment stays unreadable",
    "signals": "other processes cannot be signalled",
}
_WATCHED = frozenset({"wall_s", "cpu_s", "memory_bytes", "processes", "disk_bytes"})


def check_scope(scope: Scope, confinement: Confinement) -> None:
    """Refuse a scope that cannot be enforced here.

    Raises:
        SandboxError: the message says what of it cannot.
    """
    needs = {name for name, limit in LIMITS.items() if limit.by in ("system", "gateway")} - {"upload_bytes"}
    needs |= set() if confinement.kind == "none" else set(REQUIRED)  # the operator has accepted that by his settings
    if missing := sorted(needs - confinement.enforces):
        raise SandboxError(
            f"the scope {scope.name!r} asks for what this machine does not enforce with {confinement.kind}: "
            f"{', '.join(missing)} ({confinement.detail}); choose another sandbox, or do not publish the app here"
        )
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if scope.limits["memory_bytes"] > ram:
        raise SandboxError(
            f"the scope {scope.name!r} asks for memory_bytes of {scope.limits['memory_bytes']:,} byte, but this "
            f"machine has {ram:,} byte; ask for less"
        )


def probe(wanted: str = "auto", *, accept_none: bool = False, place: Path | None = None) -> Confinement:
    """The strongest confinement that works here: a confined process has tried to break out and could not.

    Args:
        wanted: ``auto``, or one of ``KINDS``.
        accept_none: whether ``auto`` may end with ``none``.
        place: the folder of the cells that there will be, as what is above it may keep their users out; without, one
            that only the gateway's user reaches.

    Raises:
        SandboxError: what is wanted does not work here; the message says what got out, or what is missing.
    """
    if wanted not in ("auto", *KINDS):
        raise InvalidInputError(f"a sandbox is auto or one of {', '.join(KINDS)}, but got {wanted!r:.40}")
    if not (hasattr(os, "pidfd_open") and os.path.exists("/proc/self/stat")):
        raise SandboxError("cells need Linux 5.3 or later with /proc; run the gateway there, or in a container")
    from codesign_kernel.server.sandbox.trial import try_kind  # it starts cells, which are made for a confinement

    failures = []
    for kind in ("landlock", "bubblewrap") if wanted == "auto" else (wanted,):
        if kind == "none":
            return Confinement("none", "nothing is confined: limits are watched from outside only", _WATCHED)
        found = try_kind(kind, place)
        if isinstance(found, Confinement):
            return found
        failures.append(f"{kind}: {found}")
    if accept_none and wanted == "auto":
        return Confinement("none", f"nothing is confined; {'; '.join(failures)}", _WATCHED)
    raise SandboxError(
        f"no sandbox works here ({'; '.join(failures)}); install bubblewrap or take a kernel with Landlock, or accept "
        "in the settings that everybody who may open an app is trusted fully: accept_no_sandbox = true"
    )
