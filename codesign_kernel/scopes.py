"""Scopes: what an app, a token or a job may do. One table of capabilities, one of limits; one TOML file a scope.

Checks, messages, the cards of the gallery and docs/scopes.md all come from the two tables. Without a scope, as in
one's own notebook, nothing is limited. A process that a gateway starts has its scope in a file named by
``CODESIGN_SCOPE``; it is read once, and what it forbids the operating system forbids too where it can.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from codesign_kernel.errors import ScopeError, ScopeFileError

#: Names the scope file of a confined process.
VARIABLE = "CODESIGN_SCOPE"

#: {capability: what it allows}.
CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "profile": "count the work of a model: operations, parameters, memory",
        "explore": "evaluate designs and search a space of them",
        "optimize": "train, quantise, prune and fuse a network, and choose it together with its accelerator",
        "generate": "produce an accelerator's RTL",
        "cosimulate": "run a network on generated RTL in a simulator",
        "upload": "bring a model of one's own",
        "cluster": "send work to the workers outside the sandbox",
        "admin": "see other people's sessions, stop them, read the audit trail",
    }
)


@dataclass(frozen=True)
class Limit:
    """One limit of a scope.

    Attributes:
        unit: of its value.
        what: what is counted, in words.
        by: who enforces it: ``session`` (before the work starts), ``system`` (the operating system, whatever the
            process does) or ``gateway`` (the server, from outside).
        default: of a scope that does not say.
        most: that a scope may ask for.
    """

    unit: str
    what: str
    by: str
    default: int
    most: int


_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30

#: {limit: what it is}.
LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "macs": Limit("MAC", "multiply-accumulates of one inference of a model", "session", 20 * 10**9, 10**13),
        "designs": Limit("designs", "designs of one exploration", "session", 200_000, 10**9),
        "workers": Limit("workers", "workers of one exploration", "session", 0, 1_000),
        "simulated_cycles": Limit("cycles", "clock cycles of one co-simulation", "session", 5 * 10**6, 10**12),
        "artefact_bytes": Limit(
            "byte", "one result: an RTL bundle, a recording, an export", "session", 16 * _MIB, _GIB
        ),
        "upload_bytes": Limit("byte", "one uploaded file", "gateway", 8 * _MIB, _GIB),
        "wall_s": Limit("s", "from the start of the process to its end", "gateway", 1800, 7 * 86_400),
        "disk_bytes": Limit("byte", "everything in the process's private folder", "gateway", 256 * _MIB, 64 * _GIB),
        "cpu_s": Limit("s", "processor time of the process", "system", 900, 7 * 86_400),
        "memory_bytes": Limit("byte", "memory of the process and what it starts", "system", 2 * _GIB, 256 * _GIB),
        "processes": Limit("processes", "processes and threads at once", "system", 128, 4_096),
    }
)

NETWORKS = ("none", "cluster")
#: Who may open an app or use a scope, from the fewest rights to the most; each has those before it.
ROLES = ("guest", "user", "admin")
#: {role: the capabilities that somebody with it may have}; an app or a token narrows them, and never widens.
ROLE_CAPABILITIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "guest": frozenset({"profile", "explore", "generate", "cosimulate"}),
        "user": frozenset(CAPABILITIES) - {"admin"},
        "admin": frozenset(CAPABILITIES),
    }
)
_KEYS = {"title", "summary", "open_to", "capabilities", "models", "templates", "network", "limits"}


@dataclass(frozen=True)
class Scope:
    """What a process may do.

    Attributes:
        name: that of its file without ``.toml``.
        title, summary: for the card in the gallery; plain text.
        open_to: the least role that may open it.
        capabilities: of ``CAPABILITIES``.
        models: names of ``ck.zoo`` that may be profiled; ``("*",)`` all. An upload needs ``upload``.
        templates: accelerator templates that may be generated or evaluated; ``("*",)`` all.
        network: ``none``, or ``cluster``: the gateway's broker may reach the workers for it; its own process never
            has a network.
        limits: {limit of ``LIMITS``: value}, complete.
    """

    name: str
    title: str = ""
    summary: str = ""
    open_to: str = "user"
    capabilities: frozenset[str] = frozenset()
    models: tuple[str, ...] = ("*",)
    templates: tuple[str, ...] = ("*",)
    network: str = "none"
    limits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "capabilities", frozenset(self.capabilities))
        object.__setattr__(self, "models", tuple(self.models))
        object.__setattr__(self, "templates", tuple(self.templates))
        _check_words(self)
        _check_limits(self)
        complete = {name: self.limits.get(name, limit.default) for name, limit in LIMITS.items()}
        object.__setattr__(self, "limits", MappingProxyType(complete))

    def may(self, capability: str) -> bool:
        """Whether the scope has the capability."""
        return capability in self.capabilities

    def require(self, capability: str) -> None:
        """Refuse what the scope does not allow.

        Raises:
            ScopeError: the scope has no such capability.
        """
        if capability not in CAPABILITIES:
            raise ScopeFileError(f"a capability is one of {', '.join(CAPABILITIES)}, but got {capability!r}")
        if capability not in self.capabilities:
            had = ", ".join(sorted(self.capabilities)) or "none"
            raise ScopeError(
                f"the scope {self.name!r} does not allow to {CAPABILITIES[capability]} (capability {capability!r}; it "
                f"has {had}); open an app that does"
            )

    def within(self, limit: str, value: float) -> None:
        """Refuse a value above a limit.

        Raises:
            ScopeError: ``value`` is above it; the message names the limit, its value and the one asked for.
        """
        if limit not in LIMITS:
            raise ScopeFileError(f"a limit is one of {', '.join(LIMITS)}, but got {limit!r}")
        most = self.limits[limit]
        if not value <= most:
            about = LIMITS[limit]
            raise ScopeError(
                f"the scope {self.name!r} limits {limit} ({about.what}) to {most:,} {about.unit}, but this asks for "
                f"{value:,.0f} {about.unit}; ask for less, or open an app with a wider scope"
            )

    def allows_model(self, name: str) -> None:
        """Refuse a model that is not of the scope.

        Raises:
            ScopeError: it is not.
        """
        _among(self, "models", self.models, name)

    def allows_template(self, name: str) -> None:
        """Refuse a template that is not of the scope.

        Raises:
            ScopeError: it is not.
        """
        _among(self, "templates", self.templates, name)

    def narrowed(self, capabilities: Iterable[str], workers: int) -> Scope:
        """The scope of somebody who has only ``capabilities``, where there are ``workers`` workers."""
        least = min(self.limits["workers"], workers)
        allowed = self.capabilities & frozenset(capabilities) - (frozenset() if least else {"cluster"})
        if allowed == self.capabilities and least == self.limits["workers"]:
            return self
        network = self.network if "cluster" in allowed else "none"
        limits = {**self.limits, "workers": least}
        return replace(self, capabilities=allowed, network=network, limits=limits)

    def plain(self) -> dict[str, Any]:
        """The scope as plain data, from which :func:`scope_of` makes it again."""
        return {
            "title": self.title, "summary": self.summary, "open_to": self.open_to,
            "capabilities": sorted(self.capabilities), "models": list(self.models), "templates": list(self.templates),
            "network": self.network, "limits": dict(self.limits),
        }  # fmt: skip


def _among(scope: Scope, what: str, allowed: Iterable[str], name: str) -> None:
    allowed = tuple(allowed)
    if "*" not in allowed and name not in allowed:
        raise ScopeError(
            f"the scope {scope.name!r} limits {what} to {', '.join(allowed) or 'none'}, but this asks for "
            f"{name!r:.60}; choose one of them"
        )


def _check_words(scope: Scope) -> None:
    if unknown := sorted(scope.capabilities - set(CAPABILITIES)):
        raise ScopeFileError(
            f"the capabilities of a scope are of {', '.join(CAPABILITIES)}, but {scope.name!r} has {', '.join(unknown)}"
        )
    if scope.network not in NETWORKS:
        raise ScopeFileError(f"network is one of {', '.join(NETWORKS)}, but {scope.name!r} has {scope.network!r:.40}")
    if scope.open_to not in ROLES:
        raise ScopeFileError(f"open_to is one of {', '.join(ROLES)}, but {scope.name!r} has {scope.open_to!r:.40}")
    if scope.may("cluster") != (scope.network == "cluster"):
        raise ScopeFileError(
            f"the capability cluster and network = 'cluster' go together, but {scope.name!r} has one of them; "
            "give it both or none"
        )
    for given in (scope.title, scope.summary, *scope.models, *scope.templates):
        if not isinstance(given, str):
            raise ScopeFileError(f"title, summary, models and templates are text, but {scope.name!r} has {given!r:.40}")


def _check_limits(scope: Scope) -> None:
    for name, value in scope.limits.items():
        if name not in LIMITS:
            raise ScopeFileError(f"a limit is one of {', '.join(LIMITS)}, but {scope.name!r} has {name!r:.40}")
        most = LIMITS[name].most
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise ScopeFileError(f"{name} is a whole number of 0 to {most:,}, but {scope.name!r} has {value!r:.40}")


def scope_of(name: str, given: Mapping[str, Any]) -> Scope:
    """The scope that plain data say.

    Raises:
        ScopeFileError: a key, capability or limit is unknown, or a value is out of its range.
    """
    if unknown := sorted(set(given) - _KEYS):
        raise ScopeFileError(
            f"a scope has the keys {', '.join(sorted(_KEYS))}, but {name!r} has {', '.join(map(repr, unknown))}"
        )
    for key in ("capabilities", "models", "templates"):
        if key in given and not isinstance(given[key], (list, tuple)):
            raise ScopeFileError(f"{key} is a list, but {name!r} has {given[key]!r:.40}")
    if not isinstance(given.get("limits", {}), Mapping):
        raise ScopeFileError(f"limits is a table, but {name!r} has {given['limits']!r:.40}")
    return Scope(name=name, **given)


def read_scope(path: str | os.PathLike[str]) -> Scope:
    """The scope of a TOML file.

    Raises:
        ScopeFileError: it cannot be read, or is none.
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScopeFileError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScopeFileError(f"{path.name} is no TOML: {error}") from error
    return scope_of(path.stem, given)


@cache
def current() -> Scope | None:
    """The scope of this process, read once from the file that ``CODESIGN_SCOPE`` names; ``None`` without one.

    Raises:
        ScopeFileError: the file is no scope: a process that should be confined does not run without.
    """
    path = os.environ.get(VARIABLE)
    return read_scope(path) if path else None


def require(capability: str) -> None:
    """As :meth:`Scope.require`, of this process's scope."""
    if (scope := current()) is not None:
        scope.require(capability)


def within(limit: str, value: float) -> None:
    """As :meth:`Scope.within`, of this process's scope."""
    if (scope := current()) is not None:
        scope.within(limit, value)


def toml_of(scope: Scope) -> str:
    """The scope as the text of a TOML file."""
    import json  # JSON's strings, numbers and lists of strings are TOML's too

    plain = scope.plain()
    limits = plain.pop("limits")
    head = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    return "\n".join([*head, "", "[limits]", *(f"{key} = {value}" for key, value in limits.items()), ""])
