"""The steps: each takes a :class:`Job` and gives a :class:`Product`. Rooms are imported where they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from codesign_kernel.scopes import within
from codesign_kernel.session.workflow import kept
from codesign_kernel.session.workflow.product import Job, Product
from codesign_kernel.units import quantity

#: Test inputs that run on the RTL where the workflow does not say, and the simulator is a quick one.
IMAGES = 100


def profile(job: Job) -> Product:
    """Operations, parameters and bytes of the network as it is given."""
    from codesign_kernel.session.scoped import profile as profile_of

    ((kind, name), *_) = job.workflow.network.items()
    if job.workflow.path is not None:
        found = profile_of(job.workflow.path)
    elif kind == "zoo":
        from codesign_kernel.profiler import zoo

        found = profile_of(*zoo.build(name), name=name)
    else:
        from codesign_kernel.optimize.networks import NETWORKS

        words = name if kind == name else f"{kind} {name}"
        found = profile_of(*NETWORKS[name].untrained(), name=words)
    told = f"{quantity(found.macs, 'MAC')}, {found.parameters:,} parameters in {len(found.operators)} operators"
    return Product("profile", {"told": told, "digest": found.digest}, {"profile.json": kept.profile_bytes(found)})


def train(job: Job) -> Product:
    """A network of a task, trained in floating point."""
    from codesign_kernel.optimize import accuracy, logits
    from codesign_kernel.optimize.networks import NETWORKS
    from codesign_kernel.optimize.weights import weights_of

    assert job.workflow.trained is not None
    name, settings, data = job.workflow.trained[1], job.settings, job.dataset
    model, right = NETWORKS[name].train(data, settings["seed"], settings["epochs"], job.progress)
    body = {
        "told": f"{right:.2%} of {len(data.test_y):,} held-out inputs",
        "network": name,
        "validation": accuracy(logits(model, data.validation_x), data.validation_y),
        "test": right,
    }
    return Product("network", body, {"weights.npz": kept.arrays_bytes(weights_of(model))})


def optimise(job: Job) -> Product:
    """The trained network in integers."""
    from codesign_kernel.optimize import accuracy
    from codesign_kernel.session.workflow.optimising import in_words, integers

    before, data = job.records["train"].data, job.dataset
    network = integers(job.trained, data, job.settings, job.progress)
    right = accuracy(network.predict(data.test_x), data.test_y)
    body = {
        "told": f"{in_words(job.settings)}, {right:.2%} of {len(data.test_y):,} held-out inputs "
        f"(float {before['test']:.2%})",
        "digest": network.digest,
        "bits": network.bits,
        "validation": accuracy(network.predict(data.validation_x), data.validation_y),
        "test": right,
    }
    return Product("network", body, {"network.npz": kept.network_bytes(network)})


def generate(job: Job) -> Product:
    """The chosen accelerator as Verilog and VHDL, with a test bench where vectors are asked for."""
    from codesign_kernel.rtl import generate_rtl as sources_of
    from codesign_kernel.session.asked import bytes_of
    from codesign_kernel.session.generation import generate_rtl

    vectors, top = job.settings["vectors"], job.settings["top"]
    job.progress(0, 0, "converting MyHDL to Verilog and VHDL")
    if vectors:
        bundle = generate_rtl(job.design, job.network, job.dataset.test_x[:vectors])
    else:
        bundle = sources_of(job.design, top)
    within("artefact_bytes", bytes_of(bundle.texts))
    body = {
        "told": f"{bundle.in_words}, digest {bundle.digest[:12]}",
        "digest": bundle.digest,
        "top": bundle.top,
        "machine": asdict(bundle.accelerator),
        "sources": [*bundle.files],
        "bench": [*bundle.testbench],
        "memories": bundle.memories,
    }
    return Product("rtl", kept.plain(body), {name: text.encode() for name, text in bundle.texts.items()})


def cosimulate(job: Job) -> Product:
    """The network on the RTL: bits beside the golden model, cycles beside the cost model and the program."""
    from codesign_kernel.cosim import check, find_simulator
    from codesign_kernel.cost import evaluate
    from codesign_kernel.optimize import accuracy
    from codesign_kernel.rtl import generate_rtl
    from codesign_kernel.session.asked import predicted_cycles
    from codesign_kernel.session.demo import FEW_IMAGES, SLOW

    runner, data = find_simulator(job.settings["simulator"]), job.dataset
    count = job.settings["images"] or (FEW_IMAGES if runner.name in SLOW else IMAGES)
    within("simulated_cycles", predicted_cycles(job.network, job.design, count))
    # what simulators drive is the core; the bus around it is proven elsewhere
    core = job.workflow.steps["generate"]["top"] == "core"
    bundle = job.bundle if core else generate_rtl(job.design)
    cost = evaluate(job.network, job.design)
    report = check(
        bundle, job.network, data.test_x[:count], runner,
        cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle, progress=job.progress,
    )  # fmt: skip
    bits = "equal bits" if not report.mismatches else f"{report.mismatches} differ"
    proven = "proven" if report.passed else "NOT PROVEN"
    body = {
        "told": f"{proven}: {report.vectors} inputs on {report.simulator}, {bits}, {report.cycles_rtl:,} cycles "
        f"(model {report.cycles_model:,}, program {report.cycles_program:,})",
        "passed": report.passed,
        "test": accuracy(report.outputs, data.test_y[: report.vectors]),
    }
    files = {
        "cosim.json": kept.json_bytes(report.to_dict()),
        "outputs.npz": kept.arrays_bytes({"outputs": report.outputs}),
    }
    return Product("report", body, files)


def report(job: Job) -> Product:
    """The whole walk as one page."""
    from codesign_kernel.cost import evaluate
    from codesign_kernel.figures.report import LoopResult, render_report
    from codesign_kernel.pareto import knee
    from codesign_kernel.session.workflow.searching import exploration_of

    found = exploration_of(job)
    found.front.attrs["objectives"] = [*found.objectives]
    chosen = found.front.loc[job.records["choose"].data["design"]]
    content = kept.report_of(job.file("cosimulate", "cosim.json"), job.file("cosimulate", "outputs.npz"))
    loop = LoopResult(
        kept.profile_of(job.file("profile", "profile.json")), found.frame,
        found.front.drop_duplicates([*found.objectives]), knee(found.front), job.design,
        evaluate(job.network, job.design), job.records["train"].data["test"], job.records["optimise"].data["test"],
        job.bundle, content, _manifest(job),
    )  # fmt: skip
    page = render_report(loop)
    chosen_text = ", ".join(f"{name} {chosen[name]:.4g}" for name in found.objectives)
    return Product("report", {"told": f"one page; {chosen_text}"}, {"report.html": page.encode()})


def _manifest(job: Job) -> dict[str, Any]:
    """What is needed to make the same again."""
    records = job.records
    return {
        "workflow": job.workflow.name,
        "versions": dict(records["explore"].provenance.versions),
        "seeds": {step: records[step].provenance.seed for step in ("train", "explore")},
        "digests": {step: record.data.get("digest", record.digest) for step, record in records.items()},
        "design": records["choose"].data["machine"],
        "seconds": {step: record.provenance.wall_s for step, record in records.items()},
    }


def co_optimize(job: Job) -> Product:
    """Pairs of a network and a machine, from one search."""
    from codesign_kernel.session.workflow.pairing import search

    return search(job)


def choose(job: Job) -> Product:
    """The design to take, or the pair."""
    if "co_optimize" in job.records:
        from codesign_kernel.session.workflow.pairing import choose_pair

        return choose_pair(job)
    from codesign_kernel.session.workflow.searching import choose as choose_design

    return choose_design(job)


def explore(job: Job) -> Product:
    """The best designs for one network."""
    from codesign_kernel.session.workflow.searching import explore as explore_space

    return explore_space(job)


#: Step -> what does it.
FUNCTIONS: dict[str, Callable[[Job], Product]] = {
    "profile": profile,
    "train": train,
    "optimise": optimise,
    "explore": explore,
    "co_optimize": co_optimize,
    "choose": choose,
    "generate": generate,
    "cosimulate": cosimulate,
    "report": report,
}
