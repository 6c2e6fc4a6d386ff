"""How often somebody may ask: one table, counted in Redis where several gateways share it, else in this process.

A lost Redis is counted for by this process until it is back: nothing is let through uncounted, and nothing fails.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.server.settings import Settings
from codesign_kernel.store.breaker import Breaker

#: {name: (limit in the words of the library ``limits``, what is counted)}. Who is signed in is counted by person, else
#: by address.
RATES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "login": ("20/10minutes", "wrong passwords and tokens from one address"),
        "name": ("5/5minutes", "wrong passwords for one name from one address"),
        "anywhere": ("100/hour", "wrong passwords for one name, from wherever"),
        "guest": ("10/minute", "visits of guests from one address"),
        "page": ("300/minute", "our own pages, and asking for a place in an app"),
        "api": ("6000/minute", "requests of the REST API"),
        "submit": ("3000/minute", "jobs handed in"),
        "render": ("20/minute", "apps opened"),
        "static": ("6000/minute", "files that pages are made of"),
        "upload": ("20/minute", "files uploaded"),
        "change": ("120/hour", "changes on one's account page: tokens, sign-ins, password, answers"),
        "export": ("6/hour", "exports and erasures of one's data"),
        "socket": ("60/minute", "connections to a kernel opened"),
        "message": ("2400/minute", "messages to a kernel, for each connection"),
    }
)
#: Seconds that a request waits for Redis at most.
_PATIENCE_S = 0.25


class Rates:
    """Counts, and says who has to wait.

    Args:
        settings: ``rates`` overrides the table, ``redis_url`` names the Redis that counts.
        breaker: of Redis.

    Raises:
        InvalidInputError: a name or a limit of ``settings.rates`` is none.
    """

    def __init__(self, settings: Settings, breaker: Breaker | None = None) -> None:
        self._items = {name: _item(name, settings.rates.get(name, rate)) for name, (rate, _) in RATES.items()}
        if unknown := sorted(set(settings.rates) - set(RATES)):
            raise InvalidInputError(f"rates are of {', '.join(RATES)}, but the settings have {', '.join(unknown)}")
        self._here = MovingWindowRateLimiter(MemoryStorage())
        self._redis: MovingWindowRateLimiter | None = None
        if settings.redis_url:
            self._redis = MovingWindowRateLimiter(_redis_storage(settings.redis_url))
        self.breaker = breaker or Breaker(failures=2, pause_s=5.0)

    def take(self, what: str, who: str) -> float | None:
        """Count one ``what`` of ``who``: ``None`` if it is within the limit, else the seconds to wait.

        Args:
            what: of :data:`RATES`.
            who: a person's subject or an address, see :func:`address_key`.
        """
        return self._counted(lambda limiter: _take(limiter, self._items[what], what, who))

    def wait(self, what: str, who: str, more: int = 0) -> float | None:
        """The seconds that ``take`` would tell to wait, if ``more`` were taken before; nothing is counted."""
        return self._counted(lambda limiter: _look(limiter, self._items[what], what, who, more))

    def window(self, what: str) -> tuple[int, float]:
        """How many of ``what`` there may be in how many seconds."""
        item = self._items[what]
        return item.amount, float(item.get_expiry())

    def _counted(self, work: Callable[[MovingWindowRateLimiter], float | None]) -> float | None:
        if self._redis is not None and self.breaker.allows():
            try:
                wait_s = work(self._redis)
            except StorageError:
                self.breaker.failed()
            else:
                self.breaker.succeeded()
                return wait_s
        return work(self._here)

    def health(self) -> dict[str, object]:
        """Where is counted now: ``redis`` or ``process``, and whether that is less than what was asked for."""
        there = self._redis is not None and self.breaker.state == "closed"
        return {
            "counted_in": "redis" if there else "process",
            "degraded": self._redis is not None and not there,
            "breaker": self.breaker.state,
            "trips": self.breaker.trips,
        }


def _item(name: str, rate: object) -> RateLimitItem:
    try:
        return parse(str(rate))
    except ValueError as error:
        raise InvalidInputError(f"a rate is such as '30/minute', but {name} is {rate!r:.40}") from error


def _redis_storage(url: str) -> RedisStorage:
    # the library's own scheme for a socket; nothing is asked of the server until the first request
    return RedisStorage(
        url.replace("unix://", "redis+unix://", 1) if url.startswith("unix://") else url,
        wrap_exceptions=True,
        socket_timeout=_PATIENCE_S,
        socket_connect_timeout=_PATIENCE_S,
    )


def _look(limiter: MovingWindowRateLimiter, item: RateLimitItem, what: str, who: str, more: int) -> float | None:
    stats = limiter.get_window_stats(item, what, who)
    return None if stats.remaining > more else max(1.0, math.ceil(stats.reset_time - time.time()))


def _take(limiter: MovingWindowRateLimiter, item: RateLimitItem, what: str, who: str) -> float | None:
    if limiter.hit(item, what, who):
        return None
    reset_s = limiter.get_window_stats(item, what, who).reset_time
    return max(1.0, math.ceil(reset_s - time.time()))


def address_key(address: str | None) -> str:
    """Who an address is: itself, or the network of 64 bits that one person has of IPv6."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "address:unknown"
    if found.version == 6:
        return f"address:{ipaddress.ip_network((found, 64), strict=False)}"
    return f"address:{found}"


class Meter:
    """At most ``amount`` in ``window_s`` seconds, of one thing in this process: a bucket that refills evenly."""

    def __init__(self, amount: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._amount, self._rate, self._clock = amount, amount / window_s, clock
        self._left, self._at_s = float(amount), clock()

    def take(self) -> bool:
        """Count one; whether it is within the limit."""
        now = self._clock()
        self._left = min(self._amount, self._left + (now - self._at_s) * self._rate)
        self._at_s = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Lines:
    """How many lines of the log one kernel may fill: a visitor makes it complain as often as a page may speak.

    Args:
        most: in all.
        amount, window_s: of them in so many seconds.
        clock: seconds that never go back.

    Attributes:
        left_out: how many there were no room for.
    """

    def __init__(
        self, most: int = 100, amount: int = 20, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._meter, self._left = Meter(amount, window_s, clock), most
        self._told = self.left_out = 0

    def take(self) -> str | None:
        """What the next line begins with: empty, or how many were left out before it; ``None``: leave it out too."""
        if self._left < 1 or not self._meter.take():
            self.left_out += 1
            return None
        self._left -= 1
        since, self._told = self.left_out - self._told, self.left_out
        words = f"({since:,} lines of this kernel were left out) " if since else ""
        return words if self._left else f"{words}(the last line of this kernel that is logged) "
