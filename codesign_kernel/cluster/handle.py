"""The cluster that a user holds: started, scaled by a mode, asked for an executor, and closed without a trace."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from codesign_kernel.cluster.backends import ADDRESSES, BACKENDS, check_backend, copied_workers
from codesign_kernel.cluster.policies import Decision, Limits, Policy, check_bounds
from codesign_kernel.cluster.simulate import Moment, policy
from codesign_kernel.display import Shown
from codesign_kernel.errors import ClusterError
from codesign_kernel.scopes import require, within

#: Names the socket of the gateway's broker, in a cell that has one.
BROKER = "CODESIGN_BROKER"
#: How long a scheduler that runs already has for an answer (s).
CONNECT_S = 5.0
#: The same for one that was started just now, which is there, on a machine that may have much else to do (s).
OWN_S = 60.0
_OPEN: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster(Shown):
    """Workers that come and go as the mode decides. Made by :func:`codesign_kernel.cluster`.

    Attributes:
        address: of the scheduler.
        client: Dask's own client, for what this class does not do.
    """

    def __init__(
        self,
        mode: str | Policy,
        minimum: int,
        maximum: int,
        backend: str,
        limits: Limits | None,
        interval_s: float,
        options: dict[str, Any],
    ) -> None:
        check_bounds(minimum, maximum)
        check_backend(backend)
        # here and not in session: a class is made by its name, whoever gives it out
        require("cluster")
        within("workers", maximum)
        if os.environ.get(BROKER):
            raise ClusterError(
                "workers speak by TCP, and in an app's kernel there is no network; ask the gateway's workers: "
                "ck.Client.here().explore(..., workers=4)"
            )
        decider = policy(mode, minimum, maximum, limits) if isinstance(mode, str) else mode
        self.mode, self.minimum, self.maximum, self.backend = mode, minimum, maximum, backend
        self._closed, self._resources = False, contextlib.ExitStack()
        with contextlib.ExitStack() as stack:  # what was started is stopped if the next step fails
            self._start(stack, decider, interval_s, options)
            self._resources = stack.pop_all()
        _OPEN.add(self)

    def _start(self, stack: contextlib.ExitStack, decider: Policy, interval_s: float, options: dict[str, Any]) -> None:
        from codesign_kernel.cluster import adapter  # loads Dask, as late as can be

        if self.backend.startswith(ADDRESSES):
            self._log = adapter.Log(decider, 0.0)
            self.client = connect(self.backend, **options)
            stack.callback(_close_quietly, self.client)
            self.address = self.backend
            return
        where = BACKENDS[self.backend]
        self._log = adapter.Log(decider, where.startup_s)
        if self.backend == "local":
            stack.enter_context(copied_workers())  # until it is closed: of workers, those that come later too
        dask_cluster = where.make(self.minimum, options)
        stack.callback(_close_quietly, dask_cluster)
        self.client = dask_cluster.get_client() if self.backend == "gateway" else _client(dask_cluster, OWN_S)
        stack.callback(_close_quietly, self.client)
        self.address = str(dask_cluster.scheduler_address)
        if where.in_process:
            dask_cluster.adapt(
                Adaptive=adapter.Adapter,
                minimum=self.minimum,
                maximum=self.maximum,
                interval=interval_s,
                log=self._log,
            )
        else:
            pilot = adapter.Pilot(dask_cluster, self.client, self._log, self.minimum, interval_s)
            pilot.start()
            stack.callback(pilot.stop)

    @property
    def decisions(self) -> list[Decision]:
        """What was decided so far, oldest first; times in seconds since the start. Empty for an address, whose workers
        are not ours."""
        return [*self._log.decisions]

    @property
    def moments(self) -> list[Moment]:
        """How many workers and tasks there were, a look each, oldest first; the last 10,000. Empty for an address."""
        return [*self._log.moments]

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def watch(self, told: Callable[[], None]) -> Callable[[], None]:
        """Have ``told`` called after each look at the cluster, and once when it is closed.

        It is called in the thread in which the cluster is looked at, so it has to be quick; no thread is started for
        it. One that raises is called no more.

        Returns:
            What ends it; to call that twice is to call it once.

        Raises:
            ClusterError: the cluster is closed, or an address, whose workers are not ours.
        """
        if self._closed or self.backend.startswith(ADDRESSES):
            what = "is closed" if self._closed else f"is {self.backend}, whose workers others scale"
            raise ClusterError(f"a cluster that decides can be watched, but this one {what}; start one with ck.cluster")
        return self._log.watch(told)

    @property
    def workers(self) -> int:
        """Workers that are there."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def executor(self, *, retries: int = 0, at_once: int | None = None) -> Any:
        """An executor (``run(function, items)``, ``close()``) on these workers; see :class:`DaskExecutor`.

        Args:
            retries: how often a batch is tried again whose function raised.
            at_once: workers that it keeps busy at most; all of them without.

        Raises:
            ClusterError: the cluster is closed.
        """
        from codesign_kernel.cluster.executor import DaskExecutor

        if self._closed:
            raise ClusterError("an executor needs a running cluster, but this one is closed; start another")
        if at_once is not None:
            return DaskExecutor(self.client, at_once, retries=retries, in_flight=at_once)
        return DaskExecutor(self.client, max(self.maximum, self.workers), retries=retries)

    def close(self) -> None:
        """Stop everything that was started, workers included; a second call does nothing."""
        if not self._closed:
            self._closed = True
            _OPEN.discard(self)
            self._resources.close()
            self._log.end()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.workers} workers at {self.address}"
        return f"<Cluster {self.backend}, {self.mode}, {self.minimum} to {self.maximum}: {state}>"


def _client(where: Any, timeout_s: float, **options: Any) -> Any:
    import distributed

    return distributed.Client(where, set_as_default=False, timeout=timeout_s, **options)


def connect(address: str, **options: Any) -> Any:
    """A client of the scheduler at ``address``; options are those of ``distributed.Client``, such as ``security``.

    Raises:
        ClusterError: nobody answers there within ``CONNECT_S``.
    """
    logs = logging.getLogger("distributed.comm")
    level = logs.level
    logs.setLevel(logging.CRITICAL)  # what it would print at length, the error says in a line
    try:
        return _client(address, CONNECT_S, **options)
    except (OSError, TypeError) as error:
        raise ClusterError(
            f"a scheduler has to answer within {CONNECT_S:g} s, but there is none at {address} ({error}); check that "
            "it runs, the address, and for tls:// that security=distributed.Security(...) names its certificate"
        ) from error
    finally:
        logs.setLevel(level)


def _close_quietly(what: Any) -> None:
    """Close without the words of those that notice it before they are told, or that a lost scheduler cannot be told."""
    logs = logging.getLogger("distributed")
    level = logs.level
    logs.setLevel(logging.CRITICAL)
    try:
        what.close()
    finally:
        logs.setLevel(level)


@atexit.register
def _close_all() -> None:
    for cluster in [*_OPEN]:
        cluster.close()
