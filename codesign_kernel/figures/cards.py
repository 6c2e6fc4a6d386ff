"""How each result of the library shows itself in a notebook: its card, and the figure that tells most about it.

Results do not import this: ``codesign_kernel.display`` asks for it by the name of a result's class, when one is shown.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import plotly.graph_objects as go

from codesign_kernel.display import HTML, PLOTLY
from codesign_kernel.errors import CodesignError
from codesign_kernel.figures import searched, theme
from codesign_kernel.figures.card import Card, cut, html_of
from codesign_kernel.figures.causes import plot_causes
from codesign_kernel.figures.fusion import plot_fusion
from codesign_kernel.figures.layers import plot_layers
from codesign_kernel.figures.page import Tile
from codesign_kernel.figures.pairs import plot_pairs
from codesign_kernel.figures.words import band, percent
from codesign_kernel.figures.work import plot_work
from codesign_kernel.units import quantity

#: Rows of a card's table.
ROWS = 8
#: Why a form is left out: there is nothing to show, its store or scheduler is gone, or a package is missing.
CAUSES = (CodesignError, ImportError, OSError)
_PICO = 1e-12
_KIB = 8 * 1024


class Form(NamedTuple):
    """How a kind of result is shown: its card, and its figure where there is one that tells something."""

    card: Callable[[Any], Card]
    figure: Callable[[Any], go.Figure] | None = None


def shown_as(result: Any, kinds: Collection[str]) -> dict[str, Any]:
    """``result`` in those of ``kinds`` (HTML, Plotly) that its class has and that can be made now."""
    form = next((FORMS[one.__name__] for one in type(result).__mro__ if one.__name__ in FORMS), None)
    shown: dict[str, Any] = {}
    if form is not None and HTML in kinds:
        try:
            shown[HTML] = html_of(form.card(result))
        except CAUSES:
            return {}  # the words stand
    if form is not None and form.figure is not None and PLOTLY in kinds:
        with contextlib.suppress(*CAUSES):  # the card stands
            figure = _with_tiles(form.figure(result), form.card(result))
            shown[PLOTLY] = json.loads(figure.to_json())
    return shown


def _with_tiles(figure: go.Figure, card: Card) -> go.Figure:
    """``figure`` with the card's key figures below its title: a front end that draws it shows nothing else."""
    words = dict(figure.layout.meta)
    told = " · ".join(f"{tile.label} {tile.value}" for tile in card.tiles)
    caption = " ".join(part for part in (words.pop("subtitle"), words.pop("caption")) if part)
    alt = f"{told}. {words.pop('alt')}"
    return theme.finish(figure, subtitle=told, caption=caption, alt=alt, **words)


def _share(part: float, whole: float) -> str:
    return percent(part / whole) if whole else "none"


def _some(count: int, what: str, how: str) -> str:
    """The caption of a table of the first ``ROWS`` of ``count``."""
    return f"{how} {ROWS} of {count:,} {what}" if count > ROWS else f"All {count:,} {what}"


def _profile(profile: Any) -> Card:
    operators = profile.operators
    left = sum(profile.workload.uncosted.values())
    names = ", ".join(f"{op} ×{count}" for op, count in sorted(profile.workload.uncosted.items()))
    most = sorted(operators, key=lambda o: -o.layer.macs)[:ROWS]
    rows = [
        (o.layer.name, o.layer.op, quantity(o.layer.macs, "MAC"), _share(o.layer.macs, profile.macs),
         f"{o.parameters:,}", f"{o.intensity:.3g}")
        for o in most
    ]  # fmt: skip
    return Card(
        f"Profile of {cut(profile.name)}",
        [
            Tile("Work", quantity(profile.macs, "MAC"), "one forward pass"),
            Tile("Parameters", f"{profile.parameters:,}", quantity(profile.parameter_bytes, "B")),
            Tile("Activations at once", quantity(profile.peak_activation_bytes, "B"),
                 f"{quantity(profile.activation_bytes, 'B')} in all"),
            Tile("Operators", f"{len(operators):,}", f"{left:,} not costed" if left else "all costed"),
        ],
        _some(len(operators), "operators, by MACs", "The largest"),
        ("Operator", "Kind", "Work", "Share", "Parameters", "MAC/byte"),
        rows,
        numeric=2,
        note=f"Not costed: {names}" if left else "",
    )  # fmt: skip


def _workload(work: Any) -> Card:
    most = sorted(work.layers, key=lambda layer: -layer.macs)[:ROWS]
    loops = ("K", "C", "OY", "OX", "FY", "FX")
    rows = [(one.name, one.op, *(f"{getattr(one, n):,}" for n in loops), quantity(one.macs, "MAC")) for one in most]
    tiles = [Tile("Work", quantity(work.macs, "MAC")), Tile("Layers", f"{len(work.layers):,}")]
    caption = _some(len(work.layers), "layers, by MACs", "The largest")
    return Card(f"Workload {cut(work.name)}", tiles, caption, ("Layer", "Kind", *loops, "Work"), rows, numeric=2)


def _cost(cost: Any) -> Card:
    slowest = sorted(cost.layers, key=lambda one: -one.latency_cycle)[:ROWS]
    rows = [
        (one.name, f"{one.latency_cycle:,}", _share(one.latency_cycle, cost.latency_cycle),
         quantity(one.energy_pj * _PICO, "J"), quantity(one.dram_bit / 8, "B"), percent(one.utilization))
        for one in slowest
    ]  # fmt: skip
    left = ", ".join(f"{op} ×{count}" for op, count in sorted(cost.uncosted.items()))
    return Card(
        f"{cut(cost.workload, 60)} on {cost.accelerator}",
        [
            Tile("Latency", quantity(cost.latency_s, "s"), f"{cost.latency_cycle:,} cycles"),
            Tile("Energy", quantity(cost.energy_pj * _PICO, "J"),
                 band(cost.energy_low_pj * _PICO, cost.energy_high_pj * _PICO, "J")),
            Tile("Area", quantity(cost.area_um2 * _PICO, "m²"),
                 band(cost.area_low_um2 * _PICO, cost.area_high_um2 * _PICO, "m²")),
            Tile("Utilisation", percent(cost.utilization),
                 f"of {quantity(cost.accelerator.peak_macs_per_s, 'MAC/s')}"),
        ],
        _some(len(cost.layers), "layers, by cycles", "The slowest"),
        ("Layer", "Cycles", "Share", "Energy", "DRAM", "Utilised"),
        rows,
        note=f"Not costed, since this datapath has no place for them: {left}" if left else "",
    )  # fmt: skip


def _machine(machine: Any) -> Card:
    levels = machine.memories
    rows = [
        (level.name, f"{level.capacity_bit / _KIB:g} KiB", f"{level.word_bit:,} bit", ", ".join(level.operands) or "-")
        for level in levels
    ]
    name = getattr(machine, "name", "")
    return Card(
        f"{cut(name)}: {machine}" if name and not str(machine).startswith(name) else str(machine),
        [
            Tile("Array", f"{machine.rows} × {machine.cols}", f"{machine.pes:,} PEs, {machine.dataflow}"),
            Tile("Peak", quantity(machine.peak_macs_per_s, "MAC/s"), f"at {machine.frequency_mhz:g} MHz"),
            Tile("On chip", quantity(sum(level.capacity_bit for level in levels) / 8, "B"), "memory"),
            Tile("External memory", f"{machine.bandwidth_gb_s:g} GB/s", f"{machine.bits_per_cycle:.3g} bit a cycle"),
        ],
        "Memories",
        ("Memory", "Holds", "Word", "For"),
        rows,
    )


def _space(space: Any) -> Card:
    rows = [
        (name, f"{len(values):,}", cut(", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values), 80))
        for name, values in space.choices.items()
    ]
    tiles = [Tile("Points", f"{space.size:,}", "every combination"), Tile("Parameters", f"{len(rows)}")]
    return Card(type(space).__name__, tiles, "What can be chosen", ("Parameter", "Choices", "Values"), rows, numeric=9)


def _cosim(report: Any) -> Card:
    agree = report.vectors - report.mismatches
    bits = Tile("Bits", f"✓ {agree:,} equal", "all inputs", "good")
    if report.mismatches:
        bits = Tile("Bits", f"✗ {report.mismatches:,} differ", f"of {report.vectors:,} inputs", "bad")
    equal = report.cycles_rtl == report.cycles_model == report.cycles_program and not report.cycle_mismatches
    cycles = Tile(
        "Cycles", "✓ equal" if equal else "✗ differ", f"{report.cycles_rtl:,} of one run", "good" if equal else "bad"
    )
    steps = Tile("Instructions", f"{report.instructions:,}", "each compared")
    if report.instruction_mismatches:
        steps = Tile("Instructions", "✗ differ", f"in {report.instruction_mismatches:,} runs", "bad")
    rows = [
        ("RTL, its own counter", f"{report.cycles_rtl:,}"),
        ("Cost model, from shapes", f"{report.cycles_model:,}"),
        ("Program, instruction by instruction", f"{report.cycles_program:,}"),
    ]
    first = [str(one) for one in (report.first_mismatch, report.first_instruction) if one is not None]
    return Card(
        f"Co-simulation of {cut(report.network, 60)} on {report.design}",
        [bits, cycles, steps, Tile("Simulator", report.simulator, f"{report.runs:,} runs")],
        "Cycles of one run", ("Counted by", "Cycles"), rows,
        note=f"First difference: {'; '.join(first)}" if first else f"MAC slots: {report.causes}",
    )  # fmt: skip


def _verify(report: Any) -> Card:
    verdict = Tile("Networks", f"✓ {report.agreed:,} agree", "bits and cycles", "good")
    if not report.passed:
        verdict = Tile("Networks", f"✗ {report.agreed:,} agree", f"of {report.cases:,}", "bad")
    rare = sorted(report.met.items(), key=lambda one: (one[1], one[0]))[:ROWS]
    return Card(
        f"Verification of random networks on random accelerators, seed {report.seed}",
        [
            verdict,
            Tile("RTL cycles", f"{report.cycles:,}", f"{report.instructions:,} instructions compared"),
            Tile("Accelerators", f"{len(report.accelerators):,}", f"{report.layers:,} layers on them"),
            Tile("Simulator", report.simulator, f"in {quantity(report.wall_s, 's')}"),
        ],
        _some(len(report.met), "ways to cut a layer", "The rarest"), ("Met", "Networks"), rare,
        note=f"First that differs: {report.failure}" if report.failure else "",
    )  # fmt: skip


def _bundle(bundle: Any) -> Card:
    lines = bundle.lines
    verilog = [count for name, count in lines.items() if name.endswith(".v")]
    vhdl = sum(count for name, count in lines.items() if name.endswith(".vhd"))
    largest = sorted(lines.items(), key=lambda one: (-one[1], one[0]))[:ROWS]
    return Card(
        f"RTL of {bundle.accelerator}",
        [
            Tile("Top", bundle.top, "module and entity"),
            Tile("Verilog", f"{sum(verilog):,} lines", f"{len(verilog):,} modules"),
            Tile("VHDL", f"{vhdl:,} lines", "one file and its package"),
            Tile("Digest", bundle.digest[:12], "sha256 of the sources"),
        ],
        _some(len(lines), "files", "The longest"), ("File", "Lines"), [(n, f"{c:,}") for n, c in largest],
        note="bundle.write(folder) writes them; bundle.files[name] is the text of one.",
    )  # fmt: skip


def _network(network: Any) -> Card:
    weights = [layer.weight.size if layer.op in ("conv2d", "linear") else 0 for layer in network.layers]
    widths = [layer.weight_bits or network.bits for layer in network.layers]
    rows = [
        (layer.name, layer.op, " × ".join(map(str, shape)), *((f"{count:,}", f"{bits} bit") if count else ("-", "-")))
        for layer, shape, count, bits in zip(network.layers, network.shapes[1:], weights, widths, strict=True)
    ]  # fmt: skip
    stored = sum(count * bits for count, bits in zip(weights, widths, strict=True)) / 8
    return Card(
        f"Integer network {cut(network.name)}",
        [
            Tile("Activations", f"int{network.bits}", "signed"),
            Tile("Weights", f"{sum(weights):,}", quantity(stored, "B")),
            Tile("Work", quantity(network.workload.macs, "MAC"), "one inference"),
            Tile("Input", " × ".join(map(str, network.input_shape)), "channels × rows × columns"),
        ],
        _some(len(rows), "layers", "The first"), ("Layer", "Kind", "Gives", "Weights", "Width"), rows[:ROWS], numeric=3,
    )  # fmt: skip


def _fusion(report: Any) -> Card:
    size = report.bytes
    most = sorted(report.layers, key=lambda one: one.after - one.before)[:ROWS]
    rows = [
        (one.name, quantity(size(one.before), "B"), quantity(size(one.after), "B"),
         _share(one.before - one.after, one.before))
        for one in most
    ]  # fmt: skip
    return Card(
        f"Fusion of {cut(report.network)}",
        [
            Tile("Layers left", f"{report.layers_after:,}", f"of {len(report.operators):,} operators"),
            Tile("Traffic saved", _share(report.traffic_saved, report.traffic_before), "of maps, for one image"),
            Tile("Traffic left", quantity(size(report.traffic_after), "B"),
                 f"instead of {quantity(size(report.traffic_before), 'B')}"),
            Tile("Folded", f"{report.parameters_folded:,}", "parameters of normalisations"),
        ],
        _some(len(report.layers), "layers, by what they save", "The first"),
        ("Layer", "Before", "After", "Saved"), rows,
    )  # fmt: skip


def _workflow(result: Any) -> Card:
    ran = len(result.ran)
    verdict = ("✓ passed", "good") if result.passed else ("✗ differs", "bad")
    return Card(
        f"Workflow {cut(result.name)}",
        [
            Tile("Steps", f"{len(result.steps):,}", f"{ran:,} ran, {len(result.steps) - ran:,} cached"),
            Tile("Evaluations", f"{result.evaluations:,}", "now"),
            Tile("Co-simulation", verdict[0], "", verdict[1]),
        ],
        "Steps", ("Step", "State", "Time", "Gave"), result.rows(), numeric=9,
    )  # fmt: skip


def _cluster(cluster: Any) -> Card:
    state = "closed" if cluster.closed else f"{cluster.workers:,}"
    last = cluster.decisions[-5:][::-1]
    rows = [(quantity(one.time_s, "s"), f"{one.workers} → {one.target}", one.signal, one.reason) for one in last]
    return Card(
        f"Cluster, {cluster.backend}",
        [
            Tile("Workers", state, f"{cluster.minimum} to {cluster.maximum}"),
            Tile("Policy", cluster.mode),
            Tile("Decisions", f"{len(cluster.decisions):,}", "so far"),
        ],
        "The last decisions", ("When", "Workers", "Signal", "Why"), rows, numeric=9,
    )  # fmt: skip


def _checks(found: Any) -> Card:
    if not found.checks:
        return Card("What this machine can do", note="Nothing is missing.")
    signs = {
        check.name: "✓" if check.found else "✗ missing" if check.required else "– absent" for check in found.checks
    }
    here = sum(check.found for check in found.checks)
    fit = (
        Tile("codesign demo", "✓ can run", "", "good")
        if found.fit
        else Tile("codesign demo", "✗ cannot run", "", "bad")
    )
    rows = [(check.name, signs[check.name], check.detail, check.remedy) for check in found.checks]
    tiles = [fit, Tile("Found", f"{here} of {len(found.checks)}")]
    return Card("What this machine can do", tiles, "Checks", ("What", "Found", "Detail", "Remedy"), rows, numeric=9)


def _trace(trace: Any) -> Card:
    (m, k), n = trace.a.shape, trace.b.shape[1]
    tiles = [
        Tile("Cycles", f"{trace.cycles:,}", "first input to last sum"),
        Tile("MACs", f"{trace.macs:,}", f"{m} × {k} by {k} × {n}"),
        Tile("Utilisation", percent(trace.utilization), f"of {trace.rows} × {trace.cols} elements"),
        Tile("Stays in the array", trace.stationary),
    ]
    return Card("A matrix product on the systolic array", tiles, note="ArrayAnimator plays it.")


def _waves(waves: Any, cycles: int) -> Card:
    """Of a window of a run, or of a run that can be looked at, with so many cycles."""
    ran = waves.instructions
    told = f"{cycles:,} in all"
    if waves.cycle_ns is not None:
        told += f", {quantity(cycles * waves.cycle_ns * 1e-9, 's')}"
    rows = [
        (str(one.address), cut(one.layer), cut(one.instruction), f"{one.begin:,}", f"{one.got:,}") for one in ran[:ROWS]
    ]
    tiles = [
        Tile("Cycles", f"{waves.first:,} to {waves.last:,}", told),
        Tile("Instructions", f"{len(ran):,}"),
    ]
    heads = ("Address", "Layer", "Instruction", "From cycle", "Cycles")
    caption = _some(len(ran), "instructions", "The first")
    return Card("Waveforms", tiles, caption, heads, rows, numeric=3, note="RtlViewer shows them.")


def _words(title: str) -> Callable[[Any], Card]:
    return lambda told: Card(title, note=str(told))


def _of_machine(design: Any) -> Card:
    return _machine(design.accelerator)


#: By the name of the result's class.
FORMS: Mapping[str, Form] = {
    "Accelerator": Form(_machine),
    "ArrayTrace": Form(_trace),
    "Cluster": Form(_cluster),
    "CoOptimization": Form(searched.pairs, lambda found: plot_pairs(found.front, knee=found.knee)),
    "Cost": Form(_cost, plot_layers),
    "CosimReport": Form(_cosim, lambda report: plot_causes(report.causes)),
    "Design": Form(_of_machine),
    "DesignSpace": Form(_space),
    "Examination": Form(_checks),
    "Exploration": Form(searched.exploration, searched.front_figure),
    "FusionReport": Form(_fusion, plot_fusion),
    "IntegerNetwork": Form(_network),
    "NetworkSpace": Form(_space),
    "Profile": Form(_profile, plot_work),
    # the last cycle of a window is in it; behind the last of a run it is done
    "Recording": Form(lambda run: _waves(run, run.last - run.first)),
    "Recommendation": Form(_words("Which design to take")),
    "RtlBundle": Form(_bundle),
    "SpatialArray": Form(_machine),
    "VerifyReport": Form(_verify),
    "Waveform": Form(lambda waves: _waves(waves, waves.last - waves.first + 1)),
    "WorkflowResult": Form(_workflow),
    "Workload": Form(_workload),
}
