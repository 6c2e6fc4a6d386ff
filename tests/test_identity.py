"""Who comes in and who does not: sign-in, sessions, tokens, forms, and the attacks on them, over HTTP.

A small server of the gateway's own parts runs in this process; requests come from whichever address a test says.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from door import PASSWORD, WEAK, Door, token_of

from codesign_kernel.scopes import Scope
from codesign_kernel.server import identity
from codesign_kernel.server.gallery import limit_words, may_words
from codesign_kernel.server.handler import GateHandler, Refused, local_path
from codesign_kernel.server.identity import GateIdentity, local_token, sign_in_path
from codesign_kernel.server.passwords import Passwords
from codesign_kernel.server.rates import Rates
from codesign_kernel.store import Store
from codesign_kernel.store.people import People


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path, identity="password", guests=True)
    yield made
    made.close()


def test_everything_but_the_way_in_needs_a_sign_in(door: Door) -> None:
    with door.browser() as anybody:
        for path in ("", "account", "admin"):
            answer = anybody.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (302, "/login"), path
        assert anybody.get("", headers={"Accept": "application/json"}).status_code == 401
        refused = anybody.get("api/v1/probe")
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "not_signed_in"
        assert refused.headers["www-authenticate"] == "Bearer"
        for path in ("account/tokens", "account/erase", "account/export", "logout", "account/sessions/others/end"):
            assert anybody.form(path).status_code == 401, path
        for path in ("login", "gate/gate.css"):
            assert anybody.get(path).status_code == 200, path


def test_sign_in_and_the_flags_of_its_cookie(door: Door) -> None:
    person = door.add()
    with door.browser() as ada:
        answer = ada.sign_in(next="/account")
        assert (answer.status_code, answer.headers["location"]) == (303, "/account")
        (cookie,) = [one for one in answer.headers.get_list("set-cookie") if "codesign" in one]
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/"} <= flags
        assert not any(flag.startswith(("domain", "max-age", "expires")) for flag in flags)
        page = ada.get("account")
        assert page.status_code == 200
        assert "ada" in page.text
        assert ("sign_in", person.subject) in door.signals.told
        assert person.subject not in page.text
        tls = ada.sign_in()
        assert "secure" not in tls.headers["set-cookie"].lower()
        behind = httpx.get(f"{door.url}login", headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"},
                           timeout=90)  # fmt: skip
        assert behind.status_code == 200
    with door.browser() as far:
        far.headers["X-Forwarded-Proto"] = "https"
        far.get("login")
        cookie = next(one for one in far.sign_in().headers.get_list("set-cookie") if "codesign" in one)
        assert cookie.startswith("__Host-codesign=")
        assert "secure" in cookie.lower()


def test_headers_of_our_pages(door: Door) -> None:
    with door.browser() as anybody:
        answer = anybody.get("login", headers={"X-Request-ID": "abc-1"})
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(
            policy.split("; ")
        )
        assert answer.headers["x-request-id"] == "abc-1"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert "set-cookie" in answer.headers
        odd = anybody.get("login", headers={"X-Request-ID": "a b\tc<script>"})
        assert re.fullmatch("[0-9a-f]{16}", odd.headers["x-request-id"])
        foreign = anybody.get("api/v1/probe", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers


def test_a_request_is_named_by_a_trusted_proxy_only(tmp_path: Path) -> None:
    """Else a visitor could put the number of another's request into the log and the audit trail."""
    with closing(Door(tmp_path, identity="password", trusted_proxies=())) as door, door.browser() as anybody:
        for path in ("login", "api/v1/probe", "gate/gate.css"):
            mine = anybody.get(path, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
            assert re.fullmatch("[0-9a-f]{16}", mine), path


def test_wrong_passwords_are_stopped_and_others_come_in(door: Door) -> None:
    door.add()
    door.add("bob")
    with door.browser("192.0.2.1") as attacker, door.browser("192.0.2.2") as other:
        said = [attacker.sign_in(password=f"wrong password {n}") for n in range(5)]
        assert [answer.status_code for answer in said] == [403] * 5
        stopped = attacker.sign_in()
        assert stopped.status_code == 429, "even with the right one"
        assert 1 <= int(stopped.headers["retry-after"]) <= 300
        assert "try again in" in stopped.text
        assert other.sign_in().status_code == 303
        for n in range(15):
            attacker.sign_in(name=f"name {n}", password="wrong password 0")
        assert attacker.sign_in("bob").status_code == 429, "20 from one address"
    assert ("sign_in", "") in door.signals.told
    assert ("rate", "") in door.signals.told


def test_attempts_at_once_are_counted_at_once(door: Door) -> None:
    door.add()

    async def burst() -> list[int]:
        headers = {"X-Forwarded-For": "192.0.2.9", "Cookie": "_xsrf=abc"}
        async with httpx.AsyncClient(base_url=door.url, headers=headers, timeout=60) as client:
            sent = [
                client.post("login", data={"_xsrf": "abc", "name": "ada", "password": f"guess number {n}"})
                for n in range(20)
            ]
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    seen = asyncio.run(burst())
    assert seen.count(403) == 5
    assert seen.count(429) == 15


def test_without_the_count_the_password_is_found(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.add(password="0000 0000 0007")
    with door.browser() as attacker:
        guesses = [f"0000 0000 {n:04}" for n in range(10)]
        assert 303 not in [attacker.sign_in(password=guess).status_code for guess in guesses]
    with door.browser("192.0.2.7") as attacker:
        monkeypatch.setattr(Rates, "wait", lambda *_: None)
        assert 303 in [attacker.sign_in(password=guess).status_code for guess in guesses]


def test_wrong_tokens_are_stopped_and_others_come_in(door: Door) -> None:
    ada = door.add()
    good = token_of(door, ada, "explore")
    with door.browser("192.0.2.1") as attacker, door.browser("192.0.2.2") as other:
        wrong = {"Authorization": f"Bearer cpg_{'0' * 16}_{'0' * 48}"}
        assert {attacker.get("api/v1/probe", headers=wrong).status_code for _ in range(20)} == {401}
        stopped = attacker.get("api/v1/probe", headers=good)
        assert stopped.status_code == 429
        assert int(stopped.headers["retry-after"]) >= 1
        assert other.get("api/v1/probe", headers=good).json() == {"name": "ada", "via": "token"}


def test_a_token_opens_what_it_is_for_and_no_page(door: Door) -> None:
    ada = door.add(role="admin")
    with door.browser() as program:
        few, enough = token_of(door, ada, "profile"), token_of(door, ada, "explore")
        refused = program.get("api/v1/probe", headers=few)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "capability_needed")
        assert program.get("api/v1/probe", headers=enough).status_code == 200
        assert program.post("api/v1/probe", headers=enough).status_code == 200, "no XSRF token is needed"
        assert (
            program.get(
                "api/v1/probe", headers={"Authorization": enough["Authorization"].replace("Bearer", "token")}
            ).status_code
            == 200
        )
        for path in ("", "account", "admin"):
            assert program.get(path, headers=enough).status_code == 401, path
        text = enough["Authorization"].split()[1]
        assert program.get(f"api/v1/probe?token={text}").status_code == 401, "never in an address"
        made = program.post("account/tokens", headers=enough, data={"label": "x", "capability": "admin", "days": "1"})
        assert made.status_code == 401, "a token does not make a wider one"
        (number, *_rest) = [one.id for one in door.people.tokens() if one.capabilities == {"explore"}]
        door.people.revoke_token(number)
        assert program.get("api/v1/probe", headers=enough).status_code == 401
        late = token_of(door, ada, "explore")
        door.time += timedelta(days=1)
        assert program.get("api/v1/probe", headers=late).status_code == 401
        for header in ("Bearer", "Basic YTpi", "Bearer a b", "", "Bearer cpg_%00"):
            assert program.get("api/v1/probe", headers={"Authorization": header}).status_code == 401, header


def test_a_bad_token_is_not_made_good_by_a_cookie(door: Door) -> None:
    door.add()
    with door.browser() as ada:
        ada.sign_in()
        assert ada.get("api/v1/probe").status_code == 200
        assert ada.post("api/v1/probe", headers={"Authorization": "Bearer x"}).status_code == 401


def test_forms_of_other_sites_are_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.add()
    with door.browser() as ada:
        ada.sign_in()
        sent = {"label": "stolen", "capability": "profile", "days": "1"}
        own = {**sent, "_xsrf": ada.cookies["_xsrf"]}
        attacks: list[dict[str, Any]] = [
            {"data": sent},
            {"data": {**sent, "_xsrf": "0" * 32}},
            {"data": own, "headers": {"Origin": "https://evil.example"}},
            {"data": own, "headers": {"Origin": "null"}},
            {"data": own, "headers": {"Sec-Fetch-Site": "cross-site"}},
        ]
        for attack in attacks:
            assert ada.post("account/tokens", **attack).status_code == 403, attack
        assert ada.post("logout").status_code == 403
        assert ada.post("api/v1/probe").json()["error"]["code"] == "xsrf"
        assert door.people.tokens() == []
        assert ada.post("account/tokens", data=own, headers={"Origin": door.url.rstrip("/")}).status_code == 200
        assert len(door.people.tokens()) == 1
        monkeypatch.setattr(GateHandler, "check_xsrf_cookie", lambda _: None)
        assert ada.post("account/tokens", **attacks[2]).status_code == 200, "without the guard the attack succeeds"
        assert len(door.people.tokens()) == 2


def test_a_session_that_somebody_planted_is_not_used(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, mallory = door.add(), door.add("mallory")
    planted = door.people.start_login(mallory.subject, 3600)
    with door.browser() as victim:
        name = f"codesign-{httpx.URL(door.url).port}"
        victim.cookies.set(name, planted, domain="127.0.0.1", path="/")
        assert "mallory" in victim.get("account").text
        victim.sign_in()
        assert victim.secret != planted
        assert "ada" in victim.get("account").text
        assert door.people.login(planted, 3600) is None, "and the planted one ended"
        never = "A" * 43
        victim.cookies.clear()
        victim.cookies.set(name, never, domain="127.0.0.1", path="/")
        victim.sign_in()
        assert victim.secret != never
        assert door.people.login(never, 3600) is None
        assert door.people.logins(ada.subject)


def test_next_never_leaves_this_server(door: Door) -> None:
    for away in ("https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "\\\\evil.example",
                 "javascript:alert(1)", "/%0d%0aSet-Cookie:x=1\r\nX: y", "evil.example", "", "http:evil"):  # fmt: skip
        path = local_path(away, "/")
        assert path.startswith("/")
        assert not path.startswith(("//", "/\\")), away
        assert "\r" not in path
    assert local_path("/account?x=1", "/") == "/account?x=1"
    assert local_path("/other", "/gate/") == "/gate/"
    door.add()
    with door.browser() as ada:
        for away in ("https://evil.example/", "//evil.example/"):
            assert ada.sign_in(next=away).headers["location"] == "/"
            assert ada.get("login", params={"next": away}).headers["location"] == "/"
            ada.form("logout")


def test_without_the_check_next_leaves(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.add()
    monkeypatch.setattr("codesign_kernel.server.signin.local_path", lambda text, _: text)
    with door.browser() as ada:
        assert ada.sign_in(next="https://evil.example/").headers["location"] == "https://evil.example/"


def test_a_database_that_is_gone_is_told_politely(door: Door) -> None:
    from codesign_kernel.errors import StoreUnavailableError

    door.add()
    with door.browser() as ada:
        ada.sign_in()

        def lost(*_: object) -> None:
            raise StoreUnavailableError("the store at /secret/path cannot be reached")

        door.people.login = lost  # type: ignore[method-assign]
        for accept in ("text/html", "application/json"):
            answer = ada.get("account", headers={"Accept": accept})
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert "secret" not in answer.text


def test_the_local_token_is_moved_from_the_address_into_a_cookie(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(tmp_path, identity="token")
    try:
        token = local_token(door.settings)
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        assert local_token(door.settings) == token
        caplog.set_level(logging.INFO, "tornado")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # the tests' own client
        with door.browser() as owner:
            first = owner.get(sign_in_path(door.settings).lstrip("/"))
            assert (first.status_code, first.headers["location"]) == (303, "/")
            assert first.headers["referrer-policy"] == "no-referrer"
            assert token not in str(first.headers)
            assert "owner" in owner.get("").text
            assert owner.get("api/v1/probe").status_code == 200
        assert token not in caplog.text
        with door.browser("192.0.2.4") as attacker:
            for n in range(20):
                assert attacker.get(f"login?token={n}").status_code == 403
            assert attacker.get(f"login?token={token}").status_code == 429
            assert attacker.get("api/v1/probe", headers={"Authorization": f"token {token}"}).status_code == 429
        with door.browser("192.0.2.5") as other:
            assert other.get(f"?token={token}").status_code == 302, "at the sign-in page only"
            assert other.get("api/v1/probe", headers={"Authorization": f"token {token}"}).status_code == 401
            assert other.form("login", {"token": token}).status_code == 303
        (owner_,) = door.people.everyone()
        assert (owner_.name, owner_.role) == ("owner", "admin")
    finally:
        door.close()


def test_an_unknown_name_costs_what_a_wrong_password_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "store.db") as store:
        people = People(store)
        passwords = Passwords(people, WEAK)
        ada = people.add("ada", "user", password_hash=passwords.hash(PASSWORD))
        people.add("hub", "user")
        people.disable(people.add("gone", "user", password_hash=passwords.hash(PASSWORD)).subject)
        calls: list[str] = []
        real = Passwords._verify
        monkeypatch.setattr(Passwords, "_verify", lambda self, *given: calls.append("x") or real(self, *given))
        for name in ("ada", "nobody", "hub", "gone", "\x00", "' OR 1=1 --"):
            assert passwords.person(name, "wrong") is None
        assert len(calls) == 6
        assert passwords.person("gone", PASSWORD) is None
        assert passwords.person("nobody", "the password of nobody") is None
        before = people.password_hash("ada")
        assert passwords.person("ada", PASSWORD) == ada
        assert people.password_hash("ada") == before
        stronger = Passwords(people, PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
        assert stronger.person("ada", PASSWORD) == ada
        after = people.password_hash("ada")
        assert after is not None
        assert "t=2" in str(after[1])
        assert Passwords(people)._hasher.memory_cost >= 65_536


def test_limits_in_words() -> None:
    assert limit_words("wall_s", 1800) == "30 min"
    assert limit_words("wall_s", 7200) == "2 h"
    assert limit_words("memory_bytes", 2 << 30) == "2.00 GiB"
    assert limit_words("macs", 20 * 10**9) == "20.0 GMAC"
    assert limit_words("designs", 200_000) == "200,000 designs"
    lines = may_words(Scope("x", capabilities=frozenset({"profile"})))
    assert lines == [
        "may count the work of a model: operations, parameters, memory",
        "models up to 20.0 GMAC an inference",
        "open for up to 30 min",
        "2.00 GiB of memory",
        "no network",
    ]


def test_a_database_that_is_silent_is_as_good_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PATIENCE_S", 0.05)
    answers = threading.Event()

    async def ask() -> None:
        try:
            await GateIdentity().ask(lambda: answers.wait(60))
        finally:
            answers.set()

    with pytest.raises(Refused) as refused:
        asyncio.run(ask())
    assert (refused.value.status_code, refused.value.retry_s) == (503, 5)
