"""ZigZag 3.9.1 (KU Leuven) and ``ck.evaluate`` side by side: the same machines, the same layers, latency minimised.

Without arguments ZigZag's figures are those recorded in ``codesign_kernel/session/data/zigzag_3_9_1.json``. With
``--zigzag PYTHON``, an interpreter (3.11 or newer) that has ``zigzag-dse==3.9.1``, ``six`` and ``numpy<2.3``, they are
measured anew; ``--out FILE`` keeps them. ZigZag gets the spatial unrolling (input channels on the rows, output channels
on the columns, groups on the diagonal) and tries every order of at most ``--lpf`` factors of the loops.

What ZigZag counts otherwise, as read in its source (cost_model.py, mapping.py, memory_allocator.py):

- Array: ``folds x stream`` cycles, and ``rows + cols - 2`` once a layer; a stream shorter than loading the next weights
  is a stall. Here that belongs to the array, and ``2 rows + cols - 2`` comes with every tile.
- DRAM: for each port of each memory, the cycles that its transfers take are set against those in which they may run,
  and the layer stalls for the worst port's excess. The first transfer of each operand is not among them: it is hidden
  as far as the port is idle on average. Here every tile is weighed by itself.
- Tiles: each operand has its own (a buffer that can hold all weights does, however the inputs are cut), but a loop is
  cut only where ``--lpf`` leaves factors. Here a tile is common to the operands, and every size is tried.
- Channels that do not fill the array: transfers take the cycles of the unrolling rounded down (15 of 16 columns, for
  1000 channels in 63 folds). A layer bound by DRAM can then take less than its weights alone take on the bus.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from math import ceil, prod
from pathlib import Path
from typing import Any

Record = dict[str, Any]
RECORDED = Path(__file__).parent.parent / "codesign_kernel" / "session" / "data" / "zigzag_3_9_1.json"
VERSION = "3.9.1"
RUNS = 5
RANDOM = 500
BUFFERS = ("input_kib", "weight_kib", "output_kib")
LOOPS = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")

ROOMY: Record = {
    "rows": 16, "cols": 16, "dataflow": "ws", "overlap": True, "im2col": False, "weight_bits": 8, "input_bits": 8,
    "output_bits": 8, "acc_bits": 32, "input_kib": 64.0, "weight_kib": 64.0, "output_kib": 64.0,
    "double_buffered": True, "register_words": 1, "bandwidth_gb_s": 6.4, "burst_bytes": 16, "duplex": False,
    "frequency_mhz": 400.0,
}  # fmt: skip
TIGHT: Record = {"bandwidth_gb_s": 1.6, "burst_bytes": 4, "input_kib": 16.0, "weight_kib": 16.0, "output_kib": 32.0}
#: Fields of SpatialArray. A burst is what DRAM moves in a cycle (128 and 32 bit), since ZigZag knows words, not bursts.
MACHINES = {"roomy": ROOMY, "tight": {**ROOMY, **TIGHT}}


def conv(name: str, channels: tuple[int, int], side: int, taps: int = 3, stride: int = 1, groups: int = 1) -> Record:
    """Fields of a Layer: (C, K) of a group, a square map of ``side`` outputs, "same" padding."""
    return {
        "name": name, "op": "conv2d", "G": groups, "C": channels[0], "K": channels[1], "OY": side, "OX": side,
        "FY": taps, "FX": taps, "IY": side * stride, "IX": side * stride, "stride": (stride, stride),
        "padding": (taps // 2, taps // 2),
    }  # fmt: skip


#: Of ResNet-50 (arXiv 1512.03385, stride in the 3x3 as torchvision has it) and MobileNetV2 (arXiv 1801.04381).
LAYERS: tuple[Record, ...] = (
    conv("resnet50 3x3 64-64", (64, 64), 56),
    conv("resnet50 1x1 256-64", (256, 64), 56, taps=1),
    conv("resnet50 3x3/2 128-128", (128, 128), 28, stride=2),
    conv("resnet50 3x3 256-256", (256, 256), 14),
    conv("resnet50 1x1 512-2048", (512, 2048), 7, taps=1),
    {"name": "resnet50 fc 2048-1000", "op": "linear", "C": 2048, "K": 1000},
    conv("mobilenetv2 1x1 24-144", (24, 144), 56, taps=1),
    conv("mobilenetv2 dw 3x3 144", (1, 1), 56, groups=144),
)


# ---- inside the interpreter that has ZigZag ----


def port(name: str, kind: str, bits: int, *uses: str) -> Record:
    return {"name": name, "type": kind, "bandwidth_min": bits, "bandwidth_max": bits, "allocation": list(uses)}


def memory(size: int, operands: str, ports: list[Record], *, shared: bool, double: bool = False) -> Record:
    """``shared``: one for the whole array; else one in each PE. Energies and areas are not asked for."""
    return {
        "size": size, "r_cost": 1.0, "w_cost": 1.0, "area": 0.0, "latency": 1, "operands": operands.split(),
        "ports": ports, "served_dimensions": ["D1", "D2"] if shared else [], "force_double_buffering": double,
    }  # fmt: skip


def accelerator(machine: Record) -> Record:
    """The machine in ZigZag's terms: buffers give the array a word of every row or column in a cycle.

    A weight register is doubled where ``overlap``: the next fold's weights move in behind the stream. Buffers take from
    DRAM and give to it as much as it moves in a cycle. Sums have no register: they pass the array, and rest in the
    output buffer.
    """
    dram = machine["bandwidth_gb_s"] * 8000 / machine["frequency_mhz"]
    if dram != int(dram) or machine["dataflow"] != "ws" or machine["im2col"] or machine["duplex"]:
        sys.exit("this description covers ws without im2col, half duplex, with whole bits of DRAM a cycle")
    dram = int(dram)
    rows, cols, double = machine["rows"], machine["cols"], machine["double_buffered"]
    inputs, weights = rows * machine["input_bits"], cols * machine["weight_bits"]
    sums, width = cols * machine["acc_bits"], machine["weight_bits"]
    copies = machine["register_words"] * (2 if machine["overlap"] else 1)
    fills = {
        name: [port("r_port_1", "read", bits, f"{op}, tl"), port("w_port_1", "write", dram, f"{op}, fh")]
        for name, op, bits in (("input", "I1", inputs), ("weight", "I2", weights))
    }
    register = [port("r_port_1", "read", width, "I2, tl"), port("w_port_1", "write", width, "I2, fh")]
    accumulator = [
        port("r_port_1", "read", sums, "O, tl"),
        port("w_port_1", "write", sums, "O, fl"),
        port("r_port_2", "read", dram, "O, th"),
        port("w_port_2", "write", dram, "O, fh"),
    ]
    every = [f"{op}, {way}" for op in ("I1", "I2", "O") for way in ("fh", "tl")] + ["O, fl", "O, th"]
    kib = 8192
    return {
        "name": "array",
        "memories": {
            "register": memory(width * copies, "I2", register, shared=False, double=machine["overlap"]),
            "input": memory(int(machine["input_kib"] * kib), "I1", fills["input"], shared=True, double=double),
            "weight": memory(int(machine["weight_kib"] * kib), "I2", fills["weight"], shared=True, double=double),
            "output": memory(int(machine["output_kib"] * kib), "O", accumulator, shared=True, double=double),
            "dram": memory(10**11, "I1 I2 O", [port("rw_port_1", "read_write", dram, *every)], shared=True),
        },
        "operational_array": {
            "unit_energy": 1.0, "unit_area": 1.0, "dimensions": ["D1", "D2"], "sizes": [rows, cols],
            "systolic_dimensions": ["D1", "D2"],
        },
    }  # fmt: skip


def workload(layer: Record, machine: Record) -> Record:
    """The layer in ZigZag's terms. Its padding makes the input as large as it is stored."""
    sizes = {loop: layer.get(loop, 1) for loop in LOOPS}
    (sy, sx), (py, px) = layer.get("stride", (1, 1)), layer.get("padding", (0, 0))
    stored = [layer.get("IX", 1), layer.get("IY", 1)]
    seen = [(sizes["OX"] - 1) * sx + sizes["FX"], (sizes["OY"] - 1) * sy + sizes["FY"]]
    return {
        "id": 0, "name": layer["name"], "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "dimension_relations": [f"ix={sx}*ox+1*fx", f"iy={sy}*oy+1*fy"],
        "loop_dims": list(sizes), "loop_sizes": list(sizes.values()),
        "operand_precision": {
            "W": machine["weight_bits"], "I": machine["input_bits"], "O": machine["acc_bits"],
            "O_final": machine["output_bits"],
        },
        "operand_source": {"W": 0}, "pr_loop_dims": ["IX", "IY"], "pr_loop_sizes": stored,
        "padding": [[px, seen[0] - stored[0] - px], [py, seen[1] - stored[1] - py]],
    }  # fmt: skip


def unrolling(layer: Record, machine: Record) -> Record:
    """Channels along the rows and the columns. A depthwise layer lies on the diagonal: G on one side, one beside it."""
    rows, cols = machine["rows"], machine["cols"]
    if layer.get("G", 1) > 1:
        if layer["C"] * layer["K"] > 1:
            sys.exit(f"groups of one channel lie on the diagonal, but {layer['name']} has larger ones")
        return {"D1": [f"G, {min(rows, cols, layer['G'])}"], "D2": ["K, 1"]}
    return {"D1": [f"C, {min(rows, layer['C'])}"], "D2": [f"K, {min(cols, layer['K'])}"]}


def search(layer: Record, machine: Record, lpf: int, folder: Path) -> Record:
    """ZigZag's best latency for a layer, with its parts (cycle), its traffic (bit), and what the search took."""
    from zigzag.mapping.temporal_mapping import TemporalMappingType
    from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
    from zigzag.stages.main import MainStage
    from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
    from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
    from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
    from zigzag.stages.parser.workload_parser import WorkloadParserStage
    from zigzag.stages.results.reduce_stages import MinimalLatencyStage
    from zigzag.stages.workload_iterator import WorkloadStage

    counted = 0

    class Counted(CostModelStage):
        def run(self) -> Any:
            nonlocal counted
            counted += 1
            yield from super().run()

    (folder / "accelerator.yaml").write_text(json.dumps(accelerator(machine)))  # JSON is YAML
    links = {"O": "O", "W": "I2", "I": "I1"}
    mapping = [{"name": "default", "spatial_mapping": unrolling(layer, machine), "memory_operand_links": links}]
    (folder / "mapping.yaml").write_text(json.dumps(mapping))
    stages = [
        WorkloadParserStage, AcceleratorParserStage, WorkloadStage, MinimalLatencyStage, SpatialMappingGeneratorStage,
        MinimalLatencyStage, TemporalMappingGeneratorStage, Counted,
    ]  # fmt: skip
    start = time.process_time()
    [(best, _)] = MainStage(
        stages, accelerator=str(folder / "accelerator.yaml"), workload=[workload(layer, machine)],
        mapping=str(folder / "mapping.yaml"), loma_lpf_limit=lpf, loma_show_progress_bar=False,
        nb_mappings_generated=1, enable_mix_spatial_mapping_generation=False,
        access_same_data_considered_as_no_access=True, temporal_mapping_type=TemporalMappingType.UNEVEN,
    ).run()  # fmt: skip
    seconds = time.process_time() - start
    if best.layer.total_mac_count != prod(layer.get(loop, 1) for loop in LOOPS):
        sys.exit(f"ZigZag took {layer['name']} for another layer")
    return {**figures(best, machine), "mappings": counted, "cpu_s": round(seconds, 3)}


def figures(best: Any, machine: Record) -> Record:
    """What is kept of a ``CostModelEvaluation``."""
    from zigzag.mapping.data_movement import DataDirection

    word = int(machine["bandwidth_gb_s"] * 8000 / machine["frequency_mhz"])
    moved = {str(op): levels[-1] for op, levels in best.memory_word_access.items()}
    return {
        "latency_cycle": round(best.latency_total2),
        "ideal_cycle": round(best.ideal_cycle),
        "mapped_cycle": round(best.ideal_temporal_cycle),
        "stall_cycle": round(best.stall_slack_comb),
        "onload_cycle": round(best.data_onloading_cycle),
        "offload_cycle": round(best.data_offloading_cycle),
        "drain_cycle": round(best.systolic_drain_cycle),
        "dram_read_bit": {op: word * int(a.get(DataDirection.RD_OUT_TO_LOW)) for op, a in moved.items()},
        "dram_write_bit": word * int(moved["O"].get(DataDirection.WR_IN_BY_LOW)),
        "loops": {
            str(op): [" ".join(f"{dim}{size}" for dim, size in level) for level in levels]
            for op, levels in best.temporal_mapping.mapping_dic_origin.items()
        },
    }


def inside() -> None:
    """Read the job from stdin, write the figures to stdout."""
    logging.disable(logging.WARNING)
    job = json.load(sys.stdin)
    if version("zigzag-dse") != VERSION:
        sys.exit(f"these figures are of zigzag-dse {VERSION}, but this interpreter has {version('zigzag-dse')}")
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for name, machine in job["machines"].items():
            for layer in job["layers"]:
                found = search(layer, machine, job["lpf"], Path(folder))
                answers.append({"machine": name, "layer": layer["name"], **found})
                print(f"{name}, {layer['name']}: {found['cpu_s']} s", file=sys.stderr)
    json.dump(answers, sys.stdout)


# ---- outside of it ----


def measure(python: str, lpf: int) -> Record:
    """What is recorded: machines, layers, results, and how they were made."""
    job = {"machines": MACHINES, "layers": LAYERS, "lpf": lpf}
    # without -P this file would be the module `zigzag` that it imports
    command = [python, "-P", __file__, "--inside"]
    done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return {
        "source": f"ZigZag {VERSION} (PyPI zigzag-dse, MIT), run by this project",
        "command": f"python benchmarks/zigzag.py --zigzag PYTHON --lpf {lpf} --out FILE",
        "processor": f"{processor()}, one core",
        "units": "cycle, bit, CPU second; loops: of each memory level, inner to outer",
        **job,
        "results": json.loads(done.stdout),
    }


def processor() -> str:
    """The name of this machine's processor, or its kind where there is none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def least(layer: Record, machine: Record) -> int:
    """Cycles that no mapping can go below: every PE busy, or every operand moved once."""
    size = {loop: layer.get(loop, 1) for loop in LOOPS}
    macs, maps = prod(size.values()), size["B"] * size["G"]
    weights = size["G"] * size["K"] * size["C"] * size["FY"] * size["FX"] * machine["weight_bits"]
    inputs = maps * size["C"] * layer.get("IY", 1) * layer.get("IX", 1) * machine["input_bits"]
    outputs = maps * size["K"] * size["OY"] * size["OX"] * machine["output_bits"]
    bus = machine["bandwidth_gb_s"] * 8000 / machine["frequency_mhz"]
    return max(ceil(macs / (machine["rows"] * machine["cols"])), ceil((weights + inputs + outputs) / bus))


def workload_of(*layers: Record) -> Any:
    """The layers as a Workload; pairs come as lists from JSON."""
    import codesign_kernel as ck

    found = [{key: tuple(v) if isinstance(v, list) else v for key, v in layer.items()} for layer in layers]
    return ck.Workload("layers", tuple(ck.Layer(**layer) for layer in found))


def ours(layer: Record, machine: Record) -> tuple[Any, float]:
    """(the LayerCost of the best mapping, seconds of one search over all mappings)."""
    import codesign_kernel as ck

    workload, array = workload_of(layer), ck.SpatialArray(**machine)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        cost = ck.evaluate(workload, array, fusion=False)
        seconds.append(time.perf_counter() - start)
    [found] = cost.layers
    return found, statistics.median(seconds)


def compare(record: Record) -> None:
    """Print both sides, layer by layer."""
    layers = {layer["name"]: layer for layer in record["layers"]}
    pairs = []
    for name, machine in record["machines"].items():
        print(f"\n{name}: {machine}\n")
        print(
            f"{'layer':<24} {'least':>9} | {'ZigZag':>9} = {'array':>7} + {'stall':>7} + {'ends':>5} {'Mbit':>6} "
            f"{'tried':>5} {'CPU s':>6} | {'here':>9} {'Mbit':>6} {'ms':>6} | "
            f"{'here/ZigZag':>11} {'array':>8} {'DRAM':>8}"
        )
        for result in (r for r in record["results"] if r["machine"] == name):
            bound = least(layers[result["layer"]], machine)
            found, seconds = ours(layers[result["layer"]], machine)
            pairs.append((found.latency_cycle / result["latency_cycle"], result["cpu_s"] / seconds))
            print(row(result, bound, found, seconds))
    print("\n! below what is possible. array, DRAM: cycles more (+) or less (-) than ZigZag's in array and memory.")
    latency = statistics.geometric_mean(ratio for ratio, _ in pairs)
    speed = statistics.geometric_mean(ratio for _, ratio in pairs)
    print(f"Geometric means: {latency:.3f} of ZigZag's latency; {speed:,.0f} searches in the time of one of ZigZag's.")
    print(f"ZigZag's time: {record['processor']}; here: {processor()}, median of {RUNS} runs.")


def rates(record: Record) -> None:
    """Print how many designs a second are mapped, all layers on each, and how many ZigZag maps."""
    import numpy as np

    from codesign_kernel.accelerator.spatial import SpatialArrays
    from codesign_kernel.cost.spatial import evaluate_spatial

    workload, dice = workload_of(*record["layers"]), np.random.default_rng(0)
    sizes = np.geomspace(8, 512, 22)
    grid = dict(zip(BUFFERS, (axis.ravel() for axis in np.meshgrid(sizes, sizes, sizes)), strict=True))
    sides = {side: dice.choice([8, 12, 16, 20, 24, 32], RANDOM) for side in ("rows", "cols")}
    mixed = {**{name: dice.choice(sizes, RANDOM) for name in BUFFERS}, **sides}
    mixed["bandwidth_gb_s"] = dice.choice([1.6, 3.2, 6.4, 12.8], RANDOM)
    of_one = sum(result["cpu_s"] for result in record["results"]) / len(record["machines"])
    print(f"\nZigZag maps the {len(record['layers'])} layers on a design in {of_one:.1f} CPU s.")
    for name, columns in (("that differ in buffers only (they share mappings)", grid), ("drawn at random", mixed)):
        machines = SpatialArrays.from_columns({**ROOMY, **columns})
        start = time.process_time()
        evaluate_spatial(workload, machines, fusion=False)
        rate = len(machines) / (time.process_time() - start)
        print(
            f"Here {len(machines):,} designs {name}: {rate:,.0f} designs per CPU s, {rate * of_one:,.0f} times as many."
        )


def row(result: Record, bound: int, found: Any, seconds: float) -> str:
    """One line of the table."""
    latency, array = result["latency_cycle"], result["mapped_cycle"] + result["drain_cycle"]
    ends = result["onload_cycle"] + result["offload_cycle"]
    moved = (sum(result["dram_read_bit"].values()) + result["dram_write_bit"]) / 1e6
    mark = "!" if latency < bound else " "
    more = found.latency_cycle - latency
    return (
        f"{result['layer']:<24} {bound:>9,} | {latency:>8,}{mark} = {array:>7,} + {result['stall_cycle']:>7,} + "
        f"{ends:>5,} {moved:>6.2f} {result['mappings']:>5} {result['cpu_s']:>6.2f} | "
        f"{found.latency_cycle:>9,} {found.dram_bit / 1e6:>6.2f} {seconds * 1e3:>6.2f} | "
        f"{found.latency_cycle / latency:>11.3f} {found.compute_cycle - array:>+8,} "
        f"{more - found.compute_cycle + array:>+8,}"
    )


def write(record: Record, path: Path) -> None:
    """As JSON, one result a line."""
    heads = {key: value for key, value in record.items() if not isinstance(value, list | tuple | dict)}
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in heads.items()]
    machines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record["machines"].items())
    parts.append(f'"machines": {{\n{machines}\n}}')
    for key in ("layers", "results"):
        parts.append(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, record[key])) + "\n]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zigzag", metavar="PYTHON", help="interpreter that has ZigZag; without it, recorded figures")
    parser.add_argument("--lpf", type=int, default=6, help="loop factors that ZigZag permutes (6, its default)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep what ZigZag found, as JSON")
    options = parser.parse_args()
    record = measure(options.zigzag, options.lpf) if options.zigzag else json.loads(RECORDED.read_text())
    if options.out:
        write(record, options.out)
    compare(record)
    rates(record)


if __name__ == "__main__":
    inside() if sys.argv[1:] == ["--inside"] else main()
