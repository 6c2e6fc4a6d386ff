"""The viewer of sources and waveforms: what it answers, what it keeps, and the page in a browser."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from cases import TINY, pair, random_inputs

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need

from codesign_widgets.rtl_sources import marks_of  # noqa: E402
from codesign_widgets.rtl_view import MOST_SIGNALS, Limits, lawful, window_in  # noqa: E402

A = TINY["2x2"]


@pytest.fixture(scope="module")
def bundle(builds: Path) -> ck.RtlBundle:
    return ck.generate_rtl(A)


@pytest.fixture(scope="module")
def run(builds: Path) -> ck.Recording:
    return ck.record_waves(A, pair(), random_inputs(np.random.default_rng(1), pair(), 1))


@pytest.fixture(scope="module")
def viewer(bundle: ck.RtlBundle, run: ck.Recording) -> Any:
    made = codesign_widgets.RtlViewer(bundle, run, ["pc", "systolic0.swap"])
    yield made
    made.close()


class TestAnswers:
    def test_marks_and_windows(self, viewer: Any, bundle: ck.RtlBundle, run: ck.Recording) -> None:
        assert viewer.marks["file"] == viewer.view["file"] == f"{bundle.top}.v"
        ids = [one["id"] for one in viewer.view["signals"]]
        assert [viewer.setup["run"]["signals"][at][1] for at in ids] == ["pc", "swap"]
        vhdl = f"{bundle.top}.vhd"
        viewer.query = {"seq": 1, "file": vhdl, "signals": ids[:1], "first": 20, "last": 80}
        assert (viewer.answer["seq"], viewer.answer["error"]) == (1, None)
        assert viewer.marks == {"file": vhdl, "data": marks_of(bundle.files[vhdl], "vhdl")}
        (pc,) = viewer.waves["signals"]
        assert (viewer.waves["first"], viewer.waves["last"], pc["id"]) == (20, 80, ids[0])
        times = np.frombuffer(pc["times"], "<i4")
        values = np.frombuffer(pc["value"], np.uint8).reshape(len(times), -1)[:, 0]
        begins = {one.begin: one.address for one in run.instructions}
        # the program counter moves on while an instruction is fetched, and holds before the window already
        assert times[0] <= 40 < times[1] < times[-1] < 162
        inside = [address for begin, address in begins.items() if 20 < begin < 78]
        assert len(inside) == 2
        assert [value - 1 for value in values[1:].tolist()] == inside
        assert not any(pc["unknown"])

    def test_a_window_beyond_what_is_loaded_is_simulated(self, viewer: Any, run: ck.Recording) -> None:
        ids = [one["id"] for one in viewer.view["signals"]]
        viewer.query = {"seq": 2, "signals": ids, "first": run.last - 5, "last": run.last}
        assert viewer.answer["error"] is None
        assert (viewer.waves["first"], viewer.waves["last"], len(viewer.waves["signals"])) == (
            run.last - 5,
            run.last,
            2,
        )

    def test_whatever_a_page_asks_is_answered(self, viewer: Any, run: ck.Recording) -> None:
        hostile: list[Any] = [
            "x",
            7,
            {"file": 3},
            {"file": ["a"]},
            {"file": "<b>none</b>"},
            {"file": "../../etc/passwd"},
        ]
        windows = [(0, 10**9), (-1, 3), (5, 4), (None, 3), ("0", 3), (0.5, 3), (True, 3), (float("nan"), 3), ([], {})]
        hostile += [{"signals": [0], "first": first, "last": last} for first, last in windows]
        signals = ["0", 0, {"0": 1}, [-1], [10**9], [None], [True], [0.0], [[0]], [0, 0], [*range(MOST_SIGNALS + 1)]]
        hostile += [{"signals": one, "first": 0, "last": 3} for one in signals]
        before = (viewer.waves, viewer.marks)
        for number, asked in enumerate(hostile):
            viewer.query = asked if not isinstance(asked, dict) else {"seq": 10 + number, **asked}
            if isinstance(asked, dict):
                assert viewer.answer["error"]["text"], asked
                assert viewer.answer["error"]["control"] == ("file" if "file" in asked else "waves")
        assert (viewer.waves, viewer.marks) == before

    def test_sources_alone(self, bundle: ck.RtlBundle) -> None:
        made = codesign_widgets.RtlViewer(bundle)
        made.query = {"seq": 1, "signals": [0], "first": 0, "last": 1}
        assert "has no waveform" in made.answer["error"]["text"]
        assert (made.setup["run"], made.view["signals"]) == (None, [])
        with pytest.raises(InvalidInputError, match="2 did not run"):
            made.look_at(2)
        made.close()


class TestView:
    def test_what_is_chosen_from_python(self, viewer: Any, bundle: ck.RtlBundle, run: ck.Recording) -> None:
        viewer.show("codesign_lane")
        assert (viewer.view["language"], viewer.view["file"]) == ("verilog", "codesign_lane.v")
        assert bundle.files["codesign_lane.v"].split("\n")[viewer.view["line"] - 1].startswith("module codesign_lane")
        viewer.show(f"{bundle.top}.vhd", 12)
        assert (viewer.view["language"], viewer.view["line"]) == ("vhdl", 12)
        one = run.instructions[3]
        viewer.look_at(one.address)
        assert viewer.view["cursors"] == [one.begin, one.begin + one.got]
        assert viewer.view["window"][0] < one.begin < one.begin + one.got < viewer.view["window"][1]
        viewer.look(run.last - 20, run.last + 500)
        assert viewer.view["window"][1] == run.last + 1
        for wrong in ("none.v", ""):
            with pytest.raises(InvalidInputError, match="there are"):
                viewer.show(wrong)
        with pytest.raises(InvalidInputError, match="99999 did not run"):
            viewer.look_at(99999)

    def test_whatever_a_page_chose_is_lawful(self, viewer: Any) -> None:
        """Every trait of every kind of value: what is kept can be sent again, and changes nothing more."""
        values: list[Any] = [
            None,
            True,
            -1,
            10**400,
            1e308,
            float("nan"),
            "<b>",
            "x" * 999,
            [],
            {},
            [None, "a"],
            [[1], {}],
        ]
        values += [
            [0, float("inf")],
            [3, 1],
            [{"id": 10**9}],
            [{"id": 0, "radix": "<b>"}] * 3,
            {"text": 3},
            {"text": "("},
        ]
        for name, value in itertools.product([*viewer.view, "other"], values):
            viewer.view = {name: value}
            now = viewer.view
            assert set(now) == {"language", "file", "line", "find", "signals", "window", "cursors"}
            viewer.view = now
            assert viewer.view == now
        for value in values:
            viewer.view = value

    def test_whatever_a_client_sets_is_lawful(self, viewer: Any, bundle: ck.RtlBundle) -> None:
        """A client's message is validated when it stands in the traits already, and all of it at once."""
        viewer.show(f"{bundle.top}.v", 2)
        before = dict(viewer.view)
        hostile: list[Any] = [
            5, None, "x", [], {"file": "/etc/passwd"}, {"file": ["a"], "line": 10**400}, {"language": {}},
            {"window": [10**400, "1"]}, {"cursors": [{}, []]}, {"find": {"text": 5}}, {"evil": 1},
        ]  # fmt: skip
        for value in hostile:
            viewer.set_state({"view": value})
            assert viewer.view == before, value
        viewer.set_state({"view": {**before, "line": 3, "signals": "all", "evil": 1}})
        assert viewer.view == {**before, "line": 3}
        viewer.set_state({"view": {"file": 7, "line": 9}})
        assert viewer.view == {**before, "line": 3}, "what was lawful last is kept"

    def test_only_its_own_sources_are_read(self, bundle: ck.RtlBundle) -> None:
        made = codesign_widgets.RtlViewer(bundle)
        top = f"{bundle.top}.v"
        modules = {"verilog": {"top": "evil", "modules": {"evil": {"file": "evil.v", "line": 1, "parts": []}}}}
        made.set_state({"sources": {"evil.v": "x" * 99, top: "/*" * 99}, "setup": {"outline": modules}})
        made.set_state({"query": {"seq": 1, "file": "evil.v"}})
        assert "but got 'evil.v'" in made.answer["error"]["text"]
        made.set_state({"query": {"seq": 2, "file": top}})
        assert (made.answer["seq"], made.answer["error"]) == (2, None)
        assert made.marks == {"file": top, "data": marks_of(bundle.files[top], "verilog")}
        made.show("codesign_lane")
        assert made.view["file"] == "codesign_lane.v"
        for wrong in ("evil", "evil.v"):
            with pytest.raises(InvalidInputError, match="there are"):
                made.show(wrong)
        made.close()

    def test_laws_of_windows(self) -> None:
        limits = Limits({"a.v": 3}, ["verilog"], 2, 10, 99)
        assert window_in([0, 50], limits) == [10, 60]
        assert window_in([80, 130], limits) == [50, 100]
        assert window_in([-1e9, 1e9], limits) == [10, 100]
        assert window_in([50, 50.001], limits) == [50, 52]
        kept = lawful({"signals": [{"id": 1, "radix": "bin"}, {"id": 1}, {"id": 2}], "cursors": [5, None]}, {}, limits)
        assert kept == {"signals": [{"id": 1, "radix": "bin"}], "cursors": [10, None]}


def test_bad_arguments_are_refused(bundle: ck.RtlBundle, run: ck.Recording) -> None:
    class Empty:
        files = MappingProxyType({"readme.md": ""})
        top = "top"

    for make, told in (
        (lambda: codesign_widgets.RtlViewer(Empty()), "the bundle has none"),
        (lambda: codesign_widgets.RtlViewer(bundle, run, "pc"), r"write \['pc'\]"),
        (lambda: codesign_widgets.RtlViewer(bundle, run, ["pc", "missing"]), "it has no 'missing'"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            make()


CELL = """
import numpy as np
import codesign_kernel as ck
from codesign_kernel.session.cases import random_inputs, random_layer
from codesign_widgets import RtlViewer
rng = np.random.default_rng(0)
first = random_layer(rng, "first", 3, 2, (2, 2), 8, padding=(1, 1), relu=True, pool=2)
second = random_layer(rng, "second", 3, 12, (1, 1), 8, op="linear", flatten=True)
network = ck.IntegerNetwork("pair", (2, 3, 3), 0.1, 8, (first, second))
design = ck.Accelerator.systolic(2, 2, activation_kib=0.125, weight_kib=0.5, accumulator_kib=0.0625, instruction_kib=1)
run = ck.record_waves(design, network, random_inputs(rng, network, 1))
RtlViewer(ck.generate_rtl(design), run)
"""


#: A run of which a file is left, and nothing says how fast the clock was.
VCD_CELL = """
from pathlib import Path
from tempfile import TemporaryDirectory
import codesign_kernel as ck
from codesign_widgets import RtlViewer
text = "$timescale 1 ns $end\\n$scope module top $end\\n$var wire 1 ! live $end\\n"
text += "$upscope $end\\n$enddefinitions $end\\n"
with TemporaryDirectory() as folder:
    Path(folder, "run.vcd").write_text(text + "#0\\n0!\\n#9\\n1!\\n#80\\n")
    waves = ck.read_waves(Path(folder, "run.vcd"))
bundle = ck.RtlBundle(ck.Accelerator.systolic(2, 2), "top", {"top.v": "module top;\\n" + " " * 60 + "\\nendmodule\\n"})
viewer = RtlViewer(bundle, waves)
viewer.view = {"find": {"text": "( +)+$x", "regex": True}}
viewer
"""


def _sources(tab: Any) -> None:
    """The tree, the files and the search, by keyboard and by mouse."""
    line = lambda: tab.inner_text(".ckx-here .ckx-text")  # noqa: E731
    assert line().startswith("module codesign_core")
    tab.focus(".ckx-sources [role=treeitem]")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    name = tab.inner_text(".ckx-sources [aria-selected=true] > .ckx-node .ckx-note").split(" ")[-1]
    tab.wait_for_function(
        "(name) => document.querySelector('.ckx-here').textContent.includes('module ' + name)", arg=name
    )
    tab.wait_for_selector(".ckx-code .ckx-w2")
    tab.focus(".ckx-search input[type=search]")
    tab.keyboard.type("MODULE codesign_")
    # of all that was typed: the word alone stands in each file more than once
    tab.wait_for_function(r"/^(\d+) in \1 files$/.test(document.querySelector('.ckx-search .ckx-hint').textContent)")
    many = tab.locator(".ckx-search .ckx-hits option").count()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Shift+Enter")
    assert f"1 of {many} in {many} files" in tab.inner_text(".ckx-search .ckx-hint")
    assert "".join(tab.locator(".ckx-here mark").all_inner_texts()) == "module codesign_"
    tab.check(".ckx-tick:has-text('regex') input")
    tab.fill(".ckx-search input[type=search]", "(")
    tab.wait_for_selector(".ckx-search .ckx-error")
    tab.fill(".ckx-search input[type=search]", r"entity codesign_\w+ is$")
    tab.wait_for_function(f"document.querySelectorAll('.ckx-search .ckx-hits option').length === {many}")
    tab.focus(".ckx-code")
    tab.keyboard.press("F3")
    assert line().startswith("entity codesign_")
    assert tab.locator(".ckx-line").count() < 80, "only what is in sight is in the page"
    with tab.expect_download() as got:
        tab.click("text=Download")
    assert "entity codesign_core" in Path(got.value.path()).read_text()


def _waves(tab: Any) -> None:
    """Cursors, zoom, instructions, radix and signals, by keyboard and by mouse."""
    told, title = (lambda: tab.inner_text(".ckx-told")), (lambda: tab.inner_text(".ckx-waves > .ckx-title"))
    value = lambda name: tab.inner_text(f".ckx-signal:has-text('{name}') .ckx-value")  # noqa: E731
    tab.focus(".ckx-stage")
    tab.keyboard.press("Home")
    assert "A at cycle 0, 0 ns" in told()
    tab.keyboard.press("]")
    assert "13 cycles" not in told()
    tab.keyboard.press("ArrowRight")
    assert "A at cycle 14, 70 ns" in told()
    tab.keyboard.press("Shift+ArrowRight")
    assert "9.5" not in told()
    assert "cycles apart" in told()
    box = tab.locator(".ckx-stage").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 90)
    middle = tab.evaluate("document.querySelector('.ckx-told').textContent")
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 90)
    before = title()
    tab.mouse.wheel(0, -300)
    tab.wait_for_function(
        "(before) => document.querySelector('.ckx-waves > .ckx-title').textContent !== before", arg=before
    )
    assert told() == middle, "zooming moves no cursor"
    # behind what is loaded: the kernel simulates it
    tab.focus(".ckx-stage")
    tab.keyboard.press("End")
    tab.wait_for_function("document.querySelector('.ckx-signal:nth-child(3) .ckx-value').textContent !== ''")
    assert "HALT" in title()
    # the program leads there, and back
    tab.focus(".ckx-program")
    tab.keyboard.press("Home")
    assert "LOADA at address 2" in title()
    tab.click(".ckx-program .ckx-instruction >> nth=2")
    assert "CONV" in title()
    assert "42 cycles apart, 210 ns" in told()
    tab.wait_for_function("document.querySelector(\".ckx-signal:has(.ckx-name) .ckx-value\").textContent !== ''")
    tab.click(".ckx-signal:has-text('pc')")
    tab.select_option(".ckx-tools select", "bin")
    assert set(value("pc")) <= {"0", "1"}
    shown = tab.locator(".ckx-signal").count()
    tab.click("summary:has-text('Add signals')")
    tab.fill(".ckx-known input", "swap")
    tab.select_option(".ckx-known select", index=0)
    tab.focus(".ckx-known select")
    tab.keyboard.press("Enter")
    assert tab.locator(".ckx-signal").count() == shown + 1
    tab.locator(".ckx-signal").last.click()
    tab.keyboard.press("Delete")
    assert tab.locator(".ckx-signal").count() == shown


def _patterns(tab: Any) -> None:
    """A regular expression that never ends is stopped, and the page answers meanwhile and afterwards."""
    hint = ".ckx-search .ckx-hint"
    tab.fill(".ckx-search input[type=search]", r"^(\w+\s?)*$x|( +)+$x")
    tab.wait_for_function(f"document.querySelector('{hint}').textContent === 'Searching'")
    assert tab.evaluate("1 + 1") == 2
    tab.wait_for_function(f"document.querySelector('{hint}').textContent.includes('takes too long')")
    tab.fill(".ckx-search input[type=search]", r"^module codesign_co\w+")
    # before the search has begun: it goes there when it is done
    tab.keyboard.press("Enter")
    tab.wait_for_function(f"document.querySelector('{hint}').textContent.startsWith('1 of ')")
    assert tab.inner_text(".ckx-here .ckx-text").startswith("module codesign_co")


def _without_times(tab: Any) -> None:
    """A VCD whose clock nobody said: cycles, and no times; and a search that never ends, kept from before."""
    tab.focus(".ckx-stage")
    tab.keyboard.press("Home")
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Shift+ArrowRight")
    assert tab.inner_text(".ckx-told") == "A at cycle 0; B at cycle 2; 2 cycles apart."
    tab.wait_for_selector(".ckx-search .ckx-error:has-text('takes too long')")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_viewer_in_a_browser(pages: Served) -> None:
    with browse(pages.page("rtl", CELL), ".ckx-rtl .ckx-signal") as tab:
        _sources(tab)
        _patterns(tab)
        _waves(tab)
        check_looks(tab, "rtl")
    with browse(pages.page("vcd", VCD_CELL), ".ckx-rtl .ckx-signal") as tab:
        _without_times(tab)
