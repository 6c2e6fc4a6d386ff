"""Workers that come and go with the work: Dask clusters, policies that scale them, and a simulator to compare these.

The module can be called: ``codesign_kernel.cluster(...)`` starts a cluster, and ``codesign_kernel.cluster.simulate``
tries a policy in virtual time.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from codesign_kernel.cluster.demand import Demand
from codesign_kernel.cluster.handle import Cluster
from codesign_kernel.cluster.policies import MODES, Decision, Limits, Mode, Policy, Snapshot, Threshold
from codesign_kernel.cluster.predictive import Predictive
from codesign_kernel.cluster.simulate import BASELINE, MODE_NAMES, Moment, Outcome, simulate
from codesign_kernel.cluster.traces import SHAPES, Trace, drawn, recorded, shape

__all__ = [
    "BASELINE",
    "MODES",
    "MODE_NAMES",
    "SHAPES",
    "Cluster",
    "Decision",
    "Demand",
    "Limits",
    "Mode",
    "Moment",
    "Outcome",
    "Policy",
    "Predictive",
    "Snapshot",
    "Threshold",
    "Trace",
    "cluster",
    "drawn",
    "recorded",
    "shape",
    "simulate",
]


def cluster(
    mode: str | Policy = "balanced",
    minimum: int = 2,
    maximum: int = 32,
    backend: str = "local",
    *,
    limits: Limits | None = None,
    interval_s: float = 1.0,
    **options: Any,
) -> Cluster:
    """Start a cluster of ``minimum`` to ``maximum`` workers that ``mode`` scales; close it, or use it in ``with``.

    Args:
        mode: ``conservative``, ``balanced``, ``aggressive``, ``predictive``, ``dask`` (Dask's own law), or a policy.
        backend: ``local`` (processes of this machine, loopback, TLS), ``slurm``, ``pbs``, ``kubernetes``, ``gateway``,
            or the address of a scheduler that runs already (``tcp://...``, ``tls://...``); its workers are not scaled.
        limits: what the signals are compared with, and for how long.
        interval_s: seconds between two looks.
        options: for the backend: of LocalCluster, of dask-jobqueue's, dask-kubernetes' or dask-gateway's cluster, or of
            ``distributed.Client`` for an address.

    Raises:
        InvalidInputError: no such mode or backend, or no number of workers between the bounds.
        ClusterError: a package is missing (the message names the extra), or nobody answers at the address.
    """
    return Cluster(mode, minimum, maximum, backend, limits, interval_s, options)


class _Room(ModuleType):
    """``codesign_kernel.cluster`` is this room and the front door's function at once: importing the room makes it an
    attribute of the package, which would hide a function of that name."""

    def __call__(self, *arguments: Any, **options: Any) -> Cluster:
        return cluster(*arguments, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        """By name: pickles know modules themselves only, and this is of a class of its own."""
        return import_module, (self.__name__,)


_Room.__call__.__doc__ = cluster.__doc__
sys.modules[__name__].__class__ = _Room
