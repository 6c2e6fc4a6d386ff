"""One's own page, the gallery and guests, over HTTP: sessions, tokens, password, and what strangers may see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from door import PASSWORD, XSS, Door

from codesign_kernel.server.settings import Settings


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path, identity="password", guests=True)
    yield made
    made.close()


def test_sessions_end_by_age_idleness_and_by_hand(door: Door) -> None:
    ada = door.add()
    with door.browser() as here, door.browser() as there:
        here.sign_in()
        there.sign_in()
        page = here.get("account").text
        assert page.count("Another browser") == page.count("This browser") == 1
        (other,) = [one for one in door.people.logins(ada.subject, here.secret) if not one.current]
        assert here.form(f"account/sessions/{other.id}/end").status_code == 303
        assert there.get("account").status_code == 302
        there.sign_in()
        assert here.form("account/sessions/others/end").status_code == 303
        assert there.get("account").status_code == 302
        old = here.secret
        assert here.form("logout").status_code == 200
        assert here.get("account").status_code == 302
        here.cookies.set(f"codesign-{httpx.URL(door.url).port}", old, domain="127.0.0.1", path="/")
        assert here.get("account").status_code == 302, "the cookie that was kept is worth nothing"
        here.sign_in()
        door.time += timedelta(seconds=door.settings.session_idle_s + 1)
        assert here.get("account").status_code == 302
        here.sign_in()
        door.people.disable(ada.subject)
        assert here.get("account").status_code == 302
        assert here.sign_in().status_code == 403


def test_a_new_password_ends_the_others(door: Door) -> None:
    door.add()
    new = "a sentence of my own"
    with door.browser() as here, door.browser() as there:
        here.sign_in()
        there.sign_in()
        assert here.form("account/password", {"old": "wrong", "new": new}).status_code == 403
        short = here.form("account/password", {"old": PASSWORD, "new": "short"})
        assert short.status_code == 400
        assert "12 to 256" in short.text
        assert here.form("account/password", {"old": PASSWORD, "new": new}).status_code == 303
        assert here.get("account").status_code == 200
        assert there.get("account").status_code == 302
        assert there.sign_in().status_code == 403
        assert there.sign_in(password=new).status_code == 303


def test_tokens_on_the_account_page(door: Door) -> None:
    ada, bob = door.add(), door.add("bob")
    with door.browser() as here:
        here.sign_in()
        sent = {"label": XSS[:90], "capability": ["profile", "explore"], "days": "30"}
        page = here.form("account/tokens", sent)
        assert page.status_code == 200
        (text,) = set(re.findall(r"cpg_[0-9a-f]{16}_[0-9a-f]{48}", page.text))
        assert door.people.token(text).allowed == {"profile", "explore"}  # type: ignore[union-attr]
        assert "<img" not in page.text.replace('<img src="/gate/app.svg"', "")
        assert text not in here.get("account").text
        for wrong in (
            {"capability": "admin"},
            {"capability": "fly"},
            {"days": "366"},
            {"days": "-1"},
            {"label": "\x07"},
            {"capability": []},
        ):
            refused = here.form("account/tokens", {**sent, **wrong})
            assert refused.status_code == 400, wrong
            assert 'role="alert"' in refused.text
        theirs = door.people.create_token(bob, "b", ["profile"], 1)[0]
        assert here.form(f"account/tokens/{theirs.id}/revoke").status_code == 404
        (mine,) = door.people.tokens(ada.subject)
        assert here.form(f"account/tokens/{mine.id}/revoke").status_code == 303
        assert door.people.token(text) is None
        assert door.people.tokens(bob.subject)[0].revoked_at is None


def test_names_and_titles_are_shown_and_not_run(door: Door) -> None:
    door.add(XSS)
    with door.browser() as ada:
        ada.sign_in(XSS)
        for path in ("", "account"):
            page = ada.get(path).text
            assert "&lt;script&gt;" in page
            assert "<script>" not in page
            assert 'onerror="' not in page
        ada.form("logout")
        back = ada.sign_in(XSS, "wrong").text
        assert "<script>" not in back
        assert "&lt;img" in back


def test_the_gallery_shows_what_may_be_opened(door: Door) -> None:
    door.add()
    door.add("root", "admin")
    door.add("new", "")
    with door.browser() as ada, door.browser() as root, door.browser() as new:
        ada.sign_in()
        assert ada.get("").text.count('href="/apps/') == 1
        assert "/apps/console" not in ada.get("").text
        root.sign_in("root")
        assert root.get("").text.count('href="/apps/') == 2
        assert root.get("admin").status_code == 200
        refused = ada.get("admin")
        assert refused.status_code == 403
        new.sign_in("new")
        assert "no role here yet" in new.get("").text
        door.apps.clear()
        assert "no app for you yet" in ada.get("").text


def test_guests_come_without_a_name_and_leave_nothing(door: Door, tmp_path: Path) -> None:
    with door.browser() as guest:
        assert "Look around as a guest" in guest.get("login").text
        assert guest.form("login/guest").status_code == 303
        assert guest.get("").status_code == 200
        (person,) = door.people.everyone()
        assert (person.role, person.provider) == ("guest", "guest")
        assert guest.form("account/tokens", {"label": "x", "capability": "profile", "days": "1"}).status_code == 403
        guest.form("logout")
        assert door.people.everyone() == []
        waits = [guest.form("login/guest").status_code for _ in range(11)]
        assert waits[-1] == 429
    door.services.settings = Settings(data_dir=tmp_path, identity="password")
    with door.browser("192.0.2.3") as guest:
        assert "guest" not in guest.get("login").text
        assert guest.form("login/guest").status_code == 404
