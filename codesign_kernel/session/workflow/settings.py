"""A workflow as it is written, checked: which steps there are, and the settings of each as plain data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.session.workflow.exploring import CHOOSE, EXPLORE, check_exploring
from codesign_kernel.session.workflow.joint import JOINT, check_joint
from codesign_kernel.session.workflow.laws import SEEDS, Law, mapping, one_of, refuse, section, text, whole
from codesign_kernel.session.workflow.optimising import OPTIMISE, check_optimising
from codesign_kernel.session.workflow.text import read_text

#: Task -> its networks, as in ``optimize.networks.NETWORKS``, which needs torch. The first one is meant by the task.
TASKS = {"digits": ("cnn", "lenet5", "resnet", "mobilenet"), "keywords": ("keywords",)}
SIMULATORS = ("auto", "verilator", "icarus", "myhdl", "ghdl")
FILES = (".onnx", ".pt2")
#: Step -> its settings: {name: (law, default)}. In the order in which they run.
STEPS: dict[str, dict[str, tuple[Law, Any]]] = {
    "profile": {},
    "train": {"epochs": (whole(1, 10_000), None), "seed": (whole(0, SEEDS), None)},
    "optimise": OPTIMISE,
    "explore": EXPLORE,
    "co_optimize": JOINT,
    "choose": CHOOSE,
    "generate": {"top": (one_of("core", "axi"), "core"), "vectors": (whole(0, 1000), None)},
    "cosimulate": {"simulator": (one_of(*SIMULATORS), "auto"), "images": (whole(1), None)},
    "report": {},
}
#: Step -> those that it cannot do without. What else it takes where it is there, is in :func:`Workflow.needs`.
NEEDS = {
    "optimise": ("train",),
    "explore": ("profile",),
    "co_optimize": ("train",),
    "choose": ("explore",),
    "generate": ("choose",),
    "cosimulate": ("optimise", "generate"),
    "report": ("profile", "train", "optimise", "explore", "choose", "generate", "cosimulate"),
}
#: The same where network and machine are searched together.
JOINT_NEEDS = {**NEEDS, "choose": ("co_optimize",), "cosimulate": ("choose", "generate")}
#: What then has its place taken, or lacks what it tells of.
JOINT_OFF = ("optimise", "explore", "report")
#: Steps that need a network that can be trained.
WEIGHTS = ("train", "optimise", "co_optimize", "cosimulate", "report")
#: Test vectors of the bench that is generated, where there is a network to run.
VECTORS = 3


@dataclass(frozen=True)
class Workflow:
    """A checked workflow.

    Attributes:
        name: of the workflow.
        source: its file, for messages.
        network: {task: name}, {"zoo": name} or {"file": name, "sha256": digest}.
        path: of the network's file, if it is one.
        seed: of every step that is not given its own.
        steps: {step: its settings}, in the order in which they run.
    """

    name: str
    source: str
    network: dict[str, str]
    path: Path | None
    seed: int
    steps: dict[str, dict[str, Any]]

    @property
    def trained(self) -> tuple[str, str] | None:
        """(task, network) of one that is trained here."""
        ((kind, name), *_) = self.network.items()
        return (kind, name) if kind in TASKS else None

    def needs(self, step: str) -> tuple[str, ...]:
        """The steps whose results ``step`` works with."""
        if "co_optimize" in self.steps:
            return JOINT_NEEDS.get(step, ())
        wanted = NEEDS.get(step, ())
        source = "optimise" if "optimise" in self.steps else "profile"
        if step == "explore":
            wanted = (source,)
        if step == "choose":
            wanted = (source, *wanted)
        if step == "generate" and self.steps[step]["vectors"]:
            wanted = ("optimise", *wanted)
        if step == "cosimulate":
            wanted = (*wanted, "choose")
        return wanted


def read_workflow(given: str | os.PathLike[str] | Mapping[str, Any]) -> Workflow:
    """A workflow from its file or from a mapping of the same form.

    Raises:
        InvalidInputError: it is none; the message says where in it, the law, the value and what to do.
    """
    if isinstance(given, Mapping):
        return _checked(dict(given), "workflow", "workflow", Path())
    if not isinstance(given, (str, os.PathLike)):
        raise InvalidInputError(f"a workflow is a file or a mapping, but got {type(given).__name__}")
    path = Path(given)
    return _checked(read_text(path), path.name, path.stem, path.parent)


def _checked(told: Any, source: str, name: str, folder: Path) -> Workflow:
    at = f"{source}: "
    told = mapping(source, told)
    for key in told:
        if key not in ("name", "network", "seed", *STEPS):
            raise InvalidInputError(
                f"{at}{key}: there is no such step or setting; a workflow has name, network, seed, {', '.join(STEPS)}"
            )
    if "network" not in told:
        raise InvalidInputError(f"{at}network: is needed, but is not there; write `network: digits`")
    network, path = _network(f"{at}network", told["network"], folder)
    seed = whole(0, SEEDS)(f"{at}seed", told.get("seed", 0))
    asked = _asked(at, told, network)
    if told.get("choose") == "knee":
        told["choose"] = None  # which is the default
    steps = {step: section(f"{at}{step}", told.get(step), STEPS[step]) for step in STEPS if step in asked}
    for step in ("train", "optimise", "explore", "co_optimize"):
        if step in steps and steps[step]["seed"] is None:
            steps[step]["seed"] = seed
    if "optimise" in steps:
        check_optimising(f"{at}optimise", steps["optimise"])
    if "explore" in steps:
        bits = steps["optimise"]["bits"] if "optimise" in steps else None
        check_exploring(at, steps["explore"], steps.get("choose"), bits)
    if "co_optimize" in steps:
        check_joint(f"{at}co_optimize", steps["co_optimize"])
        if "choose" in steps:
            _check_joint_choice(f"{at}choose", steps["choose"], steps["co_optimize"])
    _check_making(at, steps)
    return Workflow(text(f"{at}name", told.get("name", name)), source, network, path, seed, steps)


def _network(where: str, value: Any, folder: Path) -> tuple[dict[str, str], Path | None]:
    """(what it is, its file)."""
    if isinstance(value, Mapping):
        if len(value) != 1 or not {*value} <= {*TASKS, "zoo", "file"}:
            refuse(where, f"is one of {', '.join(TASKS)}, zoo or file", dict(value), "write `network: {digits: cnn}`")
        ((kind, name),) = value.items()
    else:
        name = text(where, value)
        kind = "file" if name.endswith(FILES) else name if name in TASKS else "zoo"
        name = TASKS[kind][0] if kind in TASKS else name
    if kind in TASKS:
        return {kind: one_of(*TASKS[kind])(f"{where}.{kind}", name)}, None
    name = text(f"{where}.{kind}", name)
    if kind == "zoo":
        return {kind: name}, None
    path = folder / name
    if path.suffix not in FILES:
        refuse(f"{where}.{kind}", f"is a file of {' or '.join(FILES)}", name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"{where}.{kind}: is a file that can be read, but {path}: {error.strerror or error}; names count from the "
            "folder of the workflow"
        ) from error
    return {kind: path.name, "sha256": hashlib.sha256(content).hexdigest()}, path


def _asked(at: str, told: Mapping[str, Any], network: Mapping[str, str]) -> set[str]:
    """The steps that run: all that can, but for those that are told not to and those that need one of them."""
    off = {step for step in STEPS if told.get(step) is False}
    why = {step: f"{step} is false" for step in off}
    joint = told.get("co_optimize") not in (None, False)
    if joint:
        off |= set(JOINT_OFF)
        why |= dict.fromkeys(JOINT_OFF, "co_optimize takes the place of optimise and explore")
    else:
        off.add("co_optimize")
        why.setdefault("co_optimize", "it is not asked for")
    if not {*TASKS} & {*network}:
        off |= set(WEIGHTS)
        why |= {step: f"{next(iter(network))} is a network without weights to train" for step in WEIGHTS}
    spatial = told.get("explore")
    if isinstance(spatial, Mapping) and spatial.get("spatial") is True:
        off.add("generate")
        why["generate"] = "a spatial array has no RTL here"
    for step in STEPS:
        lost = next((need for need in (JOINT_NEEDS if joint else NEEDS).get(step, ()) if need in off), None)
        if lost is not None and step not in off:
            off.add(step)
            why[step] = f"it needs {lost}, and {why[lost]}"
    for step in off:
        if told.get(step) not in (None, False):
            raise InvalidInputError(f"{at}{step}: cannot run, for {why[step]}; leave it out, or change that")
    return set(STEPS) - off


def _check_joint_choice(where: str, choose: Mapping[str, Any], joint: Mapping[str, Any]) -> None:
    """What can be chosen of pairs."""
    if choose["within"]:
        refuse(f"{where}.within", "is left out with co_optimize, whose constraints limit pairs", choose["within"])
    sought = ("accuracy", *dict(map(tuple, joint["objectives"])))
    if choose["best"] is not None and choose["best"] not in sought:
        refuse(
            f"{where}.best", f"is accuracy or one of co_optimize.objectives ({', '.join(sought[1:])})", choose["best"]
        )


def _check_making(at: str, steps: dict[str, dict[str, Any]]) -> None:
    """Settings of the generated sources that cannot go together."""
    if "generate" not in steps:
        return
    made, integers = steps["generate"], "optimise" in steps or "co_optimize" in steps
    if made["vectors"] is None:
        made["vectors"] = VECTORS if made["top"] == "core" and integers else 0
    if made["vectors"] and not integers:
        refuse(f"{at}generate.vectors", "is 0 where there is no quantised network to run", made["vectors"])
    if made["vectors"] and made["top"] == "axi":
        refuse(f"{at}generate.vectors", "is 0 with top: axi, for the test bench drives the core", made["vectors"])
