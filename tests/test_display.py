"""Results in a notebook: three forms of each, made when they are shown, safe with any name, and never in the way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import codesign_kernel as ck
from codesign_kernel.accelerator import catalog
from codesign_kernel.accelerator.causes import CAUSES, Causes, LayerCauses
from codesign_kernel.cosim.check import Mismatch
from codesign_kernel.cosim.timing import Timed
from codesign_kernel.display import HTML, KINDS, PLAIN, PLOTLY, Shown
from codesign_kernel.errors import StoreError
from codesign_kernel.explore import explore
from codesign_kernel.explore.goal import Goal
from codesign_kernel.figures import cards, work_info
from codesign_kernel.figures.cards import FORMS
from codesign_kernel.session.verification import Failure
from codesign_kernel.session.workflow.result import StepResult

IPYTHON = pytest.importorskip("IPython")

from explorecases import SPACE  # noqa: E402 - behind what they need
from explorecases import results as made_up  # noqa: E402
from IPython.core.formatters import DisplayFormatter  # noqa: E402

HOSTILE = '<img src=x onerror="alert(1)">&<script>alert(2)</script>'
#: What a card is made of.
TAGS = {*["div", "p", "dl", "dt", "dd", "b", "span", "table", "caption", "thead", "tbody", "tr", "th", "td"]}
#: Results with a figure.
DRAWN = {"CoOptimization", "Cost", "CosimReport", "Exploration", "FusionReport", "Profile"}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """One of each kind, named as badly as can be."""
    from codesign_kernel.optimize import DigitsCNN

    model = type(HOSTILE, (DigitsCNN,), {})()
    images = np.random.default_rng(0).random((2, 1, 8, 8)).astype(np.float32)
    profile = ck.profile(model, model.conv1.weight.new_zeros((1, 1, 8, 8)), name=HOSTILE)
    machine = ck.Accelerator.systolic(4, 4, activation_kib=2, weight_kib=16, accumulator_kib=2, name=HOSTILE)
    space = ck.DesignSpace(rows=(4, 8), cols=(4, 8), weight_kib=(1, 8, 16), frequency_mhz=(100, 200))
    found = ck.explore(profile, space, constraints={"latency_ms": 0.05})
    layers = (ck.Layer(HOSTILE, "conv2d", C=4, K=8, OY=6, OX=6, FY=3, FX=3, IY=8, IX=8),)
    shown = [profile, ck.Workload(HOSTILE, layers), ck.evaluate(profile, machine), machine, ck.Design(machine)]
    shown += [catalog("tpu_v1"), found, space, found.recommend()]
    shown += [ck.quantize(model, images), ck.fusion_report(model, images[:1]), pairs(found, space)]
    shown += [
        ck.RtlBundle(machine, "core", {f"{HOSTILE}.v": "module\n", "core.vhd": "entity\n"}),
        checked(),
        verified(),
    ]
    return {type(one).__name__: one for one in [*shown, ran(), *simulated()]}


def simulated() -> list[Any]:
    """A product on the array, a window of a run, and a run."""
    window = ck.Waveform(0, 9, (), (Timed(0, HOSTILE, HOSTILE, 0, 9, 9),) * 12)
    run = ck.Recording(0, 9, window.instructions, 5.0, lambda first, last: window, window)
    return [ck.array_trace(np.ones((2, 2), int), np.ones((2, 2), int), rows=2, cols=2), window, run]


def checked() -> ck.CosimReport:
    slots = {**dict.fromkeys(CAUSES, 0), "useful": 300, "weights": 100}
    told = dict.fromkeys(("cycles_rtl", "cycles_model", "cycles_program"), 100)
    no = dict.fromkeys(("cycle_mismatches", "instruction_mismatches", "boot_cycles_rtl", "boot_cycles_model"), 0)
    first = Mismatch(0, HOSTILE, 0, 0, 0, 1, 2, 0, 9)
    return ck.CosimReport(
        HOSTILE, 3, 1, first, instructions=9, first_instruction=None, design=HOSTILE, network=HOSTILE, rtl_digest="",
        outputs=np.zeros(1), causes=Causes(4, (LayerCauses(HOSTILE, 100, slots),)), **told, **no,
    )  # fmt: skip


def verified() -> ck.VerifyReport:
    failure = Failure(3, f"codesign {HOSTILE}", HOSTILE, HOSTILE, HOSTILE)
    return ck.VerifyReport(HOSTILE, 0, 9, 8, 20, 30, 40, 5000, (HOSTILE,), {HOSTILE: 2}, failure, 1.5)


def ran() -> ck.WorkflowResult:
    return ck.WorkflowResult(HOSTILE, (StepResult(HOSTILE, "", "ran", told=HOSTILE),), HOSTILE)


def pairs(found: ck.Exploration, space: ck.DesignSpace) -> ck.CoOptimization:
    """What a joint search gives, of which the card reads the front and the counts."""
    front = found.front.assign(accuracy=0.9, test_accuracy=0.8, network=1, design=found.front.index)
    front = front.sort_values("latency_ms").reset_index(drop=True)
    front["accuracy"] -= 0.01 * np.arange(len(front))[::-1]
    front["test_accuracy"] = front["accuracy"] - 0.05
    goal = Goal.of({"accuracy": "max", **found.objectives}, None)
    networks: Any = SimpleNamespace(size=12)
    return ck.CoOptimization(
        space, networks, goal, found.frame.head(3), front, found.history, {}, HOSTILE, found.provenance, {}, {},
    )  # fmt: skip


def shown(result: Any, **asked: Any) -> dict[str, Any]:
    """What IPython's own formatter makes of it; nothing but the method under test may fill the three kinds."""
    data, _ = DisplayFormatter().format(result, **asked)
    return dict(data)


def test_every_public_result_shows_itself(results: dict[str, Any]) -> None:
    public = {name for name in ck.__all__ if isinstance(getattr(ck, name), type)}
    plain = {"Layer", "MemoryLevel", "Store", "Client", "SpatialSpace"}  # a part, two handles; a space is a DesignSpace
    assert public - plain <= {*FORMS}, f"without a card: {public - plain - {*FORMS}}"
    assert issubclass(ck.SpatialSpace, Shown)
    untried = {*FORMS} - {*results} - {"Cluster", "Examination", "NetworkSpace"}
    assert not untried, f"this test makes one of each: {untried}"


def test_three_forms_by_ipython(results: dict[str, Any]) -> None:
    for name, result in results.items():
        data = shown(result)
        assert {*data} == ({*KINDS} if name in DRAWN else {PLAIN, HTML}), name
        assert data[PLAIN] == str(result), name
        assert 1000 < len(data[HTML]) < 12_000, (name, len(data[HTML]))
        assert data[HTML].count("<div") == data[HTML].count("</div>"), name
        if name in DRAWN:
            assert data[PLOTLY]["data"], name
            words = data[PLOTLY]["layout"]["meta"]
            assert words["title"], name
            tiles = {unescape(k): unescape(v) for k, v in re.findall("<dt>(.*?)</dt><dd.*?><b>(.*?)</b>", data[HTML])}
            assert words["subtitle"] == " · ".join(f"{label} {value}" for label, value in tiles.items()), name
            assert len(json.dumps(data[PLOTLY], allow_nan=False)) < 100_000, name


def test_cycles_of_runs_and_windows(results: dict[str, Any]) -> None:
    """The last cycle of a window counts; a time stands there only where the clock is known."""
    waves, run = results["Waveform"], results["Recording"]
    timed = replace(waves, cycle_ns=5.0)
    for one, told in ((waves, "10 in all<"), (timed, "10 in all, 50.0 ns<"), (run, "9 in all, 45.0 ns<")):
        assert told in shown(one)[HTML], told


def test_no_name_becomes_markup(results: dict[str, Any]) -> None:
    named = 0
    for name, result in results.items():
        body = re.sub("<style>.*?</style>", "", shown(result)[HTML])
        tags = {*re.findall(r"<\s*/?\s*([a-zA-Z]+)", body)}
        assert tags <= TAGS, name
        assert "http" not in body, name
        assert 'onerror="' not in body, name
        named += "&lt;img" in body
    assert named >= 9, "the bad name was not shown at all"


def test_only_what_is_asked_for_is_made(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    profile = results["Profile"]
    assert {*shown(profile, include=[PLAIN])} == {PLAIN}
    assert {*shown(profile, exclude=[PLOTLY])} == {PLAIN, HTML}
    assert {*profile._repr_mimebundle_(include={HTML, PLOTLY}, exclude=(HTML,))} == {PLOTLY}
    made: list[Any] = []
    monkeypatch.setattr(cards, "shown_as", lambda result, kinds: made.append(kinds) or {})
    profile._repr_mimebundle_(include=[PLAIN])
    assert not made
    profile._repr_mimebundle_(exclude=[PLAIN, PLOTLY])
    assert made == [[HTML]]


def test_a_terminal_gets_words_alone(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(display_formatter=SimpleNamespace(active_types=[PLAIN]))
    monkeypatch.setattr(IPYTHON, "get_ipython", lambda: terminal)
    assert {*results["Cost"]._repr_mimebundle_()} == {PLAIN}
    assert {*results["Cost"]._repr_mimebundle_(include=[HTML])} == {HTML}, "who asks for more gets it"


def test_what_cannot_be_made_is_left_out(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Any) -> Any:
        raise StoreError("the store is closed")

    result = results["Cost"]
    form = FORMS["Cost"]
    monkeypatch.setitem(cards.FORMS, "Cost", form._replace(figure=closed))
    assert {*result._repr_mimebundle_()} == {PLAIN, HTML}
    monkeypatch.setitem(cards.FORMS, "Cost", form._replace(card=closed))
    assert result._repr_mimebundle_() == {PLAIN: str(result)}
    monkeypatch.setitem(sys.modules, "codesign_kernel.figures.cards", None)  # as where plotly is missing
    assert result._repr_mimebundle_() == {PLAIN: str(result)}


def test_a_mistake_of_ours_is_not_hidden(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cards.FORMS, "Cost", FORMS["Cost"]._replace(card=lambda cost: cost.latncy))
    with pytest.raises(AttributeError, match="latncy"):
        results["Cost"]._repr_mimebundle_()


def test_other_objectives_have_a_card_and_no_picture(results: dict[str, Any]) -> None:

    def sized(columns: Any) -> dict[str, Any]:
        return {**made_up(columns), "size": columns["rows"] * columns["cols"]}

    found = explore(SPACE, sized, objectives=("latency_ms", "size"), sampler="random", budget=40)
    assert {*shown(found)} == {PLAIN, HTML}
    assert "Least size" in shown(found)[HTML]


def test_frames_stay_pandas_own(results: dict[str, Any]) -> None:
    front = results["Exploration"].front
    assert not isinstance(front, Shown)
    assert {*shown(front)} == {PLAIN, HTML}
    assert shown(front)[HTML] == front._repr_html_()


def test_where_the_work_is(results: dict[str, Any]) -> None:
    info = work_info(results["Profile"])
    assert sum(bar.macs for bar in info.bars) == info.macs == results["Profile"].macs
    assert info.finding.startswith("1 of 3 operators do 88")
    few = work_info(results["Profile"], rows=2)
    assert sum(bar.macs for bar in few.bars) == info.macs
    assert few.bars[-1].operators == 2
    assert few.bars[-1].name == "2 smaller ones"


def test_the_door_loads_nothing() -> None:
    told = "import sys, codesign_kernel.profiler.result, codesign_kernel.display; print('plotly' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
