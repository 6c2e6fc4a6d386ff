"""The cache: the nearest tier answers, a lost one is passed over, and everything is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Postgres, Redis

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store import Breaker, Cache, digest_of
from codesign_kernel.store.tiers import DatabaseTier, MemoryTier, RedisTier

KEY = digest_of({"network": "a", "design": 1})
OTHER = digest_of({"network": "a", "design": 2})


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_breaker_opens_waits_tries_and_closes() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, pause_s=5, clock=clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        assert breaker.allows()
        breaker.failed()
    assert (breaker.state, breaker.trips) == ("closed", 0), "only failures in a row count"
    breaker.failed()
    assert (breaker.state, breaker.trips) == ("open", 1)
    clock.now_s += 4.9
    assert not breaker.allows()
    clock.now_s += 0.2
    assert breaker.state == "half-open"
    assert breaker.allows()
    assert not breaker.allows(), "one trial at a time"
    breaker.failed()
    assert (breaker.state, breaker.trips, breaker.allows()) == ("open", 2, False)
    clock.now_s += 5
    assert breaker.allows()
    breaker.succeeded()
    assert (breaker.state, breaker.allows()) == ("closed", True)


def test_a_late_failure_does_not_open_it_twice() -> None:
    breaker = Breaker(failures=1, pause_s=5, clock=Clock())
    breaker.failed()
    breaker.failed()
    assert breaker.trips == 1


def test_a_lost_trial_is_followed_by_another() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, pause_s=5, clock=clock)
    breaker.failed()
    clock.now_s += 5
    assert breaker.allows()
    clock.now_s += 5
    assert breaker.allows()


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 1), (1, 0), (1, float("nan"))])
def test_a_breaker_that_never_closes_is_refused(failures: int, pause_s: float) -> None:
    with pytest.raises(InvalidInputError, match="choose larger numbers"):
        Breaker(failures, pause_s)


def test_the_memory_lets_go_of_what_was_used_longest_ago() -> None:
    tier = MemoryTier(10)
    tier.put("a", b"aaaa")
    tier.put("b", b"bbbb")
    assert tier.get("a") == b"aaaa"
    tier.put("c", b"cccc")
    assert [tier.get(key) for key in "abc"] == [b"aaaa", None, b"cccc"]
    tier.put("c", b"c")
    assert tier.bytes == 5


def test_memory_shared_by_threads_stays_in_bounds() -> None:
    tier = MemoryTier(1000)

    def work(start: int) -> None:
        for number in range(start, start + 2000):
            tier.put(str(number % 97), b"x" * (number % 50))
            tier.get(str(number % 89))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tier.bytes == sum(len(tier.get(str(n)) or b"") for n in range(97)) <= 1000


def test_a_value_goes_up_to_the_nearer_tiers(store_url: str) -> None:
    with ck.Store(store_url) as store:
        assert store.cache.get(KEY) is None
        store.cache.put(KEY, b"value")
        assert store.cache.get(KEY) == b"value"
        told = store.health()["cache"]
        assert (told["memory"]["hits"], told["memory"]["misses"]) == (1, 1)
        assert (told["database"]["hits"], told["database"]["misses"]) == (0, 1)
    with ck.Store(store_url) as again:
        assert [again.cache.get(KEY) for _ in range(3)] == [b"value"] * 3
        told = again.health()["cache"]
        assert (told["memory"]["hits"], told["memory"]["misses"], told["database"]["hits"]) == (2, 1, 1)
        assert again.cache.fetch(KEY, lambda: pytest.fail("it is there")) == b"value"
        assert again.cache.fetch(OTHER, lambda: b"new") == b"new"
        assert again.cache.get(OTHER) == b"new"


def test_a_changed_value_is_a_miss(store_url: str) -> None:
    with ck.Store(store_url, memory_bytes=0) as store:
        store.cache.put(KEY, b"value")
        DatabaseTier(store._database).put(KEY, b"not what was put there, and long enough to hold a digest")
        assert store.cache.get(KEY) is None
        assert store.health()["cache"]["database"]["misses"] == 1
        store.cache.put(KEY, b"value")
        assert store.cache.get(KEY) == b"value"


def test_the_oldest_are_trimmed(store_url: str) -> None:
    with ck.Store(store_url, memory_bytes=0) as store:
        for number in range(5):
            store.cache.put(digest_of(number), b"x" * 968)  # 1,000 bytes with its own digest
        assert store.trim_cache(2999) == 3
        assert [store.cache.get(digest_of(number)) is not None for number in range(5)] == [False] * 3 + [True] * 2
        assert store.trim_cache(2999) == 0


def test_what_is_no_key_or_value_is_refused(tmp_path: Path) -> None:
    with ck.Store(tmp_path / "s.db") as store:
        with pytest.raises(InvalidInputError, match="a key of the cache is a SHA-256"):
            store.cache.get("key")
        with pytest.raises(InvalidInputError, match="the cache keeps bytes, but got str"):
            store.cache.put(KEY, "text")
        with pytest.raises(InvalidInputError, match="write redis://host"):
            ck.Store(tmp_path / "s.db", redis_url="http://host")


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis that a test may kill."""
    with Redis() as server:
        yield server


@pytest.mark.redis
def test_redis_is_shared_and_forgets(redis: Redis, tmp_path: Path) -> None:
    with (
        ck.Store(tmp_path / "a.db", redis_url=redis.url) as one,
        ck.Store(tmp_path / "b.db", redis_url=redis.url, redis_ttl_s=0.05) as other,
    ):
        one.cache.put(KEY, b"value")
        assert other.cache.get(KEY) == b"value"
        assert other.health()["cache"]["redis"]["hits"] == 1
        other.cache.put(OTHER, b"short")
        time.sleep(0.2)
        assert one.cache.get(OTHER) is None
        assert other.cache.get(OTHER) == b"short", "it is in the other tiers"


@pytest.mark.redis
def test_a_value_too_large_for_redis_goes_on(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisTier, "limit_bytes", 100)
    with ck.Store(tmp_path / "a.db", redis_url=redis.url, memory_bytes=0) as store:
        store.cache.put(digest_of("large"), b"x" * 100)
        assert store.cache.get(digest_of("large")) == b"x" * 100
        told = store.health()["cache"]
        assert (told["redis"]["misses"], told["redis"]["errors"], told["database"]["hits"]) == (1, 0, 1)


@pytest.mark.redis
def test_redis_is_killed_in_the_middle(own_redis: Redis, tmp_path: Path) -> None:
    """Nothing is lost, the work goes on without it, and with it again when it is back."""
    clock = Clock()
    store = ck.Store(tmp_path / "s.db")
    redis_tier = RedisTier(own_redis.url, ttl_s=60, timeout_s=30)  # a slow answer is no error
    cache = Cache([redis_tier, DatabaseTier(store._database)], lambda: Breaker(clock=clock))
    expected = {digest_of(number): b"%d" % number for number in range(60)}
    for number, (key, value) in enumerate(expected.items()):
        if number == 20:
            own_redis.kill()
        if number == 40:
            assert cache.health()["redis"]["state"] == "open"
            own_redis.start()
            clock.now_s += 10
            assert cache.health()["redis"]["state"] == "half-open"
        cache.put(key, value)
    assert {key: cache.get(key) for key in expected} == expected
    told = cache.health()
    assert (told["redis"]["state"], told["redis"]["errors"], told["redis"]["trips"]) == ("closed", 3, 1)
    assert told["redis"]["skipped"] == 17
    assert (told["redis"]["hits"], told["database"]["hits"]) == (20, 40), "Redis forgot the first 20, and missed 20"
    assert "redis.sock" in told["redis"]["last_error"]
    redis_tier.close()
    store.close()


@pytest.mark.postgres
def test_postgresql_is_lost_and_the_cache_goes_on() -> None:
    clock = Clock()
    with Postgres() as server, ck.Store(server.new_store()) as store:
        cache = Cache([MemoryTier(1000), DatabaseTier(store._database)], lambda: Breaker(clock=clock))
        cache.put(KEY, b"value")
        server.kill()
        assert cache.get(KEY) == b"value"
        for number in range(5):
            assert cache.fetch(digest_of(number), lambda: b"computed") == b"computed"
        told = cache.health()["database"]
        assert (told["state"], told["errors"]) == ("open", 3)
        health = store.health()["database"]
        assert not health["reachable"]
        assert "cannot be reached" in health["detail"]
        server.start()
        clock.now_s += 10
        cache.put(OTHER, b"again")
        assert cache.health()["database"]["state"] == "closed"
        assert store.health()["database"]["reachable"]
