"""The tiers of the cache: memory, Redis, the database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import delete, func, select

from codesign_kernel.errors import InvalidInputError, StoreError
from codesign_kernel.store.database import Database
from codesign_kernel.store.schema import CacheRow


class Tier(Protocol):
    """Somewhere that bytes are found again by their key.

    A value may have an owner. The key of one that does is bound to the owner already (:meth:`Cache.of`); a tier is told
    the owner too, so that it can forget all that is theirs.
    """

    name: str
    #: a value larger than this many bytes is not put here
    limit_bytes: int
    #: what it raises when it is lost
    lost: tuple[type[Exception], ...]

    def get(self, key: str, owner: str | None = None) -> bytes | None:
        """The bytes, or ``None`` if they are not here."""

    def put(self, key: str, content: bytes, owner: str | None = None) -> None:
        """Keep the bytes; they may be gone at any time."""

    def erase(self, owner: str) -> int:
        """Forget all that is the owner's; how many values that were."""


class MemoryTier:
    """The values used last, ``limit_bytes`` of them in all."""

    name = "memory"
    lost: tuple[type[Exception], ...] = ()

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        #: bytes held now
        self.bytes = 0
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, key: str, owner: str | None = None) -> bytes | None:
        """The bytes, which are then the ones used last."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key]

    def put(self, key: str, content: bytes, owner: str | None = None) -> None:
        """Keep the bytes, and let go of those that were not used for the longest time."""
        with self._lock:
            self._forget(key)
            self._held[key] = content
            self.bytes += len(content)
            if owner is not None:
                self._owners[key] = owner
            while self.bytes > self.limit_bytes:
                self._forget(next(iter(self._held)))

    def erase(self, owner: str) -> int:
        """Forget all that is the owner's in this process; how many values that were."""
        with self._lock:
            keys = [key for key, of in self._owners.items() if of == owner]
            for key in keys:
                self._forget(key)
        return len(keys)

    def _forget(self, key: str) -> None:
        self.bytes -= len(self._held.pop(key, b""))
        self._owners.pop(key, None)


class RedisTier:
    """A Redis that processes and machines share. It is asked for at most ``timeout_s`` at a time.

    Args:
        url: ``redis://host:port/number``, ``rediss://`` or ``unix://``.
        ttl_s: seconds after which it may forget a value.

    Raises:
        InvalidInputError: the URL is none of these.
    """

    name = "redis"
    limit_bytes = 64 << 20

    def __init__(self, url: str, ttl_s: float, timeout_s: float = 1.0) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.lost: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        try:
            # one repetition: a connection kept since before Redis started again fails once
            self._redis: Any = redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 1)
            )
        except ValueError as error:
            raise InvalidInputError(
                "the URL of Redis cannot be read; write redis://host:6379/0, rediss:// or unix:///path"
            ) from error
        self._ttl_ms = int(ttl_s * 1000)

    def get(self, key: str, owner: str | None = None) -> bytes | None:
        """The bytes under the key of that name."""
        found = self._redis.get(_redis_key(key, owner))
        return None if found is None else bytes(found)

    def put(self, key: str, content: bytes, owner: str | None = None) -> None:
        """Keep the bytes until their time is over, or Redis wants the room."""
        self._redis.set(_redis_key(key, owner), content, px=self._ttl_ms)

    def erase(self, owner: str) -> int:
        """Forget every value whose key names the owner, counts of requests too; how many values that were."""
        count = 0
        # an owner is a random name of letters and digits: nothing in it means something in a pattern, or is in others
        for key in self._redis.scan_iter(match=f"*{owner}*", count=1000):
            count += int(self._redis.unlink(key))
        return count

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _redis_key(key: str, owner: str | None) -> str:
    return f"codesign:cache:{key}" if owner is None else f"codesign:cache:of:{owner}:{key}"


class DatabaseTier:
    """The database of the store: slower, and it keeps what it has until it is trimmed."""

    name = "database"
    limit_bytes = 512 << 20
    lost: tuple[type[Exception], ...] = (StoreError,)

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, owner: str | None = None) -> bytes | None:
        """The bytes of the row of that key."""
        with self._database.read() as connection:
            found = connection.execute(select(CacheRow.content).where(CacheRow.key == key)).scalar_one_or_none()
        return None if found is None else bytes(found)

    def put(self, key: str, content: bytes, owner: str | None = None) -> None:
        """Keep the bytes in a row of their own."""
        row = {"key": key, "size": len(content), "content": content, "written_at": datetime.now(UTC), "owner": owner}
        with self._database.write() as connection:
            self._database.replace(connection, CacheRow, row)

    def erase(self, owner: str) -> int:
        """Forget all rows of the owner; how many that were."""
        with self._database.write() as connection:
            return connection.execute(delete(CacheRow).where(CacheRow.owner == owner)).rowcount

    def trim(self, limit_bytes: int) -> int:
        """Forget the oldest, until ``limit_bytes`` are left; how many values that were."""
        newest_first = (CacheRow.written_at.desc(), CacheRow.key)
        running = func.sum(CacheRow.size).over(order_by=newest_first).label("running")
        sums = select(CacheRow.key, running).subquery()
        beyond = select(sums.c.key).where(sums.c.running > limit_bytes)
        with self._database.write() as connection:
            return connection.execute(delete(CacheRow).where(CacheRow.key.in_(beyond))).rowcount
