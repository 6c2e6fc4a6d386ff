"""Guests of a running gateway: those from one address have a share of the places, however often they sign in."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gateway import Gate, gateway, write_app
from visits import client, opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def guest(stack: ExitStack, gate: Gate, address: str) -> Any:
    """A guest who has just come from there."""
    http = stack.enter_context(client(gate, **{"X-Forwarded-For": address}))
    http.get("login")
    assert http.post("login/guest", data={"_xsrf": http.cookies["_xsrf"]}).status_code == 303
    return http


def test_one_address_does_not_take_all_places_by_signing_in_again(tmp_path: Path) -> None:
    """Two places, one of them for guests from one /64; the proxy says where people come from."""
    (tmp_path / "apps").mkdir()
    write_app(tmp_path / "apps", "hello", "'hello'", open_to="guest")
    settings = {"identity": "password", "guests": True, "trusted_proxies": ["127.0.0.1"], "warm_kernels": 0}
    with gateway(tmp_path, **settings, max_kernels=2, kernels_per_user=1) as gate, ExitStack() as stack:
        opened(guest(stack, gate, "2001:db8:0:1::1"), "hello")
        again = guest(stack, gate, "2001:db8:0:1::2")
        page = again.get("apps/hello")
        assert page.status_code == 503
        assert page.headers["Retry-After"] == "10"
        assert "Other guests from your network have all places" in page.text
        assert 'http-equiv="refresh"' in page.text
        told = again.get("apps/hello", headers={"Accept": "application/json"}).json()["error"]
        assert told["message"].startswith("guests from one address have 1 of the places at most")
        opened(guest(stack, gate, "2001:db8:0:2::1"), "hello")
        named = stack.enter_context(client(gate, "ada", **{"X-Forwarded-For": "2001:db8:0:1::3"}))
        # more often than apps may be opened in a minute: a waiting room that asks again opens none
        pages = [named.get("apps/hello") for _ in range(25)]
        assert {page.status_code for page in pages} == {503}
        assert all("You are number 1 in the queue" in page.text for page in pages), "she is the next"
        text = gate.log.read_text()
        assert '"limit": "kernels_per_address"' in text
        assert "2001:db8" not in text
