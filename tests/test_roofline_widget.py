"""The Roofline: the roofs of every memory, the page in its kernel, and the page in a browser."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import codesign_kernel as ck
from codesign_kernel.accelerator import SpatialArray, catalog
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import roofline_info
from codesign_kernel.figures.roofs import COMPUTE, EXTERNAL, LABELS, roof_terms, roofs_info, roofs_of
from codesign_kernel.units import quantity

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks, settle  # noqa: E402 - behind what they need

from codesign_widgets.page import text_of  # noqa: E402
from codesign_widgets.roofline import controls_of  # noqa: E402

CONV = ck.Layer("conv", "conv2d", K=16, C=8, OY=16, OX=16, FY=3, FX=3, IY=16, IX=16, padding=(1, 1))
DEPTHWISE = ck.Layer("depthwise", "conv2d", G=16, OY=16, OX=16, FY=3, FX=3, IY=16, IX=16, padding=(1, 1))
HEAD = ck.Layer("head", "linear", K=100, C=4096)
NETWORK = ck.Workload("three", (CONV, DEPTHWISE, HEAD))
GENERATED = ck.Accelerator.systolic(8, 8, activation_kib=64, weight_kib=512, instruction_kib=256)
MACHINES = {
    "generated": GENERATED,
    "summing": replace(GENERATED, dataflow="os"),
    "narrow": SpatialArray(8, 8, bandwidth_gb_s=1.6, input_kib=16, weight_kib=16, output_kib=16),
    "shared": SpatialArray(16, 4, dataflow="is", shared_kib=64),
}


def evaluate(workload: Any, machine: Any) -> ck.Cost:
    return ck.evaluate(workload, machine)


def page(**changes: Any) -> Any:
    arguments: dict[str, Any] = {"networks": {"Three": NETWORK}, "machines": MACHINES, "evaluate": evaluate}
    return codesign_widgets.Roofline(**{**arguments, **changes})


# --- the figures room ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_no_layer_is_faster_than_any_memory_lets_it(name: str) -> None:
    """The cost model and the roofs are two roads: what one attains lies under what the other allows."""
    cost = evaluate(NETWORK, MACHINES[name])
    info = roofs_info(cost)
    assert [point.name for point in info.points] == ["conv", "depthwise", "head"]
    outside = roofline_info(cost)
    assert (info.peak, info.roofs[0].bandwidth) == (outside.peak, outside.bandwidth)
    for point, plain in zip(info.points, outside.points, strict=True):
        assert point.rate == plain.rate
        assert point.intensities[EXTERNAL] == plain.intensity
        for roof in info.roofs:
            value = point.intensities[roof.level]
            assert value is None or point.rate <= min(info.peak, value * roof.bandwidth) * (1 + 1e-9)
        assert point.attained == point.rate, "a word a cycle is what the model gives"


def test_what_limits_a_layer_is_its_lowest_roof() -> None:
    info = roofs_info(evaluate(NETWORK, MACHINES["narrow"]))
    limits = {point.name: point.limit for point in info.points}
    # 16 channels on 8 columns: every word of the input buffer is used by a full row; a filter a channel by one column
    assert limits == {"conv": COMPUTE, "depthwise": "input", "head": EXTERNAL}
    assert info.finding.startswith("External memory sets the limit for")
    assert "1 of 3 layers lies under its slope" in info.finding
    wide = roofs_info(evaluate(ck.Workload("one", (CONV,)), replace(MACHINES["narrow"], bandwidth_gb_s=1000.0)))
    assert wide.finding == "Compute bound for 100\u00a0% of the time: 1 of 1 layer lies under the flat roof"


def test_fewer_words_a_cycle_hold_layers_back() -> None:
    cost = evaluate(NETWORK, MACHINES["narrow"])
    free, held = roofs_info(cost), roofs_info(cost, onchip_words=0.125)
    assert held.roofs[0] == free.roofs[0]
    assert [b.bandwidth * 8 for b in held.roofs[1:]] == [b.bandwidth for b in free.roofs[1:]]
    conv = held.points[0]
    assert conv.limit != COMPUTE
    assert conv.attained < conv.rate == free.points[0].rate
    for wrong in (0, -1, math.inf, math.nan):
        with pytest.raises(InvalidInputError, match="more than 0 words a cycle"):
            roofs_info(cost, onchip_words=wrong)
    with pytest.raises(InvalidInputError, match="needs a machine"):
        roofs_info(SimpleNamespace(layers=cost.layers, accesses=cost.accesses))


def test_every_machine_of_the_catalogue_has_roofs_and_words_for_them() -> None:
    for name in ("tpu_v1", "gemmini_default", "edge_tpu", "mcu_class", "generator_8x8"):
        machine = catalog(name)
        assert not isinstance(machine, (str, int))
        roofs = roofs_of(machine)  # type: ignore[arg-type]
        assert [roof.level for roof in roofs[1:]] == [level["level"] for level in roof_terms(machine)["levels"]]  # type: ignore[arg-type]
        assert {roof.label for roof in roofs} <= set(LABELS.values())
        assert all(0 < roof.bandwidth < math.inf for roof in roofs)


# --- the widget in its kernel ----------------------------------------------------------------------------------------


def test_the_first_view_is_a_real_result() -> None:
    shown = page()
    assert shown.answer["error"] is None
    assert shown.info == roofs_info(evaluate(NETWORK, GENERATED))
    assert shown.answer["finding"] == shown.info.finding
    assert shown.answer["latency"] == quantity(shown.cost.latency_s, "s")
    assert json.loads(json.dumps(shown.setup))
    assert json.loads(json.dumps(shown.answer)), "what goes to the page is plain JSON"


def test_a_slider_is_answered_by_the_model() -> None:
    shown = page()
    shown.query = {
        "seq": 5,
        "network": "Three",
        "machine": "narrow",
        "parameters": shown.defaults("narrow") | {"rows": 16},
    }
    assert (shown.answer["seq"], shown.machine, shown.answer["error"]) == (5, "narrow", None)
    assert shown.cost == evaluate(NETWORK, replace(MACHINES["narrow"], rows=16))
    shown.choose(rows=32)
    assert shown.parameters["rows"] == 32
    shown.choose(machine="shared")
    assert shown.parameters == shown.defaults("shared")


def test_sliders_hold_what_the_machine_has_and_only_lawful_values() -> None:
    for machine in MACHINES.values():
        controls = controls_of(machine)
        assert [control.name for control in controls] == [
            "rows",
            "cols",
            "frequency_mhz",
            "bandwidth_gb_s",
            "onchip_words",
        ]
        for control in controls:
            assert control.default in control.values
            assert list(control.values) == sorted(control.values)
    assert controls_of(catalog("tpu_v1"))[2].values[-1] <= 5000


@pytest.mark.parametrize(
    ("query", "told", "control"),
    [
        ({"rows": "8"}, "rows lies between", "rows"),
        ({"rows": None}, "rows lies between", "rows"),
        ({"rows": 8.5}, "whole number", "rows"),
        ({"frequency_mhz": math.nan}, "frequency_mhz lies between", "frequency_mhz"),
        ({"bandwidth_gb_s": 1e300}, "bandwidth_gb_s lies between", "bandwidth_gb_s"),
        ({"onchip_words": -1}, "onchip_words lies between", "onchip_words"),
        ({"onchip_words": [1]}, "onchip_words lies between", "onchip_words"),
        ({"<b>": 1}, "a design has a value for each of", ""),
        ({"rows": 12}, "multiple of the shorter", "rows"),
    ],
)  # fmt: skip
def test_values_from_a_page_are_checked(query: dict[str, Any], told: str, control: str) -> None:
    shown = page()
    before = shown.answer["layers"]
    shown.query = {"seq": 2, "network": "Three", "machine": "generated", "parameters": shown.parameters | query}
    error = shown.answer["error"]
    assert error is not None
    assert told in error["text"].lower()
    assert error["control"] == control
    assert shown.answer["layers"] == before, "the last good result stays"


@pytest.mark.parametrize(
    "query", [None, 7, "x", [], {"seq": "1"}, {"seq": 1, "network": ["Three"]}, {"network": "Three", "machine": {}}]
)
def test_nonsense_gets_a_message(query: Any) -> None:
    shown = page()
    shown.query = 0
    shown.query = query
    assert "here are" in shown.answer["error"]["text"]
    shown.close()


def test_only_a_layer_that_is_shown_can_be_chosen() -> None:
    shown = page()
    for wrong in ({"no": "name"}, 7, None, ["conv"], "nope", "<img src=x>", "x" * 10**6, math.nan):
        shown.set_state({"selected": "conv"})
        assert shown.selected == "conv"
        shown.set_state({"selected": wrong})
        assert shown.selected == ""
    shown.set_state({"answer": {"seq": "x"}})
    shown.choose(rows=16)
    assert (shown.answer["seq"], shown.answer["error"]) == (0, None)


def test_a_network_that_does_not_fit_is_told_and_nothing_breaks() -> None:
    huge = ck.Workload("huge", (ck.Layer("conv", "conv2d", K=4096, C=4096, OY=1, OX=512, FY=7, FX=7, IY=1, IX=512),))
    shown = page(networks={"Huge": huge, "Three": lambda: NETWORK}, machines={"generated": GENERATED})
    assert "KiB" in shown.answer["error"]["text"]
    assert shown.cost is None
    shown.choose(network="Three")
    assert shown.answer["error"] is None
    with pytest.raises(InvalidInputError, match="at least one network on one machine"):
        page(machines={})


# --- in a browser ----------------------------------------------------------------------------------------------------

#: A real network on real machines.
CELL = """
import codesign_kernel as ck
from codesign_kernel.accelerator import catalog
from codesign_widgets import Roofline
names = {"Generated 16 x 16": "generator_16x16", "Edge TPU": "edge_tpu", "Gemmini": "gemmini_default"}
machines = {label: catalog(name) for label, name in names.items()}
Roofline({"MobileNetV2": ck.profile("mobilenet_v2").workload}, machines, ck.evaluate)
"""


def _random_machines() -> list[tuple[Any, float]]:
    """Lawful machines of both kinds, and words a cycle."""
    draw = random.Random(7)
    found: list[tuple[Any, float]] = []
    while len(found) < 120:
        size = {"rows": 2 ** draw.randint(1, 7), "cols": 2 ** draw.randint(1, 7)}
        speed = {"frequency_mhz": draw.uniform(50, 900), "bandwidth_gb_s": draw.uniform(1, 200)}
        words = 2.0 ** draw.randint(-3, 3)
        if draw.random() < 0.5:
            flow, shared = draw.choice(["ws", "os", "is"]), draw.choice([0.0, 512.0])
            found.append((SpatialArray(**size, **speed, dataflow=flow, shared_kib=shared), words))
            continue
        bits, flow = draw.choice([4, 8, 16]), draw.choice(["ws", "os"])
        roomy = dict.fromkeys(("activation_kib", "weight_kib", "accumulator_kib"), 256)
        found.append((ck.Accelerator.systolic(**size, **speed, **roomy, dataflow=flow, weight_bits=bits), words))
    return found


def _same_numbers(tab: Any) -> None:
    """The page's arithmetic is the figures room's, and its numbers read the same."""
    machines = _random_machines()
    asked = [
        {
            "terms": roof_terms(machine),
            "p": {
                "rows": machine.rows,
                "cols": machine.cols,
                "frequency_mhz": machine.frequency_mhz,
                "bandwidth_gb_s": machine.bandwidth_gb_s,
                "onchip_words": words,
            },
        }
        for machine, words in machines
    ]
    script = f"{text_of('drawing.js')}{text_of('roofs.js')}"
    external = {"level": EXTERNAL, "label": LABELS[EXTERNAL]}
    told = tab.evaluate(
        f"([asked, external]) => {{ {script}\n return asked.map(({{ terms, p }}) => roofsOf(terms, external, p)); }}",
        [asked, external],
    )
    for (machine, words), drawn in zip(machines, told, strict=True):
        assert drawn["peak"] == pytest.approx(machine.peak_macs_per_s, rel=1e-12)
        roofs = roofs_of(machine, words)
        assert [(roof["level"], roof["label"]) for roof in drawn["roofs"]] == [roof[:2] for roof in roofs]
        assert [roof["bandwidth"] for roof in drawn["roofs"]] == pytest.approx([r.bandwidth for r in roofs], rel=1e-12)
    values = [0, 1, 999.6, 0.9995, 12.25, 12.35, 1e-13, 5e14, 2.5e9, 123456, 0.5, *(2.0**i for i in range(-30, 40))]
    read = tab.evaluate(f"(values) => {{ {script}\n return values.map((v) => quantity(v, 'B/s')); }}", values)
    assert read == [quantity(value, "B/s") for value in values]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_roof_moves_at_once_in_a_browser(pages: Served) -> None:
    with browse(pages.page("roofline", CELL), ".ckx-roofline [role=option]") as tab:
        _same_numbers(tab)
        roof = "() => Number(document.querySelector('.ckx-roof').dataset.bandwidth)"
        assert tab.evaluate(roof) == 6.4e9
        slopes = tab.locator(".ckx-slope").all_text_contents()
        assert "external, activation, weight 6.40 GB/s" in slopes, "slopes upon one another have one label"

        # the roof is moved before the kernel can have answered, in the very task of the input
        at_once = """() => {
          const slider = document.querySelector('.ckx-roofline input[type=range][aria-label="External bandwidth"]');
          slider.value = String(Number(slider.value) - 2);
          slider.dispatchEvent(new Event('input', { bubbles: true }));
          return Number(document.querySelector('.ckx-roof').dataset.bandwidth);
        }"""
        told = "(() => document.querySelector('.ckx-kernel b').innerText)"
        latency = tab.inner_text(".ckx-kernel b")
        assert tab.evaluate(at_once) == 1.6e9
        tab.wait_for_function(f"(was) => {told}() !== was", arg=latency)
        assert tab.locator(".ckx-usual").count() == 1, "the roof as described stays, dotted"

        # by keyboard: a slider, then the layers one after the other
        slider = tab.get_by_role("slider", name="Rows")
        slider.focus()
        tab.keyboard.press("ArrowRight")
        assert tab.get_by_role("spinbutton", name="Rows").input_value() == "32"
        settle(tab)  # the layers go where the answer has them
        tab.locator("[role=option][tabindex='0']").focus()
        tab.keyboard.press("Home")
        assert tab.inner_text(".ckx-readout b") == "stem.conv"
        tab.keyboard.press("ArrowRight")
        second = tab.inner_text(".ckx-readout b")
        assert second != "stem.conv"
        assert tab.evaluate("document.activeElement.getAttribute('aria-label')").startswith(f"{second}: ")
        assert tab.locator(".ckx-mark").count() >= 2, "the layer is shown at each memory on the chip"

        # by mouse: hover names a layer, a click keeps it
        last = tab.locator("[role=option]").last
        box = last.bounding_box()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        hovered = tab.inner_text(".ckx-readout b")
        assert hovered != second
        tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.mouse.move(5, 5)
        assert tab.inner_text(".ckx-readout b") == hovered

        # the same as a table
        tab.get_by_text("The layers as a table").click()
        tab.wait_for_selector(".ckx-table tbody tr")
        assert tab.locator(".ckx-table tbody tr").count() == tab.locator("[role=option]").count()

        # what is not possible stands beside its control
        field = tab.get_by_role("spinbutton", name="Columns")
        field.fill("12")
        field.press("Enter")
        tab.wait_for_selector(".ckx-stale")
        assert "multiple of the shorter" in tab.inner_text(".ckx-wrong .ckx-error")
        tab.get_by_role("button", name="As described").click()
        tab.wait_for_function(
            f"(was) => !document.querySelector('.ckx-stale, .ckx-waiting, .ckx-usual') && {told}() === was", arg=latency
        )
        assert tab.evaluate(roof) == 6.4e9

        # another accelerator, with sliders of its own
        tab.get_by_role("combobox", name="Accelerator").select_option("Edge TPU")
        tab.wait_for_function(f"(was) => ({roof})() === 32e9 && {told}() !== was", arg=latency)
        assert tab.get_by_role("spinbutton", name="Rows").input_value() == "64"
        tab.get_by_role("button", name="Save roofline as SVG").wait_for()
        check_looks(tab, "roofline")
