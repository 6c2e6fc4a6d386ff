"""Sign-in page, gallery and account page in Chromium: what they look like, what they say, and what they do not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import ROOT, browse, check_looks
from command import codesign
from gateway import Gate, gateway

PASSWORD = "correct horse battery staple"
NAME = '<img src=x onerror="document.title=1"><script>document.title=2</script>'

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gateway with the apps of this repository, for people with passwords and for guests."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "password").write_text(PASSWORD)
    with gateway(folder, identity="password", guests=True, warm_kernels=0, apps_dir=ROOT / "voila_apps") as gate:
        for name, role in (("ada", "user"), (NAME, "admin")):
            given = ("--role", role, "--password-file", str(folder / "password"), "--data", str(gate.data))
            done = codesign("user", "add", name, *given)
            assert done.returncode == 0, done.stderr
        yield gate


def sign_in(tab: Any, name: str) -> None:
    """As people do it: with the keyboard."""
    tab.fill("#name", name)
    tab.press("#name", "Tab")
    tab.keyboard.type(PASSWORD)
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".cards")
    tab.wait_for_load_state()


def test_sign_in_gallery_and_account(gate: Gate) -> None:
    with browse(gate.url, "#password") as tab:
        tab.wait_for_function("document.activeElement.id === 'name'")
        check_looks(tab, "login", root="body")
        sign_in(tab, "ada")
        titles = tab.locator(".card h2").all_inner_texts()
        scopes = [path for path in (ROOT / "voila_apps").glob("*.toml") if 'open_to = "admin"' not in path.read_text()]
        assert len(titles) == len(scopes)
        assert titles == sorted(titles, key=str.casefold)
        tab.locator(".card summary").first.click()
        assert tab.locator(".card details[open] li").first.is_visible()
        check_looks(tab, "gallery", root="body")
        tab.click("text=ada")
        tab.wait_for_selector("#tokens")
        tab.click("summary:has-text('New token')")
        tab.fill("#label", "nightly run")
        tab.check("[value=profile]")
        tab.click("text=Make a token")
        tab.wait_for_selector(".made")
        tab.wait_for_load_state()
        assert tab.input_value("#made").startswith("cpg_")
        for summary in tab.locator("summary").all():
            summary.click()
        check_looks(tab, "account", root="body")
        tab.click("text=I agree")
        tab.wait_for_selector(".done")
        tab.wait_for_selector("text=Keep my work: yes")
        tab.wait_for_load_state()
        with tab.expect_download() as got:
            tab.click("text=Download")
        assert Path(got.value.path()).read_bytes()[:2] == b"PK"
        tab.goto(f"{gate.url}privacy")
        check_looks(tab, "privacy", root="body")
        tab.click("text=Sign out")
        tab.wait_for_selector("h1:has-text('You are signed out')")


def test_what_a_name_says_is_not_run(gate: Gate) -> None:
    with browse(gate.url, "#password") as tab:
        sign_in(tab, NAME)
        for path in ("", "account"):
            tab.goto(f"{gate.url}{path}")
            assert NAME in tab.inner_text("body")
            assert tab.title() not in ("1", "2")
            assert (
                tab.evaluate("document.querySelectorAll('main script, header img[onerror], main img[onerror]').length")
                == 0
            )


def test_whoever_erases_themselves_is_gone(gate: Gate) -> None:
    with browse(gate.url, "#password") as tab:
        tab.click("text=Look around as a guest")
        tab.wait_for_selector("main h1:has-text('Apps')")
        tab.wait_for_load_state()
        check_looks(tab, "guest", root="body")
        tab.goto(f"{gate.url}account")
        name = tab.inner_text(".facts dd >> nth=0")
        tab.click("summary:has-text('Erase me')")
        tab.fill("#erase", name)
        tab.click("text=Erase everything")
        tab.wait_for_selector("h1:has-text('Your data is erased')")
        tab.goto(f"{gate.url}account")
        tab.wait_for_selector("#password")
    listed = codesign("user", "list", "--json", "--data", str(gate.data))
    assert name not in [one["name"] for one in json.loads(listed.stdout)["people"]]
