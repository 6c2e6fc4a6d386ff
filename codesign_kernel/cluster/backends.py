"""One small factory for each place where workers can run. Each gives Dask's own cluster object, configured."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from codesign_kernel.errors import ClusterError, InvalidInputError

#: Served by the scheduler over HTTP: whether it lives, nothing else.
_ROUTES = {"distributed.scheduler.http.routes": ["distributed.http.health"], "distributed.worker.http.routes": []}


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
        # a worker that leaves and is heard of once more is worth no line in somebody's notebook
        "silence_logs": logging.ERROR,
        **options,
    }
    with dask.config.set(_ROUTES):
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
