"""What may stand in a workflow: refused before any work, with the place, the law and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_house import KERNEL, imports, sources
from workflows import FULL, SMALL, changed

from codesign_kernel.cli import parser
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore.samplers import SAMPLERS
from codesign_kernel.optimize.networks import NETWORKS
from codesign_kernel.session.co_optimize import MACHINE_CODE, NETWORK_CODE
from codesign_kernel.session.workflow import settings
from codesign_kernel.session.workflow.code import ROOMS, TELLING, code_of
from codesign_kernel.session.workflow.exploring import COLUMNS
from codesign_kernel.session.workflow.settings import read_workflow
from codesign_kernel.session.workflow.steps import FUNCTIONS
from codesign_kernel.session.workflow.text import LIMIT_BYTES

EVERY = tuple(step for step in settings.STEPS if step != "co_optimize")


def test_the_words_are_those_of_the_rest() -> None:
    """What is written down here because the room that knows it needs torch, or stands above."""
    tasks = {
        task.data: tuple(name for name in NETWORKS if NETWORKS[name].data == task.data) for task in NETWORKS.values()
    }
    assert tasks == settings.TASKS
    assert {task: names[0] for task, names in settings.TASKS.items()} == parser.TRAINED_TASKS
    assert settings.SIMULATORS == parser.SIMULATORS
    assert COLUMNS == parser.OBJECTIVES
    assert ("auto", "exact", *SAMPLERS) == parser.SAMPLERS
    assert tuple(FUNCTIONS) == tuple(settings.STEPS) == tuple(ROOMS)


def test_a_line_is_enough() -> None:
    flow = read_workflow({"network": "digits"})
    assert tuple(flow.steps) == EVERY
    assert flow.network == {"digits": "cnn"}
    assert flow.steps["optimise"]["bits"] == 8
    assert flow.steps["explore"]["objectives"] == [["latency_ms", "min"], ["energy_uj", "min"], ["area_mm2", "min"]]
    assert flow.steps["generate"] == {"top": "core", "vectors": 3}


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"cosimulate": False}, EVERY[:6]),
        ({"explore": False}, EVERY[:3]),
        ({"optimise": False}, ("profile", "train", "explore", "choose", "generate")),
        ({"network": "resnet18"}, ("profile", "explore", "choose", "generate")),
        ({"network": "resnet18", "generate": {}}, ("profile", "explore", "choose", "generate")),
        ({"explore": {"spatial": True}}, EVERY[:5]),
        ({"report": False, "choose": "knee"}, EVERY[:7]),
        ({"co_optimize": {}}, ("profile", "train", "co_optimize", "choose", "generate", "cosimulate")),
        ({"co_optimize": False}, EVERY),
    ],
)  # fmt: skip
def test_steps_that_cannot_run_are_left_out(given: dict[str, Any], steps: tuple[str, ...]) -> None:
    assert tuple(read_workflow({"network": "digits", **given}).steps) == steps


def test_a_seed_is_of_every_step_that_has_none_of_its_own() -> None:
    flow = read_workflow({"network": "digits", "seed": 5, "explore": {"seed": 7}})
    assert [flow.steps[step]["seed"] for step in ("train", "optimise", "explore")] == [5, 5, 7]


def test_the_space_has_the_precision_of_the_network() -> None:
    named = read_workflow({"network": "digits", "optimise": {"bits": 16}})
    assert named.steps["explore"]["weight_bits"] == 16
    own = read_workflow(changed(SMALL, optimise={"bits": 4}))
    assert dict(map(tuple, own.steps["explore"]["space"]))["weight_bits"] == [4]


SPACE = SMALL["explore"]["space"]
TOGETHER = {"explore": None, "generate": None}
BAD = [
    ({"co_optimize": {}}, "explore: cannot run, for co_optimize takes the place of optimise and explore; leave it out"),
    ({**TOGETHER, "co_optimize": {"space": "suited"}}, "co_optimize.space: is default, large or choices, for networks"),
    ({**TOGETHER, "co_optimize": {"space": {"rows": 4}}}, "co_optimize.space: a design space has choices for rows and"),
    ({**TOGETHER, "co_optimize": {"objectives": ["utilization"]}}, "co_optimize.objectives: are columns that are mini"),
    ({**TOGETHER, "co_optimize": {"constraints": {"speed": 1}}}, "co_optimize.constraints: is one of latency_ms, lat"),
    ({**TOGETHER, "co_optimize": {"networks": {"width": 1}}}, "co_optimize.networks.width: there is no such setting"),
    ({**TOGETHER, "co_optimize": {"networks": {"weight_bits": {"fc": 3}}}}, "co_optimize.networks.weight_bits.fc: is"),
    ({**TOGETHER, "co_optimize": {"sampler": "exact"}}, "co_optimize.sampler: is one of auto, random, nsga2"),
    ({**TOGETHER, "co_optimize": {}, "choose": {"within": {"area_mm2": 1}}}, "choose.within: is left out with co_opt"),
    ({**TOGETHER, "co_optimize": {}, "choose": {"best": "power_mw"}}, "choose.best: is accuracy or one of co_optimize"),
    ({"network": "resnet18", "train": None, **TOGETHER, "co_optimize": {}}, "co_optimize: cannot run, for zoo is a"),
    ({"netwrok": "digits"}, "netwrok: there is no such step or setting; a workflow has name, network"),
    ({"network": None}, "network: is a text of 1 to 100 printable characters, but got None"),
    ({"network": {"digits": "vgg"}}, "network.digits: is one of cnn, lenet5, resnet, mobilenet, but got 'vgg'"),
    ({"network": {"digits": "cnn", "zoo": "x"}}, "network: is one of digits, keywords, zoo or file"),
    ({"network": "gone.pt2"}, "network.file: is a file that can be read, but gone.pt2: No such file"),
    ({"name": 3}, "name: is a text of 1 to 100 printable characters, but got 3"),
    ({"seed": -1}, "seed: is a whole number of 0 to"),
    ({"seed": True}, "seed: is a whole number of 0 to"),
    ({"train": {"epoch": 1}}, "train.epoch: there is no such setting; it knows epochs, seed"),
    ({"train": {"epochs": 0}}, "train.epochs: is a whole number of 1 to 10,000, but got 0"),
    ({"train": 3}, "train: is a mapping of names to values, but got 3"),
    ({"profile": {"x": 1}}, "profile.x: there is no such setting; it has no settings: write {}"),
    ({"optimise": {"bits": 5}}, "optimise.bits: is one of 8, 4, 16, but got 5"),
    ({"optimise": {"bits": 4, "weight_bits": {"fc": 8}}}, "optimise.weight_bits.fc: is at most optimise.bits, 4, but"),
    ({"optimise": {"keep": 0}}, "optimise.keep: is a share of the channels, above 0 and up to 1, but got 0"),
    ({"optimise": {"tune_epochs": 2}}, "optimise.tune_epochs: is the training after channels were taken out"),
    ({"optimise": {"bits": 4}, "explore": {"space": {**SPACE, "weight_bits": 8}}}, "explore.space.weight_bits: is"),
    ({"explore": {"space": {}}}, "explore.space: has choices for rows and cols at least, but got {}"),
    ({"explore": {"space": {**SPACE, "rows": []}}}, "explore.space.rows: has one or more values to choose from, but"),
    ({"explore": {"space": {**SPACE, "rows": [4, 4]}}}, "explore.space: rows has one or more different whole numbers"),
    ({"explore": {"space": {**SPACE, "row": 4}}}, "explore.space: a design space has the parameters rows, cols"),
    ({"explore": {"space": "huge"}}, "explore.space: is one of suited, default, large, but got 'huge'"),
    ({"explore": {"spatial": True, "space": "large"}}, "explore.space: is suited, default or choices for spatial"),
    ({"explore": {"spatial": True}, "generate": {}}, "generate: cannot run, for a spatial array has no RTL here"),
    ({"explore": {"objectives": []}}, "explore.objectives: has one or more values to choose from, but got []"),
    ({"explore": {"objectives": ["speed"]}}, "explore.objectives: is one of latency_ms, latency_cycle"),
    ({"explore": {"objectives": ["area_mm2", "area_mm2"]}}, "explore.objectives: names every column once"),
    ({"explore": {"objectives": {"area_mm2": "low"}}}, "explore.objectives.area_mm2: is one of min, max"),
    ({"explore": {"constraints": {"area": 1}}}, "explore.constraints: is one of latency_ms, latency_cycle"),
    ({"explore": {"constraints": {"area_mm2": [3, 2]}}}, "explore.constraints.area_mm2: constraints can be met, but"),
    ({"explore": {"constraints": {"area_mm2": float("nan")}}}, "explore.constraints.area_mm2: a constraint"),
    ({"explore": {"sampler": "best"}}, "explore.sampler: is one of auto, exact, random"),
    ({"explore": {"budget": 0}}, "explore.budget: is a whole number of 1 to"),
    ({"explore": {"sampler": "exact", "budget": 5}}, "explore.budget: is left out with sampler: exact"),
    ({"choose": "best"}, "choose: is a mapping of names to values, but got 'best'"),
    ({"choose": {"best": "energy_uj"}}, "choose.best: is one of explore.objectives (latency_ms, area_mm2)"),
    ({"choose": {"within": {"energy_uj": 1}}}, "choose.within: limits explore.objectives (latency_ms, area_mm2)"),
    (
        {"explore": {"constraints": {"area_mm2": 1}}, "choose": {"within": {"area_mm2": [2, None]}}},
        "choose.within.area_mm2: leaves room within explore.constraints.area_mm2 [None, 1.0], but got [2.0, None]",
    ),
    ({"explore": False, "choose": {}}, "choose: cannot run, for it needs explore, and explore is false; leave it out"),
    ({"network": "resnet18", "train": {}}, "train: cannot run, for zoo is a network without weights to train"),
    ({"network": "resnet18", "train": None, "generate": {"vectors": 1}}, "generate.vectors: is 0 where there is"),
    ({"generate": {"top": "axi", "vectors": 1}}, "generate.vectors: is 0 with top: axi, for the test bench drives"),
    ({"generate": {"top": "apb"}}, "generate.top: is one of core, axi, but got 'apb'"),
    ({"cosimulate": {"simulator": "spice"}, "generate": {}}, "cosimulate.simulator: is one of auto, verilator"),
    ({"cosimulate": {"images": 0}, "generate": {}}, "cosimulate.images: is a whole number of 1 to"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "told"), BAD, ids=[told.split(":")[0] for _, told in BAD])
def test_what_breaks_a_law_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_workflow(changed(SMALL, **given))
    assert str(caught.value).startswith(f"workflow: {told}")


def test_a_network_is_needed() -> None:
    with pytest.raises(InvalidInputError, match="workflow: network: is needed, but is not there"):
        read_workflow({"name": "x"})
    with pytest.raises(InvalidInputError, match="a workflow is a file or a mapping, but got int"):
        read_workflow(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("network: digits\nnetwork: lenet5\n", "'network' stands there twice"),
        ("a: &a [1]\nb: *a\n", "an alias stands there; write it out"),
        ("network: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("network: [digits\n", "while parsing a flow sequence"),
        ("name: \udc80", "utf-8"),
        ("[" * 100_000, "mend that line"),
        ("- network\n", "is a mapping of names to values, but got ['network']"),
        ("", "is a mapping of names to values, but got None"),
        ("1: 2\nnetwork: digits\n", "has names that are texts, but got 1"),
        ("#" * (LIMIT_BYTES + 1), f"at most {LIMIT_BYTES:,} bytes"),
        ("network: digits\ntrain:\n  epochs: many\n", "flow.yaml: train.epochs: is a whole number of 1 to 10,000"),
        ("network: digits\nname: 2024-01-01\n", "flow.yaml: name: is a text of 1 to 100 printable characters"),
    ],
)
def test_a_file_that_is_no_workflow_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidInputError) as caught:
        read_workflow(path)
    assert told in str(caught.value)
    assert "flow.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"gone\.yaml: No such file or directory; check the name"):
        read_workflow(tmp_path / "gone.yaml")
    with pytest.raises(InvalidInputError, match="Is a directory"):
        read_workflow(tmp_path)


def test_a_file_of_a_network_counts_from_the_workflow(tmp_path: Path) -> None:
    """Its contents are part of what decides, and its place is not."""
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.onnx").write_bytes(content)
        (tmp_path / folder / "flow.yaml").write_text("network: net.onnx\n")
    a, b, c = (read_workflow(tmp_path / folder / "flow.yaml") for folder in "abc")
    assert a.path == tmp_path / "a" / "net.onnx"
    assert a.network == b.network != c.network
    assert tuple(a.steps) == ("profile", "explore", "choose", "generate")


def test_every_step_has_code_that_decides_over_it() -> None:
    codes = {step: code_of(step) for step in settings.STEPS}
    assert codes["train"] == codes["optimise"] != codes["explore"]
    assert {len(code) for code in codes.values()} == {64}


def test_what_decides_over_a_result_is_all_that_its_rooms_import() -> None:
    """A proof that is taken from the store is one of the code that there is: of the golden model, say, as well."""

    def within(module: str, rooms: tuple[str, ...]) -> bool:
        place = module.removesuffix(".py").replace(".", "/") + "/"
        return any(place.startswith(f"{KERNEL}/{room}/") for room in rooms)

    deciding = {**ROOMS, "a network": NETWORK_CODE, "a machine": MACHINE_CODE}
    every = tuple({room for rooms in deciding.values() for room in rooms})
    known = {path: source for path, source in sources().items() if within(path, every)}
    used = {
        path: {
            found.module
            for found in imports(source, ".".join(Path(path).parent.parts))
            if found.module.startswith(f"{KERNEL}.") and not found.module.endswith(".__version__")
        }
        for path, source in known.items()
    }
    for step, rooms in deciding.items():
        assert all(any(within(path, (room,)) for path in known) for room in rooms), step
        mine = {module for path in known if within(path, rooms) for module in used[path]}
        assert not {module for module in mine if not within(module, (*rooms, *TELLING))}, step


def test_all_of_a_full_workflow_is_read() -> None:
    flow = read_workflow(FULL)
    assert tuple(flow.steps) == EVERY
    assert flow.needs("explore") == ("optimise",)
    assert flow.needs("choose") == ("optimise", "explore")
    assert flow.needs("cosimulate") == ("optimise", "generate", "choose")
