"""Profiler, explorer and classroom, each used to its end in a browser through a gateway; what holds for every app."""

from __future__ import annotations

import ast
import contextlib
import json
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codesign_kernel as ck
from codesign_kernel.figures.quiz import questions
from codesign_kernel.scopes import ROLES, read_scope

pytest.importorskip("codesign_widgets")
pytest.importorskip("voila")

from browser import ROOT, browse, check_looks, settle
from gateway import Gate, gateway

from codesign_kernel.store import Store
from codesign_kernel.store.consent import Consent

APPS = ROOT / "voila_apps"
NAMES = sorted(path.stem for path in APPS.glob("*.ipynb"))
#: Of a picture on the card of an app.
PICTURE_BYTES = 60_000


@pytest.mark.parametrize("name", NAMES)
def test_an_app_is_thin_and_has_all_its_parts(name: str) -> None:
    notebook = json.loads((APPS / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert notebook["cells"][0]["cell_type"] == "markdown"
    scope = read_scope(APPS / f"{name}.toml")
    assert scope.title
    assert 40 <= len(scope.summary) <= 160
    assert scope.open_to in ROLES
    assert scope.capabilities
    picture = (APPS / "public" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= PICTURE_BYTES
    width, height = struct.unpack(">II", picture[16:24])
    assert 1.5 <= width / height <= 1.8


# What evaluates machines is compiled while the explorer is tested, which does without: each kernel of the other two
# would else do that for itself.
@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with gateway(tmp_path_factory.mktemp("apps"), apps_dir=APPS, warm_kernels=0) as running:
        yield running


@contextlib.contextmanager
def opened(gate: Gate, name: str, ready: str) -> Iterator[Any]:
    """The app as people open it: signed in, from its card in the gallery."""
    with browse(gate.sign_in, f"a[href$='apps/{name}']") as tab:
        tab.locator(f"a[href$='apps/{name}']").first.click()
        tab.wait_for_selector(ready, timeout=180_000)
        yield tab


def said(tab: Any, place: str, words: str) -> None:
    """Wait until an element at ``place`` holds ``words``."""
    asked = "([place, words]) => [...document.querySelectorAll(place)].some((e) => e.innerText.includes(words))"
    tab.wait_for_function(asked, arg=[place, words])


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_explorer(gate: Gate, tmp_path: Path) -> None:
    with opened(gate, "explorer", ".ckx .ck-plot .main-svg") as tab:
        latency = tab.inner_text(".ckx-tiles dd >> nth=0")
        assert "cycles" in latency
        points = (
            "() => JSON.stringify(document.querySelector('.ckx .ck-plot').data"
            ".filter((t) => t.name === 'front' && t.mode === 'markers').map((t) => [...t.x]))"
        )
        front = tab.evaluate(points)

        # a slider of the design moves the key figures, one of the conditions the front
        rows = int(tab.get_by_role("spinbutton", name="Rows").input_value())
        tab.get_by_role("slider", name="Rows").focus()
        tab.keyboard.press("ArrowRight")
        changed = "(was) => document.querySelector('.ckx-tiles dd').innerText !== was"
        tab.wait_for_function(changed, arg=latency)
        assert int(tab.get_by_role("spinbutton", name="Rows").input_value()) == 2 * rows
        assert tab.evaluate(points) == front
        tab.get_by_role("slider", name="External bandwidth").focus()
        tab.keyboard.press("ArrowLeft")
        said(tab, ".ckx .ck-subtitle", "external bandwidth 1.6 GB/s")
        tab.wait_for_function(f"(was) => ({points})() !== was", arg=front)
        settle(tab)  # an answer would put back what is typed

        # what is not possible is told beside its control
        field = tab.get_by_role("spinbutton", name="Rows")
        field.fill("12")
        field.press("Enter")
        said(tab, ".ckx-wrong .ckx-error", "multiple of the shorter")
        tab.get_by_role("button", name="Back to the defaults").click()
        tab.wait_for_function("() => !document.querySelector('.ckx-stale, .ckx-waiting')")
        assert tab.inner_text(".ckx-tiles dd >> nth=0") == latency

        # all of them: narrowed by a box, walked by keys, pinned, recommended, saved
        tab.get_by_role("tab", name="All designs").click()
        title = ".ckx-explorer .ck-title"
        said(tab, title, "of 60,481 designs")
        said(tab, ".ckx-advice", "Nearest cheaper: design")
        said(tab, ".ckx-advice", "To change next: ")
        tab.wait_for_selector(".ckx-explorer[data-drawn]")
        scatter = tab.locator(".ckx-scatter")
        scatter.scroll_into_view_if_needed()
        settle(tab)
        box = scatter.bounding_box()
        tab.mouse.move(box["x"] + 60, box["y"] + box["height"] * 0.8)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4, steps=4)
        tab.mouse.up()
        said(tab, ".ckx-explorer .ck-subtitle", "Limits leave")
        settle(tab)
        scatter.focus()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("Enter")
        tab.keyboard.press("End")
        tab.get_by_role("button", name="Pin", exact=True).click()
        said(tab, ".ckx-differences", "B beside A")
        with tab.expect_download() as saved:
            tab.get_by_role("button", name="Save CSV").click()
        saved.value.save_as(tmp_path / "designs.csv")
        lines = (tmp_path / "designs.csv").read_text().splitlines()
        assert f"{len(lines) - 1:,} selected" in tab.inner_text(title)
        tab.locator(".ckx-explorer").get_by_label("Network", exact=True).select_option("LeNet-5")
        said(tab, title, "selected")
        tab.get_by_role("button", name="Clear all limits").click()
        said(tab, title, "of 55,486 designs")
        check_looks(tab, "app-explorer-all")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_classroom(gate: Gate) -> None:
    with opened(gate, "classroom", ".ckx-pe") as tab:
        generator = np.random.default_rng(0)
        a, b = (generator.integers(-9, 10, shape) for shape in ((6, 4), (4, 4)))
        trace = ck.array_trace(a, b, "ws", 4, 4)
        asked = questions(trace)
        said(tab, ".ckx-animator .ck-title", f"{trace.cycles} cycles")

        # stepping by keyboard; the sentences follow
        tab.focus(".ckx-scrub")
        tab.keyboard.press("Home")
        said(tab, ".ckx-why", "The weights come first")
        first = int(np.flatnonzero(trace.busy)[0])
        for cycle in range(1, first + 1):
            tab.keyboard.press("ArrowRight")
            said(tab, ".ckx-clock", f"Cycle {cycle} /")
        said(tab, ".ckx-why", "the corner begins")

        # a wrong answer gets a hint, the right one a reason, and the array shows where
        field = tab.get_by_label(asked[0].text, exact=True)
        field.fill(str(int(asked[0].answer) + 1))
        field.press("Enter")
        said(tab, ".ckx-told", "Not yet: it is less than that")
        field.fill(str(int(asked[0].answer)))
        field.press("Enter")
        said(tab, ".ckx-told", f"Right. {asked[0].why}")
        said(tab, ".ckx-quiz .ck-title", "1 of 5 right")
        tab.get_by_role("button", name=f"Show me: {asked[2].text}").click()
        said(tab, ".ckx-told", asked[2].why)
        said(tab, ".ckx-clock", f"Cycle {asked[2].cycle} /")

        # so it does while the array plays, and where a move that the kernel has not heard of is told after the question
        tab.get_by_role("button", name="Play", exact=True).click()
        show = tab.get_by_role("button", name=f"Show me: {asked[1].text}")
        show.click()
        said(tab, ".ckx-clock", f"Cycle {asked[1].cycle} /")
        tab.get_by_role("button", name="Play", exact=True).wait_for()
        tab.focus(".ckx-scrub")
        tab.keyboard.press("End")
        show.evaluate("(show) => { show.click(); for (const end = Date.now() + 1500; Date.now() < end; ); }")
        tab.wait_for_timeout(1000)
        said(tab, ".ckx-clock", f"Cycle {asked[1].cycle} /")

        # another dataflow is another trace, with questions of its own
        tab.get_by_role("radio", name="Output stationary").check()
        said(tab, ".ckx-quiz .ck-subtitle", "outputs stay")
        said(tab, ".ckx-quiz .ck-title", "Questions")

        # one's own matrices; those that cannot be multiplied are refused in words
        tab.get_by_text("Your own matrices").click()
        tab.get_by_label("Matrix A").fill("1 2\n3 4\n5 6")
        tab.get_by_label("Matrix B").fill("1 0 2")
        tab.get_by_role("button", name="Multiply these").click()
        said(tab, ".ckx-array-form .ckx-error", "B: has a row for each column of A, which has 2, but has 1")
        tab.get_by_label("Matrix B").fill("1 0 2\n0 -1 99")
        tab.get_by_role("button", name="Multiply these").click()
        said(tab, ".ckx-animator .ck-subtitle", "3 × 2 by 2 × 3")
        tab.focus(".ckx-scrub")
        tab.keyboard.press("End")
        said(tab, ".ckx-at-c", "604")
        check_looks(tab, "app-classroom")

        tab.get_by_role("tab", name="A whole layer").click()
        tab.wait_for_selector(".ckx-mapping svg")
        tab.locator(".ckx-mapping").get_by_label("Accelerator", exact=True).select_option("Edge TPU")
        said(tab, ".ckx-mapping", "edge_tpu")
        check_looks(tab, "app-classroom-layer")


def onnx_file() -> bytes:
    from onnx import TensorProto, helper

    shapes = {"x": [1, 3, 16, 16], "y": [1, 8, 16, 16]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 3, 3, 3], np.zeros(216, np.float32))
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="<img src=x onerror=alert(1)>", pads=[1, 1, 1, 1])
    return helper.make_model(helper.make_graph([node], "net", [x], [y], [weight])).SerializeToString()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_profiler(gate: Gate, tmp_path: Path) -> None:
    tiles = ".ckx-models .ckx-tiles"
    with opened(gate, "profiler", f"{tiles} dd") as tab:
        said(tab, tiles, "301 MMAC")

        # another network, by its list; the first stays to compare with
        network = tab.locator(".ckx-source").get_by_label("Network", exact=True)
        network.focus()
        tab.keyboard.type("ResNet-18")
        network.select_option("resnet18")
        said(tab, tiles, "1.81 GMAC")
        tab.get_by_label("Compare with").select_option("MobileNetV2")
        said(tab, tiles, "MobileNetV2: 301 MMAC")

        # a file of one's own, whose names are text and nothing else
        def upload(name: str, content: bytes) -> None:
            tab.set_input_files("input[type=file]", {"name": name, "mimeType": "", "buffer": content})

        upload("small.onnx", onnx_file())
        said(tab, ".ckx-source .ckx-state", "small is what you uploaded")
        said(tab, tiles, "55.3 kMAC")
        said(tab, ".ckx-models .ckx-layers", "<img src=x")

        # what cannot be read is refused beside the button, in words, and what was shown stays
        wrong = ".ckx-own .ckx-error"
        upload("small.onnx", pickle.dumps({"weights": [1.0] * 9}))
        said(tab, wrong, "a pickle, which could run any code when it is loaded")
        upload("large.onnx", bytes((8 << 20) + 1))
        said(tab, wrong, "at most 8 MiB")
        upload("torn.onnx", onnx_file()[:-9])
        said(tab, wrong, "neither")
        assert "55.3 kMAC" in tab.inner_text(tiles)
        shown = tab.inner_text("body")
        assert "Traceback" not in shown
        assert str(gate.data) not in shown

        # what is shown can be kept
        with tab.expect_download() as saved:
            tab.get_by_role("button", name="Save the profile as JSON").click()
        assert saved.value.suggested_filename == "small.json"
        saved.value.save_as(tmp_path / "profile")
        assert json.loads((tmp_path / "profile").read_text())["name"] == "small"

        # also among one's artefacts, where one has agreed to it, to be found on the account page
        tab.get_by_role("button", name="Keep", exact=True).click()
        said(tab, ".ckx-app .ckx-error", "say yes to Keep my work on your account page")
        with Store(f"sqlite:///{gate.data / 'store.db'}") as store:
            Consent(store._database).set(gate.subject("owner"), "storage", True)
        tab.get_by_role("button", name="Keep", exact=True).click()
        said(tab, ".ckx-kept", "Kept as profile small.json; your account page has it.")

        # the roofline has the same networks; by keyboard
        tab.get_by_role("tab", name="Layers").focus()
        tab.keyboard.press("ArrowRight")
        tab.wait_for_selector(".ckx-roofline .ckx-point")
        network.select_option("mobilenet_v2")
        choices = "[...document.querySelector('.ckx-roofline select').options].map((one) => one.text)"
        tab.wait_for_function(f"() => {choices}.slice(0, 2).join() === 'MobileNetV2,small'")
        said(tab, ".ckx-roofline .ck-title", "layers")
        tab.get_by_role("tab", name="Layers").click()
        said(tab, tiles, "301 MMAC")
        check_looks(tab, "app-profiler")

        tab.goto(f"{gate.url}account")
        with tab.expect_download() as kept:
            tab.get_by_role("link", name="profile small.json").click()
        assert json.loads(kept.value.path().read_text())["name"] == "small"
