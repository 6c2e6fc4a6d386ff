"""What somebody made in an app is kept among their artefacts, where they have agreed to it, and found on their page."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from apicases import Here, served, service
from door import XSS, Door
from markupsafe import escape

import codesign_kernel as ck
from codesign_kernel.errors import ServiceError
from codesign_kernel.server.api import operations
from codesign_kernel.server.jobs import Jobs
from codesign_kernel.session import catalogue, designs, keeping
from codesign_kernel.store.crypto import Vault


def test_it_is_kept_with_consent_only_and_in_the_place_of_what_had_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "KEPT", 2)
    jobs, people, store = service(tmp_path, Here(), belongings_bytes=5_000)
    who = {name: people.add(name, "user") for name in ("ann", "bob")} | {
        "guest": people.add("g", "guest", provider="guest")
    }
    agreed: set[str] = set()
    jobs.belongings.consented = agreed.__contains__
    try:
        with served(jobs, who) as url, ck.Client(url, "ann") as ann, ck.Client(url, "bob") as bob:
            with pytest.raises(ServiceError, match="say yes to Keep my work on your account page") as refused:
                ann.keep("a front", {"rows": [1]})
            assert (refused.value.status, refused.value.code) == (403, "consent")
            assert [*ann.artefacts()] == []
            agreed.add(who["ann"].subject)
            first = ann.keep("a front", {"rows": [1]})
            second = ann.keep("a front", {"rows": [2]})
            assert [one["id"] for one in ann.artefacts()] == [second["id"]] != [first["id"]]
            assert json.loads(ann.download(second["id"])) == {"rows": [2]}
            assert (second["name"], second["media_type"], second["expires_at"]) == (
                "a front.json", "application/json", None
            )  # fmt: skip
            assert [*bob.artefacts()] == []
            for name, content, told in (
                ("<b>", {}, "name"), ("../x", {}, "name"), ("x", [], "content"),
                ("x", {"a": "\0"}, "control character"),
                ("much", {"a": "x" * 5_000}, "belongings_bytes"),
            ):  # fmt: skip
                with pytest.raises(ServiceError, match=told):
                    ann.keep(name, content)  # type: ignore[arg-type]
            ann.keep("another", {})
            with pytest.raises(ServiceError, match="at most 2 things"):
                ann.keep("a third", {})
            ann.keep("another", {"again": 1})
            with (
                ck.Client(url, "guest") as guest,
                pytest.raises(ServiceError, match="guests keep nothing; sign in with a name"),
            ):
                guest.keep("x", {})
    finally:
        jobs.close()
        store.close()


def test_the_account_page_has_it_and_nobody_elses(tmp_path: Path) -> None:
    door = Door(tmp_path, identity="password")
    jobs = Jobs(door.settings, door.store, Vault(tmp_path / "keys"), Here(), consent=lambda owner: True)
    door.services.jobs = jobs
    try:
        ada, bob = door.add(), door.add("bob")
        mine, other = (
            jobs.belongings.keep(one.subject, name, "application/json", b"{}")
            for one, name in ((ada, XSS), (bob, "of bob"))
        )
        with door.browser() as browser:
            browser.sign_in()
            page = browser.get("account").text
            assert escape(XSS) in page
            assert f"api/v1/artefacts/{mine.id}" in page
            assert XSS not in page
            assert other.id not in page
            assert browser.form(f"account/files/{other.id}/delete").status_code == 404
            answer = browser.form(f"account/files/{mine.id}/delete")
            assert answer.headers["Location"].endswith("account?done=file-deleted")
            assert mine.id not in browser.get("account").text
        assert jobs.belongings.get(bob.subject, other.id) is not None
    finally:
        door.close()


def test_in_a_notebook_of_ones_own_there_is_no_button(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODESIGN_BROKER", raising=False)
    assert keeping.keeper(lambda: ("x", {})) is None


def test_what_the_apps_keep_is_plain_and_complete() -> None:
    found = catalogue.network("lenet5")
    name, told = keeping.profile(found)
    assert (name, told["format"], told["name"]) == ("profile lenet5", "codesign-profile 1", "lenet5")
    parameters = {"rows": 8, "cols": 8, "bandwidth_gb_s": 1.6, "frequency_mhz": 100.0}
    frame = pd.DataFrame({"latency_ms": [1.0, 2.0], "energy_uj": [1.0, 2.0], "area_mm2": [1.0, 2.0]})
    chosen = SimpleNamespace(choice={"conditions": {}, "ranges": {}}, selected=frame, pinned=frame)
    name, told = keeping.exploration("LeNet-5", found.workload, parameters, chosen)
    table = designs.front(designs.few(found.workload, {"bandwidth_gb_s": 1.6, "frequency_mhz": 100.0}))
    assert (name, told["design"], len(told["front"])) == ("designs LeNet-5", parameters, min(len(table), keeping.ROWS))
    assert told["front"][0]["latency_ms"] == pytest.approx(table["latency_ms"].iloc[0])
    assert (told["all"]["designs_left"], len(told["all"]["front"]), len(told["all"]["pinned"])) == (2, 1, 2)
    name, told = keeping.lesson({"m": 6, "k": 4, "n": 4}, None, {"cycle": 3}, 2)
    assert (name, told["right"]) == ("array 6x4x4", 2)
    json.dumps(told, allow_nan=False)
