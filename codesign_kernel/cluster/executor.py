"""Work through Dask: items in batches that outweigh the scheduler's cost, results as they come."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from uuid import uuid4

import distributed
from distributed.comm import CommClosedError
from distributed.protocol.pickle import dumps, loads

from codesign_kernel.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: How long a batch should run: Dask spends about 2 ms on a task, and 94 % of the workers' time is work at 100 ms.
BATCH_S = 0.25
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


def evaluate_batch(digest: str, pickled: bytes, items: Sequence[Any]) -> tuple[list[Any], float]:
    """(results of ``items``, seconds that they took); runs on a worker."""
    function = _function(digest, _Bytes(pickled))
    start_s = time.perf_counter()
    results = [function(item) for item in items]
    return results, time.perf_counter() - start_s


class DaskExecutor:
    """Applies a function to items on the workers of a cluster.

    Args:
        client: of the cluster.
        most: workers that there may be; ``PER_WORKER`` times as many batches are in flight, ``AT_LEAST`` at least.
        retries: how often a batch is tried again whose function raised. (What a lost worker had is always run again.)
        batch_s: how long a batch should run (s).
    """

    def __init__(self, client: distributed.Client, most: int, *, retries: int = 0, batch_s: float = BATCH_S) -> None:
        self.client, self.retries, self.batch_s = client, retries, batch_s
        self.most = most
        #: Seconds that workers spent in the function, over all runs.
        self.busy_s = 0.0

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position of an item, what ``function`` made of it), as they complete, each exactly once.

        The first batches are of one item each, to learn how long an item takes. What is under way is cancelled when the
        caller stops early.

        Raises:
            ClusterError: a batch cost several workers their lives, or the scheduler is gone.
            Exception: what ``function`` raised, with a note of the items.
        """
        pickled = dumps(function)
        call = (hashlib.sha256(pickled).hexdigest(), pickled)
        name = f"evaluate_batch-{uuid4().hex[:12]}"
        under_way: dict[Any, tuple[int, int, distributed.Future]] = {}
        done = distributed.as_completed(with_results=False, loop=self.client.loop)
        start, item_s = 0, 0.0
        try:
            while start < len(items) or under_way:
                while start < len(items) and len(under_way) < self._window(item_s):
                    end = start + self._size(item_s, len(items) - start)
                    future = self.client.submit(
                        evaluate_batch, *call, items[start:end], key=f"{name}-{start}", retries=self.retries, pure=False
                    )
                    under_way[future.key] = (start, end, future)
                    done.add(future)
                    start = end
                future = next(done)
                first, last, _ = under_way.pop(future.key)
                results, seconds = self._result(future, first, last)
                self.busy_s += seconds
                measured = seconds / (last - first)
                item_s = max(measured, 1e-6) if not item_s else 0.7 * item_s + 0.3 * measured
                yield from zip(range(first, last), results, strict=True)
        finally:
            if self.client.status == "running":
                self.client.cancel([future for _, _, future in under_way.values()])

    def _window(self, item_s: float) -> int:
        """Batches that may be in flight: of one item each, no more than there are workers, before one is measured."""
        return (
            max(AT_LEAST, PER_WORKER * self.most)
            if item_s
            else max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))
        )

    def _size(self, item_s: float, left: int) -> int:
        """Items of the next batch: ``batch_s`` of them, and fewer towards the end, so that no worker ends alone."""
        if not item_s:
            return 1
        fair = math.ceil(left / (2 * self.most))
        return max(1, min(math.ceil(self.batch_s / item_s), max(fair, math.ceil(0.1 / item_s)), left))

    def _result(self, future: distributed.Future, first: int, last: int) -> tuple[list[Any], float]:
        try:
            if future.status in ("cancelled", "lost"):
                raise CommClosedError("it was lost")
            error = future.exception()
            if error is None:
                return future.result()
        except OSError as gone:  # on the way from the scheduler; what the function raised is in ``error``
            raise ClusterError(
                f"the scheduler is gone, and with it items {first} to {last - 1} ({gone}); what was yielded before is "
                "complete: start a cluster again and give it the rest"
            ) from gone
        if isinstance(error, distributed.KilledWorker):
            raise ClusterError(
                f"items {first} to {last - 1} were on {error.allowed_failures + 1} workers one after the other that "
                "died; most likely they need more memory than a worker has (memory_limit), or crash the process: "
                "run function(items[i]) on its own"
            ) from error
        error.add_note(f"raised by one of the items {first} to {last - 1}")
        raise error

    def close(self) -> None:
        """Nothing is held beyond the cluster, which has its own ``close``."""
