"""When two requests are the same, and why one is not taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from codesign_kernel.errors import ServiceError
from codesign_kernel.store.jobs import JobRecord

#: Share of the queue that one person may fill, and seconds after which to try again.
SHARE, RETRY_S = 0.5, 5


class QueueFullError(ServiceError):
    """The queue takes no more; ``after_s`` says when to try again."""

    def __init__(self, message: str, after_s: int) -> None:
        super().__init__(message, 503, "queue_full")
        self.after_s = after_s


class ReusedKeyError(ServiceError):
    """An idempotency key was used before, for another request."""


def request_digest(kind: str, request: Any) -> str:
    """sha256 of what is asked: equal requests, equal digest, whatever the order of their keys."""
    text = json.dumps([kind, request], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def same_request(known: JobRecord, digest: str) -> JobRecord:
    """The job that an idempotency key names already.

    Raises:
        ReusedKeyError: it was another request's.
    """
    if known.request_digest != digest:
        raise ReusedKeyError(
            "an idempotency key stands for one request, but this one was used for another; use a new key",
            422, "key_reused",
        )  # fmt: skip
    return known


def check_room(waiting: Mapping[str, tuple[int, Any]], owner: str, most: int) -> None:
    """Refuse a job where ``most`` wait, or half of them are ``owner``'s; ``waiting`` is {owner: (how many, since)}.

    Raises:
        QueueFullError: there is no room.
    """
    if sum(count for count, _ in waiting.values()) >= most:
        raise QueueFullError(f"at most {most:,} jobs wait (max_queued_jobs), and so many do; try later", RETRY_S)
    if waiting.get(owner, (0, None))[0] >= max(1, int(most * SHARE)):
        raise QueueFullError(f"of one person at most {int(most * SHARE):,} jobs wait, and so many do", RETRY_S)
