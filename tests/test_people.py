"""Persons, logins and tokens: what is kept of them, how long they hold, and what cannot be one. On both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import run
from sqlalchemy import select

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.scopes import ROLE_CAPABILITIES
from codesign_kernel.store import Store
from codesign_kernel.store.people import LOGINS_MOST, TOKENS_MOST, People, digest_of_secret
from codesign_kernel.store.schema import LoginRow, PersonRow, TokenRow

#: Texts with which people try a database; each is also a name that somebody might have.
INJECTIONS = [
    "'; DROP TABLE codesign_person; --",
    "' OR '1'='1",
    'x" OR ""="',
    "%",
    "_",
    "\\",
    "Robert'); DELETE FROM codesign_token WHERE ('1'='1",
    "$$ || pg_sleep(5) || $$",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}%(a)s%s:name?",
]


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 5, 4, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def on(self, **given: float) -> None:
        self.time += timedelta(**given)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(store_url: str, clock: Clock) -> Iterator[People]:
    with Store(store_url) as store:
        yield People(store, clock)


def rows(people: People, table: type) -> list[str]:
    """Everything that a table holds, as text."""
    with people._database.read() as connection:
        return [repr(tuple(row)) for row in connection.execute(select(table.__table__))]  # type: ignore[attr-defined]


def test_a_person_is_found_again_by_name_and_by_a_subject_that_says_nothing(people: People) -> None:
    ada = people.add("Ada Lovelace", "user", password_hash="$argon2id$")
    assert re.fullmatch("[0-9a-f]{32}", ada.subject)
    assert people.by_name("Ada Lovelace") == people.by_subject(ada.subject) == ada
    assert people.by_name("  Ada Lovelace ") == ada
    assert people.by_name("ada lovelace") is None
    assert people.password_hash("Ada Lovelace") == (ada, "$argon2id$")
    assert people.everyone() == [ada]
    with pytest.raises(InvalidInputError, match="already"):
        people.add("Ada Lovelace", "admin")
    assert people.by_name("Ada Lovelace") == ada
    people.set_role(ada.subject, "admin")
    assert people.by_subject(ada.subject) == replace(ada, role="admin")
    assert people.remove(ada.subject)
    assert not people.remove(ada.subject)
    with pytest.raises(InvalidInputError, match="no such person"):
        people.set_role(ada.subject, "user")


def test_what_cannot_be_a_name(people: People) -> None:
    for name in ("", " ", "a" * 201, "a\x00b", "a\nb", "a\u202eb", "\ud800", "a\u2028b", "\x7f", None, 3):
        with pytest.raises(InvalidInputError, match="name"):
            people.add(name, "user")  # type: ignore[arg-type]
        if isinstance(name, str):
            assert people.by_name(name) is None
            assert people.password_hash(name) is None


def test_every_text_is_only_text(people: People) -> None:
    bob = people.add("bob", "user")
    kept = people.create_token(bob, "keep", ["profile"], 1)[0]
    for text in INJECTIONS:
        assert people.by_name(text) is None
        assert people.by_subject(text) is None
        assert people.login(text, 60) is None
        assert people.token(text) is None
        assert people.token(f"cpg_{text}_{text}") is None
        assert not people.revoke_token(text)
        assert not people.end_login_of(bob.subject, text)
        made = people.add(text, "user")
        assert people.by_name(text) == made
        token, _ = people.create_token(made, text, ["profile"], 1)
        assert [one.label for one in people.tokens(made.subject)] == [text]
        assert token.owner == made.subject
    assert people.tokens(bob.subject) == [kept]
    assert {one.name for one in people.everyone()} == {"bob", *INJECTIONS}


def test_no_secret_is_kept(people: People) -> None:
    ada = people.add("ada", "user")
    secret = people.start_login(ada.subject, 60)
    _, text = people.create_token(ada, "ci", ["profile"], 1)
    kept = " ".join(rows(people, LoginRow) + rows(people, TokenRow) + rows(people, PersonRow))
    assert secret not in kept
    assert text not in kept
    assert text.split("_")[2] not in kept
    assert digest_of_secret(secret) in kept


def test_a_login_ends_by_age_and_by_idleness(people: People, clock: Clock) -> None:
    ada = people.add("ada", "user")
    secret = people.start_login(ada.subject, 3600)
    for _ in range(5):
        clock.on(minutes=9)
        found = people.login(secret, 600)
        assert found is not None
        assert (found.subject, found.via) == (ada.subject, "login")
    clock.on(minutes=11)
    assert people.login(secret, 600) is None, "unused for 11 of 10 minutes"
    assert people.login(secret, 3600) is not None
    clock.on(minutes=5)
    assert people.login(secret, 3600) is None, "61 minutes old"
    people.start_login(ada.subject, 60)
    assert len(rows(people, LoginRow)) == 1, "what has ended is removed"


def test_reading_a_login_writes_at_most_once_a_minute(people: People, clock: Clock) -> None:
    secret = people.start_login(people.add("ada", "user").subject, 3600)
    before = rows(people, LoginRow)
    clock.on(seconds=59)
    people.login(secret, 600)
    assert rows(people, LoginRow) == before
    clock.on(seconds=2)
    people.login(secret, 600)
    assert rows(people, LoginRow) != before


def test_signing_out_here_there_and_everywhere(people: People) -> None:
    ada, bob = people.add("ada", "user"), people.add("bob", "user")
    here, there, third = (people.start_login(ada.subject, 60) for _ in range(3))
    other = people.start_login(bob.subject, 60)
    listed = people.logins(ada.subject, here, 60)
    assert sum(one.current for one in listed) == 1
    assert len({one.id for one in listed}) == 3
    id_there = digest_of_secret(there)[:16]
    assert not people.end_login_of(bob.subject, id_there), "somebody else's"
    assert people.login(there, 60) is not None
    assert people.end_login_of(ada.subject, id_there)
    assert people.login(there, 60) is None
    people.end_logins(ada.subject, keep=here)
    assert (people.login(third, 60), people.login(here, 60) is None) == (None, False)
    people.end_login(here)
    assert people.login(here, 60) is None
    assert people.login(other, 60) is not None
    people.end_logins(bob.subject)
    assert people.login(other, 60) is None


def test_a_new_password_ends_the_other_logins_and_a_renewed_hash_none(people: People) -> None:
    ada = people.add("ada", "user", password_hash="old")
    here, there = people.start_login(ada.subject, 60), people.start_login(ada.subject, 60)
    people.renew_password_hash(ada.subject, "old", "stronger")
    people.renew_password_hash(ada.subject, "old", "too late")
    assert people.password_hash("ada") == (ada, "stronger")
    assert people.login(there, 60) is not None
    people.set_password_hash(ada.subject, "new", keep=here)
    assert people.login(there, 60) is None
    assert people.login(here, 60) is not None


def test_who_is_disabled_is_out_at_once(people: People) -> None:
    ada = people.add("ada", "user")
    secret = people.start_login(ada.subject, 60)
    _, text = people.create_token(ada, "ci", ["profile"], 1)
    people.disable(ada.subject)
    assert people.login(secret, 60) is None
    assert people.token(text) is None
    with pytest.raises(InvalidInputError, match="not disabled"):
        people.start_login(ada.subject, 60)
    people.disable(ada.subject, False)
    assert people.login(secret, 60) is None, "the old login does not come back"
    assert people.token(text) is not None
    with pytest.raises(InvalidInputError, match="known"):
        people.start_login("0" * 32, 60)


def test_a_person_has_so_many_logins_and_the_last_used_stay(people: People, clock: Clock) -> None:
    ada = people.add("ada", "user")
    made = []
    for _ in range(LOGINS_MOST + 2):
        clock.on(seconds=1)
        made.append(people.start_login(ada.subject, 3600))
    assert len(people.logins(ada.subject)) == LOGINS_MOST
    assert [people.login(secret, 3600) is None for secret in (made[0], made[1], made[2], made[-1])] == [
        True,
        True,
        False,
        False,
    ]


def test_a_token_carries_its_capabilities_and_no_more_than_the_role(people: People) -> None:
    ada = people.add("ada", "user")
    made, text = people.create_token(ada, " my script ", ["profile", "generate"], 30)
    assert re.fullmatch(r"cpg_[0-9a-f]{16}_[0-9a-f]{48}", text)
    assert made.label == "my script"
    found = people.token(text)
    assert found is not None
    assert (found.subject, found.via, found.allowed) == (ada.subject, "token", {"profile", "generate"})
    assert found.may("profile")
    assert not found.may("explore")
    people.set_role(ada.subject, "guest")
    people.set_role(ada.subject, "")
    assert people.token(text).allowed == frozenset(), "the role went, and with it what the token had of it"  # type: ignore[union-attr]
    for capabilities, told in ([["admin"], "has not admin"], [["fly"], "one of"], [[], "at least one"]):
        with pytest.raises(InvalidInputError, match=told):
            people.create_token(ada, "x", capabilities, 1)
    with pytest.raises(InvalidInputError, match="has not explore"):
        people.create_token(found, "wider than the token that asks", ["explore"], 1)
    for days in (0, -1, 366, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="365 days"):
            people.create_token(ada, "x", ["profile"], days)
    with pytest.raises(InvalidInputError, match="label"):
        people.create_token(ada, "\n", ["profile"], 1)
    with pytest.raises(InvalidInputError, match="known"):
        people.create_token(replace(ada, subject="0" * 32), "x", ["profile"], 1)


def test_a_token_ends_by_date_and_by_hand(people: People, clock: Clock) -> None:
    ada, bob = people.add("ada", "user"), people.add("bob", "user")
    made, text = people.create_token(ada, "a", ["profile"], 1)
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    assert people.token(wrong) is None
    assert people.token(text + "0") is None
    assert people.tokens(ada.subject)[0].used_at is None, "a wrong secret is no use"
    assert people.token(text) is not None
    assert people.tokens(ada.subject)[0].used_at == clock()
    assert not people.revoke_token(made.id, bob.subject), "somebody else's"
    assert people.token(text) is not None
    assert people.revoke_token(made.id, ada.subject)
    assert not people.revoke_token(made.id, ada.subject), "already"
    assert people.token(text) is None
    later, second = people.create_token(ada, "b", ["profile"], 1)
    clock.on(days=1)
    assert people.token(second) is None
    assert {one.id: one.state(clock()) for one in people.tokens()} == {made.id: "revoked", later.id: "expired"}


def test_a_person_has_so_many_good_tokens(people: People, clock: Clock) -> None:
    ada = people.add("ada", "user")
    for _ in range(TOKENS_MOST):
        people.create_token(ada, "x", ["profile"], 1)
    with pytest.raises(InvalidInputError, match="at most"):
        people.create_token(ada, "x", ["profile"], 1)
    clock.on(days=1)
    people.create_token(ada, "x", ["profile"], 1)


def test_a_guest_is_gone_when_no_login_holds(people: People, clock: Clock) -> None:
    guest = people.add("guest 1", "guest", provider="guest")
    people.add("ada", "user")
    secret = people.start_login(guest.subject, 3600)
    clock.on(minutes=2)
    assert people.guests_gone(600) == []
    assert people.login(secret, 600).via == "guest"  # type: ignore[union-attr]
    clock.on(minutes=11)
    assert people.guests_gone(600) == [guest.subject]
    people.remove(guest.subject)
    assert people.login(secret, 3600) is None
    assert ROLE_CAPABILITIES["guest"] < ROLE_CAPABILITIES["user"] < ROLE_CAPABILITIES["admin"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data", str(tmp_path / "gateway"), "--json")
    secret = tmp_path / "password"
    secret.write_text("correct horse battery staple\n")

    def told(*arguments: str) -> dict[str, Any]:
        status, out, err = run(capsys, *arguments, *where)
        assert (status, err) == (0, ""), err
        return dict(json.loads(out))

    def refused(*arguments: str) -> str:
        status, out, err = run(capsys, *arguments, *where)
        assert (status, out) == (2, "")
        return err

    assert told("user", "add", "Ada", "--role", "user", "--password-file", str(secret))["role"] == "user"
    assert "already" in refused("user", "add", "Ada", "--password-file", str(secret))
    secret.write_text("short")
    assert "12 to 256" in refused("user", "add", "Bob", "--password-file", str(secret))
    assert "terminal" in refused("user", "password", "Ada")
    assert "no person" in refused("user", "role", "Eve", "admin")
    assert told("user", "role", "Ada", "admin")["role"] == "admin"
    assert told("user", "disable", "Ada")["disabled"] is True
    assert told("user", "enable", "Ada")["disabled"] is False
    assert [one["name"] for one in told("user", "list")["people"]] == ["Ada"]
    made = told("token", "create", "Ada", "--capabilities", "profile, explore", "--days", "3", "--label", "ci")
    assert made["token"].startswith(f"cpg_{made['id']}_")
    assert "one of" in refused("token", "create", "Ada", "--capabilities", "fly", "--label", "x")
    assert "365" in refused("token", "create", "Ada", "--capabilities", "profile", "--days", "400", "--label", "x")
    assert told("token", "list", "Ada")["tokens"][0]["state"] == "active"
    told("token", "revoke", made["id"])
    assert told("token", "list")["tokens"][0]["state"] == "revoked"
    assert "no such token" in refused("token", "revoke", made["id"])
    with Store(tmp_path / "gateway" / "store.db") as store:
        kept = People(store).password_hash("Ada")
    assert kept is not None
    assert str(kept[1]).startswith("$argon2id$")
    trail = (tmp_path / "gateway" / "audit" / "audit.jsonl").read_text()
    assert trail.count('"person_changed"') == 3
    assert "Ada" not in trail
    assert made["token"] not in trail
