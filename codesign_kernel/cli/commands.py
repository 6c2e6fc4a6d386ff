"""One function per command: arguments in, :class:`Answer` out. Rooms are imported where they are used."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign_kernel.cli.audit import audit_answer
from codesign_kernel.cli.co_optimize import co_optimize_answer
from codesign_kernel.cli.evaluate import evaluate_answer
from codesign_kernel.cli.explore import explore_answer
from codesign_kernel.cli.fuse import fuse_answer
from codesign_kernel.cli.keeping import backup_answer, keys_answer, privacy_answer, restore_answer
from codesign_kernel.cli.output import Answer, plain, rows_text, table_text
from codesign_kernel.cli.parser import DESIGN_OPTIONS, TRAINED_TASKS
from codesign_kernel.cli.people import token_answer, user_answer
from codesign_kernel.cli.progress import Progress
from codesign_kernel.cli.run import run_answer
from codesign_kernel.cli.serve import serve_answer
from codesign_kernel.cli.synth import synth_answer
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.files import check_file, check_folder, write_whole
from codesign_kernel.units import quantity, three_digits
from codesign_kernel.workload import LOOPS

if TYPE_CHECKING:
    from codesign_kernel.cosim import CosimReport
    from codesign_kernel.design import Design
    from codesign_kernel.optimize import IntegerNetwork
    from codesign_kernel.profiler import Profile

#: Rows of a front printed for people; ``--json`` and ``--out`` have all of them.
FRONT_ROWS = 12
#: Options of ``--design FILE.json``: those of the command line and the two that it leaves at their only or usual value.
FILE_FIELDS = (*(option.field for option in DESIGN_OPTIONS), "instruction_kib", "name")


def demo(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign demo``: the whole walk, results in a folder."""
    check_folder(args.out)
    from codesign_kernel import session

    result = session.run_demo(
        out=args.out, seed=args.seed, images=args.images, simulator=args.simulator, progress=progress
    )
    return Answer(rows_text(result.table), result.to_dict(), result.passed)


def _profile(name: str, progress: Progress) -> Profile:
    """The profile of a network of the zoo, of a file, or of one that ``demo`` and ``cosim`` train."""
    from codesign_kernel.profiler import zoo
    from codesign_kernel.session.scoped import profile

    file = name.endswith((".onnx", ".pt2"))
    if not file and name not in TRAINED_TASKS and name not in zoo.names():
        known = ", ".join([*TRAINED_TASKS, *zoo.names()])
        raise InvalidInputError(f"there is no network {name!r}; choose from {known}, or name an .onnx or .pt2 file")
    progress(0, 0, f"profiling {name}")
    if file:
        return profile(Path(name))
    if name not in TRAINED_TASKS:
        return profile(*zoo.build(name), name=name)
    return _untrained_profile(TRAINED_TASKS[name])


def _untrained_profile(network: str) -> Profile:
    """The profile of a network that is trained here, before that."""
    from codesign_kernel.optimize.networks import NETWORKS
    from codesign_kernel.session.scoped import profile

    task = NETWORKS[network]
    return profile(*task.untrained(), name=task.data)


def profile(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign profile``: operations, parameters and bytes by layer."""
    result = _profile(args.network, progress)
    frame = result.table()
    layers = [dict(zip(frame.columns, row, strict=True)) for row in frame.to_numpy().tolist()]
    rows = [
        [
            *(row[key] for key in ("name", "op", *LOOPS)),
            *(f"{row[key]:,}" for key in ("macs", "parameters")),
            three_digits(row["intensity"]),
        ]
        for row in layers
    ]
    totals = [
        ("network", result.name),
        ("operations", quantity(result.macs, "MAC")),
        ("parameters", f"{result.parameters:,} in {quantity(result.parameter_bytes, 'B')}"),
        *((f"not costed: {op}", f"{count:,} times") for op, count in sorted(result.workload.uncosted.items())),
    ]
    body = {
        "network": result.name,
        "macs": result.macs,
        "parameters": result.parameters,
        "parameter_bytes": result.parameter_bytes,
        "uncosted": result.workload.uncosted,
        "layers": layers,
    }
    header = ["name", "op", *LOOPS, "MAC", "parameters", "MAC/byte"]
    return Answer(f"{table_text(header, rows, left=2)}\n\n{rows_text(totals)}", body)


def fuse(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign fuse``: what becomes of a network's operators, and the traffic that this saves."""
    return fuse_answer(args)


def evaluate(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign evaluate``: a network on a machine of the catalogue."""
    from codesign_kernel.accelerator import catalog

    catalog(args.machine)  # a machine that there is not is told before the network is read
    return evaluate_answer(_profile(args.network, progress), args)


def sweep(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign sweep``: every design of a space that suits the network, and the front of the best compromises."""
    if args.out is not None:
        check_file(args.out)
    from codesign_kernel import session
    from codesign_kernel.design import DesignSpace
    from codesign_kernel.pareto import knee, pareto_front

    workload = _profile(args.network, progress).workload
    space = DesignSpace.suited_to(workload)
    started = time.perf_counter()
    frame = session.sweep(workload, space, progress=progress)
    wall_s = time.perf_counter() - started
    front = pareto_front(frame, args.objectives).drop_duplicates(args.objectives)  # equal ones once
    chosen = knee(front, args.objectives)
    if args.out is not None:
        write_whole(args.out, frame.assign(pareto=frame.index.isin(front.index)).to_csv(index=False))
    feasible = int(frame["feasible"].sum())
    columns = [option.field for option in DESIGN_OPTIONS if option.field in frame.columns] + list(args.objectives)

    def cells(row: Any) -> list[str]:
        return [three_digits(row[c]) if c in args.objectives else f"{row[c]:g}" for c in columns]

    shown = [["knee" if index == chosen.name else "", *cells(row)] for index, row in front.head(FRONT_ROWS).iterrows()]
    totals: list[tuple[str, object]] = [
        ("network", args.network),
        ("designs", f"{len(frame):,} evaluated in {quantity(wall_s, 's')}, {feasible:,} feasible"),
        ("front", f"{len(front):,} designs for {', '.join(args.objectives)}"),
        ("knee", ", ".join(f"{column} {cell}" for column, cell in zip(columns, cells(chosen), strict=True))),
    ]
    if args.out is not None:
        totals.append(("written", args.out))
    body = {
        "network": args.network,
        "designs": len(frame),
        "feasible": feasible,
        "wall_s": wall_s,
        "objectives": args.objectives,
        "front": [row.to_dict() for _, row in front.iterrows()],
        "knee": chosen.to_dict(),
        "out": args.out,
    }
    return Answer(f"{table_text(['', *columns], shown)}\n\n{rows_text(totals)}", body)


def explore(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign explore``: the best compromises among the designs of a space, and which of them to take."""
    if args.out is not None:
        check_file(args.out)
    return explore_answer(_profile(args.network, progress), args, progress)


def _design_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The accelerator's fields from the options or from ``--design FILE.json``."""
    given = {option.field: getattr(args, option.field) for option in DESIGN_OPTIONS}
    given = {field: value for field, value in given.items() if value is not None}
    if args.design is None:
        return {option.field: option.default for option in DESIGN_OPTIONS} | given
    if given:
        flags = ", ".join(option.flag for option in DESIGN_OPTIONS if option.field in given)
        raise InvalidInputError(
            f"an accelerator comes from --design or from options, but got both ({flags}); leave one out"
        )
    try:
        fields = json.loads(args.design.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"--design {args.design} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidInputError(f"--design {args.design} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError(f"--design {args.design} holds a JSON object, but got a {type(fields).__name__}")
    unknown = sorted(set(fields) - set(FILE_FIELDS))
    if unknown:
        raise InvalidInputError(
            f"--design {args.design} has unknown fields {', '.join(unknown)}; known are {', '.join(FILE_FIELDS)}"
        )
    missing = [field for field in ("rows", "cols") if field not in fields]
    if missing:
        raise InvalidInputError(f"--design {args.design} lacks {' and '.join(missing)}")
    return fields


def _design(args: argparse.Namespace) -> Design:
    fields = _design_fields(args)  # before numpy is loaded: a mistake answers at once
    from codesign_kernel.accelerator import Accelerator

    accelerator = Accelerator.systolic(**fields)
    from codesign_kernel.design import Design

    return Design(accelerator)


def rtl(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign rtl``: Verilog and VHDL files in a folder, and with ``--vectors`` a test bench."""
    design = _design(args)
    check_folder(args.out)
    from codesign_kernel.session import generate_rtl

    network = inputs = None
    if args.vectors is not None:
        network, inputs = _trained(args.vectors, design, 0, progress)[:2]
    progress(0, 0, f"generating {design.accelerator}")
    bundle = generate_rtl(design, network, inputs)
    written = bundle.write(args.out)
    rows = [
        ("design", design.accelerator),
        ("top", bundle.top),
        ("digest", bundle.digest),
        *((path, f"{text.count(chr(10)):,} lines") for path, text in zip(written, bundle.texts.values(), strict=True)),
    ]
    body = {"design": asdict(design.accelerator), "top": bundle.top, "digest": bundle.digest, "files": written}
    return Answer(rows_text(rows), body)


def _trained(
    images: int, design: Design, seed: int, progress: Progress, network: str = "cnn"
) -> tuple[IntegerNetwork, Any, float]:
    """A network, trained and quantised for ``design``; its first test inputs; its accuracy before that."""
    from codesign_kernel.optimize import NETWORKS, load_digits, load_keywords, train_digits, train_keywords
    from codesign_kernel.session.scoped import evaluate, quantize

    spoken = NETWORKS[network].data == "keywords"
    available = len((load_keywords(progress=progress) if spoken else load_digits()).test_x)
    if images > available:
        raise InvalidInputError(f"there are {available} test inputs, but {images} are asked for; take fewer")
    progress(0, 0, f"profiling {NETWORKS[network].data}")
    evaluate(_untrained_profile(network), design)  # what would stop it later is told before the training
    train = train_keywords if spoken else train_digits
    model, data, accuracy = train(seed=seed, progress=progress, network=network)
    return quantize(model, data.calibration_x, bits=design.accelerator.weight_bits), data.test_x[:images], accuracy


def _instructions(report: CosimReport) -> str:
    wrong = report.first_instruction
    return f"{report.instructions:,}, each as long as predicted" if wrong is None else f"one differs: {wrong}"


def synth(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign synth``: what yosys makes of the RTL."""
    return synth_answer(args, lambda: _design(args), progress)


def run(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign run``: a workflow, each step once."""
    return run_answer(args, progress)


def cosim(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign cosim``: a trained network on the RTL, compared bit for bit and cycle for cycle."""
    design = _design(args)
    for path in (args.asm, args.vcd):
        if path is not None:
            check_file(path)
    if args.window is not None and args.vcd is None:
        raise InvalidInputError("--window is the part of a waveform to write, but there is no --vcd; give both")
    from codesign_kernel import session
    from codesign_kernel.cosim import find_simulator
    from codesign_kernel.lower import lower

    find_simulator(args.simulator)
    network, inputs, accuracy = _trained(args.images, design, args.seed, progress, args.network)
    if args.asm is not None:
        write_whole(args.asm, lower(network, design).assembly())
    report = session.cosimulate(
        design, network, inputs, simulator=args.simulator, progress=progress,
        vcd=args.vcd, window=args.window,
    )  # fmt: skip
    differ = f"; first: {report.first_mismatch}" if report.first_mismatch else ""
    rows = [
        ("design", report.design),
        ("network", f"{report.network}, {accuracy:.1%} of the test right before quantising"),
        ("simulator", report.simulator),
        ("bits", f"{report.vectors:,} inputs compared, {report.mismatches:,} differ{differ}"),
        ("cycles", f"RTL {report.cycles_rtl:,}, model {report.cycles_model:,}, program {report.cycles_program:,}"),
        ("instructions", _instructions(report)),
        ("array", f"{report.causes.total.array_utilization:.1%} utilised at work; of its time: {report.causes}"),
        ("verdict", "bits and cycles agree" if report.passed else "RTL AND MODEL DIFFER"),
        *((label, path) for label, path in (("program", args.asm), ("waveform", args.vcd)) if path is not None),
    ]
    return Answer(rows_text(rows), {**report.to_dict(), "float_accuracy": accuracy}, report.passed)


def verify(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign verify``: random networks on random accelerators, until one differs."""
    if args.out is not None:
        check_file(args.out)
    from codesign_kernel import session

    report = session.verify(
        args.cases, args.seed, args.simulator, machines=args.machines, only=args.case, progress=progress
    )
    if args.out is not None:
        write_whole(args.out, json.dumps(plain(report.to_dict()), allow_nan=False, indent=2) + "\n")
    rows: list[tuple[str, object]] = [
        ("simulator", report.simulator),
        ("seed", report.seed),
        ("networks", f"{report.agreed:,} of {report.cases:,} agree, {report.layers:,} layers"),
        ("compared", f"{report.vectors:,} inputs, {report.instructions:,} instructions, {report.cycles:,} cycles"),
        ("met", ", ".join(f"{name} {count:,}" for name, count in report.met.items()) or "nothing"),
        *((f"accelerator {i + 1}", name) for i, name in enumerate(report.accelerators)),
        ("took", quantity(report.wall_s, "s")),
    ]
    if report.failure is not None:
        failure = report.failure
        rows += [
            (f"case {failure.case}", failure.what),
            ("on", failure.accelerator),
            ("of", failure.network),
            ("repeat", failure.repeat),
        ]
    rows.append(("verdict", "bits and cycles agree" if report.passed else "RTL AND MODEL DIFFER"))
    return Answer(rows_text(rows), report.to_dict(), report.passed)


def serve(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign serve``: the gateway."""
    return serve_answer(args)


def doctor(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign doctor``: what is installed, and how to get the rest."""
    from codesign_kernel.session.doctor import doctor as examine

    checks = examine()
    rows = []
    for check in checks:
        mark = "ok     " if check.found else "MISSING" if check.required else "absent "
        rows.append((f"{mark}  {check.name}", check.detail + (f"; {check.remedy}" if check.remedy else "")))
    fit = all(check.found for check in checks if check.required)
    verdict = "Everything that `codesign demo` needs is here." if fit else "`codesign demo` cannot run: see MISSING."
    return Answer(f"{rows_text(rows)}\n\n{verdict}", {"fit": fit, "checks": [check._asdict() for check in checks]}, fit)


COMMANDS: dict[str, Callable[[argparse.Namespace, Progress], Answer]] = {
    "demo": demo,
    "profile": profile,
    "fuse": fuse,
    "evaluate": evaluate,
    "sweep": sweep,
    "explore": explore,
    "co-optimize": co_optimize_answer,
    "run": run,
    "serve": serve,
    "rtl": rtl,
    "synth": synth,
    "cosim": cosim,
    "verify": verify,
    "user": user_answer,
    "token": token_answer,
    "audit": audit_answer,
    "privacy": privacy_answer,
    "keys": keys_answer,
    "backup": backup_answer,
    "restore": restore_answer,
    "doctor": doctor,
}
