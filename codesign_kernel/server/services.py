"""Everything that a gateway is made of, opened once and closed in the opposite order."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign_kernel import __version__
from codesign_kernel.accelerator.catalog import names as machine_names
from codesign_kernel.errors import ScopeFileError, ServiceError
from codesign_kernel.server import keeping
from codesign_kernel.server.api.schemas import KINDS
from codesign_kernel.server.apps import App, find_apps, without_scope
from codesign_kernel.server.folder import private
from codesign_kernel.server.history import History
from codesign_kernel.server.jobs import Jobs
from codesign_kernel.server.rates import Rates
from codesign_kernel.server.runner import Runner
from codesign_kernel.server.sandbox import Confinement, check_scope, probe
from codesign_kernel.server.settings import Settings
from codesign_kernel.server.signals import FAMILIES, Signals
from codesign_kernel.server.workers.crew import Crew
from codesign_kernel.store import Store
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.people import People
from codesign_kernel.store.privacy import Privacy
from codesign_kernel.telemetry.audit import Audit
from codesign_kernel.telemetry.log import Log, event
from codesign_kernel.telemetry.metrics import Metrics
from codesign_kernel.telemetry.trace import Tracer

if TYPE_CHECKING:
    from codesign_kernel.server.kernels import ScopedKernelManager
    from codesign_kernel.server.probes import Probes

#: Bytes of a path that a folder of cells may have: sockets lie in them (``sandbox.cell``).
_LONGEST_ROOT = 68


@dataclass
class Services:
    """The parts of one gateway; Tornado's ``settings["gateway"]``.

    Attributes:
        settings: what the operator decided.
        log, metrics, tracer, audit: what operators see; ``signals`` tells all of them.
        history: the last minutes of the metrics.
        store: database, cache, artefacts.
        apps: {name: app}.
        unserved: notebooks of the folder that have no scope file.
        confinement: how kernels and jobs are kept apart, as it was found out at start.
        run_root: the folder of their cells.
        rates: who may ask how often.
        people: persons, their sign-ins and tokens.
        vault: seals what is kept of them.
        privacy: consent, export, erasure and retention.
        crew: the workers outside the sandbox.
        jobs: the queue of work outside of kernels.
        kernels: of visitors; the application makes it.
        health: its probes.
    """

    settings: Settings
    log: Log
    metrics: Metrics
    tracer: Tracer
    audit: Audit
    signals: Signals
    history: History
    store: Store
    apps: Mapping[str, App]
    confinement: Confinement
    run_root: Path
    rates: Rates
    people: People
    vault: Vault
    privacy: Privacy
    crew: Crew
    jobs: Jobs
    unserved: list[str] = field(default_factory=list)
    kernels: ScopedKernelManager = None  # type: ignore[assignment]
    health: Probes = None  # type: ignore[assignment]
    _open: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Open every part, and clear away what a gateway left behind that was killed.

        Raises:
            ScopeFileError: an app's scope is wrong.
            SandboxError: nothing confines here, or a scope asks for more than can be enforced.
            StoreError: the database cannot be opened.
            ServiceError: another gateway has this data folder.
        """
        with ExitStack() as stack:
            services = cls._opened(settings, stack)
            services._open = stack.pop_all()
        return services

    @classmethod
    def _opened(cls, settings: Settings, stack: ExitStack) -> Services:
        def opened(part: Any, close: Callable[[], object] | None = None) -> Any:
            stack.callback(close or part.close)
            return part

        private(settings)
        alone(settings, stack)
        metrics_token(settings)
        log = opened(Log(settings.log_file))
        apps = find_apps(settings.apps_dir)
        root = run_root(settings)
        confinement = probe(settings.sandbox, accept_none=settings.accept_no_sandbox, place=root)
        for app in apps.values():
            check_scope(app.scope, confinement)
            within_cluster(app, settings.cluster_workers)
        audit = Audit(settings.audit_file)
        metrics = Metrics(apps=apps, templates=(*machine_names(), *FAMILIES), kinds=KINDS, version=__version__)
        tracer = opened(Tracer(settings.otlp_endpoint, __version__))
        signals = Signals(audit, metrics)
        store = opened(Store(settings.store_url, redis_url=settings.redis_url or None))
        people = People(store)
        vault, privacy = keeping.opened(settings, store, audit)
        most, each = settings.cluster_workers, settings.cluster_worker_bytes
        crew = opened(Crew(most, each, confinement, root, settings.file("workers.log")))
        return cls(
            settings=settings,
            log=log,
            metrics=metrics,
            tracer=tracer,
            audit=audit,
            signals=signals,
            history=opened(History(metrics)),
            store=store,
            apps=apps,
            confinement=confinement,
            run_root=root,
            rates=Rates(settings),
            people=people,
            vault=vault,
            crew=crew,
            privacy=privacy,
            jobs=opened(
                Jobs(
                    settings,
                    store,
                    vault,
                    Runner(confinement, root, lambda what, errors: _faulty(metrics, what, errors), crew),
                    consent=lambda subject: privacy.consent(subject, "storage"),
                    others=lambda: others(settings, people),
                    told=signals.job,
                    worked=signals.worked,
                    tracer=tracer,
                    failed=lambda error: _failed(metrics, error),
                )
            ),
            unserved=without_scope(settings.apps_dir, apps),
        )

    def close(self) -> None:
        """Close every part, the last one first."""
        self._open.close()


def others(settings: Settings, people: People) -> bool:
    """Whether more people than one may come: not where the one person of ``identity = "token"`` is all there are."""
    return settings.identity != "token" or settings.guests or len(people.everyone()) > 1


def _faulty(metrics: Metrics, what: str, errors: str) -> None:
    """A job failed by a fault of ours: the operator is told, with what its process wrote."""
    metrics.error("job")
    event("job_fault", level=logging.ERROR, what=what, errors=errors)


def _failed(metrics: Metrics, error: Exception) -> None:
    """A thread that runs jobs met an error."""
    metrics.error("job")
    event("job_worker_failed", level=logging.ERROR, error=f"{type(error).__name__}: {error}")


def within_cluster(app: App, workers: int) -> None:
    """Refuse an app that wants a cluster where there is none, or more workers than there are.

    Raises:
        ScopeFileError: it does.
    """
    if not app.scope.may("cluster"):
        return
    if not workers:
        raise ScopeFileError(
            f"{app.name}.toml asks for the cluster, and this gateway has none (cluster_workers is 0); set "
            'cluster_workers, or take the capability cluster out of it and set network = "none"'
        )
    if app.scope.limits["workers"] > workers:
        raise ScopeFileError(
            f"{app.name}.toml asks for {app.scope.limits['workers']:,} workers, and this gateway has {workers:,} "
            "(cluster_workers); lower its limit workers, or raise cluster_workers"
        )


def metrics_token(settings: Settings) -> None:
    """Refuse a token of /metrics that cannot be read: whoever shows it would be turned away, and nobody told why.

    Raises:
        ServiceError: the file is not there, not ours to read, or empty.
    """
    if (file := settings.metrics_token_file) is None:
        return
    try:
        told = "" if file.read_text(encoding="utf-8").strip() else "it is empty"
    except (OSError, UnicodeDecodeError) as error:
        told = str(getattr(error, "strerror", None) or error)
    if told:
        raise ServiceError(
            f"metrics_token_file is a file that the gateway can read, with a token in it, but {file}: {told}; "
            f"make one, such as by: head -c 32 /dev/urandom | base64 > {file}"
        )


def alone(settings: Settings, stack: ExitStack) -> None:
    """Hold the data folder as long as ``stack`` is open.

    Raises:
        ServiceError: another gateway holds it.
    """
    held = stack.enter_context(settings.file("lock").open("w"))
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ServiceError(
            f"another gateway runs with the data folder {settings.data_dir}; stop it, or name another with --data"
        ) from error


def run_root(settings: Settings) -> Path:
    """The empty folder of the cells: in the data folder, or where paths are short if that is too deep for sockets.

    What a killed gateway left in it is removed: nobody else has the data folder, and its processes ended with it.

    Raises:
        ServiceError: somebody else has made a folder of that name, or paths are too long there too.
    """
    root = settings.data_dir / "run"
    if len(os.fsencode(root)) > _LONGEST_ROOT:
        digest = hashlib.sha256(os.fsencode(settings.data_dir)).hexdigest()[:12]
        root = Path(tempfile.gettempdir()).resolve() / f"codesign-{os.getuid()}-{digest}"
    if (length := len(os.fsencode(root))) > _LONGEST_ROOT:
        raise ServiceError(
            f"the folder of running kernels has at most {_LONGEST_ROOT} bytes in its path, because sockets lie in it, "
            f"but {root} has {length}, and {settings.data_dir / 'run'} is too long too; choose a data_dir (--data) of "
            f"at most {_LONGEST_ROOT - len('/run')} bytes, or set TMPDIR to a shorter folder"
        )
    with suppress(FileExistsError):
        root.mkdir()
        root.chmod(0o711)
    about = root.lstat()
    if root.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise ServiceError(f"the folder of the cells is the gateway's own, but {root} is somebody else's; remove it")
    for left in root.iterdir():
        shutil.rmtree(left, ignore_errors=True)
    return root
