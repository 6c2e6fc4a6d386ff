"""What a job's process hands over: what it says is not believed, and its time is not run over."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from codesign_kernel.scopes import Scope
from codesign_kernel.server.runner import Ran, Runner, TooLargeError, _collected, read_below, text_of

SCOPE = Scope("s", capabilities=frozenset({"profile", "explore"}))


def _out(folder: Path, job: str = "j") -> Path:
    out = folder / "out" / job
    out.mkdir(parents=True)
    (out / "result.json").write_text("{}")
    return out


def test_a_link_out_of_the_cell_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"stolen": 1}')
    work = tmp_path / "work"
    out = _out(work)
    (out / "result.json").unlink()
    (out / "result.json").symlink_to(tmp_path / "secret")
    assert "error" in _collected(work, "j", [], SCOPE)
    assert json.loads((out / "result.json").read_text()) == {"stolen": 1}  # as it would be without O_NOFOLLOW
    (work / "out" / "k").symlink_to(out)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        read_below(work, ("out", "k", "result.json"), 10)


def test_pipes_hard_links_and_large_files_are_refused(tmp_path: Path) -> None:
    out = _out(tmp_path)
    os.mkfifo(out / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_below(tmp_path, ("out", "j", "pipe"), 10)
    os.link(out / "result.json", tmp_path / "other")
    with pytest.raises(OSError, match="no regular file"):
        read_below(tmp_path, ("out", "j", "result.json"), 10)
    (out / "big").write_bytes(b"x" * 11)
    with pytest.raises(TooLargeError, match=r"at most 10 bytes \(artefact_bytes\)"):
        read_below(tmp_path, ("out", "j", "big"), 10)


@pytest.mark.parametrize("files", [[{"name": "../x", "media_type": "text/csv"}], [{"name": ".x"}], [1], None,
                                   [{"name": "x", "media_type": "text/html"}]])  # fmt: skip
def test_odd_files_are_refused(tmp_path: Path, files: Any) -> None:
    _out(tmp_path)
    assert "error" in _collected(tmp_path, "j", files, SCOPE)


def test_odd_lines_are_dropped(tmp_path: Path) -> None:
    runner, told = Runner(None, tmp_path), []  # type: ignore[arg-type]
    ran = Ran(lambda *facts: told.append(facts), lambda *facts: told.append(facts))
    lines = [
        "no json", "[" * 5_000, "7", "x" * 100_000, '{"job": "other", "kind": "made"}',
        '{"job": "j", "kind": "progress", "done": NaN}',
        '{"job": "j", "kind": "progress", "done": "1"}', '{"job": ["j"], "kind": "made"}', "x" * 100_000,
    ]  # fmt: skip
    for line in lines:
        runner._line(tmp_path, SCOPE, {"j"}, line, ran)
    assert told == []
    line = '{"job": "j", "kind": "progress", "done": 7, "message": "a\\u001b[2Jb"}'
    runner._line(tmp_path, SCOPE, {"j"}, line, ran)
    assert told == [("j", 1.0, "a [2Jb", True)]
    assert text_of("\ud800<b>" * 3, 4) == " <b>"


def test_an_exploration_ends_with_what_it_has_before_its_scope_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codesign_kernel import scopes
    from codesign_kernel.server import work

    scope = scopes.Scope("short", capabilities=frozenset({"explore"}), models=("*",), templates=("*",))
    (tmp_path / "short.toml").write_text(scopes.toml_of(scope))
    monkeypatch.setenv(scopes.VARIABLE, str(tmp_path / "short.toml"))
    scopes.current.cache_clear()
    request = {"network": "lenet5", "space": "default", "sampler": "random", "budget": 3_000}
    try:
        monkeypatch.setattr(work, "BEGAN_S", time.monotonic() - 0.81 * scope.limits["wall_s"])
        made = work.explore_job(request, {}, lambda *_: None)
    finally:
        scopes.current.cache_clear()
    assert made.result["stopped"] == "stopped"
    assert 0 < made.result["designs"] < request["budget"]
    assert made.result["front_designs"] == len(made.result["front"]) > 0
