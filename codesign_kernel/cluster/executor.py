"""Work through Dask: items in batches that outweigh the scheduler's cost, results as they come."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import math
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from uuid import uuid4

import distributed
from distributed.comm import CommClosedError
from distributed.protocol.pickle import dumps, loads

from codesign_kernel import __version__
from codesign_kernel.errors import ClusterError, CodesignError

_PACKAGE = "codesign_kernel"
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
Item = TypeVar("Item")
Result = TypeVar("Result")

#: How long a batch should run (s). Scheduler, client and connections spend 5 to 10 ms on one, on the cores that the
#: workers of a small machine need: 1 to 2 %.
BATCH_S = 0.5
#: Batches in flight for each worker that there may be, and at least: enough that the queue tells a policy of the work
#: behind it (which counts from ten tasks on), few enough that little is cancelled when the caller stops early.
PER_WORKER, AT_LEAST = 2, 32


@lru_cache(maxsize=16)
def _function(digest: str, pickled: _Bytes) -> Callable[[Any], Any]:
    """A worker unpickles a function once, not for each batch."""
    return loads(pickled.value)


class _Bytes:
    """Bytes that count as equal, so that the digest alone decides."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes)


class _Call:
    """To unpickle it is to call :func:`evaluate_batch`.

    A task is handed over as ``pickle.loads`` of these bytes, so that neither the scheduler nor the connection of a
    worker has to know this package or the items: a worker that fails to read a message dies of it without a word, but
    what a task raises comes back. It also spares the scheduler reading and writing all items.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return evaluate_batch, self.arguments


def evaluate_batch(release: str, digest: str, pickled: bytes, items: bytes) -> tuple[list[Any], float]:
    """(results of the pickled ``items``, seconds that they took); runs on a worker.

    Raises:
        ClusterError: the worker has another release of this package, whose numbers may differ, or lacks what the
            function or the items are made of.
    """
    if release != __version__:
        raise ClusterError(
            f"workers have the caller's release of codesign-playground, {release}, but a worker has {__version__}; "
            "install the same there"
        )
    try:
        function, each = _function(digest, _Bytes(pickled)), loads(items)
    except (ImportError, AttributeError) as error:  # no such module, or a module of that name without the function
        raise ClusterError(
            f"a worker has to be able to import the function and its items, but {error}; install their module there, "
            "or move them into one that is"
        ) from error
    start_s = time.perf_counter()
    results = [function(item) for item in each]
    return results, time.perf_counter() - start_s


class DaskExecutor:
    """Applies a function to items on the workers of a cluster.

    Args:
        client: of the cluster.
        most: workers that there may be; ``PER_WORKER`` times as many batches are in flight, ``AT_LEAST`` at least.
        retries: how often a batch is tried again whose function raised. (What a lost worker had is always run again.)
        batch_s: how long a batch should run (s).
        in_flight: batches that are in flight at most: so many workers are busy at most, and others' work has the rest.
    """

    def __init__(
        self,
        client: distributed.Client,
        most: int,
        *,
        retries: int = 0,
        batch_s: float = BATCH_S,
        in_flight: int | None = None,
    ) -> None:
        self.client, self.retries, self.batch_s, self.in_flight = client, retries, batch_s, in_flight
        self.most = most
        #: Seconds that workers spent in the function, over all runs.
        self.busy_s = 0.0

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position of an item, what ``function`` made of it), as they complete, each exactly once.

        The first batches are of one item each, to learn how long an item takes. What is under way is cancelled when the
        caller stops early. Before anything is raised, what else has finished is yielded.

        Raises:
            ClusterError: a batch cost several workers their lives, the scheduler is gone, or a worker lacks this
                package or the module of ``function`` or of an item.
            Exception: what ``function`` raised, with a note of the items.
        """
        pickled = dumps(function)
        call = (__version__, hashlib.sha256(pickled).hexdigest(), pickled)
        name = f"evaluate_batch-{uuid4().hex[:12]}"
        under_way: dict[Any, tuple[int, int, distributed.Future]] = {}
        done = distributed.as_completed(with_results=False, loop=self.client.loop)
        start, item_s = 0, 0.0
        try:
            while start < len(items) or under_way:
                while start < len(items) and len(under_way) < self._window(item_s):
                    end = start + self._size(item_s, len(items) - start)
                    batch = dumps(_Call(*call, dumps(items[start:end])))
                    future = self.client.submit(
                        pickle.loads, batch, key=f"{name}-{start}", retries=self.retries, pure=False
                    )
                    under_way[future.key] = (start, end, future)
                    done.add(future)
                    start = end
                future = next(done)
                first, last, _ = under_way.pop(future.key)
                answer = _answer(future, first, last)
                if isinstance(answer, BaseException):
                    yield from self._rest(under_way)
                    raise answer
                results, seconds = answer
                self.busy_s += seconds
                measured = seconds / (last - first)
                item_s = max(measured, 1e-6) if not item_s else 0.7 * item_s + 0.3 * measured
                yield from zip(range(first, last), results, strict=True)
        finally:
            if self.client.status == "running":
                self.client.cancel([future for _, _, future in under_way.values()])

    def _window(self, item_s: float) -> int:
        """Batches that may be in flight: of one item each, no more than there are workers, before one is measured."""
        if not item_s:
            there = max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))
            return min(there, self.in_flight or there)
        return self.in_flight or max(AT_LEAST, PER_WORKER * self.most)

    def _size(self, item_s: float, left: int) -> int:
        """Items of the next batch: ``batch_s`` of them, and fewer towards the end, so that no worker ends alone."""
        if not item_s:
            return 1
        fair = math.ceil(left / (2 * self.most))
        return max(1, min(math.ceil(self.batch_s / item_s), max(fair, math.ceil(0.1 / item_s)), left))

    def _rest(self, under_way: dict[Any, tuple[int, int, distributed.Future]]) -> Iterator[tuple[int, Any]]:
        """What has finished of ``under_way``: it is not lost because another batch failed."""
        for first, last, future in under_way.values():
            answer = _answer(future, first, last) if future.status == "finished" else None
            if isinstance(answer, tuple):
                self.busy_s += answer[1]
                yield from zip(range(first, last), answer[0], strict=True)

    def close(self) -> None:
        """Nothing is held beyond the cluster, which has its own ``close``."""


def _answer(future: distributed.Future, first: int, last: int) -> tuple[list[Any], float] | BaseException:
    """What :func:`evaluate_batch` returned of the items ``first`` to ``last - 1``, or what is to be raised."""
    try:
        # a result that died with its worker before it was fetched is "lost" until it has been computed again elsewhere;
        # what was cancelled was not cancelled by us: the client does that when it has lost the scheduler
        error = None if future.status == "cancelled" else future.exception()
        if future.status == "cancelled" or isinstance(error, _CANCELLED):
            raise CommClosedError("the work was cancelled")
        if error is None:
            return future.result()
    except (OSError, *_CANCELLED) as gone:  # on the way; what the function raised is in ``error``
        return _because(
            f"the scheduler is gone, and with it items {first} to {last - 1} ({gone}); what was yielded before is "
            "complete: start a cluster again and give it the rest",
            gone,
        )
    if isinstance(error, distributed.KilledWorker):
        return _because(
            f"items {first} to {last - 1} were on {error.allowed_failures + 1} workers one after the other that "
            "died; most likely they need more memory than a worker has (memory_limit), or crash the process: "
            "run function(items[i]) on its own",
            error,
        )
    if isinstance(error, ImportError) and not isinstance(error, CodesignError) and _PACKAGE in str(error):
        return _because(
            f"workers have codesign-playground {__version__} as the caller has, but one of them cannot load it "
            f"({error}); install it there",
            error,
        )
    error.add_note(f"raised by one of the items {first} to {last - 1}")
    return error


def _because(told: str, cause: BaseException) -> ClusterError:
    error = ClusterError(told)
    error.__cause__ = cause
    return error
