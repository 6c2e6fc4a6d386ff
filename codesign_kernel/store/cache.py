"""Results by the digest of what they were computed from, in tiers: the nearest that has one answers.

A tier that fails is passed over, and after some failures in a row left alone for a while: the work goes on with the
next one, and without any of them it is computed again. What comes back is checked: a value that was cut or changed on
its way is a miss. The values are bytes and are never interpreted here.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.breaker import Breaker
from codesign_kernel.store.digests import checked_digest
from codesign_kernel.store.tiers import Tier

_SEAL = hashlib.sha256().digest_size


@dataclass
class _Guarded:
    """A tier, its breaker, and its counts."""

    tier: Tier
    breaker: Breaker
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("hits", "misses", "errors", "skipped"), 0))
    error: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def call(self, work: Callable[[], Any]) -> tuple[bool, Any]:
        """(whether it answered, the answer)."""
        if not self.breaker.allows():
            self.count("skipped")
            return False, None
        try:
            answer = work()
        except self.tier.lost as error:
            self.breaker.failed()
            self.count("errors")
            self.error = str(error)
            return False, None
        self.breaker.succeeded()
        return True, answer

    def health(self) -> dict[str, Any]:
        with self.lock:
            return {
                "state": self.breaker.state,
                **self.counts,
                "trips": self.breaker.trips,
                "last_error": self.error,
            }


class Cache:
    """The tiers, nearest first. Threads may share it.

    Args:
        tiers: nearest first.
        breaker: makes a breaker for each.
    """

    def __init__(self, tiers: Sequence[Tier], breaker: Callable[[], Breaker] = Breaker) -> None:
        self._tiers = [_Guarded(tier, breaker()) for tier in tiers]

    def get(self, key: str) -> bytes | None:
        """The value of ``key``, from the nearest tier that has it, which then the nearer ones have too.

        Raises:
            InvalidInputError: the key is no digest.
        """
        checked_digest(key, "a key of the cache")
        for position, guarded in enumerate(self._tiers):
            answered, sealed = guarded.call(lambda guarded=guarded: guarded.tier.get(key))  # type: ignore[misc]
            if not answered:
                continue
            content = None if sealed is None else _unsealed(sealed)
            guarded.count("misses" if content is None else "hits")
            if content is not None:
                self._put(self._tiers[:position], key, sealed)
                return content
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` in every tier that takes it; a tier that cannot is counted, and is no error.

        Raises:
            InvalidInputError: the key is no digest, or the content no bytes.
        """
        checked_digest(key, "a key of the cache")
        if not isinstance(content, bytes):
            raise InvalidInputError(f"the cache keeps bytes, but got {type(content).__name__}; encode it, as JSON say")
        self._put(self._tiers, key, hashlib.sha256(content).digest() + content)

    def fetch(self, key: str, compute: Callable[[], bytes]) -> bytes:
        """The value of ``key``; where no tier has it, it is computed and kept."""
        found = self.get(key)
        if found is None:
            found = compute()
            self.put(key, found)
        return found

    def health(self) -> dict[str, dict[str, Any]]:
        """{tier: its breaker's state, hits, misses, errors, calls skipped, trips, last error}."""
        return {guarded.tier.name: guarded.health() for guarded in self._tiers}

    def _put(self, tiers: Sequence[_Guarded], key: str, sealed: bytes) -> None:
        for guarded in tiers:
            if len(sealed) <= guarded.tier.limit_bytes:
                guarded.call(lambda guarded=guarded: guarded.tier.put(key, sealed))  # type: ignore[misc]


def _unsealed(sealed: bytes) -> bytes | None:
    """The content, or ``None`` if it is not what was put there."""
    content = sealed[_SEAL:]
    return content if hashlib.sha256(content).digest() == sealed[:_SEAL] else None
