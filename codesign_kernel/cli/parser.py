"""The command line as a table: commands, options, defaults. Imports no room, so that ``--help`` is instant."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

from codesign_kernel import __version__
from codesign_kernel.cli.gateway_parser import add_audit, add_serve
from codesign_kernel.cli.keeping_parser import add_backup, add_keys, add_privacy, add_restore
from codesign_kernel.cli.numbers import count, seed, window
from codesign_kernel.cli.people_parser import add_token, add_user

TARGETS = ("generic", "ice40", "ecp5", "xilinx")
#: The networks that are trained here, as in ``optimize.networks.NETWORKS``.
TRAINED_NETWORKS = ("cnn", "lenet5", "resnet", "mobilenet", "keywords")
#: What they are trained for, and the network that is meant by it.
TRAINED_TASKS = {"digits": "cnn", "keywords": "keywords"}
SIMULATORS = ("auto", "verilator", "icarus", "myhdl", "ghdl")
#: Columns of a sweep that can be objectives, and the direction that is better when none is given.
OBJECTIVES = {
    "latency_ms": "min",
    "latency_cycle": "min",
    "energy_uj": "min",
    "energy_low_uj": "min",
    "energy_high_uj": "min",
    "area_mm2": "min",
    "power_mw": "min",
    "utilization": "max",
}


NETWORK = "a network of the zoo, digits, keywords, or an .onnx or .pt2 file"


SAMPLERS = ("auto", "exact", "random", "pymoo", "nsga2", "nsga3", "tpe", "gp")


#: Samplers of a joint search, and what a pair can be the best in.
PAIR_SAMPLERS = tuple(name for name in SAMPLERS if name not in ("exact", "pymoo"))
PAIR_OBJECTIVES = ("accuracy", "latency_ms", "energy_uj", "area_mm2")


class DesignOption(NamedTuple):
    """One option of the accelerator: the field of ``Accelerator`` that it sets, the default there, the help."""

    field: str
    default: int | float | str
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.field.replace("_", "-")


DESIGN_OPTIONS = (
    DesignOption("rows", 8, "processing elements along the reduction; along the positions for os"),
    DesignOption("cols", 8, "processing elements along the output channels"),
    DesignOption("dataflow", "ws", "what stays in the array: ws, weights; os, outputs"),
    DesignOption("weight_bits", 8, "width of weights and activations (bit)"),
    DesignOption("activation_kib", 16.0, "activation memory (KiB)"),
    DesignOption("weight_kib", 64.0, "weight memory (KiB)"),
    DesignOption("accumulator_kib", 8.0, "accumulator memory (KiB); os has none"),
    DesignOption("bandwidth_gb_s", 3.2, "external memory (10^9 byte a second)"),
    DesignOption("frequency_mhz", 200.0, "clock (MHz)"),
    DesignOption("node_nm", 28.0, "process node (nm)"),
    DesignOption("min_weight_bits", 0, "narrowest weights that are stored packed (bit); 0: none"),
    DesignOption("memory_latency", 0, "cycles to the external memory's first word"),
)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose every complaint is one line on stderr; the exit status is 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def _objectives(text: str) -> dict[str, str]:
    """``latency_ms,utilization:max`` as {column: "min" | "max"}."""
    objectives = {}
    for part in text.split(","):
        column, _, direction = part.strip().partition(":")
        if column not in OBJECTIVES:
            raise argparse.ArgumentTypeError(f"{column!r} is no objective; choose from {', '.join(OBJECTIVES)}")
        if direction not in ("", "min", "max"):
            raise argparse.ArgumentTypeError(f"an objective is followed by :min or :max, but got {part.strip()!r}")
        if column in objectives:
            raise argparse.ArgumentTypeError(f"{column!r} is named twice")
        objectives[column] = direction or OBJECTIVES[column]
    return objectives


def _limit_of(columns: Iterable[str], text: str) -> tuple[str, tuple[float | None, float | None]]:
    """``area_mm2<=2.5`` or ``utilization>=0.5`` as (column, (least, most))."""
    column, sign, bound = (part.strip() for part in text.partition("<=" if "<=" in text else ">="))
    try:
        value = float(bound)
    except ValueError:
        value = float("nan")
    if column not in columns or not sign or not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(
            f"is COLUMN<=NUMBER or COLUMN>=NUMBER with one of {', '.join(columns)}, but got {text!r}"
        )
    return column, (None, value) if sign == "<=" else (value, None)


def _limit(text: str) -> tuple[str, tuple[float | None, float | None]]:
    return _limit_of(OBJECTIVES, text)


def _pair_limit(text: str) -> tuple[str, tuple[float | None, float | None]]:
    return _limit_of((*OBJECTIVES, "power_w", "accuracy"), text)


def _add_explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NETWORK", help=NETWORK)
    parser.add_argument(
        "--objectives",
        type=_objectives,
        default="latency_ms,energy_uj,area_mm2",
        metavar="A,B",
        help="what to trade, as for sweep (default latency_ms,energy_uj,area_mm2)",
    )
    parser.add_argument(
        "--limit", type=_limit, action="append", default=[], metavar="COLUMN<=N",
        help="a constraint, such as area_mm2<=1.5 or utilization>=0.5; again for more",
    )  # fmt: skip
    parser.add_argument(
        "--best", type=_objective, metavar="COLUMN", help="recommend the best of this objective (default: the knee)"
    )
    parser.add_argument("--sampler", choices=SAMPLERS, default="auto", help="default: exact where no --budget is given")
    parser.add_argument("--budget", type=count, metavar="N", help="designs that a sampler looks at (default 10000)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the sampler (default 0)")
    parser.add_argument(
        "--spatial", action="store_true", help="explore spatial arrays, each layer with its best mapping"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the front")


def _add_co_optimize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", choices=TRAINED_TASKS, metavar="TASK", help=" or ".join(TRAINED_TASKS))
    parser.add_argument(
        "--network", choices=TRAINED_NETWORKS, help="another network of the task (default: cnn for digits, keywords)"
    )
    parser.add_argument(
        "--limit", type=_pair_limit, action="append", default=[], metavar="COLUMN<=N",
        help="a constraint, such as accuracy>=0.95, power_w<=0.01 or latency_ms<=0.02; again for more",
    )  # fmt: skip
    parser.add_argument("--best", choices=PAIR_OBJECTIVES, help="recommend the best of this (default: the knee)")
    parser.add_argument("--sampler", choices=PAIR_SAMPLERS, default="auto", help="of networks (default tpe)")
    parser.add_argument("--budget", type=count, default=32, metavar="N", help="networks to evaluate (default 32)")
    parser.add_argument("--epochs", type=count, metavar="N", help="of the model's own training")
    parser.add_argument(
        "--tuning", type=seed, default=2, metavar="N",
        help="epochs of quantisation-aware training for each network; 0 quantises after training (default 2)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of training and sampler (default 0)")
    parser.add_argument(
        "--store", metavar="PATH", help="a file of SQLite or a URL that keeps every network; the search goes on from it"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the pairs")
    parser.add_argument("--figure", type=Path, metavar="FILE.html", help="draw them")


def _objective(text: str) -> str:
    if text not in OBJECTIVES:
        raise argparse.ArgumentTypeError(f"{text!r} is no objective; choose from {', '.join(OBJECTIVES)}")
    return text


def _add_design(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the accelerator")
    for option in DESIGN_OPTIONS:
        group.add_argument(
            option.flag,
            type=type(option.default),
            metavar="NAME" if isinstance(option.default, str) else "N",
            default=None,  # so that an option given and one left out can be told apart
            help=f"{option.help} (default {f'{option.default}'.removesuffix('.0')})",
        )
    group.add_argument(
        "--design",
        type=Path,
        metavar="FILE.json",
        help="read the accelerator from a JSON object with these fields instead",
    )


def _add_cosim(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network", choices=TRAINED_NETWORKS, default="cnn",
        help="keywords: a DS-CNN that learns spoken words; the others learn digits (default cnn)",
    )  # fmt: skip
    parser.add_argument("--images", type=count, default=16, metavar="N", help="test inputs to run (default 16)")
    parser.add_argument(
        "--asm", type=Path, metavar="FILE", help="write the program: each instruction with its predicted cycles"
    )
    parser.add_argument(
        "--vcd", type=Path, metavar="FILE", help="write the waveform of the first image that differs, else of the first"
    )
    parser.add_argument("--window", type=window, metavar="A:B", help="cycles of the waveform (default: all)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the training (default 0)")
    _add_design(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=count, default=200, metavar="N", help="networks to run (default 200)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of everything random (default 0)")
    parser.add_argument(
        "--machines", type=count, default=12, metavar="N", help="accelerators that the cases run on (default 12)"
    )
    parser.add_argument("--case", type=seed, metavar="K", help="run this case alone, as a failure says")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result, as --json prints it")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    """Where the demo goes, and how much of it runs."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), metavar="DIR", help="where results go (default demo_out)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the training (default 0)")
    parser.add_argument(
        "--images",
        type=count,
        metavar="N",
        help="images to prove in RTL (default: as many as the simulator is good for)",
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The network, the machine, and how the network is mapped."""
    parser.add_argument("network", metavar="NETWORK", help=NETWORK)
    parser.add_argument("--machine", required=True, metavar="NAME", help="tpu_v1, gemmini_default, generator_8x8, ...")
    parser.add_argument("--mapping", metavar="TEXT", help="what every mapping must be, like 'k=64 inner=y'")
    parser.add_argument("--mappings", action="store_true", help="print the loop nest of every layer")
    parser.add_argument("--objective", choices=("latency", "energy"), default="latency", help="of the mappings")
    parser.add_argument("--no-fusion", action="store_true", help="no map stays on chip between layers")


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    """The network, what to trade, and where the table goes."""
    parser.add_argument("network", metavar="NETWORK", help=NETWORK)
    parser.add_argument(
        "--objectives",
        type=_objectives,
        default="latency_ms,energy_uj,area_mm2",
        metavar="A,B",
        help="what to trade, separated by commas, each with :min or :max where the usual direction is not meant "
        f"(default latency_ms,energy_uj,area_mm2; also {', '.join(name for name in OBJECTIVES)})",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write every design with its results")


def _add_run(parser: argparse.ArgumentParser) -> None:
    """The workflow, and where its results are kept and written."""
    parser.add_argument("workflow", type=Path, metavar="FILE", help="the workflow in YAML, see docs/workflow.md")
    parser.add_argument(
        "--store", metavar="PATH", help="a file of SQLite or a URL where results are kept (default: the user's own)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write front, network, RTL, proof and report")
    parser.add_argument("--plan", action="store_true", help="tell what would run and what is cached, and do nothing")


def _add_synth(parser: argparse.ArgumentParser) -> None:
    """What to synthesise for, and where the netlist goes."""
    parser.add_argument(
        "--target", choices=TARGETS, default="generic", help="gates or cells, or an FPGA (default generic)"
    )
    parser.add_argument(
        "--liberty", type=Path, action="append", metavar="LIB", help="cells of a library; again for more of its files"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write netlist, report and log")
    _add_design(parser)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``codesign``; ``args.command`` names the command."""
    parser = OneLineParser(
        prog="codesign",
        description="Profile a neural network, choose an accelerator for it, generate its RTL and prove it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"codesign {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
        sub.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
        return sub

    demo = command("demo", "train a digits network, choose an accelerator, generate it and prove it; about a minute")
    _add_demo(demo)

    profile = command("profile", "count the operations, parameters and bytes of a network, layer by layer")
    profile.add_argument("network", metavar="NETWORK", help=NETWORK)

    fuse = command("fuse", "fold and fuse the operators of a network: what becomes of each, the traffic saved")
    fused = tuple(dict.fromkeys((*TRAINED_TASKS, *TRAINED_NETWORKS)))
    words = f"digits (the same as cnn), {', '.join(TRAINED_NETWORKS)}"
    fuse.add_argument("network", choices=fused, metavar="NETWORK", help=words)
    fuse.add_argument("--bits", type=int, choices=(4, 8, 16), default=8, help="of an element of a map (default 8)")

    evaluate = command("evaluate", "cost a network on a machine of the catalogue, layer by layer")
    _add_evaluate(evaluate)

    sweep = command("sweep", "evaluate every design of the default space and print the best compromises")
    _add_sweep(sweep)

    _add_explore(command("explore", "find the best compromises, exactly or by a sampler, and recommend a design"))

    _add_co_optimize(command("co-optimize", "search network and accelerator together, with measured accuracy"))
    _add_run(command("run", "run a workflow from its file: each step once, and on from where it was cut off"))

    add_serve(command("serve", "serve the apps to people in their browsers, each kernel confined"))

    rtl = command("rtl", "write the Verilog and VHDL of an accelerator")
    rtl.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    rtl.add_argument(
        "--vectors", type=count, metavar="N", help="add a self-checking test bench: the digits network, N test images"
    )
    _add_design(rtl)

    synth = command("synth", "synthesise the RTL of an accelerator with yosys: cells, area, memories, block by block")
    _add_synth(synth)

    cosim = command("cosim", "train a network, run it on the RTL and compare bits and cycles with the model")
    _add_cosim(cosim)
    verify = command("verify", "run random networks on the RTL of random accelerators and compare bits and cycles")
    _add_verify(verify)
    for sub in (demo, cosim, verify):
        sub.add_argument(
            "--simulator", choices=SIMULATORS, default="auto", help="default: verilator where it runs, else myhdl"
        )

    add_user(command("user", "say who may sign in at the gateway, and with which role"))
    add_token(command("token", "make, list and revoke API tokens of the gateway"))
    add_audit(command("audit", "check the gateway's audit trail, or read it"))
    add_privacy(command("privacy", "give back or erase what a gateway keeps about a person"))
    add_keys(command("keys", "see or change the keys that a gateway encrypts with"))
    add_backup(command("backup", "write everything that a gateway keeps into one file, while it runs"))
    add_restore(command("restore", "put a backup into an empty place"))
    command("doctor", "list what is installed, and how to get what is not")
    return parser
