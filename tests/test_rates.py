"""Rates: the limit holds for each person alone, in this process and across processes, and whatever becomes of Redis."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("limits")

from codesign_kernel.server.rates import RATES, Rates
from codesign_kernel.server.settings import Settings
from codesign_kernel.store.breaker import Breaker

if TYPE_CHECKING:
    from servers import Redis


def taken(rates: Rates, times: int, who: str = "a", what: str = "upload") -> list[bool]:
    """Whether each of several was within the limit."""
    return [rates.take(what, who) is None for _ in range(times)]


def test_who_asks_too_often_waits_and_others_do_not() -> None:
    rates = Rates(Settings(rates={"upload": "3/minute"}))
    assert taken(rates, 5) == [True, True, True, False, False]
    assert taken(rates, 1, "b") == [True]
    assert rates.take("render", "a") is None
    wait_s = rates.take("upload", "a")
    assert wait_s is not None
    assert 1 <= wait_s <= 60


def test_every_rate_of_the_table_is_one_and_says_what_it_counts() -> None:
    rates = Rates(Settings())
    for name, (_, what) in RATES.items():
        amount, window_s = rates.window(name)
        assert amount >= 1
        assert window_s >= 1
        assert what
        assert rates.take(name, "somebody") is None


def test_without_redis_counting_here_is_what_was_asked_for() -> None:
    health = Rates(Settings()).health()
    assert (health["counted_in"], health["degraded"]) == ("process", False)


@pytest.mark.redis
def test_gateways_that_share_redis_count_together(redis: Redis) -> None:
    settings = Settings(rates={"upload": "4/minute"}, redis_url=redis.url)
    one, other = Rates(settings), Rates(settings)
    assert taken(one, 3, "shared") == [True, True, True]
    assert taken(other, 3, "shared") == [True, False, False]
    assert taken(one, 1, "shared") == [False]
    assert one.health() == {"counted_in": "redis", "degraded": False, "breaker": "closed", "trips": 0}


@pytest.mark.redis
def test_a_lost_redis_is_counted_for_here_until_it_is_back(redis: Redis) -> None:
    """Nothing fails, nothing goes uncounted, and health says so."""
    now = [0.0]
    settings = Settings(rates={"upload": "3/minute"}, redis_url=redis.url)
    rates = Rates(settings, Breaker(failures=2, pause_s=5.0, clock=lambda: now[0]))
    assert taken(rates, 1, "lost") == [True]
    redis.kill()
    try:
        assert taken(rates, 6, "lost") == [True, True, True, False, False, False]
        assert rates.health() == {"counted_in": "process", "degraded": True, "breaker": "open", "trips": 1}
    finally:
        redis.start()
    assert taken(rates, 1, "lost") == [False], "it is not asked again before its pause is over"
    now[0] = 6.0
    assert taken(rates, 1, "back") == [True]
    assert rates.health()["counted_in"] == "redis"
    assert not rates.health()["degraded"]


@pytest.mark.redis
def test_a_gateway_starts_and_counts_without_the_redis_that_it_was_told_of() -> None:
    rates = Rates(Settings(rates={"upload": "2/minute"}, redis_url="unix:///nonexistent/redis.sock"))
    assert taken(rates, 4) == [True, True, False, False]
    assert rates.health()["degraded"]


def test_the_page_about_serving_has_the_tables_of_the_code() -> None:
    path = Path(__file__).parent.parent / "docs" / "serve.py"
    spec = importlib.util.spec_from_file_location("serve_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text(encoding="utf-8")
    assert module.page(text) == text, "run python docs/serve.py"
