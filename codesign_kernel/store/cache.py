"""Results by the digest of what they were computed from, in tiers: the nearest that has one answers.

A tier that fails is passed over, and after some failures in a row left alone for a while: the work goes on with the
next one, and without any of them it is computed again. What comes back is checked: a value that was cut or changed on
its way is a miss. The values are bytes and are never interpreted here.

Results that are somebody's own go through :meth:`Cache.of`: their keys are bound to the owner, so that nobody else
finds them, or notices that they are there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from codesign_kernel.errors import InvalidInputError, StoreUnavailableError
from codesign_kernel.store.breaker import Breaker
from codesign_kernel.store.digests import checked_digest, checked_owner
from codesign_kernel.store.tiers import Tier

_SEAL = hashlib.sha256().digest_size
#: Under which :meth:`Cache.probe` puts its value.
_PROBE = hashlib.sha256(b"codesign cache probe").hexdigest()


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

    #: whose results these are; ``None``: everybody's
    owner: str | None = None

    def __init__(self, tiers: Sequence[Tier], breaker: Callable[[], Breaker] = Breaker) -> None:
        self._tiers = [_Guarded(tier, breaker()) for tier in tiers]

    def of(self, owner: str) -> Cache:
        """The same tiers, for results of ``owner`` alone.

        Raises:
            InvalidInputError: ``owner`` is no subject: 1 to 32 letters and digits.
        """
        own = Cache(())
        own._tiers, own.owner = self._tiers, checked_owner(owner)
        return own

    def erase(self, owner: str) -> dict[str, int]:
        """{tier: how many values of ``owner`` it forgot}.

        Raises:
            InvalidInputError: ``owner`` is no subject.
            StoreUnavailableError: a tier cannot be reached, so that something may be left in it.
        """
        checked_owner(owner)
        counts = {}
        for guarded in self._tiers:  # past the breaker: that it is open says nothing about what is in there
            try:
                counts[guarded.tier.name] = guarded.tier.erase(owner)
            except guarded.tier.lost as error:
                raise StoreUnavailableError(
                    f"what is erased goes from every tier of the cache, but {guarded.tier.name} cannot be reached "
                    f"({error}); start it, then repeat"
                ) from error
        return counts

    def _bound(self, key: str) -> str:
        """The key in the tiers: with an owner, one that is found only by who knows both."""
        checked_digest(key, "a key of the cache")
        return key if self.owner is None else hashlib.sha256(f"of {self.owner}:{key}".encode()).hexdigest()

    def get(self, key: str) -> bytes | None:
        """The value of ``key``, from the nearest tier that has it, which then the nearer ones have too.

        Raises:
            InvalidInputError: the key is no digest.
        """
        key = self._bound(key)
        for position, guarded in enumerate(self._tiers):
            answered, sealed = guarded.call(lambda guarded=guarded: guarded.tier.get(key, self.owner))  # type: ignore[misc]
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
        key = self._bound(key)
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

    def probe(self) -> dict[str, dict[str, Any]]:
        """Put a value into each tier and take it out again; {tier: as in :meth:`health`, and whether it ``answers``}.

        It goes through the breakers: a tier that is left alone is not asked, and one that is tried again may be back.
        """
        sealed = hashlib.sha256(b"probe").digest() + b"probe"
        answers = {}
        for guarded in self._tiers:
            guarded.call(lambda guarded=guarded: guarded.tier.put(_PROBE, sealed))  # type: ignore[misc]
            there, found = guarded.call(lambda guarded=guarded: guarded.tier.get(_PROBE))  # type: ignore[misc]
            answers[guarded.tier.name] = there and found == sealed
        return {tier: {**about, "answers": answers[tier]} for tier, about in self.health().items()}

    def _put(self, tiers: Sequence[_Guarded], key: str, sealed: bytes) -> None:
        for guarded in tiers:
            if len(sealed) <= guarded.tier.limit_bytes:
                guarded.call(lambda guarded=guarded: guarded.tier.put(key, sealed, self.owner))  # type: ignore[misc]


def _unsealed(sealed: bytes) -> bytes | None:
    """The content, or ``None`` if it is not what was put there."""
    content = sealed[_SEAL:]
    return content if hashlib.sha256(content).digest() == sealed[:_SEAL] else None
