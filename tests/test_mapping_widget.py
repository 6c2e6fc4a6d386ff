"""The MappingViewer: what a layer moves and holds adds up, the page in its kernel, and the page in a browser."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from spatialcases import any_array, any_chain

import codesign_kernel as ck
from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.accelerator.spatial import SpatialArray, SpatialArrays
from codesign_kernel.cost.batch import evaluate_batch
from codesign_kernel.cost.spatial import evaluate_spatial
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.mapping import BELOW, box_words, comparison, line_words, mapping_info
from codesign_kernel.units import quantity

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need

CONV = ck.Layer("conv", "conv2d", K=16, C=8, OY=16, OX=16, FY=3, FX=3, IY=16, IX=16, padding=(1, 1))
HEAD = ck.Layer("head", "linear", K=10, C=4096)
NETWORK = ck.Workload("two", (CONV, HEAD), (("conv", "head"),))
SMALL = SpatialArray(8, 8, bandwidth_gb_s=1.6, input_kib=2, weight_kib=2, output_kib=4)
GENERATED = ck.Accelerator.systolic(8, 8, activation_kib=64, weight_kib=64, instruction_kib=64)
MACHINES = {"small": SMALL, "generated": GENERATED}


def page(**changes: Any) -> Any:
    arguments: dict[str, Any] = {"networks": {"Two": NETWORK}, "machines": MACHINES, "evaluate": ck.evaluate}
    return codesign_widgets.MappingViewer(**{**arguments, **changes})


# --- the figures room ------------------------------------------------------------------------------------------------


def _check_sums(cost: ck.Cost) -> None:
    """Of every layer: energies of the boxes, and bits of the flows, add up to the cost's."""
    for layer in cost.layers:
        info = mapping_info(cost, layer.name)
        assert sum(box.energy_pj for box in info.boxes) == pytest.approx(layer.energy_pj, rel=1e-12)
        assert all(box.energy_pj >= -1e-6 * layer.energy_pj for box in info.boxes)
        assert all(flow.bits > 0 for flow in info.flows)
        assert sum(f.bits for f in info.flows if "dram" in (f.source, f.target)) == layer.dram_bit
        for box in info.boxes:
            assert (box.read_bit, box.write_bit) == tuple(
                sum(a.bits for a in info.accesses if (a.level, a.direction) == (box.level, way))
                for way in ("read", "write")
            )
            assert sum(held.bits for held in box.held) <= box.capacity_bit or not box.capacity_bit
            assert box.label in box_words(box, info.energy_pj)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_and_flows_add_up_to_the_cost(seed: int) -> None:
    rng = random.Random(900 + seed)
    chain, machine = any_chain(rng, rng.randint(1, 4)), any_array(rng)
    cost = ck.evaluate(chain, machine)
    _check_sums(cost)
    for layer in cost.layers:
        if layer.mapping is None:
            continue
        info, sums = mapping_info(cost, layer.name), layer.mapping.nest.outputs * machine.acc_bits
        at = "shared" if machine.shared_kib else "output"
        moved = {(flow.source, flow.target): flow.bits for flow in info.flows if flow.operand == "O"}
        # a sum is new once: the array reads it once less than it writes it
        assert moved[BELOW, at] - moved.get((at, BELOW), 0) == sums
    energies = {box.level: 0.0 for box in mapping_info(cost, cost.layers[0].name).boxes}
    for layer in cost.layers:
        for box in mapping_info(cost, layer.name).boxes:
            energies[box.level] += box.energy_pj
    whole = cost.energy_parts
    assert energies["dram"] == pytest.approx(whole["dram"], rel=1e-12)
    assert energies[BELOW] == pytest.approx(whole["compute"], rel=1e-9)
    assert sum(energies.values()) == pytest.approx(cost.energy_pj - whole["leakage"], rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_what_lies_on_chip_is_what_the_search_counted(seed: int) -> None:
    """``needs_bit`` is told operand by operand; the search for the best mapping counted it by buffer."""
    rng = random.Random(950 + seed)
    chain, machine = any_chain(rng, rng.randint(1, 4)), any_array(rng)
    told: list[Any] = []
    evaluate_spatial(
        chain, SpatialArrays.of([machine]), on_group=lambda group, kept, picks: told.append((group, kept, picks))
    )
    (group, kept, picks), cost = told[0], ck.evaluate(chain, machine)
    for at, layer in enumerate(cost.layers):
        if layer.mapping is None:
            continue
        table, _ = group.pick(at, group.kept(at, int(kept[at, 0]), int(kept[at + 1, 0])))
        w, i, o = layer.mapping.needs_bit
        assert tuple(table.needs[int(picks[at][0])]) == ((w + i + o, 0, 0) if machine.shared_kib else (w, i, o))


def test_a_generated_machine_has_boxes_and_flows_too() -> None:
    cost = ck.evaluate(NETWORK, GENERATED)
    _check_sums(cost)
    info = mapping_info(cost, "conv")
    assert [box.level for box in info.boxes] == ["dram", "activation", "weight", "accumulator", "instruction", BELOW]
    held = {box.level: {each.operand: each.bits for each in box.held} for box in info.boxes if box.held}
    # 16 x 16 positions of 8 and of 16 channels
    assert held["activation"] == {"I": 256 * 8 * 8, "O": 256 * 16 * 8}
    assert held["accumulator"]["O"] <= GENERATED.memory("accumulator").capacity_bit
    with pytest.raises(InvalidInputError, match=r"a layer of the cost \(conv, head, \.\.\.\), but got '<b>'"):
        mapping_info(cost, "<b>")


@pytest.mark.parametrize("flow", ["ws", "os"])
def test_the_fixed_mapping_says_how_a_step_is_cut(flow: str) -> None:
    small = {"activation_kib": 2, "weight_kib": 2, "accumulator_kib": 1, "instruction_kib": 64}
    machine = ck.Accelerator.systolic(8, 8, flow, **small)
    cost = ck.evaluate(ck.Workload("one", (CONV,)), machine)
    _check_sums(cost)
    (layer,), (batch,) = cost.layers, (evaluate_batch(ck.Workload("one", (CONV,)), Machines.of([machine])),)
    tiling, text = batch.tilings[0], str(layer.fixed)
    assert int(tiling.chunks[0]) > 1
    assert f"for chunk in {int(tiling.chunks[0])} of up to {int(tiling.chunk_rows[0])} output rows (of 16)" in text
    assert "for tile in 2 of up to 8 output channels (of 16)" in text
    assert ("for tap in 9 of up to 8 input channels" in text) == (flow == "ws")
    assert ("for k in 72 input channels x taps   # O stays in the PEs" in text) == (flow == "os")


def test_the_words_say_what_a_loop_moves() -> None:
    cost = ck.evaluate(NETWORK, SMALL, mapping="k=8 inner=y")
    mapping = cost.layers[0].mapping
    assert mapping is not None
    assert "\n".join("  " * depth + line.text for depth, line in _nested(mapping.lines)) == str(mapping)
    (y,) = (line for line in mapping.lines if line.text.startswith("for y "))
    assert (y.place, y.moves) == ("dram", "IO")
    assert line_words(y) == (
        "Another turn needs other tiles of the inputs and outputs, which move between DRAM and the buffers; "
        "the weights are the same."
    )
    assert [line.moves for line in mapping.lines if line.text.startswith("for m ")] == ["IO"]


def _nested(lines: Any) -> Any:
    depth = 0
    for line in lines:
        yield depth, line
        depth += line.is_loop


def test_two_mappings_are_compared_in_words() -> None:
    free, asked = (mapping_info(ck.evaluate(NETWORK, SMALL, mapping=text), "conv") for text in (None, "y=1 c=1"))
    assert "\u00a0× more cycles" in comparison(free, asked)
    assert "\u00a0× fewer cycles" in comparison(asked, free)
    assert comparison(free, free) == "B against A: the same cycles, the same energy, the same DRAM traffic"
    near = free._replace(latency_cycle=free.latency_cycle * 5 // 4, dram_bit=0)
    assert comparison(free, near).startswith("B against A: 25\u00a0% more cycles, the same energy, no DRAM traffic")


# --- the widget in its kernel ----------------------------------------------------------------------------------------


def test_the_first_view_is_a_real_result() -> None:
    shown = page()
    assert shown.answer["error"] is None
    assert shown.layer == "head", "the slowest"
    assert shown.infos["a"] == mapping_info(ck.evaluate(NETWORK, SMALL), "head")
    assert shown.infos["b"] == mapping_info(ck.evaluate(NETWORK, SMALL, objective="energy"), "head")
    total = shown.answer["rows"][-1]
    assert total["a"]["pj"] == pytest.approx(sum(row["a"]["pj"] for row in shown.answer["rows"][:-1]))
    assert shown.answer["a"]["tiles"][1]["value"] == quantity(shown.costs["a"].layers[1].energy_pj * 1e-12, "J")
    assert json.loads(json.dumps(shown.setup))
    assert json.loads(json.dumps(shown.answer)), "what goes to the page is plain JSON"


def test_a_mapping_can_be_asked_for_and_a_layer_changed_for_nothing() -> None:
    calls: list[Any] = []

    def evaluate(workload: Any, machine: Any, **options: Any) -> ck.Cost:
        calls.append(options)
        return ck.evaluate(workload, machine, **options)

    shown = page(evaluate=evaluate)
    assert len(calls) == 2
    shown.choose(layer="conv")
    assert (shown.layer, len(calls)) == ("conv", 2), "one evaluation is of all layers"
    shown.choose(b={"goal": "asked", "dataflow": "os", "text": "k=8 inner=y"})
    assert shown.answer["error"] is None
    assert calls[-1] == {"mapping": {"conv": "k=8 inner=y"}, "objective": "latency"}
    assert shown.costs["b"].accelerator.dataflow == "os"
    assert shown.infos["b"].lines[-2].text.startswith("for k in")
    shown.choose(b={"goal": "none"})
    assert set(shown.infos) == {"a"}
    shown.choose(machine="generated")
    assert (shown.machine, shown.answer["error"]) == ("generated", None)
    for _ in range(20):
        shown.choose(layer="conv", machine="small", b={"goal": "asked", "dataflow": "ws", "text": f"c={_ + 1}"})
    assert len(shown._found) == 16


@pytest.mark.parametrize(
    ("query", "told", "control"),
    [
        ({"network": "x"}, "the networks here are Two", ""),
        ({"machine": ["small"]}, "the machines here are small", ""),
        ({"layer": 7}, "a layer is a name", ""),
        ({"a": None}, "the mappings here are latency", "a"),
        ({"a": {"goal": "none", "dataflow": "ws"}}, "side A shows a mapping always", "a"),
        ({"b": {"goal": "latency", "dataflow": "<b>"}}, "the dataflows here are ws", "b"),
        ({"b": {"goal": "asked", "dataflow": "ws", "text": "z=3"}}, "a mapping is words like", "b"),
        ({"b": {"goal": "asked", "dataflow": "ws", "text": " "}}, "say what the mapping must be", "b"),
        ({"b": {"goal": "asked", "dataflow": "ws", "text": "k" * 99}}, "at most 80 characters", "b"),
        ({"b": {"goal": "asked", "dataflow": "ws", "text": math.nan}}, "at most 80 characters", "b"),
        ({"machine": "generated", "b": {"goal": "energy", "dataflow": "ws"}}, "one mapping; describe", "b"),
    ],
)
def test_values_from_a_page_are_checked(query: dict[str, Any], told: str, control: str) -> None:
    shown = page()
    before = shown.answer["rows"]
    side = {"goal": "latency", "dataflow": "ws", "text": ""}
    shown.query = {"seq": 4, "network": "Two", "machine": "small", "layer": "conv", "a": side, "b": side} | query
    error = shown.answer["error"]
    assert error is not None
    assert told.lower() in error["text"].lower()
    assert (error["control"], shown.answer["seq"]) == (control, 4)
    assert shown.answer["rows"] == before, "the last good result stays"


@pytest.mark.parametrize("query", [7, "x", [], {"seq": "1"}, {"a": []}])
def test_nonsense_gets_a_message(query: Any) -> None:
    shown = page()
    shown.query = query
    assert "here are" in shown.answer["error"]["text"]
    shown.close()


def test_only_a_loop_or_a_level_that_is_shown_can_be_chosen() -> None:
    shown = page()
    lines = shown.infos["b"].lines
    loops = [at for at, line in enumerate(lines) if line.place != "note"]
    good: list[Any] = [{"side": "b", "loop": loops[0]}, {"side": "a", "loop": loops[-1]}, {"level": "input"}]
    notes = [{"side": "b", "loop": at} for at in range(len(lines)) if at not in loops]
    wrong: list[Any] = [
        {"side": 3}, {"side": "b"}, {"side": ["b"], "loop": 0}, {"side": "b", "loop": len(lines)}, *notes,
        {"side": "b", "loop": -1}, {"side": "b", "loop": True}, {"side": "b", "loop": 10**400}, {"level": "<b>"},
        {"level": ["input"]}, {}, "input", 7, ["a", 0], math.nan,
    ]  # fmt: skip
    for at, chosen in enumerate(wrong):
        shown.set_state({"selected": {**good[at % 3], "evil": 1}})
        assert shown.selected == good[at % 3]
        shown.set_state({"selected": chosen})
        assert shown.selected is None, chosen
    assert notes, "there is a line that is no loop"
    shown.choose(b={"goal": "none"})
    shown.set_state({"selected": good[0]})
    assert shown.selected is None, "this side is not shown"


def test_another_network_can_be_chosen_while_a_mapping_is_asked_for() -> None:
    other = ck.Workload("other", (replace(CONV, name="stem"), replace(HEAD, name="top")), (("stem", "top"),))
    shown = page(networks={"Two": NETWORK, "Other": lambda: other})
    asked = {"goal": "asked", "dataflow": "ws", "text": "k=8 inner=y"}
    shown.choose(layer="conv", a=asked)
    question = {"machine": "small", "a": asked, "b": {"goal": "none"}}
    for seq, layer in enumerate(("conv", "head" * 10**6, None, "stem"), 1):
        shown.set_state({"query": {"seq": seq, "network": "Other", "layer": layer, **question}})
        assert (shown.answer["seq"], shown.answer["error"], shown.network) == (seq, None, "Other")
        assert shown.layer == ("stem" if layer == "stem" else "top"), (
            "the slowest, unless one of its layers is asked for"
        )
        mine = ck.evaluate(other, SMALL, mapping={shown.layer: "k=8 inner=y"})
        assert shown.infos["a"] == mapping_info(mine, shown.layer)
    shown.choose(network="Two")
    assert (shown.network, shown.layer, shown.answer["error"]) == ("Two", "head", None)


def test_no_page_says_what_a_machine_can_do() -> None:
    shown = page()
    machines = shown.setup["machines"]
    fake = {name: {**told, "dataflows": {"evil": "x"}} for name, told in machines.items()}
    shown.set_state({"setup": {**shown.setup, "machines": fake}, "answer": {"seq": "x", "a": {"choice": 7}}})
    side = {"goal": "latency", "dataflow": "evil", "text": ""}
    shown.set_state({"query": {"seq": 3, "network": "Two", "machine": "small", "layer": "conv", "a": side, "b": side}})
    assert shown.answer["error"]["text"].startswith("The dataflows here are ws")
    shown.choose(layer="conv")
    assert (shown.answer["seq"], shown.answer["error"], shown.layer) == (3, None, "conv")


def test_a_viewer_shows_something() -> None:
    with pytest.raises(InvalidInputError, match="at least one network on one machine"):
        page(networks={})
    tiny = SpatialArray(64, 64, input_kib=1, weight_kib=1, output_kib=1)
    shown = page(machines={"tiny": tiny, "small": SMALL})
    assert "KiB" in shown.answer["error"]["text"]
    assert not shown.infos
    shown.choose(machine="small")
    assert shown.answer["error"] is None


# --- in a browser ----------------------------------------------------------------------------------------------------

#: A real network on a described machine and on a generated one.
CELL = """
import codesign_kernel as ck
from codesign_widgets import MappingViewer
edge = ck.SpatialArray(16, 16, input_kib=32, weight_kib=32, output_kib=32, bandwidth_gb_s=3.2, frequency_mhz=400)
shared = ck.SpatialArray(16, 16, "os", shared_kib=128, bandwidth_gb_s=3.2, frequency_mhz=400)
machines = {"Three buffers": edge, "One buffer": shared, "Generated": ck.accelerator.catalog("generator_16x16")}
MappingViewer({"ResNet-18": ck.profile("resnet18").workload}, machines, ck.evaluate, layer="layer1.0.conv1")
"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_loops_and_levels_are_linked_in_a_browser(pages: Served) -> None:
    with browse(pages.page("mapping", CELL), ".ckx-mapping .ckx-box") as tab:
        a, b = (tab.get_by_role("region", name=f"Mapping {side}", exact=True) for side in "AB")
        assert tab.get_by_role("combobox", name="Layer").input_value() == "layer1.0.conv1"

        # a loop over tiles, by mouse: the operands that it moves stand out between DRAM and the buffers
        loop = a.locator(".ckx-nest .ckx-dram button").first
        loop.click()
        assert loop.get_attribute("aria-pressed") == "true"
        told = tab.inner_text(".ckx-told")
        moves = loop.locator(".ckx-chip").all_inner_texts()
        on = a.locator(".ckx-flow.ckx-on")
        assert {flow.get_attribute("data-operand") for flow in on.all()} <= set(moves)
        assert on.count()
        ends = [(flow.get_attribute("data-source"), flow.get_attribute("data-target")) for flow in on.all()]
        assert all("dram" in pair for pair in ends)
        assert told.startswith("Another turn needs other tiles")

        # a level, by keyboard: its loops stand out, on both sides
        level = a.get_by_role("button", name="Input buffer:")
        level.focus()
        tab.keyboard.press("Enter")
        assert level.get_attribute("aria-pressed") == "true"
        assert a.locator(".ckx-nest li.ckx-on").count() >= 1
        assert b.locator(".ckx-box.ckx-on").count() == 1
        assert tab.inner_text(".ckx-told").startswith("A: Input buffer: ")

        # a mapping that is asked for; what it cannot be is told beside it
        b.get_by_role("combobox", name="Mapping B").select_option("asked")
        asked = b.get_by_role("textbox", name="As I ask")
        asked.fill("k=3z")
        asked.press("Enter")
        tab.wait_for_selector(".ckx-stale")
        assert "words like" in b.locator(".ckx-error").inner_text()
        asked.fill("k=64 inner=y")
        asked.press("Enter")
        tab.wait_for_function("() => !document.querySelector('.ckx-stale, .ckx-waiting')")
        b.get_by_text("# W stays", exact=False).first.wait_for()
        finding = tab.inner_text(".ckx-mapping .ck-title")
        assert finding.startswith("B against A: ")

        # the table adds up to the layer's energy
        tab.get_by_text("Traffic and energy as a table").click()
        rows = tab.locator(".ckx-table tbody tr")
        rows.last.wait_for()  # they are made once they are asked for
        last = rows.last.locator("th, td").all_inner_texts()
        assert last[0] == "All"
        assert last[4] == a.locator(".ckx-tiles b").nth(1).inner_text()

        # another machine, which has one mapping
        tab.get_by_role("combobox", name="Accelerator").select_option("Generated")
        a.get_by_role("button", name="Accumulators:").wait_for()
        assert b.locator(".ckx-tiles").is_hidden()
        tab.get_by_role("combobox", name="Accelerator").select_option("Three buffers")
        a.get_by_role("button", name="Input buffer:").wait_for()
        b.get_by_role("combobox", name="Mapping B").select_option("latency")
        b.get_by_role("combobox", name="Dataflow").select_option("os")
        b.get_by_text("O stays in the PEs").wait_for()
        check_looks(tab, "mapping")
