"""What each kind of job does, by the functions that a notebook calls too; plain data out. Runs in the sandbox.

Rooms are imported where they are used: a job loads what it needs.
"""

from __future__ import annotations

import io
import math
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign_kernel import scopes
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.server.worker import BEGAN_S, Made, Work

if TYPE_CHECKING:
    from codesign_kernel.accelerator import Accelerator, SpatialArray
    from codesign_kernel.design import DesignSpace
    from codesign_kernel.profiler import Profile
    from codesign_kernel.workload import Workload

Request = Mapping[str, Any]
Inputs = Mapping[str, str]
Progress = Callable[[int, int, str], None]
ZIP, STUDY = "application/zip", "application/x-codesign-study"
#: Where the study of an exploration is kept while it runs, and rows of its front in the result.
STUDY_FILE, FRONT_ROWS = "study.db", 2_000
#: Networks of an optimisation that names no budget.
PAIRED = 16
#: Objectives of an exploration that names none.
OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")
#: Of the times that its scope gives it an exploration takes this part, as its last batch and its result take some, too.
SHARE = 0.8
#: The time that every file of a zip has, so that equal contents are equal bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@cache
def _network(name: str) -> Profile:
    """The profile of a network by name: of the zoo, or of this library's tasks."""
    from codesign_kernel.profiler.stored import stored_names, stored_profile

    if name in stored_names():  # without torch, which takes seconds to load
        return stored_profile(name)
    from codesign_kernel.profiler.packing import unpack
    from codesign_kernel.server.api.known import networks

    if name not in networks():
        raise InvalidInputError(f"there is no network {name!r:.60}; GET /models lists them")
    return unpack(networks()[name]["profile"])


def _machine(told: Mapping[str, Any]) -> Accelerator | SpatialArray:
    from codesign_kernel.accelerator import Accelerator, SpatialArray, catalog
    from codesign_kernel.design import Design

    if "template" not in told:
        return Design.of(told).accelerator
    found = catalog(told["template"])
    if not isinstance(found, Accelerator | SpatialArray):
        raise InvalidInputError(f"{told['template']} has a model of its own; choose a systolic or a spatial array")
    return found


def plain(value: Any) -> Any:
    """Numbers of numpy as Python's, and what is no finite number as null: JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def profile_job(request: Request, inputs: Inputs, progress: Progress) -> Made:
    """Operations, parameters and bytes of a network by name or of an uploaded one."""
    from codesign_kernel.profiler import profile

    scopes.require("profile")
    if "model" in inputs:
        scopes.require("upload")
        progress(0, 0, "reading the model")
        found = profile(Path(inputs["model"]).resolve(), name=request.get("name") or "upload")
    else:
        progress(0, 0, "profiling")
        found = _network(request["model"])
    scopes.within("macs", found.macs)
    names = ("macs", "parameters", "parameter_bytes", "activation_bytes", "peak_activation_bytes", "digest")
    rows = found.table().to_dict("records")
    told = {"name": request.get("name") or found.name, **{name: getattr(found, name) for name in names}}
    return Made(plain({**told, "uncosted": dict(found.workload.uncosted), "layers": rows}), {})


def evaluate_job(request: Request, inputs: Inputs, progress: Progress) -> Made:
    """What each design takes for one inference; one that cannot run it says why."""
    from codesign_kernel.cost import evaluate
    from codesign_kernel.errors import InfeasibleDesignError

    scopes.require("explore")
    designs = request["designs"]
    scopes.within("designs", len(designs))
    found = _network(request["network"])
    rows: list[dict[str, Any]] = []
    for number, told in enumerate(designs):
        try:
            cost = evaluate(found, _machine(told))
        except (InvalidInputError, InfeasibleDesignError) as error:
            rows.append({"feasible": False, "reason": str(error)[:500]})
            continue
        rows.append(
            {
                "feasible": True, "reason": "", "latency_cycle": cost.latency_cycle, "latency_ms": cost.latency_s * 1e3,
                "energy_uj": cost.energy_pj * 1e-6, "energy_low_uj": cost.energy_low_pj * 1e-6,
                "energy_high_uj": cost.energy_high_pj * 1e-6, "area_mm2": cost.area_um2 * 1e-6,
                "power_mw": cost.energy_pj * 1e-9 / cost.latency_s, "utilization": cost.utilization,
            }
        )  # fmt: skip
        progress(number + 1, len(designs), "designs evaluated")
    return Made(plain({"network": request["network"], "macs": found.macs, "designs": rows}), {})


def explore_job(request: Request, inputs: Inputs, progress: Progress) -> Made:
    """The front of a space, or of the part of it that there was time for; with a name it goes on where it was."""
    from codesign_kernel.session.explore import explore

    scopes.require("explore")
    work, space, objectives, limits = exploration_of(request)
    given: dict[str, Any] = {key: request[key] for key in ("sampler", "budget", "seed") if key in request}
    given["stop"] = time_is_up
    scopes.within("designs", min(space.size, given.get("budget", space.size)))
    given |= {"objectives": objectives, "constraints": limits, "progress": progress}
    if "workers" in request:
        from codesign_kernel.server.workers.remote import RemoteExecutor

        scopes.require("cluster")
        given["executor"] = RemoteExecutor(request["workers"])  # its connection ends with this process
    if "name" not in request:
        return exploration_made(request, explore(work, space, **given))
    from codesign_kernel.store import Store

    with Store(inputs.get("study", STUDY_FILE)) as store:
        found = explore(work, space, store=store, name=request["name"], **given)
    made = exploration_made(request, found)
    kept = Path(inputs.get("study", STUDY_FILE)).read_bytes()
    return Made(made.result, {**made.files, STUDY_FILE: (STUDY, kept)})


def exploration_of(request: Request) -> tuple[Workload, DesignSpace, tuple[str, ...], dict[str, Any]]:
    """(workload, space, objectives, constraints) of a request."""
    work = _network(request["network"]).workload
    objectives = tuple(request.get("objectives", OBJECTIVES))
    return work, space_of(request.get("space", "default"), work), objectives, limits_of(request)


def limits_of(request: Request) -> dict[str, Any]:
    """The constraints of a request, as explorations take them."""
    return {n: tuple(v) if isinstance(v, list) else v for n, v in request.get("constraints", {}).items()}


def time_is_up() -> bool:
    """Whether most of what the scope gives this process is used: what was found till then is a result, too."""
    if (scope := scopes.current()) is None:
        return False
    used_s = {"wall_s": time.monotonic() - BEGAN_S, "cpu_s": sum(os.times()[:4])}
    return any(used > SHARE * scope.limits[name] for name, used in used_s.items())


def space_of(told: str | Mapping[str, Any], work: Any) -> Any:
    """The space of a request."""
    from codesign_kernel.accelerator.spatial import spatial_only
    from codesign_kernel.design import DesignSpace, SpatialSpace

    if told == "spatial":
        return SpatialSpace.default()
    if isinstance(told, str):
        return DesignSpace.large() if told == "large" else DesignSpace.default()
    return (SpatialSpace if spatial_only(told) else DesignSpace)(**told)


def exploration_made(request: Request, found: Any) -> Made:
    """An exploration as a result."""
    front = found.front.drop_duplicates([*found.objectives])
    rows = [{"design": int(number), **row.to_dict()} for number, row in front.head(FRONT_ROWS).iterrows()]
    told = {
        "network": request["network"], "space": found.space.size, "designs": found.tally.designs,
        "legal": found.tally.legal, "stopped": found.stopped, "objectives": found.objectives,
        "hypervolume": found.hypervolume, "sampler": found.provenance.sampler, "seed": found.provenance.seed,
        "evaluated": found.provenance.evaluated, "front_designs": len(front), "front": rows,
        "recommendation": found.recommend().to_dict(),
    }  # fmt: skip
    return Made(plain(told), {"front.csv": ("text/csv", found.front.to_csv().encode())})


def optimize_job(request: Request, inputs: Inputs, progress: Progress) -> Made:
    """A network and an accelerator chosen together: each network trained, quantised and tried on every machine."""
    from codesign_kernel.optimize import load_digits
    from codesign_kernel.optimize.networks import network_of
    from codesign_kernel.session.co_optimize import OBJECTIVES, co_optimize
    from codesign_kernel.session.machines import small_machines
    from codesign_kernel.store import Store

    scopes.require("explore")
    scopes.require("optimize")
    task = network_of(request["network"], "digits")
    space = space_of(request["space"], None) if "space" in request else small_machines()
    budget, seed = request.get("budget", PAIRED), request.get("seed", 0)
    # what the scope does not allow is refused before the training
    scopes.within("designs", space.size * budget)
    data = load_digits(task.shape[1])
    model, right = task.train(data, seed, request.get("epochs"), progress)
    with Store(inputs.get("study", STUDY_FILE)) as store:
        found = co_optimize(
            model, space, data, limits_of(request), objectives=tuple(request.get("objectives", OBJECTIVES)),
            budget=budget, seed=seed, progress=progress, store=store if "name" in request else None,
            name=request.get("name"),
        )  # fmt: skip
    advice = found.recommend()
    front = found.front.head(FRONT_ROWS).to_dict("records")
    told = {
        "network": request["network"], "accuracy": right, "space": found.space.size, "networks": len(found.frame),
        "trained": found.provenance.evaluated, "stopped": found.stopped, "objectives": found.objectives,
        "hypervolume": found.hypervolume, "sampler": found.provenance.sampler, "seed": seed,
        "front_pairs": len(found.front), "front": front,
        "recommendation": {"pair": advice.number, "words": str(advice)},
    }  # fmt: skip
    files = {"front.csv": ("text/csv", found.front.to_csv().encode())}
    if "name" in request:
        files[STUDY_FILE] = (STUDY, Path(inputs.get("study", STUDY_FILE)).read_bytes())
    return Made(plain(told), files)


def generate_job(request: Request, inputs: Inputs, progress: Progress) -> Made:
    """The RTL of a design as a zip."""
    from codesign_kernel.session.generation import generate_rtl

    scopes.require("generate")
    machine = _machine(request["design"])
    progress(0, 0, "converting MyHDL to Verilog and VHDL")
    bundle = generate_rtl(machine)
    packed = zipped(bundle.texts)
    scopes.within("artefact_bytes", len(packed))
    told = {"accelerator": str(machine), "top": bundle.top, "digest": bundle.digest, "lines": bundle.lines}
    return Made(plain(told), {"rtl.zip": (ZIP, packed)})


def zipped(texts: Mapping[str, str]) -> bytes:
    """Files as a zip; equal files are equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(texts.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def cosimulate_job(request: Request, inputs: Inputs, progress: Progress) -> Made:
    """A network, trained and quantised, on the generated RTL: bits and cycles compared."""
    from codesign_kernel.cost import evaluate
    from codesign_kernel.optimize import load_digits, quantize
    from codesign_kernel.optimize.networks import NETWORKS
    from codesign_kernel.session.generation import check_generated
    from codesign_kernel.session.steps import cosimulate

    scopes.require("cosimulate")
    task, machine = NETWORKS[request["network"]], _machine(request["design"])
    check_generated(machine, "cosimulate")
    vectors = request.get("vectors", 1)
    # what the scope does not allow, or does not fit, is refused before the training
    scopes.within("simulated_cycles", evaluate(_network(request["network"]), machine).latency_cycle * vectors)
    if task.data == "digits":
        data = load_digits(task.shape[1])
    else:
        from codesign_kernel.optimize import load_keywords

        data = load_keywords()
    model, right = task.train(data, request.get("seed", 0), request.get("epochs"), progress)
    progress(0, 0, "quantising")
    network = quantize(model, data.calibration_x)
    report = cosimulate(machine, network, data.test_x[:vectors], request.get("simulator", "auto"), progress)
    told = {
        "network": request["network"], "accelerator": str(machine), "accuracy": right, "simulator": report.simulator,
        "vectors": report.vectors, "mismatches": report.mismatches, "bits_equal": report.mismatches == 0,
        "cycles_rtl": report.cycles_rtl, "cycles_model": report.cycles_model,
        "cycles_equal": report.cycle_mismatches == 0, "passed": report.passed,
        "first_mismatch": str(report.first_mismatch or ""),
    }  # fmt: skip
    return Made(plain(told), {})


#: {kind: what it does}.
KINDS: Mapping[str, Work] = {
    "profile": profile_job,
    "evaluate": evaluate_job,
    "explore": explore_job,
    "optimize": optimize_job,
    "generate": generate_job,
    "cosimulate": cosimulate_job,
}
