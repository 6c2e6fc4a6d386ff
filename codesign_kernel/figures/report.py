"""The whole loop as one self-contained HTML page: network, profile, front, accelerator, RTL, proof."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesign_kernel.figures import page
from codesign_kernel.figures.causes import causes_table, plot_causes
from codesign_kernel.figures.cosim import Checked, cosim_figure, cosim_info
from codesign_kernel.figures.layers import part_words, plot_layers
from codesign_kernel.figures.pareto import plot_pareto
from codesign_kernel.figures.roofline import plot_roofline
from codesign_kernel.figures.words import OBJECTIVES, PARAMETERS, band, design_words, objective, percent
from codesign_kernel.units import quantity, three_digits

if TYPE_CHECKING:
    import pandas as pd

    from codesign_kernel.accelerator.spatial import SpatialArray
    from codesign_kernel.accelerator.types import Accelerator
    from codesign_kernel.cost.result import Cost
    from codesign_kernel.design import Design
    from codesign_kernel.profiler.result import Profile
    from codesign_kernel.rtl.generate import RtlBundle

#: Rows of the front and lines of RTL that stand in the page; all of them are in the downloads.
FRONT_ROWS = 12
RTL_LINES = 60


@dataclass(frozen=True)
class LoopResult:
    """What one walk around the loop found.

    Attributes:
        profile: of the float network.
        frame, front, knee: the sweep, its non-dominated rows, and the row of the front that is its knee.
        design, cost: the chosen accelerator, and the network on it.
        accuracy_float, accuracy_int8: on the test images (of 1).
        bundle: the generated sources.
        cosim: RTL against golden model and cost model.
        manifest: seeds, versions, times: plain data, nested mappings allowed.
    """

    profile: Profile
    frame: pd.DataFrame
    front: pd.DataFrame
    knee: Mapping[Hashable, Any]
    design: Design
    cost: Cost
    accuracy_float: float
    accuracy_int8: float
    bundle: RtlBundle
    cosim: Checked
    manifest: Mapping[str, Any]

    @property
    def objectives(self) -> list[str]:
        """What the front was found for: as it remembers, else latency and energy."""
        known = [name for name in self.front.attrs.get("objectives", ()) if name in OBJECTIVES]
        return known[:3] if len(known) > 1 else ["latency_ms", "energy_uj"]


def render_report(result: LoopResult) -> str:
    """The page as HTML text. It loads nothing: scripts, styles and data are inside, and its policy forbids the rest."""
    proof = cosim_info(result.cosim)
    cost, machine = result.cost, result.design.accelerator
    verdict = "matches its generated RTL bit for bit" if proof.proven else "does not match its generated RTL"
    name = result.profile.name
    heading = (
        f"{name[:1].upper()}{name[1:]} on {machine.rows} × {machine.cols} PEs: {quantity(cost.latency_s, 's')}, "
        f"{quantity(cost.energy_pj * 1e-12, 'J')}, and the model {verdict}"
    )
    lead = (
        "From a network to an accelerator whose cycles and bits are proven, step by step. "
        "Every figure can be saved, with its data."
    )
    sections = [_network(result), _profile(result), _front(result), _accelerator(result), _rtl(result), _proof(result)]
    rows = page.manifest_rows(result.manifest)
    made = page.details(
        "How this was made",
        f'<div class="ck-words">{page.table("Seeds, versions and times", ("What", "Value"), rows, 2)}</div>',
    )
    return page.document(
        f"{result.profile.name}: codesign report", heading, lead, page.tiles(_summary(result)), sections, made
    )


def _and(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _summary(result: LoopResult) -> list[page.Tile]:
    cost, proof = result.cost, cosim_info(result.cosim)
    pico = 1e-12
    if proof.proven:
        verdict = (f"✓ {proof.agree:,}", "images, bit for bit", "good")
    elif proof.differ:
        verdict = (f"✗ {proof.differ:,} differ", f"of {proof.agree + proof.differ:,} images", "bad")
    else:
        verdict = ("✗ cycles differ", "bits agree", "bad")
    return [
        page.Tile("Latency", quantity(cost.latency_s, "s"), f"{cost.latency_cycle:,} cycles"),
        page.Tile(
            "Energy",
            quantity(cost.energy_pj * pico, "J"),
            band(cost.energy_low_pj * pico, cost.energy_high_pj * pico, "J"),
        ),
        page.Tile(
            "Area",
            quantity(cost.area_um2 * pico, "m²"),
            band(cost.area_low_um2 * pico, cost.area_high_um2 * pico, "m²"),
        ),
        page.Tile(
            "Utilisation", percent(cost.utilization), f"of {quantity(cost.accelerator.peak_macs_per_s, 'MAC/s')}"
        ),
        page.Tile(
            f"Accuracy, int{result.design.accelerator.weight_bits}",
            f"{100 * result.accuracy_int8:.1f} %",
            f"float {100 * result.accuracy_float:.1f} %",
        ),
        page.Tile("RTL equals model", *verdict),
    ]


def _network(result: LoopResult) -> page.Section:
    profile = result.profile
    loss = result.accuracy_float - result.accuracy_int8
    change = f"loses {100 * loss:.1f} percentage points" if loss > 0.0005 else "loses nothing"
    text = page.paragraph(
        f"{profile.name} has {profile.parameters:,} parameters and takes {quantity(profile.macs, 'MAC')} an inference. "
        f"Rounded to {result.design.accelerator.weight_bits}-bit integers it {change}: "
        f"{100 * result.accuracy_int8:.1f} % of the test images are right, "
        f"{100 * result.accuracy_float:.1f} % in float."
    )
    layers = [layer for layer in profile.workload.layers if layer.macs]
    rows = [
        (
            layer.name,
            layer.op,
            f"{layer.G * layer.C} → {layer.G * layer.K}",
            f"{layer.FY} × {layer.FX}",
            f"{layer.OY} × {layer.OX}",
        )
        for layer in layers
    ]
    head = ("Layer", "Operator", "Channels", "Filter", "Output map")
    return page.Section(
        "network", "The network", text + page.table("Layers that multiply and accumulate", head, rows, 2)
    )


def _profile(result: LoopResult) -> page.Section:
    frame = result.profile.table()
    busiest = frame.loc[frame["macs"].idxmax()]
    share = percent(busiest["macs"] / result.profile.macs)
    text = page.paragraph(
        f"{busiest['name']} does {share} of the work. Intensity is MACs per byte moved, each operand once: "
        "the higher, the less a layer depends on memory."
    )
    rows = [
        (
            row["name"],
            row["op"],
            quantity(row["macs"], "MAC"),
            f"{row['parameters']:,}",
            quantity(row["input_bytes"], "B"),
            quantity(row["output_bytes"], "B"),
            three_digits(row["intensity"]),
        )
        for row in frame.to_dict("records")
    ]
    head = ("Operator", "Kind", "Work", "Parameters", "Reads", "Writes", "MAC/byte")
    caption = "One forward pass, in the types of the float network"
    body = page.table(caption, head, rows, 2) + page.download(
        "profile.csv", frame.to_csv(index=False), "Profile as CSV"
    )
    return page.Section("profile", "The profile", text + body)


def _front(result: LoopResult) -> page.Section:
    names = result.objectives
    x, y, *more = names
    third = more[0] if more else None
    fields = {name: getattr(result.design.accelerator, name) for name in PARAMETERS}
    chosen = _row_of(result.frame, fields)
    picture = plot_pareto(result.frame, result.front, x, y, third, chosen=chosen, knee=result.knee)
    feasible = int(result.frame["feasible"].sum())
    text = page.paragraph(
        f"{len(result.frame):,} accelerators were evaluated; {feasible:,} can run the network, and "
        f"{len(result.front):,} of these, equal ones counted once, are on the front: no other is as good in "
        f"{_and([OBJECTIVES[name].label.lower() for name in names])} at once, and better in one."
    )
    told = [name for name in PARAMETERS if name in result.front.columns and result.frame[name].nunique() > 1]
    step = max(1, -(-len(result.front) // FRONT_ROWS))
    shown = result.front.iloc[::step].to_dict("records")
    rows = [(design_words(row, told), *(objective(name).text(row[name]) for name in names)) for row in shown]
    few = f"One in {step} of the designs of the front" if step > 1 else "The designs of the front"
    head = ("Design", *(OBJECTIVES[name].label for name in names))
    folded = page.details("Designs of the front as a table", page.table(few, head, rows))
    save = page.download(
        "front.csv", result.front.to_csv(index_label="design"), f"All {len(result.front):,} designs of the front as CSV"
    )
    return page.Section(
        "front", "The designs worth choosing from", text + page.figure(picture, "pareto") + folded + save
    )


def _row_of(frame: pd.DataFrame, fields: Mapping[str, Any]) -> Mapping[Hashable, Any] | None:
    """The row of the sweep with these parameters, if the chosen design was among those swept."""
    mask = frame["feasible"].astype(bool)
    for name, value in fields.items():
        if name in frame.columns:
            mask &= frame[name] == value
    hits = frame[mask]
    return None if hits.empty else hits.iloc[0].to_dict()


def _accelerator(result: LoopResult) -> page.Section:
    machine, cost = result.design.accelerator, result.cost
    resident = (
        f"All weights stay on chip; loading them once takes {cost.boot_cycle:,} cycles."
        if cost.resident
        else "The weights do not all fit on chip: every inference loads them again."
    )
    text = page.paragraph(f"{machine}. {resident}")
    area = [
        (part_words(name), quantity(value * 1e-12, "m²"), percent(value / cost.area_um2))
        for name, value in _sorted(cost.area_parts)
    ]
    body = page.figure(plot_roofline(cost, machine), "roofline") + page.figure(plot_layers(cost), "layers")
    body += page.figure(plot_causes(result.cosim.causes), "causes")
    body += page.details("Every cycle by its cause as a table", causes_table(result.cosim.causes))
    body += page.details(
        "Parameters and area by part",
        _parameters(machine) + page.table("Area by part", ("Part", "Area", "Share"), area),
    )
    return page.Section("accelerator", "The chosen accelerator", text + body)


def _sorted(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda part: -part[1])


def _parameters(machine: Accelerator | SpatialArray) -> str:
    rows = [
        ("Array", f"{machine.rows} × {machine.cols} PEs, {machine.dataflow}"),
        ("Operands and accumulator", f"{machine.weight_bits} and {machine.acc_bits} bit"),
        *(
            (
                f"{level.name.capitalize()} memory",
                f"{three_digits(level.capacity_bit / 8192)} KiB, {level.word_bit} bit wide",
            )
            for level in machine.memories
        ),
        (
            "External memory",
            f"{machine.bandwidth_gb_s:g} GB/s, {getattr(machine, 'bus_bits', machine.bits_per_cycle):g} bit a clock",
        ),
        ("Clock", f"{machine.frequency_mhz:g} MHz"),
        ("Process", f"{machine.node_nm:g} nm"),
    ]
    return page.table("Parameters", ("Parameter", "Value"), rows, 1)


def _rtl(result: LoopResult) -> page.Section:
    bundle = result.bundle
    lines = {name: text.count("\n") for name, text in bundle.files.items()}
    text = page.paragraph(
        f"The accelerator as synthesisable text, {sum(lines.values()):,} lines in {len(lines)} files; "
        f"the top module is {bundle.top}. Equal designs give equal text: its digest is {bundle.digest[:16]}."
    )
    rows = [(name, f"{count:,}", quantity(len(bundle.files[name].encode()), "B")) for name, count in lines.items()]
    body = page.details(f"All {len(rows)} files", page.table("Generated files", ("File", "Lines", "Size"), rows))
    first = "\n".join(bundle.files[f"{bundle.top}.v"].splitlines()[:RTL_LINES])
    body += page.details(f"The first {RTL_LINES} lines of {bundle.top}.v", page.code(first))
    return page.Section("rtl", "The generated RTL", text + body)


def _proof(result: LoopResult) -> page.Section:
    proof = cosim_info(result.cosim)
    if proof.proven:
        told = (
            f"{proof.simulator.capitalize()} ran the generated RTL on {proof.agree:,} images. Every output equals the "
            f"golden integer model, and one inference took {result.cosim.cycles_rtl:,} cycles: what the cost model had "
            "predicted, and what the program's instructions add up to."
        )
    else:
        told = (
            f"{proof.simulator.capitalize()} ran the generated RTL, and it does not agree. {proof.finding}. "
            "Do not trust this design."
        )
    return page.Section("proof", "The proof", page.paragraph(told) + page.figure(cosim_figure(proof), "cosim"))
