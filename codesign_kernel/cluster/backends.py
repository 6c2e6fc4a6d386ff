"""One small factory for each place where workers can run. Each gives Dask's own cluster object, configured."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from codesign_kernel.errors import ClusterError, InvalidInputError

#: Served by the scheduler over HTTP: whether it lives, nothing else.
_ROUTES = {"distributed.scheduler.http.routes": ["distributed.http.health"], "distributed.worker.http.routes": []}
#: What Dask measures for its dashboard, which is not served: a stack a hundred times a second, the disk, how late a
#: clock of 20 ms is. Together they took each process 2 to 4 % of a core.
_UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.tick.interval": "200ms",
}
#: Of Python's own: a process that has loaded Dask once and is copied for each worker, in a tenth of a second instead of
#: a second of a core each. What macOS loads does not survive being copied.
_COPIED = {"distributed.worker.multiprocessing-method": "forkserver"}
#: Loaded by each local worker before it connects. ``silence_logs`` holds until a worker has closed, and a connection to
#: it that ends after that would be told: in a lesson or somebody's notebook as a line on stderr, now and then.
_QUIET = "codesign_kernel.cluster.quiet"
#: Characters of the folder for temporary files, in which its socket lies; an address of one has 107.
_ROOM = 60


class Backend(NamedTuple):
    """make: (minimum workers, options) -> Dask's cluster. in_process: whether its scheduler runs in this process.

    startup_s: what a worker takes to start before one has been seen to.
    """

    make: Callable[[int, Mapping[str, Any]], Any]
    in_process: bool
    startup_s: float


def _optional(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ClusterError(
            f"this backend needs the package {module.split('.')[0]}, which cannot be imported ({error}); "
            f'pip install "codesign-playground[{extra}]"'
        ) from error


def security() -> Any:
    """TLS with a key and a certificate of its own, in memory only: nobody else on this machine can join.

    Raises:
        ClusterError: the package ``cryptography`` is missing.
    """
    distributed = _optional("distributed", "scale")
    _optional("cryptography", "scale")
    return distributed.Security.temporary()


@contextlib.contextmanager
def copied_workers() -> Iterator[None]:
    """Have local workers started as copies of a process that has loaded Dask, unless this user's Dask says how."""
    dask = import_module("dask")
    how = dask.config.get("distributed.worker.multiprocessing-method", "spawn")
    if how != "spawn" or not sys.platform.startswith("linux") or not _sockets_open():
        yield
        return
    with dask.config.set(_COPIED):
        yield


def _sockets_open() -> bool:
    """Whether a process can be reached by a socket among the temporary files: in a gateway's cell it cannot."""
    if len(tempfile.gettempdir()) > _ROOM:
        return False
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as caller,
    ):
        try:
            listener.bind(path := os.path.join(folder, "s"))
            listener.listen(1)
            caller.connect(path)
        except OSError:
            return False
    return True


def local(workers: int, options: Mapping[str, Any]) -> Any:
    """Processes of this machine, one thread each, on the loopback interface, over TLS.

    A worker may use its share of the memory: all of it over the number of cores, since more workers gain nothing.
    """
    distributed = _optional("distributed", "scale")
    dask = import_module("dask")
    system = import_module("distributed.system")
    settings = {
        "threads_per_worker": 1,
        "memory_limit": system.MEMORY_LIMIT // max(2, os.cpu_count() or 1),
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "security": security(),
        "env": dict(os.environ),  # of this process as it is now: what is copied has that of when it began
        # a worker that leaves and is heard of once more is worth no line in somebody's notebook
        "silence_logs": logging.ERROR,
        "config": {**_ROUTES, **_UNWATCHED},  # of workers, those that come later too
        "preload": [*dask.config.get("distributed.worker.preload"), _QUIET],
        **options,
    }
    with dask.config.set({**_ROUTES, **_UNWATCHED}):
        return distributed.LocalCluster(
            n_workers=workers, processes=True, scheduler_kwargs={"dashboard": False}, **settings
        )


def _jobs(kind: str) -> Callable[[int, Mapping[str, Any]], Any]:
    def make(workers: int, options: Mapping[str, Any]) -> Any:
        """Jobs of a batch system, one worker each; options are those of dask-jobqueue's cluster."""
        jobqueue = _optional("dask_jobqueue", "hpc")
        settings = {
            "cores": 1,
            "processes": 1,
            "memory": "4GB",
            "security": security(),
            "protocol": "tls://",
            # the nodes have to read the certificate, so it lies in the user's own folder, which they share
            "shared_temp_directory": os.path.expanduser("~"),
            "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            **options,
        }
        return getattr(jobqueue, kind)(n_workers=workers, **settings)

    return make


def kubernetes(workers: int, options: Mapping[str, Any]) -> Any:
    """Pods, through the Dask operator; the image has to hold this package, and is named by ``image=``."""
    operator = _optional("dask_kubernetes.operator", "kubernetes")
    if "image" not in options:
        raise InvalidInputError(
            "workers on Kubernetes need an image that holds this package, but none was named; add image=..."
        )
    settings = {"name": "codesign", "quiet": True, "shutdown_on_close": True, **options}
    return operator.KubeCluster(n_workers=workers, **settings)


def gateway(workers: int, options: Mapping[str, Any]) -> Any:
    """A cluster of a Dask Gateway server: ``address=`` and ``auth=`` are the server's, the rest are cluster options."""
    module = _optional("dask_gateway", "gateway")
    rest = dict(options)
    server = {name: rest.pop(name) for name in ("address", "proxy_address", "public_address", "auth") if name in rest}
    found = module.GatewayCluster(shutdown_on_close=True, **server, **rest)
    found.scale(workers)
    return found


BACKENDS: Mapping[str, Backend] = {
    "local": Backend(local, True, 2.0),
    "slurm": Backend(_jobs("SLURMCluster"), True, 120.0),
    "pbs": Backend(_jobs("PBSCluster"), True, 120.0),
    "kubernetes": Backend(kubernetes, False, 60.0),
    "gateway": Backend(gateway, False, 60.0),
}
#: How an address of a scheduler that runs already begins.
ADDRESSES = ("tcp://", "tls://")


def check_backend(backend: str) -> None:
    """Make sure that ``backend`` is one.

    Raises:
        InvalidInputError: it is neither a name nor an address.
    """
    if backend not in BACKENDS and not backend.startswith(ADDRESSES):
        raise InvalidInputError(
            f"a backend is one of {', '.join(BACKENDS)} or an address that begins with tcp:// or tls://, but got "
            f"{backend!r}; choose one of them"
        )
