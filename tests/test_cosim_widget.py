"""The co-simulation panel: a job in a thread, its progress and its end, what it says, and the page in a browser."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import TINY, children, pair, random_inputs

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError, SimulatorError, StoppedError

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need

from codesign_widgets.cosim_words import binary, lines_of, width_of  # noqa: E402

A = TINY["2x2"]
CHOICES = {"fast": "", "absent": "not found; install it", "slow": ""}


def inputs(count: int) -> np.ndarray:
    return random_inputs(np.random.default_rng(1), pair(), count)


def mutant() -> ck.RtlBundle:
    """Sources whose outputs are never cut at zero."""
    verilog, count = re.subn(r"\(relu && ", "(1'b0 && ", ck.generate_rtl(A).verilog)
    assert count == 1
    return ck.generate_rtl(A).with_verilog(verilog)


def simulated(name: str = "myhdl", count: int = 2, **more: Any) -> ck.CosimReport:
    return ck.cosimulate(A, pair(), inputs(count), name, **more)


@pytest.fixture(scope="module")
def good(builds: Path) -> ck.CosimReport:
    return simulated()


class Job:
    """A job that goes on when a test says so, and ends as it says."""

    def __init__(self, end: Callable[[], Any]) -> None:
        self.end, self.go, self.began = end, threading.Event(), threading.Event()
        self.asked: list[tuple[str, int]] = []

    def __call__(self, simulator: str, vectors: int, progress: Any, stop: Callable[[], bool]) -> Any:
        self.asked.append((simulator, vectors))
        progress(0, vectors, "building")
        self.began.set()
        while not self.go.wait(0.01):
            if stop():
                raise StoppedError("stopped")
        progress(vectors, vectors, "inputs simulated")
        return self.end()


@pytest.fixture
def panel_of() -> Iterator[Callable[..., Any]]:
    made = []

    def make(end: Callable[[], Any]) -> tuple[Any, Job]:
        job = Job(end)
        made.append(codesign_widgets.CosimPanel(job, CHOICES, most=20))
        return made[-1], job

    before = threading.active_count()
    yield make
    for panel in made:
        panel.close()
    assert threading.active_count() == before


def test_a_job_from_beginning_to_end(panel_of: Any, good: ck.CosimReport) -> None:
    panel, job = panel_of(lambda: good)
    assert (panel.answer["state"], panel.answer["result"], panel.report) == ("idle", None, None)
    assert panel.answer["chosen"] == {"simulator": "fast", "vectors": 10}
    assert panel.setup == {"choices": CHOICES, "most": 20}
    panel.query = {"seq": 1, "do": "run", "simulator": "slow", "vectors": 2}
    assert job.began.wait(5)
    assert (panel.answer["seq"], panel.answer["error"], panel.answer["state"]) == (1, None, "running")
    assert panel.busy
    assert panel.progress == {"done": 0, "total": 2, "what": "building"}
    panel.query = {"seq": 2, "do": "run", "simulator": "fast", "vectors": 2}
    assert "one co-simulation runs at a time" in panel.answer["error"]["text"].lower()
    job.go.set()
    assert panel.wait(10) is good
    assert job.asked == [("slow", 2)]
    answer = panel.answer
    assert (answer["state"], answer["error"], panel.progress) == ("done", None, {})
    result = json.loads(json.dumps(answer["result"]))
    assert result["passed"]
    assert result["verdict"] == "Proven: all 2 inputs, bit for bit and cycle for cycle as predicted"
    assert [tile["value"] for tile in result["tiles"][:3]] == ["✓ equal", "✓ equal", "✓ on time"]
    assert (result["mismatch"], result["slip"]) == (None, None)
    rows = np.array([layer["row"] for layer in result["layers"]])
    assert rows.sum(axis=0).tolist() == [good.instructions, good.cycles_program, good.cycles_rtl, 0]
    assert len(result["lines"]) == result["instructions"] == good.instructions
    assert result["lines"][0][:3] == [2, "first", good.schedule[0].instruction]


def test_a_first_mismatch_is_explained() -> None:
    """Real sources with ReLU taken out; the words say what the report says."""
    report = simulated("icarus", 6, bundle=mutant()) if not ck.simulators()["icarus"] else pytest.skip("no icarus")
    found = report.first_mismatch
    told = codesign_widgets.cosim.result_of(report, 1.0)
    assert not told["passed"]
    assert [tile["value"] for tile in told["tiles"][:3]] == ["✗ differ", "✓ equal", "✓ on time"]
    rows = {row["term"]: row["value"] for row in told["mismatch"]["rows"]}
    assert rows["Layer"] == found.layer == "first"
    assert rows["Element"] == f"channel {found.channel}, row {found.y}, column {found.x}"
    assert rows["Cycles"] == f"{found.first_cycle} to {found.last_cycle} of the inference"
    assert re.match(r"addresses \d+ to \d+: .*CONV.*STORE", rows["Instructions"])
    expected, got, changed = told["mismatch"]["values"]
    assert (expected["value"], got["value"]) == ("0", str(found.got))
    assert found.got < 0
    assert int(got["bits"].replace(" ", ""), 2) == found.got % 256
    arrows = changed["bits"].replace(" ", "")[::-1]
    assert [at for at, sign in enumerate(arrows) if sign == "↑"] == [
        int(b) for b in re.findall(r"\d+", changed["value"])
    ]


def test_a_report_can_be_there_from_the_first(good: ck.CosimReport) -> None:
    panel = codesign_widgets.CosimPanel(lambda *_: good, CHOICES, most=3, report=good)
    assert (panel.answer["state"], panel.report) == ("idle", good)
    assert panel.answer["result"]["tiles"][3] == {"label": "Ran on", "value": "myhdl", "note": ""}
    panel.close()


def test_words_of_numbers() -> None:
    assert [width_of(7), width_of(-128), width_of(128), width_of(-129, 0), width_of(2**40)] == [8, 8, 16, 16, 64]
    assert (binary(-1, 4), binary(-128, 8), binary(5, 16)) == ("1111", "1000 0000", "0000 0000 0000 0101")


def test_long_programs_are_listed_in_part(good: ck.CosimReport) -> None:
    one = good.schedule[0]
    late = type(one)(9999, "CONV x=1", "late", 5, 3, 4)
    lines = lines_of([one] * 2000 + [late])
    assert (len(lines), lines[-1]) == (501, [9999, "late", "CONV x=1", 5, 3, 4])


def test_it_is_cancelled(panel_of: Any, good: ck.CosimReport) -> None:
    panel, job = panel_of(lambda: good)
    panel.cancel()
    assert panel.answer["state"] == "idle"
    panel.start("fast", 5)
    assert job.began.wait(5)
    panel.query = {"seq": 3, "do": "cancel"}
    assert panel.answer["state"] in ("stopping", "stopped")
    assert panel.wait(10) is None
    assert panel.answer["state"] == "stopped"
    assert panel.answer["told"].startswith("Stopped after")
    job.go.set()
    panel.start()
    assert panel.wait(10) is good
    assert job.asked == [("fast", 5), ("fast", 5)]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SimulatorError("the simulator died: try <b>again</b>"), "The simulator died: try <b>again</b>."),
        (ZeroDivisionError("secret"), "This failed (ZeroDivisionError); the kernel's log has the details."),
        (PermissionError("secret"), "This failed (PermissionError); the kernel's log has the details."),
        (ImportError("secret"), "This failed (ImportError); the kernel's log has the details."),
    ],
)
def test_a_job_that_fails_says_so(panel_of: Any, error: Exception, told: str, caplog: Any) -> None:
    def fail() -> None:
        raise error

    panel, job = panel_of(fail)
    job.go.set()
    with caplog.at_level(logging.CRITICAL):
        panel.start()
        assert panel.wait(10) is None
    assert (panel.answer["state"], panel.answer["told"], panel.answer["result"]) == ("failed", told, None)


HOSTILE: list[Any] = [
    "run", None, 7, [], {}, {"do": "run"}, {"do": ["run"]}, {"do": "format", "simulator": "fast", "vectors": 1},
    {"do": "run", "simulator": "absent", "vectors": 1}, {"do": "run", "simulator": ["fast"], "vectors": 1},
    {"do": "run", "simulator": "<img src=x>", "vectors": 1}, {"do": "run", "simulator": "fast", "vectors": 0},
    {"do": "run", "simulator": "fast", "vectors": 21}, {"do": "run", "simulator": "fast", "vectors": 10**30},
    {"do": "run", "simulator": "fast", "vectors": True}, {"do": "run", "simulator": "fast", "vectors": float("nan")},
    {"do": "run", "simulator": "fast", "vectors": "5"}, {"do": "run", "simulator": "fast", "vectors": 2.5},
]  # fmt: skip


def test_whatever_a_page_sends_is_answered(panel_of: Any, good: ck.CosimReport) -> None:
    panel, job = panel_of(lambda: good)
    deeds = [asked.get("do") if isinstance(asked, dict) else None for asked in HOSTILE]
    assert deeds.index("run") == 5
    # from there on a run is asked for: of simulators that are none, then of lawful ones with unlawful counts
    blamed = ["" if deed != "run" else "simulator" if at < 11 else "vectors" for at, deed in enumerate(deeds)]
    for asked, control in zip(HOSTILE, blamed, strict=True):
        panel.query = asked
        panel.query = {"seq": 5, **asked} if isinstance(asked, dict) else asked
        assert panel.answer["error"]["text"], asked
        assert panel.answer["error"]["control"] == control, asked
        assert panel.answer["state"] == "idle"
    assert job.asked == []
    panel.query = {"seq": 6, "do": "run", "simulator": "absent", "vectors": 1}
    assert panel.answer["error"] == {
        "control": "simulator",
        "text": "Simulator absent does not run here: not found; install it.",
    }
    panel.query = {"seq": 7, "do": "run", "simulator": "fast", "vectors": 21}
    assert panel.answer["error"]["control"] == "vectors"


def test_a_page_cannot_end_a_job_by_its_answer(panel_of: Any, good: ck.CosimReport) -> None:
    panel, job = panel_of(lambda: good)
    panel.set_state({"query": {"seq": 2, "do": "run", "simulator": "fast", "vectors": 2}})
    assert job.began.wait(5)
    panel.set_state({"answer": {"seq": "x"}, "progress": {"what": []}})
    assert panel.progress == {"done": 0, "total": 2, "what": "building"}
    job.go.set()
    assert panel.wait(10) is good
    assert (panel.answer["seq"], panel.answer["state"], panel.answer["error"]) == (2, "done", None)


def test_bad_arguments_are_refused() -> None:
    run: Any = Job(lambda: None)
    with pytest.raises(InvalidInputError, match="there is none; see `codesign doctor`"):
        codesign_widgets.CosimPanel(run, {"absent": "install it"}, most=3)
    for vectors, most in ((0, 3), (4, 3), (None, 0)):
        with pytest.raises(InvalidInputError, match="vectors is between 1 and"):
            codesign_widgets.CosimPanel(run, CHOICES, most, vectors)


def test_closing_ends_a_real_job() -> None:
    before, processes = threading.active_count(), children()
    choices = ck.simulators()
    name = next(name for name in ("ghdl", "icarus", "myhdl") if not choices[name])
    x = inputs(5000)

    def run(simulator: str, vectors: int, progress: Any, stop: Any) -> ck.CosimReport:
        return ck.cosimulate(A, pair(), x[:vectors], simulator, progress, stop=stop)

    panel = codesign_widgets.CosimPanel(run, choices, most=len(x), vectors=len(x))
    panel.start(name)
    end = time.monotonic() + 60
    while panel.progress.get("done", 0) == 0:
        assert time.monotonic() < end, panel.answer
        assert panel.busy, panel.answer
        time.sleep(0.02)
    assert panel.progress["total"] == len(x)
    panel.close()
    assert threading.active_count() <= before
    assert children() <= processes
    assert panel.report is None


CELL = """
import re
import numpy as np
import codesign_kernel as ck
from codesign_kernel.session.cases import random_inputs, random_layer
from codesign_widgets import CosimPanel
rng = np.random.default_rng(0)
first = random_layer(rng, "first", 3, 2, (2, 2), 8, padding=(1, 1), relu=True, pool=2)
second = random_layer(rng, "second", 3, 12, (1, 1), 8, op="linear", flatten=True)
network = ck.IntegerNetwork("pair", (2, 3, 3), 0.1, 8, (first, second))
x = random_inputs(np.random.default_rng(1), network, 500)
design = ck.Accelerator.systolic(2, 2, activation_kib=0.125, weight_kib=0.5, accumulator_kib=0.0625, instruction_kib=1)
rtl = ck.generate_rtl(design)
broken = rtl.with_verilog(re.sub(r"\\(relu && ", "(1'b0 && ", rtl.verilog))
def run(simulator, vectors, progress, stop):
    return ck.cosimulate(design, network, x[:vectors], simulator, progress, stop=stop, bundle=broken)
CosimPanel(run, {**ck.simulators(), "other": "other not found on PATH; install Debian's other"}, most=len(x), vectors=4)
"""

#: A button that shows the panel a second time.
AGAIN = """
import ipywidgets
from IPython.display import display
shown = ipywidgets.VBox([_panel])
once = ipywidgets.Button(description="Once more")
once.on_click(lambda _: setattr(shown, "children", (_panel, _panel)))
display(shown, once)
"""


@pytest.mark.browser
@pytest.mark.icarus
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_panel_in_a_browser(pages: Served) -> None:
    """Icarus runs sources that are wrong; MyHDL the model, which is right, and long enough to be cancelled."""
    with browse(
        pages.page("cosim", CELL.replace("\nCosimPanel(", "\n_panel = CosimPanel(") + AGAIN), ".ckx-cosim"
    ) as tab:
        told, state = (lambda: tab.inner_text(".ckx-verdict")), (lambda: tab.inner_text(".ckx-cosim .ckx-state"))
        assert tab.locator("[value=other]").is_disabled()
        assert "install Debian's other" in tab.inner_text(".ckx-off")
        tab.check("[value=myhdl]")
        tab.fill(".ckx-vectors input", "501")
        tab.click(".ckx-main")
        tab.wait_for_selector(".ckx-vectors .ckx-error:not(:empty)")
        assert "from 1 to 500, but got '501'" in tab.inner_text(".ckx-vectors .ckx-error")
        # by keyboard: the number, and Enter
        tab.focus(".ckx-vectors input")
        tab.keyboard.press("Control+a")
        tab.keyboard.type("500")
        tab.keyboard.press("Enter")
        tab.wait_for_function("document.querySelector('.ckx-doing').textContent.includes(' of 500 inputs')")
        assert tab.locator(".ckx-main").is_disabled()
        tab.focus(".ckx-cosim-form button:has-text('Cancel')")
        tab.keyboard.press("Enter")
        tab.wait_for_function("document.querySelector('.ckx-cosim .ckx-state').textContent.startsWith('Stopped after')")
        assert not tab.locator(".ckx-under").is_visible()
        tab.fill(".ckx-vectors input", "1")
        tab.click(".ckx-main")
        tab.wait_for_selector(".ckx-verdict.ckx-passed")
        assert "Proven: the only input" in told()
        tab.focus("[value=myhdl]")
        tab.keyboard.press("ArrowUp")
        assert tab.is_checked("[value=icarus]")
        tab.fill(".ckx-vectors input", "6")
        tab.click(".ckx-main")
        tab.wait_for_selector(".ckx-found")
        assert "✗ Not proven: 1 of 6 inputs differs" in told()
        assert "Differ" in tab.inner_text(".ckx-bits")
        assert state() == "Done."
        tab.click("summary:has-text('Each instruction')")
        tab.wait_for_selector(".ckx-cosim .ckx-scroll:has-text('HALT')")
        tab.wait_for_selector(".ckx-cosim .main-svg")
        check_looks(tab, "cosim")
        # the same panel once more: each view is answered, also if the other one has asked the same
        tab.click("button:has-text('Once more')")
        tab.wait_for_function("document.querySelectorAll('.ckx-cosim').length === 2")
        for place in (1, 0, 1):
            view = tab.locator(".ckx-cosim").nth(place)
            view.locator("[value=myhdl]").check()
            view.locator(".ckx-vectors input").fill("502")
            view.locator(".ckx-main").click()
            # one that waits says so after 100 ms; timers of a page go off in their order
            tab.evaluate("() => new Promise((done) => setTimeout(done, 200))")
            tab.wait_for_function("!document.querySelector('.ckx-waiting')")
            assert "but got '502'" in view.locator(".ckx-vectors .ckx-error").inner_text()
