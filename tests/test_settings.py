"""Settings: choices that a page may not make up, what they come to, and a deed in a thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("codesign_widgets")

from codesign_kernel.errors import InvalidInputError
from codesign_widgets import Choice, Control, Settings

CELL = """
from codesign_widgets import Choice, Control, Settings
Settings([Choice("kind", "Kind", {"a": "First", "b": "Second"}, "a", "Which."),
          Choice("some", "Some", {"x": "One", "y": "Other"}, ("x",), "Any.", True),
          Control("size", "Size", "PE", (1, 2, 4), 2, "How many.", True)],
         lambda values: [{"label": "Size", "value": str(values["size"]), "note": ""}],
         "Make", lambda values, progress: progress(1, 1, "made"), lambda: ("made.zip", b"PK"))
"""
FIELDS = [
    Choice("kind", "Kind", {"a": "First", "b": "Second"}, "a", "Which."),
    Choice("some", "Some", {"x": "One", "y": "Other"}, ("x",), "Any.", True),
    Control("size", "Size", "PE", (1, 2, 4), 2, "How many.", True),
]
USUAL = {"kind": "a", "some": ["x"], "size": 2}


def expected(values: dict[str, Any]) -> list[dict[str, str]]:
    if values["size"] == 4:
        raise InvalidInputError("size = 4 is too much; take less")
    return [{"label": "Size", "value": str(values["size"]), "note": ""}]


def test_what_a_page_sends_is_checked_and_blamed() -> None:
    settings = Settings(FIELDS, expected)
    assert settings.values == USUAL
    for wrong, control in [
        ({"kind": "c"}, "kind"),
        ({"kind": ["a"]}, "kind"),
        ({"some": []}, "some"),
        ({"some": ["x", "x"]}, "some"),
        ({"some": [{}]}, "some"),
        ({"size": 1e9}, "size"),
        ({"size": 4}, "size"),
        ({"more": 1}, ""),
    ]:
        settings.query = {"seq": settings.answer["seq"] + 1, "do": "look", "values": {**USUAL, **wrong}}
        assert settings.answer["error"]["control"] == control, wrong
        assert settings.answer["tiles"] == [{"label": "Size", "value": "2", "note": ""}], "the last good answer stays"
    settings.query = {"seq": 99, "do": "look", "values": {"kind": "b", "some": ["y", "x"], "size": 1}}
    assert settings.answer["error"] is None
    assert settings.values == {"kind": "b", "some": ["x", "y"], "size": 1}
    settings.query = {"seq": 100, "do": "run", "values": USUAL}
    assert "nothing to be done" in settings.answer["error"]["text"]
    settings.close()


def test_a_deed_is_done_once_at_a_time_and_what_is_made_can_be_fetched() -> None:
    go, done, deeds = threading.Event(), [], []

    def deed(values: dict[str, Any], progress: Any) -> None:
        deeds.append(values)
        progress(1, 2, "parts")
        assert go.wait(10)

    settings = Settings(FIELDS, expected, "Make", deed, lambda: ("a.zip", b"PK"))
    settings.query = {"seq": 1, "do": "fetch"}
    assert "before it is made" in settings.answer["error"]["text"]
    settings.query = {"seq": 2, "do": "run", "values": USUAL}
    settings.query = {"seq": 3, "do": "run", "values": USUAL}
    assert "one of these runs at a time" in settings.answer["error"]["text"].lower()
    go.set()
    assert settings.wait(10)
    settings.when_done(lambda: done.append(1))
    assert (settings.state, deeds, done) == ("done", [USUAL], [1])
    settings.query = {"seq": 4, "do": "fetch"}
    assert (settings.parcel, settings.parcel_bytes) == ({"name": "a.zip", "count": 1}, b"PK")
    settings.query = {"seq": 5, "do": "look", "values": {**USUAL, "size": 1}}
    assert settings.answer["stale"]
    settings.close()


def test_a_deed_that_fails_says_what_may_be_said() -> None:
    def deed(values: dict[str, Any], progress: Any) -> None:
        raise (ValueError if values["kind"] == "a" else InvalidInputError)("/secret/path")

    settings = Settings(FIELDS, expected, "Make", deed)
    for kind, told in (("a", "ValueError"), ("b", "/secret/path")):
        settings.query = {"seq": settings.answer["seq"] + 1, "do": "run", "values": {**USUAL, "kind": kind}}
        settings.wait(10)
        assert settings.state == "failed"
        assert told in settings.answer["failure"]
        assert (kind == "a") == ("secret" not in settings.answer["failure"])
    settings.close()
