"""The explorer of models: what it says of a profile, what it makes of hostile choices, and the page in a browser."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from traitlets import TraitError

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import layered, timeline_figure
from codesign_kernel.figures.models import MEASURES, model_info, shape_words
from codesign_kernel.figures.operators import operators_figure, operators_info
from codesign_kernel.figures.timeline import memory_uses
from codesign_kernel.profiler import Operator, Profile
from codesign_kernel.profiler.lifetime import activations

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks, settle  # noqa: E402 - behind what they need

HOSTILE = "<img src=x onerror=alert(1)>"


def made(
    layers: list[tuple[str, str, int]], edges: list[tuple[int, int]], name: str = "made", unused: int = 0
) -> Profile:
    """A profile by hand: (name, op, channels) of 4 x 4 maps; each channel moves 16 bytes."""
    operators = tuple(
        Operator(
            ck.Layer(title, op, K=channels, C=4 if op == "conv2d" else channels, OY=4, OX=4, IY=4, IX=4),
            parameters=4 * channels if op == "conv2d" else 0,
            parameter_bytes=16 * channels,
            input_bytes=64,
            output_bytes=16 * channels,
            fixed_bytes=8,
        )
        for title, op, channels in layers
    )
    names = [title for title, _, _ in layers]
    reads: list[set[int]] = [{a for a, b in edges if b == i} or {-1} for i in range(len(layers))]
    tensors = activations([64], [o.output_bytes for o in operators], reads, {len(layers) - 1})
    workload = ck.Workload(name, tuple(o.layer for o in operators), tuple((names[a], names[b]) for a, b in edges))
    parameters = sum(o.parameters for o in operators) + unused
    return Profile(name, workload, operators, parameters, 4 * parameters, activations=tensors)


#: Two blocks with residual joins between a stem and a head.
BLOCKS = made(
    [
        ("stem", "conv2d", 4), ("body.0.conv", "conv2d", 4), ("body.0.relu", "relu", 4), ("body.0.add", "add", 4),
        ("body.1.conv", "conv2d", 8), ("body.1.side", "conv2d", 8), ("body.1.add", "add", 8), ("head", "linear", 2),
    ],
    [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (3, 5), (4, 6), (5, 6), (6, 7)],
    unused=7,
)  # fmt: skip


def check_placed(nodes: int, edges: list[tuple[int, int]]) -> layered.Placed:
    """Every law of the layout, by counting who is in which cell."""
    placed = layered.place(nodes, edges)
    cells: dict[tuple[int, int], set[object]] = {}
    for node in range(nodes):
        cells.setdefault((placed.rows[node], placed.lanes[node]), set()).add(("node", node))
    assert all(len(inside) == 1 for inside in cells.values()), "two nodes in one place"
    for (a, b), route in zip(edges, placed.routes, strict=True):
        assert placed.rows[a] < placed.rows[b], "an edge that does not run downwards"
        assert (route == layered.DIRECT) == (placed.rows[b] == placed.rows[a] + 1)
        for row in range(placed.rows[a] + 1, placed.rows[b]):
            cells.setdefault((row, route), set()).add(("edge", a, b))
    for inside in cells.values():
        joined = [one for one in inside if isinstance(one, tuple) and one[0] == "edge"]
        assert len(joined) in (0, len(inside)), "an edge runs through a node"
        ends = [{one[1] for one in joined}, {one[2] for one in joined}]
        assert not joined or min(map(len, ends)) == 1, "edges with no common end share a place"
    assert placed.width == 1 + max((*placed.lanes, *placed.routes))
    return placed


def test_joins_run_beside_the_main_path() -> None:
    placed = check_placed(8, [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (3, 5), (4, 6), (5, 6), (6, 7)])
    assert placed.rows == (0, 1, 2, 3, 4, 4, 5, 6)
    assert placed.lanes == (0, 0, 0, 0, 0, 1, 0, 0)
    assert placed.routes == (-1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert check_placed(3, []).rows == (0, 0, 0)
    with pytest.raises(InvalidInputError, match="edges run from a node to a later one"):
        layered.place(2, [(1, 0)])


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_is_laid_out_lawfully(seed: int) -> None:
    draw = random.Random(seed)
    nodes = draw.randrange(2, 30)
    every = list(itertools.combinations(range(nodes), 2))
    check_placed(nodes, draw.sample(every, draw.randrange(0, min(len(every), 3 * nodes))))


def test_modules_roll_up_to_the_model() -> None:
    info = model_info(BLOCKS)
    assert [row.path for row in info.modules] == ["", "body", "body.0", "body.1"]
    assert [row.parent for row in info.modules] == [-1, 0, 1, 1]
    assert info.total.macs == BLOCKS.macs
    assert (info.total.parameters, info.unused) == (BLOCKS.parameters, 7)
    body, first, second = (row.sums for row in info.modules[1:])
    for measure in ("macs", "bytes", "parameters"):
        assert body.value(measure) == (first.value(measure) or 0) + (second.value(measure) or 0)
    assert body.bytes == sum(o.input_bytes + o.output_bytes + o.fixed_bytes for o in BLOCKS.operators[1:7])
    assert body.intensity == body.macs / body.bytes
    assert [row.sums.intensity for row in info.layers] == [o.intensity for o in BLOCKS.operators]


def test_memory_over_time_is_told_apart() -> None:
    info = model_info(BLOCKS)
    # stem: input 64 + 64; conv: 64 + 64; relu: stem waits; add; both branches of the second block; ...
    assert info.memory == (128, 128, 192, 192, 192, 320, 384, 160)
    assert (info.peak, info.total.memory) == (6, 384)
    assert memory_uses(info)[2] == (0, 0, 64, 0, 0, 128, 0, 0), "the residual, and the branch that is done"
    assert [sum(uses) for uses in zip(*memory_uses(info), strict=True)] == list(info.memory)
    assert [info.tensor_name(one.producer) for one in info.alive(0)] == ["network input 1", "output of stem"]
    figure = timeline_figure(info)
    assert figure.layout.meta["title"].startswith("Memory peaks at 384 B during body.1.add; body does ")
    assert "output of body.1.side 128 B" in figure.layout.meta["alt"]


def test_a_graph_of_modules_keeps_what_joins_them() -> None:
    every, blocks, _ = (level for level in model_info(BLOCKS).levels)
    assert len(every.nodes) == 8
    assert [node.name for node in blocks.nodes] == ["stem", "body.0", "body.1", "head"]
    assert blocks.edges == ((0, 1), (1, 2), (2, 3))
    assert [node.layers for node in blocks.nodes] == [(0,), (1, 2, 3), (4, 5, 6), (7,)]
    assert sum(node.sums.macs for node in blocks.nodes) == BLOCKS.macs


def test_two_models_by_operator() -> None:
    first, second = model_info(BLOCKS), model_info(made([("a", "conv2d", 8), ("b", "softmax", 8)], [(0, 1)], "less"))
    info = operators_info(first, second, "bytes")
    assert {row.op for row in info.rows} == {"conv2d", "relu", "add", "linear", "softmax"}
    assert [sum(row.sums[which].bytes for row in info.rows) for which in (0, 1)] == [
        first.total.bytes,
        second.total.bytes,
    ]
    assert info.finding.startswith("less has ")
    assert operators_info(first, first).finding == f"made has the MACs of made: {first.total.text('macs')}"
    assert len(operators_figure(info).data) == 2


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (ck.Layer("a", "conv2d", K=64, C=3, OY=9, OX=8, FY=7, FX=7, stride=(2, 2)), "3 → 64, 7 × 7 / 2, 9 × 8"),
        (ck.Layer("a", "conv2d", G=32, OY=9, OX=8, B=2), "32 → 32 in 32 groups, 1 × 1, 2 × 9 × 8"),
        (ck.Layer("a", "linear", K=10, C=84), "84 → 10"),
        (ck.Layer("a", "matmul", G=12, K=64, C=128, OX=128), "128 × 128 by 128 × 64, 12 times"),
        (ck.Layer("a", "max_pool2d", K=6, OY=5, OX=5, FY=2, FX=2), "6 × 5 × 5, 2 × 2 window"),
    ],
)
def test_shapes_in_words(layer: ck.Layer, words: str) -> None:
    assert shape_words(layer) == words


def explorer() -> Any:
    return codesign_widgets.ModelExplorer({"One": BLOCKS, HOSTILE: made([("a", "conv2d", 8)], [], HOSTILE)})


def test_the_first_view_is_a_real_result() -> None:
    shown = explorer()
    assert shown.answer["error"] is None
    assert [tile["label"] for tile in shown.answer["tiles"]] == [
        "Parameters", "MACs", "Bytes moved", "Memory", "Intensity"
    ]  # fmt: skip
    assert shown.answer["tiles"][3] == {
        "label": "Memory", "value": "384 B", "note": "at its peak, during body.1.add"
    }  # fmt: skip
    assert shown.selected == "body.1.add"
    assert json.loads(json.dumps([shown.setup, shown.answer, shown.chosen]))
    page = shown.setup["models"]["One"]
    assert page["layers"]["macs"] == [o.layer.macs for o in BLOCKS.operators]
    assert set(page["modules"]["text"]) == set(MEASURES)
    shown.query = {"seq": 1, "model": "One", "other": HOSTILE, "measure": "bytes"}
    assert shown.answer["seq"] == 1
    assert shown.answer["operators"]["data"][1]["name"] == "&lt;img src=x onerror=alert(1)&gt;"
    assert HOSTILE in shown.answer["tiles"][0]["note"]
    shown.close()


def test_one_profile_is_enough_and_memory_may_be_unknown() -> None:
    alone = codesign_widgets.ModelExplorer(BLOCKS)
    assert list(alone.setup["models"]) == ["made"]
    told = {field: getattr(BLOCKS, field) for field in ("workload", "operators", "parameters", "parameter_bytes")}
    old = codesign_widgets.ModelExplorer(Profile("old", **told))
    assert old.answer["tiles"][3]["value"] == "not known"
    assert old.setup["models"]["old"]["peak"] is None
    assert old.selected == "body.1.conv", "without memory, the layer with the most MACs"
    alone.close()
    old.close()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "none"}, "The models here are One"),
        ({"model": None}, "The models here are One"),
        ({"other": ["One"]}, "The models here are One"),
        ({"other": 7}, "The models here are One"),
        ({"measure": "memory"}, "A measure is one of macs, bytes"),
        ({"measure": {}}, "A measure is one of macs, bytes"),
        ({"measure": float("nan")}, "A measure is one of macs, bytes"),
    ],
)
def test_a_hostile_question_is_answered_in_words(changes: dict[str, Any], told: str) -> None:
    shown = explorer()
    tiles = shown.answer["tiles"]
    shown.query = {"seq": 4, "model": "One", "other": "", "measure": "macs", **changes}
    assert shown.answer["error"]["text"].startswith(told)
    assert shown.answer["error"]["control"] in ("model", "measure")
    assert (shown.answer["seq"], shown.answer["tiles"]) == (4, tiles)
    shown.close()


def test_what_is_no_choice_is_dropped() -> None:
    shown = explorer()
    before = shown.chosen
    hostile = [None, 7, -1, "x" * 1000, float("nan"), float("inf"), True, [], {}, ["layer", "none"], [["a"], 1], 10**30]
    lawful = {"selected": None, "sort": None, "open": [], "level": 7}
    for value in (None, 7, "x", [before]):
        with pytest.raises(TraitError):
            shown.chosen = value
    shown.chosen = {}
    assert shown.chosen == before
    for name, value in itertools.product(before, hostile):
        if name in lawful and value == lawful[name]:
            continue
        shown.chosen = {**before, name: value}
        assert shown.chosen == before, (name, value)
    shown.chosen = {**before, "level": 7}
    assert shown.chosen["level"] == 2, "the coarsest there is"
    shown.chosen = {"model": HOSTILE, "level": 3, "by": "modules", "sort": ["bytes", -1], "open": ["body"], "more": 1}
    assert set(shown.chosen) == set(before)
    assert (shown.chosen["model"], shown.chosen["level"], shown.chosen["sort"]) == (HOSTILE, 0, ["bytes", -1])
    shown.chosen = {**before, "selected": ["module", "body.0"]}
    assert shown.selected == "body.0"
    shown.close()


def test_what_a_client_chooses_is_lawful() -> None:
    """A client's message is validated when it stands in the trait already."""
    shown = explorer()
    before = shown.chosen
    shown.set_state({"chosen": {**before, "zoom": 1e9, "selected": {"evil": 1}, "measure": "nope", "evil": 1}})
    assert shown.chosen == before
    hostile: list[dict[str, Any]] = [
        {},
        {"model": "nope"},
        {"model": []},
        {"level": -1},
        {"level": 10**400},
        {"sort": 7},
    ]
    hostile += [{"zoom": zoom} for zoom in (10**400, -(10**400), float("nan"), float("inf"), "1", True)]
    for value in hostile:
        shown.set_state({"chosen": value})
        assert shown.chosen == before, value
        assert shown.selected == "body.1.add"
    with pytest.raises(TraitError):
        shown.set_state({"chosen": [before]})
    assert shown.chosen == before
    shown.set_state({"chosen": {**before, "zoom": 2, "by": "modules"}})
    shown.set_state({"chosen": {"by": "nope", "zoom": 10**400}})
    assert shown.chosen == {**before, "zoom": 2, "by": "modules"}, "what was lawful last is kept"
    shown.close()


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "at least one profile"), ({"a": 7}, "int has no workload"), (None, "NoneType has no workload")],
)
def test_what_is_no_profile_is_refused(given: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        codesign_widgets.ModelExplorer(given)
    with pytest.raises(InvalidInputError, match="'made' has none"):
        codesign_widgets.ModelExplorer(made([], []))


#: Two networks whose layers share names; a residual network with more layers than fit a screen.
CELL = """
import codesign_kernel as ck
from codesign_widgets import ModelExplorer
explorer = ModelExplorer({"ResNet-50": ck.profile("resnet50"), "ResNet-18": ck.profile("resnet18")})
explorer
"""
#: What the graph, the table and the panel say is selected, and how many bars of the chart are marked.
SEEN = """() => {
  const root = document.querySelector(".ckx-models");
  const name = (e) => e.getAttribute("aria-label")?.split(",")[0] ?? e.querySelector(".ckx-label").title;
  const text = (found) => [...found].map(name);
  return {
    graph: text(root.querySelectorAll(".ckx-node[aria-selected=true]")),
    table: text(root.querySelectorAll(".ckx-layers tr[aria-selected=true]")),
    detail: root.querySelector(".ckx-detail h3").innerText,
    slider: root.querySelector(".ckx-walk input").getAttribute("aria-valuetext"),
    marks: root.querySelector(".ck-plot").layout.shapes.map((s) => [s.x0 + 0.5, s.x1 - 0.5]),
  };
}"""


def selected(tab: Any, name: str, place: int) -> None:
    """Every view has this layer, the only one."""
    one = f"(name) => {{ const s = ({SEEN})(); return s.detail === name && s.marks[0]?.[0] === {place}; }}"
    tab.wait_for_function(one, arg=name)
    seen = tab.evaluate(SEEN)
    assert seen == {"graph": [name], "table": [name], "detail": name, "slider": name, "marks": [[place, place]]}


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_links_its_views_in_a_browser(pages: Served) -> None:
    with browse(pages.page("models", CELL), ".ckx-models .ck-plot .main-svg") as tab:
        names = "() => [...document.querySelectorAll('.ckx-layers tbody .ckx-label')].map((e) => e.title)"
        selected(tab, "layer1.0.downsample.1", 13)
        assert tab.locator(".ckx-node").count() == 174
        assert tab.locator(".ckx-layers tbody tr").count() < 60, "only rows in sight are in the page"
        # a click in the graph, keys in the graph, in the table, a link, the slider, and a bar of the chart
        tab.locator(".ckx-node", has_text="layer1.0.conv2").click()
        selected(tab, "layer1.0.conv2", 7)
        tab.keyboard.press("ArrowDown")
        selected(tab, "layer1.0.bn2", 8)
        tab.focus(".ckx-layers")
        tab.keyboard.press("End")
        selected(tab, "fc", 173)
        tab.keyboard.press("ArrowUp")
        selected(tab, "avgpool", 172)
        tab.get_by_role("button", name="layer4.2.relu#3", exact=True).click()
        selected(tab, "layer4.2.relu#3", 171)
        tab.focus(".ckx-walk input")
        tab.keyboard.press("Home")
        selected(tab, "conv1", 0)
        bar = tab.locator(".ckx-models .ck-plot .point").nth(7)
        bar.scroll_into_view_if_needed()
        settle(tab)
        box = bar.bounding_box()
        # between the panels, above the bar: a column is enough to hit
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
        tab.mouse.click(box["x"] + box["width"] / 2, box["y"] - 2)
        selected(tab, "layer1.0.conv2", 7)

        # sorted by a click and by a key, filtered by operator and by text
        head = tab.locator(".ckx-layers th", has_text="Params")
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        weights = tab.evaluate(
            "document.querySelector('.ckx-models').querySelectorAll('.ckx-layers td:nth-child(7)').length"
        )
        assert weights > 10
        tab.locator(".ckx-frame").evaluate("(e) => { e.scrollTop = 0; }")
        tab.wait_for_function(f"() => ({names})()[0] === 'layer4.0.conv2'")
        tab.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        tab.select_option("[id$=-op]", "linear")
        assert tab.evaluate(names) == ["fc"]
        tab.select_option("[id$=-op]", "")
        tab.fill("[id$=-text]", "layer2.0.DOWN")
        assert sorted(tab.evaluate(names)) == ["layer2.0.downsample.0", "layer2.0.downsample.1"]
        assert "2 of 174 layers" in tab.inner_text(".ckx-models")
        tab.fill("[id$=-text]", "")

        # modules roll up; a module marks its layers everywhere
        tab.select_option("[id$=-by]", "modules")
        tab.get_by_role("button", name="Close all modules").click()
        tab.select_option("[id$=-level]", index=1)
        assert tab.locator(".ckx-node").count() == 22
        tab.locator(".ckx-node", has_text="layer2.0").click()
        assert tab.evaluate(SEEN)["graph"] == ["layer2.0"]
        assert tab.inner_text(".ckx-detail h3") == "layer2.0"
        tab.locator(".ckx-layers tr", has_text="layer2").first.click()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_function(f"() => !({names})().includes('layer2.3')")
        tab.keyboard.press("ArrowRight")
        tab.wait_for_function(f"() => ({names})().includes('layer2.3')")
        assert tab.evaluate(SEEN)["graph"] == ["layer2.0", "layer2.1", "layer2.2", "layer2.3"]

        # two models, and what was chosen is known to the kernel and to a second view
        tab.select_option("[id$=-other]", "ResNet-18")
        tab.wait_for_selector("text=ResNet-18 has 44 % of the MACs of ResNet-50")
        row = tab.locator(".ckx-layers tr", has_text="layer2").first.inner_text().split("\t")
        assert row[-3:] == ["1.03 GMAC", "411 MMAC", "40 %"]
        assert "1.03 GMAC (411 MMAC)" in tab.inner_text(".ckx-detail")
        assert tab.locator(".ckx-absent").count() == 8, "blocks that the smaller network does not have"
        with tab.expect_download() as saved:
            tab.get_by_role("button", name="Save the table as CSV").click()
        lines = saved.value.path().read_text(encoding="utf-8").splitlines()
        assert lines[0] == "Name,Operator,ResNet-50,ResNet-18,Second to first"
        assert lines[1].split(",")[2] == str(ck.profile("resnet50").macs)
        check_looks(tab, "models")
