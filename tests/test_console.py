"""The operations console: what it tells and refuses in its kernel, and the app on a running gateway in a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError, ServiceError
from codesign_kernel.scopes import read_scope
from codesign_kernel.session.operations import GatewayOperations, LocalOperations

pytest.importorskip("codesign_widgets")

from codesign_widgets import Console

ROOT = Path(__file__).parent.parent


class Told:
    """A gateway's answers, as ``/api/v1/admin`` gives them, and what was asked of it."""

    acts, where = True, ""

    def __init__(self, **changes: Any) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._changes = changes

    def look(self) -> Mapping[str, Any]:
        tier = {"state": "open", "hits": 3, "misses": 1, "errors": 2, "skipped": 9, "trips": 1, "answers": False}
        entry = {
            "n": 7,
            "time": "2026-01-02T03:04:05.678+00:00",
            "event": "sign_in",
            "who": "ab" * 16,
            "data": {"via": "x"},
        }
        kernel = {
            "id": "11111111-2222-3333-4444-555555555555", "app": "<img src=x>", "owner": "cd" * 16, "state": "running",
            "age_s": 7_300.0, "idle_s": 3.0, "cpu_s": 12.0, "memory_bytes": 300 << 20, "sockets": 1,
        }  # fmt: skip
        job = {
            "id": "0" * 32,
            "kind": "explore",
            "owner": "cd" * 16,
            "state": "running",
            "done": 0.25,
            "message": "a<b>",
        }
        rates = {"requests": [1.0, 2.0, 3.0], "errors": [0, 0, 0], "latency_s": [0.1, None, 0.02]}
        return {
            "at": "2026-01-02T03:04:05+00:00",
            "health": {
                "ready": True, "up_s": 200_000,
                "parts": {
                    "database": {"ok": True, "detail": "", "kind": "sqlite", "schema": "0003"},
                    "cache": {"ok": False, "detail": "redis does not answer", "tiers": {"redis": tier}},
                    "kernels": {"ok": True, "detail": "", "running": 1, "warm": 2, "most": 8},
                },
                "breakers": {"cache redis": "open"},
            },
            "kernels": [kernel], "jobs": {"states": {"queued": 2, "running": 1}, "jobs": [job]},
            "people": {"people": 5, "active": 2, "sessions": 3},
            "series": {"at": [0.0, 300.0, 600.0], **rates},
            "audit": {"entries": [entry], "lines": 7, "events": {"sign_in": "somebody signed in"}},
        } | self._changes  # fmt: skip

    def stop_kernel(self, kernel: str) -> None:
        self.asked.append(("kernel", kernel))

    def stop_job(self, job: str) -> None:
        self.asked.append(("job", job))

    def audit(self, event: str, who: str, since: str) -> Mapping[str, Any]:
        self.asked.append(("audit", event, who, since))
        return {"entries": [], "lines": 7, "events": {}}

    def verify(self) -> Mapping[str, Any]:
        return {
            "intact": False,
            "problem": "edited",
            "file": "audit.jsonl",
            "line": 4,
            "lines": 7,
            "text": "line 4 is not",
        }


def asked(console: Console, **question: Any) -> dict[str, Any]:
    """The answer to a question as a page sends it."""
    console.set_state({"query": {"seq": console.answer["seq"] + 1, **question}})
    return dict(console.answer)


def test_the_first_view_shows_how_it_is() -> None:
    console = Console(Told())
    answer = console.answer
    tiles = {tile["label"]: tile for tile in answer["tiles"]}
    assert tiles["Gateway"]["value"] == "Ready, look below"
    assert tiles["Gateway"]["note"] == "Cache"
    assert tiles["Kernels in use"]["value"] == "1"
    assert tiles["People active"]["note"] == "3 signed in, 5 known"
    cards = {card["title"]: card for card in answer["parts"]}
    assert cards["Cache"]["state"] == "bad"
    assert cards["Cache"]["breakers"] == "redis: left alone after failures"
    assert cards["Database"]["word"] == "✓ Works"
    plots = {plot["title"]: plot for plot in answer["plots"]}
    assert plots["Requests"]["alt"] == "Requests of the last 10 min: now all 3 /s; errors 0 /s; at most 3 /s."
    assert plots["Time to answer"]["now"] == "20.0 ms"
    (kernel,) = answer["kernels"]
    assert (kernel["age"], kernel["memory"], kernel["owner"]) == ("2.03 h", "300 MiB", "cdcdcdcd")
    assert answer["audit"][0]["event"] == "sign in"
    json.dumps(answer, allow_nan=False)


def test_what_is_pressed_is_done_once_and_told() -> None:
    told = Told()
    console = Console(told)
    answer = asked(console, do="stop_kernel", id="11111111-2222-3333-4444-555555555555")
    assert answer["said"]["text"] == "✓ The kernel 11111111 was stopped."
    asked(console, do="stop_job", id="0" * 32)
    assert told.asked == [("kernel", "11111111-2222-3333-4444-555555555555"), ("job", "0" * 32)]
    answer = asked(console, do="verify")
    assert answer["said"]["state"] == "bad"
    assert "audit.jsonl, line 4" in answer["said"]["text"]
    asked(console, do="look", event="sign_in", who="ab", span="The last hour")
    assert told.asked[-1] == ("audit", "sign_in", "ab", "1h")


@pytest.mark.parametrize(
    "question",
    [
        {"do": "erase"},
        {"do": ["look"]},
        {"do": "stop_kernel"},
        {"do": "stop_kernel", "id": 7},
        {"do": "look", "event": "x" * 65},
        {"do": "look", "span": "for ever"},
        {"do": "look", "who": {"a": 1}},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(question: dict[str, Any]) -> None:
    told = Told()
    console = Console(told)
    answer = asked(console, **question)
    assert answer["error"]["text"]
    assert told.asked == []


def test_a_gateway_that_goes_away_is_told() -> None:
    told = Told()
    console = Console(told)

    def away() -> Mapping[str, Any]:
        raise ServiceError("the gateway cannot be reached; is it running?", 503)

    told.look = away  # type: ignore[method-assign]
    answer = asked(console, do="look")
    assert answer["error"]["text"] == "The gateway cannot be reached; is it running?."
    assert answer["tiles"], "the last view stays"


def test_without_a_gateway_this_process_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CODESIGN_BROKER", raising=False)
    monkeypatch.setenv("CODESIGN_DATA_DIR", str(tmp_path))
    operated = ck.operations()
    assert isinstance(operated, LocalOperations)
    console = Console(operated)
    assert console.answer["error"] is None
    assert {card["title"] for card in console.answer["parts"]} == {"Database", "Cache", "Simulators", "Disk"}
    assert "codesign serve" in console.setup["where"]
    assert "codesign serve" in asked(console, do="verify")["error"]["text"]


def test_an_id_leads_nowhere_else() -> None:
    class Caller:
        def admin(self, method: str, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
            raise AssertionError("nothing is asked")

    operated = GatewayOperations(Caller())
    for wrong in ("", "../jobs/1", "a/b", "a?b", "x" * 65):
        with pytest.raises(InvalidInputError, match="an id is"):
            operated.stop_kernel(wrong)


def test_only_administrators_open_the_app() -> None:
    scope = read_scope(ROOT / "voila_apps" / "console.toml")
    assert scope.open_to == "admin"
    assert scope.capabilities == {"admin"}
    assert scope.network == "none"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_administrator_watches_and_stops(tmp_path: Path) -> None:
    """The app of voila_apps on a real gateway: another person's kernel is seen and stopped, the trail verified."""
    import shutil

    from browser import browse, check_looks, settle
    from gateway import gateway, write_app

    from codesign_kernel.telemetry.verify import entries

    (tmp_path / "apps").mkdir()
    for suffix in ("ipynb", "toml"):
        shutil.copy(ROOT / "voila_apps" / f"console.{suffix}", tmp_path / "apps")
    write_app(tmp_path / "apps", "idle", "print('here')")
    with gateway(tmp_path, identity="token", warm_kernels=0) as gate:
        httpx = pytest.importorskip("httpx")
        cookies = gate.visitor("uma")
        with httpx.Client(trust_env=False, timeout=60, cookies=cookies) as visitor:
            assert visitor.get(f"{gate.url}apps/idle").status_code == 200
            assert visitor.get(f"{gate.url}apps/console").status_code == 403
        with browse(gate.sign_in, "body") as tab:
            tab.goto(f"{gate.url}apps/console")
            tab.wait_for_selector(".ckx-card")
            tab.wait_for_function("() => document.querySelector('.ckx-tiles').innerText.includes('Ready')")
            assert "Audit trail" in tab.inner_text(".ckx-cards")
            check_looks(tab, "console")
            rows = tab.locator("[aria-label=Kernels] tbody tr")
            mine = rows.filter(has_text="idle")
            assert mine.count() == 1
            # it asks by itself every ten seconds: here, when it is told to
            tab.get_by_role("button", name="Pause").click()
            settle(tab)
            mine.get_by_role("button").click()
            before = tab.inner_text("[aria-label=Kernels] tbody")
            tab.get_by_role("button", name="Look now").dispatch_event("click")  # as a timer does: no focus moves
            tab.wait_for_function(
                "(was) => document.querySelector('[aria-label=Kernels] tbody').innerText !== was", arg=before
            )
            mine.get_by_role("button", name="Really stop").click()
            tab.wait_for_selector(".ckx-said:has-text('was stopped')")
            tab.get_by_role("button", name="Go on").click()
            mine.wait_for(state="detached")
            tab.get_by_role("button", name="Verify the trail").click()
            tab.wait_for_selector(".ckx-said:has-text('as it was written')")
            tab.get_by_label("Event").fill("admin")
            tab.get_by_label("Event").press("Enter")
            tab.wait_for_selector("[aria-label^='Audit trail'] tbody tr:has-text('stop kernel')")
        told = [entry["data"]["action"] for entry in entries(gate.data / "audit" / "audit.jsonl", event="admin_action")]
        assert "stop kernel" in told
        assert "verify audit trail" in told
