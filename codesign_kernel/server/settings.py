"""What an operator decides: one TOML file, defaults that need none. Secrets are in files of their own, never in it."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.scopes import LIMITS
from codesign_kernel.store.database import data_root

IDENTITIES = ("token", "password", "jupyterhub")
_LAST_PORT = 65_535
SANDBOXES = ("auto", "landlock", "bubblewrap", "none")
#: Memory of a Dask worker that has our package loaded and a task at hand, rounded up.
LEAST_WORKER_BYTES = 512 << 20


#: {how an annotation begins: (what a value of it is, in words)}; whole numbers have a law of their own.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a text"),
    "bool": ((bool,), "true or false"),
    "Path | None": ((str, Path, type(None)), "a path"),
    "Path": ((str, Path), "a path"),
    "tuple": ((list, tuple), "a list of texts"),
    "Mapping": ((Mapping,), "a table"),
}


@dataclass(frozen=True)
class Settings:
    """How a gateway runs.

    Attributes:
        host, port: it listens there; port 0 takes any free one. Loopback unless told otherwise.
        base_url: the path under which everything stands, with a slash at both ends.
        public_url: how people's browsers reach it, where a proxy stands in front: the only other origin that counts.
        trusted_proxies: addresses whose X-Forwarded-For, X-Forwarded-Proto and X-Request-ID are believed.
        data_dir: everything that it keeps: database, keys, audit trail, private folders of running kernels.
        database_url: of the store; SQLite in ``data_dir`` without.
        redis_url: rate limits and the cache's second tier are shared through it; in this process without.
        apps_dir: notebooks with one scope file each.
        identity: ``token`` (one person, who has the token that is printed at start), ``password`` or ``jupyterhub``.
        guests: whether people may come in without a name, with the role ``guest``; their things go when they leave.
        token_file: holds the token of ``identity = "token"``; made at first start.
        session_s, session_idle_s: a sign-in ends that long after it began, or was last used.
        sandbox: how kernels are confined; ``auto`` takes the strongest that works here.
        accept_no_sandbox: start although nothing works here. Everybody who may open an app is then trusted fully.
        max_kernels, kernels_per_user: of visitors.
        kernels_per_address: of all guests from one address, or one /64 of IPv6; 0: half of ``max_kernels``, or
            ``kernels_per_user`` if that is more.
        warm_kernels: that wait for visitors, for each app that was opened last.
        kernel_idle_s: a kernel that nobody has used for that long ends.
        max_jobs: that run at once.
        jobs_per_user: of one person, that run at once; where others may come, never the last of ``max_jobs`` if there
            are two or more: it waits for them.
        max_queued_jobs: that wait.
        belongings_bytes: of uploads and results, that one person may keep.
        rates: {what: limit in the words of the library ``limits``, such as "30/minute"}, beside those in RATES.
        metrics_token_file: whoever shows that token may read /metrics; without, administrators and loopback only.
        keys_file: keys of the encryption at rest, the newest first; made at first start.
        retention_days: {what of the table in ``store.privacy``: days}.
        log_file: the structured log goes there; without, to standard error, or where that is a terminal to
            ``gateway.log`` in ``data_dir``.
        otlp_endpoint: traces go there; none without.
        cluster_workers: Dask workers on this machine at most, for explorations that ask for some and whose scope has
            the capability ``cluster``; with 0 there are none, and an app whose scope has it is refused.
        cluster_worker_bytes: memory of each of them.
        hub: what JupyterHub's administrator gives its service: api_url, base_url (the hub's own), client_id,
            api_token_file, callback_url, service (its name).
        hub_roles: {what the hub says of somebody: the role here}: ``admin``, ``group:NAME``, ``scope:NAME`` or
            ``*`` for everybody whom the hub lets use this service; the highest counts, and who has none may open
            nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8866
    base_url: str = "/"
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    data_dir: Path = field(default_factory=lambda: data_root() / "gateway")
    database_url: str = ""
    redis_url: str = ""
    apps_dir: Path = Path("voila_apps")
    identity: str = "token"
    guests: bool = False
    token_file: Path | None = None
    session_s: int = 12 * 3600
    session_idle_s: int = 2 * 3600
    sandbox: str = "auto"
    accept_no_sandbox: bool = False
    max_kernels: int = 8
    kernels_per_user: int = 3
    kernels_per_address: int = 0
    warm_kernels: int = 1
    kernel_idle_s: int = 900
    max_jobs: int = 2
    jobs_per_user: int = 2
    max_queued_jobs: int = 2_000
    belongings_bytes: int = 1 << 30
    rates: Mapping[str, str] = field(default_factory=dict)
    metrics_token_file: Path | None = None
    keys_file: Path | None = None
    retention_days: Mapping[str, float] = field(default_factory=dict)
    log_file: Path | None = None
    otlp_endpoint: str = ""
    cluster_workers: int = 0
    cluster_worker_bytes: int = 2 << 30
    hub: Mapping[str, str] = field(default_factory=dict)
    hub_roles: Mapping[str, str] = field(default_factory=lambda: {"admin": "admin", "*": "user"})

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, kinds = getattr(self, item.name), next((k for k in _KINDS if item.type.startswith(k)), "")
            if kinds and not isinstance(value, _KINDS[kinds][0]):
                raise InvalidInputError(f"{item.name} is {_KINDS[kinds][1]}, but got {value!r:.40}")
        for name in ("data_dir", "apps_dir", "token_file", "metrics_token_file", "keys_file", "log_file"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(given).expanduser().resolve())
        object.__setattr__(self, "trusted_proxies", tuple(self.trusted_proxies))
        for name, choices in (("identity", IDENTITIES), ("sandbox", SANDBOXES)):
            if getattr(self, name) not in choices:
                raise InvalidInputError(f"{name} is one of {', '.join(choices)}, but got {getattr(self, name)!r:.40}")
        if not (self.base_url.startswith("/") and self.base_url.endswith("/")):
            raise InvalidInputError(f"base_url begins and ends with a slash, but got {self.base_url!r:.60}")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.type == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InvalidInputError(f"{item.name} is a whole number from 0, but got {value!r:.40}")
        if self.port > _LAST_PORT:
            raise InvalidInputError(f"port is a whole number from 0 to {_LAST_PORT:,}, but got {self.port:,}")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_address(str(proxy))
            except ValueError:
                raise InvalidInputError(
                    "trusted_proxies holds addresses such as '127.0.0.1', no names and no networks, but got "
                    f"{proxy!r:.60}"
                ) from None
        if self.cluster_workers > LIMITS["workers"].most:
            raise InvalidInputError(
                f"cluster_workers is at most {LIMITS['workers'].most:,}, but got {self.cluster_workers:,}"
            )
        if self.cluster_workers and self.cluster_worker_bytes < LEAST_WORKER_BYTES:
            raise InvalidInputError(
                f"cluster_worker_bytes is {LEAST_WORKER_BYTES:,} at least, which a worker takes that does nothing, but "
                f"got {self.cluster_worker_bytes:,}"
            )

    def file(self, name: str) -> Path:
        """A file of ``data_dir``."""
        return self.data_dir / name

    @property
    def address_share(self) -> int:
        """How many kernels all guests from one address may have."""
        return self.kernels_per_address or max(self.max_kernels // 2, self.kernels_per_user)

    @property
    def keys(self) -> Path:
        """The keys of the encryption at rest."""
        return self.keys_file or self.file("keys")

    @property
    def store_url(self) -> str:
        """The database."""
        return self.database_url or f"sqlite:///{self.file('store.db')}"

    @property
    def audit_file(self) -> Path:
        """The audit trail; its key and head are beside it."""
        return self.file("audit") / "audit.jsonl"


def read_settings(path: str | os.PathLike[str] | None = None, **given: Any) -> Settings:
    """The settings of a TOML file, and over them what is ``given`` and not ``None``.

    Relative paths in the file are relative to its folder.

    Raises:
        InvalidInputError: the file cannot be read, or holds an unknown key or a value out of range.
    """
    found: dict[str, Any] = {}
    if path is not None:
        path = Path(path)
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{path} is no TOML: {error}") from error
        for name in ("data_dir", "apps_dir", "token_file", "metrics_token_file", "keys_file", "log_file"):
            if isinstance(found.get(name), str):
                found[name] = path.parent / found[name]
        if isinstance(hub := found.get("hub"), dict) and isinstance(hub.get("api_token_file"), str):
            found["hub"] = hub | {"api_token_file": str(path.parent / hub["api_token_file"])}
    known = {item.name for item in dataclasses.fields(Settings)}
    if unknown := sorted(set(found) - known):
        near = [near for name in unknown for near in get_close_matches(name, known, 1)]
        meant = f" (near it: {', '.join(near)})" if near else ""
        raise InvalidInputError(
            f"settings have unknown: {', '.join(unknown)}{meant}; those that there are: {', '.join(sorted(known))}"
        )
    return Settings(**found | {name: value for name, value in given.items() if value is not None})
