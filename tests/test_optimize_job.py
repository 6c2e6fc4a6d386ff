"""A job that trains networks and chooses them together with their accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from codesign_kernel import scopes
from codesign_kernel.errors import ScopeError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.api.operations import check_scope
from codesign_kernel.server.api.reading import Refusal, check_schema
from codesign_kernel.server.work import STUDY_FILE, optimize_job
from codesign_kernel.server.worker import Made

SPACE = {"rows": [4, 8], "cols": 8, "weight_bits": [4, 8], "min_weight_bits": 2}
REQUEST: dict[str, Any] = {"network": "cnn", "space": SPACE, "budget": 2, "epochs": 1, "seed": 1, "name": "mine"}


def run(request: dict[str, Any], inputs: dict[str, str] | None = None) -> tuple[Made, list[tuple[int, int, str]]]:
    check_schema("OptimizationRequest", request)
    steps: list[tuple[int, int, str]] = []
    return optimize_job(request, inputs or {}, lambda *step: steps.append(step)), steps


@pytest.mark.slow
def test_networks_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of accuracy and costs come out; under the same name nothing is trained again."""
    monkeypatch.chdir(tmp_path)
    made, steps = run(REQUEST)
    told = made.result
    assert (told["networks"], told["trained"], told["space"], told["stopped"]) == (2, 2, 4, "budget")
    assert told["front_pairs"] == len(told["front"]) > 0
    assert 0.1 < max(pair["accuracy"] for pair in told["front"]) <= 1
    assert told["recommendation"]["words"].startswith(f"Take pair {told['recommendation']['pair']}: a network of")
    assert made.files["front.csv"][1].count(b"\n") == told["front_pairs"] + 1
    assert steps[-1][:2] == (2, 2)
    (tmp_path / "kept.db").write_bytes(made.files[STUDY_FILE][1])
    (tmp_path / STUDY_FILE).unlink()
    again, _ = run(REQUEST, {"study": "kept.db"})
    assert again.result == {**told, "trained": 0}


def test_what_the_scope_does_not_allow_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Scope("few", capabilities=frozenset({"explore", "optimize"}), limits={"designs": 7})
    monkeypatch.setattr(scopes, "current", lambda: few)
    with pytest.raises(ScopeError, match=r"limits designs .* to 7 designs, but this asks for 8 designs"):
        run(REQUEST)
    for lacking in ("explore", "optimize"):
        one = Scope("one", capabilities=frozenset({"explore", "optimize"} - {lacking}))
        with pytest.raises(ScopeError, match=f"capability '{lacking}'"):
            check_scope(one, "optimize", REQUEST)
        monkeypatch.setattr(scopes, "current", lambda one=one: one)
        with pytest.raises(ScopeError, match=f"capability '{lacking}'"):
            run(REQUEST)


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "keywords"},
        {"network": "resnet50"},
        {"space": "large"},
        {"space": {"rows": 4}},
        {"objectives": ["accuracy"]},
        {"constraints": {"speed": 3}},
        {"budget": 0},
        {"budget": 201},
        {"epochs": 101},
        {"workers": 2},
    ],
)
def test_a_request_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as error:
        check_schema("OptimizationRequest", {**REQUEST, **wrong})
    assert error.value.status == 422
